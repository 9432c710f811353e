//! Nodes that hear of each other, and what follows from it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;

use common::{ABOUT, CELL, add, join, node, report, shelf};
use ieum_core::ids::Position;
use ieum_log::Log as _;
use ieum_log::memory::Memory as Shared;
use ieum_log::sqlite::Journal;
use ieum_node::core_position;
use ieum_node::folder::Folder;
use ieum_node::peers::{Agreement, Phase, Report};
use ieum_peer::server::{self, Offer};
use tokio::net::TcpListener;

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
async fn a_node_that_comes_up_says_how_far_its_journal_is() {
    let (root, log) = (tempfile::tempdir().unwrap(), Arc::new(Shared::new(1)));
    let mut first = join(&log, &root.path().join("1"), 1, &[]).await;
    first.member.ask(add(2)).await;
    first.member.register(0..20).await;
    let folder = Folder::new(root.path().join("2"));
    let copied = folder.open_journal(&ABOUT, Arc::clone(&log)).await.unwrap();
    let (circle, shelf, _) = node(2, &[first.address.clone()], copied.journal(), |_| ()).await;
    let coming_up = tokio::spawn(circle.come_up(shelf));
    let copying = tokio::spawn(async move { copied.copy().await });
    let end = core_position(log.last().await.unwrap());
    let waited_for = |report: &Report| report.node == 2 && report.phase == Phase::Joining && report.synced >= end;
    first.until(|circle| circle.heard().iter().any(waited_for)).await;
    coming_up.abort();
    copying.abort();
    first.leave().await;
}

/// Two nodes that say so of their views outvote the third.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_view_differs_stops() {
    let (root, log) = (tempfile::tempdir().unwrap(), Arc::new(Shared::new(1)));
    let journal = Arc::new(Journal::open(root.path().join("2"), &ABOUT, 0).unwrap());
    let mut peers = Vec::new();
    let others: Vec<_> = (2..4)
        .map(|node| {
            let digests = (1..200).map(|n| (Position::new(1, n * 32), [9; 32])).collect();
            tokio::sync::watch::Sender::new(Report {
                life: node.into(),
                digests,
                addresses: Vec::new(),
                ..report(node)
            })
        })
        .collect();
    for other in &others {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        peers.push(format!("http://{}", listener.local_addr().unwrap()));
        let offer = Offer {
            cell: CELL,
            report: other.subscribe(),
            shelf: shelf(&journal, |_| Err("not here".to_owned())).await,
            met: Arc::new(|_| ()),
        };
        tokio::spawn(server::serve(offer, listener, None));
    }
    let mut first = join(&log, &root.path().join("1"), 1, &peers).await;
    for node in [2, 3] {
        first.member.ask(add(node)).await;
    }
    first.member.register(0..40).await;
    // What they say again is compared with what this node has come to meanwhile.
    let failed = first.member.node.handle();
    let said = async {
        let mut own = first.circle.report();
        loop {
            others.iter().for_each(|other| other.send_modify(|report| report.applied.ordinal += 1));
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
