//! The log in memory, for tests and the simulation: it keeps the whole contract but durability.
//!
//! It needs no runtime and no thread: an operation is done when its future was polled once, except a tail that waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::numbering::{Newest, Turn, turn};
use crate::{BatchId, Entry, Error, Log, MAX_BATCH_BYTES, Position, Result, Room, Skip};

/// A handle to a log in memory. Clones are the same log, which lives as long as one of them or a tail does.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    generation: u32,
    /// The most bytes that it holds.
    most: Option<u64>,
    held: Mutex<Held>,
    /// Counts appends and trims, to wake tails.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Held {
    trimmed: u64,
    entries: VecDeque<Entry>,
    bytes: u64,
    newest: BTreeMap<u32, Newest>,
    skips: BTreeSet<Skip>,
}

impl Held {
    fn last(&self) -> u64 {
        self.trimmed + self.entries.len() as u64
    }

    /// The entry at `ordinal`, if the log holds it.
    fn get(&self, ordinal: u64) -> Option<&Entry> {
        let index = ordinal.checked_sub(self.trimmed)?.checked_sub(1)?;
        self.entries.get(usize::try_from(index).ok()?)
    }
}

impl Memory {
    /// A new, empty log.
    #[must_use]
    pub fn new(generation: u32) -> Memory {
        Self::with(generation, None)
    }

    /// A new, empty log that holds no more than `most` bytes.
    #[must_use]
    pub fn bounded(generation: u32, most: u64) -> Memory {
        Self::with(generation, Some(most))
    }

    fn with(generation: u32, most: Option<u64>) -> Memory {
        let (changed, _) = watch::channel(());
        Memory(Arc::new(Shared { generation, most, held: Mutex::default(), changed }))
    }

    fn position(&self, ordinal: u64) -> Position {
        Position { generation: self.0.generation, ordinal }
    }

    /// Refuses a position of another generation or beyond the end.
    fn check(&self, held: &Held, asked: Position) -> Result<()> {
        let last = self.position(held.last());
        if asked.generation == last.generation && asked <= last { Ok(()) } else { Err(Error::NotInLog { asked, last }) }
    }

    fn place(&self, id: BatchId, bytes: Bytes) -> Result<Position> {
        if bytes.len() > MAX_BATCH_BYTES {
            return Err(Error::TooLarge { bytes: bytes.len() });
        }
        let mut held = self.0.held.lock();
        match turn(held.newest.get(&id.node).copied(), id) {
            Turn::Next => {}
            Turn::Earlier => {
                let found = held.entries.iter().rev().find(|entry| entry.id == id && entry.bytes == bytes);
                return found.map(|entry| entry.position).ok_or(Error::Conflict { id });
            }
            Turn::TooEarly => return Err(Error::Conflict { id }),
        }
        if self.0.most.is_some_and(|most| held.bytes >= most) {
            return Err(Error::Full);
        }
        let position = self.position(held.last() + 1);
        held.bytes += bytes.len() as u64;
        held.newest.insert(id.node, Newest { incarnation: id.incarnation, number: id.number });
        held.entries.push_back(Entry { position, id, bytes });
        Ok(position)
    }
}

impl Log for Memory {
    type Tail = Tail;

    async fn append(&self, id: BatchId, bytes: Bytes) -> Result<Position> {
        let position = self.place(id, bytes)?;
        self.0.changed.send_replace(());
        Ok(position)
    }

    async fn tail(&self, after: Position) -> Result<Tail> {
        let held = self.0.held.lock();
        self.check(&held, after)?;
        if after.ordinal < held.trimmed {
            return Err(Error::Trimmed { after, trimmed: self.position(held.trimmed) });
        }
        Ok(Tail { log: self.clone(), changed: self.0.changed.subscribe(), after })
    }

    async fn trim(&self, up_to: Position) -> Result<()> {
        let mut held = self.0.held.lock();
        self.check(&held, up_to)?;
        while held.trimmed < up_to.ordinal {
            let gone = held.entries.pop_front();
            held.bytes -= gone.map_or(0, |entry| entry.bytes.len() as u64);
            held.trimmed += 1;
        }
        drop(held);
        self.0.changed.send_replace(());
        Ok(())
    }

    async fn skip(&self, position: Position, index: u32) -> Result<()> {
        let mut held = self.0.held.lock();
        crate::numbering::can_be_skipped(position, self.position(held.last()), self.position(held.trimmed))?;
        held.skips.insert((position, index));
        Ok(())
    }

    async fn skips(&self) -> Result<Vec<Skip>> {
        Ok(self.0.held.lock().skips.iter().copied().collect())
    }

    async fn last(&self) -> Result<Position> {
        Ok(self.position(self.0.held.lock().last()))
    }

    async fn trimmed_to(&self) -> Result<Position> {
        Ok(self.position(self.0.held.lock().trimmed))
    }

    fn room(&self) -> Option<Room> {
        self.0.most.map(|most| Room { used: self.0.held.lock().bytes, most })
    }
}

/// A reader of a log in memory.
#[derive(Debug)]
pub struct Tail {
    log: Memory,
    changed: watch::Receiver<()>,
    after: Position,
}

impl Tail {
    fn ready(&mut self) -> Result<Option<Entry>> {
        let held = self.log.0.held.lock();
        if self.after.ordinal < held.trimmed {
            return Err(Error::Trimmed { after: self.after, trimmed: self.log.position(held.trimmed) });
        }
        let entry = held.get(self.after.ordinal + 1).cloned();
        if let Some(entry) = &entry {
            self.after = entry.position;
        }
        Ok(entry)
    }
}

impl crate::Tail for Tail {
    async fn next(&mut self) -> Result<Entry> {
        loop {
            self.changed.mark_unchanged();
            if let Some(entry) = self.ready()? {
                return Ok(entry);
            }
            self.changed.changed().await.map_err(|_| Error::Closed)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::conformance::Harness;

    struct InMemory {
        log: Memory,
        incarnations: AtomicU64,
    }

    impl Harness for InMemory {
        type Log = Memory;

        async fn open(&self) -> Memory {
            self.log.clone()
        }

        async fn incarnation(&self, _: &Memory, _: u32) -> u64 {
            self.incarnations.fetch_add(1, Ordering::Relaxed) + 1
        }
    }

    crate::conformance_suite!(InMemory { log: Memory::new(3), incarnations: AtomicU64::new(0) });
}
