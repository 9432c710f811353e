use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::*;
use crate::conformance::Harness;
use crate::sqlite::{Meta, Offline, Options, Sqlite};
use crate::stands_before;

const CELL: u32 = 7;
const META: Meta = Meta { cell: CELL, generation: 1, predecessor: None };

struct OnDisk {
    folder: TempDir,
    incarnations: AtomicU64,
}

impl OnDisk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), incarnations: AtomicU64::new(0) }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn shared(&self) -> Arc<Sqlite> {
        let options = Options { create: true, ..Options::new(CELL) };
        Arc::new(Sqlite::open(self.folder.path().join("shared"), &options).unwrap())
    }

    fn open_at(&self, after: u64) -> Journaled<Sqlite> {
        Journaled::new(self.shared(), Arc::new(Journal::open(self.journal(), &META, after).unwrap()))
    }
}

impl Harness for OnDisk {
    type Log = Journaled<Sqlite>;

    async fn open(&self) -> Journaled<Sqlite> {
        self.open_at(0)
    }

    async fn incarnation(&self, _: &Self::Log, _: u32) -> u64 {
        self.incarnations.fetch_add(1, Ordering::Relaxed) + 1
    }
}

crate::conformance_suite!(OnDisk::new());

fn at(ordinal: u64) -> Position {
    Position { generation: 1, ordinal }
}

fn entry(ordinal: u64) -> Entry {
    let id = BatchId { node: 1, incarnation: 1, number: ordinal };
    Entry { position: at(ordinal), id, bytes: Bytes::from(format!("batch {ordinal}")) }
}

async fn append(log: &impl Log, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let Entry { id, bytes, .. } = entry(number);
        log.append(id, bytes).await.unwrap();
    }
}

async fn show(tail: &mut impl crate::Tail, ordinals: std::ops::RangeInclusive<u64>) {
    for ordinal in ordinals {
        assert_eq!(tail.next().await.unwrap(), entry(ordinal));
    }
}

/// What a power cut may leave: the view stands beyond the journal.
#[tokio::test]
async fn a_reader_ahead_of_the_journal_fills_it_without_a_gap() {
    let disk = OnDisk::new();
    let log = disk.open_at(0);
    append(&log, 1..=20).await;
    let mut tail = log.tail(at(15)).await.unwrap();
    show(&mut tail, 16..=20).await;
    assert_eq!(log.journal().last(), at(20));
    log.flush().await.unwrap();
    assert_eq!(log.journal().synced(), at(20));
    drop((tail, log));
    let offline = Offline::open(disk.journal(), Some(CELL)).unwrap();
    assert_eq!(offline.check().unwrap(), []);
    assert_eq!(offline.read(at(0), 100).unwrap(), (1..=20).map(entry).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_the_shared_log_has_forgotten_is_read_from_the_journal() {
    let log = OnDisk::new().open_at(0);
    append(&log, 1..=10).await;
    show(&mut log.tail(at(0)).await.unwrap(), 1..=10).await;
    log.shared().trim(at(8)).await.unwrap();
    let mut tail = log.tail(at(2)).await.unwrap();
    append(&log, 11..=12).await;
    show(&mut tail, 3..=12).await;
}

/// As while a node loads its view for longer than the log remembers.
#[tokio::test]
async fn a_log_that_is_copied_may_be_forgotten_before_it_is_read() {
    let log = Arc::new(OnDisk::new().open_at(0));
    append(log.as_ref(), 1..=10).await;
    let copying = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.copy().await }
    });
    let copied = async |last| {
        while log.journal().last() < at(last) {
            tokio::task::yield_now().await;
        }
    };
    copied(10).await;
    append(log.as_ref(), 11..=12).await;
    copied(12).await;
    log.shared().trim(at(12)).await.unwrap();
    show(&mut log.tail(at(0)).await.unwrap(), 1..=12).await;
    copying.abort();
}

/// Else its rows would have a gap, and a view rebuilt from them would be another one.
#[tokio::test]
async fn a_journal_that_the_shared_log_no_longer_reaches_is_not_continued() {
    let log = OnDisk::new().open_at(0);
    append(&log, 1..=3).await;
    show(&mut log.tail(at(0)).await.unwrap(), 1..=3).await;
    append(&log, 4..=9).await;
    log.shared().trim(at(5)).await.unwrap();
    for after in [3, 7] {
        let mut tail = log.tail(at(after)).await.unwrap();
        let trimmed = tail.next().await.unwrap_err();
        assert!(matches!(trimmed, Error::Trimmed { .. }), "{trimmed}");
    }
    assert!(matches!(log.journal().put(&entry(7)).await, Err(Error::NotInLog { .. })));
    // A peer has what lies between.
    for ordinal in 4..=6 {
        log.journal().put(&entry(ordinal)).await.unwrap();
    }
    show(&mut log.tail(at(3)).await.unwrap(), 4..=9).await;
}

/// As behind a snapshot that came from a peer.
#[tokio::test]
async fn a_journal_may_begin_in_the_middle() {
    let disk = OnDisk::new();
    append(&*disk.shared(), 1..=10).await;
    let log = disk.open_at(6);
    assert!(matches!(log.tail(at(5)).await, Err(Error::Trimmed { .. })));
    show(&mut log.tail(at(6)).await.unwrap(), 7..=10).await;
    drop(log);
    let log = disk.open_at(0);
    assert_eq!((log.journal().trimmed(), log.journal().last()), (at(6), at(10)), "it is not made twice");
}

/// A batch that was appended twice, because the log had forgotten the first when it was retried, is copied twice: positions are what counts.
#[tokio::test]
async fn a_repeated_batch_keeps_its_place() {
    let disk = OnDisk::new();
    let journal = Journal::open(disk.journal(), &META, 0).unwrap();
    let repeat = Entry { position: at(3), ..entry(1) };
    for entry in [entry(1), entry(2), repeat.clone(), repeat.clone()] {
        journal.put(&entry).await.unwrap();
    }
    assert_eq!(journal.read(at(0)).await.unwrap(), [entry(1), entry(2), repeat]);
    drop(journal);
    assert_eq!(Offline::open(disk.journal(), Some(CELL)).unwrap().check().unwrap(), []);
}

#[tokio::test]
async fn a_journal_of_another_cell_is_refused() {
    let disk = OnDisk::new();
    drop(Journal::open(disk.journal(), &META, 0).unwrap());
    let other = Journal::open(disk.journal(), &Meta { cell: 8, ..META }, 0);
    assert!(matches!(other, Err(Error::Foreign(_))), "{other:?}");
}

/// Opened as the log of a lone node it would be appended to, and two histories would come from it.
#[tokio::test]
async fn a_journal_is_no_log_and_a_log_is_no_journal() {
    let disk = OnDisk::new();
    let log = disk.open_at(0);
    append(&log, 1..=3).await;
    show(&mut log.tail(at(0)).await.unwrap(), 1..=3).await;
    drop(log);
    let taken = Sqlite::open(disk.journal(), &Options::new(CELL)).unwrap_err().to_string();
    assert!(taken.contains("a node's copy of a log that several nodes share"), "{taken}");
    let taken = Journal::open(disk.folder.path().join("shared"), &META, 0).unwrap_err().to_string();
    assert!(taken.contains("the log of a node that is alone"), "{taken}");
    let mut offline = Offline::open(disk.journal(), Some(CELL)).unwrap();
    assert!(offline.is_journal() && !Offline::open(disk.folder.path().join("shared"), None).unwrap().is_journal());
    let marked = offline.skip(at(2), 0).unwrap_err().to_string();
    assert!(marked.contains("would count for none of them"), "{marked}");
    assert_eq!(offline.check().unwrap(), []);
}

/// The journal is replayed without the shared log, too.
#[tokio::test]
async fn a_node_that_starts_keeps_the_marks_of_the_shared_log_in_its_journal() {
    let disk = OnDisk::new();
    let log = disk.open_at(0);
    append(&log, 1..=4).await;
    show(&mut log.tail(at(0)).await.unwrap(), 1..=3).await;
    log.journal().trim(at(1)).await.unwrap();
    for ordinal in [1, 2, 4] {
        log.shared().skip(at(ordinal), 0).await.unwrap();
    }
    let all = [(at(1), 0), (at(2), 0), (at(4), 0)];
    // Who only asks does not hide from the next start what was passed.
    assert_eq!(log.skips().await.unwrap(), all);
    for ordinal in [2, 3] {
        assert_eq!(log.settle(at(ordinal)).await.unwrap(), Settled::Passed((at(2), 0)));
    }
    assert_eq!(log.journal().skips().await.unwrap(), []);
    // Who begins behind a mark has not passed it by itself.
    assert_eq!(log.settle(at(1)).await.unwrap(), Settled::Skips(all.to_vec()));
    assert_eq!(log.settle(at(4)).await.unwrap(), Settled::Skips(all.to_vec()), "it has skipped them");
    drop(log);
    assert_eq!(Offline::open(disk.journal(), Some(CELL)).unwrap().skips().unwrap(), all);
}

#[tokio::test]
async fn what_one_node_alone_agrees_to_skip_holds_it_back() {
    let disk = OnDisk::new();
    let log = disk.open_at(0);
    append(&log, 1..=2).await;
    drop(log);
    let mut offline = Offline::open(disk.journal(), Some(CELL)).unwrap();
    let other = Position { generation: 2, ordinal: 1 };
    assert!(matches!(offline.agree(other, 0), Err(Error::NotInLog { .. })));
    offline.agree(at(2), 1).unwrap();
    assert_eq!(
        (offline.skips().unwrap(), offline.agreed().unwrap()),
        (vec![], vec![(at(2), 1)]),
        "it is not skipped yet"
    );
    assert!(stands_before(&offline.agreed().unwrap(), at(1)).is_ok());
    let held = stands_before(&offline.agreed().unwrap(), at(2));
    assert!(matches!(held, Err(Error::Held { position, index: 1 }) if position == at(2)), "{held:?}");
    drop(offline);
    let log = disk.open_at(0);
    assert!(matches!(log.skips().await, Err(Error::Held { position, index: 1 }) if position == at(2)));
    log.shared().skip(at(2), 0).await.unwrap();
    assert!(matches!(log.skips().await, Err(Error::Held { index: 1, .. })), "another command was marked");
    assert!(matches!(log.settle(at(1)).await, Err(Error::Held { index: 1, .. })), "another command was marked");
    log.shared().skip(at(2), 1).await.unwrap();
    let both = vec![(at(2), 0), (at(2), 1)];
    assert_eq!(log.skips().await.unwrap(), both);
    assert_eq!(log.settle(at(1)).await.unwrap(), Settled::Skips(both.clone()));
    drop(log);
    let mut offline = Offline::open(disk.journal(), Some(CELL)).unwrap();
    assert_eq!((offline.skips().unwrap(), offline.agreed().unwrap()), (both.clone(), vec![]), "it is marked");
    offline.agree(at(2), 1).unwrap();
    assert_eq!((offline.skips().unwrap(), offline.agreed().unwrap()), (both, vec![]), "it is marked");
    drop(offline);
    let mut alone = Offline::open(disk.folder.path().join("shared"), Some(CELL)).unwrap();
    assert!(matches!(alone.agree(at(2), 0), Err(Error::Foreign(_))));
}
