//! What a person wants on a device, going by what the device shows.

use ieum_protocol::frames::{ArchiveEntry, Change};
use ieum_protocol::objects::{Role, RoomKind};

use crate::copy::HeldRoom;
use crate::failure::Check;
use crate::random::Random;
use crate::world::World;

/// Somebody of whom nobody has heard.
const NOBODY: &str = "nobody.is.called.so";

impl World {
    /// What a person wants; in a hurry all of it is to say something.
    pub(super) fn choose(&mut self, device: usize, hurried: bool) -> Option<Change> {
        let of = self.devices.get(device)?;
        let copy = &of.process.as_ref()?.copy;
        let rooms: Vec<u64> =
            copy.rooms.iter().filter(|(_, held)| held.kind != RoomKind::Archive).map(|(id, _)| *id).collect();
        let me = of.user;
        let what = self.wishes.between(0, 999);
        let Some(room) = self.wishes.pick(&rooms).copied().filter(|_| hurried || what >= 25) else {
            return self.beginning();
        };
        let held = copy.rooms.get(&room)?;
        let group = held.kind == RoomKind::Group;
        let last = held.last;
        let random = &mut self.wishes;
        let person = random.pick(&self.people)?;
        let (user, handle) = (person.user, person.handle.clone());
        Some(match what {
            _ if hurried => self.say(room, None),
            25..=84 => {
                let seq = self.own_message(device, room, me, self.mood.edit_limit)?;
                Change::Edit { room, seq, text: self.text() }
            }
            85..=124 => Change::Delete { room, seq: self.own_message(device, room, me, self.mood.delete_limit)? },
            125..=139 => Change::Delete { room, seq: random.between(1, last + 1) },
            140..=339 => Change::Read { room, seq: last.max(1) },
            340..=369 => Change::Read { room, seq: random.between(1, last + 2) },
            370..=394 if group => Change::Invite { room, handles: vec![handle] },
            395..=399 if group => Change::Invite { room, handles: self.some_handles() },
            400..=419 if group => Change::Remove { room, user: somebody_in(held, user, random) },
            420..=427 if group => Change::Leave { room },
            428..=432 if group => Change::Rename { room, name: format!("room {what}") },
            433..=442 if group => {
                let role = *random.pick(&[Role::Member, Role::Manager, Role::Owner])?;
                Change::GiveRole { room, user: somebody_in(held, user, random), role }
            }
            443..=449 => Change::SetName { name: format!("Name {what}") },
            450..=499 => {
                let reply_to = if random.chance(100) { random.between(1, last + 2) } else { last };
                self.say(room, (reply_to > 0).then_some(reply_to))
            }
            500..=501 => Change::Send { room, text: "이".repeat(10_001), reply_to: None },
            502..=503 => Change::Send { room, text: " ".to_owned(), reply_to: None },
            _ => self.say(room, None),
        })
    }

    /// One of a person's own messages; often one whose time is just about over.
    fn own_message(&mut self, device: usize, room: u64, me: u64, limit: u64) -> Option<u64> {
        let held = self.devices.get(device)?.process.as_ref()?.copy.rooms.get(&room)?;
        let own = held.messages.iter().rev().take(80).filter(|message| message.from == me && message.text.is_some());
        if self.wishes.chance(500) {
            let own: Vec<u64> = own.take(20).map(|message| message.seq).collect();
            return self.wishes.pick(&own).copied();
        }
        let now = self.model.time();
        own.min_by_key(|message| (message.time + limit).abs_diff(now)).map(|message| message.seq)
    }

    /// Handles of a few, of many or of all.
    fn some_handles(&mut self) -> Vec<String> {
        let all = self.people.len();
        let count = match self.wishes.index(10) {
            0..=4 => self.wishes.between(1, 3),
            5..=7 => self.wishes.between(4, 9),
            8 => self.wishes.between(10, 90),
            _ => self.wishes.between(95, 105),
        };
        let from = self.wishes.index(all.max(1));
        let mut handles: Vec<String> =
            self.people.iter().cycle().skip(from).take(count as usize).map(|person| person.handle.clone()).collect();
        if self.wishes.chance(20) {
            handles.push(NOBODY.to_owned());
        }
        handles
    }

    /// Opens a room.
    fn beginning(&mut self) -> Option<Change> {
        if self.wishes.chance(600) {
            let handle = self.wishes.pick(&self.people)?.handle.clone();
            return Some(Change::OpenDirect { handle });
        }
        let name = format!("group {}", self.said);
        Some(Change::CreateGroup { name, handles: self.some_handles() })
    }

    /// Brings in what somebody has from elsewhere: in parts that overlap, some of them again.
    pub(super) fn imports(&mut self, device: usize) -> Check {
        let Some(of) = self.devices.get(device) else { return Ok(()) };
        let Some(process) = &of.process else { return Ok(()) };
        let user = of.user;
        let archives = process.copy.rooms.iter().filter(|(_, held)| held.kind == RoomKind::Archive);
        let archives: Vec<u64> = archives.map(|(id, _)| *id).collect();
        if archives.is_empty() || (archives.len() < 3 && self.wishes.chance(100)) {
            let key = format!("{:032x}", self.wishes.between(0, 2));
            return self.ask(device, Change::OpenArchive { key, name: "from elsewhere".to_owned() });
        }
        let Some(room) = self.wishes.pick(&archives).copied() else { return Ok(()) };
        let mut from = self.wishes.between(0, 300);
        let length = if self.wishes.chance(100) { 200 } else { 20 };
        for _ in 0..self.wishes.between(1, 6) {
            let count = self.wishes.between(1, length);
            let entries = (from..from + count).map(|number| entry(user, number)).collect();
            self.ask(device, Change::AddToArchive { room, entries })?;
            from += count - count / 4;
        }
        Ok(())
    }
}

fn entry(user: u64, number: u64) -> ArchiveEntry {
    ArchiveEntry {
        key: format!("{:032x}", u128::from(number)),
        time: 1_500_000_000_000 + number * 1_000,
        author: format!("author {}", number % 5),
        kind: "text".to_owned(),
        text: format!("{user} {number} {}", "과거".repeat(usize::try_from(number % 40).unwrap_or(0))),
    }
}

/// Somebody who has said something in a room; `user` where nobody has.
fn somebody_in(held: &HeldRoom, user: u64, random: &mut Random) -> u64 {
    if random.chance(300) {
        return user;
    }
    let lately: Vec<u64> = held.messages.iter().rev().take(10).map(|message| message.from).collect();
    random.pick(&lately).copied().unwrap_or(user)
}
