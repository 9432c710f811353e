//! What people do.

mod mood;
mod requests;
mod wishes;

use std::collections::VecDeque;

use data_encoding::BASE64URL_NOPAD;
use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::{Command, account, device};
use ieum_core::ids::{Position, UserId};
use ieum_core::outcome::{Accepted, Outcome, Reject};
use ieum_gateway::{Cell as _, Ticket};
use ieum_protocol::frames::Change;
use ieum_protocol::objects::{Role, RoomKind};

use crate::device::Device;
use crate::failure::{Check, broken, holds};
use crate::world::{Event, World};

pub(crate) use mood::Mood;
pub(crate) use requests::Request;

impl World {
    /// Submits a command without a device and runs until its outcome is known.
    pub(super) fn submit(&mut self, origin: Origin, command: Command) -> Check<Outcome> {
        let Some(host) = self.hosts.iter().find(|host| host.node.is_some()).map(|host| host.index) else {
            return broken("no node");
        };
        self.submit_at(host, origin, command)
    }

    fn submit_at(&mut self, host: usize, origin: Origin, command: Command) -> Check<Outcome> {
        let outcome = self.submit_all(host, [Envelope { origin, command }])?.pop();
        outcome.map_or_else(|| broken("a command has no outcome"), Ok)
    }

    /// Submits commands to one node at once. Their outcomes, in order.
    pub(crate) fn submit_all(&mut self, host: usize, all: impl IntoIterator<Item = Envelope>) -> Check<Vec<Outcome>> {
        let Some(node) = self.hosts.get(host).and_then(|host| host.node.as_ref()) else { return broken("no node") };
        let (mut waiting, mut outcomes) = (VecDeque::new(), Vec::new());
        for envelope in all {
            let (ticket, outcome) = Ticket::request();
            holds(node.cell.submit(&envelope, ticket).is_ok(), || "a command is not taken".to_owned())?;
            waiting.push_back(outcome);
        }
        self.append(host);
        for _ in 0..1_000 {
            self.run_until(self.now() + 10)?;
            while let Some((_, outcome)) = waiting.front_mut().and_then(|next| next.try_recv().ok()) {
                waiting.pop_front();
                outcomes.push(outcome);
            }
            if waiting.is_empty() {
                return Ok(outcomes);
            }
        }
        broken("a command has no outcome")
    }

    /// An operator's command.
    pub(crate) fn operate(&mut self, command: Command) -> Check {
        match self.submit(Origin::Node, command)? {
            Outcome::Accepted(_) => Ok(()),
            Outcome::Rejected(reject) => broken(format!("an operator's command is rejected: {reject:?}")),
        }
    }

    /// The same of one node, and why it is rejected if it is.
    pub(crate) fn commands_at(&mut self, host: usize, command: Command) -> Check<Option<Reject>> {
        match self.submit_at(host, Origin::Node, command)? {
            Outcome::Accepted(_) => Ok(None),
            Outcome::Rejected(reject) => Ok(Some(reject)),
        }
    }

    /// An account with one to three devices.
    pub(crate) fn register(&mut self, person: u64) -> Check {
        let password = PASSWORD.to_owned();
        let (secret, secret_hash) = self.secret();
        let register = account::Register {
            handle: handle(person),
            name: format!("Person {person}"),
            password: password.clone(),
            secret_hash,
            device_name: "first".to_owned(),
            invitation: None,
        };
        let Outcome::Accepted(Accepted::Registered { user, device }) = self.anonymous(register.into())? else {
            return broken("nobody can register");
        };
        self.people.push(Somebody::new(user.0, handle(person), password.clone()));
        self.add_device(user, handle(person), (device.0, self.model.at()), secret);
        for _ in 0..self.wishes.between(0, 2) {
            let (secret, secret_hash) = self.secret();
            let add = device::AddDevice { user, password: password.clone(), secret_hash, name: "another".to_owned() };
            let Outcome::Accepted(Accepted::DeviceAdded { device }) = self.anonymous(add.into())? else {
                return broken("nobody can sign in");
            };
            self.add_device(user, handle(person), (device.0, self.model.at()), secret);
        }
        Ok(())
    }

    pub(super) fn secret(&mut self) -> (String, [u8; 32]) {
        let secret: [u8; 32] = self.wishes.bytes();
        (BASE64URL_NOPAD.encode(&secret), *blake3::hash(&secret).as_bytes())
    }

    fn anonymous(&mut self, command: Command) -> Check<Outcome> {
        let (key, request) = (self.wishes.bytes(), self.wishes.bytes());
        let outcome = self.submit(Origin::Anonymous { key, request }, command.clone())?;
        if self.wishes.chance(100) {
            // The answer got lost, so it is asked again.
            let again = self.submit(Origin::Anonymous { key, request }, command)?;
            holds(again == outcome, || {
                format!("a request was answered {outcome:?}, and when it was sent again {again:?}")
            })?;
        }
        Ok(outcome)
    }

    fn add_device(&mut self, user: UserId, handle: String, (id, added): (u64, Position), secret: String) {
        let (index, keeps) = (self.devices.len(), self.wishes.chance(400));
        self.trace.owner(&handle);
        let endpoints = self.endpoints();
        let first = self.wishes.index(endpoints);
        let knows = vec![first, (first + 1) % endpoints];
        self.devices.push(Device::new(index, (user.0, handle), (id, secret, added), knows, keeps));
        let after = self.wishes.between(0, 3_000);
        self.after(after, Event::DeviceStarts(index));
    }

    /// Somebody does something.
    pub(crate) fn act(&mut self) -> Check {
        if !self.acting {
            return Ok(());
        }
        let after = self.mood.pause(&mut self.wishes);
        self.after(after, Event::Act);
        self.look_at_requests()?;
        let running = self.running();
        let Some(device) = self.wishes.pick(&running).copied() else { return Ok(()) };
        match self.wishes.between(0, 999) {
            0..=59 => {
                let foreground = self.wishes.chance(400);
                self.foreground(device, foreground)
            }
            60..=99 => self.somebody_requests(),
            100..=109 if self.troubled => self.throng(device),
            110..=139 if self.troubled => self.imports(device),
            what => {
                let hurried = self.troubled && what >= 1_000 - self.mood.hurry;
                let times = if hurried { self.wishes.between(10, 60) } else { 1 };
                for _ in 0..times {
                    if let Some(change) = self.choose(device, hurried) {
                        self.ask(device, change)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Everybody talks in one group at once, while somebody is taken out of it and brought back.
    fn throng(&mut self, device: usize) -> Check {
        let Some(copy) = self.devices.get(device).and_then(|of| Some(&of.process.as_ref()?.copy)) else {
            return Ok(());
        };
        let leads = |held: &crate::copy::HeldRoom| held.kind == RoomKind::Group && held.role > Role::Member;
        let led: Vec<u64> = copy.rooms.iter().filter(|(_, held)| leads(held.as_ref())).map(|(id, _)| *id).collect();
        let Some(room) = self.wishes.pick(&led).copied() else { return Ok(()) };
        let there: Vec<usize> = self.running().into_iter().filter(|of| self.holds(*of, room)).collect();
        let me = self.devices.get(device).map_or(0, |of| of.user);
        let others: Vec<(u64, String)> = there
            .iter()
            .filter_map(|of| self.devices.get(*of))
            .filter(|of| of.user != me)
            .map(|of| (of.user, of.handle.clone()))
            .collect();
        let Some((user, handle)) = self.wishes.pick(&others).cloned() else { return Ok(()) };
        for of in there {
            let change = self.say(room, None);
            self.ask(of, change)?;
            if of == device {
                self.ask(device, Change::Remove { room, user })?;
            } else if self.wishes.chance(100) {
                self.ask(of, Change::Leave { room })?;
            }
        }
        if self.wishes.chance(700) {
            self.ask(device, Change::Invite { room, handles: vec![handle] })?;
        }
        Ok(())
    }

    fn holds(&self, device: usize, room: u64) -> bool {
        let process = self.devices.get(device).and_then(|of| of.process.as_ref());
        process.is_some_and(|process| process.copy.rooms.contains_key(&room))
    }

    fn say(&mut self, room: u64, reply_to: Option<u64>) -> Change {
        Change::Send { room, text: self.text(), reply_to }
    }

    /// A text that nobody else ever says.
    fn text(&mut self) -> String {
        self.said += 1;
        let length = match self.wishes.between(0, 999) {
            0..=4 => self.wishes.index(9_990),
            5..=34 => self.wishes.index(1_500),
            _ => self.wishes.index(60),
        };
        format!("#{} {}", self.said, "이".repeat(length))
    }
}

/// What everybody's password is at first.
const PASSWORD: &str = "a hash of a password";

/// A person, as those who know them do.
#[derive(Debug)]
pub(crate) struct Somebody {
    pub(crate) user: u64,
    pub(crate) handle: String,
    password: String,
}

impl Somebody {
    pub(crate) fn new(user: u64, handle: String, password: String) -> Self {
        Self { user, handle, password }
    }
}

fn handle(person: u64) -> String {
    format!("person.{person}")
}
