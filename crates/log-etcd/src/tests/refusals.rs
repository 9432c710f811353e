//! What is no log of this cell, or not all of it, is refused with a reason; a database that fills up refuses to, before etcd does.

use std::io::Write as _;
use std::net::TcpListener;

use ieum_drill::certificates::{Authority, expired};
use ieum_drill::etcd::{Certificates, Etcd as Members, Settings};
use ieum_log::conformance::within_a_minute;

use super::*;
use crate::error::chain;

/// The reason with which opening is refused.
async fn refusal(options: Options) -> String {
    match Etcd::open(options).await {
        Err(Error::Foreign(reason)) => reason,
        other => panic!("expected a refusal, not {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cells_log_is_refused() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        drop(harness.open().await);
        let ours = options(&harness.shared.members.lock());
        let reason = refusal(Options { cell: 8, ..ours }).await;
        assert!(reason.contains("cell 7, not of cell 8"), "{reason}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_without_a_log_is_refused_and_stays_empty() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let ours = options(&harness.shared.members.lock());
        let reason = refusal(Options { create: false, ..ours.clone() }).await;
        assert!(reason.contains("no log of ours"), "{reason}");
        // A view that has applied something does not begin anew either.
        let applied = Some(Position { generation: 1, ordinal: 3 });
        refusal(Options { applied, ..ours }).await;
        let keys = harness.shared.members.lock().run(&["get", "", "--prefix", "--keys-only"]).unwrap();
        assert_eq!(keys, "");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_ends_before_what_was_applied_is_refused() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let log = harness.open().await;
        let entries = Writer::new(&log, 1).await.append_some(&log, 5).await;
        let ours = options(&harness.shared.members.lock());
        let applied = |ordinal| Some(Position { generation: 1, ordinal });
        let reason = refusal(Options { applied: applied(6), ..ours.clone() }).await;
        assert!(reason.contains("ends at batch 5, but batch 6 was in it"), "{reason}");
        let log = Etcd::open(Options { applied: applied(5), ..ours.clone() }).await.unwrap();
        assert_eq!(log.last().await.unwrap(), entries[4].position);
        let other_life = Some(Position { generation: 2, ordinal: 1 });
        let reason = refusal(Options { applied: other_life, ..ours }).await;
        assert!(reason.contains("generation"), "{reason}");
    })
    .await;
}

/// What others have written behind the backup has filled the log up again, before this process sees it.
#[test]
fn a_reader_does_not_go_on_in_an_older_backup_that_has_grown() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What runs on the first one stands still while nobody waits for anything on it.
    let (frozen, others, folder) = (runtime(), runtime(), tempfile::tempdir().unwrap());
    let (mut members, backup) = (Members::start(1).unwrap(), folder.path().join("backup"));
    let (log, mut tail, mut other) = frozen.block_on(async {
        let log = Etcd::open(options(&members)).await.unwrap();
        let (mut writer, other) = (Writer::new(&log, 1).await, Writer::new(&log, 2).await);
        let mut tail = log.tail(START).await.unwrap();
        let mut appended = writer.append_some(&log, 5).await;
        members.save(&backup).unwrap();
        appended.extend(writer.append_some(&log, 5).await);
        assert_eq!(read(&mut tail, 10).await, appended);
        (log, tail, other)
    });
    members.restore(&backup).unwrap();
    others.block_on(async {
        let log = Etcd::open(options(&members)).await.unwrap();
        assert_eq!(other.append_some(&log, 20).await[19].position.ordinal, 25);
    });
    let next =
        frozen.block_on(async { tokio::time::timeout(PATIENCE, ieum_log::Tail::next(&mut tail)).await.unwrap() });
    assert!(matches!(&next, Err(Error::Foreign(reason)) if reason.contains("older backup")), "{next:?}");
    drop(log);
}

/// Else everything would be taken from clients while nothing can be trimmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_use_is_remembered_while_no_member_can_be_asked() {
    within_a_minute(async {
        let mut members = Members::start(1).unwrap();
        let log = Etcd::open(options(&members)).await.unwrap();
        let used = log.room().unwrap().used;
        assert!(used > 0);
        let mut changed = log.inner.cluster.changed.subscribe();
        members.kill(0).unwrap();
        while !matches!(log.members()[0].1, Health::Down(_)) {
            changed.changed().await.unwrap();
        }
        assert!(log.room().unwrap().used >= used);
    })
    .await;
}

/// A running node meets the old state of a cluster that was restored: the tail ends, and says what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_cut_off_under_a_running_node_is_not_gone_on_with() {
    within_a_minute(async {
        let mut members = Members::start(1).unwrap();
        let log = Etcd::open(options(&members)).await.unwrap();
        let mut writer = Writer::new(&log, 1).await;
        let mut tail = log.tail(START).await.unwrap();
        let entries = writer.append_some(&log, 5).await;
        assert_eq!(read(&mut tail, 5).await, entries);
        // As after a restore: the record of the cell is there and the batches are not.
        members.run(&["del", "ieum/00000001/", "--prefix"]).unwrap();
        members.kill(0).unwrap();
        members.restart(0).unwrap();
        let mut changed = log.inner.cluster.changed.subscribe();
        while !matches!(&log.members()[0].1, Health::Refused(reason) if reason.contains("log reseed")) {
            changed.changed().await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_cluster_is_not_used() {
    within_a_minute(async {
        let (members, others) = (Members::start(1).unwrap(), Members::start(1).unwrap());
        drop(Etcd::open(options(&others)).await.unwrap());
        let mut both = options(&members);
        let log = Etcd::open(both.clone()).await.unwrap();
        both.endpoints.extend(options(&others).endpoints);
        let joined = Etcd::open(both).await.unwrap();
        let mut changed = joined.inner.cluster.changed.subscribe();
        let refused =
            |health: &Health| matches!(health, Health::Refused(reason) if reason.contains("another etcd cluster"));
        while !joined.members().iter().any(|(_, health)| refused(health)) {
            changed.changed().await.unwrap();
        }
        drop(log);
    })
    .await;
}

/// Neither one that says nothing, nor one that talks of something else, nor one that hangs up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_etcd_is_named() {
    within_a_minute(async {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let talker = TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let urls = [url(&silent), url(&talker), url(&gone)];
        drop(gone);
        std::thread::spawn(move || {
            for stream in talker.incoming() {
                // Whoever connects may be gone already.
                let _ = stream
                    .and_then(|mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
            }
        });
        let endpoints = urls.iter().map(|url| url.parse().unwrap()).collect();
        let options = Options { patience: Duration::from_secs(1), ..Options::new(CELL, endpoints) };
        let error = Etcd::open(options).await.unwrap_err();
        let told = chain(&error);
        assert!(matches!(error, Error::Engine { .. }) && urls.iter().all(|url| told.contains(url.as_str())), "{told}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_somebody_else_compacted_is_missed_and_not_passed_over() {
    use ieum_log::Tail as _;
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let log = harness.open().await;
        let mut writer = Writer::new(&log, 1).await;
        writer.append_some(&log, 5).await;
        let ends = log.inner.cluster.ends(&log.inner.keys).await.unwrap();
        let mut behind = log.tail(START).await.unwrap();
        read(&mut behind, 5).await;
        harness.shared.members.lock().run(&["compact", &ends.last_revision.to_string()]).unwrap();
        let told = chain(&log.tail(Position { ordinal: 2, ..START }).await.unwrap_err());
        assert!(told.contains("automatic compaction off"), "{told}");
        let told = chain(&log.trim(Position { ordinal: 2, ..START }).await.unwrap_err());
        assert!(told.contains("automatic compaction off"), "{told}");
        // Who is at the end goes on.
        let entry = writer.append(&log).await;
        assert_eq!(behind.next().await.unwrap(), entry);
    })
    .await;
}

fn expect_full(error: &Error) {
    assert!(matches!(error, Error::Full), "{error:?}");
}

/// Appends stop well below etcd's quota, ticks go on, and what is trimmed makes room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_fills_up_refuses_batches_until_something_is_trimmed() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let ours = options(&harness.shared.members.lock());
        let now = harness.open().await;
        let in_use = |log: &Etcd| {
            let of = |(_, health): (String, Health)| if let Health::Up { in_use, .. } = health { in_use } else { 0 };
            log.members().into_iter().map(of).max().unwrap()
        };
        // 256 batches more than what earlier tests have left.
        let largest_database = in_use(&now) + (256 << 19);
        drop(now);
        let log = Etcd::open(Options { largest_database, ..ours }).await.unwrap();
        let look = || log.inner.cluster.members.iter().for_each(|member| member.suspect.notify_one());
        let (mut writer, mut ticks) = (Writer::new(&log, 1).await, Writer::new(&log, 2).await);
        let large = Bytes::from(vec![1; MAX_BATCH_BYTES]);
        let mut appended = Vec::new();
        let (id, full) = loop {
            let (id, _) = writer.batch();
            match log.append(id, large.clone()).await {
                Ok(position) => appended.push(position),
                Err(error) => break (id, error),
            }
            look();
        };
        assert!(matches!(full, Error::Full), "{full:?}");
        // What a member says of its size is up to a second old.
        assert!(appended.len() < 1000, "{}", appended.len());
        ticks.append(&log).await;
        // The first trim deletes; compaction up to the second one, which lies behind that deletion, gives the room back.
        log.trim(*appended.last().unwrap()).await.unwrap();
        log.trim(ticks.append(&log).await.position).await.unwrap();
        // While it compacts a database needs up to twice its room, so that ticks may have to wait too.
        let (mut tick, bytes) = ticks.batch();
        while log.append(id, large.clone()).await.inspect_err(expect_full).is_err() {
            if log.append(tick, bytes.clone()).await.inspect_err(expect_full).is_ok() {
                tick = ticks.batch().0;
            }
            look();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raised_quota_alarm_is_a_full_log() {
    within_a_minute(async {
        let members = Members::start_with(1, Settings { quota: 2 << 20, ..Settings::default() }).unwrap();
        let log = Etcd::open(options(&members)).await.unwrap();
        let mut writer = Writer::new(&log, 1).await;
        let large = Bytes::from(vec![1; MAX_BATCH_BYTES]);
        let full = loop {
            let (id, _) = writer.batch();
            if let Err(error) = log.append(id, large.clone()).await {
                break error;
            }
        };
        assert!(matches!(full, Error::Full), "{full:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_asked_for_on_both_sides() {
    within_a_minute(async {
        let folder = tempfile::tempdir().unwrap();
        let [ours, theirs] = ["ours", "theirs"].map(|name| Authority::new(&folder.path().join(name)).unwrap());
        let issue = |by: &Authority| by.issue(&[], |_| ()).unwrap();
        let server = issue(&ours);
        let members = Members::start_with(1, Settings { certificates: Some(server), ..Settings::default() }).unwrap();
        let tls = |certificates: Certificates| {
            let Certificates { authority, certificate, key } = certificates;
            Some(Tls { authority, certificate, key })
        };
        let good = Options { tls: tls(issue(&ours)), ..options(&members) };
        let log = Etcd::open(good.clone()).await.unwrap();
        let entry = Writer::new(&log, 1).await.append(&log).await;
        assert_eq!(read(&mut log.tail(START).await.unwrap(), 1).await, [entry]);

        let stranger = issue(&theirs);
        let mixed = Certificates { authority: issue(&ours).authority, ..stranger.clone() };
        let expired = ours.issue(&[], expired).unwrap();
        for (certificates, wanted) in [(stranger, "certificate"), (mixed, "certificate"), (expired, "certificate")] {
            let name = certificates.certificate.clone();
            let bad = Options { tls: tls(certificates), patience: Duration::from_millis(500), ..good.clone() };
            let error = Etcd::open(bad).await.unwrap_err();
            let told = chain(&error);
            assert!(told.to_lowercase().contains(wanted), "{}: {told}", name.display());
        }
        let none = Options { tls: None, ..good };
        assert!(refusal(none).await.contains("certificates have to be given"));
    })
    .await;
}
