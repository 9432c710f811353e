//! Direct rooms.

use ieum_planted::Bug;

use crate::codec::record;
use crate::ids::{RoomId, UserId};
use crate::outcome::{Accepted, Reject};
use crate::scope::{Run, Scope, Step};
use crate::tables::accounts::USERS;
use crate::tables::rooms::{DIRECT, HEADS, Head, Kind, Member, ROOMS, Role, Room};

record! {
    /// Opens the room of two people: the one that there is, or a new one.
    pub struct OpenDirect {
        /// The other person.
        pub with: UserId,
    }
}

impl Run for OpenDirect {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let (user, _) = scope.person()?;
        if user == self.with {
            return Err(Reject::NotYourself.into());
        }
        let (low, high) = (user.min(self.with), user.max(self.with));
        if let Some(room) = DIRECT.get(scope.view(), &(low, high))?
            && !Bug::DirectRoomTwice.planted()
        {
            return Ok(Accepted::Room { room, created: false });
        }
        if !USERS.has(scope.view(), &self.with)? {
            return Err(Reject::UserUnknown.into());
        }
        let room = RoomId(scope.count(|c| &mut c.rooms)?);
        let about = Room { kind: Kind::Direct { low, high }, name: String::new(), created_at: scope.now, members: 2 };
        let head = Head::start();
        ROOMS.put(scope.txn, &room, &about);
        HEADS.put(scope.txn, &room, &head);
        DIRECT.put(scope.txn, &(low, high), &room);
        let member = Member { role: Role::Member, from: 1, joined_at: scope.now };
        for person in [low, high] {
            scope.admit(room, &about, &head, person, &member)?;
        }
        Ok(Accepted::Room { room, created: true })
    }
}

#[cfg(test)]
mod tests;
