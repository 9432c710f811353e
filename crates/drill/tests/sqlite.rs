//! SQLite on the file system that forgets: the layer must bite (`synchronous=OFF` loses what was acknowledged) and must not bite what is
//! synced properly (`synchronous=FULL` loses nothing). The writer is a process of its own, `examples/sqlite_writer.rs`.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use ieum_drill::process::{self, Process};
use ieum_drill::unsynced::{Metadata, Mount, Options};
use rusqlite::{Connection, ErrorCode};

const PATIENCE: Duration = Duration::from_secs(60);

fn mount(metadata: Metadata) -> Mount {
    let binary = Some(env!("CARGO_BIN_EXE_ieum-unsynced").into());
    Mount::new(&Options { metadata, binary, ..Options::default() }).expect("mount the file system")
}

fn open(database: &Path, synchronous: &str) -> Connection {
    let connection = Connection::open(database).expect("open the database");
    connection.pragma_update(None, "journal_mode", "WAL").expect("set the journal mode");
    connection.pragma_update(None, "synchronous", synchronous).expect("set synchronous");
    connection
}

fn count(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM rows", [], |row| row.get(0)).expect("count")
}

/// Runs `examples/sqlite_writer.rs`.
fn start(role: &str, database: &Path, synchronous: &str, folder: &Path) -> Process {
    let options = process::Options::new(ieum_drill::process::example("sqlite_writer").expect("find it"), folder)
        .env("ROLE", role)
        .env("DATABASE", database)
        .env("SYNCHRONOUS", synchronous);
    Process::spawn(&options).expect("start the child")
}

/// Inserts until at least `wanted` rows are acknowledged, lets the power go, and says how many were acknowledged and how many are there.
fn crash(mount: &Mount, synchronous: &str, wanted: i64, seed: Option<u64>) -> (i64, i64) {
    let outside = tempfile::tempdir().expect("make a folder");
    let database = mount.path().join("database");
    let mut writer = start("insert", &database, synchronous, outside.path());
    let mut acknowledged = 0;
    let mut note = |line: &str| {
        acknowledged =
            line.strip_prefix("acknowledged ").map_or(acknowledged, |number| number.parse().expect("a number"));
        acknowledged >= wanted
    };
    writer.wait_for_line(&mut note, PATIENCE).expect("rows");
    match seed {
        Some(seed) => mount.cut_torn(seed).expect("cut"),
        None => mount.cut().expect("cut"),
    }
    writer.kill().expect("kill");
    writer.rest().iter().for_each(|line| _ = note(line));
    mount.restore().expect("restore");
    if !database.exists() {
        return (acknowledged, 0);
    }
    let connection = open(&database, "FULL");
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("check");
    assert_eq!(sound, "ok");
    let there =
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0)).expect("read");
    (acknowledged, if there == 0 { 0 } else { count(&connection) })
}

#[test]
fn synchronous_full_keeps_every_acknowledged_row() {
    for metadata in [Metadata::Strict, Metadata::Ext4] {
        for seed in [None, Some(1), Some(2)] {
            // Beyond 1,000 pages the log is written back into the database.
            let (acknowledged, there) = crash(&mount(metadata), "FULL", 2000, seed);
            assert!(acknowledged >= 2000);
            assert!(there >= acknowledged, "{metadata:?} {seed:?}: {acknowledged} acknowledged, {there} there");
        }
    }
}

#[test]
fn synchronous_off_loses_acknowledged_rows() {
    for metadata in [Metadata::Strict, Metadata::Ext4] {
        let (acknowledged, there) = crash(&mount(metadata), "OFF", 300, None);
        assert!(there < acknowledged, "{metadata:?}: {acknowledged} acknowledged, {there} there");
    }
}

#[test]
fn processes_share_the_locks_and_the_index_of_the_log() {
    let mount = mount(Metadata::Strict);
    let outside = tempfile::tempdir().expect("make a folder");
    let database = mount.path().join("database");
    let connection = open(&database, "FULL");
    connection.busy_timeout(Duration::ZERO).expect("set the timeout");
    connection.execute_batch("CREATE TABLE rows (number INTEGER); INSERT INTO rows VALUES (1)").expect("insert");

    let mut other = start("look", &database, "FULL", outside.path());
    other.wait_for_line(|line| line == "sees 1", PATIENCE).expect("it sees the row");
    connection.execute("INSERT INTO rows VALUES (2)", []).expect("insert");
    other.wait_for_line(|line| line == "sees 2", PATIENCE).expect("it sees the second row");

    let mut other = start("lock", &database, "FULL", outside.path());
    other.wait_for_line(|line| line == "locked", PATIENCE).expect("it locks");
    let busy = connection.execute("INSERT INTO rows VALUES (3)", []).expect_err("it is locked");
    assert_eq!(busy.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    other.kill().expect("kill");
    connection.execute("INSERT INTO rows VALUES (3)", []).expect("the lock went with its process");
}
