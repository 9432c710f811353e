//! Marks of commands to skip: where they may be made, and that they are kept.

use super::{Harness, Writer, assert_error, start};
use crate::{Error, Log, Position};

/// Marks are given back in order, each once, whatever is appended and trimmed and after a restart.
pub async fn marks_are_kept(harness: impl Harness) {
    let mut log = harness.open().await;
    assert_eq!(log.skips().await.unwrap(), []);
    let mut writer = Writer::new(&harness, &log, 1).await;
    let entries = writer.append_some(&log, 6).await;
    let at = |n: usize| entries[n].position;
    for (position, index) in [(at(4), 7), (at(1), u32::MAX), (at(4), 0), (at(1), u32::MAX), (at(5), 1)] {
        log.skip(position, index).await.unwrap();
    }
    let expected = [(at(1), u32::MAX), (at(4), 0), (at(4), 7), (at(5), 1)];
    for _ in 0..2 {
        assert_eq!(log.skips().await.unwrap(), expected);
        log.trim(at(2)).await.unwrap();
        writer.append(&log).await;
        drop(log);
        log = harness.open().await;
    }
    assert_eq!(log.skips().await.unwrap(), expected);
}

/// Only a batch that is in the log can have a command marked.
pub async fn marks_outside_the_log_are_refused(harness: impl Harness) {
    let log = harness.open().await;
    let start = start(&log).await;
    let entries = Writer::new(&harness, &log, 1).await.append_some(&log, 4).await;
    log.trim(entries[1].position).await.unwrap();
    for position in [
        start,
        Position { ordinal: 5, ..start },
        Position { ordinal: u64::MAX, ..start },
        Position { generation: start.generation + 1, ordinal: 3 },
        Position { generation: start.generation - 1, ordinal: 3 },
    ] {
        assert_error!(log.skip(position, 0).await, Error::NotInLog { .. });
    }
    for entry in &entries[..2] {
        assert_error!(log.skip(entry.position, 0).await, Error::Trimmed { .. });
    }
    assert_eq!(log.skips().await.unwrap(), []);
    log.skip(entries[2].position, 0).await.unwrap();
}
