//! One life of the node: its machine, its gateway and the sessions that it serves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ieum_core::apply::applied;
use ieum_core::batch::{Batch, Envelope, Origin};
use ieum_core::commands::operate::Tick;
use ieum_core::ids::{NodeId, Position, UserId};
use ieum_core::kv::Kv;
use ieum_core::query::typing::Typing;
use ieum_gateway::hub::Arrival;
use ieum_gateway::options::{Limits, Passwords, Rate};
use ieum_gateway::session::hello::Asked;
use ieum_gateway::session::{Live, Opening};
use ieum_gateway::{Gateway, Hub, Options, Refused, SigningKeys};
use ieum_log::{BatchId, Room};
use ieum_node::batcher::{Append, Bounds, Refusal};
use ieum_node::machine::{self, Delivery, Machine};
use ieum_node::service::Identity;
use ieum_store::Memory;
use parking_lot::Mutex;

use crate::checker::{self, Budget};
use crate::failure::{Check, broken};
use crate::network::Link;
use crate::world::Telling;

/// The cell's number.
pub(crate) const CELL: u16 = 1;

/// So many commands wait for a batch at most.
pub(crate) const MOST_WAITING: usize = 200;
/// What a device may ask a second, and at once.
pub(crate) const RATE: (u32, u32) = (5, 40);
/// What may wait in a session.
const QUEUE_ITEMS: usize = 64;
const QUEUE_BYTES: usize = 64 * 1024;

/// Who waits for an outcome; nobody for the node's own commands.
pub(crate) type Ticket = Option<ieum_gateway::Ticket>;

/// The machine as the gateway uses it.
#[derive(Clone)]
pub(crate) struct Cell(Arc<Shared>);

struct Shared {
    machine: Mutex<Machine<Memory, Ticket>>,
    /// The node's monotonic time counts from here.
    started: u64,
    now: AtomicU64,
    /// How many commands wait for a batch, counted in lives in which people type.
    waiting: AtomicUsize,
    /// Who types here, to be told to the others.
    typing: Mutex<Vec<Typing>>,
}

impl ieum_gateway::Cell for Cell {
    type View = <Memory as Kv>::Snapshot;

    fn view(&self) -> Self::View {
        self.0.machine.lock().view().snapshot()
    }

    fn submit(&self, envelope: &Envelope, ticket: ieum_gateway::Ticket) -> Result<(), (Refused, ieum_gateway::Ticket)> {
        match self.0.machine.lock().submit(envelope, Some(ticket), self.now()) {
            Err((Refusal::Full, Some(ticket))) => Err((Refused::Busy, ticket)),
            Err((Refusal::TooLarge, Some(ticket))) => Err((Refused::TooLarge, ticket)),
            _ => {
                self.0.waiting.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn applied(&self) -> Position {
        // The store in memory does not fail when it is read.
        applied(&self.view()).map(|applied| applied.position).unwrap_or_default()
    }

    async fn reach(&self, _: Position) {}

    fn waiting(&self) -> Duration {
        let oldest = self.0.machine.lock().oldest();
        Duration::from_millis(oldest.map_or(0, |since| self.now().saturating_sub(since)))
    }

    fn proven(&self) -> Duration {
        let proven = self.0.machine.lock().proven();
        Duration::from_millis(self.now().saturating_sub(proven))
    }

    fn is_calm(&self) -> bool {
        self.0.machine.lock().is_calm()
    }

    fn signal(&self, typing: &[(Typing, Vec<UserId>)]) {
        self.0.typing.lock().extend(typing.iter().map(|(typing, _)| *typing));
    }

    fn metrics(&self, _: &mut String) {}
}

impl Cell {
    fn now(&self) -> u64 {
        self.0.now.load(Ordering::Relaxed)
    }

    /// Runs the machine at time `now`.
    pub(crate) fn at<T>(&self, now: u64, run: impl FnOnce(&mut Machine<Memory, Ticket>, u64) -> T) -> T {
        self.pass(now);
        run(&mut self.0.machine.lock(), self.now())
    }

    /// How many commands wait for a batch.
    pub(crate) fn commands_wait(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// A batch has taken some of them.
    pub(crate) fn are_taken(&self, batch: &[u8]) {
        let taken = Batch::decode(batch).map_or(0, |batch| batch.commands.len());
        self.0.waiting.fetch_sub(taken, Ordering::Relaxed);
    }

    /// Who types here, as was told since this was asked last.
    pub(crate) fn signals(&self) -> Vec<Typing> {
        std::mem::take(&mut *self.0.typing.lock())
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, now: u64) {
        self.0.now.store(now.saturating_sub(self.0.started), Ordering::Relaxed);
    }
}

/// A connection as the node serves it.
pub(crate) enum Serving {
    /// The hello has not come yet.
    Greeting { since: u64 },
    /// The view is behind what the client has seen.
    Behind { asked: Box<Asked>, arrival: Arrival, since: u64 },
    /// What its client asks for is read.
    Reads { asked: Box<Asked>, arrival: Arrival },
    /// It is being brought up to the view.
    Opening(Box<Opening<<Memory as Kv>::Snapshot>>),
    /// Its live stream has begun.
    Live(Box<Live>),
}

/// One life of the node.
pub(crate) struct Node {
    pub(crate) cell: Cell,
    pub(crate) hub: Arc<Hub>,
    pub(crate) gateway: Arc<Gateway<Cell>>,
    /// Which of the node's lives it is to the log.
    incarnation: u64,
    /// A batch of this life has come back: clients are let in.
    pub(crate) begun: bool,
    pub(crate) in_flight: Option<Append>,
    /// What the log's room was when it was asked last, if it tells.
    pub(crate) room: Option<Room>,
    /// Counts answers to appends, so that a late one is told apart.
    pub(crate) attempts: u64,
    pub(crate) undelivered: VecDeque<Delivery<Ticket>>,
    pub(crate) sessions: BTreeMap<Link, Serving>,
    /// When a batch of its own was applied last.
    pub(crate) own_at: u64,
    /// Since when nothing is delivered although something waits for it.
    pub(crate) undelivered_since: Option<u64>,
    /// Deliveries stand still until then.
    pub(crate) delivery_hangs_until: u64,
    /// How many sessions there may be, and what may wait in one.
    pub(crate) most_sessions: usize,
    pub(crate) queue: (usize, usize),
    /// What each device may still ask.
    pub(crate) budgets: BTreeMap<usize, Budget>,
    /// In which order hellos came, by connection.
    pub(crate) greeted: BTreeMap<Link, u64>,
    pub(crate) hellos: u64,
    /// Since when a client does not take what it is sent.
    pub(crate) untaken_since: BTreeMap<Link, u64>,
    /// Who types, as those see it who look on, and how far the node is in telling it.
    pub(crate) typing: checker::Typing,
    pub(crate) telling: Telling,
}

impl Node {
    /// Starts over a view that has come to the log's end, as the `incarnation` that the log gave it, of a build that knows levels up to `known`.
    pub(crate) fn start(
        (identity, known): (&Identity, u32),
        incarnation: u64,
        view: &Memory,
        endpoints: Vec<String>,
        most_sessions: usize,
        now: u64,
    ) -> Check<Self> {
        let view = Arc::new(view.clone());
        let bounds = Bounds { commands: MOST_WAITING, bytes: 256 * 1024, ..Bounds::default() };
        let mut machine = Machine::new(identity.node, incarnation, Arc::clone(&view), bounds)?.knowing(known);
        let greeting = machine::greeting_knowing(known, &view.snapshot(), identity)?;
        for envelope in &greeting {
            if machine.submit(envelope, None, 0).is_err() {
                return broken("a new node does not take its own commands");
            }
        }
        let shared = Shared {
            machine: Mutex::new(machine),
            started: now,
            now: AtomicU64::new(0),
            waiting: AtomicUsize::new(greeting.len()),
            typing: Mutex::default(),
        };
        let cell = Cell(Arc::new(shared));
        let hub = Hub::new();
        let Some(keys) = SigningKeys::from_seed(&[7; 32]) else { return broken("no signing key") };
        Ok(Self {
            gateway: Gateway::new(cell.clone(), Arc::clone(&hub), options(endpoints, most_sessions), keys),
            cell,
            hub,
            incarnation,
            begun: false,
            in_flight: None,
            room: None,
            attempts: 0,
            undelivered: VecDeque::new(),
            sessions: BTreeMap::new(),
            own_at: now,
            undelivered_since: None,
            delivery_hangs_until: 0,
            most_sessions,
            queue: (QUEUE_ITEMS, QUEUE_BYTES),
            budgets: BTreeMap::new(),
            greeted: BTreeMap::new(),
            hellos: 0,
            untaken_since: BTreeMap::new(),
            typing: checker::Typing::new(now),
            telling: Telling::Idle,
        })
    }

    /// Whether a batch is one of this life's.
    pub(crate) fn is_own(&self, id: BatchId, number: NodeId) -> bool {
        (id.node, id.incarnation) == (number, self.incarnation)
    }

    /// A second has passed.
    pub(crate) fn tick(&self, now: u64) {
        let envelope = Envelope { origin: Origin::Node, command: Tick {}.into() };
        // A full batcher has stamps enough.
        if self.cell.at(now, |machine, now| machine.submit(&envelope, None, now)).is_ok() {
            self.cell.0.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Who a node is.
pub(crate) fn identity(node: NodeId, dc: String) -> Identity {
    Identity { node, dc, cell: CELL, key_id: node.into(), public_key: [1; 32] }
}

/// Small bounds, so that all of them are met.
fn options(endpoints: Vec<String>, sessions: usize) -> Options {
    let defaults = Options::default();
    Options {
        endpoints,
        passwords: Passwords { memory_kib: 8, passes: 1, ..defaults.passwords },
        limits: Limits { commands: Rate { per_second: RATE.0, burst: RATE.1 }, sessions, ..defaults.limits },
        queue_items: QUEUE_ITEMS,
        queue_bytes: QUEUE_BYTES,
        ..defaults
    }
}
