//! Damaged exports: read without a panic, within memory, and every line is either an entry's or in the report.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod common;

use std::path::Path;

use common::read_files;
use ieum_fuzz::{Heap, Target, alone};
use ieum_import::Options;

#[global_allocator]
static HEAP: Heap = Heap;

#[test]
fn damaged_exports() {
    let alone = alone();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt" || extension == "csv"));
    files.sort();
    for kind in ["txt", "csv"] {
        let of_kind = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == kind));
        let samples: Vec<Vec<u8>> = of_kind.map(|path| std::fs::read(path).unwrap()).collect();
        assert!(!samples.is_empty());
        let name = format!("KakaoTalk_Chat_x_2024-05-01-15-12-10.{kind}");
        Target { name: kind, samples: &samples, cases: 400, memory: 4 << 20, per_byte: 1_024 }.run(&alone, |bytes| {
            let (first, _) = read_files(&[(&name, bytes)], Options::default());
            let (second, _) = read_files(&[(&name, bytes)], Options::default());
            assert_eq!(format!("{first:?}"), format!("{second:?}"));
        });
    }
}
