//! One append is one transaction, and this is what it asks and what its answer means.
//!
//! *If* the node's registration is the one of this incarnation, *and* that incarnation has appended exactly the batches before this one,
//! *and* this batch is not there, *then* it is put and counted. Else the answer tells which of these does not hold.

use bytes::Bytes;
use ieum_log::BatchId;
use ieum_planted::Bug;

use crate::keys::{Keys, Placed};
use crate::proto::{TxnRequest, TxnResponse};
use crate::txn::{Answers, Malformed, get, put, put_at, version_is};

/// What became of an append.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the log with this ordinal, now or since an earlier try.
    Placed(u64),
    /// It is in the log since this revision; the count of that revision tells its ordinal.
    PlacedAt(i64),
    /// Other bytes have its id, or its number is not the next.
    Conflict,
    /// The node was removed, or another life of it has begun.
    Fenced,
}

/// The transaction. None for numbers that no registration can have given.
pub(crate) fn request(keys: &Keys, id: BatchId, bytes: &Bytes) -> Option<TxnRequest> {
    let incarnation = i64::try_from(id.incarnation).ok().filter(|incarnation| *incarnation > 0)?;
    let before = i64::try_from(id.number).ok()?.checked_sub(1)?;
    let (node, head, batch, count) = (keys.node(id.node), keys.head(id), keys.batch(id), keys.count());
    let mut compare = Vec::new();
    if !Bug::EtcdFenceUnchecked.planted() {
        compare.push(put_at(node.clone(), incarnation));
    }
    // The head also knows of batches that were trimmed, and of those that are missing.
    if !Bug::EtcdRetryAppliedTwice.planted() && !Bug::EtcdTrimmedRetryTaken.planted() {
        compare.push(version_is(head.clone(), before));
    }
    if !Bug::EtcdRetryAppliedTwice.planted() {
        compare.push(version_is(batch.clone(), 0));
    }
    let success = vec![
        put(batch.clone(), bytes.clone()),
        put(count.clone(), Placed::new(id, bytes).encode()),
        put(head, Bytes::new()),
        get(count.clone()),
    ];
    Some(TxnRequest { compare, success, failure: vec![get(node), get(batch), get(count)] })
}

/// Reads the answer to [`request`].
pub(crate) fn judge(id: BatchId, bytes: &Bytes, answer: TxnResponse) -> Result<Outcome, Malformed> {
    let mut answers = Answers::new(answer)?;
    if answers.succeeded {
        answers.pass_over_writes(3)?;
        let count = answers.one()?.ok_or(Malformed)?;
        return u64::try_from(count.version).map(Outcome::Placed).map_err(|_| Malformed);
    }
    let (node, batch, count) = (answers.one()?, answers.one()?, answers.one()?);
    match batch {
        Some(batch) if batch.value != *bytes => Ok(Outcome::Conflict),
        Some(batch) => match count {
            // Nothing came after it.
            Some(count) if count.mod_revision == batch.mod_revision => {
                u64::try_from(count.version).map(Outcome::Placed).map_err(|_| Malformed)
            }
            _ => Ok(Outcome::PlacedAt(batch.mod_revision)),
        },
        None if node.is_some_and(|node| u64::try_from(node.mod_revision) == Ok(id.incarnation)) => {
            Ok(Outcome::Conflict)
        }
        None => Ok(Outcome::Fenced),
    }
}
