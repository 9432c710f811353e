//! Rooms: who is in them, what was said, how far people have read.

use std::collections::BTreeMap;

use ieum_core::ids::{Position, RoomId};
use ieum_core::outcome::{Accepted, Reject};
use ieum_core::tables::messages::{Body, System};
use ieum_core::tables::rooms::Role;

use super::people::is_name;
use super::{Counted, Model, Past, Step, Told};

/// In a room with more members receipts are told to the reader's own devices alone.
pub(crate) const TOLD_RECEIPTS: usize = 100;
/// A room has so many members at most.
const MOST_MEMBERS: usize = 3_000;
/// Somebody is in so many rooms at most.
const MOST_ROOMS: usize = 10_000;
/// From the second level on others bring one into a room only below so many.
const MOST_BY_OTHERS: usize = 8_000;

/// What kind of room it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct(u64, u64),
    Group,
    Archive(u64),
}

/// A message.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) at: Position,
    pub(crate) from: u64,
    pub(crate) time: u64,
    /// How many messages up to this one count as unread ones.
    pub(crate) counted: u64,
    /// What it says and when it was edited, from its beginning on.
    pub(crate) versions: Vec<(Position, Body, Option<u64>)>,
}

impl Said {
    /// What it said to a view at `at`.
    pub(crate) fn as_of(&self, at: Position) -> Option<&(Position, Body, Option<u64>)> {
        self.versions.iter().rev().find(|(since, ..)| *since <= at)
    }

    fn says(&self) -> Option<&Body> {
        self.versions.last().map(|(_, body, _)| body)
    }
}

/// Somebody in a room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) role: Role,
    /// The first message that they see.
    pub(crate) from: u64,
    joined_at: u64,
}

/// A room.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) kind: Kind,
    pub(crate) name: Past<String>,
    pub(crate) said: Vec<Said>,
    counted: u64,
    pub(crate) members: BTreeMap<u64, Past<Option<Standing>>>,
    pub(crate) size: Past<u32>,
    /// How far each has read who is in it and has.
    read: BTreeMap<u64, Past<Option<u64>>>,
    /// Which messages each has seen or may see: from one, up to one when they left.
    stays: BTreeMap<u64, Vec<(u64, Option<u64>)>>,
    /// Edits and deletes, in order.
    pub(crate) changes: Vec<(Position, u64)>,
    pub(super) keys: BTreeMap<[u8; 16], u64>,
}

impl Room {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            name: Past::default(),
            said: Vec::new(),
            counted: 0,
            members: BTreeMap::new(),
            size: Past::default(),
            read: BTreeMap::new(),
            stays: BTreeMap::new(),
            changes: Vec::new(),
            keys: BTreeMap::new(),
        }
    }

    pub(super) fn last(&self) -> u64 {
        self.said.len() as u64
    }

    pub(crate) fn message(&self, seq: u64) -> Option<&Said> {
        self.said.get(usize::try_from(seq.checked_sub(1)?).ok()?)
    }

    /// The last message for a view at `at`.
    pub(crate) fn last_at(&self, at: Position) -> u64 {
        self.said.partition_point(|said| said.at <= at) as u64
    }

    /// How many messages up to this one count as unread.
    pub(crate) fn counted(&self, seq: u64) -> u64 {
        self.message(seq).map_or(0, |said| said.counted)
    }

    /// How far somebody had read, for a view at `at`.
    pub(crate) fn read_at(&self, user: u64, at: Position) -> u64 {
        self.read.get(&user).and_then(|read| read.at(at)).copied().flatten().unwrap_or(0)
    }

    fn has_read(&mut self, user: u64, at: Position, seq: u64) {
        self.read.entry(user).or_default().set(at, Some(seq));
    }

    /// What somebody has not read, for a view at `at`.
    pub(crate) fn unread(&self, user: u64, at: Position) -> u64 {
        self.counted(self.last_at(at)).saturating_sub(self.counted(self.read_at(user, at)))
    }

    /// How far everybody has read who is or was in it and has.
    pub(crate) fn all_read(&self) -> impl Iterator<Item = (u64, Option<u64>)> {
        self.read.iter().map(|(user, read)| (*user, read.now().copied().flatten()))
    }

    fn standing(&self, user: u64) -> Option<Standing> {
        self.members.get(&user)?.now().copied().flatten()
    }

    /// Whether somebody may ever have seen a message.
    pub(crate) fn is_visible(&self, user: u64, seq: u64) -> bool {
        let stays = self.stays.get(&user);
        stays.is_some_and(|stays| stays.iter().any(|(from, to)| seq >= *from && to.is_none_or(|to| seq <= to)))
    }

    /// Everybody in it, ascending.
    fn people(&self) -> Vec<u64> {
        let is_in = |(user, past): (&u64, &Past<Option<Standing>>)| past.now().copied().flatten().map(|_| *user);
        self.members.iter().filter_map(is_in).collect()
    }
}

impl Model {
    pub(super) fn room_of(&self, room: u64, user: u64) -> Step<(&Room, Standing)> {
        let room = self.rooms.get(&room).ok_or(Reject::RoomUnknown)?;
        let standing = room.standing(user).ok_or(Reject::RoomUnknown)?;
        Ok((room, standing))
    }

    fn group_of(&self, room: u64, user: u64) -> Step<(&Room, Standing)> {
        let of = self.room_of(room, user)?;
        if of.0.kind == Kind::Group { Ok(of) } else { Err(Reject::WrongRoomKind) }
    }

    pub(super) fn make(&mut self, kind: Kind, name: &str) -> u64 {
        let id = self.count(Counted::Rooms);
        let mut room = Room::new(kind);
        room.name.set(self.at, name.to_owned());
        self.rooms.insert(id, room);
        id
    }

    /// Somebody comes in. Their messages begin behind the last one.
    pub(super) fn admit(&mut self, id: u64, user: u64, role: Role, members: u32) {
        let (at, now) = (self.at, self.time.now());
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let last = room.last();
        let standing = Standing { role, from: last + 1, joined_at: now };
        room.members.entry(user).or_default().set(at, Some(standing));
        room.stays.entry(user).or_default().push((last + 1, None));
        room.size.set(at, members);
        if room.kind == Kind::Group {
            room.has_read(user, at, last);
        }
        if let Some(person) = self.people.get_mut(&user) {
            person.rooms.entry(id).or_default().set(at, true);
            person.is_in += 1;
        }
        self.tell([user], &Told::Joined { room: id, from: last + 1, last, role, members });
    }

    /// Whether somebody may be in one more room, whether they want it or others.
    pub(super) fn has_room(&self, user: u64, by_others: bool) -> bool {
        let most = if by_others && self.level() > 1 { MOST_BY_OTHERS } else { MOST_ROOMS };
        self.people.get(&user).is_some_and(|person| person.is_in < most)
    }

    /// Whoever has no room is passed over; if that leaves nobody, nobody is let in.
    fn who_has_room(&self, people: &mut Vec<u64>) -> Step<()> {
        let anybody = !people.is_empty();
        people.retain(|person| self.has_room(*person, true));
        if anybody && people.is_empty() { Err(Reject::TooManyRooms) } else { Ok(()) }
    }

    fn says(&mut self, id: u64, from: u64, body: Body) -> u64 {
        let (at, time) = (self.at, self.time.now());
        let Some(room) = self.rooms.get_mut(&id) else { return 0 };
        let system = matches!(body, Body::System(_));
        room.counted += u64::from(!system);
        let counted = room.counted;
        room.said.push(Said { at, from, time, counted, versions: vec![(at, body, None)] });
        let seq = room.last();
        if !system {
            room.has_read(from, at, seq);
        }
        let people = room.people();
        self.tell(people, &Told::Message { room: id, seq });
        seq
    }

    pub(super) fn open_direct(&mut self, user: u64, with: Option<u64>) -> Step {
        let with = with.ok_or(Reject::UserUnknown)?;
        if with == user {
            return Err(Reject::NotYourself);
        }
        let pair = (user.min(with), user.max(with));
        if let Some(room) = self.pairs.get(&pair) {
            return Ok(Accepted::Room { room: RoomId(*room), created: false });
        }
        if !self.has_room(user, false) || !self.has_room(with, true) {
            return Err(Reject::TooManyRooms);
        }
        let room = self.make(Kind::Direct(pair.0, pair.1), "");
        self.pairs.insert(pair, room);
        for person in [pair.0, pair.1] {
            self.admit(room, person, Role::Member, 2);
        }
        Ok(Accepted::Room { room: RoomId(room), created: true })
    }

    pub(super) fn create_group(&mut self, user: u64, name: &str, people: Vec<Option<u64>>) -> Step {
        if !is_name(name) {
            return Err(Reject::NameInvalid);
        }
        let mut others = Self::named(people)?;
        others.retain(|other| *other != user);
        if !self.has_room(user, false) {
            return Err(Reject::TooManyRooms);
        }
        self.who_has_room(&mut others)?;
        let room = self.make(Kind::Group, name);
        self.admit(room, user, Role::Owner, 1);
        let all = u32::try_from(others.len() + 1).unwrap_or(u32::MAX);
        for other in &others {
            self.admit(room, *other, Role::Member, all);
        }
        self.says(room, user, Body::System(System::Created));
        self.says_invited(room, user, &others);
        Ok(Accepted::Room { room: RoomId(room), created: true })
    }

    fn says_invited(&mut self, room: u64, from: u64, people: &[u64]) {
        if !people.is_empty() {
            let users = people.iter().map(|user| ieum_core::ids::UserId(*user)).collect();
            self.says(room, from, Body::System(System::Invited { users }));
        }
    }

    pub(super) fn invite(&mut self, user: u64, id: u64, people: Vec<Option<u64>>) -> Step {
        let (room, _) = self.group_of(id, user)?;
        let mut people = Self::named(people)?;
        people.retain(|person| room.standing(*person).is_none());
        let all = room.people().len() + people.len();
        if all > MOST_MEMBERS {
            return Err(Reject::RoomFull);
        }
        self.who_has_room(&mut people)?;
        let all = room.people().len() + people.len();
        for person in &people {
            self.admit(id, *person, Role::Member, u32::try_from(all).unwrap_or(u32::MAX));
        }
        self.says_invited(id, user, &people);
        Ok(Accepted::Invited { added: people.len() as u64 })
    }

    fn take_out(&mut self, id: u64, user: u64) {
        let at = self.at;
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let last = room.last();
        room.members.entry(user).or_default().set(at, None);
        room.read.entry(user).or_default().set(at, None);
        if let Some((_, to)) = room.stays.get_mut(&user).and_then(|stays| stays.last_mut()) {
            *to = Some(last);
        }
        let left = room.people();
        room.size.set(at, u32::try_from(left.len()).unwrap_or(u32::MAX));
        if left.len() == TOLD_RECEIPTS {
            // From here on receipts are told to everybody, who have to know those of before.
            let read: Vec<(u64, u64)> =
                left.iter().filter_map(|user| Some((*user, (*room.read.get(user)?.now()?)?))).collect();
            for (user, seq) in read {
                self.tell(left.clone(), &Told::Receipt { room: id, user, seq });
            }
        }
        if let Some(person) = self.people.get_mut(&user) {
            person.rooms.entry(id).or_default().set(at, false);
            person.is_in -= 1;
        }
        self.tell([user], &Told::Left { room: id });
    }

    pub(super) fn leave(&mut self, user: u64, id: u64) -> Step {
        let (_, standing) = self.group_of(id, user)?;
        self.take_out(id, user);
        self.says(id, user, Body::System(System::Left));
        if standing.role == Role::Owner
            && let Some(heir) = self.heir(id)
        {
            self.has_role(id, heir, Role::Owner);
            let given = System::RoleGiven { user: ieum_core::ids::UserId(heir), role: Role::Owner };
            self.says(id, user, Body::System(given));
        }
        Ok(Accepted::Done)
    }

    /// Who has the highest role and has been there for the longest time.
    fn heir(&self, id: u64) -> Option<u64> {
        let room = self.rooms.get(&id)?;
        let standings = room.people().into_iter().filter_map(|user| Some((user, room.standing(user)?)));
        let best = standings.min_by_key(|(user, s)| (std::cmp::Reverse(s.role), s.joined_at, s.from, *user));
        best.map(|(user, _)| user)
    }

    fn has_role(&mut self, id: u64, user: u64, role: Role) {
        let at = self.at;
        let Some(past) = self.rooms.get_mut(&id).and_then(|room| room.members.get_mut(&user)) else { return };
        if let Some(standing) = past.now().copied().flatten() {
            past.set(at, Some(Standing { role, ..standing }));
        }
    }

    pub(super) fn remove(&mut self, user: u64, id: u64, other: u64) -> Step {
        let (room, standing) = self.group_of(id, user)?;
        if other == user {
            return Err(Reject::NotYourself);
        }
        let theirs = room.standing(other).ok_or(Reject::NotAMember)?;
        if standing.role <= theirs.role {
            return Err(Reject::NotAllowed);
        }
        self.take_out(id, other);
        self.says(id, user, Body::System(System::Removed { user: ieum_core::ids::UserId(other) }));
        Ok(Accepted::Done)
    }

    pub(super) fn rename(&mut self, user: u64, id: u64, name: &str) -> Step {
        let (_, standing) = self.group_of(id, user)?;
        if !is_name(name) {
            return Err(Reject::NameInvalid);
        }
        if standing.role < Role::Manager {
            return Err(Reject::NotAllowed);
        }
        let at = self.at;
        if let Some(room) = self.rooms.get_mut(&id) {
            room.name.set(at, name.to_owned());
        }
        self.says(id, user, Body::System(System::Renamed { name: name.to_owned() }));
        Ok(Accepted::Done)
    }

    pub(super) fn give_role(&mut self, user: u64, id: u64, other: u64, role: Role) -> Step {
        let (room, standing) = self.group_of(id, user)?;
        if standing.role != Role::Owner {
            return Err(Reject::NotAllowed);
        }
        if other == user {
            return Err(Reject::NotYourself);
        }
        room.standing(other).ok_or(Reject::NotAMember)?;
        self.has_role(id, other, role);
        if role == Role::Owner {
            self.has_role(id, user, Role::Manager);
        }
        let given = System::RoleGiven { user: ieum_core::ids::UserId(other), role };
        self.says(id, user, Body::System(given));
        Ok(Accepted::Done)
    }

    fn is_text(text: &str) -> Step<()> {
        match text.chars().count() {
            0 => Err(Reject::TextEmpty),
            1..=10_000 => Ok(()),
            _ => Err(Reject::TextTooLong),
        }
    }

    fn talk_of(&self, id: u64, user: u64) -> Step<(&Room, Standing)> {
        let of = self.room_of(id, user)?;
        if matches!(of.0.kind, Kind::Archive(_)) { Err(Reject::WrongRoomKind) } else { Ok(of) }
    }

    pub(super) fn send(&mut self, user: u64, id: u64, text: &str, reply_to: Option<u64>) -> Step {
        Self::is_text(text)?;
        let (room, standing) = self.talk_of(id, user)?;
        if reply_to.is_some_and(|seq| !(standing.from..=room.last()).contains(&seq)) {
            return Err(Reject::MessageUnknown);
        }
        let seq = self.says(id, user, Body::Text { text: text.to_owned(), reply_to });
        Ok(Accepted::Sent { seq, time: self.time.now() })
    }

    /// One of somebody's own messages that stands there: what it says, and for how long it has.
    fn own(&self, user: u64, id: u64, seq: u64) -> Step<(Option<u64>, u64)> {
        let (room, standing) = self.talk_of(id, user)?;
        let said = room.message(seq).filter(|_| seq >= standing.from).ok_or(Reject::MessageUnknown)?;
        match said.says() {
            Some(Body::Deleted) => Err(Reject::MessageDeleted),
            Some(Body::Text { reply_to, .. }) if said.from == user => {
                Ok((*reply_to, self.time.now().saturating_sub(said.time)))
            }
            _ => Err(Reject::NotAllowed),
        }
    }

    fn changes(&mut self, id: u64, seq: u64, body: Body, edited: bool) {
        let (at, now) = (self.at, self.time.now());
        let Some(room) = self.rooms.get_mut(&id) else { return };
        room.changes.push((at, seq));
        let Some(said) = usize::try_from(seq - 1).ok().and_then(|index| room.said.get_mut(index)) else { return };
        let before = said.versions.last().and_then(|(.., edited_at)| *edited_at);
        said.versions.push((at, body, if edited { Some(now) } else { before }));
        let version = said.versions.len() - 1;
        let sees = |user: &u64| room.standing(*user).is_some_and(|standing| standing.from <= seq);
        let people: Vec<u64> = room.people().into_iter().filter(sees).collect();
        self.tell(people, &Told::Changed { room: id, seq, version });
    }

    pub(super) fn edit(&mut self, user: u64, id: u64, seq: u64, text: &str) -> Step {
        Self::is_text(text)?;
        let (reply_to, old) = self.own(user, id, seq)?;
        if old > self.edit_limit {
            return Err(Reject::EditTooLate);
        }
        self.changes(id, seq, Body::Text { text: text.to_owned(), reply_to }, true);
        Ok(Accepted::Done)
    }

    pub(super) fn delete(&mut self, user: u64, id: u64, seq: u64) -> Step {
        let (_, old) = self.own(user, id, seq)?;
        if old > self.delete_limit {
            return Err(Reject::DeleteTooLate);
        }
        self.changes(id, seq, Body::Deleted, false);
        Ok(Accepted::Done)
    }

    pub(super) fn read(&mut self, user: u64, id: u64, seq: u64) -> Step {
        let (room, _) = self.talk_of(id, user)?;
        if seq <= room.read_at(user, self.at) {
            return Ok(Accepted::Done);
        }
        room.message(seq).ok_or(Reject::MessageUnknown)?;
        let people = room.people();
        let at = self.at;
        if let Some(room) = self.rooms.get_mut(&id) {
            room.has_read(user, at, seq);
        }
        let told = Told::Receipt { room: id, user, seq };
        if people.len() <= TOLD_RECEIPTS {
            self.tell(people, &told)
        } else {
            self.tell([user], &told)
        }
        Ok(Accepted::Done)
    }
}
