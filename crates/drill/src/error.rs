//! The one error of the helpers: which operation failed, and why.

use std::io;

/// An operation on the machine that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {source}")]
pub struct Error {
    operation: String,
    source: io::Error,
}

impl Error {
    pub(crate) fn new(operation: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { operation: operation.into(), source: source.into() }
    }

    pub(crate) fn other(operation: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(operation, io::Error::other(why.into()))
    }

    /// What failed underneath.
    pub fn io(&self) -> &io::Error {
        &self.source
    }
}

/// Names the operation that a result belongs to.
pub(crate) trait Naming<T> {
    fn naming(self, operation: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Naming<T> for Result<T, E> {
    fn naming(self, operation: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::new(operation(), error))
    }
}
