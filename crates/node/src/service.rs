//! The threads of a node.
//!
//! | thread | does |
//! |---|---|
//! | a task of the runtime | appends the next batch, one at a time, and repeats it until the log has it |
//! | `apply` | reads the log's tail, applies each batch, commits it |
//! | `deliver` | hands outcomes and events to the [`Deliver`] in order |
//! | `upkeep` | persists the view, takes snapshots, trims the log |

mod handle;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ieum_core::apply::{self, Author, Skips};
use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::LEVEL;
use ieum_core::commands::operate::Tick;
use ieum_core::event::Alarm;
use ieum_core::ids::{Millis, Position};
use ieum_core::kv::Kv;
use ieum_log::{Log, Tail};
use parking_lot::Mutex;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{Notify, watch};

pub use self::handle::Handle;
pub use crate::alarms::Alarms;
use crate::applier::{Applier, KEPT_BYTES};
use crate::batcher::{Batcher, Bounds};
use crate::clock::{self, Clock};
use crate::folder::Folder;
use crate::leases::Leases;
use crate::levels;
use crate::machine::{self, Delivery, deliver};
use crate::peers::Checkpoints;
use crate::reserve::Reserve;
use crate::start;
pub use crate::start::StartError;
use crate::upkeep::{self, Policy};
use crate::{appender, author, chain, core_position};

/// Batches that were applied and wait to be delivered, at most.
const UNDELIVERED: usize = 256;
/// How many commands may be applied before the view is persisted.
pub(crate) const PERSIST_COMMANDS: u64 = 20_000;

/// Who this node is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its number in the cell, 1 and up.
    pub node: u32,
    /// Its data center.
    pub dc: String,
    /// The cell's number.
    pub cell: u16,
    /// Names the key that its access tokens are signed with.
    pub key_id: u64,
    /// The Ed25519 key that they are verified with.
    pub public_key: [u8; 32],
}

/// How to run a node.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who it is.
    pub identity: Identity,
    /// The highest level that the build knows.
    pub known: u32,
    /// Whether it founds the cell if there is none. Of the nodes that share a log one may.
    pub founds: bool,
    /// How much may wait.
    pub bounds: Bounds,
    /// Where snapshots lie and when they are taken.
    pub snapshots: Policy,
    /// The snapshots, and who reads them.
    pub leases: Arc<Leases>,
    /// Room on the disk to keep free.
    pub reserve: Arc<Reserve>,
    /// What it skips, if that is settled (see [`ieum_log::journaled::Journaled::settle`]); else what the log has marked when it starts.
    pub skips: Option<Skips>,
}

impl Options {
    /// The defaults for a node with its data in `folder`: it may found a cell, and keeps no room free on the disk.
    #[must_use]
    pub fn new(identity: Identity, folder: &Folder) -> Self {
        Self {
            identity,
            known: LEVEL,
            founds: true,
            bounds: Bounds::default(),
            snapshots: Policy::default(),
            leases: Leases::new(folder.snapshots()),
            reserve: Arc::new(Reserve::new(folder.root(), 0)),
            skips: None,
        }
    }
}

/// Takes what was applied, in order, on a thread of its own. MUST NOT wait for any client.
pub trait Deliver<T>: Send + 'static {
    /// The next batch's outcomes and events.
    fn deliver(&mut self, delivery: Delivery<T>);
}

impl<T, F: FnMut(Delivery<T>) + Send + 'static> Deliver<T> for F {
    fn deliver(&mut self, delivery: Delivery<T>) {
        self(delivery);
    }
}

pub(crate) struct Shared<K, T> {
    pub(crate) view: Arc<K>,
    pub(crate) batcher: Mutex<Batcher<Ticket<T>>>,
    pub(crate) ready_to_append: Notify,
    started: Instant,
    applied: watch::Sender<Position>,
    pub(crate) fatal: watch::Sender<Option<String>>,
    pub(crate) progress: Mutex<Progress>,
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) alarms: Mutex<Alarms>,
    clock: Mutex<Clock>,
    checkpoints: Mutex<Checkpoints>,
    overtaken: AtomicBool,
}

/// What has happened since the view was last persisted or copied.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) unpersisted: u64,
    pub(crate) commands: u64,
    pub(crate) log_bytes: u64,
}

/// Whose command it was.
pub(crate) enum Ticket<T> {
    /// The node's own.
    Own,
    /// Somebody's who waits.
    Client(T),
}

impl<T> Ticket<T> {
    fn client(self) -> Option<T> {
        match self {
            Self::Client(ticket) => Some(ticket),
            Self::Own => None,
        }
    }
}

impl<K, T> Shared<K, T> {
    fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The stamp of the next batch.
    pub(crate) fn stamp(&self) -> Millis
    where
        K: Kv,
    {
        // A view that cannot be read stops the node elsewhere.
        let alone = || clock::alone(&self.view.snapshot()).unwrap_or(true);
        let stamp = self.clock.lock().stamp(clock::wall(), self.now(), alone);
        if let Some(jump_ms) = stamp.jumped {
            tracing::error!(
                jump_ms,
                "alarm: the clock jumped and is not followed. Set it right, or say `ieum clock accept` if it is right now"
            );
        }
        stamp.at
    }

    /// As [`Shared::fail`], of a node that may begin again.
    pub(crate) fn fail_behind(&self, reason: String) {
        self.overtaken.store(true, Ordering::SeqCst);
        self.fail(reason);
    }

    /// Stops the node if the cell does not count its batch.
    fn stop_if_removed(&self, author: Author, alarms: &[Alarm]) -> bool {
        let removed = machine::is_removed(&self.batcher.lock(), author, alarms);
        if removed {
            let node = author.node;
            self.fail(format!(
                "node {node} is no member of the cell: it was removed, or another node has founded the cell. Add a new number with `ieum node \
                 add` and start it with an empty data folder"
            ));
        }
        removed
    }

    pub(crate) fn fail(&self, reason: String) {
        tracing::error!(%reason, "the node stops");
        self.fatal.send_if_modified(|fatal| fatal.is_none() && fatal.replace(reason).is_none());
    }
}

/// A running node, for the one who started it.
pub struct Node<L, K, T> {
    log: Arc<L>,
    handle: Handle<K, T>,
    stop: watch::Sender<bool>,
    appender: tokio::task::JoinHandle<()>,
    ticker: tokio::task::JoinHandle<()>,
    threads: Vec<JoinHandle<()>>,
}

impl<L: Log, K: Kv, T: Send + 'static> Node<L, K, T> {
    /// Brings the view up to the log's end, founds the cell if there is none, and runs. `view` must be one that fits `log`; see
    /// [`crate::folder`].
    pub async fn start(
        log: Arc<L>,
        view: Arc<K>,
        options: Options,
        deliver: impl Deliver<T>,
    ) -> Result<Self, StartError> {
        let mut applier = Applier::new(Arc::clone(&view), to_skip(log.as_ref(), options.skips.as_ref()).await?)?
            .keeping(KEPT_BYTES)
            .knowing(options.known);
        let tail = start::bring_up(log.as_ref(), &mut applier).await?;
        let began = apply::applied(&view.snapshot())?;
        start::check_identity(&view.snapshot(), &options.identity, options.known, options.founds)?;
        levels::warn_if_below(&view.snapshot(), options.known)?;
        let identity = &options.identity;
        let least = machine::incarnation(&view.snapshot(), identity.node)?;
        let incarnation = log.register(identity.node, least).await?;
        let shared = Arc::new(Shared {
            view,
            batcher: Mutex::new(Batcher::new(identity.node, incarnation, options.bounds)),
            ready_to_append: Notify::new(),
            started: Instant::now(),
            applied: watch::Sender::new(applier.applied()),
            fatal: watch::Sender::new(None),
            progress: Mutex::default(),
            alarms: Mutex::default(),
            reserve: Arc::clone(&options.reserve),
            clock: Mutex::new(Clock::new(clock::wall(), 0)),
            checkpoints: Mutex::new(Checkpoints::begin(began.position, began.digest)),
            overtaken: AtomicBool::new(false),
        });
        shared.reserve.look();
        upkeep::look_at_room(&shared, log.room());
        greet(&shared, &options)?;
        let stop = watch::Sender::new(false);
        let appender = tokio::spawn(appender::append(Arc::clone(&log), Arc::clone(&shared), stop.subscribe()));
        let ticker = tokio::spawn(tick(Arc::clone(&shared), stop.subscribe()));
        let (delivered, deliveries) = sync_channel(UNDELIVERED);
        let threads = [
            spawn("deliver", &shared, move || deliver_all(&deliveries, deliver)),
            spawn("apply", &shared, {
                let (shared, stop, runtime) = (Arc::clone(&shared), stop.subscribe(), Runtime::current());
                move || runtime.block_on(apply_all(tail, applier, &shared, &delivered, stop))
            }),
            spawn("upkeep", &shared, {
                let (log, shared, stop, runtime) =
                    (Arc::clone(&log), Arc::clone(&shared), stop.subscribe(), Runtime::current());
                let (policy, leases) = (options.snapshots, Arc::clone(&options.leases));
                move || upkeep::run(&log, &shared, &leases, policy, stop, &runtime)
            }),
        ];
        let threads = threads.into_iter().collect::<Result<_, _>>().map_err(StartError::Thread)?;
        Ok(Self { log, handle: Handle { shared }, stop, appender, ticker, threads })
    }

    /// For those who use it.
    #[must_use]
    pub fn handle(&self) -> Handle<K, T> {
        self.handle.clone()
    }

    /// Stops: what was submitted is appended and applied first, for at most `patience`. Gives the log back.
    pub async fn stop(self, patience: Duration) -> Arc<L> {
        let Self { log, handle, stop, appender, ticker, threads } = self;
        ticker.abort();
        let drained = async {
            let mut applied = handle.shared.applied.subscribe();
            while !handle.shared.batcher.lock().is_idle() {
                if applied.changed().await.is_err() {
                    break;
                }
            }
        };
        // What is not applied by then was never acknowledged.
        let _ = tokio::time::timeout(patience, drained).await;
        stop.send_replace(true);
        let _ = appender.await;
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A thread that panicked has said so; the node is stopping anyway.
                let _ = thread.join();
            }
        });
        let _ = joined.await;
        if let Err(error) = handle.shared.view.persist() {
            tracing::warn!(%error, "the view was not persisted; it will be caught up at the next start");
        }
        log
    }
}

/// Starts one of the node's threads. If it panics the node stops: without it, it would look alive and do nothing.
fn spawn<K: Kv, T: Send + 'static>(
    name: &'static str,
    shared: &Arc<Shared<K, T>>,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name(format!("ieum-{name}")).spawn(move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            shared.fail(format!("the thread {name:?} panicked; see above"));
        }
    })
}

/// Brings `view` up to the log's end, as a node does when it starts, and stops before a level above `known`. It skips as [`Options::skips`] says.
pub async fn catch_up<L: Log, K: Kv>(
    log: &L,
    view: Arc<K>,
    known: u32,
    skips: Option<&Skips>,
) -> Result<(), StartError> {
    let mut applier = Applier::new(view, to_skip(log, skips).await?)?.knowing(known);
    start::bring_up(log, &mut applier).await.map(drop)
}

async fn to_skip<L: Log>(log: &L, settled: Option<&Skips>) -> ieum_log::Result<Skips> {
    match settled {
        Some(skips) => Ok(skips.clone()),
        None => Ok(crate::skips(&log.skips().await?)),
    }
}

/// Submits the node's first commands.
fn greet<K: Kv, T>(shared: &Shared<K, T>, options: &Options) -> Result<(), StartError> {
    let greeting = machine::greeting_knowing(options.known, &shared.view.snapshot(), &options.identity)?;
    let mut batcher = shared.batcher.lock();
    for envelope in greeting {
        // An empty batcher takes two small commands.
        let _ = batcher.push(&envelope, Ticket::Own, 0);
    }
    Ok(())
}

/// Logs a tick per second.
async fn tick<K: Kv, T: Send>(shared: Arc<Shared<K, T>>, mut stop: watch::Receiver<bool>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    second.tick().await;
    let envelope = Envelope { origin: Origin::Node, command: Tick {}.into() };
    loop {
        tokio::select! {
            _ = second.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let now = shared.now();
        // A full batcher has stamps enough: every batch carries one.
        if shared.batcher.lock().push(&envelope, Ticket::Own, now).is_ok() {
            shared.ready_to_append.notify_one();
        }
    }
}

async fn apply_all<K: Kv, T: Send>(
    mut tail: impl Tail,
    mut applier: Applier<K>,
    shared: &Shared<K, T>,
    delivered: &SyncSender<Delivery<T>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let entry = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            entry = tail.next() => entry,
        };
        let lost = |error: ieum_log::Error| {
            let overtaken = matches!(error, ieum_log::Error::Trimmed { .. });
            shared.overtaken.fetch_or(overtaken, Ordering::SeqCst);
            format!("reading the log: {error}")
        };
        let result = entry.map_err(lost).and_then(|entry| {
            let effects = applier.apply(&entry).map_err(|e| chain(&e))?;
            Ok((entry, effects))
        });
        let (entry, effects) = match result {
            Ok(applied) => applied,
            Err(reason) => return shared.fail(reason),
        };
        // Before anybody hears that the node's first batch has come back.
        let removed = shared.stop_if_removed(author(&entry), &effects.alarms);
        let tickets = shared.batcher.lock().applied(author(&entry));
        {
            let mut progress = shared.progress.lock();
            progress.unpersisted += effects.outcomes.len() as u64 + 1;
            progress.commands += effects.outcomes.len() as u64;
            progress.log_bytes += entry.bytes.len() as u64;
        }
        shared.alarms.lock().take_in(&effects.alarms);
        shared.checkpoints.lock().note(effects.applied.position, effects.applied.digest);
        let delivery = deliver(effects, tickets, removed).for_clients(Ticket::client);
        shared.applied.send_replace(core_position(entry.position));
        if delivered.send(delivery).is_err() {
            return shared.fail("the delivery thread ended".to_owned());
        }
        if removed {
            return;
        }
    }
}

fn deliver_all<T>(deliveries: &Receiver<Delivery<T>>, mut to: impl Deliver<T>) {
    while let Ok(delivery) = deliveries.recv() {
        to.deliver(delivery);
    }
}
