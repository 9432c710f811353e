//! Damaged messages of other nodes: decoding them gives no panic and takes no more memory than they warrant, what comes of them encodes to the
//! same again, and a node that believes them goes on.

use ieum_core::ids::Position;
use ieum_fuzz::{Heap, Target, alone};
use ieum_log::{BatchId, Entry, Position as LogPosition};
use ieum_node::peers::{Peers, Phase, Report};
use prost::Message as _;

use crate::messages::{Batch, BatchesAsked, Hello, Piece, Said, SnapshotAsked, WatchAsked};

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
    }
}

#[test]
fn damaged_reports() {
    let alone = alone();
    let samples = [1, 2, 3].map(|node| Said::from(&report(node, 2_100)).encode_to_vec());
    let own = report(1, 2_100);
    let mut peers = Peers::default();
    peers.set_members((1..=3).map(|node| (node, node.to_string())).collect());
    let mut now = 0;
    let target = Target { name: "report", samples: &samples, cases: 5_000, memory: MEMORY, per_byte: PER_BYTE };
    target.run(&alone, |bytes| {
        let Ok(said) = Said::decode(bytes) else { return };
        let Ok(report) = Report::try_from(said) else { return };
        let again = Said::decode(Said::from(&report).encode_to_vec().as_slice()).map(Report::try_from);
        assert!(matches!(again, Ok(Ok(again)) if again == report));
        now += 100;
        peers.heard(report, &own, now);
        let _either = (peers.trim(&own, own.synced, now), peers.before(&own, now), peers.evidence());
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
fn damaged_requests() {
    let alone = alone();
    let hello = Some(Hello { cell: 1, node: 2, life: 3 });
    let place = Some(Position::new(1, 40).into());
    let samples = [
        WatchAsked { hello, address: Some("https://10.1.0.2:7400".to_owned()) }.encode_to_vec(),
        BatchesAsked { hello, after: place }.encode_to_vec(),
        SnapshotAsked { hello, at: place, offset: 1 << 40 }.encode_to_vec(),
    ];
    let target = Target { name: "request", samples: &samples, cases: 5_000, memory: MEMORY, per_byte: PER_BYTE };
    target.run(&alone, |bytes| {
        let _either = (WatchAsked::decode(bytes), BatchesAsked::decode(bytes), SnapshotAsked::decode(bytes));
    });
}
