//! What happens on a connection.

use ieum_planted::Bug;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{Ack, ClientFrame, Ping, ServerFrame, Welcome};
use ieum_protocol::{Pos, frames::CatchUp};

use super::decode::decode;
use super::delivery::{Delivery, State, Stop, Why};
use super::lines::home_wait;
use super::outbox::{Behind, Outcome, Refused};
use super::{Line, Link, Machine, Moment, Output, Session, outbox, typing};
use crate::Position;
use crate::command::{CommandId, MAX_NUMBER};
use crate::position::advance;
use crate::store::Write;

impl Machine {
    pub(super) fn send(&mut self, line: Line, frame: &ClientFrame) {
        // A frame of ours always has a text: it holds nothing that JSON lacks.
        if let Ok(text) = serde_json::to_string(frame) {
            self.outputs.push_back(Output::Send { line, text });
        }
    }

    pub(super) fn answer_ms(&self) -> u64 {
        self.settings.timing.answer(self.failures / self.endpoints.count())
    }

    /// Input: the time may have come for something.
    pub fn tick(&mut self, moment: Moment) {
        let now = moment.now;
        match &self.link {
            Link::Waiting { until } if now >= *until => self.connect(moment),
            Link::Trying => self.tick_attempts(moment),
            Link::Up(session) => {
                if self.silent_at(session).is_some_and(|at| now >= at) {
                    self.leave(moment, Why::Silent);
                } else {
                    self.tick_session(moment);
                    self.tick_attempts(moment);
                    self.go_home(moment);
                }
            }
            _ => {}
        }
    }

    fn tick_session(&mut self, moment: Moment) {
        let now = moment.now;
        let every = self.settings.timing.ping(self.settings.foreground);
        let Link::Up(session) = &mut self.link else { return };
        if now >= session.next_ping {
            let line = session.line;
            (session.next_ping, session.pinged) = (now + every, now);
            let first = session.unanswered.is_none();
            session.unanswered.get_or_insert(now);
            self.pings += 1;
            let ping = ClientFrame::Ping(Ping { id: self.pings });
            self.send(line, &ping);
            if first {
                self.doubt(moment);
            }
        }
        self.pump(moment);
    }

    /// A ping was sent: when its answer is late, another server is tried beside this one. A link on which answers are slow is no reason.
    pub(super) fn doubt(&mut self, moment: Moment) {
        let doubt = self.settings.timing.doubt_ms.max(2 * self.round_trip);
        // During the catch-up pings are not answered.
        let live = self.session().is_some_and(|session| session.caught_up);
        let doubts = live && self.listening && self.settings.foreground && self.endpoints.count() > 1;
        self.hedge_at = doubts.then_some(moment.now + doubt);
    }

    pub(super) fn session_deadline(&self, session: &Session) -> u64 {
        let hold = session.hold.filter(|_| self.outbox.has_unsent());
        let home = session.home_at.filter(|_| session.caught_up && self.attempts.is_empty());
        [self.silent_at(session), hold, home].into_iter().flatten().fold(session.next_ping, u64::min)
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
        let line = session.line;
        if !self.outbox.has_due() {
            session.answered_at = Some(moment.now);
        }
        while let Some(frame) = self.outbox.next_frame(&mut self.writes) {
            self.outputs.push_back(Output::Send { line, text: frame });
        }
    }

    /// Input: a text frame came on this connection.
    pub fn frame(&mut self, moment: Moment, line: Line, text: &str) {
        let here = self.session_line() == Some(line);
        if !here && self.greeting(line).is_none() {
            return;
        }
        if let (true, Link::Up(session)) = (here, &mut self.link) {
            session.unanswered = None;
            self.stay();
        }
        let decoded = decode(text);
        self.passed_over += decoded.passed_over;
        match decoded.frame {
            Some(ServerFrame::Welcome(welcome)) if !here => self.welcome(moment, line, &welcome),
            Some(ServerFrame::Bye(problem)) => self.bye(moment, line, problem),
            Some(frame) if here => self.session_frame(moment, frame),
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
            ServerFrame::Pong { id, pos } => self.pong(moment, id, &pos),
            ServerFrame::Endpoints { list } => self.learn(&list),
            ServerFrame::Typing { room, user } => self.deliver(Delivery::Typing { room, user }),
            ServerFrame::Welcome(_) => self.passed_over += 1,
            ServerFrame::Bye(_) => {}
        }
    }

    fn welcome(&mut self, moment: Moment, line: Line, welcome: &Welcome) {
        let Some(endpoint) = self.greeting(line).map(|attempt| attempt.endpoint.clone()) else { return };
        // Half of it leaves room for what this device gives next.
        if welcome.n > MAX_NUMBER / 2 {
            let why = Why::Broken(format!("it says that this device has used number {}", welcome.n));
            return self.give_up(moment, line, why);
        }
        let pos = Position::read(&welcome.pos);
        let new_generation = self.home.as_ref().is_some_and(|home| pos.other_generation(home) && home.is_before(&pos));
        self.learn(&welcome.endpoints);
        if let Err(Behind) = self.outbox.begin(welcome.n, new_generation, &mut self.writes) {
            return self.give_up(moment, line, Why::Behind);
        }
        if pos.is_ordered() {
            if self.home.is_none() || new_generation {
                self.writes.push(Write::Seen(pos.clone()));
            }
            self.home = Some(pos.clone());
        }
        advance(&mut self.seen, pos);
        let next_ping = moment.now + self.settings.timing.ping(self.settings.foreground);
        let home_at = moment.now + home_wait(self.settings.timing.home_ms, moment);
        self.link = Link::Up(Session {
            line,
            endpoint: endpoint.clone(),
            since: moment.now,
            caught_up: false,
            next_ping,
            pinged: moment.now,
            unanswered: None,
            home_at: (self.settings.home.as_ref().is_some_and(|home| *home != endpoint)).then_some(home_at),
            hold: None,
            answered_at: None,
            typing: typing::Session::of(welcome),
        });
        // The others are closed before anything else: no hello may come of them.
        self.hang_up_attempts();
        self.hedge_at = None;
        self.deliver(Delivery::State(State::CatchingUp { endpoint, user: welcome.user }));
        if welcome.resync {
            self.voided = self.cursor.take().or(self.voided.take());
            if self.applied.take().is_some() {
                self.writes.push(Write::Cursor(None));
            }
            self.deliver(Delivery::Resync);
        }
        self.pump(moment);
    }

    /// A server named those of its cell.
    fn learn(&mut self, named: &[String]) {
        if self.endpoints.learn(named) {
            self.writes.push(Write::Endpoints(self.endpoints.named().to_vec()));
        }
    }

    fn catch_up(&mut self, catch_up: CatchUp) {
        self.deliver(Delivery::CatchUp(Box::new(catch_up)));
    }

    fn caught_up(&mut self, moment: Moment, pos: Pos) {
        let Link::Up(session) = &mut self.link else { return };
        session.caught_up = true;
        session.answered_at = Some(moment.now);
        let endpoint = session.endpoint.clone();
        self.stream_at(Position::read(&pos));
        self.delivered.clone_from(&self.cursor);
        self.endpoints.works(&endpoint);
        self.deliver(Delivery::CaughtUp { pos });
        self.deliver(Delivery::State(State::Live { endpoint }));
    }

    /// The stream has come up to here. A server that sends a long catch-up says so with events in between, too.
    fn stream_at(&mut self, position: Position) {
        advance(&mut self.cursor, position.clone());
        advance(&mut self.seen, position);
    }

    fn pong(&mut self, moment: Moment, id: u64, pos: &Pos) {
        if let (Link::Up(session), true) = (&self.link, id == self.pings) {
            // It is forgotten slowly: one answer that is quick does not make a slow link a fast one.
            self.round_trip = moment.now.saturating_sub(session.pinged).max(self.round_trip * 7 / 8);
        }
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
        // Nothing that is timed waits for the store now.
        self.store_again();
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
        self.go_home(moment);
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

    fn bye(&mut self, moment: Moment, line: Line, problem: Problem) {
        let known = problem.known();
        let own = known == Some(Code::Replaced) && self.is_own_doing(moment);
        match known {
            Some(Code::Replaced | Code::LoggedOut | Code::SecretWrong) if !own => {
                self.stop_because(Stop::Told(Box::new(problem)));
            }
            _ => {
                if outbox::is_about_a_frame(&problem)
                    && let Some(outcome) = self.outbox.unreadable(&problem, filler(moment), &mut self.writes)
                {
                    self.outcome(outcome);
                }
                let why = Why::Told(Box::new(problem));
                if self.session_line() == Some(line) {
                    self.leave(moment, why)
                } else {
                    self.give_up(moment, line, why)
                }
            }
        }
    }
}

/// An id for a command of the machine's own.
fn filler(moment: Moment) -> CommandId {
    CommandId::from_random(moment.random, moment.random.rotate_left(32) ^ moment.now)
}
