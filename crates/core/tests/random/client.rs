//! What a client holds: brought up to date by live events or by catching up, it must be what the view says.

use std::collections::BTreeMap;

use ieum_core::event::{Event, News};
use ieum_core::ids::{Position, RoomId, Seq, UserId};
use ieum_core::kv::Read;
use ieum_core::query::catch_up::{self, Changes, Limits, Start};
use ieum_core::query::{self, Mine, Page};
use ieum_core::tables::messages::{Body, Message, System};
use ieum_core::tables::rooms::{Kind, Role};

/// One person's client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) user: UserId,
    pub(crate) rooms: BTreeMap<RoomId, Held>,
}

/// A room as a client holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    name: String,
    archive: bool,
    last: Seq,
    members: BTreeMap<UserId, Role>,
    messages: BTreeMap<Seq, Message>,
    read: BTreeMap<UserId, Seq>,
}

impl Held {
    /// A room that a client just learnt of: who is in it and how far they have read is asked for, messages come by themselves.
    fn new(view: &dyn Read, mine: &Mine) -> Self {
        let members = query::members(view, mine).unwrap().into_iter().map(|(user, member)| (user, member.role));
        let read = query::receipts(view, mine).unwrap().into_iter().map(|(user, receipt)| (user, receipt.seq));
        Self {
            name: mine.about.name.clone(),
            archive: matches!(mine.about.kind, Kind::Archive { .. }),
            last: mine.head.last,
            members: members.collect(),
            messages: BTreeMap::new(),
            read: read.collect(),
        }
    }

    /// Takes in a new message and what it says of the room.
    fn take(&mut self, seq: Seq, message: Message) {
        match &message.body {
            Body::System(system) => self.heed(seq, message.from, system),
            Body::Text { .. } | Body::Deleted | Body::Archived { .. } => {
                self.read.insert(message.from, seq);
            }
        }
        self.last = seq;
        assert_eq!(self.messages.insert(seq, message), None, "message {seq} came twice");
    }

    fn heed(&mut self, seq: Seq, from: UserId, system: &System) {
        match system {
            System::Created => {}
            System::Invited { users } => {
                for user in users {
                    self.members.insert(*user, Role::Member);
                    self.read.insert(*user, seq - 1);
                }
            }
            System::Left => self.forget(from),
            System::Removed { user } => self.forget(*user),
            System::Renamed { name } => self.name.clone_from(name),
            System::RoleGiven { user, role } => {
                if *role == Role::Owner && self.members.contains_key(&from) {
                    self.members.insert(from, Role::Manager);
                }
                self.members.insert(*user, *role);
            }
        }
    }

    fn forget(&mut self, user: UserId) {
        self.members.remove(&user);
        self.read.remove(&user);
    }

    fn change(&mut self, seq: Seq, message: &Message) {
        let held = self.messages.get_mut(&seq);
        *held.unwrap_or_else(|| panic!("message {seq} changed, and the client never had it")) = message.clone();
    }

    /// Receipts differ only where there is a message between them that somebody wrote.
    fn settled(mut self) -> Self {
        let written: Vec<Seq> =
            self.messages.iter().filter(|(_, m)| !matches!(m.body, Body::System(_))).map(|(seq, _)| *seq).collect();
        for read in self.read.values_mut() {
            *read = written.iter().copied().filter(|seq| seq <= read).max().unwrap_or(0);
        }
        self.read.retain(|_, read| *read > 0);
        self
    }
}

impl Client {
    pub(crate) fn new(user: UserId) -> Self {
        Self { user, rooms: BTreeMap::new() }
    }

    /// What the view says, read directly.
    pub(crate) fn of(view: &dyn Read, user: UserId) -> Self {
        let mut client = Self::new(user);
        for mine in query::rooms(view, user, None, usize::MAX).unwrap() {
            let mut held = Held::new(view, &mine);
            if !held.archive {
                held.messages = query::messages(view, &mine, Page::Last, usize::MAX).unwrap().into_iter().collect();
            }
            client.rooms.insert(mine.id, held);
        }
        client.settled()
    }

    /// In the form in which clients are compared.
    pub(crate) fn settled(&self) -> Self {
        let rooms = self.rooms.iter().map(|(id, held)| (*id, held.clone().settled()));
        Self { user: self.user, rooms: rooms.collect() }
    }

    /// Takes in a live event; `view` is what it asks when it learns of a room.
    pub(crate) fn hear(&mut self, view: &dyn Read, event: &Event) {
        if !event.audience.users().any(|user| user == self.user) {
            return;
        }
        match &event.news {
            News::Joined { room, about, head, role, .. } => {
                let archive = matches!(about.kind, Kind::Archive { .. });
                let mut held = match query::room(view, self.user, *room).unwrap() {
                    Some(mine) => Held::new(view, &mine),
                    // Gone again in the same batch: this client is told so in a moment.
                    None => Held {
                        name: String::new(),
                        archive,
                        last: 0,
                        members: [(self.user, *role)].into(),
                        messages: BTreeMap::new(),
                        read: BTreeMap::new(),
                    },
                };
                held.name.clone_from(&about.name);
                held.last = head.last;
                assert!(self.rooms.insert(*room, held).is_none(), "joined twice");
            }
            News::Message { room, seq, message } => {
                let held = self.rooms.get_mut(room).expect("a message of a room that it has");
                assert_eq!(*seq, held.last + 1, "dense");
                held.take(*seq, message.clone());
            }
            News::Changed { room, seq, message } => {
                self.rooms.get_mut(room).expect("a change in a room that it has").change(*seq, message);
            }
            News::Receipt { room, user, seq } => {
                self.rooms.get_mut(room).expect("a receipt of a room that it has").read.insert(*user, *seq);
            }
            News::Left { room } => assert!(self.rooms.remove(room).is_some(), "it was in it"),
            News::Archived { room, last } => self.rooms.get_mut(room).expect("its archive").last = *last,
            News::LoggedOut | News::Devices | News::Profile { .. } => {}
        }
    }

    /// Brings a client that stands at `cursor` up to the view, in pages of at most `limits`.
    pub(crate) fn catch_up(&mut self, view: &dyn Read, cursor: Position, limits: Limits) {
        let start = catch_up::start(view, Some(cursor)).unwrap();
        match start {
            Start::Resync => self.rooms.clear(),
            Start::Since(since) => {
                let mut behind = Some((since, RoomId(u64::MAX)));
                while let Some(place) = behind {
                    let departures = catch_up::left(view, self.user, place, limits.rooms).unwrap();
                    for room in departures.rooms {
                        self.rooms.remove(&room);
                    }
                    behind = departures.next;
                }
            }
        }
        let mut place = None;
        let mut told = std::collections::BTreeMap::new();
        loop {
            let page = catch_up::page(view, self.user, start, place, limits).unwrap();
            assert!(page.rooms.len() <= limits.rooms + 1, "those looked at, and one that the page before began with");
            let messages: usize = page.rooms.iter().map(|room| room.messages.len() + room.changed.len()).sum();
            assert!(messages <= limits.weight.max(1));
            for changes in page.rooms {
                assert!(changes.messages.len() <= limits.messages);
                told.insert(changes.mine.id, changes.mine.head.last);
                self.catch_up_room(view, changes);
            }
            match page.next {
                None => break,
                next => place = next,
            }
        }
        for (room, last) in told {
            let held = &self.rooms[&room];
            let newest = held.messages.keys().next_back().copied().unwrap_or(held.last);
            assert!(held.archive || last == 0 || newest == last, "the catch-up holds all");
        }
    }

    fn catch_up_room(&mut self, view: &dyn Read, changes: Changes) {
        let Changes { mine, fresh, mut messages, gap, changed, receipts } = changes;
        if fresh {
            self.rooms.insert(mine.id, Held::new(view, &mine));
        }
        let held = self.rooms.get_mut(&mine.id).expect("a room that it has, or a fresh one");
        if held.archive {
            held.last = mine.head.last;
            return;
        }
        let known = held.messages.keys().next_back().copied().unwrap_or(mine.member.from - 1);
        while gap && messages.first().is_none_or(|(seq, _)| *seq > known + 1) {
            let before = messages.first().map_or(Page::Last, |(seq, _)| Page::Before(*seq));
            let mut older = query::messages(view, &mine, before, 3).unwrap();
            older.retain(|(seq, _)| *seq > known);
            messages.splice(0..0, older);
        }
        assert!(messages.iter().map(|(seq, _)| *seq).eq((known + 1..).take(messages.len())), "no gap, no overlap");
        for (seq, message) in messages {
            if fresh {
                // Who is in the room was just asked for.
                held.messages.insert(seq, message);
            } else {
                held.take(seq, message);
            }
        }
        for (seq, message) in &changed {
            held.change(*seq, message);
        }
        held.read.extend(receipts);
    }
}
