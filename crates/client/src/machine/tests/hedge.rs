//! Another server beside one that does not answer, and how long a person notices that a server is gone.

use std::collections::BTreeMap;

use super::*;

const A: &str = "ws://a:1";
const B: &str = "ws://b:1";
const C: &str = "ws://c:1";

/// The endpoints that are named from now on.
fn name(driver: &mut Driver, list: &[&str]) {
    driver.frame(&ServerFrame::Endpoints { list: list.iter().map(ToString::to_string).collect() });
}

/// What is heard of a server that is there.
fn pong(driver: &mut Driver) {
    let id = driver.machine.pings;
    driver.frame(&ServerFrame::Pong { id, pos: "1.10".into() });
}

#[test]
fn a_second_server_is_tried_while_the_first_has_not_answered() {
    let mut driver = Driver::new(&[A, B, C]);
    let first = driver.until_connect();
    driver.run(299);
    assert_eq!(driver.connects.len(), 1);
    driver.run(1);
    assert_eq!(driver.connects.len(), 2);
    assert_ne!(driver.connects[1].to_string(), first);
    driver.run(1_000);
    assert_eq!(driver.connects.len(), 2, "two at a time");
    driver.connected();
    let second = driver.at();
    // The first one answers after all, too late.
    driver.reached(1);
    assert_eq!(driver.at(), second);
    driver.welcome(0, "1.10");
    assert_eq!(driver.lines.keys().copied().collect::<Vec<_>>(), [2], "the other is closed");
    assert_eq!(
        driver.delivered.last(),
        Some(&Delivery::State(State::CatchingUp { endpoint: second.parse().unwrap(), user: 1 }))
    );
}

#[test]
fn hello_is_said_on_one_connection_at_a_time() {
    let mut driver = Driver::new(&[A, B]);
    let first = driver.until_connect();
    driver.run(300);
    driver.reached(1);
    driver.run(100);
    driver.reached(2);
    assert_eq!(driver.at(), first, "the second waits");
    driver.run(899);
    assert_eq!(driver.at(), first);
    // A server that takes hello and says nothing for a second is left for the one that is ready; the driver looks that it is closed before.
    driver.run(1);
    assert_eq!(driver.lines.keys().copied().collect::<Vec<_>>(), [2]);
    assert_ne!(driver.at(), first);
    driver.welcome(0, "1.10");
    assert!(matches!(driver.machine.link, Link::Up(_)));
}

#[test]
fn a_goodbye_before_the_welcome_costs_nothing_where_another_server_is_ready() {
    let mut driver = Driver::new(&[A, B]);
    let first = driver.until_connect();
    driver.run(300);
    driver.reached(1);
    driver.reached(2);
    let before = driver.now;
    driver.bye(Code::Unavailable.problem());
    assert_eq!((driver.now, driver.lines.len()), (before, 1));
    assert_ne!(driver.at(), first);
}

#[test]
fn a_server_that_refuses_does_not_make_the_client_try_the_others_without_a_pause() {
    let mut driver = Driver::new(&[A, B, C]);
    driver.random = 200;
    driver.until_connect();
    for _ in 0..10 {
        driver.run(300);
        if driver.lines.len() > 1 {
            driver.unreachable(None);
        }
    }
    assert!(driver.connects.len() <= 10, "{}", driver.connects.len());
}

#[test]
fn nothing_is_tried_beside_in_the_background_nor_alone_nor_after_a_round_in_vain() {
    let mut background = settings(&[A, B]);
    background.foreground = false;
    let mut in_vain = Driver::new(&[A, B]);
    in_vain.random = 200;
    for _ in 0..2 {
        in_vain.until_connect();
        in_vain.unreachable(None);
    }
    for mut driver in [Driver::with(background, Saved::default()), Driver::new(&[A]), in_vain] {
        driver.until_connect();
        let before = driver.connects.len();
        driver.run(1_999);
        assert_eq!(driver.connects.len(), before);
    }
}

#[test]
fn a_session_that_does_not_answer_is_left_once_another_server_is_there() {
    let mut driver = Driver::new(&[A, B]);
    driver.live(0, "1.10");
    let first = driver.at();
    driver.run(1_000);
    pong(&mut driver);
    driver.run(1_000 + 499);
    assert_eq!(driver.connects.len(), 1);
    driver.run(1);
    assert_eq!((driver.connects.len(), driver.at()), (2, first.clone()), "it stays until the other is there");
    driver.run(40);
    driver.submit("hi");
    driver.sent.clear();
    driver.reached(2);
    assert_ne!(driver.at(), first);
    assert_eq!(driver.lines.len(), 1);
    driver.welcome(0, "1.10");
    assert_eq!(driver.commands(), pairs(&[(1, "hi")]), "what was under way goes with it");
}

#[test]
fn a_session_that_answers_late_is_kept() {
    let mut driver = Driver::new(&[A, B]);
    driver.live(0, "1.10");
    let first = driver.at();
    driver.run(1_000 + 600);
    assert_eq!(driver.lines.len(), 2);
    pong(&mut driver);
    assert_eq!((driver.lines.len(), driver.at()), (1, first.clone()), "the other is closed, and heard nothing");
    // It is known to be slow from here on.
    driver.run(400);
    for _ in 0..5 {
        driver.run(700);
        pong(&mut driver);
        driver.run(300);
    }
    assert_eq!((driver.connects.len(), driver.at()), (2, first));
}

#[test]
fn an_app_that_is_slow_while_it_connects_connects_all_the_same() {
    let mut driver = Driver::new(&[A, B]);
    driver.until_connect();
    for listening in [false, true] {
        driver.machine.listening(driver.moment(), listening);
        driver.settle();
        assert_eq!(driver.lines.len(), 1);
    }
    driver.connected();
    driver.welcome(0, "1.10");
    // In a session it is no news that a server is heard again which was not listened to.
    driver.frame(&ServerFrame::CaughtUp { pos: "1.10".into() });
    driver.run(1_500);
    assert_eq!(driver.lines.len(), 2);
    driver.machine.listening(driver.moment(), false);
    driver.settle();
    assert_eq!(driver.lines.len(), 1);
    driver.run(60_000);
    driver.machine.listening(driver.moment(), true);
    driver.run(499);
    assert_eq!(driver.lines.len(), 1);
    driver.run(1);
    assert_eq!(driver.lines.len(), 2, "it is tried anew, as long after");
}

#[test]
fn pings_in_the_background_and_during_the_catch_up_raise_no_doubt() {
    let mut driver = Driver::new(&[A, B]);
    driver.until_connect();
    driver.connected();
    driver.welcome(0, "1.10");
    driver.run(1_999);
    assert_eq!(driver.connects.len(), 1);
    let mut driver = Driver::new(&[A, B]);
    driver.live(0, "1.10");
    driver.machine.foreground(driver.moment(), false);
    driver.run(31_499);
    assert_eq!(driver.connects.len(), 1);
    driver.run(1);
    assert_eq!(driver.closes, 1, "it is silent");
}

#[test]
fn new_endpoints_are_known_at_once_and_by_the_next_process() {
    let mut driver = Driver::new(&[A]);
    driver.live(0, "1.10");
    name(&mut driver, &[A, B]);
    assert_eq!(driver.saved.endpoints, [A, B]);
    name(&mut driver, &[A, C]);
    driver.lose_connection();
    assert_eq!(driver.until_connect(), C, "b is not there any more");
    let mut next = driver.restart();
    let mut tried = vec![next.until_connect()];
    next.run(300);
    tried.push(next.connects[1].to_string());
    tried.sort();
    assert_eq!(tried, [A, C]);
}

/// Two names may lead to the same server, and the network may hold a hello back.
#[test]
fn a_hello_that_was_given_up_and_arrives_late_does_not_stop_the_client() {
    let mut driver = Driver::new(&[A, B]);
    driver.until_connect();
    driver.run(300);
    driver.reached(1);
    driver.reached(2);
    driver.run(1_000);
    driver.welcome(0, "1.10");
    driver.frame(&ServerFrame::CaughtUp { pos: "1.10".into() });
    driver.bye(Code::Replaced.problem());
    driver.live(0, "1.10");
    driver.bye(Code::Replaced.problem());
    assert_eq!(driver.machine.deadline(), None, "that was another client");
}

/// A network that holds one hello back may hold back the next.
#[test]
fn each_hello_that_was_given_up_may_arrive_late_once() {
    let mut driver = Driver::new(&[A, B]);
    driver.until_connect();
    driver.run(300);
    driver.reached(1);
    driver.reached(2);
    driver.run(3_000);
    driver.live(0, "1.10");
    for _ in 0..2 {
        driver.bye(Code::Replaced.problem());
        driver.live(0, "1.10");
    }
    driver.bye(Code::Replaced.problem());
    assert_eq!(driver.machine.deadline(), None, "that was another client");
}

#[test]
fn a_session_elsewhere_comes_home_after_minutes_and_in_a_quiet_moment() {
    let mut liked = settings(&[A, B]);
    liked.home = Some(A.parse().unwrap());
    let mut driver = Driver::with(liked, Saved::default());
    driver.random = 100_000;
    assert_eq!(driver.until_connect(), A);
    driver.unreachable(None);
    driver.live(0, "1.10");
    assert_eq!(driver.at(), B);
    name(&mut driver, &[B, C]);
    let alive = |driver: &mut Driver, ms: u64| {
        for _ in 0..ms / 500 {
            driver.run(500);
            pong(driver);
        }
    };
    alive(&mut driver, 300_000);
    assert_eq!(driver.lines.len(), 1, "the servers say that it is not there");
    name(&mut driver, &[A, B, C]);
    // Half of five minutes and the random part, twice.
    alive(&mut driver, 199_500);
    let connects = driver.connects.len();
    driver.run(500);
    assert_eq!((driver.connects.len(), driver.connects[connects].to_string()), (connects + 1, A.to_owned()));
    driver.submit("hi");
    driver.sent.clear();
    driver.reached(driver.last());
    assert_eq!(driver.at(), B, "somebody waits for an answer");
    driver.ack(1, "1.11");
    assert_eq!((driver.at(), driver.lines.len()), (A.to_owned(), 1));
    let before = driver.now;
    driver.welcome(1, "1.11");
    driver.frame(&ServerFrame::CaughtUp { pos: "1.11".into() });
    assert_eq!(driver.now, before);
    alive(&mut driver, 1_000_000);
    assert_eq!(driver.at(), A);
}

/// What becomes of a server.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Well,
    /// It is frozen, or its wires are cut: nothing comes of what is sent to it.
    Mute,
    /// Its process is dead: connections break, new ones are refused.
    Dead,
    /// It cannot get anything through to the log, and says so this long after.
    Stuck(u64),
    /// It sends its sessions elsewhere.
    Drains,
}

enum Happens {
    Connected(Line),
    Refused(Line),
    Frame(Line, String),
    Broken(Line),
}

fn text_of_frame(frame: &ServerFrame) -> String {
    serde_json::to_string(frame).unwrap()
}

/// Servers and the ways to them, on a clock of the test's own.
struct Net {
    machine: Machine,
    now: u64,
    /// There and back, in milliseconds.
    round_trip: u64,
    /// What becomes of which server, and when.
    fates: BTreeMap<String, Fate>,
    at: u64,
    lines: BTreeMap<Line, String>,
    happens: BTreeMap<(u64, u64), Happens>,
    count: u64,
    random: u64,
    live: Option<(u64, String)>,
}

impl Net {
    fn fate(&self, server: &str) -> Fate {
        if self.now < self.at { Fate::Well } else { self.fates.get(server).copied().unwrap_or(Fate::Well) }
    }

    fn after(&mut self, ms: u64, what: Happens) {
        self.count += 1;
        self.happens.insert((self.now + ms, self.count), what);
    }

    fn moment(&mut self) -> Moment {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Moment { now: self.now, random: self.random >> 20 }
    }

    fn settle(&mut self) {
        while let Some(output) = self.machine.next_output() {
            match output {
                Output::Store(_) => {
                    let moment = self.moment();
                    self.machine.stored(moment, Ok(()));
                }
                Output::Connect { line, endpoint } => {
                    // TCP, TLS and WebSocket: a way there and back for each.
                    match self.fate(&endpoint.to_string()) {
                        Fate::Mute => {}
                        Fate::Dead => self.after(self.round_trip, Happens::Refused(line)),
                        _ => self.after(3 * self.round_trip, Happens::Connected(line)),
                    }
                    self.lines.insert(line, endpoint.to_string());
                }
                Output::Send { line, text } => self.sent(line, &text),
                Output::Close { line } => drop(self.lines.remove(&line)),
                Output::Deliver(Delivery::State(State::Live { endpoint })) => {
                    self.live = Some((self.now, endpoint.to_string()));
                }
                Output::Deliver(_) => {}
            }
        }
    }

    fn sent(&mut self, line: Line, text: &str) {
        let server = self.lines[&line].clone();
        let answers: Vec<ServerFrame> = match serde_json::from_str(text).unwrap() {
            ClientFrame::Hello(_) => match self.fate(&server) {
                Fate::Mute | Fate::Dead => return,
                Fate::Stuck(_) => vec![ServerFrame::Bye(Code::Unavailable.problem())],
                Fate::Drains => vec![ServerFrame::Bye(Code::ShuttingDown.problem())],
                Fate::Well => {
                    let endpoints = vec![A.to_owned(), B.to_owned(), C.to_owned()];
                    let pos = "1.1".to_owned();
                    vec![
                        ServerFrame::Welcome(Welcome {
                            n: 0,
                            pos: pos.clone(),
                            user: 1,
                            resync: false,
                            endpoints,
                            takes: Vec::new(),
                        }),
                        ServerFrame::CaughtUp { pos },
                    ]
                }
            },
            ClientFrame::Ping(ping) if !matches!(self.fate(&server), Fate::Mute | Fate::Dead) => {
                vec![ServerFrame::Pong { id: ping.id, pos: "1.1".into() }]
            }
            _ => return,
        };
        answers.iter().for_each(|frame| self.after(self.round_trip, Happens::Frame(line, text_of_frame(frame))));
    }

    /// The harm is done.
    fn harm(&mut self) {
        let elsewhere = |code: Code, endpoints: &[&str], retry| {
            let endpoints = endpoints.iter().map(ToString::to_string).collect();
            text_of_frame(&ServerFrame::Bye(Problem { endpoints, retry_after_ms: Some(retry), ..code.problem() }))
        };
        for (line, server) in self.lines.clone() {
            match self.fates.get(&server) {
                Some(Fate::Dead) => self.after(self.round_trip / 2, Happens::Broken(line)),
                Some(Fate::Stuck(after)) => {
                    self.after(
                        after + self.round_trip / 2,
                        Happens::Frame(line, elsewhere(Code::Unavailable, &[B, C], 500)),
                    );
                }
                Some(Fate::Drains) => {
                    self.after(self.round_trip / 2, Happens::Frame(line, elsewhere(Code::ShuttingDown, &[B, C], 0)));
                }
                _ => {}
            }
        }
    }

    fn run(&mut self, until: u64) {
        self.settle();
        loop {
            let next = self.happens.keys().next().map(|(at, _)| *at);
            let due = [next, self.machine.deadline()].into_iter().flatten().min().filter(|due| *due <= until);
            let Some(due) = due else { break };
            self.now = self.now.max(due);
            let moment = self.moment();
            match self.happens.first_entry().filter(|entry| entry.key().0 <= due).map(|entry| entry.remove()) {
                Some(Happens::Connected(line)) if self.lines.contains_key(&line) => {
                    self.machine.connected(moment, line)
                }
                Some(Happens::Refused(line)) => self.machine.failed(moment, line, "refused".into(), None),
                Some(Happens::Broken(line)) => self.machine.closed(moment, line, "reset".into()),
                Some(Happens::Frame(line, frame)) => {
                    self.machine.frame(moment, line, &frame);
                }
                Some(Happens::Connected(_)) => {}
                None => self.machine.tick(moment),
            }
            self.settle();
        }
        self.now = until;
    }
}

/// How long a person in the foreground is without a session when this becomes of the server at `a`, and that of the one at `b`: the worst of
/// many moments, in milliseconds.
fn worst(a: Fate, b: Fate, round_trip: u64, timing: Timing) -> u64 {
    (0..1_000).map(|run| outage(a, b, round_trip, timing, run)).max().unwrap()
}

fn outage(a: Fate, b: Fate, round_trip: u64, timing: Timing, run: u64) -> u64 {
    let mut liked = settings(&[A, B, C]);
    liked.timing = timing;
    liked.home = Some(A.parse().unwrap());
    let moment = Moment { now: 0, random: run };
    let at = 10_000 + run;
    let mut net = Net {
        machine: Machine::new(liked, Saved::default(), None, moment),
        now: 0,
        round_trip,
        fates: [(A.to_owned(), a), (B.to_owned(), b)].into(),
        at,
        lines: BTreeMap::new(),
        happens: BTreeMap::new(),
        count: 0,
        random: run,
        live: None,
    };
    // What the server has sent before is on its way still, and heard after.
    net.run(at - 1);
    assert_eq!(net.live.take().map(|(_, server)| server), Some(A.to_owned()));
    net.now = at;
    if matches!(a, Fate::Mute) {
        net.happens.retain(|(arrives, _), _| *arrives < at + round_trip / 2);
    }
    net.harm();
    net.run(at + 60_000);
    let (back, _) = net.live.expect("a session elsewhere");
    back - at
}

/// The worst cases by the client's doing, in milliseconds, with a round trip of 20 ms (and of 150 ms): what delivery.md and the drills'
/// page rest on. A server that is stuck has said so after 1.9 s.
#[test]
fn how_long_a_person_notices_that_a_server_is_gone() {
    let figures = |a, b| [20, 150].map(|round_trip| worst(a, b, round_trip, Timing::default()));
    let table = [
        ("frozen or cut off", figures(Fate::Mute, Fate::Well)),
        ("frozen, and a second one too", figures(Fate::Mute, Fate::Mute)),
        ("killed", figures(Fate::Dead, Fate::Well)),
        ("killed, and a second one cut off", figures(Fate::Dead, Fate::Mute)),
        ("stuck", figures(Fate::Stuck(1_900), Fate::Well)),
        ("draining", figures(Fate::Drains, Fate::Well)),
        ("draining, and a second one too", figures(Fate::Drains, Fate::Drains)),
    ];
    println!("{table:#?}");
    let expected = [[1_569, 2_024], [1_869, 2_324], [290, 875], [590, 1_175], [2_190, 2_775], [90, 675], [370, 975]];
    assert_eq!(table.map(|(_, figures)| figures), expected);
    // The same without trying another server beside one that does not answer.
    let alone = Timing { doubt_ms: 100_000, hedge_ms: 100_000, ..Timing::default() };
    let figures = |a, b| [20, 150].map(|round_trip| worst(a, b, round_trip, alone));
    let slow = [figures(Fate::Mute, Fate::Well), figures(Fate::Mute, Fate::Mute)];
    assert_eq!(slow, [[2_762, 3_179], [4_940, 5_336]]);
}
