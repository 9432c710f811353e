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
        let stream = ieum_names::connect(&self.host, self.port).await?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

    use std::sync::mpsc;

    use tokio::net::TcpListener;

    use super::*;

    /// A name is looked up although the runtime's only thread for blocking work hangs.
    #[test]
    fn a_name_takes_no_thread_that_others_need() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.max_blocking_threads(1).enable_all().build().unwrap().block_on(async {
            let (connected, held) = mpsc::channel();
            // Given up only where the connection waits for this thread.
            let hanging = tokio::task::spawn_blocking(move || held.recv_timeout(Duration::from_secs(10)));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let connector = Connector::new("localhost".to_owned(), port, None, Arc::default());
            connector.connect().await.unwrap();
            connected.send(()).unwrap();
            hanging.await.unwrap().unwrap();
        });
    }
}
