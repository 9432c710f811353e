//! A running node that trims its log while it is checked is not damaged.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use common::{CELL, identity};
use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::operate::Tick;
use ieum_core::ids::Position;
use ieum_log::Log;
use ieum_log::sqlite::Sqlite;
use ieum_node::folder::{Error, Extent, Folder};
use ieum_node::leases::Leases;
use ieum_node::machine::Delivery;
use ieum_node::progress::unwatched;
use ieum_node::service::{Handle, Node, Options};
use ieum_node::{snapshot, upkeep, verify};
use ieum_store::fjall::Fjall;
use tokio::runtime::Handle as Runtime;

/// A running node, and what upkeep does when the test says so.
struct Checked {
    folder: Folder,
    log: Arc<Sqlite>,
    node: Handle<Fjall, ()>,
    runtime: Runtime,
    answered: mpsc::Receiver<()>,
}

impl Checked {
    /// Logs a batch and waits until it is applied.
    fn tick(&self) {
        self.node.submit(&Envelope { origin: Origin::Node, command: Tick {}.into() }, ()).unwrap();
        self.answered.recv().unwrap();
    }

    /// Two newer snapshots, and the log trimmed up to the older of them.
    fn move_on(&self) {
        for _ in 0..2 {
            self.tick();
            snapshot::take(self.node.kv().as_ref(), &self.folder.snapshots(), unwatched()).unwrap();
        }
        self.runtime.block_on(upkeep::trim(self.log.as_ref(), &Leases::new(self.folder.snapshots()))).unwrap();
    }

    /// Checks, and moves on under the first `times` replays.
    fn check(self, times: u32) -> Result<verify::Report, Error> {
        self.move_on();
        for _ in 0..5 {
            self.tick();
        }
        let (folder, log) = (self.folder.clone(), Arc::clone(&self.log));
        let (node, runtime) = (self.node.clone(), self.runtime.clone());
        let extent = || {
            let last = runtime.block_on(log.last())?;
            Ok(Extent::of_kept(log.as_ref(), last))
        };
        let (left, checked) = (AtomicU32::new(times), std::sync::Mutex::new(self));
        let watch = |step: ieum_node::progress::Step| {
            // The first batch of a replay, with more to come.
            let begins = step.what == "batches replayed" && step.done == 1;
            if begins && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                let checked = checked.lock().unwrap();
                checked.move_on();
                checked.tick();
                checked.tick();
            }
        };
        verify::running(&folder, log.as_ref(), extent, &node, &runtime, &watch, &|| Ok(()))
    }
}

async fn check(times: u32) -> Result<verify::Report, Error> {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().join("data"));
    let opened = folder.open(CELL, &Default::default()).await.unwrap();
    let options = Options::new(identity(), &folder);
    let (answers, answered) = mpsc::channel();
    let deliver = move |delivery: Delivery<()>| {
        for _ in delivery.replies {
            // Whoever asked may have ended.
            let _ = answers.send(());
        }
    };
    let node = Node::start(Arc::clone(&opened.log), opened.view, options, deliver).await.unwrap();
    let checked = Checked { folder, log: opened.log, node: node.handle(), runtime: Runtime::current(), answered };
    let report = tokio::task::spawn_blocking(move || checked.check(times)).await.unwrap();
    node.stop(Duration::from_secs(60)).await;
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_was_overtaken_begins_again() {
    let report = check(2).await.unwrap();
    assert_eq!(report.findings, []);
    assert!(report.batches > 0 && report.rows > 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_overtaken_for_ever_says_so() {
    let error = check(u32::MAX).await.unwrap_err();
    assert!(matches!(error, Error::Overtaken(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_ends_with_its_node_wherever_it_is() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().join("data"));
    let opened = folder.open(CELL, &Default::default()).await.unwrap();
    let node =
        Node::start(Arc::clone(&opened.log), opened.view, Options::new(identity(), &folder), |_: Delivery<()>| {});
    let node = node.await.unwrap();
    node.handle().begun().await;
    let (meta, _) = snapshot::take(node.handle().kv().as_ref(), &folder.snapshots(), unwatched()).unwrap();
    let next = Position { ordinal: meta.position.ordinal + 1, ..meta.position };
    node.handle().reach(next).await;
    let (handle, log, runtime) = (node.handle(), opened.log, Runtime::current());
    let check = move |times: u32| {
        let asked = AtomicU32::new(0);
        let goes_on =
            || if asked.fetch_add(1, Ordering::Relaxed) < times { Ok(()) } else { Err(snapshot::Error::Closed) };
        let extent = || Ok(Extent::of_kept(log.as_ref(), runtime.block_on(log.last())?));
        verify::running(&folder, log.as_ref(), extent, &handle, &runtime, unwatched(), &goes_on)
            .map_err(|error| (error, folder.root().join("verify.scratch").exists()))
    };
    let ends = move || {
        let mut times = 0;
        while let Err((error, left)) = check(times) {
            assert!(matches!(error, Error::Snapshot(snapshot::Error::Closed)), "{times}: {error}");
            assert!(!left, "{times}: nothing is left of it");
            times += 1;
        }
        times
    };
    // While the snapshot is read, and before a batch is replayed.
    assert!(tokio::task::spawn_blocking(ends).await.unwrap() > 1);
    node.stop(Duration::ZERO).await;
}
