//! Rows of a view that the model has, too: people's names, who is in which group with what role, how far everybody has read.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ieum_core::ids::{RoomId, UserId};
use ieum_core::kv::{Direction, Read};
use ieum_core::tables::accounts::USERS;
use ieum_core::tables::rooms::{MEMBERS, RECEIPTS};

use crate::failure::{Check, holds};
use crate::model::{Kind, Model};

/// Everything in a table by room and person.
const ALL: [(RoomId, UserId); 2] = [(RoomId(0), UserId(0)), (RoomId(u64::MAX), UserId(u64::MAX))];

impl Model {
    /// These rows of the view of the whole log are as they should be, and there are no others.
    pub(super) fn has_these_rows(&self, view: &impl Read) -> Check {
        let mut names = BTreeMap::new();
        USERS.range(view, &UserId(0), &UserId(u64::MAX), Direction::Forward, |user, row| {
            names.insert(user.0, row.name);
            ControlFlow::Continue(())
        })?;
        let due = self.people.iter().map(|(user, person)| (*user, &person.name));
        holds(names.iter().map(|(user, name)| (*user, name)).eq(due), || format!("people are called {names:?}"))?;
        let (mut members, mut read) = (BTreeMap::new(), BTreeMap::new());
        MEMBERS.range(view, &ALL[0], &ALL[1], Direction::Forward, |(room, user), row| {
            members.insert((room.0, user.0), (row.role, row.from));
            ControlFlow::Continue(())
        })?;
        RECEIPTS.range(view, &ALL[0], &ALL[1], Direction::Forward, |(room, user), row| {
            read.insert((room.0, user.0), row.seq);
            ControlFlow::Continue(())
        })?;
        for (id, room) in &self.rooms {
            for (user, past) in room.members.iter().filter(|_| room.kind == Kind::Group) {
                let due = past.at(self.at()).copied().flatten().map(|standing| (standing.role, standing.from));
                let is = members.remove(&(*id, *user));
                holds(is == due, || format!("{user} is {is:?} in room {id}, and has to be {due:?}"))?;
            }
            for (user, due) in room.all_read() {
                let is = read.remove(&(*id, user));
                holds(is == due, || format!("{user} has read room {id} up to {is:?}, and has to have up to {due:?}"))?;
            }
        }
        holds(members.is_empty() && read.is_empty(), || {
            format!("nobody knows of these members and receipts: {members:?}, {read:?}")
        })
    }
}
