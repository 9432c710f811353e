//! A node's folder made step by step, without threads: batches into the log, applied to the view, snapshots and trims when the test
//! says so.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a fixture that fails fails its test")]

use std::path::Path;
use std::sync::Arc;

use ieum_core::batch::{Batch, Envelope, Header, Origin};
use ieum_core::commands::operate::{AddNode, Tick};
use ieum_core::commands::{Command, LEVEL, account, group, message};
use ieum_core::ids::{DeviceId, Position, RoomId, compose};
use ieum_core::kv::Kv;
use ieum_core::outcome::{Accepted, Outcome};
use ieum_log::sqlite::Sqlite;
use ieum_log::{BatchId, Entry, Log};
use ieum_node::applier::Applier;
use ieum_node::folder::{Folder, Opened};
use ieum_node::leases::Leases;
use ieum_node::progress::unwatched;
use ieum_node::service::Identity;
use ieum_node::{log_position, snapshot, upkeep};
use ieum_store::fjall::{self, Fjall};

pub(crate) const CELL: u16 = 3;

/// The node of all fixtures.
pub(crate) fn identity() -> Identity {
    Identity { node: 1, dc: "a".to_owned(), cell: CELL, key_id: 1, public_key: [1; 32] }
}

pub(crate) struct Fixture {
    pub(crate) folder: Folder,
    pub(crate) log: Arc<Sqlite>,
    applier: Applier<Fjall>,
    number: u64,
    incarnation: u64,
    device: DeviceId,
    said: u64,
    room: RoomId,
}

impl Fixture {
    /// A new cell with one person in one room.
    pub(crate) async fn new(root: &Path) -> Self {
        let folder = Folder::new(root);
        let Opened { log, view, .. } = folder.open(CELL, &fjall::Options::default()).await.unwrap();
        let applier = Applier::new(view, Default::default()).unwrap();
        let mut fixture =
            Self { folder, log, applier, number: 0, incarnation: 1, device: DeviceId(0), said: 0, room: RoomId(0) };
        let node = |command: Command| Envelope { origin: Origin::Node, command };
        let add = AddNode { node: 1, dc: "a".into(), level: LEVEL, cell: CELL };
        let register = account::Register {
            handle: "ann".into(),
            name: "Ann".into(),
            password: String::new(),
            secret_hash: [1; 32],
            device_name: "phone".into(),
            invitation: None,
        };
        let outcomes = fixture.batch(vec![node(add.into()), node(register.into())]).await;
        let Outcome::Accepted(Accepted::Registered { device, .. }) = outcomes[1] else { panic!("{outcomes:?}") };
        fixture.device = device;
        let group = group::CreateGroup { name: "club".into(), members: Vec::new() };
        let outcomes = fixture.as_device(vec![group.into()]).await;
        let Outcome::Accepted(Accepted::Room { room, .. }) = outcomes[0] else { panic!("{outcomes:?}") };
        fixture.room = room;
        fixture
    }

    /// The next life of the node of a cell that [`Fixture::new`] made.
    pub(crate) async fn again(folder: &Folder, incarnation: u64) -> Self {
        let Opened { log, view, .. } = folder.open(CELL, &fjall::Options::default()).await.unwrap();
        let applier = Applier::new(view, Default::default()).unwrap();
        let (device, room) = (DeviceId(compose(CELL, 1)), RoomId(compose(CELL, 1)));
        Self { folder: folder.clone(), log, applier, number: 0, incarnation, device, said: 0, room }
    }

    /// Logs `count` ticks, a batch each.
    pub(crate) async fn ticks(&mut self, count: u64) {
        for _ in 0..count {
            self.batch(vec![Envelope { origin: Origin::Node, command: Tick {}.into() }]).await;
        }
    }

    pub(crate) fn view(&self) -> &Arc<Fjall> {
        self.applier.view()
    }

    /// Appends and applies one batch.
    pub(crate) async fn batch(&mut self, commands: Vec<Envelope>) -> Vec<Outcome> {
        self.number += 1;
        let (incarnation, number) = (self.incarnation, self.number);
        let header = Header { node: 1, incarnation, number, clock: 1_000_000 + number };
        let bytes = Batch { header, commands }.encode();
        let id = BatchId { node: 1, incarnation, number };
        let position = self.log.append(id, bytes.clone()).await.unwrap();
        let effects = self.applier.apply(&Entry { position, id, bytes }).unwrap();
        assert_eq!(effects.alarms, []);
        effects.outcomes
    }

    async fn as_device(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        let mut envelopes = Vec::new();
        for command in commands {
            self.said += 1;
            let id = u128::from(self.said).to_be_bytes();
            envelopes.push(Envelope { origin: Origin::Device { device: self.device, number: self.said, id }, command });
        }
        self.batch(envelopes).await
    }

    /// Says `count` things, a batch each.
    pub(crate) async fn say(&mut self, count: u64) {
        for _ in 0..count {
            let text = format!("message {} {}", self.said, "lorem ipsum ".repeat(20));
            let send = message::Send { room: self.room, text, reply_to: None };
            let outcomes = self.as_device(vec![send.into()]).await;
            assert!(matches!(outcomes[0], Outcome::Accepted(_)), "{outcomes:?}");
        }
    }

    /// Takes a snapshot of the view as it is.
    pub(crate) fn snapshot(&self) -> std::path::PathBuf {
        snapshot::take(self.view().as_ref(), &self.folder.snapshots(), unwatched()).unwrap().1
    }

    /// Trims the log as upkeep does after a snapshot.
    pub(crate) async fn trim(&self) {
        upkeep::trim(self.log.as_ref(), &Leases::new(self.folder.snapshots())).await.unwrap();
    }

    /// A cell with two snapshots, a log trimmed to the older one, and batches behind the newer one; closed, its view persisted.
    pub(crate) async fn grown(root: &Path) -> (Folder, Digest) {
        let mut fixture = Self::new(root).await;
        for _ in 0..3 {
            fixture.say(5).await;
            fixture.snapshot();
            fixture.trim().await;
        }
        fixture.say(5).await;
        assert!(ieum_log::Kept::trimmed(fixture.log.as_ref()).ordinal > 0);
        fixture.close()
    }

    /// Closes everything and tells where it stood.
    pub(crate) fn close(self) -> (Folder, Digest) {
        self.view().persist().unwrap();
        let applied = ieum_core::apply::applied(&self.view().snapshot()).unwrap();
        assert_eq!(log_position(applied.position).generation, 1);
        (self.folder.clone(), applied.digest)
    }
}

pub(crate) type Digest = [u8; 32];

/// Copies the files of a folder into another one.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Puts `instead` in the place of the log.
pub(crate) fn replace_log(folder: &Folder, instead: &Path) {
    std::fs::remove_dir_all(folder.log()).unwrap();
    copy_folder(instead, &folder.log());
}

/// Where the view in the folder of a node that does not run stands.
pub(crate) fn stands_at(view: &Path) -> Position {
    let view = Fjall::open(view, &fjall::Options::default()).unwrap();
    ieum_core::apply::applied(&view.snapshot()).unwrap().position
}

/// Opens the folder as a node does at its start, brings the view up to the log, and gives the digest there.
pub(crate) async fn reopen(folder: &Folder) -> Result<(Digest, Option<String>), ieum_node::folder::Error> {
    let Opened { log, view, rebuilt } = folder.open(CELL, &fjall::Options::default()).await?;
    let mut applier = Applier::new(view, Default::default())?;
    let last = log.last().await.unwrap();
    let mut tail = log.tail(log_position(applier.applied())).await.unwrap();
    while log_position(applier.applied()) < last {
        let entry = ieum_log::Tail::next(&mut tail).await.unwrap();
        applier.apply(&entry).unwrap();
    }
    let digest = ieum_core::apply::applied(&applier.view().snapshot())?.digest;
    Ok((digest, rebuilt))
}
