//! A client in another language, written from docs/protocol alone, against the real server. Each check compares what it holds with what a
//! device of the same person that has no stream reads over HTTP.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;
#[path = "stranger/driver.rs"]
mod driver;

use std::time::Instant;

use common::{PATIENCE, Scene};
use driver::{Kind, Proxy, Reader, Stranger, Swallower, black_hole, texts};
use ieum_drill::process::Signal;
use serde_json::json;

/// Two people with a direct room of theirs.
fn pair(scene: &Scene) -> (Stranger, Stranger, u64) {
    let [mut mina, mut jun] = ["mina", "jun"].map(|handle| {
        let mut person = Stranger::new(scene, handle, &[scene.server.address()]);
        person.register();
        person.ask("start", &[]);
        person
    });
    let room = mina.outcome(json!({"open_direct": {"handle": "jun"}}))["ok"]["room"].as_u64().unwrap();
    jun.until(json!(["rooms", room.to_string(), "room", "id"]), json!(room));
    (mina, jun, room)
}

fn numbered(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}

#[test]
fn registering_is_repeated_when_its_answer_is_lost() {
    let scene = Scene::started();
    let swallower = Swallower::new(&scene.server);
    let mut mina = Stranger::new(&scene, "mina", &[swallower.address(), scene.server.address()]);
    mina.register();
    let (status, lost) = swallower.swallowed();
    assert_eq!(status, 200, "{lost}");
    assert_eq!(mina.ask("look", &[json!(["account", "device"])]), lost["device"]);
    assert_eq!(mina.user(), lost["user"].as_u64().unwrap());
    let reader = Reader::new(&scene, "mina");
    assert_eq!(reader.get("/v1/devices")["devices"].as_array().unwrap().len(), 2, "the client's and the reader's");
    // A correction is a new attempt; a capital letter is the client's to mend.
    let mut other = Stranger::new(&scene, "mina", &[scene.server.address()]);
    other.forget();
    assert_eq!(other.complaint("register", &[other.person()]), "handle_taken");
    other.ask("sign_in", &[json!({"handle": "Mina".to_lowercase(), "password": driver::PASSWORD, "device": "phone"})]);
    assert_eq!(other.user(), mina.user());
}

#[test]
fn people_talk_edit_delete_and_read() {
    let scene = Scene::started();
    let (mut mina, mut jun, room) = pair(&scene);
    let (mina_reads, jun_reads) = (Reader::new(&scene, "mina"), Reader::new(&scene, "jun"));
    let sends = numbered(1..=100).into_iter().map(|text| json!({"send": {"room": room, "text": text}}));
    mina.settle(sends.collect());
    assert_eq!(texts(&jun_reads.messages(room)), numbered(1..=100));
    let answers = mina.settle(vec![
        json!({"edit": {"room": room, "seq": 1, "text": "line one 😀"}}),
        json!({"send": {"room": room, "text": " \n"}}),
        json!({"delete": {"room": room, "seq": 2}}),
        json!({"delete": {"room": room, "seq": 2}}),
        json!({"send": {"room": 7, "text": "nowhere"}}),
        json!({"send": {"room": room, "text": "the last", "reply_to": 1}}),
    ]);
    let codes: Vec<_> = answers.iter().map(|answer| answer["problem"]["code"].as_str()).collect();
    assert_eq!(codes, [None, Some("text_empty"), None, Some("message_deleted"), Some("room_unknown"), None]);
    jun.agrees(&jun_reads, room);
    assert_eq!(jun.room(room)["unread"], 101, "a deleted one still counts");
    jun.settle(vec![json!({"read": {"room": room, "seq": 60}})]);
    mina.agrees(&mina_reads, room);
    jun.agrees(&jun_reads, room);
    assert_eq!(jun.room(room)["unread"], 41);
    jun.settle(vec![json!({"send": {"room": room, "text": "I have read it all"}})]);
    mina.agrees(&mina_reads, room);
    jun.agrees(&jun_reads, room);
    assert_eq!((jun.room(room)["unread"].clone(), mina.room(room)["unread"].clone()), (json!(0), json!(1)));
}

#[test]
fn a_group_comes_and_goes() {
    let scene = Scene::started();
    let (mut mina, mut jun, _) = pair(&scene);
    let mut sora = Stranger::new(&scene, "sora", &[scene.server.address()]);
    sora.register();
    sora.ask("start", &[]);
    let group = mina.outcome(json!({"create_group": {"name": "산책", "handles": ["jun"]}}));
    let group = group["ok"]["room"].as_u64().unwrap();
    let say = |text: &str| json!({"send": {"room": group, "text": text}});
    mina.settle(vec![say("before sora"), json!({"invite": {"room": group, "handles": ["sora"]}}), say("with sora")]);
    mina.settle(vec![
        json!({"rename": {"room": group, "name": "소풍"}}),
        json!({"give_role": {"room": group, "user": jun.user(), "role": "manager"}}),
    ]);
    let readers = ["mina", "jun", "sora"].map(|handle| Reader::new(&scene, handle));
    for (person, reader) in [&mut mina, &mut jun, &mut sora].into_iter().zip(&readers) {
        person.agrees(reader, group);
    }
    assert_eq!((jun.room(group)["role"].clone(), sora.room(group)["members"].clone()), (json!("manager"), json!(3)));
    // Taken out and brought in again while it is away: what it holds from before is void.
    let sora_is = sora.user();
    sora.ask("stop", &[]);
    sora.kill();
    jun.settle(vec![json!({"remove": {"room": group, "user": sora_is}}), say("without sora")]);
    jun.settle(vec![json!({"invite": {"room": group, "handles": ["sora"]}})]);
    sora.restart();
    sora.agrees(&readers[2], group);
    assert_eq!(jun.outcome(json!({"remove": {"room": group, "user": mina.user()}}))["problem"]["code"], "not_allowed");
    mina.settle(vec![json!({"leave": {"room": group}})]);
    mina.until(json!(["rooms", group.to_string()]), json!(null));
    jun.agrees(&readers[1], group);
    sora.agrees(&readers[2], group);
    assert_eq!(jun.room(group)["role"], "owner");
}

#[test]
fn the_server_is_killed_in_the_middle() {
    let mut scene = Scene::started();
    let (mut mina, mut jun, room) = pair(&scene);
    let sends = |range| numbered(range).into_iter().map(|text| json!({"send": {"room": room, "text": text}})).collect();
    for round in 0..3 {
        mina.write(sends(round * 100 + 1..=round * 100 + 100));
        // Some are acknowledged, and others are not.
        jun.until_last(room, u64::from(round) * 100 + 20);
        scene.server.kill().unwrap();
        if round < 2 {
            scene.server.start(PATIENCE).unwrap();
        }
    }
    // Written while there is no server, and more than the 500 that a device may send at once and the 50 more in each of the seconds that this
    // may take on a busy machine: some are refused, none is lost.
    mina.write(sends(301..=1_000));
    scene.server.start(PATIENCE).unwrap();
    mina.until(json!(["waiting"]), json!(0));
    let reader = Reader::new(&scene, "jun");
    assert_eq!(texts(&reader.messages(room)), numbered(1..=1_000));
    assert!(mina.ask("look", &[json!(["refused", "rate_limited"])]).as_u64().is_some_and(|count| count > 0));
    let mina_reads = Reader::new(&scene, "mina");
    for (person, reader) in [(&mut mina, &mina_reads), (&mut jun, &reader)] {
        person.agrees(reader, room);
    }
}

#[test]
fn the_client_is_killed_between_writing_and_ack() {
    let mut scene = Scene::started();
    let (mut mina, _jun, room) = pair(&scene);
    let sends = |range| numbered(range).into_iter().map(|text| json!({"send": {"room": room, "text": text}})).collect();
    // Sent, and no answer: the server is frozen, and finds the frames when it thaws.
    scene.server.running().unwrap().signal(Signal::SIGSTOP).unwrap();
    mina.write(sends(1..=10));
    mina.kill();
    scene.server.running().unwrap().signal(Signal::SIGCONT).unwrap();
    mina.restart();
    mina.until(json!(["waiting"]), json!(0));
    let reader = Reader::new(&scene, "jun");
    assert_eq!(texts(&reader.messages(room)), numbered(1..=10));
    // Written and never sent.
    scene.server.kill().unwrap();
    mina.write(sends(11..=20));
    mina.kill();
    scene.server.start(PATIENCE).unwrap();
    mina.restart();
    mina.until(json!(["waiting"]), json!(0));
    assert_eq!(texts(&reader.messages(room)), numbered(1..=20));
    mina.agrees(&Reader::new(&scene, "mina"), room);
}

#[test]
fn answers_are_lost_with_the_connection() {
    let scene = Scene::started();
    let (mut mina, mut jun, room) = pair(&scene);
    let proxy = Proxy::new(&scene.server);
    mina.ask("stop", &[]);
    mina.kill();
    mina.restart_at(&[proxy.address()]);
    for round in 0..3 {
        mina.until(json!(["connectedTo"]), json!(proxy.address()));
        proxy.hold(Kind::Sockets);
        let sends = numbered(round * 20 + 1..=round * 20 + 20);
        let ids = mina.write(sends.into_iter().map(|text| json!({"send": {"room": room, "text": text}})).collect());
        // All is done, and the client was told nothing.
        jun.until_last(room, u64::from(round) * 20 + 20);
        assert_eq!(mina.ask("look", &[json!(["waiting"])]), 20);
        proxy.cut();
        mina.until(json!(["waiting"]), json!(0));
        let outcomes = mina.ask("outcomes", &[ids]);
        let seqs: Vec<_> = outcomes.as_array().unwrap().iter().map(|outcome| outcome["ok"]["seq"].as_u64()).collect();
        let wanted = u64::from(round) * 20 + 1..=u64::from(round) * 20 + 20;
        assert_eq!(seqs, wanted.map(Some).collect::<Vec<_>>());
    }
    let reader = Reader::new(&scene, "mina");
    assert_eq!(texts(&reader.messages(room)), numbered(1..=60));
    mina.agrees(&reader, room);
}

#[test]
fn events_that_an_ack_overtook_come_after_the_break() {
    let scene = Scene::started();
    let (mut mina, _jun, room) = pair(&scene);
    let proxy = Proxy::new(&scene.server);
    mina.ask("stop", &[]);
    mina.kill();
    mina.restart_at(&[proxy.address()]);
    mina.until(json!(["connectedTo"]), json!(proxy.address()));
    proxy.hold(Kind::Stream);
    mina.settle(numbered(1..=5).into_iter().map(|text| json!({"send": {"room": room, "text": text}})).collect());
    assert_eq!(mina.room(room)["last"], 0, "it was told of no event");
    proxy.cut();
    mina.agrees(&Reader::new(&scene, "mina"), room);
}

#[test]
fn a_message_is_edited_while_its_page_is_on_the_way() {
    let scene = Scene::started();
    let (mut mina, mut jun, room) = pair(&scene);
    let proxy = Proxy::new(&scene.server);
    jun.ask("stop", &[]);
    jun.kill();
    mina.settle(numbered(1..=120).into_iter().map(|text| json!({"send": {"room": room, "text": text}})).collect());
    jun.restart_at(&[proxy.address()]);
    jun.until_last(room, 120);
    // It has a token now.
    jun.ask("get", &[json!("/v1/me")]);
    proxy.hold(Kind::Pages);
    let fill = jun.begin("fill", &[json!(room)]);
    proxy.wait_for_something_held();
    mina.settle(vec![
        json!({"edit": {"room": room, "seq": 10, "text": "edited"}}),
        json!({"delete": {"room": room, "seq": 11}}),
        json!({"send": {"room": room, "text": "line 121"}}),
    ]);
    jun.until_last(room, 121);
    proxy.release();
    jun.end(fill);
    jun.agrees(&Reader::new(&scene, "jun"), room);
}

#[test]
fn a_token_expires() {
    let mut scene = Scene::new().set("ACCOUNTS__TOKEN_SECONDS", "1").set("LIMITS__REQUESTS_BURST", "1000000000");
    scene.server.start(PATIENCE).unwrap();
    let mut mina = Stranger::new(&scene, "mina", &[scene.server.address()]);
    mina.register();
    mina.ask("get", &[json!("/v1/me")]);
    // The reader's token is the younger one, and the reader does not get another.
    let reader = Reader::new(&scene, "mina");
    let end = Instant::now() + PATIENCE;
    let code = loop {
        let (status, answer) = reader.try_to_get("/v1/me");
        assert!(Instant::now() < end, "it is good for a second");
        if status != 200 {
            break answer["code"].clone();
        }
    };
    assert_eq!(code, "token_expired");
    assert_eq!(mina.ask("get", &[json!("/v1/me")])["person"]["handle"], "mina");
}

#[test]
fn another_device_catches_up_and_a_gap_is_filled() {
    let scene = Scene::started();
    let (mut mina, mut jun, room) = pair(&scene);
    let sends = |range| numbered(range).into_iter().map(|text| json!({"send": {"room": room, "text": text}})).collect();
    mina.settle(sends(1..=20));
    // A new device has no cursor: everything comes.
    let mut phone = Stranger::new(&scene, "jun", &[scene.server.address()]);
    phone.forget();
    phone.sign_in("phone");
    phone.ask("start", &[]);
    let reader = Reader::new(&scene, "jun");
    phone.agrees(&reader, room);
    phone.ask("stop", &[]);
    phone.kill();
    mina.settle(sends(21..=140));
    mina.settle(vec![
        json!({"edit": {"room": room, "seq": 3, "text": "edited while you were away"}}),
        json!({"delete": {"room": room, "seq": 4}}),
        json!({"edit": {"room": room, "seq": 50, "text": "edited in the gap"}}),
    ]);
    jun.settle(vec![json!({"read": {"room": room, "seq": 130}})]);
    phone.restart();
    phone.until_last(room, 140);
    assert_eq!(phone.room(room)["unread"], 10);
    let held = phone.ask("look", &[json!(["rooms", room.to_string(), "messages"])]);
    assert_eq!(held.as_object().unwrap().len(), 20 + 50, "a gap of 70");
    phone.ask("fill", &[json!(room)]);
    phone.agrees(&reader, room);
    // Each of the two sees what the other writes and reads.
    phone.settle(vec![json!({"send": {"room": room, "text": "from the phone"}})]);
    jun.agrees(&reader, room);
    // A store that lost everything but the device goes on from the cell's number, with everything afresh.
    phone.kill();
    phone.keep_only_the_account();
    phone.restart();
    phone.settle(vec![json!({"send": {"room": room, "text": "after the loss"}})]);
    phone.agrees(&reader, room);
}

#[test]
fn a_device_is_logged_out() {
    let scene = Scene::started();
    let (mut mina, _jun, room) = pair(&scene);
    let mut phone = Stranger::new(&scene, "mina", &[scene.server.address()]);
    phone.forget();
    phone.sign_in("phone");
    phone.ask("start", &[]);
    phone.until(json!(["connectedTo"]), json!(scene.server.address()));
    let reader = Reader::new(&scene, "mina");
    mina.settle(vec![json!({"log_out": {"device": phone.device()}})]);
    phone.until(json!(["stopped"]), json!("logged_out"));
    assert!(!reader.devices().contains(&phone.device()), "it is gone");
    phone.write(vec![json!({"send": {"room": room, "text": "never sent"}})]);
    phone.kill();
    phone.restart();
    phone.until(json!(["stopped"]), json!("secret_wrong"));
    assert_eq!(phone.ask("look", &[json!(["waiting"])]), 1, "the outbox is kept");
    // It logs itself out: `bye` is the answer.
    let own = json!({"log_out": {"device": mina.device()}});
    let ids = mina.write(vec![own]);
    mina.until(json!(["stopped"]), json!("logged_out"));
    assert!(mina.ask("outcomes", &[ids])[0]["ok"].is_object());
    assert!(!reader.devices().contains(&mina.device()));
    assert_eq!(texts(&reader.messages(room)), Vec::<String>::new());
}

#[test]
fn a_restored_cell_is_offered_again_what_it_lost() {
    let mut scene = Scene::started();
    let (mut mina, mut jun, room) = pair(&scene);
    let sends = |range| numbered(range).into_iter().map(|text| json!({"send": {"room": room, "text": text}})).collect();
    mina.settle(sends(1..=10));
    jun.until_last(room, 10);
    let backup = scene.path("backup");
    scene.operator(&["backup", backup.to_str().unwrap()]).success();
    mina.settle(sends(11..=20));
    jun.until_last(room, 20);
    let seen = mina.ask("look", &[json!(["seen"])]);
    assert!(scene.server.stop(PATIENCE).unwrap().success());
    mina.write(sends(21..=30));
    scene.operator(&["restore", backup.to_str().unwrap(), "--replace"]).success();
    scene.server.start(PATIENCE).unwrap();
    mina.until(json!(["waiting"]), json!(0));
    let reader = Reader::new(&scene, "mina");
    assert_eq!(texts(&reader.messages(room)), numbered(1..=30));
    mina.agrees(&reader, room);
    jun.agrees(&Reader::new(&scene, "jun"), room);
    let now = mina.ask("look", &[json!(["cursor"])]);
    let generation =
        |position: serde_json::Value| position.as_str().unwrap().split_once('.').unwrap().0.parse::<u32>().unwrap();
    assert!(generation(now) > generation(seen));
}

#[test]
fn what_no_server_can_read_is_given_up() {
    let scene = Scene::started();
    let (mut mina, _jun, room) = pair(&scene);
    let mut changes: Vec<_> =
        numbered(1..=10).into_iter().map(|text| json!({"send": {"room": room, "text": text}})).collect();
    changes.insert(5, json!({"dance": {"room": room}}));
    let answers = mina.settle(changes);
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer["problem"]["code"].as_str()).collect();
    assert_eq!(failed, ["bad_frame"]);
    assert_eq!(answers[5]["problem"]["code"], "bad_frame");
    let huge = "x".repeat(262_144);
    assert!(mina.complaint("write", &[json!([{"send": {"room": room, "text": huge}}])]).contains("too large"));
    assert_eq!(texts(&Reader::new(&scene, "mina").messages(room)), numbered(1..=10));
}

#[test]
fn a_server_that_says_nothing_is_left() {
    let mut scene = Scene::started();
    let (mut mina, _jun, room) = pair(&scene);
    let hole = black_hole();
    let nowhere = format!("http://{}", hole.local_addr().unwrap());
    mina.kill();
    mina.restart_at(&[nowhere.clone(), scene.server.address()]);
    mina.until(json!(["connectedTo"]), json!(scene.server.address()));
    // Frozen: it is left for the other, and come back to.
    scene.server.running().unwrap().signal(Signal::SIGSTOP).unwrap();
    mina.until(json!(["connectedTo"]), json!(null));
    mina.write(vec![json!({"send": {"room": room, "text": "in the dark"}})]);
    scene.server.running().unwrap().signal(Signal::SIGCONT).unwrap();
    mina.until(json!(["waiting"]), json!(0));
    assert_eq!(texts(&Reader::new(&scene, "mina").messages(room)), ["in the dark"]);
    // Two processes with one store: the earlier one is told, and stops.
    let mut twin = mina.twin(&scene);
    twin.until(json!(["connectedTo"]), json!(scene.server.address()));
    mina.until(json!(["stopped"]), json!("replaced"));
    assert_eq!(twin.ask("look", &[json!(["connectedTo"])]), json!(scene.server.address()));
}
