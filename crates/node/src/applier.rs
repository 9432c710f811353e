//! Applies the log to the view, one batch after the other.

use std::cell::RefCell;
use std::sync::Arc;

use ieum_core::apply::{self, Effects, Skips};
use ieum_core::commands::LEVEL;
use ieum_core::ids::Position;
use ieum_core::kv::{self, Kv};
use ieum_log::Entry;
use ieum_planted::Bug;

use crate::kept::{Kept, Through};
use crate::{author, core_position};

/// How many bytes of rows a running node keeps: more than a hundred thousand rooms that people talk in just now.
pub const KEPT_BYTES: usize = 64 << 20;

/// The one writer of a view.
#[derive(Debug)]
pub struct Applier<K> {
    kv: Arc<K>,
    skips: Skips,
    /// The highest level that the build knows.
    known: u32,
    applied: Position,
    kept: RefCell<Kept>,
}

/// Why a batch was not applied. The node stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state machine refused it.
    #[error("applying {position}")]
    Apply {
        /// Where the batch stands.
        position: Position,
        /// Why.
        #[source]
        source: apply::Error,
    },
    /// The view engine failed.
    #[error(transparent)]
    Store(#[from] kv::Error),
}

impl<K: Kv> Applier<K> {
    /// An applier that goes on where the view stands. Every read asks the view's engine.
    pub fn new(kv: Arc<K>, skips: Skips) -> kv::Result<Self> {
        let applied = apply::applied(&kv.snapshot())?.position;
        Ok(Self { kv, skips, known: LEVEL, applied, kept: RefCell::new(Kept::new(0)) })
    }

    /// Stops before a level above `known`, as a build does that knows no higher one.
    #[must_use]
    pub fn knowing(mut self, known: u32) -> Self {
        self.known = known;
        self
    }

    /// Keeps about so many bytes of rows that are read over and over. Nobody else may write the view.
    #[must_use]
    pub fn keeping(mut self, bytes: usize) -> Self {
        self.kept = RefCell::new(Kept::new(bytes));
        self
    }

    /// Where the view stands.
    #[must_use]
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// The view.
    #[must_use]
    pub fn view(&self) -> &Arc<K> {
        &self.kv
    }

    /// Applies the next batch of the log and commits what it changes.
    pub fn apply(&mut self, entry: &Entry) -> Result<Effects, Error> {
        let position = core_position(entry.position);
        let view = self.kv.snapshot();
        let through = Through { view: &view, kept: &self.kept };
        let effects = apply::apply_knowing(self.known, &through, position, author(entry), &entry.bytes, &self.skips)
            .map_err(|source| Error::Apply { position, source })?;
        // An engine may have to keep for a look what is committed while it is held.
        drop(view);
        self.kv.commit(&effects.writes)?;
        self.kept.borrow_mut().written(&effects.writes);
        if Bug::PositionCommittedApart.planted() {
            let position = apply::position_alone(&effects.applied);
            self.kv.commit(&position)?;
            self.kept.borrow_mut().written(&position);
        }
        self.applied = position;
        Ok(effects)
    }
}
