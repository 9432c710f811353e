//! An operator's marks of commands that are to be skipped: the way past a command that keeps every node from going on.
//!
//! A mark changes what the log means, so it is made only for a position that no view has passed. A node that is alone marks in its own log
//! ([`mark`]); of several each agrees by itself while it does not run ([`Before`]), and the log that they share has the mark when all have.

use ieum_core::apply;
use ieum_core::batch::Batch;
use ieum_core::ids::{NodeId, Position};
use ieum_core::kv::{self, Kv};
use ieum_log::Entry;
use ieum_log::sqlite::Offline;
use ieum_store::fjall::{self, Fjall, OpenError};

use crate::folder::Folder;
use crate::levels::Levels;
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
    /// It was marked before, and nothing was changed.
    pub before: bool,
}

/// Marks the command `index` of the batch at `position` to be skipped, in the folder of a node that is alone and does not run.
pub fn mark(folder: &Folder, cell: u16, position: Position, index: u32) -> Result<Marked, Error> {
    let mut before = Before::open(folder, cell, position)?;
    let log = &mut before.log;
    let absent = || ieum_log::Error::NotInLog { asked: log_position(position), last: log.last() };
    if position.generation != log.last().generation || position > core_position(log.last()) || position.ordinal == 0 {
        return Err(absent().into());
    }
    let entry = log.read(log_position(behind(position)), 1)?.into_iter().next().ok_or_else(absent)?;
    let (command, of) = command(&entry, index)?;
    let known = log.skips()?.contains(&(log_position(position), index));
    if !known {
        log.skip(log_position(position), index)?;
    }
    Ok(Marked { command, of, before: known })
}

/// The position behind which the batch at `position` follows.
fn behind(position: Position) -> Position {
    Position { ordinal: position.ordinal.saturating_sub(1), ..position }
}

/// The name of a batch's command, and how many commands it has.
pub fn command(entry: &Entry, index: u32) -> Result<(&'static str, usize), Error> {
    let position = core_position(entry.position);
    let commands = Batch::decode(&entry.bytes).map_err(|_| Error::Malformed(position))?.commands;
    let count = commands.len();
    let found = usize::try_from(index).ok().and_then(|index| commands.get(index));
    Ok((found.ok_or(Error::Index { position, count })?.command.name(), count))
}

/// The folder of a node that does not run and has not passed a position; it cannot start while this is held.
pub struct Before {
    log: Offline,
    position: Position,
    stands: Position,
    members: Vec<NodeId>,
}

impl Before {
    /// Opens the folder of a node, and sees that neither its view nor a snapshot of it has passed `position`.
    ///
    /// # Errors
    /// [`Error::Passed`], [`Error::NoView`]; when it runs, or is of another cell, or cannot be read.
    pub fn open(folder: &Folder, cell: u16, position: Position) -> Result<Self, Error> {
        // First, because it makes sure that no node runs.
        let log = Offline::open(folder.log(), Some(u32::from(cell)))?;
        let passed =
            |what, at: Position| if at >= position { Err(Error::Passed { what, at, position }) } else { Ok(()) };
        for (at, _) in snapshot::list(&folder.snapshots())? {
            passed("snapshot", at)?;
        }
        if !folder.view().exists() {
            return Err(Error::NoView);
        }
        let view = Fjall::open(folder.view(), &fjall::Options::default())?;
        let look = view.snapshot();
        let stands = apply::applied(&look)?.position;
        passed("view", stands)?;
        let members = Levels::of(&look)?.map(|levels| levels.members).unwrap_or_default();
        Ok(Self { log, position, stands, members: members.into_iter().map(|member| member.node).collect() })
    }

    /// Where its view stands.
    #[must_use]
    pub fn stands(&self) -> Position {
        self.stands
    }

    /// The cell's members when the batch is applied; none when the view stands further back, so that others may join or leave before.
    #[must_use]
    pub fn members(&self) -> Option<&[NodeId]> {
        (self.stands == behind(self.position)).then_some(self.members.as_slice())
    }

    /// The batch, if this node has it.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn batch(&self) -> Result<Option<Entry>, Error> {
        let (first, last) = (core_position(self.log.first()), core_position(self.log.last()));
        if self.position.generation != last.generation || self.position < first || self.position > last {
            return Ok(None);
        }
        Ok(self.log.read(log_position(behind(self.position)), 1)?.into_iter().next())
    }

    /// From now on the node does not start until the shared log has this mark, and nothing that is rebuilt from its journal goes past the batch.
    ///
    /// # Errors
    /// When it is a node that is alone; when the journal cannot be written.
    pub fn agree(&mut self, index: u32) -> Result<(), Error> {
        Ok(self.log.agree(log_position(self.position), index)?)
    }

    /// The shared log has the mark: nothing that is rebuilt from the journal applies the command.
    ///
    /// # Errors
    /// As [`Before::agree`].
    pub fn keep(&mut self, index: u32) -> Result<(), Error> {
        Ok(self.log.keep(log_position(self.position), index)?)
    }

    /// Takes that back. The shared log MUST NOT have the mark, nor get it on the word of this node.
    ///
    /// # Errors
    /// As [`Before::agree`].
    pub fn disagree(&mut self, index: u32) -> Result<(), Error> {
        Ok(self.log.disagree(log_position(self.position), index)?)
    }
}

/// Every mark, in the folder of a node that is alone and does not run.
pub fn list(folder: &Folder, cell: u16) -> Result<Vec<(Position, u32)>, Error> {
    let log = Offline::open(folder.log(), Some(u32::from(cell)))?;
    Ok(log.skips()?.into_iter().map(|(position, index)| (core_position(position), index)).collect())
}
