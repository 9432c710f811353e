//! Transactions: putting them together and reading their answers.

use bytes::Bytes;

use crate::keys::Range;
use crate::proto::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse,
    compare, request_op, response_op,
};

/// How many operations etcd takes in one transaction, unless `--max-txn-ops` says otherwise.
pub(crate) const MOST_OPERATIONS: usize = 128;

pub(crate) fn put(key: Bytes, value: Bytes) -> RequestOp {
    RequestOp { request: Some(request_op::Request::Put(PutRequest { key, value })) }
}

pub(crate) fn get(key: Bytes) -> RequestOp {
    get_at(key, 0)
}

/// Reads a key as it was at a revision.
pub(crate) fn get_at(key: Bytes, revision: i64) -> RequestOp {
    let range = RangeRequest { key, revision, ..RangeRequest::default() };
    RequestOp { request: Some(request_op::Request::Range(range)) }
}

pub(crate) fn get_all(range: Range) -> RequestOp {
    let range = RangeRequest { key: range.first, range_end: range.end, ..RangeRequest::default() };
    RequestOp { request: Some(request_op::Request::Range(range)) }
}

pub(crate) fn delete(key: Bytes) -> RequestOp {
    delete_all(Range { first: key, end: Bytes::new() })
}

pub(crate) fn delete_all(range: Range) -> RequestOp {
    let range = DeleteRangeRequest { key: range.first, range_end: range.end };
    RequestOp { request: Some(request_op::Request::DeleteRange(range)) }
}

/// The condition that a key was put so often since it was created; 0: it is not there.
pub(crate) fn version_is(key: Bytes, version: i64) -> Compare {
    compare(key, compare::Is::Equal, compare::Of::Version, compare::To::Version(version))
}

pub(crate) fn version_is_at_least(key: Bytes, version: i64) -> Compare {
    let below = compare::To::Version(version.saturating_sub(1));
    compare(key, compare::Is::Greater, compare::Of::Version, below)
}

/// The condition that a key was last put at a revision; 0: it is not there.
pub(crate) fn put_at(key: Bytes, revision: i64) -> Compare {
    compare(key, compare::Is::Equal, compare::Of::Mod, compare::To::ModRevision(revision))
}

fn compare(key: Bytes, is: compare::Is, of: compare::Of, to: compare::To) -> Compare {
    Compare { result: is.into(), target: of.into(), key, to: Some(to) }
}

/// A transaction that only reads: linearizable, all of it at one revision.
pub(crate) fn read(operations: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { compare: Vec::new(), success: operations, failure: Vec::new() }
}

/// An answer that does not fit its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer does not fit the request: is that etcd?")]
pub(crate) struct Malformed;

/// A transaction's answers, in the order of its operations.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) succeeded: bool,
    pub(crate) revision: i64,
    pub(crate) cluster: u64,
    operations: std::vec::IntoIter<ResponseOp>,
}

impl Answers {
    pub(crate) fn new(response: TxnResponse) -> Result<Self, Malformed> {
        let header = response.header.ok_or(Malformed)?;
        Ok(Self {
            succeeded: response.succeeded,
            revision: header.revision,
            cluster: header.cluster_id,
            operations: response.responses.into_iter(),
        })
    }

    /// The next operation's keys, which read some.
    pub(crate) fn all(&mut self) -> Result<Vec<KeyValue>, Malformed> {
        match self.operations.next().and_then(|operation| operation.response) {
            Some(response_op::Response::Range(range)) if !range.more => Ok(range.kvs),
            _ => Err(Malformed),
        }
    }

    /// The next operation's key, which read one.
    pub(crate) fn one(&mut self) -> Result<Option<KeyValue>, Malformed> {
        let mut found = self.all()?;
        let one = found.pop();
        if found.is_empty() { Ok(one) } else { Err(Malformed) }
    }

    /// Passes over the answers of operations that wrote.
    pub(crate) fn pass_over_writes(&mut self, count: usize) -> Result<(), Malformed> {
        for _ in 0..count {
            match self.operations.next().and_then(|operation| operation.response) {
                Some(response_op::Response::Put(_) | response_op::Response::DeleteRange(_)) => {}
                _ => return Err(Malformed),
            }
        }
        Ok(())
    }
}
