//! Damaged snapshots and backups, which are files of one kind: noticed or read as they were written; no panic, and no more memory than the
//! file warrants.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use ieum_core::kv::{Kv, WriteSet};
use ieum_fuzz::{Heap, Target, alone};
use ieum_node::snapshot;
use ieum_store::Memory;

#[global_allocator]
static HEAP: Heap = Heap;

/// The reader's buffer, and a little.
const READER: usize = 2 << 20;

fn view(rows: u32) -> Memory {
    let view = Memory::new();
    let rows = (0..rows).map(|row| {
        let key = [&[30u8][..], &row.to_be_bytes()].concat();
        (key, Some(format!("row {row} {}", "lorem ".repeat(row as usize % 9)).into()))
    });
    view.commit(&WriteSet { rows: rows.collect() }).unwrap();
    view
}

/// Everything that the file holds, as far as it can be read.
fn read(path: &std::path::Path) -> Result<usize, snapshot::Error> {
    let mut count = 0;
    for row in snapshot::Rows::open(path)? {
        row?;
        count += 1;
    }
    Ok(count)
}

#[test]
fn damaged_files() {
    let alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.snap");
    let samples: Vec<Vec<u8>> = [0, 3, 500]
        .map(|rows| {
            snapshot::write(&view(rows).snapshot(), &path).unwrap();
            std::fs::read(&path).unwrap()
        })
        .to_vec();
    Target { name: "snapshot", samples: &samples, cases: 400, memory: READER, per_byte: 300 }.run(&alone, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        if read(&path).is_ok() {
            assert!(samples.iter().any(|sample| sample == bytes), "a damaged file is taken for a sound one");
        }
    });
}

/// Rows that were damaged before they got their checksums: by whoever wrote them.
#[test]
fn damaged_rows_under_good_checksums() {
    let alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.snap");
    snapshot::write(&view(0).snapshot(), &path).unwrap();
    let empty = std::fs::read(&path).unwrap();
    let header = &empty[..empty.len() - 4 - 8 - 32];
    let rows: Vec<u8> = (0..9u8).flat_map(|row| [&[2u8, 30, row, 5][..], b"hello"].concat()).collect();
    let samples = [rows, vec![1, 2, 0]];
    Target { name: "rows", samples: &samples, cases: 800, memory: READER, per_byte: 300 }.run(&alone, |plain| {
        let packed = lz4_flex::block::compress(plain);
        let sum = blake3::hash(&packed);
        let sum = &sum.as_bytes()[..16];
        let mut file = header.to_vec();
        file.extend_from_slice(&u32::try_from(plain.len()).unwrap().to_le_bytes());
        file.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_le_bytes());
        file.extend_from_slice(&packed);
        file.extend_from_slice(sum);
        file.extend_from_slice(&0u32.to_le_bytes());
        file.extend_from_slice(&9u64.to_le_bytes());
        file.extend_from_slice(blake3::hash(sum).as_bytes());
        std::fs::write(&path, file).unwrap();
        let _either = read(&path);
    });
}
