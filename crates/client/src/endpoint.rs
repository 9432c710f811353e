//! Where a server is.

use std::fmt;
use std::str::FromStr;

use ieum_protocol::SOCKET_PATH;

/// A server of the cell: `scheme://host:port`, where the scheme is `ws`, `wss`, `http` or `https`. WebSocket and HTTP are at the
/// same host and port, so the scheme tells only whether TLS is used. Without a port it is the scheme's usual one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Whether TLS is used.
    pub tls: bool,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// The text is not that of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no endpoint: {why}; write for example wss://chat.example:443")]
pub struct Invalid {
    text: String,
    why: &'static str,
}

impl FromStr for Endpoint {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why| Invalid { text: text.to_owned(), why };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
        let tls = match scheme {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(invalid("its scheme is none of ws, wss, http, https")),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !matches!(path, "" | "/" | SOCKET_PATH) {
            return Err(invalid("it has a path"));
        }
        let (host, port) = split_port(authority).ok_or_else(|| invalid("its port is no number"))?;
        let acceptable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(acceptable) {
            return Err(invalid("its host is missing or has strange characters"));
        }
        Ok(Self { tls, host: host.to_owned(), port: port.unwrap_or(if tls { 443 } else { 80 }) })
    }
}

/// Host and port; `None` if there is a port that is no number, or a bracket without its other.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(inner) = authority.strip_prefix('[') {
        let (host, rest) = inner.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((authority, None)),
    }
}

impl Endpoint {
    /// `host:port`, as the `Host` header and resolvers take it.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The address of the WebSocket.
    #[must_use]
    pub fn socket_url(&self) -> String {
        format!("{}://{}{SOCKET_PATH}", if self.tls { "wss" } else { "ws" }, self.authority())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "wss" } else { "ws" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_names_the_same_server() {
        for text in ["ws://a.example:80", "http://a.example", "ws://a.example/", "ws://a.example/v1/socket"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), "ws://a.example:80", "{text}");
        }
        let tls: Endpoint = "https://[::1]".parse().unwrap();
        assert_eq!(tls, Endpoint { tls: true, host: "::1".into(), port: 443 });
        assert_eq!(tls.socket_url(), "wss://[::1]:443/v1/socket");
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in ["", "a:1", "ftp://a", "ws://", "ws://a:b", "ws://a/x", "ws://a b", "ws://[::1", "ws://u@h:1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
