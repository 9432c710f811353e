//! A restored cell is another life of it: nothing that was given out in the lost one passes for something of this one, and what was
//! there before is kept.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use common::{CELL, Fixture, reopen};
use ieum_core::apply::position_alone;
use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::{Command, account, group};
use ieum_core::ids::{DeviceId, Position, RoomId, UserId};
use ieum_core::kv::Kv;
use ieum_core::outcome::{Accepted, Outcome};
use ieum_core::tables::cell::Applied;
use ieum_node::backup::{self, Error, Reaches, Restored};
use ieum_node::folder::Folder;
use ieum_node::progress::unwatched;
use ieum_node::{chain, snapshot, verify};
use ieum_store::fjall::Fjall;

/// A cell with some messages, and a backup of it.
async fn backed_up(root: &Path) -> (Folder, PathBuf) {
    let mut fixture = Fixture::new(&root.join("data")).await;
    fixture.say(3).await;
    let (folder, _) = fixture.close();
    let file = root.join("backup");
    backup::offline(&folder, CELL, &file, unwatched()).unwrap();
    (folder, file)
}

fn restore(folder: &Folder, file: &Path) -> Result<Restored, Error> {
    backup::restore(folder, file, true, unwatched())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Nothing tells of the lives that ended with their disks but the time: one that begins later has a later generation.
#[tokio::test]
async fn a_restore_into_nothing_has_a_generation_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let (folder, file) = backed_up(root.path()).await;
    fs::remove_dir_all(folder.root()).unwrap();
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 1_577_836_800;
    let before = seconds();
    let generation = u64::from(restore(&folder, &file).unwrap().generation);
    assert!((before..=seconds()).contains(&generation), "{generation}");
}

#[tokio::test]
async fn a_generation_follows_those_that_only_names_tell_of() {
    const LATE: u32 = 4_000_000_000;
    let root = tempfile::tempdir().unwrap();
    let (folder, file) = backed_up(root.path()).await;
    let database = |generation: u32| folder.log().join(format!("generation-{generation}.sqlite"));
    fs::write(database(LATE), "what the lightning left").unwrap();
    assert_eq!(restore(&folder, &file).unwrap().generation, LATE + 1);
    // The log that cannot be read is aside now, and so is the one that follows it.
    assert_eq!(restore(&folder, &file).unwrap().generation, LATE + 2);
    fs::remove_dir_all(folder.log()).unwrap();
    fs::write(folder.snapshots().join(format!("{:010}-{:020}.snap", LATE + 9, 7)), "what the lightning left").unwrap();
    let restored = restore(&folder, &file).unwrap();
    assert_eq!(restored.generation, LATE + 10);
    let aside = restored.kept_aside.unwrap();
    // Nothing else is left there.
    fs::remove_dir_all(folder.log()).unwrap();
    fs::remove_dir_all(folder.view()).unwrap();
    fs::remove_dir_all(folder.snapshots()).unwrap();
    assert_eq!(backup::restore(&folder, &file, false, unwatched()).unwrap().generation, LATE + 10);
    assert!(aside.exists());
    assert_eq!(verify::offline(&folder, CELL, unwatched()).unwrap().findings, []);
}

/// A clock that is wrong must not give a number that other nodes of the cell have seen already.
#[tokio::test]
async fn a_generation_follows_those_that_other_nodes_tell_of() {
    const LATE: u32 = 4_000_000_000;
    let root = tempfile::tempdir().unwrap();
    let (_, file) = backed_up(root.path()).await;
    let other = Folder::new(root.path().join("other"));
    assert_eq!(backup::restore_shared(&other, &file, false, LATE, unwatched()).unwrap().generation, LATE + 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_not_taken_for_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (folder, _) = backed_up(root.path()).await;
    let nothing = Folder::new(root.path().join("nothing"));
    assert_eq!(backup::reaches(&nothing).unwrap(), Reaches::Nowhere);
    assert!(matches!(backup::reaches(&folder).unwrap(), Reaches::To(_)));
    let journal = folder.log().join("generation-1.sqlite");
    fs::write(&journal, "what the lightning left").unwrap();
    let unknown = |folder: &Folder| match backup::reaches(folder).unwrap() {
        Reaches::Unknown(reason) => reason,
        reaches => panic!("{reaches:?}"),
    };
    assert!(unknown(&folder).contains("cannot be read"));
    fs::remove_dir_all(folder.log()).unwrap();
    assert!(unknown(&folder).contains("no journal"));
    fs::remove_dir_all(folder.view()).unwrap();
    assert_eq!(backup::reaches(&folder).unwrap(), Reaches::Nowhere);
    fs::create_dir_all(folder.snapshots()).unwrap();
    fs::write(folder.snapshots().join(format!("{:010}-{:020}.snap", 1, 7)), "").unwrap();
    assert!(unknown(&folder).contains("no journal"));
}

/// The data folder may be where a file system is mounted: it stays, and its contents are moved within it.
#[tokio::test]
async fn the_data_folder_itself_is_not_moved() {
    let root = tempfile::tempdir().unwrap();
    let (folder, file) = backed_up(root.path()).await;
    fs::create_dir(folder.root().join("lost+found")).unwrap();
    let (inode, held) = (fs::metadata(folder.root()).unwrap().ino(), names(folder.root()));
    for n in 1..=2 {
        let aside = folder.root().join(format!("before-restore-{n}"));
        assert_eq!(restore(&folder, &file).unwrap().kept_aside.as_ref(), Some(&aside));
        assert_eq!(fs::metadata(folder.root()).unwrap().ino(), inode);
        assert!(names(&aside).contains(&"log".to_owned()) && names(&aside).contains(&"view".to_owned()));
        assert!(folder.root().join("lost+found").exists());
    }
    // What was moved first is all that was there.
    let mut moved = names(&folder.root().join("before-restore-1"));
    moved.push("lost+found".to_owned());
    moved.sort();
    assert_eq!(moved, held);
    reopen(&folder).await.unwrap();
}

#[tokio::test]
async fn a_backup_that_would_be_moved_aside_is_refused_before_anything_is_moved() {
    let root = tempfile::tempdir().unwrap();
    let (folder, file) = backed_up(root.path()).await;
    fs::create_dir(folder.snapshots()).unwrap();
    let inside = folder.snapshots().join("0000000001-00000000000000000005.snap");
    fs::rename(&file, &inside).unwrap();
    let (link, held) = (root.path().join("link"), names(folder.root()));
    std::os::unix::fs::symlink(&inside, &link).unwrap();
    for from in [&inside, &folder.root().join("view/../snapshots").join(inside.file_name().unwrap()), &link] {
        let error = restore(&folder, from).unwrap_err();
        assert!(matches!(error, Error::Inside { .. }) && error.to_string().contains("copy it out"), "{error}");
        assert_eq!(names(folder.root()), held);
    }
    reopen(&folder).await.unwrap();
    // What an earlier restore moved aside stays where it is.
    fs::copy(&inside, &file).unwrap();
    let aside = restore(&folder, &file).unwrap().kept_aside.unwrap();
    restore(&folder, &aside.join("snapshots").join(inside.file_name().unwrap())).unwrap();
    reopen(&folder).await.unwrap();
}

/// A backup of the last generation that there can be: the new log cannot follow it.
#[tokio::test]
async fn a_restore_that_fails_leaves_the_data_where_it_is() {
    let root = tempfile::tempdir().unwrap();
    let (folder, file) = backed_up(root.path()).await;
    let view = Fjall::open(root.path().join("view"), &Default::default()).unwrap();
    let rows = snapshot::Rows::open(&file).unwrap();
    view.fill(rows.map(|row| Ok(row.unwrap()))).unwrap();
    let last = Applied { position: Position::new(u32::MAX, 1), digest: [7; 32] };
    view.commit(&position_alone(&last)).unwrap();
    let late = root.path().join("late");
    snapshot::copy(&view, &late, unwatched()).unwrap();
    let held = names(folder.root());
    let said = chain(&restore(&folder, &late).unwrap_err());
    assert!(said.contains("does not follow"), "{said}");
    assert_eq!(names(folder.root()), held);
    reopen(&folder).await.unwrap();
}

type Ids = (UserId, DeviceId, RoomId);

async fn newcomer(fixture: &mut Fixture, handle: &str) -> Ids {
    let of = |origin: Origin, command: Command| vec![Envelope { origin, command }];
    let register = account::Register {
        handle: handle.to_owned(),
        name: handle.to_owned(),
        password: String::new(),
        secret_hash: [2; 32],
        device_name: "phone".to_owned(),
        invitation: None,
    };
    let outcome = fixture.batch(of(Origin::Node, register.into())).await.pop().unwrap();
    let Outcome::Accepted(Accepted::Registered { user, device }) = outcome else { panic!("{outcome:?}") };
    let create = group::CreateGroup { name: "club".to_owned(), members: Vec::new() };
    let origin = Origin::Device { device, number: 1, id: [3; 16] };
    let outcome = fixture.batch(of(origin, create.into())).await.pop().unwrap();
    let Outcome::Accepted(Accepted::Room { room, .. }) = outcome else { panic!("{outcome:?}") };
    (user, device, room)
}

#[tokio::test]
async fn ids_that_were_given_after_the_backup_are_not_given_again() {
    let root = tempfile::tempdir().unwrap();
    let (folder, file) = backed_up(root.path()).await;
    let lost = newcomer(&mut Fixture::again(&folder, 2).await, "bob").await;
    restore(&folder, &file).unwrap();
    let mut fixture = Fixture::again(&folder, 3).await;
    let given = newcomer(&mut fixture, "carol").await;
    drop(fixture);
    assert!(given.0 > lost.0 && given.1 > lost.1 && given.2 > lost.2, "{given:?} after {lost:?}");
    assert!(given.0.0 - lost.0.0 >= 1 << 24, "many may have been given");
    // Every node counts on from the same place, however it comes to its view.
    let digest = reopen(&folder).await.unwrap().0;
    fs::remove_dir_all(folder.view()).unwrap();
    assert_eq!(reopen(&folder).await.unwrap().0, digest);
    assert_eq!(verify::offline(&folder, CELL, unwatched()).unwrap().findings, []);
}

/// Killed, or without room, after the log's folder was made and before the log had its name in it.
#[tokio::test]
async fn a_first_start_that_was_cut_off_is_repeated() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().join("data"));
    fs::create_dir_all(folder.log()).unwrap();
    fs::write(folder.log().join("lock"), "").unwrap();
    fs::write(folder.log().join("unfinished"), "half a database").unwrap();
    let mut fixture = Fixture::new(folder.root()).await;
    fixture.say(1).await;
    let (_, digest) = fixture.close();
    assert_eq!(reopen(&folder).await.unwrap(), (digest, None));
    // A log that is gone from its folder is not a first start.
    fs::remove_file(folder.log().join("generation-1.sqlite")).unwrap();
    assert!(matches!(reopen(&folder).await, Err(ieum_node::folder::Error::Log { .. })));
}
