//! Whose log an etcd holds, and how a new generation begins: once, and not over a log that goes on.

use std::io::{Read as _, Write as _};

use ieum_drill::etcd::Etcd as Members;
use ieum_log::conformance::within_a_minute;
use tokio::time::Instant;

use super::*;
use crate::error::chain;
use crate::record::{self, Begun, Found, look};

const ENDED: Predecessor = Predecessor { end: Position { generation: 1, ordinal: 41 }, digest: [9; 32] };

async fn found(options: &Options) -> Found {
    look(options).await.unwrap()
}

async fn begin(options: &Options, found: &Found, generation: u32, predecessor: Predecessor) -> Result<Begun> {
    record::begin(options, found, generation, predecessor, Instant::now() + options.patience).await
}

/// The nodes stand still for a while only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_generation_is_begun_when_the_time_for_it_is_over() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let ours = options(&harness.shared.members.lock());
        let empty = found(&ours).await;
        let error = record::begin(&ours, &empty, 70, ENDED, Instant::now()).await.unwrap_err();
        assert!(matches!(error, Error::Engine { .. }), "{error}");
        assert_eq!(found(&ours).await.log, None);
        assert_eq!(begin(&ours, &empty, 70, ENDED).await.unwrap(), Begun::Here);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_operators_who_reseed_at_once_one_makes_a_log() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let ours = options(&harness.shared.members.lock());
        let empty = found(&ours).await;
        assert_eq!(empty.log, None);
        let other = Predecessor { digest: [8; 32], ..ENDED };
        let (one, two) = tokio::join!(begin(&ours, &empty, 70, ENDED), begin(&ours, &empty, 71, other));
        let begun = [one.unwrap(), two.unwrap()];
        assert!(begun.contains(&Begun::Here) && begun.contains(&Begun::Changed), "{begun:?}");
        let (generation, predecessor) = if begun[0] == Begun::Here { (70, ENDED) } else { (71, other) };
        // Who has lost the answer asks again.
        assert_eq!(begin(&ours, &empty, generation, predecessor).await.unwrap(), Begun::Here);
        let held = found(&ours).await.log.unwrap();
        assert_eq!((held.cell, held.predecessor), (CELL, Some(predecessor)));
        assert_eq!(held.last, Position { generation, ordinal: 0 });
        let log = harness.open().await;
        assert_eq!((log.generation(), log.predecessor()), (generation, Some(predecessor)));
        assert_eq!(Writer::new(&log, 1).await.append(&log).await.position, Position { generation, ordinal: 1 });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_replaced_takes_nothing_more_and_one_that_goes_on_is_not_replaced() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let ours = options(&harness.shared.members.lock());
        let log = harness.open().await;
        let mut writer = Writer::new(&log, 1).await;
        let entries = writer.append_some(&log, 3).await;
        let before = found(&ours).await;
        assert_eq!(before.log.unwrap().last, entries[2].position);
        writer.append(&log).await;
        assert_eq!(begin(&ours, &before, 70, ENDED).await.unwrap(), Begun::Changed);
        assert_eq!(begin(&ours, &found(&ours).await, 70, ENDED).await.unwrap(), Begun::Here);
        let (id, bytes) = writer.batch();
        let late = log.append(id, bytes).await;
        assert!(matches!(late, Err(Error::Fenced { .. })), "{late:?}");
        let keys = harness.shared.members.lock().run(&["get", "", "--prefix", "--keys-only"]).unwrap();
        assert_eq!(keys.trim(), "ieum/cell");
    })
    .await;
}

/// A running node notices, and its log says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_gone_is_told_from_members_that_are_down() {
    within_a_minute(async {
        let mut members = Members::start(1).unwrap();
        let ours = options(&members);
        let log = Etcd::open(ours.clone()).await.unwrap();
        assert_eq!(log.refused(), None);
        let mut changed = log.inner.cluster.changed.subscribe();
        members.kill(0).unwrap();
        while !matches!(log.members()[0].1, Health::Down(_)) {
            changed.changed().await.unwrap();
        }
        assert_eq!(log.refused(), None);
        let error = look(&ours).await.unwrap_err();
        assert!(chain(&error).contains("no member of etcd answered"), "{error:?}");
        members.restart(0).unwrap();
        members.wait_until_it_serves(0).unwrap();
        members.run(&["del", "ieum/cell"]).unwrap();
        members.kill(0).unwrap();
        members.restart(0).unwrap();
        while log.refused().is_none() {
            changed.changed().await.unwrap();
        }
        assert_eq!(found(&ours).await.log, None);
    })
    .await;
}

/// More than what a connection begins with.
const ASKED: u64 = 120;

/// Who asks is told this, and the connection stays.
fn tells(words: &'static [u8]) -> Endpoint {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    // Ends with the test's process.
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().map_while(std::result::Result::ok) {
            // Of words that come before anything was asked nothing is heard. Whoever connects may be gone already.
            let mut asked = Vec::new();
            let _ = (&stream).take(ASKED).read_to_end(&mut asked).and_then(|_| stream.write_all(words));
            open.push(stream);
        }
    });
    endpoint
}

#[tokio::test]
async fn what_is_no_etcd_is_told_from_members_that_may_come_yet() {
    within_a_minute(async {
        let mail = tells(b"220 smtp.example ESMTP\r\n");
        let web = tells(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let nobody: Endpoint = "http://127.0.0.1:1".parse().unwrap();
        for stranger in [&mail, &web] {
            let error = chain(&look(&Options::new(1, vec![stranger.clone()])).await.unwrap_err());
            assert!(error.contains("cannot be the cell's etcd"), "{error}");
        }
        let error = look(&Options::new(1, vec![mail.clone(), nobody.clone(), web])).await.unwrap_err();
        assert!(matches!(error, Error::Foreign(_)), "{error}");
        let error = look(&Options::new(1, vec![nobody.clone(), mail, nobody])).await.unwrap_err();
        assert!(matches!(error, Error::Engine { .. }), "the other two may yet decide: {error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn most_members_have_to_answer_as_one_cluster_and_a_stray_one_is_left_alone() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let ours = options(&harness.shared.members.lock());
        let nobody: Endpoint = "http://127.0.0.1:1".parse().unwrap();
        let mut few = ours.clone();
        few.endpoints.truncate(1);
        few.endpoints.push(nobody);
        look(&few).await.unwrap_err();
        let others = Members::start(1).unwrap();
        others.wait_until_it_serves(0).unwrap();
        let stray = options(&others).endpoints;
        let mut tie = Options { endpoints: [&stray[..], &ours.endpoints[..1]].concat(), ..ours.clone() };
        let error = look(&tie).await.unwrap_err().to_string();
        assert!(error.contains("not of one etcd cluster"), "{error}");
        tie.endpoints.push("http://127.0.0.1:1".parse().unwrap());
        let error = look(&tie).await.unwrap_err();
        assert!(matches!(error, Error::Engine { .. }), "the third may yet decide: {error}");
        // The stray one is asked first.
        let most = Options { endpoints: [stray, ours.endpoints.clone()].concat(), ..ours.clone() };
        let empty = found(&most).await;
        assert_eq!(empty.cluster, found(&ours).await.cluster);
        assert_eq!(begin(&most, &empty, 70, ENDED).await.unwrap(), Begun::Here);
        assert_eq!(found(&ours).await.log.unwrap().last, Position { generation: 70, ordinal: 0 });
        harness.shared.members.lock().clear().unwrap();
        let log = Etcd::open(Options { cluster: Some(empty.cluster), ..most }).await.unwrap();
        Writer::new(&log, 1).await.append(&log).await;
        let mut changed = log.inner.cluster.changed.subscribe();
        while !matches!(&log.members()[0].1, Health::Refused(reason) if reason.contains("another etcd cluster")) {
            changed.changed().await.unwrap();
        }
        assert_eq!(log.refused(), None, "it is one of four");
        assert_eq!(others.run(&["get", "", "--prefix", "--keys-only"]).unwrap(), "");
    })
    .await;
}
