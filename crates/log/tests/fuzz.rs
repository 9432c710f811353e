//! A log whose files are damaged: opened or refused with a reason, read up to where it is sound; no panic, and what is read is what was
//! written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use std::path::Path;

use bytes::Bytes;
use ieum_fuzz::{Heap, Target, alone};
use ieum_log::sqlite::{Offline, Options, Sqlite};
use ieum_log::{BatchId, Log as _};

#[global_allocator]
static HEAP: Heap = Heap;

const BATCHES: u64 = 30;

fn batch(number: u64) -> Bytes {
    format!("batch {number} {}", "lorem ipsum ".repeat(number as usize * 3)).into()
}

fn write(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let log = Sqlite::open(folder, &Options { create: true, ..Options::new(1) }).unwrap();
        for number in 1..=BATCHES {
            log.append(BatchId { node: 1, incarnation: 1, number }, batch(number)).await.unwrap();
        }
        log.close().await.unwrap();
    });
}

#[test]
fn damaged_databases() {
    let alone = alone();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("log");
    write(&folder);
    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let database = files.into_iter().find(|path| path.extension().is_some_and(|e| e == "sqlite")).unwrap();
    let samples = [std::fs::read(&database).unwrap()];
    Target { name: "database", samples: &samples, cases: 150, memory: 8 << 20, per_byte: 16 }.run(&alone, |bytes| {
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            if path.to_string_lossy().ends_with("-wal") || path.to_string_lossy().ends_with("-shm") {
                std::fs::remove_file(path).unwrap();
            }
        }
        std::fs::write(&database, bytes).unwrap();
        let Ok(log) = Offline::open(&folder, None) else { return };
        let _either = log.check();
        let Ok(first) = log.first().ordinal.checked_sub(1).ok_or(()) else { return };
        let mut after = ieum_log::Position { ordinal: first, ..log.first() };
        while let Ok(entries) = log.read(after, 7) {
            let Some(last) = entries.last() else { break };
            after = last.position;
            for entry in &entries {
                assert_eq!(entry.bytes, batch(entry.position.ordinal), "{:?}", entry.position);
            }
        }
        drop(log);
        drop(Sqlite::open(&folder, &Options::new(1)));
    });
}
