//! Reading: everything goes through a snapshot, so that no read ever meets half a commit.

use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::fjall::{AbstractTree, Guard, Keyspace, Readable};
use bytes::Bytes;
use ieum_core::kv::{self, Direction, Read, Visit};
use ieum_planted::Bug;
use lsm_tree::Guard as _;

const LONGEST_KEY: usize = u16::MAX as usize;

/// The rows of a [`Fjall`](super::Fjall) as they were after one commit.
///
/// While it is held, the engine keeps every table and *every memtable* of that time and since: a snapshot held for long
/// costs memory at the rate of the writes (see `docs/decisions/snapshots.md`). [`Rows`] do not.
#[derive(Clone)]
pub struct Snapshot {
    rows: Keyspace,
    at: ::fjall::Snapshot,
}

impl Snapshot {
    pub(super) fn new(rows: &Keyspace, at: ::fjall::Snapshot) -> Self {
        Self { rows: rows.clone(), at }
    }
}

/// Every row of a [`Snapshot`], which is held no longer.
///
/// fjall keeps, for a snapshot that is registered with it, the history of the tree since then, memtables included. An iterator
/// needs none of that history: it owns the memtables and tables that there were when it was made. So this is the tree's own
/// iterator, not the one of fjall's snapshot. Tables that are merged away meanwhile stay on disk until it is dropped.
pub struct Rows {
    /// Before the keyspace, so that the folder's lock outlives it.
    rows: Box<dyn Iterator<Item = ::fjall::Result<(Bytes, Bytes)>> + Send>,
    _keyspace: Keyspace,
    /// The planted bug holds it.
    _held: Option<::fjall::Snapshot>,
}

impl Rows {
    pub(super) fn of(snapshot: Snapshot) -> Self {
        let Snapshot { rows: keyspace, at } = snapshot;
        // Made while `at` is still registered, so that what it sees is still there.
        let rows = keyspace.tree.iter(at.seqno(), None).map(|row| {
            let (key, value) = row.into_inner()?;
            Ok((Bytes::from(key), Bytes::from(value)))
        });
        let held = Bug::SnapshotHeld.planted().then_some(at);
        Self { rows: Box::new(rows), _keyspace: keyspace, _held: held }
    }
}

impl Iterator for Rows {
    type Item = kv::Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.rows.next()?.map_err(|error| kv::Error::new("read all rows", error)))
    }
}

impl Read for Snapshot {
    fn get(&self, key: &[u8]) -> kv::Result<Option<Bytes>> {
        if key.len() > LONGEST_KEY {
            return Ok(None);
        }
        let value = guarded("get", || self.at.get(&self.rows, key))?;
        value.map(|value| value.map(Bytes::from)).map_err(|error| kv::Error::new("get", error))
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> kv::Result<()> {
        if from >= to {
            return Ok(());
        }
        let range = guarded("scan", || self.at.range::<&[u8], _>(&self.rows, bounds(from, to)))?;
        match direction {
            Direction::Forward => visit_all(range, visit),
            Direction::Backward => visit_all(range.rev(), visit),
        }
    }
}

/// `from <= key < to` in terms that fjall takes: it panics at a bound that is longer than any key.
fn bounds<'a>(from: &'a [u8], to: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (
        from.get(..LONGEST_KEY).filter(|short| short.len() < from.len()).map_or(Bound::Included(from), Bound::Excluded),
        to.get(..LONGEST_KEY).filter(|short| short.len() < to.len()).map_or(Bound::Excluded(to), Bound::Included),
    )
}

/// The engine's own panics are its errors: apply would take one for a panic of the command that reads, which has an outcome, and other nodes
/// would give another. What `visit` does is not within: its panics are the command's.
fn guarded<T>(operation: &'static str, read: impl FnOnce() -> T) -> kv::Result<T> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|panic| {
        let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        kv::Error::new(operation, format!("the engine panicked: {words}"))
    })
}

fn visit_all(mut rows: impl Iterator<Item = Guard>, visit: &mut Visit<'_>) -> kv::Result<()> {
    while let Some(row) = guarded("scan", || rows.next().map(Guard::into_inner))? {
        let (key, value) = row.map_err(|error| kv::Error::new("scan", error))?;
        if let ControlFlow::Break(()) = visit(&key, &Bytes::from(value)) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_engine_is_an_error_and_one_of_the_reader_is_not() {
        let error = guarded("get", || -> () { panic!("{} is poisoned", "a lock") }).unwrap_err();
        assert_eq!(error.source.to_string(), "the engine panicked: a lock is poisoned");

        let folder = tempfile::tempdir().unwrap();
        let view = crate::Fjall::open(folder.path().join("view"), &crate::fjall::Options::default()).unwrap();
        let row = (b"a".to_vec(), Some(Bytes::from_static(b"1")));
        kv::Kv::commit(&view, &kv::WriteSet { rows: [row].into() }).unwrap();
        let snapshot = kv::Kv::snapshot(&view);
        let scanned = catch_unwind(AssertUnwindSafe(|| {
            snapshot.scan(b"a", b"b", Direction::Forward, &mut |_, _| panic!("the reader's own"))
        }));
        assert!(scanned.is_err());
    }
}
