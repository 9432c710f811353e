//! Everything that anybody can read, in words, from the cell and from the model.

use ieum_core::ids::{Seq, UserId};
use ieum_core::kv::Read;
use ieum_core::query::{self, Mine, Page};
use ieum_core::testing::Cell;

use crate::model::{Kind, Model, Room};

/// One line per room, member and message that `user` can read.
pub(crate) fn rendered(view: &dyn Read, user: UserId) -> Vec<String> {
    let mut lines = Vec::new();
    for mine in query::rooms(view, user, None, usize::MAX).unwrap() {
        room(view, &mine, &mut lines);
    }
    lines
}

fn room(view: &dyn Read, mine: &Mine, lines: &mut Vec<String>) {
    let (id, about) = (mine.id, &mine.about);
    lines.push(format!(
        "{id} {:?} members {} last {} unread {}",
        about.name,
        about.members,
        mine.head.last,
        mine.unread()
    ));
    for (user, member) in query::members(view, mine).unwrap() {
        lines.push(format!("{id} member {user} {:?} from {}", member.role, member.from));
    }
    let messages = query::messages(view, mine, Page::Last, usize::MAX).unwrap();
    let seqs: Vec<Seq> = messages.iter().map(|(seq, _)| *seq).collect();
    let unread = query::unread_counts(view, mine, &seqs).unwrap();
    for ((seq, m), unread) in messages.into_iter().zip(unread) {
        lines.push(format!("{id} {seq} {} {} {:?} {:?} unread {unread}", m.from, m.time, m.edited_at, m.body));
    }
}

/// The same of the model.
fn expected(model: &Model, user: UserId) -> Vec<String> {
    let mut lines = Vec::new();
    for (id, room) in &model.rooms {
        let Some(me) = room.people.get(&user) else { continue };
        let (members, unread) = (room.people.len(), room.unread(me));
        lines.push(format!("{id} {:?} members {members} last {} unread {unread}", room.name, room.last()));
        for (user, person) in &room.people {
            lines.push(format!("{id} member {user} {:?} from {}", person.role, person.from));
        }
        for seq in me.from..=room.last() {
            let e = &room.entries[seq as usize - 1];
            let unread = not_read(room, seq);
            lines.push(format!("{id} {seq} {} {} {:?} {:?} unread {unread}", e.from, e.time, e.edited_at, e.body));
        }
    }
    lines
}

fn not_read(room: &Room, seq: Seq) -> usize {
    let archive = matches!(room.kind, Kind::Archive(_));
    room.people.values().filter(|person| !archive && person.from <= seq && person.read < seq).count()
}

/// Whether everybody reads of the cell what the model has for them, and nothing of rooms that they are not in.
pub(crate) fn same(model: &Model, cell: &Cell) {
    for user in model.users.keys() {
        assert_eq!(rendered(&cell.view, *user), expected(model, *user));
        for (id, room) in &model.rooms {
            let found = query::room(&cell.view, *user, *id).unwrap();
            assert_eq!(found.is_some(), room.people.contains_key(user));
            for other in model.users.keys() {
                let together = |room: &Room| room.people.contains_key(user) && room.people.contains_key(other);
                let share = user == other || model.rooms.values().any(together);
                assert_eq!(query::share_a_room(&cell.view, *user, *other).unwrap(), share);
            }
        }
    }
    for (device, known) in &model.devices {
        assert_eq!(ieum_core::apply::owner_of(&cell.view, *device).unwrap(), Some(known.user));
    }
}
