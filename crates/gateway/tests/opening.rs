//! A catch-up whose pages are read from different looks at the view, between which everything changes that can change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ieum_core::batch::Envelope;
use ieum_core::commands::account::Register;
use ieum_core::commands::group::{Leave, Remove, Rename};
use ieum_core::commands::message::{Delete, Edit};
use ieum_core::commands::{Command, device::LogOut};
use ieum_core::ids::{Position, RoomId};
use ieum_core::outcome::{Accepted, Reject};
use ieum_core::tables::cell::{ENDS, End};
use ieum_core::testing::{self, Person, Rows, register};
use ieum_gateway::hub::Arrival;
use ieum_gateway::options::Rate;
use ieum_gateway::session::hello::Asked;
use ieum_gateway::session::{Live, Opening, Step};
use ieum_gateway::{Cell, Gateway, Hub, Options, Refused, SigningKeys, Ticket};
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{CatchUp, Event, Hello, ServerFrame};
use ieum_protocol::objects::Message;
use parking_lot::Mutex;

const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A cell that stands still but for what a test does to it.
#[derive(Clone)]
struct Still(Arc<Mutex<testing::Cell>>, Arc<Mutex<Trouble>>);

/// What is wrong with it.
#[derive(Default)]
struct Trouble {
    panics: bool,
    hangs: bool,
}

impl Cell for Still {
    type View = Rows;

    fn view(&self) -> Rows {
        assert!(!self.1.lock().panics, "looking at the view panics, as the test wants it");
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
        if self.1.lock().hangs { Duration::MAX } else { Duration::ZERO }
    }

    fn proven(&self) -> Duration {
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
        Self::with(seed, Options::default())
    }

    fn with(seed: u64, options: Options) -> Self {
        let mut cell = testing::Cell::found();
        let secret_hash = *blake3::hash(&[0; 32]).as_bytes();
        let [minji, dohyun] = ["minji", "dohyun"].map(|handle| {
            let person = Register { secret_hash, ..register(handle) };
            let Ok(Accepted::Registered { user, device }) = cell.anonymous(person) else { panic!("not registered") };
            Person { user, device }
        });
        let mut rooms: Vec<RoomId> = (0..5).map(|_| cell.group(dohyun, &[minji])).collect();
        rooms.push(cell.direct(minji, dohyun));
        for room in &rooms {
            assert_eq!([1, 2, 3].map(|_| cell.say(dohyun, *room, &long())).len(), 3);
        }
        let (cell, hub) = (Still(Arc::new(Mutex::new(cell)), Arc::default()), Hub::new());
        let keys = SigningKeys::from_seed(&[7; 32]).unwrap();
        let gateway = Gateway::new(cell.clone(), Arc::clone(&hub), options, keys);
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

    /// So many long messages in a room.
    fn say(&self, count: usize) {
        for _ in 0..count {
            let send = ieum_core::commands::message::Send { room: self.rooms[0], text: long(), reply_to: None };
            self.ask(self.dohyun, send).unwrap();
        }
    }

    /// Something happens somewhere; what is not allowed just then does not.
    fn change(&mut self) {
        let (minji, dohyun, room) = (self.minji, self.dohyun, self.dice.of(&self.rooms));
        let seq = 1 + self.dice.below(6);
        let long = if self.dice.below(2) == 0 { long() } else { "short".to_owned() };
        let send = |text| ieum_core::commands::message::Send { room, text, reply_to: None };
        let invite = self.cell.0.lock().invite(room, &[minji]);
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
        self.hello(self.minji, cursor, self.hub.arrival(), Instant::now()).unwrap()
    }

    fn hello(
        &self,
        person: Person,
        cursor: Option<String>,
        arrival: Arrival,
        now: Instant,
    ) -> Result<Opening<Rows>, Problem> {
        let hello = Hello { device: person.device.0, secret: SECRET.to_owned(), cursor, seen: None, client: None };
        Opening::begin(&self.gateway, &Asked::of(hello).unwrap(), arrival, now).map(|(_, opening)| opening)
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
                opening.pause(&self.gateway).unwrap();
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
        drop(live);
        let _again = world.catch_up(&mut truth, false);
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
    opening.pause(&world.gateway).unwrap();
    let problem = opening.step(&world.gateway, Instant::now()).unwrap_err();
    assert_eq!(problem.code, "logged_out");
}

/// A catch-up broke off that told of what is lost since: its cursor is older than that, and what it holds is not.
#[test]
fn who_has_seen_what_is_lost_begins_anew() {
    let mut world = World::new(1);
    let mut copy = Held::default();
    drop(world.catch_up(&mut copy, false));
    // The cell's log began before that of this generation.
    let end = End { position: Position::new(0, 9), digest: [0; 32] };
    world.cell.0.lock().view.put(&ENDS, &0, &end);
    let resyncs = |seen: Option<&str>| {
        let (device, seen) = (world.minji.device.0, seen.map(str::to_owned));
        let hello = Hello { device, secret: SECRET.to_owned(), cursor: copy.cursor.clone(), seen, client: None };
        let asked = Asked::of(hello).unwrap();
        Opening::begin(&world.gateway, &asked, world.hub.arrival(), Instant::now()).unwrap().0.resync
    };
    assert!(!resyncs(None) && !resyncs(copy.cursor.as_deref()) && !resyncs(Some("0.9")));
    assert!(resyncs(Some("0.10")));
}

#[test]
fn a_session_that_was_replaced_does_not_come_back() {
    let mut world = World::new(1);
    let mut copy = Held::default();
    drop(world.catch_up(&mut copy, false));
    world.say(3);
    let mut first = world.begin(copy.cursor.clone());
    assert!(matches!(first.step(&world.gateway, Instant::now()), Ok(Step::More(_))));
    assert!(first.is_near());
    let _second = world.catch_up(&mut copy, false);
    let problem = first.pause(&world.gateway).unwrap_err();
    drop(first);
    assert_eq!((problem.code.as_str(), world.hub.sessions()), ("replaced", 1));
}

/// How far a session has come.
enum Stage {
    Opening(Opening<Rows>),
    Live(Box<Live>),
}

impl Stage {
    /// Minji's session with this hello: behind its welcome, in its first round, in its last round, live.
    fn reach(world: &World, arrival: Arrival, stage: u32) -> Self {
        let mut opening = world.hello(world.minji, None, arrival, Instant::now()).unwrap();
        let mut reached = 0;
        while reached < stage {
            match opening.step(&world.gateway, Instant::now()).unwrap() {
                // The first round is over; what the next one is to tell.
                Step::More(ServerFrame::Events { .. }) => world.say(3),
                Step::More(_) if opening.is_near() => reached = 2,
                Step::More(_) => reached = 1,
                Step::Live(_, live) => return Self::Live(live),
            }
        }
        assert_eq!(reached, stage);
        Self::Opening(opening)
    }

    /// What comes of the session's next step; none when it goes on.
    fn next(&mut self, world: &World) -> Option<String> {
        match self {
            Self::Opening(opening) => opening.step(&world.gateway, Instant::now()).err().map(|problem| problem.code),
            Self::Live(live) => {
                let code = live.queued(world.hub.complete(), &mut Vec::new());
                code.map(|code| code.problem().code)
            }
        }
    }
}

#[test]
fn a_newer_session_replaces_an_older_one_wherever_that_stands() {
    for stage in 0..=3 {
        let world = World::new(stage.into());
        let mut older = Stage::reach(&world, world.hub.arrival(), stage);
        let newer = world.begin(None);
        assert_eq!((older.next(&world).as_deref(), world.hub.sessions()), (Some("replaced"), 1), "stage {stage}");
        drop(older);
        assert_eq!(world.hub.sessions(), 1, "stage {stage}: the place is the newer one's");
        drop(newer);
        assert_eq!(world.hub.sessions(), 0);
    }
}

#[test]
fn an_older_session_never_replaces_a_newer_one() {
    for stage in 0..=3 {
        let world = World::new(stage.into());
        // Its hello came first, and it waited for a view that has what it has seen.
        let early = world.hub.arrival();
        let mut newer = Stage::reach(&world, world.hub.arrival(), stage);
        let problem = world.hello(world.minji, None, early, Instant::now()).unwrap_err();
        assert_eq!((problem.code.as_str(), world.hub.sessions()), ("replaced", 1), "stage {stage}");
        assert_eq!(newer.next(&world), None, "stage {stage}: it goes on");
    }
}

#[test]
fn sessions_count_while_they_catch_up() {
    let mut options = Options::default();
    options.limits.sessions = 1;
    let world = World::with(1, options);
    for stage in 0..=3 {
        let held = Stage::reach(&world, world.hub.arrival(), stage);
        let other = || world.hello(world.dohyun, None, world.hub.arrival(), Instant::now());
        assert_eq!(other().unwrap_err().code, "too_many_sessions", "stage {stage}");
        let again = world.begin(None);
        drop(held);
        assert_eq!(other().unwrap_err().code, "too_many_sessions", "stage {stage}: a device replaces its own");
        drop(again);
        assert!(other().is_ok(), "stage {stage}");
    }
}

#[test]
fn every_way_out_gives_the_place_back() {
    let world = World::new(1);
    for stage in 0..=3 {
        // The client is gone.
        drop(Stage::reach(&world, world.hub.arrival(), stage));
        assert_eq!(world.hub.sessions(), 0, "stage {stage}");
    }
    for stage in 0..=2 {
        // Reading the view panics; what was to read it is lost with its thread.
        let mut opening = Stage::reach(&world, world.hub.arrival(), stage);
        if let Stage::Opening(opening) = &mut opening {
            opening.pause(&world.gateway).unwrap();
        }
        world.cell.1.lock().panics = true;
        let step = std::panic::AssertUnwindSafe(|| {
            let mut opening = opening;
            opening.next(&world)
        });
        assert!(std::panic::catch_unwind(step).is_err());
        world.cell.1.lock().panics = false;
        assert_eq!(world.hub.sessions(), 0, "stage {stage}");
        // The cell makes no progress.
        let mut opening = Stage::reach(&world, world.hub.arrival(), stage);
        world.cell.1.lock().hangs = true;
        assert_eq!(opening.next(&world).as_deref(), Some("unavailable"));
        world.cell.1.lock().hangs = false;
        drop(opening);
        assert_eq!(world.hub.sessions(), 0, "stage {stage}");
    }
    // Whoever is there when the node stops is sent away, and nobody comes any more.
    let hello = |person| world.hello(person, None, world.hub.arrival(), Instant::now());
    let mut sessions = [world.minji, world.dohyun].map(|person| hello(person).unwrap());
    world.gateway.stop();
    for opening in &mut sessions {
        assert_eq!(opening.step(&world.gateway, Instant::now()).unwrap_err().code, "shutting_down");
    }
    drop(sessions);
    let late = hello(world.minji).unwrap_err();
    assert_eq!((late.code.as_str(), world.hub.sessions()), ("shutting_down", 0));
}

#[test]
fn a_device_says_hello_so_often_and_no_more() {
    let mut options = Options::default();
    options.limits.hellos = Rate { per_second: 1, burst: 3 };
    let world = World::with(1, options);
    let now = Instant::now();
    let hello = |person, now| world.hello(person, None, world.hub.arrival(), now);
    let wrong = Hello {
        device: world.minji.device.0,
        secret: SECRET.replace('A', "B"),
        cursor: None,
        seen: None,
        client: None,
    };
    for _ in 0..5 {
        let asked = Asked::of(wrong.clone()).unwrap();
        let problem = Opening::begin(&world.gateway, &asked, world.hub.arrival(), now).unwrap_err();
        assert_eq!(problem.code, "secret_wrong", "nobody else uses up a device's hellos");
    }
    let mut last = None;
    for _ in 0..3 {
        last = Some(hello(world.minji, now).unwrap());
    }
    let problem = hello(world.minji, now).unwrap_err();
    assert_eq!((problem.code.as_str(), problem.retry_after_ms), ("rate_limited", Some(1_001)));
    assert!(last.unwrap().step(&world.gateway, now).is_ok(), "a hello that is refused replaces nobody");
    assert!(hello(world.dohyun, now).is_ok());
    assert!(hello(world.minji, now + Duration::from_secs(1)).is_ok());
}

#[test]
fn a_client_is_not_silent_before_it_is_read() {
    let world = World::with(1, Options { standstill_after: Duration::MAX, ..Options::default() });
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut opening = world.hello(world.minji, None, world.hub.arrival(), start).unwrap();
    world.gateway.watch(after(400));
    let mut live = loop {
        match opening.step(&world.gateway, after(400)).unwrap() {
            Step::More(_) => opening.pause(&world.gateway).unwrap(),
            Step::Live(_, live) => break live,
        }
    };
    live.listen(after(410));
    let mut ends = |seconds| {
        world.gateway.watch(after(seconds));
        live.queued(world.hub.complete(), &mut Vec::new())
    };
    assert_eq!([411, 529, 530].map(&mut ends), [None, None, Some(Code::Silent)]);
}
