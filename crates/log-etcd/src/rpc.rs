//! One connection to one member, and the few calls that the log makes through it.
//!
//! The connection is our own and not one of a channel that reconnects unseen: each new one has to be checked before it is used.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ieum_planted::Bug;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::endpoint::Endpoint;
use crate::error::chain;
use crate::keys::CELL;
use crate::proto::{
    CompactionRequest, CompactionResponse, StatusRequest, StatusResponse, TxnRequest, TxnResponse, WatchRequest,
    WatchResponse,
};
use crate::txn::{Answers, get, read};

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(1);

/// The largest message that is taken from a member: a page of the log's history, or a fragment of a watch, both well below it.
const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

/// How much a member may send ahead on a stream, and on all of a connection. HTTP/2's own 64 KiB would make each batch wait for
/// several round trips.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no answer within {CONNECT:?}")]
    Slow,
    #[error("connecting")]
    Tcp(#[source] std::io::Error),
    #[error("TLS")]
    Tls(#[source] std::io::Error),
    #[error("HTTP/2")]
    Http(#[source] hyper::Error),
}

/// A connection; clones share it. It ends when the last of them is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    grpc: Grpc<Http2>,
    _driver: Arc<Driver>,
}

/// The task that moves a connection's bytes.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Connects, within a second.
    pub(crate) async fn open(endpoint: &Endpoint, tls: Option<&Arc<ClientConfig>>) -> Result<Self, ConnectError> {
        tokio::time::timeout(CONNECT, Self::connect(endpoint, tls)).await.unwrap_or(Err(ConnectError::Slow))
    }

    async fn connect(endpoint: &Endpoint, tls: Option<&Arc<ClientConfig>>) -> Result<Self, ConnectError> {
        let tcp = ieum_names::connect(&endpoint.host, endpoint.port).await.map_err(ConnectError::Tcp)?;
        tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
        match tls {
            None => Self::start(endpoint, TokioIo::new(tcp)).await,
            Some(tls) => {
                let name = ServerName::try_from(endpoint.host.clone())
                    .map_err(|error| ConnectError::Tls(std::io::Error::other(error)))?;
                let tls = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await.map_err(ConnectError::Tls)?;
                Self::start(endpoint, TokioIo::new(tls)).await
            }
        }
    }

    async fn start<I>(endpoint: &Endpoint, io: I) -> Result<Self, ConnectError>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(io)
            .await
            .map_err(ConnectError::Http)?;
        // Its errors come to every call that was under way.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        let grpc = Grpc::with_origin(Http2(sender), endpoint.uri.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        Ok(Self { grpc, _driver: Arc::new(Driver(driver)) })
    }

    /// Makes sure that the member is of this cluster, before anything is written there.
    pub(crate) async fn check_cluster(&self, cluster: u64) -> Result<(), String> {
        let answer = self.txn(read(vec![get(CELL.clone())])).await.map_err(|status| chain(&status))?;
        let theirs = Answers::new(answer).map_err(|error| chain(&error))?.cluster;
        if theirs == cluster || Bug::StrayEtcdWritten.planted() {
            return Ok(());
        }
        Err(format!(
            "it belongs to another etcd cluster ({theirs:x}) than most of the endpoints ({cluster:x}): correct [log] endpoints"
        ))
    }

    pub(crate) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        self.unary(request, "/etcdserverpb.KV/Txn").await
    }

    pub(crate) async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Status> {
        self.unary(request, "/etcdserverpb.KV/Compact").await
    }

    /// How the member itself is: it asks no other for this.
    pub(crate) async fn status(&self) -> Result<StatusResponse, Status> {
        self.unary(StatusRequest {}, "/etcdserverpb.Maintenance/Status").await
    }

    /// A watch, which ends with an error when the member loses its leader.
    pub(crate) async fn watch(&self, request: WatchRequest) -> Result<Watch, Status> {
        let mut grpc = self.grpc.clone();
        ready(&mut grpc).await?;
        let (keep, requests) = mpsc::channel(1);
        // There is room for one.
        let _ = keep.try_send(request);
        let mut request = Request::new(ReceiverStream::new(requests));
        request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let answer = grpc.streaming(request, path, ProstCodec::<WatchRequest, WatchResponse>::default()).await?;
        Ok(Watch { answers: answer.into_inner(), _keep: keep, _connection: self.clone() })
    }

    async fn unary<Q, A>(&self, request: Q, path: &'static str) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc.clone();
        ready(&mut grpc).await?;
        let path = PathAndQuery::from_static(path);
        Ok(grpc.unary(Request::new(request), path, ProstCodec::<Q, A>::default()).await?.into_inner())
    }
}

async fn ready(grpc: &mut Grpc<Http2>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(format!("the connection is gone: {error}")))
}

/// A running watch.
#[derive(Debug)]
pub(crate) struct Watch {
    answers: Streaming<WatchResponse>,
    /// The requests' stream has to stay open: its end is the watch's.
    _keep: mpsc::Sender<WatchRequest>,
    _connection: Connection,
}

impl Watch {
    /// The next answer; none when the member ended the watch. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchResponse>, Status> {
        self.answers.message().await
    }
}

/// HTTP/2 as tonic wants it.
#[derive(Clone, Debug)]
struct Http2(SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Http2 {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
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
            let endpoint = format!("http://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
            Connection::connect(&endpoint, None).await.unwrap();
            connected.send(()).unwrap();
            hanging.await.unwrap().unwrap();
        });
    }
}
