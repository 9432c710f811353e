//! What a device's app holds of its owner's rooms, put together from deliveries as any app would; it notices what a stream must not do.

use std::collections::{BTreeMap, BTreeSet};

use ieum_protocol::frames::{CatchUp, Event, RoomChanges};
use ieum_protocol::objects::{Message, Room, RoomKind};

use crate::failure::{Check, broken, holds};

/// A room as a device has it.
#[derive(Debug, Clone)]
pub(crate) struct HeldRoom {
    pub(crate) kind: RoomKind,
    /// Everything from here on is held; what is older would have to be paged in.
    pub(crate) complete_from: u64,
    pub(crate) last: u64,
    pub(crate) messages: BTreeMap<u64, Message>,
}

/// What a device holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copy {
    pub(crate) rooms: BTreeMap<u64, HeldRoom>,
    /// A catch-up left older messages out.
    pub(crate) gaps: u64,
    /// A room whose new messages go on in the next frame of the catch-up, and up to where.
    begun: Option<(u64, u64)>,
}

/// Which messages a device was ever shown.
pub(crate) type Shown = BTreeSet<(u64, u64)>;

impl Copy {
    pub(crate) fn catch_up(&mut self, catch_up: &CatchUp, shown: &mut Shown) -> Check {
        for changes in &catch_up.rooms {
            self.changes(changes, shown)?;
        }
        for room in &catch_up.left {
            self.rooms.remove(room);
        }
        Ok(())
    }

    /// A catch-up begins; one that broke off told what this one tells again.
    pub(crate) fn anew(&mut self) {
        self.begun = None;
    }

    /// Whether the last room of a catch-up came whole; `unless` it is this one, which is being gone on with.
    pub(crate) fn whole(&self, unless: Option<u64>) -> Check {
        let begun = self.begun.filter(|(room, _)| Some(*room) != unless);
        holds(begun.is_none(), || format!("a catch-up leaves room {begun:?} unfinished"))
    }

    fn changes(&mut self, changes: &RoomChanges, shown: &mut Shown) -> Check {
        let id = changes.room.id;
        if changes.fresh {
            self.rooms.insert(id, HeldRoom::start(&changes.room));
        }
        self.whole(Some(id))?;
        let Some(held) = self.rooms.get_mut(&id) else {
            return broken(format!("a catch-up tells changes of room {id}, which the device does not hold"));
        };
        let first = changes.messages.first().map_or(changes.room.last + 1, |message| message.seq);
        if changes.gap {
            self.gaps += 1;
            held.messages.clear();
            held.complete_from = first;
        } else {
            holds(first <= held.last + 1, || {
                format!("a catch-up of room {id} goes on at {first} after {}", held.last)
            })?;
        }
        for (seq, message) in (first..).zip(&changes.messages) {
            holds(message.seq == seq, || format!("a catch-up of room {id} has {} instead of {seq}", message.seq))?;
            shown.insert((id, seq));
            held.messages.insert(seq, message.clone());
        }
        held.last = held.last.max(first + changes.messages.len() as u64 - 1);
        holds(held.last <= changes.room.last, || {
            format!("a catch-up of room {id} ends at {} instead of {}", held.last, changes.room.last)
        })?;
        if held.last < changes.room.last {
            self.begun = Some((id, changes.room.last));
        } else if self.begun.is_some_and(|(begun, _)| begun == id) {
            self.begun = None;
        }
        changes.changed.iter().try_for_each(|message| held.change(id, message, shown))
    }

    pub(crate) fn event(&mut self, event: &Event, shown: &mut Shown) -> Check {
        match event {
            Event::Message { room, message } => {
                let Some(held) = self.rooms.get_mut(room) else {
                    return broken(format!("message {room}/{} of a room that the device is not in", message.seq));
                };
                holds(message.seq == held.last + 1, || {
                    format!("the live stream of room {room} has {} after {}", message.seq, held.last)
                })?;
                held.last = message.seq;
                held.messages.insert(message.seq, message.clone());
                shown.insert((*room, message.seq));
            }
            Event::Changed { room, message } => match self.rooms.get_mut(room) {
                Some(held) => held.change(*room, message, shown)?,
                None => return broken(format!("a change in room {room}, which the device is not in")),
            },
            Event::Receipt { room, .. } => {
                holds(self.rooms.contains_key(room), || {
                    format!("a receipt of room {room}, which the device is not in")
                })?;
            }
            Event::Joined { room } => {
                let before = self.rooms.insert(room.id, HeldRoom::start(room));
                holds(before.is_none(), || format!("room {} is joined twice", room.id))?;
                holds(room.last + 1 == room.from, || format!("room {} is joined at {}", room.id, room.from))?;
            }
            Event::Left { room } => {
                holds(self.rooms.remove(room).is_some(), || format!("room {room} is left twice"))?;
            }
            Event::Archived { .. } | Event::Devices {} | Event::Profile { .. } => {}
        }
        Ok(())
    }
}

impl HeldRoom {
    fn start(room: &Room) -> Self {
        Self { kind: room.kind, complete_from: room.from, last: room.from - 1, messages: BTreeMap::new() }
    }

    fn change(&mut self, room: u64, message: &Message, shown: &mut Shown) -> Check {
        shown.insert((room, message.seq));
        if message.seq < self.complete_from {
            return Ok(());
        }
        match self.messages.insert(message.seq, message.clone()) {
            Some(_) => Ok(()),
            None => broken(format!("a change of message {room}/{}, which never came", message.seq)),
        }
    }
}
