//! The checker finds nothing in a history that keeps every promise, and each kind of broken promise by its name.

use super::*;

const ROOM: u64 = 7;

fn token(client: u32, number: u32) -> Token {
    Token { client, number }
}

fn acknowledged(seq: u64) -> Sent {
    Sent { room: ROOM, outcome: Outcome::Acknowledged { seq } }
}

fn held(seq: u64, client: u32, number: u32) -> Held {
    Held { seq, from: u64::from(client) + 100, token: Some(token(client, number)) }
}

/// Two clients in a room: 0 said messages 2 and 4, 1 said message 3 and one that was rejected. Message 1 is the room's own.
fn kept() -> (Vec<History>, Rooms) {
    let messages = vec![Held { seq: 1, from: 100, token: None }, held(2, 0, 0), held(3, 1, 0), held(4, 0, 1)];
    let heard: Vec<Heard> =
        messages.iter().map(|held| Heard::Message { room: ROOM, seq: held.seq, token: held.token }).collect();
    let rejected = Sent { room: ROOM, outcome: Outcome::Rejected { why: "text_too_long".to_owned() } };
    let history = |client: u64, sent| History { user: client + 100, rooms: vec![ROOM], sent, heard: heard.clone() };
    let histories =
        vec![history(0, vec![acknowledged(2), acknowledged(4)]), history(1, vec![acknowledged(3), rejected])];
    (histories, Rooms::from([(ROOM, messages)]))
}

/// The violations after `break_it`.
fn found(break_it: impl FnOnce(&mut Vec<History>, &mut Vec<Held>)) -> Vec<Violation> {
    let (mut histories, mut rooms) = kept();
    break_it(&mut histories, rooms.get_mut(&ROOM).expect("the room"));
    check(&histories, &rooms).violations
}

#[test]
fn a_text_names_its_token_and_other_texts_do_not() {
    let token = token(3, 41);
    assert_eq!(Token::read(&token.text()), Some(token));
    assert_eq!(Token::read("3 41"), None);
    assert_eq!(Token::read("안녕"), None);
    assert_eq!(Token::read(&token.text().replacen("41", "041", 1)), None);
}

#[test]
fn a_history_that_keeps_every_promise_has_no_violation() {
    let (histories, rooms) = kept();
    let report = check(&histories, &rooms);
    assert_eq!(report.violations, []);
    assert_eq!((report.sent, report.acknowledged, report.held, report.heard), (4, 3, 4, 8));
}

#[test]
fn a_repetition_of_what_was_heard_is_no_violation() {
    let repeated = Heard::Message { room: ROOM, seq: 3, token: Some(token(1, 0)) };
    assert_eq!(found(|histories, _| histories[0].heard.push(repeated)), []);
}

#[test]
fn what_was_left_out_or_void_needs_not_be_heard_but_the_end_does() {
    let rest = |histories: &mut Vec<History>, first: Heard| {
        let heard = &mut histories[0].heard;
        heard.drain(1..3);
        heard.insert(1, first);
    };
    assert_eq!(found(|histories, _| rest(histories, Heard::LeftOut { room: ROOM })), []);
    assert_eq!(found(|histories, _| rest(histories, Heard::Void)), []);
    let not_heard = Violation::NotHeard { client: 0, room: ROOM, heard: 0, last: 4 };
    assert_eq!(found(|histories, _| histories[0].heard.push(Heard::Void)), [not_heard]);
}

#[test]
fn a_lost_message_is_found() {
    let violations = found(|_, held| _ = held.pop());
    assert!(violations.contains(&Violation::Lost { token: token(0, 1), room: ROOM, seq: 4 }), "{violations:?}");
}

#[test]
fn a_message_at_another_seq_than_acknowledged_is_found() {
    let violations = found(|histories, _| histories[1].sent[0] = acknowledged(2));
    let moved = Violation::Moved { token: token(1, 0), acknowledged: (ROOM, 2), found: (ROOM, 3) };
    assert_eq!(violations, [moved]);
}

#[test]
fn a_message_that_is_there_twice_is_found() {
    let violations = found(|_, messages| messages.push(held(5, 1, 0)));
    let duplicated = Violation::Duplicated { token: token(1, 0), first: (ROOM, 3), again: (ROOM, 5) };
    assert!(violations.contains(&duplicated), "{violations:?}");
}

#[test]
fn a_rejected_message_that_is_there_is_found() {
    let violations = found(|_, messages| messages.push(held(5, 1, 1)));
    let there = Violation::AfterRejection { token: token(1, 1), why: "text_too_long".to_owned() };
    assert!(violations.contains(&there), "{violations:?}");
}

#[test]
fn a_missing_or_repeated_seq_is_found() {
    let violations = found(|_, messages| _ = messages.remove(0));
    assert!(violations.contains(&Violation::Gap { room: ROOM, after: 0, next: 2 }), "{violations:?}");
    let violations = found(|_, messages| messages[3].seq = 3);
    assert!(violations.contains(&Violation::Gap { room: ROOM, after: 3, next: 3 }), "{violations:?}");
}

#[test]
fn a_senders_messages_in_another_order_are_found() {
    let violations = found(|_, messages| {
        (messages[1].token, messages[3].token) = (messages[3].token, messages[1].token);
    });
    let disordered = Violation::Disordered { room: ROOM, client: 0, earlier: 0, later: 1 };
    assert!(violations.contains(&disordered), "{violations:?}");
}

#[test]
fn a_message_that_nobody_said_there_is_found() {
    let invented = Violation::Invented { room: ROOM, seq: 3, from: 101 };
    let never_said = found(|_, messages| messages[2].token = Some(token(1, 9)));
    assert!(never_said.contains(&invented), "{never_said:?}");
    let said_elsewhere = found(|histories, _| histories[1].sent[0].room = 8);
    assert!(said_elsewhere.contains(&invented), "{said_elsewhere:?}");
    let by_another = found(|_, messages| messages[2].from = 100);
    assert_eq!(by_another, [Violation::Invented { room: ROOM, seq: 3, from: 100 }]);
}

#[test]
fn a_message_skipped_in_the_stream_is_found() {
    let violations = found(|histories, _| _ = histories[1].heard.remove(2));
    assert_eq!(violations, [Violation::Skipped { client: 1, room: ROOM, after: 2, next: 4 }]);
}

#[test]
fn another_message_than_the_server_holds_is_found() {
    let other = Heard::Message { room: ROOM, seq: 3, token: Some(token(0, 1)) };
    let violations = found(|histories, _| histories[1].heard[2] = other);
    assert_eq!(violations, [Violation::HeardOther { client: 1, room: ROOM, seq: 3 }]);
}

#[test]
fn a_message_that_never_came_is_found() {
    let violations = found(|histories, _| _ = histories[1].heard.pop());
    assert_eq!(violations, [Violation::NotHeard { client: 1, room: ROOM, heard: 3, last: 4 }]);
}

#[test]
fn a_command_without_an_outcome_is_found() {
    let violations = found(|histories, _| histories[0].sent[1].outcome = Outcome::Unknown);
    assert_eq!(violations, [Violation::Unanswered { token: token(0, 1) }]);
}
