//! What makes the cell do more costs its device more, and imports stop nobody's messages.

use std::time::Duration;

use ieum_gateway::Options;
use ieum_gateway::options::{Limits, Rate};
use serde_json::{Value, json};

use crate::http::{Person, fresh};
use crate::node::{Server, options};
use crate::socket::Socket;

fn archive(socket: &mut Socket) -> u64 {
    socket.done(&json!({"open_archive": {"key": fresh(), "name": "old"}}))["ok"]["room"].as_u64().unwrap()
}

fn entries(room: u64, count: usize) -> Value {
    let entry = |_| json!({"key": fresh(), "time": 1, "author": "a", "kind": "text", "text": "x"});
    json!({"add_to_archive": {"room": room, "entries": (0..count).map(entry).collect::<Vec<_>>()}})
}

#[test]
fn what_makes_the_cell_do_more_costs_more() {
    let commands = Rate { per_second: 1, burst: 80 };
    let server = Server::with(Options { limits: Limits { commands, ..options().limits }, ..options() });
    let minji = Person::register(&server, "minji");
    let mut socket = Socket::live(&server, &minji);
    let room = archive(&mut socket);
    assert_eq!(socket.done(&entries(room, 500))["ok"]["added"], 500);
    socket.command(&entries(room, 500));
    let refused = socket.next("refused");
    assert_eq!(refused["error"]["code"], "rate_limited");
    // Twenty-one tokens are missing, or a little less by now.
    let wait = refused["error"]["retry_after_ms"].as_u64().unwrap();
    assert!((2_000..=21_001).contains(&wait), "{wait}");
}

#[test]
fn messages_are_taken_while_imports_flood() {
    let patient = Duration::from_secs(3_600);
    let server = Server::with(Options { stall_after: patient, standstill_after: patient, ..options() });
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let (mut importer, mut writer) = (Socket::live(&server, &minji), Socket::live(&server, &dohyun));
    let room = archive(&mut importer);
    let direct = writer.done(&json!({"open_direct": {"handle": minji.handle}}))["ok"]["room"].as_u64().unwrap();
    server.hold_log(true);
    for _ in 0..10 {
        importer.command(&entries(room, 100));
    }
    let refused = importer.next("refused");
    assert_eq!(refused["error"]["code"], "busy", "{refused}");
    let sent = writer.command(&json!({"send": {"room": direct, "text": "hello"}}));
    server.hold_log(false);
    assert_eq!(writer.next("ack")["n"], sent);
    server.is_sound();
}
