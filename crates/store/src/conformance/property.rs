//! Random commits, snapshots, restarts and power cuts against an ordered map.

use bytes::Bytes;
use ieum_core::kv::{Direction, Kv, Read, WriteSet};
use proptest::collection::{btree_map, vec};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

use super::engines::Engine;
use super::{Rows, all, scan};

#[derive(Debug, Clone)]
enum Step {
    Commit(WriteSet),
    Persist,
    Snapshot,
    Scan(Vec<u8>, Vec<u8>, usize),
    Reopen,
    CutPower(u64),
}

/// Short keys of few letters, so that rows are written over and removed.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(0x80), Just(0xFF)], 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![
        1 => Just(None),
        3 => vec(any::<u8>(), 0..80).prop_map(|bytes| Some(Bytes::from(bytes))),
    ];
    prop_oneof![
        12 => btree_map(key(), value, 0..12).prop_map(|rows| Step::Commit(WriteSet { rows })),
        2 => Just(Step::Persist),
        3 => Just(Step::Snapshot),
        3 => (key(), key(), 1..20_usize).prop_map(|(from, to, limit)| Step::Scan(from, to, limit)),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::CutPower),
    ]
}

/// What the engine must hold, and what it may fall back to.
struct Model {
    rows: Rows,
    /// The rows after the last persist and after every commit since.
    possible: Vec<Rows>,
}

impl Model {
    fn commit(&mut self, writes: &WriteSet) {
        for (key, value) in &writes.rows {
            match value {
                Some(value) => self.rows.insert(key.clone(), value.clone()),
                None => self.rows.remove(key),
            };
        }
        self.possible.push(self.rows.clone());
    }

    fn persist(&mut self) {
        self.possible = vec![self.rows.clone()];
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, limit: usize) -> Vec<(Vec<u8>, Bytes)> {
        let rows = self.rows.iter().filter(|(key, _)| from <= key.as_slice() && key.as_slice() < to);
        let rows = rows.map(|(key, value)| (key.clone(), value.clone()));
        match direction {
            Direction::Forward => rows.take(limit).collect(),
            Direction::Backward => rows.rev().take(limit).collect(),
        }
    }
}

fn run<E: Engine>(steps: Vec<Step>) {
    let mut engine = E::new();
    let mut model = Model { rows: Rows::new(), possible: vec![Rows::new()] };
    let mut snapshots = Vec::new();
    for step in steps {
        match step {
            Step::Commit(writes) => {
                engine.kv().commit(&writes).unwrap();
                model.commit(&writes);
            }
            Step::Persist => {
                engine.persist();
                model.persist();
            }
            Step::Snapshot => snapshots.push((engine.kv().snapshot(), model.rows.clone())),
            Step::Scan(from, to, limit) => {
                let read = engine.kv().snapshot();
                for direction in [Direction::Forward, Direction::Backward] {
                    assert_eq!(scan(&read, &from, &to, direction, limit), model.scan(&from, &to, direction, limit));
                }
                assert_eq!(read.get(&from).unwrap(), model.rows.get(&from).cloned());
            }
            Step::Reopen => {
                check(&mut snapshots);
                engine.reopen();
                model.persist();
            }
            Step::CutPower(random) => {
                check(&mut snapshots);
                engine.cut_power(random);
                let found = all(&engine.kv().snapshot());
                assert!(model.possible.contains(&found), "not a prefix of the commits: {found:?}");
                model.rows = found;
                model.persist();
            }
        }
        assert_eq!(all(&engine.kv().snapshot()), model.rows);
    }
    check(&mut snapshots);
}

/// Snapshots hold the folder's lock, so they go before it is opened again.
fn check<S: Read>(snapshots: &mut Vec<(S, Rows)>) {
    for (snapshot, rows) in snapshots.drain(..) {
        assert_eq!(all(&snapshot), rows);
    }
}

pub(super) fn agrees_with_a_model<E: Engine>() {
    let mut runner =
        TestRunner::new(Config { cases: 32, max_shrink_iters: 64, failure_persistence: None, ..Config::default() });
    runner
        .run(&vec(step(), 1..40), |steps| {
            run::<E>(steps);
            Ok(())
        })
        .unwrap();
}
