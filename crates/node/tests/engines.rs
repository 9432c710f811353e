//! Invariant 3 on one machine: the same log gives the same view in every engine, wherever it was stopped, persisted or cut off.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ieum_core::apply::applied;
use ieum_core::ids::Position;
use ieum_core::kv::Kv;
use ieum_core::testing::{Logged, read_log};
use ieum_log::{BatchId, Entry};
use ieum_node::applier::Applier;
use ieum_node::log_position;
use ieum_store::Memory;
use ieum_store::fjall::{self, Fjall};

fn entry(ordinal: u64, logged: &Logged) -> Entry {
    let author = logged.author;
    let id = BatchId { node: author.node, incarnation: author.incarnation, number: author.number };
    Entry { position: log_position(Position::new(1, ordinal)), id, bytes: logged.bytes.clone() }
}

/// Applies at most `count` batches behind where the view stands.
fn go_on<K: Kv>(view: &Arc<K>, log: &[Logged], count: usize) {
    let mut applier = Applier::new(Arc::clone(view), Default::default()).unwrap();
    let done = usize::try_from(applier.applied().ordinal).unwrap();
    for (logged, ordinal) in log[done..].iter().zip(applier.applied().ordinal + 1..).take(count) {
        applier.apply(&entry(ordinal, logged)).unwrap();
    }
}

fn stands<K: Kv>(view: &K) -> usize {
    usize::try_from(applied(&view.snapshot()).unwrap().position.ordinal).unwrap()
}

type Contents = ([u8; 32], Vec<(Bytes, Bytes)>);

fn contents<K: Kv>(view: &K) -> Contents {
    let look = view.snapshot();
    (applied(&look).unwrap().digest, view.rows(look).map(Result::unwrap).collect())
}

/// In one go, in memory.
fn straight(log: &[Logged]) -> Contents {
    let view = Arc::new(Memory::new());
    go_on(&view, log, usize::MAX);
    contents(view.as_ref())
}

/// In memory, losing all or a part of what was not persisted, every few batches.
fn cut(log: &[Logged], mut random: usize) -> Contents {
    let view = Arc::new(Memory::new());
    while stands(view.as_ref()) < log.len() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        go_on(&view, log, 1 + (random >> 33) % 40);
        if random >> 60 & 1 == 0 {
            view.persist().unwrap();
        } else {
            view.crash((random >> 40) % 40);
        }
    }
    contents(view.as_ref())
}

/// On disk, closed and opened again every few batches.
fn on_disk(log: &[Logged], path: &Path, each: usize) -> Contents {
    let options = fjall::Options { memtable_bytes: 64 << 10, cache_bytes: 1 << 20, ..fjall::Options::default() };
    loop {
        let view = Arc::new(Fjall::open(path, &options).unwrap());
        if stands(view.as_ref()) == log.len() {
            return contents(view.as_ref());
        }
        go_on(&view, log, each);
    }
}

#[test]
fn one_log_gives_one_view_in_every_engine_however_it_is_cut() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/golden/0.1-everything.log");
    let log = read_log(&fs::read(golden).unwrap()).unwrap();
    let expected = straight(&log);
    assert!(expected.1.len() > 100, "{} rows", expected.1.len());
    for seed in 1..20 {
        assert_eq!(cut(&log, seed), expected, "seed {seed}");
    }
    for each in [log.len(), 41, 17] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(on_disk(&log, &folder.path().join("view"), each), expected, "{each} batches at a time");
    }
}
