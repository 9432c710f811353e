//! Where the log begins and ends, read in one transaction: linearizable.

use crate::keys::{Keys, NotOurs, Trim};
use crate::proto::TxnRequest;
use crate::txn::{Answers, Malformed, get, read};

/// The ends of a log at one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The revision at which they were read.
    pub(crate) revision: i64,
    /// The newest ordinal; 0 when nothing was ever appended.
    pub(crate) last: u64,
    /// When that was appended, and when the first one was.
    pub(crate) last_revision: i64,
    pub(crate) first_revision: i64,
    pub(crate) trim: Trim,
    /// When the trim position was put; 0 when it never was.
    pub(crate) trim_put_at: i64,
}

/// Answers that tell no ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
}

impl Ends {
    pub(crate) fn request(keys: &Keys) -> TxnRequest {
        read(vec![get(keys.count()), get(keys.trim())])
    }

    pub(crate) fn read(mut answers: Answers) -> Result<Self, Unreadable> {
        let (count, trim) = (answers.one()?.unwrap_or_default(), answers.one()?);
        let (trim, trim_put_at) = match trim {
            Some(kv) => (Trim::decode(&kv.key, &kv.value)?, kv.mod_revision),
            None => (Trim::default(), 0),
        };
        Ok(Self {
            revision: answers.revision,
            last: u64::try_from(count.version).map_err(|_| Malformed)?,
            last_revision: count.mod_revision,
            first_revision: count.create_revision,
            trim,
            trim_put_at,
        })
    }
}
