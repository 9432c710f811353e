//! The narrow ordered key-value interface that the state machine needs from a view engine.
//!
//! Keys are compared as unsigned bytes. Engines live in the `ieum-store` crate; `core` itself only ever reads through
//! [`Read`] and hands back one [`WriteSet`] per batch.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

/// A failure of the key-value engine. It stops the node and never becomes an outcome.
#[derive(Debug, thiserror::Error)]
#[error("view store: {operation} failed")]
pub struct Error {
    /// What was attempted, for example `"get"` or `"commit"`.
    pub operation: &'static str,
    /// Why it failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Error {
    /// An error of `operation` caused by `source`.
    pub fn new(operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { operation, source: source.into() }
    }
}

/// Result of a key-value operation.
pub type Result<T> = std::result::Result<T, Error>;

/// In which order [`Read::scan`] visits keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Backward,
}

/// What [`Read::scan`] calls for each row; `ControlFlow::Break` ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &Bytes) -> ControlFlow<()> + 'a;

/// A consistent, immutable look at all rows.
///
/// MUST: two calls on the same value see the same rows, whatever is committed meanwhile.
pub trait Read {
    /// The value at `key`, or `None` when there is no such row.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// Calls `visit` for each row with `from <= key < to`, in `direction`, until it breaks.
    /// `from >= to` is an empty range, not an error.
    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> Result<()>;
}

impl<R: Read + ?Sized> Read for &R {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        (**self).get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> Result<()> {
        (**self).scan(from, to, direction, visit)
    }
}

/// The changes of one batch: for each key its new value, or `None` where the row is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteSet {
    /// Ordered by key, so that a digest over it is the same everywhere.
    pub rows: BTreeMap<Vec<u8>, Option<Bytes>>,
}

/// An ordered key-value engine.
///
/// ```text
/// commit(A) ──► commit(B) ──► persist() ──► commit(C)     power cut
///    what is found after a restart: a prefix of A, B, C in which A and B are whole; C is there whole or not at all
/// ```
///
/// One writer, any number of readers.
pub trait Kv: Send + Sync + 'static {
    /// A consistent look at the rows, see [`Kv::snapshot`].
    type Snapshot: Read + Send + Sync + 'static;
    /// Every row of a snapshot, see [`Kv::rows`].
    type Rows: Iterator<Item = Result<(Bytes, Bytes)>> + Send + 'static;

    /// A look at the rows as they are after the last commit. Cheap (no copying), but not to be held for longer than a
    /// request takes: while it is held the engine may keep in memory whatever is committed.
    fn snapshot(&self) -> Self::Snapshot;

    /// Every row of `snapshot`, keys ascending, for readers that take minutes.
    ///
    /// MUST: exactly the rows of `snapshot`, whatever is committed meanwhile. `snapshot` is let go of at once, and what is
    /// committed while the rows are read costs no memory (it may cost disk space, up to the size of the view).
    fn rows(&self, snapshot: Self::Snapshot) -> Self::Rows;

    /// Applies `writes` atomically: a snapshot or a restart sees all of it or none of it. Visible to snapshots taken
    /// after it returns. Not durable until the next [`Kv::persist`].
    fn commit(&self, writes: &WriteSet) -> Result<()>;

    /// Makes everything committed so far survive a power cut. Blocks.
    fn persist(&self) -> Result<()>;
}
