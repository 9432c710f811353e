//! Damaged answers and records of etcd: reading them gives no panic, and what a tail shows is what was appended.

use bytes::Bytes;
use ieum_fuzz::{Target, alone};
use ieum_log::sqlite::Predecessor;
use ieum_log::{BatchId, Position};
use prost::Message as _;

use crate::append;
use crate::assemble::{Assembler, Cursor};
use crate::ends::Ends;
use crate::history::Search;
use crate::keys::{Cell, Keys, Placed, Trim, decode_skip, encode_skip};
use crate::proto::{
    Event, KeyValue, RangeResponse, ResponseHeader, ResponseOp, TxnResponse, WatchResponse, response_op,
};
use crate::txn::Answers;

/// The other tests of the process run meanwhile, so that memory cannot be counted.
const ANY: usize = usize::MAX >> 1;

const ID: BatchId = BatchId { node: 7, incarnation: 300, number: 2 };

fn kv(key: Bytes, value: Bytes, version: i64, revision: i64) -> KeyValue {
    KeyValue { key, value, version, mod_revision: revision, create_revision: 90 }
}

fn batch(number: u64) -> (BatchId, Bytes) {
    (BatchId { number, ..ID }, format!("batch {number}").repeat(20).into())
}

#[test]
fn damaged_records() {
    let alone = alone();
    let predecessor = Some(Predecessor { end: Position { generation: 8, ordinal: 400 }, digest: [7; 32] });
    let samples = [
        Cell { cell: 3, generation: 9, predecessor: None }.encode().to_vec(),
        Cell { cell: 3, generation: 9, predecessor }.encode().to_vec(),
        Placed::new(ID, b"bytes").encode().to_vec(),
        Trim { ordinal: 4, revision: 5_000 }.encode().to_vec(),
        encode_skip(8, 1).to_vec(),
    ];
    Target { name: "record", samples: &samples, cases: 20_000, memory: ANY, per_byte: 0 }.run(&alone, |bytes| {
        let again = [
            Cell::decode(bytes).map(Cell::encode),
            Placed::decode(b"k", bytes).map(|placed| placed.encode()),
            Trim::decode(b"k", bytes).map(Trim::encode),
            decode_skip(b"k", bytes).map(|(ordinal, index)| encode_skip(ordinal, index)),
        ];
        again.into_iter().flatten().for_each(|encoded| assert_eq!(encoded, bytes));
    });
}

#[test]
fn damaged_watches() {
    let alone = alone();
    let keys = Keys::new(1);
    let appended: Vec<(BatchId, Bytes)> = (1..=5).map(batch).collect();
    let events = (1..).zip(&appended).flat_map(|(ordinal, (id, bytes))| {
        let placed = Placed::new(*id, bytes).encode();
        let put = kv(keys.batch(*id), bytes.clone(), 1, ordinal * 100);
        [put, kv(keys.count(), placed, ordinal, ordinal * 100)].map(|kv| Event { r#type: 0, kv: Some(kv) })
    });
    let samples = [WatchResponse { events: events.collect(), ..WatchResponse::default() }.encode_to_vec()];
    Target { name: "watch", samples: &samples, cases: 20_000, memory: ANY, per_byte: 0 }.run(&alone, |bytes| {
        let Ok(answer) = WatchResponse::decode(bytes) else { return };
        let mut batches = Vec::new();
        let _either = Assembler::new(keys.clone(), Cursor { ordinal: 0, revision: 0 }).take(answer, &mut batches);
        for (ordinal, batch) in (1..).zip(batches) {
            assert_eq!(batch.cursor.ordinal, ordinal);
            assert!(appended.contains(&(batch.placed.id, batch.bytes)), "{:?}", batch.placed.id);
        }
    });
}

#[test]
fn damaged_answers() {
    let alone = alone();
    let keys = Keys::new(1);
    let (id, bytes) = batch(2);
    let range = |kvs: Vec<KeyValue>| {
        let range = RangeResponse { header: None, kvs, more: false };
        ResponseOp { response: Some(response_op::Response::Range(range)) }
    };
    let count = kv(keys.count(), Placed::new(id, &bytes).encode(), 2, 200);
    let trim = kv(keys.trim(), Trim { ordinal: 1, revision: 100 }.encode(), 1, 150);
    let header = || Some(ResponseHeader { cluster_id: 1, member_id: 2, revision: 260 });
    let answer = |responses| TxnResponse { header: header(), succeeded: false, responses }.encode_to_vec();
    let node = kv(keys.node(id.node), Bytes::from_static(b"token"), 1, 300);
    let put = kv(keys.batch(id), bytes.clone(), 1, 200);
    let samples = [
        answer(vec![range(vec![count.clone()]), range(vec![trim])]),
        answer(vec![range(vec![node]), range(vec![put]), range(vec![count])]),
    ];
    Target { name: "answer", samples: &samples, cases: 20_000, memory: ANY, per_byte: 0 }.run(&alone, |damaged| {
        let Ok(answer) = TxnResponse::decode(damaged) else { return };
        let _either = append::judge(id, &bytes, answer.clone());
        let Some(Ok(ends)) = Answers::new(answer).ok().map(Ends::read) else { return };
        let mut search = Search::new(&ends, 1);
        // It ends: every round leaves less to look at.
        while let Some(probes) = search.probes() {
            for probe in probes {
                let newest = Cursor { ordinal: probe.unsigned_abs() % 5, revision: probe };
                if search.take(probe, newest).is_some() {
                    return;
                }
            }
        }
    });
}
