//! An operator's marks of commands that are to be skipped: the way past a command that keeps every node from going on.
//!
//! A mark changes what the log means, so it is made only for a position that no view has passed.

use ieum_core::apply;
use ieum_core::batch::Batch;
use ieum_core::ids::Position;
use ieum_core::kv::{self, Kv};
use ieum_log::sqlite::Offline;
use ieum_store::fjall::{self, Fjall, OpenError};

use crate::folder::Folder;
use crate::{core_position, log_position, snapshot};

/// Why a command was not marked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log, or the position is not in it.
    #[error("the log")]
    Log(#[from] ieum_log::Error),
    /// A view has passed the position.
    #[error("the {what} stands at {at}: {position} was applied, and its outcomes may have been acknowledged")]
    Passed {
        /// What has passed it: `view` or `snapshot`.
        what: &'static str,
        /// Where that stands.
        at: Position,
        /// The position asked for.
        position: Position,
    },
    /// There is no view that could tell.
    #[error("there is no view, so that nobody knows what was applied: start the node, which rebuilds it")]
    NoView,
    /// The view does not open.
    #[error("opening the view")]
    View(#[from] OpenError),
    /// The view cannot be read.
    #[error(transparent)]
    Store(#[from] kv::Error),
    /// The snapshots cannot be listed.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// The batch cannot be read.
    #[error("the batch at {0} cannot be read, so it has no commands and no effect")]
    Malformed(Position),
    /// The batch has fewer commands.
    #[error("the batch at {position} has {count} commands, numbered from 0")]
    Index {
        /// Which batch.
        position: Position,
        /// How many commands it has.
        count: usize,
    },
}

/// What was marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// The command's name, as alarms give it.
    pub command: &'static str,
    /// How many commands the batch has.
    pub of: usize,
}

/// Marks the command `index` of the batch at `position` to be skipped, in the folder of a node that does not run.
pub fn mark(folder: &Folder, cell: u16, position: Position, index: u32) -> Result<Marked, Error> {
    // First, because it makes sure that no node runs.
    let mut log = Offline::open(folder.log(), Some(u32::from(cell)))?;
    let passed = |what, at: Position| if at >= position { Err(Error::Passed { what, at, position }) } else { Ok(()) };
    for (at, _) in snapshot::list(&folder.snapshots())? {
        passed("snapshot", at)?;
    }
    if !folder.view().exists() {
        return Err(Error::NoView);
    }
    let view = Fjall::open(folder.view(), &fjall::Options::default())?;
    passed("view", apply::applied(&view.snapshot())?.position)?;
    drop(view);
    let absent = || ieum_log::Error::NotInLog { asked: log_position(position), last: log.last() };
    if position.generation != log.last().generation || position > core_position(log.last()) || position.ordinal == 0 {
        return Err(absent().into());
    }
    let before = Position { ordinal: position.ordinal - 1, ..position };
    let entry = log.read(log_position(before), 1)?.into_iter().next().ok_or_else(absent)?;
    let commands = Batch::decode(&entry.bytes).map_err(|_| Error::Malformed(position))?.commands;
    let count = commands.len();
    let marked = usize::try_from(index).ok().and_then(|index| commands.get(index));
    let command = marked.ok_or(Error::Index { position, count })?.command.name();
    log.skip(log_position(position), index)?;
    Ok(Marked { command, of: count })
}

/// Every mark, in the folder of a node that does not run.
pub fn list(folder: &Folder, cell: u16) -> Result<Vec<(Position, u32)>, Error> {
    let log = Offline::open(folder.log(), Some(u32::from(cell)))?;
    Ok(log.skips()?.into_iter().map(|(position, index)| (core_position(position), index)).collect())
}
