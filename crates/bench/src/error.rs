//! Why a measurement was not made.

use std::path::{Path, PathBuf};

/// Why a measurement was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system or the system said no.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// The system gives a process too few files.
    #[error(
        "this process may open {limit} files, but {what} needs {needed}: raise the hard limit (`ulimit -Hn {needed}`, or LimitNOFILE \
         of a systemd unit), or measure with QUICK=1"
    )]
    Files {
        /// What needs them.
        what: &'static str,
        /// How many.
        needed: u64,
        /// How many there are.
        limit: u64,
    },
    /// There is not enough room.
    #[error("{} has {free_mib} MiB free, the servers' data need {needed_mib}: name another folder with --dir", folder.display())]
    Disk {
        /// Where.
        folder: PathBuf,
        /// What is free.
        free_mib: u64,
        /// What is needed.
        needed_mib: u64,
    },
    /// Such a measurement there is not.
    #[error("there is no measurement {0:?}; there are {1}")]
    Unknown(String, String),
    /// The first data cannot be made.
    #[error("making the first data: {0}")]
    Seed(String),
    /// The certificate for TLS cannot be made.
    #[error("making a certificate: {0}")]
    Certificate(String),
    /// The server did not do what it should.
    #[error("the server did not run: {0}")]
    Server(String),
    /// A client did not do what it should.
    #[error("a client failed: {0}")]
    Client(String),
    /// What came back is not what was sent: a measurement of it would mean nothing.
    #[error("{0}")]
    Wrong(String),
}

/// Says what was being done.
pub(crate) fn doing(operation: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { operation, path: path.clone(), source }
}
