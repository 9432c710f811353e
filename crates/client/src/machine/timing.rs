//! How long the client waits for what.

/// The waits, in milliseconds. The defaults are the ones that clients ship with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two pings while somebody looks.
    pub ping_ms: u64,
    /// Between two pings while nobody looks.
    pub ping_background_ms: u64,
    /// Nothing heard for so long after a ping: the server is given up.
    pub silence_ms: u64,
    /// Nothing heard for so long after a ping, or for twice as long as the slowest of the last answers: another server is tried beside this
    /// one, and gone to if it takes the connection before this one is heard again. Only while somebody looks.
    pub doubt_ms: u64,
    /// No welcome for so long: another server is tried beside that one. Only while somebody looks, and in the first round.
    pub hedge_ms: u64,
    /// A session elsewhere goes back to the server that the app likes best after half of this and a random part of it.
    pub home_ms: u64,
    /// For a connection, and again for the welcome on it; doubles with each round through the servers.
    pub answer_ms: u64,
    /// The most that the former grows to.
    pub answer_cap_ms: u64,
    /// The first wait between two attempts is a random part of this; it doubles with each round through the servers.
    pub backoff_ms: u64,
    /// The most that the former grows to while somebody looks.
    pub backoff_cap_ms: u64,
    /// The most that it grows to while nobody looks.
    pub backoff_cap_background_ms: u64,
    /// A session of this length makes the next wait a short one again.
    pub settled_ms: u64,
    /// Commands were sent and none was answered for so long, although the server is there: it is given up. A server says within
    /// two seconds when it cannot keep up, so this shows only a broken one.
    pub outcome_ms: u64,
    /// How often a cursor that moves without events is stored.
    pub cursor_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_ms: 1_000,
            ping_background_ms: 30_000,
            silence_ms: 1_500,
            doubt_ms: 500,
            hedge_ms: 300,
            home_ms: 300_000,
            answer_ms: 2_000,
            answer_cap_ms: 10_000,
            backoff_ms: 200,
            backoff_cap_ms: 5_000,
            backoff_cap_background_ms: 60_000,
            settled_ms: 2_000,
            outcome_ms: 10_000,
            cursor_ms: 60_000,
        }
    }
}

impl Timing {
    /// Between two pings.
    pub(super) fn ping(&self, foreground: bool) -> u64 {
        if foreground { self.ping_ms } else { self.ping_background_ms }
    }

    /// For an answer in this round through the servers, 0 for the first.
    pub(super) fn answer(&self, round: u32) -> u64 {
        doubled(self.answer_ms, round, self.answer_cap_ms)
    }

    /// Before the next attempt: a random part of a bound that doubles with each round (full jitter), and no less than what a
    /// server asked for, to which a random part of it is added.
    pub(crate) fn backoff(&self, round: u32, foreground: bool, told: Option<u64>, random: u64) -> u64 {
        let cap = if foreground { self.backoff_cap_ms } else { self.backoff_cap_background_ms };
        let own = random % (doubled(self.backoff_ms, round, cap) + 1);
        // A server that asks for hours is not believed: it may be wrong, and others may be there meanwhile.
        let told = told.unwrap_or(0).min(self.backoff_cap_background_ms);
        own.max(told + random % (told + 1))
    }

    /// Before refused commands are sent again, when that happened so many times since the last answer.
    pub(super) fn hold(&self, times: u32, told: Option<u64>, random: u64) -> u64 {
        let told = told.unwrap_or(0).min(self.backoff_cap_background_ms);
        let spread = doubled(self.backoff_ms / 10, times.saturating_sub(1), self.backoff_cap_ms).max(told);
        told + random % (spread + 1)
    }
}

fn doubled(value: u64, times: u32, cap: u64) -> u64 {
    value.saturating_mul(1 << times.min(32)).min(cap)
}
