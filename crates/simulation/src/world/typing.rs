//! Who types, on its way from device to node, from node to node and to devices: what `Gateway::tell_signals` and `ieum_peer` do with tasks is done
//! here event by event. All that is drawn for it comes from numbers of its own, and people type in every thirtieth life, so that the others are what
//! they would be without.

use std::collections::BTreeMap;

use ieum_core::query::typing::Typing;
use ieum_gateway::Cell as _;
use ieum_gateway::signals::Looked;
use ieum_protocol::frames::Change;

use super::{Event, NodeEvent, World};
use crate::checker::{Ends, Round, Types};
use crate::failure::{Broken, Check, holds};
use crate::network::Link;
use crate::node::Serving;
use crate::random::Random;

/// A round begins so long after something was said.
const ROUND: u64 = 100;
/// So long after the end of all faults nothing is passed over any more.
const SETTLED: u64 = 20_000;

/// What people say of their typing in a life.
#[derive(Debug)]
pub(crate) struct Chatter {
    pub(crate) on: bool,
    random: Random,
    /// Who typed last.
    last: Option<usize>,
    /// Where the log ended lately.
    pub(crate) ends: Ends,
    /// What sessions were told since it was looked at last.
    pub(crate) told: Vec<(Link, Types)>,
}

impl Chatter {
    pub(crate) fn of(seed: u64) -> Self {
        let random = Random::new(seed.rotate_left(32) ^ 0x7479_7065);
        Self { on: seed % 30 == 2, random, last: None, ends: Ends::default(), told: Vec::new() }
    }

    /// For how long a frame of a client's is held up on its way, if it is a hello: now and then until its client has tried elsewhere.
    pub(super) fn hello_is_late(&mut self, frame: &[u8]) -> u64 {
        let late = self.on && frame.starts_with(br#"{"hello""#) && self.random.chance(20);
        if late { self.random.between(900, 3_000) } else { 0 }
    }

    /// What a server says that writes positions in a way of its own: nothing that its client could order.
    pub(super) fn strange_pong(&mut self, text: &str) -> Option<String> {
        let pong = text.strip_prefix(r#"{"pong":{"#).filter(|_| self.on)?;
        let (before, rest) = pong.split_once(r#""pos":""#)?;
        let (_, behind) = rest.split_once('"')?;
        let strange = || format!(r#"{{"pong":{{{before}"pos":"elsewhere"{behind}"#);
        self.random.chance(2).then(strange)
    }

    /// Whether those who wait for the same get their turns the other way round.
    pub(super) fn turns(&mut self) -> bool {
        self.on && self.random.chance(500)
    }
}

/// A node's round.
#[derive(Debug, Default)]
pub(crate) enum Telling {
    #[default]
    Idle,
    /// It begins soon.
    Soon,
    /// Who may hear it is looked up.
    Looks(Box<(Looked, Round)>),
}

/// Reads `{"typing":{"room":1,"user":2}}`; a client's has no user.
pub(crate) fn types(frame: &[u8]) -> Option<(u64, Option<u64>)> {
    let text = std::str::from_utf8(frame.strip_prefix(br#"{"typing":{"#)?).ok()?;
    let number = |name: &str| {
        let (_, rest) = text.split_once(name)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Some((number(r#""room":"#)?, number(r#""user":"#)))
}

impl World {
    /// Somebody types.
    pub(crate) fn somebody_types(&mut self) -> Check {
        if !self.acting {
            return Ok(());
        }
        let after = self.chatter.random.between(100, 2_500);
        self.after(after, Event::Types);
        let running = self.running();
        let last = self.chatter.last.filter(|last| running.contains(last));
        let again = self.chatter.random.chance(300);
        let picked = self.chatter.random.pick(&running).copied();
        let Some(device) = last.filter(|_| again).or(picked) else { return Ok(()) };
        self.chatter.last = Some(device);
        let Some(of) = self.devices.get(device) else { return Ok(()) };
        let (user, process) = (of.user, of.process.as_ref());
        let own = process.iter().flat_map(|process| process.copy.rooms.keys().copied()).collect::<Vec<_>>();
        // Now and then where they are no longer, or never were.
        let strange = self.chatter.random.index(self.model.rooms.len());
        let strange = self.model.rooms.keys().nth(strange).copied().filter(|_| self.chatter.random.chance(150));
        let Some(room) = strange.or_else(|| self.chatter.random.pick(&own).copied()) else { return Ok(()) };
        if self.troubled && self.chatter.random.chance(12) {
            return self.writes_at_length(device, room);
        }
        match self.chatter.random.index(10) {
            // In one room after the other, and again.
            0 | 1 => {
                let other = self.chatter.random.index(own.len());
                let rooms: Vec<u64> = own.into_iter().cycle().skip(other).take(5).chain([room]).collect();
                rooms.iter().chain(&rooms).try_for_each(|room| self.types(device, *room))
            }
            // On all of their devices.
            2 | 3 => {
                let all: Vec<usize> = self.devices.iter().filter(|of| of.user == user).map(|of| of.index).collect();
                all.into_iter().try_for_each(|device| self.types(device, room))
            }
            _ => self.types(device, room),
        }
    }

    /// Somebody has much to say: more than fits into one frame of a catch-up.
    fn writes_at_length(&mut self, device: usize, room: u64) -> Check {
        (0..self.chatter.random.between(8, 16)).try_for_each(|_| {
            self.said += 1;
            let text = format!("#{} {}", self.said, "이".repeat(9_900));
            self.ask(device, Change::Send { room, text, reply_to: None })
        })
    }

    /// A person types on a device.
    pub(crate) fn types(&mut self, device: usize, room: u64) -> Check {
        self.note(format_args!("device {device} types in {room}"));
        self.input(device, |process, moment| process.machine.typing(moment, room))
    }

    /// A client's frame has come to a node, and is handed to its session next.
    pub(super) fn is_heard(&mut self, link: Link, index: usize, frame: &[u8]) {
        if !self.chatter.on {
            return;
        }
        let now = self.now();
        let user = self.network.device(link).and_then(|device| self.devices.get(device)).map(|device| device.user);
        let (Some(user), Some(node)) = (user, self.node_mut(index)) else { return };
        node.typing.hears(link, now);
        if let Some((room, _)) = types(frame) {
            node.typing.types(link, user, room, now);
        }
    }

    /// A round begins soon if anything waits for one.
    pub(super) fn round_soon(&mut self, index: usize) {
        let Some(node) = self.node_mut(index) else { return };
        if matches!(node.telling, Telling::Idle) && node.gateway.signals_wait() {
            node.telling = Telling::Soon;
            self.node_soon(index, ROUND, NodeEvent::Signals);
        }
    }

    /// Another node says who types there.
    pub(super) fn hears(&mut self, index: usize, typing: &[Typing]) -> Check {
        let Some(node) = self.node_mut(index) else { return Ok(()) };
        node.gateway.hear(typing);
        node.typing.is_told(typing.iter().map(|of| (of.room.0, of.user.0)));
        self.round_soon(index);
        Ok(())
    }

    /// A round begins.
    pub(super) fn looks_who_hears(&mut self, index: usize) -> Check {
        let (now, instant) = (self.now(), self.clock.instant());
        let calm = self.healed.is_some_and(|healed| now - healed > SETTLED);
        let random = &mut self.chatter.random;
        let takes = if random.chance(30) { random.between(800, 4_000) } else { random.between(0, 5) };
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let disk = host.data.hangs_until;
        let Some(node) = &mut host.node else { return Ok(()) };
        let mut round = node.typing.round(now, node.cell.commands_wait(), calm);
        node.telling = Telling::Idle;
        let Some(due) = node.gateway.signals_due(instant) else {
            return round.passed_over().map_err(|Broken(what)| Broken(format!("node {}: {what}", index + 1)));
        };
        round.at = node.cell.applied();
        node.telling = Telling::Looks(Box::new((node.gateway.look_up(due)?, round)));
        let takes = takes.max(disk.saturating_sub(now));
        self.node_soon(index, takes, NodeEvent::TellSignals);
        Ok(())
    }

    /// Who may hear it was looked up: they are told, here and by the other nodes.
    pub(super) fn tells_who_types(&mut self, index: usize) -> Check {
        let (now, instant) = (self.now(), self.clock.instant());
        self.early_words()?;
        let Some(node) = self.node_mut(index) else { return Ok(()) };
        let Telling::Looks(looks) = std::mem::take(&mut node.telling) else { return Ok(()) };
        let (looked, round) = *looks;
        let idle = |serving: &Serving| matches!(serving, Serving::Live(live) if live.session().waits() == (0, 0));
        let idle: Vec<Link> = node.sessions.iter().filter(|(_, of)| idle(of)).map(|(link, _)| *link).collect();
        node.gateway.tell_round(&looked, instant);
        let (cell, number) = (node.cell.clone(), index + 1);
        let idle: Vec<Link> = idle.into_iter().filter(|link| self.network.untaken(*link) <= Self::window()).collect();
        idle.iter().for_each(|link| self.pump(*link));
        let mut told: BTreeMap<Link, Vec<Types>> = BTreeMap::new();
        for (link, types) in std::mem::take(&mut self.chatter.told) {
            told.entry(link).or_default().push(types);
        }
        for link in idle {
            let told = told.remove(&link).unwrap_or_default();
            let user = self.network.device(link).and_then(|device| self.devices.get(device)).map(|device| device.user);
            let node = self.hosts.get(index).and_then(|host| host.node.as_ref());
            let (Some(user), Some(node)) = (user, node.filter(|node| node.sessions.contains_key(&link))) else {
                continue;
            };
            round
                .told((&self.model, &self.chatter.ends, &node.typing), (link, user), &told, now)
                .map_err(|Broken(what)| Broken(format!("node {number}: {what}")))?;
        }
        self.pump_all(index);
        self.tell_others(index, &cell.signals());
        self.round_soon(index);
        Ok(())
    }

    /// What sessions were told that had not taken what was there before: nobody hears of themselves.
    fn early_words(&mut self) -> Check {
        std::mem::take(&mut self.chatter.told).into_iter().try_for_each(|(link, (room, user))| {
            let hearer = self.network.device(link).and_then(|device| self.devices.get(device));
            holds(hearer.is_none_or(|hearer| hearer.user != user), || {
                format!("session {link} is told that its own user {user} types in {room}")
            })
        })
    }

    /// A node tells those that it reaches who types here: each on a connection of its own, with what gets lost there and comes late.
    fn tell_others(&mut self, from: usize, typing: &[Typing]) {
        for to in (0..self.hosts.len()).filter(|_| !typing.is_empty()) {
            if to == from || !self.wan.gets_through(self.dc_of(from), self.dc_of(to)) {
                continue;
            }
            let random = &mut self.chatter.random;
            let after = match random.between(0, 99) {
                0 | 1 if self.troubled => continue,
                2..=5 if self.troubled => random.between(200, 3_000),
                _ => random.between(50, 108),
            };
            self.after(after, Event::Typing { host: to, typing: typing.to_vec() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_say_who_types_are_read() {
        assert_eq!(types(br#"{"typing":{"room":17,"user":4}}"#), Some((17, Some(4))));
        assert_eq!(types(br#"{"typing":{"room":17}}"#), Some((17, None)));
        assert_eq!(types(br#"{"events":{"pos":"1.2"}}"#), None);
    }
}
