//! What a node offers the others.

use std::convert::Infallible;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use ieum_core::ids::Position;
use ieum_log::sqlite::Journal;
use ieum_node::log_position;
use ieum_node::peers::Report;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::{TcpListenerStream, WatchStream};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::messages::{Batch, BatchesAsked, Hello, Piece, Place, Said, SnapshotAsked, WatchAsked};
use crate::{MOST, PIECE};

/// Makes a snapshot that a newcomer may start from, or finds one that is new enough: where it stands and where it lies. Blocks.
pub type FindSnapshot = dyn Fn() -> Result<(Position, PathBuf), String> + Send + Sync;

/// What a node offers.
#[derive(Clone)]
pub struct Offer {
    /// The cell; nodes of another are refused.
    pub cell: u16,
    /// What the node says of itself.
    pub report: watch::Receiver<Report>,
    /// Its journal.
    pub journal: Arc<Journal>,
    /// Its snapshots.
    pub snapshot: Arc<FindSnapshot>,
    /// Takes the addresses of nodes that ask.
    pub met: Arc<dyn Fn(String) + Send + Sync>,
}

/// Serves the nodes of the cell until it is dropped. With `tls`, callers need a certificate of the cell's own authority.
///
/// # Errors
/// When the certificates cannot be used, or the listener fails.
pub async fn serve(
    offer: Offer,
    listener: TcpListener,
    tls: Option<ServerTlsConfig>,
) -> Result<(), tonic::transport::Error> {
    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    server.add_service(Service(Arc::new(offer))).serve_with_incoming(TcpListenerStream::new(listener)).await
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<Answers<T>>, Status>> + Send>>;

#[derive(Clone)]
struct Service(Arc<Offer>);

impl NamedService for Service {
    const NAME: &'static str = "ieum.peer.v1.Peer";
}

impl tower_service::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let offer = Arc::clone(&self.0);
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/ieum.peer.v1.Peer/Watch" => answer(Watch(offer), request).await,
                "/ieum.peer.v1.Peer/Batches" => answer(Batches(offer), request).await,
                "/ieum.peer.v1.Peer/Snapshot" => answer(Snapshot(offer), request).await,
                _ => Status::unimplemented("no such call: is the other node of a newer build?").into_http(),
            })
        })
    }
}

async fn answer<C, A, T>(call: C, request: http::Request<Body>) -> http::Response<Body>
where
    C: ServerStreamingService<A, Response = T>,
    C::ResponseStream: Send + 'static,
    A: prost::Message + Default + Send + 'static,
    T: prost::Message + Send + 'static,
{
    let codec = ProstCodec::<T, A>::default();
    Grpc::new(codec).apply_max_message_size_config(Some(MOST), Some(MOST)).server_streaming(call, request).await
}

impl Offer {
    fn check(&self, hello: Option<Hello>) -> Result<(), Status> {
        let Some(hello) = hello else { return Err(Status::invalid_argument("who asks is missing")) };
        if hello.cell != u32::from(self.cell) {
            let (theirs, ours) = (hello.cell, self.cell);
            return Err(Status::failed_precondition(format!(
                "node {} is of cell {theirs}, this one of cell {ours}: correct [node] cell, or the address of the peer",
                hello.node
            )));
        }
        Ok(())
    }
}

struct Watch(Arc<Offer>);

impl ServerStreamingService<WatchAsked> for Watch {
    type Response = Said;
    type ResponseStream = Answers<Said>;
    type Future = Answer<Said>;

    fn call(&mut self, request: Request<WatchAsked>) -> Self::Future {
        let offer = Arc::clone(&self.0);
        Box::pin(async move {
            let WatchAsked { hello, address } = request.into_inner();
            offer.check(hello)?;
            if let Some(address) = address {
                (offer.met)(address);
            }
            let reports = WatchStream::new(offer.report.clone()).map(|report| Ok(Said::from(&report)));
            Ok(Response::new(Box::pin(reports) as Answers<Said>))
        })
    }
}

struct Batches(Arc<Offer>);

impl ServerStreamingService<BatchesAsked> for Batches {
    type Response = Batch;
    type ResponseStream = Answers<Batch>;
    type Future = Answer<Batch>;

    fn call(&mut self, request: Request<BatchesAsked>) -> Self::Future {
        let offer = Arc::clone(&self.0);
        Box::pin(async move {
            let BatchesAsked { hello, after } = request.into_inner();
            offer.check(hello)?;
            let after: Position = after.ok_or_else(|| Status::invalid_argument("a position is missing"))?.into();
            // The first read tells whether the journal reaches back so far.
            let first = offer.journal.read(log_position(after)).await.map_err(told)?;
            let pages = stream::unfold(Some((offer, first)), |state| async {
                let (offer, page) = state?;
                let last = page.last()?.position;
                let next = match offer.journal.read(last).await {
                    Ok(page) => Some((offer, page)),
                    // It was trimmed away under the reader, who asks again.
                    Err(_) => None,
                };
                Some((page, next))
            });
            let batches = pages.flat_map(|page| stream::iter(page).map(|entry| Ok(Batch::from(entry))));
            Ok(Response::new(Box::pin(batches) as Answers<Batch>))
        })
    }
}

/// What a caller is told of the journal's error.
fn told(error: ieum_log::Error) -> Status {
    match error {
        ieum_log::Error::Trimmed { .. } => Status::out_of_range(error.to_string()),
        ieum_log::Error::NotInLog { .. } => Status::failed_precondition(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    }
}

struct Snapshot(Arc<Offer>);

impl ServerStreamingService<SnapshotAsked> for Snapshot {
    type Response = Piece;
    type ResponseStream = Answers<Piece>;
    type Future = Answer<Piece>;

    fn call(&mut self, request: Request<SnapshotAsked>) -> Self::Future {
        let offer = Arc::clone(&self.0);
        Box::pin(async move {
            let SnapshotAsked { hello, at, offset } = request.into_inner();
            offer.check(hello)?;
            let open = move || {
                let (position, path) = (offer.snapshot)().map_err(Status::unavailable)?;
                let asked = at.is_some_and(|at| Position::from(at) == position);
                Reader::open(position, path, if asked { offset } else { 0 }).map_err(unreadable)
            };
            let reader = blocking(open).await??;
            let pieces = stream::try_unfold(reader, |mut reader| async {
                blocking(move || Ok(reader.piece().map_err(unreadable)?.map(|piece| (piece, reader)))).await?
            });
            Ok(Response::new(Box::pin(pieces) as Answers<Piece>))
        })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Status::internal("reading a snapshot panicked"))
}

#[allow(clippy::needless_pass_by_value, reason = "it is used with map_err")]
fn unreadable(error: io::Error) -> Status {
    Status::unavailable(format!("reading a snapshot: {error}"))
}

/// Reads a snapshot's file piece by piece. It stays readable when it is removed meanwhile.
struct Reader {
    at: Place,
    file: File,
    offset: u64,
    total: u64,
}

impl Reader {
    fn open(position: Position, path: PathBuf, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let total = file.metadata()?.len();
        let offset = offset.min(total);
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { at: position.into(), file, offset, total })
    }

    fn piece(&mut self) -> io::Result<Option<Piece>> {
        let mut bytes = Vec::with_capacity(PIECE);
        self.file.by_ref().take(PIECE as u64).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let digest = blake3::hash(&bytes).as_bytes().to_vec();
        let piece =
            Piece { at: Some(self.at), total: self.total, offset: self.offset, bytes: Bytes::from(bytes), digest };
        self.offset += piece.bytes.len() as u64;
        Ok(Some(piece))
    }
}
