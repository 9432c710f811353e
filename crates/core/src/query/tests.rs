use std::cell::Cell as Count;

use bytes::Bytes;

use super::*;
use crate::commands::archive::OpenArchive;
use crate::commands::group::Leave;
use crate::testing::{Cell, id};

#[test]
fn messages_come_in_pages_and_ascend() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.direct(minji, dohyun);
    for n in 1..=5 {
        cell.say(minji, room, &n.to_string());
    }
    let mine = cell.mine(dohyun, room);
    let page = |page, limit| messages(&cell.view, &mine, page, limit).unwrap().iter().map(|m| m.0).collect::<Vec<_>>();
    assert_eq!(page(Page::Last, 2), [4, 5]);
    assert_eq!(page(Page::Before(4), 2), [2, 3]);
    assert_eq!(page(Page::Before(2), 9), [1]);
    assert_eq!(page(Page::After(0), 2), [1, 2]);
    assert_eq!(page(Page::After(3), 9), [4, 5]);
    for nothing in [Page::Before(0), Page::Before(1), Page::After(5), Page::After(u64::MAX)] {
        assert_eq!(page(nothing, 9), []);
    }
    assert_eq!(page(Page::Last, 0), []);
}

#[test]
fn no_page_shows_what_was_before_the_member() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.group(minji, &[]);
    let hidden = cell.say(minji, room, "before");
    cell.ok(minji, cell.invite(room, &[dohyun]));
    let mine = cell.mine(dohyun, room);
    for page in [Page::Last, Page::Before(u64::MAX), Page::Before(hidden + 1), Page::After(0), Page::After(hidden)] {
        assert!(messages(&cell.view, &mine, page, 9).unwrap().iter().all(|(seq, _)| *seq > hidden), "{page:?}");
    }
}

#[test]
fn rooms_come_in_pages_by_id() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let all = [cell.group(minji, &[]), cell.direct(minji, dohyun), cell.group(minji, &[dohyun])];
    let ids =
        |after, limit| rooms(&cell.view, minji.user, after, limit).unwrap().iter().map(|m| m.id).collect::<Vec<_>>();
    assert_eq!(ids(None, 9), all);
    assert_eq!(ids(None, 2), all[..2]);
    assert_eq!(ids(Some(all[1]), 2), all[2..]);
    assert_eq!(ids(Some(all[2]), 2), []);
    assert_eq!(ids(None, 0), []);
}

#[test]
fn two_people_share_a_room_while_both_are_in_it() {
    let mut cell = Cell::found();
    let [minji, dohyun, seoyeon] = cell.people();
    let share = |cell: &Cell, a: crate::testing::Person, b: crate::testing::Person| {
        let ways =
            [share_a_room(&cell.view, a.user, b.user), share_a_room(&cell.view, b.user, a.user)].map(Result::unwrap);
        assert_eq!(ways[0], ways[1]);
        ways[0]
    };
    assert!(share(&cell, minji, minji));
    assert!(!share(&cell, minji, dohyun));
    let room = cell.group(minji, &[dohyun]);
    cell.group(seoyeon, &[]);
    assert!(share(&cell, minji, dohyun));
    assert!(!share(&cell, minji, seoyeon));
    cell.ok(dohyun, Leave { room });
    assert!(!share(&cell, minji, dohyun));
    cell.direct(minji, seoyeon);
    assert!(share(&cell, minji, seoyeon));
}

/// Counts what is read of a view.
struct Counted<'a> {
    view: &'a dyn Read,
    looked_up: Count<usize>,
    walked: Count<usize>,
}

impl Read for Counted<'_> {
    fn get(&self, key: &[u8]) -> kv::Result<Option<Bytes>> {
        self.looked_up.set(self.looked_up.get() + 1);
        self.view.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut kv::Visit<'_>) -> kv::Result<()> {
        self.view.scan(from, to, direction, &mut |key, row| {
            self.walked.set(self.walked.get() + 1);
            visit(key, row)
        })
    }
}

#[test]
fn a_stranger_costs_no_more_than_the_rooms_of_whoever_has_fewer() {
    let mut cell = Cell::found();
    let [minji, dohyun, seoyeon] = cell.people();
    // In turn, so that the rooms of the two lie among each other's.
    for _ in 0..100 {
        cell.group(minji, &[]);
        cell.group(dohyun, &[]);
    }
    let alone = cell.group(seoyeon, &[]);
    let cost = |cell: &Cell, a: crate::testing::Person, b: crate::testing::Person| {
        let counted = Counted { view: &cell.view, looked_up: Count::new(0), walked: Count::new(0) };
        let share = share_a_room(&counted, a.user, b.user).unwrap();
        (share, counted.looked_up.get(), counted.walked.get())
    };
    for (a, b) in [(minji, seoyeon), (seoyeon, minji)] {
        let (share, looked_up, walked) = cost(&cell, a, b);
        assert!(!share && looked_up <= 4 && walked <= 1, "{looked_up} rows looked up, {walked} walked over");
    }
    // Both have many: walked over once each, and none is looked up by itself.
    let (share, looked_up, walked) = cost(&cell, minji, dohyun);
    assert!(!share && looked_up <= 3 && walked <= 200, "{looked_up} rows looked up, {walked} walked over");
    // The last room of both, the first, and one in the middle are found all the same.
    cell.ok(seoyeon, cell.invite(alone, &[minji, dohyun]));
    assert!(cost(&cell, minji, dohyun).0 && cost(&cell, minji, seoyeon).0);
    cell.ok(dohyun, Leave { room: alone });
    for nth in [0, 57] {
        let room = rooms(&cell.view, dohyun.user, None, 100).unwrap()[nth].id;
        cell.ok(dohyun, cell.invite(room, &[minji]));
        assert!(cost(&cell, minji, dohyun).0 && cost(&cell, dohyun, minji).0);
        cell.ok(minji, Leave { room });
        assert!(!cost(&cell, minji, dohyun).0);
    }
}

#[test]
fn members_come_in_pages_by_id() {
    let mut cell = Cell::found();
    let all: [_; 5] = cell.people();
    let ids = all.map(|person| person.user);
    let group = cell.group(all[0], &all[1..]);
    let direct = cell.direct(all[0], all[1]);
    let page = |room, after, limit| -> Vec<UserId> {
        let mine = cell.mine(all[0], room);
        members_behind(&cell.view, &mine, after, limit).unwrap().into_iter().map(|(user, _)| user).collect()
    };
    assert_eq!(page(group, None, 2), ids[..2]);
    assert_eq!(page(group, Some(ids[1]), 2), ids[2..4]);
    assert_eq!(page(group, Some(ids[3]), 2), ids[4..]);
    assert_eq!(page(group, Some(ids[4]), 2), []);
    assert_eq!(page(direct, None, 1), ids[..1]);
    assert_eq!(page(direct, Some(ids[0]), 2), ids[1..2]);
    assert_eq!((page(group, None, 0), page(direct, None, 0)), (vec![], vec![]));
}

#[test]
fn an_audience_is_everybody_in_the_room() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let direct = cell.direct(dohyun, minji);
    let group = cell.group(dohyun, &[minji]);
    let archive = cell.made(minji, OpenArchive { key: id(1), name: "old".to_owned() });
    let of = |room| audience(&cell.view, &cell.mine(minji, room)).unwrap();
    assert_eq!(of(direct), [minji.user, dohyun.user]);
    assert_eq!(of(group), [minji.user, dohyun.user]);
    assert_eq!(of(archive), [minji.user]);
    assert_eq!(unread_counts(&cell.view, &cell.mine(minji, archive), &[1, 2]).unwrap(), [0, 0]);
}

#[test]
fn who_wrote_or_is_named_in_a_message_is_known_to_those_who_see_it() {
    let mut cell = Cell::found();
    let [minji, dohyun, seoyeon] = cell.people();
    let room = cell.group(minji, &[dohyun]);
    let said = cell.say(dohyun, room, "bye");
    cell.ok(dohyun, Leave { room });
    let knows =
        |cell: &Cell, who: crate::testing::Person, seq| names(&cell.view, who.user, room, seq, dohyun.user).unwrap();
    assert!(knows(&cell, minji, said) && knows(&cell, minji, 2), "he wrote the one and is named in the other");
    assert!(!knows(&cell, minji, 1) && !knows(&cell, minji, 99), "not in these");
    assert!(!knows(&cell, seoyeon, said), "she is not in the room");
    cell.ok(minji, cell.invite(room, &[seoyeon]));
    assert!(!knows(&cell, seoyeon, said), "it was said before she came");
}

#[test]
fn a_room_is_told_to_its_members_only() {
    let mut cell = Cell::found();
    let [minji, dohyun, seoyeon] = cell.people();
    let rooms = [cell.group(minji, &[dohyun]), cell.direct(minji, dohyun)];
    for id in rooms {
        assert!(room(&cell.view, dohyun.user, id).unwrap().is_some());
        assert_eq!(room(&cell.view, seoyeon.user, id).unwrap(), None);
    }
}
