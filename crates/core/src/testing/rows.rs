//! Rows in memory, and rows that fail.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::codec::Code;
use crate::kv::{self, Direction, Read, Visit, WriteSet};
use crate::tables::{Key, Table};

/// A view in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows(pub BTreeMap<Vec<u8>, Bytes>);

impl Rows {
    /// Takes in what a batch wrote.
    pub fn commit(&mut self, writes: &WriteSet) {
        for (key, value) in &writes.rows {
            match value {
                Some(value) => self.0.insert(key.clone(), value.clone()),
                None => self.0.remove(key),
            };
        }
    }

    /// Sets a row behind the back of all commands.
    pub fn put<K: Key, V: Code>(&mut self, table: &Table<K, V>, key: &K, value: &V) {
        self.0.insert(table.key(key), value.to_bytes().into());
    }
}

impl Read for Rows {
    fn get(&self, key: &[u8]) -> kv::Result<Option<Bytes>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> kv::Result<()> {
        if from >= to {
            return Ok(());
        }
        let range = self.0.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let mut go = |(key, value): (&Vec<u8>, &Bytes)| visit(key, value);
        let _ended = match direction {
            Direction::Forward => range.map(&mut go).find(ControlFlow::is_break),
            Direction::Backward => range.rev().map(&mut go).find(ControlFlow::is_break),
        };
        Ok(())
    }
}

/// How [`Faulty`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The engine reports an error.
    Error,
    /// A bug: reading panics.
    Panic,
}

/// Rows of which those whose keys start with a prefix cannot be read.
#[derive(Debug)]
pub struct Faulty<'a> {
    /// What there is.
    pub rows: &'a Rows,
    /// Which keys fail.
    pub prefix: Vec<u8>,
    /// In which way.
    pub fault: Fault,
}

impl Faulty<'_> {
    fn fail(&self, operation: &'static str) -> kv::Error {
        match self.fault {
            Fault::Error => kv::Error::new(operation, "the disk is gone"),
            Fault::Panic => panic!("a planted panic"),
        }
    }
}

impl Read for Faulty<'_> {
    fn get(&self, key: &[u8]) -> kv::Result<Option<Bytes>> {
        if key.starts_with(&self.prefix) { Err(self.fail("get")) } else { self.rows.get(key) }
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> kv::Result<()> {
        if from.starts_with(&self.prefix) { Err(self.fail("scan")) } else { self.rows.scan(from, to, direction, visit) }
    }
}
