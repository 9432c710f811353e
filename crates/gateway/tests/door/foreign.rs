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
    let direct = made(socket.done(&json!({"open_direct": {"handle": dohyun.handle}})));
    let group = made(socket.done(&json!({"create_group": {"name": "ours", "handles": [dohyun.handle]}})));
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
        &|room| json!({"invite": {"room": room, "handles": [eve.handle]}}),
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
    socket.done(&json!({"invite": {"room": group, "handles": [other.handle]}}));
    let path = format!("/v1/users/{}?room={group}&seq={said}", dohyun.user);
    assert_eq!(minji.get(&server, &path).ok()["handle"], "dohyun");
    assert_eq!(other.get(&server, &path).error(), (404, "user_unknown"), "it was said before they came");
    // A wrong secret says nothing of whether there is such a device.
    let wrong = [minji.device, 77, u64::MAX]
        .map(|device| post(&server, "/v1/tokens", &[], &json!({"device": device, "secret": secret()})));
    assert!(wrong.iter().all(|answer| answer.error() == (401, "secret_wrong") && answer.body == wrong[0].body));
    server.is_sound();
}

/// Ids are counted, so anybody has everybody's. None of them says whose it is, or whether it is anybody's.
#[test]
fn an_id_gives_nothing_away() {
    let server = Server::start();
    let [minji, jun, eve] = ["minji", "jun", "eve"].map(|handle| Person::register(&server, handle));
    let mut socket = Socket::live(&server, &eve);
    let made = |ack: Value| ack["ok"]["room"].as_u64().unwrap();
    let direct = made(socket.done(&json!({"open_direct": {"handle": jun.handle}})));
    let group = made(socket.done(&json!({"create_group": {"name": "ours", "handles": [jun.handle]}})));
    let archive = made(socket.done(&json!({"open_archive": {"key": fresh(), "name": "old"}})));
    let nobody = 999_999;
    type Change<'a> = &'a dyn Fn(u64, u64) -> Value;
    let changes: [Change<'_>; 6] = [
        &|_, user| json!({"open_direct": {"handle": user.to_string()}}),
        &|_, user| json!({"create_group": {"name": "x", "handles": [user.to_string()]}}),
        &|room, user| json!({"invite": {"room": room, "handles": [user.to_string()]}}),
        &|room, user| json!({"remove": {"room": room, "user": user}}),
        &|room, user| json!({"give_role": {"room": room, "user": user, "role": "manager"}}),
        &|_, user| json!({"log_out": {"device": user}}),
    ];
    for (change, room) in changes.iter().flat_map(|change| [direct, group, archive].map(|room| (change, room))) {
        let [known, unknown] = [minji.user, nobody].map(|user| socket.done(&change(room, user))["error"].clone());
        assert!(known["code"].is_string() && known == unknown, "{}: {known}", change(room, minji.user));
    }
    // Where a handle belongs an id is no change at all; in a session that is a frame that cannot be read.
    for change in [
        &|user| json!({"open_direct": {"user": user}}),
        &|user| json!({"open_direct": {"handle": user}}),
        &|user| json!({"create_group": {"name": "x", "members": [user]}}),
        &|user| json!({"create_group": {"name": "x", "handles": [user]}}),
        &|user| json!({"invite": {"room": group, "users": [user]}}) as Value,
        &|user| json!({"invite": {"room": group, "handles": [user]}}),
    ] as [&dyn Fn(u64) -> Value; 6]
    {
        let mut bodies = [minji.user, nobody].map(|user| eve.change(&server, &change(user)));
        assert!(bodies.iter().all(|answer| answer.error() == (400, "bad_request")), "{bodies:?}");
        // The digits of the number are in the words of the complaint.
        bodies.iter_mut().for_each(|answer| drop(answer.body["detail"].take()));
        assert_eq!(bodies[0].body, bodies[1].body);
        let mut session = Socket::live(&server, &eve);
        session.command(&change(minji.user));
        assert_eq!(session.bye()["code"], "bad_frame");
    }
    let reads: [&dyn Fn(u64) -> String; 4] = [
        &|user| format!("/v1/users/{user}"),
        &|user| format!("/v1/users/{user}?room={group}&seq=1"),
        &|user| format!("/v1/users/{user}?room={archive}&seq=1"),
        &|user| format!("/v1/users?handle={user}"),
    ];
    for path in reads {
        let [known, unknown] = [minji.user, nobody].map(|user| eve.get(&server, &path(user)));
        assert_eq!((known.status, &known.body), (unknown.status, &unknown.body), "{}", path(minji.user));
        assert!(!known.body.to_string().contains("minji"), "{known:?}");
    }
    assert_eq!(minji.get(&server, "/v1/rooms").ok()["rooms"], json!([]), "nobody brought them anywhere");
    // Who is in a room with one, or whom one has found, has a handle that one can read.
    for path in [format!("/v1/users/{}", jun.user), format!("/v1/users/{}?room={group}&seq=2", jun.user)] {
        assert_eq!(eve.get(&server, &path).ok()["handle"], "jun");
    }
    let members = eve.get(&server, &format!("/v1/rooms/{group}/members")).ok();
    assert_eq!(members["members"][0]["person"]["handle"], "jun");
    assert_eq!(eve.get(&server, &format!("/v1/rooms/{direct}")).ok()["peer"]["handle"], "jun");
    assert_eq!(eve.get(&server, "/v1/users?handle=minji").ok()["people"][0]["handle"], "minji");
    server.is_sound();
}

#[test]
fn one_removed_meanwhile_can_do_nothing_and_hears_nothing() {
    let server = Server::start();
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    let mut owner = Socket::live(&server, &minji);
    let made = owner.done(&json!({"create_group": {"name": "g", "handles": [dohyun.handle]}}));
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
    let people: Vec<(u64, String)> = std::thread::scope(|scope| {
        let threads = [0, 1, 2, 3].map(|thread| {
            let server = &server;
            scope.spawn(move || {
                let made = (0..750).map(|n| {
                    let handle = format!("u{thread}_{n}");
                    let body = registration(&handle, &secret());
                    let made = post(server, "/v1/accounts", &[("idempotency-key", &fresh())], &body).ok();
                    (made["user"].as_u64().unwrap(), handle)
                });
                made.collect::<Vec<_>>()
            })
        });
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let (mut all, people): (Vec<u64>, Vec<String>) = people.into_iter().unzip();
    let mut socket = Socket::live(&server, &minji);
    let room = socket.done(&json!({"create_group": {"name": "all", "handles": []}}))["ok"]["room"].clone();
    let too_many = socket.done(&json!({"invite": {"room": room, "handles": people[..101]}}));
    assert_eq!(too_many["error"]["code"], "too_many");
    for handles in people[..2_999].chunks(100) {
        let ack = socket.done(&json!({"invite": {"room": room, "handles": handles}}));
        assert_eq!(ack["ok"]["added"], handles.len());
    }
    let last = socket.done(&json!({"invite": {"room": room, "handles": [people[2_999]]}}));
    assert_eq!(last["error"]["code"], "room_full");
    let known = socket.done(&json!({"invite": {"room": room, "handles": [people[0]]}}));
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
    all[2_999] = minji.user;
    all.sort_unstable();
    assert_eq!(told, all);
    server.is_sound();
}
