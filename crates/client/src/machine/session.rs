//! What happens on a connection.

use ieum_planted::Bug;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{Ack, ClientFrame, Hello, Ping, ServerFrame, Welcome};
use ieum_protocol::{Pos, frames::CatchUp};

use super::decode::decode;
use super::delivery::{Delivery, State, Stop, Why};
use super::outbox::{Behind, Outcome, Refused};
use super::{Link, Machine, Moment, Output, Session, outbox};
use crate::Position;
use crate::command::{CommandId, MAX_NUMBER};
use crate::position::advance;
use crate::store::Write;

impl Machine {
    /// Input: the connection that [`Output::Connect`] asked for is there.
    pub fn connected(&mut self, moment: Moment) {
        if !matches!(self.link, Link::Connecting { .. }) {
            return;
        }
        let hello = ClientFrame::Hello(Hello {
            device: self.settings.device,
            secret: self.settings.secret.clone(),
            cursor: self.cursor.as_ref().map(ToString::to_string),
            seen: self.seen.as_ref().map(ToString::to_string),
            client: self.settings.client.clone(),
        });
        self.send(&hello);
        self.link = Link::Greeting { by: moment.now + self.answer_ms() };
    }

    fn send(&mut self, frame: &ClientFrame) {
        // A frame of ours always has a text: it holds nothing that JSON lacks.
        if let Ok(text) = serde_json::to_string(frame) {
            self.outputs.push_back(Output::Send(text));
        }
    }

    fn answer_ms(&self) -> u64 {
        self.settings.timing.answer(self.failures / self.endpoints.count())
    }

    /// Input: there is no connection to be had; with what the server said, if it said something.
    pub fn failed(&mut self, moment: Moment, reason: String, told: Option<Problem>) {
        if matches!(self.link, Link::Connecting { .. }) {
            let why = told.map_or(Why::Unreachable(reason), |problem| Why::Told(Box::new(problem)));
            self.leave(moment, why);
        }
    }

    /// Input: the connection broke.
    pub fn closed(&mut self, moment: Moment, reason: String) {
        if matches!(self.link, Link::Greeting { .. } | Link::Up(_)) {
            self.leave(moment, Why::Broken(reason));
        }
    }

    /// Input: the time may have come for something.
    pub fn tick(&mut self, moment: Moment) {
        let now = moment.now;
        match &self.link {
            Link::Waiting { until } if now >= *until => self.connect(moment),
            Link::Connecting { by } | Link::Greeting { by } if now >= *by => self.leave(moment, Why::Silent),
            Link::Up(session) => {
                if self.silent_at(session).is_some_and(|at| now >= at) {
                    self.leave(moment, Why::Silent);
                } else {
                    self.tick_session(moment);
                }
            }
            _ => {}
        }
    }

    fn connect(&mut self, moment: Moment) {
        let Some(endpoint) = self.endpoints.pick(moment.random) else { return };
        self.link = Link::Connecting { by: moment.now + self.answer_ms() };
        self.deliver(Delivery::State(State::Connecting { endpoint: endpoint.clone() }));
        self.outputs.push_back(Output::Connect(endpoint));
    }

    fn tick_session(&mut self, moment: Moment) {
        let now = moment.now;
        let every = self.settings.timing.ping(self.settings.foreground);
        let Link::Up(session) = &mut self.link else { return };
        if now >= session.next_ping {
            session.next_ping = now + every;
            session.unanswered.get_or_insert(now);
            self.pings += 1;
            let ping = ClientFrame::Ping(Ping { id: self.pings });
            self.send(&ping);
        }
        self.pump(moment);
    }

    pub(super) fn session_deadline(&self, session: &Session) -> u64 {
        let hold = session.hold.filter(|_| self.outbox.has_unsent());
        [self.silent_at(session), hold].into_iter().flatten().fold(session.next_ping, u64::min)
    }

    /// When the server has been silent for too long: altogether, or about the commands that it has.
    fn silent_at(&self, session: &Session) -> Option<u64> {
        let timing = &self.settings.timing;
        // A server may read nothing while it sends a catch-up, and its next part may take as long as a welcome.
        let patience = if session.caught_up { timing.silence_ms } else { timing.silence_ms.max(self.answer_ms()) };
        let altogether = session.unanswered.map(|since| since + patience);
        let asked = session.caught_up && self.outbox.has_due();
        let commands = session.answered_at.filter(|_| asked).map(|since| since + timing.outcome_ms);
        [altogether, commands].into_iter().flatten().min().filter(|_| self.listening)
    }

    /// Sends what may be sent.
    pub(super) fn pump(&mut self, moment: Moment) {
        let Link::Up(session) = &mut self.link else { return };
        if session.hold.is_some_and(|until| moment.now < until) {
            return;
        }
        session.hold = None;
        if !self.outbox.has_due() {
            session.answered_at = Some(moment.now);
        }
        while let Some(frame) = self.outbox.next_frame(&mut self.writes) {
            self.outputs.push_back(Output::Send(frame));
        }
    }

    /// Input: a text frame came.
    pub fn frame(&mut self, moment: Moment, text: &str) {
        match &mut self.link {
            Link::Up(session) => session.unanswered = None,
            Link::Greeting { .. } => {}
            _ => return,
        }
        let decoded = decode(text);
        self.passed_over += decoded.passed_over;
        match decoded.frame {
            Some(ServerFrame::Welcome(welcome)) => self.welcome(moment, &welcome),
            Some(ServerFrame::Bye(problem)) => self.bye(moment, problem),
            Some(frame) if matches!(self.link, Link::Up(_)) => self.session_frame(moment, frame),
            Some(_) => self.passed_over += 1,
            None => {}
        }
    }

    fn session_frame(&mut self, moment: Moment, frame: ServerFrame) {
        if let (ServerFrame::Ack(_) | ServerFrame::Refused { .. }, Link::Up(session)) = (&frame, &mut self.link) {
            session.answered_at = Some(moment.now);
        }
        match frame {
            ServerFrame::CatchUp(catch_up) => self.catch_up(catch_up),
            ServerFrame::CaughtUp { pos } => self.caught_up(moment, pos),
            ServerFrame::Events { pos, list } => {
                self.stream_at(Position::read(&pos));
                self.delivered.clone_from(&self.cursor);
                self.deliver(Delivery::Events { pos, list });
            }
            ServerFrame::Ack(ack) => self.ack(moment, ack),
            ServerFrame::Refused { n, pos, error } => {
                advance(&mut self.seen, Position::read(&pos));
                self.refused(moment, n, error);
            }
            ServerFrame::Pong { pos, .. } => self.pong(moment, &pos),
            ServerFrame::Welcome(_) | ServerFrame::Bye(_) => {}
        }
    }

    fn welcome(&mut self, moment: Moment, welcome: &Welcome) {
        if !matches!(self.link, Link::Greeting { .. }) {
            self.passed_over += 1;
            return;
        }
        // Half of it leaves room for what this device gives next.
        if welcome.n > MAX_NUMBER / 2 {
            self.leave(moment, Why::Broken(format!("it says that this device has used number {}", welcome.n)));
            return;
        }
        let pos = Position::read(&welcome.pos);
        let new_generation = self.home.as_ref().is_some_and(|home| pos.other_generation(home) && home.is_before(&pos));
        self.endpoints.learn(&welcome.endpoints);
        if let Err(Behind) = self.outbox.begin(welcome.n, new_generation, &mut self.writes) {
            self.leave(moment, Why::Behind);
            return;
        }
        if pos.is_ordered() {
            if self.home.is_none() || new_generation {
                self.writes.push(Write::Seen(pos.clone()));
            }
            self.home = Some(pos.clone());
        }
        advance(&mut self.seen, pos);
        let next_ping = moment.now + self.settings.timing.ping(self.settings.foreground);
        self.link = Link::Up(Session {
            since: moment.now,
            caught_up: false,
            next_ping,
            unanswered: None,
            hold: None,
            answered_at: None,
        });
        if let Some(endpoint) = self.endpoints.current().cloned() {
            self.deliver(Delivery::State(State::CatchingUp { endpoint, user: welcome.user }));
        }
        if welcome.resync {
            self.cursor = None;
            if self.applied.take().is_some() {
                self.writes.push(Write::Cursor(None));
            }
            self.deliver(Delivery::Resync);
        }
        self.pump(moment);
    }

    fn catch_up(&mut self, catch_up: CatchUp) {
        self.deliver(Delivery::CatchUp(Box::new(catch_up)));
    }

    fn caught_up(&mut self, moment: Moment, pos: Pos) {
        let Link::Up(session) = &mut self.link else { return };
        session.caught_up = true;
        session.answered_at = Some(moment.now);
        self.stream_at(Position::read(&pos));
        self.delivered.clone_from(&self.cursor);
        self.endpoints.works();
        self.deliver(Delivery::CaughtUp { pos });
        if let Some(endpoint) = self.endpoints.current().cloned() {
            self.deliver(Delivery::State(State::Live { endpoint }));
        }
    }

    /// The stream has come up to here. A server that sends a long catch-up says so with events in between, too.
    fn stream_at(&mut self, position: Position) {
        advance(&mut self.cursor, position.clone());
        advance(&mut self.seen, position);
    }

    fn pong(&mut self, moment: Moment, pos: &Pos) {
        if !matches!(&self.link, Link::Up(session) if session.caught_up) {
            // Behind the position of an early pong a part of the catch-up may be missing yet.
            return advance(&mut self.seen, Position::read(pos));
        }
        self.stream_at(Position::read(pos));
        // An app that has everything in its own copy has nothing new to keep: its cursor goes along, not to fall behind the horizon.
        let has_all = match (&self.applied, &self.delivered) {
            (Some(applied), Some(delivered)) => applied == delivered || delivered.is_before(applied),
            (applied, _) => applied.is_some(),
        };
        let due = has_all && moment.now.saturating_sub(self.applied_at) >= self.settings.timing.cursor_ms;
        if let Some(cursor) = self.cursor.clone().filter(|_| due) {
            self.store_applied(moment.now, cursor);
        }
        self.outbox.prune(moment.now, &mut self.writes);
    }

    fn ack(&mut self, moment: Moment, ack: Ack) {
        advance(&mut self.seen, Position::read(&ack.pos));
        if Bug::AckMovesCursor.planted() {
            advance(&mut self.cursor, Position::read(&ack.pos));
        }
        if let Some(outcome) = self.outbox.ack(ack, moment.now, &mut self.writes) {
            self.outcome(outcome);
        }
        if let Some(seen) = self.seen.clone().filter(|_| !self.writes.is_empty()) {
            self.writes.push(Write::Seen(seen));
        }
        self.pump(moment);
    }

    fn outcome(&mut self, outcome: Outcome) {
        let Outcome { id, body, result, again } = outcome;
        self.deliver(Delivery::Outcome { id, body, result, again });
    }

    fn refused(&mut self, moment: Moment, n: u64, problem: Problem) {
        let filler = filler(moment);
        let timing = self.settings.timing;
        match self.outbox.refused(n, &problem, (filler, moment.now), &mut self.writes) {
            Refused::Stale => {}
            Refused::Final(outcome) => {
                if let Some(outcome) = outcome {
                    self.outcome(outcome);
                }
            }
            Refused::Again { id, times, first } => {
                self.deliver(Delivery::Refused { id, problem: Box::new(problem.clone()) });
                let code = problem.known();
                let lost_count = first && code == Some(Code::OutOfOrder);
                // Whoever cannot reach the log is left for another, if it lasts and there is another.
                let stuck = matches!(code, Some(Code::Unavailable | Code::Behind)) && self.endpoints.count() > 1;
                if !problem.endpoints.is_empty() || (times > 1 && (lost_count || stuck)) {
                    self.leave(moment, Why::Told(Box::new(problem)));
                    return;
                }
                if let Link::Up(session) = &mut self.link {
                    session.hold = Some(moment.now + timing.hold(times, problem.retry_after_ms, moment.random));
                }
            }
        }
        self.pump(moment);
    }

    fn bye(&mut self, moment: Moment, problem: Problem) {
        match problem.known() {
            Some(Code::Replaced | Code::LoggedOut | Code::SecretWrong) => {
                self.stop_because(Stop::Told(Box::new(problem)));
            }
            _ => {
                if outbox::is_about_a_frame(&problem)
                    && let Some(outcome) = self.outbox.unreadable(&problem, filler(moment), &mut self.writes)
                {
                    self.outcome(outcome);
                }
                self.leave(moment, Why::Told(Box::new(problem)));
            }
        }
    }
}

/// An id for a command of the machine's own.
fn filler(moment: Moment) -> CommandId {
    CommandId::from_random(moment.random, moment.random.rotate_left(32) ^ moment.now)
}
