//! Trimming: what goes, what stays, and that no ordinal is ever given twice.

use std::sync::Arc;

use super::{Harness, Writer, assert_error, read, start};
use crate::{Error, Log, Position, Tail};

/// What is trimmed is gone, to every reader that would need it; what follows stays. Also after a restart.
pub async fn trimming_removes_the_front_only(harness: impl Harness) {
    let mut log = harness.open().await;
    let entries = Writer::new(&harness, &log, 1).await.append_some(&log, 10).await;
    let start = start(&log).await;
    assert_eq!(log.trimmed_to().await.unwrap(), start);
    log.trim(entries[3].position).await.unwrap();
    for _ in 0..2 {
        assert_eq!(log.trimmed_to().await.unwrap(), entries[3].position);
        for ordinal in 0..4 {
            let asked = Position { ordinal, ..start };
            match log.tail(asked).await {
                Err(Error::Trimmed { after, trimmed }) => assert_eq!((after, trimmed), (asked, entries[3].position)),
                Err(other) => panic!("expected Trimmed, not {other:?}"),
                Ok(_) => panic!("a tail after {asked} of a log trimmed up to 4"),
            }
        }
        assert_eq!(read(&log, entries[3].position).await, entries[4..]);
        assert_eq!(log.last().await.unwrap(), entries[9].position);
        drop(log);
        log = harness.open().await;
    }
}

/// Trimming what is trimmed, or nothing, changes nothing.
pub async fn trimming_twice_does_nothing(harness: impl Harness) {
    let log = harness.open().await;
    let start = start(&log).await;
    log.trim(start).await.unwrap();
    let entries = Writer::new(&harness, &log, 1).await.append_some(&log, 5).await;
    for ordinal in [0, 3, 3, 1, 0] {
        log.trim(Position { ordinal, ..start }).await.unwrap();
    }
    assert_eq!(read(&log, entries[2].position).await, entries[3..]);
}

/// What does not exist yet cannot be trimmed.
pub async fn trimming_beyond_the_end_is_refused(harness: impl Harness) {
    let log = harness.open().await;
    let start = start(&log).await;
    assert_error!(log.trim(Position { ordinal: 1, ..start }).await, Error::NotInLog { .. });
    let entries = Writer::new(&harness, &log, 1).await.append_some(&log, 3).await;
    assert_error!(log.trim(Position { ordinal: 4, ..start }).await, Error::NotInLog { .. });
    assert_eq!(read(&log, start).await, entries);
}

/// After everything was trimmed the ordinals go on, at once and after a restart.
pub async fn ordinals_are_not_reused_after_trimming(harness: impl Harness) {
    let mut log = harness.open().await;
    let mut expected = 0;
    for round in 0..4 {
        let mut writer = Writer::new(&harness, &log, 1).await;
        let last = writer.append_some(&log, 5).await[4].position;
        expected += 5;
        assert_eq!(last.ordinal, expected);
        log.trim(last).await.unwrap();
        assert_eq!(log.last().await.unwrap(), last);
        if round % 2 == 0 {
            drop(log);
            log = harness.open().await;
            assert_eq!(log.last().await.unwrap(), last);
        }
        let next = writer.append(&log).await;
        expected += 1;
        assert_eq!(next.position.ordinal, expected);
        assert_eq!(read(&log, last).await, [next]);
    }
}

/// A tail that was overtaken says so, again and again, or shows what it has read already; it never goes on behind the
/// gap. One beyond the trimmed part goes on.
pub async fn a_tail_that_was_trimmed_past_says_so(harness: impl Harness) {
    let log = harness.open().await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    let entries = writer.append_some(&log, 10).await;
    let mut behind = log.tail(start(&log).await).await.unwrap();
    let mut ahead = log.tail(entries[5].position).await.unwrap();
    log.trim(entries[5].position).await.unwrap();
    let mut shown = 0;
    while shown < entries.len() {
        match behind.next().await {
            Ok(entry) => assert_eq!(entry, entries[shown]),
            Err(Error::Trimmed { .. }) => {
                assert_error!(behind.next().await, Error::Trimmed { .. });
                break;
            }
            Err(other) => panic!("expected Trimmed, not {other:?}"),
        }
        shown += 1;
    }
    for entry in &entries[6..] {
        assert_eq!(ahead.next().await.unwrap(), *entry);
    }
    let entry = writer.append(&log).await;
    assert_eq!(ahead.next().await.unwrap(), entry);
}

/// One appends, one reads, one trims what was read: nothing is skipped, repeated or held up for ever.
pub async fn tails_and_appends_go_on_while_trimming(harness: impl Harness) {
    const COUNT: usize = 200;
    let log = Arc::new(harness.open().await);
    let start = start(&*log).await;
    let mut writer = Writer::new(&harness, &log, 1).await;
    let mut tail = log.tail(start).await.unwrap();
    let appending = tokio::spawn({
        let log = Arc::clone(&log);
        async move { writer.append_some(&*log, COUNT).await }
    });
    let mut shown = Vec::new();
    let mut trims = Vec::new();
    while shown.len() < COUNT {
        let entry = tail.next().await.unwrap();
        if entry.position.ordinal % 10 == 0 {
            let (log, position) = (Arc::clone(&log), entry.position);
            trims.push(tokio::spawn(async move { log.trim(position).await }));
        }
        shown.push(entry);
    }
    assert_eq!(appending.await.unwrap(), shown);
    for trim in trims {
        trim.await.unwrap().unwrap();
    }
    assert_error!(log.tail(Position { ordinal: COUNT as u64 - 1, ..start }).await, Error::Trimmed { .. });
    assert_eq!(log.last().await.unwrap(), shown[COUNT - 1].position);
}
