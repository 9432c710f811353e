//! The cell in plain words: the log's commands, one after the other, on maps in memory that keep their past. Written from what the design
//! and the protocol say and not from the code that it is compared with; it shares with that the log's encoding alone. It says what each
//! command must give, what each person must be told, in which order, and what they may see at any position.

mod answer;
mod archives;
mod nodes;
mod past;
mod people;
mod rooms;
mod time;
mod told;

use std::collections::{BTreeMap, BTreeSet};

use ieum_core::batch::{Batch, Envelope, Origin};
use ieum_core::commands::Command;
use ieum_core::ids::Position;
use ieum_core::outcome::{Accepted, Outcome, Reject};
use ieum_log::{BatchId, Entry};

pub(crate) use nodes::Node;
pub(crate) use past::Past;
pub(crate) use rooms::{Kind, Room, Said, TOLD_RECEIPTS};
pub(crate) use told::Told;

use self::nodes::Nodes;
use crate::failure::{Check, broken, holds};

/// What running a command gives.
type Step<T = Accepted> = Result<T, Reject>;

/// A person.
#[derive(Debug, Default)]
pub(crate) struct Person {
    pub(crate) name: String,
    password: String,
    /// The rooms that they are or were in.
    pub(crate) rooms: BTreeMap<u64, Past<bool>>,
    /// In how many they are.
    is_in: usize,
    /// What their devices are told, in order.
    pub(crate) told: Vec<(Position, Told)>,
}

/// A device.
#[derive(Debug)]
pub(crate) struct Device {
    user: u64,
    /// The number of its last command.
    last: u64,
    /// Where it was logged out, and how much its owner's devices had been told by then.
    pub(crate) out: Option<(Position, usize)>,
}

/// The cell.
#[derive(Debug, Default)]
pub(crate) struct Model {
    applied: usize,
    last: Option<BatchId>,
    at: Position,
    time: time::Time,
    cell: u16,
    level: u32,
    edit_limit: u64,
    delete_limit: u64,
    nodes: Nodes,
    pub(crate) people: BTreeMap<u64, Person>,
    handles: BTreeMap<String, u64>,
    pub(crate) devices: BTreeMap<u64, Device>,
    pub(crate) rooms: BTreeMap<u64, Room>,
    pairs: BTreeMap<(u64, u64), u64>,
    archives: BTreeMap<(u64, [u8; 16]), u64>,
    counters: [u64; 3],
    keys: BTreeMap<(u64, [u8; 16]), ([u8; 16], Outcome)>,
    done: BTreeMap<(u64, [u8; 16]), (Position, Outcome)>,
}

/// What is counted.
#[derive(Debug, Clone, Copy)]
enum Counted {
    People,
    Devices,
    Rooms,
}

impl Model {
    /// An empty one takes in what these hold, one after the other: the log begins anew behind them, and what else it held is lost.
    pub(crate) fn anew<'a>(&mut self, generations: impl Iterator<Item = (u32, &'a [Entry])>) -> Check {
        for (generation, entries) in generations {
            self.crosses(generation);
            self.follow(entries)?;
        }
        Ok(())
    }

    /// Nodes count their batches from the beginning again, and what the lost end may have named is named never again.
    fn crosses(&mut self, generation: u32) {
        (self.applied, self.last) = (0, None);
        if self.level == 0 {
            return;
        }
        self.at = Position::new(generation, 0);
        self.nodes.cross();
        self.counters = self.counters.map(|count| count + (1 << 24));
    }

    /// Takes in what the log has got since.
    pub(crate) fn follow(&mut self, log: &[Entry]) -> Check {
        let before = self.applied.checked_sub(1).and_then(|last| log.get(last)).map(|entry| entry.id);
        holds(before == self.last, || format!("the log lost batch {:?}", self.last))?;
        while let Some(entry) = log.get(self.applied) {
            self.batch(entry)?;
            (self.applied, self.last) = (self.applied + 1, Some(entry.id));
        }
        Ok(())
    }

    /// Where the log ends.
    pub(crate) fn at(&self) -> Position {
        self.at
    }

    /// What a command of a device gave, if it has taken effect.
    fn done(&self, device: u64, id: u128) -> Option<&Outcome> {
        self.done.get(&(device, id.to_be_bytes())).map(|(_, outcome)| outcome)
    }

    /// Where a command of a device took effect.
    pub(crate) fn done_at(&self, device: u64, id: u128) -> Option<Position> {
        self.done.get(&(device, id.to_be_bytes())).map(|(at, _)| *at)
    }

    fn batch(&mut self, entry: &Entry) -> Check {
        let Ok(batch) = Batch::decode(&entry.bytes) else { return broken(format!("{:?} is no batch", entry.position)) };
        self.at = Position::new(entry.position.generation, entry.position.ordinal);
        let id = entry.id;
        let first = match batch.commands.first().map(|first| &first.command) {
            Some(Command::AddNode(add)) if self.level == 0 => Some(add.dc.clone()),
            _ => None,
        };
        let known = self.nodes.member(id.node);
        if known.is_some_and(|node| (id.incarnation, id.number) <= node.last) {
            return Ok(());
        }
        // Nothing of a node that is no member has an effect.
        let Some(dc) = known.map(|node| node.dc.clone()).or(first) else {
            self.nodes.ignore(self.at, id.node);
            return Ok(());
        };
        let is_tick = |e: &&Envelope| e.origin == Origin::Node && matches!(e.command, Command::Tick(_));
        self.time.advance(id.node, &dc, batch.header.clock, batch.commands.iter().filter(is_tick).count());
        let imports = batch.commands.iter().filter(|e| matches!(e.command, Command::AddToArchive(_))).count();
        let most = ieum_node::batcher::Bounds::default().imports;
        holds(imports <= most, || format!("a batch holds {imports} imports"))?;
        let commands = batch.commands.len();
        holds(commands <= crate::node::MOST_WAITING, || format!("a batch holds {commands} commands"))?;
        for envelope in &batch.commands {
            self.command(id.node, envelope)?;
        }
        self.nodes.has_logged(id);
        Ok(())
    }

    fn command(&mut self, node: u32, envelope: &Envelope) -> Check {
        match &envelope.origin {
            Origin::Node => {
                let gives = self.of_node(node, &envelope.command);
                self.nodes.operated(self.at, &envelope.command, gives.err());
            }
            Origin::Device { device, number, id } => return self.numbered(device.0, *number, *id, &envelope.command),
            Origin::Http { device, key, request } => {
                if let Some(user) = self.user_of(device.0) {
                    self.keyed((device.0, *key), *request, Some(user), &envelope.command);
                }
            }
            Origin::Anonymous { key, request } => self.keyed((0, *key), *request, None, &envelope.command),
        }
        Ok(())
    }

    fn user_of(&self, device: u64) -> Option<u64> {
        self.devices.get(&device).filter(|device| device.out.is_none()).map(|device| device.user)
    }

    /// A device's commands take effect once, in the order of their numbers.
    fn numbered(&mut self, device: u64, number: u64, id: [u8; 16], command: &Command) -> Check {
        let Some(user) = self.user_of(device) else { return Ok(()) };
        let last = self.devices.get(&device).map_or(0, |device| device.last);
        if number != last + 1 {
            return Ok(());
        }
        let outcome = self.run(Some((user, device)), command);
        let before = self.done.insert((device, id), (self.at, outcome));
        holds(before.is_none(), || {
            format!("a command of device {device} takes effect at {} and did at {:?}", self.at, before)
        })?;
        if let Some(device) = self.devices.get_mut(&device) {
            device.last = number;
        }
        Ok(())
    }

    fn keyed(&mut self, key: (u64, [u8; 16]), request: [u8; 16], user: Option<u64>, command: &Command) {
        if !self.keys.contains_key(&key) {
            let outcome = self.run(user.map(|user| (user, key.0)), command);
            self.keys.insert(key, (request, outcome));
        }
    }

    /// What a change with this key gave, if it has taken effect.
    pub(crate) fn by_key(&self, device: u64, key: &[u8; 16]) -> Option<&Outcome> {
        self.keys.get(&(device, *key)).map(|(_, outcome)| outcome)
    }

    /// All commands that devices gave: of which device, under which id, and whether they did nothing.
    pub(crate) fn all_done(&self) -> impl Iterator<Item = (u64, u128, bool)> {
        self.done.iter().map(|((device, id), (_, outcome))| {
            (*device, u128::from_be_bytes(*id), matches!(outcome, Outcome::Rejected(Reject::RoomUnknown)))
        })
    }

    /// Cell time.
    pub(crate) fn time(&self) -> u64 {
        self.time.now()
    }

    fn run(&mut self, who: Option<(u64, u64)>, command: &Command) -> Outcome {
        let result = match command {
            Command::Register(_) | Command::AddDevice(_) => self.of_nobody(who, command),
            _ => match who {
                Some((user, _)) => self.of_person(user, command),
                None => Err(Reject::NotAllowed),
            },
        };
        match result {
            Ok(accepted) => Outcome::Accepted(accepted),
            Err(reject) => Outcome::Rejected(reject),
        }
    }

    fn of_person(&mut self, user: u64, command: &Command) -> Step {
        // Those who name people by id were taken at the first level alone.
        let by_id =
            matches!(command, Command::OpenDirectById(_) | Command::CreateGroupById(_) | Command::InviteById(_));
        let by_handle = matches!(command, Command::OpenDirect(_) | Command::CreateGroup(_) | Command::Invite(_));
        if (by_id && self.level > 1) || (by_handle && self.level < 2) {
            return Err(Reject::Unsupported);
        }
        match command {
            Command::SetName(set) => self.set_name(user, &set.name),
            Command::LogOut(out) => self.log_out(user, out.device.0),
            Command::SetPassword(set) => self.set_password(user, &set.old, &set.new),
            Command::OpenDirect(open) => self.open_direct(user, self.found(&open.with)),
            Command::OpenDirectById(open) => self.open_direct(user, self.with_id(open.with.0)),
            Command::CreateGroup(create) => {
                let people = create.members.iter().map(|handle| self.found(handle)).collect();
                self.create_group(user, &create.name, people)
            }
            Command::CreateGroupById(create) => {
                let people = create.members.iter().map(|id| self.with_id(id.0)).collect();
                self.create_group(user, &create.name, people)
            }
            Command::Invite(invite) => {
                let people = invite.users.iter().map(|handle| self.found(handle)).collect();
                self.invite(user, invite.room.0, people)
            }
            Command::InviteById(invite) => {
                let people = invite.users.iter().map(|id| self.with_id(id.0)).collect();
                self.invite(user, invite.room.0, people)
            }
            Command::Leave(leave) => self.leave(user, leave.room.0),
            Command::Remove(remove) => self.remove(user, remove.room.0, remove.user.0),
            Command::Rename(rename) => self.rename(user, rename.room.0, &rename.name),
            Command::GiveRole(give) => self.give_role(user, give.room.0, give.user.0, give.role),
            Command::Send(send) => self.send(user, send.room.0, &send.text, send.reply_to),
            Command::Edit(edit) => self.edit(user, edit.room.0, edit.seq, &edit.text),
            Command::Delete(delete) => self.delete(user, delete.room.0, delete.seq),
            Command::Read(read) => self.read(user, read.room.0, read.seq),
            Command::OpenArchive(open) => self.open_archive(user, open.key, &open.name),
            Command::AddToArchive(add) => self.add_to_archive(user, add.room.0, &add.entries),
            Command::Unknown { .. } => Err(Reject::Unsupported),
            _ => Err(Reject::NotAllowed),
        }
    }

    /// The id of the next thing of a kind.
    fn count(&mut self, what: Counted) -> u64 {
        let [people, devices, rooms] = &mut self.counters;
        let counter = match what {
            Counted::People => people,
            Counted::Devices => devices,
            Counted::Rooms => rooms,
        };
        *counter += 1;
        u64::from(self.cell) << 40 | *counter
    }

    /// Those who are told.
    fn tell(&mut self, people: impl IntoIterator<Item = u64>, told: &Told) {
        for user in people {
            if let Some(person) = self.people.get_mut(&user) {
                person.told.push((self.at, told.clone()));
            }
        }
    }

    /// Those named, each once, ascending; nobody is nobody's name.
    fn named(people: Vec<Option<u64>>) -> Step<Vec<u64>> {
        if people.len() > 100 {
            return Err(Reject::TooMany);
        }
        let named: Option<BTreeSet<u64>> = people.into_iter().collect();
        Ok(named.ok_or(Reject::UserUnknown)?.into_iter().collect())
    }
}
