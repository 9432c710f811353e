//! The power goes at random moments under load, on a file system that forgets whatever was not synced, log and view on it. Needs root and
//! /dev/fuse; without them the test fails and says so.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use common::rounds::{Random, Rounds, note};
use common::{IEUM, PATIENCE, Scene, operator};
use ieum_core::apply;
use ieum_core::kv::Kv as _;
use ieum_drill::server::Server;
use ieum_drill::unsynced::{Metadata, Mount, Options};
use ieum_log::sqlite::{self, Sqlite};
use ieum_log::{BatchId, Log as _};
use ieum_store::fjall::{self, Fjall};

/// Half of the crashes drop every unsynced write, the others leave a random part of them.
fn rounds_of_power_cuts(metadata: Metadata, count: u32) {
    let mut random = Random::seeded();
    let mount = Mount::new(&Options { metadata, capacity: 8 << 30, ..Options::default() }).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let mut server = Server::new(IEUM, outside.path(), mount.path().join("data")).unwrap().without_limits();
    let rounds = Rounds { count, messages: 2_000, twice: 5 };
    let gave = rounds.run(&mut server, &mut random, |server, seed| {
        match seed % 2 {
            0 => mount.cut().unwrap(),
            _ => mount.cut_torn(seed).unwrap(),
        }
        server.kill().unwrap();
        mount.restore().unwrap();
    });
    assert!(gave.acknowledged >= u64::from(count) * 2_000);
    assert!(server.stop(PATIENCE).unwrap().success());
    let stats = mount.stats().unwrap();
    assert_eq!(stats.cuts, u64::from(count + count / 5));
    let rebuilt = server.stderr().unwrap().matches("the view was rebuilt").count();
    note(&format!("{metadata:?}: {} fsyncs, {} cuts, the view was rebuilt {rebuilt} times", stats.fsyncs, stats.cuts));
    let said = operator(server.data(), &["verify"]).success();
    assert!(said.starts_with("All is well"), "{said}");
}

/// After a clean stop everything is durable, the view with it: it is opened, not rebuilt.
#[test]
fn a_power_cut_after_a_clean_stop_changes_nothing() {
    for metadata in [Metadata::Strict, Metadata::Ext4] {
        let mount = Mount::new(&Options { metadata, ..Options::default() }).unwrap();
        let mut scene = Scene::with_data(mount.path().join("two/folders"));
        scene.server.start(PATIENCE).unwrap();
        scene.register("minji", "민지");
        scene.register("junho", "준호");
        scene.person("minji", &["send", "junho", "하나"]).success();
        let before = scene.operator(&["verify"]).success();
        assert!(scene.server.stop(PATIENCE).unwrap().success());
        mount.cut().unwrap();
        mount.restore().unwrap();
        // An empty one would do as long as the log reaches back to its beginning, but it would be none.
        let view = Fjall::open(scene.server.data().join("view"), &fjall::Options::default()).unwrap();
        assert!(apply::applied(&view.snapshot()).unwrap().position.ordinal > 0, "{metadata:?}: the view is empty");
        drop(view);
        scene.server.start(PATIENCE).unwrap();
        scene.person("minji", &["send", "junho", "둘"]).success();
        let said = scene.server.stderr().unwrap();
        assert!(!said.contains("rebuil"), "{metadata:?}: {before}{said}");
    }
}

/// While the disk hangs nothing is durable, so nothing may be acknowledged; when it goes on the append does.
#[tokio::test]
async fn an_append_is_acknowledged_when_the_disk_has_it_and_not_before() {
    let mount = Mount::new(&Options::default()).unwrap();
    let options = sqlite::Options { create: true, ..sqlite::Options::new(1) };
    let log = Sqlite::open(mount.path().join("log"), &options).unwrap();
    let id = BatchId { node: 1, incarnation: 1, number: 1 };
    mount.stick().unwrap();
    let mut append = std::pin::pin!(log.append(id, bytes::Bytes::from_static(b"batch")));
    // However long this waits, a log that keeps its promise has nothing to say.
    let early = tokio::time::timeout(Duration::from_millis(500), &mut append).await;
    assert!(early.is_err(), "acknowledged while the disk hangs: {early:?}");
    assert_eq!(log.last().await.unwrap().ordinal, 0);
    assert!(mount.unstick().unwrap() > 0);
    assert_eq!(append.await.unwrap().ordinal, 1);
}

#[test]
fn nothing_acknowledged_is_lost_by_power_cuts_where_only_what_is_synced_counts() {
    rounds_of_power_cuts(Metadata::Strict, 50);
}

#[test]
fn nothing_acknowledged_is_lost_by_power_cuts_on_a_journal_like_ext4s() {
    rounds_of_power_cuts(Metadata::Ext4, 25);
}
