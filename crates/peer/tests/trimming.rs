//! Who trims the shared log, and how far, with real nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{ABOUT, CELL, Present, add, join, report, shelf};
use ieum_core::ids::Position;
use ieum_log::memory::{Memory, Tail};
use ieum_log::sqlite::Journal;
use ieum_log::{BatchId, Log, Result, Room, Skip};
use ieum_node::peers::{Phase, Report};
use ieum_peer::server::{self, Offer};
use tokio::net::TcpListener;
use tokio::sync::watch;

const MIB: u64 = 1 << 20;
/// So much may be in use before more is appended: less than the half from which on nobody holds the log back.
const PACE: u64 = 7 * MIB / 2;
/// A log that is never trimmed fails its test, rather than to hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that says always the same: it runs, and its journal has stopped.
async fn stopped(node: u32) -> (watch::Sender<Report>, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::open(folder.path(), &ABOUT, 0).unwrap());
    let (synced, phase) = (Position::new(1, 3), Phase::Ready);
    let digests = Vec::new();
    let says =
        watch::Sender::new(Report { synced, phase, digests, life: node.into(), addresses: Vec::new(), ..report(node) });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let shelf = shelf(&journal, |_| Err("not here".to_owned())).await;
    let offer = Offer { cell: CELL, report: says.subscribe(), shelf, met: Arc::new(|_| ()) };
    tokio::spawn(server::serve(offer, listener, None));
    (says, address, folder)
}

/// Waits until it is so; looks whenever the node says something, which it does all the time.
async fn until<L: Log>(present: &Present<L>, mut so: impl FnMut() -> bool) {
    let mut says = present.circle.report();
    let waiting = async {
        while !so() {
            says.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it does not come to be so");
}

/// Batches of no member: they weigh something and do nothing.
async fn append_some(log: &impl Log, numbers: std::ops::Range<u64>) {
    for number in numbers {
        log.append(BatchId { node: 99, incarnation: 1, number }, Bytes::from(vec![7; 1 << 18])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_stopped_does_not_fill_the_log() {
    let (root, log) = (tempfile::tempdir().unwrap(), Arc::new(Memory::bounded(1, 8 * MIB)));
    let (third, address, _folder) = stopped(3).await;
    let mut first = join(&log, &root.path().join("1"), 1, &[address]).await;
    for node in [2, 3] {
        first.member.ask(add(node)).await;
    }
    let second = join(&log, &root.path().join("2"), 2, std::slice::from_ref(&first.address)).await;
    for node in [&first, &second] {
        node.circle.set_phase(Phase::Ready);
    }
    first.until(|circle| circle.heard().len() == 2).await;
    for number in 0..48 {
        until(&first, || {
            // It is not gone.
            third.send_modify(|report| report.applied.ordinal += 1);
            matches!(log.room(), Some(Room { used, .. }) if used <= PACE)
        })
        .await;
        append_some(log.as_ref(), number + 1..number + 2).await;
    }
    until(&first, || first.circle.figures().left_behind == 1).await;
    assert_eq!(first.member.node.handle().alarms().append_failures, 0);
    for node in [second, first] {
        node.leave().await;
    }
}

/// A log that one of its nodes cannot trim: the call never ends.
struct Stuck {
    log: Arc<Memory>,
    trims: watch::Sender<Trims>,
}

/// How many calls there were, and whether the last one still hangs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Trims {
    calls: u64,
    hangs: bool,
}

/// A call that hangs, until it is given up.
struct Hanging<'a>(&'a watch::Sender<Trims>);

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|trims| trims.hangs = false);
    }
}

impl Log for Stuck {
    type Tail = Tail;

    async fn append(&self, id: BatchId, bytes: Bytes) -> Result<ieum_log::Position> {
        self.log.append(id, bytes).await
    }

    async fn tail(&self, after: ieum_log::Position) -> Result<Tail> {
        self.log.tail(after).await
    }

    async fn trim(&self, _: ieum_log::Position) -> Result<()> {
        self.trims.send_modify(|trims| *trims = Trims { calls: trims.calls + 1, hangs: true });
        let _hanging = Hanging(&self.trims);
        std::future::pending().await
    }

    async fn skip(&self, position: ieum_log::Position, index: u32) -> Result<()> {
        self.log.skip(position, index).await
    }

    async fn skips(&self) -> Result<Vec<Skip>> {
        self.log.skips().await
    }

    async fn last(&self) -> Result<ieum_log::Position> {
        self.log.last().await
    }

    async fn trimmed_to(&self) -> Result<ieum_log::Position> {
        self.log.trimmed_to().await
    }

    fn room(&self) -> Option<Room> {
        self.log.room()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_trims_when_the_lowest_hangs_in_it_and_goes_on_saying_where_it_stands() {
    let (root, log) = (tempfile::tempdir().unwrap(), Arc::new(Memory::bounded(1, 8 * MIB)));
    let stuck = Arc::new(Stuck { log: Arc::clone(&log), trims: watch::Sender::default() });
    let mut first = join(&stuck, &root.path().join("1"), 1, &[]).await;
    first.member.ask(add(2)).await;
    let second = join(&log, &root.path().join("2"), 2, std::slice::from_ref(&first.address)).await;
    first.circle.set_phase(Phase::Ready);
    second.until(|circle| circle.heard().iter().any(|report| report.phase == Phase::Ready)).await;
    second.circle.set_phase(Phase::Ready);
    append_some(log.as_ref(), 1..13).await;
    let (mut trims, mut hears) = (stuck.trims.subscribe(), second.circle.hears());
    // A call is given up after a while, and where everything takes long the next one has to tell.
    let says_while_it_hangs = async {
        loop {
            let hangs = *trims.wait_for(|trims| trims.hangs).await.unwrap();
            for _ in 0..2 {
                hears.changed().await.unwrap();
            }
            if *trims.borrow() == hangs {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, says_while_it_hangs).await.expect("while it trims it says nothing");
    until(&second, || matches!(log.room(), Some(Room { used, .. }) if used < 5 * MIB / 2)).await;
    assert_eq!(second.circle.figures().taken_over, 1);
    until(&first, || first.circle.figures().failures > 0).await;
    second.leave().await;
    first.leave().await;
}
