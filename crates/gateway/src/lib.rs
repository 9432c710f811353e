//! The door of a node: HTTP `/v1` and WebSocket `ieum.v1`.
//!
//! ```text
//!  socket ─► session task ─► Change ─► Command ─► Cell::submit            (this crate declares `Cell`; a node is one)
//!  socket ◄─ session task ◄─ queue ◄─ Hub::deliver ◄─ outcomes, events    (each event is encoded once for all sessions)
//! ```
//!
//! Bad input ends here: nothing reaches the cell that is not a well-formed command of somebody signed in.

pub mod apart;
pub mod cell;
pub mod hub;
pub mod limits;
pub mod map;
pub mod metrics;
pub mod options;
pub mod server;
pub mod session;
pub mod signals;

mod drain;
mod elsewhere;
mod http;
mod lanes;
mod passwords;
mod patient;
mod tokens;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ieum_core::apply::owner_of;
use ieum_core::ids::{DeviceId, Position, UserId};
use ieum_core::kv::{self, Read};
use ieum_core::tables::accounts::DEVICES;
use ieum_planted::Bug;
use ieum_protocol::errors::{Code, Problem};
use parking_lot::Mutex;

pub use cell::{Cell, Refused, Ticket};
pub use http::openapi;
pub use hub::Hub;
pub use options::{Options, Registration};
pub use tokens::SigningKeys;

/// Everything that sessions and requests of one node share.
pub struct Gateway<C> {
    cell: C,
    hub: Arc<Hub>,
    options: Options,
    keys: SigningKeys,
    passwords: passwords::Pool,
    /// Reads over HTTP.
    reads: Arc<lanes::Lane>,
    /// Hellos and the parts of the catch-ups behind them.
    hellos: Arc<lanes::Lane>,
    limits: limits::Limits,
    metrics: metrics::Metrics,
    /// Where the view stood when the gateway was made: what came later is delivered.
    began: Position,
    progress: Mutex<Progress>,
    stopping: tokio::sync::watch::Sender<bool>,
    /// It sends its clients elsewhere.
    draining: AtomicBool,
    /// Where other nodes take clients just now.
    elsewhere: elsewhere::Elsewhere,
    /// Who types.
    signals: signals::Signals,
}

/// Where the view stood when it was last looked at.
#[derive(Debug, Default)]
struct Progress {
    at: Position,
    since: Option<Instant>,
    /// What was applied by then and not delivered, if anything was.
    undelivered: Option<(Position, Instant)>,
    /// It has stood there for too long, or nothing of what is applied arrives.
    standstill: bool,
}

impl<C: Cell> Gateway<C> {
    /// The gateway of `cell`. `hub` must be given what the cell delivers.
    pub fn new(cell: C, hub: Arc<Hub>, options: Options, keys: SigningKeys) -> Arc<Self> {
        Arc::new(Self {
            began: cell.applied(),
            cell,
            hub,
            passwords: passwords::Pool::new(&options.passwords),
            reads: lanes::Lane::new(options.reads),
            hellos: lanes::Lane::new(options.hellos()),
            limits: limits::Limits::new(&options.limits),
            metrics: metrics::Metrics::default(),
            keys,
            options,
            progress: Mutex::default(),
            stopping: tokio::sync::watch::Sender::new(false),
            draining: AtomicBool::new(false),
            elsewhere: elsewhere::Elsewhere::default(),
            signals: signals::Signals::default(),
        })
    }

    /// Tells every client to come back elsewhere or later, and takes no new ones.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
        self.hub.end_all(Code::ShuttingDown);
    }

    /// Sessions that are connected.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.hub.sessions()
    }

    /// Runs `read` on a look at the view, off the threads that serve sockets, when it is the asker's turn.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        asker: &lanes::Asker,
        read: impl FnOnce(&C::View) -> kv::Result<T> + Send + 'static,
    ) -> Result<(T, Position), Problem> {
        let gateway = Arc::clone(self);
        let done = self.reads.run(asker, move || {
            let view = gateway.cell.view();
            let position = ieum_core::apply::applied(&view)?.position;
            Ok::<_, kv::Error>((read(&view)?, position))
        });
        done.await?.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "reading the view");
            Code::Internal.problem()
        })
    }

    /// Waits until the view is not older than what the client has seen, for a second.
    async fn catch_up_with(&self, seen: Option<Position>) -> Result<(), Problem> {
        let Some(seen) = seen.filter(|_| self.is_behind(seen)) else { return Ok(()) };
        match tokio::time::timeout(self.options.behind_patience, self.cell.reach(seen)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.behind()),
        }
    }

    /// Whether a client has seen what this node's view does not have yet.
    #[must_use]
    pub fn is_behind(&self, seen: Option<Position>) -> bool {
        seen.is_some_and(|seen| seen > self.cell.applied()) && !Bug::StaleAfterMoving.planted()
    }

    /// What a client is told that has waited for that for too long.
    #[must_use]
    pub fn behind(&self) -> Problem {
        self.problem(Code::Behind)
    }

    /// Whether this node takes sessions: not when it is stopping, or sends its clients elsewhere.
    fn still_here(&self) -> Result<(), Problem> {
        if *self.stopping.borrow() || self.is_draining() { Err(self.problem(Code::ShuttingDown)) } else { Ok(()) }
    }

    /// Whether the cell makes no progress just now.
    fn stalled(&self) -> bool {
        self.cell.waiting() >= self.options.stall_after || self.progress.lock().standstill
    }

    /// Whether what is read here may lack what was acknowledged elsewhere over two seconds ago.
    fn stale(&self) -> bool {
        self.stalled() || (self.cell.proven() >= self.options.stale_after && !Bug::ThawedLooksFresh.planted())
    }

    /// Looks at the cell and at every session once: those that the cell keeps waiting are told to try elsewhere, and those whose clients have
    /// gone silently are ended.
    pub fn watch(&self, now: Instant) {
        let applied = self.cell.applied();
        {
            let mut progress = self.progress.lock();
            if progress.at != applied || progress.since.is_none() {
                (progress.at, progress.since) = (applied, Some(now));
            }
            let delivered = self.hub.complete().max(self.began);
            if progress.undelivered.is_none_or(|(position, _)| position <= delivered) {
                let behind = applied > delivered && !Bug::DeliveryHangUnseen.planted();
                progress.undelivered = behind.then_some((applied, now));
            }
            let for_long = |since: Option<Instant>, bound| {
                since.is_some_and(|since| now.saturating_duration_since(since) >= bound)
            };
            progress.standstill = for_long(progress.since, self.options.standstill_after)
                || for_long(progress.undelivered.map(|(_, since)| since), self.options.stall_after);
        }
        let stalled = self.stalled();
        self.hub.each(|session| {
            if let Some(code) = session.due(stalled, self.options.silence, now) {
                session.end(code);
            }
        });
    }

    /// The problem with this code. Where another server may do better it names them.
    fn problem(&self, code: Code) -> Problem {
        self.told(code.problem())
    }
}

/// The device with this secret, if it is signed in.
fn check_secret(view: &impl Read, device: DeviceId, secret: &str) -> kv::Result<Option<UserId>> {
    let Some(hash) = hash_secret(secret) else { return Ok(None) };
    let Some(row) = DEVICES.get(view, &device)? else { return Ok(None) };
    // `blake3::Hash` compares in constant time.
    let same = blake3::Hash::from_bytes(row.secret_hash) == blake3::Hash::from_bytes(hash);
    Ok(if same { owner_of(view, device)? } else { None })
}

/// What the cell keeps of a secret: nothing that is not 32 bytes as base64url is one.
fn hash_secret(secret: &str) -> Option<[u8; 32]> {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(secret.as_bytes()).ok()?;
    (bytes.len() == 32).then(|| *blake3::hash(&bytes).as_bytes())
}
