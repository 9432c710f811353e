//! Writes new golden logs beside those in `tests/golden`, and refuses to write over any: raise [`VERSION`] first. What they are for:
//! `tests/golden/main.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "shares its scenes with tests"
)]
#![allow(dead_code, unreachable_pub, reason = "the tests use more of them")]

#[path = "../tests/golden/render.rs"]
mod render;
#[path = "../tests/golden/scenario.rs"]
mod scenario;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use ieum_core::testing::{Cell, write_log};

/// Part of the names of files written from here on.
const VERSION: &str = "0.2";

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let all = [("everything", scenario::everything()), ("limits", scenario::limits()), ("levels", scenario::levels())];
    for (name, cell) in all {
        let Cell { log, skips, .. } = cell;
        for (kind, bytes) in [("log", write_log(&log)), ("txt", render::render(&log, &skips).into_bytes())] {
            let path = folder.join(format!("{VERSION}-{name}.{kind}"));
            let file = OpenOptions::new().write(true).create_new(true).open(&path);
            file.unwrap_or_else(|e| panic!("{}: {e}: raise VERSION", path.display())).write_all(&bytes).unwrap();
            println!("{}", path.display());
        }
    }
}
