//! A view that is gone, damaged or too old is rebuilt from what is left, or the node refuses to start and says what to do.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use std::fs;

use common::{CELL, Fixture, copy_folder, reopen};
use ieum_core::kv::Kv;
use ieum_node::folder::Error;
use ieum_node::progress::unwatched;
use ieum_node::{backup, snapshot, verify};
use ieum_store::fjall::{self, Fjall};

#[tokio::test]
async fn a_view_that_fits_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let (folder, digest) = Fixture::grown(root.path()).await;
    assert_eq!(reopen(&folder).await.unwrap(), (digest, None));
}

#[tokio::test]
async fn a_deleted_view_is_rebuilt_from_a_snapshot_and_the_log() {
    let root = tempfile::tempdir().unwrap();
    let (folder, digest) = Fixture::grown(root.path()).await;
    fs::remove_dir_all(folder.view()).unwrap();
    let (rebuilt, reason) = reopen(&folder).await.unwrap();
    assert_eq!(rebuilt, digest);
    assert!(reason.is_some());
}

#[tokio::test]
async fn a_view_of_a_new_cell_is_rebuilt_from_the_whole_log() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path()).await;
    fixture.say(4).await;
    let (folder, digest) = fixture.close();
    fs::remove_dir_all(folder.view()).unwrap();
    assert_eq!(reopen(&folder).await.unwrap().0, digest);
}

#[tokio::test]
async fn an_empty_view_over_a_trimmed_log_is_not_started_from() {
    let root = tempfile::tempdir().unwrap();
    let (folder, digest) = Fixture::grown(root.path()).await;
    fs::remove_dir_all(folder.view()).unwrap();
    drop(Fjall::open(folder.view(), &fjall::Options::default()).unwrap());
    let (rebuilt, reason) = reopen(&folder).await.unwrap();
    assert_eq!(rebuilt, digest);
    assert!(reason.unwrap().contains("stands at 1.0"));
}

#[tokio::test]
async fn the_older_snapshot_serves_when_the_newer_is_damaged() {
    let root = tempfile::tempdir().unwrap();
    let (folder, digest) = Fixture::grown(root.path()).await;
    fs::remove_dir_all(folder.view()).unwrap();
    let (_, newer) = snapshot::list(&folder.snapshots()).unwrap().pop().unwrap();
    flip_a_bit(&newer, 400);
    assert_eq!(reopen(&folder).await.unwrap().0, digest);
}

#[tokio::test]
async fn without_anything_to_rebuild_from_the_node_refuses_and_says_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let (folder, _) = Fixture::grown(root.path()).await;
    fs::remove_dir_all(folder.view()).unwrap();
    fs::remove_dir_all(folder.snapshots()).unwrap();
    let error = reopen(&folder).await.unwrap_err();
    assert!(matches!(error, Error::NothingToRebuildFrom { .. }), "{error}");
    assert!(error.to_string().contains("ieum restore"), "{error}");
    assert!(!folder.view().exists(), "it must not start empty the next time");
}

#[tokio::test]
async fn a_view_without_its_log_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let (folder, _) = Fixture::grown(root.path()).await;
    fs::remove_dir_all(folder.log()).unwrap();
    let error = reopen(&folder).await.unwrap_err();
    assert!(matches!(error, Error::Log { .. }), "{error}");
}

#[tokio::test]
async fn a_log_that_lost_its_end_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path()).await;
    fixture.say(3).await;
    let (folder, _) = fixture.close();
    let copy = root.path().join("log.copy");
    copy_folder(&folder.log(), &copy);
    say_more(&folder).await;
    fs::remove_dir_all(folder.log()).unwrap();
    fs::rename(&copy, folder.log()).unwrap();
    let error = reopen(&folder).await.unwrap_err();
    assert!(matches!(error, Error::LogBehind { .. }), "{error}");
    let findings = verify::offline(&folder, CELL, unwatched()).unwrap().findings;
    assert_eq!(findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [verify::Kind::LogBehind]);
}

/// Brings more batches into the log and the view of `folder`.
async fn say_more(folder: &ieum_node::folder::Folder) {
    use ieum_core::batch::{Batch, Envelope, Header, Origin};
    use ieum_core::commands::operate::Tick;
    use ieum_log::{BatchId, Log};
    let opened = folder.open(CELL, &fjall::Options::default()).await.unwrap();
    let mut applier = ieum_node::applier::Applier::new(opened.view, Default::default()).unwrap();
    for number in 1..=3 {
        let header = Header { node: 1, incarnation: 2, number, clock: 0 };
        let commands = vec![Envelope { origin: Origin::Node, command: Tick {}.into() }];
        let bytes = Batch { header, commands }.encode();
        let id = BatchId { node: 1, incarnation: 2, number };
        let position = opened.log.append(id, bytes.clone()).await.unwrap();
        applier.apply(&ieum_log::Entry { position, id, bytes }).unwrap();
    }
    applier.view().persist().unwrap();
}

#[tokio::test]
async fn a_backup_begins_a_new_generation_with_the_same_contents() {
    let root = tempfile::tempdir().unwrap();
    let (folder, digest) = Fixture::grown(&root.path().join("one")).await;
    let file = root.path().join("backup");
    backup::offline(&folder, CELL, &file, unwatched()).unwrap();
    let other = ieum_node::folder::Folder::new(root.path().join("two"));
    let restored = backup::restore(&other, &file, false, unwatched()).unwrap();
    assert!(restored.generation > 1);
    assert_eq!(restored.from.digest, digest);
    assert_eq!(reopen(&other).await.unwrap(), (digest, None));
    assert_eq!(verify::offline(&other, CELL, unwatched()).unwrap().findings, []);
    // A second restore keeps what is there aside, and its generation is later than that one's.
    assert!(matches!(backup::restore(&other, &file, false, unwatched()), Err(backup::Error::Occupied(_))));
    let again = backup::restore(&other, &file, true, unwatched()).unwrap();
    assert!(again.generation > restored.generation);
    assert!(again.kept_aside.unwrap().join("log").exists());
    // The view of the new generation can be rebuilt too.
    fs::remove_dir_all(other.view()).unwrap();
    assert_eq!(reopen(&other).await.unwrap().0, digest);
}

/// Copied while batches are applied, and what is replayed behind the copy gives the view row by row.
#[tokio::test]
async fn a_snapshot_of_a_view_that_is_written_is_of_one_position() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path()).await;
    fixture.say(50).await;
    let (view, snapshots) = (std::sync::Arc::clone(fixture.view()), fixture.folder.snapshots());
    let (taken, takes) = std::sync::mpsc::channel();
    let (applied, applies) = std::sync::mpsc::channel();
    let copies = std::thread::spawn(move || {
        let mut positions = Vec::new();
        for _ in 0..4 {
            positions.push(snapshot::take(view.as_ref(), &snapshots, unwatched()).unwrap().0.position);
            taken.send(()).unwrap();
            applies.recv().unwrap();
        }
        positions
    });
    loop {
        let take = takes.try_recv();
        if take == Err(std::sync::mpsc::TryRecvError::Disconnected) {
            break;
        }
        fixture.say(1).await;
        if take.is_ok() {
            applied.send(()).unwrap();
        }
    }
    let positions = copies.join().unwrap();
    assert!(positions.is_sorted_by(|one, next| one < next), "{positions:?}");
    let (folder, _) = fixture.close();
    let mut all = snapshot::list(&folder.snapshots()).unwrap();
    while let Some((position, path)) = all.pop() {
        let others = std::mem::take(&mut all);
        for (_, other) in &others {
            fs::rename(other, other.with_extension("aside")).unwrap();
        }
        let report = verify::offline(&folder, CELL, unwatched()).unwrap();
        assert_eq!((report.replayed_from, report.findings), (position, vec![]));
        fs::remove_file(path).unwrap();
        for (position, other) in others {
            fs::rename(other.with_extension("aside"), &other).unwrap();
            all.push((position, other));
        }
    }
}

#[tokio::test]
async fn every_flipped_bit_and_every_cut_of_a_snapshot_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path()).await;
    fixture.say(3).await;
    let path = fixture.snapshot();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, &damaged).unwrap();
        assert!(snapshot::check(&path).is_err(), "bit flipped in byte {at}");
    }
    for length in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(snapshot::check(&path).is_err(), "cut to {length} bytes");
    }
    fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
    assert!(snapshot::check(&path).is_err(), "bytes behind the end");
}

fn flip_a_bit(path: &std::path::Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}
