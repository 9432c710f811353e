//! What an operator may set about a gateway.

use std::time::Duration;

use crate::signals;

/// Who may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Anybody.
    Open,
    /// Whoever has an invitation code.
    Invitation,
    /// Nobody.
    Closed,
}

/// What an operator may set about a gateway.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who may register.
    pub registration: Registration,
    /// Where clients find the cell's servers, this one among them: base addresses such as `https://a.example`.
    pub endpoints: Vec<String>,
    /// Whether figures are shown by [`crate::apart`] alone, and not where clients come in.
    pub metrics_apart: bool,
    /// For how long an access token is good.
    pub token_life: Duration,
    /// How passwords are hashed.
    pub passwords: Passwords,
    /// How reads over HTTP are done.
    pub reads: Lane,
    /// How many sessions are signed in or caught up at once. Others wait, as many as there may be sessions.
    pub hellos_at_once: usize,
    /// Of these, one account's whose hello was accepted: the later parts of its devices' catch-ups.
    pub catch_ups: Turns,
    /// How much one device or address may do.
    pub limits: Limits,
    /// Events and answers that may wait in a session, at most.
    pub queue_items: usize,
    /// Their bytes, at most.
    pub queue_bytes: usize,
    /// After so long without an outcome the cell counts as stalled.
    pub stall_after: Duration,
    /// After so long without any batch from the log, in which every node logs a tick per second, the cell counts as stalled too.
    pub standstill_after: Duration,
    /// What is read is marked when it is longer ago that the view was proven to have everything. The node's own tick proves it each second.
    pub stale_after: Duration,
    /// How long a request waits for a view that is behind what its client has seen.
    pub behind_patience: Duration,
    /// How long a session that is sent elsewhere may wait for what is under way.
    pub drain_patience: Duration,
    /// How long a request over HTTP waits for its outcome.
    pub outcome_patience: Duration,
    /// A session that is silent for so long is over.
    pub silence: Duration,
    /// How often a person may tell that they type in a room, through whichever of their devices; what is said sooner is passed over.
    pub typing_every: Duration,
    /// Who types is told to nobody when looking up who may hear it takes longer: somebody may have been removed meanwhile.
    pub typing_patience: Duration,
    /// A session that was heard so lately is in front of somebody: it is told who types, and its person is there.
    pub in_front: Duration,
    /// A client that has not said hello, has not sent a whole request, or does not take what it is sent, is given up after so long.
    pub patience: Duration,
}

/// How passwords are hashed with Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passwords {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// At most so many at once.
    pub at_once: usize,
    /// At most so many more that wait; beyond them clients are told to come back.
    pub waiting: usize,
    /// Of these, those of one account, which changes its password, or of one address.
    pub each: Turns,
}

/// How many threads one kind of work has, and how many may wait for them. Whoever comes on top is told to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// At most so many at once.
    pub at_once: usize,
    /// At most so many more that wait.
    pub waiting: usize,
    /// Of these, one account's, where it has a bound of its own.
    pub account: Option<Turns>,
    /// Of these, those from one address that are not signed in; looking whose a token is counts here.
    pub address: Option<Turns>,
}

/// How much of a [`Lane`] one asker may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// At most so many at once.
    pub at_once: usize,
    /// At most so many more that wait.
    pub waiting: usize,
}

/// How much one device or address may do. A rate is what comes back per second, a burst how much may be saved up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Commands per device.
    pub commands: Rate,
    /// Hellos per device, with the right secret.
    pub hellos: Rate,
    /// Frames per session. Beyond it the client is not read.
    pub frames: Rate,
    /// Bytes of them.
    pub frame_bytes: Rate,
    /// HTTP requests per address.
    pub requests: Rate,
    /// Registrations and sign-ins per address.
    pub sign_ins: Rate,
    /// Connections per address.
    pub sessions_per_address: usize,
    /// Those of them that are no sessions: before their hello is accepted, and HTTP.
    pub sessionless_per_address: usize,
    /// Sessions in all, from their hello on.
    pub sessions: usize,
    /// Connections in all: sessions, those that have not said hello, and HTTP.
    pub connections: usize,
}

/// A token bucket's size and filling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Per second.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            registration: Registration::Open,
            endpoints: Vec::new(),
            metrics_apart: false,
            token_life: Duration::from_secs(15 * 60),
            passwords: Passwords {
                memory_kib: 19 * 1024,
                passes: 2,
                at_once: 2,
                waiting: 64,
                each: Turns { at_once: 1, waiting: 8 },
            },
            reads: Lane {
                at_once: 6,
                waiting: 4_096,
                account: Some(Turns { at_once: 2, waiting: 32 }),
                address: Some(Turns { at_once: 4, waiting: 2_048 }),
            },
            hellos_at_once: 6,
            // Each of an account's 20 devices has one session, which waits for one part at a time.
            catch_ups: Turns { at_once: 2, waiting: 64 },
            limits: Limits {
                commands: Rate { per_second: 50, burst: 500 },
                // A client that backs off as docs/protocol/delivery.md says has half of one a second at most for long.
                hellos: Rate { per_second: 1, burst: 60 },
                frames: Rate { per_second: 2_000, burst: 4_000 },
                // All that a client may have under way, in frames as large as they may be: its pings behind them must not wait.
                frame_bytes: Rate { per_second: 4 << 20, burst: 16 << 20 },
                requests: Rate { per_second: 200, burst: 2_000 },
                sign_ins: Rate { per_second: 2, burst: 30 },
                sessions_per_address: 5_000,
                // Behind one address may be thousands, who come back together after an outage and are no sessions for a moment each.
                // 10,000 from one address that come back in the same moment were back in 3.5 s with this bound and in 1.6 s without.
                sessionless_per_address: 2_000,
                sessions: 18_000,
                connections: 19_000,
            },
            queue_items: 8_192,
            queue_bytes: 2 * 1024 * 1024,
            stall_after: Duration::from_millis(1_500),
            standstill_after: Duration::from_millis(1_800),
            stale_after: Duration::from_secs(2),
            behind_patience: Duration::from_secs(1),
            drain_patience: Duration::from_secs(1),
            outcome_patience: Duration::from_millis(2_000),
            silence: Duration::from_secs(120),
            typing_every: Duration::from_millis(ieum_protocol::TYPING_EVERY_MS),
            typing_patience: Duration::from_secs(1),
            in_front: Duration::from_secs(5),
            patience: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// How many threads the gateway's blocking work takes at most. With as many for it, no kind of work waits for another.
    #[must_use]
    pub fn threads(&self) -> usize {
        [self.reads.at_once, self.hellos_at_once, self.passwords.at_once, signals::THREADS]
            .iter()
            .map(|threads| (*threads).max(1))
            .sum()
    }

    pub(crate) fn hellos(&self) -> Lane {
        let (at_once, waiting) = (self.hellos_at_once, self.limits.sessions);
        // Before hello nobody is known, and thousands may be behind an address.
        Lane { at_once, waiting, account: Some(self.catch_ups), address: None }
    }
}

impl Passwords {
    pub(crate) fn lane(&self) -> Lane {
        let each = Some(self.each);
        Lane { at_once: self.at_once, waiting: self.waiting, account: each, address: each }
    }
}
