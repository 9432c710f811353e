//! A cell as it would be if many people had talked: made row by row in the order of the view, not command by command.
//!
//! It is what these commands give, each group in a batch of its own (a test applies them and compares every row):
//!
//! ```text
//!  1.1  the node is added          1.3  the lower person of each pair opens its room, room after room
//!  1.2  everybody registers        1.4  room after room, its two people write in turns, the lower one first
//! ```

use std::ops::ControlFlow;

use bytes::Bytes;
use ieum_core::codec::Code;
use ieum_core::commands::LEVEL;
use ieum_core::ids::{DeviceId, Millis, Position, RoomId, Seq, UserId, compose};
use ieum_core::kv::{self, Direction, Read, Visit};
use ieum_core::outcome::{Accepted, Outcome};
use ieum_core::tables::accounts::{
    DEVICES, Device, HANDLES, HOLDINGS, Holdings, PROGRESS, Progress, USER_DEVICES, USERS, User,
};
use ieum_core::tables::cell::{
    APPLIED, Applied, CLOCK, COUNTERS, Clock, Counters, NODES, Node, ONLY, SETTINGS, Settings, Stamp,
};
use ieum_core::tables::messages::{Body, MESSAGES, Message};
use ieum_core::tables::once::{OUTCOMES, SLOTS, Slot};
use ieum_core::tables::rooms::{DIRECT, HEADS, Head, Kind, RECEIPTS, ROOMS, Receipt, Room, USER_ROOMS};

/// The cell's number.
pub(crate) const CELL: u16 = 1;
/// The node that all of it came through, and its data center: those of a server with default settings.
pub(crate) const NODE: (u32, &str) = (1, "a");

const OPENED: Position = Position { generation: 1, ordinal: 3 };
const WRITTEN: Position = Position { generation: 1, ordinal: 4 };

/// What people say.
pub(crate) const TEXTS: [&str; 4] = [
    "안녕하세요, 오늘 저녁에 시간 되세요?",
    "네, 7시에 거기서 봬요.",
    "조금 늦을 것 같아요. 미안해요!",
    "ㅋㅋㅋㅋ 알겠어요 천천히 오세요",
];

/// People, the rooms of pairs of them, and how much was said in each.
#[derive(Debug)]
pub(crate) struct World {
    people: u32,
    /// Who talks with whom, the lower number first; ascending, so that a room's number is its place.
    pairs: Vec<(u32, u32)>,
    messages: u64,
    /// When everything happened.
    now: Millis,
    /// Where each person's rooms begin in `rooms`, and the end.
    starts: Vec<u32>,
    rooms: Vec<u32>,
}

/// A person's number from 0, as an id.
pub(crate) fn id(number: u32) -> u64 {
    compose(CELL, u64::from(number) + 1)
}

/// The secret of a person's device, as it goes over the wire.
pub(crate) fn secret(person: u32) -> String {
    data_encoding::BASE64URL_NOPAD.encode(&secret_bytes(person))
}

fn secret_bytes(person: u32) -> [u8; 32] {
    *blake3::hash(format!("bench device {person}").as_bytes()).as_bytes()
}

/// The BLAKE3 of a device's secret.
pub(crate) fn secret_hash(person: u32) -> [u8; 32] {
    *blake3::hash(&secret_bytes(person)).as_bytes()
}

pub(crate) fn handle(person: u32) -> String {
    format!("bench{person:09}")
}

pub(crate) fn name(person: u32) -> String {
    format!("사람 {person}")
}

/// No password opens these accounts: it is not the hash of any.
pub(crate) const PASSWORD: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$YmVuY2gtYmVuY2gtYmVuYw$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The random id of a device's command.
pub(crate) fn command_id(person: u32, number: u64) -> [u8; 16] {
    (u128::from(id(person)) << 64 | u128::from(number)).to_be_bytes()
}

fn list<T>(items: &[T], range: std::ops::Range<u32>) -> &[T] {
    items.get(range.start as usize..range.end as usize).unwrap_or_default()
}

impl World {
    /// Pairs of people who have one room each: 0 with 1, 2 with 3 and so on.
    pub(crate) fn couples(people: u32, messages: u64, now: Millis) -> Self {
        Self::new(people, (0..people / 2).map(|pair| (2 * pair, 2 * pair + 1)).collect(), messages, now)
    }

    /// So many rooms, of people who each talk with the next two, and so with up to four.
    pub(crate) fn neighbours(rooms: u32, messages: u64, now: Millis) -> Self {
        let people = rooms / 2 + 2;
        let pairs = (0..people).flat_map(|one| [(one, one + 1), (one, one + 2)]).filter(|(_, other)| *other < people);
        Self::new(people, pairs.take(rooms as usize).collect(), messages, now)
    }

    fn new(people: u32, pairs: Vec<(u32, u32)>, messages: u64, now: Millis) -> Self {
        let mut of: Vec<(u32, u32)> = Vec::with_capacity(pairs.len() * 2);
        for (room, (low, high)) in (0u32..).zip(&pairs) {
            of.extend([(*low, room), (*high, room)]);
        }
        of.sort_unstable();
        let mut starts = vec![0; people as usize + 1];
        for (person, _) in &of {
            if let Some(start) = starts.get_mut(*person as usize + 1) {
                *start += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        Self { people, pairs, messages, now, starts, rooms: of.into_iter().map(|(_, room)| room).collect() }
    }

    /// `count` pairs of people, nobody in two of them, spread over all rooms: who, who, and their room's id.
    pub(crate) fn spread(&self, count: u32) -> Vec<(u32, u32, u64)> {
        // Even, so that couples are met at their first.
        let step = (self.people / count.max(1)).max(2) & !1;
        let firsts = (0..count).map(|pair| pair * step);
        let found = firsts.filter_map(|one| {
            let room = u32::try_from(self.pairs.binary_search(&(one, one + 1)).ok()?).ok()?;
            Some((one, one + 1, id(room)))
        });
        found.collect()
    }

    fn rooms_of(&self, person: u32) -> &[u32] {
        let at = |index: u32| self.starts.get(index as usize).copied().unwrap_or_default();
        list(&self.rooms, at(person)..at(person + 1))
    }

    fn pair(&self, room: u32) -> (u32, u32) {
        self.pairs.get(room as usize).copied().unwrap_or_default()
    }

    /// How many of a room's messages are the lower and the higher person's.
    fn shares(&self) -> (u64, u64) {
        (self.messages.div_ceil(2), self.messages / 2)
    }

    /// The seqs of a person's messages in a room.
    fn seqs_of(&self, person: u32, room: u32) -> impl Iterator<Item = Seq> + use<> {
        let first = if self.pair(room).0 == person { 1 } else { 2 };
        (first..=self.messages).step_by(2)
    }

    /// The outcomes of all commands of a person's device, in order.
    fn outcomes_of(&self, person: u32) -> impl Iterator<Item = Outcome> + '_ {
        let rooms = self.rooms_of(person);
        let opened = rooms.iter().filter(move |room| self.pair(**room).0 == person);
        let opened = opened.map(|room| Accepted::Room { room: RoomId(id(*room)), created: true });
        let time = self.now;
        let sent = rooms.iter().flat_map(move |room| self.seqs_of(person, *room));
        opened.chain(sent.map(move |seq| Accepted::Sent { seq, time })).map(Outcome::Accepted)
    }

    fn commands_of(&self, person: u32) -> u64 {
        let (low, high) = self.shares();
        let each = |room: &u32| if self.pair(*room).0 == person { low + 1 } else { high };
        self.rooms_of(person).iter().map(each).sum()
    }

    /// What a message says.
    pub(crate) fn text(room: u32, seq: Seq) -> String {
        let which = (u64::from(room) + seq) % TEXTS.len() as u64;
        TEXTS.get(usize::try_from(which).unwrap_or_default()).copied().unwrap_or_default().to_owned()
    }

    fn applied(&self) -> Applied {
        let described = format!("bench {} {} {} {}", self.people, self.pairs.len(), self.messages, self.now);
        Applied { position: WRITTEN, digest: *blake3::hash(described.as_bytes()).as_bytes() }
    }

    /// Every row, in the order of their keys.
    fn rows(&self, out: &mut Rows<'_, '_>) -> ControlFlow<()> {
        self.cell_rows(out)?;
        self.account_rows(out)?;
        self.node_rows(out)?;
        self.room_rows(out)?;
        self.message_rows(out)
    }

    fn cell_rows(&self, out: &mut Rows<'_, '_>) -> ControlFlow<()> {
        out.row(APPLIED.key(&ONLY), &self.applied())?;
        out.row(SETTINGS.key(&ONLY), &Settings::new(CELL, LEVEL))
    }

    fn node_rows(&self, out: &mut Rows<'_, '_>) -> ControlFlow<()> {
        let (node, dc) = NODE;
        let row = Node { dc: dc.to_owned(), incarnation: 1, number: WRITTEN.ordinal, level: LEVEL };
        out.row(NODES.key(&node), &row)?;
        let stamp = Stamp { dc: dc.to_owned(), clock: self.now, ticks: Vec::new() };
        out.row(CLOCK.key(&ONLY), &Clock { now: self.now, stamps: vec![stamp] })?;
        let people = u64::from(self.people);
        let counters = Counters { users: people, devices: people, rooms: self.pairs.len() as u64 };
        if people > 0 { out.row(COUNTERS.key(&ONLY), &counters) } else { ControlFlow::Continue(()) }
    }

    fn account_rows(&self, out: &mut Rows<'_, '_>) -> ControlFlow<()> {
        let people = 0..self.people;
        for person in people.clone() {
            let (handle, name) = (handle(person), name(person));
            let row = User { handle, name, password: PASSWORD.to_owned(), registered_at: self.now };
            out.row(USERS.key(&UserId(id(person))), &row)?;
        }
        for person in people.clone() {
            out.row(HANDLES.key(&handle(person)), &UserId(id(person)))?;
        }
        for person in people.clone() {
            let (user, secret_hash) = (UserId(id(person)), secret_hash(person));
            let row = Device { user, secret_hash, name: "bench".to_owned(), added_at: self.now };
            out.row(DEVICES.key(&DeviceId(id(person))), &row)?;
        }
        for person in people.clone() {
            out.row(USER_DEVICES.key(&(UserId(id(person)), DeviceId(id(person)))), &true)?;
        }
        for person in people.clone() {
            let row = Progress { user: UserId(id(person)), last: self.commands_of(person) };
            out.row(PROGRESS.key(&DeviceId(id(person))), &row)?;
        }
        for person in people {
            let rooms = u32::try_from(self.rooms_of(person).len()).unwrap_or(u32::MAX);
            out.row(HOLDINGS.key(&UserId(id(person))), &Holdings { rooms, devices: 1 })?;
        }
        ControlFlow::Continue(())
    }

    fn rooms_and_pairs(&self) -> impl Iterator<Item = (u32, RoomId, UserId, UserId)> + '_ {
        let rooms = (0u32..).zip(&self.pairs);
        rooms.map(|(room, (low, high))| (room, RoomId(id(room)), UserId(id(*low)), UserId(id(*high))))
    }

    fn room_rows(&self, out: &mut Rows<'_, '_>) -> ControlFlow<()> {
        for (_, room, low, high) in self.rooms_and_pairs() {
            let kind = Kind::Direct { low, high };
            out.row(ROOMS.key(&room), &Room { kind, name: String::new(), created_at: self.now, members: 2 })?;
        }
        for (_, room, ..) in self.rooms_and_pairs() {
            out.row(HEADS.key(&room), &self.head())?;
        }
        for (_, room, low, high) in self.rooms_and_pairs() {
            out.row(DIRECT.key(&(low, high)), &room)?;
        }
        for person in 0..self.people {
            for room in self.rooms_of(person) {
                out.row(USER_ROOMS.key(&(UserId(id(person)), RoomId(id(*room)))), &OPENED)?;
            }
        }
        let last = self.messages;
        let read = |seq| Receipt { seq, counted: seq, at: WRITTEN };
        for (_, room, low, high) in self.rooms_and_pairs() {
            // The lower person wrote the odd ones.
            let (of_low, of_high) = if last % 2 == 1 { (last, last - 1) } else { (last.saturating_sub(1), last) };
            for (person, seq) in [(low, of_low), (high, of_high)] {
                if seq > 0 {
                    out.row(RECEIPTS.key(&(room, person)), &read(seq))?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn head(&self) -> Head {
        let last = self.messages;
        if last == 0 {
            return Head::start();
        }
        Head { last, counted: last, last_time: self.now, message_at: WRITTEN, ..Head::start() }
    }

    fn message_rows(&self, out: &mut Rows<'_, '_>) -> ControlFlow<()> {
        for (number, room, low, high) in self.rooms_and_pairs() {
            for seq in 1..=self.messages {
                let from = if seq % 2 == 1 { low } else { high };
                let body = Body::Text { text: Self::text(number, seq), reply_to: None };
                let row = Message { from, time: self.now, at: WRITTEN, counted: seq, edited_at: None, body };
                out.row(MESSAGES.key(&(room, seq)), &row)?;
            }
        }
        for person in 0..self.people {
            let (all, device) = (self.commands_of(person), DeviceId(id(person)));
            let mut slots: Vec<Slot> = (1u64..)
                .zip(self.outcomes_of(person))
                .filter(|(number, _)| *number + SLOTS > all)
                .map(|(number, outcome)| Slot { number, id: command_id(person, number), outcome })
                .collect();
            slots.sort_by_key(|slot| slot.number % SLOTS);
            for slot in slots {
                let place = u8::try_from(slot.number % SLOTS).unwrap_or_default();
                out.row(OUTCOMES.key(&(device, place)), &slot)?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// Where rows go.
struct Rows<'a, 'v> {
    visit: &'a mut Visit<'v>,
}

impl Rows<'_, '_> {
    fn row(&mut self, key: Vec<u8>, value: &impl Code) -> ControlFlow<()> {
        (self.visit)(&key, &Bytes::from(value.to_bytes()))
    }
}

/// As much of a view as writing a snapshot needs: all rows once, and the cell's own.
impl Read for World {
    fn get(&self, key: &[u8]) -> kv::Result<Option<Bytes>> {
        let mut found = None;
        let mut seek = |at: &[u8], value: &Bytes| {
            if at == key {
                found = Some(value.clone());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let _ = self.cell_rows(&mut Rows { visit: &mut seek });
        Ok(found)
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> kv::Result<()> {
        if direction == Direction::Backward {
            return Err(kv::Error::new("scan", "a made-up world is read forwards"));
        }
        let mut within = |key: &[u8], value: &Bytes| {
            if key < from {
                ControlFlow::Continue(())
            } else if key < to {
                visit(key, value)
            } else {
                ControlFlow::Break(())
            }
        };
        let _ = self.rows(&mut Rows { visit: &mut within });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
