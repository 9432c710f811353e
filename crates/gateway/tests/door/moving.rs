//! Clients hear where else they may go, and go there when they are sent.

use std::time::Duration;

use ieum_gateway::Options;
use serde_json::json;

use crate::http::{Person, raw, request};
use crate::node::{Server, options};
use crate::socket::{Got, Socket};

const ELSEWHERE: &str = "https://c.example";

/// What the server says next, whatever it is.
fn next(socket: &mut Socket) -> serde_json::Value {
    match socket.get() {
        Got::Text(frame) => frame,
        other => panic!("{other:?}"),
    }
}

#[test]
fn new_endpoints_come_with_the_next_pong_and_once() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let mut socket = Socket::live(&server, &minji);
    let mut ping = |id: u64, server: &Server| {
        socket.say(&json!({"ping": {"id": id}}).to_string());
        assert_eq!(socket.next("pong")["id"], id);
        server.gateway.sessions()
    };
    ping(1, &server);
    server.gateway.set_elsewhere(&[ELSEWHERE]);
    ping(2, &server);
    let all = json!({"endpoints": {"list": ["http://127.0.0.1:1", "https://b.example", ELSEWHERE]}});
    assert_eq!(next(&mut socket), all);
    server.gateway.set_elsewhere(&[ELSEWHERE]);
    for id in [3, 4] {
        socket.say(&json!({"ping": {"id": id}}).to_string());
        let pong = next(&mut socket);
        assert_eq!(pong["pong"]["id"], id, "nothing is new: {pong}");
    }
    // Who comes now has it from the welcome.
    let (mut late, welcome) = Socket::hello(&server, &minji, None);
    assert_eq!(welcome["endpoints"], all["endpoints"]["list"]);
    late.next("caught_up");
    late.say(&json!({"ping": {"id": 5}}).to_string());
    assert_eq!(next(&mut late)["pong"]["id"], 5);
    late.say(&json!({"ping": {"id": 6}}).to_string());
    assert_eq!(next(&mut late)["pong"]["id"], 6);
}

/// A test that holds the log, where that is no stall.
fn patient() -> Options {
    let long = Duration::from_secs(1_000);
    Options { stall_after: long, standstill_after: long, drain_patience: long, ..options() }
}

#[test]
fn who_is_sent_elsewhere_has_what_was_under_way_answered_first() {
    let server = Server::with(patient());
    server.gateway.set_elsewhere(&[ELSEWHERE]);
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let [mut idle, mut asking] = [&minji, &dohyun].map(|person| Socket::live(&server, person));
    server.hold_log(true);
    let n = asking.command(&json!({"set_name": {"name": "D"}}));
    asking.say(&json!({"ping": {"id": 1}}).to_string());
    asking.next("pong");
    let done = server.drain(Duration::ZERO);
    let bye = idle.bye();
    assert_eq!(
        (&bye["code"], &bye["retry_after_ms"], &bye["endpoints"]),
        (&json!("shutting_down"), &json!(0), &json!([ELSEWHERE]))
    );
    // Who comes now is sent on, and whoever asks whether it is ready hears that it is not.
    let mut late = Socket::open(&server);
    late.say(&json!({"hello": {"device": minji.device, "secret": minji.secret}}).to_string());
    let refused = late.bye();
    assert_eq!((&refused["code"], &refused["endpoints"]), (&json!("shutting_down"), &json!([ELSEWHERE])));
    assert_eq!(raw(&server, &request("GET", "/readyz", &[], b"")).status, 503);
    // Reads go on meanwhile.
    assert_eq!(minji.get(&server, "/v1/me").status, 200);
    assert!(done.try_recv().is_err(), "somebody waits for an answer");
    server.hold_log(false);
    assert_eq!(asking.next("ack")["n"], n);
    assert_eq!(asking.bye()["code"], "shutting_down");
    done.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(server.gateway.sessions(), 0);
    server.gateway.stop_draining();
    assert_eq!(raw(&server, &request("GET", "/readyz", &[], b"")).status, 200);
    Socket::live(&server, &minji);
}

#[test]
fn who_has_no_answer_in_time_goes_without_it() {
    let server = Server::with(Options { drain_patience: Duration::ZERO, ..patient() });
    let minji = Person::register(&server, "minji");
    let mut asking = Socket::live(&server, &minji);
    server.hold_log(true);
    asking.command(&json!({"set_name": {"name": "D"}}));
    asking.say(&json!({"ping": {"id": 1}}).to_string());
    asking.next("pong");
    let done = server.drain(Duration::ZERO);
    let bye = asking.bye();
    // There is no other server, so it comes back to this one, and not all at once.
    assert_eq!((&bye["code"], &bye["retry_after_ms"]), (&json!("shutting_down"), &json!(100)));
    done.recv_timeout(Duration::from_secs(20)).unwrap();
}
