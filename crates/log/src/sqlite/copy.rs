//! A journal that a tool writes from another one. Everything here blocks.

use std::path::Path;

use super::folder::Folder;
use super::store::{Kind, Store};
use super::{Journal, Meta, Options};
use crate::{Entry, Error, Position, Result, Skip};

/// A journal in the making.
#[derive(Debug)]
pub struct Copying {
    store: Store,
}

impl Copying {
    /// Begins a journal in `directory` whose first batch will follow the ordinal `after`.
    ///
    /// # Errors
    /// As [`super::Sqlite::open`].
    pub fn begin(directory: impl AsRef<Path>, meta: &Meta, after: u64) -> Result<Self> {
        let directory = directory.as_ref();
        Journal::begin_again(directory, meta, after)?;
        let folder = Folder::lock(directory, false)?;
        let checkpoint_bytes = Options::new(meta.cell).checkpoint_bytes;
        Ok(Self { store: Store::open(folder, Some(Kind::Journal), Some(meta.cell), checkpoint_bytes)? })
    }

    /// Keeps marks of commands to skip that were made. Those of another generation are not this journal's.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Engine`].
    pub fn keep_skips(&mut self, marks: impl IntoIterator<Item = Skip>) -> Result<()> {
        let generation = self.store.meta().generation;
        let own = marks.into_iter().filter(|(position, _)| position.generation == generation);
        own.into_iter().try_for_each(|(position, index)| self.store.keep_skip(position, index))
    }

    /// Writes batches, in order, the first right behind the last one here. All are durable when it returns, and none is when it fails.
    ///
    /// # Errors
    /// [`Error::NotInLog`] when batches are left out; [`Error::Full`], [`Error::Engine`].
    pub fn put(&mut self, entries: &[Entry]) -> Result<()> {
        let (generation, last) = (self.store.meta().generation, self.store.ends().last);
        for (entry, before) in entries.iter().zip(last..) {
            if entry.position != (Position { generation, ordinal: before + 1 }) {
                return Err(Error::NotInLog { asked: entry.position, last: Position { generation, ordinal: before } });
            }
        }
        self.store.copy(entries)
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`Error::Engine`] when the database did not close cleanly.
    pub fn close(self) -> Result<()> {
        self.store.close()
    }
}
