//! What a log holds, as whoever opens a view has to know it.

use ieum_core::ids::Position;
use ieum_log::Kept;
use ieum_log::sqlite::{Meta, Offline};

use crate::core_position;

/// What a log holds.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// What it says of itself.
    pub meta: Meta,
    /// Up to where it was trimmed.
    pub trimmed: Position,
    /// Its last position.
    pub last: Position,
    /// Whether it is a node's copy of a log that lies elsewhere.
    pub is_copy: bool,
}

impl Extent {
    /// What a log holds here that ends at `last`.
    #[must_use]
    pub fn of_kept(log: &impl Kept, last: ieum_log::Position) -> Self {
        let (trimmed, is_copy) = (core_position(log.trimmed()), log.is_copy());
        Self { meta: *log.meta(), trimmed, last: core_position(last), is_copy }
    }

    /// What a log that no node has open holds.
    #[must_use]
    pub fn of(log: &Offline) -> Self {
        let first = core_position(log.first());
        let trimmed = Position { ordinal: first.ordinal.saturating_sub(1), ..first };
        Self { meta: *log.meta(), trimmed, last: core_position(log.last()), is_copy: log.is_journal() }
    }
}
