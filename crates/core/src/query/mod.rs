//! What clients read from a view: always of one person, never more than that person may see.

pub mod catch_up;

use std::ops::ControlFlow;

use ieum_planted::Bug;

use crate::ids::{RoomId, Seq, UserId};
use crate::kv::{self, Direction, Read};
use crate::tables::messages::{Body, MESSAGES, Message, System};
use crate::tables::rooms::{
    AUDIENCES, HEADS, Head, Kind, MEMBERS, Member, RECEIPTS, ROOMS, Receipt, Role, Room, USER_ROOMS,
};

/// A room as one of its members has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mine {
    /// Which room.
    pub id: RoomId,
    /// What it is.
    pub about: Room,
    /// Where it stands.
    pub head: Head,
    /// What the member may do and sees.
    pub member: Member,
    /// How far the member has read.
    pub receipt: Option<Receipt>,
}

impl Mine {
    /// Messages of others that the member has not read.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.head.counted.saturating_sub(self.receipt.as_ref().map_or(0, |r| r.counted))
    }
}

/// `room` as `user` has it; `None` when it does not exist or they are not in it.
pub fn room(view: &(impl Read + ?Sized), user: UserId, room: RoomId) -> kv::Result<Option<Mine>> {
    let Some(about) = ROOMS.get(view, &room)? else { return Ok(None) };
    let member = match about.kind {
        Kind::Group if Bug::ForeignRoomLeaks.planted() => {
            Some(Member { role: Role::Member, from: 1, joined_at: about.created_at })
        }
        Kind::Group => MEMBERS.get(view, &(room, user))?,
        Kind::Direct { low, high } if user == low || user == high => {
            Some(Member { role: Role::Member, from: 1, joined_at: about.created_at })
        }
        Kind::Archive { owner } if user == owner => {
            Some(Member { role: Role::Owner, from: 1, joined_at: about.created_at })
        }
        Kind::Direct { .. } | Kind::Archive { .. } => None,
    };
    let Some(member) = member else { return Ok(None) };
    let head = HEADS.get(view, &room)?.unwrap_or_else(Head::start);
    let receipt = RECEIPTS.get(view, &(room, user))?;
    Ok(Some(Mine { id: room, about, head, member, receipt }))
}

/// The rooms of `user` behind `after`, at most `limit`, by id.
pub fn rooms(view: &(impl Read + ?Sized), user: UserId, after: Option<RoomId>, limit: usize) -> kv::Result<Vec<Mine>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut ids = Vec::new();
    USER_ROOMS.within(view, &user, after.map(|a| (user, a)).as_ref(), |(_, id), _| {
        ids.push(id);
        if ids.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let mut rooms = Vec::with_capacity(ids.len());
    for id in ids {
        rooms.extend(room(view, user, id)?);
    }
    Ok(rooms)
}

/// Which messages of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The last ones.
    Last,
    /// Those right before a seq.
    Before(Seq),
    /// Those right after a seq.
    After(Seq),
}

/// At most `limit` messages of `mine`, ascending, none that the member may not see.
pub fn messages(view: &(impl Read + ?Sized), mine: &Mine, page: Page, limit: usize) -> kv::Result<Vec<(Seq, Message)>> {
    let (direction, from, to) = match page {
        Page::Last => (Direction::Backward, mine.member.from, Seq::MAX),
        Page::Before(seq) => (Direction::Backward, mine.member.from, seq),
        Page::After(seq) => (Direction::Forward, seq.saturating_add(1).max(mine.member.from), Seq::MAX),
    };
    let mut found = Vec::new();
    if limit > 0 && from < to {
        MESSAGES.range(view, &(mine.id, from), &(mine.id, to), direction, |(_, seq), message| {
            found.push((seq, message));
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    if direction == Direction::Backward {
        found.reverse();
    }
    Ok(found)
}

/// Everybody in a room and how they are in it, by id.
pub fn members(view: &(impl Read + ?Sized), mine: &Mine) -> kv::Result<Vec<(UserId, Member)>> {
    let alone = |user, role| (user, Member { role, from: 1, joined_at: mine.about.created_at });
    Ok(match mine.about.kind {
        Kind::Direct { low, high } => vec![alone(low, Role::Member), alone(high, Role::Member)],
        Kind::Archive { owner } => vec![alone(owner, Role::Owner)],
        Kind::Group => {
            let mut found = Vec::new();
            MEMBERS.within(view, &mine.id, None, |(_, user), member| {
                found.push((user, member));
                ControlFlow::Continue(())
            })?;
            found
        }
    })
}

/// How far everybody in a room has read, by id; who never read anything is left out.
pub fn receipts(view: &(impl Read + ?Sized), mine: &Mine) -> kv::Result<Vec<(UserId, Receipt)>> {
    let mut found = Vec::new();
    RECEIPTS.within(view, &mine.id, None, |(_, user), receipt| {
        found.push((user, receipt));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// For each of `seqs` (ascending), how many of those who may see the message have not read it. An archive has no receipts: all 0.
pub fn unread_counts(view: &(impl Read + ?Sized), mine: &Mine, seqs: &[Seq]) -> kv::Result<Vec<u64>> {
    if matches!(mine.about.kind, Kind::Archive { .. }) {
        return Ok(vec![0; seqs.len()]);
    }
    let read: std::collections::BTreeMap<UserId, Seq> =
        receipts(view, mine)?.into_iter().map(|(user, receipt)| (user, receipt.seq)).collect();
    // Each member has not read the seqs in (read, ∞) that they see, [from, ∞): counted by one boundary per member.
    let mut bounds: Vec<Seq> = members(view, mine)?
        .into_iter()
        .map(|(user, member)| member.from.max(read.get(&user).map_or(0, |seq| *seq) + 1))
        .collect();
    bounds.sort_unstable();
    Ok(seqs.iter().map(|seq| bounds.partition_point(|bound| bound <= seq) as u64).collect())
}

/// Whether two people have a room in common: who may see whose name.
pub fn share_a_room(view: &(impl Read + ?Sized), a: UserId, b: UserId) -> kv::Result<bool> {
    if a == b || crate::tables::rooms::DIRECT.has(view, &(a.min(b), a.max(b)))? {
        return Ok(true);
    }
    let mut found = Ok(false);
    USER_ROOMS.within(view, &a, None, |(_, room), _| match MEMBERS.has(view, &(room, b)) {
        Ok(false) => ControlFlow::Continue(()),
        other => {
            found = other;
            ControlFlow::Break(())
        }
    })?;
    found
}

/// Whether `user` sees a message that `other` wrote or that names them: whose name one may know when they have left.
pub fn names(view: &(impl Read + ?Sized), user: UserId, id: RoomId, seq: Seq, other: UserId) -> kv::Result<bool> {
    let Some(mine) = room(view, user, id)?.filter(|mine| seq >= mine.member.from) else { return Ok(false) };
    let Some(message) = MESSAGES.get(view, &(mine.id, seq))? else { return Ok(false) };
    Ok(message.from == other
        || match message.body {
            Body::System(System::Invited { users }) => users.contains(&other),
            Body::System(System::Removed { user } | System::RoleGiven { user, .. }) => user == other,
            _ => false,
        })
}

/// The people of a room as its messages reach them.
pub fn audience(view: &(impl Read + ?Sized), mine: &Mine) -> kv::Result<Vec<UserId>> {
    Ok(match mine.about.kind {
        Kind::Direct { low, high } => vec![low, high],
        Kind::Archive { owner } => vec![owner],
        Kind::Group => AUDIENCES.get(view, &mine.id)?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
