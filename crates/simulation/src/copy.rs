//! What a device's app holds of its owner's rooms, put together from deliveries as `docs/protocol` tells apps to; it notices what a stream
//! must not do.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ieum_protocol::frames::{CatchUp, Event, RoomChanges};
use ieum_protocol::objects::{Message, Role, Room, RoomKind, System};
use rpds::Vector;

use crate::failure::{Check, broken, holds};

/// A room as a device has it.
#[derive(Debug, Clone)]
pub(crate) struct HeldRoom {
    pub(crate) kind: RoomKind,
    pub(crate) name: String,
    pub(crate) members: u32,
    pub(crate) role: Role,
    /// Everything from here on is held; what is older would have to be paged in.
    pub(crate) complete_from: u64,
    pub(crate) last: u64,
    /// Shared with the app's durable copies of the room, as the room itself is: most of it is the same in all of them.
    pub(crate) messages: Messages,
    /// How far people have read; none where what there is to know was left out.
    pub(crate) read: Option<BTreeMap<u64, u64>>,
    /// None where it would have to be read again.
    pub(crate) unread: Option<u64>,
}

/// Messages of a room that follow each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Messages {
    list: Vector<Rc<Message>>,
}

impl Messages {
    /// Takes a message, or what one has changed to. One that does not follow those that are here takes the place of all of them.
    fn put(&mut self, message: &Message) {
        let place = self.place(message.seq);
        let message = Rc::new(message.clone());
        match place {
            Some(place) if place < self.list.len() => {
                self.list.set_mut(place, message);
            }
            Some(place) if place == self.list.len() => self.list.push_back_mut(message),
            _ => self.list = std::iter::once(message).collect(),
        }
    }

    /// Where it is or would be.
    fn place(&self, seq: u64) -> Option<usize> {
        let first = self.list.first().map_or(seq, |first| first.seq);
        usize::try_from(seq.checked_sub(first)?).ok()
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Message> {
        self.list.get(self.place(seq)?).map(Rc::as_ref)
    }

    /// The numbers of the first and the last.
    pub(crate) fn ends(&self) -> Option<(u64, u64)> {
        self.list.first().zip(self.list.last()).map(|(first, last)| (first.seq, last.seq))
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Message> {
        self.list.iter().map(Rc::as_ref)
    }
}

/// What a device holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copy {
    /// Whose it is.
    me: u64,
    pub(crate) rooms: BTreeMap<u64, Rc<HeldRoom>>,
    /// A catch-up left older messages out.
    pub(crate) gaps: u64,
    /// What deliveries have told of since it was looked at last.
    pub(crate) touched: BTreeSet<(u64, u64)>,
}

impl Copy {
    pub(crate) fn of(me: u64) -> Self {
        Self { me, ..Self::default() }
    }

    /// Everything that is held is void.
    pub(crate) fn forget(&mut self) {
        self.rooms.clear();
        self.touched.clear();
    }

    /// A room, to be changed.
    fn room(&mut self, id: u64) -> Option<&mut HeldRoom> {
        self.rooms.get_mut(&id).map(Rc::make_mut)
    }

    pub(crate) fn catch_up(&mut self, catch_up: &CatchUp) -> Check {
        for changes in &catch_up.rooms {
            self.changes(changes)?;
        }
        for room in &catch_up.left {
            self.rooms.remove(room);
        }
        Ok(())
    }

    fn changes(&mut self, changes: &RoomChanges) -> Check {
        let id = changes.room.id;
        if changes.fresh {
            self.rooms.insert(id, Rc::new(HeldRoom::start(&changes.room)));
        }
        let Some(held) = self.rooms.get_mut(&id).map(Rc::make_mut) else {
            return broken(format!("a catch-up tells changes of room {id}, which the device does not hold"));
        };
        // A part that only says what changed may know of a message that was said meanwhile: that one comes in the next round.
        let nothing_new = if changes.gap { changes.room.last } else { held.last };
        let first = changes.messages.first().map_or(nothing_new + 1, |message| message.seq);
        if changes.gap {
            self.gaps += 1;
            held.messages = Messages::default();
            held.complete_from = first;
            held.read = None;
        } else {
            holds(first <= held.last + 1, || {
                format!("a catch-up of room {id} goes on at {first} after {}", held.last)
            })?;
        }
        self.touched.insert((id, 0));
        for (seq, message) in (first..).zip(&changes.messages) {
            holds(message.seq == seq, || format!("a catch-up of room {id} has {} instead of {seq}", message.seq))?;
            self.touched.insert((id, seq));
            held.reads(message);
            held.messages.put(message);
        }
        held.last = held.last.max(first + changes.messages.len() as u64 - 1);
        holds(held.last <= changes.room.last, || {
            format!("a catch-up of room {id} ends at {} instead of {}", held.last, changes.room.last)
        })?;
        // Where it ends earlier the rest comes in the next frame, or in the next round where it was said meanwhile.
        for message in &changes.changed {
            self.touched.insert((id, message.seq));
            held.change(id, message)?;
        }
        held.is_now(&changes.room);
        for receipt in &changes.receipts {
            held.has_read(receipt.user, receipt.seq);
        }
        Ok(())
    }

    pub(crate) fn event(&mut self, event: &Event) -> Check {
        let me = self.me;
        match event {
            Event::Message { room, message } => {
                let Some(held) = self.room(*room) else {
                    return broken(format!("message {room}/{} of a room that the device is not in", message.seq));
                };
                holds(message.seq == held.last + 1, || {
                    format!("the live stream of room {room} has {} after {}", message.seq, held.last)
                })?;
                held.last = message.seq;
                held.reads(message);
                held.counts(message, me);
                held.messages.put(message);
            }
            Event::Changed { room, message } => match self.room(*room) {
                Some(held) => held.change(*room, message)?,
                None => return broken(format!("a change in room {room}, which the device is not in")),
            },
            Event::Receipt { room, user, seq } => {
                let Some(held) = self.room(*room) else {
                    return broken(format!("a receipt of room {room}, which the device is not in"));
                };
                held.has_read(*user, *seq);
                if *user == me {
                    held.unread = held.behind(*seq);
                }
            }
            Event::Joined { room } => {
                // How far the others had read is told in a catch-up alone.
                let read = (room.from == 1).then(BTreeMap::new);
                let before = self.rooms.insert(room.id, Rc::new(HeldRoom { read, ..HeldRoom::start(room) }));
                holds(before.is_none(), || format!("room {} is joined twice", room.id))?;
                holds(room.last + 1 == room.from, || format!("room {} is joined at {}", room.id, room.from))?;
            }
            Event::Left { room } => {
                holds(self.rooms.remove(room).is_some(), || format!("room {room} is left twice"))?;
            }
            Event::Archived { room, last } => {
                let Some(held) = self.room(*room) else {
                    return broken(format!("archive {room} has grown, which the device does not hold"));
                };
                // Entries are paged in when somebody looks.
                (held.last, held.complete_from) = (*last, last + 1);
            }
            Event::Devices {} | Event::Profile { .. } => {}
        }
        Ok(())
    }
}

impl HeldRoom {
    fn start(room: &Room) -> Self {
        Self {
            kind: room.kind,
            name: room.name.clone(),
            members: room.members,
            role: room.role,
            complete_from: room.from,
            last: room.from - 1,
            messages: Messages::default(),
            read: Some(BTreeMap::new()),
            unread: Some(room.unread),
        }
    }

    /// What a catch-up says of the room itself.
    fn is_now(&mut self, room: &Room) {
        self.name.clone_from(&room.name);
        (self.members, self.role, self.unread) = (room.members, room.role, Some(room.unread));
    }

    fn change(&mut self, room: u64, message: &Message) -> Check {
        if message.seq < self.complete_from {
            return Ok(());
        }
        holds(self.messages.get(message.seq).is_some(), || {
            format!("a change of message {room}/{}, which never came", message.seq)
        })?;
        self.messages.put(message);
        Ok(())
    }

    fn has_read(&mut self, user: u64, seq: u64) {
        if let Some(read) = &mut self.read {
            let so_far = read.entry(user).or_default();
            *so_far = seq.max(*so_far);
        }
    }

    /// What a new message says of how far people have read.
    fn reads(&mut self, message: &Message) {
        if message.text.is_some() {
            self.has_read(message.from, message.seq);
        }
        let Some(read) = &mut self.read else { return };
        match &message.system {
            Some(System::Invited { users }) => {
                for user in users {
                    read.insert(*user, message.seq - 1);
                }
            }
            Some(System::Left) => {
                read.remove(&message.from);
            }
            Some(System::Removed { user }) => {
                read.remove(user);
            }
            _ => {}
        }
    }

    /// What a new message of the live stream changes about the room.
    fn counts(&mut self, message: &Message, me: u64) {
        if message.text.is_some() {
            self.unread = if message.from == me { Some(0) } else { self.unread.map(|unread| unread + 1) };
        }
        match &message.system {
            Some(System::Invited { users }) if !users.contains(&me) => {
                self.members += u32::try_from(users.len()).unwrap_or(u32::MAX);
            }
            Some(System::Left | System::Removed { .. }) => self.members -= 1,
            Some(System::Renamed { name }) => self.name.clone_from(name),
            Some(System::RoleGiven { user, role }) if *user == me => self.role = *role,
            Some(System::RoleGiven { role: Role::Owner, .. }) if message.from == me => self.role = Role::Manager,
            _ => {}
        }
    }

    /// How many messages behind this one count as unread, if all of them are held.
    fn behind(&self, seq: u64) -> Option<u64> {
        let counted = |message: &&Message| message.text.is_some() || message.deleted;
        let behind = self.messages.iter().rev().take_while(|message| message.seq > seq);
        (seq + 1 >= self.complete_from).then(|| behind.filter(counted).count() as u64)
    }
}
