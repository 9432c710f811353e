//! What clients read from a view: always of one person, never more than that person may see.

pub mod catch_up;
pub mod typing;

use std::ops::ControlFlow;

use ieum_planted::Bug;

use crate::ids::{RoomId, Seq, UserId};
use crate::kv::{self, Direction, Read};
use crate::tables::accounts::HOLDINGS;
use crate::tables::messages::{Body, MESSAGES, Message, System};
use crate::tables::rooms::{
    AUDIENCES, DIRECT, HEADS, Head, Kind, MEMBERS, Member, RECEIPTS, ROOMS, Receipt, Role, Room, USER_ROOMS,
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
    members_behind(view, mine, None, usize::MAX)
}

/// Those in a room behind `after`, at most `limit`, by id.
pub fn members_behind(
    view: &(impl Read + ?Sized),
    mine: &Mine,
    after: Option<UserId>,
    limit: usize,
) -> kv::Result<Vec<(UserId, Member)>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let alone = |user, role| (user, Member { role, from: 1, joined_at: mine.about.created_at });
    let mut found = match mine.about.kind {
        Kind::Direct { low, high } => vec![alone(low, Role::Member), alone(high, Role::Member)],
        Kind::Archive { owner } => vec![alone(owner, Role::Owner)],
        Kind::Group => {
            let mut found = Vec::new();
            MEMBERS.within(view, &mine.id, after.map(|user| (mine.id, user)).as_ref(), |(_, user), member| {
                found.push((user, member));
                if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            return Ok(found);
        }
    };
    found.retain(|(user, _)| after.is_none_or(|after| *user > after));
    found.truncate(limit);
    Ok(found)
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

/// So many times more rooms than the other has, and it is cheaper to look each of the other's up among them than to walk them: walking over a
/// room costs about a quarter of looking one up, and a look-up may meet a block that is not in memory.
const MANY_MORE: usize = 8;

/// Whether two people have a room in common: who may see whose name.
///
/// Costs a walk over the rooms of whoever has fewer, and then at most one over the other's; each is one range of neighbouring rows, and one
/// can be in 10,000 rooms. Two people in 10,000 of a million rooms each and none in common: 2.8 ms on a `fjall` view in memory. Looking up
/// each of the asker's rooms took 3.9 ms, 15 ms the first time, and as long for a stranger in ten rooms, who costs 0.01 ms now.
pub fn share_a_room(view: &(impl Read + ?Sized), a: UserId, b: UserId) -> kv::Result<bool> {
    // A pair's room is found at once, so that most people are.
    if a == b || DIRECT.has(view, &(a.min(b), a.max(b)))? {
        return Ok(true);
    }
    let count = |user| HOLDINGS.get(view, &user).map(|holdings| holdings.map_or(0, |holdings| holdings.rooms));
    let (of_a, of_b) = (count(a)?, count(b)?);
    let (few, many) = if of_a <= of_b || Bug::StrangerCostsAllRooms.planted() { (a, b) } else { (b, a) };
    let mut rooms = Vec::new();
    USER_ROOMS.within(view, &few, None, |(_, room), _| {
        rooms.push(room);
        ControlFlow::Continue(())
    })?;
    if rooms.len().saturating_mul(MANY_MORE) < of_a.max(of_b) as usize {
        for room in rooms {
            if USER_ROOMS.has(view, &(many, room))? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    meets(view, many, &rooms)
}

/// Whether `user` is in one of `rooms`, which ascend: walks those of `user` between the first and the last of them.
fn meets(view: &(impl Read + ?Sized), user: UserId, rooms: &[RoomId]) -> kv::Result<bool> {
    let (Some(first), Some(last)) = (rooms.first(), rooms.last()) else { return Ok(false) };
    let mut left = rooms.iter().peekable();
    let mut met = false;
    USER_ROOMS.range(
        view,
        &(user, *first),
        &(user, RoomId(last.0.saturating_add(1))),
        Direction::Forward,
        |key, _| {
            let (_, room) = key;
            while left.next_if(|other| **other < room).is_some() {}
            met = left.peek() == Some(&&room);
            if met || left.peek().is_none() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    )?;
    Ok(met)
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
