//! For tools that look at a log while no node has it open. Everything here blocks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::error::{is_damage, sqlite};
use super::folder::{self, Folder};
use super::rows::Verified;
use super::store::{Ends, Kind, Store};
use super::torn::{self, Torn};
use super::{Damaged, Meta, Options};
use crate::{Entry, Error, Position, Result, Skip};

/// At most so many problems are listed: the first ones tell what is wrong.
const MOST_PROBLEMS: usize = 1000;
/// One read gives no more bytes than this, and one batch.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// A log opened for a tool.
#[derive(Debug)]
pub struct Offline {
    store: Store,
}

/// Something that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// What SQLite's own check says.
    Database(String),
    /// A batch is not what was written.
    Batch {
        /// Its ordinal.
        ordinal: u64,
        /// How it shows.
        reason: String,
    },
    /// Batches that should be there are not.
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// A batch that was trimmed, or is beyond the last ordinal, is there.
    Unexpected {
        /// Its ordinal.
        ordinal: u64,
    },
    /// What is kept as a node's newest batch is not the newest of its batches, so that a retry may be misjudged.
    Newest {
        /// The node.
        node: u32,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Database(text) => write!(f, "database: {text}"),
            Problem::Batch { ordinal, reason } => write!(f, "batch {ordinal}: {reason}"),
            Problem::Missing { from, to } => write!(f, "batches {from} to {to} are missing"),
            Problem::Unexpected { ordinal } => write!(f, "batch {ordinal} should not be there"),
            Problem::Newest { node } => write!(f, "node {node}: its newest batch is recorded wrongly"),
        }
    }
}

impl Offline {
    /// Opens the log in `directory`, of any cell when `cell` is none.
    ///
    /// # Errors
    /// As [`super::Sqlite::open`], but a log whose rows do not fit its ends is opened, so that it can be checked.
    pub fn open(directory: impl AsRef<Path>, cell: Option<u32>) -> Result<Offline> {
        let folder = Folder::lock(directory.as_ref(), false)?;
        Ok(Offline { store: Store::open(folder, None, cell, Options::new(0).checkpoint_bytes)? })
    }

    /// The same, and says whether the write-ahead file is torn, which it is no longer afterwards: what cannot be used of it is passed over. A
    /// copy of it as it was is kept beside it, and told of again as long as it lies there.
    ///
    /// # Errors
    /// As [`Offline::open`].
    pub fn open_noting(directory: impl AsRef<Path>, cell: Option<u32>) -> Result<(Offline, Option<Torn>)> {
        let folder = Folder::lock(directory.as_ref(), false)?;
        let generation = folder.newest()?.ok_or_else(|| folder::missing(folder.path()))?;
        let torn = torn::look(&folder.database(generation))?;
        Ok((Offline { store: Store::open(folder, None, cell, Options::new(0).checkpoint_bytes)? }, torn))
    }

    /// Whether it is a node's copy of a log that lies elsewhere.
    #[must_use]
    pub fn is_journal(&self) -> bool {
        self.store.kind() == Kind::Journal
    }

    /// What the log says of itself.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        self.store.meta()
    }

    fn position(&self, ordinal: u64) -> Position {
        Position { generation: self.store.meta().generation, ordinal }
    }

    /// The first position that was not trimmed; the one after the last when the log is empty.
    #[must_use]
    pub fn first(&self) -> Position {
        self.position(self.store.ends().trimmed.saturating_add(1))
    }

    /// The last position ever given.
    #[must_use]
    pub fn last(&self) -> Position {
        self.position(self.store.ends().last)
    }

    /// Batches after `after`: at most `most`, and about 4 MiB at a time; none at the end.
    ///
    /// # Errors
    /// [`Error::NotInLog`], [`Error::Trimmed`]; [`Error::Engine`] with [`super::Damaged`] as its source.
    pub fn read(&self, after: Position, most: usize) -> Result<Vec<Entry>> {
        let (last, trimmed) = (self.last(), self.position(self.store.ends().trimmed));
        if after.generation != last.generation || after > last {
            return Err(Error::NotInLog { asked: after, last });
        }
        if after < trimmed {
            return Err(Error::Trimmed { after, trimmed });
        }
        self.store.read(after.ordinal, most, READ_BYTES)
    }

    /// The first batch behind `ordinal` that can be read, whatever became of those before it.
    #[must_use]
    pub fn sound_behind(&self, ordinal: u64) -> Option<u64> {
        let sound = |after: &u64| self.store.read(*after, 1, READ_BYTES).is_ok_and(|entries| !entries.is_empty());
        (ordinal..self.store.ends().last).find(sound).map(|after| after + 1)
    }

    /// Marks a command to be skipped, see [`crate::Log::skip`].
    ///
    /// # Errors
    /// [`Error::NotInLog`], [`Error::Trimmed`], [`Error::Full`], [`Error::Engine`]; [`Error::Foreign`] when it is a journal, whose marks
    /// nobody asks for.
    pub fn skip(&mut self, position: Position, index: u32) -> Result<()> {
        if self.is_journal() {
            let path = self.store.folder().path().display();
            return Err(Error::Foreign(format!(
                "{path} holds a node's copy of a log that several nodes share: a mark here would count for none of them"
            )));
        }
        self.store.skip(position, index)
    }

    /// Has the node whose copy of a log this is stand before a batch until the shared log has the mark to skip a command of it: it does not
    /// start before, and nothing that reads this copy goes beyond. The caller MUST know that no view of this node has passed `position`.
    ///
    /// # Errors
    /// [`Error::NotInLog`] when `position` is of another generation; [`Error::Foreign`] when this is no journal; [`Error::Full`],
    /// [`Error::Engine`].
    pub fn agree(&mut self, position: Position, index: u32) -> Result<()> {
        self.check_journal(position)?;
        self.store.agree(position, index)
    }

    /// Takes that back. The caller MUST know that the shared log does not have the mark and will not get it.
    ///
    /// # Errors
    /// As [`Offline::agree`].
    pub fn disagree(&mut self, position: Position, index: u32) -> Result<()> {
        self.check_journal(position)?;
        self.store.disagree(position, index)
    }

    /// Keeps a mark that the shared log has, in its copy: it is replayed without that log as well. The caller MUST know that no view of this node
    /// has passed `position`.
    ///
    /// # Errors
    /// As [`Offline::agree`].
    pub fn keep(&mut self, position: Position, index: u32) -> Result<()> {
        self.check_journal(position)?;
        self.store.keep_skip(position, index)
    }

    fn check_journal(&self, position: Position) -> Result<()> {
        if !self.is_journal() {
            let path = self.store.folder().path().display();
            return Err(Error::Foreign(format!(
                "{path} holds the log of a node that is alone, which has nobody to agree with"
            )));
        }
        let last = self.last();
        if position.generation == last.generation { Ok(()) } else { Err(Error::NotInLog { asked: position, last }) }
    }

    /// Every mark, in order; of a journal those that its node knows the shared log to have.
    ///
    /// # Errors
    /// [`Error::Engine`], also when a mark is damaged.
    pub fn skips(&self) -> Result<Vec<Skip>> {
        self.store.skips()
    }

    /// Of a journal, the commands that its node has agreed to have skipped and does not know to be marked, in order. Whether they count is not
    /// known: whoever reads the journal stands before them, see [`crate::stands_before`].
    ///
    /// # Errors
    /// As [`Offline::skips`].
    pub fn agreed(&self) -> Result<Vec<Skip>> {
        self.store.agreed()
    }

    /// How many bytes the log's folder takes on disk, earlier generations and the write-ahead log included.
    ///
    /// # Errors
    /// [`Error::Engine`] when the folder cannot be read.
    pub fn bytes_on_disk(&self) -> Result<u64> {
        folder::bytes(self.store.folder().path())
    }

    /// Reads everything: the database's structure, every batch against its checksum, and that the ordinals are dense.
    /// Gives what is wrong, at most 1000 problems; nothing when all is well.
    ///
    /// # Errors
    /// [`Error::Engine`] when the disk does not answer. Damage is no error but a problem.
    pub fn check(&self) -> Result<Vec<Problem>> {
        let mut problems = self.check_database()?;
        let mut scan = Scan { ends: self.store.ends(), after: None, newest: BTreeMap::new(), problems: Vec::new() };
        let read = self.store.verify(|ordinal, verified| {
            scan.row(ordinal, verified);
            scan.problems.len() < MOST_PROBLEMS
        });
        match read {
            Ok(()) => scan.finish(),
            Err(error) if is_damage(&error) => scan.problems.push(scan.unreadable(&error)),
            Err(error) => return Err(sqlite("checking batches")(error)),
        }
        if let Err(error) = self.store.skips().and_then(|_| self.store.agreed()) {
            problems.push(Problem::Database(error.to_string()));
        }
        match self.store.newest_ordinals() {
            Ok(kept) => scan.compare_newest(&kept),
            Err(error) if is_damage(&error) => scan.problems.push(Problem::Database(error.to_string())),
            Err(error) => return Err(sqlite("checking the newest batches")(error)),
        }
        problems.append(&mut scan.problems);
        problems.truncate(MOST_PROBLEMS);
        Ok(problems)
    }

    fn check_database(&self) -> Result<Vec<Problem>> {
        match self.store.integrity_check() {
            Ok(texts) => Ok(texts.into_iter().filter(|text| text != "ok").map(Problem::Database).collect()),
            Err(error) if is_damage(&error) => Ok(vec![Problem::Database(error.to_string())]),
            Err(error) => Err(sqlite("checking the database")(error)),
        }
    }
}

/// Refuses the log in `directory` when a process has it open. Nothing of it is opened or changed.
///
/// # Errors
/// [`Error::Engine`] with [`super::InUse`] as its source; [`Error::Foreign`] when there is no such folder.
pub fn refuse_in_use(directory: impl AsRef<Path>) -> Result<()> {
    Folder::lock(directory.as_ref(), false).map(drop)
}

/// The batch that cannot be read, if that is what `error` tells of.
#[must_use]
pub fn damage(error: &Error) -> Option<&Damaged> {
    std::error::Error::source(error)?.downcast_ref()
}

/// What a pass over all rows has seen.
struct Scan {
    ends: Ends,
    /// The ordinal of the row before.
    after: Option<u64>,
    /// Of each node, the ordinal of its last row.
    newest: BTreeMap<u32, u64>,
    problems: Vec<Problem>,
}

impl Scan {
    fn expected(&self) -> u64 {
        self.after.unwrap_or(0).max(self.ends.trimmed).saturating_add(1)
    }

    fn row(&mut self, ordinal: u64, verified: Verified) {
        let expected = self.expected();
        if ordinal <= self.ends.trimmed || ordinal > self.ends.last {
            self.problems.push(Problem::Unexpected { ordinal });
        } else if ordinal > expected {
            self.problems.push(Problem::Missing { from: expected, to: ordinal - 1 });
        }
        match verified {
            Ok(entry) => {
                self.newest.insert(entry.id.node, ordinal);
            }
            Err(reason) => self.problems.push(Problem::Batch { ordinal, reason }),
        }
        self.after = Some(ordinal);
    }

    fn finish(&mut self) {
        let from = self.expected();
        if from <= self.ends.last && self.problems.len() < MOST_PROBLEMS {
            self.problems.push(Problem::Missing { from, to: self.ends.last });
        }
    }

    fn unreadable(&self, error: &rusqlite::Error) -> Problem {
        Problem::Batch { ordinal: self.expected(), reason: format!("it and what follows cannot be read: {error}") }
    }

    /// A node may have no rows left, but one that has must have its last one recorded.
    fn compare_newest(&mut self, kept: &BTreeMap<u32, u64>) {
        // With unreadable rows the last one of a node is not known.
        if self.problems.is_empty() {
            let wrong = self.newest.iter().filter(|(node, ordinal)| kept.get(node) != Some(ordinal));
            self.problems.extend(wrong.map(|(node, _)| Problem::Newest { node: *node }));
        }
    }
}
