//! Who reads much, hangs or goes away takes nothing from others.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ieum_core::ids::{DeviceId, RoomId};
use ieum_core::tables::accounts::DEVICES;
use ieum_core::tables::rooms::ROOMS;
use ieum_gateway::options::Turns;
use serde_json::json;

use crate::http::{PASSWORD, Person, answer, connect, fresh, post, raw, request};
use crate::node::{Server, options};
use crate::socket::Socket;

/// A figure of `/metrics`.
pub(crate) fn figure(server: &Server, name: &str) -> u64 {
    let mut stream = connect(server);
    stream.write_all(&request("GET", "/metrics", &[("connection", "close")], b"")).unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("ieum_{name} ")));
    line.unwrap_or_else(|| panic!("{name} in {page}")).parse().unwrap()
}

/// Waits until a figure stands where it must come to.
#[track_caller]
pub(crate) fn until(server: &Server, name: &str, value: u64) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let now = figure(server, name);
        if now == value {
            return;
        }
        assert!(Instant::now() < end, "{name} is {now}, not {value}");
    }
}

/// Holds whoever reads of room 7, and asks for it so many times at once.
fn ask_for_room_7(server: &Server, person: &Person, times: usize) -> Vec<TcpStream> {
    let asking = request("GET", "/v1/rooms/7", &[("authorization", &person.bearer())], b"");
    let ask = |_| {
        let mut stream = connect(server);
        stream.write_all(&asking).unwrap();
        stream
    };
    (0..times).map(ask).collect()
}

#[test]
fn devices_come_in_while_reads_take_all_threads_that_they_may() {
    let mut options = options();
    let (threads, all) = (options.reads.at_once, options.threads() + 8);
    options.reads.account = None;
    options.reads.address = None;
    let server = Server::with(options);
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    server.hold_row(ROOMS.key(&RoomId(7)));
    let mut asking = ask_for_room_7(&server, &minji, all);
    until(&server, "reads_under_way", all as u64);
    for _ in 0..20 {
        Socket::live(&server, &dohyun);
    }
    assert!(server.row_reads() <= threads, "{} reads at once", server.row_reads());
    server.release_row();
    for stream in &mut asking {
        assert_eq!(answer(stream).unwrap().error(), (404, "room_unknown"));
    }
    assert_eq!((server.row_reads(), figure(&server, "reads_refused_total")), (all, 0), "they waited their turn");
}

#[test]
fn one_account_takes_some_turns_and_leaves_the_others() {
    let options = options();
    let Turns { at_once, waiting } = options.reads.account.unwrap();
    let server = Server::with(options);
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    server.hold_row(ROOMS.key(&RoomId(7)));
    let mut asking = ask_for_room_7(&server, &minji, at_once + waiting + 5);
    until(&server, "reads_limited_total", 5);
    until(&server, "reads_under_way", (at_once + waiting) as u64);
    assert!(server.row_reads() <= at_once);
    assert_eq!(dohyun.get(&server, "/v1/me").ok()["person"]["name"], "dohyun");
    server.release_row();
    let answers: Vec<_> = asking.iter_mut().map(|stream| answer(stream).unwrap()).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 404).collect();
    assert_eq!(refused.len(), 5);
    for answer in refused {
        assert_eq!(answer.error(), (429, "rate_limited"), "another server is no better for them");
        assert!(answer.body["retry_after_ms"].as_u64().is_some() && answer.header("retry-after").is_some());
    }
    assert_eq!(minji.get(&server, "/v1/me").status, 200, "what was taken is given back");
    until(&server, "reads_under_way", 0);
    assert_eq!(figure(&server, "reads_refused_total"), 0);
}

#[test]
fn who_comes_when_the_server_has_too_much_to_do_is_told_so() {
    let mut options = options();
    (options.reads.at_once, options.reads.waiting) = (1, 3);
    let server = Server::with(options);
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    server.hold_row(ROOMS.key(&RoomId(7)));
    // Whose turn is over is inside for a moment longer: one more than ask at first has room.
    let _asking = ask_for_room_7(&server, &minji, 3);
    until(&server, "reads_under_way", 3);
    let end = Instant::now() + Duration::from_secs(20);
    while server.row_reads() == 0 {
        assert!(Instant::now() < end, "nobody reads of the room");
    }
    let _behind = ask_for_room_7(&server, &dohyun, 1);
    until(&server, "reads_under_way", 4);
    assert_eq!(dohyun.get(&server, "/v1/me").error(), (503, "busy"));
    assert_eq!(["reads_refused_total", "reads_limited_total"].map(|name| figure(&server, name)), [1, 0]);
    server.release_row();
}

#[test]
fn nothing_is_read_for_those_who_have_gone_while_they_waited() {
    let mut options = options();
    options.reads.account = Some(Turns { at_once: 1, waiting: 64 });
    options.reads.address = Some(Turns { at_once: 1, waiting: 64 });
    let server = Server::with(options);
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    server.hold_row(ROOMS.key(&RoomId(7)));
    let mut asking = ask_for_room_7(&server, &minji, 11);
    until(&server, "reads_under_way", 11);
    // Behind the looks at all of their tokens: then those who are in the lane wait for the room.
    assert_eq!(dohyun.get(&server, "/v1/me").status, 200);
    until(&server, "reads_under_way", 11);
    // One has said all that they have to say and still listens. The others go; which of them has the thread does not matter.
    let mut listening = asking.remove(10);
    listening.shutdown(std::net::Shutdown::Write).unwrap();
    drop(asking);
    // The server learns what happens to its connections in the order that it happens.
    assert_eq!(raw(&server, &request("GET", "/healthz", &[], b"")).status, 200);
    server.release_row();
    until(&server, "reads_under_way", 0);
    let answered = answer(&mut listening).unwrap();
    assert!([(404, "room_unknown"), (503, "busy")].contains(&answered.error()), "{answered:?}");
    assert_eq!((server.row_reads(), figure(&server, "reads_abandoned_total")), (1, 10));
}

#[test]
fn reads_are_answered_while_hellos_take_all_threads_that_they_may_and_hellos_wait() {
    let server = Server::start();
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    server.hold_row(DEVICES.key(&DeviceId(dohyun.device)));
    let hello = json!({"hello": {"device": dohyun.device, "secret": dohyun.secret}}).to_string();
    let mut waiting: Vec<Socket> = (0..40).map(|_| Socket::open(&server)).collect();
    waiting.iter_mut().for_each(|socket| socket.say(&hello));
    until(&server, "hellos_under_way", 40);
    assert_eq!(minji.get(&server, "/v1/me").ok()["person"]["name"], "minji");
    server.release_row();
    until(&server, "hellos_under_way", 0);
    assert_eq!(figure(&server, "hellos_refused_total"), 0, "they waited their turn");
    until(&server, "sessions", 1);
    Socket::live(&server, &minji);
}

#[test]
fn catch_ups_of_one_account_take_turns_and_leave_the_others() {
    let options = ieum_gateway::Options { catch_ups: Turns { at_once: 1, waiting: 0 }, ..options() };
    let server = Server::with(options);
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let secret = crate::http::secret();
    let laptop = json!({"handle": "minji", "password": PASSWORD, "device": "laptop", "secret": secret});
    let made = post(&server, "/v1/devices", &[("idempotency-key", &fresh())], &laptop).ok();
    let laptop = Person::at(&server, "minji", &made, secret);
    let mut writes = Socket::live(&server, &minji);
    let talks = writes.done(&json!({"open_direct": {"handle": dohyun.handle}}))["ok"]["room"].clone();
    for _ in 0..20 {
        writes.done(&json!({"send": {"room": talks, "text": "x".repeat(10_000)}}));
    }
    // Behind more than is told in one part.
    let group = writes.done(&json!({"create_group": {"name": "last", "handles": []}}))["ok"]["room"].as_u64().unwrap();
    server.hold_row(ROOMS.key(&RoomId(group)));
    let (mut first, _) = Socket::hello(&server, &minji, None);
    first.next("catch_up");
    let end = Instant::now() + Duration::from_secs(20);
    while server.row_reads() == 0 {
        assert!(Instant::now() < end, "its catch-up does not get there");
    }
    let (mut second, _) = Socket::hello(&server, &laptop, None);
    assert_eq!(second.bye()["code"], "rate_limited");
    assert_eq!(figure(&server, "hellos_limited_total"), 1);
    Socket::live(&server, &dohyun);
    server.release_row();
}
