//! What goes wrong with etcd, as errors of a log.

use ieum_log::Error;
use tonic::{Code, Status};

/// An error while doing `operation`, from its source.
pub(crate) fn failed<E>(operation: &'static str) -> impl FnOnce(E) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| Error::Engine { operation, source: Box::new(source) }
}

/// No member gave an answer in time. The source of an [`Error::Engine`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no member of etcd answered: {}. Is etcd running there, are the [log] endpoints its own, and all certificates in date and of one authority?",
    members.join("; ")
)]
pub struct Unreachable {
    /// For each member its URL, and what was last heard of it.
    pub members: Vec<String>,
}

/// A member refused a request. The source of an [`Error::Engine`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("the member {member} refused the request")]
pub struct Refused {
    /// Its URL.
    pub member: String,
    /// What it said.
    #[source]
    pub status: Status,
}

/// The history that the log still needs is gone. The source of an [`Error::Engine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "etcd was compacted beyond what the log has trimmed: run it with automatic compaction off and let nobody else compact it; \
     a node that needs what is gone must resync"
)]
pub struct CompactedElsewhere;

/// Nothing can be written. The source of an [`Error::Engine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "etcd is at its quota (alarm NOSPACE) and takes nothing: give each member a larger --quota-backend-bytes, or make room with `etcdctl \
     defrag` on each, and then say `etcdctl alarm disarm`"
)]
pub struct AtQuota;

/// The log does not hold together. The source of an [`Error::Engine`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log in etcd does not hold together at batch {ordinal}: {reason}")]
pub struct Torn {
    /// The batch at which it shows.
    pub ordinal: u64,
    /// How.
    pub reason: String,
}

/// Why a request to the cluster failed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// It asked for history that is compacted.
    Compacted,
    Log(Error),
}

impl CallError {
    /// As an error of the log, where compaction was not to be expected.
    pub(crate) fn into_log(self, operation: &'static str) -> Error {
        match self {
            Self::Compacted => failed(operation)(CompactedElsewhere),
            Self::Log(error) => error,
        }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Log(error)
    }
}

/// What a member's refusal means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Another try, or another member, may do better.
    Again,
    /// The history that it asks for is compacted.
    Compacted,
    /// The database is at its quota; nothing was written.
    Full,
    /// It would be refused for ever.
    Never,
}

/// Reads a refusal. The texts are etcd's, which has no codes fine enough.
pub(crate) fn meaning(status: &Status) -> Meaning {
    match status.code() {
        Code::OutOfRange if status.message().contains("has been compacted") => Meaning::Compacted,
        Code::OutOfRange if status.message().contains("future revision") => Meaning::Again,
        Code::ResourceExhausted if status.message().contains("space exceeded") => Meaning::Full,
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Meaning::Never,
        _ => Meaning::Again,
    }
}

/// An error with its sources, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
