//! The outbox: what a person wrote, until the cell has answered it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use ieum_planted::Bug;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{Ack, Change, Done};
use ieum_protocol::{MAX_FRAME, MAX_IN_FLIGHT};

use super::delivery::Failure;
use crate::command::{Command, CommandId};
use crate::store::{Saved, Write};

/// What a frame has around its change, at most.
const FRAME_AROUND: usize = 128;

/// Takes the number of a command that no server takes: nobody is in room 0, so it is rejected and uses the number up. Giving the
/// number to the next command instead could make that one take effect twice, should its earlier frame still be under way.
const FILLER: &str = r#"{"read":{"room":0,"seq":0}}"#;

/// How much an outbox holds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most commands that wait for their outcome, sent or not.
    pub queue: usize,
    /// Most acknowledged commands that are kept to be offered again after a generation change.
    pub kept: usize,
    /// For how long they are kept, in milliseconds, counted while connected.
    pub kept_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queue: 10_000, kept: 1_000, kept_ms: 5 * 60 * 1_000 }
    }
}

/// The commands that wait, in order, and those acknowledged lately.
#[derive(Debug)]
pub(super) struct Outbox {
    limits: Limits,
    /// In the order in which they were given; numbers ascend, and those without a number come last.
    entries: VecDeque<Entry>,
    /// Some entry is [`Disk::Changed`].
    changed: bool,
    /// Acknowledged, or used up so long ago that the outcome is unknown, by number, with the time.
    kept: VecDeque<(Command, u64)>,
    /// The last number given; `None` until the counter is known.
    last: Option<u64>,
    /// The highest number that was answered.
    answered: u64,
    next_place: u64,
    /// How many entries, from the front, were sent in this session and wait for an answer.
    sent: usize,
    /// How many frames were sent in this session and have no answer yet.
    due: usize,
    /// A number was refused: nothing is sent until every frame that is due was answered, because those behind it are refused too.
    draining: bool,
    /// How many frames may be due.
    window: usize,
    /// One of so many commands ended a session by its looks; they are sent one by one.
    suspects: usize,
    /// Refusals since the last answer.
    refusals: u32,
}

#[derive(Debug)]
struct Entry {
    command: Command,
    disk: Disk,
    /// It may have been sent under its number.
    tried: bool,
    report: Report,
}

/// Whether the store has an entry as it is; only then is it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    New,
    Changed,
    Stored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Report {
    Outcome,
    OutcomeAgain,
    Nothing,
}

/// An outcome for the app.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) id: CommandId,
    pub(super) body: Arc<str>,
    pub(super) result: Result<Done, Failure>,
    pub(super) again: bool,
}

/// What became of a refusal.
#[derive(Debug)]
pub(super) enum Refused {
    /// It was about nothing that is under way.
    Stale,
    /// It ended the command.
    Final(Option<Outcome>),
    /// The command and those behind it are sent again.
    Again {
        id: CommandId,
        /// How often this happened since the last answer, 1, 2, 3 …
        times: u32,
        /// It is the first that waits, so the server cannot miss one before it.
        first: bool,
    },
}

/// The server knows fewer numbers than it has acknowledged.
#[derive(Debug)]
pub(super) struct Behind;

impl Outbox {
    pub(super) fn new(saved: Saved, limits: Limits, now: u64) -> Self {
        let next_place = saved.outbox.iter().chain(&saved.kept).map(|command| command.place + 1).max().unwrap_or(1);
        let highest = saved.outbox.iter().filter_map(|command| command.n).max();
        let entry = |command| Entry { command, disk: Disk::Stored, tried: true, report: Report::Outcome };
        Self {
            limits,
            entries: saved.outbox.into_iter().map(entry).collect(),
            changed: false,
            kept: saved.kept.into_iter().map(|command| (command, now)).collect(),
            last: saved.last.max(highest),
            answered: saved.answered,
            next_place,
            sent: 0,
            due: 0,
            draining: false,
            window: MAX_IN_FLIGHT,
            suspects: 0,
            refusals: 0,
        }
    }

    /// The commands that wait, in order.
    pub(super) fn commands(&self) -> impl Iterator<Item = &Command> {
        self.entries.iter().filter(|entry| entry.report != Report::Nothing).map(|entry| &entry.command)
    }

    /// Whether something waits for an answer that was not sent in this session.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.entries.len()
    }

    /// Whether frames wait for an answer.
    pub(super) fn has_due(&self) -> bool {
        self.due > 0
    }

    /// Takes a new command.
    pub(super) fn submit(&mut self, id: CommandId, change: &Change, writes: &mut Vec<Write>) -> Result<(), Failure> {
        if self.entries.len() >= self.limits.queue {
            return Err(Failure::Full { limit: self.limits.queue });
        }
        let body = serde_json::to_string(change).map_err(|error| Failure::NotStored(error.to_string()))?;
        if body.len() + FRAME_AROUND > MAX_FRAME {
            return Err(Failure::TooLarge { bytes: body.len() + FRAME_AROUND, limit: MAX_FRAME });
        }
        let n = self.last.map(|last| last + 1);
        let command = Command { place: self.place(), id, n, body: body.into() };
        self.last = n;
        writes.push(Write::Add(command.clone()));
        self.entries.push_back(Entry { command, disk: Disk::New, tried: false, report: Report::Outcome });
        Ok(())
    }

    fn place(&mut self) -> u64 {
        let place = self.next_place;
        self.next_place += 1;
        place
    }

    /// The store has everything.
    pub(super) fn stored(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        for entry in self.entries.iter_mut().rev().take_while(|entry| changed || entry.disk != Disk::Stored) {
            entry.disk = Disk::Stored;
        }
    }

    /// The store took nothing: new commands are given up. `None` if others changed too, so that going on is not safe.
    pub(super) fn not_stored(&mut self) -> Option<Vec<Command>> {
        let mut lost = Vec::new();
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.disk == Disk::New) {
            if let Some(n) = entry.command.n {
                self.last = Some(n - 1);
            }
            lost.push(entry.command);
        }
        lost.reverse();
        if self.changed { None } else { Some(lost) }
    }

    /// A session begins at a server that has used the numbers up to `n`.
    pub(super) fn begin(&mut self, n: u64, new_generation: bool, writes: &mut Vec<Write>) -> Result<(), Behind> {
        self.rest();
        if n < self.answered {
            if !new_generation {
                return Err(Behind);
            }
            self.reoffer(n, writes);
            self.answered = n;
        }
        // Numbers up to `n` are used: by what was sent under them, so that the outcome is answered again. All others go on from `n`.
        let fits = |entry: &Entry| entry.tried && entry.command.n.is_some_and(|number| number <= n);
        let first = self.entries.iter().position(|entry| !fits(entry)).unwrap_or(self.entries.len());
        let mut last = n;
        for entry in self.entries.iter_mut().skip(first) {
            last += 1;
            if entry.command.n != Some(last) {
                entry.command.n = Some(last);
                entry.disk = Disk::Changed;
                self.changed = true;
                entry.tried = false;
                writes.push(Write::Number { place: entry.command.place, n: last });
            }
        }
        if self.last != Some(last) || new_generation {
            self.last = Some(last);
            writes.push(Write::Counter { last, answered: self.answered });
        }
        Ok(())
    }

    /// The log was restored to where it knows numbers up to `n`: what was acknowledged beyond goes before what waits.
    fn reoffer(&mut self, n: u64, writes: &mut Vec<Write>) {
        while let Some((command, _)) = self.kept.pop_back_if(|(command, _)| command.n.is_some_and(|number| number > n))
        {
            writes.push(Write::Reoffer { place: command.place });
            let entry = Entry { command, disk: Disk::Changed, tried: true, report: Report::OutcomeAgain };
            self.entries.push_front(entry);
            self.changed = true;
        }
    }

    /// The session is over: everything is to be sent again.
    pub(super) fn rest(&mut self) {
        self.sent = 0;
        self.due = 0;
        self.draining = false;
        self.refusals = 0;
    }

    /// The next frame to send, if one may be sent.
    pub(super) fn next_frame(&mut self, writes: &mut Vec<Write>) -> Option<String> {
        if self.draining || self.due >= self.window {
            return None;
        }
        let entry = self.entries.get_mut(self.sent)?;
        let n = entry.command.n.filter(|_| entry.disk == Disk::Stored)?;
        entry.tried = true;
        let Command { id, body, .. } = &entry.command;
        let mut frame = String::with_capacity(body.len() + FRAME_AROUND);
        let _ = write!(frame, r#"{{"cmd":{{"n":{n},"id":"{id}","do":{body}}}}}"#);
        self.due += 1;
        if Bug::OutboxForgetsSent.planted() {
            if let Some(entry) = self.entries.remove(self.sent) {
                writes.push(Write::Forget { place: entry.command.place });
            }
            return Some(frame);
        }
        self.sent += 1;
        Some(frame)
    }

    /// A frame was answered.
    fn answer(&mut self) {
        self.due = self.due.saturating_sub(1);
        self.draining &= self.due > 0;
    }

    /// Where the sent command with this number is.
    fn find(&self, n: u64) -> Option<usize> {
        let at = self.entries.partition_point(|entry| entry.command.n.is_some_and(|number| number < n));
        let entry = self.entries.get(at)?;
        (at < self.sent && entry.command.n == Some(n)).then_some(at)
    }

    /// An outcome came.
    pub(super) fn ack(&mut self, ack: Ack, now: u64, writes: &mut Vec<Write>) -> Option<Outcome> {
        self.answer();
        let at = self.find(ack.n)?;
        let result = match ack.error {
            None => Ok(ack.ok.unwrap_or_default()),
            Some(problem) => Err(problem),
        };
        self.finish(at, result, now, writes)
    }

    /// The command at `at` is answered for good, unless its number was another's.
    fn finish(
        &mut self,
        at: usize,
        result: Result<Done, Problem>,
        now: u64,
        writes: &mut Vec<Write>,
    ) -> Option<Outcome> {
        self.refusals = 0;
        if self.suspects > 0 {
            self.suspects -= 1;
            self.window = if self.suspects == 0 { MAX_IN_FLIGHT } else { 1 };
        }
        let entry = self.entries.remove(at)?;
        self.sent -= 1;
        let code = result.as_ref().err().and_then(Problem::known);
        if code == Some(Code::NumberReused) {
            self.number_anew(entry, writes);
            return None;
        }
        let Command { place, id, n, ref body } = entry.command;
        let body = Arc::clone(body);
        let n = n.unwrap_or(0);
        self.answered = self.answered.max(n);
        // What is too old to be remembered may have taken effect, too.
        let keep = (result.is_ok() || code == Some(Code::TooOld)) && self.limits.kept > 0;
        writes.push(Write::Answered { place, n, keep });
        if keep {
            let after = self.kept.partition_point(|(command, _)| command.n < Some(n));
            self.kept.insert(after, (entry.command, now));
            self.prune(now, writes);
        }
        let result = match code {
            Some(Code::TooOld) => Err(Failure::TooOld),
            _ => result.map_err(|problem| Failure::Rejected(Box::new(problem))),
        };
        let again = entry.report == Report::OutcomeAgain;
        (entry.report != Report::Nothing).then_some(Outcome { id, body, result, again })
    }

    /// The number was used under another id, so the device's counter had been lost: the command goes to the end with a new number.
    fn number_anew(&mut self, mut entry: Entry, writes: &mut Vec<Write>) {
        writes.push(Write::Forget { place: entry.command.place });
        let last = self.last.unwrap_or(0) + 1;
        self.last = Some(last);
        entry.command.n = Some(last);
        entry.command.place = self.place();
        entry.disk = Disk::Changed;
        self.changed = true;
        entry.tried = false;
        writes.push(Write::Add(entry.command.clone()));
        self.entries.push_back(entry);
    }

    /// A number was not taken.
    pub(super) fn refused(
        &mut self,
        n: u64,
        problem: &Problem,
        (filler, now): (CommandId, u64),
        writes: &mut Vec<Write>,
    ) -> Refused {
        self.answer();
        let Some(at) = self.find(n) else { return Refused::Stale };
        if matches!(problem.known(), Some(Code::NumberReused | Code::TooOld)) {
            return Refused::Final(self.finish(at, Err(problem.clone()), now, writes));
        }
        self.sent = at;
        self.draining = self.due > 0;
        if is_final(problem) {
            return Refused::Final(self.replace(at, problem, filler, writes));
        }
        self.refusals += 1;
        let first = at == 0;
        match self.entries.get(at) {
            Some(entry) => Refused::Again { id: entry.command.id, times: self.refusals, first },
            None => Refused::Stale,
        }
    }

    /// The session ended because of a frame that the server could not read. With one command due that is the one: its outcome.
    /// With several they are sent one by one in the next sessions.
    pub(super) fn unreadable(
        &mut self,
        problem: &Problem,
        filler: CommandId,
        writes: &mut Vec<Write>,
    ) -> Option<Outcome> {
        let due = self.due.min(self.sent);
        if due == 1 {
            self.suspects = 0;
            self.window = MAX_IN_FLIGHT;
            return self.replace(0, problem, filler, writes);
        }
        if due > 1 {
            self.suspects = due;
            self.window = 1;
        }
        None
    }

    /// Gives a command's number to the filler.
    fn replace(&mut self, at: usize, problem: &Problem, filler: CommandId, writes: &mut Vec<Write>) -> Option<Outcome> {
        let entry = self.entries.get_mut(at)?;
        let id = std::mem::replace(&mut entry.command.id, filler);
        let body = std::mem::replace(&mut entry.command.body, Arc::from(FILLER));
        entry.disk = Disk::Changed;
        self.changed = true;
        writes.push(Write::Replace { place: entry.command.place, id: filler, body: Arc::from(FILLER) });
        let report = std::mem::replace(&mut entry.report, Report::Nothing);
        let result = Err(Failure::NotTaken(Box::new(problem.clone())));
        (report != Report::Nothing).then_some(Outcome { id, body, result, again: report == Report::OutcomeAgain })
    }

    /// Forgets what was acknowledged too long ago, or is too much.
    pub(super) fn prune(&mut self, now: u64, writes: &mut Vec<Write>) {
        let limits = self.limits;
        while self.kept.len() > limits.kept
            || self.kept.front().is_some_and(|(_, at)| now.saturating_sub(*at) > limits.kept_ms)
        {
            let Some((command, _)) = self.kept.pop_front() else { return };
            writes.push(Write::Forget { place: command.place });
        }
    }
}

/// Whether a goodbye is about a frame that the server could not take.
pub(super) fn is_about_a_frame(problem: &Problem) -> bool {
    problem.retry_after_ms.is_none() && matches!(problem.status, 400 | 413 | 422)
}

/// Whether a refusal is about the command itself, so that sending it again cannot help.
fn is_final(problem: &Problem) -> bool {
    problem.retry_after_ms.is_none()
        // The device was logged out: a goodbye follows.
        && problem.known() != Some(Code::DeviceUnknown)
        && (400..500).contains(&problem.status)
        && !matches!(problem.status, 401 | 408 | 425 | 429)
}
