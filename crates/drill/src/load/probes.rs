//! Probes: a message from one to another, a device that comes back, a new device. Each begins by the clock, whether those before it are done or not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ieum_client::store::{Identity, Memory as Store, Saved};
use ieum_client::{Client, Delivery, Http, Options, Position, State, Trust};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior};

use super::book::one_line;
use super::crowd::Probes;
use super::hearing::Hearing;
use super::shared::Shared;
use crate::error::Error;

/// One message in so many goes into the square instead.
const TO_SQUARE: usize = 5;
/// Between two tries of a person to sign in.
const AGAIN: Duration = Duration::from_millis(200);

/// How many probes began and succeeded.
#[derive(Default)]
pub(super) struct Counts {
    begun: AtomicU64,
    came_back: AtomicU64,
    signed_in: AtomicU64,
}

impl Counts {
    /// Whether every kind has succeeded.
    pub(super) fn all_work(&self) -> bool {
        self.came_back.load(Ordering::SeqCst) > 0 && self.signed_in.load(Ordering::SeqCst) > 0
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

/// The probe of `send_receive`: the pairs take turns.
pub(super) async fn send(probes: Arc<Probes>, shared: Arc<Shared>, period: Duration) {
    let mut ticks = every(period);
    for turn in 0.. {
        ticks.tick().await;
        if !shared.goes() {
            return;
        }
        let into_square = turn % TO_SQUARE == TO_SQUARE - 1;
        let at = if into_square { 0 } else { turn % probes.pairs.len().max(1) };
        let Some((one, _)) = probes.pairs.get(at) else { return };
        if let Some(room) = if into_square { Some(&probes.square) } else { one.rooms.first() } {
            one.say(*room);
        }
    }
}

/// A device that comes back again and again.
pub(super) struct Rejoiner {
    client: u32,
    dc: usize,
    identity: Identity,
    square: u64,
    memory: Mutex<Away>,
}

/// What it has, and what it waits for.
struct Away {
    hearing: Hearing,
    cursor: Option<Position>,
    live: bool,
    /// It wants this message of the square.
    wanted: u64,
    done: Option<oneshot::Sender<bool>>,
}

impl Rejoiner {
    pub(super) fn new(client: u32, dc: usize, identity: Identity, square: u64, shared: &Arc<Shared>) -> Self {
        let hearing = Hearing::new(client, Arc::clone(shared));
        let away = Away { hearing, cursor: None, live: false, wanted: 0, done: None };
        Self { client, dc, identity, square, memory: Mutex::new(away) }
    }
}

/// Whoever does again and again what is measured.
pub(super) trait Probe: Send + Sync + 'static {
    /// What is measured.
    const FUNCTION: &'static str;

    fn dc(&self) -> usize;

    /// How often it succeeded.
    fn succeeded(counts: &Counts) -> &AtomicU64;

    /// Does it once; whether it succeeded. Who did not stays out, and its probe stays without an end.
    fn run(self: Arc<Self>, shared: Arc<Shared>, probe: u64) -> impl Future<Output = bool> + Send;
}

/// Has whoever is free of `all` do it, once a period.
pub(super) async fn probe<P: Probe>(all: Vec<Arc<P>>, counts: Arc<Counts>, shared: Arc<Shared>, period: Duration) {
    let dc = all.first().map_or("?", |probe| shared.dc(probe.dc())).to_owned();
    let free = Arc::new(Mutex::new(VecDeque::from(all)));
    let mut ticks = every(period);
    loop {
        ticks.tick().await;
        if !shared.goes() {
            return;
        }
        let Some(next) = free.lock().pop_front() else {
            shared.note(format_args!("n {} {dc}", P::FUNCTION));
            continue;
        };
        let (free, counts, shared) = (Arc::clone(&free), Arc::clone(&counts), Arc::clone(&shared));
        shared.begin();
        tokio::spawn(async move {
            let probe = counts.begun.fetch_add(1, Ordering::SeqCst);
            if Arc::clone(&next).run(Arc::clone(&shared), probe).await {
                P::succeeded(&counts).fetch_add(1, Ordering::SeqCst);
                free.lock().push_back(next);
            }
            shared.end();
        });
    }
}

/// The app is opened on a device that was away, and has, once it is live, everything that was acknowledged to others before.
impl Probe for Rejoiner {
    const FUNCTION: &'static str = "sync";

    fn dc(&self) -> usize {
        self.dc
    }

    fn succeeded(counts: &Counts) -> &AtomicU64 {
        &counts.came_back
    }

    async fn run(self: Arc<Self>, shared: Arc<Shared>, probe: u64) -> bool {
        rejoin(&self, &shared, probe).await.unwrap_or_else(|error| {
            let dc = shared.dc(self.dc);
            shared.note(format_args!("p {dc}-{probe} {}", one_line(&error.to_string())));
            false
        })
    }
}

/// Whether the client became live; it did not when it stopped for good.
async fn rejoin(rejoiner: &Arc<Rejoiner>, shared: &Arc<Shared>, probe: u64) -> Result<bool, Error> {
    let dc = shared.dc(rejoiner.dc);
    shared.note(format_args!("b {dc}-{probe} sync {dc} {}", rejoiner.client));
    let (done, became) = oneshot::channel();
    let cursor = {
        let mut memory = rejoiner.memory.lock();
        memory.live = false;
        memory.wanted = shared.newest(rejoiner.square);
        memory.done = Some(done);
        memory.cursor.clone()
    };
    let saved = Saved { seen: cursor.clone(), cursor, ..Saved::default() };
    let mut options = Options::new(shared.endpoints(rejoiner.dc)).identity(rejoiner.identity.clone());
    options.home = options.endpoints.first().cloned();
    let (taker, shared_by) = (Arc::clone(rejoiner), Arc::clone(shared));
    let client = Client::observe(options, Store::with(saved), move |delivery: Delivery| {
        taker.take(&delivery, &shared_by, probe);
    });
    let client = client.map_err(|error| Error::other("opening a client", error.to_string()))?;
    let live = became.await.unwrap_or(false);
    client.close().await;
    Ok(live)
}

impl Rejoiner {
    fn take(&self, delivery: &Delivery, shared: &Shared, probe: u64) {
        let mut memory = self.memory.lock();
        if memory.done.is_none() {
            // It is being closed; what comes now comes again next time, because the cursor stays.
            return;
        }
        memory.hearing.hear(delivery);
        match delivery {
            Delivery::CaughtUp { pos } | Delivery::Events { pos, .. } => memory.cursor = Some(Position::read(pos)),
            Delivery::Resync => memory.cursor = None,
            Delivery::State(State::Live { .. }) => memory.live = true,
            Delivery::State(State::Stopped(_)) => {
                if let Some(done) = memory.done.take() {
                    let _ = done.send(false);
                }
            }
            Delivery::State(_) => memory.live = false,
            _ => {}
        }
        if memory.live && memory.hearing.reached(self.square) >= memory.wanted {
            shared.note(format_args!("e {}-{probe}", shared.dc(self.dc)));
            if let Some(done) = memory.done.take() {
                let _ = done.send(true);
            }
        }
    }
}

/// An account that gets new devices.
pub(super) struct Newcomer {
    pub(super) dc: usize,
    pub(super) user: u64,
    pub(super) handle: String,
    pub(super) password: String,
    pub(super) square: u64,
}

/// Somebody signs in on a new device, with the password, and has the last messages.
impl Probe for Newcomer {
    const FUNCTION: &'static str = "login";

    fn dc(&self) -> usize {
        self.dc
    }

    fn succeeded(counts: &Counts) -> &AtomicU64 {
        &counts.signed_in
    }

    async fn run(self: Arc<Self>, shared: Arc<Shared>, probe: u64) -> bool {
        self.come(&shared, probe).await
    }
}

impl Newcomer {
    async fn come(&self, shared: &Arc<Shared>, probe: u64) -> bool {
        let (dc, client) = (shared.dc(self.dc), shared.next_client());
        let name = format!("{dc}-{probe}");
        shared.note(format_args!("u {client} {dc} {} newcomer", self.user));
        shared.note(format_args!("b {name} login {dc} {client}"));
        let wanted = shared.newest(self.square);
        let http = Http::new(shared.endpoints(self.dc), Trust::web());
        let mut failures = 0;
        let identity = loop {
            match http.sign_in(&self.handle, &self.password, "probe").await {
                Ok(identity) => break identity,
                Err(error) => {
                    failures += 1;
                    shared.note(format_args!("p {name} failed: {}", one_line(&error.to_string())));
                    if !shared.goes() {
                        return false;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        shared.note(format_args!("p {name} signed_in"));
        let live = self.live(shared, &name, client, &identity, (wanted, http.seen().await)).await;
        tidy(&http, &identity, failures > 0).await;
        live
    }

    /// Opens the app on the new device, until it has everything that was acknowledged to others before.
    async fn live(
        &self,
        shared: &Arc<Shared>,
        name: &str,
        client: u32,
        identity: &Identity,
        (wanted, seen): (u64, Option<String>),
    ) -> bool {
        let mut options = Options::new(shared.endpoints(self.dc)).identity(identity.clone());
        options.home = options.endpoints.first().cloned();
        options.seen = seen;
        let (done, became) = oneshot::channel();
        let (mut done, mut live) = (Some(done), false);
        let mut hearing = Hearing::new(client, Arc::clone(shared));
        let (noting, name, square) = (Arc::clone(shared), name.to_owned(), self.square);
        let opened = Client::observe(options, Store::new(), move |delivery: Delivery| {
            if done.is_none() {
                return;
            }
            hearing.hear(&delivery);
            if let Delivery::State(state) = &delivery {
                live = matches!(state, State::Live { .. });
                if matches!(state, State::Stopped(_)) {
                    // The receiver learns of it by the end of the sender.
                    done = None;
                }
            }
            if live && hearing.reached(square) >= wanted {
                noting.note(format_args!("e {name}"));
                if let Some(done) = done.take() {
                    let _ = done.send(());
                }
            }
        });
        let Ok(opened) = opened else { return false };
        let live = became.await.is_ok();
        opened.close().await;
        live
    }
}

/// Logs the device out again, and those that tries without an answer may have left.
async fn tidy(http: &Http, identity: &Identity, all: bool) {
    if all && let Ok(devices) = http.devices().await {
        for device in devices.iter().filter(|device| device.name == "probe" && device.id != identity.device) {
            let _ = http.log_out(device.id).await;
        }
    }
    // One that stays takes one of the account's twenty places, and nothing else.
    let _ = http.log_out(identity.device).await;
}
