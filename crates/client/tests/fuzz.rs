//! What a server sends and what a disk holds, damaged: the client passes over it, says what is wrong, or gives up the connection; it does
//! not panic, and takes no more memory than the bytes warrant.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ieum_client::machine::{Limits, Machine, Moment, Output, Settings, Timing};
use ieum_client::store::{Disk, Identity, Saved, Store, Write};
use ieum_client::{Command, CommandId, Endpoint, Http, NewAccount, Position, Trust};
use ieum_fuzz::{Heap, Random, Target, alone, damage};
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::Change;
use ieum_protocol::http;

#[global_allocator]
static HEAP: Heap = Heap;

fn samples(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn machine(saved: Saved) -> Machine {
    let settings = Settings {
        device: 7,
        secret: "secret".into(),
        client: None,
        endpoints: vec!["ws://a.test:1".parse().unwrap(), "ws://b.test:2".parse().unwrap()],
        home: Some("ws://b.test:2".parse().unwrap()),
        foreground: true,
        timing: Timing::default(),
        limits: Limits::default(),
    };
    Machine::new(settings, saved, None, Moment { now: 0, random: 0 })
}

fn say() -> Change {
    Change::Send { room: 1, text: "hi".into(), reply_to: None }
}

/// Does what the machine asks for, as often as a sound one asks.
fn settle(machine: &mut Machine, now: u64) {
    for _ in 0..1_000 {
        match machine.next_output() {
            Some(Output::Store(_)) => machine.stored(Moment { now, random: 3 }, Ok(())),
            Some(Output::Connect { line, .. }) => machine.connected(Moment { now, random: 3 }, line),
            Some(_) => {}
            None => return,
        }
    }
    panic!("the machine never comes to rest");
}

/// A frame comes on any connection that there may be.
fn heard(machine: &mut Machine, moment: Moment, text: &str) {
    for line in 1..20 {
        machine.frame(moment, line, text);
    }
}

const ROOM: &str = r#""room":{"id":1,"kind":"group","name":"팀","members":3,"role":"owner","from":1,"last":4,"last_time":9,"read":2,"unread":1}"#;

/// A frame of each kind that servers send.
fn frames() -> Vec<Vec<u8>> {
    let message = r#""seq":4,"from":2,"time":9,"text":"안녕","reply_to":3,"edited_at":10,"unread":1"#;
    let problem = serde_json::to_string(&Code::Busy.problem().detail("later")).unwrap();
    let catch_up = format!(
        r#"{{"catch_up":{{"rooms":[{{{ROOM},"fresh":true,"messages":[{{{message}}}],"gap":true,"changed":[{{"seq":1,"from":1,"time":1,"deleted":true}}],"receipts":[{{"user":2,"seq":3}}]}}],"left":[5,6]}}}}"#
    );
    let events = format!(
        r#"{{"events":{{"pos":"1.9","list":[{{"message":{{"room":1,{message}}}}},{{"changed":{{"room":1,{message}}}}},{{"receipt":{{"room":1,"user":2,"seq":3}}}},{{"joined":{{{ROOM}}}}},{{"left":{{"room":1}}}},{{"archived":{{"room":1,"last":3}}}},{{"devices":{{}}}},{{"profile":{{"name":"x"}}}},{{"message":{{"room":1,"seq":5,"from":1,"time":2,"system":{{"role_given":{{"user":3,"role":"manager"}}}}}}}}]}}}}"#
    );
    let mut frames = samples(&[
        r#"{"welcome":{"n":1,"pos":"1.5","user":3,"resync":true,"endpoints":["ws://c.test:3"],"takes":["typing","more"]}}"#,
        r#"{"typing":{"room":1,"user":2}}"#,
        r#"{"caught_up":{"pos":"1.6"}}"#,
        r#"{"ack":{"n":2,"pos":"1.7","ok":{"seq":4,"time":9,"room":1,"created":true,"added":2,"known":1}}}"#,
        r#"{"pong":{"id":1,"pos":"1.8"}}"#,
        r#"{"endpoints":{"list":["ws://c.test:3","wss://d.test"]}}"#,
        &catch_up,
        &events,
        &format!(r#"{{"refused":{{"n":2,"error":{problem}}}}}"#),
        &format!(r#"{{"ack":{{"n":2,"pos":"1.7","error":{problem}}}}}"#),
        &format!(r#"{{"bye":{problem}}}"#),
    ]);
    frames.push(br#"{"welcome":{"n":0,"pos":"2.1","user":3,"resync":false}}"#.to_vec());
    frames
}

#[test]
fn damaged_frames() {
    let alone = alone();
    let frames = frames();
    let mut next = 0;
    Target { name: "server frame", samples: &frames, cases: 6_000, memory: 1 << 20, per_byte: 600 }.run(
        &alone,
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            next += 1;
            let mut machine = machine(Saved { seen: Some(Position::read("1.4")), ..Saved::default() });
            machine.submit(CommandId(1), &say()).unwrap();
            machine.submit(CommandId(2), &say()).unwrap();
            machine.tick(Moment { now: 0, random: 1 });
            settle(&mut machine, 0);
            // Before the welcome, during the catch-up, or live.
            for good in &[&frames[0], &frames[1]][..next % 3] {
                heard(&mut machine, Moment { now: 1, random: 2 }, std::str::from_utf8(good).unwrap());
                settle(&mut machine, 1);
            }
            heard(&mut machine, Moment { now: 2, random: 3 }, &text);
            settle(&mut machine, 2);
            // Whatever it was, life goes on.
            let _either = machine.submit(CommandId(3), &say());
            for frame in &frames {
                heard(&mut machine, Moment { now: 3, random: 4 }, std::str::from_utf8(frame).unwrap());
                settle(&mut machine, 3);
            }
            for _ in 0..5 {
                let Some(deadline) = machine.deadline() else { break };
                machine.tick(Moment { now: deadline, random: 5 });
                settle(&mut machine, deadline);
            }
        },
    );
}

#[test]
fn damaged_answers() {
    let alone = alone();
    let problem = serde_json::to_string(&Code::RateLimited.problem()).unwrap();
    let message = r#"{"messages":[{"seq":1,"from":1,"time":1,"archived":{"author":"a","kind":"text","text":"b"}},{"seq":2,"from":1,"time":1,"system":{"invited":{"users":[1,2]}}}]}"#;
    let samples = samples(&[
        &problem,
        message,
        r#"{"user":1,"device":2,"secret":"x"}"#,
        r#"{"token":"abc","expires_in_ms":900000}"#,
        r#"{"devices":[{"id":1,"name":"phone","added_at":3,"this":true}]}"#,
        r#"{"people":[{"id":1,"handle":"minji","name":"민지"}]}"#,
        r#"{"members":[{"person":{"id":1,"handle":"minji","name":"민지"},"role":"owner","joined_at":1}]}"#,
        r#"{"receipts":[{"user":1,"seq":2}]}"#,
        r#"{"ok":{"room":1,"created":true}}"#,
        &format!(r#"{{"rooms":[{{{}}}],"next":4}}"#, ROOM.trim_start_matches("\"room\":{").trim_end_matches('}')),
    ]);
    Target { name: "answer", samples: &samples, cases: 20_000, memory: 1 << 18, per_byte: 600 }.run(&alone, |bytes| {
        fn same<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
            if let Ok(value) = serde_json::from_slice::<T>(bytes) {
                let again = serde_json::from_slice::<T>(&serde_json::to_vec(&value).unwrap()).unwrap();
                assert_eq!(again, value);
            }
        }
        same::<Problem>(bytes);
        same::<http::Messages>(bytes);
        same::<http::SignedIn>(bytes);
        same::<http::Token>(bytes);
        same::<http::Devices>(bytes);
        same::<http::People>(bytes);
        same::<http::Members>(bytes);
        same::<http::Receipts>(bytes);
        same::<http::Changed>(bytes);
        same::<http::Rooms>(bytes);
    });
}

#[test]
fn damaged_positions_endpoints_and_ids() {
    let alone = alone();
    let id = CommandId(0xab << 64).to_string();
    let samples =
        samples(&["1.27", "0.0", "4294967295.18446744073709551615", "wss://[::1]:443/v1/socket", "http://a.test", &id]);
    Target { name: "text", samples: &samples, cases: 30_000, memory: 1 << 16, per_byte: 16 }.run(&alone, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(Position::read(&text).to_string(), text);
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            assert_eq!(endpoint.to_string().parse::<Endpoint>().as_ref(), Ok(&endpoint));
        }
        if let Some(id) = CommandId::read(&text) {
            assert_eq!(id.to_string(), text);
        }
    });
}

/// Answers each request with what is said for the beginning of its path, and closes.
fn serve(answers: &'static Mutex<Vec<(&'static str, Vec<u8>)>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4_096];
            // A client that gave up is not answered.
            let Ok(length) = stream.read(&mut request) else { continue };
            let line = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let answers = answers.lock().unwrap();
            if let Some((_, answer)) = answers.iter().find(|(of, _)| path.starts_with(of)) {
                let _either = stream.write_all(answer);
            }
        }
    });
    address
}

fn answer(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\nieum-position: 1.5\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

static PANICS: AtomicUsize = AtomicUsize::new(0);
static ANSWERS: Mutex<Vec<(&str, Vec<u8>)>> = Mutex::new(Vec::new());

#[test]
fn damaged_answers_on_a_connection() {
    let alone = alone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
    let sound = [
        ("/v1/accounts", answer(r#"{"user":1,"device":2}"#)),
        ("/v1/tokens", answer(r#"{"token":"abc","expires_in_ms":900000}"#)),
        ("/v1/rooms", answer(r#"{"rooms":[],"next":4}"#)),
    ];
    let endpoint: Endpoint = format!("ws://{}", serve(&ANSWERS)).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut understood = 0;
    for (path, good) in &sound {
        let never = String::from_utf8(good.clone()).unwrap().replace("900000", "18446744073709551615");
        let samples = [good.clone(), never.into_bytes()];
        Target { name: path, samples: &samples, cases: 25, memory: 4 << 20, per_byte: 64 }.run(&alone, |bytes| {
            *ANSWERS.lock().unwrap() = sound.to_vec();
            ANSWERS
                .lock()
                .unwrap()
                .iter_mut()
                .filter(|(of, _)| of == path)
                .for_each(|(_, answer)| *answer = bytes.to_vec());
            let call = async {
                let http = Http::new(vec![endpoint.clone()], Trust::web());
                http.register(NewAccount { handle: "minji".into(), ..NewAccount::default() }).await?;
                http.rooms(None, None).await
            };
            // An answer that breaks off is asked for again, for longer than this test looks.
            let done = runtime.block_on(async { tokio::time::timeout(Duration::from_millis(40), call).await });
            understood += usize::from(matches!(done, Ok(Ok(_))));
            assert_eq!(PANICS.load(Ordering::Relaxed), 0, "a task of the client panicked");
        });
    }
    assert!(understood >= sound.len(), "not even a sound answer is understood");
}

fn stored(path: &std::path::Path) {
    let mut disk = Disk::open(path).unwrap();
    let command = |place: u64| {
        let body = serde_json::to_string(&say()).unwrap();
        Command { place, id: CommandId(u128::from(place) << 70), n: Some(place), body: body.into() }
    };
    disk.commit(&[
        Write::Identity(Identity { user: 1, device: 2, secret: "s".into() }),
        Write::Add(command(1)),
        Write::Add(command(2)),
        Write::Add(command(3)),
        Write::Answered { place: 1, n: 1, keep: true },
        Write::Cursor(Some(Position::read("1.7"))),
        Write::Seen(Position::read("1.9")),
        Write::Endpoints(vec!["ws://c.test:3".to_owned(), "ws://d.test:4".to_owned()]),
    ])
    .unwrap();
}

/// Opens the store, and has a client go on from it.
fn go_on(path: &std::path::Path) {
    let Ok(mut disk) = Disk::open(path) else { return };
    let (_either, Ok(saved)) = (disk.identity(), disk.load()) else { return };
    let mut machine = machine(saved);
    let _either = machine.submit(CommandId(9), &say());
    machine.tick(Moment { now: 0, random: 1 });
    settle(&mut machine, 0);
    for frame in frames() {
        heard(&mut machine, Moment { now: 1, random: 1 }, std::str::from_utf8(&frame).unwrap());
        settle(&mut machine, 1);
    }
}

#[test]
fn damaged_store_files() {
    let alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ieum");
    stored(&path);
    let samples = [std::fs::read(&path).unwrap()];
    let damaged = folder.path().join("b.ieum");
    Target { name: "store file", samples: &samples, cases: 150, memory: 1 << 20, per_byte: 8 }.run(&alone, |bytes| {
        for leftover in ["b.ieum", "b.ieum-wal", "b.ieum-journal"] {
            let _missing = std::fs::remove_file(folder.path().join(leftover));
        }
        std::fs::write(&damaged, bytes).unwrap();
        go_on(&damaged);
    });
}

/// A sound file whose rows say strange things.
#[test]
fn damaged_store_rows() {
    let alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ieum");
    stored(&path);
    let samples =
        samples(&["1", "3", "1.7", "18446744073709551615", "9223372036854775807", "{\"read\":{\"room\":1,\"seq\":1}}"]);
    let mut random = Random::new(7);
    Target { name: "store row", samples: &samples, cases: 150, memory: 1 << 20, per_byte: 8 }.run(&alone, |bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let copy = folder.path().join("b.ieum");
        let _missing = std::fs::remove_file(folder.path().join("b.ieum-wal"));
        std::fs::copy(&path, &copy).unwrap();
        let connection = rusqlite::Connection::open(&copy).unwrap();
        let name =
            *random.pick(&["user", "device", "secret", "last", "answered", "cursor", "seen", "endpoints"]).unwrap();
        let number = i64::from_le_bytes(
            damage(&mut random, &[1, 0, 0, 0, 0, 0, 0, 0], &[])
                .into_iter()
                .chain([0; 8])
                .take(8)
                .collect::<Vec<_>>()
                .try_into()
                .unwrap(),
        );
        connection.execute("REPLACE INTO facts (name, value) VALUES (?1, ?2)", [name, &text]).unwrap();
        let column = *random.pick(&["n", "place", "acknowledged"]).unwrap();
        // A place that is taken, or a number that is, is refused.
        let _either = connection.execute(&format!("UPDATE commands SET {column} = ?1 WHERE place = 2"), [number]);
        let column = *random.pick(&["id", "body"]).unwrap();
        connection.execute(&format!("UPDATE commands SET {column} = ?1 WHERE place = 3"), [&text]).unwrap();
        drop(connection);
        go_on(&copy);
    });
}
