use super::*;
use crate::commands::group::Leave;
use crate::commands::message::{Delete, Edit};
use crate::tables::cell::{Applied, End};
use crate::testing::{Cell, Person};

const ALL: Limits = Limits { rooms: 100, messages: 100, weight: 1_000, room: 1, receipt: 0, message: |_| 1 };

fn gone(cell: &Cell, person: Person, cursor: Position) -> Vec<RoomId> {
    let departures = left(&cell.view, person.user, (cursor, RoomId(u64::MAX)), 10).unwrap();
    assert_eq!(departures.next, None);
    departures.rooms
}

fn since(cell: &Cell, person: Person, cursor: Position) -> Vec<Changes> {
    let start = start(&cell.view, Some(cursor)).unwrap();
    assert_ne!(start, Start::Resync);
    let page = page(&cell.view, person.user, start, None, ALL).unwrap();
    assert_eq!(page.next, None);
    page.rooms
}

fn seqs(messages: &[(Seq, Message)]) -> Vec<Seq> {
    messages.iter().map(|(seq, _)| *seq).collect()
}

#[test]
fn a_device_gets_what_is_behind_its_cursor_and_nothing_else() {
    let mut cell = Cell::found();
    let [minji, dohyun, seoyeon] = cell.people();
    let room = cell.direct(minji, dohyun);
    cell.direct(minji, seoyeon);
    cell.say(minji, room, "1");
    let cursor = cell.position();
    assert_eq!(since(&cell, minji, cursor), []);
    cell.say(minji, room, "2");
    let [changes] = &since(&cell, dohyun, cursor)[..] else { panic!("one room") };
    assert_eq!((changes.mine.id, changes.fresh, changes.gap), (room, false, false));
    assert_eq!(seqs(&changes.messages), [2]);
    assert_eq!(changes.receipts, [(minji.user, 2)]);
    assert_eq!(since(&cell, dohyun, cell.position()), []);
}

#[test]
fn older_messages_that_changed_come_as_they_are_now() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.direct(minji, dohyun);
    for text in ["1", "2", "3"] {
        cell.say(minji, room, text);
    }
    let cursor = cell.position();
    cell.ok(minji, Edit { room, seq: 1, text: "one".to_owned() });
    cell.ok(minji, Edit { room, seq: 1, text: "uno".to_owned() });
    cell.ok(minji, Delete { room, seq: 3 });
    let fourth = cell.say(minji, room, "4");
    cell.ok(minji, Edit { room, seq: fourth, text: "four".to_owned() });
    let [changes] = &since(&cell, dohyun, cursor)[..] else { panic!("one room") };
    assert_eq!(seqs(&changes.changed), [1, 3], "a new message is not also a changed one");
    assert_eq!(changes.changed[0].1.body, crate::testing::text("uno"));
    assert_eq!(changes.messages[0].1.body, crate::testing::text("four"));
}

#[test]
fn of_many_new_messages_the_latest_come_and_the_gap_is_told() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.direct(minji, dohyun);
    let cursor = cell.position();
    for n in 1..=5 {
        cell.say(minji, room, &n.to_string());
    }
    let with = |messages| {
        let limits = Limits { rooms: 1, messages, ..ALL };
        let page = page(&cell.view, dohyun.user, Start::Since(cursor), None, limits).unwrap();
        (seqs(&page.rooms[0].messages), page.rooms[0].gap)
    };
    assert_eq!(with(2), (vec![4, 5], true));
    assert_eq!(with(4), (vec![2, 3, 4, 5], true));
    assert_eq!(with(5), (vec![1, 2, 3, 4, 5], false));
    assert_eq!(with(0), (vec![], true));
}

#[test]
fn a_room_entered_behind_the_cursor_is_fresh() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.group(minji, &[dohyun]);
    let cursor = cell.position();
    cell.ok(dohyun, Leave { room });
    assert_eq!(gone(&cell, dohyun, cursor), [room]);
    assert_eq!(gone(&cell, dohyun, cell.position()), []);
    assert_eq!(since(&cell, dohyun, cursor), []);
    let hidden = cell.say(minji, room, "while away");
    cell.ok(minji, cell.invite(room, &[dohyun]));
    assert_eq!(gone(&cell, dohyun, cursor), [], "they are in it now");
    let [changes] = &since(&cell, dohyun, cursor)[..] else { panic!("one room") };
    assert!(changes.fresh);
    assert_eq!(seqs(&changes.messages), [hidden + 1]);
    assert!(!since(&cell, minji, cursor)[0].fresh);
}

#[test]
fn rooms_come_in_pages() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let rooms = [(); 3].map(|()| cell.group(minji, &[]));
    let limits = Limits { rooms: 2, messages: 9, ..ALL };
    let first = page(&cell.view, minji.user, Start::Resync, None, limits).unwrap();
    assert_eq!((first.rooms.len(), first.next), (2, Some(Place::Behind(rooms[1]))));
    let second = page(&cell.view, minji.user, Start::Resync, first.next, limits).unwrap();
    assert_eq!((second.rooms[0].mine.id, second.next), (rooms[2], None));
    assert!(second.rooms[0].fresh, "in a resync everything is");
}

#[test]
fn a_cursor_of_another_life_of_the_log_counts_up_to_its_end() {
    let mut cell = Cell::found();
    let at = |generation, ordinal| Some(Position::new(generation, ordinal));
    cell.view.put(&APPLIED, &ONLY, &Applied { position: Position::new(3, 5), digest: [0; 32] });
    cell.view.put(&ENDS, &1, &End { position: Position::new(1, 100), digest: [0; 32] });
    cell.view.put(&ENDS, &2, &End { position: Position::new(2, 0), digest: [0; 32] });
    let begin = |cursor| start(&cell.view, cursor).unwrap();
    let kept = |generation, ordinal| Start::Since(Position::new(generation, ordinal));
    assert_eq!(begin(at(3, 5)), kept(3, 5));
    assert_eq!(begin(at(3, 6)), Start::Resync, "the view is not there yet");
    assert_eq!(begin(at(3, 0)), kept(3, 0));
    assert_eq!(begin(at(1, 100)), kept(1, 100));
    assert_eq!(begin(at(1, 101)), Start::Resync, "lost with its life of the log");
    assert_eq!(begin(at(2, 1)), Start::Resync);
    assert_eq!(begin(at(4, 1)), Start::Resync);
    assert_eq!(begin(at(0, 0)), Start::Resync);
    assert_eq!(begin(None), Start::Resync);
    cell.view.put(&HORIZON, &ONLY, &Position::new(1, 50));
    assert_eq!(start(&cell.view, at(1, 49)).unwrap(), Start::Resync);
    assert_eq!(start(&cell.view, at(1, 50)).unwrap(), kept(1, 50));
}

#[test]
fn receipts_of_large_rooms_are_not_caught_up_but_ones_own_is() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let others = cell.crowd(100);
    let room = cell.group(minji, &others);
    let seq = cell.say(minji, room, "hi");
    let cursor = cell.position();
    cell.ok(others[0], crate::commands::receipt::Read { room, seq });
    let [changes] = &since(&cell, others[0], cursor)[..] else { panic!("one room") };
    assert_eq!((changes.receipts.len(), changes.mine.unread()), (0, 0));
}

#[test]
fn an_archive_is_paged_in_and_not_caught_up() {
    use crate::commands::archive::{AddToArchive, Entry, OpenArchive};
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let room = cell.made(minji, OpenArchive { key: [1; 16], name: "old".to_owned() });
    let cursor = cell.position();
    let entry = Entry { key: [1; 16], time: 5, author: String::new(), kind: "text".to_owned(), text: "x".to_owned() };
    cell.ok(minji, AddToArchive { room, entries: vec![entry] });
    let [changes] = &since(&cell, minji, cursor)[..] else { panic!("one room") };
    assert_eq!((changes.messages.len(), changes.gap, changes.mine.head.last), (0, true, 1));
}

/// What a catch-up tells in all its pages, and how many there were; each page is checked against its limits.
fn all_pages(cell: &Cell, person: Person, start: Start, limits: Limits) -> (Vec<Changes>, usize) {
    let (mut all, mut place, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = page(&cell.view, person.user, start, place, limits).unwrap();
        let messages: usize = page.rooms.iter().map(|room| room.messages.len() + room.changed.len()).sum();
        let weight = messages + page.rooms.len() * limits.room;
        assert!(weight <= limits.weight + 1, "{weight}");
        assert_ne!((page.rooms.len(), page.next.is_some()), (0, true), "a page brings the catch-up further");
        all.extend(page.rooms);
        pages += 1;
        match page.next {
            None => return (all, pages),
            next => place = next,
        }
    }
}

#[test]
fn a_page_is_bounded_by_weight_and_the_next_goes_on_in_the_same_room() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.direct(minji, dohyun);
    for n in 1..=30 {
        cell.say(minji, room, &n.to_string());
    }
    let cursor = cell.position();
    for seq in (1..=25).rev() {
        cell.ok(minji, Edit { room, seq, text: format!("{seq} again") });
        cell.ok(minji, Edit { room, seq: 1, text: format!("1 and {seq}") });
    }
    let group = cell.group(minji, &[dohyun]);
    for n in 1..=40 {
        cell.say(minji, room, &format!("new {n}"));
    }
    let limits = Limits { rooms: 10, messages: 35, weight: 8, room: 2, receipt: 0, message: |_| 1 };
    let (told, pages) = all_pages(&cell, dohyun, Start::Since(cursor), limits);
    assert!(pages > 8, "{pages}");
    let of_room: Vec<&Changes> = told.iter().filter(|changes| changes.mine.id == room).collect();
    let new: Vec<Seq> = of_room.iter().flat_map(|changes| seqs(&changes.messages)).collect();
    assert_eq!(new, (36..=70).collect::<Vec<_>>(), "the latest, ascending over all pages");
    assert_eq!(of_room.iter().map(|changes| changes.gap).collect::<Vec<_>>()[..2], [true, false]);
    let changed: std::collections::BTreeSet<Seq> = of_room.iter().flat_map(|c| seqs(&c.changed)).collect();
    assert_eq!(changed, (1..=25).collect());
    let last_of_first = of_room.iter().flat_map(|c| &c.changed).rfind(|(seq, _)| *seq == 1).unwrap();
    assert_eq!(last_of_first.1.body, crate::testing::text("1 and 1"));
    let fresh: Vec<bool> = told.iter().filter(|c| c.mine.id == group).map(|c| c.fresh).collect();
    assert_eq!((fresh[0], fresh.iter().filter(|fresh| **fresh).count()), (true, 1), "what came before is void once");
    let (_, resync) = all_pages(&cell, dohyun, Start::Resync, limits);
    assert!(resync > 4, "{resync}");
}

#[test]
fn rooms_that_were_left_come_in_pages() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let rooms = [(); 3].map(|()| cell.group(minji, &[dohyun]));
    let cursor = cell.position();
    for room in rooms {
        cell.ok(dohyun, Leave { room });
    }
    let first = left(&cell.view, dohyun.user, (cursor, RoomId(u64::MAX)), 2).unwrap();
    assert_eq!(first.rooms, rooms[..2]);
    let second = left(&cell.view, dohyun.user, first.next.unwrap(), 2).unwrap();
    assert_eq!((&second.rooms[..], second.next), (&rooms[2..], None));
}

#[test]
fn of_a_room_that_is_new_to_a_device_all_receipts_come() {
    let mut cell = Cell::found();
    let [minji, dohyun, seoyeon] = cell.people();
    let room = cell.group(minji, &[dohyun]);
    let said = cell.say(minji, room, "1");
    cell.ok(dohyun, crate::commands::receipt::Read { room, seq: said });
    let cursor = cell.position();
    cell.ok(minji, cell.invite(room, &[seoyeon]));
    let [changes] = &since(&cell, seoyeon, cursor)[..] else { panic!("one room") };
    assert!(changes.fresh);
    let told: Vec<UserId> = changes.receipts.iter().map(|(user, _)| *user).collect();
    assert_eq!(told, [minji.user, dohyun.user, seoyeon.user]);
    let [changes] = &since(&cell, dohyun, cursor)[..] else { panic!("one room") };
    let told: Vec<UserId> = changes.receipts.iter().map(|(user, _)| *user).collect();
    assert_eq!(told, [seoyeon.user], "who held the room is told what moved");
}
