//! The client's logic: a state machine without IO, clock or randomness of its own.
//!
//! Whoever drives it calls the input methods and after each asks [`Machine::next_output`] until there is none, and calls
//! [`Machine::tick`] when [`Machine::deadline`] has come:
//!
//! ```text
//!   tick, connected, failed, closed,          ┌─────────┐     Store(writes)  ──► commit, then `stored`
//!   frame, submit, applied, foreground,  ───► │ Machine │ ──► Connect, Send, Close, each with the line's number
//!   listening, reconnect, stored, stop        └─────────┘     Deliver(…)     ──► the app
//! ```
//!
//! A line is a connection or an attempt at one; there are three at most: the session's and two attempts.
//!
//! The driver MUST answer [`Output::Store`] with [`Machine::stored`] before any other input: commands are sent only when the
//! store has them.

mod decode;
mod delivery;
pub(crate) mod endpoints;
mod lines;
mod outbox;
mod session;
#[cfg(test)]
mod tests;
mod timing;
mod typing;

use std::collections::VecDeque;

use ieum_planted::Bug;
use ieum_protocol::Pos;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::Change;

use crate::command::{Command, CommandId};
use crate::store::{Saved, Write};
use crate::{Endpoint, Position};
pub use delivery::{Delivery, Failure, State, Stop, Why};
use endpoints::Endpoints;
pub use outbox::Limits;
use outbox::Outbox;
pub use timing::Timing;

/// When an input happens, and a random number to go with it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Milliseconds since any fixed moment; never goes back.
    pub now: u64,
    /// Uniformly random; another one for each input.
    pub random: u64,
}

/// Who the machine speaks for, and how.
#[derive(Clone)]
pub struct Settings {
    /// The device.
    pub device: u64,
    /// Its secret.
    pub secret: String,
    /// The client's name and version, for the operator's logs.
    pub client: Option<String>,
    /// Servers to try.
    pub endpoints: Vec<Endpoint>,
    /// The one that is liked best, if one is: that of the nearest data center. It is tried first, and gone back to.
    pub home: Option<Endpoint>,
    /// Whether somebody looks at it now.
    pub foreground: bool,
    /// Its waits.
    pub timing: Timing,
    /// How much its outbox holds.
    pub limits: Limits,
}

/// Names a connection or an attempt at one.
pub type Line = u64;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Commit these and call [`Machine::stored`] with what came of it.
    Store(Vec<Write>),
    /// Connect there, then call [`Machine::connected`] or [`Machine::failed`].
    Connect {
        /// The number of the connection.
        line: Line,
        /// Where to.
        endpoint: Endpoint,
    },
    /// Send this text frame.
    Send {
        /// On which connection.
        line: Line,
        /// The frame.
        text: String,
    },
    /// Drop the connection, or the attempt at one; nothing more of it may come in. Nothing of what was sent on it and has not left yet may
    /// arrive later: a hello that did would end the session that comes next.
    Close {
        /// Which.
        line: Line,
    },
    /// Hand this to the app.
    Deliver(Delivery),
}

/// How the connection stands.
#[derive(Debug)]
enum Link {
    Waiting {
        until: u64,
    },
    /// There are attempts.
    Trying,
    /// There is a session, and there may be attempts at another.
    Up(Session),
    Stopped(Stop),
}

/// A connection on which the server said welcome.
#[derive(Debug)]
struct Session {
    line: Line,
    endpoint: Endpoint,
    since: u64,
    caught_up: bool,
    next_ping: u64,
    /// When the last ping was sent.
    pinged: u64,
    /// When the first ping was sent after which nothing was heard.
    unanswered: Option<u64>,
    /// When it is looked whether the session can go back to the server that the app likes best; `None` where it is there.
    home_at: Option<u64>,
    /// No command is sent before.
    hold: Option<u64>,
    /// When a command was answered last, or the first of those that wait was sent.
    answered_at: Option<u64>,
    typing: typing::Session,
}

/// The state machine.
pub struct Machine {
    settings: Settings,
    outbox: Outbox,
    endpoints: Endpoints,
    link: Link,
    /// The number of the last connection.
    lines: Line,
    attempts: Vec<lines::Attempt>,
    /// When another server is tried beside those that do not answer.
    hedge_at: Option<u64>,
    /// Until when hellos may arrive whose connections were given up, the earliest first.
    late_hellos: VecDeque<u64>,
    /// The slowest of the last pongs, in milliseconds.
    round_trip: u64,
    /// What the app was told last of how it stands.
    shown: Option<State>,
    /// Up to where the stream was delivered to the app.
    cursor: Option<Position>,
    /// Where the cursor stood when the app was last told to forget its copy.
    voided: Option<Position>,
    /// Up to where the app said that it has the stream in its own durable copy.
    applied: Option<Position>,
    /// When `applied` was stored last.
    applied_at: u64,
    /// The position of the last delivery that had one.
    delivered: Option<Position>,
    /// The highest position seen anywhere.
    seen: Option<Position>,
    /// Where the last session began: its generation is the one in which outcomes were acknowledged.
    home: Option<Position>,
    listening: bool,
    /// Failed attempts since the last session that lasted.
    failures: u32,
    pings: u64,
    passed_over: u64,
    writes: Vec<Write>,
    /// What the store was asked to commit last.
    storing: Vec<Write>,
    /// What it did not commit, though nothing is wrong with it.
    failed: Vec<Write>,
    outputs: VecDeque<Output>,
}

impl Machine {
    /// A machine that goes on from what a store held. `seen` is a position that the app knows of from elsewhere, for example from
    /// having registered.
    #[must_use]
    pub fn new(settings: Settings, saved: Saved, seen: Option<Position>, moment: Moment) -> Self {
        let endpoints = Endpoints::new(settings.endpoints.clone(), settings.home.clone(), saved.endpoints.clone());
        // An earlier version may have believed a server that said a position where no log is.
        let cursor = saved.cursor.clone().filter(Position::is_ordered);
        let home = saved.seen.clone().filter(Position::is_ordered);
        let mut highest = home.clone();
        for position in cursor.iter().chain(&seen) {
            crate::position::advance(&mut highest, position.clone());
        }
        Self {
            outbox: Outbox::new(saved, settings.limits, moment.now),
            endpoints,
            link: Link::Waiting { until: moment.now },
            lines: 0,
            attempts: Vec::new(),
            hedge_at: None,
            late_hellos: VecDeque::new(),
            round_trip: 0,
            shown: None,
            applied: cursor.clone(),
            voided: None,
            applied_at: moment.now,
            cursor,
            delivered: None,
            seen: highest,
            home,
            listening: true,
            failures: 0,
            pings: 0,
            passed_over: 0,
            writes: Vec::new(),
            storing: Vec::new(),
            failed: Vec::new(),
            outputs: VecDeque::new(),
            settings,
        }
    }

    /// The next thing to do; ask until there is none.
    pub fn next_output(&mut self) -> Option<Output> {
        if self.writes.is_empty() {
            return self.outputs.pop_front();
        }
        // What was not committed before goes first: what is left of an outbox is always one that once was.
        let mut writes = std::mem::take(&mut self.failed);
        writes.append(&mut self.writes);
        self.storing.clone_from(&writes);
        Some(Output::Store(writes))
    }

    /// Keeps what a store did not take for the next commit, but for commands that are given up.
    fn keep_failed(&mut self, lost: &[Command]) {
        let given_up = |write: &Write| match write {
            Write::Add(command) => lost.iter().any(|lost| lost.place == command.place),
            _ => false,
        };
        self.failed = std::mem::take(&mut self.storing);
        self.failed.retain(|write| !given_up(write));
        if Bug::FailedWritesDropped.planted() {
            self.failed.clear();
        }
        // Of marks only the latest counts; a disk that is full for long must not make them pile up.
        let (mut seen, mut cursor, mut endpoints) = (false, false, false);
        let mut at = self.failed.len();
        while at > 0 {
            at -= 1;
            let mark = match self.failed.get(at) {
                Some(Write::Seen(_)) => &mut seen,
                Some(Write::Cursor(_)) => &mut cursor,
                Some(Write::Endpoints(_)) => &mut endpoints,
                _ => continue,
            };
            if std::mem::replace(mark, true) {
                self.failed.remove(at);
            }
        }
    }

    /// What the store did not take is tried again, also where nothing else is to be stored.
    fn store_again(&mut self) {
        if self.writes.is_empty() {
            self.writes.append(&mut self.failed);
        }
    }

    /// When [`Machine::tick`] is to be called; `None`: not before another input.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        match &self.link {
            Link::Waiting { until } => Some(*until),
            Link::Trying => self.attempts_deadline(),
            Link::Up(session) => {
                let session = self.session_deadline(session);
                Some(self.attempts_deadline().map_or(session, |at| at.min(session)))
            }
            Link::Stopped(_) => None,
        }
    }

    fn session(&self) -> Option<&Session> {
        match &self.link {
            Link::Up(session) => Some(session),
            _ => None,
        }
    }

    fn session_line(&self) -> Option<Line> {
        self.session().map(|session| session.line)
    }

    /// Up to where the stream was delivered.
    #[must_use]
    pub fn cursor(&self) -> Option<&Position> {
        self.cursor.as_ref()
    }

    /// The highest position seen anywhere.
    #[must_use]
    pub fn seen(&self) -> Option<&Position> {
        self.seen.as_ref()
    }

    /// The commands that wait for their outcome, in order.
    pub fn waiting(&self) -> impl Iterator<Item = &Command> {
        self.outbox.commands()
    }

    /// How many frames, events and parts were passed over because this version does not know them.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// Input: a command, under an id that the caller drew at random. It is in the outbox once it is stored; its outcome is
    /// delivered.
    ///
    /// # Errors
    /// [`Failure::Full`], [`Failure::TooLarge`] or [`Failure::Stopped`]: it is not in the outbox.
    pub fn submit(&mut self, id: CommandId, change: &Change) -> Result<(), Failure> {
        if let Link::Stopped(stop) = &self.link {
            return Err(Failure::Stopped(stop.clone()));
        }
        self.outbox.submit(id, change, &mut self.writes)
    }

    /// Input: the writes were committed, or none of them was.
    pub fn stored(&mut self, moment: Moment, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.storing.clear();
                self.outbox.stored();
                self.pump(moment);
            }
            Err(error) => {
                // An app that forgot its copy would be told what follows a cursor that the store still has.
                let voids = self.storing.contains(&Write::Cursor(None)) && !Bug::ResyncBeforeStored.planted();
                let lost = self.outbox.not_stored();
                if voids {
                    self.takes_resync_back();
                }
                let goes_on = lost.is_some() && !voids;
                if let Some(lost) = lost {
                    self.keep_failed(&lost);
                    for Command { id, body, .. } in lost {
                        let result = Err(Failure::NotStored(error.clone()));
                        self.deliver(Delivery::Outcome { id, body, result, again: false });
                    }
                }
                if !goes_on {
                    self.stop_because(Stop::Store(error));
                }
            }
        }
    }

    /// The app is told neither to forget its copy nor what would have followed.
    fn takes_resync_back(&mut self) {
        let resync = Output::Deliver(Delivery::Resync);
        let Some(at) = self.outputs.iter().position(|output| *output == resync) else { return };
        let stays = |output: &Output| match output {
            Output::Deliver(delivery) => matches!(delivery, Delivery::Outcome { .. }),
            _ => true,
        };
        let behind = self.outputs.split_off(at);
        self.outputs.extend(behind.into_iter().filter(stays));
    }

    /// Input: the app has everything up to `pos` in its own durable copy, so that the next process may go on from there. An app
    /// that holds its copy in memory only never says this, and gets everything anew at each start.
    pub fn applied(&mut self, moment: Moment, pos: &Pos) {
        let position = Position::read(pos);
        // Said of a copy that the app has forgotten since, or is about to.
        let is_void = self.voided.as_ref().is_some_and(|voided| position == *voided || position.is_before(voided));
        if !is_void || Bug::VoidCopyCounts.planted() {
            self.store_applied(moment.now, position);
        }
    }

    fn store_applied(&mut self, now: u64, position: Position) {
        let before = self.applied.clone();
        crate::position::advance(&mut self.applied, position);
        if self.applied != before {
            self.applied_at = now;
            self.writes.push(Write::Cursor(self.applied.clone()));
        }
    }

    /// Input: somebody looks at it, or nobody does any more.
    pub fn foreground(&mut self, moment: Moment, foreground: bool) {
        if self.settings.foreground == foreground {
            return;
        }
        self.settings.foreground = foreground;
        let timing = self.settings.timing;
        match &mut self.link {
            Link::Waiting { until } if foreground => {
                *until = (*until).min(moment.now + moment.random % (timing.backoff_ms + 1));
            }
            Link::Up(session) if foreground => session.next_ping = moment.now,
            Link::Up(session) => session.next_ping = moment.now + timing.ping_background_ms,
            _ => {}
        }
    }

    /// Input: the driver reads the connection no more because the app is slow, or reads it again. While it does not, silence is no
    /// sign of anything.
    pub fn listening(&mut self, moment: Moment, listening: bool) {
        self.listening = listening;
        if let Link::Up(session) = &mut self.link
            && listening
        {
            for since in [&mut session.unanswered, &mut session.answered_at].into_iter().flatten() {
                *since = moment.now;
            }
        }
        self.stay();
        if listening && self.session().is_some_and(|session| session.unanswered.is_some()) {
            self.doubt(moment);
        }
    }

    /// Input: the app wants no more. The outbox stays in the store.
    pub fn stop(&mut self) {
        self.stop_because(Stop::Closed);
    }

    fn stop_because(&mut self, stop: Stop) {
        if matches!(self.link, Link::Stopped(_)) {
            return;
        }
        self.hang_up_attempts();
        if let Some(line) = self.session_line() {
            // The last one closed: on it the driver may say goodbye.
            self.hang_up(line);
        }
        self.outbox.rest();
        // The last chance.
        self.store_again();
        self.link = Link::Stopped(stop.clone());
        self.deliver(Delivery::State(State::Stopped(stop)));
    }

    fn deliver(&mut self, delivery: Delivery) {
        if let Delivery::State(state) = &delivery {
            self.shown = Some(state.clone());
        }
        self.outputs.push_back(Output::Deliver(delivery));
    }
}

/// Whether a goodbye says nothing against the server.
fn keeps_endpoint(problem: &Problem) -> bool {
    problem.endpoints.is_empty() && matches!(problem.known(), Some(Code::SlowReader | Code::Silent))
}
