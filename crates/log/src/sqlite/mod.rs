//! The log of one machine: a SQLite database that one process holds.
//!
//! ```text
//!  append ─┐                        ┌─ commit, fsync ─► generation-N.sqlite
//!  trim   ─┼─► requests ─► thread ──┤
//!  tail   ─┘  (bounded)             └─ recent batches in memory ─► tails that keep up
//! ```
//!
//! - `store` is the database: what is written in one transaction; `rows` reads it and verifies each row.
//! - `skips` keeps the operator's marks.
//! - `folder` is where it lies: the lock, one file per generation.
//! - `worker` is the thread that does all blocking work; `tail` reads from memory, and through it when behind.
//! - `journal` is a node's own copy of a log that lies elsewhere, in the same kind of database.
//! - `offline` is for tools, on a log that no node has open; `copy` is a journal that a tool writes; `torn` looks at write-ahead files.
//!
//! Why it is set up this way, with figures: `docs/decisions/sqlite-log.md`.

mod copy;
mod error;
mod folder;
mod journal;
mod offline;
mod recent;
mod rows;
mod skips;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod torn;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::oneshot;

pub use self::copy::Copying;
pub use self::error::{Damaged, InUse};
use self::folder::Folder;
pub use self::journal::Journal;
pub use self::offline::{Offline, Problem, damage, refuse_in_use};
use self::store::{Kind, Store};
pub use self::tail::Tail;
pub use self::torn::Torn;
use self::worker::{Request, Shared};
use crate::{BatchId, Error, Log, MAX_BATCH_BYTES, Position, Result, Skip};

/// How to open a log.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cell that the log belongs to; a log of another cell is refused.
    pub cell: u32,
    /// Whether to make a new log where there is none.
    pub create: bool,
    /// How many bytes of the newest batches are kept in memory for tails. A tail that is further behind reads the disk.
    pub recent_bytes: usize,
    /// After how many bytes the write-ahead log is folded into the database, which holds up one append.
    pub checkpoint_bytes: u32,
}

impl Options {
    /// The defaults for `cell`: an existing log is opened and none is made.
    #[must_use]
    pub fn new(cell: u32) -> Options {
        Options { cell, create: false, recent_bytes: 8 * 1024 * 1024, checkpoint_bytes: 4 * 1024 * 1024 }
    }
}

/// What a log says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The cell that it belongs to.
    pub cell: u32,
    /// Its generation.
    pub generation: u32,
    /// What it follows; none for the first generation.
    pub predecessor: Option<Predecessor>,
}

/// Where the generation before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predecessor {
    /// The last position of it that counts.
    pub end: Position,
    /// The rolling digest of the view at `end`.
    pub digest: [u8; 32],
}

/// A log in a SQLite database.
///
/// Dropping it waits until the transaction that is under way is done and the database is closed, so that it can be
/// opened again at once; [`Sqlite::close`] does the same without blocking the runtime, and tells of errors.
#[derive(Debug)]
pub struct Sqlite {
    meta: Meta,
    directory: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Sqlite {
    /// Opens the log in `directory`. Blocks for some reads, and after a crash until the write-ahead log is recovered.
    ///
    /// # Errors
    /// [`Error::Foreign`] when there is no log, or one of another cell or format, or a journal; [`Error::Engine`] with [`InUse`] as
    /// its source when another process has it open, and with [`Damaged`] when its ends do not fit its rows.
    pub fn open(directory: impl AsRef<Path>, options: &Options) -> Result<Sqlite> {
        let directory = directory.as_ref().to_owned();
        let folder = Folder::lock(&directory, options.create)?;
        if options.create && folder.newest()?.is_none() {
            store::create(&folder, Kind::Log, &Meta { cell: options.cell, generation: 1, predecessor: None }, 0)?;
        }
        let store = Store::open(folder, Some(Kind::Log), Some(options.cell), options.checkpoint_bytes)?;
        store.check_ends()?;
        let meta = *store.meta();
        let (shared, thread) = worker::start(store, options.recent_bytes)?;
        Ok(Sqlite { meta, directory, shared, thread: Some(thread) })
    }

    /// How many bytes the log's folder takes on disk, earlier generations and the write-ahead log included.
    ///
    /// # Errors
    /// [`Error::Engine`] when the folder cannot be read.
    pub fn bytes_on_disk(&self) -> Result<u64> {
        folder::bytes(&self.directory)
    }

    /// Closes the log. What waits on it gets [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::Engine`] when the database did not close cleanly; what was appended is safe all the same.
    pub async fn close(mut self) -> Result<()> {
        let (reply, closed) = oneshot::channel();
        self.shared.send(Request::Close(Some(reply)))?;
        let closed = closed.await.map_err(|_| Error::Closed)?;
        // The thread has nothing left to do, so that this does not block.
        self.join();
        closed
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been told to every caller as `Closed`.
            let _ = thread.join();
        }
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        let _ = self.shared.send(Request::Close(None));
        self.join();
    }
}

/// The highest generation that the folder of a log holds, damaged ones too; none when there is no log in it. Opens nothing.
///
/// # Errors
/// [`Error::Engine`] when the folder cannot be read.
pub fn newest_generation(directory: impl AsRef<Path>) -> Result<Option<u32>> {
    folder::newest(directory.as_ref())
}

/// Begins `generation`, a later one than `predecessor`'s, in `directory`: an empty log, which [`Sqlite::open`] opens
/// from then on. Databases of earlier generations stay beside it, untouched, until an operator removes them. Blocks.
///
/// # Errors
/// [`Error::Foreign`] when the folder holds that or a later generation already, or a log of another cell;
/// [`Error::Engine`] with [`InUse`] as its source when a process has the log open.
pub fn begin_generation(
    directory: impl AsRef<Path>,
    cell: u32,
    generation: u32,
    predecessor: Predecessor,
) -> Result<Position> {
    let directory = directory.as_ref();
    let folder = Folder::lock(directory, true)?;
    let at = directory.display();
    if generation <= predecessor.end.generation {
        let before = predecessor.end.generation;
        return Err(Error::Foreign(format!("generation {generation} does not follow generation {before}")));
    }
    if let Some(newest) = folder.newest()? {
        if newest >= generation {
            return Err(Error::Foreign(format!(
                "{at} holds generation {newest} already, so generation {generation} cannot begin there: restore a view of \
                 generation {newest}, or use an empty folder"
            )));
        }
        // One that cannot be read is no hindrance: a damaged log is what is restored from.
        if let Ok(meta) = store::peek(&folder.database(newest))
            && meta.cell != cell
        {
            return Err(store::other_cell(directory, meta.cell, cell));
        }
    }
    store::create(&folder, Kind::Log, &Meta { cell, generation, predecessor: Some(predecessor) }, 0)?;
    Ok(Position { generation, ordinal: 0 })
}

impl crate::Kept for Sqlite {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn trimmed(&self) -> Position {
        self.shared.position(self.shared.published().trimmed)
    }

    fn is_copy(&self) -> bool {
        false
    }
}

impl Log for Sqlite {
    type Tail = Tail;

    async fn append(&self, id: BatchId, bytes: Bytes) -> Result<Position> {
        if bytes.len() > MAX_BATCH_BYTES {
            return Err(Error::TooLarge { bytes: bytes.len() });
        }
        let ordinal = self.shared.append(id, bytes).await?;
        Ok(self.shared.position(ordinal))
    }

    async fn tail(&self, after: Position) -> Result<Tail> {
        Tail::new(Arc::clone(&self.shared), after)
    }

    async fn trim(&self, up_to: Position) -> Result<()> {
        self.shared.trim(up_to).await
    }

    async fn skip(&self, position: Position, index: u32) -> Result<()> {
        self.shared.skip(position, index).await
    }

    async fn skips(&self) -> Result<Vec<Skip>> {
        self.shared.skips().await
    }

    async fn last(&self) -> Result<Position> {
        let published = self.shared.published();
        if published.closed { Err(Error::Closed) } else { Ok(self.shared.position(published.last)) }
    }

    async fn trimmed_to(&self) -> Result<Position> {
        Ok(crate::Kept::trimmed(self))
    }
}
