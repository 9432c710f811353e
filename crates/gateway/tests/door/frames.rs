//! What is wrong in a frame.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Person, fresh};
use crate::node::Server;
use crate::socket::{Got, Socket, TEXT, frame};

fn wrong_frames() -> Vec<(&'static str, Vec<u8>)> {
    let id = fresh();
    let text = |text: &str| frame(TEXT, text.as_bytes());
    let cmd = |n: &str, change: &str| text(&format!(r#"{{"cmd":{{"n":{n},"id":"{id}","do":{change}}}}}"#));
    let ping = |id: &str| text(&format!(r#"{{"ping":{{"id":{id}}}}}"#));
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    vec![
        ("nothing", text("")),
        ("no object", text("[]")),
        ("an empty object", text("{}")),
        ("two members", text(r#"{"ping":{"id":1},"pong":{"id":1}}"#)),
        ("an unknown frame", text(r#"{"dancing":{}}"#)),
        ("typing nowhere", text(r#"{"typing":{}}"#)),
        ("typing as somebody", text(r#"{"typing":{"room":1,"user":2}}"#)),
        ("an unknown member", text(r#"{"ping":{"id":1,"x":1}}"#)),
        ("a member twice", text(r#"{"ping":{"id":1,"id":2}}"#)),
        ("something behind it", text(r#"{"ping":{"id":1}} x"#)),
        ("too deep", text(&deep(100_000))),
        ("too deep in a member", ping(&deep(100_000))),
        ("hello twice", text(&format!(r#"{{"hello":{{"device":1,"secret":"{id}"}}}}"#))),
        ("a binary frame", frame(0x82, b"{}")),
        ("a reserved kind of frame", frame(0x83, b"{}")),
        ("a reserved bit", frame(TEXT | 0x40, b"{}")),
        ("no UTF-8", frame(TEXT, b"{\"ping\":{\"id\":1}}\xff")),
        ("a surrogate as UTF-8", frame(TEXT, b"\"\xed\xa0\x80\"")),
        ("a lone surrogate", cmd("1", r#"{"set_name":{"name":"\ud800"}}"#)),
        ("a surrogate in the wrong order", cmd("1", r#"{"set_name":{"name":"\udc00\ud800"}}"#)),
        ("a control character as it is", cmd("1", "{\"set_name\":{\"name\":\"\u{1}\"}}")),
        ("a number beyond u64", ping("18446744073709551616")),
        ("a negative number", ping("-1")),
        ("negative zero", ping("-0")),
        ("a fraction", ping("1.5")),
        ("an exponent", ping("1e400")),
        ("a small exponent", ping("1e2")),
        ("a text for a number", ping("\"1\"")),
        ("not a number", ping("NaN")),
        ("null", ping("null")),
        ("an id that is none", text(r#"{"cmd":{"n":1,"id":"x","do":{"leave":{"room":1}}}}"#)),
        (
            "an id in capitals",
            text(&format!(r#"{{"cmd":{{"n":1,"id":"{}","do":{{"leave":{{"room":1}}}}}}}}"#, "A".repeat(32))),
        ),
        ("an unknown change", cmd("1", r#"{"dance":{}}"#)),
        ("an unknown role", cmd("1", r#"{"give_role":{"room":1,"user":2,"role":"king"}}"#)),
        ("a key that is none", cmd("1", r#"{"open_archive":{"key":"k","name":"x"}}"#)),
        ("a continuation of nothing", frame(0x80, b"{}")),
        ("a control frame in pieces", frame(0x09, b"")),
        ("a control frame that is too long", frame(0x89, &[0; 126])),
    ]
}

#[test]
fn what_is_no_frame_ends_the_session_with_bad_frame_and_hurts_nobody_else() {
    let server = Server::start();
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let mut other = Socket::live(&server, &dohyun);
    for (what, bytes) in wrong_frames() {
        let mut socket = Socket::live(&server, &minji);
        socket.send(&bytes);
        let bye = socket.bye();
        assert_eq!((&bye["code"], bye.get("retry_after_ms")), (&json!("bad_frame"), None), "{what}: {bye}");
    }
    // Before hello the same, without anybody being signed in.
    for (what, bytes) in wrong_frames() {
        let mut socket = Socket::open(&server);
        socket.send(&bytes);
        let code = socket.bye()["code"].clone();
        assert!(["bad_frame", "hello_first", "secret_wrong"].iter().any(|known| code == **known), "{what}: {code}");
    }
    let mut socket = Socket::open(&server);
    socket.say(r#"{"ping":{"id":1}}"#);
    assert_eq!(socket.bye()["code"], "hello_first");
    for position in ["1", "1.", "x.y", "1.18446744073709551616", "4294967296.1", "-1.1", "1.1.1", "\u{661}.1"] {
        let mut socket = Socket::open(&server);
        let hello = json!({"hello": {"device": minji.device, "secret": minji.secret, "cursor": position}});
        socket.say(&hello.to_string());
        assert_eq!(socket.bye()["code"], "bad_frame", "{position}");
    }
    // The session beside them was never touched.
    assert!(other.done(&json!({"set_name": {"name": "D"}})).get("ok").is_some());
    server.is_sound();
}

#[test]
fn what_is_too_large_ends_the_session() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let large = vec![b' '; 262_145];
    // In one frame; announced and never sent; in pieces.
    let announced = [&[TEXT, 0xff][..], &u64::to_be_bytes(1 << 40), &[0; 4]].concat();
    let pieces = [frame(0x01, &large[..200_000]), frame(0x80, &large[..200_000])].concat();
    for bytes in [frame(TEXT, &large), announced, pieces] {
        let mut socket = Socket::live(&server, &minji);
        socket.send(&bytes);
        assert_eq!(socket.bye()["code"], "too_large");
    }
    let mut socket = Socket::live(&server, &minji);
    let most = format!(r#"{{"ping":{{"id":1}}}}{}"#, " ".repeat(262_144 - 17));
    assert_eq!(most.len(), 262_144);
    socket.say(&most);
    assert_eq!(socket.next("pong")["id"], 1);
    server.is_sound();
}

#[test]
fn a_frame_may_come_in_pieces_and_a_protocol_ping_between_them() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let mut socket = Socket::live(&server, &minji);
    let text = r#"{"ping":{"id":9007199254740993}}"#.as_bytes();
    socket.send(&frame(0x01, &text[..5]));
    socket.send(&frame(0x89, b"still there?"));
    socket.send(&frame(0x00, &text[5..6]));
    socket.send(&frame(0x80, &text[6..]));
    assert_eq!(socket.next("pong")["id"], 9_007_199_254_740_993_u64);
    // A close frame is answered with one.
    socket.send(&frame(0x88, &[0x03, 0xe8]));
    assert_eq!((socket.get(), socket.get()), (Got::Close, Got::End));
}

#[test]
fn numbers_and_values_out_of_range_are_rejected_one_by_one() {
    let server = Server::start();
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let mut socket = Socket::live(&server, &minji);
    let room = socket.done(&json!({"create_group": {"name": "g", "handles": [dohyun.handle]}}))["ok"]["room"].clone();
    let far = u64::MAX;
    let long = "가".repeat(10_001);
    let entry = |key: &str, kind: &str| json!({"key": key, "time": far, "author": "a", "kind": kind, "text": "x"});
    let archive = socket.done(&json!({"open_archive": {"key": fresh(), "name": "old"}}))["ok"]["room"].clone();
    for (change, code) in [
        (json!({"send": {"room": far, "text": "x"}}), "room_unknown"),
        (json!({"send": {"room": (1_u64 << 53) + 1, "text": "x"}}), "room_unknown"),
        (json!({"send": {"room": room, "text": " \n\t"}}), "text_empty"),
        (json!({"send": {"room": room, "text": long}}), "text_too_long"),
        (json!({"send": {"room": room, "text": "x", "reply_to": far}}), "message_unknown"),
        (json!({"send": {"room": room, "text": "x", "reply_to": 0}}), "message_unknown"),
        (json!({"edit": {"room": room, "seq": far, "text": "x"}}), "message_unknown"),
        (json!({"edit": {"room": room, "seq": 1, "text": "x"}}), "not_allowed"),
        (json!({"delete": {"room": room, "seq": 0}}), "message_unknown"),
        (json!({"read": {"room": room, "seq": far}}), "message_unknown"),
        (json!({"open_direct": {"handle": "nobody"}}), "user_unknown"),
        (json!({"open_direct": {"handle": "a\u{0}b"}}), "user_unknown"),
        (json!({"open_direct": {"handle": "x".repeat(100_000)}}), "user_unknown"),
        (json!({"open_direct": {"handle": minji.user.to_string()}}), "user_unknown"),
        (json!({"open_direct": {"handle": minji.handle}}), "not_yourself"),
        (json!({"create_group": {"name": "", "handles": []}}), "name_invalid"),
        (json!({"create_group": {"name": "x".repeat(51), "handles": []}}), "name_invalid"),
        (json!({"create_group": {"name": "a\u{0}b", "handles": []}}), "name_invalid"),
        (json!({"create_group": {"name": "x", "handles": vec![&dohyun.handle; 10_000]}}), "too_many"),
        (json!({"create_group": {"name": "x", "handles": ["nobody"]}}), "user_unknown"),
        (json!({"invite": {"room": room, "handles": [dohyun.handle, ""]}}), "user_unknown"),
        (json!({"remove": {"room": room, "user": far}}), "not_a_member"),
        (json!({"give_role": {"room": room, "user": far, "role": "owner"}}), "not_a_member"),
        (json!({"log_out": {"device": far}}), "not_allowed"),
        (json!({"add_to_archive": {"room": archive, "entries": [entry(&fresh(), &"k".repeat(201))]}}), "name_invalid"),
        (json!({"add_to_archive": {"room": archive, "entries": vec![entry(&fresh(), "k"); 501]}}), "too_many"),
        (json!({"send": {"room": archive, "text": "x"}}), "wrong_room_kind"),
    ] {
        let ack = socket.done(&change);
        assert_eq!(ack["error"]["code"], code, "{}", change.to_string().chars().take(200).collect::<String>());
        // The same over HTTP.
        let answer = minji.change(&server, &change);
        assert_eq!(answer.error().1, code);
    }
    let longest = "가".repeat(10_000);
    assert!(socket.done(&json!({"send": {"room": room, "text": longest}})).get("ok").is_some());
    // The original time of an archive's entry is anything.
    let ack = socket.done(&json!({"add_to_archive": {"room": archive, "entries": [entry(&fresh(), "k")]}}));
    assert_eq!(ack["ok"]["added"], 1);
    server.is_sound();
}

#[test]
fn numbers_that_are_skipped_or_repeated() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let mut socket = Socket::live(&server, &minji);
    let say = |socket: &mut Socket, n: u64, id: &str| {
        socket.say(&json!({"cmd": {"n": n, "id": id, "do": {"set_name": {"name": "M"}}}}).to_string());
    };
    let id = fresh();
    for n in [0, 2, u64::MAX] {
        say(&mut socket, n, &id);
        let refused = socket.next("refused");
        assert_eq!((&refused["n"], &refused["error"]["code"]), (&json!(n), &json!("out_of_order")));
        assert!(refused["pos"].is_string());
    }
    say(&mut socket, 1, &id);
    let first = socket.next("ack");
    assert!(first.get("ok").is_some());
    say(&mut socket, 1, &id);
    assert_eq!(socket.next("ack")["ok"], first["ok"], "the same outcome again");
    say(&mut socket, 1, &fresh());
    assert_eq!(socket.next("ack")["error"]["code"], "number_reused");
    for n in 2..=66 {
        say(&mut socket, n, &fresh());
        socket.next("ack");
    }
    say(&mut socket, 1, &id);
    assert_eq!(socket.next("ack")["error"]["code"], "too_old");
    let (_, welcome) = Socket::hello(&server, &minji, None);
    assert_eq!(welcome["n"], 66);
    server.is_sound();
}

#[test]
fn who_never_says_hello_or_falls_silent_is_let_go() {
    let options = ieum_gateway::Options { silence: Duration::from_secs(1), ..crate::node::options() };
    let server = Server::with(options);
    let minji = Person::register(&server, "minji");
    let begun = Instant::now();
    let mut mute = Socket::open(&server);
    assert_eq!(mute.bye()["code"], "hello_first");
    let mut silent = Socket::live(&server, &minji);
    // Pings of WebSocket itself are no sign of life of the client.
    silent.send(&frame(0x89, b"x"));
    let bye: Value = silent.bye();
    assert_eq!((&bye["code"], bye["retry_after_ms"].is_u64()), (&json!("silent"), true));
    assert!(begun.elapsed() < Duration::from_secs(15));
}

/// A rate of none: what was saved up is all there is.
#[test]
fn who_sends_too_much_is_not_read_and_still_told() {
    let mut options = crate::node::options();
    options.limits.frames = ieum_gateway::options::Rate { per_second: 0, burst: 4 };
    let server = Server::with(options);
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let mut floods = Socket::live(&server, &dohyun);
    let ping = |id: u32| format!(r#"{{"ping":{{"id":{id}}}}}{}"#, " ".repeat(4_000));
    for id in 1..=20 {
        floods.say(&ping(id));
    }
    // With hello these are four.
    assert_eq!([(); 3].map(|()| floods.next("pong")["id"].clone()), [1, 2, 3]);
    let opened = minji.change(&server, &json!({"open_direct": {"handle": dohyun.handle}}));
    let room = opened.ok()["ok"]["room"].clone();
    let said = minji.change(&server, &json!({"send": {"room": room, "text": "still there?"}}));
    assert_eq!(said.status, 200);
    let mut told = String::new();
    while !told.contains("still there?") {
        match floods.get() {
            Got::Text(frame) if frame.get("events").is_some() => told = frame.to_string(),
            other => panic!("{other:?}"),
        }
    }
    // Nor does it stay when it must go.
    server.gateway.stop();
    match floods.get() {
        Got::Text(frame) => assert_eq!(frame["bye"]["code"], "shutting_down"),
        other => panic!("{other:?}"),
    }
}

/// A rate of none: what was saved up is all there is. That the bound for silence ends the wait shows that nothing is read any more.
#[test]
fn who_is_refused_all_the_time_is_not_read() {
    let mut options = ieum_gateway::Options { silence: Duration::from_secs(2), ..crate::node::options() };
    options.limits.frames = ieum_gateway::options::Rate { per_second: 0, burst: 300 };
    let server = Server::with(options);
    let minji = Person::register(&server, "minji");
    let mut socket = Socket::live(&server, &minji);
    for _ in 0..15 {
        let change = json!({"set_name": {"name": "x"}});
        socket.say(&json!({"cmd": {"n": 99, "id": fresh(), "do": change}}).to_string());
    }
    for _ in 0..15 {
        assert_eq!(socket.next("refused")["error"]["code"], "out_of_order");
    }
    socket.say(&json!({"ping": {"id": 1}}).to_string());
    let Got::Text(frame) = socket.get() else { panic!("the session goes on or ends without a word") };
    assert_eq!(frame["bye"]["code"], "silent", "{frame}");
}
