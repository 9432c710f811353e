//! Reading: everything goes through a snapshot, so that no read ever meets half a commit.

use std::ops::{Bound, ControlFlow};

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
        match self.at.get(&self.rows, key) {
            Ok(value) => Ok(value.map(Bytes::from)),
            Err(error) => Err(kv::Error::new("get", error)),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> kv::Result<()> {
        if from >= to {
            return Ok(());
        }
        let range = self.at.range::<&[u8], _>(&self.rows, bounds(from, to));
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

fn visit_all(rows: impl Iterator<Item = Guard>, visit: &mut Visit<'_>) -> kv::Result<()> {
    for row in rows {
        let (key, value) = row.into_inner().map_err(|error| kv::Error::new("scan", error))?;
        if let ControlFlow::Break(()) = visit(&key, &Bytes::from(value)) {
            break;
        }
    }
    Ok(())
}
