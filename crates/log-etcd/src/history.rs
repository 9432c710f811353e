//! What the log was at earlier revisions: etcd keeps every value of the count, and with it which batch has which ordinal, until
//! compaction, which never goes beyond what was trimmed.

use ieum_log::Error;

use crate::assemble::{Batch, Cursor};
use crate::ends::Ends;
use crate::error::{CallError, Torn, failed};
use crate::keys::{Keys, Placed, Trim};
use crate::members::Cluster;
use crate::txn::{get, get_at, read};

/// How many revisions are looked at in one transaction; etcd takes 128 operations.
const REVISIONS: i64 = 100;

/// How many bytes of batches are read in one transaction, or one batch if that is larger.
const PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// A batch's place, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) cursor: Cursor,
    pub(crate) placed: Placed,
}

/// Some of what follows a cursor.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) found: Vec<Placement>,
    /// Behind all that was found.
    pub(crate) cursor: Cursor,
    pub(crate) trim: Trim,
}

/// The places of the batches that were appended in the next revisions behind `from`, up to `to`.
pub(crate) async fn places(cluster: &Cluster, keys: &Keys, from: Cursor, to: i64) -> Result<Places, CallError> {
    let operation = "reading which batches follow";
    let end = to.min(from.revision.saturating_add(REVISIONS));
    let mut operations = vec![get(keys.trim())];
    operations.extend((from.revision.saturating_add(1)..=end).map(|revision| get_at(keys.count(), revision)));
    let reads = operations.len();
    let mut answers = cluster.ask(operation, read(operations)).await?;
    let trim = answers.one().map_err(failed(operation))?;
    let trim = trim.map(|kv| Trim::decode(&kv.key, &kv.value)).transpose().map_err(failed(operation))?;
    let mut found = Vec::new();
    let mut cursor = from;
    for _ in 1..reads {
        // Nothing was appended before the first batch was.
        let Some(count) = answers.one().map_err(failed(operation))? else { continue };
        let ordinal = u64::try_from(count.version).unwrap_or(0);
        if ordinal <= cursor.ordinal {
            continue;
        }
        if ordinal != cursor.ordinal + 1 {
            let reason = format!("batch {} comes before it", cursor.ordinal);
            return Err(torn(operation, ordinal, reason).into());
        }
        let placed = Placed::decode(&count.key, &count.value).map_err(failed(operation))?;
        cursor = Cursor { ordinal, revision: count.mod_revision };
        found.push(Placement { cursor, placed });
    }
    let cursor = Cursor { revision: end.max(from.revision), ..cursor };
    Ok(Places { found, cursor, trim: trim.unwrap_or_default() })
}

/// Reads the batches at the beginning of `places`, as many as make a page. They are there as they were appended, trimmed or not.
pub(crate) async fn batches(cluster: &Cluster, keys: &Keys, places: &[Placement]) -> Result<Vec<Batch>, CallError> {
    let operation = "reading batches";
    let mut bytes = 0u64;
    let fits = |place: &&Placement| {
        let first = bytes == 0;
        bytes += u64::from(place.placed.length).max(1);
        first || bytes <= PAGE_BYTES
    };
    let places: Vec<_> = places.iter().take_while(fits).collect();
    let operations = places.iter().map(|place| get_at(keys.batch(place.placed.id), place.cursor.revision)).collect();
    let mut answers = cluster.ask(operation, read(operations)).await?;
    let mut batches = Vec::new();
    for place in places {
        let batch = answers.one().map_err(failed(operation))?;
        let batch = batch.filter(|kv| place.placed.fits(&kv.value));
        let Some(kv) = batch else {
            let reason = "it is not what was appended".to_owned();
            return Err(torn(operation, place.cursor.ordinal, reason).into());
        };
        batches.push(Batch { cursor: place.cursor, placed: place.placed, bytes: kv.value });
    }
    Ok(batches)
}

/// What was appended last, as the log was at `revision`; nothing and 0 before the first batch.
pub(crate) async fn counted(cluster: &Cluster, keys: &Keys, revision: i64) -> Result<(u64, Option<Placed>), CallError> {
    let operation = "looking what the log was";
    let mut answers = cluster.ask(operation, read(vec![get_at(keys.count(), revision)])).await?;
    let Some(count) = answers.one().map_err(failed(operation))? else { return Ok((0, None)) };
    let placed = Placed::decode(&count.key, &count.value).map_err(failed(operation))?;
    Ok((u64::try_from(count.version).unwrap_or(0), Some(placed)))
}

/// At which revision the batch `ordinal` was appended, which has to be between the ends. For 0, one before the first batch.
pub(crate) async fn locate(cluster: &Cluster, keys: &Keys, ends: &Ends, ordinal: u64) -> Result<i64, CallError> {
    let operation = "finding a batch";
    if ordinal == ends.last && ordinal > 0 {
        return Ok(ends.last_revision);
    }
    if ordinal == ends.trim.ordinal && ordinal > 0 {
        return Ok(ends.trim.revision);
    }
    if ordinal == 0 {
        return Ok(if ends.last == 0 { ends.revision } else { ends.first_revision.saturating_sub(1) });
    }
    let mut search = Search::new(ends, ordinal);
    while let Some(probes) = search.probes() {
        let operations = probes.iter().map(|revision| get_at(keys.count(), *revision)).collect();
        let mut answers = cluster.ask(operation, read(operations)).await?;
        for probe in probes {
            let count = answers.one().map_err(failed(operation))?.unwrap_or_default();
            let seen = Cursor { ordinal: u64::try_from(count.version).unwrap_or(0), revision: count.mod_revision };
            if let Some(found) = search.take(probe, seen) {
                return Ok(found);
            }
        }
    }
    Err(torn(operation, ordinal, "no revision has it".to_owned()).into())
}

fn torn(operation: &'static str, ordinal: u64, reason: String) -> Error {
    failed(operation)(Torn { ordinal, reason })
}

/// Looks for the revision of a batch among those where it can be.
#[derive(Debug)]
pub(crate) struct Search {
    ordinal: u64,
    low: i64,
    high: i64,
}

impl Search {
    pub(crate) fn new(ends: &Ends, ordinal: u64) -> Self {
        // Revisions begin with 1, whatever somebody says.
        let low = ends.first_revision.max(ends.trim.revision).max(0);
        Self { ordinal, low, high: ends.last_revision.saturating_sub(1) }
    }

    /// The revisions to look at next, evenly spread; none when it is nowhere.
    pub(crate) fn probes(&self) -> Option<Vec<i64>> {
        if self.low > self.high {
            return None;
        }
        let step = ((self.high - self.low) / REVISIONS).max(1);
        let probes = (0..REVISIONS).map(|n| self.low.saturating_add(n.saturating_mul(step)));
        let probes = probes.take_while(|probe| *probe < self.high);
        Some(probes.chain([self.high]).collect())
    }

    /// Takes in which batch was the newest at `probe`. Tells the revision when it is found.
    pub(crate) fn take(&mut self, probe: i64, newest: Cursor) -> Option<i64> {
        match newest.ordinal.cmp(&self.ordinal) {
            std::cmp::Ordering::Equal => return Some(newest.revision),
            std::cmp::Ordering::Less => self.low = self.low.max(probe.saturating_add(1)),
            std::cmp::Ordering::Greater => self.high = self.high.min(newest.revision.min(probe).saturating_sub(1)),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every batch is found in a log whose batches lie `spread` revisions apart, in few rounds.
    fn find_all(count: u64, spread: i64, rounds: usize) {
        let revision = |ordinal: u64| i64::try_from(ordinal).unwrap() * spread + 1000;
        let ends = Ends {
            revision: revision(count) + 5,
            last: count,
            last_revision: revision(count),
            first_revision: revision(1),
            trim: Trim::default(),
            trim_put_at: 0,
        };
        let at = |probe: i64| u64::try_from((probe - 1000) / spread).unwrap().min(count);
        for ordinal in (1..count).step_by(usize::try_from(count / 500 + 1).unwrap()) {
            let mut search = Search::new(&ends, ordinal);
            let found = (0..rounds).find_map(|_| {
                let probes = search.probes().expect("it is somewhere");
                assert!(probes.len() as i64 <= REVISIONS + 1 && probes.is_sorted());
                probes
                    .into_iter()
                    .find_map(|probe| search.take(probe, Cursor { ordinal: at(probe), revision: revision(at(probe)) }))
            });
            assert_eq!(found, Some(revision(ordinal)));
        }
    }

    #[test]
    fn every_batch_is_found_in_few_rounds() {
        find_all(2, 1, 1);
        find_all(90, 1, 1);
        find_all(5000, 3, 3);
        find_all(1_000_000, 2, 4);
    }

    #[test]
    fn a_batch_that_is_nowhere_ends_the_search() {
        let mut search = Search { ordinal: 5, low: 10, high: 12 };
        for probe in search.probes().unwrap() {
            assert_eq!(search.take(probe, Cursor { ordinal: 4, revision: 9 }), None);
        }
        assert_eq!(search.probes(), None);
    }
}
