//! A log that lost batches which were acknowledged is refused, whatever is left to prove it, and what proves it is not destroyed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::fs;
use std::path::Path;

use common::{Fixture, copy_folder, reopen, replace_log, stands_at};
use ieum_core::ids::Position;
use ieum_node::backup;
use ieum_node::folder::{Error, Folder};
use ieum_node::progress::unwatched;

/// A cell whose log is that of position 1.8 again, after a snapshot at 1.38. The whole log, or one that was trimmed.
async fn lost(root: &Path, trimmed: bool) -> (Folder, std::path::PathBuf) {
    let mut fixture = Fixture::new(&root.join("data")).await;
    fixture.say(3).await;
    fixture.snapshot();
    fixture.say(3).await;
    if trimmed {
        fixture.snapshot();
        fixture.trim().await;
    }
    let (folder, _) = fixture.close();
    let copy = root.join("log.copy");
    copy_folder(&folder.log(), &copy);
    let mut fixture = Fixture::again(&folder, 2).await;
    fixture.ticks(30).await;
    let newest = fixture.snapshot();
    drop(fixture);
    replace_log(&folder, &copy);
    (folder, newest)
}

fn assert_refused(opened: Result<([u8; 32], Option<String>), Error>, at: Position) {
    match opened {
        Err(Error::LogBehind { last, applied, .. }) => assert_eq!((last, applied), (Position::new(1, 8), at)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_snapshot_ahead_of_the_log_is_a_log_that_lost_its_end() {
    for trimmed in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let (folder, newest) = lost(root.path(), trimmed).await;
        fs::remove_dir_all(folder.view()).unwrap();
        assert_refused(reopen(&folder).await, Position::new(1, 38));
        assert!(!folder.view().exists(), "it must not start the next time either");
        // Its name is proof enough.
        fs::write(&newest, "what the lightning left").unwrap();
        assert_refused(reopen(&folder).await, Position::new(1, 38));
        fs::remove_file(&newest).unwrap();
        assert!(reopen(&folder).await.is_ok(), "nothing is left to prove it");
    }
}

/// After a power cut the view may be older than the log that lost its end.
#[tokio::test]
async fn a_view_that_fits_does_not_excuse_a_log_that_ends_before_a_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let (folder, newest) = lost(root.path(), false).await;
    fs::rename(&newest, root.path().join("kept")).unwrap();
    fs::remove_dir_all(folder.view()).unwrap();
    reopen(&folder).await.unwrap();
    fs::rename(root.path().join("kept"), &newest).unwrap();
    assert_refused(reopen(&folder).await, Position::new(1, 38));
}

#[tokio::test]
async fn a_view_of_a_later_generation_is_not_replaced_over_an_earlier_log() {
    let root = tempfile::tempdir().unwrap();
    let (folder, _) = {
        let mut fixture = Fixture::new(&root.path().join("data")).await;
        fixture.say(5).await;
        fixture.close()
    };
    let (file, earlier) = (root.path().join("backup"), root.path().join("log.copy"));
    copy_folder(&folder.log(), &earlier);
    backup::offline(&folder, common::CELL, &file, unwatched()).unwrap();
    backup::restore(&folder, &file, true, unwatched()).unwrap();
    let mut fixture = Fixture::again(&folder, 2).await;
    fixture.ticks(9).await;
    drop(fixture);
    let stood = stands_at(&folder.view());
    assert_eq!((stood.generation > 1, stood.ordinal), (true, 9));
    replace_log(&folder, &earlier);
    match reopen(&folder).await {
        Err(Error::LogBehind { last, applied, .. }) => assert_eq!((last, applied), (Position::new(1, 7), stood)),
        other => panic!("{other:?}"),
    }
    assert_eq!(stands_at(&folder.view()), stood);
}

#[tokio::test]
async fn the_view_that_a_rebuilding_replaces_is_kept_aside_and_only_the_last() {
    let root = tempfile::tempdir().unwrap();
    let (folder, digest) = Fixture::grown(root.path()).await;
    let before = folder.root().join("view.before");
    for ordinal in [3, 2] {
        let view = ieum_store::fjall::Fjall::open(folder.view(), &Default::default()).unwrap();
        let applied = ieum_core::tables::cell::Applied { position: Position::new(1, ordinal), digest: [7; 32] };
        ieum_core::kv::Kv::commit(&view, &ieum_core::apply::position_alone(&applied)).unwrap();
        ieum_core::kv::Kv::persist(&view).unwrap();
        drop(view);
        assert_eq!(reopen(&folder).await.unwrap().0, digest);
        assert_eq!(stands_at(&before), applied.position);
    }
}
