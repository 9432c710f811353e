//! People with a device that is always there: those who talk, and the pairs of the probe.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ieum_client::store::{Identity, Memory as Store};
use ieum_client::{Client, CommandId, Delivery, Failure, Options, Page, State};
use ieum_protocol::Pos;
use ieum_protocol::frames::{Change, Done};
use parking_lot::Mutex;

use super::book::one_line;
use super::hearing::{Hearing, Hole, note_message};
use super::shared::Shared;
use crate::error::Error;
use crate::history::Token;
use crate::random::Random;

/// Between two tries to page in what a catch-up left out, when the first failed.
const AGAIN: Duration = Duration::from_millis(200);
/// The most that a server gives at a time.
const PAGE: u32 = 200;

/// A person and the device.
pub(super) struct Person {
    pub(super) number: u32,
    pub(super) dc: usize,
    pub(super) identity: Identity,
    /// The first is a direct room, others are groups.
    pub(super) rooms: Vec<u64>,
    shared: Arc<Shared>,
    client: OnceLock<Client>,
    memory: Mutex<Memory>,
}

struct Memory {
    hearing: Hearing,
    /// The room of each message.
    sent: Vec<u64>,
    /// Messages without an outcome.
    waiting: HashSet<u32>,
    acknowledged: bool,
    /// Its client has been at a node of its own data center.
    at_home: bool,
}

impl Person {
    pub(super) fn new(number: u32, dc: usize, identity: Identity, rooms: Vec<u64>, shared: Arc<Shared>) -> Self {
        let hearing = Hearing::new(number, Arc::clone(&shared));
        let memory = Memory { hearing, sent: Vec::new(), waiting: HashSet::new(), acknowledged: false, at_home: false };
        Self { number, dc, identity, rooms, shared, client: OnceLock::new(), memory: Mutex::new(memory) }
    }

    /// Opens the client, with the shipped settings. It knows all nodes, and moves on until it is at one of the person's own data center.
    pub(super) fn connect(self: &Arc<Self>, seen: Option<Pos>) -> Result<(), Error> {
        let mut options = Options::new(self.shared.endpoints(self.dc)).identity(self.identity.clone());
        options.home = options.endpoints.first().cloned();
        options.seen = seen;
        let person = Arc::clone(self);
        let client = Client::observe(options, Store::new(), move |delivery| person.take(delivery));
        let client = client.map_err(|error| Error::other("opening a client", error.to_string()))?;
        // Each person has one.
        let _ = self.client.set(client);
        Ok(())
    }

    pub(super) fn client(&self) -> Option<&Client> {
        self.client.get()
    }

    /// Writes a message.
    pub(super) fn say(&self, room: u64) {
        let Some(client) = self.client.get() else { return };
        let mut memory = self.memory.lock();
        let number = u32::try_from(memory.sent.len()).unwrap_or(u32::MAX);
        let token = Token { client: self.number, number };
        memory.sent.push(room);
        memory.waiting.insert(number);
        self.shared.note(format_args!("s {} {number} {room}", self.number));
        let id = CommandId(u128::from(self.number) << 32 | u128::from(number));
        if let Err(failure) = client.try_post(id, Change::Send { room, text: token.text(), reply_to: None }) {
            self.rejected(&mut memory, number, &failure);
        }
    }

    fn rejected(&self, memory: &mut Memory, number: u32, failure: &Failure) {
        memory.waiting.remove(&number);
        let code = match failure {
            Failure::Rejected(problem) | Failure::NotTaken(problem) => problem.code.clone(),
            other => one_line(&other.to_string()),
        };
        self.shared.note(format_args!("x {} {number} {code}", self.number));
    }

    fn take(self: &Arc<Self>, delivery: Delivery) {
        let mut memory = self.memory.lock();
        let holes = memory.hearing.hear(&delivery);
        match delivery {
            Delivery::Outcome { id, result, .. } => self.answered(&mut memory, id, result),
            Delivery::State(State::Live { endpoint }) if !memory.at_home => {
                memory.at_home = self.shared.dcs.get(self.dc).is_some_and(|dc| dc.endpoints.contains(&endpoint));
                if !memory.at_home
                    && let Some(client) = self.client.get().cloned()
                {
                    tokio::spawn(async move { client.reconnect().await });
                }
            }
            Delivery::Refused { id, problem } => {
                self.shared.note(format_args!("f {} {} {}", self.number, number_of(id), problem.code));
            }
            _ => {}
        }
        drop(memory);
        self.shared.tell();
        for hole in holes {
            self.shared.begin();
            tokio::spawn(Arc::clone(self).page_in(hole));
        }
    }

    fn answered(&self, memory: &mut Memory, id: CommandId, result: Result<Done, Failure>) {
        let number = number_of(id);
        match result {
            Ok(done) => {
                let seq = done.seq.unwrap_or(0);
                self.shared.note(format_args!("a {} {number} {seq}", self.number));
                memory.waiting.remove(&number);
                memory.acknowledged = true;
                if let Some(room) = memory.sent.get(number as usize) {
                    self.shared.acknowledged(*room, seq);
                }
            }
            Err(failure) => self.rejected(memory, number, &failure),
        }
    }

    /// Asks for what a catch-up left out, as an app does when somebody looks.
    async fn page_in(self: Arc<Self>, hole: Hole) {
        let http = self.shared.http(self.dc, &self.identity).await;
        let mut after = hole.after;
        while after + 1 < hole.before {
            match http.messages(hole.room, Page::After(after), PAGE).await {
                Ok(page) => {
                    for message in page.iter().filter(|message| message.seq < hole.before) {
                        note_message(&self.shared, 'h', self.number, hole.room, message);
                    }
                    // A server that does not go on must not keep this going on for ever.
                    let Some(last) = page.last().map(|last| last.seq).filter(|last| *last > after) else { break };
                    after = last;
                }
                Err(_) if self.shared.goes() => tokio::time::sleep(AGAIN).await,
                Err(_) => break,
            }
        }
        self.shared.end();
    }

    /// How many messages have no outcome.
    pub(super) fn waiting(&self) -> usize {
        self.memory.lock().waiting.len()
    }

    /// Whether a message was acknowledged.
    pub(super) fn was_heard(&self) -> bool {
        self.memory.lock().acknowledged
    }

    /// Whether its client has been at a node of its own data center.
    pub(super) fn at_home(&self) -> bool {
        self.memory.lock().at_home
    }

    /// Whether it has every message that was acknowledged to anybody.
    pub(super) fn has_all(&self) -> bool {
        let memory = self.memory.lock();
        self.rooms.iter().all(|room| memory.hearing.reached(*room) >= self.shared.newest(*room))
    }
}

fn number_of(id: CommandId) -> u32 {
    u32::try_from(id.0 & u128::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// Everybody talks: so many messages a second, by whoever's turn it is, into the direct room or, one in four, a group.
pub(super) async fn talk(people: Vec<Arc<Person>>, shared: Arc<Shared>, rate: u32, seed: u64) {
    let mut random = Random::new(seed);
    let mut turns: Vec<Arc<Person>> = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let (begin, mut said) = (tokio::time::Instant::now(), 0);
    loop {
        ticks.tick().await;
        if !shared.goes() {
            return;
        }
        let due = begin.elapsed().as_secs_f64() * f64::from(rate);
        while f64::from(said) < due {
            if turns.is_empty() {
                turns.clone_from(&people);
                random.shuffle(&mut turns);
            }
            said += 1;
            let Some(person) = turns.pop() else { return };
            let at = if random.below(4) == 0 { person.rooms.len().saturating_sub(1) } else { 0 };
            if let Some(room) = person.rooms.get(at) {
                person.say(*room);
            }
        }
    }
}
