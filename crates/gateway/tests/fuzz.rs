//! What clients send, damaged. Frames first as texts, then everything, HTTP and WebSocket, as bytes on a real connection: each is answered
//! or ended, nothing panics, and no answer says that we are at fault.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ieum_core::batch::{Envelope, Origin};
use ieum_core::codec::Code as _;
use ieum_core::ids::DeviceId;
use ieum_fuzz::{Heap, Target, alone};
use ieum_gateway::map::changes;
use ieum_gateway::session::hello::Asked;
use ieum_gateway::session::parse;
use ieum_protocol::frames::ClientFrame;

#[global_allocator]
static HEAP: Heap = Heap;

const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn frames() -> Vec<Vec<u8>> {
    let id = "0123456789abcdef0123456789abcdef";
    let mut frames = vec![
        format!(
            r#"{{"hello":{{"device":1099511627777,"secret":"{SECRET}","cursor":"1.5","seen":"1.2","client":"t"}}}}"#
        ),
        r#"{"ping":{"id":3}}"#.to_owned(),
        r#"{"typing":{"room":3}}"#.to_owned(),
    ];
    let entry = format!(r#"{{"key":"{id}","time":1,"author":"민지","kind":"text","text":"hi"}}"#);
    for change in [
        r#"{"send":{"room":1,"text":"안녕 👍","reply_to":2}}"#,
        r#"{"edit":{"room":1,"seq":2,"text":"x"}}"#,
        r#"{"delete":{"room":1,"seq":2}}"#,
        r#"{"read":{"room":1,"seq":2}}"#,
        r#"{"open_direct":{"handle":"minji"}}"#,
        r#"{"create_group":{"name":"팀","handles":["minji","dohyun","minji"]}}"#,
        r#"{"invite":{"room":1,"handles":["minji","x"]}}"#,
        r#"{"leave":{"room":1}}"#,
        r#"{"remove":{"room":1,"user":2}}"#,
        r#"{"rename":{"room":1,"name":"x"}}"#,
        r#"{"give_role":{"room":1,"user":2,"role":"manager"}}"#,
        r#"{"set_name":{"name":"x"}}"#,
        r#"{"log_out":{"device":2}}"#,
        &format!(r#"{{"open_archive":{{"key":"{id}","name":"x"}}}}"#),
        &format!(r#"{{"add_to_archive":{{"room":1,"entries":[{entry},{entry}]}}}}"#),
    ] {
        frames.push(format!(r#"{{"cmd":{{"n":1,"id":"{id}","do":{change}}}}}"#));
    }
    frames.into_iter().map(String::into_bytes).collect()
}

#[test]
fn damaged_frames() {
    let alone = alone();
    let samples = frames();
    Target { name: "client frame", samples: &samples, cases: 20_000, memory: 1 << 18, per_byte: 300 }.run(
        &alone,
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let Ok(frame) = parse(&text) else { return };
            assert_eq!(parse(&serde_json::to_string(&frame).unwrap()).as_ref(), Ok(&frame));
            match frame {
                ClientFrame::Hello(hello) => drop(Asked::of(hello)),
                ClientFrame::Cmd(cmd) => {
                    let Ok(id) = changes::hex16(&cmd.id) else { return };
                    let Ok(command) = changes::command(cmd.change) else { return };
                    let envelope =
                        Envelope { origin: Origin::Device { device: DeviceId(1), number: cmd.n, id }, command };
                    assert_eq!(Envelope::from_bytes(&envelope.to_bytes()), Ok(envelope));
                }
                ClientFrame::Ping(_) | ClientFrame::Typing(_) => {}
            }
        },
    );
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A WebSocket frame of a client, masked with zeros.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn requests(token: &str) -> Vec<Vec<u8>> {
    let signed = format!("authorization: Bearer {token}\r\nieum-seen: 1.1\r\n");
    let keyed = format!("{signed}idempotency-key: abc-123\r\n");
    let register =
        format!(r#"{{"handle":"dohyun","name":"도현","password":"a good one","device":"phone","secret":"{SECRET}"}}"#);
    let sign_in = format!(r#"{{"handle":"minji","password":"a good one","device":"laptop","secret":"{SECRET}"}}"#);
    let mut requests = vec![
        request("POST", "/v1/accounts", "idempotency-key: first\r\n", &register),
        request("POST", "/v1/devices", "idempotency-key: second\r\n", &sign_in),
        request("POST", "/v1/tokens", "", &format!(r#"{{"device":1099511627777,"secret":"{SECRET}"}}"#)),
        request("PUT", "/v1/me/password", &keyed, r#"{"old":"a good one","new":"a better one"}"#),
        request("POST", "/v1/changes", &keyed, r#"{"open_direct":{"handle":"minji"}}"#),
        request("DELETE", "/v1/devices/1099511627779", &keyed, ""),
    ];
    for path in [
        "/v1/me",
        "/v1/devices",
        "/v1/users?handle=minji",
        "/v1/users/1099511627777",
        "/v1/rooms?after=3&limit=20",
        "/v1/rooms/1099511627777",
        "/v1/rooms/1099511627777/messages?before=9&limit=5",
        "/v1/rooms/1099511627777/messages?after=1",
        "/v1/rooms/1099511627777/members",
        "/v1/rooms/1099511627777/receipts",
        "/problems/busy",
    ] {
        requests.push(request("GET", path, &signed, ""));
    }
    let upgrade = "GET /v1/socket HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: ieum.v1\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for frame in frames().iter().skip(1) {
        requests.push([upgrade.as_bytes(), &masked(&frames()[0]), &masked(frame)].concat());
    }
    requests
}

/// Sends `bytes`, says no more, and gives what came back.
fn exchange(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(15))).unwrap();
    let mut back = Vec::new();
    // The server may have had enough before it was told everything.
    let _either = stream.write_all(bytes);
    let _either = stream.read_to_end(&mut back);
    let _either = stream.shutdown(Shutdown::Write);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ended = stream.read_to_end(&mut back).err().map(|error| error.kind());
    assert_ne!(ended, Some(std::io::ErrorKind::WouldBlock), "the server holds on to a connection that is half closed");
    back
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn damaged_bytes_on_a_connection() {
    let alone = alone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
    let server = support::serve(SECRET);
    let token = exchange(server, &requests("")[2]);
    let token =
        String::from_utf8(token).unwrap().split("\"token\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let samples = requests(&token);
    let mut answered = 0;
    Target { name: "connection", samples: &samples, cases: 500, memory: 16 << 20, per_byte: 64 }.run(&alone, |bytes| {
        let answer = exchange(server, bytes);
        let status = status(&answer);
        assert!(answer.is_empty() || status.is_some_and(|status| status < 500 || status == 503), "{status:?}");
        assert_eq!(PANICS.load(Ordering::Relaxed), 0, "a task of the server panicked");
        answered += usize::from(status == Some(200));
    });
    assert!(answered > samples.len() / 3, "most are refused for a reason of the test's own");
}
