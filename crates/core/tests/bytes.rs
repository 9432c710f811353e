//! Bytes from outside: whatever they are, decoding does not panic and gives values that encode to the very same bytes. Damaged ones, and
//! what they cost in memory, are looked at in `fuzz.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod samples;

use std::ops::ControlFlow;

use ieum_core::batch::{Batch, Envelope};
use ieum_core::codec::Code;
use ieum_core::commands::Command;
use ieum_core::ids::{DeviceId, Position, RoomId, UserId};
use ieum_core::kv::Direction;
use ieum_core::outcome::Outcome;
use ieum_core::tables::{Key, Table, accounts, cell, messages, once, rooms};
use ieum_core::testing::{Rows, read_log};
use proptest::prelude::*;
use samples::{CORPUS, again, value};

const TABLES: [u8; 30] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 25, 26, 27, 28, 30, 31, 32, 40, 41, 42];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_a_row(table in prop::sample::select(&TABLES[..]), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(encoded) = value(table, &bytes).expect("a table of this number") {
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
    assert_eq!(number(&cell::FORMER), 15);
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
