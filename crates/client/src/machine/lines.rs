//! Connections and the attempts at them: which are begun, which says hello, which are given up.
//!
//! ```text
//!   a server does not answer:            begin ─► Dialing ─► Ready ─► hello ─► Greeting ─► welcome: the session
//!   another is tried beside it:          begin ─► Dialing ─► Ready ─► closed, if the first says welcome meanwhile
//! ```
//!
//! A hello takes the device's place from its other session. So hello is said on one connection at a time, and never before the one on
//! which it was said last is closed.

use ieum_planted::Bug;
use ieum_protocol::errors::Problem;
use ieum_protocol::frames::{ClientFrame, Hello};

use super::delivery::{Delivery, State, Why};
use super::{Line, Link, Machine, Moment, Output};
use crate::Endpoint;

/// At most so many attempts at a time.
const MOST: usize = 2;

/// For so long a hello may still be on its way whose connection was given up, in milliseconds: what was sent last is dropped with the
/// connection, but the network may hold it back.
const LATE_HELLO_MS: u64 = 10_000;

/// An attempt at a session.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) line: Line,
    pub(super) endpoint: Endpoint,
    stage: Stage,
    /// When it is given up.
    by: u64,
    /// It is for going back to the server that the app likes best.
    homewards: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Dialing,
    Ready,
    /// Hello was said. One that is ready goes before it from the time on.
    Greeting {
        until: u64,
    },
}

impl Attempt {
    fn has_said_hello(&self) -> bool {
        matches!(self.stage, Stage::Greeting { .. })
    }
}

impl Machine {
    /// Input: the connection that [`Output::Connect`] asked for under this number is there.
    pub fn connected(&mut self, moment: Moment, line: Line) {
        let dialing = |attempt: &&mut Attempt| attempt.line == line && attempt.stage == Stage::Dialing;
        let Some(attempt) = self.attempts.iter_mut().find(dialing) else { return };
        attempt.stage = Stage::Ready;
        let homewards = attempt.homewards;
        match &self.link {
            Link::Trying => self.greet(moment),
            Link::Up(session) if session.unanswered.is_some() && !homewards => {
                self.leave(moment, Why::Silent);
            }
            Link::Up(_) => self.go_home(moment),
            Link::Waiting { .. } | Link::Stopped(_) => {}
        }
    }

    /// Input: there is no connection to be had; with what the server said, if it said something.
    pub fn failed(&mut self, moment: Moment, line: Line, reason: String, told: Option<Problem>) {
        let why = told.map_or(Why::Unreachable(reason), |problem| Why::Told(Box::new(problem)));
        self.give_up(moment, line, why);
    }

    /// Input: the connection broke.
    pub fn closed(&mut self, moment: Moment, line: Line, reason: String) {
        match &self.link {
            Link::Up(session) if session.line == line => self.leave(moment, Why::Broken(reason)),
            _ => self.give_up(moment, line, Why::Broken(reason)),
        }
    }

    /// Input: the network has changed, so that no connection is worth anything any more. That says nothing against any server.
    pub fn reconnect(&mut self, moment: Moment) {
        if matches!(self.link, Link::Waiting { .. } | Link::Stopped(_)) {
            return;
        }
        if let Some(line) = self.session_line() {
            self.hang_up(line);
        }
        self.outbox.rest();
        for _ in 0..self.attempts.iter().filter(|attempt| attempt.has_said_hello()).count() {
            self.hello_may_be_late(moment);
        }
        self.back_off(moment, Why::Broken("the network changed".to_owned()), false);
    }

    /// The first attempt.
    pub(super) fn connect(&mut self, moment: Moment) {
        let Some(endpoint) = self.endpoints.pick(moment.random) else { return };
        self.link = Link::Trying;
        self.hedge_at = self.may_hedge().then(|| moment.now + self.settings.timing.hedge_ms);
        self.begin(moment, endpoint, false);
        self.show_attempt();
    }

    fn begin(&mut self, moment: Moment, endpoint: Endpoint, homewards: bool) {
        self.lines += 1;
        let (line, by) = (self.lines, moment.now + self.answer_ms());
        self.attempts.push(Attempt { line, endpoint: endpoint.clone(), stage: Stage::Dialing, by, homewards });
        self.outputs.push_back(Output::Connect { line, endpoint });
    }

    /// Whether another server is tried beside one that does not answer: while somebody looks, and once around. Whoever has found no server in
    /// a whole round adds nothing to the load of a cell that has more to do than it can.
    pub(super) fn may_hedge(&self) -> bool {
        self.settings.foreground && self.endpoints.count() > 1 && self.failures < self.endpoints.count()
    }

    /// Tries another server beside those that do not answer.
    fn hedge(&mut self, moment: Moment) {
        self.hedge_at = None;
        if self.attempts.len() >= MOST {
            return;
        }
        let session = self.session().map(|session| &session.endpoint);
        let busy: Vec<&Endpoint> = self.attempts.iter().map(|attempt| &attempt.endpoint).chain(session).collect();
        let Some(endpoint) = self.endpoints.pick_but(&busy, moment.random) else { return };
        self.begin(moment, endpoint, false);
        self.hedge_at = (self.attempts.len() < MOST).then(|| moment.now + self.settings.timing.hedge_ms);
    }

    /// Says hello on a connection that is ready, if it was said on none that may still answer.
    pub(super) fn greet(&mut self, moment: Moment) {
        let Some(ready) = self.attempts.iter().position(|attempt| attempt.stage == Stage::Ready) else { return };
        let greeting = self.attempts.iter().find_map(|attempt| match attempt.stage {
            Stage::Greeting { until } => Some((attempt.line, until)),
            _ => None,
        });
        if let Some((line, until)) = greeting.filter(|_| !Bug::TwoHellos.planted()) {
            if moment.now >= until {
                self.give_up(moment, line, Why::Silent);
            }
            return;
        }
        let answer_ms = self.answer_ms();
        let Some(attempt) = self.attempts.get_mut(ready) else { return };
        attempt.stage = Stage::Greeting { until: moment.now + answer_ms / 2 };
        attempt.by = moment.now + answer_ms;
        let (line, endpoint) = (attempt.line, attempt.endpoint.clone());
        self.endpoints.uses(&endpoint);
        self.show(&endpoint);
        let hello = ClientFrame::Hello(Hello {
            device: self.settings.device,
            secret: self.settings.secret.clone(),
            cursor: self.cursor.as_ref().map(ToString::to_string),
            seen: self.seen.as_ref().map(ToString::to_string),
            client: self.settings.client.clone(),
        });
        self.send(line, &hello);
    }

    /// Whether hello was said on this connection, and neither welcome nor anything else is over with it.
    pub(super) fn greeting(&self, line: Line) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.line == line && attempt.has_said_hello())
    }

    /// An attempt is over.
    pub(super) fn give_up(&mut self, moment: Moment, line: Line, why: Why) {
        let Some(at) = self.attempts.iter().position(|attempt| attempt.line == line) else { return };
        let attempt = self.attempts.remove(at);
        if attempt.has_said_hello() {
            self.hello_may_be_late(moment);
        }
        let Attempt { endpoint, homewards, .. } = attempt;
        self.hang_up(line);
        let elsewhere = self.blame(&endpoint, &why);
        let hedge_at = moment.now + self.settings.timing.hedge_ms;
        match &mut self.link {
            Link::Trying if self.attempts.is_empty() => self.back_off(moment, why, elsewhere),
            Link::Trying => {
                self.failures = self.failures.saturating_add(1);
                self.hedge_at = self.may_hedge().then_some(hedge_at);
                self.greet(moment);
                self.show_attempt();
            }
            Link::Up(session) if homewards => {
                session.home_at = Some(moment.now + home_wait(self.settings.timing.home_ms, moment))
            }
            Link::Up(session) => self.hedge_at = session.unanswered.is_some().then_some(hedge_at),
            Link::Waiting { .. } | Link::Stopped(_) => {}
        }
    }

    fn hello_may_be_late(&mut self, moment: Moment) {
        self.late_hellos.retain(|until| moment.now < *until);
        self.late_hellos.push_back(moment.now + LATE_HELLO_MS);
        if Bug::OneLateHello.planted() {
            self.late_hellos.truncate(1);
        }
    }

    /// Whether a hello of this client itself may have taken the place of its session: one that was given up and arrived all the same. Each is
    /// believed once.
    pub(super) fn is_own_doing(&mut self, moment: Moment) -> bool {
        self.late_hellos.retain(|until| moment.now < *until);
        self.late_hellos.pop_front().is_some() && !Bug::LateHelloStops.planted()
    }

    /// Why a server is not tried next: it failed, or it pointed elsewhere. Tells whether it named others.
    fn blame(&mut self, endpoint: &Endpoint, why: &Why) -> bool {
        let Why::Told(problem) = why else {
            self.endpoints.failed(endpoint);
            return false;
        };
        if !super::keeps_endpoint(problem) {
            self.endpoints.failed(endpoint);
        }
        self.endpoints.prefer(&problem.endpoints, endpoint)
    }

    /// The session is over. It goes on at once where another server is being tried already, else after a wait.
    pub(super) fn leave(&mut self, moment: Moment, why: Why) {
        let Link::Up(session) = &self.link else { return };
        let (line, endpoint) = (session.line, session.endpoint.clone());
        if moment.now.saturating_sub(session.since) >= self.settings.timing.settled_ms {
            self.failures = 0;
        }
        self.hang_up(line);
        self.outbox.rest();
        let elsewhere = self.blame(&endpoint, &why);
        if self.attempts.is_empty() || matches!(why, Why::Told(_)) {
            return self.back_off(moment, why, elsewhere);
        }
        self.failures = self.failures.saturating_add(1);
        self.deliver(Delivery::State(State::Waiting { why: Some(why), for_ms: 0 }));
        self.go_on(moment);
    }

    /// What is being tried already takes the place of the session that is over.
    fn go_on(&mut self, moment: Moment) {
        self.link = Link::Trying;
        for attempt in &mut self.attempts {
            attempt.homewards = false;
        }
        if self.attempts.len() < MOST && self.may_hedge() {
            self.hedge_at.get_or_insert(moment.now + self.settings.timing.hedge_ms);
        }
        self.greet(moment);
        self.show_attempt();
    }

    /// Wait, then try elsewhere.
    fn back_off(&mut self, moment: Moment, why: Why, elsewhere: bool) {
        self.hang_up_attempts();
        self.hedge_at = None;
        let told = match &why {
            Why::Told(problem) => problem.retry_after_ms,
            _ => None,
        };
        let round = self.failures / self.endpoints.count();
        // How long one server wants to be left alone says nothing of the others that it names, until they were tried as well.
        let (first_round, at_once) = (round == 0 && elsewhere, told == Some(0));
        let for_ms = match (first_round, at_once) {
            (true, true) => 0,
            (true, false) => self.backoff(round, None, moment),
            (false, _) => self.backoff(round, told, moment),
        };
        self.failures = self.failures.saturating_add(1);
        self.link = Link::Waiting { until: moment.now + for_ms };
        self.deliver(Delivery::State(State::Waiting { why: Some(why), for_ms }));
    }

    fn backoff(&self, round: u32, told: Option<u64>, moment: Moment) -> u64 {
        self.settings.timing.backoff(round, self.settings.foreground, told, moment.random)
    }

    /// Goes back to the server that the app likes best, or tries to.
    pub(super) fn go_home(&mut self, moment: Moment) {
        let Link::Up(session) = &mut self.link else { return };
        if let Some(at) = self.attempts.iter().position(|attempt| attempt.homewards) {
            let ready = self.attempts.get(at).is_some_and(|attempt| attempt.stage == Stage::Ready);
            // Nobody is to wait for an answer because of it.
            if !ready || self.outbox.has_due() || !session.caught_up {
                return;
            }
            let line = session.line;
            self.failures = 0;
            self.hang_up(line);
            self.outbox.rest();
            return self.go_on(moment);
        }
        if session.home_at.is_none_or(|at| moment.now < at) || !session.caught_up || !self.attempts.is_empty() {
            return;
        }
        session.home_at = Some(moment.now + home_wait(self.settings.timing.home_ms, moment));
        let here = session.endpoint.clone();
        if let Some(home) = self.endpoints.home_from(&here) {
            self.begin(moment, home, true);
        }
    }

    /// The server is heard again, so no other is tried any more.
    pub(super) fn stay(&mut self) {
        if !matches!(self.link, Link::Up(_)) {
            return;
        }
        self.hedge_at = None;
        let lines: Vec<Line> =
            self.attempts.extract_if(.., |attempt| !attempt.homewards).map(|attempt| attempt.line).collect();
        lines.into_iter().for_each(|line| self.hang_up(line));
    }

    /// Gives all attempts up, but for the one that has become the session.
    pub(super) fn hang_up_attempts(&mut self) {
        for Attempt { line, .. } in std::mem::take(&mut self.attempts) {
            if self.session_line() != Some(line) {
                self.hang_up(line);
            }
        }
    }

    /// What is not sent yet belongs to the connection that is over.
    pub(super) fn hang_up(&mut self, line: Line) {
        let of_it = |output: &Output| match output {
            Output::Send { line: of, .. } => *of == line,
            _ => false,
        };
        self.outputs.retain(|output| !of_it(output));
        self.outputs.push_back(Output::Close { line });
    }

    /// What attempts wait for.
    pub(super) fn tick_attempts(&mut self, moment: Moment) {
        let late = |attempt: &Attempt| moment.now >= attempt.by;
        while let Some(line) = self.attempts.iter().find(|attempt| late(attempt)).map(|attempt| attempt.line) {
            self.give_up(moment, line, Why::Silent);
        }
        if self.hedge_at.is_some_and(|at| moment.now >= at) {
            self.hedge(moment);
        }
        if matches!(self.link, Link::Trying) {
            self.greet(moment);
        }
    }

    /// When that is due next.
    pub(super) fn attempts_deadline(&self) -> Option<u64> {
        let ready = self.attempts.iter().any(|attempt| attempt.stage == Stage::Ready);
        let waits = self.attempts.iter().map(|attempt| match attempt.stage {
            Stage::Greeting { until } if ready => until.min(attempt.by),
            _ => attempt.by,
        });
        waits.chain(self.hedge_at).min()
    }

    /// Tells the app which server is being tried, if it is another than before.
    fn show_attempt(&mut self) {
        let shown = self.attempts.iter().find(|attempt| attempt.has_said_hello()).or(self.attempts.first());
        if let (Link::Trying, Some(attempt)) = (&self.link, shown) {
            let endpoint = attempt.endpoint.clone();
            self.show(&endpoint);
        }
    }

    fn show(&mut self, endpoint: &Endpoint) {
        let state = State::Connecting { endpoint: endpoint.clone() };
        if self.shown.as_ref() != Some(&state) {
            self.deliver(Delivery::State(state));
        }
    }
}

/// How long a session stays away from the server that the app likes best: long enough that it is no hiccup, and of another length for each, so
/// that not all come back at once.
pub(super) fn home_wait(home_ms: u64, moment: Moment) -> u64 {
    home_ms / 2 + moment.random % (home_ms + 1)
}
