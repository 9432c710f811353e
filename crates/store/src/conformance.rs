//! One suite that every engine must pass, run against each at the end of this file.

mod engines;
mod property;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use ieum_core::kv::{Direction, Kv, Read, WriteSet};

use engines::{Engine, FjallOnDisk, InMemory};

type Rows = BTreeMap<Vec<u8>, Bytes>;

fn writes(rows: &[(&[u8], Option<&[u8]>)]) -> WriteSet {
    WriteSet { rows: rows.iter().map(|(key, value)| (key.to_vec(), value.map(Bytes::copy_from_slice))).collect() }
}

fn put(kv: &impl Kv, rows: &[(&[u8], &[u8])]) {
    let rows: Vec<_> = rows.iter().map(|(key, value)| (*key, Some(*value))).collect();
    kv.commit(&writes(&rows)).unwrap();
}

fn scan(read: &impl Read, from: &[u8], to: &[u8], direction: Direction, limit: usize) -> Vec<(Vec<u8>, Bytes)> {
    let mut rows = Vec::new();
    read.scan(from, to, direction, &mut |key, value| {
        rows.push((key.to_vec(), value.clone()));
        if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .unwrap();
    rows
}

/// Everything there is; the bound is longer than any key.
fn all(read: &impl Read) -> Rows {
    scan(read, &[], &[0xFF; 70_000], Direction::Forward, usize::MAX).into_iter().collect()
}

fn keys(read: &impl Read, from: &[u8], to: &[u8], direction: Direction) -> Vec<Vec<u8>> {
    scan(read, from, to, direction, usize::MAX).into_iter().map(|(key, _)| key).collect()
}

fn starts_empty<E: Engine>() {
    let engine = E::new();
    let read = engine.kv().snapshot();
    assert_eq!(read.get(b"a").unwrap(), None);
    assert!(all(&read).is_empty());
}

fn a_snapshot_keeps_what_it_saw<E: Engine>() {
    let engine = E::new();
    let empty = engine.kv().snapshot();
    put(engine.kv(), &[(b"a", b"1"), (b"b", b"1")]);
    let first = engine.kv().snapshot();
    engine.kv().commit(&writes(&[(b"a", Some(b"2")), (b"b", None), (b"c", Some(b"2"))])).unwrap();
    let second = engine.kv().snapshot();
    put(engine.kv(), &[(b"a", b"3")]);
    assert!(all(&empty).is_empty());
    assert_eq!(empty.get(b"a").unwrap(), None);
    assert_eq!(first.get(b"a").unwrap().unwrap(), "1");
    assert_eq!(keys(&first, b"", b"z", Direction::Forward), [b"a", b"b"]);
    assert_eq!(second.get(b"a").unwrap().unwrap(), "2");
    assert_eq!(keys(&second, b"", b"z", Direction::Backward), [b"c", b"a"]);
    assert_eq!(engine.kv().snapshot().get(b"a").unwrap().unwrap(), "3");
}

fn keys_are_ordered_as_unsigned_bytes<E: Engine>() {
    let engine = E::new();
    let ordered: [&[u8]; 9] = [b"\0", b"\0\0", b"\0\x01", b"a", b"a\0", b"b", b"\x7F\xFF", b"\x80", b"\xFF\xFF\xFF"];
    let rows: Vec<_> = ordered.iter().rev().map(|key| (*key, &b"v"[..])).collect();
    put(engine.kv(), &rows);
    let read = engine.kv().snapshot();
    assert_eq!(keys(&read, b"", &[0xFF; 4], Direction::Forward), ordered);
    let backward: Vec<_> = ordered.iter().rev().map(|key| key.to_vec()).collect();
    assert_eq!(keys(&read, b"", &[0xFF; 4], Direction::Backward), backward);
}

fn scans_take_from_but_not_to<E: Engine>() {
    let engine = E::new();
    put(engine.kv(), &[(b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"d", b"4")]);
    let read = engine.kv().snapshot();
    for direction in [Direction::Forward, Direction::Backward] {
        let mut found = keys(&read, b"b", b"d", direction);
        found.sort();
        assert_eq!(found, [b"b", b"c"]);
        assert!(keys(&read, b"b", b"b", direction).is_empty());
        assert!(keys(&read, b"d", b"b", direction).is_empty());
        assert!(keys(&read, b"e", b"z", direction).is_empty());
        assert!(keys(&read, b"", b"a", direction).is_empty());
        assert!(keys(&read, b"", b"", direction).is_empty());
    }
    assert_eq!(scan(&read, b"a", b"z", Direction::Forward, 1), [(b"a".to_vec(), Bytes::from("1"))]);
    assert_eq!(scan(&read, b"a", b"z", Direction::Backward, 1), [(b"d".to_vec(), Bytes::from("4"))]);
    assert_eq!(scan(&read, b"a", b"d", Direction::Backward, 2).last().unwrap().0, b"b");
}

fn removed_rows_are_gone<E: Engine>() {
    let mut engine = E::new();
    put(engine.kv(), &[(b"a", b"1"), (b"b", b"2")]);
    engine.kv().commit(&writes(&[(b"a", None), (b"never", None)])).unwrap();
    engine.reopen();
    let read = engine.kv().snapshot();
    assert_eq!(read.get(b"a").unwrap(), None);
    assert_eq!(keys(&read, b"", b"z", Direction::Forward), [b"b"]);
    put(engine.kv(), &[(b"a", b"3")]);
    assert_eq!(engine.kv().snapshot().get(b"a").unwrap().unwrap(), "3");
}

fn empty_and_big_values_and_long_keys<E: Engine>() {
    let mut engine = E::new();
    let big: Vec<u8> = (0..1_u32 << 20).map(|n| (n % 251) as u8).collect();
    let long = vec![0xFF; usize::from(u16::MAX)];
    put(engine.kv(), &[(b"big", &big), (b"empty", b""), (&long, b"long")]);
    engine.kv().commit(&WriteSet::default()).unwrap();
    engine.reopen();
    let read = engine.kv().snapshot();
    assert_eq!(read.get(b"empty").unwrap().unwrap(), "");
    assert_eq!(read.get(b"big").unwrap().unwrap(), big);
    assert_eq!(read.get(&long).unwrap().unwrap(), "long");
    assert_eq!(all(&read).len(), 3);
    assert_eq!(read.get(&[0xFF; 70_000]).unwrap(), None);
    assert_eq!(read.get(b"").unwrap(), None);
    assert!(keys(&read, &[0xFF; 70_000], &[0xFF; 70_001], Direction::Forward).is_empty());
}

fn what_cannot_be_stored_is_refused_whole<E: Engine>() {
    let engine = E::new();
    for key in [vec![], vec![b'k'; 65_536]] {
        assert!(engine.kv().commit(&writes(&[(b"a", Some(b"1")), (&key, Some(b"2"))])).is_err());
    }
    assert!(all(&engine.kv().snapshot()).is_empty());
    put(engine.kv(), &[(b"a", b"1")]);
}

fn a_power_cut_leaves_a_prefix_with_all_that_was_persisted<E: Engine>() {
    for random in 0..12_u64 {
        let mut engine = E::new();
        let commit = |engine: &E, n: u64| {
            let rows: Vec<_> = (0..40_u64).map(|row| ((n * 40 + row).to_be_bytes(), [n as u8; 64])).collect();
            let rows: Vec<_> = rows.iter().map(|(key, value)| (&key[..], &value[..])).collect();
            put(engine.kv(), &rows);
        };
        (0..5).for_each(|n| commit(&engine, n));
        engine.persist();
        (5..9).for_each(|n| commit(&engine, n));
        engine.cut_power(random.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let found = all(&engine.kv().snapshot());
        assert_eq!(found.len() % 40, 0, "a commit was found in part");
        assert!((5 * 40..=9 * 40).contains(&found.len()), "{} rows", found.len());
        assert!(found.keys().enumerate().all(|(n, key)| key == &(n as u64).to_be_bytes()));
        commit(&engine, 9);
        engine.reopen();
        assert_eq!(all(&engine.kv().snapshot()).len(), found.len() + 40);
    }
}

/// Also while rows are written over, removed, flushed and merged, and in the order of the keys.
fn all_rows_are_those_of_the_snapshot<E: Engine>() {
    let engine = E::new();
    let commit = |generation: u8| {
        let value = Bytes::from(vec![generation; 40]);
        let row = |n: u64| (n.to_be_bytes().to_vec(), (n % 7 != u64::from(generation) % 7).then(|| value.clone()));
        engine.kv().commit(&WriteSet { rows: (0..1_000).map(row).collect() }).unwrap();
    };
    (0..5).for_each(commit);
    let snapshot = engine.kv().snapshot();
    let expected: Vec<_> = all(&snapshot).into_iter().collect();
    let mut rows = engine.kv().rows(snapshot);
    let mut found = Vec::new();
    for generation in 5..100 {
        found.extend(rows.by_ref().take(10).map(Result::unwrap));
        commit(generation);
    }
    found.extend(rows.map(Result::unwrap));
    assert_eq!(found.into_iter().map(|(key, value)| (key.to_vec(), value)).collect::<Vec<_>>(), expected);
    let empty = E::new();
    assert!(empty.kv().rows(empty.kv().snapshot()).next().is_none());
}

/// Readers on other threads never see a part of a commit, also while tables are flushed and merged.
fn no_reader_ever_sees_half_a_commit<E: Engine>() {
    let engine = E::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Acquire) {
                // The rows that a commit writes first and last; a scan would take too long to meet the moment.
                let read = engine.kv().snapshot();
                let [first, last] = [0, 999_u64].map(|row| read.get(&row.to_be_bytes()).unwrap());
                assert_eq!(first, last, "rows of two commits in one snapshot");
                seen += 1;
            }
            seen
        });
        for generation in 0..200_u64 {
            let value = Bytes::copy_from_slice(&generation.to_be_bytes());
            let rows = (0..1_000_u64).map(|row| (row.to_be_bytes().to_vec(), Some(value.clone()))).collect();
            engine.kv().commit(&WriteSet { rows }).unwrap();
        }
        done.store(true, Ordering::Release);
        assert!(reader.join().unwrap() > 0);
    });
}

macro_rules! suite {
    ($engine:ident, $module:ident, [$($test:ident),* $(,)?]) => {
        mod $module {
            $(#[test] fn $test() { super::$test::<super::$engine>(); })*
            #[test] fn agrees_with_a_model() { super::property::agrees_with_a_model::<super::$engine>(); }
        }
    };
}

macro_rules! suites {
    ($tests:tt) => {
        suite!(InMemory, memory, $tests);
        suite!(FjallOnDisk, fjall, $tests);
    };
}

suites!([
    starts_empty,
    a_snapshot_keeps_what_it_saw,
    keys_are_ordered_as_unsigned_bytes,
    scans_take_from_but_not_to,
    removed_rows_are_gone,
    empty_and_big_values_and_long_keys,
    what_cannot_be_stored_is_refused_whole,
    a_power_cut_leaves_a_prefix_with_all_that_was_persisted,
    all_rows_are_those_of_the_snapshot,
    no_reader_ever_sees_half_a_commit,
]);
