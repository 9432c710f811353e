//! Where a member answers clients.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// A member's client URL: `http://host:port` or `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) uri: Uri,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

/// Text that is no member's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the client URL of an etcd member: write http://HOST:PORT or https://HOST:PORT")]
pub struct NotAnEndpoint(String);

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let parse = || {
            let uri: Uri = text.parse().ok()?;
            let tls = match uri.scheme_str()? {
                "http" => false,
                "https" => true,
                _ => return None,
            };
            // An IPv6 address is written in brackets in a URL and without them everywhere else.
            let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
            let port = uri.port_u16()?;
            let bare = uri.path().trim_matches('/').is_empty() && uri.query().is_none();
            bare.then_some(Endpoint { uri, host, port, tls })
        };
        parse().ok_or_else(|| NotAnEndpoint(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.uri.authority().map_or("", |authority| authority.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_members_are_taken_and_others_refused() {
        let parsed = |text: &str| text.parse::<Endpoint>().map(|e| (e.host, e.port, e.tls)).ok();
        assert_eq!(parsed("http://10.0.0.1:2379"), Some(("10.0.0.1".to_owned(), 2379, false)));
        assert_eq!(parsed("https://etcd.dc-a.example:2379/"), Some(("etcd.dc-a.example".to_owned(), 2379, true)));
        assert_eq!(parsed("http://[::1]:2379"), Some(("::1".to_owned(), 2379, false)));
        for text in
            ["", "10.0.0.1:2379", "http://10.0.0.1", "ftp://a:1", "http://a:1/v3", "http://a:1?x", "http://a:99999"]
        {
            assert_eq!(parsed(text), None, "{text:?}");
        }
        assert_eq!("https://a:1".parse::<Endpoint>().unwrap().to_string(), "https://a:1");
    }
}
