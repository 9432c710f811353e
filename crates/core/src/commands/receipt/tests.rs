use super::*;
use crate::ids::UserId;
use crate::query::{receipts, unread_counts};
use crate::testing::{Cell, Person};

fn read(cell: &mut Cell, person: Person, room: RoomId, seq: Seq) -> Result<Accepted, Reject> {
    cell.ask(person, Read { room, seq })
}

#[test]
fn reading_clears_the_unread_count_and_is_told() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.direct(minji, dohyun);
    for _ in 0..3 {
        cell.say(minji, room, "hi");
    }
    assert_eq!((cell.unread(minji, room), cell.unread(dohyun, room)), (0, 3));
    assert_eq!(unread_counts(&cell.view, &cell.mine(minji, room), &[1, 2, 3]).unwrap(), [1, 1, 1]);

    assert_eq!(read(&mut cell, dohyun, room, 2), Ok(Accepted::Done));
    assert_eq!(cell.told(minji), [&News::Receipt { room, user: dohyun.user, seq: 2 }]);
    assert_eq!(cell.unread(dohyun, room), 1);
    assert_eq!(unread_counts(&cell.view, &cell.mine(minji, room), &[1, 2, 3]).unwrap(), [0, 0, 1]);
}

#[test]
fn reading_less_changes_nothing() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.direct(minji, dohyun);
    cell.say(minji, room, "1");
    cell.say(minji, room, "2");
    read(&mut cell, dohyun, room, 2).unwrap();
    for seq in [2, 1, 0] {
        assert_eq!(read(&mut cell, dohyun, room, seq), Ok(Accepted::Done));
        assert!(cell.events.is_empty());
    }
    assert_eq!(cell.mine(dohyun, room).receipt.unwrap().seq, 2);
}

#[test]
fn who_speaks_has_read() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.direct(minji, dohyun);
    cell.say(minji, room, "are you there?");
    cell.say(dohyun, room, "yes");
    assert_eq!((cell.unread(minji, room), cell.unread(dohyun, room)), (1, 0));
}

#[test]
fn there_must_be_such_a_message_in_a_room_of_ones_own() {
    let mut cell = Cell::found();
    let [minji, dohyun, seoyeon] = cell.people();
    let room = cell.direct(minji, dohyun);
    cell.say(minji, room, "hi");
    assert_eq!(read(&mut cell, dohyun, room, 2), Err(Reject::MessageUnknown));
    assert_eq!(read(&mut cell, dohyun, room, u64::MAX), Err(Reject::MessageUnknown));
    assert_eq!(read(&mut cell, seoyeon, room, 1), Err(Reject::RoomUnknown));
    assert_eq!(read(&mut cell, dohyun, RoomId(404), 1), Err(Reject::RoomUnknown));
    assert_eq!(cell.node(Read { room, seq: 1 }), Err(Reject::NotAllowed));
}

/// What was said before somebody came is neither unread for them nor counted as unread by them.
#[test]
fn a_newcomer_starts_with_nothing_unread() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.group(minji, &[]);
    let seq = cell.say(minji, room, "before");
    cell.ok(minji, cell.invite(room, &[dohyun]));
    assert_eq!(cell.unread(dohyun, room), 0);
    assert_eq!(unread_counts(&cell.view, &cell.mine(minji, room), &[seq]).unwrap(), [0]);
    let seq = cell.say(minji, room, "after");
    assert_eq!(cell.unread(dohyun, room), 1);
    assert_eq!(unread_counts(&cell.view, &cell.mine(minji, room), &[seq]).unwrap(), [1]);
}

#[test]
fn system_messages_are_not_unread() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.group(minji, &[dohyun]);
    cell.ok(minji, crate::commands::group::Rename { room, name: "climbing".to_owned() });
    assert_eq!((cell.unread(minji, room), cell.unread(dohyun, room)), (0, 0));
}

#[test]
fn in_large_rooms_receipts_go_to_their_owner_only() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let others = cell.crowd(100);
    let room = cell.group(minji, &others[..99]);
    let tellers = |cell: &Cell| cell.events.iter().flat_map(|e| e.audience.users()).collect::<Vec<UserId>>();
    let seq = cell.say(minji, room, "100 members");
    read(&mut cell, others[0], room, seq).unwrap();
    assert_eq!(tellers(&cell).len(), 100);

    cell.ok(minji, cell.invite(room, &[others[99]]));
    let seq = cell.say(minji, room, "101 members");
    read(&mut cell, others[0], room, seq).unwrap();
    assert_eq!(tellers(&cell), [others[0].user]);
    let kept = receipts(&cell.view, &cell.mine(minji, room)).unwrap();
    assert!(kept.iter().any(|(user, receipt)| *user == others[0].user && receipt.seq == seq), "kept for who looks");
}
