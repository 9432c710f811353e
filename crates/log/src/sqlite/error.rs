//! What goes wrong with a database, as errors of a log.

use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::{Error, Position};

/// A batch, or what is kept about the batches, is not what was written. The source of an [`Error::Engine`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("batch {position} of the log is damaged: {reason}; restore a backup with `ieum restore`")]
pub struct Damaged {
    /// The first batch that cannot be trusted.
    pub position: Position,
    /// How it shows.
    pub reason: String,
}

/// Another process has the log open. The source of an [`Error::Engine`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("another process uses the log in {}: stop that one first", directory.display())]
pub struct InUse {
    /// The log's folder.
    pub directory: PathBuf,
}

/// The database's file is not what SQLite wrote. The source of an [`Error::Engine`].
#[derive(Debug, thiserror::Error)]
#[error("the log's file is damaged; restore a backup with `ieum restore`")]
struct Malformed(#[source] rusqlite::Error);

/// An error of the engine while doing `operation`, from its source.
pub(super) fn failed<E>(operation: &'static str) -> impl FnOnce(E) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| Error::Engine { operation, source: Box::new(source) }
}

/// The same for SQLite's errors, of which a full disk is no failure.
pub(super) fn sqlite(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => failed(operation)(Malformed(source)),
        _ => failed(operation)(source),
    }
}

/// Whether SQLite says that the file is not what it wrote, as opposed to a disk that does not answer.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase),
        // Without a code, a column has another type or range than it was written with.
        None => true,
    }
}
