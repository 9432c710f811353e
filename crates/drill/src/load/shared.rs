//! What everybody in the crowd shares.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use ieum_client::store::Identity;
use ieum_client::{Endpoint, Http, State, Trust};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Dc;
use super::book::{Book, one_line};

/// The book, what is known of the rooms, and who is still waiting for something.
pub(super) struct Shared {
    pub(super) book: Book,
    pub(super) dcs: Vec<Dc>,
    /// People write and probes begin.
    pub(super) going: AtomicBool,
    /// Probes and pages that are under way.
    pub(super) under_way: AtomicUsize,
    /// The highest acknowledged message of each room.
    newest: Mutex<HashMap<u64, u64>>,
    clients: AtomicU32,
    news: Notify,
}

impl Shared {
    pub(super) fn new(book: Book, dcs: Vec<Dc>) -> Self {
        Self {
            book,
            dcs,
            going: AtomicBool::new(true),
            under_way: AtomicUsize::new(0),
            newest: Mutex::default(),
            clients: AtomicU32::new(0),
            news: Notify::new(),
        }
    }

    /// A number for one more client.
    pub(super) fn next_client(&self) -> u32 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn goes(&self) -> bool {
        self.going.load(Ordering::SeqCst)
    }

    /// All nodes, those of one data center first.
    pub(super) fn endpoints(&self, first: usize) -> Vec<Endpoint> {
        let own = self.dcs.get(first).into_iter();
        let others = self.dcs.iter().enumerate().filter(|(at, _)| *at != first).map(|(_, dc)| dc);
        own.chain(others).flat_map(|dc| dc.endpoints.iter().cloned()).collect()
    }

    pub(super) fn dc(&self, at: usize) -> &str {
        self.dcs.get(at).map_or("?", |dc| &dc.name)
    }

    /// HTTP as this device.
    pub(super) async fn http(&self, dc: usize, identity: &Identity) -> Http {
        let http = Http::new(self.endpoints(dc), Trust::web());
        http.use_identity(identity.clone()).await;
        http
    }

    pub(super) fn acknowledged(&self, room: u64, seq: u64) {
        let mut newest = self.newest.lock();
        let newest = newest.entry(room).or_default();
        *newest = (*newest).max(seq);
    }

    pub(super) fn newest(&self, room: u64) -> u64 {
        self.newest.lock().get(&room).copied().unwrap_or(0)
    }

    pub(super) fn note(&self, line: fmt::Arguments<'_>) {
        self.book.note(line);
    }

    /// Writes down how a client's connection stands.
    pub(super) fn note_state(&self, client: u32, state: &State) {
        match state {
            State::Waiting { why, for_ms } => {
                let why = why.as_ref().map_or_else(|| "begins".to_owned(), |why| one_line(&format!("{why:?}")));
                self.note(format_args!("c {client} waiting {for_ms} {why}"));
            }
            State::Connecting { endpoint } => self.note(format_args!("c {client} connecting {endpoint}")),
            State::CatchingUp { endpoint, .. } => self.note(format_args!("c {client} catching_up {endpoint}")),
            State::Live { endpoint } => self.note(format_args!("c {client} live {endpoint}")),
            State::Stopped(stop) => self.note(format_args!("c {client} stopped {}", one_line(&stop.to_string()))),
        }
    }

    /// Wakes [`Self::wait`].
    pub(super) fn tell(&self) {
        self.news.notify_one();
    }

    /// Something is under way that the end waits for.
    pub(super) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::SeqCst);
    }

    /// It is over.
    pub(super) fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        self.tell();
    }

    /// Waits until something is so; whether it came in time.
    pub(super) async fn wait(&self, patience: Duration, come: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + patience;
        while !come() {
            if tokio::time::timeout_at(deadline, self.news.notified()).await.is_err() {
                return come();
            }
        }
        true
    }
}
