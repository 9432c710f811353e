//! Reaches servers: TCP, and TLS on top.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::Endpoint;

/// How long an address of a name is tried alone, before the next is tried beside it (RFC 8305, "Connection Attempt Delay").
const HEAD_START: Duration = Duration::from_millis(250);

/// Whom the client believes that a server is who it says.
#[derive(Clone, Default)]
pub struct Trust {
    given: Option<Arc<ClientConfig>>,
}

/// The certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the certificate authorities cannot be used: {0}")]
pub struct Untrustworthy(String);

impl Trust {
    /// The authorities that browsers trust.
    #[must_use]
    pub fn web() -> Self {
        Self::default()
    }

    /// Only these authorities: one or more certificates as PEM.
    ///
    /// # Errors
    /// There is none in it, or one that cannot be read.
    pub fn authorities(pem: &[u8]) -> Result<Self, Untrustworthy> {
        Self::over(RootCertStore::empty(), pem)
    }

    /// The authorities that browsers trust, and these: one or more certificates as PEM.
    ///
    /// # Errors
    /// As [`Trust::authorities`].
    pub fn web_and(pem: &[u8]) -> Result<Self, Untrustworthy> {
        Self::over(web_roots(), pem)
    }

    fn over(mut roots: RootCertStore, pem: &[u8]) -> Result<Self, Untrustworthy> {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| Untrustworthy(error.to_string()))?;
            roots.add(certificate).map_err(|error| Untrustworthy(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(Untrustworthy("there is no certificate in the PEM".to_owned()));
        }
        let config = config(roots).map_err(|error| Untrustworthy(error.to_string()))?;
        Ok(Self { given: Some(config) })
    }

    fn config(&self) -> io::Result<Arc<ClientConfig>> {
        /// One for the process: thousands of clients share what it holds.
        static WEB: LazyLock<Result<Arc<ClientConfig>, String>> =
            LazyLock::new(|| config(web_roots()).map_err(|error| error.to_string()));
        match &self.given {
            Some(config) => Ok(Arc::clone(config)),
            None => WEB.clone().map_err(io::Error::other),
        }
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.given.is_some() { "Trust(given)" } else { "Trust::web" })
    }
}

fn web_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

fn config(roots: RootCertStore) -> Result<Arc<ClientConfig>, tokio_rustls::rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// A byte stream to a server.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Connects, with TLS where the endpoint says so.
pub(crate) async fn dial(endpoint: &Endpoint, trust: &Trust) -> io::Result<Box<dyn Io>> {
    let found = lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
    let stream = reach(in_turn(found)).await?;
    // Frames are small and somebody waits for each.
    stream.set_nodelay(true)?;
    // What has not left when the connection is given up is dropped with it: a hello that is sent again by the system later would end the
    // session that comes next.
    stream.set_zero_linger()?;
    if !endpoint.tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(endpoint.host.clone()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(trust.config()?).connect(name, stream).await?;
    Ok(Box::new(stream))
}

/// The addresses with both families in turn, the resolver's first one first: where one family leads nowhere, the other is tried second.
fn in_turn(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = found.collect();
    let first = addresses.first().map(SocketAddr::is_ipv6);
    let (same, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.drain(..).partition(|address| Some(address.is_ipv6()) == first);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    loop {
        let before = addresses.len();
        addresses.extend(same.next());
        addresses.extend(other.next());
        if addresses.len() == before {
            return addresses;
        }
    }
}

/// Connects to whichever address answers first; each has a head start over the next.
async fn reach(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [only] = addresses[..] {
        return TcpStream::connect(only).await;
    }
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut failed = None;
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        let ended = match waiting.len() {
            0 => attempts.join_next().await,
            // The next goes beside it when its head start is over, or in its place when it failed.
            _ => match tokio::time::timeout(HEAD_START, attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        match ended.map(|ended| ended.unwrap_or_else(|broken| Err(io::Error::other(broken)))) {
            Some(Ok(stream)) => return Ok(stream),
            // What the first address said is what a person can do most with.
            Some(Err(error)) => failed = failed.or(Some(error)),
            None => return Err(failed.unwrap_or_else(|| io::Error::other("the name has no address"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]);
        let expected = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(in_turn(found.into_iter()), expected);
        assert!(in_turn(std::iter::empty()).is_empty());
    }

    /// A listener that has room for one connection, and that one: the system drops what else comes, as a dead route does.
    async fn hole() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let filling = TcpStream::connect(address).await.unwrap();
        (listener, vec![filling], address)
    }

    #[tokio::test]
    async fn an_address_that_leads_nowhere_or_refuses_does_not_hide_the_next() {
        let (_listener, _filling, nowhere) = hole().await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let well = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let well = well.local_addr().map(|address| (well, address)).unwrap();
        let reached = tokio::time::timeout(Duration::from_secs(20), reach(vec![nowhere, closed, well.1])).await;
        assert_eq!(reached.unwrap().unwrap().peer_addr().unwrap(), well.1);
        let refused = reach(vec![closed, closed]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(reach(Vec::new()).await.is_err());
    }
}
