//! Opening: whose log it is, who else has it, and generations.

use super::*;
use crate::Kept as _;

fn foreign(result: Result<Sqlite>) -> String {
    match result {
        Err(Error::Foreign(message)) => message,
        Err(other) => panic!("expected Foreign, not {other:?}"),
        Ok(_) => panic!("expected Foreign, but it opened"),
    }
}

fn is_in_use(error: &Error) -> bool {
    error.source().is_some_and(|source| source.is::<InUse>())
}

#[test]
fn a_log_is_made_only_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some/where");
    assert!(foreign(Sqlite::open(&path, &Options::new(CELL))).contains("there is no log in"));
    assert!(!path.exists());
    drop(create(&path));
    assert_eq!(
        *Sqlite::open(&path, &Options::new(CELL)).unwrap().meta(),
        Meta { cell: CELL, generation: 1, predecessor: None }
    );
    // A folder that is there but holds no log is no log either.
    assert!(foreign(Sqlite::open(folder.path(), &Options::new(CELL))).contains("there is no log in"));
}

#[test]
fn what_is_not_ours_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(create(folder.path()));
    let other = Options { create: true, ..Options::new(8) };
    assert!(foreign(Sqlite::open(folder.path(), &other)).contains("belongs to cell 7, not to cell 8"));

    let database = folder.path().join("generation-1.sqlite");
    let pragma = |name, value: i32| {
        rusqlite::Connection::open(&database).unwrap().pragma_update(None, name, value).unwrap();
    };
    pragma("user_version", 9);
    let message = foreign(Sqlite::open(folder.path(), &Options::new(CELL)));
    assert!(message.contains("has format 9, and this version of Ieum knows format 1"), "{message}");
    pragma("application_id", 5);
    assert!(foreign(Sqlite::open(folder.path(), &Options::new(CELL))).contains("is not a log of Ieum"));
    std::fs::write(&database, "a letter, not a database ".repeat(100)).unwrap();
    assert!(foreign(Sqlite::open(folder.path(), &other)).contains("is not a log of Ieum"));
    assert_eq!(std::fs::read(&database).unwrap().len(), 2500);
}

#[test]
fn a_log_is_opened_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = create(folder.path());
    assert!(is_in_use(&Sqlite::open(folder.path(), &Options::new(CELL)).unwrap_err()));
    assert!(is_in_use(&Offline::open(folder.path(), None).unwrap_err()));
    assert!(is_in_use(&begin_generation(folder.path(), CELL, 2, PREDECESSOR).unwrap_err()));
    drop(log);
    let offline = Offline::open(folder.path(), None).unwrap();
    assert!(is_in_use(&Sqlite::open(folder.path(), &Options::new(CELL)).unwrap_err()));
    drop(offline);
    drop(create(folder.path()));
}

const PREDECESSOR: Predecessor = Predecessor { end: Position { generation: 1, ordinal: 3 }, digest: [9; 32] };

#[tokio::test]
async fn a_new_generation_is_empty_and_knows_what_it_follows() {
    let folder = tempfile::tempdir().unwrap();
    drop(fill(folder.path(), 5).await);
    let start = begin_generation(folder.path(), CELL, 2, PREDECESSOR).unwrap();
    assert_eq!(start, Position { generation: 2, ordinal: 0 });

    let log = create(folder.path());
    assert_eq!(*log.meta(), Meta { cell: CELL, generation: 2, predecessor: Some(PREDECESSOR) });
    assert_eq!(log.last().await.unwrap(), start);
    assert!(matches!(log.tail(at(3)).await, Err(Error::NotInLog { .. })));
    let first = log.append(id(1), Bytes::from_static(b"anew")).await.unwrap();
    assert_eq!(first, Position { generation: 2, ordinal: 1 });
    drop(log);
    // What was before is still there for whoever wants to look into it.
    assert!(folder.path().join("generation-1.sqlite").exists());
}

#[tokio::test]
async fn a_generation_begins_over_a_damaged_one_but_never_over_a_later_one() {
    let folder = tempfile::tempdir().unwrap();
    drop(create(folder.path()));
    assert!(matches!(begin_generation(folder.path(), 8, 2, PREDECESSOR), Err(Error::Foreign(_))));
    std::fs::write(folder.path().join("generation-1.sqlite"), "what the lightning left").unwrap();
    std::fs::write(folder.path().join("unfinished"), "of a restore that was interrupted").unwrap();
    begin_generation(folder.path(), CELL, 2, PREDECESSOR).unwrap();
    for _ in 0..2 {
        match begin_generation(folder.path(), CELL, 2, PREDECESSOR) {
            Err(Error::Foreign(message)) => assert!(message.contains("holds generation 2 already"), "{message}"),
            other => panic!("{other:?}"),
        }
    }
    drop(create(folder.path()));

    let empty = tempfile::tempdir().unwrap();
    begin_generation(empty.path().join("new"), CELL, 2, PREDECESSOR).unwrap();
    drop(create(&empty.path().join("new")));
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let log = fill(folder.path(), 20).await;
    // The files as a killed process leaves them, the write-ahead log not folded in.
    let copy = tempfile::tempdir().unwrap();
    for name in ["generation-1.sqlite", "generation-1.sqlite-wal"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let copied = create(copy.path());
    assert_eq!(copied.last().await.unwrap(), at(20));
    drop(copied);
    assert_eq!(Offline::open(copy.path(), None).unwrap().check().unwrap(), []);
    drop(log);
}

#[tokio::test]
async fn a_tool_reads_a_log_that_no_node_has_open() {
    let folder = tempfile::tempdir().unwrap();
    let log = fill(folder.path(), 10).await;
    log.trim(at(3)).await.unwrap();
    assert_eq!(log.trimmed(), at(3));
    assert!(log.bytes_on_disk().unwrap() > 50_000);
    log.close().await.unwrap();

    let log = Offline::open(folder.path(), Some(CELL)).unwrap();
    assert_eq!((log.first(), log.last(), log.meta().cell), (at(4), at(10), CELL));
    assert!(log.bytes_on_disk().unwrap() > 50_000);
    let ordinals = |entries: Vec<crate::Entry>| entries.iter().map(|entry| entry.position.ordinal).collect::<Vec<_>>();
    assert_eq!(ordinals(log.read(at(3), 4).unwrap()), [4, 5, 6, 7]);
    assert_eq!(ordinals(log.read(at(7), 100).unwrap()), [8, 9, 10]);
    assert_eq!(log.read(at(10), 100).unwrap(), []);
    assert!(matches!(log.read(at(2), 1), Err(Error::Trimmed { .. })));
    assert!(matches!(log.read(at(11), 1), Err(Error::NotInLog { .. })));
    assert_eq!(log.check().unwrap(), []);
}
