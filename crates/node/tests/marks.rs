//! An operator's marks: a marked command is skipped by the node and by whoever checks it, and no view that has passed is contradicted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;

use common::{CELL, Fixture, identity};
use ieum_core::batch::{Batch, Envelope, Header, Origin};
use ieum_core::commands::account::Register;
use ieum_core::ids::Position;
use ieum_core::kv::Kv;
use ieum_core::tables::accounts::HANDLES;
use ieum_log::{BatchId, Log};
use ieum_node::folder::{Folder, Opened};
use ieum_node::machine::Delivery;
use ieum_node::marks::{self, Error, mark};
use ieum_node::progress::unwatched;
use ieum_node::service::{Node, Options};
use ieum_node::{core_position, snapshot, verify};
use ieum_store::fjall;

fn register(handle: &str) -> Envelope {
    let register = Register {
        handle: handle.to_owned(),
        name: handle.to_owned(),
        password: String::new(),
        secret_hash: [1; 32],
        device_name: "phone".to_owned(),
        invitation: None,
    };
    Envelope { origin: Origin::Node, command: register.into() }
}

/// A batch of three registrations that is in the log and was not applied.
async fn logged(folder: &Folder) -> Position {
    let Opened { log, .. } = folder.open(CELL, &fjall::Options::default()).await.unwrap();
    let id = BatchId { node: 1, incarnation: 2, number: 1 };
    let header = Header { node: 1, incarnation: 2, number: 1, clock: 2_000_000 };
    let commands = ["one", "two", "three"].map(register).to_vec();
    core_position(log.append(id, Batch { header, commands }.encode()).await.unwrap())
}

/// Lets a node come up over the folder and stop again.
async fn run_a_node(folder: &Folder) {
    let Opened { log, view, .. } = folder.open(CELL, &fjall::Options::default()).await.unwrap();
    let options = Options::new(identity(), folder);
    let node = Node::start(log, view, options, |_: Delivery<()>| {}).await.unwrap();
    drop(node.stop(std::time::Duration::from_secs(60)).await);
}

fn known(folder: &Folder, handle: &str) -> bool {
    let view = fjall::Fjall::open(folder.view(), &fjall::Options::default()).unwrap();
    HANDLES.has(&view.snapshot(), &handle.to_owned()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marked_command_is_skipped_by_the_node_and_by_the_check() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path()).await;
    fixture.say(3).await;
    let (folder, _) = fixture.close();
    let position = logged(&folder).await;
    let marked = mark(&folder, CELL, position, 1).unwrap();
    assert_eq!((marked.command, marked.of, marked.before), ("Register", 3, false));
    assert!(mark(&folder, CELL, position, 1).unwrap().before);
    assert_eq!(marks::list(&folder, CELL).unwrap(), [(position, 1)]);
    run_a_node(&folder).await;
    assert_eq!(["one", "two", "three"].map(|handle| known(&folder, handle)), [true, false, true]);
    assert_eq!(verify::offline(&folder, CELL, unwatched()).unwrap().findings, []);
    // A view that is rebuilt from the log skips it too.
    std::fs::remove_dir_all(folder.view()).unwrap();
    run_a_node(&folder).await;
    assert!(!known(&folder, "two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_view_has_passed_cannot_be_marked() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path()).await;
    fixture.say(3).await;
    let running = mark(&fixture.folder, CELL, Position::new(1, 1), 0);
    assert!(matches!(running, Err(Error::Log(_))), "{running:?}");
    let (folder, _) = fixture.close();
    let position = logged(&folder).await;
    let before = Position { ordinal: position.ordinal - 1, ..position };
    let refused = mark(&folder, CELL, before, 0);
    assert!(matches!(refused, Err(Error::Passed { what: "view", at, .. }) if at == before), "{refused:?}");
    let refused = mark(&folder, CELL, position, 3);
    assert!(matches!(refused, Err(Error::Index { count: 3, .. })), "{refused:?}");
    for beyond in [Position { ordinal: position.ordinal + 1, ..position }, Position::new(2, 1)] {
        assert!(matches!(mark(&folder, CELL, beyond, 0), Err(Error::Log(_))), "{beyond}");
    }
    run_a_node(&folder).await;
    assert!(matches!(mark(&folder, CELL, position, 0), Err(Error::Passed { what: "view", .. })));
    // A snapshot remembers it when the view does not.
    let view = Arc::new(fjall::Fjall::open(folder.view(), &fjall::Options::default()).unwrap());
    snapshot::take(view.as_ref(), &folder.snapshots(), unwatched()).unwrap();
    drop(view);
    std::fs::remove_dir_all(folder.view()).unwrap();
    assert!(matches!(mark(&folder, CELL, position, 0), Err(Error::Passed { what: "snapshot", .. })));
    std::fs::remove_dir_all(folder.snapshots()).unwrap();
    assert!(matches!(mark(&folder, CELL, position, 0), Err(Error::NoView)));
    assert_eq!(marks::list(&folder, CELL).unwrap(), []);
}
