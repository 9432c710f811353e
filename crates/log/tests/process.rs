//! A log that another process wants. In a test program of its own: a process that is being started holds for a moment what its parent holds,
//! the locks of other tests too.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::error::Error as _;

use ieum_log::sqlite::{Options, Sqlite};

const CELL: u32 = 7;

/// What the test below runs in another process; there is nothing to do otherwise.
#[test]
fn opens_what_the_environment_names() {
    let Ok(folder) = std::env::var("IEUM_LOG_TEST_FOLDER") else { return };
    let error = Sqlite::open(folder, &Options::new(CELL)).unwrap_err();
    println!("told: {}", error.source().unwrap());
}

#[test]
fn another_process_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let _log = Sqlite::open(folder.path(), &Options { create: true, ..Options::new(CELL) }).unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "opens_what_the_environment_names", "--nocapture"])
        .env("IEUM_LOG_TEST_FOLDER", folder.path())
        .output()
        .unwrap();
    let output = String::from_utf8(child.stdout).unwrap();
    let expected = format!("told: another process uses the log in {}", folder.path().display());
    assert!(output.contains(&expected), "{output}");
    // Nor may a tool that knows nothing of our lock look into the database and hold its write-ahead log back.
    let stranger = rusqlite::Connection::open(folder.path().join("generation-1.sqlite")).unwrap();
    stranger.busy_timeout(std::time::Duration::ZERO).unwrap();
    assert!(stranger.query_row("SELECT last FROM ends", [], |row| row.get::<_, i64>(0)).is_err());
}
