//! The machine with a clock and a network of the test's own.

mod hedge;
mod link;
mod model;
mod outbox;
mod stream;

use std::collections::BTreeMap;

use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{Ack, Change, ClientFrame, Cmd, Done, Hello, ServerFrame, Welcome};

use super::*;

/// A machine, what it asked for, and what its store holds.
pub(super) struct Driver {
    pub(super) machine: Machine,
    pub(super) now: u64,
    pub(super) saved: Saved,
    /// What a power cut leaves of it.
    durable: Saved,
    pub(super) sent: Vec<ClientFrame>,
    pub(super) delivered: Vec<Delivery>,
    pub(super) connects: Vec<Endpoint>,
    /// Attempts and connections that are not closed, with their endpoint.
    pub(super) lines: BTreeMap<Line, Endpoint>,
    /// The connection on which hello was said last, until it is closed.
    pub(super) hello: Option<Line>,
    pub(super) closes: usize,
    pub(super) random: u64,
    pub(super) broken_store: bool,
    next_id: u128,
}

fn settings(endpoints: &[&str]) -> Settings {
    Settings {
        device: 7,
        secret: "secret".into(),
        client: None,
        endpoints: endpoints.iter().map(|text| text.parse().unwrap()).collect(),
        home: None,
        foreground: true,
        timing: Timing::default(),
        limits: Limits::default(),
    }
}

pub(super) fn say(text: &str) -> Change {
    Change::Send { room: 1, text: text.into(), reply_to: None }
}

impl Driver {
    pub(super) fn new(endpoints: &[&str]) -> Self {
        Self::with(settings(endpoints), Saved::default())
    }

    pub(super) fn with(settings: Settings, saved: Saved) -> Self {
        let machine = Machine::new(settings, saved.clone(), None, Moment { now: 0, random: 0 });
        Self {
            machine,
            now: 0,
            durable: saved.clone(),
            saved,
            sent: Vec::new(),
            delivered: Vec::new(),
            connects: Vec::new(),
            lines: BTreeMap::new(),
            hello: None,
            closes: 0,
            random: 0,
            broken_store: false,
            next_id: 1,
        }
    }

    /// The same device in a new process.
    pub(super) fn restart(self) -> Self {
        let mut next = Self::with(self.machine.settings.clone(), self.saved);
        next.next_id = self.next_id;
        next
    }

    /// The same device after the power was cut.
    pub(super) fn power_cut(mut self) -> Self {
        self.saved = self.durable.clone();
        self.restart()
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { now: self.now, random: self.random }
    }

    /// Does what the machine asks for.
    pub(super) fn settle(&mut self) {
        while let Some(output) = self.machine.next_output() {
            match output {
                Output::Store(_) if self.broken_store => {
                    self.machine.stored(self.moment(), Err("disk full".into()));
                }
                Output::Store(writes) => {
                    writes.iter().for_each(|write| self.saved.apply(write));
                    if writes.iter().any(Write::must_last) {
                        self.durable = self.saved.clone();
                    }
                    self.machine.stored(self.moment(), Ok(()));
                }
                Output::Connect { line, endpoint } => {
                    self.connects.push(endpoint.clone());
                    assert_eq!(self.lines.insert(line, endpoint), None, "a number is one connection's");
                    assert!(self.lines.len() <= 3, "so many connections: {:?}", self.lines);
                }
                Output::Send { line, text } => {
                    assert!(self.lines.contains_key(&line), "it sends on a connection that is closed");
                    let frame = serde_json::from_str(&text).unwrap();
                    if matches!(frame, ClientFrame::Hello(_)) {
                        assert_eq!(self.hello, None, "hello was said before, on a connection that is not closed");
                        self.hello = Some(line);
                    }
                    self.sent.push(frame);
                }
                Output::Close { line } => {
                    self.closes += 1;
                    assert!(self.lines.remove(&line).is_some(), "it closes twice");
                    self.hello = self.hello.filter(|of| *of != line);
                }
                Output::Deliver(delivery) => self.delivered.push(delivery),
            }
        }
    }

    /// Lets time pass until `until`, with every tick on the way.
    pub(super) fn run_until(&mut self, until: u64) {
        self.settle();
        while let Some(deadline) = self.machine.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.machine.tick(self.moment());
            self.settle();
        }
        self.now = until;
    }

    pub(super) fn run(&mut self, ms: u64) {
        self.run_until(self.now + ms);
    }

    /// Lets time pass until the machine wants to connect; says where.
    pub(super) fn until_connect(&mut self) -> String {
        let before = self.connects.len();
        while self.connects.len() == before {
            let deadline = self.machine.deadline().expect("the machine has stopped");
            self.run_until(deadline.max(self.now));
        }
        self.connects.last().unwrap().to_string()
    }

    /// The attempt made last of those that are not given up.
    pub(super) fn last(&self) -> Line {
        self.lines.keys().copied().next_back().unwrap_or_default()
    }

    /// The attempt made last succeeds.
    pub(super) fn connected(&mut self) -> Hello {
        self.reached(self.last());

        match self.sent.pop() {
            Some(ClientFrame::Hello(hello)) => hello,
            other => panic!("no hello but {other:?}"),
        }
    }

    /// A server takes the connection.
    pub(super) fn reached(&mut self, line: Line) {
        self.machine.connected(self.moment(), line);
        self.settle();
    }

    /// The attempt made last fails.
    pub(super) fn unreachable(&mut self, told: Option<Problem>) {
        self.machine.failed(self.moment(), self.last(), "refused".into(), told);
        self.settle();
    }

    /// Where the connection leads on which hello was said.
    pub(super) fn at(&self) -> String {
        self.hello.map(|line| self.lines[&line].to_string()).unwrap_or_default()
    }

    pub(super) fn frame(&mut self, frame: &ServerFrame) {
        self.text(&serde_json::to_string(frame).unwrap());
    }

    pub(super) fn text(&mut self, text: &str) {
        let line = self.hello.unwrap_or(self.last());
        self.machine.frame(self.moment(), line, text);
        self.settle();
    }

    pub(super) fn welcome(&mut self, n: u64, pos: &str) {
        let welcome = Welcome { n, pos: pos.into(), user: 1, resync: false, endpoints: Vec::new(), takes: Vec::new() };
        self.frame(&ServerFrame::Welcome(welcome));
    }

    /// Connects to a server that has used the numbers up to `n`, and catches up.
    pub(super) fn live(&mut self, n: u64, pos: &str) -> Hello {
        self.until_connect();
        let hello = self.connected();
        self.welcome(n, pos);
        self.frame(&ServerFrame::CaughtUp { pos: pos.into() });
        hello
    }

    pub(super) fn lose_connection(&mut self) {
        let line = self.hello.unwrap_or(self.last());
        self.machine.closed(self.moment(), line, "reset".into());
        self.settle();
    }

    pub(super) fn submit(&mut self, text: &str) -> CommandId {
        let id = CommandId(self.next_id);
        self.next_id += 1;
        self.machine.submit(id, &say(text)).unwrap();
        self.settle();
        id
    }

    /// The commands sent since the last time, as number and text.
    pub(super) fn commands(&mut self) -> Vec<(u64, String)> {
        self.cmds().into_iter().map(|cmd| (cmd.n, text_of(&cmd.change))).collect()
    }

    pub(super) fn cmds(&mut self) -> Vec<Cmd> {
        let sent = std::mem::take(&mut self.sent);
        sent.into_iter()
            .filter_map(|frame| match frame {
                ClientFrame::Cmd(cmd) => Some(cmd),
                _ => None,
            })
            .collect()
    }

    pub(super) fn pings(&mut self) -> usize {
        let sent = std::mem::take(&mut self.sent);
        sent.iter().filter(|frame| matches!(frame, ClientFrame::Ping(_))).count()
    }

    pub(super) fn ack(&mut self, n: u64, pos: &str) {
        let ok = Some(Done { seq: Some(n), ..Done::default() });
        self.frame(&ServerFrame::Ack(Ack { n, pos: pos.into(), ok, error: None }));
    }

    pub(super) fn reject(&mut self, n: u64, code: Code) {
        let error = Some(code.problem());
        self.frame(&ServerFrame::Ack(Ack { n, pos: "1.1".into(), ok: None, error }));
    }

    pub(super) fn refuse(&mut self, n: u64, problem: Problem) {
        self.frame(&ServerFrame::Refused { n, pos: "1.1".to_owned(), error: problem });
    }

    pub(super) fn bye(&mut self, problem: Problem) {
        self.frame(&ServerFrame::Bye(problem));
    }

    /// The outcomes delivered since the last time.
    pub(super) fn outcomes(&mut self) -> Vec<(CommandId, Result<Done, Failure>, bool)> {
        std::mem::take(&mut self.delivered)
            .into_iter()
            .filter_map(|delivery| match delivery {
                Delivery::Outcome { id, result, again, .. } => Some((id, result, again)),
                _ => None,
            })
            .collect()
    }

    pub(super) fn waiting_for(&self) -> Option<(Option<Why>, u64)> {
        self.delivered.iter().rev().find_map(|delivery| match delivery {
            Delivery::State(State::Waiting { why, for_ms }) => Some((why.clone(), *for_ms)),
            _ => None,
        })
    }
}

pub(super) fn text_of(change: &Change) -> String {
    match change {
        Change::Send { text, .. } => text.clone(),
        other => format!("{other:?}"),
    }
}

pub(super) fn pairs(list: &[(u64, &str)]) -> Vec<(u64, String)> {
    list.iter().map(|(n, text)| (*n, (*text).to_owned())).collect()
}
