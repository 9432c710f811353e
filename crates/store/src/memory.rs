//! The view in memory, with the crash semantics of a disk that is not fsynced.
//!
//! Rows live in a persistent (structure-sharing) tree, so a snapshot is one reference count. [`Memory`] is a handle: clones
//! share the same rows, so a simulation keeps one clone as "the disk" and gives another to the node that it may crash.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use ieum_core::kv::{self, Direction, Kv, Read, Visit, WriteSet};
use parking_lot::Mutex;
use rpds::RedBlackTreeMapSync;
use smallvec::SmallVec;

/// A key beside its row in the tree, as nearly all are short: to follow a pointer for each that is compared costs more than comparing them.
type Key = SmallVec<[u8; 32]>;
type Rows = RedBlackTreeMapSync<Key, Bytes>;
/// Rows and what is to be in them.
type Changes = Vec<(Key, Option<Bytes>)>;

/// An engine that keeps its rows in memory.
#[derive(Clone, Default)]
pub struct Memory {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    /// What a snapshot sees.
    rows: Rows,
    /// The commits that a power cut may take back, oldest first, each with what its rows were before. Rows as they were persisted are not kept
    /// beside these: all that is written would have to be copied on its way to them.
    unpersisted: Vec<Changes>,
    /// Set by [`Memory::fail`]: every write is refused.
    failing: bool,
}

/// The rows of a [`Memory`] as they were after one commit.
#[derive(Clone)]
pub struct Snapshot {
    rows: Rows,
}

/// Why a write was refused.
#[derive(Debug, thiserror::Error)]
#[error("the disk fails, as the test asked for")]
struct Failing;

impl Memory {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many commits a power cut may lose: those since the last [`Kv::persist`].
    #[must_use]
    pub fn unpersisted(&self) -> usize {
        self.disk.lock().unpersisted.len()
    }

    /// A power cut: of the commits since the last persist only the first `keep` are found again (all of them when there are
    /// fewer). Snapshots that were taken before keep what they saw. Also ends [`Memory::fail`].
    pub fn crash(&self, keep: usize) {
        let mut disk = self.disk.lock();
        let unpersisted = std::mem::take(&mut disk.unpersisted);
        for before in unpersisted.into_iter().skip(keep).rev() {
            apply(&mut disk.rows, before);
        }
        disk.failing = false;
    }

    /// A disk of its own with the same rows, all of them persisted. Cheap.
    #[must_use]
    pub fn copy(&self) -> Self {
        let rows = self.disk.lock().rows.clone();
        let disk = Disk { rows, ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// From now on every commit and persist fails and changes nothing, as on a full disk, until [`Memory::crash`].
    pub fn fail(&self) {
        self.disk.lock().failing = true;
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.disk.lock().rows.size()
    }
}

fn apply(rows: &mut Rows, changes: Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => rows.insert_mut(key, value),
            None => {
                rows.remove_mut(&key[..]);
            }
        }
    }
}

/// Applies `writes`, and gives what makes it undone.
fn write(rows: &mut Rows, writes: &WriteSet) -> Changes {
    let mut before = Changes::with_capacity(writes.rows.len());
    for (key, value) in &writes.rows {
        let owned = Key::from_slice(key);
        let row = match value {
            // Most rows that are written are there, and to find them twice would cost as much as all else here.
            Some(value) => match rows.get_mut(key.as_slice()) {
                Some(row) => Some(std::mem::replace(row, value.clone())),
                None => {
                    rows.insert_mut(owned.clone(), value.clone());
                    None
                }
            },
            None => {
                let row = rows.get(key.as_slice()).cloned();
                if row.is_some() {
                    rows.remove_mut(key.as_slice());
                }
                row
            }
        };
        before.push((owned, row));
    }
    before
}

/// Every row of a [`Snapshot`].
pub struct AllRows {
    rows: Rows,
    last: Option<Key>,
}

impl Iterator for AllRows {
    type Item = kv::Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        let from = self.last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (key, value) = self.rows.range::<[u8], _>((from, Bound::Unbounded)).next()?;
        let row = (Bytes::copy_from_slice(key), value.clone());
        self.last = Some(key.clone());
        Some(Ok(row))
    }
}

impl Kv for Memory {
    type Snapshot = Snapshot;
    type Rows = AllRows;

    fn snapshot(&self) -> Snapshot {
        Snapshot { rows: self.disk.lock().rows.clone() }
    }

    fn rows(&self, snapshot: Snapshot) -> AllRows {
        AllRows { rows: snapshot.rows, last: None }
    }

    fn commit(&self, writes: &WriteSet) -> kv::Result<()> {
        crate::check_rows(writes)?;
        let mut disk = self.disk.lock();
        if disk.failing {
            return Err(kv::Error::new("commit", Failing));
        }
        let before = write(&mut disk.rows, writes);
        disk.unpersisted.push(before);
        Ok(())
    }

    fn persist(&self) -> kv::Result<()> {
        let mut disk = self.disk.lock();
        if disk.failing {
            return Err(kv::Error::new("persist", Failing));
        }
        disk.unpersisted.clear();
        Ok(())
    }
}

impl Read for Snapshot {
    fn get(&self, key: &[u8]) -> kv::Result<Option<Bytes>> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> kv::Result<()> {
        if from >= to {
            return Ok(());
        }
        let mut range = self.rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        while let Some((key, value)) = match direction {
            Direction::Forward => range.next(),
            Direction::Backward => range.next_back(),
        } {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}
