//! Rows that apply reads over and over, kept above the view's engine: who a device is, what a room is, where it stands.
//!
//! A read of such a row costs the engine one to five microseconds, here a twentieth of one. There is one writer, the applier, and it
//! tells of every row that it writes, so what is kept is always what the view holds.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use foldhash::quality::RandomState;
use ieum_core::kv::{self, Direction, Read, Visit, WriteSet};
use ieum_planted::Bug;

type Rows = HashMap<Vec<u8>, Option<Bytes>, RandomState>;

/// What a kept row takes beside its key and value, roughly.
const AROUND: usize = 100;

/// Rows that were read lately, in two generations: when the younger is full the older is forgotten, so that what is read again
/// stays.
#[derive(Debug)]
pub(crate) struct Kept {
    young: Rows,
    old: Rows,
    young_bytes: usize,
    /// The most that a generation holds.
    max_bytes: usize,
}

impl Kept {
    /// Keeps about so many bytes; none for 0.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { young: Rows::default(), old: Rows::default(), young_bytes: 0, max_bytes: bytes / 2 }
    }

    fn get(&mut self, key: &[u8]) -> Option<Option<Bytes>> {
        if let Some(row) = self.young.get(key) {
            return Some(row.clone());
        }
        let (key, row) = self.old.remove_entry(key)?;
        self.put(key, row.clone());
        Some(row)
    }

    fn put(&mut self, key: Vec<u8>, row: Option<Bytes>) {
        let bytes = key.len() + length(row.as_ref()) + AROUND;
        if self.young_bytes + bytes > self.max_bytes {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if bytes <= self.max_bytes {
            self.young_bytes += bytes;
            self.young.insert(key, row);
        }
    }

    /// The view now has `writes`. Rows that nobody has read are not kept: most are never read again.
    pub(crate) fn written(&mut self, writes: &WriteSet) {
        if Bug::KeptRowStale.planted() {
            return;
        }
        for (key, row) in &writes.rows {
            if let Some(kept) = self.young.get_mut(key) {
                self.young_bytes = (self.young_bytes + length(row.as_ref())).saturating_sub(length(kept.as_ref()));
                kept.clone_from(row);
            } else {
                self.old.remove(key);
            }
        }
    }
}

fn length(row: Option<&Bytes>) -> usize {
    row.map_or(0, Bytes::len)
}

/// A look at the view through the rows that are kept of it.
pub(crate) struct Through<'a, V> {
    pub(crate) view: &'a V,
    pub(crate) kept: &'a RefCell<Kept>,
}

impl<V: Read> Read for Through<'_, V> {
    fn get(&self, key: &[u8]) -> kv::Result<Option<Bytes>> {
        if let Some(row) = self.kept.borrow_mut().get(key) {
            return Ok(row);
        }
        // Copied: what the engine gives may hold the whole block that the row is in.
        let row = self.view.get(key)?.map(|row| Bytes::copy_from_slice(&row));
        self.kept.borrow_mut().put(key.to_vec(), row.clone());
        Ok(row)
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> kv::Result<()> {
        self.view.scan(from, to, direction, visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ieum_core::kv::Kv as _;
    use ieum_store::memory::Memory;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Read(u8),
        Write(Vec<(u8, Option<u8>)>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let rows = prop::collection::vec((0..20u8, prop::option::of(any::<u8>())), 1..6);
        prop_oneof![3 => (0..20u8).prop_map(Step::Read), 1 => rows.prop_map(Step::Write)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is kept and forgotten, a read gives what the view holds.
        #[test]
        fn a_read_gives_what_the_view_holds(steps in prop::collection::vec(step(), 1..200), rows in 0..30usize) {
            let view = Memory::new();
            let kept = RefCell::new(Kept::new(rows * (AROUND + 2)));
            for step in steps {
                let snapshot = view.snapshot();
                match step {
                    Step::Read(key) => {
                        let through = Through { view: &snapshot, kept: &kept };
                        prop_assert_eq!(through.get(&[key])?, snapshot.get(&[key])?);
                    }
                    Step::Write(rows) => {
                        let rows = rows.into_iter().map(|(key, value)| (vec![key], value.map(|v| Bytes::from(vec![v]))));
                        let writes = WriteSet { rows: rows.collect() };
                        view.commit(&writes)?;
                        kept.borrow_mut().written(&writes);
                    }
                }
                prop_assert!(kept.borrow().young.len() + kept.borrow().old.len() <= rows);
            }
        }
    }
}
