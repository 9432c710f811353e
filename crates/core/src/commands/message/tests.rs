use super::*;
use crate::event::News;
use crate::ids::UserId;
use crate::testing::{Cell, MINUTE, Person, START, text};

fn send(room: RoomId, text: &str) -> Send {
    Send { room, text: text.to_owned(), reply_to: None }
}

fn reply(room: RoomId, seq: Seq) -> Send {
    Send { reply_to: Some(seq), ..send(room, "re") }
}

fn edit(room: RoomId, seq: Seq, text: &str) -> Edit {
    Edit { room, seq, text: text.to_owned() }
}

fn pair() -> (Cell, Person, Person, RoomId) {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.direct(minji, dohyun);
    (cell, minji, dohyun, room)
}

#[test]
fn messages_have_dense_seqs_and_everybody_is_told() {
    let (mut cell, minji, dohyun, room) = pair();
    cell.wait(5);
    assert_eq!(cell.ask(minji, send(room, "하나")), Ok(Accepted::Sent { seq: 1, time: START + 5 }));
    assert_eq!(cell.ask(dohyun, send(room, "둘")), Ok(Accepted::Sent { seq: 2, time: START + 5 }));
    for person in [minji, dohyun] {
        assert!(matches!(cell.told(person)[..], [News::Message { seq: 2, message, .. }] if message.body == text("둘")));
    }
    assert_eq!(cell.seen(dohyun, room), [(1, text("하나")), (2, text("둘"))]);
}

/// Counted as characters, not as bytes.
#[test]
fn a_text_has_1_to_10_000_characters() {
    let (mut cell, minji, _, room) = pair();
    assert_eq!(cell.ask(minji, send(room, "")), Err(Reject::TextEmpty));
    assert_eq!(cell.ask(minji, send(room, &"가".repeat(10_001))), Err(Reject::TextTooLong));
    let seq = cell.say(minji, room, &"가".repeat(10_000));
    assert_eq!(seq, 1, "refused ones leave no gap");
    assert_eq!(cell.ask(minji, edit(room, seq, "")), Err(Reject::TextEmpty));
    assert_eq!(cell.ask(minji, edit(room, seq, &"😀".repeat(10_001))), Err(Reject::TextTooLong));
    assert_eq!(cell.ask(minji, edit(room, seq, &"😀".repeat(10_000))), Ok(Accepted::Done));
}

#[test]
fn only_members_talk() {
    let (mut cell, minji, _, room) = pair();
    let stranger = cell.register("stranger");
    for (room, seq) in [(room, 1), (RoomId(404), 1)] {
        assert_eq!(cell.ask(stranger, send(room, "hi")), Err(Reject::RoomUnknown));
        assert_eq!(cell.ask(stranger, edit(room, seq, "hi")), Err(Reject::RoomUnknown));
        assert_eq!(cell.ask(stranger, Delete { room, seq }), Err(Reject::RoomUnknown));
    }
    assert_eq!(cell.anonymous(send(room, "hi")), Err(Reject::NotAllowed));
    assert_eq!(cell.node(send(room, "hi")), Err(Reject::NotAllowed));
    assert_eq!(cell.seen(minji, room), []);
}

#[test]
fn a_reply_is_to_a_message_that_the_sender_sees() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.group(minji, &[]);
    let before = cell.say(minji, room, "before dohyun came");
    cell.ok(minji, cell.invite(room, &[dohyun]));
    let after = cell.say(minji, room, "after");
    for hidden in [0, before, after + 1, u64::MAX] {
        assert_eq!(cell.ask(dohyun, reply(room, hidden)), Err(Reject::MessageUnknown), "{hidden}");
    }
    assert_eq!(cell.ask(dohyun, reply(room, after)), Ok(Accepted::Sent { seq: after + 1, time: START }));
    assert_eq!(cell.ask(minji, reply(room, before)), Ok(Accepted::Sent { seq: after + 2, time: START }));
}

#[test]
fn a_message_is_edited_for_15_minutes_of_cell_time() {
    let (mut cell, minji, dohyun, room) = pair();
    cell.ok(minji, send(room, "helo"));
    cell.ok(minji, Send { reply_to: Some(1), ..send(room, "helo") });
    cell.wait(15 * MINUTE);
    assert_eq!(cell.ask(minji, edit(room, 2, "hello")), Ok(Accepted::Done));
    let body = Body::Text { text: "hello".to_owned(), reply_to: Some(1) };
    assert!(matches!(cell.told(dohyun)[..], [News::Changed { seq: 2, message, .. }]
        if message.body == body && message.edited_at == Some(START + 15 * MINUTE) && message.time == START));
    cell.wait(1);
    assert_eq!(cell.ask(minji, edit(room, 2, "hallo")), Err(Reject::EditTooLate));
    assert_eq!(cell.seen(dohyun, room)[1], (2, body));
}

#[test]
fn a_message_is_deleted_for_everyone_for_5_minutes() {
    let (mut cell, minji, dohyun, room) = pair();
    cell.say(minji, room, "oops");
    cell.say(minji, room, "too late");
    cell.wait(5 * MINUTE);
    assert_eq!(cell.ask(minji, Delete { room, seq: 1 }), Ok(Accepted::Done));
    assert!(matches!(cell.told(dohyun)[..], [News::Changed { seq: 1, message, .. }] if message.body == Body::Deleted));
    assert_eq!(cell.ask(minji, Delete { room, seq: 1 }), Err(Reject::MessageDeleted));
    assert_eq!(cell.ask(minji, edit(room, 1, "oops")), Err(Reject::MessageDeleted));
    cell.wait(1);
    assert_eq!(cell.ask(minji, Delete { room, seq: 2 }), Err(Reject::DeleteTooLate));
    assert_eq!(cell.seen(dohyun, room), [(1, Body::Deleted), (2, text("too late"))]);
    assert_eq!(cell.unread(dohyun, room), 2, "a deleted message keeps its place");
}

#[test]
fn nobody_changes_what_another_said() {
    let (mut cell, minji, dohyun, room) = pair();
    let seq = cell.say(minji, room, "mine");
    assert_eq!(cell.ask(dohyun, edit(room, seq, "yours")), Err(Reject::NotAllowed));
    assert_eq!(cell.ask(dohyun, Delete { room, seq }), Err(Reject::NotAllowed));
    assert_eq!(cell.ask(minji, edit(room, seq + 1, "x")), Err(Reject::MessageUnknown));
    assert_eq!(cell.ask(minji, Delete { room, seq: 0 }), Err(Reject::MessageUnknown));
}

#[test]
fn system_messages_stay_as_they_are() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let room = cell.group(minji, &[]);
    assert_eq!(cell.ask(minji, edit(room, 1, "x")), Err(Reject::NotAllowed));
    assert_eq!(cell.ask(minji, Delete { room, seq: 1 }), Err(Reject::NotAllowed));
}

/// An edit carries the message's text: who came later may no more see it than the message.
#[test]
fn edits_are_told_to_those_only_who_see_the_message() {
    let mut cell = Cell::found();
    let [minji, dohyun, seoyeon] = cell.people();
    let room = cell.group(minji, &[dohyun]);
    let seq = cell.say(minji, room, "a secret");
    cell.ok(minji, cell.invite(room, &[seoyeon]));
    cell.ok(minji, edit(room, seq, "another secret"));
    let told: Vec<UserId> = cell.events.iter().flat_map(|event| event.audience.users()).collect();
    assert_eq!(told, [minji.user, dohyun.user]);
    cell.ok(minji, Delete { room, seq });
    assert!(cell.told(seoyeon).is_empty());
}

#[test]
fn who_came_back_does_not_change_what_they_said_before() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.group(minji, &[dohyun]);
    let seq = cell.say(dohyun, room, "hi");
    cell.ok(dohyun, crate::commands::group::Leave { room });
    assert_eq!(cell.ask(dohyun, edit(room, seq, "x")), Err(Reject::RoomUnknown));
    cell.ok(minji, cell.invite(room, &[dohyun]));
    assert_eq!(cell.ask(dohyun, edit(room, seq, "x")), Err(Reject::MessageUnknown));
    assert_eq!(cell.ask(dohyun, Delete { room, seq }), Err(Reject::MessageUnknown));
}
