//! The simulated log: its contract, and how it fails. Requests are slow or stand still, answers get lost, a request that was given up comes
//! to its end later, a life of a node that is over is fenced off, and what was trimmed is gone.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use ieum_core::apply::Author;
use ieum_log::memory::Memory;
use ieum_log::{BatchId, Entry, Error, Log as _, Position};

use crate::failure::{Check, broken, holds};

/// The log's only generation so far.
const GENERATION: u32 = 1;

/// What a future gives when it is polled once.
pub(crate) fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// What the log says to an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// The batch is there.
    There,
    /// It is not, and never will be: another life of its node has begun.
    Fenced,
    /// It is not known any more whether it is: it was trimmed.
    Conflict,
}

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    memory: Memory,
    /// All that was ever appended, the first at the front: what is trimmed is kept for the checker alone.
    truth: Vec<Entry>,
    trimmed: u64,
    /// The life of each node that may append.
    lives: BTreeMap<u32, u64>,
    /// Nothing becomes durable before.
    stalled_until: u64,
    /// Answers get lost until then.
    sick_until: u64,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            memory: Memory::new(GENERATION),
            truth: Vec::new(),
            trimmed: 0,
            lives: BTreeMap::new(),
            stalled_until: 0,
            sick_until: 0,
        }
    }

    pub(crate) fn stall(&mut self, until: u64) {
        self.stalled_until = self.stalled_until.max(until);
    }

    pub(crate) fn sicken(&mut self, until: u64) {
        self.sick_until = until;
    }

    pub(crate) fn recover(&mut self) {
        (self.stalled_until, self.sick_until) = (0, 0);
    }

    pub(crate) fn stalled_until(&self) -> u64 {
        self.stalled_until
    }

    pub(crate) fn is_sick(&self, now: u64) -> bool {
        now < self.sick_until
    }

    pub(crate) fn last(&self) -> u64 {
        self.truth.len() as u64
    }

    pub(crate) fn trimmed(&self) -> u64 {
        self.trimmed
    }

    pub(crate) fn truth(&self) -> &[Entry] {
        &self.truth
    }

    /// A new life of a node: nothing of an earlier one is taken from here on. A log that no other node writes to keeps no account of lives.
    pub(crate) fn register(&mut self, node: u32, least: u64, is_shared: bool) -> u64 {
        let before = self.lives.get(&node).filter(|_| is_shared);
        let life = before.map_or(least, |before| least.max(before + 1));
        self.lives.insert(node, life);
        life
    }

    /// A request to append arrives.
    pub(crate) fn place(&mut self, author: Author, bytes: &Bytes) -> Check<Placed> {
        if self.lives.get(&author.node) != Some(&author.incarnation) {
            return Ok(Placed::Fenced);
        }
        let id = BatchId { node: author.node, incarnation: author.incarnation, number: author.number };
        match now(self.memory.append(id, bytes.clone())) {
            Some(Ok(position)) => {
                if position.ordinal > self.last() {
                    self.truth.push(Entry { position, id, bytes: bytes.clone() });
                }
                Ok(Placed::There)
            }
            Some(Err(Error::Conflict { .. })) => Ok(Placed::Conflict),
            Some(Err(error)) => broken(format!("the log refused batch {id:?}: {error}")),
            None => broken("the log in memory waits"),
        }
    }

    /// Forgets what lies up to `ordinal`.
    pub(crate) fn trim(&mut self, ordinal: u64) -> Check {
        holds(ordinal <= self.last(), || format!("{ordinal} is trimmed of a log that ends at {}", self.last()))?;
        match now(self.memory.trim(Position { generation: GENERATION, ordinal })) {
            Some(Ok(())) => {
                self.trimmed = self.trimmed.max(ordinal);
                Ok(())
            }
            trimmed => broken(format!("the log is not trimmed: {trimmed:?}")),
        }
    }

    /// The batch at `ordinal`, as somebody has it who has it at all.
    pub(crate) fn batch(&self, ordinal: u64) -> Option<&Entry> {
        self.truth.get(usize::try_from(ordinal.checked_sub(1)?).ok()?)
    }
}
