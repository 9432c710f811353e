//! A node whose log takes nothing says so.

use std::time::{Duration, Instant};

use ieum_gateway::Options;
use serde_json::json;

use crate::http::{Person, fresh};
use crate::node::{Server, options};
use crate::socket::Socket;

#[test]
fn every_session_is_told_of_a_stall_within_two_seconds() {
    let server = Server::start();
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let [mut idle, mut asking] = [&minji, &dohyun].map(|person| Socket::live(&server, person));
    let held = Instant::now();
    server.hold_log(true);
    asking.command(&json!({"set_name": {"name": "D"}}));
    // The bound that is promised is 2 s; the test is given more, so that a slow machine fails nothing, and less than the 20 s after which
    // reading gives up.
    for (socket, code) in [(&mut idle, "unavailable"), (&mut asking, "outcome_unknown")] {
        let bye = socket.bye();
        assert_eq!(bye["code"], code);
        assert!(bye["retry_after_ms"].as_u64().is_some());
        assert_eq!(bye["endpoints"], json!(["http://127.0.0.1:1", "https://b.example"]));
        assert!(held.elapsed() < Duration::from_secs(10), "{:?}", held.elapsed());
    }
    // Who comes now is told too, over HTTP as well; reads are answered and marked.
    let mut late = Socket::open(&server);
    late.say(&json!({"hello": {"device": minji.device, "secret": minji.secret}}).to_string());
    assert_eq!(late.bye()["code"], "unavailable");
    let refused = minji.change(&server, &json!({"set_name": {"name": "M"}}));
    assert_eq!(refused.error(), (503, "unavailable"));
    assert_eq!(refused.body["endpoints"].as_array().unwrap().len(), 2);
    let read = minji.get(&server, "/v1/me");
    assert_eq!((read.status, read.header("ieum-stale")), (200, Some("true")));
    let missing = minji.get(&server, "/v1/rooms/7");
    assert_eq!((missing.error().1, missing.header("ieum-stale")), ("room_unknown", Some("true")));
    // When the log goes on, so does everything; what was in doubt took effect.
    server.hold_log(false);
    let until = Instant::now() + Duration::from_secs(20);
    while minji.get(&server, "/v1/me").header("ieum-stale").is_some() {
        assert!(Instant::now() < until);
    }
    Socket::live(&server, &minji);
    assert_eq!(dohyun.get(&server, "/v1/me").ok()["person"]["name"], "D");
    server.is_sound();
}

/// To those who wait it is the same whether nothing is applied or nothing that is applied arrives.
#[test]
fn every_session_is_told_when_nothing_is_delivered() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let mut idle = Socket::live(&server, &minji);
    server.hold_delivery(true);
    assert_eq!(idle.bye()["code"], "unavailable");
    server.hold_delivery(false);
    server.is_sound();
}

#[test]
fn a_delivery_that_hangs_from_its_first_batch_on_is_told() {
    let mut server = Server::start();
    let minji = Person::register(&server, "minji");
    server.address = server.gateway_without_delivery();
    let mut socket = Socket::open(&server);
    socket.say(&json!({"hello": {"device": minji.device, "secret": minji.secret}}).to_string());
    assert_eq!(socket.bye()["code"], "unavailable");
}

/// Whatever else the node has noticed: behind a freeze of its process that is nothing yet.
#[test]
fn reads_are_marked_by_the_age_of_what_proves_them() {
    let long = Duration::from_secs(1_000);
    let server = Server::with(Options { stall_after: long, standstill_after: long, ..options() });
    let minji = Person::register(&server, "minji");
    let is_marked = |marked: bool| {
        let until = Instant::now() + Duration::from_secs(20);
        while minji.get(&server, "/v1/me").header("ieum-stale").is_some() != marked {
            assert!(Instant::now() < until, "not {marked}");
        }
    };
    is_marked(false);
    server.hold_log(true);
    is_marked(true);
    server.hold_log(false);
    is_marked(false);
}

#[test]
fn who_says_hello_to_a_server_that_stops_is_sent_away() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let mut late = Socket::open(&server);
    server.gateway.stop();
    late.say(&json!({"hello": {"device": minji.device, "secret": minji.secret}}).to_string());
    assert_eq!(late.bye()["code"], "shutting_down");
}

#[test]
fn a_node_behind_what_was_seen_names_others() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let ahead = "1.999999";
    let mut socket = Socket::open(&server);
    let hello = json!({"hello": {"device": minji.device, "secret": minji.secret, "seen": ahead}});
    socket.say(&hello.to_string());
    let bye = socket.bye();
    assert_eq!((&bye["code"], bye["endpoints"].as_array().unwrap().len()), (&json!("behind"), 2));
    // Every address of /v1 honours it, also those that need no token.
    let key = fresh();
    for (method, path, body) in [
        ("GET", "/v1/me", String::new()),
        ("POST", "/v1/tokens", json!({"device": minji.device, "secret": minji.secret}).to_string()),
        ("POST", "/v1/accounts", crate::http::registration("late", &crate::http::secret()).to_string()),
        ("POST", "/v1/devices", json!({}).to_string()),
    ] {
        let answer = minji.call(&server, method, path, &[("ieum-seen", ahead), ("idempotency-key", &key)], &body);
        assert_eq!(answer.error(), (503, "behind"), "{path}");
        assert_eq!(answer.body["endpoints"].as_array().unwrap().len(), 2, "{path}");
    }
    for bad in ["1", "x", "1.x", "-1.1", "1.18446744073709551616", "99999999999.1"] {
        let answer = minji.call(&server, "POST", "/v1/tokens", &[("ieum-seen", bad)], "{}");
        assert_eq!(answer.error(), (400, "bad_request"), "{bad}");
    }
}

#[test]
fn a_server_that_stops_or_is_full_names_others() {
    let mut options = options();
    options.limits.sessions = 1;
    let server = Server::with(options);
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let mut first = Socket::live(&server, &minji);
    let mut full = Socket::open(&server);
    full.say(&json!({"hello": {"device": dohyun.device, "secret": dohyun.secret}}).to_string());
    let bye = full.bye();
    assert_eq!((&bye["code"], bye["endpoints"].as_array().unwrap().len()), (&json!("too_many_sessions"), 2));
    // A device that replaces its own session takes no more room.
    let mut second = Socket::live(&server, &minji);
    assert_eq!(first.bye()["code"], "replaced");
    server.gateway.stop();
    let bye = second.bye();
    assert_eq!((&bye["code"], bye["endpoints"].as_array().unwrap().len()), (&json!("shutting_down"), 2));
}
