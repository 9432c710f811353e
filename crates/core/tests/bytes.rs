//! Bytes from outside: whatever they are, decoding does not panic and gives values that encode to the very same bytes. What they
//! cost in memory is looked at in `memory.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::LazyLock;

use ieum_core::apply::{Skips, apply};
use ieum_core::batch::{Batch, Envelope};
use ieum_core::codec::{Code, Malformed, Reader, put_varint};
use ieum_core::commands::Command;
use ieum_core::ids::{DeviceId, Position, RoomId, Seq, UserId};
use ieum_core::kv::Direction;
use ieum_core::outcome::Outcome;
use ieum_core::tables::{Key, Table, accounts, cell, messages, once, rooms};
use ieum_core::testing::{Rows, read_log};
use proptest::prelude::*;

/// Decodes and encodes again.
fn again<T: Code>(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    T::from_bytes(bytes).map(|value| value.to_bytes())
}

/// The tables of the view by number, which is part of the format: how a row's value reads.
fn value(table: u8, bytes: &[u8]) -> Option<Result<Vec<u8>, Malformed>> {
    Some(match table {
        0 => again::<cell::Applied>(bytes),
        1 => again::<cell::Settings>(bytes),
        2 => again::<accounts::User>(bytes),
        3 => again::<UserId>(bytes),
        4 => again::<accounts::Device>(bytes),
        5 | 28 | 31 => again::<bool>(bytes),
        6 => again::<accounts::Progress>(bytes),
        7 => again::<accounts::Holdings>(bytes),
        8 => again::<accounts::Invitation>(bytes),
        9 => again::<accounts::SigningKey>(bytes),
        10 => again::<cell::Node>(bytes),
        11 => again::<cell::Clock>(bytes),
        12 => again::<cell::Counters>(bytes),
        13 => again::<cell::End>(bytes),
        14 => again::<Position>(bytes),
        20 => again::<rooms::Room>(bytes),
        21 => again::<rooms::Head>(bytes),
        22 | 27 => again::<RoomId>(bytes),
        23 => again::<rooms::Member>(bytes),
        24 => again::<Position>(bytes),
        25 => again::<rooms::Receipt>(bytes),
        26 => again::<Vec<UserId>>(bytes),
        30 => again::<messages::Message>(bytes),
        32 => again::<Seq>(bytes),
        40 => again::<once::Slot>(bytes),
        41 => again::<once::Answered>(bytes),
        42 => again::<Option<Position>>(bytes),
        _ => return None,
    })
}

const TABLES: [u8; 30] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 25, 26, 27, 28, 30, 31, 32, 40, 41, 42];

/// Real bytes to damage: a golden log's batches and every row of every view on its way.
struct Corpus {
    batches: Vec<Vec<u8>>,
    commands: Vec<Vec<u8>>,
    rows: Vec<(Vec<u8>, Vec<u8>)>,
}

static CORPUS: LazyLock<Corpus> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/0.1-everything.log");
    let log = read_log(&fs::read(path).unwrap()).unwrap();
    let mut view = Rows::default();
    let mut rows = BTreeMap::new();
    let mut commands = Vec::new();
    for (ordinal, logged) in (1..).zip(&log) {
        let position = Position::new(1, ordinal);
        let effects = apply(&view, position, logged.author, &logged.bytes, &Skips::new()).unwrap();
        view.commit(&effects.writes);
        let written = effects.writes.rows.into_iter();
        rows.extend(written.filter_map(|(key, row)| Some((key, row?.to_vec()))));
        let batch = Batch::decode(&logged.bytes).ok();
        commands.extend(batch.into_iter().flat_map(|batch| batch.commands).map(|envelope| envelope.to_bytes()));
    }
    // The longest ones are long texts, which would take all the time.
    commands.retain(|command| command.len() < 2_000);
    let batches = log.iter().map(|logged| logged.bytes.to_vec()).collect();
    Corpus { batches, commands, rows: rows.into_iter().collect() }
});

/// What to do to good bytes: where, and what with.
fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    proptest::collection::vec((any::<prop::sample::Index>(), 0u8..6, any::<u8>()), 0..4)
}

fn damaged(bytes: &[u8], damage: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, what, byte) in damage {
        let at = at.index(bytes.len() + 1);
        match what {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, *byte),
            2 => drop(bytes.splice(at..at, [0xff; 9])),
            _ if at == bytes.len() => bytes.push(*byte),
            3 => bytes[at] ^= 1 << (byte % 8),
            4 => bytes[at] = *byte,
            _ => drop(bytes.remove(at)),
        }
    }
    bytes
}

/// A batch around `plain`, compressed as batches are.
fn sealed(plain: &[u8]) -> Vec<u8> {
    let mut out = vec![1];
    put_varint(&mut out, plain.len() as u64);
    out.extend_from_slice(&lz4_flex::block::compress(plain));
    out
}

fn plain_of(batch: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(batch.get(1..)?);
    let length = reader.varint().ok()?;
    lz4_flex::block::decompress(reader.rest(), length as usize).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_a_row(table in prop::sample::select(&TABLES[..]), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(encoded) = value(table, &bytes).expect("a table of this number") {
            prop_assert_eq!(encoded, bytes);
        }
    }

    #[test]
    fn damaged_rows(pick: prop::sample::Index, damage in damage()) {
        let (key, row) = pick.get(&CORPUS.rows);
        let bytes = damaged(row, &damage);
        if let Ok(encoded) = value(key[0], &bytes).expect("a table of this number") {
            prop_assert_eq!(encoded, bytes);
        }
    }

    #[test]
    fn any_bytes_as_commands_and_outcomes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for encoded in [again::<Command>(&bytes), again::<Envelope>(&bytes), again::<Outcome>(&bytes)].into_iter().flatten() {
            prop_assert_eq!(encoded, bytes.as_slice());
        }
        let _either = Batch::decode(&bytes);
        let _either = read_log(&bytes);
    }

    #[test]
    fn damaged_commands(pick: prop::sample::Index, damage in damage()) {
        let bytes = damaged(pick.get::<Vec<u8>>(&CORPUS.commands), &damage);
        if let Ok(encoded) = again::<Envelope>(&bytes) {
            prop_assert_eq!(encoded, bytes);
        }
    }

    #[test]
    fn damaged_batches(pick: prop::sample::Index, damage in damage()) {
        let whole = pick.get::<Vec<u8>>(&CORPUS.batches);
        if let Ok(batch) = Batch::decode(&damaged(whole, &damage)) {
            prop_assert_eq!(Batch::decode(&batch.encode()), Ok(batch));
        }
    }

    /// Damaged before they were compressed: as a faulty node would.
    #[test]
    fn damaged_plain_batches(pick: prop::sample::Index, damage in damage()) {
        let Some(plain) = plain_of(pick.get::<Vec<u8>>(&CORPUS.batches)).filter(|plain| plain.len() < 4_000) else { return Ok(()) };
        let plain = damaged(&plain, &damage);
        if let Ok(batch) = Batch::decode(&sealed(&plain)) {
            prop_assert_eq!(plain_of(&batch.encode()), Some(plain));
        }
    }

    #[test]
    fn any_bytes_as_keys(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        fn same<K: Key>(bytes: &[u8]) {
            let mut rest = bytes;
            if let Some(key) = K::take_key(&mut rest) {
                let mut out = Vec::new();
                key.put_key(&mut out);
                out.extend_from_slice(rest);
                assert_eq!(out, bytes);
            }
        }
        same::<String>(&bytes);
        same::<(u64, bytes::Bytes)>(&bytes);
        same::<(UserId, Position, RoomId)>(&bytes);
        same::<(DeviceId, u8)>(&bytes);
        same::<(RoomId, [u8; 16])>(&bytes);
        same::<[u8; 32]>(&bytes);
    }
}

#[test]
fn the_rows_of_a_real_view_read_back_as_they_are() {
    let mut tables = std::collections::BTreeSet::new();
    for (key, row) in &CORPUS.rows {
        assert_eq!(value(key[0], row), Some(Ok(row.clone())), "table {}", key[0]);
        tables.insert(key[0]);
    }
    // Ended generations are written by tools that take a view over.
    let never: Vec<u8> = (0..=u8::MAX).filter(|t| value(*t, &[]).is_some() && !tables.contains(t)).collect();
    assert_eq!(never, [13]);
}

#[test]
fn table_numbers_stay() {
    fn number<K: Key + Default, V: Code>(table: &Table<K, V>) -> u8 {
        table.key(&K::default())[0]
    }
    assert_eq!(number(&cell::APPLIED), 0);
    assert_eq!(number(&accounts::USERS), 2);
    assert_eq!(number(&rooms::MEMBERS), 23);
    assert_eq!(number(&messages::MESSAGES), 30);
    assert_eq!(number(&once::EXPIRY), 42);
}

#[test]
fn a_damaged_key_is_an_error_of_the_store() {
    let mut view = Rows::default();
    view.0.insert(vec![23, 0, 0, 1], vec![0, 1, 0].into());
    let walked = rooms::MEMBERS
        .range(&view, &RoomId(0), &RoomId(u64::MAX), Direction::Forward, |_, _| ControlFlow::Continue(()));
    assert!(walked.is_err());
}
