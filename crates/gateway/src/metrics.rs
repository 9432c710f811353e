//! What the gateway counts, for `/metrics`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// WebSocket connections opened.
    pub sessions_opened: AtomicU64,
    /// HTTP requests answered with a status below 400.
    pub requests_ok: AtomicU64,
    /// HTTP requests answered with a status of 400 or more.
    pub requests_failed: AtomicU64,
    /// Connections turned away.
    pub turned_away: AtomicU64,
}

/// Appends one figure to a page in Prometheus' text format.
pub fn figure(page: &mut String, kind: &str, name: &str, help: &str, value: impl std::fmt::Display) {
    // Writing to a string does not fail.
    let _ = writeln!(page, "# HELP ieum_{name} {help}\n# TYPE ieum_{name} {kind}\nieum_{name} {value}");
}

impl Metrics {
    /// What is told of who types, and what of it is not.
    pub(crate) fn signals(page: &mut String, told: u64, shed: u64) {
        figure(page, "counter", "typing_total", "Frames put into sessions' queues that say who types.", told);
        let help = "Who was said to type, here or by other nodes, and told to no session here: there was too much of it or else to do.";
        figure(page, "counter", "typing_shed_total", help, shed);
    }

    pub(crate) fn page(&self, page: &mut String, sessions: usize, delivered: u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        figure(page, "gauge", "sessions", "Sessions, from their hello on.", sessions);
        figure(page, "counter", "sessions_opened_total", "WebSocket connections opened.", load(&self.sessions_opened));
        figure(page, "counter", "connections_refused_total", "Connections turned away.", load(&self.turned_away));
        figure(page, "counter", "events_total", "Events put into sessions' queues.", delivered);
        figure(page, "counter", "requests_ok_total", "HTTP requests answered.", load(&self.requests_ok));
        figure(page, "counter", "requests_failed_total", "HTTP requests refused.", load(&self.requests_failed));
    }
}
