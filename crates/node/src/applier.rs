//! Applies the log to the view, one batch after the other.

use std::sync::Arc;

use ieum_core::apply::{self, Effects, Skips};
use ieum_core::ids::Position;
use ieum_core::kv::{self, Kv};
use ieum_log::Entry;
use ieum_planted::Bug;

use crate::{author, core_position};

/// The one writer of a view.
#[derive(Debug)]
pub struct Applier<K> {
    kv: Arc<K>,
    skips: Skips,
    applied: Position,
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
    /// An applier that goes on where the view stands.
    pub fn new(kv: Arc<K>, skips: Skips) -> kv::Result<Self> {
        let applied = apply::applied(&kv.snapshot())?.position;
        Ok(Self { kv, skips, applied })
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
        let effects = apply::apply(&view, position, author(entry), &entry.bytes, &self.skips)
            .map_err(|source| Error::Apply { position, source })?;
        self.kv.commit(&effects.writes)?;
        if Bug::PositionCommittedApart.planted() {
            self.kv.commit(&apply::position_alone(&effects.applied))?;
        }
        self.applied = position;
        Ok(effects)
    }
}
