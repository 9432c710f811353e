//! What only this engine promises: its files, its lock, damage, a full disk.

mod damage;
mod files;

use std::error::Error as _;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use tempfile::TempDir;

use super::folder::Folder;
use super::store::{Placed, Store};
use super::*;
use crate::Tail as _;
use crate::conformance::Harness;

const CELL: u32 = 7;

struct OnDisk {
    folder: TempDir,
    incarnations: AtomicU64,
}

impl Harness for OnDisk {
    type Log = Sqlite;

    async fn open(&self) -> Sqlite {
        // Little memory and short write-ahead logs, so that the tests reach what a node seldom does.
        let options = Options { create: true, recent_bytes: 200, checkpoint_bytes: 1 << 16, ..Options::new(CELL) };
        Sqlite::open(self.folder.path().join("log"), &options).unwrap()
    }

    async fn incarnation(&self, _: &Sqlite, _: u32) -> u64 {
        self.incarnations.fetch_add(1, Ordering::Relaxed) + 1
    }
}

crate::conformance_suite!(OnDisk { folder: tempfile::tempdir().unwrap(), incarnations: AtomicU64::new(0) });

fn create(folder: &Path) -> Sqlite {
    Sqlite::open(folder, &Options { create: true, ..Options::new(CELL) }).unwrap()
}

fn store(folder: &Path) -> Store {
    let checkpoint_bytes = Options::new(CELL).checkpoint_bytes;
    Store::open(Folder::lock(folder, false).unwrap(), None, Some(CELL), checkpoint_bytes).unwrap()
}

fn id(number: u64) -> BatchId {
    BatchId { node: 1, incarnation: 1, number }
}

fn at(ordinal: u64) -> Position {
    Position { generation: 1, ordinal }
}

/// Fills a new log with batches 1 to `count`.
async fn fill(folder: &Path, count: u64) -> Sqlite {
    let log = create(folder);
    for number in 1..=count {
        assert_eq!(log.append(id(number), Bytes::from(vec![1; 5000])).await.unwrap(), at(number));
    }
    log
}

#[test]
fn every_commit_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    drop(create(folder.path()));
    let store = store(folder.path());
    let pragma = |name| store.connection().pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(pragma("synchronous"), 2, "FULL: a commit returns when it is on the disk");
    let mode: String = store.connection().pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn queued_appends_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let log = create(folder.path());
    let mut waiting: Vec<_> = (1..=100).map(|number| Box::pin(log.append(id(number), Bytes::new()))).collect();
    for append in &mut waiting {
        let _ = append.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    for (append, number) in waiting.into_iter().zip(1..) {
        assert_eq!(append.await.unwrap(), at(number));
    }
}

#[tokio::test]
async fn what_waits_on_a_log_that_is_closed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = fill(folder.path(), 1).await;
    let mut tail = log.tail(at(1)).await.unwrap();
    {
        let mut next = pin!(tail.next());
        assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        log.close().await.unwrap();
        assert!(matches!(next.await, Err(Error::Closed)));
    }
    assert!(matches!(tail.next().await, Err(Error::Closed)));
    drop(create(folder.path()));
}

#[tokio::test]
async fn a_batch_that_was_trimmed_is_not_appended_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = fill(folder.path(), 3).await;
    log.trim(at(3)).await.unwrap();
    drop(log);
    let log = create(folder.path());
    for number in 1..=3 {
        let retry = log.append(id(number), Bytes::from(vec![1; 5000])).await;
        assert!(matches!(retry, Err(Error::Conflict { .. })), "{retry:?}");
    }
    assert_eq!(log.append(id(4), Bytes::new()).await.unwrap(), at(4));
}

#[tokio::test]
async fn an_earlier_life_of_a_node_is_fenced_off() {
    let folder = tempfile::tempdir().unwrap();
    let log = fill(folder.path(), 3).await;
    log.append(BatchId { incarnation: 2, ..id(1) }, Bytes::new()).await.unwrap();
    assert!(matches!(log.append(id(4), Bytes::new()).await, Err(Error::Conflict { .. })));
    assert_eq!(log.append(id(3), Bytes::from(vec![1; 5000])).await.unwrap(), at(3));
}

#[tokio::test]
async fn trimming_commits_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    drop(fill(folder.path(), 600).await);
    let mut store = store(folder.path());
    let mut stops = Vec::new();
    while store.ends().trimmed < 590 {
        store.trim_some(590).unwrap();
        stops.push(store.ends().trimmed);
    }
    assert_eq!(stops, [256, 512, 590]);
    store.check_ends().unwrap();
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    drop(fill(folder.path(), 3).await);
    let mut store = store(folder.path());
    let pages: i64 = store.connection().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.connection().pragma_update(None, "max_page_count", pages + 100).unwrap();
    let bytes = Bytes::from(vec![2; 100_000]);
    let mut number = 4;
    let full = loop {
        match store.append([(id(number), &bytes), (id(number + 1), &bytes)].into_iter()) {
            Ok(placed) => assert_eq!(placed, [Placed::New(number), Placed::New(number + 1)]),
            Err(error) => break error,
        }
        number += 2;
    };
    assert!(matches!(full, Error::Full), "{full:?}");
    assert_eq!(store.ends().last, number - 1);
    assert_eq!(store.read(0, 100, usize::MAX).unwrap().len() as u64, number - 1);
    store.check_ends().unwrap();

    while store.ends().trimmed < number - 1 {
        store.trim_some(number - 1).unwrap();
    }
    assert_eq!(store.append([(id(number), &bytes)].into_iter()).unwrap(), [Placed::New(number)]);
}
