//! Direct rooms.

use ieum_planted::Bug;

use crate::codec::record;
use crate::ids::{RoomId, UserId};
use crate::outcome::{Accepted, Reject};
use crate::scope::{MAX_ROOMS, Named, Run, Scope, Step};
use crate::tables::rooms::{DIRECT, HEADS, Head, Kind, Member, ROOMS, Role, Room};

record! {
    /// Opens the room of two people: the one that there is, or a new one.
    pub struct OpenDirect {
        /// The other person's handle.
        pub with: String,
    }
}

record! {
    /// [`OpenDirect`] as level 1 has it.
    pub struct OpenDirectById {
        /// The other person.
        pub with: UserId,
    }
}

impl Run for OpenDirect {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        open(scope, &self.with)
    }
}

impl Run for OpenDirectById {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        open(scope, &self.with)
    }
}

fn open(scope: &mut Scope<'_, '_>, with: &impl Named) -> Step<Accepted> {
    let (user, _) = scope.person()?;
    let with = with.find(scope)?.ok_or(Reject::UserUnknown)?;
    if user == with {
        return Err(Reject::NotYourself.into());
    }
    let (low, high) = (user.min(with), user.max(with));
    if let Some(room) = DIRECT.get(scope.view(), &(low, high))?
        && !Bug::DirectRoomTwice.planted()
    {
        return Ok(Accepted::Room { room, created: false });
    }
    let room = RoomId(scope.count(|c| &mut c.rooms)?);
    let about = Room { kind: Kind::Direct { low, high }, name: String::new(), created_at: scope.now, members: 2 };
    let head = Head::start();
    ROOMS.put(scope.txn, &room, &about);
    HEADS.put(scope.txn, &room, &head);
    DIRECT.put(scope.txn, &(low, high), &room);
    let member = Member { role: Role::Member, from: 1, joined_at: scope.now };
    for person in [low, high] {
        let most = if person == user { MAX_ROOMS } else { scope.most_by_others() };
        scope.admit(room, &about, &head, person, &member, most)?;
    }
    Ok(Accepted::Room { room, created: true })
}

#[cfg(test)]
mod tests;
