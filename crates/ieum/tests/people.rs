//! People at their terminals, with the real binary on both sides.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use std::path::Path;

use common::gate::Gate;
use common::{PATIENCE, Scene};
use ieum_drill::process::{Process, Signal};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../import/samples/android-ko.txt");

#[test]
fn two_people_talk_in_two_terminals() {
    let scene = Scene::started();
    scene.register("minji", "민지");
    scene.register("junho", "준호");
    assert!(scene.person("minji", &["account", "whoami"]).success().starts_with("@minji 민지"));

    let mut minji = scene.terminal("minji", &["chat", "@junho"]);
    let mut junho = scene.terminal("junho", &["chat", "minji"]);
    // What was said before is in the history only.
    for terminal in [&mut minji, &mut junho] {
        terminal.wait_for_stderr(|text| text.contains("connected to"), PATIENCE).unwrap();
    }
    minji.write_line("밥 먹었어?").unwrap();
    junho.wait_for_line(|line| line.ends_with("민지: 밥 먹었어?"), PATIENCE).unwrap();
    junho.write_line("아직. \u{1b}[31m같이 먹자").unwrap();
    // What a terminal would obey does not arrive as such.
    minji.wait_for_line(|line| line.ends_with("준호: 아직. \u{fffd}[31m같이 먹자"), PATIENCE).unwrap();
    // Junho's terminal showed it, so it counts as read there: nobody is left who has not.
    minji.write_line("/edit 1 밥은 먹었어?").unwrap();
    junho.wait_for_line(|line| line.ends_with("민지: 밥은 먹었어?  (changed)"), PATIENCE).unwrap();
    junho.write_line("/reply 1 아니").unwrap();
    minji.wait_for_line(|line| line.ends_with("준호: (↪ 1) 아니"), PATIENCE).unwrap();
    minji.write_line("/history 3").unwrap();
    minji.wait_for_line(|line| line.ends_with("민지: 밥은 먹었어?"), PATIENCE).unwrap();
    minji.write_line("/group 점심 junho").unwrap();
    junho.wait_for_line(|line| line.ends_with("you are in 점심"), PATIENCE).unwrap();
    minji.write_line("/quit").unwrap();
    assert!(minji.wait(PATIENCE).unwrap().success());
    junho.end_stdin();
    assert!(junho.wait(PATIENCE).unwrap().success());
}

#[test]
fn an_account_is_kept_in_order() {
    let scene = Scene::started();
    scene.register("minji", "민지");
    let me = |arguments: &[&str]| scene.person("minji", arguments);
    let login = |profile: &str, password: &str| {
        let arguments = ["account", "login", "--handle", "minji", "--profile", profile];
        scene.command("minji", &arguments).env("IEUM_PASSWORD", password).output().unwrap()
    };
    assert!(login("tablet", "minji's password").status.success());
    let devices = me(&["account", "devices"]).success();
    let lines: Vec<&str> = devices.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("* ") && lines[1].starts_with("  "), "{devices}");
    let tablet = lines[1].split_whitespace().next().unwrap();
    me(&["account", "logout", "--device", tablet]).success();
    assert_eq!(me(&["account", "devices"]).success().lines().count(), 1);
    let out = scene.person("tablet", &["account", "whoami"]).failure();
    assert!(out.contains("(secret_wrong)") || out.contains("(logged_out)"), "{out}");

    me(&["account", "rename", "김민지"]).success();
    assert!(me(&["account", "whoami"]).success().starts_with("@minji 김민지"));
    let change = |old: &str| {
        let mut command = scene.command("minji", &["account", "password"]);
        command.env("IEUM_PASSWORD", old).env("IEUM_NEW_PASSWORD", "another password").output().unwrap()
    };
    assert!(!change("not the password").status.success());
    assert!(change("minji's password").status.success());
    assert!(!login("phone", "minji's password").status.success());
    assert!(login("phone", "another password").status.success());
}

#[test]
fn a_korean_terminal_speaks_korean() {
    let scene = Scene::started();
    scene.register("minji", "민지");
    let arguments = ["account", "register", "--handle", "minji", "--name", "x"];
    let taken = scene.command("other", &arguments).env("LC_ALL", "ko_KR.UTF-8").output().unwrap();
    let said = String::from_utf8(taken.stderr).unwrap();
    assert_eq!(said.trim(), "ieum: 이미 사용 중인 아이디입니다. (handle_taken)");
}

#[test]
fn a_message_is_sent_and_followed_across_a_restart_of_the_server() {
    let mut scene = Scene::started();
    scene.register("minji", "민지");
    scene.register("junho", "준호");
    assert!(scene.person("minji", &["send", "junho", "하나"]).success().starts_with("sent: room "));
    let mut tail = scene.terminal("junho", &["tail", "--json"]);
    tail.wait_for_stderr(|text| text.contains("connected to"), PATIENCE).unwrap();
    scene.person("minji", &["send", "@junho", "둘"]).success();
    let line = tail.wait_for_line(|line| line.contains("둘"), PATIENCE).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["message"]["seq"], 2, "{line}");

    scene.server.kill().unwrap();
    scene.server.start(PATIENCE).unwrap();
    scene.person("minji", &["send", "junho", "셋"]).success();
    let line = tail.wait_for_line(|line| line.contains("셋"), PATIENCE).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["message"]["seq"], 3, "{line}");
}

/// The room of a direct chat, opened with one message.
fn direct_room(scene: &Scene, from: &str, to: &str) -> String {
    let said = scene.person(from, &["send", to, "하나"]).success();
    said.trim_start_matches("sent: room ").split(',').next().unwrap().to_owned()
}

#[test]
fn what_an_earlier_process_left_is_answered_to_the_next() {
    let mut scene = Scene::started();
    scene.register("minji", "민지");
    scene.register("junho", "준호");
    let room = direct_room(&scene, "minji", "junho");
    scene.server.kill().unwrap();
    let mut chat = scene.terminal("minji", &["chat", &room]);
    chat.wait_for_stderr(|text| text.contains("no connection to "), PATIENCE).unwrap();
    // Lines are taken without a server; help comes once the line before it is kept.
    chat.write_line(&"가".repeat(10_001)).unwrap();
    chat.write_line("/help").unwrap();
    chat.wait_for_stderr(|text| text.contains("/rooms"), PATIENCE).unwrap();
    chat.signal(Signal::SIGINT).unwrap();
    chat.wait_for_stderr(|text| text.contains("Ctrl-C ends at once"), PATIENCE).unwrap();
    chat.signal(Signal::SIGINT).unwrap();
    assert_eq!(chat.wait(PATIENCE).unwrap().code(), Some(130));

    scene.server.start(PATIENCE).unwrap();
    let next = scene.person("minji", &["send", &room, "둘"]);
    assert!(next.success().starts_with("sent: "));
    let told = next.err();
    assert!(told.starts_with("not done: ") && told.contains("(text_too_long): 가가가"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

/// The lines of JSON until all of these have come.
fn events_until(tail: &mut Process, wanted: &[&dyn Fn(&serde_json::Value) -> bool]) -> Vec<serde_json::Value> {
    let mut events = Vec::new();
    while !wanted.iter().all(|wanted| events.iter().any(wanted)) {
        let line = tail.wait_for_line(|_| true, PATIENCE).unwrap();
        events.push(serde_json::from_str(&line).unwrap());
    }
    events
}

#[test]
fn what_happens_during_a_break_is_told_after_it() {
    let scene = Scene::started();
    scene.register("minji", "민지");
    scene.register("junho", "준호");
    let room = direct_room(&scene, "minji", "junho");
    let mut minji = scene.terminal("minji", &["chat", &room]);
    minji.wait_for_stderr(|text| text.contains("connected to"), PATIENCE).unwrap();
    let gate = Gate::to(&scene.server.address());
    let mut tail = scene.terminal_through("junho", &["tail", "--json"], &gate.address());
    tail.wait_for_stderr(|text| text.contains("connected to"), PATIENCE).unwrap();
    minji.write_line("/group 점심 junho").unwrap();
    let lunch = tail.wait_for_line(|line| line.contains("joined"), PATIENCE).unwrap();
    let lunch: serde_json::Value = serde_json::from_str(&lunch).unwrap();

    gate.shut();
    tail.wait_for_stderr(|text| text.contains("the connection is lost"), PATIENCE).unwrap();
    minji.write_line("/remove junho").unwrap();
    minji.write_line("/group 저녁 junho").unwrap();
    minji.write_line(&format!("/room {room}")).unwrap();
    minji.write_line("/edit 1 하나!").unwrap();
    // A catch-up holds the last 50.
    for n in 2..=80 {
        minji.write_line(&format!("message {n}")).unwrap();
    }
    minji.wait_for_line(|line| line.ends_with("message 80"), PATIENCE).unwrap();
    gate.open();
    let here = room.parse::<u64>().unwrap();
    let seen = events_until(
        &mut tail,
        &[
            &|event| event["left"]["room"] == lunch["joined"]["room"]["id"],
            &|event| event["joined"]["room"]["name"] == "저녁",
            &|event| event["changed"]["text"] == "하나!",
            &|event| event["message"]["seq"] == 80,
        ],
    );
    let messages = seen.iter().map(|event| &event["message"]).filter(|message| message["room"] == here);
    let seqs: Vec<u64> = messages.map(|message| message["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (2..=80).collect::<Vec<_>>());
}

#[test]
fn what_takes_the_place_of_lost_messages_is_told() {
    let mut scene = Scene::started();
    scene.register("minji", "민지");
    scene.register("junho", "준호");
    let room = direct_room(&scene, "minji", "junho");
    let gate = Gate::to(&scene.server.address());
    let mut tail = scene.terminal_through("junho", &["tail", "--json"], &gate.address());
    tail.wait_for_stderr(|text| text.contains("connected to"), PATIENCE).unwrap();
    let backup = scene.path("backup").display().to_string();
    scene.operator(&["backup", &backup]).success();
    scene.person("minji", &["send", &room, "둘"]).success();
    tail.wait_for_line(|line| line.contains("둘"), PATIENCE).unwrap();

    gate.shut();
    scene.server.kill().unwrap();
    scene.operator(&["restore", "--replace", &backup]).success();
    scene.server.start(PATIENCE).unwrap();
    // The device offers again what was acknowledged and lost, so both come.
    scene.person("minji", &["send", &room, "셋"]).success();
    gate.open();
    for (text, seq) in [("둘", 2), ("셋", 3)] {
        let line = tail.wait_for_line(|line| line.contains(text), PATIENCE).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["message"]["seq"], seq, "{line}");
    }
}

#[test]
fn an_export_is_imported_once_and_read() {
    let scene = Scene::started();
    scene.register("minji", "민지");
    let first = scene.person("minji", &["import", "kakaotalk", SAMPLE]).success();
    let counted = |said: &str| {
        let line = said.lines().last().unwrap().to_owned();
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        (numbers[0], numbers[1])
    };
    let (new, known) = counted(&first);
    assert!(new > 0 && known == 0, "{first}");
    let second = scene.person("minji", &["import", "kakaotalk", SAMPLE]).success();
    assert_eq!(counted(&second), (0, new), "{second}");

    let mut chat = scene.terminal("minji", &["chat"]);
    chat.write_line("/rooms").unwrap();
    let room = chat.wait_for_line(|line| line.starts_with('#'), PATIENCE).unwrap();
    let number = room.trim_start_matches('#').split(' ').next().unwrap().to_owned();
    chat.write_line(&format!("/room {number}")).unwrap();
    chat.write_line("/history 100").unwrap();
    let text = std::fs::read_to_string(SAMPLE).unwrap();
    let last = text.lines().rev().find(|line| line.contains(" : ")).unwrap();
    let said = last.split_once(" : ").unwrap().1;
    chat.wait_for_line(|line| line.contains(said), PATIENCE).unwrap();
    // It is read-only.
    chat.write_line("안녕").unwrap();
    chat.end_stdin();
    assert!(chat.wait(PATIENCE).unwrap().success());
    assert!(chat.stderr().contains("not done: This kind of room"), "{}", chat.stderr());
}

#[test]
fn a_bad_file_does_not_keep_the_others_from_being_imported() {
    let scene = Scene::started();
    scene.register("minji", "민지");
    let zip = scene.path("a.zip.txt");
    std::fs::write(&zip, b"PK\x03\x04").unwrap();
    let files = ["import", "kakaotalk", "missing.txt", zip.to_str().unwrap(), SAMPLE];
    let run = scene.person("minji", &files);
    let complaint = run.failure();
    assert_eq!(run.code(), 1);
    for said in ["not imported: opening missing.txt", "not imported: a.zip.txt is a ZIP", "2 of the files"] {
        assert!(complaint.contains(said), "{complaint}");
    }
    let counted = run.out().lines().last().unwrap().to_owned();
    assert!(!counted.starts_with("0 new"), "{counted}");
}

#[test]
fn an_invitation_lets_one_person_in() {
    let mut scene = Scene::new().set("ACCOUNTS__REGISTRATION", "invitation");
    assert!(scene.operator(&["invite"]).failure().contains("start it with `ieum serve`"));
    scene.server.start(PATIENCE).unwrap();
    let register = |handle, rest: &[&str]| {
        scene.person(handle, &[&["account", "register", "--handle", handle, "--name", "x"], rest].concat())
    };
    let complaint = register("minji", &[]).failure();
    assert!(complaint.contains("invitation"), "{complaint}");
    let code = scene.operator(&["invite"]).success();
    register("minji", &["--invitation", code.trim()]).success();
    let complaint = register("junho", &["--invitation", code.trim()]).failure();
    assert!(complaint.contains("invitation"), "{complaint}");
}

#[test]
fn what_goes_wrong_is_said_in_words() {
    let mut scene = Scene::started();
    scene.register("minji", "민지");
    let taken = scene.person("other", &["account", "register", "--handle", "minji", "--name", "x"]).failure();
    assert!(taken.contains("handle"), "{taken}");
    let wrong = scene.person("another", &["account", "login", "--handle", "minji"]).failure();
    assert!(wrong.contains("password"), "{wrong}");
    let nobody = scene.person("stranger", &["send", "minji", "x"]).failure();
    assert!(nobody.contains("nobody is signed in on profile \"stranger\""), "{nobody}");
    let whom = scene.person("minji", &["send", "nobody.here", "x"]).failure();
    assert!(whom.contains("nobody has the handle \"nobody.here\""), "{whom}");
    let no_file = scene.person("minji", &["import", "kakaotalk", "missing.txt"]).failure();
    assert!(no_file.contains("missing.txt"), "{no_file}");
    let again = scene.person("minji", &["account", "login", "--handle", "minji"]).failure();
    assert!(again.contains("signed in already"), "{again}");
    scene.person("minji", &["account", "logout"]).success();
    scene.server.kill().unwrap();
    let down = scene.person("minji", &["account", "login", "--handle", "minji"]).failure();
    assert!(down.contains("reach") || down.contains("refused"), "{down}");
    for complaint in [taken, wrong, nobody, whom, no_file, again, down] {
        assert!(complaint.starts_with("ieum: ") && complaint.trim().lines().count() == 1, "{complaint}");
    }
    assert!(Path::new(&scene.path("home")).exists());
}
