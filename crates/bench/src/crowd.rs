//! Many clients of the real library in this process, and what is seen of them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ieum_client::store::Memory;
use ieum_client::{Client, CommandId, Delivery, State};
use ieum_protocol::frames::{Change, Event};
use tokio::sync::{Notify, mpsc};

use crate::error::Error;
use crate::server::Server;
use crate::world::TEXTS;

/// How long anything may take that must happen in the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the clients of a crowd report.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Messages acknowledged.
    pub(crate) acked: AtomicU64,
    /// Commands that failed for good.
    failed: AtomicU64,
    /// Messages that came to somebody other than their sender.
    pub(crate) heard: AtomicU64,
    /// Clients that are caught up.
    live: AtomicU64,
    /// Clients that lost their connection since [`Board::forget_losses`].
    lost: AtomicU64,
    /// Clients that stopped for good.
    stopped: AtomicU64,
    /// Why a connection ended last.
    why: Mutex<String>,
    changed: Notify,
}

impl Board {
    fn state(&self, state: &State, was_live: &mut bool) {
        match state {
            State::Live { .. } if !*was_live => {
                *was_live = true;
                self.live.fetch_add(1, Ordering::Relaxed);
            }
            State::Waiting { .. } | State::Stopped(_) => {
                if let Ok(mut why) = self.why.lock() {
                    *why = format!("{state:?}");
                }
                if std::mem::take(was_live) {
                    self.live.fetch_sub(1, Ordering::Relaxed);
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                if matches!(state, State::Stopped(_)) {
                    self.stopped.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => return,
        }
        self.changed.notify_one();
    }

    fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a client does with its deliveries besides reporting its state.
pub(crate) trait Role: Send + 'static {
    /// Something came.
    fn deliver(&mut self, delivery: &Delivery);
}

impl<F: FnMut(&Delivery) + Send + 'static> Role for F {
    fn deliver(&mut self, delivery: &Delivery) {
        self(delivery);
    }
}

/// Clients that are connected.
pub(crate) struct Crowd {
    pub(crate) clients: Vec<Client>,
    pub(crate) board: Arc<Board>,
}

impl Crowd {
    /// A crowd of nobody.
    pub(crate) fn new() -> Self {
        Self { clients: Vec::new(), board: Arc::default() }
    }

    /// One more client.
    pub(crate) fn add(
        &mut self,
        server: &Server,
        person: u32,
        foreground: bool,
        mut role: impl Role,
    ) -> Result<(), Error> {
        let board = Arc::clone(&self.board);
        let mut live = false;
        let observer = move |delivery: Delivery| {
            match &delivery {
                Delivery::State(state) => board.state(state, &mut live),
                Delivery::Outcome { result: Ok(_), .. } => board.count(&board.acked),
                Delivery::Outcome { result: Err(_), .. } => board.count(&board.failed),
                _ => {}
            }
            role.deliver(&delivery);
        };
        let options = server.options(person, foreground)?;
        let client = Client::observe(options, Memory::new(), observer).map_err(|e| Error::Client(e.to_string()))?;
        self.clients.push(client);
        Ok(())
    }

    /// Waits until all are caught up.
    pub(crate) async fn live(&self) -> Result<(), Error> {
        let all = self.clients.len() as u64;
        let there = self.until("clients are connected", || self.board.live.load(Ordering::Relaxed) == all);
        there.await
    }

    /// Waits until `done`, which is asked again whenever a client's connection changes and every few milliseconds.
    pub(crate) async fn until(&self, what: &str, done: impl Fn() -> bool) -> Result<(), Error> {
        let give_up = tokio::time::sleep(PATIENCE);
        tokio::pin!(give_up);
        while !done() {
            if self.board.stopped.load(Ordering::Relaxed) > 0 {
                return Err(Error::Client(self.why()));
            }
            tokio::select! {
                () = self.board.changed.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
                () = &mut give_up => {
                    let (live, all) = (self.board.live.load(Ordering::Relaxed), self.clients.len());
                    return Err(Error::Wrong(format!(
                        "not all {what} after {PATIENCE:?}; {live} of {all} clients are live; the last that was not: {}",
                        self.why()
                    )));
                }
            }
        }
        Ok(())
    }

    fn why(&self) -> String {
        self.board.why.lock().map(|why| why.clone()).unwrap_or_default()
    }

    /// Cuts every connection and gives the time until all clients are caught up again.
    pub(crate) async fn reconnect(&self) -> Result<Duration, Error> {
        let all = self.clients.len() as u64;
        self.board.lost.store(0, Ordering::Relaxed);
        let start = Instant::now();
        for client in &self.clients {
            client.reconnect().await;
        }
        let back = || self.board.lost.load(Ordering::Relaxed) >= all && self.board.live.load(Ordering::Relaxed) == all;
        self.until("clients are back", back).await?;
        Ok(start.elapsed())
    }

    /// Refuses figures of a run in which something failed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.board.failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => Err(Error::Wrong(format!("{failed} commands failed"))),
        }
    }

    /// Says goodbye everywhere.
    pub(crate) async fn close(self) {
        let closing: Vec<_> = self.clients.into_iter().map(|client| tokio::spawn(client.close())).collect();
        for closed in closing {
            // A client that does not close is no part of any figure.
            let _ = closed.await;
        }
    }
}

/// Pairs of people: the first writes, the second hears.
pub(crate) struct Pairs {
    pub(crate) crowd: Crowd,
    rooms: Vec<u64>,
    free: mpsc::UnboundedReceiver<u32>,
    sent: u128,
    /// For each pair when its message was sent, in microseconds since `start`, and what is still to come of it.
    trips: Arc<Vec<Trip>>,
    start: Instant,
    /// Microseconds from sending to delivery.
    pub(crate) delays: Arc<delays::Delays>,
    /// When the server was killed last, in microseconds since `start`.
    killed: Arc<AtomicU64>,
    /// Microseconds from there to each writer's first acknowledgement over a new connection.
    pub(crate) returns: Arc<delays::Delays>,
}

/// A message under way, for loads that wait for it.
#[derive(Debug, Default)]
struct Trip {
    sent: AtomicU64,
    awaited: AtomicU32,
}

mod delays {
    //! Delays as they come in, from one thread.

    use super::Mutex;

    /// Delays in microseconds.
    #[derive(Debug, Default)]
    pub(crate) struct Delays(Mutex<Vec<u64>>);

    impl Delays {
        pub(crate) fn add(&self, micros: u64) {
            if let Ok(mut delays) = self.0.lock() {
                delays.push(micros);
            }
        }

        /// What came in so far, sorted; and begins anew.
        pub(crate) fn take(&self) -> Vec<u64> {
            let mut delays = self.0.lock().map(|mut delays| std::mem::take(&mut *delays)).unwrap_or_default();
            delays.sort_unstable();
            delays
        }
    }
}

/// Watches a writer come back after a kill.
struct Back {
    start: Instant,
    killed: Arc<AtomicU64>,
    returns: Arc<delays::Delays>,
    /// When the connection was made that has not acknowledged anything yet; 0 for none.
    since: u64,
}

impl Back {
    fn see(&mut self, delivery: &Delivery) {
        match delivery {
            // Acknowledgements that the dead server sent come before this.
            Delivery::State(State::CatchingUp { .. }) => self.since = micros(self.start),
            Delivery::Outcome { result: Ok(_), .. } if self.since > 0 => {
                let killed = self.killed.load(Ordering::Relaxed);
                if killed > 0 && self.since > killed {
                    self.returns.add(micros(self.start) - killed);
                }
                self.since = 0;
            }
            _ => {}
        }
    }
}

/// When a pair's next message goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// When one was acknowledged.
    Acknowledged,
    /// When the last one was acknowledged to the one and came to the other.
    Delivered,
}

fn messages(delivery: &Delivery) -> u64 {
    match delivery {
        Delivery::Events { list, .. } => {
            list.iter().filter(|event| matches!(event, Event::Message { .. })).count() as u64
        }
        _ => 0,
    }
}

impl Pairs {
    /// Connects both people of each pair.
    pub(crate) async fn connect(server: &Server, pairs: &[(u32, u32, u64)], next: Next) -> Result<Self, Error> {
        let (freed, free) = mpsc::unbounded_channel();
        let mut crowd = Crowd::new();
        let mut rooms = Vec::new();
        let trips: Arc<Vec<Trip>> = Arc::new(pairs.iter().map(|_| Trip::default()).collect());
        let delays: Arc<delays::Delays> = Arc::default();
        let (killed, returns): (Arc<AtomicU64>, Arc<delays::Delays>) = Default::default();
        let start = Instant::now();
        for (pair, (one, other, room)) in (0u32..).zip(pairs) {
            rooms.push(*room);
            let done = {
                let (trips, freed) = (Arc::clone(&trips), freed.clone());
                move || {
                    let trip = trips.get(pair as usize);
                    let last = trip.is_some_and(|trip| trip.awaited.fetch_sub(1, Ordering::Relaxed) == 1);
                    if last || next == Next::Acknowledged {
                        let _ = freed.send(pair);
                    }
                }
            };
            let mut back = Back { start, killed: Arc::clone(&killed), returns: Arc::clone(&returns), since: 0 };
            let acknowledged = done.clone();
            crowd.add(server, *one, true, move |delivery: &Delivery| {
                back.see(delivery);
                if matches!(delivery, Delivery::Outcome { .. }) {
                    acknowledged();
                }
            })?;
            let (trips, delays, board) = (Arc::clone(&trips), Arc::clone(&delays), Arc::clone(&crowd.board));
            crowd.add(server, *other, true, move |delivery: &Delivery| {
                let came = messages(delivery);
                board.heard.fetch_add(came, Ordering::Relaxed);
                if came > 0 && next == Next::Delivered {
                    let sent = trips.get(pair as usize).map_or(0, |trip| trip.sent.load(Ordering::Relaxed));
                    delays.add(micros(start).saturating_sub(sent));
                    done();
                }
            })?;
        }
        crowd.live().await?;
        Ok(Self { crowd, rooms, free, sent: 0, trips, start, delays, killed, returns })
    }

    /// The person of each pair who writes.
    fn writer(&self, pair: u32) -> Option<(&Client, u64)> {
        let client = self.crowd.clients.get(pair as usize * 2)?;
        Some((client, *self.rooms.get(pair as usize)?))
    }

    fn send(&mut self, pair: u32) -> Result<(), Error> {
        self.sent += 1;
        let Some((client, room)) = self.writer(pair) else { return Ok(()) };
        if let Some(trip) = self.trips.get(pair as usize) {
            trip.awaited.store(2, Ordering::Relaxed);
            trip.sent.store(micros(self.start), Ordering::Relaxed);
        }
        let text = TEXTS.get(usize::try_from(self.sent % TEXTS.len() as u128).unwrap_or_default());
        let change = Change::Send { room, text: text.copied().unwrap_or_default().to_owned(), reply_to: None };
        client.try_post(CommandId(self.sent), change).map_err(|e| Error::Client(e.to_string()))
    }

    /// Puts so many messages of each pair under way.
    pub(crate) fn begin(&mut self, window: u32) -> Result<(), Error> {
        for pair in 0..u32::try_from(self.rooms.len()).unwrap_or(u32::MAX) {
            for _ in 0..window {
                self.send(pair)?;
            }
        }
        Ok(())
    }

    /// Keeps as many under way as there are, for `length`.
    pub(crate) async fn keep_going(&mut self, length: Duration) -> Result<(), Error> {
        let end = tokio::time::sleep(length);
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return Ok(()),
                pair = self.free.recv() => match pair {
                    Some(pair) => self.send(pair)?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// The server is killed now.
    pub(crate) fn killed_now(&self) {
        self.returns.take();
        self.killed.store(micros(self.start), Ordering::Relaxed);
    }

    /// Sends nothing more, and waits until everything sent is acknowledged, each once. What came during a catch-up was not counted.
    pub(crate) async fn settle_acknowledged(&mut self) -> Result<(), Error> {
        let sent = u64::try_from(self.sent).unwrap_or(u64::MAX);
        let acked = || self.crowd.board.acked.load(Ordering::Relaxed);
        self.crowd.until("messages are acknowledged", || acked() >= sent).await?;
        self.crowd.check()?;
        if acked() == sent { Ok(()) } else { Err(Error::Wrong(format!("{sent} sent, {} acknowledged", acked()))) }
    }

    /// Sends nothing more, and waits until everything sent is acknowledged and has come to its reader, each once.
    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        let sent = u64::try_from(self.sent).unwrap_or(u64::MAX);
        let board = &self.crowd.board;
        let seen = || (board.acked.load(Ordering::Relaxed), board.heard.load(Ordering::Relaxed));
        self.crowd.until("messages are acknowledged and delivered", || seen().0 >= sent && seen().1 >= sent).await?;
        while self.free.try_recv().is_ok() {}
        self.crowd.check()?;
        match seen() {
            (acked, heard) if acked == sent && heard == sent => Ok(()),
            (acked, heard) => Err(Error::Wrong(format!("{sent} sent, {acked} acknowledged, {heard} delivered"))),
        }
    }
}

/// Microseconds since `start`.
pub(crate) fn micros(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
