//! Real bytes: golden logs' batches, their commands, and every row of every view on its way.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ieum_core::apply::{Skips, apply};
use ieum_core::batch::Batch;
use ieum_core::codec::{Code, Malformed};
use ieum_core::ids::{Position, RoomId, Seq, UserId};
use ieum_core::tables::{accounts, cell, messages, once, rooms};
use ieum_core::testing::{Rows, read_log};

/// Where a golden log lies.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Decodes and encodes again.
pub(crate) fn again<T: Code>(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    T::from_bytes(bytes).map(|value| value.to_bytes())
}

/// The tables of the view by number, which is part of the format: how a row's value reads.
pub(crate) fn value(table: u8, bytes: &[u8]) -> Option<Result<Vec<u8>, Malformed>> {
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
        15 => again::<u64>(bytes),
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

/// Real bytes to damage: the batches of golden logs and every row of every view on their way.
pub(crate) struct Corpus {
    pub(crate) batches: Vec<Vec<u8>>,
    pub(crate) commands: Vec<Vec<u8>>,
    pub(crate) rows: Vec<(Vec<u8>, Vec<u8>)>,
}

pub(crate) static CORPUS: LazyLock<Corpus> = LazyLock::new(|| {
    let mut rows = BTreeMap::new();
    let (mut commands, mut batches) = (Vec::new(), Vec::new());
    for name in ["0.1-everything.log", "0.2-levels.log"] {
        let mut view = Rows::default();
        for (ordinal, logged) in (1..).zip(read_log(&fs::read(golden(name)).unwrap()).unwrap()) {
            let position = Position::new(1, ordinal);
            let effects = apply(&view, position, logged.author, &logged.bytes, &Skips::new()).unwrap();
            view.commit(&effects.writes);
            let written = effects.writes.rows.into_iter();
            rows.extend(written.filter_map(|(key, row)| Some((key, row?.to_vec()))));
            let batch = Batch::decode(&logged.bytes).ok();
            commands.extend(batch.into_iter().flat_map(|batch| batch.commands).map(|envelope| envelope.to_bytes()));
            batches.push(logged.bytes.to_vec());
        }
    }
    // The longest ones are long texts, which would take all the time.
    commands.retain(|command| command.len() < 2_000);
    Corpus { batches, commands, rows: rows.into_iter().collect() }
});
