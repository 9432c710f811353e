//! Golden logs: an old log decodes to the same outcomes and the same view in every later version (design.md, invariant 5).
//! What devices are told may change.
//!
//! `VERSION-name.log` holds the batches, `VERSION-name.txt` what came of them. A file is never changed. When there is something new
//! to cover, extend `scenario.rs`, raise `VERSION` in that example and run
//!
//! ```text
//! cargo run -p ieum-core --example write_golden_logs
//! ```
//!
//! which writes new files beside the old ones and refuses to write over any.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod render;
mod scenario;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ieum_core::batch::Batch;
use ieum_core::codec::{Code, Reader};
use ieum_core::outcome::{Outcome, Reject};
use ieum_core::testing::{read_log, write_log};

use crate::render::{render, replay};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Every golden log: its name, its batches' bytes, what is expected.
fn golden() -> BTreeMap<String, (Vec<u8>, String)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let expected = fs::read_to_string(path.with_extension("txt")).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            found.insert(name, (fs::read(&path).unwrap(), expected));
        }
    }
    assert!(found.len() >= 5, "the golden logs are gone");
    found
}

#[test]
fn old_logs_give_what_they_gave() {
    for (name, (log, expected)) in golden() {
        let log = read_log(&log).unwrap();
        let given = render(&log, &render::skips(&expected));
        for (given, expected) in given.lines().zip(expected.lines()) {
            assert_eq!(given, expected, "in {name}");
        }
        assert_eq!(given.lines().count(), expected.lines().count(), "in {name}");
    }
}

/// Without this a new command or reason would have no golden log and nobody would notice.
#[test]
fn golden_logs_cover_every_command_and_every_reason() {
    let mut commands = BTreeSet::new();
    let mut reasons = BTreeSet::new();
    for (_, (log, expected)) in golden() {
        let log = read_log(&log).unwrap();
        for batch in log.iter().filter_map(|logged| Batch::decode(&logged.bytes).ok()) {
            let known = batch.commands.iter().filter(|envelope| envelope.command.levels().is_some());
            commands.extend(known.map(|envelope| Reader::new(&envelope.command.to_bytes()).varint().unwrap()));
        }
        let (_, outcomes) = replay(&log, &render::skips(&expected));
        reasons.extend(outcomes.into_iter().flat_map(|batch| batch.outcomes).filter_map(|outcome| match outcome {
            Outcome::Rejected(reject) => Some(reject),
            Outcome::Accepted(_) => None,
        }));
    }
    assert_eq!(commands, listed_commands());
    // `internal` is a bug, and a golden log of a bug would keep it.
    let expected = Reject::ALL.iter().copied().filter(|reject| *reject != Reject::Internal);
    assert_eq!(reasons, expected.collect());
}

/// The numbers in the table of contents of `commands/mod.rs`.
fn listed_commands() -> BTreeSet<u64> {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands/mod.rs")).unwrap();
    let number =
        |line: &str| line.trim_start_matches(' ').split_once(" level ").and_then(|(number, _)| number.parse().ok());
    source.lines().filter_map(number).collect()
}

/// Two runs in one process: what one of them could have from a clock, a random source or a hash map differs.
#[test]
fn two_runs_of_a_scenario_write_the_same_view() {
    for scenario in [scenario::everything, scenario::limits, scenario::levels] {
        let (one, other) = (scenario(), scenario());
        assert_eq!(write_log(&one.log), write_log(&other.log));
        assert_eq!(one.digest(), other.digest());
        assert_eq!(one.view, other.view);
    }
}
