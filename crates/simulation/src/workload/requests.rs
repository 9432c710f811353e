//! What is asked for without a stream, each under a key of its own, until it is answered: changes by programs, new devices, new passwords. What
//! the gateway does between a request over HTTP and the cell is not lived here: these go to the cell as it hands them on.

use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::{Command, account, device, group, message, receipt, room};
use ieum_core::ids::{DeviceId, Position, RoomId, UserId};
use ieum_core::outcome::{Accepted, Outcome, Reject};
use ieum_gateway::{Cell as _, Ticket};
use tokio::sync::oneshot::Receiver;

use crate::failure::{Check, holds};
use crate::world::World;

/// For how long an outcome is waited for, before it is asked again.
const PATIENCE: u64 = 2_000;
/// So many wait at most.
const MOST: usize = 12;
/// So many devices there are at most.
const MOST_DEVICES: usize = 72;

/// Something that is asked for.
#[derive(Debug)]
pub(crate) struct Request {
    origin: Origin,
    command: Command,
    /// The index of the person whose new device it brings, with its secret.
    secret: Option<(usize, String)>,
    since: u64,
    waits: Option<Receiver<(Position, Outcome)>>,
    /// It is asked once more although it was answered.
    again: bool,
}

impl World {
    /// Rooms as clients of the first version make them, who name people by id: those of today make none in a cell of that level.
    pub(crate) fn old_clients_make_rooms(&mut self) -> Check {
        for index in 0..self.devices.len() {
            let Some(device) = self.devices.get(index).map(|device| DeviceId(device.id)) else { continue };
            let mut people = self.people.iter().cycle().skip(self.wishes.index(self.people.len()));
            let with = UserId(people.next().map_or(0, |person| person.user));
            let members = people.step_by(3).take(index % 9).map(|person| UserId(person.user)).collect();
            let command: Command = match index % 3 {
                0 => group::CreateGroupById { name: format!("room {index}"), members }.into(),
                _ => room::OpenDirectById { with }.into(),
            };
            let (key, request) = (self.wishes.bytes(), self.wishes.bytes());
            let outcome = self.submit(Origin::Http { device, key, request }, command)?;
            let due = self.model.by_key(device.0, &key);
            holds(due == Some(&outcome), || format!("an old client got {outcome:?}, and has to get {due:?}"))?;
        }
        Ok(())
    }

    /// Somebody asks for something.
    pub(super) fn somebody_requests(&mut self) -> Check {
        if self.requests.len() >= MOST {
            return Ok(());
        }
        let (key, request) = (self.wishes.bytes(), self.wishes.bytes());
        let of = self.wishes.index(self.people.len());
        let (user, password) = self.people.get(of).map_or_else(Default::default, |of| (of.user, of.password.clone()));
        let what = self.wishes.between(0, 99);
        if what < 25 {
            if self.devices.len() < MOST_DEVICES {
                let (secret, secret_hash) = self.secret();
                let add = device::AddDevice { user: UserId(user), password, secret_hash, name: "new".to_owned() };
                self.requests(Origin::Anonymous { key, request }, add.into(), Some((of, secret)));
            }
            return Ok(());
        }
        let all: Vec<(usize, u64, u64)> = self.devices.iter().map(|of| (of.index, of.id, of.user)).collect();
        let Some((index, device, user)) = self.wishes.pick(&all).copied() else { return Ok(()) };
        let other = self.wishes.pick(&self.people).map_or(0, |other| other.user);
        let rooms: Vec<u64> =
            self.model.people.get(&user).map_or_else(Vec::new, |of| of.rooms.keys().copied().collect());
        let id = self.wishes.pick(&rooms).copied().unwrap_or(0);
        let command: Command = match what {
            25..=29 => {
                let owner = self.people.iter().find(|of| of.user == user);
                let old = owner.map_or_else(String::new, |of| of.password.clone());
                account::SetPassword { old, new: format!("a hash of password {index}.{}", self.said) }.into()
            }
            // As a gateway of the first version has them.
            30..=34 => room::OpenDirectById { with: UserId(other) }.into(),
            35..=37 => group::InviteById { room: RoomId(id), users: vec![UserId(other)] }.into(),
            38..=49 => receipt::Read { room: RoomId(id), seq: self.wishes.between(1, 30) }.into(),
            _ => message::Send { room: RoomId(id), text: self.text(), reply_to: None }.into(),
        };
        self.requests(Origin::Http { device: DeviceId(device), key, request }, command, None);
        Ok(())
    }

    fn requests(&mut self, origin: Origin, command: Command, secret: Option<(usize, String)>) {
        self.commands += 1;
        self.note(format_args!("a request: {}", command.name()));
        let since = self.now();
        let again = self.wishes.chance(200);
        let mut request = Request { origin, command, secret, since, waits: None, again };
        self.hand_in(&mut request);
        self.requests.push(request);
    }

    /// Hands a request to any node that serves.
    fn hand_in(&mut self, request: &mut Request) {
        request.since = self.now();
        let apart = self.losses.apart();
        let serves = |host: &&crate::host::Host| host.serves() && Some(host.journal.era) != apart;
        let serving: Vec<usize> = self.hosts.iter().filter(serves).map(|host| host.index).collect();
        let Some(index) = self.random.pick(&serving).copied() else { return };
        let now = self.now();
        if let Some(node) =
            self.hosts.get(index).filter(|host| host.frozen_until <= now).and_then(|of| of.node.as_ref())
        {
            let (ticket, waits) = Ticket::request();
            node.cell.pass(now);
            let envelope = Envelope { origin: request.origin.clone(), command: request.command.clone() };
            request.waits = node.cell.submit(&envelope, ticket).is_ok().then_some(waits);
            self.append(index);
        }
    }

    /// Looks what became of what was asked for.
    pub(crate) fn look_at_requests(&mut self) -> Check {
        let now = self.now();
        for mut request in std::mem::take(&mut self.requests) {
            match request.waits.as_mut().map(Receiver::try_recv) {
                Some(Ok((at, _))) if self.history.is_gone(at) => {
                    self.hand_in(&mut request);
                    self.requests.push(request);
                }
                Some(Ok((at, outcome))) => {
                    let again = std::mem::take(&mut request.again);
                    self.answered(&mut request, at, outcome)?;
                    if again {
                        self.hand_in(&mut request);
                        self.requests.push(request);
                    }
                }
                _ if now - request.since >= PATIENCE => {
                    self.hand_in(&mut request);
                    self.requests.push(request);
                }
                _ => self.requests.push(request),
            }
        }
        Ok(())
    }

    /// A request was answered: as the log says, however often it was asked.
    fn answered(&mut self, request: &mut Request, at: Position, outcome: Outcome) -> Check {
        let name = request.command.name();
        let right = match &request.origin {
            Origin::Http { device, key, .. } => {
                let out = self.model.devices.get(&device.0).is_some_and(|device| device.out.is_some());
                let gone = out && outcome == Outcome::Rejected(Reject::DeviceUnknown);
                gone || self.model.by_key(device.0, key) == Some(&outcome)
            }
            Origin::Anonymous { key, .. } => self.model.by_key(0, key) == Some(&outcome),
            _ => true,
        };
        holds(right, || format!("{name} with {:?} gave {outcome:?}", request.origin))?;
        match (outcome, &request.command) {
            (Outcome::Accepted(Accepted::DeviceAdded { device }), _) => {
                if let Some((of, secret)) = request.secret.take()
                    && let Some(person) = self.people.get(of)
                {
                    let (user, handle) = (UserId(person.user), person.handle.clone());
                    self.note(format_args!("a new device of {handle}"));
                    self.add_device(user, handle, (device.0, at), secret);
                }
            }
            (Outcome::Accepted(_), Command::SetPassword(set)) => {
                let new = set.new.clone();
                if let Origin::Http { device, .. } = &request.origin
                    && let Some(user) = self.devices.iter().find(|of| of.id == device.0).map(|of| of.user)
                    && let Some(person) = self.people.iter_mut().find(|person| person.user == user)
                {
                    person.password = new;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
