//! Why something could not be done.

use std::io;
use std::path::PathBuf;

use ieum_client::{Failure, HttpError, OpenError, Stop, store};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0:?} is no profile's name: use letters, digits, - and _")]
    ProfileName(String),
    #[error("there is no home folder: set IEUM_HOME")]
    NoHome,
    #[error("making the folder {} failed", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("removing {} failed", path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("nobody is signed in on profile {0:?}: `ieum account register` or `ieum account login` first")]
    NobodySignedIn(String),
    #[error("profile {0:?} is signed in already: `ieum account logout` first, or give another --profile")]
    SignedInAlready(String),
    #[error("the account is there and this device is signed in to it, but that could not be kept")]
    NotKept(#[source] store::Error),
    #[error("no password: set IEUM_PASSWORD or give it as a line of the standard input")]
    NoPassword,
    #[error("nobody has the handle {0:?}")]
    NobodyHas(String),
    #[error("the server's answer names no room")]
    NoRoom,
    #[error("the server has not answered yet; the message is kept, and goes out with the next send, tail or chat")]
    NotYetSent,
    #[error("{file} has no title, so it cannot be known which chat it is: give --room NAME")]
    NoTitle { file: String },
    #[error("no file is a chat that can be read")]
    NothingUnderstood,
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error(transparent)]
    Stopped(#[from] Stop),
    #[error(transparent)]
    Import(#[from] ieum_import::Error),
    #[error("writing the output failed")]
    Output(#[source] io::Error),
    #[error("reading the input failed")]
    Input(#[source] io::Error),
    #[error("a task of the client broke: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    /// Whether nobody reads the output any more.
    pub(crate) fn output_closed(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
