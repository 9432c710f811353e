//! A catch-up of any size is delivered, in frames of bounded size.

use serde_json::{Value, json};

use crate::http::Person;
use crate::node::Server;
use crate::socket::{Got, Socket};

/// Everything that a catch-up tells of the one room, and in how many frames.
fn caught_up(server: &Server, person: &Person, cursor: Option<&str>) -> (Vec<Value>, usize) {
    let (mut socket, _) = Socket::hello(server, person, cursor);
    let (mut entries, mut frames) = (Vec::new(), 0);
    loop {
        match socket.get() {
            Got::Text(frame) if frame.get("caught_up").is_some() => return (entries, frames),
            Got::Text(frame) if frame.get("catch_up").is_some() => {
                frames += 1;
                entries.extend_from_slice(frame["catch_up"]["rooms"].as_array().unwrap());
            }
            Got::Text(frame) => assert!(frame.get("events").is_some(), "{frame}"),
            other => panic!("{other:?}"),
        }
    }
}

fn seqs(entries: &[Value], list: &str) -> Vec<u64> {
    let lists = entries.iter().filter_map(|entry| entry[list].as_array());
    lists.flatten().map(|message| message["seq"].as_u64().unwrap()).collect()
}

#[test]
fn messages_of_the_greatest_length_come_in_frames_of_bounded_size() {
    let server = Server::start();
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let mut socket = Socket::live(&server, &minji);
    let room = socket.done(&json!({"open_direct": {"handle": dohyun.handle}}))["ok"]["room"].as_u64().unwrap();
    // Each character takes six bytes as JSON: 60,000 bytes a message, 3 MB in all.
    let text = "\u{1}".repeat(10_000);
    for _ in 0..50 {
        socket.done(&json!({"send": {"room": room, "text": text}}));
    }
    let (entries, frames) = caught_up(&server, &dohyun, None);
    assert!(frames >= 15, "{frames}");
    assert_eq!(seqs(&entries, "messages"), (1..=50).collect::<Vec<_>>());
    assert_eq!(entries.iter().filter(|entry| entry["fresh"] == true).count(), 1);
    let receipts = entries.iter().position(|entry| entry["receipts"].is_array()).unwrap();
    assert_eq!(receipts, entries.len() - 1, "they come with the last message");
    // The same messages edited are as many bytes of `changed`.
    let (mut other, welcome) = Socket::hello(&server, &dohyun, None);
    other.next("caught_up");
    let cursor = welcome["pos"].as_str().unwrap().to_owned();
    for seq in 1..=50 {
        socket.done(&json!({"edit": {"room": room, "seq": seq, "text": text}}));
    }
    socket.done(&json!({"send": {"room": room, "text": "one more"}}));
    drop(other);
    let (entries, frames) = caught_up(&server, &dohyun, Some(&cursor));
    assert!(frames >= 15, "{frames}");
    assert_eq!(seqs(&entries, "messages"), [51]);
    assert_eq!(seqs(&entries, "changed"), (1..=50).collect::<Vec<_>>());
    // A page over HTTP is bounded as well, and never empty.
    let page = minji.get(&server, &format!("/v1/rooms/{room}/messages?after=0&limit=200")).ok();
    let page = page["messages"].as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect::<Vec<_>>();
    assert!((1..=10).contains(&page.len()) && page[0] == 1, "{page:?}");
    let page = minji.get(&server, &format!("/v1/rooms/{room}/messages?before=51&limit=200")).ok();
    let last = page["messages"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["seq"], 50, "the ones right before");
    server.is_sound();
}
