//! What only an engine on a disk can get wrong.

use std::path::Path;
use std::process::Command;

use ieum_core::kv::Read;
use tempfile::TempDir;

use super::*;

fn small() -> Options {
    Options { memtable_bytes: 64 << 10, cache_bytes: 1 << 20, ..Options::default() }
}

fn numbered(n: u64, value: &[u8]) -> WriteSet {
    let rows =
        (0..20_u64).map(|row| ([n.to_be_bytes(), row.to_be_bytes()].concat(), Some(Bytes::copy_from_slice(value))));
    WriteSet { rows: rows.collect() }
}

fn count(view: &Fjall) -> usize {
    let mut rows = 0;
    let visit = &mut |_: &[u8], _: &Bytes| {
        rows += 1;
        std::ops::ControlFlow::Continue(())
    };
    view.snapshot().scan(&[], &[0xFF; 32], kv::Direction::Forward, visit).unwrap();
    rows
}

#[test]
fn a_foreign_folder_is_left_alone() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("letter"), "dear").unwrap();
    assert!(matches!(Fjall::open(folder.path(), &small()), Err(OpenError::NotAView(_))));
    assert!(matches!(destroy(folder.path()), Err(OpenError::NotAView(_))));
    assert_eq!(std::fs::read(folder.path().join("letter")).unwrap(), b"dear");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_view_in_use_is_neither_opened_nor_destroyed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("view");
    let view = Fjall::open(&path, &small()).unwrap();
    assert!(matches!(Fjall::open(&path, &small()), Err(OpenError::Locked(_))));
    assert!(matches!(destroy(&path), Err(OpenError::Locked(_))));
    drop(view);
    destroy(&path).unwrap();
    assert!(!path.exists());
    destroy(&path).unwrap();
}

#[test]
fn a_view_that_was_half_created_is_created_again() {
    let folder = TempDir::new().unwrap();
    drop(Fjall::open(folder.path(), &small()).unwrap());
    std::fs::remove_file(folder.path().join("version")).unwrap();
    assert!(matches!(Fjall::open(folder.path(), &small()), Err(OpenError::Damaged { .. })));
    std::fs::remove_dir_all(folder.path().join("keyspaces")).unwrap();
    assert_eq!(count(&Fjall::open(folder.path(), &small()).unwrap()), 0);
}

#[test]
fn a_damaged_view_says_so() {
    let folder = TempDir::new().unwrap();
    let view = Fjall::open(folder.path(), &small()).unwrap();
    view.commit(&numbered(1, b"v")).unwrap();
    view.settle();
    drop(view);
    for entry in std::fs::read_dir(folder.path().join("keyspaces/1/tables")).unwrap() {
        std::fs::write(entry.unwrap().path(), "gone").unwrap();
    }
    let opened = Fjall::open(folder.path(), &small()).map(|view| count(&view));
    assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{opened:?}");
    destroy(folder.path()).unwrap();
}

/// What fjall holds in memory of writes that came after a read of all rows had begun stays what it is without such a read.
#[test]
fn reading_all_rows_keeps_no_memtables() {
    let folder = TempDir::new().unwrap();
    let view = Fjall::open(folder.path(), &small()).unwrap();
    (0..100).for_each(|n| view.commit(&numbered(n, &[1; 1_000])).unwrap());
    let rows = view.rows(view.snapshot());
    for n in 50..400 {
        view.commit(&numbered(n, &[2; 1_000])).unwrap();
    }
    view.settle();
    // A commit lets go of the snapshot before it, and a flush then of what that one needed.
    view.commit(&numbered(0, &[2; 1_000])).unwrap();
    view.settle();
    let held = view.rows.tree.version_memtable_size_sum();
    assert!(held < 1 << 20, "{held} bytes of 7 MiB are held");
    let rows: Vec<_> = rows.map(Result::unwrap).collect();
    assert_eq!(rows.len(), 100 * 20);
    assert!(rows.iter().all(|(_, value)| value.iter().all(|byte| *byte == 1)));
}

#[test]
fn fill_loads_sorted_rows_and_they_survive() {
    let folder = TempDir::new().unwrap();
    let row = |n: u32| Ok((Bytes::copy_from_slice(&n.to_be_bytes()), Bytes::from(vec![n as u8; 100])));
    let view = Fjall::open(folder.path(), &small()).unwrap();
    let before = view.snapshot();
    assert_eq!(view.fill((0..50_000).map(row)).unwrap(), 50_000);
    assert!(view.fill((0..1).map(row)).is_err());
    assert_eq!(before.get(&7_u32.to_be_bytes()).unwrap(), None);
    assert_eq!(count(&view), 50_000);
    drop((view, before));
    let view = Fjall::open(folder.path(), &small()).unwrap();
    assert_eq!(count(&view), 50_000);
    let writes = WriteSet { rows: [(7_u32.to_be_bytes().to_vec(), None)].into() };
    view.commit(&writes).unwrap();
    assert_eq!(count(&view), 49_999);
}

#[test]
fn fill_refuses_what_is_not_sorted() {
    let folder = TempDir::new().unwrap();
    let view = Fjall::open(folder.path(), &small()).unwrap();
    let row = |key: &'static str| Ok((Bytes::from(key), Bytes::new()));
    assert!(view.fill([row("b"), row("a")]).is_err());
    assert!(view.fill([row("a"), row("a")]).is_err());
    assert!(view.fill([row("")]).is_err());
    assert_eq!(count(&view), 0);
    assert_eq!(view.fill([row("a"), row("b")]).unwrap(), 2);
}

#[test]
fn persist_finds_the_journal_while_journals_change() {
    let folder = TempDir::new().unwrap();
    let view = Fjall::open(folder.path(), &Options { memtable_bytes: 4 << 20, ..small() }).unwrap();
    std::thread::scope(|scope| {
        let commits = scope.spawn(|| (0..100).for_each(|n| view.commit(&numbered(n, &[7; 100_000])).unwrap()));
        while !commits.is_finished() {
            view.persist().unwrap();
        }
    });
    assert_eq!(count(&view), 2_000);
}

/// The worker cannot write tables any more: commits fail at last and keep failing, and never hang.
#[test]
fn a_worker_that_fails_fails_the_commits() {
    let folder = TempDir::new().unwrap();
    let view = Fjall::open(folder.path(), &small()).unwrap();
    view.commit(&numbered(0, b"v")).unwrap();
    let (tables, away) = (folder.path().join("keyspaces/1/tables"), folder.path().join("keyspaces/1/away"));
    std::fs::rename(&tables, &away).unwrap();
    let failed = (1..100_000).find(|n| view.commit(&numbered(*n, &[7; 100])).is_err()).unwrap();
    assert!(view.commit(&numbered(0, b"v")).is_err());
    assert!(view.persist().is_err());
    assert_eq!(count(&view) as u64, failed * 20, "what was committed is still read");
    drop(view);
    std::fs::rename(&away, &tables).unwrap();
    let view = Fjall::open(folder.path(), &small()).unwrap();
    assert_eq!(count(&view) as u64, failed * 20);
    view.commit(&numbered(failed, b"v")).unwrap();
}

/// Runs itself again under a limit on file sizes, which acts like a full disk: the journal cannot grow.
#[test]
fn a_full_disk_fails_the_commit_and_every_later_one() {
    const NAME: &str = "fjall::tests::a_full_disk_fails_the_commit_and_every_later_one";
    if let Some(folder) = std::env::var_os("IEUM_STORE_FULL_DISK") {
        return fill_the_disk(Path::new(&folder));
    }
    let folder = TempDir::new().unwrap();
    let limit_kib = (64 << 10) + 256;
    let status = Command::new("bash")
        .args(["-c", &format!("trap '' XFSZ; ulimit -f {limit_kib}; exec \"$@\""), "bash"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env("IEUM_STORE_FULL_DISK", folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    let view = Fjall::open(folder.path(), &Options::default()).unwrap();
    let rows = count(&view);
    assert_eq!(rows % 20, 0);
    assert!(rows >= 20 * 20, "{rows}");
    view.commit(&numbered(0, b"there is room again")).unwrap();
}

fn fill_the_disk(folder: &Path) {
    let options = Options { memtable_bytes: 1 << 30, ..Options::default() };
    let view = Fjall::open(folder, &options).unwrap();
    let failed = (0..1_000).find(|n| view.commit(&numbered(*n, &[7; 100_000])).is_err()).unwrap();
    assert!(failed > 20, "{failed}");
    assert!(view.commit(&numbered(2_000, b"v")).is_err());
    assert!(view.persist().is_err());
    assert_eq!(count(&view) as u64, failed * 20, "what failed is not seen");
}
