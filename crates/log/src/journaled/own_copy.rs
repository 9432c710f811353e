//! What [`super::Journaled`] asks of a node's own copy of the log: [`Journal`] on a disk, [`crate::memory_journal::MemoryJournal`] without one.

use std::future::Future;

use ieum_planted::Bug;

use crate::sqlite::{Journal, Meta};
use crate::{Entry, Error, Position, Result, Skip};

/// A node's own copy of a log: the same batches at the same positions.
pub trait OwnCopy: Send + Sync + 'static {
    /// What it says of itself.
    fn meta(&self) -> &Meta;

    /// The last batch that was put.
    fn last(&self) -> Position;

    /// Up to where everything survives a power cut.
    fn synced(&self) -> Position;

    /// The last batch that is here no more.
    fn trimmed(&self) -> Position;

    /// Copies a batch.
    ///
    /// MUST: one that is here already is passed over; one that leaves others out is [`Error::NotInLog`]. Cancel safe: a dropped future has put the
    /// batch or not.
    fn put(&self, entry: &Entry) -> impl Future<Output = Result<()>> + Send;

    /// Returns when all that was put before survives a power cut.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send;

    /// Batches behind `after`, some of them; none when there is none. [`Error::Trimmed`], [`Error::NotInLog`].
    fn read(&self, after: Position) -> impl Future<Output = Result<Vec<Entry>>> + Send;

    /// Removes batches up to and including `up_to`, see [`crate::Log::trim`].
    fn trim(&self, up_to: Position) -> impl Future<Output = Result<()>> + Send;

    /// The marks of commands to skip that this node knows the shared log to have, in order.
    fn skips(&self) -> impl Future<Output = Result<Vec<Skip>>> + Send;

    /// The commands that this node has agreed to have skipped and does not know to be marked.
    fn agreed(&self) -> impl Future<Output = Result<Vec<Skip>>> + Send;

    /// Keeps marks of the shared log, durably. What was only agreed to is marked from then on.
    fn keep_skips(&self, marks: Vec<Skip>) -> impl Future<Output = Result<()>> + Send;
}

/// Whether the batch at `position` is to be put behind `last`, where the journal ends. One that leaves others out is refused.
pub(crate) fn is_next(last: Position, position: Position) -> Result<bool> {
    if position.generation == last.generation && position.ordinal <= last.ordinal {
        return Ok(false);
    }
    let follows = position.ordinal == last.ordinal + 1 || Bug::JournalGapIgnored.planted();
    if position.generation == last.generation && follows {
        return Ok(true);
    }
    Err(Error::NotInLog { asked: position, last })
}

impl OwnCopy for Journal {
    fn meta(&self) -> &Meta {
        self.meta()
    }

    fn last(&self) -> Position {
        self.last()
    }

    fn synced(&self) -> Position {
        self.synced()
    }

    fn trimmed(&self) -> Position {
        self.trimmed()
    }

    async fn put(&self, entry: &Entry) -> Result<()> {
        self.put(entry).await
    }

    async fn flush(&self) -> Result<()> {
        self.flush().await
    }

    async fn read(&self, after: Position) -> Result<Vec<Entry>> {
        self.read(after).await
    }

    async fn trim(&self, up_to: Position) -> Result<()> {
        self.trim(up_to).await
    }

    async fn skips(&self) -> Result<Vec<Skip>> {
        self.skips().await
    }

    async fn agreed(&self) -> Result<Vec<Skip>> {
        self.agreed().await
    }

    async fn keep_skips(&self, marks: Vec<Skip>) -> Result<()> {
        self.keep_skips(marks).await
    }
}
