//! Nodes that hear of each other, and what follows from it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{ABOUT, CALLER, CELL, add, join, node, report, shelf, start};
use ieum_core::ids::Position;
use ieum_log::memory::Memory as Shared;
use ieum_log::sqlite::Journal;
use ieum_log::{BatchId, Error as LogError, Log as _};
use ieum_node::core_position;
use ieum_node::folder::Folder;
use ieum_node::peers::{Agreement, Phase, Report};
use ieum_peer::circle::Circle;
use ieum_peer::client::{Caller, Peer};
use ieum_peer::resync::{Came, begin_anew, bring_back};
use ieum_peer::server::{self, Offer};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What does not come to be so fails its test, rather than to hang.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn nodes_find_each_other_through_one_and_send_clients_to_those_that_are_ready() {
    let (root, log) = (tempfile::tempdir().unwrap(), Arc::new(Shared::new(1)));
    let mut first = join(&log, &root.path().join("1"), 1, &[]).await;
    for node in [2, 3] {
        first.member.ask(add(node)).await;
    }
    // Each of the others knows the first alone, and the first knows nobody.
    let known = [first.address.clone()];
    let second = join(&log, &root.path().join("2"), 2, &known).await;
    let third = join(&log, &root.path().join("3"), 3, &known).await;
    for (present, others) in [(&first, [2, 3]), (&second, [1, 3]), (&third, [1, 2])] {
        present.until(|circle| circle.heard().iter().map(|report| report.node).eq(others)).await;
    }
    assert_eq!(second.circle.endpoints(), Vec::<String>::new(), "nobody is ready");
    first.circle.set_phase(Phase::Ready);
    second.until(|circle| circle.endpoints() == ["https://1.example"]).await;
    first.circle.set_phase(Phase::Draining);
    second.until(|circle| circle.endpoints().is_empty()).await;
    assert_eq!(second.circle.agreement(), Agreement::Same);
    for present in [second, third, first] {
        present.leave().await;
    }
}

/// Those who trim must know how far it is, long before it runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_up_is_waited_for_once_its_journal_is_known_to_be_the_logs() {
    let (root, log) = (tempfile::tempdir().unwrap(), Arc::new(Shared::new(1)));
    let mut first = join(&log, &root.path().join("1"), 1, &[]).await;
    first.member.ask(add(2)).await;
    first.member.register(0..20).await;
    let folder = Folder::new(root.path().join("2"));
    let copied = folder.open_journal(&ABOUT, Arc::clone(&log)).await.unwrap();
    let (circle, shelf, _) = node(2, &[first.address.clone()], copied.journal(), |_| ()).await;
    let coming_up = tokio::spawn(circle.come_up(Arc::clone(&shelf)));
    let copying = tokio::spawn(async move { copied.copy().await });
    let end = core_position(log.last().await.unwrap());
    let comes_up = |report: &Report| report.node == 2 && report.phase == Phase::Joining;
    let has_all = |report: &Report| comes_up(report) && report.synced.ordinal >= end.ordinal;
    first.until(|circle| circle.heard().iter().any(has_all)).await;
    assert_eq!(first.circle.heard()[0].synced.generation, 0, "it may be another history");
    shelf.clear().await.unwrap();
    copying.abort();
    assert!(copying.await.unwrap_err().is_cancelled());
    assert_eq!(bring_back(&folder, &ABOUT, log.as_ref(), &[], &shelf).await.unwrap(), Came::FromLog);
    let copied = folder.open_journal(&ABOUT, Arc::clone(&log)).await.unwrap();
    shelf.put_journal(Arc::clone(copied.journal())).await;
    let copying = tokio::spawn(async move { copied.copy().await });
    first.until(|circle| circle.heard().iter().any(|report| comes_up(report) && report.synced >= end)).await;
    coming_up.abort();
    copying.abort();
    first.leave().await;
}

/// Nodes with another view than anybody's, at every checkpoint; what they say, and where they are.
async fn differing(nodes: std::ops::Range<u32>, journal: &Arc<Journal>) -> (Vec<watch::Sender<Report>>, Vec<String>) {
    let (mut others, mut peers) = (Vec::new(), Vec::new());
    for node in nodes {
        let digests = (1..200).map(|n| (Position::new(1, n * 32), [9; 32])).collect();
        let says = Report { life: node.into(), digests, addresses: Vec::new(), ..report(node) };
        let other = watch::Sender::new(says);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        peers.push(format!("http://{}", listener.local_addr().unwrap()));
        let offer = Offer {
            cell: CELL,
            report: other.subscribe(),
            shelf: shelf(journal, |_| Err("not here".to_owned())).await,
            met: Arc::new(|_| ()),
        };
        tokio::spawn(server::serve(offer, listener, None));
        others.push(other);
    }
    (others, peers)
}

/// What they say again is compared with what the other nodes have come to meanwhile.
fn say_again(others: &[watch::Sender<Report>]) {
    others.iter().for_each(|other| other.send_modify(|report| report.applied.ordinal += 1));
}

/// A copy of either would make a majority of a tie.
#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_open_whose_view_is_wrong_nobody_else_has_a_copy_of_one() {
    let (root, log) = (tempfile::tempdir().unwrap(), Arc::new(Shared::new(1)));
    let journal = Arc::new(Journal::open(root.path().join("2"), &ABOUT, 0).unwrap());
    let (others, mut peers) = differing(2..3, &journal).await;
    // As old as the other one.
    others.iter().for_each(|other| other.send_modify(|report| report.build = 1));
    // The third comes up with nothing: nobody waits for what it has.
    let (_third, _, address) = node(3, &[], &journal, |_| ()).await;
    peers.push(address);
    let mut first = join(&log, &root.path().join("1"), 1, &peers).await;
    first.until(|circle| circle.heard().iter().any(|report| report.node == 3)).await;
    for node in [2, 3] {
        first.member.ask(add(node)).await;
    }
    first.member.register(0..40).await;
    let mut own = first.circle.report();
    while !matches!(first.circle.agreement(), Agreement::Undecided { .. }) {
        say_again(&others);
        own.changed().await.unwrap();
    }
    let refused = refuses(&first, &log, root.path(), 3).await;
    assert!(refused.contains("it is open which is the wrong one"), "{refused}");
    let gives_its_own_up = refuses(&first, &log, root.path(), 2).await;
    assert!(gives_its_own_up.contains("not here"), "it is asked for what it has: {gives_its_own_up}");
    first.leave().await;
}

/// It may have been in a tie before, of which it knows nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_just_started_gives_no_copy_before_it_has_compared() {
    let (root, log) = (tempfile::tempdir().unwrap(), Arc::new(Shared::new(1)));
    let journal = Arc::new(Journal::open(root.path().join("2"), &ABOUT, 0).unwrap());
    let (others, peers) = differing(2..3, &journal).await;
    // It serves, and has passed no checkpoint yet.
    let serves = |report: &mut Report| (report.phase, report.digests) = (Phase::Ready, Vec::new());
    others.iter().for_each(|other| other.send_modify(serves));
    let mut first = join(&log, &root.path().join("1"), 1, &peers).await;
    for node in [2, 3] {
        first.member.ask(add(node)).await;
    }
    first.member.register(0..40).await;
    let mut own = first.circle.report();
    while own.borrow_and_update().digests.is_empty() || first.circle.members().len() < 3 {
        say_again(&others);
        own.changed().await.unwrap();
    }
    let refused = refuses(&first, &log, root.path(), 3).await;
    assert!(refused.contains("was not compared with that of node 2"), "{refused}");
    let same = own.borrow().digests.clone();
    others.iter().for_each(|other| other.send_modify(|report| report.digests.clone_from(&same)));
    first.until(|circle| circle.heard().iter().any(|report| report.node == 2 && !report.digests.is_empty())).await;
    let gives = refuses(&first, &log, root.path(), 3).await;
    assert!(gives.contains("not here"), "it is asked for what it has: {gives}");
    first.leave().await;
}

/// A data center is lost, the log has filled up, and both nodes of the other one are started again: the newcomers that end this need a copy.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_begin_at_the_end_of_a_log_that_takes_nothing_are_compared() {
    const MOST: usize = 1 << 20;
    let (root, log) = (tempfile::tempdir().unwrap(), Arc::new(Shared::bounded(1, MOST as u64)));
    let mut before = start(&log, &root.path().join("1"), 1).await;
    before.ask(add(2)).await;
    before.ask(add(3)).await;
    before.stop().await;
    let filling = (1..).map(|number| (BatchId { node: 99, incarnation: 1, number }, Bytes::from(vec![7; MOST / 8])));
    for (id, bytes) in filling {
        if let Err(error) = log.append(id, bytes).await {
            assert!(matches!(error, LogError::Full), "{error}");
            break;
        }
    }
    let end = core_position(log.last().await.unwrap());
    let first = join(&log, &root.path().join("1"), 1, &[]).await;
    let second = join(&log, &root.path().join("2"), 2, std::slice::from_ref(&first.address)).await;
    for node in [&first, &second] {
        node.circle.set_phase(Phase::Ready);
    }
    for (node, other) in [(&first, 2), (&second, 1)] {
        let serves = |report: &Report| report.node == other && report.phase != Phase::Joining && report.applied == end;
        let hears = |circle: &Circle| circle.members().len() == 3 && circle.heard().iter().any(serves);
        tokio::time::timeout(PATIENCE, node.until(|circle| hears(circle) && circle.doubt(3).is_none())).await.unwrap();
    }
    // Who stops waits for what it wants to append.
    log.trim(log.last().await.unwrap()).await.unwrap();
    for present in [second, first] {
        present.leave().await;
    }
}

/// Why a node gives another one, which begins anew, no snapshot.
async fn refuses(first: &common::Present, log: &Shared, root: &Path, newcomer: u32) -> String {
    let folder = Folder::new(root.join(format!("newcomer-{newcomer}")));
    let caller = Caller { node: newcomer, life: 70 + u64::from(newcomer), ..CALLER };
    let peer = Peer::new(&first.address, caller, None).unwrap();
    begin_anew(&folder, &ABOUT, log, &[peer]).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_counts_once_the_others_have_come_to_the_same() {
    let (root, log) = (tempfile::tempdir().unwrap(), Arc::new(Shared::new(1)));
    let mut first = join(&log, &root.path().join("1"), 1, &[]).await;
    for node in [2, 3] {
        first.member.ask(add(node)).await;
    }
    let known = [first.address.clone()];
    let second = join(&log, &root.path().join("2"), 2, &known).await;
    second.circle.set_copied(Some(Position::new(1, 2)));
    let third = join(&log, &root.path().join("3"), 3, &known).await;
    let copies = |present: &common::Present| present.circle.heard().iter().any(|report| report.copied.is_some());
    first.until(|_| copies(&first)).await;
    first.member.register(0..40).await;
    first.until(|_| !copies(&first)).await;
    assert_eq!(second.circle.report().borrow().copied, None);
    for present in [second, third, first] {
        present.leave().await;
    }
}

/// Two nodes that say so of their views outvote the third.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_view_differs_stops() {
    let (root, log) = (tempfile::tempdir().unwrap(), Arc::new(Shared::new(1)));
    let journal = Arc::new(Journal::open(root.path().join("2"), &ABOUT, 0).unwrap());
    let (others, peers) = differing(2..4, &journal).await;
    let mut first = join(&log, &root.path().join("1"), 1, &peers).await;
    for node in [2, 3] {
        first.member.ask(add(node)).await;
    }
    first.member.register(0..40).await;
    let failed = first.member.node.handle();
    let said = async {
        let mut own = first.circle.report();
        loop {
            say_again(&others);
            own.changed().await.unwrap();
        }
    };
    let reason = tokio::select! {
        reason = failed.failed() => reason,
        () = said => unreachable!("it does not end"),
    };
    assert!(reason.contains("view differs"), "{reason}");
    assert!(matches!(first.circle.agreement(), Agreement::OwnDiffers { .. }));
    let evidence = first.out.try_recv().unwrap();
    assert!(evidence.contains("node 1 ") && evidence.contains("node 3 (build 9) has 0909"), "{evidence}");
    assert!(reason.contains(&evidence), "{reason}");
    first.leave().await;
}
