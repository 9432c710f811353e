//! Several nodes over one log, each with its journal: one order, one view, whoever comes and goes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{CELL, identity};
use ieum_core::apply::applied;
use ieum_core::batch::{Batch, Envelope, Header, Origin};
use ieum_core::commands::account::Register;
use ieum_core::commands::operate::{AddNode, RemoveNode};
use ieum_core::commands::{Command, LEVEL};
use ieum_core::ids::Position;
use ieum_core::kv::Kv;
use ieum_core::outcome::{Accepted, Outcome, Reject};
use ieum_core::tables::accounts::HANDLES;
use ieum_core::tables::cell::{Applied, NODES};
use ieum_log::journaled::{Journaled, Settled};
use ieum_log::memory::Memory as Shared;
use ieum_log::sqlite::{Journal, Meta, Predecessor};
use ieum_log::{BatchId, Entry, Error as LogError, Log, Skip, Tail as _};
use ieum_node::folder::{self, Folder, Opened};
use ieum_node::halt::{self, Halted, Stand};
use ieum_node::machine::Delivery;
use ieum_node::marks::{self, Before};
use ieum_node::progress::unwatched;
use ieum_node::service::{self, Handle, Identity, Node, Options, StartError};
use ieum_node::{backup, core_position, log_position, snapshot, verify};
use ieum_store::fjall::Fjall;
use tempfile::TempDir;
use tokio::sync::mpsc::{self, UnboundedReceiver};

const PATIENCE: Duration = Duration::from_secs(60);
const ABOUT: Meta = Meta { cell: CELL as u32, generation: 1, predecessor: None };

struct Member {
    node: Node<Journaled<Shared>, Fjall, u32>,
    /// What a ticket came back with; nothing when its command will never have an outcome.
    outcomes: UnboundedReceiver<(u32, Option<Outcome>)>,
}

#[derive(Debug)]
enum Refusal {
    Folder(folder::Error),
    Start(StartError),
    /// Its view has passed a mark.
    Passed(Skip),
}

struct Cell {
    log: Arc<Shared>,
    about: Meta,
    root: TempDir,
}

impl Cell {
    fn new() -> Self {
        Self { log: Arc::new(Shared::new(1)), about: ABOUT, root: tempfile::tempdir().unwrap() }
    }

    fn data(&self, number: u32) -> PathBuf {
        self.root.path().join(number.to_string())
    }

    async fn try_start(&self, number: u32) -> Result<Member, Refusal> {
        let folder = Folder::new(self.data(number));
        let opened = folder.open_shared(&self.about, Arc::clone(&self.log), &Default::default()).await;
        let Opened { log, view, .. } = opened.map_err(Refusal::Folder)?;
        let skips = match settle(&log, &view).await.map_err(|error| Refusal::Start(error.into()))? {
            Settled::Skips(marks) => Some(ieum_node::skips(&marks)),
            Settled::Passed(mark) => return Err(Refusal::Passed(mark)),
        };
        let identity = Identity { node: number, dc: number.to_string(), key_id: number.into(), ..identity() };
        let options = Options { founds: number == 1, skips, ..Options::new(identity, &folder) };
        let (answers, outcomes) = mpsc::unbounded_channel();
        let deliver = move |Delivery { replies, unanswered, .. }: Delivery<u32>| {
            let known = replies.into_iter().map(|(ticket, outcome)| (ticket, Some(outcome)));
            // Who asked may have ended.
            known.chain(unanswered.into_iter().map(|ticket| (ticket, None))).for_each(|told| drop(answers.send(told)));
        };
        let node = Node::start(log, view, options, deliver).await.map_err(Refusal::Start)?;
        Ok(Member { node, outcomes })
    }

    /// The data of a member that does not run.
    async fn halted(&self, number: u32, up_to: Option<Position>) -> Halted {
        let folder = Folder::new(self.data(number));
        let generation = self.about.generation;
        Halted::open(&folder, CELL, generation, &Default::default(), up_to).await.unwrap()
    }

    async fn start(&self, number: u32) -> Member {
        self.try_start(number).await.unwrap_or_else(|refusal| panic!("node {number} did not start: {refusal:?}"))
    }

    /// Three members that run.
    async fn of_three() -> (Self, [Member; 3]) {
        let cell = Self::new();
        let mut first = cell.start(1).await;
        for node in [2, 3] {
            assert_eq!(first.ask(add(node)).await, Outcome::Accepted(Accepted::Done));
        }
        let members = [first, cell.start(2).await, cell.start(3).await];
        (cell, members)
    }

    /// Three nodes that have stopped, the first after two people more.
    async fn with_the_first_ahead() -> Self {
        let (cell, [mut first, second, third]) = Self::of_three().await;
        for member in [second, third] {
            member.stop().await;
        }
        for handle in ["ann", "ben"] {
            assert!(accepted(&first.ask(register(handle)).await));
        }
        first.stop().await;
        cell
    }
}

impl Member {
    fn handle(&self) -> Handle<Fjall, u32> {
        self.node.handle()
    }

    async fn ask(&mut self, command: impl Into<Command>) -> Outcome {
        self.handle().submit(&Envelope { origin: Origin::Node, command: command.into() }, 0).expect("it is taken");
        let (_, outcome) = self.outcomes.recv().await.expect("the node runs");
        outcome.expect("an outcome")
    }

    async fn stop(self) {
        drop(self.node.stop(PATIENCE).await);
    }
}

async fn settle(log: &Journaled<Shared>, view: &Fjall) -> ieum_log::Result<Settled> {
    log.settle(log_position(applied(&view.snapshot()).unwrap().position)).await
}

fn add(node: u32) -> AddNode {
    AddNode { node, dc: node.to_string(), level: ieum_core::commands::LEVEL, cell: CELL }
}

fn register(handle: &str) -> Register {
    Register {
        handle: handle.into(),
        name: handle.into(),
        password: String::new(),
        secret_hash: [1; 32],
        device_name: "phone".into(),
        invitation: None,
    }
}

/// Brings the views of stopped members to the log's end and gives where each stands: with the digest of all that came before.
async fn ends(cell: &Cell, numbers: &[u32]) -> Vec<Applied> {
    let mut ends = Vec::new();
    for number in numbers {
        let folder = Folder::new(cell.data(*number));
        let opened = folder.open_shared(&cell.about, Arc::clone(&cell.log), &Default::default()).await.unwrap();
        let Settled::Skips(marks) = settle(&opened.log, &opened.view).await.unwrap() else { panic!("node {number}") };
        let skips = Some(ieum_node::skips(&marks));
        service::catch_up(opened.log.as_ref(), Arc::clone(&opened.view), LEVEL, skips.as_ref()).await.unwrap();
        ends.push(applied(&opened.view.snapshot()).unwrap());
        drop(opened);
        assert_eq!(verify::offline(&folder, CELL, unwatched()).unwrap().findings, []);
    }
    ends
}

fn accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_takes_every_node_has() {
    let (cell, mut members) = Cell::of_three().await;
    for (member, handle) in members.iter_mut().zip(["ann", "ben", "cleo"]) {
        assert!(accepted(&member.ask(register(handle)).await));
    }
    assert_eq!(members[0].ask(register("cleo")).await, Outcome::Rejected(Reject::HandleTaken), "taken at another node");
    let position = members[0].handle().applied();
    for member in &members {
        member.handle().reach(position).await;
        let view = member.handle().view();
        for handle in ["ann", "ben", "cleo"] {
            assert!(HANDLES.get(&view, &handle.to_owned()).unwrap().is_some());
        }
    }
    for member in members {
        member.stop().await;
    }
    let ends = ends(&cell, &[1, 2, 3]).await;
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
}

/// Three stopped nodes, and behind what they have applied a batch of two registrations.
async fn stopped_before_a_batch() -> (Cell, Position) {
    let (cell, members) = Cell::of_three().await;
    for member in members {
        member.stop().await;
    }
    // Some have stopped before others.
    ends(&cell, &[1, 2, 3]).await;
    let (node, incarnation, number) = (1, 1_000, 1);
    let header = Header { node, incarnation, number, clock: 2_000_000 };
    let commands = ["one", "two"].map(|handle| Envelope { origin: Origin::Node, command: register(handle).into() });
    let bytes = Batch { header, commands: commands.to_vec() }.encode();
    let position = cell.log.append(BatchId { node, incarnation, number }, bytes).await.unwrap();
    (cell, core_position(position))
}

fn before(cell: &Cell, number: u32, position: Position) -> Result<Before, marks::Error> {
    Before::open(&Folder::new(cell.data(number)), CELL, position)
}

/// Of the two registrations, who is known to a node that starts.
async fn registered(cell: &Cell, number: u32) -> [bool; 2] {
    let member = cell.start(number).await;
    let view = member.handle().view();
    let known = ["one", "two"].map(|handle| HANDLES.has(&view, &handle.to_owned()).unwrap());
    member.stop().await;
    known
}

/// Also when the view is rebuilt without the log that has the mark.
#[tokio::test(flavor = "multi_thread")]
async fn every_node_skips_what_is_marked_however_it_comes_past_it() {
    let (cell, position) = stopped_before_a_batch().await;
    for number in [1, 2, 3] {
        let mut before = before(&cell, number, position).unwrap();
        assert_eq!(before.members(), Some(&[1, 2, 3][..]));
        before.agree(1).unwrap();
    }
    cell.log.skip(log_position(position), 1).await.unwrap();
    for number in [1, 2, 3] {
        assert_eq!(registered(&cell, number).await, [true, false], "node {number}");
    }
    let end = ends(&cell, &[1, 2, 3]).await;
    assert!(end.iter().all(|at| *at == end[0]), "{end:?}");
    let folder = Folder::new(cell.data(2));
    std::fs::remove_dir_all(folder.view()).unwrap();
    let file = cell.root.path().join("backup");
    assert_eq!(backup::offline(&folder, CELL, &file, unwatched()).unwrap().digest, end[0].digest);
    std::fs::remove_dir_all(folder.view()).unwrap();
    assert_eq!(cell.halted(2, None).await.stand().await.unwrap().digest, Some(end[0].digest));
    // A node that was not there when it was marked.
    std::fs::remove_dir_all(cell.data(3)).unwrap();
    assert_eq!(registered(&cell, 3).await, [true, false]);
    let folder = Folder::new(cell.data(3));
    std::fs::remove_dir_all(folder.view()).unwrap();
    let end = ends(&cell, &[1]).await;
    assert_eq!(backup::offline(&folder, CELL, &file.with_extension("3"), unwatched()).unwrap().digest, end[0].digest);
    std::fs::remove_dir_all(folder.view()).unwrap();
    assert_eq!(cell.halted(3, None).await.stand().await.unwrap().digest, Some(end[0].digest));
}

/// Else it might apply the command just before the last of the others agrees.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_agreed_to_skip_a_command_starts_when_it_is_marked_and_not_before() {
    let (cell, position) = stopped_before_a_batch().await;
    before(&cell, 1, position).unwrap().agree(1).unwrap();
    for _ in 0..2 {
        let refused = cell.try_start(1).await.err();
        let Some(Refusal::Start(StartError::Log(error))) = refused else { panic!("{refused:?}") };
        assert!(matches!(error, LogError::Held { position: at, index: 1 } if core_position(at) == position), "{error}");
    }
    let mut held = before(&cell, 1, position).unwrap();
    held.disagree(1).unwrap();
    drop(held);
    assert_eq!(registered(&cell, 1).await, [true, true]);
    let passed = before(&cell, 1, position).err();
    assert!(matches!(passed, Some(marks::Error::Passed { what: "view", .. })), "{passed:?}");
    // Its view is further back, so that others may have joined or left when the batch is applied.
    let later = Position { ordinal: position.ordinal + 1, ..position };
    assert_eq!(before(&cell, 2, later).unwrap().members(), None);
}

/// An operator has marked it without asking this node.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_has_passed_a_mark_unknown_to_it_is_found_and_no_other() {
    let (cell, position) = stopped_before_a_batch().await;
    before(&cell, 1, position).unwrap().agree(1).unwrap();
    assert_eq!(registered(&cell, 3).await, [true, true]);
    cell.log.skip(log_position(position), 1).await.unwrap();
    assert_eq!(registered(&cell, 1).await, [true, false]);
    let mark = (log_position(position), 1);
    for (number, found) in [(1, None), (2, None), (3, Some(mark))] {
        let folder = Folder::new(cell.data(number));
        let opened = folder.open_shared(&cell.about, Arc::clone(&cell.log), &Default::default()).await.unwrap();
        let passed = match settle(&opened.log, &opened.view).await.unwrap() {
            Settled::Skips(marks) => (marks != [mark]).then_some(mark),
            Settled::Passed(mark) => Some(mark),
        };
        assert_eq!(passed, found, "node {number}");
    }
}

/// An operator has marked it without asking this node, which runs.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_a_running_node_for_marks_does_not_hide_what_it_passed() {
    let (cell, position) = stopped_before_a_batch().await;
    let folder = Folder::new(cell.data(2));
    let opened = folder.open_shared(&cell.about, Arc::clone(&cell.log), &Default::default()).await.unwrap();
    let Settled::Skips(none) = settle(&opened.log, &opened.view).await.unwrap() else { panic!("nothing is marked") };
    let mark = (log_position(position), 1);
    cell.log.skip(mark.0, mark.1).await.unwrap();
    // What it goes by is what its journal knows, from its first batch to its last.
    let skips = Some(ieum_node::skips(&none));
    let Opened { log, view, .. } = opened;
    service::catch_up(log.as_ref(), Arc::clone(&view), LEVEL, skips.as_ref()).await.unwrap();
    let identity = Identity { node: 2, dc: "2".to_owned(), key_id: 2, ..identity() };
    let options = Options { founds: false, skips, ..Options::new(identity, &folder) };
    let node = Node::start(Arc::clone(&log), Arc::clone(&view), options, |_: Delivery<u32>| {}).await.unwrap();
    assert!(HANDLES.has(&node.handle().view(), &"two".to_owned()).unwrap(), "it did not know");
    assert_eq!(log.skips().await.unwrap(), [mark], "as a check of the running node asks");
    drop(node.stop(PATIENCE).await);
    drop((log, view));
    let refused = cell.try_start(2).await.err();
    assert!(matches!(refused, Some(Refusal::Passed(passed)) if passed == mark), "{refused:?}");
}

/// The others may have gone on with it, or without.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_alone_agreed_to_skip_is_neither_skipped_nor_applied() {
    let (cell, position) = stopped_before_a_batch().await;
    let behind = Position { ordinal: position.ordinal - 1, ..position };
    let folder = Folder::new(cell.data(1));
    let opened = folder.open_shared(&cell.about, Arc::clone(&cell.log), &Default::default()).await.unwrap();
    // The journal has it.
    opened.log.tail(log_position(behind)).await.unwrap().next().await.unwrap();
    drop(opened);
    before(&cell, 1, position).unwrap().agree(1).unwrap();
    assert_eq!(registered(&cell, 2).await, [true, true]);
    let file = cell.root.path().join("backup");
    for _ in 0..2 {
        let refused = backup::offline(&folder, CELL, &file, unwatched()).unwrap_err();
        let said = ieum_node::chain(&refused);
        assert!(said.contains(&format!("ieum log skip {position} 1 --take-back")), "{said}");
        assert!(!file.exists());
        assert_eq!(before(&cell, 1, position).unwrap().stands(), behind);
    }
    assert_eq!(verify::offline(&folder, CELL, unwatched()).unwrap().findings, []);
    let (halted, other) = (cell.halted(1, None).await, cell.halted(2, None).await);
    assert_eq!(halted.stand().await.unwrap().applied, behind);
    let refused = level(&halted, &other).await;
    assert!(matches!(refused, Err(halt::Error::Journal(LogError::Held { index: 1, .. }))), "{refused:?}");
    assert_eq!(halted.stand().await.unwrap().applied, behind);
    drop((halted, other));
    before(&cell, 1, position).unwrap().disagree(1).unwrap();
    backup::offline(&folder, CELL, &file, unwatched()).unwrap();
    assert_eq!(registered(&cell, 1).await, [true, true]);
    let end = ends(&cell, &[1, 2]).await;
    assert_eq!(end[0], end[1]);
}

/// It was left out, and stands before the command.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_that_is_told_of_a_mark_skips_the_command_without_the_log() {
    let (cell, position) = stopped_before_a_batch().await;
    cell.log.skip(log_position(position), 1).await.unwrap();
    let folder = Folder::new(cell.data(1));
    let opened = folder.open_shared(&cell.about, Arc::clone(&cell.log), &Default::default()).await.unwrap();
    let behind = Position { ordinal: position.ordinal - 1, ..position };
    opened.log.tail(log_position(behind)).await.unwrap().next().await.unwrap();
    drop(opened);
    // One that had agreed, and then hears of it, too.
    before(&cell, 1, position).unwrap().agree(1).unwrap();
    before(&cell, 1, position).unwrap().keep(1).unwrap();
    let made = backup::offline(&folder, CELL, &cell.root.path().join("backup"), unwatched()).unwrap();
    assert_eq!(made.position, position);
    assert_eq!(ends(&cell, &[2]).await, [Applied { position, digest: made.digest }]);
    assert_eq!(registered(&cell, 1).await, [true, false]);
}

/// What it has is evidence, and wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_view_differs_starts_again_only_when_its_data_was_set_aside() {
    let (cell, [first, second, mut third]) = Cell::of_three().await;
    assert!(accepted(&third.ask(register("ann")).await));
    third.stop().await;
    let folder = Folder::new(cell.data(3));
    folder.mark_differing("at 1.32 it has 07, nodes 1 and 2 have 08").unwrap();
    folder.mark_differing("what is found later").unwrap();
    let refused = cell.try_start(3).await.err();
    let Some(Refusal::Folder(error @ folder::Error::Differs { .. })) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains("nodes 1 and 2 have 08") && error.to_string().contains("`ieum node resync`"));
    let aside = folder.set_aside().unwrap();
    let third = cell.start(3).await;
    let running = folder.set_aside().unwrap_err();
    assert!(matches!(running, folder::Error::Log { .. }), "{running}");
    for kept in ["log", "view", "differs"] {
        assert!(aside.join(kept).exists(), "{kept}");
    }
    assert!(HANDLES.get(&third.handle().view(), &"ann".to_owned()).unwrap().is_some(), "from the log");
    for member in [first, second, third] {
        member.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_comes_back_with_what_it_missed() {
    let (cell, [mut first, mut second, third]) = Cell::of_three().await;
    third.stop().await;
    for person in 0..50 {
        let member = if person % 2 == 0 { &mut first } else { &mut second };
        assert!(accepted(&member.ask(register(&format!("person{person}"))).await));
    }
    let mut third = cell.start(3).await;
    assert!(HANDLES.get(&third.handle().view(), &"person49".to_owned()).unwrap().is_some(), "before it is ready");
    assert!(accepted(&third.ask(register("late")).await));
    for member in [first, second, third] {
        member.stop().await;
    }
    let ends = ends(&cell, &[1, 2, 3]).await;
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_has_no_say() {
    let (cell, [mut first, mut second, third]) = Cell::of_three().await;
    third.stop().await;
    assert!(accepted(&first.ask(RemoveNode { node: 2 }).await));
    second.handle().submit(&Envelope { origin: Origin::Node, command: register("ben").into() }, 7).unwrap();
    assert_eq!(second.outcomes.recv().await, Some((7, None)), "it is told that nothing came of it");
    first.handle().reach(core_position(cell.log.last().await.unwrap())).await;
    assert!(HANDLES.get(&first.handle().view(), &"ben".to_owned()).unwrap().is_none());
    second.stop().await;
    let refusal = cell.try_start(2).await.err();
    assert!(matches!(&refusal, Some(Refusal::Start(StartError::NotAMember { node: 2, .. }))), "{refusal:?}");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_node_that_is_told_to_founds_a_cell() {
    let cell = Cell::new();
    let refusal = cell.try_start(2).await.err();
    assert!(matches!(&refusal, Some(Refusal::Start(StartError::NotFounded))), "{refusal:?}");
    assert_eq!(cell.log.last().await.unwrap().ordinal, 0);
    let mut first = cell.start(1).await;
    // Else its first batch may not be in the log yet.
    first.handle().begun().await;
    let refusal = cell.try_start(2).await.err();
    assert!(matches!(&refusal, Some(Refusal::Start(StartError::NotAMember { .. }))), "{refusal:?}");
    assert!(accepted(&first.ask(add(2)).await));
    cell.start(2).await.stop().await;
    first.stop().await;
}

/// Nothing is guessed where the log has forgotten what this node needs: it says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_the_log_no_longer_reaches_does_not_start() {
    let (cell, [mut first, second, third]) = Cell::of_three().await;
    third.stop().await;
    assert!(accepted(&first.ask(register("ann")).await));
    cell.log.trim(cell.log.last().await.unwrap()).await.unwrap();
    let refusal = cell.try_start(3).await.err();
    assert!(matches!(&refusal, Some(Refusal::Start(StartError::Log(ieum_log::Error::Trimmed { .. })))), "{refusal:?}");
    for member in [first, second] {
        member.stop().await;
    }
}

/// The log came back from an older copy of itself, or is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_before_what_was_applied_is_refused() {
    let (mut cell, members) = Cell::of_three().await;
    for member in members {
        member.stop().await;
    }
    cell.log = Arc::new(Shared::new(1));
    let refusal = cell.try_start(2).await.err();
    let Some(Refusal::Folder(error @ folder::Error::LogBehind { .. })) = &refusal else { panic!("{refusal:?}") };
    // A backup would throw away what the other nodes have.
    let said = error.to_string();
    assert!(said.contains("`ieum log reseed`") && !said.contains("ieum restore"), "{said}");
}

/// Takes what `ahead`, which is node 1, has into `halted`.
async fn level(halted: &Halted, ahead: &Halted) -> Result<(), halt::Error> {
    let mut levelling = halted.levelling(1).await?.expect("a view");
    for entry in ahead.journal().read(log_position(levelling.after())).await.unwrap() {
        levelling.take(&entry).await?;
    }
    Ok(())
}

/// One of two went on with an etcd from an old backup: from some batch on they have other ones.
#[tokio::test(flavor = "multi_thread")]
async fn halted_nodes_of_other_histories_are_not_levelled() {
    let cell = Cell::with_the_first_ahead().await;
    let (first, second) = (cell.halted(1, None).await, cell.halted(2, None).await);
    let mut levelling = second.levelling(1).await.unwrap().expect("a view");
    let lacks = first.journal().read(log_position(levelling.after())).await.unwrap();
    levelling.take(&lacks[0]).await.unwrap();
    let other = Entry { bytes: lacks[2].bytes.clone(), ..lacks[1].clone() };
    levelling.take(&other).await.unwrap();
    let stand = second.stand().await.unwrap();
    assert_eq!(stand.applied, core_position(other.position));
    let error = level(&second, &first).await.unwrap_err();
    assert!(matches!(error, halt::Error::OtherHistory { at } if at == stand.applied), "{error}");
    // The operator has to hear of it: without the word of a person one of the two histories would go.
    let differs = Stand { others: vec![(1, stand.applied)], ..stand.clone() };
    assert_eq!(second.stand().await.unwrap(), differs, "nothing was taken");
    assert_eq!(core_position(second.journal().last()), stand.applied);
    // The other one begins anew from this one.
    let joint = second.journal().read(log_position(core_position(lacks[0].position))).await.unwrap();
    second.levelling(1).await.unwrap().expect("a view").take(&joint[0]).await.unwrap();
    assert_eq!(second.stand().await.unwrap(), stand);
}

/// Its view is ahead of its journal, as power cuts leave it, or the journal begins behind a snapshot. What another node has may then belong to
/// another history, which nobody could see.
#[tokio::test(flavor = "multi_thread")]
async fn a_halted_node_takes_nothing_where_it_cannot_compare() {
    let cell = Cell::with_the_first_ahead().await;
    let folder = Folder::new(cell.data(2));
    let (first, second) = (cell.halted(1, None).await, cell.halted(2, None).await);
    let mut levelling = second.levelling(1).await.unwrap().expect("a view");
    let lacks = first.journal().read(log_position(levelling.after())).await.unwrap();
    levelling.take(&lacks[0]).await.unwrap();
    levelling.take(&Entry { bytes: lacks[2].bytes.clone(), ..lacks[1].clone() }).await.unwrap();
    let stand = second.stand().await.unwrap();
    let at = stand.applied;
    drop(levelling);
    drop(second);
    let whole = Journal::open(folder.log(), &ABOUT, 0).unwrap();
    let mut before = whole.read(log_position(Position::new(1, 0))).await.unwrap();
    drop(whole);
    before.pop();
    // Ahead of its journal by the batch that is another one.
    Journal::begin_again(folder.log(), &ABOUT, 0).unwrap();
    let short = Journal::open(folder.log(), &ABOUT, 0).unwrap();
    for entry in &before {
        short.put(entry).await.unwrap();
    }
    drop(short);
    for begins_at in [0, at.ordinal] {
        if begins_at > 0 {
            Journal::begin_again(folder.log(), &ABOUT, begins_at).unwrap();
        }
        let second = cell.halted(2, None).await;
        let journal = second.journal().last();
        let error = level(&second, &first).await.unwrap_err();
        assert!(matches!(error, halt::Error::NothingToCompare { at: there } if there == at), "{error}");
        assert_eq!(second.stand().await.unwrap(), stand, "nothing was taken");
        assert_eq!(second.journal().last(), journal);
    }
}

/// It is to be filled from another one, and nothing has arrived yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_new_disk_halts_without_a_view_that_counts_and_becomes_level() {
    let (cell, [first, second, third]) = Cell::of_three().await;
    for member in [first, second, third] {
        member.stop().await;
    }
    let folder = Folder::new(cell.data(3));
    std::fs::remove_dir_all(folder.root()).unwrap();
    drop(Journal::open(folder.log(), &ABOUT, 0).unwrap());
    let (first, third) = (cell.halted(1, None).await, cell.halted(3, None).await);
    let applied = Position::new(1, 0);
    assert_eq!(third.stand().await.unwrap(), Stand { applied, digest: None, members: vec![], others: vec![] });
    level(&third, &first).await.unwrap();
    assert_eq!(third.stand().await.unwrap(), first.stand().await.unwrap());
}

/// It comes back, given up and ahead, while a generation is about to begin where the others stand.
#[tokio::test(flavor = "multi_thread")]
async fn a_halted_node_that_stands_still_is_not_carried_beyond() {
    let (cell, [mut first, second, third]) = Cell::of_three().await;
    for member in [second, third] {
        member.stop().await;
    }
    assert!(accepted(&first.ask(register("ann")).await));
    first.stop().await;
    let (first, second) = (cell.halted(1, None).await, cell.halted(2, None).await);
    // It had begun to read before it was told.
    let mut levelling = second.levelling(1).await.unwrap().expect("a view");
    let stand = second.stand_still(Instant::now() + Duration::from_secs(3_600)).await.unwrap();
    let lacks = first.journal().read(log_position(stand.applied)).await.unwrap();
    levelling.take(&first.journal().read(log_position(levelling.after())).await.unwrap()[0]).await.unwrap();
    let error = levelling.take(&lacks[0]).await.unwrap_err();
    assert!(matches!(error, halt::Error::StandsStill), "{error}");
    assert!(matches!(level(&second, &first).await, Err(halt::Error::StandsStill)));
    assert_eq!(second.stand().await.unwrap(), stand);
    assert_eq!(core_position(second.journal().last()), stand.applied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_node_stands_still_for_a_while_only() {
    let (cell, [mut first, second, third]) = Cell::of_three().await;
    for member in [second, third] {
        member.stop().await;
    }
    assert!(accepted(&first.ask(register("ann")).await));
    first.stop().await;
    let (first, second) = (cell.halted(1, None).await, cell.halted(2, None).await);
    second.stand_still(Instant::now()).await.unwrap();
    level(&second, &first).await.unwrap();
    assert_eq!(second.stand().await.unwrap(), first.stand().await.unwrap());
}

/// Nothing is left of its view and its snapshots, and its journal was trimmed.
#[tokio::test(flavor = "multi_thread")]
async fn a_halted_node_without_a_view_gives_others_what_its_journal_holds() {
    let (cell, [first, second, mut third]) = Cell::of_three().await;
    for member in [first, second] {
        member.stop().await;
    }
    assert!(accepted(&third.ask(register("ann")).await));
    third.stop().await;
    let folder = Folder::new(cell.data(3));
    let journal = Journal::open(folder.log(), &ABOUT, 0).unwrap();
    journal.trim(ieum_log::Position { generation: 1, ordinal: 1 }).await.unwrap();
    let end = core_position(journal.last());
    drop(journal);
    for lost in [folder.view(), folder.snapshots()].into_iter().filter(|folder| folder.exists()) {
        std::fs::remove_dir_all(lost).unwrap();
    }
    let (second, third) = (cell.halted(2, None).await, cell.halted(3, None).await);
    assert_eq!(third.stand().await.unwrap(), Stand { applied: end, digest: None, members: vec![], others: vec![] });
    assert!(third.levelling(2).await.unwrap().is_none());
    level(&second, &third).await.unwrap();
    let stand = second.stand().await.unwrap();
    assert!(stand.applied == end && stand.digest.is_some(), "{stand:?}");
}

/// The log is lost when the second node is behind, and the third, which is given up, is ahead.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_generation_begins_at_its_end_for_every_node_and_not_beyond() {
    let (mut cell, [mut first, second, mut third]) = Cell::of_three().await;
    second.stop().await;
    assert!(accepted(&first.ask(register("ann")).await));
    first.stop().await;
    assert!(accepted(&third.ask(register("lost")).await));
    third.stop().await;
    // Its view was damaged, say.
    std::fs::remove_dir_all(Folder::new(cell.data(3)).view()).unwrap();

    let (first, second) = (cell.halted(1, None).await, cell.halted(2, None).await);
    let stand = first.stand().await.unwrap();
    assert_eq!(stand.members.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(second.stand().await.unwrap().applied < stand.applied);
    level(&second, &first).await.unwrap();
    assert_eq!(second.stand().await.unwrap(), stand, "they are level");
    let third = cell.halted(3, Some(stand.applied)).await;
    assert_eq!(third.stand().await.unwrap(), stand, "its journal goes on, its view does not");
    drop((first, second, third));

    let end = log_position(stand.applied);
    cell.about = Meta { generation: 9, predecessor: Some(Predecessor { end, digest: stand.digest.unwrap() }), ..ABOUT };
    cell.log = Arc::new(Shared::new(9));
    for number in [1, 2, 3] {
        let folder = Folder::new(cell.data(number));
        let opened = folder.open_shared(&cell.about, Arc::clone(&cell.log), &Default::default()).await.unwrap();
        let look = opened.view.snapshot();
        assert_eq!(applied(&look).unwrap(), Applied { position: Position::new(9, 0), digest: stand.digest.unwrap() });
        let remembered = NODES.get(&look, &1).unwrap().unwrap();
        assert_eq!((remembered.incarnation, remembered.number), (0, 0), "lives begin anew with the log");
        // A node that runs takes one soon.
        snapshot::take(opened.view.as_ref(), &folder.snapshots(), unwatched()).unwrap();
    }
    let mut members = [cell.start(1).await, cell.start(2).await, cell.start(3).await];
    for (member, handle) in members.iter_mut().zip(["lost", "ben", "cleo"]) {
        assert!(accepted(&member.ask(register(handle)).await));
    }
    for member in members {
        member.stop().await;
    }
    let ends = ends(&cell, &[1, 2, 3]).await;
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
}
