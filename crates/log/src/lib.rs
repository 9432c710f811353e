//! The durable, totally ordered sequence of batches that a cell agrees on.
//!
//! A log knows nothing of messages: it orders opaque bytes. The contract is on [`Log`]; the suite in [`conformance`]
//! checks it against every engine.
//!
//! ```text
//!  node ──append(id, bytes)──► LOG  position = (generation, 1) (generation, 2) (generation, 3) …
//!                               │
//!                               └──tail(after)──► every node, each batch once, in order, no gap
//! ```

pub mod conformance;
pub mod journaled;
pub mod memory;
pub mod memory_journal;
mod numbering;
pub mod sqlite;
pub mod weights;

use std::fmt;
use std::future::Future;

use bytes::Bytes;

pub use self::numbering::{can_be_skipped, stands_before};

/// Where a batch stands: which life of the log, and its dense number 1, 2, 3 … in it. Ordinal 0 is the place before the
/// first batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// One life of the log; a new one begins when the log is rebuilt or restored.
    pub generation: u32,
    /// 1 for the first batch of the generation, then dense.
    pub ordinal: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.ordinal)
    }
}

/// Names one batch for ever: a retry of an append carries the same id and has no second effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// The appending node.
    pub node: u32,
    /// One life of that node's process; grows with every start.
    pub incarnation: u64,
    /// 1 for the first batch of an incarnation, then dense.
    pub number: u64,
}

/// A batch as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// Who appended it, and as which.
    pub id: BatchId,
    /// The bytes handed to [`Log::append`].
    pub bytes: Bytes,
}

/// A command that an operator marked to be skipped: the batch that it is in, and which command of it, from 0.
pub type Skip = (Position, u32);

/// The room that a log has, of which it tells when it is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes in use, as measured last.
    pub used: u64,
    /// With so many in use, appends are refused.
    pub most: u64,
}

/// Batches up to this size pass a log that is nearly full, up to a quarter above its room: ticks, without which nothing would be appended behind a
/// trim, and what that trim freed could never be given back.
const SMALL: usize = 4096;

impl Room {
    /// Whether an engine that gives back what is trimmed only when more was appended takes a batch of so many bytes.
    #[must_use]
    pub fn takes(self, bytes: usize) -> bool {
        let above = if bytes <= SMALL { self.most / 4 } else { 0 };
        self.used < self.most.saturating_add(above)
    }
}

/// The largest batch that [`Log::append`] takes, in bytes.
pub const MAX_BATCH_BYTES: usize = 512 * 1024;

/// Why a log operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `after` (or something behind it) was trimmed: the reader must resync from a snapshot.
    #[error("the log was trimmed up to {trimmed}; what follows {after} is no longer in it")]
    Trimmed {
        /// Where the reader wanted to go on.
        after: Position,
        /// The last position that was trimmed away.
        trimmed: Position,
    },
    /// A position of another generation, or beyond the last one.
    #[error("position {asked} is not in this log, which ends at {last}")]
    NotInLog {
        /// The position asked for.
        asked: Position,
        /// The last position of the log.
        last: Position,
    },
    /// The batch is larger than [`MAX_BATCH_BYTES`].
    #[error("a batch of {bytes} bytes is over the limit of {MAX_BATCH_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The same id was appended before with other bytes, or its number is not the next of its incarnation, or a later
    /// incarnation of its node has appended. Nothing was appended.
    #[error("batch {id:?} conflicts with what the log holds")]
    Conflict {
        /// The id.
        id: BatchId,
    },
    /// The batch's node was removed from the log, or another life of it has begun. Nothing was appended.
    #[error(
        "node {} no longer writes to the log as {}: it was removed from the cell, or another process runs as it", id.node, id.incarnation
    )]
    Fenced {
        /// The id.
        id: BatchId,
    },
    /// This node has agreed to skip a command, and does not know it to be marked: it stands before it until it is marked, or it disagrees.
    #[error(
        "this node stands before the batch at {position}, because it agreed to have command {index} of it skipped, and as far as it knows the \
         other nodes have not all agreed: run `ieum log skip {position} {index}` on them and then here again, or take it back here with \
         `ieum log skip {position} {index} --take-back`"
    )]
    Held {
        /// Where the batch stands.
        position: Position,
        /// Which command of it, from 0.
        index: u32,
    },
    /// The log belongs to another cell or is not a log of ours.
    #[error("{0}")]
    Foreign(String),
    /// The disk is full. Nothing was written; appending may be tried again when there is room.
    #[error("no space left for the log")]
    Full,
    /// The engine failed. Whether an append took effect is unknown until it is retried with the same id.
    #[error("log: {operation} failed")]
    Engine {
        /// What was attempted.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// Result of a log operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A durable total order of batches.
pub trait Log: Send + Sync + 'static {
    /// What [`Log::tail`] gives.
    type Tail: Tail;

    /// Appends one batch. When it returns a position, the batch is durable there: it survives power loss.
    ///
    /// MUST: the same `id` with the same `bytes` again returns the first position and appends nothing, as long as the
    /// batch is in the log. The same `id` with other bytes is [`Error::Conflict`], and so is a number that leaves one of
    /// its incarnation out: else a batch that failed while later ones were on their way would be overtaken, and lost
    /// when it is retried. An error other than `Conflict`, `Fenced`, `TooLarge` and `Full` leaves it open whether the batch is in
    /// the log. Dropping the future does too.
    fn append(&self, id: BatchId, bytes: Bytes) -> impl Future<Output = Result<Position>> + Send;

    /// Begins a new life of `node` and gives its incarnation: `least` or more, and greater than any before. A log that several nodes write to
    /// takes nothing of an earlier life from here on.
    fn register(&self, node: u32, least: u64) -> impl Future<Output = Result<u64>> + Send {
        let _ = node;
        async move { Ok(least) }
    }

    /// Has what `node` appends from now on refused, if the log keeps account of the nodes that write to it.
    fn remove(&self, node: u32) -> impl Future<Output = Result<()>> + Send {
        let _ = node;
        async { Ok(()) }
    }

    /// Reads on from the batch after `after`, then waits for new ones.
    ///
    /// MUST: each batch once, ordinals `after.ordinal + 1`, `+ 2`, … without a gap; only durable batches are shown.
    /// [`Error::NotInLog`] when `after` is of another generation or beyond the last position, [`Error::Trimmed`] when
    /// the batch after it was trimmed.
    fn tail(&self, after: Position) -> impl Future<Output = Result<Self::Tail>> + Send;

    /// Removes batches up to and including `up_to`. Ordinals are never reused. Trimming what is already trimmed does
    /// nothing; trimming beyond the last position or in another generation is [`Error::NotInLog`]. After another error,
    /// or when the future was dropped, any first part of what was asked for may be gone.
    fn trim(&self, up_to: Position) -> impl Future<Output = Result<()>> + Send;

    /// Marks the command `index` (from 0) of the batch at `position` to be skipped by whoever applies it. Durable when it returns, kept
    /// for the log's life, and the same mark again does nothing. The caller MUST know that no view has passed `position`: a view
    /// that did would differ from then on.
    ///
    /// MUST: [`Error::NotInLog`] when `position` is of another generation, before the first batch or beyond the last,
    /// [`Error::Trimmed`] when it was trimmed.
    fn skip(&self, position: Position, index: u32) -> impl Future<Output = Result<()>> + Send;

    /// Every mark that [`Log::skip`] made, in order.
    fn skips(&self) -> impl Future<Output = Result<Vec<Skip>>> + Send;

    /// The position of the last durable batch, linearizable: never before one that an append has returned or a tail has
    /// shown. Ordinal 0 when nothing was ever appended; trimming does not change it.
    fn last(&self) -> impl Future<Output = Result<Position>> + Send;

    /// The last position that was trimmed away; ordinal 0 when none was.
    fn trimmed_to(&self) -> impl Future<Output = Result<Position>> + Send;

    /// The room that the log has, if it is bounded by something else than the disk. Blocks for nothing.
    fn room(&self) -> Option<Room> {
        None
    }

    /// Returns when what tails have shown before would be there again after a power cut of this machine alone. A log whose batches lie here
    /// anyway has nothing to do.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

/// A log of which this machine has a copy of its own, in the same kind of database.
pub trait Kept: Log {
    /// What the copy says of itself.
    fn meta(&self) -> &sqlite::Meta;

    /// The last position that was trimmed away here; ordinal 0 when none was.
    fn trimmed(&self) -> Position;

    /// Whether what is kept here is a node's copy of a log that lies elsewhere.
    fn is_copy(&self) -> bool;
}

/// A reader of a log, see [`Log::tail`].
pub trait Tail: Send + 'static {
    /// The next batch; waits until there is one. Cancel safe: dropping the future loses nothing.
    ///
    /// MUST: [`Error::Trimmed`] when the log was trimmed past this reader, which may first show what it has read
    /// already. After any error the reader is still at the same place.
    fn next(&mut self) -> impl Future<Output = Result<Entry>> + Send;
}
