use super::*;
use crate::commands::group::{Leave, Remove, Rename};
use crate::event::News;
use crate::testing::Cell;

#[test]
fn a_pair_has_one_room_whoever_opens_it() {
    let mut cell = Cell::found();
    let [minji, dohyun, seoyeon] = cell.people();
    let room = cell.direct(minji, dohyun);
    let found = Ok(Accepted::Room { room, created: false });
    assert_eq!(cell.ask(dohyun, OpenDirect { with: cell.handle(minji) }), found);
    assert_eq!(cell.ask(minji, OpenDirect { with: cell.handle(dohyun) }), found);
    assert!(cell.events.is_empty(), "finding it tells nobody");
    assert_ne!(cell.direct(minji, seoyeon), room);
    assert_eq!(cell.members(minji, room), [minji.user, dohyun.user]);
}

#[test]
fn two_who_open_it_in_one_batch_get_one_room() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let both = vec![
        cell.envelope(dohyun, OpenDirect { with: cell.handle(minji) }),
        cell.envelope(minji, OpenDirect { with: cell.handle(dohyun) }),
    ];
    let outcomes = cell.batch(both);
    let rooms = crate::query::rooms(&cell.view, minji.user, None, 10).unwrap();
    assert_eq!(rooms.len(), 1);
    let room = rooms[0].id;
    let expected = [true, false].map(|created| crate::outcome::Outcome::Accepted(Accepted::Room { room, created }));
    assert_eq!(outcomes, expected);
}

#[test]
fn both_are_told_of_a_new_room() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.direct(minji, dohyun);
    for person in [minji, dohyun] {
        assert!(
            matches!(cell.told(person)[..], [News::Joined { room: r, from: 1, role: Role::Member, .. }] if *r == room)
        );
    }
}

#[test]
fn nobody_talks_to_themself_or_to_no_one() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    assert_eq!(cell.ask(minji, OpenDirect { with: cell.handle(minji) }), Err(Reject::NotYourself));
    for nobody in ["nobody", "Person1", "", "a\0b", &"x".repeat(100_000), &minji.user.to_string()] {
        assert_eq!(cell.ask(minji, OpenDirect { with: nobody.to_owned() }), Err(Reject::UserUnknown));
    }
    assert_eq!(cell.anonymous(OpenDirect { with: cell.handle(minji) }), Err(Reject::NotAllowed));
    assert_eq!(cell.node(OpenDirect { with: cell.handle(minji) }), Err(Reject::NotAllowed));
}

#[test]
fn a_direct_room_is_no_group() {
    let mut cell = Cell::found();
    let [minji, dohyun, seoyeon] = cell.people();
    let room = cell.direct(minji, dohyun);
    let wrong = Err(Reject::WrongRoomKind);
    assert_eq!(cell.ask(minji, Leave { room }), wrong);
    assert_eq!(cell.ask(minji, Rename { room, name: "x".to_owned() }), wrong);
    assert_eq!(cell.ask(minji, Remove { room, user: dohyun.user }), wrong);
    assert_eq!(cell.ask(minji, cell.invite(room, &[seoyeon])), wrong);
    assert_eq!(cell.ask(seoyeon, Leave { room }), Err(Reject::RoomUnknown), "outside it looks as if there were none");
}

#[test]
fn a_person_is_in_at_most_10_000_rooms() {
    let mut cell = Cell::found();
    let [minji, dohyun, seoyeon] = cell.people();
    let full = crate::tables::accounts::Holdings { rooms: crate::scope::MAX_ROOMS - 1, devices: 1 };
    cell.view.put(&crate::tables::accounts::HOLDINGS, &dohyun.user, &full);
    cell.direct(dohyun, minji);
    assert_eq!(cell.ask(seoyeon, OpenDirect { with: cell.handle(dohyun) }), Err(Reject::TooManyRooms));
    assert_eq!(cell.ask(dohyun, OpenDirect { with: cell.handle(seoyeon) }), Err(Reject::TooManyRooms));
    assert_eq!(crate::query::rooms(&cell.view, seoyeon.user, None, 10).unwrap(), []);
}

#[test]
fn at_level_1_the_other_is_named_by_id() {
    let mut cell = Cell::found_at(1);
    let [minji, dohyun, seoyeon] = cell.people();
    let room = cell.made(minji, OpenDirectById { with: dohyun.user });
    let found = Ok(Accepted::Room { room, created: false });
    assert_eq!(cell.ask(dohyun, OpenDirectById { with: minji.user }), found);
    assert_eq!(cell.ask(minji, OpenDirectById { with: minji.user }), Err(Reject::NotYourself));
    assert_eq!(cell.ask(minji, OpenDirectById { with: UserId(404) }), Err(Reject::UserUnknown));
    let full = crate::tables::accounts::Holdings { rooms: crate::scope::MAX_ROOMS - 1, devices: 1 };
    cell.view.put(&crate::tables::accounts::HOLDINGS, &seoyeon.user, &full);
    cell.made(minji, OpenDirectById { with: seoyeon.user });
    assert_eq!(cell.ask(minji, OpenDirect { with: cell.handle(dohyun) }), Err(Reject::Unsupported));
    cell.activate(2);
    assert_eq!(cell.ask(dohyun, OpenDirect { with: cell.handle(minji) }), found);
}
