//! Connecting, noticing silence, moving, waiting, stopping.

use super::*;

const A: &str = "ws://a:1";
const B: &str = "ws://b:1";

#[test]
fn the_first_attempt_is_immediate() {
    let mut driver = Driver::new(&[A]);
    driver.run(0);
    assert_eq!(driver.connects.len(), 1);
}

#[test]
fn a_server_that_hangs_is_left_for_the_other_within_two_seconds() {
    let mut driver = Driver::new(&[A, B]);
    driver.live(0, "1.10");
    let first = driver.connects[0].to_string();
    driver.random = 200;
    // Alive until here, then silent: the next ping is not answered.
    driver.run(1_000);
    driver.frame(&ServerFrame::Pong { id: 1, pos: "1.10".into() });
    let silent_since = driver.now;
    driver.submit("hi");
    driver.commands();
    let second = driver.until_connect();
    assert_ne!(second, first);
    assert!(driver.now - silent_since <= 1_000 + 1_500 + 200, "{}", driver.now - silent_since);
    driver.connected();
    driver.welcome(0, "1.10");
    assert_eq!(driver.commands(), pairs(&[(1, "hi")]));
}

#[test]
fn a_server_that_takes_connections_and_says_nothing_is_left_too() {
    let mut driver = Driver::new(&[A, B]);
    let first = driver.until_connect();
    driver.connected();
    driver.run(1_999);
    assert_eq!((driver.closes, driver.at()), (0, first.clone()), "the other, tried beside it, is not there");
    driver.run(1);
    assert_eq!((driver.closes, driver.hello), (1, None));
    driver.connected();
    assert_ne!(driver.at(), first);
}

#[test]
fn one_server_alone_is_tried_again() {
    let mut driver = Driver::new(&[A]);
    driver.live(0, "1.10");
    driver.lose_connection();
    assert_eq!(driver.until_connect(), A);
}

#[test]
fn any_frame_is_a_sign_of_life() {
    let mut driver = Driver::new(&[A]);
    driver.live(0, "1.10");
    for _ in 0..100 {
        driver.run(1_400);
        driver.text(r#"{"later":{}}"#);
    }
    assert_eq!(driver.connects.len(), 1);
}

#[test]
fn pings_come_every_second_in_the_foreground_and_every_thirty_in_the_background() {
    let mut driver = Driver::new(&[A]);
    driver.live(0, "1.10");
    let count = |driver: &mut Driver| {
        driver.pings();
        for _ in 0..60 {
            driver.run(1_000);
            driver.frame(&ServerFrame::Pong { id: 1, pos: "1.10".into() });
        }
        driver.pings()
    };
    assert_eq!(count(&mut driver), 60);
    driver.machine.foreground(driver.moment(), false);
    assert_eq!(count(&mut driver), 2);
    driver.machine.foreground(driver.moment(), true);
    driver.run(0);
    assert_eq!(driver.pings(), 1);
}

#[test]
fn while_the_app_is_slow_silence_is_no_sign_of_anything() {
    let mut driver = Driver::new(&[A]);
    driver.live(0, "1.10");
    driver.machine.listening(driver.moment(), false);
    driver.run(60_000);
    driver.machine.listening(driver.moment(), true);
    driver.run(1_499);
    assert_eq!(driver.closes, 0);
    driver.run(1);
    assert_eq!(driver.closes, 1);
}

/// The waits before attempts that all fail.
fn waits(driver: &mut Driver, attempts: u32) -> Vec<u64> {
    let mut waits = Vec::new();
    for _ in 0..attempts {
        driver.until_connect();
        let failed_at = driver.now;
        driver.unreachable(None);
        waits.push(driver.machine.deadline().unwrap() - failed_at);
    }
    waits
}

#[test]
fn backoff_has_full_jitter_within_its_bounds() {
    for (foreground, cap) in [(true, 5_000), (false, 60_000)] {
        for random in [0, 1, 77, 1 << 20, u64::MAX - 1, u64::MAX] {
            let mut settings = settings(&[A]);
            settings.foreground = foreground;
            let mut driver = Driver::with(settings, Saved::default());
            driver.random = random;
            for (round, wait) in waits(&mut driver, 20).into_iter().enumerate() {
                let bound = (200_u64 << round).min(cap);
                assert_eq!(wait, random % (bound + 1));
            }
        }
    }
}

#[test]
fn several_servers_are_tried_in_turn_before_the_waits_grow() {
    let mut driver = Driver::new(&[A, B, "ws://c:1"]);
    driver.random = 200;
    let waits = waits(&mut driver, 6);
    assert_eq!(waits, [200, 200, 200, 200, 200, 200]);
    driver.random = 399;
    let mut tried: Vec<String> = driver.connects.iter().map(ToString::to_string).collect();
    let again = tried.split_off(3);
    assert_eq!(tried, again);
    tried.sort();
    tried.dedup();
    assert_eq!(tried.len(), 3);
}

#[test]
fn a_session_that_lasted_makes_the_waits_short_again() {
    let mut driver = Driver::new(&[A]);
    waits(&mut driver, 10);
    driver.live(0, "1.1");
    driver.random = 200;
    driver.lose_connection();
    assert!(driver.machine.failures > 10, "it did not last");
    driver.live(0, "1.1");
    driver.machine.listening(driver.moment(), false);
    driver.run(2_000);
    driver.lose_connection();
    assert_eq!(driver.waiting_for().unwrap().1, 200);
}

#[test]
fn coming_to_the_foreground_ends_a_long_wait() {
    let mut settings = settings(&[A]);
    settings.foreground = false;
    let mut driver = Driver::with(settings, Saved::default());
    driver.random = 59_999;
    waits(&mut driver, 12);
    driver.machine.foreground(driver.moment(), true);
    assert!(driver.machine.deadline().unwrap() <= driver.now + 200);
}

#[test]
fn some_goodbyes_are_final_and_keep_the_outbox() {
    for code in [Code::Replaced, Code::LoggedOut, Code::SecretWrong] {
        let mut driver = Driver::new(&[A, B]);
        driver.live(0, "1.10");
        driver.submit("hi");
        driver.bye(code.problem());
        assert_eq!(driver.machine.deadline(), None);
        let stop = Stop::Told(Box::new(code.problem()));
        assert_eq!(driver.delivered.last(), Some(&Delivery::State(State::Stopped(stop.clone()))));
        assert_eq!(driver.saved.outbox.len(), 1);
        assert_eq!(driver.machine.submit(CommandId(99), &say("late")), Err(Failure::Stopped(stop)));
    }
}

#[test]
fn a_wrong_secret_is_final_before_the_welcome_too() {
    let mut driver = Driver::new(&[A]);
    driver.until_connect();
    driver.connected();
    driver.bye(Code::SecretWrong.problem());
    assert_eq!(driver.machine.deadline(), None);
}

#[test]
fn after_another_goodbye_the_client_goes_where_it_is_pointed_or_waits_as_told() {
    let problem = |retry, endpoints: &[&str]| Problem {
        retry_after_ms: Some(retry),
        endpoints: endpoints.iter().map(ToString::to_string).collect(),
        ..Code::Unavailable.problem()
    };
    for (problem, to, after) in [
        (problem(700, &[B]), B, 150),
        (problem(700, &[A, B]), B, 150),
        (problem(700, &[]), A, 850),
        (problem(700, &[A]), A, 850),
    ] {
        let mut driver = Driver::new(&[A]);
        driver.random = 150;
        driver.live(0, "1.10");
        let from = driver.now;
        driver.bye(problem);
        assert_eq!((driver.until_connect(), driver.now - from), (to.to_owned(), after));
    }
    let mut driver = Driver::new(&[A]);
    driver.random = 150;
    // A server that sends its sessions away one after the other says that each may come at once.
    driver.live(0, "1.10");
    driver.machine.listening(driver.moment(), false);
    driver.run(2_000);
    driver.bye(problem(0, &[A, B]));
    let from = driver.now;
    assert_eq!((driver.until_connect(), driver.now - from), (B.to_owned(), 0));
}

#[test]
fn a_slow_reader_goes_back_to_the_same_server() {
    let mut driver = Driver::new(&[A, B]);
    driver.live(0, "1.10");
    let first = driver.connects[0].to_string();
    driver.bye(Code::SlowReader.problem());
    assert_eq!(driver.until_connect(), first);
}

#[test]
fn a_refusal_that_names_other_servers_moves_the_client() {
    let mut driver = Driver::new(&[A]);
    driver.live(0, "1.10");
    driver.submit("hi");
    driver.commands();
    let mut problem = Code::Unavailable.problem();
    problem.endpoints = vec![B.into()];
    driver.refuse(1, problem);
    assert_eq!(driver.until_connect(), B);
    driver.connected();
    driver.welcome(0, "1.10");
    assert_eq!(driver.commands(), pairs(&[(1, "hi")]));
}

#[test]
fn a_server_that_stays_cut_off_from_the_log_is_left() {
    let mut driver = Driver::new(&[A, B]);
    driver.live(0, "1.10");
    let first = driver.connects[0].to_string();
    driver.submit("hi");
    driver.refuse(1, Code::Unavailable.problem());
    driver.run(600);
    assert_eq!((driver.closes, driver.commands().len()), (0, 2));
    driver.refuse(1, Code::Unavailable.problem());
    assert_eq!(driver.closes, 1);
    assert_ne!(driver.until_connect(), first);
}

#[test]
fn servers_that_a_welcome_names_are_tried_when_this_one_fails() {
    let mut driver = Driver::new(&[A]);
    driver.until_connect();
    driver.connected();
    let endpoints = vec![B.to_owned()];
    let welcome = Welcome { n: 0, pos: "1.1".into(), user: 1, resync: false, endpoints, takes: Vec::new() };
    driver.frame(&ServerFrame::Welcome(welcome));
    driver.lose_connection();
    assert_eq!(driver.until_connect(), B);
}

#[test]
fn what_a_server_says_to_a_connection_that_it_refuses_is_heeded() {
    let mut driver = Driver::new(&[A]);
    driver.until_connect();
    let mut problem = Code::TooManySessions.problem();
    problem.endpoints = vec![B.into()];
    driver.unreachable(Some(problem));
    driver.until_connect();
    assert_eq!(driver.connects.last().unwrap().to_string(), B);
    // The second one says the same: the round is over.
    let mut problem = Code::TooManySessions.problem();
    problem.endpoints = vec![A.into()];
    driver.unreachable(Some(problem));
    let from = driver.now;
    assert_eq!(driver.until_connect(), A);
    assert!(driver.now - from < 1_000);
    driver.unreachable(Some(Code::TooManySessions.problem()));
    let from = driver.now;
    driver.until_connect();
    assert!(driver.now - from >= 1_000);
}

#[test]
fn frames_of_a_connection_that_was_left_are_not_heard() {
    let mut driver = Driver::new(&[A]);
    driver.live(0, "1.10");
    driver.submit("hi");
    driver.lose_connection();
    driver.delivered.clear();
    driver.ack(1, "1.11");
    driver.frame(&ServerFrame::Events { pos: "1.12".into(), list: vec![] });
    assert_eq!(driver.delivered, []);
    assert_eq!(driver.machine.cursor(), Some(&Position::read("1.10")));
}

#[test]
fn a_client_that_is_stopped_closes_and_does_nothing_more() {
    let mut driver = Driver::new(&[A]);
    driver.live(0, "1.10");
    driver.machine.stop();
    driver.settle();
    assert_eq!(driver.closes, 1);
    driver.run(100_000);
    driver.ack(1, "1.1");
    assert_eq!(driver.delivered.last(), Some(&Delivery::State(State::Stopped(Stop::Closed))));
}

#[test]
fn a_welcome_with_a_number_beyond_all_numbers_ends_the_connection() {
    let mut driver = Driver::new(&["ws://a.example"]);
    driver.submit("one");
    driver.until_connect();
    driver.connected();
    driver.welcome(u64::MAX, "1.1");
    assert!(matches!(driver.waiting_for(), Some((Some(Why::Broken(_)), _))));
    driver.live(0, "1.1");
    assert_eq!(driver.commands(), pairs(&[(1, "one")]));
}
