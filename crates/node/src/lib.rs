//! Runs one node of a cell.
//!
//! ```text
//!  submit ─► Batcher ──one append in flight──► Log ──tail──► Applier ──commit──► view
//!              ▲                                                │
//!              └─────────── tickets of our own batches ─────────┤
//!                                                               └─► delivery: outcomes and events, in order
//! ```
//!
//! [`batcher`] and [`applier`] are state machines without threads, clocks or sockets of their own; [`service`] runs them.
//! [`folder`] opens what lies on the disk and repairs what can be repaired; [`snapshot`], [`leases`], [`backup`], [`beyond`] and [`verify`] are about
//! whole views; [`halt`] is a node whose cell has lost its log, [`reseed`] how that begins anew; [`marks`] are the operator's.

pub mod agreement;
mod alarms;
mod appender;
pub mod applier;
pub mod backup;
pub mod batcher;
pub mod beyond;
mod brake;
pub mod clock;
mod copied;
mod differs;
mod extent;
pub mod fit;
pub mod folder;
pub mod halt;
mod kept;
pub mod leases;
pub mod levels;
pub mod machine;
pub mod marks;
pub mod peers;
pub mod progress;
pub mod reseed;
pub mod reserve;
pub mod service;
pub mod snapshot;
pub mod start;
pub mod trimming;
mod unfinished;
pub mod upkeep;
pub mod verify;

use ieum_core::apply::Author;
use ieum_core::ids::Position;

/// The log's position as the state machine writes it.
#[must_use]
pub fn core_position(position: ieum_log::Position) -> Position {
    Position::new(position.generation, position.ordinal)
}

/// The state machine's position as the log writes it.
#[must_use]
pub fn log_position(position: Position) -> ieum_log::Position {
    ieum_log::Position { generation: position.generation, ordinal: position.ordinal }
}

/// Who appended a batch, as the state machine writes it.
fn author(entry: &ieum_log::Entry) -> Author {
    Author { node: entry.id.node, incarnation: entry.id.incarnation, number: entry.id.number }
}

/// The operator's marks as the state machine takes them.
#[must_use]
pub fn skips(marks: &[ieum_log::Skip]) -> ieum_core::apply::Skips {
    if ieum_planted::Bug::SkipForgotten.planted() {
        return Default::default();
    }
    marks.iter().map(|(position, index)| (core_position(*position), *index)).collect()
}

/// Whether the log could not be opened because a process has it open.
fn in_use(error: &ieum_log::Error) -> bool {
    std::error::Error::source(error).is_some_and(|s| s.downcast_ref::<ieum_log::sqlite::InUse>().is_some())
}

/// An error with all its sources, on one line; a source whose words the error repeats is left out.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
