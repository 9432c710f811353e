//! Who types is told to those who are in the room, and to nobody else.

use std::time::{Duration, Instant};

use ieum_core::ids::{RoomId, UserId};
use ieum_core::query::typing::Typing;
use ieum_core::tables::rooms::AUDIENCES;
use ieum_gateway::Options;
use serde_json::{Value, json};

use crate::http::{Person, fresh};
use crate::lanes::{figure, until};
use crate::node::{Server, options};
use crate::socket::{Got, Socket};

/// Where nobody counts as away, and a second frame of a room is always too soon.
fn server() -> Server {
    Server::with(unhurried())
}

fn unhurried() -> Options {
    let hour = Duration::from_secs(3_600);
    // Nor is what is said passed over because the machine is busy.
    let (stall_after, standstill_after, stale_after) = (hour, hour, hour);
    Options {
        in_front: hour,
        typing_every: hour,
        typing_patience: hour,
        stall_after,
        standstill_after,
        stale_after,
        ..options()
    }
}

fn types(socket: &mut Socket, room: u64) {
    socket.say(&json!({"typing": {"room": room}}).to_string());
}

fn made(ack: &Value) -> u64 {
    ack["ok"]["room"].as_u64().unwrap()
}

/// Everything up to the frame that says that somebody types in `room`: who was said to type where before, and in it.
fn typing_until(socket: &mut Socket, room: u64) -> Vec<(u64, u64)> {
    let mut heard = Vec::new();
    loop {
        match socket.get() {
            Got::Text(frame) if frame.get("typing").is_some() => {
                let [of, user] = ["room", "user"].map(|name| frame["typing"][name].as_u64().unwrap());
                heard.push((of, user));
                if of == room {
                    return heard;
                }
            }
            Got::Text(frame) if frame.get("bye").is_none() => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_others_in_the_room_hear_who_types_and_the_typist_does_not() {
    let server = server();
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let (mut one, welcome) = Socket::hello(&server, &minji, None);
    assert_eq!(welcome["takes"], json!(["typing"]));
    one.next("caught_up");
    let second = minji.another_device(&server);
    let mut other_device = Socket::live(&server, &second);
    let mut two = Socket::live(&server, &dohyun);
    let [first, last] =
        [0, 1].map(|n| made(&one.done(&json!({"create_group": {"name": n.to_string(), "handles": [dohyun.handle]}}))));
    types(&mut one, first);
    assert_eq!(typing_until(&mut two, first), [(first, minji.user)]);
    // What minji's other device hears first is what the other person types, later.
    types(&mut two, last);
    assert_eq!(typing_until(&mut other_device, last), [(last, dohyun.user)]);
    assert_eq!(typing_until(&mut one, last), [(last, dohyun.user)]);
    server.is_sound();
}

#[test]
fn who_was_removed_and_who_never_was_in_the_room_hear_nothing_and_are_not_heard() {
    let server = server();
    let [minji, dohyun, eve] = ["minji", "dohyun", "eve"].map(|handle| Person::register(&server, handle));
    let mut sockets = [&minji, &dohyun, &eve].map(|person| Socket::live(&server, person));
    let [one, two, stranger] = &mut sockets;
    let ours = made(&one.done(&json!({"create_group": {"name": "ours", "handles": [dohyun.handle, eve.handle]}})));
    let theirs = made(&one.done(&json!({"create_group": {"name": "theirs", "handles": [dohyun.handle]}})));
    let all = made(&one.done(&json!({"create_group": {"name": "all", "handles": [dohyun.handle, eve.handle]}})));
    let archive = made(&one.done(&json!({"open_archive": {"key": fresh(), "name": "old"}})));
    // Eve has written there, before she is removed.
    stranger.done(&json!({"send": {"room": ours, "text": "hello"}}));
    one.done(&json!({"remove": {"room": ours, "user": eve.user}}));
    // The removed one and the stranger say that they type, where they are not.
    for room in [ours, theirs, 0, u64::MAX] {
        types(stranger, room);
    }
    stranger.say(r#"{"ping":{"id":1}}"#);
    stranger.next("pong");
    for room in [archive, ours, theirs, all] {
        types(one, room);
    }
    assert_eq!(typing_until(stranger, all), [(all, minji.user)]);
    let mut heard = typing_until(two, all);
    heard.sort_unstable();
    assert_eq!(heard, [(ours, minji.user), (theirs, minji.user), (all, minji.user)]);
    server.is_sound();
}

#[test]
fn a_flood_of_it_is_told_once_and_hurts_nobody() {
    let server = server();
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let [mut one, mut two] = [&minji, &dohyun].map(|person| Socket::live(&server, person));
    let rooms: Vec<u64> = (0..6)
        .map(|n| made(&one.done(&json!({"create_group": {"name": n.to_string(), "handles": [dohyun.handle]}}))))
        .collect();
    for _ in 0..500 {
        types(&mut one, rooms[0]);
    }
    for room in &rooms[1..5] {
        types(&mut one, *room);
    }
    // Four rooms at a time, each once; the fifth comes too soon.
    let heard = typing_until(&mut two, rooms[3]);
    assert_eq!(heard, rooms[..4].iter().map(|room| (*room, minji.user)).collect::<Vec<_>>());
    types(&mut two, rooms[5]);
    assert_eq!(typing_until(&mut one, rooms[5]), [(rooms[5], dohyun.user)]);
    assert!(one.done(&json!({"send": {"room": rooms[0], "text": "hello"}})).get("ok").is_some());
    hears_nothing_more(&mut two);
    server.is_sound();
}

#[test]
fn a_person_with_two_devices_types_no_more_than_one_with_one() {
    let server = server();
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let laptop = minji.another_device(&server);
    let [mut one, mut second, mut two] = [&minji, &laptop, &dohyun].map(|person| Socket::live(&server, person));
    let rooms: Vec<u64> = (0..6)
        .map(|n| made(&one.done(&json!({"create_group": {"name": n.to_string(), "handles": [dohyun.handle]}}))))
        .collect();
    hears_nothing_more(&mut two);
    for (socket, rooms) in [(&mut one, &rooms[..2]), (&mut second, &rooms[1..5])] {
        rooms.iter().for_each(|room| types(socket, *room));
        socket.say(r#"{"ping":{"id":1}}"#);
        socket.next("pong");
    }
    let heard = typing_until(&mut two, rooms[3]);
    assert_eq!(heard, rooms[..4].iter().map(|room| (*room, minji.user)).collect::<Vec<_>>());
    types(&mut two, rooms[5]);
    assert_eq!(typing_until(&mut one, rooms[5]), [(rooms[5], dohyun.user)]);
    hears_nothing_more(&mut two);
    server.is_sound();
}

/// Takes what was told before, of which nothing says who types.
fn hears_nothing_more(socket: &mut Socket) {
    socket.say(r#"{"ping":{"id":1}}"#);
    loop {
        match socket.get() {
            Got::Text(frame) if frame.get("pong").is_some() => break,
            Got::Text(frame) => assert!(frame.get("typing").is_none(), "{frame}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Two people with a socket each, and two groups of both.
fn pair(server: &Server) -> ([Person; 2], [Socket; 2], [u64; 2]) {
    let people = ["minji", "dohyun"].map(|handle| Person::register(server, handle));
    let mut sockets = people.each_ref().map(|person| Socket::live(server, person));
    let handles = [&people[1].handle];
    let groups =
        ["a", "b"].map(|name| made(&sockets[0].done(&json!({"create_group": {"name": name, "handles": handles}}))));
    // Nothing else waits for him.
    hears_nothing_more(&mut sockets[1]);
    (people, sockets, groups)
}

/// Waits until so much was told or passed over, and says what: frames, and who was passed over.
#[track_caller]
fn told_and_shed(server: &Server, all: u64) -> (u64, u64) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let [told, shed] = ["typing_total", "typing_shed_total"].map(|name| figure(server, name));
        if told + shed >= all {
            return (told, shed);
        }
        assert!(Instant::now() < end, "{told} frames, {shed} passed over");
    }
}

#[test]
fn nobody_is_told_while_the_node_has_too_much_to_do() {
    let server = server();
    let ([minji, _], [mut one, mut two], [first, last]) = pair(&server);
    server.set_surge(true);
    types(&mut one, first);
    assert_eq!(told_and_shed(&server, 1), (0, 1));
    // Messages go on.
    assert!(one.done(&json!({"send": {"room": first, "text": "hello"}})).get("ok").is_some());
    hears_nothing_more(&mut two);
    server.set_surge(false);
    types(&mut one, last);
    assert_eq!(typing_until(&mut two, last), [(last, minji.user)]);
    server.is_sound();
}

#[test]
fn nobody_is_told_while_the_view_is_old() {
    let server = Server::with(Options { stale_after: options().stale_after, ..unhurried() });
    let ([minji, _], [mut one, mut two], [first, _]) = pair(&server);
    server.hold_log(true);
    let end = Instant::now() + Duration::from_secs(20);
    while minji.get(&server, "/v1/me").header("ieum-stale").is_none() {
        assert!(Instant::now() < end, "it does not become old");
    }
    types(&mut one, first);
    assert_eq!(told_and_shed(&server, 1), (0, 1));
    hears_nothing_more(&mut two);
    server.hold_log(false);
    server.is_sound();
}

#[test]
fn who_is_away_is_told_nothing() {
    // Where nobody was ever heard lately enough.
    let server = Server::with(Options { in_front: Duration::ZERO, ..unhurried() });
    let ([minji, _], [mut one, mut two], [first, _]) = pair(&server);
    types(&mut one, first);
    // Who is at other nodes may hear it there.
    assert_eq!(server.signalled(1), [Typing { room: RoomId(first), user: UserId(minji.user) }]);
    hears_nothing_more(&mut two);
    assert_eq!(told_and_shed(&server, 0), (0, 0));
    server.is_sound();
}

#[test]
fn who_was_removed_while_a_disk_hung_hears_nothing() {
    // Where each look at the view takes too long.
    let server = Server::with(Options { typing_patience: Duration::ZERO, ..unhurried() });
    let ([_, eve], [mut one, mut stranger], [ours, _]) = pair(&server);
    server.hold_row(AUDIENCES.key(&RoomId(ours)));
    types(&mut one, ours);
    let end = Instant::now() + Duration::from_secs(20);
    while server.row_reads() == 0 {
        assert!(Instant::now() < end, "nobody looks who is in the room");
    }
    one.done(&json!({"remove": {"room": ours, "user": eve.user}}));
    server.release_row();
    assert_eq!(told_and_shed(&server, 1), (0, 1));
    hears_nothing_more(&mut stranger);
    server.is_sound();
}

#[test]
fn a_round_that_panics_is_lost_and_no_other() {
    let server = server();
    let ([minji, _], [mut one, mut two], [first, last]) = pair(&server);
    server.break_row(AUDIENCES.key(&RoomId(first)));
    types(&mut one, first);
    until(&server, "typing_shed_total", 1);
    types(&mut one, last);
    assert_eq!(typing_until(&mut two, last), [(last, minji.user)]);
    server.is_sound();
}
