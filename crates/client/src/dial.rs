//! Reaches servers: TCP, and TLS on top.

use std::io;
use std::sync::{Arc, LazyLock};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::Endpoint;

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
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| Untrustworthy(error.to_string()))?;
            roots.add(certificate).map_err(|error| Untrustworthy(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(Untrustworthy("there is no certificate in the PEM".to_owned()));
        }
        let config = config(roots).map_err(|error| Untrustworthy(error.to_string()))?;
        Ok(Self { given: Some(config) })
    }

    fn config(&self) -> io::Result<Arc<ClientConfig>> {
        /// One for the process: thousands of clients share what it holds.
        static WEB: LazyLock<Result<Arc<ClientConfig>, String>> = LazyLock::new(|| {
            let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            config(roots).map_err(|error| error.to_string())
        });
        match &self.given {
            Some(config) => Ok(Arc::clone(config)),
            None => WEB.clone().map_err(io::Error::other),
        }
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.given.is_some() { "Trust::authorities" } else { "Trust::web" })
    }
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
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    // Frames are small and somebody waits for each.
    stream.set_nodelay(true)?;
    if !endpoint.tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(endpoint.host.clone()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(trust.config()?).connect(name, stream).await?;
    Ok(Box::new(stream))
}
