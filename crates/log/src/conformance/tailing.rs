//! Tails: where they start, that they wait, and that they skip and repeat nothing.

use bytes::Bytes;

use super::{Harness, Writer, assert_error, poll_once, read, start};
use crate::{Error, Log, Position, Tail};

/// A tail begins with the batch after the position that it was given, for every position there is; also after a
/// restart, when nothing is in memory.
pub async fn a_tail_resumes_at_every_position(harness: impl Harness) {
    let mut log = harness.open().await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    let mut entries = writer.append_some(&log, 12).await;
    let start = start(&log).await;
    for _ in 0..2 {
        for (index, entry) in entries.iter().enumerate() {
            assert_eq!(read(&log, Position { ordinal: index as u64, ..start }).await, entries[index..]);
            // Going on from what a tail showed, as a node does that starts again.
            assert_eq!(read(&log, entry.position).await, entries[index + 1..]);
        }
        drop(log);
        log = harness.open().await;
    }
    // A tail that starts at the very end shows what is appended next.
    let mut tail = log.tail(entries[11].position).await.unwrap();
    entries.push(writer.append(&log).await);
    assert_eq!(tail.next().await.unwrap(), entries[12]);
}

/// `next` is pending while there is nothing, and gives a batch that is appended later.
pub async fn a_tail_waits_for_the_next_batch(harness: impl Harness) {
    let log = harness.open().await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    let mut tail = log.tail(start(&log).await).await.unwrap();
    for _ in 0..10 {
        assert_eq!(poll_once(tail.next()).map(Result::unwrap), None);
        let waiting = tokio::spawn(async move {
            let entry = tail.next().await.unwrap();
            (tail, entry)
        });
        tokio::task::yield_now().await;
        let appended = writer.append(&log).await;
        let (back, shown) = waiting.await.unwrap();
        assert_eq!(shown, appended);
        tail = back;
    }
}

/// More than any engine keeps in memory, read from its beginning while more is appended.
pub async fn a_tail_that_is_far_behind_catches_up(harness: impl Harness) {
    let log = harness.open().await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    let start = start(&log).await;
    let mut positions = Vec::new();
    let large = |byte: u8| Bytes::from(vec![byte; 300 * 1024]);
    for byte in 0..40 {
        positions.push(log.append(writer.batch().0, large(byte)).await.unwrap());
    }
    let mut tail = log.tail(start).await.unwrap();
    for byte in 0..80 {
        if byte % 2 == 0 {
            positions.push(log.append(writer.batch().0, large(40 + byte / 2)).await.unwrap());
        }
        let entry = tail.next().await.unwrap();
        assert_eq!(entry.position, positions[usize::from(byte)]);
        assert!(entry.bytes == large(byte));
    }
}

/// The future of `next` is dropped again and again, while the tail is behind and while it waits.
pub async fn dropping_next_loses_nothing(harness: impl Harness) {
    let log = harness.open().await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    writer.append_some(&log, 30).await;
    drop(log);
    let log = harness.open().await;
    let start = start(&log).await;
    let mut tail = log.tail(start).await.unwrap();
    let mut shown = Vec::new();
    while shown.len() < 50 {
        match poll_once(tail.next()) {
            Some(entry) => shown.push(entry.unwrap()),
            None if shown.len() >= 30 => {
                writer.append(&log).await;
            }
            None => tokio::task::yield_now().await,
        }
    }
    let last = shown[49].position;
    assert!(read(&log, start).await.starts_with(&shown));
    assert_eq!(last.ordinal, 50);
}

/// A reader that knows more than the log is told so: the log lost something, or is another one.
pub async fn a_tail_beyond_the_end_is_refused(harness: impl Harness) {
    let log = harness.open().await;
    let start = start(&log).await;
    assert_error!(log.tail(Position { ordinal: 1, ..start }).await, Error::NotInLog { .. });
    let last = Writer::new(&harness, &log, 1).await.append_some(&log, 3).await[2].position;
    for ordinal in [4, 5, u64::MAX] {
        let asked = Position { ordinal, ..start };
        match log.tail(asked).await {
            Err(Error::NotInLog { asked: told, last: end }) => assert_eq!((told, end), (asked, last)),
            Err(other) => panic!("expected NotInLog, not {other:?}"),
            Ok(_) => panic!("a tail after {asked} of a log that ends at {last}"),
        }
    }
    assert!(log.tail(last).await.is_ok());
}

/// Positions of the generation before and after are refused, by tail and trim, also where their ordinal exists.
pub async fn a_position_of_another_generation_is_refused(harness: impl Harness) {
    let log = harness.open().await;
    let last = Writer::new(&harness, &log, 1).await.append_some(&log, 3).await[2].position;
    for generation in [last.generation - 1, last.generation + 1] {
        for ordinal in 0..4 {
            let asked = Position { generation, ordinal };
            assert_error!(log.tail(asked).await, Error::NotInLog { .. });
            assert_error!(log.trim(asked).await, Error::NotInLog { .. });
        }
    }
    assert_eq!(read(&log, start(&log).await).await.len(), 3);
}
