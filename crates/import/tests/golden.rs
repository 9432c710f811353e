//! Every sample gives what the file beside it says. After a change that is meant: `UPDATE_GOLDEN=1 cargo nextest run -p
//! ieum-import golden`, and read the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may stop")]

mod common;

use std::path::{Path, PathBuf};

use ieum_import::{Import, Options};

fn samples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt" || extension == "csv"));
    files.sort();
    files
}

#[test]
fn golden() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for path in samples() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut import = Import::open(&[&path], Options::default()).unwrap();
        let events: Vec<_> = import.by_ref().collect::<Result<_, _>>().unwrap();
        let outcome = common::render(&events, &import.report());
        let beside = path.with_file_name(format!("{name}.golden"));
        if update {
            std::fs::write(&beside, outcome).unwrap();
        } else if std::fs::read_to_string(&beside).unwrap_or_default() != outcome {
            wrong.push(format!("{name} gives\n{outcome}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
