//! What must hold when everything has come to rest. Written against the view's rows and what the people saw, not against the code that
//! made them so.

mod anew;
mod bounds;
mod names;
mod nodes;
mod room;
mod rows;
mod seen;
mod typing;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use ieum_client::CommandId;
use ieum_core::apply::{Skips, applied};
use ieum_core::ids::{RoomId, UserId};
use ieum_core::kv::{Direction, Kv, Read};
use ieum_core::tables::accounts::DEVICES;
use ieum_core::tables::cell::Applied;
use ieum_core::tables::messages::{Body, MESSAGES, Message, System};
use ieum_core::tables::rooms::{HEADS, Kind, MEMBERS, RECEIPTS, ROOMS, USER_ROOMS};
use ieum_node::applier::Applier;
use ieum_node::fit::{Fit, fit};
use ieum_protocol::frames::Change;
use ieum_store::Memory;

use crate::copy::HeldRoom;
use crate::device::Device;
use crate::failure::{Broken, Check, holds};
use crate::history::Asked;
use crate::world::World;

pub(crate) use bounds::{Budget, cost};
pub(crate) use room::Shrinks;
pub(crate) use seen::{Watch, position};
pub(crate) use typing::{Ends, Round, Types, Typing};
pub(crate) use wire::Wires;

/// A room as the cell has it.
struct Truth {
    kind: Kind,
    messages: Vec<Message>,
}

type Rooms = BTreeMap<u64, Truth>;

impl World {
    /// Checks everything. The digest of the cell's view at the end of the log, and where it stands.
    pub(crate) fn check(&self) -> Check<Applied> {
        let truth = self.replay()?;
        let view = truth.snapshot();
        let rooms = rooms(&view)?;
        self.at_rest()?;
        self.every_answer()?;
        self.nothing_lost_nothing_twice(&rooms)?;
        self.senders_order()?;
        self.changes_hold(&rooms)?;
        self.receipts(&view, &rooms)?;
        self.as_the_model_has_it(&view, &rooms)?;
        self.nodes_are_whole()?;
        for device in &self.devices {
            if DEVICES.has(&view, &ieum_core::ids::DeviceId(device.id))? {
                same_as_the_cell(device, &view, &rooms)?;
            } else {
                signed_out(device)?;
            }
        }
        Ok(applied(&view)?)
    }

    /// Invariant 3: whoever applies the whole log has the same view as every node. That view.
    fn replay(&self) -> Check<Memory> {
        let mut stand = Vec::new();
        for host in &self.hosts {
            stand.push((applied(&host.disk.snapshot())?, host.number()));
        }
        stand.sort_unstable_by_key(|(at, _)| at.position);
        let fresh = std::sync::Arc::new(Memory::new());
        let mut stand = stand.into_iter().peekable();
        for (era, until) in self.log.lineage() {
            let fits =
                fit(fresh.as_ref(), &self.log.extent(era, 0)).map_err(|error| Broken(ieum_node::chain(&error)))?;
            holds(fits == Fit::Fits, || format!("the log does not follow itself: {fits:?}"))?;
            let mut applier = Applier::new(std::sync::Arc::clone(&fresh), Skips::new())?;
            for entry in self.log.up_to(era, until) {
                applier.apply(entry).map_err(|error| Broken(ieum_node::chain(&error)))?;
                let replayed = applied(&fresh.snapshot())?;
                while let Some((lived, node)) = stand.next_if(|(lived, _)| lived.position <= replayed.position) {
                    holds(lived == replayed, || {
                        format!("node {node} stands at {lived:?}, the log gives {replayed:?}")
                    })?;
                }
            }
        }
        holds(stand.peek().is_none(), || format!("{stand:?} stand beyond the log"))?;
        Ok(fresh.as_ref().clone())
    }

    /// Queues drain.
    pub(crate) fn at_rest(&self) -> Check {
        for device in &self.devices {
            let Some(process) = &device.process else { continue };
            if process.stopped {
                continue;
            }
            let waiting: Vec<CommandId> = process.machine.waiting().map(|command| command.id).collect();
            let index = device.index;
            holds(waiting.is_empty(), || format!("device {index} still waits for {waiting:?}"))?;
            holds(process.live, || format!("device {index} is not connected"))?;
            let left = device.stores();
            holds(left == 0, || format!("the store of device {index} has {left} commands that nobody waits for"))?;
        }
        holds(self.requests.is_empty(), || format!("{:?} are not answered", self.requests))?;
        let live = self.running().len();
        let behind = self.hosts.iter().find(|host| {
            !host.serves() || host.journal.last + 3 < self.log.last() || Some(host.journal.era) != self.log.held()
        });
        holds(behind.is_none(), || format!("node {:?} does not serve", behind.map(crate::host::Host::number)))?;
        let sessions: usize =
            self.hosts.iter().filter_map(|host| host.node.as_ref()).map(|node| node.hub.sessions()).sum();
        holds(sessions == live, || format!("{sessions} sessions of {live} devices"))?;
        holds(self.network.count() <= live, || format!("{live} devices have more connections: {:?}", self.network))
    }

    /// Every command has an outcome, but for those of devices that were logged out with something in their outbox.
    fn every_answer(&self) -> Check {
        for asked in &self.history.asked {
            let gone = self.devices.get(asked.device).is_some_and(|device| device.logged_out);
            holds(asked.answer.is_some() || gone || asked.lost, || format!("no answer to {asked:?}"))?;
        }
        Ok(())
    }

    /// Invariants 1 and 2: what was acknowledged is where the acknowledgement said, once, and whatever is there was asked for.
    fn nothing_lost_nothing_twice(&self, rooms: &Rooms) -> Check {
        let mut sent = BTreeMap::new();
        for (asked, done) in self.history.accepted() {
            if let Change::Send { room, .. } = &asked.change {
                let seq = done.seq.unwrap_or(0);
                holds(sent.insert((*room, seq), asked).is_none(), || format!("two messages are {room}/{seq}"))?;
                let there = message(rooms, *room, seq).is_some_and(|m| user_of(self, asked) == m.from.0);
                holds(there, || format!("{asked:?} is not there"))?;
            }
        }
        // Whatever devices gave took effect because somebody asked for it, and what was not kept never did.
        for (device, id, harmless) in self.model.all_done() {
            let known = self.history.knows(id);
            holds(known || harmless, || format!("device {device} gave command {id:032x}, which nobody asked for"))?;
        }
        for (id, asked) in self.history.not_stored() {
            let device = self.devices.get(asked.device).map_or(0, |device| device.id);
            let done = self.model.answer(device, id.0);
            holds(done.is_none(), || format!("{asked:?} was not kept and has given {done:?}"))?;
        }
        Ok(())
    }

    /// Invariant 2: what a device said in a room stands there in the order in which it was said.
    fn senders_order(&self) -> Check {
        let mut last = BTreeMap::new();
        for (asked, done) in self.history.accepted() {
            if self.devices.get(asked.device).is_some_and(|device| device.restored) {
                continue;
            }
            if let (Change::Send { room, .. }, Some(seq)) = (&asked.change, done.seq) {
                let before = last.insert((asked.device, *room), seq).unwrap_or(0);
                holds(before < seq, || format!("device {} said {room}/{seq} before {before}", asked.device))?;
            }
        }
        Ok(())
    }

    /// A message says what it was sent with or last changed to.
    fn changes_hold(&self, rooms: &Rooms) -> Check {
        let mut may_say: BTreeMap<(u64, u64), BTreeSet<Option<&str>>> = BTreeMap::new();
        let mut changed = BTreeSet::new();
        for (asked, done) in self.history.accepted() {
            let (place, says) = match &asked.change {
                Change::Send { room, text, .. } => ((*room, done.seq.unwrap_or(0)), Some(text.as_str())),
                Change::Edit { room, seq, text } => ((*room, *seq), Some(text.as_str())),
                Change::Delete { room, seq } => ((*room, *seq), None),
                _ => continue,
            };
            let sent = matches!(asked.change, Change::Send { .. });
            // What was sent first stands no more once it was changed; a deleted one stays so.
            match (&asked.change, changed.contains(&place)) {
                (Change::Delete { .. }, _) => may_say.insert(place, BTreeSet::from([None])).map_or((), drop),
                (_, true) if sent => {}
                (_, before) => {
                    let says_now = may_say.entry(place).or_default();
                    if !before {
                        says_now.clear();
                    }
                    if !says_now.contains(&None) {
                        says_now.insert(says);
                    }
                }
            }
            if !sent {
                changed.insert(place);
            }
        }
        for ((room, seq), says) in may_say {
            let Some(message) = message(rooms, room, seq) else { continue };
            let text = match &message.body {
                Body::Text { text, .. } => Some(text.as_str()),
                _ => None,
            };
            let unanswered =
                || self.history.asked.iter().any(|asked| asked.answer.is_none() && touches(asked, room, seq));
            holds(says.contains(&text) || unanswered(), || {
                format!("message {room}/{seq} says {text:?} and not {says:?}")
            })?;
        }
        Ok(())
    }

    /// Receipts reach as far as people have read, and what is unread is what stands behind them.
    fn receipts(&self, view: &impl Read, rooms: &Rooms) -> Check {
        let mut read: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for (asked, _) in self.history.accepted() {
            if let Change::Read { room, seq } = asked.change {
                let so_far = read.entry((room, user_of(self, asked))).or_default();
                *so_far = seq.max(*so_far);
            }
        }
        for device in &self.devices {
            for (room, truth) in rooms {
                let Some(mine) = ieum_core::query::room(view, UserId(device.user), RoomId(*room))? else { continue };
                let receipt =
                    RECEIPTS.get(view, &(RoomId(*room), UserId(device.user)))?.map_or(0, |receipt| receipt.seq);
                let behind = (1..).zip(&truth.messages).filter(|(seq, message)| {
                    *seq > receipt && !matches!(message.body, Body::System(_) | Body::Archived { .. })
                });
                let (unread, counted) = (mine.unread(), behind.count() as u64);
                holds(unread == counted, || format!("room {room} has {counted} unread, and says {unread}"))?;
                let left_between = truth.messages.iter().any(|message| leaves(message, device.user));
                let least = read.get(&(*room, device.user)).copied().unwrap_or(0);
                holds(receipt >= least || left_between, || format!("room {room} forgot that {least} was read"))?;
            }
        }
        Ok(())
    }
}

impl World {
    /// The view is what the model makes of the log.
    fn as_the_model_has_it(&self, view: &impl Read, rooms: &Rooms) -> Check {
        let (at, model) = (self.model.at(), &self.model);
        model.has_these_rows(view)?;
        holds(rooms.keys().eq(model.rooms.keys()), || "there are other rooms".to_owned())?;
        for (id, truth) in rooms {
            let Some(room) = model.rooms.get(id) else { continue };
            let same = |(message, said): (&Message, &crate::model::Said)| {
                let version = said.as_of(at);
                let same =
                    version.is_some_and(|(_, body, edited)| (body, edited) == (&message.body, &message.edited_at));
                same && (message.from.0, message.time, message.at) == (said.from, said.time, said.at)
            };
            let all = truth.messages.len() == room.said.len() && truth.messages.iter().zip(&room.said).all(same);
            holds(all, || format!("room {id} has other messages"))?;
            for (user, past) in &room.members {
                let is_in = past.at(at).copied().flatten().is_some();
                let mine = ieum_core::query::room(view, UserId(*user), RoomId(*id))?;
                holds(mine.is_some() == is_in, || format!("user {user} in room {id}: {}", mine.is_some()))?;
                if let Some(mine) = mine {
                    let (unread, counted) = (mine.unread(), room.unread(*user, at));
                    holds(unread == counted, || {
                        format!("user {user} has {counted} unread in room {id}, not {unread}")
                    })?;
                }
            }
        }
        Ok(())
    }
}

fn user_of(world: &World, asked: &Asked) -> u64 {
    world.devices.get(asked.device).map_or(0, |device| device.user)
}

fn touches(asked: &Asked, room: u64, seq: u64) -> bool {
    match &asked.change {
        Change::Edit { room: r, seq: s, .. } | Change::Delete { room: r, seq: s } => (*r, *s) == (room, seq),
        _ => false,
    }
}

fn message(rooms: &Rooms, room: u64, seq: u64) -> Option<&Message> {
    let index = usize::try_from(seq.checked_sub(1)?).ok()?;
    rooms.get(&room)?.messages.get(index)
}

/// All rooms of the view; their messages are numbered without a gap, and their times never go back.
fn rooms(view: &impl Read) -> Check<Rooms> {
    let mut rooms = Rooms::new();
    ROOMS.range(view, &RoomId(0), &RoomId(u64::MAX), Direction::Forward, |id, room| {
        rooms.insert(id.0, Truth { kind: room.kind, messages: Vec::new() });
        ControlFlow::Continue(())
    })?;
    let mut pairs = BTreeSet::new();
    for (id, truth) in &mut rooms {
        if let Kind::Direct { low, high } = truth.kind {
            holds(pairs.insert((low, high)), || format!("room {id} is the second of {low} and {high}"))?;
        }
        let mut seqs = Vec::new();
        MESSAGES.within(view, &RoomId(*id), None, |(_, seq), message| {
            seqs.push(seq);
            truth.messages.push(message);
            ControlFlow::Continue(())
        })?;
        let last = HEADS.get(view, &RoomId(*id))?.map_or(0, |head| head.last);
        holds(seqs.iter().copied().eq(1..=last), || format!("room {id} has {seqs:?} up to {last}"))?;
        let goes_on = truth.messages.is_sorted_by_key(|message| message.time);
        holds(goes_on || matches!(truth.kind, Kind::Archive { .. }), || format!("time goes back in room {id}"))?;
    }
    Ok(rooms)
}

/// A device that is gone was logged out, and has noticed.
fn signed_out(device: &Device) -> Check {
    let index = device.index;
    holds(device.logged_out, || format!("device {index} is gone"))?;
    let ended = device.process.as_ref().is_none_or(|process| process.stopped);
    holds(ended, || format!("device {index} was logged out and goes on"))
}

fn leaves(message: &Message, user: u64) -> bool {
    match &message.body {
        Body::System(System::Left) => message.from.0 == user,
        Body::System(System::Removed { user: removed }) => removed.0 == user,
        _ => false,
    }
}

/// What a device holds is what the cell has.
fn same_as_the_cell(device: &Device, view: &impl Read, rooms: &Rooms) -> Check {
    let Some(process) = &device.process else { return Ok(()) };
    let index = device.index;
    let mut mine = BTreeSet::new();
    USER_ROOMS.within(view, &UserId(device.user), None, |(_, room), _| {
        mine.insert(room.0);
        ControlFlow::Continue(())
    })?;
    let held: BTreeSet<u64> = process.copy.rooms.keys().copied().collect();
    holds(held == mine, || format!("device {index} holds rooms {held:?}, its owner is in {mine:?}"))?;
    for (room, held) in &process.copy.rooms {
        let Some(truth) = rooms.get(room) else { continue };
        let from = MEMBERS.get(view, &(RoomId(*room), UserId(device.user)))?.map_or(1, |member| member.from);
        let told = || format!("device {index}, room {room}");
        holds(held.complete_from >= from, || format!("{}: from {} instead of {from}", told(), held.complete_from))?;
        holds(held.last == truth.messages.len() as u64, || {
            format!("{}: up to {} instead of {}", told(), held.last, truth.messages.len())
        })?;
        same_messages(held, truth).map_err(|Broken(what)| Broken(format!("{}: {what}", told())))?;
    }
    Ok(())
}

fn same_messages(held: &HeldRoom, truth: &Truth) -> Check {
    let seqs = held.messages.iter().map(|message| message.seq);
    holds(seqs.eq(held.complete_from..=held.last), || "messages are missing".to_owned())?;
    for (seq, message) in (1..).zip(&truth.messages) {
        let Some(has) = held.messages.get(seq) else { continue };
        let (text, reply_to) = match &message.body {
            Body::Text { text, reply_to } => (Some(text.as_str()), *reply_to),
            _ => (None, None),
        };
        let deleted = matches!(message.body, Body::Deleted);
        let system = matches!(message.body, Body::System(_));
        let same = has.text.as_deref() == text
            && has.reply_to == reply_to
            && has.deleted == deleted
            && has.system.is_some() == system
            && (has.from, has.time, has.edited_at) == (message.from.0, message.time, message.edited_at);
        holds(same, || format!("message {seq} is {has:?}, and there {message:?}"))?;
    }
    Ok(())
}
