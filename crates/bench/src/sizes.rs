//! How much of everything, by name.

use std::time::Duration;

/// The sizes of a whole bench.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// What they are called in the results.
    pub(crate) name: &'static str,
    /// How often each rate and delay is measured; the median counts.
    pub(crate) runs: usize,
    /// How long one of them takes, after a fifth of that to warm up.
    pub(crate) run: Duration,
    /// `direct`: pairs of people.
    pub(crate) direct_pairs: u32,
    /// `direct`: messages of each pair under way.
    pub(crate) direct_window: u32,
    /// `single`: pairs of people with one message under way.
    pub(crate) single_pairs: u32,
    /// `direct.p99_ms`: pairs of people with one message under way.
    pub(crate) delay_pairs: u32,
    /// `idle` and `reconnect`: sessions.
    pub(crate) sessions: u32,
    /// `room`: members.
    pub(crate) room_members: u32,
    /// `room`: messages, one every `room_every`.
    pub(crate) room_messages: u32,
    /// `room`: time between two messages.
    pub(crate) room_every: Duration,
    /// `growth`: rooms that are there before.
    pub(crate) growth_rooms: u32,
    /// `growth`: messages in each of them.
    pub(crate) growth_messages: u64,
    /// `restart`: messages that are sent before the first kill.
    pub(crate) restart_messages: u64,
    /// `restart`: kills.
    pub(crate) kills: usize,
    /// `restart`: for how long clients are watched coming back after each.
    pub(crate) come_back: Duration,
    /// `idle`: how long an idle server settles before its memory is read.
    pub(crate) settled: Duration,
}

/// The sizes of the table of requirements.
pub(crate) const FULL: Sizes = Sizes {
    name: "full",
    runs: 3,
    run: Duration::from_secs(10),
    direct_pairs: 200,
    direct_window: 16,
    single_pairs: 3_000,
    delay_pairs: 10,
    sessions: 10_000,
    room_members: 1_000,
    room_messages: 200,
    room_every: Duration::from_millis(200),
    growth_rooms: 1_000_000,
    growth_messages: 10,
    restart_messages: 1_000_000,
    kills: 5,
    come_back: Duration::from_secs(6),
    settled: Duration::from_secs(2),
};

/// Everything in under a minute: shorter, and a tenth of what takes long to set up.
pub(crate) const QUICK: Sizes = Sizes {
    name: "quick",
    runs: 1,
    run: Duration::from_millis(1_500),
    single_pairs: 300,
    sessions: 1_000,
    room_members: 100,
    room_messages: 10,
    growth_rooms: 10_000,
    restart_messages: 30_000,
    kills: 1,
    come_back: Duration::from_secs(3),
    settled: Duration::from_millis(500),
    ..FULL
};

impl Sizes {
    /// People that the largest load of connected clients needs, and some more.
    pub(crate) fn people(&self) -> u32 {
        let most = [self.direct_pairs * 2, self.single_pairs * 2, self.sessions, self.room_members];
        most.into_iter().max().unwrap_or_default().next_multiple_of(2)
    }
}
