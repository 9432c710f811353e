use super::*;
use crate::commands::message::{Delete, Edit, Send};
use crate::commands::receipt::Read;
use crate::query::{Page, messages, rooms};
use crate::testing::{Cell, Person, id};

fn open(key: u64) -> OpenArchive {
    OpenArchive { key: id(key), name: "KakaoTalk: family".to_owned() }
}

fn entry(n: u64) -> Entry {
    Entry { key: id(n), time: n, author: "엄마".to_owned(), kind: "text".to_owned(), text: format!("message {n}") }
}

fn add(room: RoomId, keys: impl IntoIterator<Item = u64>) -> AddToArchive {
    AddToArchive { room, entries: keys.into_iter().map(entry).collect() }
}

fn opened() -> (Cell, Person, RoomId) {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let room = cell.made(minji, open(1));
    (cell, minji, room)
}

#[test]
fn a_conversation_has_one_archive_per_person() {
    let (mut cell, minji, room) = opened();
    let dohyun = cell.register("dohyun");
    assert_eq!(cell.ask(minji, open(1)), Ok(Accepted::Room { room, created: false }));
    assert_ne!(cell.made(minji, open(2)), room);
    assert_ne!(cell.made(dohyun, open(1)), room);
    assert_eq!(cell.ask(minji, OpenArchive { name: String::new(), ..open(3) }), Err(Reject::NameInvalid));
    assert_eq!(cell.anonymous(open(1)), Err(Reject::NotAllowed));
    assert_eq!(rooms(&cell.view, minji.user, None, 10).unwrap().len(), 2);
}

/// A second import of an overlapping export adds what is new only; also within one command.
#[test]
fn known_entries_are_passed_over() {
    let (mut cell, minji, room) = opened();
    assert_eq!(cell.ask(minji, add(room, [1, 2, 3])), Ok(Accepted::Archived { added: 3, known: 0, last: 3 }));
    assert_eq!(cell.told(minji), [&News::Archived { room, last: 3 }]);
    assert_eq!(cell.ask(minji, add(room, [2, 3, 4, 4])), Ok(Accepted::Archived { added: 1, known: 3, last: 4 }));
    assert_eq!(cell.ask(minji, add(room, [1, 4])), Ok(Accepted::Archived { added: 0, known: 2, last: 4 }));
    assert!(cell.events.is_empty());
    assert_eq!(cell.ask(minji, add(room, [])), Ok(Accepted::Archived { added: 0, known: 0, last: 4 }));
    let all = messages(&cell.view, &cell.mine(minji, room), Page::Last, 10).unwrap();
    assert_eq!(all.iter().map(|(seq, m)| (*seq, m.time)).collect::<Vec<_>>(), [(1, 1), (2, 2), (3, 3), (4, 4)]);
    assert_eq!(cell.unread(minji, room), 0);
}

#[test]
fn one_command_adds_at_most_500_entries() {
    let (mut cell, minji, room) = opened();
    assert_eq!(cell.ask(minji, add(room, 0..501)), Err(Reject::TooMany));
    assert_eq!(cell.ask(minji, add(room, 0..500)), Ok(Accepted::Archived { added: 500, known: 0, last: 500 }));
}

#[test]
fn an_entry_too_long_rejects_the_whole_command() {
    let (mut cell, minji, room) = opened();
    let with = |bad: Entry| AddToArchive { room, entries: vec![entry(1), bad] };
    let long = |n: usize| "가".repeat(n);
    assert_eq!(cell.ask(minji, with(Entry { text: long(10_001), ..entry(2) })), Err(Reject::TextTooLong));
    assert_eq!(cell.ask(minji, with(Entry { author: long(201), ..entry(2) })), Err(Reject::NameInvalid));
    assert_eq!(cell.ask(minji, with(Entry { kind: long(201), ..entry(2) })), Err(Reject::NameInvalid));
    assert_eq!(cell.seen(minji, room), []);
    let fits = Entry { text: long(10_000), author: long(200), kind: String::new(), ..entry(2) };
    assert_eq!(cell.ask(minji, with(fits)), Ok(Accepted::Archived { added: 2, known: 0, last: 2 }));
}

#[test]
fn an_archive_is_its_owners_and_read_only() {
    let (mut cell, minji, room) = opened();
    let dohyun = cell.register("dohyun");
    cell.ok(minji, add(room, [1]));
    let wrong = Err(Reject::WrongRoomKind);
    assert_eq!(cell.ask(minji, Send { room, text: "x".to_owned(), reply_to: None }), wrong);
    assert_eq!(cell.ask(minji, Edit { room, seq: 1, text: "x".to_owned() }), wrong);
    assert_eq!(cell.ask(minji, Delete { room, seq: 1 }), wrong);
    assert_eq!(cell.ask(minji, Read { room, seq: 1 }), wrong);
    assert_eq!(cell.ask(minji, crate::commands::group::Leave { room }), wrong);
    assert_eq!(cell.ask(dohyun, add(room, [2])), Err(Reject::RoomUnknown));
    assert!(cell.find(dohyun, room).is_none());
    assert_eq!(cell.members(minji, room), [minji.user]);
    let group = cell.group(minji, &[]);
    assert_eq!(cell.ask(minji, add(group, [1])), wrong);
}
