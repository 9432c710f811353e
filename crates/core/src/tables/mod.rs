//! Typed tables over the key-value rows: one byte of table number, then the key's parts, big-endian so that byte order is
//! their order.

pub mod accounts;
pub mod cell;
pub mod messages;
pub mod once;
pub mod rooms;

use std::marker::PhantomData;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::codec::Code;
use crate::ids::{DeviceId, Position, RoomId, UserId};
use crate::kv::{self, Direction, Read};
use crate::txn::Txn;

/// A table: rows of `V` ordered by `K`.
#[derive(Debug)]
pub struct Table<K, V> {
    number: u8,
    rows: PhantomData<fn(K) -> V>,
}

/// The parts of a row's key.
pub trait Key: Sized {
    /// Appends the key's bytes, ordered as the keys are.
    fn put_key(&self, out: &mut Vec<u8>);
    /// Reads the key off the front of `from`.
    fn take_key(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! number_key {
    ($($kind:ty),*) => {$(
        impl Key for $kind {
            fn put_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn take_key(from: &mut &[u8]) -> Option<Self> {
                let (head, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(<$kind>::from_be_bytes(*head))
            }
        }
    )*};
}
number_key!(u8, u32, u64);

macro_rules! id_key {
    ($($kind:ident),*) => {$(
        impl Key for $kind {
            fn put_key(&self, out: &mut Vec<u8>) {
                self.0.put_key(out);
            }
            fn take_key(from: &mut &[u8]) -> Option<Self> {
                u64::take_key(from).map(Self)
            }
        }
    )*};
}
id_key!(UserId, DeviceId, RoomId);

impl Key for Position {
    fn put_key(&self, out: &mut Vec<u8>) {
        self.generation.put_key(out);
        self.ordinal.put_key(out);
    }
    fn take_key(from: &mut &[u8]) -> Option<Self> {
        Some(Self { generation: Key::take_key(from)?, ordinal: Key::take_key(from)? })
    }
}

impl<const N: usize> Key for [u8; N] {
    fn put_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn take_key(from: &mut &[u8]) -> Option<Self> {
        let (head, rest) = from.split_first_chunk()?;
        *from = rest;
        Some(*head)
    }
}

/// Text takes the rest of the key, so it is always the last part.
impl Key for String {
    fn put_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
    fn take_key(from: &mut &[u8]) -> Option<Self> {
        Self::from_utf8(std::mem::take(from).to_vec()).ok()
    }
}

/// Raw bytes take the rest of the key too.
impl Key for Bytes {
    fn put_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn take_key(from: &mut &[u8]) -> Option<Self> {
        Some(Self::copy_from_slice(std::mem::take(from)))
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    fn put_key(&self, out: &mut Vec<u8>) {
        self.0.put_key(out);
        self.1.put_key(out);
    }
    fn take_key(from: &mut &[u8]) -> Option<Self> {
        Some((A::take_key(from)?, B::take_key(from)?))
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    fn put_key(&self, out: &mut Vec<u8>) {
        self.0.put_key(out);
        self.1.put_key(out);
        self.2.put_key(out);
    }
    fn take_key(from: &mut &[u8]) -> Option<Self> {
        Some((A::take_key(from)?, B::take_key(from)?, C::take_key(from)?))
    }
}

/// A row that its table cannot read: the view is damaged or newer than this build.
fn damaged(table: u8, what: &'static str) -> kv::Error {
    kv::Error::new("read a row", format!("table {table}: {what}; the view is damaged or written by a newer version"))
}

impl<K: Key, V: Code> Table<K, V> {
    pub(crate) const fn new(number: u8) -> Self {
        Self { number, rows: PhantomData }
    }

    /// The bytes of the row's key.
    pub fn key(&self, key: &K) -> Vec<u8> {
        self.prefix(key)
    }

    fn prefix(&self, part: &impl Key) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        bytes.push(self.number);
        part.put_key(&mut bytes);
        bytes
    }

    /// The row at `key`.
    pub fn get(&self, view: &(impl Read + ?Sized), key: &K) -> kv::Result<Option<V>> {
        view.get(&self.key(key))?.map(|row| self.decode(&row)).transpose()
    }

    /// Whether there is a row at `key`.
    pub fn has(&self, view: &(impl Read + ?Sized), key: &K) -> kv::Result<bool> {
        Ok(view.get(&self.key(key))?.is_some())
    }

    fn decode(&self, row: &[u8]) -> kv::Result<V> {
        V::from_bytes(row).map_err(|e| damaged(self.number, e.0))
    }

    /// Sets the row at `key`.
    pub(crate) fn put(&self, txn: &mut Txn<'_>, key: &K, value: &V) {
        txn.set(self.key(key), Some(value.to_bytes().into()));
    }

    /// Removes the row at `key`, if there is one.
    pub(crate) fn remove(&self, txn: &mut Txn<'_>, key: &K) {
        txn.set(self.key(key), None);
    }

    /// Visits the rows whose keys are in `from..to`, both given by leading parts of a key.
    pub fn range(
        &self,
        view: &(impl Read + ?Sized),
        from: &impl Key,
        to: &impl Key,
        direction: Direction,
        mut visit: impl FnMut(K, V) -> ControlFlow<()>,
    ) -> kv::Result<()> {
        self.raw_range(view, &self.prefix(from), &self.prefix(to), direction, &mut visit)
    }

    /// Visits the rows whose key starts with `part` and is behind `after` (exclusive) where given.
    pub fn within(
        &self,
        view: &(impl Read + ?Sized),
        part: &impl Key,
        after: Option<&K>,
        mut visit: impl FnMut(K, V) -> ControlFlow<()>,
    ) -> kv::Result<()> {
        let prefix = self.prefix(part);
        let from = match after {
            Some(key) => successor(self.key(key)),
            None => prefix.clone(),
        };
        self.raw_range(view, &from, &beyond(prefix), Direction::Forward, &mut visit)
    }

    fn raw_range(
        &self,
        view: &(impl Read + ?Sized),
        from: &[u8],
        to: &[u8],
        direction: Direction,
        visit: &mut dyn FnMut(K, V) -> ControlFlow<()>,
    ) -> kv::Result<()> {
        let mut failure = None;
        view.scan(from, to, direction, &mut |key, row| match self.read(key, row) {
            Ok((key, value)) => visit(key, value),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failure.map_or(Ok(()), Err)
    }

    fn read(&self, key: &[u8], row: &[u8]) -> kv::Result<(K, V)> {
        let mut rest = key.get(1..).unwrap_or_default();
        let key = K::take_key(&mut rest).ok_or_else(|| damaged(self.number, "unreadable key"))?;
        Ok((key, self.decode(row)?))
    }
}

/// The smallest key behind `key`.
fn successor(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// The smallest key behind every key that starts with `prefix`.
fn beyond(mut prefix: Vec<u8>) -> Vec<u8> {
    while prefix.last() == Some(&0xff) {
        prefix.pop();
    }
    if let Some(last) = prefix.last_mut() {
        *last += 1;
    }
    prefix
}

#[cfg(test)]
mod tests;
