//! Many people who write as fast as they are answered, through the client library, and remember what they lived through.
//!
//! Person 2k talks with person 2k + 1, and now and then into a group with others. Each keeps a fixed number of messages under way; when a
//! server dies the clients find it again by themselves. All clients run on one thread, so that a server on a machine of two cores has the
//! other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ieum_client::store::{Identity, Memory};
use ieum_client::{Client, CommandId, Delivery, Endpoint, Failure, Http, NewAccount, Page, Trust};
use ieum_protocol::frames::{Change, Done, Event};
use ieum_protocol::objects::Message;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Runtime;

use crate::error::{Error, Naming as _};
use crate::history::{Heard, Held, History, Outcome, Rooms, Sent, Token};

/// One message in so many goes into the group.
const TO_GROUP: usize = 8;
/// How many people a group has.
const GROUP: usize = 6;
/// How many rooms are read at a time.
const READERS: usize = 8;
/// The most that a server gives at a time.
const PAGE: u32 = 200;

/// How many, and how eager.
#[derive(Debug, Clone)]
pub struct Options {
    /// Servers of the cell.
    pub endpoints: Vec<Endpoint>,
    /// How many people; an even number.
    pub people: usize,
    /// How many messages each keeps under way.
    pub in_flight: usize,
}

/// The people and their clients.
pub struct Crowd {
    runtime: Runtime,
    people: Vec<Arc<Person>>,
    shared: Arc<Shared>,
}

/// What all of them share.
#[derive(Default)]
struct Shared {
    writing: AtomicBool,
    acknowledged: AtomicU64,
    /// Wakes [`Crowd::wait_for`] when so many are acknowledged.
    wanted: AtomicU64,
    /// Whether every delivery is told.
    settling: AtomicBool,
    news: Condvar,
    /// Held while what is waited for is looked at, so that no news is missed.
    looking: Mutex<()>,
}

impl Shared {
    fn tell(&self) {
        drop(self.looking.lock());
        self.news.notify_all();
    }
}

struct Person {
    number: u32,
    in_flight: usize,
    http: Http,
    client: OnceLock<Client>,
    memory: Mutex<Recorder>,
}

#[derive(Default)]
struct Recorder {
    history: History,
    under_way: usize,
    unanswered: usize,
    /// How often the server refused something for now, by code.
    refused: HashMap<String, u64>,
    /// Up to where it has each room.
    reached: HashMap<u64, u64>,
    /// Why its client stopped, or would not take a message.
    broken: Option<String>,
}

impl Crowd {
    /// Registers the people, opens their rooms and connects. They write nothing before [`Self::write`].
    pub fn gather(options: &Options) -> Result<Self, Error> {
        let (runtime, people) = registered(options)?;
        let opened = runtime.block_on(open_rooms(&people));
        opened.map_err(|error| Error::other("opening rooms", error.to_string()))?;
        Self::connected(runtime, people, options)
    }

    /// The same with rooms that somebody else opens, for a cell at whose level clients cannot. `open` is told who has come; it opens a direct room for
    /// each two who follow each other, then groups, and tells the position at which all of them are there.
    pub fn gather_into(
        options: &Options,
        open: impl FnOnce(&[Identity]) -> Result<String, Error>,
    ) -> Result<Self, Error> {
        let (runtime, people) = registered(options)?;
        let identities = runtime.block_on(async {
            let mut identities = Vec::with_capacity(people.len());
            for person in &people {
                identities.extend(person.http.identity().await);
            }
            identities
        });
        let opened = open(&identities)?;
        let found = runtime.block_on(find_rooms(&people, &opened));
        found.map_err(|error| Error::other("looking for rooms", error.to_string()))?;
        Self::connected(runtime, people, options)
    }

    fn connected(runtime: Runtime, people: Vec<Arc<Person>>, options: &Options) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        runtime.block_on(async {
            for person in &people {
                connect(person, &shared, options).await?;
            }
            Ok::<_, Error>(())
        })?;
        Ok(Self { runtime, people, shared })
    }

    /// Has everybody write from now on.
    pub fn write(&self) {
        self.shared.writing.store(true, Ordering::SeqCst);
        // On the clients' thread, where their requests are taken meanwhile.
        self.runtime.block_on(async {
            for person in &self.people {
                let person = Arc::clone(person);
                tokio::spawn(async move { person.write_some(&mut person.memory.lock()) });
            }
        });
    }

    /// How many messages are acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many messages are acknowledged. An error when they are not in time.
    pub fn wait_for(&self, acknowledged: u64, patience: Duration) -> Result<(), Error> {
        self.shared.wanted.store(acknowledged, Ordering::SeqCst);
        self.wait(patience, || self.acknowledged() >= acknowledged).map_err(|why| {
            let operation = format!("waiting for {acknowledged} acknowledged messages");
            Error::other(operation, format!("{} are; {why}", self.acknowledged()))
        })
    }

    /// How often a server refused a message for now, by code.
    pub fn refused(&self, code: &str) -> u64 {
        self.people.iter().map(|person| person.memory.lock().refused.get(code).copied().unwrap_or(0)).sum()
    }

    /// Waits until a server refuses a message for now, with this code.
    pub fn wait_for_refusal(&self, code: &str, patience: Duration) -> Result<(), Error> {
        let before = self.refused(code);
        self.shared.settling.store(true, Ordering::SeqCst);
        let refused = self.wait(patience, || self.refused(code) > before);
        self.shared.settling.store(false, Ordering::SeqCst);
        refused.map_err(|why| Error::other(format!("waiting for a refusal {code}"), why))
    }

    /// Has nobody write any more, and waits until every message has its outcome.
    pub fn rest(&self, patience: Duration) -> Result<(), Error> {
        self.shared.writing.store(false, Ordering::SeqCst);
        self.shared.settling.store(true, Ordering::SeqCst);
        let unanswered = || self.people.iter().map(|person| person.memory.lock().unanswered).sum::<usize>();
        let answered = self.wait(patience, || unanswered() == 0);
        self.shared.settling.store(false, Ordering::SeqCst);
        answered.map_err(|why| Error::other("waiting for outcomes", format!("{} are missing; {why}", unanswered())))
    }

    /// Reads every room as one of its members, over HTTP.
    pub fn read(&self) -> Result<Rooms, Error> {
        let mut readers: HashMap<u64, Http> = HashMap::new();
        for person in &self.people {
            for room in &person.memory.lock().history.rooms {
                readers.entry(*room).or_insert_with(|| person.http.clone());
            }
        }
        let https: Vec<Http> = readers.values().cloned().collect();
        let mut waiting = readers.into_iter();
        self.runtime.block_on(async {
            // What any of them has seen, all rooms show: a server that is behind it does not answer.
            for client in self.people.iter().filter_map(|person| person.client.get()) {
                let seen = client.seen().await.map_err(|error| Error::other("asking a client", error.to_string()))?;
                let Some(seen) = seen else { continue };
                for http in &https {
                    http.note(&seen).await;
                }
            }
            let mut reading = tokio::task::JoinSet::new();
            let mut rooms = Rooms::new();
            loop {
                while reading.len() < READERS
                    && let Some((room, http)) = waiting.next()
                {
                    reading.spawn(async move { read_room(&http, room).await.map(|held| (room, held)) });
                }
                let Some(read) = reading.join_next().await else { return Ok(rooms) };
                let read = read.naming(|| "reading rooms".to_owned())?;
                let (room, held) = read.map_err(|error| Error::other("reading a room", error.to_string()))?;
                rooms.insert(room, held);
            }
        })
    }

    /// Waits until everybody has every message that `rooms` holds; those who have not in time are found by the check.
    pub fn hear(&self, rooms: &Rooms, patience: Duration) {
        let last = |room: &u64| rooms.get(room).and_then(|held| held.last()).map_or(0, |held| held.seq);
        let has_all = |person: &Arc<Person>| {
            let memory = person.memory.lock();
            memory.history.rooms.iter().all(|room| memory.reached.get(room).copied().unwrap_or(0) >= last(room))
        };
        self.shared.settling.store(true, Ordering::SeqCst);
        let _ = self.wait(patience, || self.people.iter().all(has_all));
        self.shared.settling.store(false, Ordering::SeqCst);
    }

    /// What everybody lived through; they leave.
    pub fn leave(self) -> Vec<History> {
        let Self { runtime, people, .. } = self;
        runtime.block_on(async {
            for person in &people {
                if let Some(client) = person.client.get() {
                    client.clone().close().await;
                }
            }
        });
        // With it go the clients' tasks.
        drop(runtime);
        people.iter().map(|person| std::mem::take(&mut person.memory.lock().history)).collect()
    }

    /// Waits for something that the clients bring about. Says what is broken when it does not come.
    fn wait(&self, patience: Duration, come: impl Fn() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        let mut looking = self.shared.looking.lock();
        while !come() {
            if self.shared.news.wait_until(&mut looking, deadline).timed_out() && !come() {
                let broken = self.people.iter().find_map(|person| person.memory.lock().broken.clone());
                return Err(broken.unwrap_or_else(|| "no client complained".to_owned()));
            }
        }
        Ok(())
    }
}

impl Person {
    /// Writes as many messages as may be under way.
    fn write_some(&self, memory: &mut Recorder) {
        let Some(client) = self.client.get() else { return };
        while memory.under_way < self.in_flight {
            let number = memory.history.sent.len();
            let into_group = number % TO_GROUP == TO_GROUP - 1;
            let Some(room) = memory.history.rooms.get(usize::from(into_group)).copied() else { return };
            let token = Token { client: self.number, number: u32::try_from(number).unwrap_or(u32::MAX) };
            let change = Change::Send { room, text: token.text(), reply_to: None };
            if let Err(failure) = client.try_post(id_of(token), change) {
                memory.broken = Some(format!("client {}: {failure}", self.number));
                return;
            }
            memory.history.sent.push(Sent { room, outcome: Outcome::Unknown });
            memory.under_way += 1;
            memory.unanswered += 1;
        }
    }

    fn take(&self, delivery: Delivery, shared: &Shared) {
        let mut memory = self.memory.lock();
        match delivery {
            Delivery::Outcome { id, result, .. } => {
                let acknowledged = memory.answered(id, result);
                if shared.writing.load(Ordering::SeqCst) {
                    self.write_some(&mut memory);
                }
                drop(memory);
                if acknowledged {
                    let count = shared.acknowledged.fetch_add(1, Ordering::SeqCst) + 1;
                    if count == shared.wanted.load(Ordering::SeqCst) {
                        shared.tell();
                    }
                }
            }
            Delivery::Events { list, .. } => {
                for event in list {
                    if let Event::Message { room, message } = event {
                        memory.heard(room, &message);
                    }
                }
                drop(memory);
            }
            Delivery::CatchUp(caught) => {
                for changes in caught.rooms {
                    let room = changes.room.id;
                    if changes.gap || changes.fresh {
                        memory.history.heard.push(Heard::LeftOut { room });
                    }
                    for message in &changes.messages {
                        memory.heard(room, message);
                    }
                    // What it holds no messages of was read before.
                    let reached = memory.reached.entry(room).or_default();
                    *reached = (*reached).max(changes.messages.last().map_or(0, |message| message.seq));
                }
                drop(memory);
            }
            Delivery::Resync => {
                memory.history.heard.push(Heard::Void);
                memory.reached.clear();
                drop(memory);
            }
            Delivery::State(ieum_client::State::Stopped(stop)) => {
                memory.broken = Some(format!("client {} stopped: {stop}", self.number));
                drop(memory);
            }
            Delivery::Refused { problem, .. } => {
                *memory.refused.entry(problem.code.clone()).or_default() += 1;
                drop(memory);
            }
            _ => drop(memory),
        }
        if shared.settling.load(Ordering::SeqCst) {
            shared.tell();
        }
    }
}

impl Recorder {
    /// Remembers an outcome; whether it is an acknowledgement.
    fn answered(&mut self, id: CommandId, result: Result<Done, Failure>) -> bool {
        let outcome = match result {
            Ok(done) => Outcome::Acknowledged { seq: done.seq.unwrap_or(0) },
            Err(failure) => {
                self.broken.get_or_insert(failure.to_string());
                Outcome::Rejected { why: failure.to_string() }
            }
        };
        let acknowledged = matches!(outcome, Outcome::Acknowledged { .. });
        let number = usize::try_from(id.0 & u128::from(u32::MAX)).unwrap_or(usize::MAX);
        if let Some(sent) = self.history.sent.get_mut(number) {
            self.under_way = self.under_way.saturating_sub(1);
            self.unanswered -= usize::from(sent.outcome == Outcome::Unknown);
            sent.outcome = outcome;
        }
        acknowledged
    }

    fn heard(&mut self, room: u64, message: &Message) {
        let token = message.text.as_deref().and_then(Token::read);
        let reached = self.reached.entry(room).or_default();
        *reached = (*reached).max(message.seq);
        self.history.heard.push(Heard::Message { room, seq: message.seq, token });
    }
}

/// An id that tells the message; no device uses one twice.
fn id_of(token: Token) -> CommandId {
    CommandId(u128::from(token.client) << 32 | u128::from(token.number))
}

fn handle(number: u32) -> String {
    format!("person{number}")
}

async fn register(number: u32, options: &Options) -> Result<Person, ieum_client::HttpError> {
    let http = Http::new(options.endpoints.clone(), Trust::web());
    let account = NewAccount {
        handle: handle(number),
        name: format!("사람 {number}"),
        password: format!("password of {number}"),
        device: "drill".to_owned(),
        invitation: None,
    };
    let Identity { user, .. } = http.register(account).await?;
    let history = History { user, ..History::default() };
    let memory = Mutex::new(Recorder { history, ..Recorder::default() });
    Ok(Person { number, in_flight: options.in_flight, http, client: OnceLock::new(), memory })
}

/// All people, who have no rooms yet, and what their clients run on.
fn registered(options: &Options) -> Result<(Runtime, Vec<Arc<Person>>), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.naming(|| "starting a runtime for the clients".to_owned())?;
    let people = runtime.block_on(async {
        let mut people = Vec::with_capacity(options.people);
        for number in (0..).take(options.people) {
            let person = register(number, options).await;
            people.push(Arc::new(person.map_err(|error| Error::other("registering", error.to_string()))?));
        }
        Ok::<_, Error>(people)
    })?;
    Ok((runtime, people))
}

/// The rooms in which everybody is at a position, in the order in which they were opened.
async fn find_rooms(people: &[Arc<Person>], opened: &String) -> Result<(), ieum_client::HttpError> {
    for person in people {
        person.http.note(opened).await;
        let mut rooms: Vec<u64> = person.http.rooms(None, None).await?.rooms.iter().map(|room| room.id).collect();
        rooms.sort_unstable();
        person.memory.lock().history.rooms = rooms;
    }
    Ok(())
}

/// Each has two rooms: one with the neighbour, then the group.
async fn open_rooms(people: &[Arc<Person>]) -> Result<(), ieum_client::HttpError> {
    let enter = |person: &Arc<Person>, room: Option<u64>| person.memory.lock().history.rooms.extend(room);
    for pair in people.chunks(2) {
        let [one, other] = pair else { continue };
        let room = one.http.change(&Change::OpenDirect { handle: handle(other.number) }).await?.room;
        enter(one, room);
        enter(other, room);
    }
    for group in people.chunks(GROUP) {
        let Some((owner, others)) = group.split_first() else { continue };
        let handles = others.iter().map(|person| handle(person.number)).collect();
        let room = owner.http.change(&Change::CreateGroup { name: "모두".to_owned(), handles }).await?.room;
        group.iter().for_each(|person| enter(person, room));
    }
    Ok(())
}

async fn connect(person: &Arc<Person>, shared: &Arc<Shared>, options: &Options) -> Result<(), Error> {
    let mut with = ieum_client::Options::new(options.endpoints.clone());
    with.identity = person.http.identity().await;
    with.limits.kept = 0;
    with.requests = with.requests.max(2 * options.in_flight);
    let observer = {
        let (person, shared) = (Arc::clone(person), Arc::clone(shared));
        move |delivery| person.take(delivery, &shared)
    };
    let client = Client::observe(with, Memory::new(), observer);
    let client = client.map_err(|error| Error::other("opening a client", error.to_string()))?;
    client.live().await.map_err(|stop| Error::other("connecting", stop.to_string()))?;
    // Set once: each person has one client.
    let _ = person.client.set(client);
    Ok(())
}

async fn read_room(http: &Http, room: u64) -> Result<Vec<Held>, ieum_client::HttpError> {
    let mut held: Vec<Held> = Vec::new();
    loop {
        let after = held.last().map_or(0, |last| last.seq);
        let page = http.messages(room, Page::After(after), PAGE).await?;
        if page.is_empty() {
            return Ok(held);
        }
        held.extend(page.iter().map(|message| Held {
            seq: message.seq,
            from: message.from,
            token: message.text.as_deref().and_then(Token::read),
        }));
        // A server that does not go on must not keep this going on for ever.
        if held.last().is_none_or(|last| last.seq <= after) {
            return Ok(held);
        }
    }
}
