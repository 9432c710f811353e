//! Connections that are slow, half closed, or too many.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::{Person, answer, connect, request};
use crate::node::{Server, options};
use crate::socket::{Got, Socket};

/// Reads until the server ends the connection, which it must.
fn ends(stream: &mut std::net::TcpStream) -> Vec<u8> {
    let (mut all, mut some) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut some) {
            Ok(0) => return all,
            Ok(bytes) => all.extend_from_slice(&some[..bytes]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("the connection goes on: {error}"),
        }
    }
}

#[test]
fn a_head_or_a_body_that_does_not_come_is_given_up() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let mut nothing = connect(&server);
    let mut head = connect(&server);
    head.write_all(b"GET /v1/me HTTP/1.1\r\nhost: ieum\r\nx-slow: ").unwrap();
    let mut body = connect(&server);
    let headers = [("authorization", minji.bearer()), ("idempotency-key", "k".to_owned())];
    let mut announced = request("POST", "/v1/changes", &headers.each_ref().map(|(n, v)| (*n, v.as_str())), b"");
    announced.splice(announced.len() - 2.., *b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{");
    body.write_all(&announced).unwrap();
    assert_eq!(answer(&mut body).unwrap().error(), (408, "too_slow"));
    ends(&mut head);
    ends(&mut nothing);
    // A connection that is kept for more requests is not kept for ever.
    let mut idle = connect(&server);
    idle.write_all(&request("GET", "/problems/busy", &[], b"")).unwrap();
    assert_eq!(answer(&mut idle).unwrap().status, 200);
    ends(&mut idle);
}

#[test]
fn one_address_has_so_many_connections_and_no_more() {
    let mut options = options();
    options.limits.sessions_per_address = 3;
    let server = Server::with(options);
    let mut held = [(); 3].map(|()| connect(&server));
    for stream in &mut held {
        stream.write_all(&request("GET", "/problems/busy", &[], b"")).unwrap();
        assert_eq!(answer(stream).unwrap().status, 200);
    }
    let mut fourth = connect(&server);
    let _ = fourth.write_all(&request("GET", "/problems/busy", &[], b""));
    assert_eq!(ends(&mut fourth), b"");
    // One that goes makes room; the server learns of it when it reads.
    drop(held);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let mut stream = connect(&server);
        let _ = stream.write_all(&request("GET", "/problems/busy", &[], b""));
        if answer(&mut stream).is_some() {
            return;
        }
        assert!(Instant::now() < until, "the room is not given back");
    }
}

#[test]
fn who_said_hello_takes_no_room_from_who_did_not() {
    let mut options = options();
    options.limits.sessionless_per_address = 6;
    let server = Server::with(options);
    let people: Vec<_> = (0..10).map(|number| Person::register(&server, &format!("person{number}"))).collect();
    let mut sessions: Vec<_> = people.iter().map(|person| Socket::live(&server, person)).collect();
    let mut others: Vec<_> = (0..8).map(|_| connect(&server)).collect();
    let answered = others.iter_mut().filter_map(|stream| {
        let _ = stream.write_all(&request("GET", "/problems/busy", &[], b""));
        answer(stream)
    });
    assert!(answered.count() <= 6);
    for session in &mut sessions {
        session.done(&json!({"set_name": {"name": "here"}}));
    }
}

#[test]
fn a_probe_keeps_no_connection() {
    let server = Server::start();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let mut stream = connect(&server);
        stream.write_all(&request("GET", path, &[], b"").repeat(2)).unwrap();
        let all = String::from_utf8(ends(&mut stream)).unwrap();
        assert_eq!((all.matches("HTTP/1.1 200").count(), all.matches("connection: close").count()), (1, 1), "{all}");
    }
}

#[test]
fn a_half_closed_session_ends_and_its_commands_count() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let mut socket = Socket::live(&server, &minji);
    socket.command(&json!({"set_name": {"name": "Half"}}));
    socket.stream.shutdown(Shutdown::Write).unwrap();
    while socket.get() != Got::End {}
    let until = Instant::now() + Duration::from_secs(20);
    while minji.get(&server, "/v1/me").ok()["person"]["name"] != "Half" || server.gateway.sessions() > 0 {
        assert!(Instant::now() < until);
    }
}

#[test]
fn a_client_that_never_reads_is_let_go_and_holds_up_nobody() {
    let mut options = options();
    options.queue_items = 256;
    options.queue_bytes = 512 * 1024;
    let server = Server::with(options);
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let mut talks = Socket::live(&server, &minji);
    let room = talks.done(&json!({"open_direct": {"handle": dohyun.handle}}))["ok"]["room"].clone();
    let mut deaf = Socket::live(&server, &dohyun);
    let text = "x".repeat(10_000);
    let mut sent = 0;
    let until = Instant::now() + Duration::from_secs(60);
    while server.gateway.sessions() > 1 {
        assert!(Instant::now() < until, "{sent} messages and still there");
        assert!(talks.done(&json!({"send": {"room": room, "text": text}})).get("ok").is_some());
        sent += 1;
    }
    // What it was sent before is whole and without a hole; then it ends.
    let mut next = 1;
    loop {
        match deaf.get() {
            Got::Text(frame) => {
                for event in frame["events"]["list"].as_array().into_iter().flatten() {
                    if let Some(seq) = event["message"]["seq"].as_u64() {
                        assert_eq!(seq, next);
                        next += 1;
                    }
                }
            }
            Got::Close => {}
            Got::End => break,
        }
    }
    assert!(next <= sent, "{next} of {sent}");
    // And one that reads nothing of a large answer over HTTP.
    let mut unread = connect(&server);
    let many: Vec<u8> = (0..100)
        .flat_map(|_| {
            let path = format!("/v1/rooms/{room}/messages?limit=200");
            request("GET", &path, &[("authorization", &minji.bearer())], b"")
        })
        .collect();
    unread.write_all(&many).unwrap();
    assert!(ends_unread(&mut unread), "it goes on");
    server.is_sound();
}

/// Whether the server gives up a connection whose client reads nothing: writing to it fails in the end.
fn ends_unread(stream: &mut std::net::TcpStream) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if stream.write_all(b"GET / HTTP/1.1\r\nhost: ieum\r\n\r\n").is_err() {
            return true;
        }
    }
    false
}
