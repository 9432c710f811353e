//! Damaged batches, commands, rows and outcomes: decoding them gives no panic, takes no more memory than they warrant, and gives
//! values that encode to the very same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod samples;

use ieum_core::batch::{self, Batch, Envelope, Header, MAX_COMMANDS, MAX_DECODED, Origin};
use ieum_core::codec::{Code, Reader, put_varint};
use ieum_core::commands::Command;
use ieum_core::commands::group::{CreateGroup, CreateGroupById};
use ieum_core::commands::operate::Tick;
use ieum_core::ids::UserId;
use ieum_core::outcome::Outcome;
use ieum_core::testing::read_log;
use ieum_fuzz::{Heap, Target, alone};
use samples::{CORPUS, again, value};

#[global_allocator]
static HEAP: Heap = Heap;

/// What a batch may take beyond its bytes: as many commands as there may be, and as much text.
const BATCH: usize = 48 << 20;

fn header() -> Header {
    Header { node: 1, incarnation: 1, number: 1, clock: 1 }
}

fn plain_of(batch: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(batch.get(1..)?);
    let length = reader.varint().ok()?;
    lz4_flex::block::decompress(reader.rest(), usize::try_from(length).ok()?).ok()
}

/// A batch around `plain`, compressed as batches are.
fn sealed(plain: &[u8]) -> Vec<u8> {
    let mut out = vec![1];
    put_varint(&mut out, plain.len() as u64);
    out.extend_from_slice(&lz4_flex::block::compress(plain));
    out
}

#[test]
fn damaged_rows() {
    let alone = alone();
    // The first byte, the table's number, goes with the row.
    let samples: Vec<Vec<u8>> = CORPUS.rows.iter().map(|(key, row)| [&key[..1], &row[..]].concat()).collect();
    Target { name: "row", samples: &samples, cases: 20_000, memory: 1 << 16, per_byte: 64 }.run(&alone, |bytes| {
        let Some((table, row)) = bytes.split_first() else { return };
        if let Some(Ok(encoded)) = value(*table, row) {
            assert_eq!(encoded, row);
        }
    });
}

#[test]
fn damaged_commands_and_outcomes() {
    let alone = alone();
    let samples = &CORPUS.commands;
    Target { name: "command", samples, cases: 20_000, memory: 1 << 16, per_byte: 64 }.run(&alone, |bytes| {
        for encoded in
            [again::<Envelope>(bytes), again::<Command>(bytes), again::<Outcome>(bytes)].into_iter().flatten()
        {
            assert_eq!(encoded, bytes);
        }
    });
}

#[test]
fn damaged_batches() {
    let alone = alone();
    let samples = &CORPUS.batches;
    Target { name: "batch", samples, cases: 5_000, memory: BATCH, per_byte: 8 }.run(&alone, |bytes| {
        if let Ok(batch) = Batch::decode(bytes) {
            assert_eq!(Batch::decode(&batch.encode()), Ok(batch));
        }
    });
}

/// Damaged before they were compressed: as a faulty node would.
#[test]
fn damaged_plain_batches() {
    let alone = alone();
    let plain = CORPUS.batches.iter().filter_map(|batch| plain_of(batch)).filter(|plain| plain.len() < 4_000);
    let samples: Vec<Vec<u8>> = plain.collect();
    Target { name: "plain batch", samples: &samples, cases: 10_000, memory: 1 << 16, per_byte: 64 }.run(
        &alone,
        |plain| {
            if let Ok(batch) = Batch::decode(&sealed(plain)) {
                assert_eq!(plain_of(&batch.encode()).as_deref(), Some(plain));
            }
        },
    );
}

#[test]
fn damaged_logs() {
    let alone = alone();
    let log = std::fs::read(samples::golden("0.1-everything.log")).unwrap();
    let samples = [log[..log.len().min(20_000)].to_vec()];
    Target { name: "golden log", samples: &samples, cases: 500, memory: 1 << 16, per_byte: 64 }.run(&alone, |bytes| {
        let _either = read_log(bytes);
    });
}

/// Bombs: little on the wire, as much as it can be when decoded.
#[test]
fn small_batches_that_decode_to_much() {
    let alone = alone();
    let tick = Envelope { origin: Origin::Node, command: Tick {}.into() }.to_bytes();
    let people = CreateGroupById { name: "x".into(), members: vec![UserId(1); MAX_DECODED - 100] };
    // Each takes one byte here, and as much memory as any text without content.
    let handles = CreateGroup { name: "x".into(), members: vec![String::new(); MAX_DECODED - 100] };
    let [people, handles] =
        [people.into(), handles.into()].map(|command| Envelope { origin: Origin::Node, command }.to_bytes());
    let bombs = [
        batch::seal(&header(), MAX_COMMANDS, &tick.repeat(MAX_COMMANDS)),
        batch::seal(&header(), MAX_COMMANDS + 1, &tick.repeat(MAX_COMMANDS + 1)),
        batch::seal(&header(), 1, &people),
        batch::seal(&header(), 1, &handles),
        batch::seal(&header(), 1, &[0; MAX_DECODED + 1]),
    ];
    let samples = bombs.map(|bomb| bomb.to_vec());
    let decodes: Vec<bool> = samples.iter().map(|bomb| Batch::decode(bomb).is_ok()).collect();
    assert_eq!(decodes, [true, false, true, true, false]);
    assert!(samples.iter().all(|bomb| bomb.len() < 16 * 1024));
    Target { name: "bomb", samples: &samples, cases: 30, memory: BATCH, per_byte: 8 }.run(&alone, |bytes| {
        let _either = Batch::decode(bytes);
    });
}
