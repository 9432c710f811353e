//! The simulated log: the one in memory, with delays, stalls and answers that get lost.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use ieum_core::apply::Author;
use ieum_log::memory::{Memory, Tail};
use ieum_log::{BatchId, Entry, Log as _, Position, Tail as _};

use crate::failure::{Check, broken};
use crate::random::Random;

/// What a future gives when it is polled once.
pub(crate) fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// What becomes of an append.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    /// When the batch is durable, if it ever is.
    pub(crate) placed: Option<u64>,
    /// When the node hears of it.
    pub(crate) answered: u64,
    /// Whether it hears that it went well; if not, the batch may be there all the same.
    pub(crate) well: bool,
}

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    memory: Memory,
    /// Nothing becomes durable before.
    stalled_until: u64,
    /// Answers get lost until then.
    sick_until: u64,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { memory: Memory::new(1), stalled_until: 0, sick_until: 0 }
    }

    pub(crate) fn stall(&mut self, until: u64) {
        self.stalled_until = until;
    }

    pub(crate) fn sicken(&mut self, until: u64) {
        self.sick_until = until;
    }

    pub(crate) fn fate(&self, now: u64, random: &mut Random) -> Fate {
        let slow = if random.chance(20) { random.between(20, 400) } else { random.between(1, 5) };
        let placed = now.max(self.stalled_until) + slow;
        let answered = placed + random.between(0, 3);
        if now < self.sick_until && random.chance(500) {
            return Fate { placed: random.chance(500).then_some(placed), answered, well: false };
        }
        Fate { placed: Some(placed), answered, well: true }
    }

    /// The batch becomes durable.
    pub(crate) fn place(&self, author: Author, bytes: &Bytes) -> Check {
        let id = BatchId { node: author.node, incarnation: author.incarnation, number: author.number };
        match now(self.memory.append(id, bytes.clone())) {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => broken(format!("the log refused batch {id:?}: {error}")),
            None => broken("the log in memory waits"),
        }
    }

    pub(crate) fn tail(&self, after: Position) -> Check<Tail> {
        match now(self.memory.tail(after)) {
            Some(Ok(tail)) => Ok(tail),
            Some(Err(error)) => broken(format!("no tail after {after}: {error}")),
            None => broken("the log in memory waits"),
        }
    }
}

/// The next entry, if it is there already.
pub(crate) fn next(tail: &mut Tail) -> Check<Option<Entry>> {
    match now(tail.next()) {
        Some(Ok(entry)) => Ok(Some(entry)),
        Some(Err(error)) => broken(format!("reading the log: {error}")),
        None => Ok(None),
    }
}
