//! Damage is found, named, and never passed on as a batch.

use super::*;
use crate::Entry;

/// A log of ten batches in which `sql` was done behind our back.
async fn tampered(sql: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    drop(fill(folder.path(), 10).await);
    let connection = rusqlite::Connection::open(folder.path().join("generation-1.sqlite")).unwrap();
    connection.execute_batch(sql).unwrap();
    folder
}

fn problems(folder: &TempDir) -> Vec<String> {
    let problems = Offline::open(folder.path(), None).unwrap().check().unwrap();
    problems.iter().map(Problem::to_string).collect()
}

/// What a tail from the start shows, and the damage that ends it.
async fn read_until_damage(folder: &TempDir) -> (Vec<Entry>, Damaged) {
    let log = create(folder.path());
    let mut tail = log.tail(at(0)).await.unwrap();
    let mut shown = Vec::new();
    loop {
        match tail.next().await {
            Ok(entry) => shown.push(entry),
            Err(error) => return (shown, damage(&error)),
        }
    }
}

fn damage(error: &Error) -> Damaged {
    error.source().and_then(|source| source.downcast_ref::<Damaged>()).expect("damage").clone()
}

#[tokio::test]
async fn a_changed_byte_is_named_and_what_is_before_it_is_shown() {
    for change in [
        "UPDATE batches SET bytes = zeroblob(5000) WHERE ordinal = 5",
        "UPDATE batches SET number = 6 WHERE ordinal = 5",
        "UPDATE batches SET node = 2 WHERE ordinal = 5",
        "UPDATE batches SET node = -1 WHERE ordinal = 5",
        "UPDATE batches SET checksum = checksum + 1 WHERE ordinal = 5",
    ] {
        let folder = tampered(change).await;
        let (shown, damaged) = read_until_damage(&folder).await;
        assert_eq!(shown.len(), 4, "{change}");
        assert_eq!(damaged.position, at(5), "{change}");
        assert!(damaged.to_string().starts_with("batch 1.5 of the log is damaged: "));
        let problems = problems(&folder);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("batch 5: "), "{problems:?}");
    }
}

/// Left out it would let this node apply what another skips.
#[tokio::test]
async fn a_changed_mark_is_named_and_not_left_out() {
    let folder = tampered("").await;
    let mut log = Offline::open(folder.path(), None).unwrap();
    log.skip(at(4), 2).unwrap();
    drop(log);
    assert!(problems(&folder).is_empty());
    for change in ["command = 3", "ordinal = 5", "checksum = checksum + 1", "command = -1"] {
        let connection = rusqlite::Connection::open(folder.path().join("generation-1.sqlite")).unwrap();
        connection.execute_batch(&format!("UPDATE skips SET {change}")).unwrap();
        drop(connection);
        assert!(create(folder.path()).skips().await.is_err(), "{change}");
        assert_eq!(problems(&folder).len(), 1, "{change}");
        let connection = rusqlite::Connection::open(folder.path().join("generation-1.sqlite")).unwrap();
        connection.execute_batch("DELETE FROM skips").unwrap();
        drop(connection);
        Offline::open(folder.path(), None).unwrap().skip(at(4), 2).unwrap();
    }
}

#[tokio::test]
async fn a_log_without_a_place_for_marks_gets_one() {
    let folder = tampered("DROP TABLE skips; DROP TABLE agreed").await;
    let mut log = Offline::open(folder.path(), None).unwrap();
    assert_eq!(log.agreed().unwrap(), []);
    log.skip(at(1), 0).unwrap();
    assert_eq!(log.skips().unwrap(), [(at(1), 0)]);
}

#[tokio::test]
async fn a_row_does_not_pass_for_another() {
    let folder = tampered(
        "UPDATE batches SET ordinal = -1 WHERE ordinal = 3; UPDATE batches SET ordinal = 3 WHERE ordinal = 4;
         UPDATE batches SET ordinal = 4 WHERE ordinal = -1;",
    )
    .await;
    assert_eq!(read_until_damage(&folder).await.1.position, at(3));
    assert_eq!(problems(&folder).len(), 2);
}

#[tokio::test]
async fn missing_rows_are_named() {
    let folder = tampered("DELETE FROM batches WHERE ordinal IN (4, 5, 8)").await;
    let (shown, damaged) = read_until_damage(&folder).await;
    assert_eq!((shown.len(), damaged.position), (3, at(4)));
    assert_eq!(problems(&folder), ["batches 4 to 5 are missing", "batches 8 to 8 are missing"]);
}

#[tokio::test]
async fn a_log_whose_ends_do_not_fit_is_not_opened() {
    for (change, first_bad, problem) in [
        ("DELETE FROM batches WHERE ordinal > 8", 9, "batches 9 to 10 are missing"),
        ("DELETE FROM batches WHERE ordinal < 3", 1, "batches 1 to 2 are missing"),
        ("UPDATE ends SET last = 9", 11, "batch 10 should not be there"),
        ("UPDATE ends SET trimmed = 1", 2, "batch 1 should not be there"),
    ] {
        let folder = tampered(change).await;
        let error = Sqlite::open(folder.path(), &Options::new(CELL)).unwrap_err();
        assert_eq!(damage(&error).position, at(first_bad), "{change}");
        assert!(problems(&folder).contains(&problem.to_owned()), "{change}: {:?}", problems(&folder));
    }
}

#[tokio::test]
async fn a_wrong_newest_batch_is_named() {
    let folder = tampered("UPDATE newest SET ordinal = 9").await;
    assert_eq!(problems(&folder), ["node 1: its newest batch is recorded wrongly"]);
}

#[tokio::test]
async fn a_page_that_is_overwritten_is_found() {
    let folder = tempfile::tempdir().unwrap();
    drop(fill(folder.path(), 200).await);
    let database = folder.path().join("generation-1.sqlite");
    let mut content = std::fs::read(&database).unwrap();
    let page = 16 * 1024;
    let middle = content.len() / 2 / page * page;
    content[middle..middle + page].fill(0xaa);
    std::fs::write(&database, content).unwrap();
    let (shown, damaged) = read_until_damage(&folder).await;
    assert!((1..200).contains(&shown.len()));
    assert_eq!(damaged.position.ordinal, shown.len() as u64 + 1);
    assert!(!problems(&folder).is_empty());
}
