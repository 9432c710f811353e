//! The view's engine on the file system that forgets: what was persisted is there, and what is there is a beginning of what was written, in
//! both modes and also when the disk was just writing. The writer is a process of its own, `examples/fjall_writer.rs`.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use ieum_drill::process::{self, Process};
use ieum_drill::unsynced::{Metadata, Mount, Options};

const PATIENCE: Duration = Duration::from_secs(60);

/// Batches between two persists, and how many of those there are at least before the power goes.
const BATCHES: u64 = 50;
const ROUNDS: u64 = 20;

fn open(database: &Path) -> fjall::Result<(Database, Keyspace)> {
    let database = Database::builder(database).open()?;
    let view = database.keyspace("view", KeyspaceCreateOptions::default)?;
    Ok((database, view))
}

/// The last batch that is there, after a check that all before it are there as well and none after it.
fn last(view: &Keyspace) -> u64 {
    let last = view.get("last").expect("read");
    let last = last.map_or(0, |bytes| u64::from_be_bytes(bytes.as_ref().try_into().expect("8 bytes")));
    for number in 1..=last {
        assert!(view.contains_key(number.to_be_bytes()).expect("read"), "batch {number} of {last} is missing");
    }
    assert!(!view.contains_key((last + 1).to_be_bytes()).expect("read"));
    last
}

#[test]
fn what_was_persisted_survives_as_a_consistent_prefix() {
    for metadata in [Metadata::Strict, Metadata::Ext4] {
        let binary = Some(env!("CARGO_BIN_EXE_ieum-unsynced").into());
        let mount = Mount::new(&Options { metadata, binary, ..Options::default() }).expect("mount the file system");
        let outside = tempfile::tempdir().expect("make a folder");
        // The folder is the operator's.
        let folder = mount.path().join("view");
        std::fs::create_dir(&folder).expect("make a folder");
        std::fs::File::open(mount.path()).and_then(|root| root.sync_all()).expect("sync");
        let mut persisted = 0;
        for seed in [None, Some(1), Some(2), Some(3)] {
            if seed.is_some() {
                std::fs::remove_dir_all(&folder).and_then(|()| std::fs::create_dir(&folder)).expect("begin anew");
                std::fs::File::open(mount.path()).and_then(|root| root.sync_all()).expect("sync");
            }
            let options = process::Options::new(process::example("fjall_writer").expect("find it"), outside.path())
                .env("DATABASE", &folder);
            let mut writer = Process::spawn(&options).expect("start the child");
            let mut note = |line: &str| {
                persisted =
                    line.strip_prefix("persisted ").map_or(persisted, |number| number.parse().expect("a number"));
                persisted >= BATCHES * ROUNDS
            };
            writer.wait_for_line(&mut note, PATIENCE).expect("batches");
            match seed {
                Some(seed) => mount.cut_torn(seed).expect("cut"),
                None => mount.cut().expect("cut"),
            }
            writer.kill().expect("kill");
            writer.rest().iter().for_each(|line| _ = note(line));
            mount.restore().expect("restore");
            let (database, view) = open(&folder).unwrap_or_else(|error| panic!("{metadata:?} {seed:?}: {error}"));
            let there = last(&view);
            assert!(there >= persisted, "{metadata:?} {seed:?}: {persisted} persisted, {there} there");
            drop((database, view));
            persisted = 0;
        }
    }
}
