use super::*;
use crate::commands::message::Send;
use crate::ids::Seq;
use crate::query;
use crate::scope::OWN_ROOMS;
use crate::testing::{Cell, Person, text};

fn give(room: RoomId, to: Person, role: Role) -> GiveRole {
    GiveRole { room, user: to.user, role }
}

fn role(cell: &Cell, person: Person, room: RoomId) -> Role {
    cell.mine(person, room).member.role
}

fn last(cell: &Cell, person: Person, room: RoomId) -> Body {
    cell.seen(person, room).pop().expect("a message").1
}

/// An owner, a manager and two members.
fn staffed() -> (Cell, [Person; 4], RoomId) {
    let mut cell = Cell::found();
    let people: [Person; 4] = cell.people();
    let [owner, manager, ..] = people;
    let room = cell.group(owner, &people[1..]);
    cell.ok(owner, give(room, manager, Role::Manager));
    (cell, people, room)
}

#[test]
fn a_group_starts_with_its_first_members() {
    let mut cell = Cell::found();
    let [minji, dohyun, seoyeon, stranger] = cell.people();
    let members = cell.handles(&[seoyeon, dohyun, dohyun, minji]);
    let room = cell.made(minji, CreateGroup { name: "등산".to_owned(), members });
    assert_eq!(cell.members(dohyun, room), [minji.user, dohyun.user, seoyeon.user]);
    assert_eq!((role(&cell, minji, room), role(&cell, dohyun, room)), (Role::Owner, Role::Member));
    let invited = System::Invited { users: vec![dohyun.user, seoyeon.user] };
    assert_eq!(cell.seen(seoyeon, room), [(1, Body::System(System::Created)), (2, Body::System(invited))]);
    for person in [minji, dohyun, seoyeon] {
        let joined = |news: &&News| matches!(news, News::Joined { room: r, .. } if *r == room);
        assert_eq!(cell.told(person).into_iter().filter(joined).count(), 1);
        assert_eq!(cell.told(person).len(), 3);
    }
    assert!(cell.told(stranger).is_empty());
    assert_eq!(cell.mine(minji, room).about.members, 3);
}

#[test]
fn a_group_of_one_says_nothing_of_invitations() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let room = cell.group(minji, &[minji]);
    assert_eq!(cell.seen(minji, room), [(1, Body::System(System::Created))]);
}

#[test]
fn a_group_needs_a_name_and_known_people() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let create = |name: &str, members| CreateGroup { name: name.to_owned(), members };
    assert_eq!(cell.ask(minji, create("", vec![])), Err(Reject::NameInvalid));
    assert_eq!(cell.ask(minji, create("x", vec!["nobody".to_owned()])), Err(Reject::UserUnknown));
    assert_eq!(cell.anonymous(create("x", vec![])), Err(Reject::NotAllowed));
    assert_eq!(query::rooms(&cell.view, minji.user, None, 10).unwrap(), []);
}

#[test]
fn one_command_names_at_most_100_people() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let crowd = cell.crowd(101);
    let handles = cell.handles(&crowd);
    let users = |count: usize| handles[..count].to_vec();
    let create = |count| CreateGroup { name: "all".to_owned(), members: users(count) };
    assert_eq!(cell.ask(minji, create(101)), Err(Reject::TooMany));
    let room = cell.made(minji, create(100));
    assert_eq!(cell.members(minji, room).len(), 101);
    let other = cell.group(minji, &[]);
    assert_eq!(cell.ask(minji, Invite { room: other, users: users(101) }), Err(Reject::TooMany));
    assert_eq!(cell.ask(minji, Invite { room: other, users: users(100) }), Ok(Accepted::Invited { added: 100 }));
}

#[test]
fn a_group_has_at_most_3_000_members() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let crowd = cell.crowd(3_001);
    let room = cell.group(minji, &[]);
    for people in crowd[..2_999].chunks(100) {
        cell.ok(minji, cell.invite(room, people));
    }
    assert_eq!(cell.mine(minji, room).about.members, 3_000);
    assert_eq!(cell.ask(minji, cell.invite(room, &crowd[2_999..3_000])), Err(Reject::RoomFull));
    assert_eq!(cell.ask(minji, cell.invite(room, &crowd[..100])), Ok(Accepted::Invited { added: 0 }), "all are in it");

    cell.ok(crowd[0], Leave { room });
    assert_eq!(
        cell.ask(minji, cell.invite(room, &crowd[2_999..3_001])),
        Err(Reject::RoomFull),
        "one place, two people"
    );
    assert!(cell.find(crowd[2_999], room).is_none(), "all or nobody");
    assert_eq!(cell.ask(minji, cell.invite(room, &crowd[2_999..3_000])), Ok(Accepted::Invited { added: 1 }));
    assert_eq!(cell.mine(minji, room).about.members, 3_000);
    cell.say(crowd[2_999], room, "hello, all");
    assert_eq!(cell.events[0].audience.users().count(), 3_000);
}

#[test]
fn any_member_invites_and_newcomers_see_from_there_on() {
    let (mut cell, [owner, _, member, other], room) = staffed();
    let newcomer = cell.register("newcomer");
    let before = cell.say(owner, room, "before");
    assert_eq!(cell.ask(member, cell.invite(room, &[newcomer, other])), Ok(Accepted::Invited { added: 1 }));
    let told = cell.told(newcomer);
    assert!(
        matches!(told[..], [News::Joined { from, .. }, News::Message { seq, .. }] if *from == *seq && *seq == before + 1)
    );
    let system = Body::System(System::Invited { users: vec![newcomer.user] });
    assert_eq!(cell.seen(newcomer, room), [(before + 1, system)]);
    assert_eq!(cell.ask(member, cell.invite(room, &[newcomer])), Ok(Accepted::Invited { added: 0 }));
    assert!(cell.events.is_empty());
    assert_eq!(cell.ask(member, Invite { room, users: vec!["nobody".to_owned()] }), Err(Reject::UserUnknown));
}

#[test]
fn strangers_see_no_group() {
    let (mut cell, [owner, ..], room) = staffed();
    let stranger = cell.register("stranger");
    let unknown = Err(Reject::RoomUnknown);
    for room in [room, RoomId(404)] {
        assert_eq!(cell.ask(stranger, cell.invite(room, &[stranger])), unknown);
        assert_eq!(cell.ask(stranger, Leave { room }), unknown);
        assert_eq!(cell.ask(stranger, Remove { room, user: owner.user }), unknown);
        assert_eq!(cell.ask(stranger, Rename { room, name: "x".to_owned() }), unknown);
        assert_eq!(cell.ask(stranger, give(room, stranger, Role::Owner)), unknown);
    }
    assert!(cell.find(stranger, room).is_none());
    assert_eq!(cell.node(Leave { room }), Err(Reject::NotAllowed));
}

#[test]
fn who_left_hears_and_sees_nothing_more() {
    let (mut cell, [owner, _, member, other], room) = staffed();
    cell.ok(member, Leave { room });
    assert_eq!(cell.told(member), [&News::Left { room }]);
    assert_eq!(last(&cell, owner, room), Body::System(System::Left));
    let seq = cell.say(owner, room, "now that they are gone");
    assert!(cell.told(member).is_empty());
    assert!(!cell.told(other).is_empty());
    assert!(cell.find(member, room).is_none());
    assert!(!cell.members(owner, room).contains(&member.user));
    assert_eq!(cell.mine(owner, room).about.members, 3);
    assert_eq!(cell.ask(member, Send { room, text: "wait".to_owned(), reply_to: None }), Err(Reject::RoomUnknown));
    cell.ok(owner, cell.invite(room, &[member]));
    assert!(cell.seen(member, room).iter().all(|(seen, _)| *seen > seq), "also after coming back");
}

#[test]
fn a_removed_member_is_told_that_and_nothing_more() {
    let (mut cell, [owner, manager, member, other], room) = staffed();
    cell.ok(manager, Remove { room, user: member.user });
    assert_eq!(cell.told(member), [&News::Left { room }]);
    assert_eq!(last(&cell, other, room), Body::System(System::Removed { user: member.user }));
    cell.say(owner, room, "quiet");
    assert!(cell.told(member).is_empty());
    assert_eq!(query::audience(&cell.view, &cell.mine(owner, room)).unwrap(), [owner, manager, other].map(|p| p.user));
}

#[test]
fn members_are_removed_by_higher_roles_only() {
    let (mut cell, [owner, manager, member, other], room) = staffed();
    let stranger = cell.register("stranger");
    let remove = |person: Person| Remove { room, user: person.user };
    assert_eq!(cell.ask(member, remove(other)), Err(Reject::NotAllowed));
    assert_eq!(cell.ask(member, remove(owner)), Err(Reject::NotAllowed));
    assert_eq!(cell.ask(manager, remove(owner)), Err(Reject::NotAllowed));
    assert_eq!(cell.ask(owner, remove(owner)), Err(Reject::NotYourself));
    assert_eq!(cell.ask(owner, remove(stranger)), Err(Reject::NotAMember));
    cell.ok(owner, give(room, member, Role::Manager));
    assert_eq!(cell.ask(manager, remove(member)), Err(Reject::NotAllowed), "both are managers");
    assert_eq!(cell.ask(owner, remove(manager)), Ok(Accepted::Done));
}

#[test]
fn managers_and_the_owner_rename() {
    let (mut cell, [owner, manager, member, _], room) = staffed();
    let rename = |name: &str| Rename { room, name: name.to_owned() };
    assert_eq!(cell.ask(member, rename("x")), Err(Reject::NotAllowed));
    assert_eq!(cell.ask(manager, rename("")), Err(Reject::NameInvalid));
    assert_eq!(cell.ask(manager, rename("등산")), Ok(Accepted::Done));
    assert_eq!(cell.ask(owner, rename("산행")), Ok(Accepted::Done));
    assert_eq!(cell.mine(member, room).about.name, "산행");
    assert_eq!(last(&cell, member, room), Body::System(System::Renamed { name: "산행".to_owned() }));
}

#[test]
fn the_owner_gives_roles() {
    let (mut cell, [owner, manager, member, _], room) = staffed();
    let stranger = cell.register("stranger");
    assert_eq!(cell.ask(manager, give(room, member, Role::Manager)), Err(Reject::NotAllowed));
    assert_eq!(cell.ask(member, give(room, member, Role::Owner)), Err(Reject::NotAllowed));
    assert_eq!(cell.ask(owner, give(room, owner, Role::Member)), Err(Reject::NotYourself));
    assert_eq!(cell.ask(owner, give(room, stranger, Role::Manager)), Err(Reject::NotAMember));
    assert_eq!(cell.ask(owner, give(room, manager, Role::Member)), Ok(Accepted::Done));
    assert_eq!(role(&cell, manager, room), Role::Member);
    assert_eq!(cell.ask(owner, give(room, member, Role::Owner)), Ok(Accepted::Done));
    assert_eq!((role(&cell, owner, room), role(&cell, member, room)), (Role::Manager, Role::Owner));
    let given = System::RoleGiven { user: member.user, role: Role::Owner };
    assert_eq!(last(&cell, owner, room), Body::System(given));
}

#[test]
fn an_owners_place_goes_to_a_manager() {
    let (mut cell, [owner, manager, member, _], room) = staffed();
    cell.ok(owner, give(room, member, Role::Manager));
    cell.ok(owner, Leave { room });
    assert_eq!(role(&cell, manager, room), Role::Owner, "of two managers as long there the lower id");
    assert_eq!(role(&cell, member, room), Role::Manager);
    let given = System::RoleGiven { user: manager.user, role: Role::Owner };
    assert_eq!(last(&cell, member, room), Body::System(given));
}

#[test]
fn an_owners_place_goes_to_who_has_been_there_longest() {
    let mut cell = Cell::found();
    let [owner, late, early] = cell.people();
    let room = cell.group(owner, &[early]);
    cell.wait(1);
    cell.ok(owner, cell.invite(room, &[late]));
    cell.ok(owner, Leave { room });
    assert_eq!((role(&cell, early, room), role(&cell, late, room)), (Role::Owner, Role::Member));
}

#[test]
fn an_owners_place_goes_to_the_lower_seq_within_one_millisecond() {
    let mut cell = Cell::found();
    let [owner, late, early] = cell.people();
    let room = cell.group(owner, &[early]);
    cell.ok(owner, cell.invite(room, &[late]));
    cell.ok(owner, Leave { room });
    assert_eq!(role(&cell, early, room), Role::Owner);
}

#[test]
fn the_last_one_leaves_an_empty_group() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let room = cell.group(minji, &[]);
    cell.ok(minji, Leave { room });
    assert_eq!(cell.events.len(), 2);
    assert_eq!(cell.told(minji), [&News::Left { room }]);
    assert_eq!(query::rooms(&cell.view, minji.user, None, 10).unwrap(), []);
    assert_eq!(ROOMS.get(&cell.view, &room).unwrap().unwrap().members, 0);
    assert_eq!(cell.ask(minji, cell.invite(room, &[minji])), Err(Reject::RoomUnknown), "nobody can come back");
}

#[test]
fn a_room_left_is_a_place_for_another() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let room = cell.group(minji, &[]);
    let held = |cell: &Cell| crate::tables::accounts::HOLDINGS.get(&cell.view, &minji.user).unwrap().unwrap().rooms;
    assert_eq!(held(&cell), 1);
    cell.ok(minji, Leave { room });
    assert_eq!(held(&cell), 0);
}

#[test]
fn messages_of_a_group_reach_its_members_in_one_order() {
    let (mut cell, people, room) = staffed();
    let first: Seq = cell.say(people[2], room, "one");
    assert_eq!(cell.say(people[3], room, "two"), first + 1);
    for person in people {
        let seen = cell.seen(person, room);
        assert_eq!(seen[seen.len() - 2..], [(first, text("one")), (first + 1, text("two"))]);
        assert!(seen.iter().map(|(seq, _)| *seq).eq(1..=first + 1));
    }
}

/// One whose hands are full does not keep the others out.
#[test]
fn who_is_in_too_many_rooms_is_passed_over() {
    use crate::tables::accounts::Holdings;
    let mut cell = Cell::found();
    let [minji, dohyun, full] = cell.people();
    cell.view.put(&HOLDINGS, &full.user, &Holdings { rooms: MAX_ROOMS, devices: 1 });
    let room = cell.group(minji, &[dohyun, full]);
    assert_eq!(cell.members(minji, room), [minji.user, dohyun.user]);
    let created = cell.seen(dohyun, room);
    assert!(created.contains(&(2, Body::System(System::Invited { users: vec![dohyun.user] }))), "{created:?}");
    let [late] = cell.people();
    assert_eq!(cell.ok(minji, cell.invite(room, &[full, late])), Accepted::Invited { added: 1 });
    assert_eq!(cell.members(minji, room).len(), 3);
    assert_eq!(cell.ask(minji, cell.invite(room, &[full])), Err(Reject::TooManyRooms));
    let create = |name: &str, members| CreateGroup { name: name.to_owned(), members };
    assert_eq!(cell.ask(minji, create("two", cell.handles(&[full]))), Err(Reject::TooManyRooms));
    assert_eq!(cell.ask(full, create("three", cell.handles(&[minji]))), Err(Reject::TooManyRooms));
}

/// Others fill what is theirs to fill, and one opens rooms all the same.
#[test]
fn others_cannot_fill_the_rooms_that_are_kept_for_ones_own() {
    use crate::tables::accounts::Holdings;
    let mut cell = Cell::found();
    let [minji, dohyun, sought] = cell.people();
    let hold = |cell: &mut Cell, rooms| cell.view.put(&HOLDINGS, &sought.user, &Holdings { rooms, devices: 1 });
    hold(&mut cell, MAX_ROOMS - OWN_ROOMS - 1);
    let room = cell.group(minji, &[dohyun, sought]);
    assert_eq!(cell.members(minji, room).len(), 3, "one more");
    let next = cell.group(minji, &[dohyun, sought]);
    assert_eq!(cell.members(minji, next).len(), 2, "and no more");
    assert_eq!(cell.ask(minji, cell.invite(next, &[sought])), Err(Reject::TooManyRooms));
    assert_eq!(
        cell.ask(minji, crate::commands::room::OpenDirect { with: cell.handle(sought) }),
        Err(Reject::TooManyRooms)
    );
    let own = cell.direct(sought, minji);
    assert_eq!(cell.direct(minji, sought), own, "one that is there is found");
    cell.group(sought, &[minji]);
    cell.ok(sought, crate::commands::archive::OpenArchive { key: [1; 16], name: "old".to_owned() });
    hold(&mut cell, MAX_ROOMS - 1);
    cell.group(sought, &[]);
    let held = HOLDINGS.get(&cell.view, &sought.user).unwrap().unwrap().rooms;
    assert_eq!(held, MAX_ROOMS);
    let mine = CreateGroup { name: "one more".to_owned(), members: vec![] };
    assert_eq!(cell.ask(sought, mine), Err(Reject::TooManyRooms));
    assert_eq!(
        cell.ask(sought, crate::commands::room::OpenDirect { with: cell.handle(dohyun) }),
        Err(Reject::TooManyRooms)
    );
}

#[test]
fn at_level_1_people_are_named_by_id_and_others_may_fill_all_rooms() {
    use crate::tables::accounts::Holdings;
    let mut cell = Cell::found_at(1);
    let [minji, dohyun, seoyeon] = cell.people();
    let members = [dohyun, minji, dohyun].map(|person| person.user).to_vec();
    let room = cell.made(minji, CreateGroupById { name: "hiking".to_owned(), members });
    assert_eq!(cell.members(minji, room), [minji.user, dohyun.user]);
    let kept = Holdings { rooms: MAX_ROOMS - 1, devices: 1 };
    cell.view.put(&HOLDINGS, &seoyeon.user, &kept);
    let invite = |users: &[UserId]| InviteById { room, users: users.to_vec() };
    assert_eq!(cell.ok(minji, invite(&[seoyeon.user])), Accepted::Invited { added: 1 });
    assert_eq!(cell.ask(minji, invite(&[UserId(404)])), Err(Reject::UserUnknown));
    assert_eq!(cell.ask(minji, cell.invite(room, &[seoyeon])), Err(Reject::Unsupported));
    let create = CreateGroup { name: "x".to_owned(), members: vec![] };
    assert_eq!(cell.ask(minji, create), Err(Reject::Unsupported));
}

#[test]
fn from_level_2_an_id_names_nobody() {
    let mut cell = Cell::found_at(1);
    let [minji, dohyun] = cell.people();
    cell.activate(2);
    let room = cell.group(minji, &[]);
    for user in [dohyun.user, UserId(404)] {
        let create = CreateGroupById { name: "x".to_owned(), members: vec![user] };
        assert_eq!(cell.ask(minji, create), Err(Reject::Unsupported));
        assert_eq!(cell.ask(minji, InviteById { room, users: vec![user] }), Err(Reject::Unsupported));
        let open = crate::commands::room::OpenDirectById { with: user };
        assert_eq!(cell.ask(minji, open), Err(Reject::Unsupported));
    }
    assert_eq!(query::rooms(&cell.view, dohyun.user, None, 10).unwrap(), []);
}

/// From 101 members to 100: receipts are told from here on, so those of before are told once.
#[test]
fn a_group_that_becomes_small_tells_its_receipts() {
    use crate::commands::receipt::Read;
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let crowd = cell.crowd(100);
    let room = cell.group(minji, &crowd);
    let seq = cell.say(minji, room, "everybody there?");
    cell.ok(crowd[0], Read { room, seq });
    assert_eq!(cell.told(crowd[1]).len(), 0, "too many to be told");
    let before = cell.position();
    cell.ok(crowd[99], Leave { room });
    let receipt = News::Receipt { room, user: crowd[0].user, seq };
    assert!(cell.told(crowd[1]).contains(&&receipt));
    assert!(!cell.told(crowd[99]).contains(&&receipt), "who left is told no more");
    let start = crate::query::catch_up::Start::Since(before);
    let limits =
        crate::query::catch_up::Limits { rooms: 10, messages: 10, weight: 100, room: 1, receipt: 0, message: |_| 1 };
    let page = crate::query::catch_up::page(&cell.view, crowd[1].user, start, None, limits).unwrap();
    assert!(page.rooms[0].receipts.contains(&(crowd[0].user, seq)), "who was away neither lacks it");
    cell.ok(crowd[98], Leave { room });
    assert!(!cell.told(crowd[1]).contains(&&receipt), "once");
}
