//! Who types is told to those who are in the room, and to nobody else.

use std::time::Duration;

use ieum_gateway::Options;
use serde_json::{Value, json};

use crate::http::{Person, fresh};
use crate::node::{Server, options};
use crate::socket::{Got, Socket};

/// Where nobody counts as away, and a second frame of a room is always too soon.
fn server() -> Server {
    let hour = Duration::from_secs(3_600);
    // Nor is what is said passed over because the machine is busy.
    let (stall_after, standstill_after, stale_after) = (hour, hour, hour);
    Server::with(Options {
        in_front: hour,
        typing_every: hour,
        stall_after,
        standstill_after,
        stale_after,
        ..options()
    })
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
    // What was told before is sent before.
    two.say(r#"{"ping":{"id":1}}"#);
    loop {
        match two.get() {
            Got::Text(frame) if frame.get("pong").is_some() => break,
            Got::Text(frame) => assert!(frame.get("typing").is_none(), "{frame}"),
            other => panic!("{other:?}"),
        }
    }
    server.is_sound();
}
