//! What a node offers the others.

use std::convert::Infallible;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use ieum_core::ids::{NodeId, Position};
use ieum_node::core_position;
use ieum_node::leases::{Lent, Newcomer};
use ieum_node::peers::{Phase, Report};
use ieum_node::progress::Step;
use ieum_planted::Bug;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::messages::{Batch, BatchesAsked, Hello, Piece, Place, Said, SnapshotAsked, StandAsked, Stands, WatchAsked};
use crate::shelf::{FindSnapshot, Refusal, Shelf};
use crate::signals::tell::Tell;
use crate::tls::{self, Tls};
use crate::{ANSWER, MOST, PIECE, PING, SMALL, door};

/// How often a newcomer is told that the snapshot comes on that is made for it.
const TELL_EVERY: Duration = Duration::from_secs(3);
/// Pieces that wait for a newcomer's connection.
const PIECES: usize = 2;

/// What a node offers.
#[derive(Clone)]
pub struct Offer {
    /// The cell; nodes of another are refused.
    pub cell: u16,
    /// What the node says of itself.
    pub report: watch::Receiver<Report>,
    /// What it has to give.
    pub shelf: Arc<Shelf>,
    /// Takes the addresses of nodes that ask.
    pub met: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Streams of one caller at a time: it watches, and may need batches and a snapshot.
const STREAMS: u32 = 16;
/// Connections that are in and not served yet.
const WAITING: usize = 16;

/// Serves the nodes of the cell until it is dropped. With `tls`, callers need a certificate of the cell's own authority that names them.
///
/// # Errors
/// When it cannot serve on.
pub async fn serve(offer: Offer, listener: TcpListener, tls: Option<Tls>) -> Result<(), tonic::transport::Error> {
    let (let_in, came) = mpsc::channel(WAITING);
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(ANSWER))
        .add_service(Service { offer: Arc::new(offer) })
        .serve_with_incoming(ReceiverStream::new(came));
    let door = door::open(listener, tls, let_in);
    tokio::pin!(serving, door);
    tokio::select! {
        served = &mut serving => served,
        // Not before the other one has ended.
        () = &mut door => serving.await,
    }
}

pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
pub(crate) type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<Answers<T>>, Status>> + Send>>;

#[derive(Clone)]
struct Service {
    offer: Arc<Offer>,
}

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
        let offer = Arc::clone(&self.offer);
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/ieum.peer.v1.Peer/Watch" => answer(Watch(offer), request).await,
                "/ieum.peer.v1.Peer/Batches" => answer(Batches(offer), request).await,
                "/ieum.peer.v1.Peer/Signals" => answer(Tell(offer), request).await,
                "/ieum.peer.v1.Peer/Stand" => answer(Stand(offer), request).await,
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
    Grpc::new(codec).apply_max_message_size_config(Some(SMALL), Some(MOST)).server_streaming(call, request).await
}

impl Offer {
    /// Refuses nodes of another cell, those that their certificate does not name, and this one itself.
    pub(crate) fn check<T>(&self, hello: Option<Hello>, request: &Request<T>) -> Result<(), Status> {
        let Some(Hello { cell, node, life }) = hello else {
            return Err(Status::invalid_argument("who asks is missing"));
        };
        if cell != u32::from(self.cell) {
            let ours = self.cell;
            return Err(Status::failed_precondition(format!(
                "node {node} is of cell {cell}, this one of cell {ours}: correct [node] cell, or the address of the peer"
            )));
        }
        let named = request.extensions().get::<door::From>().and_then(|from| from.0);
        tls::is(node, named).map_err(Status::permission_denied)?;
        if life == self.report.borrow().life {
            return Err(Status::already_exists("it is the node itself"));
        }
        Ok(())
    }

    /// What a node gives whose view differs from the others', or may, would make the newcomer's differ, too.
    fn check_view(&self, newcomer: NodeId) -> Result<(), Status> {
        if self.report.borrow().phase == Phase::Out && !Bug::DifferingGives.planted() {
            return Err(Status::failed_precondition("its view differs from the others' of the cell: ask another node"));
        }
        match self.shelf.doubts(newcomer) {
            None => Ok(()),
            Some(Refusal { why, passes: true }) => Err(Status::aborted(why)),
            Some(Refusal { why, passes: false }) => Err(Status::failed_precondition(why)),
        }
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
            offer.check(request.get_ref().hello, &request)?;
            if let Some(address) = &request.get_ref().address {
                (offer.met)(address);
            }
            let reports = WatchStream::new(offer.report.clone()).map(|report| Ok(Said::from(&report)));
            Ok(Response::new(Box::pin(reports) as Answers<Said>))
        })
    }
}

struct Stand(Arc<Offer>);

impl ServerStreamingService<StandAsked> for Stand {
    type Response = Stands;
    type ResponseStream = Answers<Stands>;
    type Future = Answer<Stands>;

    fn call(&mut self, request: Request<StandAsked>) -> Self::Future {
        let offer = Arc::clone(&self.0);
        Box::pin(async move {
            offer.check(request.get_ref().hello, &request)?;
            let stood = match offer.shelf.stand() {
                Some(stand) => Some(stand(request.get_ref().still).await.map_err(Status::unavailable)?),
                None => None,
            };
            let answers = stream::iter(stood.map(|stood| Ok(Stands::from(stood))));
            Ok(Response::new(Box::pin(answers) as Answers<Stands>))
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
            offer.check(request.get_ref().hello, &request)?;
            let after = request.get_ref().after.ok_or_else(|| Status::invalid_argument("a position is missing"))?;
            // The first read tells whether the journal reaches back so far.
            let first = offer.shelf.read(after.into()).await?;
            let pages = stream::unfold(Some((offer, first)), |state| async {
                let (offer, page) = state?;
                let last = page.last()?.position;
                let next = match offer.shelf.read(core_position(last)).await {
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

struct Snapshot(Arc<Offer>);

impl ServerStreamingService<SnapshotAsked> for Snapshot {
    type Response = Piece;
    type ResponseStream = Answers<Piece>;
    type Future = Answer<Piece>;

    fn call(&mut self, request: Request<SnapshotAsked>) -> Self::Future {
        let offer = Arc::clone(&self.0);
        Box::pin(async move {
            offer.check(request.get_ref().hello, &request)?;
            let SnapshotAsked { hello, at, offset } = request.into_inner();
            offer.check_view(hello.map_or(0, |hello| hello.node))?;
            let place = offer.shelf.place()?;
            // Before it is looked what is there: what is taken back after that ends this.
            let cleared = offer.shelf.cleared();
            let find = offer.shelf.snapshots()?;
            let (to, arrive) = mpsc::channel(PIECES);
            let pieces = Pieces { to, cleared, runtime: Handle::current() };
            let asked = at.map(|at| (Position::from(at), offset));
            // A thread of its own: clients need those of the runtime, and a snapshot takes long.
            let spawned = std::thread::Builder::new().name("ieum-newcomer".to_owned()).spawn(move || {
                give(find.as_ref(), asked, &pieces);
                // In this order: once the place is free, nothing of the node's is held here.
                drop(find);
                drop(place);
            });
            spawned.map_err(|error| Status::unavailable(format!("no thread for a snapshot: {error}")))?;
            Ok(Response::new(Box::pin(ReceiverStream::new(arrive)) as Answers<Piece>))
        })
    }
}

/// Sends the pieces of a snapshot: from an offset on if it still is the one that was `asked` for.
fn give(find: &FindSnapshot, asked: Option<(Position, u64)>, pieces: &Pieces) {
    let send_all = || {
        let told = Mutex::new(Instant::now());
        let comes_on = |_: Step| {
            let mut told = told.lock();
            if told.elapsed() >= TELL_EVERY {
                *told = Instant::now();
                // Where one waits already, that is enough.
                let _ = pieces.to.try_send(Ok(Piece::default()));
            }
        };
        let gone = || pieces.is_in_vain();
        let newcomer = Newcomer { watch: &comes_on, gone: &gone };
        let lent = find(asked.map(|(at, _)| at), newcomer).map_err(Status::unavailable)?;
        let offset = asked.filter(|(at, _)| *at == lent.position).map_or(0, |(_, offset)| offset);
        let mut reader = Reader::open(&lent, offset).map_err(unreadable)?;
        while let Some(piece) = reader.piece().map_err(unreadable)? {
            if !pieces.send(Ok(piece)) {
                break;
            }
        }
        Ok(())
    };
    if let Err(status) = send_all() {
        // Nobody may be there to hear it.
        pieces.send(Err(status));
    }
}

/// Where the pieces of a snapshot go.
struct Pieces {
    to: mpsc::Sender<Result<Piece, Status>>,
    /// Changes when the node takes back what it gives.
    cleared: watch::Receiver<()>,
    runtime: Handle,
}

impl Pieces {
    /// Whether nobody takes them any more, or nobody may.
    fn is_in_vain(&self) -> bool {
        self.to.is_closed() || self.cleared.has_changed().unwrap_or(true)
    }

    /// Waits for the newcomer's connection; false when it is gone, or the node takes back what it gives. A newcomer whose disk hangs is there and takes
    /// nothing.
    fn send(&self, piece: Result<Piece, Status>) -> bool {
        let mut cleared = self.cleared.clone();
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = cleared.changed(), if !Bug::StopWaitsForNewcomers.planted() => false,
                sent = self.to.send(piece) => sent.is_ok(),
            }
        })
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is used with map_err")]
fn unreadable(error: io::Error) -> Status {
    Status::unavailable(format!("reading a snapshot: {error}"))
}

/// Reads a snapshot's file piece by piece.
struct Reader {
    at: Place,
    file: File,
    offset: u64,
    total: u64,
}

impl Reader {
    fn open(lent: &Lent, offset: u64) -> io::Result<Self> {
        let mut file = File::open(&lent.path)?;
        let total = file.metadata()?.len();
        let offset = offset.min(total);
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { at: lent.position.into(), file, offset, total })
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
