//! Appending: order, ids, limits, what a retry does, and what is kept.

use std::sync::Arc;

use bytes::Bytes;

use super::{Harness, Writer, assert_error, poll_once, read, start};
use crate::{BatchId, Entry, Error, Log, MAX_BATCH_BYTES, Tail};

/// Positions are 1, 2, 3 …, and the log shows each batch there, with its id and bytes.
pub async fn appends_are_dense_and_in_order(harness: impl Harness) {
    let log = harness.open().await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    assert_eq!(log.last().await.unwrap().ordinal, 0);
    let entries = writer.append_some(&log, 20).await;
    for (entry, ordinal) in entries.iter().zip(1..) {
        assert_eq!(entry.position.ordinal, ordinal);
    }
    assert_eq!(read(&log, start(&log).await).await, entries);
}

/// No bytes at all, and as many as are allowed.
pub async fn empty_and_largest_batches_pass(harness: impl Harness) {
    let log = harness.open().await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    let mut entries = Vec::new();
    let largest: Vec<u8> = (0..MAX_BATCH_BYTES).map(|index| (index % 251) as u8).collect();
    for bytes in [Bytes::new(), Bytes::from(largest), Bytes::new()] {
        let (id, _) = writer.batch();
        let position = log.append(id, bytes.clone()).await.unwrap();
        entries.push(Entry { position, id, bytes });
    }
    assert!(read(&log, start(&log).await).await == entries);
    drop(log);
    let log = harness.open().await;
    assert!(read(&log, start(&log).await).await == entries);
    // An empty batch is a batch: its retry finds it, and it cannot be given bytes.
    assert_eq!(log.append(entries[2].id, Bytes::new()).await.unwrap(), entries[2].position);
    assert_error!(log.append(entries[2].id, Bytes::from_static(b"x")).await, Error::Conflict { .. });
}

/// One byte too many is refused, and leaves the id free.
pub async fn a_batch_over_the_limit_is_refused(harness: impl Harness) {
    let log = harness.open().await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    let (id, bytes) = writer.batch();
    let too_large = Bytes::from(vec![7; MAX_BATCH_BYTES + 1]);
    assert_error!(log.append(id, too_large).await, Error::TooLarge { bytes: 524_289 });
    assert_eq!(log.last().await.unwrap().ordinal, 0);
    assert_eq!(log.append(id, bytes).await.unwrap().ordinal, 1);
}

/// The same id and bytes again: at once, after other batches, in a later life of the node, and after a restart.
pub async fn a_retry_gives_the_first_position(harness: impl Harness) {
    let log = harness.open().await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    let mut other = Writer::new(&harness, &log, 2).await;
    let mut entries = Vec::new();
    for _ in 0..5 {
        let entry = writer.append(&log).await;
        assert_eq!(log.append(entry.id, entry.bytes.clone()).await.unwrap(), entry.position);
        entries.push(entry);
        entries.push(other.append(&log).await);
    }
    for entry in &entries {
        assert_eq!(log.append(entry.id, entry.bytes.clone()).await.unwrap(), entry.position);
    }
    drop(log);
    let log = harness.open().await;
    for entry in &entries {
        assert_eq!(log.append(entry.id, entry.bytes.clone()).await.unwrap(), entry.position);
    }
    entries.push(writer.append(&log).await);
    assert_eq!(read(&log, start(&log).await).await, entries);
}

/// The same id with other bytes is refused, now and after a restart, and changes nothing.
pub async fn other_bytes_under_a_known_id_conflict(harness: impl Harness) {
    let log = harness.open().await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    let entries = writer.append_some(&log, 3).await;
    let refuse = async |log: &_, id: BatchId| {
        assert_error!(Log::append(log, id, Bytes::from_static(b"other")).await, Error::Conflict { .. });
        assert_error!(Log::append(log, id, Bytes::new()).await, Error::Conflict { .. });
    };
    for entry in &entries {
        refuse(&log, entry.id).await;
    }
    drop(log);
    let log = harness.open().await;
    for entry in &entries {
        refuse(&log, entry.id).await;
    }
    assert_eq!(read(&log, start(&log).await).await, entries);
}

/// A number that skips one is refused until the one before it is in the log; each life of a node begins with 1.
pub async fn a_number_left_out_conflicts(harness: impl Harness) {
    let log = harness.open().await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    let first = writer.append(&log).await;
    let (second, third) = (writer.batch(), writer.batch());
    assert_error!(log.append(third.0, third.1.clone()).await, Error::Conflict { .. });
    assert_eq!(log.last().await.unwrap(), first.position);
    assert_eq!(log.append(second.0, second.1).await.unwrap().ordinal, 2);
    assert_eq!(log.append(third.0, third.1).await.unwrap().ordinal, 3);

    let mut next_life = Writer::new(&harness, &log, 1).await;
    let (_, skipping) = (next_life.batch(), next_life.batch());
    assert_error!(log.append(skipping.0, skipping.1).await, Error::Conflict { .. });
    next_life.number = 0;
    assert_eq!(next_life.append(&log).await.position.ordinal, 4);
}

/// Many append at once and many read: all see one order, dense, each batch once and where its append said.
pub async fn every_tail_shows_the_same_order(harness: impl Harness) {
    const NODES: u32 = 4;
    const EACH: usize = 50;
    let log = Arc::new(harness.open().await);
    let start = start(&*log).await;
    let mut writing = Vec::new();
    let mut reading = Vec::new();
    for node in 1..=NODES {
        let mut writer = Writer::new(&harness, &log, node).await;
        let log = Arc::clone(&log);
        writing.push(tokio::spawn(async move { writer.append_some(&*log, EACH).await }));
    }
    for _ in 0..4 {
        let log = Arc::clone(&log);
        reading.push(tokio::spawn(async move {
            let mut tail = log.tail(start).await.unwrap();
            let mut entries = Vec::new();
            for _ in 0..NODES as usize * EACH {
                entries.push(tail.next().await.unwrap());
            }
            entries
        }));
    }
    let mut appended = Vec::new();
    for writer in writing {
        let entries = writer.await.unwrap();
        assert!(entries.is_sorted_by_key(|entry| entry.position), "a node's batches keep their order");
        appended.extend(entries);
    }
    appended.sort_by_key(|entry| entry.position);
    for (entry, ordinal) in appended.iter().zip(1..) {
        assert_eq!(entry.position.ordinal, ordinal);
    }
    for reader in reading {
        assert_eq!(reader.await.unwrap(), appended);
    }
}

/// Whatever became of an append whose future was dropped, its retry puts the batch into the log once.
pub async fn a_dropped_append_can_be_retried(harness: impl Harness) {
    let log = harness.open().await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    let mut entries = Vec::new();
    for round in 0..20 {
        let (id, bytes) = writer.batch();
        drop(log.append(id, bytes.clone()));
        for _ in 0..round % 3 {
            poll_once(log.append(id, bytes.clone()));
            tokio::task::yield_now().await;
        }
        let position = log.append(id, bytes.clone()).await.unwrap();
        entries.push(Entry { position, id, bytes });
    }
    assert_eq!(read(&log, start(&log).await).await, entries);
}

/// `last` reaches at least as far as every append that has returned and every batch that a tail has shown.
pub async fn last_is_never_behind(harness: impl Harness) {
    const EACH: usize = 50;
    let log = Arc::new(harness.open().await);
    let start = start(&*log).await;
    let mut tasks = Vec::new();
    for node in 1..=3 {
        let mut writer = Writer::new(&harness, &log, node).await;
        let log = Arc::clone(&log);
        tasks.push(tokio::spawn(async move {
            for _ in 0..EACH {
                let entry = writer.append(&*log).await;
                assert!(log.last().await.unwrap() >= entry.position);
            }
        }));
    }
    let mut tail = log.tail(start).await.unwrap();
    let mut last = start;
    for _ in 0..3 * EACH {
        let shown = tail.next().await.unwrap().position;
        let now = log.last().await.unwrap();
        assert!(now >= shown && now >= last);
        last = now;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(log.last().await.unwrap().ordinal, 3 * EACH as u64);
}

/// A log that was dropped and opened again is the same log, however often.
pub async fn reopening_keeps_everything(harness: impl Harness) {
    let mut entries = Vec::new();
    for round in 0..5 {
        let log = harness.open().await;
        assert_eq!(log.last().await.unwrap().ordinal, round * 10);
        let mut writer = Writer::new(&harness, &log, 1).await;
        entries.extend(writer.append_some(&log, 10).await);
        assert_eq!(read(&log, start(&log).await).await, entries);
    }
    let log = harness.open().await;
    assert_eq!(read(&log, start(&log).await).await, entries);
}
