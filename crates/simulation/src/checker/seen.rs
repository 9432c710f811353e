//! What a device is told and holds, at every moment, against what the log says there is to be told where the device stands.

use std::collections::BTreeSet;

use ieum_core::ids::Position;
use ieum_core::tables::messages::{Body, System};
use ieum_core::tables::rooms::Role;
use ieum_protocol::frames::{CatchUp, Event};
use ieum_protocol::objects;

use crate::copy::{Copy, HeldRoom};
use crate::failure::{Broken, Check, broken, holds};
use crate::model::{Kind, Model, Room, Said, Told};

/// A frame of events that is longer than this may tell more than its position says, because more of a batch follows.
const LONG: usize = 60 * 1024;

/// How far a client's process was watched.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// What the live stream tells next, of what its person is told.
    next: Option<usize>,
    /// Where the copy was last found to be right.
    right_at: Option<Position>,
}

/// A position as clients have it.
pub(crate) fn position(pos: &str) -> Check<Position> {
    pos.parse().map_err(|_| Broken(format!("{pos} is no position")))
}

impl Watch {
    /// A session begins: what it tells begins anew.
    pub(crate) fn anew(&mut self) {
        self.next = None;
    }

    /// How much of what its person is told has been told on the stream.
    pub(crate) fn told_so_far(&self) -> usize {
        self.next.unwrap_or(0)
    }

    /// The copy is void.
    pub(crate) fn forget(&mut self) {
        self.right_at = None;
    }

    /// A part of a catch-up shows nothing that its reader may not see.
    pub(crate) fn catch_up(model: &Model, (user, device): (u64, u64), catch_up: &CatchUp) -> Check {
        let out = model.devices.get(&device).and_then(|device| device.out).map(|(at, _)| at);
        for changes in &catch_up.rooms {
            let id = changes.room.id;
            let Some(room) = model.rooms.get(&id) else { return broken(format!("room {id} is told and is nowhere")) };
            for message in changes.messages.iter().chain(&changes.changed) {
                let seq = message.seq;
                holds(room.is_visible(user, seq), || format!("user {user} is shown {id}/{seq}"))?;
                let late = room.message(seq).zip(out).is_some_and(|(said, out)| said.at > out);
                holds(!late, || format!("device {device} was logged out at {out:?} and is shown {id}/{seq}"))?;
            }
        }
        Ok(())
    }

    /// The catch-up is complete: what the device holds is what there is for its person at this position.
    pub(crate) fn caught_up(
        &mut self,
        model: &Model,
        (user, device): (u64, u64),
        copy: &mut Copy,
        at: Position,
    ) -> Check {
        holds(at <= model.at(), || format!("{at} is beyond the log"))?;
        if let Some((out, _)) = model.devices.get(&device).and_then(|device| device.out) {
            holds(at < out, || format!("device {device} was logged out at {out} and is brought up to {at}"))?;
        }
        let Some(person) = model.people.get(&user) else { return broken(format!("user {user} is nobody")) };
        let is_in = |(id, past): (&u64, &crate::model::Past<bool>)| past.at(at).filter(|is_in| **is_in).map(|_| *id);
        let mine: BTreeSet<u64> = person.rooms.iter().filter_map(is_in).collect();
        let held: BTreeSet<u64> = copy.rooms.keys().copied().collect();
        holds(held == mine, || format!("at {at} it holds rooms {held:?} of {mine:?}"))?;
        for (id, held) in &copy.rooms {
            let Some(room) = model.rooms.get(id) else { continue };
            let since = self.right_at.filter(|_| !copy.touched.contains(&(*id, 0)));
            let right = if since.is_some() { rest(room, held, user, at) } else { whole(room, held, user, at) };
            right
                .and_then(|()| messages(room, held, self.right_at, at, (*id, &copy.touched)))
                .map_err(|Broken(what)| Broken(format!("room {id} at {at}: {what}")))?;
        }
        copy.touched.clear();
        self.right_at = Some(at);
        self.next = Some(person.told.partition_point(|(told_at, _)| *told_at <= at));
        Ok(())
    }

    /// The live stream tells what follows, each once and in its order, and nothing else; what a room is then follows from it.
    pub(crate) fn told(
        &mut self,
        model: &Model,
        (user, device): (u64, u64),
        copy: &Copy,
        (at, list, bytes): (Position, &[Event], usize),
    ) -> Check {
        let Some(next) = self.next else {
            return holds(list.is_empty(), || "events come before the catch-up is complete".to_owned());
        };
        let told = model.people.get(&user).map_or(&[][..], |person| &person.told);
        let out = model.devices.get(&device).and_then(|device| device.out);
        let most = match out {
            Some((out, most)) => {
                holds(at <= out, || format!("device {device} was logged out at {out} and is told of {at}"))?;
                most
            }
            None => told.len(),
        };
        let mut last = Position::default();
        for (index, event) in (next..).zip(list) {
            let due = told.get(index).filter(|_| index < most);
            let Some((told_at, due)) = due else { return broken(format!("nothing more is to be told than {event:?}")) };
            same(model, due, event)
                .map_err(|Broken(what)| Broken(format!("at {told_at} is to be told {due:?}: {what}")))?;
            last = *told_at;
        }
        let behind = next + list.len();
        self.next = Some(behind);
        if bytes < LONG {
            holds(last <= at, || format!("what happens at {last} is told at {at}"))?;
            if let Some((due_at, due)) = told.get(behind).filter(|_| behind < most) {
                holds(*due_at > at, || format!("at {due_at} is to be told {due:?}, and the stream has come to {at}"))?;
            }
            self.right_at = Some(at.max(last));
            // What the batch that logs a device out holds behind that is not told any more.
            let goes_on = out.is_none_or(|(out, _)| at < out);
            touched(list).filter(|_| goes_on).try_for_each(|id| match (model.rooms.get(&id), copy.rooms.get(&id)) {
                (Some(room), Some(held)) => {
                    rest(room, held, user, at).map_err(|Broken(what)| Broken(format!("room {id} at {at}: {what}")))
                }
                _ => Ok(()),
            })?;
        }
        Ok(())
    }
}

fn touched(list: &[Event]) -> impl Iterator<Item = u64> {
    let rooms: BTreeSet<u64> = list
        .iter()
        .filter_map(|event| match event {
            Event::Message { room, .. } | Event::Changed { room, .. } | Event::Receipt { room, .. } => Some(*room),
            Event::Joined { room } => Some(room.id),
            Event::Archived { room, .. } => Some(*room),
            _ => None,
        })
        .collect();
    rooms.into_iter()
}

/// What a room is, without its messages.
fn rest(room: &Room, held: &HeldRoom, user: u64, at: Position) -> Check {
    let standing = room.members.get(&user).and_then(|past| past.at(at)).copied().flatten();
    let Some(standing) = standing else { return broken("nobody of this name is in it") };
    let last = room.last_at(at);
    holds(held.last == last, || format!("it ends at {} instead of {last}", held.last))?;
    let (name, members) = (room.name.at(at), room.size.at(at));
    holds(name == Some(&held.name), || format!("it is called {} instead of {name:?}", held.name))?;
    holds(members == Some(&held.members), || format!("it has {} members instead of {members:?}", held.members))?;
    holds(held.role == role(standing.role), || format!("{:?} instead of {:?}", held.role, standing.role))?;
    holds(held.complete_from >= standing.from, || format!("{} was before {user} came", held.complete_from))?;
    if let Some(unread) = held.unread {
        let counted = room.unread(user, at);
        holds(unread == counted, || format!("{counted} are unread, it says {unread}"))?;
    }
    Ok(())
}

/// The same, with what is known of how far everybody has read.
fn whole(room: &Room, held: &HeldRoom, user: u64, at: Position) -> Check {
    rest(room, held, user, at)?;
    let few = room.size.at(at).is_some_and(|size| *size as usize <= crate::model::TOLD_RECEIPTS);
    let Some(read) = held.read.as_ref().filter(|_| few && !matches!(room.kind, Kind::Archive(_))) else {
        return Ok(());
    };
    for (member, past) in &room.members {
        if past.at(at).copied().flatten().is_none() {
            continue;
        }
        let truth = room.read_at(*member, at);
        let known = read.get(member).copied().unwrap_or(0);
        // Where only system messages lie between the two, they are the same to everybody.
        holds(room.counted(truth) == room.counted(known), || {
            format!("user {member} has read up to {truth}, it says {known}")
        })?;
    }
    Ok(())
}

/// Messages that were told of or have changed since it was looked at last are what they are.
fn messages(
    room: &Room,
    held: &HeldRoom,
    since: Option<Position>,
    at: Position,
    (id, touched): (u64, &BTreeSet<(u64, u64)>),
) -> Check {
    if held.last >= held.complete_from && !matches!(room.kind, Kind::Archive(_)) {
        let ends = held.messages.ends();
        holds(ends == Some((held.complete_from, held.last)), || {
            format!("it holds messages {ends:?} of {}..={}", held.complete_from, held.last)
        })?;
    }
    let first = room.changes.partition_point(|(changed, _)| since.is_some_and(|since| *changed <= since));
    let changed = room.changes.iter().skip(first).take_while(|(changed, _)| *changed <= at).map(|(_, seq)| *seq);
    let told = touched.range((id, 1)..=(id, u64::MAX)).map(|(_, seq)| *seq);
    for seq in changed.chain(told) {
        if let (Some(has), Some(said)) = (held.messages.get(seq), room.message(seq)) {
            same_message(said, said.as_of(at), has)?;
        }
    }
    Ok(())
}

fn role(role: Role) -> objects::Role {
    match role {
        Role::Member => objects::Role::Member,
        Role::Manager => objects::Role::Manager,
        Role::Owner => objects::Role::Owner,
    }
}

/// Whether an event tells what was to be told.
fn same(model: &Model, due: &Told, event: &Event) -> Check {
    let message = |room: u64, seq: u64| model.rooms.get(&room).and_then(|room| room.message(seq));
    let right = match (due, event) {
        (Told::Message { room, seq }, Event::Message { room: id, message: has }) if (room, seq) == (id, &has.seq) => {
            let Some(said) = message(*room, *seq) else { return broken("it is nowhere") };
            return same_message(said, said.versions.first(), has);
        }
        (Told::Changed { room, seq, version }, Event::Changed { room: id, message: has })
            if (room, seq) == (id, &has.seq) =>
        {
            let Some(said) = message(*room, *seq) else { return broken("it is nowhere") };
            return same_message(said, said.versions.get(*version), has);
        }
        (Told::Receipt { room, user, seq }, Event::Receipt { room: id, user: of, seq: to }) => {
            (room, user, seq) == (id, of, to)
        }
        (Told::Joined { room, from, last, role: given, members }, Event::Joined { room: has }) => {
            (has.id, has.from, has.last, has.members) == (*room, *from, *last, *members) && has.role == role(*given)
        }
        (Told::Left { room }, Event::Left { room: id }) => room == id,
        (Told::Archived { room, last }, Event::Archived { room: id, last: to }) => (room, last) == (id, to),
        (Told::Devices, Event::Devices {}) => true,
        (Told::Profile { name }, Event::Profile { name: has }) => name == has,
        _ => false,
    };
    holds(right, || format!("and {event:?} is"))
}

/// Whether a message is what it is to be.
fn same_message(said: &Said, version: Option<&(Position, Body, Option<u64>)>, has: &objects::Message) -> Check {
    let Some((_, body, edited_at)) = version else { return broken(format!("{has:?} is not there yet")) };
    let says = match body {
        Body::Text { text, reply_to } => {
            has.text.as_ref() == Some(text) && has.reply_to == *reply_to && !has.deleted && has.system.is_none()
        }
        Body::Deleted => has.deleted && has.text.is_none(),
        Body::System(system) => has.system.as_ref().is_some_and(|has| same_system(system, has)),
        Body::Archived { .. } => has.archived.is_some(),
    };
    let same = says && (has.from, has.time, has.edited_at) == (said.from, said.time, *edited_at);
    holds(same, || format!("it is {has:?} and not {body:?} of {} at {}, {edited_at:?}", said.from, said.time))
}

fn same_system(system: &System, has: &objects::System) -> bool {
    match (system, has) {
        (System::Created, objects::System::Created) | (System::Left, objects::System::Left) => true,
        (System::Invited { users }, objects::System::Invited { users: has }) => {
            users.iter().map(|user| user.0).eq(has.iter().copied())
        }
        (System::Removed { user }, objects::System::Removed { user: has }) => user.0 == *has,
        (System::Renamed { name }, objects::System::Renamed { name: has }) => name == has,
        (System::RoleGiven { user, role: given }, objects::System::RoleGiven { user: has, role: to }) => {
            user.0 == *has && role(*given) == *to
        }
        _ => false,
    }
}
