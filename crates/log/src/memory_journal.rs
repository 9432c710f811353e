//! A journal in memory, for tests and the simulation, with the crash semantics of a disk that is not fsynced.
//!
//! It needs no runtime and no thread: an operation is done when its future was polled once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::journaled::own_copy::{OwnCopy, is_next};
use crate::sqlite::Meta;
use crate::{Entry, Error, Position, Result, Skip};

/// One read gives so many batches.
const READ: usize = 1024;

/// A handle to a journal in memory. Clones are the same journal, so a simulation keeps one as "the disk".
#[derive(Debug, Clone)]
pub struct MemoryJournal {
    meta: Meta,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    trimmed: u64,
    last: u64,
    synced: u64,
    entries: BTreeMap<u64, Entry>,
    marks: BTreeSet<Skip>,
}

impl MemoryJournal {
    /// An empty one of `meta`'s generation, whose first batch will follow the ordinal `after`.
    #[must_use]
    pub fn new(meta: Meta, after: u64) -> Self {
        let held = Held { trimmed: after, last: after, synced: after, ..Held::default() };
        Self { meta, held: Arc::new(Mutex::new(held)) }
    }

    fn position(&self, ordinal: u64) -> Position {
        Position { generation: self.meta.generation, ordinal }
    }

    /// How many batches a power cut may take: those since the last [`OwnCopy::flush`].
    #[must_use]
    pub fn unsynced(&self) -> u64 {
        let held = self.held.lock();
        held.last - held.synced
    }

    /// A power cut: of the batches since the last [`OwnCopy::flush`] only the first `keep` are found again.
    pub fn crash(&self, keep: u64) {
        let mut held = self.held.lock();
        held.last = held.last.min(held.synced.saturating_add(keep));
        held.synced = held.last;
        let behind = held.last + 1;
        held.entries.split_off(&behind);
    }

    /// The batch at `ordinal`, if it is here.
    #[must_use]
    pub fn get(&self, ordinal: u64) -> Option<Entry> {
        self.held.lock().entries.get(&ordinal).cloned()
    }

    fn check(&self, held: &Held, asked: Position) -> Result<()> {
        let last = self.position(held.last);
        if asked.generation == last.generation && asked <= last { Ok(()) } else { Err(Error::NotInLog { asked, last }) }
    }
}

impl OwnCopy for MemoryJournal {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn last(&self) -> Position {
        self.position(self.held.lock().last)
    }

    fn synced(&self) -> Position {
        self.position(self.held.lock().synced)
    }

    fn trimmed(&self) -> Position {
        self.position(self.held.lock().trimmed)
    }

    async fn put(&self, entry: &Entry) -> Result<()> {
        let mut held = self.held.lock();
        if is_next(self.position(held.last), entry.position)? {
            held.last = entry.position.ordinal;
            held.entries.insert(entry.position.ordinal, entry.clone());
        }
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        let mut held = self.held.lock();
        held.synced = held.last;
        Ok(())
    }

    async fn read(&self, after: Position) -> Result<Vec<Entry>> {
        let held = self.held.lock();
        self.check(&held, after)?;
        if after.ordinal < held.trimmed {
            return Err(Error::Trimmed { after, trimmed: self.position(held.trimmed) });
        }
        Ok(held.entries.range(after.ordinal + 1..).take(READ).map(|(_, entry)| entry.clone()).collect())
    }

    async fn trim(&self, up_to: Position) -> Result<()> {
        let mut held = self.held.lock();
        self.check(&held, up_to)?;
        held.trimmed = held.trimmed.max(up_to.ordinal);
        held.synced = held.synced.max(held.trimmed);
        held.entries = held.entries.split_off(&(up_to.ordinal + 1));
        Ok(())
    }

    async fn skips(&self) -> Result<Vec<Skip>> {
        Ok(self.held.lock().marks.iter().copied().collect())
    }

    async fn agreed(&self) -> Result<Vec<Skip>> {
        Ok(Vec::new())
    }

    async fn keep_skips(&self, marks: Vec<Skip>) -> Result<()> {
        self.held.lock().marks.extend(marks);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;

    use super::*;
    use crate::BatchId;
    use crate::conformance::Harness;
    use crate::journaled::Journaled;
    use crate::memory::Memory;

    const META: Meta = Meta { cell: 7, generation: 1, predecessor: None };

    struct InMemory {
        shared: Arc<Memory>,
        journal: MemoryJournal,
        incarnations: AtomicU64,
    }

    impl InMemory {
        fn new() -> Self {
            let shared = Arc::new(Memory::new(META.generation));
            Self { shared, journal: MemoryJournal::new(META, 0), incarnations: AtomicU64::new(0) }
        }
    }

    impl Harness for InMemory {
        type Log = Journaled<Memory, MemoryJournal>;

        async fn open(&self) -> Self::Log {
            Journaled::new(Arc::clone(&self.shared), Arc::new(self.journal.clone()))
        }

        async fn incarnation(&self, _: &Self::Log, _: u32) -> u64 {
            self.incarnations.fetch_add(1, Ordering::Relaxed) + 1
        }
    }

    crate::conformance_suite!(InMemory::new());

    fn at(ordinal: u64) -> Position {
        Position { generation: 1, ordinal }
    }

    fn entry(ordinal: u64) -> Entry {
        let id = BatchId { node: 1, incarnation: 1, number: ordinal };
        Entry { position: at(ordinal), id, bytes: Bytes::from(format!("batch {ordinal}")) }
    }

    #[tokio::test]
    async fn a_power_cut_leaves_what_was_flushed_and_any_part_of_what_followed() {
        for (keep, last) in [(0, 3), (1, 4), (9, 5)] {
            let journal = MemoryJournal::new(META, 1);
            for ordinal in 2..=3 {
                journal.put(&entry(ordinal)).await.unwrap();
            }
            journal.flush().await.unwrap();
            for ordinal in 4..=5 {
                journal.put(&entry(ordinal)).await.unwrap();
            }
            assert_eq!((journal.synced(), journal.unsynced()), (at(3), 2));
            journal.crash(keep);
            assert_eq!((journal.last(), journal.synced()), (at(last), at(last)));
            let read = journal.read(at(1)).await.unwrap();
            assert_eq!(read, (2..=last).map(entry).collect::<Vec<_>>());
            assert!(
                matches!(journal.put(&entry(last + 2)).await, Err(Error::NotInLog { .. })),
                "it would leave one out"
            );
            journal.put(&entry(last)).await.unwrap();
            journal.put(&entry(last + 1)).await.unwrap();
        }
    }
}
