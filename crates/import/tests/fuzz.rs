//! Damaged exports: read or refused without a panic and within memory, the same each time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use std::path::Path;

use ieum_fuzz::{Heap, Target, alone};
use ieum_import::{Error, Event, Import, Options, Report, Source};

#[global_allocator]
static HEAP: Heap = Heap;

/// What one file gives, or why it is no export.
fn read(name: &str, bytes: &[u8]) -> Result<(Vec<Event>, Report), Error> {
    let source = Source::reader(name, bytes.len() as u64, std::io::Cursor::new(bytes.to_vec()));
    let mut import = Import::of(vec![source], Options::default())?;
    let events = import.by_ref().collect::<Result<_, _>>()?;
    Ok((events, import.report()))
}

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
        let mut understood = 0;
        let name = format!("KakaoTalk_Chat_x_2024-05-01-15-12-10.{kind}");
        Target { name: kind, samples: &samples, cases: 400, memory: 4 << 20, per_byte: 1_024 }.run(&alone, |bytes| {
            let (first, second) = (read(&name, bytes), read(&name, bytes));
            assert_eq!(format!("{first:?}"), format!("{second:?}"));
            understood += usize::from(first.is_ok_and(|(events, _)| events.len() > 1));
        });
        assert!(understood > 200, "most exports are refused: {understood}");
    }
}
