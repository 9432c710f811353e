//! A catch-up whose pages are read from different looks at the view, between which everything changes that can change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ieum_core::batch::Envelope;
use ieum_core::commands::account::Register;
use ieum_core::commands::group::{Invite, Leave, Remove, Rename};
use ieum_core::commands::message::{Delete, Edit};
use ieum_core::commands::{Command, device::LogOut};
use ieum_core::ids::{Position, RoomId};
use ieum_core::outcome::{Accepted, Reject};
use ieum_core::testing::{self, Person, Rows, register};
use ieum_gateway::session::hello::Asked;
use ieum_gateway::session::{Live, Opening, Step};
use ieum_gateway::{Cell, Gateway, Hub, Options, Refused, SigningKeys, Ticket};
use ieum_protocol::frames::{CatchUp, Event, Hello, ServerFrame};
use ieum_protocol::objects::Message;
use parking_lot::Mutex;

const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A cell that stands still but for what a test does to it.
#[derive(Clone)]
struct Still(Arc<Mutex<testing::Cell>>);

impl Cell for Still {
    type View = Rows;

    fn view(&self) -> Rows {
        self.0.lock().view.clone()
    }

    fn submit(&self, _: &Envelope, ticket: Ticket) -> Result<(), (Refused, Ticket)> {
        Err((Refused::Busy, ticket))
    }

    fn applied(&self) -> Position {
        self.0.lock().position()
    }

    async fn reach(&self, _: Position) {}

    fn waiting(&self) -> Duration {
        Duration::ZERO
    }

    fn metrics(&self, _: &mut String) {}
}

/// Random enough, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

struct World {
    cell: Still,
    gateway: Arc<Gateway<Still>>,
    hub: Arc<Hub>,
    minji: Person,
    dohyun: Person,
    rooms: Vec<RoomId>,
    dice: Dice,
}

/// Each character takes six bytes as JSON, so that two messages fill a page.
fn long() -> String {
    "\u{1}".repeat(10_000)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut cell = testing::Cell::found();
        let secret_hash = *blake3::hash(&[0; 32]).as_bytes();
        let mine = Register { secret_hash, ..register("minji") };
        let Ok(Accepted::Registered { user, device }) = cell.anonymous(mine) else { panic!("not registered") };
        let (minji, dohyun) = (Person { user, device }, cell.register("dohyun"));
        let mut rooms: Vec<RoomId> = (0..5).map(|_| cell.group(dohyun, &[minji])).collect();
        rooms.push(cell.direct(minji, dohyun));
        for room in &rooms {
            assert_eq!([1, 2, 3].map(|_| cell.say(dohyun, *room, &long())).len(), 3);
        }
        let (cell, hub) = (Still(Arc::new(Mutex::new(cell))), Hub::new());
        let keys = SigningKeys::from_seed(&[7; 32]).unwrap();
        let gateway = Gateway::new(cell.clone(), Arc::clone(&hub), Options::default(), keys);
        Self { cell, gateway, hub, minji, dohyun, rooms, dice: Dice(seed) }
    }

    /// Has a person ask for something; what it gives is delivered.
    fn ask(&self, person: Person, command: impl Into<Command>) -> Result<Accepted, Reject> {
        let (answer, position, events, view) = {
            let mut cell = self.cell.0.lock();
            let answer = cell.ask(person, command);
            (answer, cell.position(), std::mem::take(&mut cell.events), cell.view.clone())
        };
        self.hub.deliver(position, Vec::new(), events, || Box::new(view));
        answer
    }

    /// Something happens somewhere; what is not allowed just then does not.
    fn change(&mut self) {
        let (minji, dohyun, room) = (self.minji, self.dohyun, self.dice.of(&self.rooms));
        let seq = 1 + self.dice.below(6);
        let long = if self.dice.below(2) == 0 { long() } else { "short".to_owned() };
        let send = |text| ieum_core::commands::message::Send { room, text, reply_to: None };
        let invite = Invite { room, users: vec![minji.user] };
        let _ = match self.dice.below(9) {
            0 | 1 => self.ask(dohyun, send(long)),
            2 => self.ask(dohyun, Edit { room, seq, text: long }),
            3 => self.ask(dohyun, Delete { room, seq }),
            4 => self.ask(minji, Leave { room }),
            5 => self.ask(dohyun, Remove { room, user: minji.user }),
            6 => self.ask(dohyun, invite),
            7 => {
                let _ = self.ask(dohyun, Remove { room, user: minji.user });
                self.ask(dohyun, invite)
            }
            _ => self.ask(dohyun, Rename { room, name: "climbing".to_owned() }),
        };
    }

    fn begin(&self, cursor: Option<String>) -> Opening<Rows> {
        let hello = Hello { device: self.minji.device.0, secret: SECRET.to_owned(), cursor, seen: None, client: None };
        Opening::begin(&self.gateway, &Asked::of(hello).unwrap(), Instant::now()).unwrap().1
    }

    /// Brings a copy up to the view, with changes on the way.
    fn catch_up(&mut self, copy: &mut Held, changes: bool) -> (Box<Live>, usize) {
        let mut opening = self.begin(copy.cursor.clone());
        let mut frames = 0;
        // Changes go on for long enough to meet every page, then they stop, so that there is an end.
        loop {
            let step = opening.step(&self.gateway, Instant::now()).unwrap();
            let changing = changes && frames < 12;
            if changing && self.dice.below(3) > 0 {
                self.change();
            }
            let frame = match step {
                Step::More(frame) => frame,
                Step::Live(frame, live) => {
                    copy.take(frame);
                    return (live, frames);
                }
            };
            frames += 1;
            copy.take(frame);
            if self.dice.below(2) == 0 {
                opening.pause(&self.gateway, Instant::now()).unwrap();
                if changing {
                    self.change();
                }
            }
        }
    }
}

/// What a client holds, kept by the rules of docs/protocol/delivery.md.
#[derive(Debug, Default)]
struct Held {
    cursor: Option<String>,
    rooms: BTreeMap<u64, (u64, BTreeMap<u64, Message>)>,
}

impl Held {
    fn take(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::CatchUp(CatchUp { rooms, left }) => {
                for told in rooms {
                    let (from, held) = self.rooms.entry(told.room.id).or_default();
                    *from = told.room.from;
                    if told.fresh {
                        held.clear();
                    }
                    assert!(!told.gap, "no room has fifty messages");
                    held.extend(told.messages.into_iter().map(|message| (message.seq, message)));
                    for message in told.changed {
                        held.entry(message.seq).and_modify(|held| *held = message);
                    }
                }
                left.iter().for_each(|room| drop(self.rooms.remove(room)));
            }
            ServerFrame::Events { pos, list } => {
                self.cursor = Some(pos);
                list.into_iter().for_each(|event| self.event(event));
            }
            ServerFrame::CaughtUp { pos } => self.cursor = Some(pos),
            other => panic!("{other:?}"),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Message { room, message } => {
                let (_, held) = self.rooms.get_mut(&room).expect("a room that is held");
                let before = held.insert(message.seq, message);
                assert!(before.is_none(), "the stream tells again what the catch-up told: {before:?}");
            }
            Event::Changed { room, message } => {
                let (_, held) = self.rooms.get_mut(&room).expect("a room that is held");
                held.entry(message.seq).and_modify(|held| *held = message);
            }
            Event::Joined { room } => {
                let before = self.rooms.insert(room.id, (room.from, BTreeMap::new()));
                assert!(before.is_none(), "the stream tells again what the catch-up told");
            }
            Event::Left { room } => assert!(self.rooms.remove(&room).is_some(), "left once"),
            _ => {}
        }
    }

    /// The messages of each room that somebody sees in it now.
    fn seen(&self) -> BTreeMap<u64, Vec<Message>> {
        let seen = |(from, held): &(u64, BTreeMap<u64, Message>)| held.range(from..).map(|(_, m)| m.clone()).collect();
        self.rooms.iter().map(|(room, held)| (*room, seen(held))).collect()
    }
}

#[test]
fn what_changes_between_the_pages_is_told_and_the_stream_follows_without_gap_and_overlap() {
    let mut pages = 0;
    for seed in 1..=60 {
        let mut world = World::new(seed);
        let mut copy = Held::default();
        if seed % 3 > 0 {
            // A cursor, near or with a resync's first round before it.
            world.catch_up(&mut copy, false);
            (0..10).for_each(|_| world.change());
        }
        let (mut live, frames) = world.catch_up(&mut copy, true);
        pages += frames;
        (0..5).for_each(|_| world.change());
        let mut out = Vec::new();
        assert_eq!(live.queued(world.hub.complete(), &mut out), None);
        out.iter().for_each(|frame| copy.take(serde_json::from_slice(frame).unwrap()));
        let mut truth = Held::default();
        world.hub.leave(live.session());
        world.catch_up(&mut truth, false);
        assert_eq!(copy.seen(), truth.seen(), "seed {seed}");
        assert_eq!(world.hub.sessions(), 1, "seed {seed}: no session is left behind");
    }
    assert!(pages > 300, "{pages}");
}

#[test]
fn a_device_that_is_logged_out_is_told_nothing_of_a_later_look() {
    let world = World::new(1);
    let mut opening = world.begin(None);
    assert!(matches!(opening.step(&world.gateway, Instant::now()), Ok(Step::More(_))));
    world.ask(world.minji, LogOut { device: world.minji.device }).unwrap();
    opening.pause(&world.gateway, Instant::now()).unwrap();
    let problem = opening.step(&world.gateway, Instant::now()).unwrap_err();
    assert_eq!(problem.code, "logged_out");
}

#[test]
fn a_session_that_was_replaced_does_not_come_back() {
    let mut world = World::new(1);
    let mut copy = Held::default();
    drop(world.catch_up(&mut copy, false));
    (0..3).for_each(|_| {
        drop(world.ask(
            world.dohyun,
            ieum_core::commands::message::Send { room: world.rooms[0], text: long(), reply_to: None },
        ))
    });
    let mut first = world.begin(copy.cursor.clone());
    assert!(matches!(first.step(&world.gateway, Instant::now()), Ok(Step::More(_))));
    assert!(first.is_near());
    drop(world.catch_up(&mut copy, false));
    let problem = first.pause(&world.gateway, Instant::now()).unwrap_err();
    assert_eq!((problem.code.as_str(), world.hub.sessions()), ("replaced", 1));
}
