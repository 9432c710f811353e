//! Who may be told that somebody types.

use std::ops::ControlFlow;

use ieum_planted::Bug;

use crate::commands::receipt::MAX_TOLD_RECEIPTS;
use crate::ids::{RoomId, UserId};
use crate::kv::{self, Read};
use crate::tables::messages::MESSAGES;
use crate::tables::rooms::{AUDIENCES, Kind, ROOMS};

/// Somebody types in a room. Nothing of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Typing {
    /// Where.
    pub room: RoomId,
    /// Who.
    pub user: UserId,
}

/// In rooms of more people nobody is told who types, as nobody is told there of others' receipts.
pub const MOST_MEMBERS: u32 = MAX_TOLD_RECEIPTS;

/// Who may hear of it: the others who are in the room now. Nobody, if it is said of somebody who is not in the room, or the room is an archive
/// or has over [`MOST_MEMBERS`]. Reads two rows. The one place that decides this: a rule by which people shut each other out belongs here.
pub fn hearers(view: &(impl Read + ?Sized), typing: Typing) -> kv::Result<Vec<UserId>> {
    let Typing { room, user } = typing;
    let Some(about) = ROOMS.get(view, &room)?.filter(|about| about.members <= MOST_MEMBERS) else {
        return Ok(Vec::new());
    };
    let mut people = match about.kind {
        Kind::Direct { low, high } => vec![low, high],
        Kind::Group => AUDIENCES.get(view, &room)?.unwrap_or_default(),
        Kind::Archive { .. } => Vec::new(),
    };
    if Bug::RemovedHearTyping.planted() {
        MESSAGES.within(view, &room, None, |_, message| {
            people.push(message.from);
            ControlFlow::Continue(())
        })?;
    }
    if !people.contains(&user) && !Bug::StrangersType.planted() {
        return Ok(Vec::new());
    }
    people.retain(|person| *person != user);
    Ok(people)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::archive::OpenArchive;
    use crate::commands::group::{Leave, Remove};
    use crate::testing::{Cell, id};

    #[test]
    fn who_types_is_told_to_the_others_who_are_in_the_room_now() {
        let mut cell = Cell::found();
        let [minji, dohyun, eve] = cell.people();
        let direct = cell.direct(minji, dohyun);
        let group = cell.group(minji, &[dohyun, eve]);
        let hear = |cell: &Cell, room, user| hearers(&cell.view, Typing { room, user }).unwrap();
        assert_eq!(hear(&cell, direct, minji.user), [dohyun.user]);
        assert_eq!(hear(&cell, direct, dohyun.user), [minji.user]);
        assert_eq!(hear(&cell, direct, eve.user), []);
        assert_eq!(hear(&cell, group, eve.user), [minji.user, dohyun.user]);
        cell.say(dohyun, group, "hello");
        cell.ok(minji, Remove { room: group, user: dohyun.user });
        assert_eq!(hear(&cell, group, eve.user), [minji.user]);
        assert_eq!(hear(&cell, group, dohyun.user), []);
        cell.ok(eve, Leave { room: group });
        assert_eq!(hear(&cell, group, minji.user), []);
        let archive = cell.ok(minji, OpenArchive { key: id(1), name: "old".to_owned() });
        let crate::outcome::Accepted::Room { room, .. } = archive else { panic!("{archive:?}") };
        assert_eq!(hear(&cell, room, minji.user), []);
        assert_eq!(hear(&cell, RoomId(u64::MAX), minji.user), []);
    }

    #[test]
    fn nobody_is_told_who_types_in_a_large_room() {
        let mut cell = Cell::found();
        let [owner] = cell.people();
        let room = cell.group(owner, &[]);
        let others: Vec<_> = (0..MOST_MEMBERS).map(|n| cell.register(&format!("member{n}"))).collect();
        let (last, most) = others.split_last().unwrap();
        cell.ok(owner, cell.invite(room, most));
        let typing = Typing { room, user: owner.user };
        assert_eq!(hearers(&cell.view, typing).unwrap().len(), 99);
        cell.ok(owner, cell.invite(room, &[*last]));
        assert_eq!(hearers(&cell.view, typing).unwrap(), []);
    }
}
