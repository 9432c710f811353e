//! A real node and its gateway on a real port, whose log can be held.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ieum_core::batch::Envelope;
use ieum_core::ids::{Position, UserId};
use ieum_core::kv::{self, Direction, Kv, Read, Visit};
use ieum_core::query::typing::Typing;
use ieum_gateway::options::{Limits, Passwords, Rate};
use ieum_gateway::{Cell, Gateway, Hub, Options, Refused, SigningKeys, Ticket};
use ieum_log::memory::Memory as MemoryLog;
use ieum_log::{BatchId, Log};
use ieum_node::batcher::Refusal;
use ieum_node::folder::Folder;
use ieum_node::machine::Delivery;
use ieum_node::service::{self, Handle, Identity, Node};
use ieum_store::Memory;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

/// A log that takes nothing while it is held.
struct Held {
    log: MemoryLog,
    held: watch::Sender<bool>,
}

impl Log for Held {
    type Tail = <MemoryLog as Log>::Tail;

    async fn append(&self, id: BatchId, bytes: Bytes) -> ieum_log::Result<ieum_log::Position> {
        self.held.subscribe().wait_for(|held| !held).await.unwrap();
        self.log.append(id, bytes).await
    }

    async fn tail(&self, after: ieum_log::Position) -> ieum_log::Result<Self::Tail> {
        self.log.tail(after).await
    }

    async fn trim(&self, up_to: ieum_log::Position) -> ieum_log::Result<()> {
        self.log.trim(up_to).await
    }

    async fn skip(&self, position: ieum_log::Position, index: u32) -> ieum_log::Result<()> {
        self.log.skip(position, index).await
    }

    async fn skips(&self) -> ieum_log::Result<Vec<ieum_log::Skip>> {
        self.log.skips().await
    }

    async fn last(&self) -> ieum_log::Result<ieum_log::Position> {
        self.log.last().await
    }

    async fn trimmed_to(&self) -> ieum_log::Result<ieum_log::Position> {
        self.log.trimmed_to().await
    }
}

/// A row of the view at which its readers can be held, or panic.
#[derive(Default)]
struct Gate {
    row: Mutex<Row>,
    opened: Condvar,
}

#[derive(Default)]
struct Row {
    key: Vec<u8>,
    held: bool,
    broken: bool,
    /// How often it was read since it was held first.
    reads: usize,
}

impl Gate {
    fn pass(&self, key: &[u8]) {
        let mut row = self.row.lock();
        if row.key == key {
            row.reads += 1;
            self.opened.wait_while(&mut row, |row| row.held);
            assert!(!row.broken, "this row is broken");
        }
    }
}

/// A look at the view through the gate.
pub(crate) struct Look {
    view: <Memory as Kv>::Snapshot,
    gate: Arc<Gate>,
}

impl Read for Look {
    fn get(&self, key: &[u8]) -> kv::Result<Option<Bytes>> {
        self.gate.pass(key);
        self.view.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> kv::Result<()> {
        self.view.scan(from, to, direction, visit)
    }
}

#[derive(Clone)]
struct NodeCell(Handle<Memory, Ticket>, Arc<Gate>, Arc<Surge>);

/// Whether the node has too much to do, and who was said to type to the other nodes.
#[derive(Default)]
struct Surge {
    here: AtomicBool,
    signalled: Mutex<Vec<Typing>>,
}

impl Cell for NodeCell {
    type View = Look;

    fn view(&self) -> Look {
        Look { view: self.0.view(), gate: Arc::clone(&self.1) }
    }

    fn submit(&self, envelope: &Envelope, ticket: Ticket) -> Result<(), (Refused, Ticket)> {
        self.0.submit(envelope, ticket).map_err(|(refusal, ticket)| match refusal {
            Refusal::Full => (Refused::Busy, ticket),
            Refusal::TooLarge => (Refused::TooLarge, ticket),
        })
    }

    fn applied(&self) -> Position {
        self.0.applied()
    }

    async fn reach(&self, position: Position) {
        self.0.reach(position).await;
    }

    fn waiting(&self) -> Duration {
        self.0.waiting()
    }

    fn proven(&self) -> Duration {
        self.0.proven()
    }

    fn is_calm(&self) -> bool {
        self.0.is_calm() && !self.2.here.load(Ordering::Relaxed)
    }

    fn signal(&self, typing: &[(Typing, Vec<UserId>)]) {
        self.2.signalled.lock().extend(typing.iter().map(|(typing, _)| *typing));
    }

    fn metrics(&self, _: &mut String) {}
}

/// A server until the end of the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) gateway: Arc<dyn Stop>,
    log: Arc<Held>,
    gate: Arc<Gate>,
    surge: Arc<Surge>,
    delivery: watch::Sender<bool>,
    handle: Handle<Memory, Ticket>,
    node: Option<Node<Held, Memory, Ticket>>,
    runtime: Option<tokio::runtime::Runtime>,
    _folder: tempfile::TempDir,
}

/// A gateway, whatever its cell.
pub(crate) trait Stop: Send + Sync {
    fn stop(&self);
    fn sessions(&self) -> usize;
    fn set_elsewhere(&self, endpoints: &[&str]);
    fn drain(self: Arc<Self>, over: Duration) -> Draining;
    fn stop_draining(&self);
}

type Draining = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl<C: Cell> Stop for Gateway<C> {
    fn stop(&self) {
        Gateway::stop(self);
    }

    fn sessions(&self) -> usize {
        Gateway::sessions(self)
    }

    fn set_elsewhere(&self, endpoints: &[&str]) {
        Gateway::set_elsewhere(self, endpoints.iter().map(ToString::to_string).collect());
    }

    fn drain(self: Arc<Self>, over: Duration) -> Draining {
        Box::pin(async move { Gateway::drain(&self, over, |_, _| ()).await })
    }

    fn stop_draining(&self) {
        Gateway::stop_draining(self);
    }
}

/// Limits that no test meets by chance, and little patience.
pub(crate) fn options() -> Options {
    let defaults = Options::default();
    let plenty = Rate { per_second: 1_000_000, burst: 1_000_000 };
    Options {
        endpoints: vec!["http://127.0.0.1:1".to_owned(), "https://b.example".to_owned()],
        passwords: Passwords { memory_kib: 8, passes: 1, ..defaults.passwords },
        limits: Limits { commands: plenty, hellos: plenty, requests: plenty, sign_ins: plenty, ..defaults.limits },
        behind_patience: Duration::from_millis(100),
        patience: Duration::from_secs(1),
        ..defaults
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(options())
    }

    pub(crate) fn with(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(options.threads() + 2)
            .enable_all()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let keys = SigningKeys::from_seed(&[7; 32]).unwrap();
        let identity =
            Identity { node: 1, dc: "a".to_owned(), cell: 1, key_id: keys.id(), public_key: keys.public_key() };
        let node = service::Options::new(identity, &Folder::new(folder.path()));
        let log = Arc::new(Held { log: MemoryLog::new(1), held: watch::Sender::new(false) });
        let (view, hub) = (Arc::new(Memory::new()), Hub::new());
        let delivery = watch::Sender::new(false);
        let deliver = {
            let (hub, view, runtime) = (Arc::clone(&hub), Arc::clone(&view), runtime.handle().clone());
            let mut held = delivery.subscribe();
            move |Delivery { position, replies, events, .. }: Delivery<Ticket>| {
                // The sender is gone when the test has ended.
                let _ = runtime.block_on(held.wait_for(|held| !held));
                let view = Arc::clone(&view);
                hub.deliver(position, replies, events, move || Box::new(view.snapshot()) as Box<dyn Read>);
            }
        };
        let node = runtime.block_on(Node::start(Arc::clone(&log), view, node, deliver)).unwrap();
        let handle = node.handle();
        // The cell is founded before anybody comes.
        runtime.block_on(handle.reach(Position::new(1, 1)));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Gate::default());
        let surge = Arc::new(Surge::default());
        let cell = NodeCell(handle.clone(), Arc::clone(&gate), Arc::clone(&surge));
        let gateway = Gateway::new(cell, hub, options, keys);
        runtime.spawn(ieum_gateway::server::serve(Arc::clone(&gateway), listener, None));
        Self {
            address,
            gateway,
            log,
            gate,
            surge,
            delivery,
            handle,
            node: Some(node),
            runtime: Some(runtime),
            _folder: folder,
        }
    }

    /// Sends its clients elsewhere; the channel says when that is done.
    pub(crate) fn drain(&self, over: Duration) -> std::sync::mpsc::Receiver<()> {
        let (done, when) = std::sync::mpsc::channel();
        let draining = Arc::clone(&self.gateway).drain(over);
        self.runtime.as_ref().unwrap().spawn(async move {
            draining.await;
            let _ = done.send(());
        });
        when
    }

    /// From here on the log takes nothing, or takes everything again.
    pub(crate) fn hold_log(&self, held: bool) {
        self.log.held.send_replace(held);
    }

    /// From here on whoever reads this row waits.
    pub(crate) fn hold_row(&self, key: Vec<u8>) {
        *self.gate.row.lock() = Row { key, held: true, broken: false, reads: 0 };
    }

    /// From here on whoever reads this row panics.
    pub(crate) fn break_row(&self, key: Vec<u8>) {
        *self.gate.row.lock() = Row { key, held: false, broken: true, reads: 0 };
    }

    /// From here on the node has too much to do for what is not needed, or no longer.
    pub(crate) fn set_surge(&self, here: bool) {
        self.surge.here.store(here, Ordering::Relaxed);
    }

    /// Waits until the other nodes were told so often who types here; tells who.
    #[track_caller]
    pub(crate) fn signalled(&self, count: usize) -> Vec<Typing> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let signalled = self.surge.signalled.lock().clone();
            if signalled.len() >= count {
                return signalled;
            }
            assert!(Instant::now() < end, "they were told {signalled:?}");
            std::thread::yield_now();
        }
    }

    /// Nobody waits at that row any more.
    pub(crate) fn release_row(&self) {
        self.gate.row.lock().held = false;
        self.gate.opened.notify_all();
    }

    /// How often the row was read since it was held.
    pub(crate) fn row_reads(&self) -> usize {
        self.gate.row.lock().reads
    }

    /// From here on nothing that is applied is delivered, or all of it again.
    pub(crate) fn hold_delivery(&self, held: bool) {
        self.delivery.send_replace(held);
    }

    /// Where another gateway of the same node listens, which is told nothing of what is applied.
    pub(crate) fn gateway_without_delivery(&self) -> SocketAddr {
        let runtime = self.runtime.as_ref().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let cell = NodeCell(self.handle.clone(), Arc::clone(&self.gate), Arc::clone(&self.surge));
        let gateway = Gateway::new(cell, Hub::new(), options(), SigningKeys::from_seed(&[7; 32]).unwrap());
        runtime.spawn(ieum_gateway::server::serve(gateway, listener, None));
        address
    }

    /// No command's apply panicked, whatever came in.
    pub(crate) fn is_sound(&self) {
        let alarms = self.handle.alarms();
        assert_eq!((alarms.panicked, alarms.malformed, alarms.not_members), (0, 0, 0));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.hold_log(false);
        self.release_row();
        self.gateway.stop();
        if let (Some(runtime), Some(node)) = (self.runtime.take(), self.node.take()) {
            drop(runtime.block_on(node.stop(Duration::from_secs(1))));
            runtime.shutdown_background();
        }
    }
}
