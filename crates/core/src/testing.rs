//! A whole cell in memory, for tests: people ask, batches are applied and committed, and what came of it can be looked at.
//!
//! ```
//! use ieum_core::commands::message::Send;
//! use ieum_core::testing::{Cell, text};
//!
//! let mut cell = Cell::found();
//! let [minji, dohyun] = cell.people();
//! let room = cell.direct(minji, dohyun);
//! cell.ok(minji, Send { room, text: "안녕".into(), reply_to: None });
//! assert_eq!(cell.seen(dohyun, room), [(1, text("안녕"))]);
//! assert_eq!(cell.unread(dohyun, room), 1);
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing helper is a failing test")]

mod log_file;
mod rows;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::apply::{Skips, applied, apply};
use crate::batch::{Batch, Envelope, Header, Origin};
use crate::commands::account::Register;
use crate::commands::group::{CreateGroup, Invite};
use crate::commands::message::Send;
use crate::commands::operate::{Activate, AddNode, StartNode};
use crate::commands::room::OpenDirect;
use crate::commands::{Command, LEVEL};
use crate::event::{Alarm, Event, News};
use crate::ids::{DeviceId, Millis, Position, RoomId, Seq, UserId};
use crate::kv::Read;
use crate::outcome::{Accepted, Outcome, Reject};
use crate::query::{self, Mine, Page};
use crate::tables::accounts::USERS;
use crate::tables::messages::Body;
use crate::{Author, Effects};

pub use log_file::{read_log, write_log};
pub use rows::{Fault, Faulty, Rows};

/// The clock of a test's first batch.
pub const START: Millis = 1_750_000_000_000;
/// The number of a test's cell.
pub const CELL: u16 = 7;
/// A minute of cell time.
pub const MINUTE: Millis = 60_000;
/// A day of cell time.
pub const DAY: Millis = 24 * 60 * MINUTE;

/// Somebody at one of their devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Person {
    /// Who.
    pub user: UserId,
    /// At which device.
    pub device: DeviceId,
}

/// A batch as the log has it.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Who appended it.
    pub author: Author,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A cell in memory.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Its view.
    pub view: Rows,
    /// The clock that the next batch carries.
    pub clock: Millis,
    /// Commands that the operator marked.
    pub skips: Skips,
    /// Every batch that was applied, from position 1.1.
    pub log: Vec<Logged>,
    /// What the last batch told devices.
    pub events: Vec<Event>,
    /// What the last batch told the operator.
    pub alarms: Vec<Alarm>,
    next_batch: u64,
    next_id: u64,
    numbers: BTreeMap<DeviceId, u64>,
}

/// The body of a plain message.
#[must_use]
pub fn text(text: &str) -> Body {
    Body::Text { text: text.to_owned(), reply_to: None }
}

/// A device's id, an idempotency key or a request digest told from others by `n`.
#[must_use]
pub fn id(n: u64) -> [u8; 16] {
    u128::from(n).to_be_bytes()
}

/// A registration that is accepted as long as nobody has the handle.
#[must_use]
pub fn register(handle: &str) -> Register {
    Register {
        handle: handle.to_owned(),
        name: handle.to_owned(),
        password: "$argon2id$1".to_owned(),
        secret_hash: [1; 32],
        device_name: "phone".to_owned(),
        invitation: None,
    }
}

/// The first command of a cell whose first node is number 1 in data center `a`.
#[must_use]
pub fn first_node() -> AddNode {
    AddNode { node: 1, dc: "a".to_owned(), level: LEVEL, cell: CELL }
}

fn result(outcome: Outcome) -> Result<Accepted, Reject> {
    match outcome {
        Outcome::Accepted(accepted) => Ok(accepted),
        Outcome::Rejected(reject) => Err(reject),
    }
}

impl Cell {
    /// A cell whose log is empty.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            view: Rows::default(),
            clock: START,
            skips: Skips::new(),
            log: Vec::new(),
            events: Vec::new(),
            alarms: Vec::new(),
            next_batch: 1,
            next_id: 1,
            numbers: BTreeMap::new(),
        }
    }

    /// A cell with one node.
    #[must_use]
    pub fn found() -> Self {
        Self::found_at(LEVEL)
    }

    /// The same as a build founded it that knew no more than `level`.
    #[must_use]
    pub fn found_at(level: u32) -> Self {
        let mut cell = Self::empty();
        cell.node(AddNode { level, ..first_node() }).expect("the first node is added");
        cell
    }

    /// Makes every member know `level`, which node 1 is, and activates it.
    pub fn activate(&mut self, level: u32) {
        self.node(StartNode { level, key_id: 1, public_key: [1; 32] }).expect("the node knows the level");
        self.node(Activate { level }).expect("activated");
    }

    /// Where the view stands.
    #[must_use]
    pub fn position(&self) -> Position {
        applied(&self.view).unwrap().position
    }

    /// The rolling digest.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        applied(&self.view).unwrap().digest
    }

    /// Lets cell time pass, as of the next batch.
    pub fn wait(&mut self, time: Millis) {
        self.clock += time;
    }

    /// What applying the next batch to this view gives; nothing is committed.
    pub fn try_apply(&self, view: &dyn Read, logged: &Logged) -> Result<Effects, crate::apply::Error> {
        let stands = self.position();
        let next = Position::new(stands.generation, stands.ordinal + 1);
        apply(view, next, logged.author, &logged.bytes, &self.skips)
    }

    /// Applies a batch as the log hands it out, and commits.
    pub fn apply(&mut self, author: Author, bytes: Bytes) -> Vec<Outcome> {
        let logged = Logged { author, bytes };
        let effects = self.try_apply(&self.view, &logged).expect("the batch is applied");
        self.view.commit(&effects.writes);
        self.log.push(logged);
        self.events = effects.events;
        self.alarms = effects.alarms;
        effects.outcomes
    }

    /// The next batch of node 1, for [`Cell::apply`].
    pub fn next(&mut self, commands: Vec<Envelope>) -> Logged {
        let author = Author { node: 1, incarnation: 1, number: self.next_batch };
        self.next_batch += 1;
        Logged { author, bytes: batch(author, self.clock, commands) }
    }

    /// Applies these commands as node 1's next batch.
    pub fn batch(&mut self, commands: Vec<Envelope>) -> Vec<Outcome> {
        let logged = self.next(commands);
        self.apply(logged.author, logged.bytes)
    }

    /// Applies one command as a batch.
    pub fn run(&mut self, origin: Origin, command: impl Into<Command>) -> Result<Accepted, Reject> {
        let outcomes = self.batch(vec![Envelope { origin, command: command.into() }]);
        result(outcomes.into_iter().next().expect("one outcome"))
    }

    /// Node 1 asks.
    pub fn node(&mut self, command: impl Into<Command>) -> Result<Accepted, Reject> {
        self.run(Origin::Node, command)
    }

    /// Somebody not signed in asks, with a new key.
    pub fn anonymous(&mut self, command: impl Into<Command>) -> Result<Accepted, Reject> {
        let key = self.fresh();
        self.run(Origin::Anonymous { key, request: key }, command)
    }

    /// A device asks over HTTP with key `key` for something whose digest is `request`.
    pub fn http(
        &mut self,
        device: DeviceId,
        key: u64,
        request: u64,
        command: impl Into<Command>,
    ) -> Result<Accepted, Reject> {
        self.run(Origin::Http { device, key: id(key), request: id(request) }, command)
    }

    /// A device asks with this number and id.
    pub fn numbered(
        &mut self,
        device: DeviceId,
        number: u64,
        tag: u64,
        command: impl Into<Command>,
    ) -> Result<Accepted, Reject> {
        self.run(Origin::Device { device, number, id: id(tag) }, command)
    }

    /// A person's next command, not applied yet.
    pub fn envelope(&mut self, person: Person, command: impl Into<Command>) -> Envelope {
        let number = *self.numbers.entry(person.device).and_modify(|n| *n += 1).or_insert(1);
        let origin = Origin::Device { device: person.device, number, id: self.fresh() };
        Envelope { origin, command: command.into() }
    }

    /// A person asks, with their device's next number.
    pub fn ask(&mut self, person: Person, command: impl Into<Command>) -> Result<Accepted, Reject> {
        let envelope = self.envelope(person, command);
        self.run(envelope.origin, envelope.command)
    }

    /// A person asks for something that is accepted.
    #[track_caller]
    pub fn ok(&mut self, person: Person, command: impl Into<Command>) -> Accepted {
        self.ask(person, command).expect("accepted")
    }

    fn fresh(&mut self) -> [u8; 16] {
        self.next_id += 1;
        id(self.next_id)
    }

    /// A new account.
    pub fn register(&mut self, handle: &str) -> Person {
        match self.anonymous(register(handle)) {
            Ok(Accepted::Registered { user, device }) => Person { user, device },
            other => panic!("{handle} is not registered: {other:?}"),
        }
    }

    /// New accounts `person1`, `person2` … beside those that there are.
    pub fn people<const N: usize>(&mut self) -> [Person; N] {
        self.crowd(N).try_into().expect("as many as asked for")
    }

    /// As [`Cell::people`], for many: one batch.
    pub fn crowd(&mut self, count: usize) -> Vec<Person> {
        let first = self.next_id;
        self.next_id += count as u64;
        let register = |n| register(&format!("person{n}")).into();
        let commands = (first..).take(count).map(|n| Envelope { origin: Origin::Node, command: register(n) });
        let outcomes = self.batch(commands.collect());
        let person = |outcome| match outcome {
            Outcome::Accepted(Accepted::Registered { user, device }) => Person { user, device },
            other => panic!("not registered: {other:?}"),
        };
        outcomes.into_iter().map(person).collect()
    }

    /// A group room.
    pub fn group(&mut self, owner: Person, others: &[Person]) -> RoomId {
        let members = self.handles(others);
        self.made(owner, CreateGroup { name: "hiking".to_owned(), members })
    }

    /// The direct room of two people.
    pub fn direct(&mut self, a: Person, b: Person) -> RoomId {
        let with = self.handle(b);
        self.made(a, OpenDirect { with })
    }

    /// The command that brings these people into a group.
    #[must_use]
    pub fn invite(&self, room: RoomId, people: &[Person]) -> Invite {
        Invite { room, users: self.handles(people) }
    }

    /// What a person is found by.
    #[must_use]
    pub fn handle(&self, person: Person) -> String {
        USERS.get(&self.view, &person.user).unwrap().expect("an account").handle
    }

    /// What people are found by.
    #[must_use]
    pub fn handles(&self, people: &[Person]) -> Vec<String> {
        people.iter().map(|person| self.handle(*person)).collect()
    }

    /// The room that a command makes or finds.
    pub fn made(&mut self, person: Person, command: impl Into<Command>) -> RoomId {
        match self.ok(person, command) {
            Accepted::Room { room, .. } => room,
            other => panic!("no room: {other:?}"),
        }
    }

    /// A message's seq.
    pub fn say(&mut self, person: Person, room: RoomId, text: &str) -> Seq {
        match self.ok(person, Send { room, text: text.to_owned(), reply_to: None }) {
            Accepted::Sent { seq, .. } => seq,
            other => panic!("not sent: {other:?}"),
        }
    }

    /// The room as the person has it, if they have it.
    #[must_use]
    pub fn find(&self, person: Person, room: RoomId) -> Option<Mine> {
        query::room(&self.view, person.user, room).unwrap()
    }

    /// The room as the person has it.
    #[must_use]
    #[track_caller]
    pub fn mine(&self, person: Person, room: RoomId) -> Mine {
        self.find(person, room).expect("a member")
    }

    /// Every message of the room that the person sees.
    #[must_use]
    #[track_caller]
    pub fn seen(&self, person: Person, room: RoomId) -> Vec<(Seq, Body)> {
        let all = query::messages(&self.view, &self.mine(person, room), Page::Last, usize::MAX).unwrap();
        all.into_iter().map(|(seq, message)| (seq, message.body)).collect()
    }

    /// How many messages of the room the person has not read.
    #[must_use]
    #[track_caller]
    pub fn unread(&self, person: Person, room: RoomId) -> u64 {
        self.mine(person, room).unread()
    }

    /// The people in a room, as one of them sees it.
    #[must_use]
    #[track_caller]
    pub fn members(&self, person: Person, room: RoomId) -> Vec<UserId> {
        let all = query::members(&self.view, &self.mine(person, room)).unwrap();
        all.into_iter().map(|(user, _)| user).collect()
    }

    /// What the last batch told the person.
    #[must_use]
    pub fn told(&self, person: Person) -> Vec<&News> {
        let theirs = |event: &&Event| event.audience.users().any(|user| user == person.user);
        self.events.iter().filter(theirs).map(|event| &event.news).collect()
    }
}

/// The bytes of a batch.
#[must_use]
pub fn batch(author: Author, clock: Millis, commands: Vec<Envelope>) -> Bytes {
    let Author { node, incarnation, number } = author;
    Batch { header: Header { node, incarnation, number, clock }, commands }.encode()
}
