//! Where the outbox and the cursor are kept.

#[cfg(feature = "disk")]
mod disk;
mod memory;
mod saved;

#[cfg(feature = "disk")]
pub use disk::Disk;
pub use memory::Memory;
pub use saved::Saved;

use std::path::PathBuf;
use std::sync::Arc;

use crate::Position;
use crate::command::{Command, CommandId};

/// Keeps what must survive the process.
///
/// A store belongs to one device and is open in one process at a time. [`Store::commit`] MUST make all of its writes take
/// effect or none; after it returned, writes that are [`Write::must_last`], and all that came before them, MUST survive a power
/// cut. The others may be lost, but only the latest of them: what is left is always a state that once was.
pub trait Store: Send + 'static {
    /// Whose store this is; `None` before the first sign-in.
    ///
    /// # Errors
    /// What the medium says.
    fn identity(&mut self) -> Result<Option<Identity>, Error>;

    /// Everything that is kept.
    ///
    /// # Errors
    /// What the medium says.
    fn load(&mut self) -> Result<Saved, Error>;

    /// Takes the writes.
    ///
    /// # Errors
    /// None of them took effect.
    fn commit(&mut self, writes: &[Write]) -> Result<(), Error>;

    /// Whether [`Store::commit`] waits for a disk, so that it must not run on a thread that others need.
    fn blocks(&self) -> bool;
}

impl Store for Box<dyn Store> {
    fn identity(&mut self) -> Result<Option<Identity>, Error> {
        (**self).identity()
    }

    fn load(&mut self) -> Result<Saved, Error> {
        (**self).load()
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), Error> {
        (**self).commit(writes)
    }

    fn blocks(&self) -> bool {
        (**self).blocks()
    }
}

/// Who a device is.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub user: u64,
    /// The device.
    pub device: u64,
    /// The device's secret.
    pub secret: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("user", &self.user).field("device", &self.device).finish_non_exhaustive()
    }
}

/// A change to what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Whose store this is.
    Identity(Identity),
    /// A new command.
    Add(Command),
    /// A command gets a number, maybe another than it had.
    Number {
        /// Which command.
        place: u64,
        /// Its number.
        n: u64,
    },
    /// A command's number goes to something harmless instead, because no server takes the command.
    Replace {
        /// Which command.
        place: u64,
        /// Its new id.
        id: CommandId,
        /// Its new change.
        body: Arc<str>,
    },
    /// A command was answered.
    Answered {
        /// Which command.
        place: u64,
        /// Its number.
        n: u64,
        /// Whether to keep it among the lately acknowledged.
        keep: bool,
    },
    /// A command of the lately acknowledged goes back to the outbox.
    Reoffer {
        /// Which command.
        place: u64,
    },
    /// A command is of no interest any more.
    Forget {
        /// Which command.
        place: u64,
    },
    /// The counter: what the server said, after which numbers go on.
    Counter {
        /// The last number given.
        last: u64,
        /// The highest number answered.
        answered: u64,
    },
    /// The app's durable copy reaches up to here; `None`: it is void.
    Cursor(Option<Position>),
    /// The highest position seen.
    Seen(Position),
    /// The cell's servers, as one of them named them last.
    Endpoints(Vec<String>),
}

impl Write {
    /// Whether it must survive a power cut before anything is sent that rests on it. What is lost of the others is learned again
    /// from the server.
    #[must_use]
    pub fn must_last(&self) -> bool {
        match self {
            Self::Identity(_) | Self::Add(_) | Self::Number { .. } | Self::Replace { .. } | Self::Reoffer { .. } => {
                true
            }
            // The app forgets its copy once it is stored.
            Self::Cursor(None) => true,
            Self::Answered { .. }
            | Self::Forget { .. }
            | Self::Counter { .. }
            | Self::Cursor(Some(_))
            | Self::Seen(_)
            | Self::Endpoints(_) => false,
        }
    }
}

/// After so many answers that were not fsynced comes an fsync: a cell remembers the outcomes of a device's last 64 commands, and
/// answers one that is sent again after a power cut only if it is among them.
const MOST_UNSYNCED: usize = 32;

/// Answers that a power cut may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unsynced(usize);

impl Unsynced {
    /// What may be lost once `writes` are committed, and whether it has to be fsynced with them, so that it is nothing.
    #[must_use]
    pub fn with(self, writes: &[Write]) -> (Self, bool) {
        let answers = writes.iter().filter(|write| matches!(write, Write::Answered { .. })).count();
        let unsynced = self.0 + answers;
        let full = unsynced >= MOST_UNSYNCED || writes.iter().any(Write::must_last);
        (Self(if full { 0 } else { unsynced }), full)
    }
}

/// Why a store does not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it open.
    #[error("{} is open in another process: one device, one process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is some other file.
    #[error("{} is not a device store of ieum", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a later version.
    #[error("{} has format {found}, this version knows up to {known}: use a newer client", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's format.
        found: i64,
        /// The highest format that this version knows.
        known: i64,
    },
    /// What it holds makes no sense.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file system said no.
    #[error("{operation} of {} failed", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// SQLite said no.
    #[cfg(feature = "disk")]
    #[error("{operation} in {} failed", path.display())]
    Sqlite {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// A store of one's own said no.
    #[error("{0}")]
    Other(String),
}
