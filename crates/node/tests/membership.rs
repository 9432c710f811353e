//! A cell ignores what a node appends that is no member: such a node does not start, and one that is removed tells who waits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::identity;
use ieum_core::batch::{Batch, Envelope, Header, Origin};
use ieum_core::commands::operate::{AddNode, RemoveNode, Tick};
use ieum_core::commands::{Command, LEVEL};
use ieum_core::outcome::{Accepted, Outcome};
use ieum_log::memory::Memory as MemoryLog;
use ieum_log::{BatchId, Log};
use ieum_node::folder::Folder;
use ieum_node::machine::Delivery;
use ieum_node::service::{Identity, Node, Options, StartError};
use ieum_store::Memory;
use tokio::sync::mpsc::{self, UnboundedReceiver};

type Running = Node<MemoryLog, Memory, u32>;
/// What a ticket came back with; nothing when its command will never have an outcome.
type Answers = UnboundedReceiver<(u32, Option<Outcome>)>;

async fn start(log: &Arc<MemoryLog>, view: &Arc<Memory>, identity: Identity) -> Result<(Running, Answers), StartError> {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(identity, &Folder::new(folder.path()));
    let (answers, answered) = mpsc::unbounded_channel();
    let deliver = move |Delivery { replies, unanswered, .. }: Delivery<u32>| {
        let known = replies.into_iter().map(|(ticket, outcome)| (ticket, Some(outcome)));
        // Who asked may have ended.
        known.chain(unanswered.into_iter().map(|ticket| (ticket, None))).for_each(|answer| drop(answers.send(answer)));
    };
    Ok((Node::start(Arc::clone(log), Arc::clone(view), options, deliver).await?, answered))
}

fn own(command: impl Into<Command>) -> Envelope {
    Envelope { origin: Origin::Node, command: command.into() }
}

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_the_cell_does_not_know_does_not_start() {
    let (log, view) = (Arc::new(MemoryLog::new(1)), Arc::new(Memory::new()));
    let (node, mut answers) = start(&log, &view, identity()).await.unwrap();
    node.handle().submit(&own(Tick {}), 7).unwrap();
    assert_eq!(answers.recv().await.unwrap(), (7, Some(Outcome::Accepted(Accepted::Done))));
    node.stop(PATIENCE).await;
    let Err(error) = start(&log, &view, Identity { node: 2, ..identity() }).await else { panic!("it started") };
    assert!(matches!(&error, StartError::NotAMember { node: 2, members } if *members == [1]), "{error}");
    assert!(error.to_string().contains("[node] number"), "{error}");
    // The one that it knows goes on, and may let it in.
    let (node, mut answers) = start(&log, &view, identity()).await.unwrap();
    let add = AddNode { node: 2, dc: "a".to_owned(), level: LEVEL, cell: common::CELL };
    node.handle().submit(&own(add), 8).unwrap();
    assert_eq!(answers.recv().await.unwrap(), (8, Some(Outcome::Accepted(Accepted::Done))));
    node.stop(PATIENCE).await;
    start(&log, &view, Identity { node: 2, ..identity() }).await.unwrap().0.stop(PATIENCE).await;
}

/// Also where the log has nothing more to say that this would be found at.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_does_not_start_on_a_view_of_a_level_that_it_does_not_know() {
    let (log, view) = (Arc::new(MemoryLog::new(1)), Arc::new(Memory::new()));
    let (node, _answers) = start(&log, &view, identity()).await.unwrap();
    node.handle().begun().await;
    node.stop(PATIENCE).await;
    let end = log.last().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = Options { known: LEVEL - 1, ..Options::new(identity(), &Folder::new(folder.path())) };
    let started = Node::start(Arc::clone(&log), Arc::clone(&view), options, |_: Delivery<u32>| ()).await;
    let Err(error) = started else { panic!("it started") };
    assert!(matches!(error, StartError::Level { cell: LEVEL, known } if known == LEVEL - 1), "{error}");
    assert_eq!(log.last().await.unwrap(), end, "it wrote nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_batch_that_was_skipped_is_told() {
    let (log, view) = (Arc::new(MemoryLog::new(1)), Arc::new(Memory::new()));
    let (node, mut answers) = start(&log, &view, identity()).await.unwrap();
    let add = AddNode { node: 2, dc: "a".to_owned(), level: LEVEL, cell: common::CELL };
    node.handle().submit(&own(add), 1).unwrap();
    assert_eq!(answers.recv().await.unwrap(), (1, Some(Outcome::Accepted(Accepted::Done))));
    let header = Header { node: 2, incarnation: 1, number: 1, clock: 0 };
    let remove = Batch { header, commands: vec![own(RemoveNode { node: 1 })] };
    log.append(BatchId { node: 2, incarnation: 1, number: 1 }, remove.encode()).await.unwrap();
    node.handle().submit(&own(Tick {}), 2).unwrap();
    assert_eq!(answers.recv().await.unwrap(), (2, None));
    assert!(node.handle().alarms().not_members > 0);
    node.stop(Duration::ZERO).await;
}

/// The log takes what it appends, as that of etcd does when a node registers after it was removed: it stops before it looks ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_removed_while_it_starts_stops() {
    let log = Arc::new(MemoryLog::new(1));
    let (first, mut answers) = start(&log, &Arc::new(Memory::new()), identity()).await.unwrap();
    let add = AddNode { node: 2, dc: "b".to_owned(), level: LEVEL, cell: common::CELL };
    first.handle().submit(&own(add), 1).unwrap();
    assert_eq!(answers.recv().await.unwrap(), (1, Some(Outcome::Accepted(Accepted::Done))));
    let second = Identity { node: 2, dc: "b".to_owned(), ..identity() };
    let (second, mut told) = start(&log, &Arc::new(Memory::new()), second).await.unwrap();
    second.handle().begun().await;
    first.handle().submit(&own(RemoveNode { node: 2 }), 2).unwrap();
    assert_eq!(answers.recv().await.unwrap(), (2, Some(Outcome::Accepted(Accepted::Done))));
    second.handle().submit(&own(Tick {}), 3).unwrap();
    while told.recv().await.unwrap() != (3, None) {}
    let failure = second.handle().failure().unwrap();
    assert!(failure.contains("node 2 is no member of the cell") && failure.contains("ieum node add"), "{failure}");
    second.stop(Duration::ZERO).await;
    first.stop(PATIENCE).await;
}
