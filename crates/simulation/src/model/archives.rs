//! Archives: what people bring in from elsewhere.

use ieum_core::commands::archive::Entry;
use ieum_core::ids::RoomId;
use ieum_core::outcome::{Accepted, Reject};
use ieum_core::tables::messages::Body;
use ieum_core::tables::rooms::Role;

use super::people::is_name;
use super::rooms::{Kind, Said};
use super::{Model, Step, Told};

impl Model {
    pub(super) fn open_archive(&mut self, user: u64, key: [u8; 16], name: &str) -> Step {
        if let Some(room) = self.archives.get(&(user, key)) {
            return Ok(Accepted::Room { room: RoomId(*room), created: false });
        }
        if !is_name(name) {
            return Err(Reject::NameInvalid);
        }
        if !self.has_room(user, false) {
            return Err(Reject::TooManyRooms);
        }
        let room = self.make(Kind::Archive(user), name);
        self.archives.insert((user, key), room);
        self.admit(room, user, Role::Owner, 1);
        Ok(Accepted::Room { room: RoomId(room), created: true })
    }

    pub(super) fn add_to_archive(&mut self, user: u64, id: u64, entries: &[Entry]) -> Step {
        let at = self.at;
        self.room_of(id, user)?;
        let room = self.rooms.get_mut(&id).ok_or(Reject::RoomUnknown)?;
        if !matches!(room.kind, Kind::Archive(_)) {
            return Err(Reject::WrongRoomKind);
        }
        if entries.len() > 500 {
            return Err(Reject::TooMany);
        }
        let before = room.last();
        for Entry { key, time, author, kind, text } in entries {
            if room.keys.contains_key(key) {
                continue;
            }
            let body = Body::Archived { author: author.clone(), kind: kind.clone(), text: text.clone() };
            room.said.push(Said { at, from: user, time: *time, counted: 0, versions: vec![(at, body, None)] });
            room.keys.insert(*key, room.last());
        }
        let last = room.last();
        let added = last - before;
        if added > 0 {
            self.tell([user], &Told::Archived { room: id, last });
        }
        Ok(Accepted::Archived { added, known: entries.len() as u64 - added, last })
    }
}
