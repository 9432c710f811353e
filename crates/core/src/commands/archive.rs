//! Archive rooms: one person's read-only import from elsewhere.

use crate::codec::record;
use crate::event::{Audience, News};
use crate::ids::{Millis, RoomId, Seq};
use crate::outcome::{Accepted, Reject};
use crate::scope::{MAX_ROOMS, MAX_TEXT, Run, Scope, Step, check_name};
use crate::tables::messages::{ARCHIVE_KEYS, Body, MESSAGES, Message};
use crate::tables::rooms::{ARCHIVES, HEADS, Head, Kind, Member, ROOMS, Role, Room};

record! {
    /// Opens the person's archive of one conversation elsewhere: the one that there is, or a new one.
    pub struct OpenArchive {
        /// Names the conversation for its owner.
        pub key: [u8; 16],
        /// What its owner sees.
        pub name: String,
    }
}

record! {
    /// Adds entries to an archive, those that it does not have yet.
    pub struct AddToArchive {
        /// Which archive.
        pub room: RoomId,
        /// At most 500.
        pub entries: Vec<Entry>,
    }
}

record! {
    /// An entry of an archive.
    pub struct Entry {
        /// Names the entry within its archive: an entry with a known key is passed over.
        pub key: [u8; 16],
        /// The original time.
        pub time: Millis,
        /// Who wrote it: a label, no account; empty for what nobody wrote.
        pub author: String,
        /// `text`, `photo`, `file` …: a word of the importer's.
        pub kind: String,
        /// What it says, at most 10,000 characters; may be empty.
        pub text: String,
    }
}

/// Most entries in one command.
pub const MAX_ENTRIES: usize = 500;
const MAX_LABEL: usize = 200;

impl Run for OpenArchive {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let (user, _) = scope.person()?;
        if let Some(room) = ARCHIVES.get(scope.view(), &(user, self.key))? {
            return Ok(Accepted::Room { room, created: false });
        }
        check_name(&self.name)?;
        let room = RoomId(scope.count(|c| &mut c.rooms)?);
        let kind = Kind::Archive { owner: user };
        let about = Room { kind, name: self.name.clone(), created_at: scope.now, members: 1 };
        let head = Head::start();
        ROOMS.put(scope.txn, &room, &about);
        HEADS.put(scope.txn, &room, &head);
        ARCHIVES.put(scope.txn, &(user, self.key), &room);
        let member = Member { role: Role::Owner, from: 1, joined_at: scope.now };
        scope.admit(room, &about, &head, user, &member, MAX_ROOMS)?;
        Ok(Accepted::Room { room, created: true })
    }
}

impl Run for AddToArchive {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let (user, _) = scope.person()?;
        let (about, mut head, _) = scope.room_of_member(self.room, user)?;
        if !matches!(about.kind, Kind::Archive { .. }) {
            return Err(Reject::WrongRoomKind.into());
        }
        if self.entries.len() > MAX_ENTRIES {
            return Err(Reject::TooMany.into());
        }
        let before: Seq = head.last;
        for entry in &self.entries {
            check(entry)?;
            if !ARCHIVE_KEYS.has(scope.view(), &(self.room, entry.key))? {
                add(scope, self.room, &mut head, user, entry);
            }
        }
        let added = head.last - before;
        if added > 0 {
            HEADS.put(scope.txn, &self.room, &head);
            scope.tell(Audience::User(user), News::Archived { room: self.room, last: head.last });
        }
        Ok(Accepted::Archived { added, known: self.entries.len() as u64 - added, last: head.last })
    }
}

fn check(entry: &Entry) -> Result<(), Reject> {
    if entry.author.chars().count() > MAX_LABEL || entry.kind.chars().count() > MAX_LABEL {
        return Err(Reject::NameInvalid);
    }
    if entry.text.chars().count() > MAX_TEXT { Err(Reject::TextTooLong) } else { Ok(()) }
}

fn add(scope: &mut Scope<'_, '_>, room: RoomId, head: &mut Head, from: crate::ids::UserId, entry: &Entry) {
    head.last += 1;
    head.last_time = entry.time;
    head.message_at = scope.position;
    let body = Body::Archived { author: entry.author.clone(), kind: entry.kind.clone(), text: entry.text.clone() };
    let message = Message { from, time: entry.time, at: scope.position, counted: head.counted, edited_at: None, body };
    MESSAGES.put(scope.txn, &(room, head.last), &message);
    ARCHIVE_KEYS.put(scope.txn, &(room, entry.key), &head.last);
}

#[cfg(test)]
mod tests;
