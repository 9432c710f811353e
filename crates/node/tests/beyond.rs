//! A backup that is brought up with a journal: everything that was acknowledged is there again, or what is not is named.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use common::{CELL, Digest, Fixture, copy_folder, reopen};
use ieum_core::apply::Skips;
use ieum_core::ids::Position;
use ieum_log::Error as LogError;
use ieum_log::sqlite::{Copying, Offline};
use ieum_node::backup::{self, Error};
use ieum_node::beyond::{self, Asked, Brought, Refusal, Whose};
use ieum_node::folder::{Error as FolderError, Folder};
use ieum_node::halt::Halted;
use ieum_node::progress::{Step, Watch, unwatched};
use ieum_node::{log_position, snapshot, verify};
use ieum_store::fjall;

/// A backup, and the log of a cell that went on behind it; its view is lost.
struct Lost {
    root: tempfile::TempDir,
    folder: Folder,
    backup: PathBuf,
    /// Where the backup ends, and the log.
    at: Position,
    end: Position,
    /// Of the view at the end of the log.
    digest: Digest,
}

impl Lost {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::new(&root.path().join("data")).await;
        fixture.say(4).await;
        let backup = root.path().join("backup");
        let at = snapshot::copy(fixture.view().as_ref(), &backup, unwatched()).unwrap().position;
        fixture.say(6).await;
        let (folder, digest) = fixture.close();
        let end = Position { ordinal: at.ordinal + 6, ..at };
        let lost = Self { root, folder, backup, at, end, digest };
        fs::remove_dir_all(lost.folder.view()).unwrap();
        fs::write(lost.folder.root().join("view"), "what the lightning left").unwrap();
        lost
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The journal of a node that shares the log, in a folder of its own. It begins behind `after`.
    fn journal(&self, name: &str, after: u64) -> PathBuf {
        let (log, to) = (Offline::open(self.folder.log(), None).unwrap(), self.path(name));
        let mut copying = Copying::begin(&to, log.meta(), after).unwrap();
        let after = log_position(Position { ordinal: after, ..self.at });
        copying.put(&log.read(after, 1_000).unwrap()).unwrap();
        copying.close().unwrap();
        to
    }

    /// So many batches behind the backup.
    fn behind(&self, count: u64) -> Position {
        Position { ordinal: self.at.ordinal + count, ..self.at }
    }
}

/// What is asked for with the log in `journal`, of a node that is alone.
fn alone<'a>(folder: &'a Folder, backup: &'a Path, journal: &'a Path) -> Asked<'a> {
    Asked { folder, cell: CELL, backup, journal, replace: true, up_to: None, whose: Whose::Alone }
}

fn shared<'a>(folder: &'a Folder, backup: &'a Path, journal: &'a Path) -> Asked<'a> {
    Asked { whose: Whose::Shared(Skips::new()), ..alone(folder, backup, journal) }
}

fn restore(asked: &Asked<'_>) -> Result<Brought, Error> {
    beyond::restore(asked, unwatched())
}

fn refused(asked: &Asked<'_>) -> Refusal {
    match restore(asked) {
        Err(Error::Beyond(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Where a node that halts on this data stands, and with which digest.
async fn stands(folder: &Folder) -> Result<(Position, Option<Digest>), ieum_node::halt::Error> {
    let halted = Halted::open(folder, CELL, 1, &fjall::Options::default(), None).await?;
    let stand = halted.stand().await?;
    Ok((stand.applied, stand.digest))
}

#[tokio::test]
async fn the_log_of_a_node_that_is_alone_brings_a_backup_up_to_its_end() {
    let lost = Lost::new().await;
    let (folder, log) = (&lost.folder, lost.folder.log());
    let occupied = Asked { replace: false, ..alone(folder, &lost.backup, &log) };
    assert!(matches!(restore(&occupied), Err(Error::Occupied(_))));
    // Its data folder will do, too.
    let brought = restore(&alone(folder, &lost.backup, folder.root())).unwrap();
    assert_eq!((brought.from.position, brought.end, brought.last, brought.batches), (lost.at, lost.end, lost.end, 6));
    assert_eq!((&brought.damaged, &brought.torn), (&None, &None));
    assert!(brought.generation.unwrap() > lost.at.generation, "no two lives of a cell have one");
    // The log is where it was moved, as it was.
    let aside = brought.kept_aside.unwrap();
    assert_eq!(Offline::open(aside.join("log"), None).unwrap().last(), log_position(lost.end));
    assert_eq!(reopen(folder).await.unwrap(), (lost.digest, None));
    assert_eq!(verify::offline(folder, CELL, unwatched()).unwrap().findings, []);
    fs::remove_dir_all(folder.view()).unwrap();
    assert_eq!(reopen(folder).await.unwrap().0, lost.digest, "rebuilt");
    // A backup of what there was before follows on into the new generation.
    let mut fixture = Fixture::again(folder, 2).await;
    fixture.ticks(3).await;
    drop(fixture);
    let again = backup::offline(folder, CELL, &lost.path("later"), unwatched()).unwrap();
    let old = snapshot::list(&folder.snapshots()).unwrap().remove(0).1;
    fs::copy(old, lost.path("end")).unwrap();
    let across = restore(&alone(folder, &lost.path("end"), &log)).unwrap();
    assert_eq!((across.from.position, across.end, across.batches), (lost.end, again.position, 3));
    assert_eq!(reopen(folder).await.unwrap().0, again.digest);
}

#[tokio::test]
async fn the_journal_of_a_shared_log_brings_a_backup_up_and_stays_one() {
    let lost = Lost::new().await;
    // One that begins before the backup, right behind it, and with the very batch that it ends with.
    for after in [1, lost.at.ordinal, lost.at.ordinal - 1] {
        let journal = lost.journal(&format!("journal.{after}"), after);
        let folder = Folder::new(lost.path(&format!("data.{after}")));
        let brought = restore(&Asked { replace: false, ..shared(&folder, &lost.backup, &journal) }).unwrap();
        assert_eq!((brought.end, brought.generation, brought.kept_aside), (lost.end, None, None));
        assert_eq!(stands(&folder).await.unwrap(), (lost.end, Some(lost.digest)));
        // Whose view the backup was of is not known: this one has no vote of its own.
        assert_eq!(folder.copied().unwrap(), Some(lost.at));
        // What it can give others who are behind.
        assert_eq!(Offline::open(folder.log(), None).unwrap().first().ordinal, after + 1);
        assert_eq!(verify::offline(&folder, CELL, unwatched()).unwrap().findings, []);
    }
}

#[tokio::test]
async fn a_journal_that_does_not_go_on_from_the_backup_is_refused() {
    let lost = Lost::new().await;
    let folder = Folder::new(lost.path("new"));
    let journal = lost.journal("gap", lost.at.ordinal + 1);
    let begin = Position { ordinal: lost.at.ordinal + 1, ..lost.at };
    let gap = refused(&shared(&folder, &lost.backup, &journal));
    assert!(
        matches!(gap, Refusal::Gap { begin: at, backup, aside: None } if (at, backup) == (begin, lost.at)),
        "{gap}"
    );
    let kind = refused(&alone(&folder, &lost.backup, &journal));
    assert!(matches!(kind, Refusal::OtherKind { is_copy: true, .. }), "{kind}");
    let (cell, log) = (CELL + 1, lost.folder.log());
    let other = refused(&Asked { cell, ..alone(&folder, &lost.backup, &log) });
    assert!(matches!(other, Refusal::OtherCell { found: CELL, .. }), "{other}");
    let late = lost.path("late");
    restore(&alone(&lost.folder, &lost.backup, &log)).unwrap();
    backup::offline(&lost.folder, CELL, &late, unwatched()).unwrap();
    let aside = lost.folder.root().join("before-restore-1");
    let before = refused(&alone(&folder, &late, &aside));
    assert!(matches!(before, Refusal::EndsBefore { .. }), "{before}");
    // The backup does not reach to where the generation began.
    let behind = refused(&alone(&folder, &lost.backup, &log));
    assert!(matches!(behind, Refusal::Gap { begin, aside: None, .. } if begin == lost.end), "{behind}");
    for newest in ["before-restore-1", "before-restore-9", "before-restore-10"] {
        let newest = lost.folder.root().join(newest).join("log");
        if !newest.exists() {
            copy_folder(&aside.join("log"), &newest);
        }
        let missing = refused(&alone(&lost.folder, &lost.backup, &lost.path("nowhere")));
        assert!(matches!(&missing, Refusal::Missing { aside: Some(at), .. } if *at == newest), "{missing}");
    }
    assert!(!folder.root().join("log").exists() && !folder.root().join("restore.unfinished").exists());

    // Two that went on from the same place, which both have a batch where the backup of the one ends.
    let (one, two) = (Folder::new(lost.path("one")), lost.path("two"));
    let mut fixture = Fixture::new(one.root()).await;
    fixture.say(2).await;
    fixture.close();
    copy_tree(one.root(), &two);
    let mut fixture = Fixture::again(&one, 2).await;
    fixture.ticks(3).await;
    drop(fixture);
    backup::offline(&one, CELL, &late, unwatched()).unwrap();
    let mut fixture = Fixture::again(&Folder::new(&two), 3).await;
    fixture.ticks(7).await;
    drop(fixture);
    let history = refused(&alone(&folder, &late, &two));
    assert!(matches!(history, Refusal::OtherHistory { .. }), "{history}");
}

/// Flips a bit in the first place in the file where `wanted` is.
fn flip(file: &Path, wanted: &[u8]) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(wanted.len()).position(|window| window == wanted).unwrap();
    bytes[at + wanted.len() / 2] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_batch_that_is_damaged_within_the_journal_is_not_taken_for_its_end() {
    let lost = Lost::new().await;
    let log = lost.folder.log();
    let entries = Offline::open(&log, None).unwrap().read(log_position(lost.at), 10).unwrap();
    let file = log.join("generation-1.sqlite");
    let whole = fs::read(&file).unwrap();
    flip(&file, &entries[2].bytes);
    let ordinal = |count| lost.behind(count);
    let damaged = refused(&alone(&lost.folder, &lost.backup, &log));
    let Refusal::Damaged { at, sound, last, before, .. } = &damaged else { panic!("{damaged}") };
    assert_eq!([*at, sound.unwrap(), *last, *before], [ordinal(3), ordinal(4), lost.end, ordinal(2)]);
    assert!(damaged.to_string().ends_with(&format!("say --up-to {before}")), "{damaged}");
    // Nothing was moved, and the folder is as it was.
    assert!(log.exists() && !lost.folder.root().join("restore.unfinished").exists());
    for up_to in [ordinal(3), lost.end] {
        let asked = Asked { up_to: Some(up_to), ..alone(&lost.folder, &lost.backup, &log) };
        assert!(matches!(refused(&asked), Refusal::Damaged { .. }));
    }
    let asked = Asked { up_to: Some(ordinal(7)), ..alone(&lost.folder, &lost.backup, &log) };
    assert!(matches!(refused(&asked), Refusal::UpTo { .. }));
    // Less than what the folder itself holds.
    let short = lost.journal("short", lost.at.ordinal - 1);
    let journal = Folder::new(lost.path("node"));
    copy_folder(&short, &journal.log());
    let other = lost.path("other");
    copy_folder(&short, &other);
    flip(&other.join("generation-1.sqlite"), &entries[1].bytes);
    let asked = Asked { up_to: Some(ordinal(1)), ..shared(&journal, &lost.backup, &other) };
    let less = refused(&asked);
    assert!(matches!(less, Refusal::OwnBeyond { at, end, .. } if at > end), "{less}");

    let asked = Asked { up_to: Some(ordinal(2)), ..alone(&lost.folder, &lost.backup, &log) };
    let brought = restore(&asked).unwrap();
    assert_eq!((brought.end, brought.last, brought.damaged), (ordinal(2), lost.end, None));
    reopen(&lost.folder).await.unwrap();
    // What is whole elsewhere gives all.
    let elsewhere = lost.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("generation-1.sqlite"), whole).unwrap();
    restore(&alone(&lost.folder, &lost.backup, &elsewhere)).unwrap();
    assert_eq!(reopen(&lost.folder).await.unwrap().0, lost.digest);
}

#[tokio::test]
async fn an_end_of_several_batches_that_cannot_be_read_is_given_up_only_when_asked() {
    let lost = Lost::new().await;
    let log = lost.folder.log();
    for entry in Offline::open(&log, None).unwrap().read(log_position(lost.behind(4)), 10).unwrap() {
        flip(&log.join("generation-1.sqlite"), &entry.bytes);
    }
    let damaged = refused(&alone(&lost.folder, &lost.backup, &log));
    assert!(damaged.to_string().contains("none of the 2 batches from there on can be read"), "{damaged}");
    let Refusal::Damaged { at, sound, before, .. } = damaged else { panic!("{damaged}") };
    assert_eq!((at, sound, before), (lost.behind(5), None, lost.behind(4)));
    let asked = Asked { up_to: Some(before), ..alone(&lost.folder, &lost.backup, &log) };
    let brought = restore(&asked).unwrap();
    assert_eq!((brought.end, brought.last, brought.damaged), (before, lost.end, None));
}

#[tokio::test]
async fn the_marks_that_were_used_are_kept_with_the_journal() {
    let lost = Lost::new().await;
    let folder = Folder::new(lost.path("new"));
    let [of_etcd, of_journal, later] = [2, 4, 9].map(|count| (lost.behind(count), 0));
    let offline = Offline::open(lost.folder.log(), None).unwrap();
    let journal = lost.path("journal");
    let mut copying = Copying::begin(&journal, offline.meta(), lost.at.ordinal).unwrap();
    // One of another generation has the number of a batch that is not to be skipped.
    let other = (Position { generation: 7, ..lost.behind(1) }, 0);
    copying.keep_skips([of_journal, other].map(|(at, index)| (log_position(at), index))).unwrap();
    copying.put(&offline.read(log_position(lost.at), 10).unwrap()).unwrap();
    copying.close().unwrap();
    drop(offline);
    let marked = Asked { whose: Whose::Shared([of_etcd, later].into()), ..shared(&folder, &lost.backup, &journal) };
    let brought = restore(&marked).unwrap();
    assert_eq!(brought.end, lost.end);
    let kept = Offline::open(folder.log(), None).unwrap().skips().unwrap();
    assert_eq!(kept, [of_etcd, of_journal, later].map(|(at, index)| (log_position(at), index)));
    let (at, digest) = stands(&folder).await.unwrap();
    assert!(at == lost.end && digest != Some(lost.digest), "two commands are skipped");
    assert_eq!(verify::offline(&folder, CELL, unwatched()).unwrap().findings, []);
}

#[tokio::test]
async fn what_was_only_agreed_to_be_skipped_is_not_passed() {
    let lost = Lost::new().await;
    let journal = lost.journal("journal", 1);
    let (agreed, folder) = ((lost.behind(4), 0), Folder::new(lost.path("new")));
    // What the backup has passed was decided before it was made.
    for position in [lost.at, agreed.0] {
        Offline::open(&journal, None).unwrap().agree(log_position(position), 0).unwrap();
    }
    let asked = shared(&folder, &lost.backup, &journal);
    let up_to = |count| Asked { up_to: Some(lost.behind(count)), ..asked.clone() };
    for asked in [&asked, &up_to(4)] {
        let error = restore(asked).unwrap_err();
        let Error::Log(LogError::Held { position, index: 0 }) = error else { panic!("{error}") };
        assert_eq!(position, log_position(agreed.0));
        assert!(!folder.log().exists());
    }
    assert_eq!(restore(&up_to(3)).unwrap().end, lost.behind(3));
    // With etcd's word for it, it is skipped.
    let marked = Asked { whose: Whose::Shared([agreed].into()), ..asked };
    assert_eq!(restore(&marked).unwrap().end, lost.end);
    let log = Offline::open(folder.log(), None).unwrap();
    assert_eq!((log.skips().unwrap(), log.agreed().unwrap()), (vec![(log_position(agreed.0), 0)], vec![]));
    drop(log);
    assert_ne!(stands(&folder).await.unwrap().1, Some(lost.digest));
}

#[tokio::test]
async fn a_damaged_end_is_used_up_to_the_tear() {
    let lost = Lost::new().await;
    let journal = lost.journal("journal", 1);
    let entries = Offline::open(&journal, None).unwrap().read(log_position(lost.at), 10).unwrap();
    flip(&journal.join("generation-1.sqlite"), &entries[5].bytes);
    // What is before the backup is for others alone.
    let first =
        Offline::open(&journal, None).unwrap().read(log_position(Position { ordinal: 1, ..lost.at }), 1).unwrap();
    flip(&journal.join("generation-1.sqlite"), &first[0].bytes);
    let folder = Folder::new(lost.path("new"));
    let brought = restore(&shared(&folder, &lost.backup, &journal)).unwrap();
    let end = Position { ordinal: lost.end.ordinal - 1, ..lost.end };
    assert_eq!((brought.end, brought.last), (end, lost.end));
    assert!(brought.damaged.unwrap().contains("checksum"));
    assert_eq!(stands(&folder).await.unwrap().0, end);
    assert_eq!(Offline::open(folder.log(), None).unwrap().first(), log_position(lost.at));
}

type Harm = fn(&mut Vec<u8>);

#[tokio::test]
async fn a_torn_write_ahead_file_is_noticed_and_kept() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(&root.path().join("data")).await;
    let backup = root.path().join("backup");
    let at = snapshot::copy(fixture.view().as_ref(), &backup, unwatched()).unwrap().position;
    fixture.say(6).await;
    // As a node leaves it that is killed: the batches are in the write-ahead file alone.
    let killed = root.path().join("killed");
    copy_folder(&fixture.folder.log(), &killed);
    let end = Position { ordinal: at.ordinal + 6, ..at };
    let wal = "generation-1.sqlite-wal";
    let length = fs::metadata(killed.join(wal)).unwrap().len();
    let cuts: [(&str, Harm); 5] = [
        ("whole", |_| ()),
        ("flipped", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("cut", |bytes| bytes.truncate(bytes.len() - 5_000)),
        ("salt", |bytes| {
            let frame = 24 + 16 * 1024;
            let at = bytes.len() - 2 * frame + 9;
            bytes[at] ^= 1;
        }),
        ("header", |bytes| bytes[17] ^= 1),
    ];
    for (name, damage) in cuts {
        let journal = root.path().join(name);
        copy_folder(&killed, &journal);
        let mut bytes = fs::read(journal.join(wal)).unwrap();
        damage(&mut bytes);
        fs::write(journal.join(wal), &bytes).unwrap();
        let folder = Folder::new(root.path().join(format!("data of {name}")));
        let restored = restore(&alone(&folder, &backup, &journal));
        let kept = journal.join(format!("{wal}.torn"));
        if name == "whole" {
            let brought = restored.unwrap();
            assert_eq!((brought.end, brought.torn), (end, None));
            assert!(!kept.exists());
            continue;
        }
        assert_eq!(fs::read(&kept).unwrap(), bytes, "{name}");
        if name == "header" {
            // Nothing of it can be used, and what the database holds without it is before the backup.
            assert!(restored.is_err());
            continue;
        }
        let brought = restored.unwrap();
        let torn = brought.torn.unwrap();
        assert_eq!(brought.end, Position { ordinal: end.ordinal - 1, ..end }, "{name}");
        assert!(torn.at > 0 && torn.at < length && torn.kept == kept, "{name}: {torn:?}");
    }
}

/// In the call that there is most cause for: what is given is what is moved aside.
#[tokio::test]
async fn a_tear_in_the_folders_own_log_is_noticed_and_told_of_as_long_as_it_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(&root.path().join("data")).await;
    let backup = root.path().join("backup");
    let at = snapshot::copy(fixture.view().as_ref(), &backup, unwatched()).unwrap().position;
    fixture.say(6).await;
    let wal = "generation-1.sqlite-wal";
    let mut bytes = Vec::new();
    for (name, refusals, by_root) in [("at once", 0, false), ("at once, by its root", 0, true), ("again", 1, false)] {
        let folder = Folder::new(root.path().join(name));
        copy_folder(&fixture.folder.log(), &folder.log());
        bytes = fs::read(folder.log().join(wal)).unwrap();
        bytes.truncate(bytes.len() - 5_000);
        fs::write(folder.log().join(wal), &bytes).unwrap();
        let journal = if by_root { folder.root().to_owned() } else { folder.log() };
        let asked = alone(&folder, &backup, &journal);
        for _ in 0..refusals {
            let beyond = Asked { up_to: Some(Position { ordinal: at.ordinal + 7, ..at }), ..asked.clone() };
            assert!(matches!(refused(&beyond), Refusal::UpTo { .. }));
        }
        let brought = restore(&asked).unwrap();
        assert_eq!(brought.end.ordinal, at.ordinal + 5, "{name}");
        let kept = brought.kept_aside.unwrap().join("log").join(format!("{wal}.torn"));
        let torn = brought.torn.unwrap();
        assert_eq!((torn.kept, torn.length), (kept.clone(), bytes.len() as u64), "{name}");
        assert_eq!(fs::read(kept).unwrap(), bytes, "{name}");
    }
    // The folder's own journal is read also when another one is given, and moved aside.
    let folder = Folder::new(root.path().join("other"));
    copy_folder(&fixture.folder.log(), &folder.log());
    fs::write(folder.log().join(wal), &bytes).unwrap();
    let whole = root.path().join("whole");
    copy_folder(&fixture.folder.log(), &whole);
    let brought = restore(&alone(&folder, &backup, &whole)).unwrap();
    assert_eq!((brought.end.ordinal, brought.torn), (at.ordinal + 6, None));
    let kept = brought.kept_aside.unwrap().join("log").join(format!("{wal}.torn"));
    assert_eq!(fs::read(kept).unwrap(), bytes);
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() { copy_tree(&from, &to) } else { assert!(fs::copy(from, to).is_ok()) }
    }
}

/// Copies the data folder at every step of `work`, as SIGKILL would leave it.
fn killed_at_every_step(folder: &Folder, to: &Path, work: impl FnOnce(Watch<'_>)) -> Vec<(String, Folder)> {
    let killed = Mutex::new(Vec::new());
    work(&|Step { what, done, .. }| {
        let mut killed = killed.lock().unwrap();
        let copy = to.join(format!("killed.{}", killed.len()));
        copy_tree(folder.root(), &copy);
        killed.push((format!("{what} {done}"), Folder::new(copy)));
    });
    killed.into_inner().unwrap()
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_what_no_node_starts_on_and_is_done_again() {
    let lost = Lost::new().await;
    let journal = lost.journal("journal", 1);
    let killed = killed_at_every_step(&lost.folder, &lost.path("alone"), |watch| {
        drop(beyond::restore(&alone(&lost.folder, &lost.backup, &lost.folder.log()), watch).unwrap());
    });
    let steps: Vec<_> = killed.iter().map(|(step, _)| step.as_str()).collect();
    for step in
        ["batches applied 6", "files and folders moved aside 1", "folders put in place 1", "folders put in place 3"]
    {
        assert!(steps.contains(&step), "{steps:?}");
    }
    for (step, folder) in &killed {
        let error = reopen(folder).await.unwrap_err();
        assert!(matches!(error, FolderError::Unfinished { .. }), "{step}: {error}");
        assert!(verify::offline(folder, CELL, unwatched()).is_err(), "{step}");
        let aside = folder.root().join("before-restore-1/log");
        // The same once more may be of no use by then: it says where the journal is, and what the first one was cut off at stays known.
        let again = aside.exists().then(|| refused(&alone(folder, &lost.backup, &folder.log())));
        if let Some(again) = again {
            let named = match &again {
                Refusal::Gap { aside, .. } | Refusal::Missing { aside, .. } => aside.as_ref(),
                _ => None,
            };
            assert_eq!(named, Some(&aside), "{step}: {again}");
            let error = reopen(folder).await.unwrap_err();
            assert!(matches!(error, FolderError::Unfinished { .. }), "{step}: {error}");
        }
        let log = if aside.exists() { aside } else { folder.log() };
        let brought = restore(&alone(folder, &lost.backup, &log)).unwrap();
        assert_eq!(brought.end, lost.end, "{step}");
        assert_eq!(reopen(folder).await.unwrap().0, lost.digest, "{step}");
    }

    let other = Folder::new(lost.path("shared"));
    for replace in [false, true] {
        let killed = killed_at_every_step(&other, &lost.path(&format!("shared.{replace}")), |watch| {
            drop(beyond::restore(&Asked { replace, ..shared(&other, &lost.backup, &journal) }, watch).unwrap());
        });
        // The very first is before there is any folder.
        for (step, folder) in killed.iter().filter(|(_, folder)| folder.root().join("restore.unfinished").exists()) {
            let error = stands(folder).await.unwrap_err();
            assert!(error.to_string().contains("no node starts here"), "{step}: {error}");
            restore(&shared(folder, &lost.backup, &journal)).unwrap();
            assert_eq!(stands(folder).await.unwrap(), (lost.end, Some(lost.digest)), "{step}");
        }
        assert!(killed.len() > 4);
    }
}

/// So does one without a journal, and it is known at each step how far the data reaches that would leave the cell with it.
#[tokio::test]
async fn a_plain_restore_that_is_killed_is_done_again() {
    let lost = Lost::new().await;
    let killed = killed_at_every_step(&lost.folder, &lost.path("killed"), |watch| {
        drop(backup::restore(&lost.folder, &lost.backup, true, watch).unwrap());
    });
    assert!(killed.len() > 4);
    for (step, folder) in &killed {
        assert!(matches!(reopen(folder).await, Err(FolderError::Unfinished { .. })), "{step}");
        let reaches = backup::reaches(folder).unwrap();
        assert!(!matches!(reaches, backup::Reaches::Unknown(_)), "{step}: {reaches:?}");
        let restored = backup::restore(folder, &lost.backup, true, unwatched()).unwrap();
        assert_eq!(restored.from.position, lost.at, "{step}");
        reopen(folder).await.unwrap();
    }
}
