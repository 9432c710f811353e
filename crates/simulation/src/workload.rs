//! What people do.

use data_encoding::BASE64URL_NOPAD;
use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::{Command, account, device};
use ieum_core::ids::UserId;
use ieum_core::outcome::{Accepted, Outcome};
use ieum_gateway::{Cell as _, Ticket};
use ieum_protocol::frames::Change;
use ieum_protocol::objects::{Role, RoomKind};

use crate::device::Device;
use crate::failure::{Check, broken, holds};
use crate::world::{Event, World};

impl World {
    /// Submits a command without a device and runs until its outcome is known.
    fn submit(&mut self, origin: Origin, command: Command) -> Check<Outcome> {
        let Some((host, node)) = self.hosts.iter().find_map(|host| Some((host.index, host.node.as_ref()?))) else {
            return broken("no node");
        };
        let (ticket, mut outcome) = Ticket::request();
        if node.cell.submit(&Envelope { origin, command }, ticket).is_err() {
            return broken("a command is not taken");
        }
        self.append(host);
        for _ in 0..1_000 {
            self.run_until(self.now() + 10)?;
            if let Ok((_, outcome)) = outcome.try_recv() {
                return Ok(outcome);
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

    /// An account with one to three devices.
    pub(crate) fn register(&mut self, person: u64) -> Check {
        let password = "a hash of a password".to_owned();
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
        self.add_device(user, person, device.0, secret);
        for _ in 0..self.wishes.between(0, 2) {
            let (secret, secret_hash) = self.secret();
            let add = device::AddDevice { user, password: password.clone(), secret_hash, name: "another".to_owned() };
            let Outcome::Accepted(Accepted::DeviceAdded { device }) = self.anonymous(add.into())? else {
                return broken("nobody can sign in");
            };
            self.add_device(user, person, device.0, secret);
        }
        Ok(())
    }

    fn secret(&mut self) -> (String, [u8; 32]) {
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

    fn add_device(&mut self, user: UserId, person: u64, id: u64, secret: String) {
        let (index, keeps) = (self.devices.len(), self.wishes.chance(400));
        self.trace.owner(&handle(person));
        let endpoints = self.endpoints();
        let first = self.wishes.index(endpoints);
        let knows = vec![first, (first + 1) % endpoints];
        self.devices.push(Device::new(index, (user.0, handle(person)), (id, secret), knows, keeps));
        let after = self.wishes.between(0, 3_000);
        self.after(after, Event::DeviceStarts(index));
    }

    /// Somebody does something.
    pub(crate) fn act(&mut self) -> Check {
        if !self.troubled {
            return Ok(());
        }
        let after = self.wishes.between(50, 900);
        self.after(after, Event::Act);
        let running = self.running();
        let Some(device) = self.wishes.pick(&running).copied() else { return Ok(()) };
        if self.wishes.chance(60) {
            let foreground = self.wishes.chance(400);
            return self.foreground(device, foreground);
        }
        let times = if self.wishes.chance(30) { self.wishes.between(10, 60) } else { 1 };
        for _ in 0..times {
            if let Some(change) = self.choose(device, times > 1) {
                self.ask(device, change)?;
            }
        }
        Ok(())
    }

    /// What a person wants on a device, going by what the device shows.
    fn choose(&mut self, device: usize, hurried: bool) -> Option<Change> {
        let of = self.devices.get(device)?;
        let copy = &of.process.as_ref()?.copy;
        let rooms: Vec<u64> = copy.rooms.keys().copied().collect();
        let people: Vec<(u64, &str)> =
            self.devices.iter().map(|device| (device.user, device.handle.as_str())).collect();
        let me = of.user;
        let random = &mut self.wishes;
        let what = random.between(0, 999);
        let Some(room) = random.pick(&rooms).copied().filter(|_| hurried || what >= 40) else {
            return beginning(what, &people, random);
        };
        let held = copy.rooms.get(&room)?;
        let own: Vec<u64> = held
            .messages
            .values()
            .rev()
            .take(30)
            .filter(|message| message.from == me)
            .map(|message| message.seq)
            .collect();
        let group = held.kind == RoomKind::Group;
        let (person, handle) = *random.pick(&people)?;
        Some(match what {
            _ if hurried => self.say(room, None),
            40..=79 => Change::Edit { room, seq: *random.pick(&own)?, text: self.text() },
            80..=109 => Change::Delete { room, seq: *random.pick(&own)? },
            110..=349 => Change::Read { room, seq: held.last.max(1) },
            350..=369 if group => Change::Invite { room, handles: vec![handle.to_owned()] },
            370..=379 if group => Change::Remove { room, user: person },
            380..=389 if group => Change::Leave { room },
            390..=394 if group => Change::Rename { room, name: format!("room {what}") },
            395..=399 if group => Change::GiveRole { room, user: person, role: Role::Manager },
            400..=409 => Change::SetName { name: format!("Name {what}") },
            410..=449 => {
                let reply_to = held.last;
                self.say(room, (reply_to > 0).then_some(reply_to))
            }
            _ => self.say(room, None),
        })
    }

    fn say(&mut self, room: u64, reply_to: Option<u64>) -> Change {
        Change::Send { room, text: self.text(), reply_to }
    }

    /// A text that nobody else ever says.
    fn text(&mut self) -> String {
        self.said += 1;
        let length = if self.wishes.chance(30) { self.wishes.index(1_500) } else { self.wishes.index(60) };
        format!("#{} {}", self.said, "이".repeat(length))
    }
}

fn handle(person: u64) -> String {
    format!("person.{person}")
}

/// Opens a room.
fn beginning(what: u64, people: &[(u64, &str)], random: &mut crate::random::Random) -> Option<Change> {
    let handle = random.pick(people)?.1.to_owned();
    if !what.is_multiple_of(3) {
        return Some(Change::OpenDirect { handle });
    }
    let some = (0..random.between(1, 9)).filter_map(|_| random.pick(people));
    let handles = some.map(|(_, handle)| (*handle).to_owned()).collect();
    Some(Change::CreateGroup { name: format!("group {what}"), handles })
}
