//! Collects commands into batches while an append is under way.
//!
//! One append is in flight; what comes meanwhile fills the next batch. So batches grow with the load by themselves and the order
//! of a device's commands is kept without any timer.

use std::collections::VecDeque;

use bytes::Bytes;
use ieum_core::apply::Author;
use ieum_core::batch::{self, Envelope, Header, MAX_COMMANDS};
use ieum_core::codec::Code;
use ieum_core::ids::Millis;

/// Plain bytes at which a batch is full. Compression may add a little, so this stays below the log's limit.
const FULL_BYTES: usize = 480 * 1024;

/// How much may wait before submitting is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Commands.
    pub commands: usize,
    /// Their plain bytes.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { commands: 100_000, bytes: 32 * 1024 * 1024 }
    }
}

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// As much waits as may wait, or there is no room to keep more.
    #[error("as many commands wait as may wait")]
    Full,
    /// The command is larger than a batch.
    #[error("the command is larger than a batch")]
    TooLarge,
}

/// A batch to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Who appends it and as which one; a retry has the same.
    pub author: Author,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The node's commands on their way to the log and back. `T` is what the submitter wants back with the outcome.
#[derive(Debug)]
pub struct Batcher<T> {
    node: u32,
    incarnation: u64,
    bounds: Bounds,
    /// The number of the last batch that was handed out.
    number: u64,
    /// Batches being filled, the last one open.
    filling: VecDeque<Filling<T>>,
    queued: Bounds,
    in_flight: bool,
    /// A batch of this life came back.
    begun: bool,
    /// Handed out and not yet back from the log, oldest first.
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Filling<T> {
    commands: Vec<u8>,
    tickets: Vec<T>,
    since: Millis,
}

#[derive(Debug)]
struct Waiting<T> {
    number: u64,
    tickets: Vec<T>,
    since: Millis,
}

impl<T> Batcher<T> {
    /// A batcher of `node` in its life `incarnation`.
    #[must_use]
    pub fn new(node: u32, incarnation: u64, bounds: Bounds) -> Self {
        Self {
            node,
            incarnation,
            bounds,
            number: 0,
            filling: VecDeque::new(),
            queued: Bounds { commands: 0, bytes: 0 },
            in_flight: false,
            begun: false,
            waiting: VecDeque::new(),
        }
    }

    /// Takes a command at monotonic time `now`. What is returned as an error was not taken and has no effect, its ticket comes
    /// back.
    pub fn push(&mut self, envelope: &Envelope, ticket: T, now: Millis) -> Result<(), (Refusal, T)> {
        if self.queued.commands >= self.bounds.commands || self.queued.bytes >= self.bounds.bytes {
            return Err((Refusal::Full, ticket));
        }
        if self.filling.is_empty() {
            self.open(Vec::new(), now);
        }
        if self.filling.back().is_some_and(|last| last.tickets.len() >= MAX_COMMANDS) {
            self.open(Vec::new(), now);
        }
        let Some(last) = self.filling.back_mut() else { return Err((Refusal::Full, ticket)) };
        let before = last.commands.len();
        envelope.put(&mut last.commands);
        let size = last.commands.len() - before;
        if last.commands.len() > FULL_BYTES {
            let encoded = last.commands.split_off(before);
            if before == 0 {
                self.filling.pop_back();
            }
            if size > FULL_BYTES {
                return Err((Refusal::TooLarge, ticket));
            }
            self.open(encoded, now);
        }
        if let Some(last) = self.filling.back_mut() {
            last.tickets.push(ticket);
        }
        self.queued.commands += 1;
        self.queued.bytes += size;
        Ok(())
    }

    fn open(&mut self, commands: Vec<u8>, since: Millis) {
        self.filling.push_back(Filling { commands, tickets: Vec::new(), since });
    }

    /// The next batch to append, stamped with the wall clock, if there is one and no other is in flight.
    pub fn take(&mut self, clock: Millis) -> Option<Append> {
        if self.in_flight {
            return None;
        }
        let Filling { commands, tickets, since } = self.filling.pop_front()?;
        self.queued.commands -= tickets.len();
        self.queued.bytes -= commands.len();
        self.number += 1;
        self.in_flight = true;
        let header = Header { node: self.node, incarnation: self.incarnation, number: self.number, clock };
        let bytes = batch::seal(&header, tickets.len(), &commands);
        self.waiting.push_back(Waiting { number: self.number, tickets, since });
        let author = Author { node: self.node, incarnation: self.incarnation, number: self.number };
        Some(Append { author, bytes })
    }

    /// The append in flight is durable.
    pub fn appended(&mut self) {
        self.in_flight = false;
    }

    /// A batch came back from the log and was applied: the tickets of its commands, in order, if it is one of this life's.
    pub fn applied(&mut self, author: Author) -> Vec<T> {
        if author.node != self.node || author.incarnation != self.incarnation {
            return Vec::new();
        }
        self.begun = true;
        while self.waiting.front().is_some_and(|w| w.number < author.number) {
            // Never: batches come back in order. Their submitters hear nothing and repeat.
            self.waiting.pop_front();
        }
        match self.waiting.front() {
            Some(w) if w.number == author.number => self.waiting.pop_front().map(|w| w.tickets).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Whether the first batch of this life was applied.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// When the oldest command that has no outcome yet was taken.
    #[must_use]
    pub fn oldest(&self) -> Option<Millis> {
        self.waiting.front().map(|w| w.since).or_else(|| self.filling.front().map(|f| f.since))
    }

    /// Whether nothing waits for anything.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.filling.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ieum_core::batch::{Batch, Origin};
    use ieum_core::commands::Command;
    use ieum_core::commands::operate::Tick;

    fn tick() -> Envelope {
        Envelope { origin: Origin::Node, command: Tick {}.into() }
    }

    #[test]
    fn one_append_in_flight_and_the_next_batch_fills_meanwhile() {
        let mut batcher = Batcher::new(1, 7, Bounds::default());
        batcher.push(&tick(), "a", 10).unwrap();
        let first = batcher.take(1_000).unwrap();
        batcher.push(&tick(), "b", 11).unwrap();
        batcher.push(&tick(), "c", 12).unwrap();
        assert_eq!(batcher.take(1_001), None);
        batcher.appended();
        let second = batcher.take(1_002).unwrap();
        assert_eq!((first.author.number, second.author.number), (1, 2));
        assert_eq!(Batch::decode(&second.bytes).unwrap().commands.len(), 2);
        assert_eq!(batcher.oldest(), Some(10));
        assert_eq!(batcher.applied(first.author), ["a"]);
        assert_eq!(batcher.applied(Author { node: 2, ..second.author }), Vec::<&str>::new());
        assert_eq!(batcher.applied(second.author), ["b", "c"]);
        assert!(batcher.is_idle());
    }

    #[test]
    fn refuses_beyond_its_bounds_and_gives_the_ticket_back() {
        let mut batcher = Batcher::new(1, 1, Bounds { commands: 1, bytes: 1_000 });
        batcher.push(&tick(), 1, 0).unwrap();
        assert_eq!(batcher.push(&tick(), 2, 0), Err((Refusal::Full, 2)));
        let huge = Command::Unknown { number: 9_999, bytes: vec![0; FULL_BYTES].into() };
        let mut batcher = Batcher::new(1, 1, Bounds::default());
        let envelope = Envelope { origin: Origin::Node, command: huge };
        assert_eq!(batcher.push(&envelope, 3, 0), Err((Refusal::TooLarge, 3)));
        assert!(batcher.is_idle());
    }

    #[test]
    fn a_batch_has_no_more_commands_than_it_may() {
        let mut batcher = Batcher::new(1, 1, Bounds::default());
        for ticket in 0..=MAX_COMMANDS {
            batcher.push(&tick(), ticket, 0).unwrap();
        }
        let first = Batch::decode(&batcher.take(0).unwrap().bytes).unwrap();
        batcher.appended();
        let second = Batch::decode(&batcher.take(0).unwrap().bytes).unwrap();
        assert_eq!((first.commands.len(), second.commands.len()), (MAX_COMMANDS, 1));
    }
}
