//! The stream and its cursor.

use ieum_protocol::frames::Event;

use super::*;

fn events(pos: &str) -> ServerFrame {
    ServerFrame::Events { pos: pos.into(), list: vec![Event::Left { room: 3 }] }
}

fn cursor(driver: &Driver) -> String {
    driver.machine.cursor().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn only_the_stream_moves_the_cursor_and_everything_moves_seen() {
    let mut driver = Driver::new(&["ws://a:1"]);
    driver.live(0, "1.10");
    driver.submit("hi");
    driver.ack(1, "1.15");
    assert_eq!(cursor(&driver), "1.10");
    driver.frame(&events("1.12"));
    assert_eq!(cursor(&driver), "1.12");
    driver.frame(&ServerFrame::Pong { id: 1, pos: "1.13".into() });
    driver.lose_connection();
    let hello = driver.live(1, "1.20");
    assert_eq!((hello.cursor.as_deref(), hello.seen.as_deref()), (Some("1.13"), Some("1.15")));
}

#[test]
fn the_cursor_never_goes_backwards() {
    let mut driver = Driver::new(&["ws://a:1"]);
    driver.live(0, "1.10");
    for (pos, then) in [("1.12", "1.12"), ("1.11", "1.12"), ("2.1", "2.1"), ("1.99", "2.1")] {
        driver.frame(&events(pos));
        assert_eq!(cursor(&driver), then);
    }
}

#[test]
fn a_catch_up_that_breaks_off_leaves_the_cursor_where_it_was() {
    let mut driver = Driver::new(&["ws://a:1"]);
    driver.live(0, "1.10");
    driver.lose_connection();
    driver.until_connect();
    driver.connected();
    driver.welcome(0, "1.50");
    driver.text(r#"{"catch_up":{"rooms":[]}}"#);
    driver.frame(&ServerFrame::Pong { id: 1, pos: "1.50".into() });
    driver.lose_connection();
    driver.until_connect();
    assert_eq!(driver.connected().cursor.as_deref(), Some("1.10"));
}

#[test]
fn a_long_catch_up_moves_the_cursor_on_its_way() {
    let mut driver = Driver::new(&["ws://a:1"]);
    driver.until_connect();
    driver.connected();
    driver.welcome(0, "1.50");
    driver.text(r#"{"catch_up":{"rooms":[]}}"#);
    driver.frame(&ServerFrame::Events { pos: "1.40".into(), list: vec![] });
    driver.text(r#"{"catch_up":{"rooms":[]}}"#);
    driver.lose_connection();
    driver.until_connect();
    assert_eq!(driver.connected().cursor.as_deref(), Some("1.40"));
}

#[test]
fn a_slow_catch_up_is_waited_for_as_long_as_a_welcome() {
    let mut driver = Driver::new(&["ws://a:1"]);
    driver.until_connect();
    driver.connected();
    driver.welcome(0, "1.50");
    driver.submit("hi");
    for _ in 0..20 {
        driver.run(1_900);
        driver.text(r#"{"catch_up":{"rooms":[]}}"#);
    }
    assert_eq!(driver.closes, 0);
    driver.frame(&ServerFrame::CaughtUp { pos: "1.50".into() });
    driver.run(900);
    driver.ack(1, "1.51");
    assert_eq!(driver.closes, 0);
    driver.run(3_001);
    assert_eq!(driver.closes, 1);
}

/// A client whose app has a copy of its own is told to begin anew.
fn begins_anew(broken_store: bool) -> Driver {
    let mut driver = is_to_begin_anew(broken_store);
    driver.frame(&anew());
    driver
}

fn anew() -> ServerFrame {
    ServerFrame::Welcome(Welcome { n: 0, pos: "1.5".into(), user: 1, resync: true, endpoints: vec![], takes: vec![] })
}

/// It has said hello.
fn is_to_begin_anew(broken_store: bool) -> Driver {
    let mut driver = Driver::new(&["ws://a:1"]);
    driver.live(0, "1.10");
    driver.machine.applied(driver.moment(), &"1.10".into());
    driver.lose_connection();
    driver.until_connect();
    driver.connected();
    driver.delivered.clear();
    driver.broken_store = broken_store;
    driver
}

#[test]
fn a_resync_makes_the_copy_void_until_the_catch_up_is_complete() {
    let mut driver = begins_anew(false);
    assert!(driver.delivered.contains(&Delivery::Resync));
    assert_eq!(driver.saved.cursor, None);
    driver.lose_connection();
    driver.until_connect();
    assert_eq!(driver.connected().cursor, None);
    driver.welcome(0, "1.5");
    driver.frame(&ServerFrame::CaughtUp { pos: "1.5".into() });
    assert_eq!(cursor(&driver), "1.5");
}

/// Else the next process would go on from that cursor with an app that holds nothing.
#[test]
fn an_app_is_not_told_to_forget_what_the_store_says_it_has() {
    let driver = begins_anew(true);
    assert!(!driver.delivered.contains(&Delivery::Resync));
    let stopped = Delivery::State(State::Stopped(Stop::Store("disk full".into())));
    assert_eq!(driver.delivered.last(), Some(&stopped));
    // With room again it starts where the app's copy ends, and is told to forget it then.
    let mut driver = driver.restart();
    driver.until_connect();
    assert_eq!(driver.connected().cursor.as_deref(), Some("1.10"));
}

/// The store may answer late, when more has come.
#[test]
fn an_app_that_is_not_told_to_forget_is_not_told_what_would_follow() {
    let mut driver = is_to_begin_anew(true);
    let line = driver.hello.unwrap();
    for frame in [anew(), ServerFrame::CaughtUp { pos: "1.5".into() }, events("1.6")] {
        driver.machine.frame(driver.moment(), line, &serde_json::to_string(&frame).unwrap());
    }
    driver.settle();
    let streamed = |delivery: &&Delivery| !matches!(delivery, Delivery::State(_));
    assert_eq!(driver.delivered.iter().find(streamed), None);
    assert_eq!(driver.delivered.last(), Some(&Delivery::State(State::Stopped(Stop::Store("disk full".into())))));
}

/// An app that is behind says of its old copy what it holds, and forgets it then.
#[test]
fn what_an_app_says_late_of_a_copy_that_is_void_does_not_count() {
    let mut driver = begins_anew(false);
    for late in ["1.9", "1.10"] {
        driver.machine.applied(driver.moment(), &late.into());
        driver.settle();
        assert_eq!(driver.saved.cursor, None);
    }
    driver.machine.applied(driver.moment(), &"1.11".into());
    driver.settle();
    assert_eq!(driver.saved.cursor, Some(Position::read("1.11")));
}

#[test]
fn the_store_has_the_cursor_that_the_app_has_applied() {
    let mut driver = Driver::new(&["ws://a:1"]);
    driver.live(0, "1.10");
    driver.frame(&events("1.12"));
    assert_eq!(driver.saved.cursor, None);
    driver.machine.applied(driver.moment(), &"1.10".into());
    driver.settle();
    let mut driver = driver.restart();
    driver.until_connect();
    assert_eq!(driver.connected().cursor.as_deref(), Some("1.10"));
}

#[test]
fn a_cursor_without_news_goes_along_once_a_minute_if_the_app_has_everything() {
    let mut driver = Driver::new(&["ws://a:1"]);
    driver.live(0, "1.10");
    let minute = |driver: &mut Driver, ordinal: u64| {
        for second in 0..60 {
            driver.run(1_000);
            driver.frame(&ServerFrame::Pong { id: 1, pos: format!("1.{}", ordinal + second) });
        }
        driver.saved.cursor.as_ref().map(ToString::to_string)
    };
    assert_eq!(minute(&mut driver, 100), None);
    driver.machine.applied(driver.moment(), &"1.10".into());
    driver.settle();
    assert_eq!(minute(&mut driver, 200).as_deref(), Some("1.259"));
    driver.frame(&events("1.270"));
    assert_eq!(minute(&mut driver, 300).as_deref(), Some("1.259"));
}

#[test]
fn what_this_version_does_not_know_is_passed_over() {
    let mut driver = Driver::new(&["ws://a:1"]);
    driver.live(0, "1.10");
    driver.delivered.clear();
    for text in [
        r#"{"typing":{"room":1}}"#,
        "no json",
        r#"{"events":{"pos":"1.11","list":[{"later":{}},{"left":{"room":3}}]}}"#,
    ] {
        driver.text(text);
    }
    let delivery = Delivery::Events { pos: "1.11".into(), list: vec![Event::Left { room: 3 }] };
    assert_eq!(driver.delivered, [delivery]);
    assert_eq!((driver.machine.passed_over(), driver.closes), (3, 0));
    assert_eq!(cursor(&driver), "1.11");
}

#[test]
fn a_second_welcome_is_passed_over() {
    let mut driver = Driver::new(&["ws://a:1"]);
    driver.live(0, "1.10");
    driver.submit("hi");
    driver.commands();
    driver.welcome(0, "1.10");
    assert_eq!(driver.commands(), []);
}

#[test]
fn a_server_is_told_who_types_once_in_a_while_and_only_if_it_takes_that() {
    let typed = |driver: &mut Driver, room| {
        driver.machine.typing(driver.moment(), room);
        driver.settle();
        let sent = std::mem::take(&mut driver.sent);
        sent.iter().filter(|frame| matches!(frame, ClientFrame::Typing(typing) if typing.room == room)).count()
    };
    let mut driver = Driver::new(&["ws://a:1"]);
    assert_eq!(typed(&mut driver, 1), 0, "nobody is connected");
    driver.live(0, "1.1");
    assert_eq!(typed(&mut driver, 1), 0, "it is an older server");
    driver.lose_connection();
    driver.until_connect();
    driver.connected();
    let takes = vec!["more".to_owned(), "typing".to_owned()];
    let welcome = Welcome { n: 0, pos: "1.1".into(), user: 1, resync: false, endpoints: vec![], takes };
    driver.frame(&ServerFrame::Welcome(welcome));
    assert_eq!(typed(&mut driver, 1), 0, "it is not caught up");
    driver.frame(&ServerFrame::CaughtUp { pos: "1.1".into() });
    assert_eq!([1, 1, 2, 2].map(|room| typed(&mut driver, room)), [1, 0, 1, 0]);
    driver.now += 2_999;
    assert_eq!(typed(&mut driver, 2), 0);
    driver.now += 1;
    assert_eq!(typed(&mut driver, 2), 1);
    driver.frame(&ServerFrame::Typing { room: 1, user: 9 });
    assert_eq!(driver.delivered.last(), Some(&Delivery::Typing { room: 1, user: 9 }));
}
