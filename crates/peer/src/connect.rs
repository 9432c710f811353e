//! A connection to another node, made within a bounded time, with a look at whose certificate it shows.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use ieum_core::ids::NodeId;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::line::{Line, Of, Stream};
use crate::tls::Tls;

/// How long a connection may take to be there, certificates and all.
pub(crate) const CONNECT: Duration = Duration::from_millis(1_500);

/// What the latest connection to an address has shown.
#[derive(Debug, Default, Clone)]
pub(crate) struct Shown {
    /// Whom its certificate names.
    pub(crate) named: Option<NodeId>,
    /// How it broke, if it did. With TLS 1.3 a certificate is refused only after the handshake, and whoever asks through the connection is told
    /// no more than that it is closed.
    pub(crate) broke: Option<String>,
}

/// Makes connections to one address.
#[derive(Clone)]
pub(crate) struct Connector {
    host: String,
    port: u16,
    tls: Option<Tls>,
    shown: Arc<Mutex<Shown>>,
}

impl Connector {
    pub(crate) fn new(host: String, port: u16, tls: Option<Tls>, shown: Arc<Mutex<Shown>>) -> Self {
        Self { host, port, tls, shown }
    }

    async fn connect(self) -> io::Result<TokioIo<Line<Arc<Mutex<Shown>>>>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let (stream, named): (Box<dyn Stream>, _) = match self.tls {
            None => (Box::new(stream), None),
            Some(tls) => {
                let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
                let shaking = TlsConnector::from(Arc::clone(&tls.client)).connect(name, stream).await;
                let stream = shaking.map_err(|error| {
                    io::Error::other(format!(
                        "no TLS with it ({error}): is it a node, and its certificate in date, for this address and of the cell's authority?"
                    ))
                })?;
                let named = tls.named(stream.get_ref().1.peer_certificates()).map_err(io::Error::other)?;
                (Box::new(stream), Some(named))
            }
        };
        *self.shown.lock() = Shown { named, broke: None };
        Ok(TokioIo::new(Line::new(stream, self.shown)))
    }
}

/// Notes how the connection breaks.
impl Of for Arc<Mutex<Shown>> {
    fn broke(&self, error: &io::Error) {
        self.lock().broke = Some(error.to_string());
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Line<Arc<Mutex<Shown>>>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = self.clone().connect();
        Box::pin(async move {
            let slow = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {CONNECT:?}"));
            tokio::time::timeout(CONNECT, connecting).await.map_err(slow)?
        })
    }
}
