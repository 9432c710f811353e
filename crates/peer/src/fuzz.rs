//! Damaged messages of other nodes: decoding them gives no panic and takes no more memory than they warrant, what comes of them encodes to the
//! same again, and a node that believes them goes on.

use std::sync::Arc;

use ieum_core::ids::{Position, RoomId, UserId};
use ieum_core::query::typing::Typing;
use ieum_fuzz::{Heap, Target, alone};
use ieum_log::{BatchId, Entry, Position as LogPosition};
use ieum_node::peers::{Decision, Peers, Phase, Report};
use prost::Message as _;

use crate::messages::{Batch, BatchesAsked, Hello, Piece, Said as ReportSaid, SnapshotAsked, WatchAsked};
use crate::signals::Signals;
use crate::signals::messages::{self, Said, Signal, SignalsAsked};

#[global_allocator]
static HEAP: Heap = Heap;

/// Room for the other tests of the process.
const MEMORY: usize = 16 << 20;
/// A digest of no bytes takes two on the wire.
const PER_BYTE: usize = 64;

fn report(node: u32, ordinal: u64) -> Report {
    Report {
        node,
        dc: "서울".to_owned(),
        phase: Phase::Ready,
        applied: Position::new(1, ordinal),
        synced: Position::new(1, ordinal - 1),
        build: 3,
        life: u64::MAX / 3,
        endpoint: Some("https://a.example".to_owned()),
        addresses: vec!["https://10.1.0.2:7400".to_owned(), "https://10.2.0.2:7400".to_owned()],
        digests: (1..=64).map(|n| (Position::new(1, n * 32), [n as u8; 32])).collect(),
        began: (node == 3).then(|| Position::new(1, 32)),
        copied: (node == 3).then(|| Position::new(1, 9)),
        decided: (node == 3)
            .then(|| Decision { node: 2, at: Position::new(1, 64), life: Some(7) })
            .into_iter()
            .collect(),
    }
}

#[test]
fn damaged_reports() {
    let alone = alone();
    let samples = [1, 2, 3].map(|node| ReportSaid::from(&report(node, 2_100)).encode_to_vec());
    let own = report(1, 2_100);
    let mut peers = Peers::default();
    peers.set_members((1..=3).map(|node| (node, node.to_string())).collect());
    let mut now = 0;
    let target = Target { name: "report", samples: &samples, cases: 5_000, memory: MEMORY, per_byte: PER_BYTE };
    target.run(&alone, |bytes| {
        let Ok(said) = ReportSaid::decode(bytes) else { return };
        let Ok(report) = Report::try_from(said) else { return };
        let again = ReportSaid::decode(ReportSaid::from(&report).encode_to_vec().as_slice()).map(Report::try_from);
        assert!(matches!(again, Ok(Ok(again)) if again == report));
        now += 100;
        peers.heard(report, &own, now);
        let _either = (peers.trim(&own, own.synced, now), peers.before(&own, now), peers.evidence());
        let _either = (peers.doubted_for(2, &own, now), peers.vouch_for(&own));
        assert!(peers.endpoints(&own, now).len() <= 2, "none of strangers");
    });
}

#[test]
fn damaged_batches_and_pieces() {
    let alone = alone();
    let position = LogPosition { generation: 1, ordinal: 40 };
    let id = BatchId { node: 2, incarnation: 70_000, number: 9 };
    let batch = Batch::from(Entry { position, id, bytes: b"batch ".repeat(50).into() }).encode_to_vec();
    let bytes = bytes::Bytes::from(b"piece ".repeat(50));
    let digest = blake3::hash(&bytes).as_bytes().to_vec();
    let piece = Piece { at: Some(Position::new(1, 7).into()), total: 900, offset: 300, bytes, digest }.encode_to_vec();
    let samples = [batch, piece];
    let target = Target { name: "batch or piece", samples: &samples, cases: 5_000, memory: MEMORY, per_byte: PER_BYTE };
    target.run(&alone, |bytes| {
        if let Ok(Ok(entry)) = Batch::decode(bytes).map(Entry::try_from) {
            let again = Batch::decode(Batch::from(entry.clone()).encode_to_vec().as_slice()).map(Entry::try_from);
            assert!(matches!(again, Ok(Ok(again)) if again == entry));
        }
        if let Ok(piece) = Piece::decode(bytes) {
            assert_eq!(Piece::decode(piece.encode_to_vec().as_slice()), Ok(piece));
        }
    });
}

#[test]
fn damaged_signals() {
    let alone = alone();
    let people = |from: u64| (from..from + 20).map(|n| UserId(n << 40 | n)).collect::<Vec<_>>();
    let typing: Vec<Typing> = (1..=20).map(|n| Typing { room: RoomId(n << 40), user: UserId(n << 40 | 1) }).collect();
    let said = Said { node: 2, all: true, came: people(1), went: people(9), typing };
    let samples = [Signal::from(said.clone()), Signal::from(Said { all: false, came: Vec::new(), ..said })];
    let samples = samples.map(|signal| signal.encode_to_vec());
    let signals = Signals::default();
    signals.set_members([2, 3].into());
    signals.put_ear(Some(Arc::new(|typing: &[Typing]| assert!(typing.len() <= messages::TYPING))));
    let target = Target { name: "signal", samples: &samples, cases: 5_000, memory: MEMORY, per_byte: PER_BYTE };
    target.run(&alone, |bytes| {
        let Ok(Ok(said)) = Signal::decode(bytes).map(Said::try_from) else { return };
        let again = Signal::decode(Signal::from(said.clone()).encode_to_vec().as_slice()).map(Said::try_from);
        assert!(matches!(again, Ok(Ok(again)) if again == said));
        signals.take("a", said);
        signals.tell(&[(Typing { room: RoomId(1), user: UserId(2) }, people(1))]);
        signals.forget("a");
    });
}

#[test]
fn damaged_requests() {
    let alone = alone();
    let hello = Some(Hello { cell: 1, node: 2, life: 3 });
    let place = Some(Position::new(1, 40).into());
    let samples = [
        WatchAsked { hello, address: Some("https://10.1.0.2:7400".to_owned()) }.encode_to_vec(),
        BatchesAsked { hello, after: place }.encode_to_vec(),
        SnapshotAsked { hello, at: place, offset: 1 << 40 }.encode_to_vec(),
        SignalsAsked { hello }.encode_to_vec(),
    ];
    let target = Target { name: "request", samples: &samples, cases: 5_000, memory: MEMORY, per_byte: PER_BYTE };
    target.run(&alone, |bytes| {
        let _either = (WatchAsked::decode(bytes), BatchesAsked::decode(bytes), SnapshotAsked::decode(bytes));
        let _asked = SignalsAsked::decode(bytes);
    });
}
