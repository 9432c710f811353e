//! Each kind of damage that `ieum verify` names, made on a real node's folder: it is named, and then the node repairs it by itself, or what
//! `docs/operating/verify.md` says to do does, or the node refuses to start and says what to do.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use common::{IEUM, PATIENCE, Run, operator};
use ieum_core::apply::{self, position_alone};
use ieum_core::kv::{Kv as _, Read as _, WriteSet};
use ieum_core::tables::cell::Applied;
use ieum_drill::crowd::{self, Crowd};
use ieum_drill::server::Server;
use ieum_store::fjall::{self, Fjall};

/// What a node left that was stopped, went on, and was stopped again.
struct Grown {
    folder: tempfile::TempDir,
    /// Keeps the folder of the last node's standard error.
    _outside: tempfile::TempDir,
}

/// Made once; each test damages a copy.
static GROWN: LazyLock<Grown> = LazyLock::new(|| {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let server = Server::new(IEUM, outside.path(), &data).unwrap().without_limits();
    let mut server = server.set("SNAPSHOTS__COMMANDS", "400");
    server.start(PATIENCE).unwrap();
    let endpoints = vec![server.address().parse().unwrap()];
    let crowd = Crowd::gather(&crowd::Options { endpoints, people: 12, in_flight: 4 }).unwrap();
    assert!(server.stop(PATIENCE).unwrap().success());
    copy(&data.join("view"), &folder.path().join("early view"));
    copy(&data.join("log"), &folder.path().join("early log"));
    server.start(PATIENCE).unwrap();
    crowd.write();
    // Two snapshots are kept; with the third the log is trimmed to the second.
    let enough = |text: &str| text.matches("snapshot taken").count() >= 4;
    server.running().unwrap().wait_for_stderr(enough, PATIENCE).unwrap();
    crowd.rest(PATIENCE).unwrap();
    drop(crowd.leave());
    assert!(server.stop(PATIENCE).unwrap().success());
    Grown { folder, _outside: outside }
});

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() { copy(&from, &to) } else { drop(fs::copy(from, to)) }
    }
}

/// A copy to damage, and a node to start on it.
struct Patient {
    folder: tempfile::TempDir,
    server: Server,
}

impl Patient {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        copy(&GROWN.folder.path().join("data"), &data);
        let server = Server::new(IEUM, folder.path(), &data).unwrap().without_limits();
        let patient = Self { folder, server };
        patient.is_well();
        patient
    }

    fn path(&self, name: &str) -> PathBuf {
        self.server.data().join(name)
    }

    fn operator(&self, arguments: &[&str]) -> Run {
        operator(self.server.data(), arguments)
    }

    fn is_well(&self) {
        let said = self.operator(&["verify"]).success();
        assert!(said.starts_with("All is well"), "{said}");
    }

    /// `ieum verify` says that it has this, and that there is damage.
    fn has(&self, word: &str) {
        let run = self.operator(&["verify"]);
        let said = run.out();
        assert_eq!(run.code(), 2, "{said}{}", run.err());
        assert!(said.lines().any(|line| line.starts_with(&format!("{word}: "))), "no {word} in: {said}");
        assert!(said.contains("docs/operating/verify.md"), "{said}");
    }

    /// The node starts, and afterwards all is well.
    fn recovers(&mut self) {
        self.server.start(PATIENCE).unwrap();
        assert!(self.server.stop(PATIENCE).unwrap().success());
        self.is_well();
    }

    /// The node refuses to start, in one line without a panic, which says what to do.
    fn refuses(&mut self, advice: &str) {
        let error = self.server.start(PATIENCE).unwrap_err().to_string();
        assert!(error.contains(advice) && !error.contains("panicked"), "no advice {advice:?} in: {error}");
    }

    fn move_view_aside(&self) {
        fs::rename(self.path("view"), self.folder.path().join("evidence")).unwrap();
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path("log/generation-1.sqlite")).unwrap()
    }

    /// Changes the view behind the node's back.
    fn write(&self, change: impl FnOnce(&Fjall) -> WriteSet) {
        let view = Fjall::open(self.path("view"), &fjall::Options::default()).unwrap();
        let writes = change(&view);
        view.commit(&writes).unwrap();
        view.persist().unwrap();
    }

    fn snapshots(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("snapshots")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

/// A row of a table with rows that are not the cell's own, from the middle of the view.
fn some_row(view: &Fjall) -> (Vec<u8>, bytes::Bytes) {
    let mut rows = Vec::new();
    let mut collect = |key: &[u8], value: &bytes::Bytes| {
        rows.push((key.to_vec(), value.clone()));
        std::ops::ControlFlow::Continue(())
    };
    view.snapshot().scan(&[1], &[0xff], ieum_core::kv::Direction::Forward, &mut collect).unwrap();
    rows.swap_remove(rows.len() / 2)
}

fn row(key: Vec<u8>, value: Option<bytes::Bytes>) -> WriteSet {
    let mut writes = WriteSet::default();
    writes.rows.insert(key, value);
    writes
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Writes zeros there, as writes that did not reach the disk leave them.
fn tear(path: &Path, place: std::ops::Range<usize>) {
    let mut bytes = fs::read(path).unwrap();
    bytes[place].fill(0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn log_missing() {
    let mut patient = Patient::new();
    fs::remove_dir_all(patient.path("log")).unwrap();
    patient.has("log-missing");
    patient.refuses("put the log's folder back, or restore a backup with `ieum restore`");
}

#[test]
fn log_unreadable() {
    let mut patient = Patient::new();
    fs::write(patient.path("log/generation-1.sqlite"), "this is no database").unwrap();
    patient.has("log-unreadable");
    patient.refuses("ieum restore");
}

#[test]
fn log_unreadable_because_it_is_another_cells() {
    let mut patient = Patient::new();
    patient.database().execute("UPDATE meta SET cell = 77", []).unwrap();
    patient.has("log-unreadable");
    patient.refuses("cell 77");
}

#[test]
fn log_damaged_in_a_batch() {
    let mut patient = Patient::new();
    let last = "(SELECT max(ordinal) FROM batches)";
    let sql = format!("UPDATE batches SET bytes = zeroblob(length(bytes)) WHERE ordinal = {last}");
    assert_eq!(patient.database().execute(&sql, []).unwrap(), 1);
    patient.has("log-damaged");
    // The view has applied it already, but a rebuilt one would have to.
    fs::remove_dir_all(patient.path("view")).unwrap();
    patient.refuses("ieum restore");
}

#[test]
fn log_damaged_by_a_missing_batch() {
    let mut patient = Patient::new();
    let sql = "DELETE FROM batches WHERE ordinal = (SELECT max(ordinal) FROM batches)";
    assert_eq!(patient.database().execute(sql, []).unwrap(), 1);
    patient.has("log-damaged");
    patient.refuses("ieum restore");
}

/// The log's file, its page size, and where the last batch is in it.
fn last_batch(patient: &Patient) -> (PathBuf, usize, std::ops::Range<usize>) {
    let sql = "SELECT bytes FROM batches ORDER BY ordinal DESC LIMIT 1";
    let last: Vec<u8> = patient.database().query_row(sql, [], |row| row.get(0)).unwrap();
    let page: i64 = patient.database().pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    let path = patient.path("log/generation-1.sqlite");
    let at = fs::read(&path).unwrap().windows(last.len()).rposition(|window| window == last).unwrap();
    (path, usize::try_from(page).unwrap(), at..at + last.len())
}

#[test]
fn log_damaged_by_a_torn_last_page() {
    let mut patient = Patient::new();
    let (path, _, batch) = last_batch(&patient);
    tear(&path, batch);
    patient.has("log-damaged");
    // The view has applied the batch already, but a rebuilt one would have to.
    fs::remove_dir_all(patient.path("view")).unwrap();
    patient.refuses("ieum restore");
}

#[test]
fn log_damaged_by_a_last_page_that_was_never_written() {
    let mut patient = Patient::new();
    let (path, page, batch) = last_batch(&patient);
    let begin = batch.start / page * page;
    tear(&path, begin..begin + page);
    patient.has("log-damaged");
    patient.refuses("ieum restore");
}

#[test]
fn log_behind_because_an_older_one_was_put_back() {
    let mut patient = Patient::new();
    fs::remove_dir_all(patient.path("log")).unwrap();
    copy(&GROWN.folder.path().join("early log"), &patient.path("log"));
    patient.has("log-behind");
    patient.refuses("restore a backup with `ieum restore`");
}

#[test]
fn log_behind_because_its_write_ahead_log_is_torn() {
    let mut patient = Patient::new();
    patient.server.start(PATIENCE).unwrap();
    let endpoints = vec![patient.server.address().parse().unwrap()];
    let http = ieum_client::Http::new(endpoints, ieum_client::Trust::web());
    let account = ieum_client::NewAccount {
        handle: "newcomer".into(),
        name: "x".into(),
        password: "password".into(),
        device: "x".into(),
        invitation: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(http.register(account)).unwrap();
    patient.server.kill().unwrap();
    let wal = patient.path("log/generation-1.sqlite-wal");
    // Its header is left.
    let length = usize::try_from(fs::metadata(&wal).unwrap().len()).unwrap();
    tear(&wal, 32..length);
    patient.has("log-behind");
    patient.refuses("restore a backup with `ieum restore`");
}

#[test]
fn snapshot_damaged() {
    let mut patient = Patient::new();
    let newer = patient.snapshots().pop().unwrap();
    flip(&newer, 400);
    patient.has("snapshot-damaged");
    // The other serves, even when the view is gone too.
    fs::remove_dir_all(patient.path("view")).unwrap();
    patient.server.start(PATIENCE).unwrap();
    assert!(patient.server.stop(PATIENCE).unwrap().success());
    fs::remove_file(newer).unwrap();
    patient.is_well();
}

#[test]
fn view_missing() {
    let mut patient = Patient::new();
    fs::remove_dir_all(patient.path("view")).unwrap();
    patient.has("view-missing");
    patient.recovers();
    assert!(patient.server.stderr().unwrap().contains("the view was rebuilt"));
}

#[test]
fn view_missing_because_it_is_empty() {
    let mut patient = Patient::new();
    fs::remove_dir_all(patient.path("view")).unwrap();
    drop(Fjall::open(patient.path("view"), &fjall::Options::default()).unwrap());
    patient.has("view-missing");
    patient.recovers();
}

#[test]
fn view_unreadable() {
    let mut patient = Patient::new();
    fs::write(patient.path("view/version"), "what is this").unwrap();
    patient.has("view-unreadable");
    patient.recovers();
    assert!(patient.server.stderr().unwrap().contains("it does not open"));
}

#[test]
fn view_too_old() {
    let mut patient = Patient::new();
    fs::remove_dir_all(patient.path("view")).unwrap();
    copy(&GROWN.folder.path().join("early view"), &patient.path("view"));
    patient.has("view-too-old");
    patient.recovers();
}

#[test]
fn digest_differs() {
    let mut patient = Patient::new();
    patient.write(|view| {
        let applied = apply::applied(&view.snapshot()).unwrap();
        position_alone(&Applied { digest: [7; 32], ..applied })
    });
    patient.has("digest-differs");
    patient.move_view_aside();
    patient.recovers();
}

#[test]
fn row_differs() {
    let mut patient = Patient::new();
    patient.write(|view| {
        let (key, value) = some_row(view);
        row(key, Some([value.as_ref(), b"x"].concat().into()))
    });
    patient.has("row-differs");
    patient.move_view_aside();
    patient.recovers();
}

#[test]
fn row_missing() {
    let mut patient = Patient::new();
    patient.write(|view| row(some_row(view).0, None));
    patient.has("row-missing");
    patient.move_view_aside();
    patient.recovers();
}

#[test]
fn row_unexpected() {
    let mut patient = Patient::new();
    patient.write(|view| row([some_row(view).0.as_slice(), b"x"].concat(), Some(bytes::Bytes::from_static(b"x"))));
    patient.has("row-unexpected");
    patient.move_view_aside();
    patient.recovers();
}

#[test]
fn nothing_to_replay_from() {
    let mut patient = Patient::new();
    fs::remove_dir_all(patient.path("snapshots")).unwrap();
    patient.has("nothing-to-replay-from");
    // As the page says: back up while the node runs, then restore that.
    patient.server.start(PATIENCE).unwrap();
    let backup = patient.folder.path().join("backup");
    patient.operator(&["backup", backup.to_str().unwrap()]).success();
    assert!(patient.server.stop(PATIENCE).unwrap().success());
    patient.operator(&["restore", backup.to_str().unwrap(), "--replace"]).success();
    patient.recovers();
}

#[test]
fn nothing_to_replay_from_and_no_view_is_refused() {
    let mut patient = Patient::new();
    fs::remove_dir_all(patient.path("snapshots")).unwrap();
    fs::remove_dir_all(patient.path("view")).unwrap();
    patient.refuses("Restore a backup with `ieum restore`");
    assert!(!patient.path("view").exists(), "it must not start empty the next time");
}
