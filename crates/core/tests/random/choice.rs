//! Random choices, and what they mean in the state that they meet. Made of small numbers, so that proptest shrinks them well.

use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::Command;
use ieum_core::commands::account::SetName;
use ieum_core::commands::archive::{AddToArchive, Entry, OpenArchive};
use ieum_core::commands::device::{AddDevice, LogOut};
use ieum_core::commands::group::{CreateGroup, CreateGroupById, GiveRole, Invite, InviteById, Leave, Remove, Rename};
use ieum_core::commands::message::{Delete, Edit, Send};
use ieum_core::commands::receipt::Read;
use ieum_core::commands::room::{OpenDirect, OpenDirectById};
use ieum_core::ids::{DeviceId, RoomId, Seq, UserId};
use ieum_core::tables::rooms::Role;
use ieum_core::testing::id;
use proptest::prelude::*;

use crate::model::{Kind, Model, Room};

/// What happens next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A batch of commands, so many milliseconds after the last one.
    Batch(u64, Vec<Choice>),
    /// Nothing for days.
    Days(u64),
    /// The log hands the last batch out once more.
    Repeat,
    /// A batch of a node that is no member.
    Stranger(Vec<Choice>),
    /// The operator brings the cell to the level that this build knows.
    Activate,
}

/// A command in the making.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    device: u8,
    origin: u8,
    command: u8,
    room: u8,
    a: u8,
    b: u8,
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let choice = any::<(u8, u8, u8, u8, u8, u8)>().prop_map(|(device, origin, command, room, a, b)| Choice {
        device,
        origin,
        command,
        room,
        a,
        b,
    });
    let choices = proptest::collection::vec(choice, 1..6);
    let step = prop_oneof![
        30 => (0u64..60_000, choices.clone()).prop_map(|(time, choices)| Step::Batch(time, choices)),
        1 => prop_oneof![Just(1u64), Just(31)].prop_map(Step::Days),
        2 => Just(Step::Repeat),
        1 => Just(Step::Activate),
        1 => choices.prop_map(Step::Stranger),
    ];
    proptest::collection::vec(step, 1..40)
}

fn pick<T: Copy>(from: impl IntoIterator<Item = T>, n: u8) -> Option<T> {
    let all: Vec<T> = from.into_iter().collect();
    if all.is_empty() { None } else { all.get(usize::from(n) % all.len()).copied() }
}

impl Choice {
    pub(crate) fn envelope(self, model: &Model, unique: u64) -> Envelope {
        Envelope { origin: self.origin(model, unique), command: self.command(model, unique) }
    }

    fn origin(self, model: &Model, unique: u64) -> Origin {
        let device = pick(model.devices.keys().copied(), self.device).unwrap_or(DeviceId(404));
        let history = model.devices.get(&device).map(|d| d.history.as_slice()).unwrap_or_default();
        let used = history.len() as u64;
        let back = if self.b == 0 { 0 } else { used.saturating_sub(u64::from(self.a % 80)).max(1) };
        match self.origin {
            0..=8 => {
                let known = history.get((back as usize).saturating_sub(1)).map_or(id(unique), |(id, _)| *id);
                Origin::Device { device, number: back, id: known }
            }
            9..=12 => Origin::Device { device, number: back, id: id(unique) },
            13..=15 => Origin::Device { device, number: used + 2 + u64::from(self.b), id: id(unique) },
            16..=17 => Origin::Device { device: DeviceId(404), number: 1, id: id(unique) },
            18..=45 => Origin::Http { device, key: id(u64::from(self.b % 4)), request: id(u64::from(self.a % 2)) },
            _ => Origin::Device { device, number: used + 1, id: id(unique) },
        }
    }

    fn user(n: u8, model: &Model) -> UserId {
        if n == 255 { UserId(404) } else { pick(model.users.keys().copied(), n).unwrap_or_default() }
    }

    /// Mostly one of the person's first rooms, so that much happens in each; sometimes one that is not theirs or not there.
    fn room(self, model: &Model, me: UserId, archive: bool) -> Option<RoomId> {
        match self.room {
            255 => Some(RoomId(404)),
            235..=254 => pick(model.rooms.keys().copied(), self.a),
            n => {
                let fits =
                    |room: &Room| matches!(room.kind, Kind::Archive(_)) == archive && room.people.contains_key(&me);
                let mine = model.rooms.iter().filter(|(_, room)| fits(room)).map(|(id, _)| *id);
                let all = model.rooms.keys().copied();
                pick(mine.take(4), n).or_else(|| if archive { pick(all, n) } else { None })
            }
        }
    }

    /// Mostly somebody in the room.
    fn person(self, model: &Model, room: RoomId) -> UserId {
        let people = model.rooms.get(&room).map(|room| room.people.keys().copied().collect::<Vec<_>>());
        if self.b < 40 {
            Self::user(self.a, model)
        } else {
            pick(people.unwrap_or_default(), self.a).unwrap_or_default()
        }
    }

    fn users(self, model: &Model) -> Vec<UserId> {
        (0..self.a % 4).map(|n| Self::user(self.b.wrapping_mul(n + 1), model)).collect()
    }

    /// Whether people are named as the other levels name them, which this one does not take.
    fn otherwise(self) -> bool {
        self.room.is_multiple_of(16)
    }

    fn open_direct(self, model: &Model) -> Command {
        let with = Self::user(self.a, model);
        if model.by_id() == self.otherwise() {
            OpenDirect { with: model.handle(with) }.into()
        } else {
            OpenDirectById { with }.into()
        }
    }

    fn create_group(self, model: &Model, name: String, members: Vec<UserId>) -> Command {
        if model.by_id() == self.otherwise() {
            CreateGroup { name, members: model.handles(&members) }.into()
        } else {
            CreateGroupById { name, members }.into()
        }
    }

    fn invite(self, model: &Model, room: RoomId) -> Command {
        let users = self.users(model);
        if model.by_id() == self.otherwise() {
            Invite { room, users: model.handles(&users) }.into()
        } else {
            InviteById { room, users }.into()
        }
    }

    /// Mostly one of the last few messages, often of the person's own, sometimes one that is not there.
    fn seq(self, model: &Model, me: UserId, room: RoomId) -> Seq {
        if (80..=119).contains(&self.command) && !self.b.is_multiple_of(4) {
            let entries = model.rooms.get(&room).map(|room| room.entries.as_slice()).unwrap_or_default();
            let own = entries.iter().zip(1..).filter(|(entry, _)| entry.from == me).map(|(_, seq)| seq);
            let latest: Vec<Seq> = own.collect::<Vec<_>>().into_iter().rev().take(4).collect();
            return pick(latest, self.a).unwrap_or(1);
        }
        let last = model.rooms.get(&room).map_or(0, |room| room.last());
        (last + 1).saturating_sub(u64::from(self.a % 8))
    }

    fn text(self, unique: u64) -> String {
        if self.b < 4 { String::new() } else { format!("{unique}") }
    }

    fn command(self, model: &Model, unique: u64) -> Command {
        let device = pick(model.devices.keys().copied(), self.device);
        let me = device.map_or(UserId(404), |device| model.devices[&device].user);
        let archive = (228..=241).contains(&self.command);
        let Some(room) = self.room(model, me, archive) else {
            return self.create_group(model, format!("{unique}"), model.users.keys().copied().collect());
        };
        let (seq, text, user) = (self.seq(model, me, room), self.text(unique), self.person(model, room));
        match self.command {
            0..=79 => Send { room, text, reply_to: (self.a < 40).then_some(seq) }.into(),
            80..=104 => Edit { room, seq, text }.into(),
            105..=119 => Delete { room, seq }.into(),
            120..=144 => Read { room, seq }.into(),
            145..=154 => self.open_direct(model),
            155..=169 => self.create_group(model, text, self.users(model)),
            170..=189 => self.invite(model, room),
            190..=197 => Leave { room }.into(),
            198..=207 => Remove { room, user }.into(),
            208..=213 => Rename { room, name: text }.into(),
            214..=227 => {
                GiveRole { room, user, role: [Role::Member, Role::Manager, Role::Owner][usize::from(self.b % 3)] }
                    .into()
            }
            228..=231 => OpenArchive { key: id(u64::from(self.a % 2)), name: "old".to_owned() }.into(),
            232..=241 => AddToArchive { room, entries: self.entries() }.into(),
            242..=244 => SetName { name: format!("name {unique}") }.into(),
            245..=248 => {
                let user = pick(model.users.keys().copied(), self.a).unwrap_or_default();
                AddDevice { user, password: "$argon2id$1".to_owned(), secret_hash: [2; 32], name: "tablet".to_owned() }
                    .into()
            }
            249..=251 => LogOut { device: pick(model.devices.keys().copied(), self.b).unwrap_or_default() }.into(),
            _ => Command::Unknown { number: 1_000 + u64::from(self.a), bytes: vec![self.b].into() },
        }
    }

    fn entries(self) -> Vec<Entry> {
        let entry = |n: u8| {
            let n = u64::from(self.a.wrapping_add(n) % 16);
            Entry { key: id(n), time: n, author: "엄마".to_owned(), kind: "text".to_owned(), text: n.to_string() }
        };
        (0..self.b % 5).map(entry).collect()
    }
}
