//! What belongs to others is answered as what is not there.

use serde_json::{Value, json};

use crate::http::{Person, fresh, post, registration, secret};
use crate::node::Server;
use crate::socket::Socket;

#[test]
fn rooms_and_people_of_others_are_answered_like_none() {
    let server = Server::start();
    let [minji, dohyun, eve] = ["minji", "dohyun", "eve"].map(|handle| Person::register(&server, handle));
    let mut socket = Socket::live(&server, &minji);
    let made = |ack: Value| ack["ok"]["room"].as_u64().unwrap();
    let direct = made(socket.done(&json!({"open_direct": {"user": dohyun.user}})));
    let group = made(socket.done(&json!({"create_group": {"name": "ours", "members": [dohyun.user]}})));
    let archive = made(socket.done(&json!({"open_archive": {"key": fresh(), "name": "old"}})));
    socket.done(&json!({"send": {"room": group, "text": "secret"}}));
    let mut stranger = Socket::live(&server, &eve);
    let unknown = 999_999;
    for end in ["", "/messages", "/messages?after=0", "/members", "/receipts"] {
        let answers =
            [direct, group, archive, unknown, u64::MAX].map(|room| eve.get(&server, &format!("/v1/rooms/{room}{end}")));
        for answer in &answers {
            assert_eq!(answer.error(), (404, "room_unknown"), "{end}");
            assert_eq!(answer.body, answers[3].body, "{end}");
        }
    }
    let entry = json!({"key": fresh(), "time": 1, "author": "a", "kind": "text", "text": "x"});
    type Change<'a> = &'a dyn Fn(u64) -> Value;
    let changes: [Change<'_>; 11] = [
        &|room| json!({"send": {"room": room, "text": "x"}}),
        &|room| json!({"send": {"room": room, "text": "x", "reply_to": 1}}),
        &|room| json!({"edit": {"room": room, "seq": 1, "text": "x"}}),
        &|room| json!({"delete": {"room": room, "seq": 1}}),
        &|room| json!({"read": {"room": room, "seq": 1}}),
        &|room| json!({"invite": {"room": room, "users": [eve.user]}}),
        &|room| json!({"leave": {"room": room}}),
        &|room| json!({"remove": {"room": room, "user": dohyun.user}}),
        &|room| json!({"rename": {"room": room, "name": "x"}}),
        &|room| json!({"give_role": {"room": room, "user": eve.user, "role": "owner"}}),
        &|room| json!({"add_to_archive": {"room": room, "entries": [entry]}}),
    ];
    for change in changes {
        let answers = [direct, group, archive, unknown].map(|room| stranger.done(&change(room))["error"].clone());
        for answer in &answers {
            assert_eq!((&answer["code"], answer), (&json!("room_unknown"), &answers[3]), "{}", change(0));
        }
    }
    // People: those with whom one shares no room are as unknown as nobody.
    let asked = |path: String| eve.get(&server, &path);
    for other in [minji.user, 42, u64::MAX] {
        assert_eq!(asked(format!("/v1/users/{other}")).error(), (404, "user_unknown"));
        let by_message = format!("/v1/users/{other}?room={group}&seq=3");
        assert_eq!(asked(by_message).error(), (404, "user_unknown"));
    }
    assert_eq!(asked(format!("/v1/users/{}?room=1", eve.user)).error(), (400, "bad_request"));
    // Somebody who left is known by what they said, to those who see it.
    let said = dohyun.change(&server, &json!({"send": {"room": group, "text": "bye"}})).ok()["ok"]["seq"].clone();
    dohyun.change(&server, &json!({"leave": {"room": group}})).ok();
    let other = Person::register(&server, "jun");
    socket.done(&json!({"invite": {"room": group, "users": [other.user]}}));
    let path = format!("/v1/users/{}?room={group}&seq={said}", dohyun.user);
    assert_eq!(minji.get(&server, &path).ok()["handle"], "dohyun");
    assert_eq!(other.get(&server, &path).error(), (404, "user_unknown"), "it was said before they came");
    // A wrong secret says nothing of whether there is such a device.
    let wrong = [minji.device, 77, u64::MAX]
        .map(|device| post(&server, "/v1/tokens", &[], &json!({"device": device, "secret": secret()})));
    assert!(wrong.iter().all(|answer| answer.error() == (401, "secret_wrong") && answer.body == wrong[0].body));
    server.is_sound();
}

#[test]
fn one_removed_meanwhile_can_do_nothing_and_hears_nothing() {
    let server = Server::start();
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let mut owner = Socket::live(&server, &minji);
    let made = owner.done(&json!({"create_group": {"name": "g", "members": [dohyun.user]}}));
    let room = made["ok"]["room"].clone();
    let mut removed = Socket::live(&server, &dohyun);
    removed.done(&json!({"send": {"room": room, "text": "here"}}));
    owner.done(&json!({"remove": {"room": room, "user": dohyun.user}}));
    assert_eq!(removed.done(&json!({"send": {"room": room, "text": "still?"}}))["error"]["code"], "room_unknown");
    owner.done(&json!({"send": {"room": room, "text": "among us"}}));
    removed.say(r#"{"ping":{"id":1}}"#);
    loop {
        match removed.get() {
            crate::socket::Got::Text(frame) if frame.get("pong").is_some() => break,
            crate::socket::Got::Text(frame) => assert!(!frame.to_string().contains("among us"), "{frame}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_3001st_member_finds_the_room_full() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let people: Vec<u64> = std::thread::scope(|scope| {
        let threads = [0, 1, 2, 3].map(|thread| {
            let server = &server;
            scope.spawn(move || {
                let made = (0..750).map(|n| {
                    let body = registration(&format!("u{thread}_{n}"), &secret());
                    let made = post(server, "/v1/accounts", &[("idempotency-key", &fresh())], &body).ok();
                    made["user"].as_u64().unwrap()
                });
                made.collect::<Vec<_>>()
            })
        });
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut socket = Socket::live(&server, &minji);
    let room = socket.done(&json!({"create_group": {"name": "all", "members": []}}))["ok"]["room"].clone();
    let too_many = socket.done(&json!({"invite": {"room": room, "users": people[..101]}}));
    assert_eq!(too_many["error"]["code"], "too_many");
    for users in people[..2_999].chunks(100) {
        let ack = socket.done(&json!({"invite": {"room": room, "users": users}}));
        assert_eq!(ack["ok"]["added"], users.len());
    }
    let last = socket.done(&json!({"invite": {"room": room, "users": [people[2_999]]}}));
    assert_eq!(last["error"]["code"], "room_full");
    let known = socket.done(&json!({"invite": {"room": room, "users": [people[0]]}}));
    assert_eq!(known["ok"]["added"], 0);
    // All of them come in pages, each once and by id.
    let (mut told, mut query) = (Vec::new(), String::new());
    for size in [500; 6] {
        let page = minji.get(&server, &format!("/v1/rooms/{room}/members{query}")).ok();
        let ids = page["members"].as_array().unwrap().iter().map(|member| member["person"]["id"].as_u64().unwrap());
        told.extend(ids);
        assert_eq!((told.len() % size, page["next"].as_u64()), (0, told.last().copied()));
        query = format!("?limit=5000&after={}", told[told.len() - 1]);
    }
    let end = minji.get(&server, &format!("/v1/rooms/{room}/members{query}")).ok();
    assert_eq!(end, json!({"members": []}));
    let mut all = [&[minji.user], &people[..2_999]].concat();
    all.sort_unstable();
    assert_eq!(told, all);
    server.is_sound();
}
