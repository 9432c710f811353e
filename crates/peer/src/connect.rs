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

use crate::door::Stream;
use crate::tls::Tls;

/// How long a connection may take to be there, certificates and all.
pub(crate) const CONNECT: Duration = Duration::from_millis(1_500);

/// Makes connections to one address.
#[derive(Clone)]
pub(crate) struct Connector {
    host: String,
    port: u16,
    tls: Option<Tls>,
    /// Whose certificate the latest connection has shown.
    named: Arc<Mutex<Option<NodeId>>>,
}

impl Connector {
    pub(crate) fn new(host: String, port: u16, tls: Option<Tls>, named: Arc<Mutex<Option<NodeId>>>) -> Self {
        Self { host, port, tls, named }
    }

    async fn connect(self) -> io::Result<TokioIo<Box<dyn Stream>>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = self.tls else { return Ok(TokioIo::new(Box::new(stream))) };
        let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(&tls.client)).connect(name, stream).await?;
        let named = tls.named(stream.get_ref().1.peer_certificates()).map_err(io::Error::other)?;
        *self.named.lock() = Some(named);
        Ok(TokioIo::new(Box::new(stream)))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
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
