//! What a cell is to do, said a second time and differently: plain maps, lists that are searched, no positions, no indexes.

use std::collections::{BTreeMap, BTreeSet};

use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::Command;
use ieum_core::ids::{DeviceId, RoomId, Seq, UserId, compose};
use ieum_core::outcome::{Accepted, Reject};
use ieum_core::tables::messages::{Body, System};
use ieum_core::tables::rooms::Role;
use ieum_core::testing::{CELL, DAY, MINUTE};

use crate::told::{Told, tell};

pub(crate) type Answer = Result<Accepted, Reject>;

/// A conversation.
pub(crate) struct Room {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// Message `n` is the entry at `n - 1`.
    pub(crate) entries: Vec<Entry>,
    pub(crate) people: BTreeMap<UserId, Person>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Group,
    Archive([u8; 16]),
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) from: UserId,
    pub(crate) time: u64,
    pub(crate) edited_at: Option<u64>,
    pub(crate) body: Body,
    pub(crate) key: Option<[u8; 16]>,
}

/// Somebody in a room.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) role: Role,
    pub(crate) from: Seq,
    pub(crate) read: Seq,
    joined: u64,
}

pub(crate) struct Device {
    pub(crate) user: UserId,
    /// Every numbered command so far: its id and what it gave.
    pub(crate) history: Vec<([u8; 16], Answer)>,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) level: u32,
    /// Everybody and their handle.
    pub(crate) users: BTreeMap<UserId, String>,
    /// In how many rooms people are beside those here.
    pub(crate) elsewhere: BTreeMap<UserId, u32>,
    pub(crate) devices: BTreeMap<DeviceId, Device>,
    pub(crate) devices_made: u64,
    pub(crate) rooms: BTreeMap<RoomId, Room>,
    /// What the running batch has told so far.
    pub(crate) told: Vec<Told>,
    #[expect(clippy::type_complexity, reason = "a model is read beside its one use")]
    pub(crate) keys: BTreeMap<(DeviceId, [u8; 16]), ([u8; 16], Answer, u64)>,
}

impl Room {
    pub(crate) fn counts(&self, seq: Seq) -> bool {
        !matches!(self.entries[seq as usize - 1].body, Body::System(_) | Body::Archived { .. })
    }

    pub(crate) fn last(&self) -> Seq {
        self.entries.len() as Seq
    }

    pub(crate) fn unread(&self, person: &Person) -> u64 {
        (person.read.max(person.from - 1) + 1..=self.last()).filter(|seq| self.counts(*seq)).count() as u64
    }
}

impl Model {
    /// The batch's commands begin at this time.
    pub(crate) fn begin(&mut self, clock: u64) {
        self.now = self.now.max(clock);
        self.told.clear();
    }

    /// The batch is over.
    pub(crate) fn end(&mut self) {
        let now = self.now;
        self.keys.retain(|_, (_, _, until)| *until > now);
    }

    pub(crate) fn answer(&mut self, envelope: &Envelope) -> Answer {
        match envelope.origin {
            Origin::Device { device, number, id } => {
                let Some(known) = self.devices.get(&device) else { return Err(Reject::DeviceUnknown) };
                let (used, user) = (known.history.len() as u64, known.user);
                if number > used + 1 {
                    return Err(Reject::OutOfOrder);
                }
                if number + 64 <= used || number == 0 {
                    return Err(Reject::TooOld);
                }
                if let Some((before, answer)) = known.history.get(number as usize - 1) {
                    return if *before == id { answer.clone() } else { Err(Reject::NumberReused) };
                }
                let answer = self.attempt(user, &envelope.command);
                if let Some(device) = self.devices.get_mut(&device) {
                    device.history.push((id, answer.clone()));
                }
                answer
            }
            Origin::Http { device, key, request } => {
                let user = self.devices.get(&device).ok_or(Reject::DeviceUnknown)?.user;
                if let Some((before, answer, _)) = self.keys.get(&(device, key)) {
                    return if *before == request { answer.clone() } else { Err(Reject::KeyReused) };
                }
                let answer = self.attempt(user, &envelope.command);
                self.keys.insert((device, key), (request, answer.clone(), self.now + DAY));
                answer
            }
            Origin::Node | Origin::Anonymous { .. } => panic!("people have devices here"),
        }
    }

    /// All of a command or nothing of it: what it told is taken back when it is rejected. It changes nothing else before that.
    fn attempt(&mut self, me: UserId, command: &Command) -> Answer {
        let told = self.told.len();
        let answer = self.command(me, command);
        if answer.is_err() {
            self.told.truncate(told);
        }
        answer
    }

    fn command(&mut self, me: UserId, command: &Command) -> Answer {
        match command {
            Command::SetName(c) => {
                self.told.push(tell([me], format!("profile {}", c.name)));
                Ok(Accepted::Done)
            }
            Command::AddDevice(c) => {
                self.devices_made += 1;
                let device = DeviceId(compose(CELL, self.devices_made));
                self.devices.insert(device, Device { user: c.user, history: Vec::new() });
                self.told.push(tell([c.user], "devices"));
                Ok(Accepted::DeviceAdded { device })
            }
            Command::LogOut(c) => {
                self.devices.get(&c.device).filter(|device| device.user == me).ok_or(Reject::NotAllowed)?;
                self.devices.remove(&c.device);
                self.told.push(tell([], format!("logged out {}", c.device)));
                self.told.push(tell([me], "devices"));
                Ok(Accepted::Done)
            }
            Command::OpenDirect(c) if !self.by_id() => self.open_direct(me, self.owner(&c.with)),
            Command::CreateGroup(c) if !self.by_id() => self.create(me, &c.name, &self.owners(&c.members)),
            Command::Invite(c) if !self.by_id() => self.invite(me, c.room, &self.owners(&c.users)),
            Command::OpenDirectById(c) if self.by_id() => self.open_direct(me, c.with),
            Command::CreateGroupById(c) if self.by_id() => self.create(me, &c.name, &c.members),
            Command::InviteById(c) if self.by_id() => self.invite(me, c.room, &c.users),
            Command::Leave(c) => self.leave(me, c.room),
            Command::Remove(c) => self.remove(me, c.room, c.user),
            Command::Rename(c) => self.rename(me, c.room, &c.name),
            Command::GiveRole(c) => self.give(me, c.room, c.user, c.role),
            Command::Send(c) => self.send(me, c.room, &c.text, c.reply_to),
            Command::Edit(c) => self.change(me, c.room, c.seq, Some(&c.text)),
            Command::Delete(c) => self.change(me, c.room, c.seq, None),
            Command::Read(c) => self.read(me, c.room, c.seq),
            Command::OpenArchive(c) => self.open_archive(me, c.key, &c.name),
            Command::AddToArchive(c) => self.archive(me, c.room, &c.entries),
            _ => Err(Reject::Unsupported),
        }
    }

    /// Whether people are named by id.
    pub(crate) fn by_id(&self) -> bool {
        self.level < 2
    }

    pub(crate) fn handle(&self, user: UserId) -> String {
        self.users.get(&user).cloned().unwrap_or_else(|| "nobody".to_owned())
    }

    pub(crate) fn handles(&self, users: &[UserId]) -> Vec<String> {
        users.iter().map(|user| self.handle(*user)).collect()
    }

    /// Nobody's handle is that of somebody who is not there.
    fn owner(&self, handle: &str) -> UserId {
        self.users.iter().find(|(_, of)| *of == handle).map_or(UserId(404), |(user, _)| *user)
    }

    fn owners(&self, handles: &[String]) -> Vec<UserId> {
        handles.iter().map(|handle| self.owner(handle)).collect()
    }

    /// Whether `user` may be in one more room that they open themself, or else that another brings them into.
    fn has_place(&self, user: UserId, own: bool) -> bool {
        let here = self.rooms.values().filter(|room| room.people.contains_key(&user)).count() as u32;
        let rooms = here + self.elsewhere.get(&user).copied().unwrap_or(0);
        rooms < if own || self.by_id() { 10_000 } else { 8_000 }
    }

    /// Those of `users` whom another may bring into one more room; an error when that is nobody.
    fn takers(&self, users: Vec<UserId>) -> Result<Vec<UserId>, Reject> {
        let some = !users.is_empty();
        let takers: Vec<UserId> = users.into_iter().filter(|user| self.has_place(*user, false)).collect();
        if some && takers.is_empty() { Err(Reject::TooManyRooms) } else { Ok(takers) }
    }

    fn room(&mut self, me: UserId, room: RoomId) -> Result<&mut Room, Reject> {
        self.rooms.get_mut(&room).filter(|room| room.people.contains_key(&me)).ok_or(Reject::RoomUnknown)
    }

    fn group(&mut self, me: UserId, room: RoomId) -> Result<&mut Room, Reject> {
        let room = self.room(me, room)?;
        if room.kind == Kind::Group { Ok(room) } else { Err(Reject::WrongRoomKind) }
    }

    fn make(&mut self, kind: Kind, name: &str) -> RoomId {
        let id = RoomId(compose(CELL, self.rooms.len() as u64 + 1));
        self.rooms.insert(id, Room { kind, name: name.to_owned(), entries: Vec::new(), people: BTreeMap::new() });
        id
    }

    fn enter(&mut self, id: RoomId, users: &[UserId], role: Role) {
        let now = self.now;
        let room = self.rooms.get_mut(&id).unwrap();
        let from = if room.kind == Kind::Group { room.last() + 1 } else { 1 };
        for user in users {
            room.people.insert(*user, Person { role, from, read: from - 1, joined: now });
        }
        for user in users {
            let news = format!(
                "joined {id} {:?} {role:?} from {from} of {} after {}",
                room.name,
                room.people.len(),
                room.last()
            );
            self.told.push(tell([*user], news));
        }
    }

    /// Appends to the room and tells everybody in it.
    fn say(&mut self, id: RoomId, from: UserId, body: Body) -> Seq {
        let time = self.now;
        let room = self.rooms.get_mut(&id).unwrap();
        room.entries.push(Entry { from, time, edited_at: None, body: body.clone(), key: None });
        let seq = room.last();
        if room.counts(seq)
            && let Some(person) = room.people.get_mut(&from)
        {
            person.read = seq;
        }
        self.told.push(tell(room.people.keys().copied(), format!("message {id} {seq} {from} {body:?}")));
        seq
    }

    fn open_direct(&mut self, me: UserId, with: UserId) -> Answer {
        if me == with {
            return Err(Reject::NotYourself);
        }
        let pair = [me.min(with), me.max(with)];
        let same = |room: &Room| room.kind == Kind::Direct && room.people.keys().eq(pair.iter());
        if let Some((room, _)) = self.rooms.iter().find(|(_, room)| same(room)) {
            return Ok(Accepted::Room { room: *room, created: false });
        }
        if !self.users.contains_key(&with) {
            return Err(Reject::UserUnknown);
        }
        if !self.has_place(me, true) || !self.has_place(with, false) {
            return Err(Reject::TooManyRooms);
        }
        let room = self.make(Kind::Direct, "");
        self.enter(room, &pair, Role::Member);
        Ok(Accepted::Room { room, created: true })
    }

    fn known(&self, users: &[UserId]) -> Result<BTreeSet<UserId>, Reject> {
        let known = users.iter().all(|user| self.users.contains_key(user));
        if known { Ok(users.iter().copied().collect()) } else { Err(Reject::UserUnknown) }
    }

    fn create(&mut self, me: UserId, name: &str, members: &[UserId]) -> Answer {
        if name.is_empty() {
            return Err(Reject::NameInvalid);
        }
        let mut others = self.known(members)?;
        others.remove(&me);
        if !self.has_place(me, true) {
            return Err(Reject::TooManyRooms);
        }
        let others = self.takers(others.into_iter().collect())?;
        let room = self.make(Kind::Group, name);
        self.enter(room, &[me], Role::Owner);
        self.enter(room, &others, Role::Member);
        self.say(room, me, Body::System(System::Created));
        if !others.is_empty() {
            self.say(room, me, Body::System(System::Invited { users: others }));
        }
        Ok(Accepted::Room { room, created: true })
    }

    fn invite(&mut self, me: UserId, id: RoomId, users: &[UserId]) -> Answer {
        self.group(me, id)?;
        let people = &self.rooms[&id].people;
        let users: Vec<UserId> = self.known(users)?.into_iter().filter(|user| !people.contains_key(user)).collect();
        let users = self.takers(users)?;
        let added = users.len() as u64;
        if added > 0 {
            self.enter(id, &users, Role::Member);
            self.say(id, me, Body::System(System::Invited { users }));
        }
        Ok(Accepted::Invited { added })
    }

    fn leave(&mut self, me: UserId, id: RoomId) -> Answer {
        let room = self.group(me, id)?;
        let was = room.people.remove(&me).unwrap().role;
        // Who is before others: by role, then by who came first, then by id.
        let mut heirs: Vec<_> = room.people.iter().map(|(user, p)| (p.role, p.joined, p.from, *user)).collect();
        heirs.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
        self.told.push(tell([me], format!("left {id}")));
        self.say(id, me, Body::System(System::Left));
        if was == Role::Owner
            && let Some((_, _, _, heir)) = heirs.first()
        {
            self.rooms.get_mut(&id).unwrap().people.get_mut(heir).unwrap().role = Role::Owner;
            self.say(id, me, Body::System(System::RoleGiven { user: *heir, role: Role::Owner }));
        }
        Ok(Accepted::Done)
    }

    fn remove(&mut self, me: UserId, id: RoomId, user: UserId) -> Answer {
        let room = self.group(me, id)?;
        if me == user {
            return Err(Reject::NotYourself);
        }
        let theirs = room.people.get(&user).ok_or(Reject::NotAMember)?.role;
        match (room.people[&me].role, theirs) {
            (Role::Owner, _) | (Role::Manager, Role::Member) => {}
            _ => return Err(Reject::NotAllowed),
        }
        room.people.remove(&user);
        self.told.push(tell([user], format!("left {id}")));
        self.say(id, me, Body::System(System::Removed { user }));
        Ok(Accepted::Done)
    }

    fn rename(&mut self, me: UserId, id: RoomId, name: &str) -> Answer {
        let room = self.group(me, id)?;
        if name.is_empty() {
            return Err(Reject::NameInvalid);
        }
        if room.people[&me].role == Role::Member {
            return Err(Reject::NotAllowed);
        }
        room.name = name.to_owned();
        self.say(id, me, Body::System(System::Renamed { name: name.to_owned() }));
        Ok(Accepted::Done)
    }

    fn give(&mut self, me: UserId, id: RoomId, user: UserId, role: Role) -> Answer {
        let room = self.group(me, id)?;
        if room.people[&me].role != Role::Owner {
            return Err(Reject::NotAllowed);
        }
        if me == user {
            return Err(Reject::NotYourself);
        }
        room.people.get_mut(&user).ok_or(Reject::NotAMember)?.role = role;
        if role == Role::Owner {
            room.people.get_mut(&me).unwrap().role = Role::Manager;
        }
        self.say(id, me, Body::System(System::RoleGiven { user, role }));
        Ok(Accepted::Done)
    }

    fn send(&mut self, me: UserId, id: RoomId, said: &str, reply_to: Option<Seq>) -> Answer {
        if said.is_empty() {
            return Err(Reject::TextEmpty);
        }
        let room = self.room(me, id)?;
        if matches!(room.kind, Kind::Archive(_)) {
            return Err(Reject::WrongRoomKind);
        }
        if reply_to.is_some_and(|seq| !(room.people[&me].from..=room.last()).contains(&seq)) {
            return Err(Reject::MessageUnknown);
        }
        let body = Body::Text { text: said.to_owned(), reply_to };
        Ok(Accepted::Sent { seq: self.say(id, me, body), time: self.now })
    }

    fn change(&mut self, me: UserId, id: RoomId, seq: Seq, new: Option<&str>) -> Answer {
        if new.is_some_and(str::is_empty) {
            return Err(Reject::TextEmpty);
        }
        let now = self.now;
        let room = self.room(me, id)?;
        if matches!(room.kind, Kind::Archive(_)) {
            return Err(Reject::WrongRoomKind);
        }
        if !(room.people[&me].from..=room.last()).contains(&seq) {
            return Err(Reject::MessageUnknown);
        }
        let entry = &mut room.entries[seq as usize - 1];
        let Body::Text { text: _, reply_to } = entry.body else {
            return Err(if entry.body == Body::Deleted { Reject::MessageDeleted } else { Reject::NotAllowed });
        };
        if entry.from != me {
            return Err(Reject::NotAllowed);
        }
        let age = now - entry.time;
        match new {
            Some(_) if age > 15 * MINUTE => return Err(Reject::EditTooLate),
            None if age > 5 * MINUTE => return Err(Reject::DeleteTooLate),
            Some(new) => {
                entry.body = Body::Text { text: new.to_owned(), reply_to };
                entry.edited_at = Some(now);
            }
            None => entry.body = Body::Deleted,
        }
        let news = format!("changed {id} {seq} {:?}", entry.body);
        let see: Vec<UserId> =
            room.people.iter().filter(|(_, person)| person.from <= seq).map(|(user, _)| *user).collect();
        self.told.push(tell(see, news));
        Ok(Accepted::Done)
    }

    fn read(&mut self, me: UserId, id: RoomId, seq: Seq) -> Answer {
        let room = self.room(me, id)?;
        if matches!(room.kind, Kind::Archive(_)) {
            return Err(Reject::WrongRoomKind);
        }
        if seq <= room.people[&me].read {
            return Ok(Accepted::Done);
        }
        if seq > room.last() {
            return Err(Reject::MessageUnknown);
        }
        room.people.get_mut(&me).unwrap().read = seq;
        let everybody: Vec<UserId> = room.people.keys().copied().collect();
        self.told.push(tell(everybody, format!("receipt {id} {me} {seq}")));
        Ok(Accepted::Done)
    }

    fn open_archive(&mut self, me: UserId, key: [u8; 16], name: &str) -> Answer {
        let mine = |room: &Room| room.kind == Kind::Archive(key) && room.people.contains_key(&me);
        if let Some((room, _)) = self.rooms.iter().find(|(_, room)| mine(room)) {
            return Ok(Accepted::Room { room: *room, created: false });
        }
        if !self.has_place(me, true) {
            return Err(Reject::TooManyRooms);
        }
        let room = self.make(Kind::Archive(key), name);
        self.enter(room, &[me], Role::Owner);
        Ok(Accepted::Room { room, created: true })
    }

    fn archive(&mut self, me: UserId, id: RoomId, entries: &[ieum_core::commands::archive::Entry]) -> Answer {
        let room = self.room(me, id)?;
        if !matches!(room.kind, Kind::Archive(_)) {
            return Err(Reject::WrongRoomKind);
        }
        let mut known = 0;
        for entry in entries {
            if room.entries.iter().any(|e| e.key == Some(entry.key)) {
                known += 1;
                continue;
            }
            let (author, kind, text) = (entry.author.clone(), entry.kind.clone(), entry.text.clone());
            let body = Body::Archived { author, kind, text };
            room.entries.push(Entry { from: me, time: entry.time, edited_at: None, body, key: Some(entry.key) });
        }
        let (added, last) = (entries.len() as u64 - known, room.last());
        if added > 0 {
            self.told.push(tell([me], format!("archived {id} {last}")));
        }
        Ok(Accepted::Archived { added, known, last })
    }
}
