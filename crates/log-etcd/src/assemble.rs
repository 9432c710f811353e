//! Puts what a watch shows together to batches, and notices when it skips.
//!
//! A watch can leave events out without a word (etcd before 3.4.31 and 3.5.13, when the watcher is slow). Each append changes the count,
//! whose version is the batch's ordinal and whose value names the batch: so whatever is missing shows.

use bytes::Bytes;
use ieum_planted::Bug;

use crate::keys::{Keys, NotOurs, Placed};
use crate::proto::{KeyValue, WatchResponse};

/// Where a reader stands: the last batch that it has, and a revision up to which there is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) ordinal: u64,
    pub(crate) revision: i64,
}

/// A batch with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) cursor: Cursor,
    /// Which one it is.
    pub(crate) placed: Placed,
    pub(crate) bytes: Bytes,
}

/// Why a watch cannot be gone on with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// Something is missing.
    #[error("the watch skipped from batch {after} to batch {to}")]
    Gap { after: u64, to: u64 },
    /// The batch that was counted is not what was appended.
    #[error("batch {0} is not what was appended")]
    Damaged(u64),
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
}

/// Reads one watch.
#[derive(Debug)]
pub(crate) struct Assembler {
    count: Bytes,
    keys: Keys,
    cursor: Cursor,
    /// The batch that was put and not yet counted.
    batch: Option<KeyValue>,
}

impl Assembler {
    /// Goes on behind `cursor`.
    pub(crate) fn new(keys: Keys, cursor: Cursor) -> Self {
        Self { count: keys.count(), keys, cursor, batch: None }
    }

    /// Takes an answer in, or a fragment of one, and appends to `batches` those that are complete with it, which are right even when an
    /// error follows. Where fragments are cut does not matter: a batch is complete when it is counted, and then it is shown.
    pub(crate) fn take(&mut self, answer: WatchResponse, batches: &mut Vec<Batch>) -> Result<(), Broken> {
        for event in answer.events {
            if let (0, Some(kv)) = (event.r#type, event.kv) {
                self.put(kv, batches)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, kv: KeyValue, batches: &mut Vec<Batch>) -> Result<(), Broken> {
        if kv.key != self.count {
            self.batch = Some(kv);
            return Ok(());
        }
        let ordinal = u64::try_from(kv.version).unwrap_or(0);
        if ordinal <= self.cursor.ordinal {
            return Ok(());
        }
        let gap = Broken::Gap { after: self.cursor.ordinal, to: ordinal };
        if ordinal != self.cursor.ordinal + 1 && !Bug::EtcdGapIgnored.planted() {
            return Err(gap);
        }
        let placed = Placed::decode(&kv.key, &kv.value)?;
        let batch = self.batch.take().filter(|batch| batch.mod_revision == kv.mod_revision).ok_or(gap)?;
        if batch.key != self.keys.batch(placed.id) || !placed.fits(&batch.value) {
            return Err(Broken::Damaged(ordinal));
        }
        self.cursor = Cursor { ordinal, revision: kv.mod_revision };
        batches.push(Batch { cursor: self.cursor, placed, bytes: batch.value });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ieum_log::BatchId;

    use super::*;
    use crate::proto::Event;

    const fn id(number: u64) -> BatchId {
        BatchId { node: 1, incarnation: 5, number }
    }

    fn event(key: Bytes, value: Bytes, version: u64, revision: i64) -> Event {
        let version = i64::try_from(version).unwrap();
        Event { r#type: 0, kv: Some(KeyValue { key, value, version, mod_revision: revision, create_revision: 0 }) }
    }

    /// The two events of appending batch `ordinal` at revision 100 × ordinal.
    fn append(ordinal: u64) -> [Event; 2] {
        let keys = Keys::new(1);
        let bytes = Bytes::from(format!("batch {ordinal}"));
        let revision = i64::try_from(ordinal).unwrap() * 100;
        let placed = Placed::new(id(ordinal), &bytes).encode();
        [event(keys.batch(id(ordinal)), bytes, 1, revision), event(keys.count(), placed, ordinal, revision)]
    }

    fn answer(events: impl IntoIterator<Item = Event>, fragment: bool) -> WatchResponse {
        WatchResponse { events: events.into_iter().collect(), fragment, ..WatchResponse::default() }
    }

    fn reader(ordinal: u64) -> Assembler {
        Assembler::new(Keys::new(1), Cursor { ordinal, revision: i64::try_from(ordinal).unwrap() * 100 })
    }

    fn take(reader: &mut Assembler, answer: WatchResponse) -> (Vec<u64>, Result<(), Broken>) {
        let mut batches = Vec::new();
        let result = reader.take(answer, &mut batches);
        (batches.iter().map(|batch| batch.cursor.ordinal).collect(), result)
    }

    #[test]
    fn batches_come_out_in_order_with_id_and_bytes() {
        let mut reader = reader(0);
        let mut batches = Vec::new();
        reader.take(answer([append(1), append(2)].concat(), false), &mut batches).unwrap();
        let expected = |ordinal| {
            let bytes = Bytes::from(format!("batch {ordinal}"));
            let cursor = Cursor { ordinal, revision: i64::try_from(ordinal).unwrap() * 100 };
            Batch { cursor, placed: Placed::new(id(ordinal), &bytes), bytes }
        };
        assert_eq!(batches, [expected(1), expected(2)]);
        assert_eq!(reader.cursor, Cursor { ordinal: 2, revision: 200 });
    }

    #[test]
    fn fragments_are_joined_wherever_they_are_cut() {
        let events = [append(1), append(2), append(3)].concat();
        for cut in 0..=events.len() {
            let mut reader = reader(0);
            let complete = cut as u64 / 2;
            let shown = take(&mut reader, answer(events[..cut].iter().cloned(), true));
            assert_eq!(shown, ((1..=complete).collect(), Ok(())));
            let shown = take(&mut reader, answer(events[cut..].iter().cloned(), false));
            assert_eq!(shown, ((complete + 1..=3).collect(), Ok(())));
        }
    }

    #[test]
    fn every_event_that_is_left_out_is_noticed() {
        let events = [append(1), append(2), append(3)].concat();
        for left_out in 0..events.len() {
            let mut reader = reader(0);
            let mut rest = events.clone();
            rest.remove(left_out);
            // The last one of all is noticed with the next batch.
            rest.extend(append(4));
            let (shown, result) = take(&mut reader, answer(rest, false));
            let missing = left_out as u64 / 2 + 1;
            assert_eq!(shown, (1..missing).collect::<Vec<_>>(), "without event {left_out}");
            assert!(matches!(result, Err(Broken::Gap { after, .. }) if after == missing - 1), "{result:?}");
            assert_eq!(reader.cursor.ordinal, missing - 1);
        }
    }

    #[test]
    fn whole_batches_that_are_left_out_are_noticed() {
        let mut reader = reader(1);
        let (shown, result) = take(&mut reader, answer([append(2), append(5)].concat(), false));
        assert_eq!((shown, result), (vec![2], Err(Broken::Gap { after: 2, to: 5 })));
    }

    #[test]
    fn what_is_known_is_passed_over() {
        let mut reader = reader(2);
        let shown = take(&mut reader, answer([append(1), append(2), append(3)].concat(), false));
        assert_eq!(shown, (vec![3], Ok(())));
    }

    #[test]
    fn damaged_bytes_are_not_shown() {
        let mut reader = reader(0);
        let mut events = append(1);
        events[0].kv.as_mut().unwrap().value = Bytes::from_static(b"batch 2");
        assert_eq!(take(&mut reader, answer(events, false)), (vec![], Err(Broken::Damaged(1))));
    }
}
