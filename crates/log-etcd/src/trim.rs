//! Trimming: batches go and the trim position moves in one transaction; compaction follows and never passes that position.

use std::sync::Arc;

use ieum_log::{Error, Position, Result};
use ieum_planted::Bug;

use crate::Inner;
use crate::assemble::Cursor;
use crate::error::{CallError, CompactedElsewhere, Torn, failed};
use crate::history::{Placement, places};
use crate::keys::Trim;
use crate::proto::TxnRequest;
use crate::txn::{Answers, MOST_OPERATIONS, delete, get, put, put_at};

/// How many batches are removed in one transaction, beside what it does else.
const BATCHES: usize = MOST_OPERATIONS - 28;

const OPERATION: &str = "trimming the log";

impl Inner {
    /// Removes batches up to and including `up_to`.
    pub(crate) async fn trim(&self, up_to: Position) -> Result<()> {
        let mut newest = 0;
        let trimmed = loop {
            let ends = self.cluster.ends(&self.keys).await?;
            let last = self.position(ends.last);
            if up_to.generation != last.generation || up_to > last {
                return Err(Error::NotInLog { asked: up_to, last });
            }
            if up_to.ordinal <= ends.trim.ordinal {
                break ends.trim;
            }
            let mut from =
                Cursor { ordinal: ends.trim.ordinal, revision: ends.trim.revision.max(ends.first_revision - 1) };
            let going = loop {
                let places = match places(&self.cluster, &self.keys, from, ends.revision).await {
                    Ok(places) => places,
                    // Another node may have trimmed and compacted meanwhile: then it is looked anew, from where that one got.
                    Err(CallError::Compacted) => break None,
                    Err(CallError::Log(error)) => return Err(error),
                };
                from = places.cursor;
                if !places.found.is_empty() || from.revision >= ends.revision {
                    break Some(places.found);
                }
            };
            let Some(mut going) = going else {
                self.check_moved(ends.trim).await?;
                continue;
            };
            going.retain(|place| place.cursor.ordinal <= up_to.ordinal);
            going.truncate(BATCHES);
            if going.is_empty() {
                let reason = "no revision has what follows".to_owned();
                return Err(failed(OPERATION)(Torn { ordinal: ends.trim.ordinal, reason }));
            }
            newest = self.remove(&going, ends.trim_put_at).await?.max(newest);
        };
        if trimmed.ordinal == 0 {
            return Ok(());
        }
        // Not up to the deletion itself: what lies between is history that readers still need.
        let revision = if Bug::EtcdCompactsTooFar.planted() { newest.max(trimmed.revision) } else { trimmed.revision };
        Arc::clone(&self.cluster).compact(revision).await
    }

    /// Removes these batches, unless the trim position has moved since. Tells the revision.
    async fn remove(&self, going: &[Placement], trim_put_at: i64) -> Result<i64> {
        let Some(Placement { cursor, .. }) = going.last() else { return Ok(0) };
        let trim = Trim { ordinal: cursor.ordinal, revision: cursor.revision };
        let mut success = vec![put(self.keys.trim(), trim.encode())];
        success.extend(going.iter().map(|place| delete(self.keys.batch(place.placed.id))));
        let compare = vec![put_at(self.keys.trim(), trim_put_at)];
        let request = TxnRequest { compare, success, failure: vec![get(self.keys.trim())] };
        let answer = self.cluster.txn(OPERATION, request).await.map_err(|error| error.into_log(OPERATION))?;
        Answers::new(answer).map(|answers| answers.revision).map_err(failed(OPERATION))
    }

    /// An error unless the trim position is another than `was`: else looking again would find the same.
    async fn check_moved(&self, was: Trim) -> Result<()> {
        let ends = self.cluster.ends(&self.keys).await?;
        if ends.trim == was { Err(failed(OPERATION)(CompactedElsewhere)) } else { Ok(()) }
    }
}
