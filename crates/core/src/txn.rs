//! The write set in the making: what a batch has written so far, over the view that it is applied to.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::kv::{self, Direction, Read, Visit, WriteSet};

type Rows = BTreeMap<Vec<u8>, Option<Bytes>>;

/// Reads see the view, what earlier commands of the batch wrote, and what the running command wrote, the last on top.
pub(crate) struct Txn<'a> {
    view: &'a dyn Read,
    batch: Rows,
    command: Rows,
}

impl<'a> Txn<'a> {
    /// Nothing written yet.
    pub(crate) fn new(view: &'a dyn Read) -> Self {
        Self { view, batch: Rows::new(), command: Rows::new() }
    }

    /// Sets or removes a row.
    pub(crate) fn set(&mut self, key: Vec<u8>, value: Option<Bytes>) {
        self.command.insert(key, value);
    }

    /// The running command's writes become the batch's.
    pub(crate) fn keep(&mut self) {
        // One by one: `append` would rebuild the whole batch's map for each command.
        self.batch.extend(std::mem::take(&mut self.command));
    }

    /// The running command's writes are forgotten.
    pub(crate) fn undo(&mut self) {
        self.command.clear();
    }

    /// All kept writes.
    pub(crate) fn finish(self) -> WriteSet {
        WriteSet { rows: self.batch }
    }

    /// The kept writes so far.
    pub(crate) fn kept(&self) -> &BTreeMap<Vec<u8>, Option<Bytes>> {
        &self.batch
    }
}

impl Read for Txn<'_> {
    fn get(&self, key: &[u8]) -> kv::Result<Option<Bytes>> {
        match self.command.get(key).or_else(|| self.batch.get(key)) {
            Some(written) => Ok(written.clone()),
            None => self.view.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> kv::Result<()> {
        if from >= to {
            return Ok(());
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        let mut written: Rows = self.batch.range::<[u8], _>(range).map(|(k, v)| (k.clone(), v.clone())).collect();
        written.extend(self.command.range::<[u8], _>(range).map(|(k, v)| (k.clone(), v.clone())));
        let mut over = Overlay { written, direction, ended: false };
        self.view.scan(from, to, direction, &mut |key, row| over.before(key, Some(row), visit))?;
        over.rest(visit);
        Ok(())
    }
}

/// Merges written rows into a scan of the view.
struct Overlay {
    written: Rows,
    direction: Direction,
    ended: bool,
}

impl Overlay {
    fn next_written(&self) -> Option<&Vec<u8>> {
        match self.direction {
            Direction::Forward => self.written.keys().next(),
            Direction::Backward => self.written.keys().next_back(),
        }
    }

    fn pop(&mut self) -> Option<(Vec<u8>, Option<Bytes>)> {
        match self.direction {
            Direction::Forward => self.written.pop_first(),
            Direction::Backward => self.written.pop_last(),
        }
    }

    /// Visits the written rows that come before `key`, then the row itself unless it was written over.
    fn before(&mut self, key: &[u8], row: Option<&Bytes>, visit: &mut Visit<'_>) -> ControlFlow<()> {
        let mut row = row;
        while let Some(next) = self.next_written() {
            let order = match self.direction {
                Direction::Forward => next.as_slice().cmp(key),
                Direction::Backward => key.cmp(next.as_slice()),
            };
            if order.is_gt() {
                break;
            }
            if order.is_eq() {
                row = None;
            }
            if let Some((key, Some(value))) = self.pop()
                && visit(&key, &value).is_break()
            {
                self.ended = true;
                return ControlFlow::Break(());
            }
        }
        let flow = row.map_or(ControlFlow::Continue(()), |row| visit(key, row));
        self.ended |= flow.is_break();
        flow
    }

    fn rest(&mut self, visit: &mut Visit<'_>) {
        while !self.ended
            && let Some((key, value)) = self.pop()
        {
            self.ended = value.is_some_and(|value| visit(&key, &value).is_break());
        }
    }
}

#[cfg(test)]
mod tests;
