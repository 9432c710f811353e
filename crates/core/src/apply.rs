//! Applies batches: the one place where a cell changes.
//!
//! ```text
//!  batch ─► is its node a member, is it no repeat? ─► cell time ─► each command, alone ─► what has expired ─► write set
//!                                                                     │ accepted: its writes and events stay
//!                                                                     │ rejected, panicked: they are undone, the outcome stays
//! ```

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use ieum_planted::Bug;

use crate::batch::{Batch, Envelope, Origin};
use crate::commands::{Command, LEVEL};
use crate::event::{Alarm, Event};
use crate::ids::{DeviceId, Millis, Position, UserId};
use crate::kv::{self, Read, WriteSet};
use crate::outcome::{Outcome, Reject};
use crate::scope::{Actor, Run, Scope, Stop};
use crate::tables::accounts::{PROGRESS, Progress};
use crate::tables::cell::{APPLIED, Applied, CLOCK, Clock, HORIZON, NODES, ONLY, SETTINGS, Settings};
use crate::tables::once::{Answered, IDEMPOTENCY, OUTCOMES, SLOTS, Slot};
use crate::time;
use crate::txn::Txn;

/// Who appended a batch and as which one, as the log says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Author {
    /// The node.
    pub node: u32,
    /// One life of its process.
    pub incarnation: u64,
    /// 1, 2, 3 … within the incarnation.
    pub number: u64,
}

/// What applying a batch gave.
#[derive(Debug)]
pub struct Effects {
    /// Where the view stands with `writes` committed.
    pub applied: Applied,
    /// The outcome of each command, in order; empty for a batch that was skipped as a whole.
    pub outcomes: Vec<Outcome>,
    /// What devices are told, in order.
    pub events: Vec<Event>,
    /// What an operator must hear of.
    pub alarms: Vec<Alarm>,
    /// What changes in the view, position and digest included: to be committed at once.
    pub writes: WriteSet,
}

/// Why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The view is not one position behind the batch.
    #[error("the view stands at {view}; {batch} does not follow it")]
    Gap {
        /// Where the view stands.
        view: Position,
        /// Where the batch stands.
        batch: Position,
    },
    /// The cell's active level is beyond what this build knows.
    #[error("the cell is at level {cell}, this build knows up to {known}: start a newer build")]
    Level {
        /// The active level.
        cell: u32,
        /// The highest that this build knows.
        known: u32,
    },
    /// The view engine failed.
    #[error(transparent)]
    Store(#[from] kv::Error),
}

/// Commands that the operator marked to be skipped: where the batch stands and which command of it, from 0.
pub type Skips = BTreeSet<(Position, u32)>;

/// The level of a cell before its first command: that of the first build, whatever this one knows, because old logs begin there too.
const UNFOUNDED: u32 = 1;

/// How long an idempotency key is remembered.
const KEY_LIFE: Millis = 24 * 60 * 60 * 1000;

/// Where a view stands; the place before the first batch of generation 1 for an empty one.
pub fn applied(view: &(impl Read + ?Sized)) -> kv::Result<Applied> {
    Ok(APPLIED.get(view, &ONLY)?.unwrap_or(Applied { position: Position::new(1, 0), digest: [0; 32] }))
}

/// Applies the batch at `position` to `view`. The view does not change until [`Effects::writes`] is committed to it.
pub fn apply(
    view: &dyn Read,
    position: Position,
    author: Author,
    bytes: &[u8],
    skips: &Skips,
) -> Result<Effects, Error> {
    apply_knowing(LEVEL, view, position, author, bytes, skips)
}

/// The same as a build that knows no level above `known`, which is at most [`LEVEL`]: it has the same outcomes, and stops before a higher level.
pub fn apply_knowing(
    known: u32,
    view: &dyn Read,
    position: Position,
    author: Author,
    bytes: &[u8],
    skips: &Skips,
) -> Result<Effects, Error> {
    let before = applied(view)?;
    let follows = position.ordinal == before.position.ordinal + 1 || Bug::ApplyGapIgnored.planted();
    if position.generation != before.position.generation || !follows {
        return Err(Error::Gap { view: before.position, batch: position });
    }
    let mut run =
        Applier { known, txn: Txn::new(view), position, outcomes: Vec::new(), events: Vec::new(), alarms: Vec::new() };
    // Before the bytes are looked at: to a build that is too old a newer form of batch would seem malformed.
    let settings = run.settings()?;
    match Batch::decode(bytes) {
        Ok(batch) => run.batch(author, &batch, settings, skips)?,
        Err(malformed) => run.alarms.push(Alarm::MalformedBatch { position, message: malformed.0 }),
    }
    run.txn.keep();
    let digest = roll(&before.digest, position, &run.txn);
    let applied = Applied { position, digest };
    if !Bug::PositionCommittedApart.planted() {
        APPLIED.put(&mut run.txn, &ONLY, &applied);
        run.txn.keep();
    }
    let Applier { txn, outcomes, events, alarms, .. } = run;
    Ok(Effects { applied, outcomes, events, alarms, writes: txn.finish() })
}

/// The write set that moves a view's position and nothing else: for tools that take a view over into a new generation.
#[must_use]
pub fn position_alone(applied: &Applied) -> WriteSet {
    let row = (APPLIED.key(&ONLY), Some(Bytes::from(crate::codec::Code::to_bytes(applied))));
    WriteSet { rows: [row].into() }
}

/// The rolling digest: BLAKE3 over the digest before, the position and the write set in key order.
fn roll(before: &[u8; 32], position: Position, txn: &Txn<'_>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::with_capacity(4096);
    bytes.extend_from_slice(before);
    bytes.extend_from_slice(&position.generation.to_be_bytes());
    bytes.extend_from_slice(&position.ordinal.to_be_bytes());
    for (key, value) in txn.kept() {
        bytes.extend_from_slice(&(key.len() as u64).to_be_bytes());
        bytes.extend_from_slice(key);
        let length = value.as_ref().map_or(u64::MAX, |v| v.len() as u64);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(value.as_deref().unwrap_or_default());
        if bytes.len() >= 64 * 1024 {
            hasher.update(&bytes);
            bytes.clear();
        }
    }
    hasher.update(&bytes);
    *hasher.finalize().as_bytes()
}

struct Applier<'v> {
    known: u32,
    txn: Txn<'v>,
    position: Position,
    outcomes: Vec<Outcome>,
    events: Vec<Event>,
    alarms: Vec<Alarm>,
}

impl Applier<'_> {
    fn batch(&mut self, author: Author, batch: &Batch, mut settings: Settings, skips: &Skips) -> Result<(), Error> {
        let named =
            Author { node: batch.header.node, incarnation: batch.header.incarnation, number: batch.header.number };
        if named != author {
            let message = "its header names another author than the log does";
            self.alarms.push(Alarm::MalformedBatch { position: self.position, message });
            return Ok(());
        }
        let Some(dc) = self.admit(author, batch)? else { return Ok(()) };
        let tick = |e: &&Envelope| matches!((&e.origin, &e.command), (Origin::Node, Command::Tick(_)));
        let ticks = batch.commands.iter().filter(tick).count();
        let now = self.advance_clock(author.node, &dc, batch.header.clock, u32::try_from(ticks).unwrap_or(u32::MAX))?;
        let settings_key = SETTINGS.key(&ONLY);
        for (index, envelope) in batch.commands.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let skip = skips.contains(&(self.position, index));
            let outcome = self.command(author.node, now, &settings, envelope, index, skip)?;
            self.outcomes.push(outcome);
            // Next to no command changes them.
            if self.txn.kept().contains_key(&settings_key) {
                settings = self.settings()?;
            }
        }
        self.number(author)?;
        self.expire(now, &settings, batch.commands.len())
    }

    /// The cell's settings, if this build knows the active level.
    fn settings(&self) -> Result<Settings, Error> {
        let settings = SETTINGS.get(&self.txn, &ONLY)?.unwrap_or_else(|| Settings::new(0, UNFOUNDED));
        let (cell, known) = (settings.level, self.known);
        if cell > known && !Bug::UnknownLevelTaken.planted() { Err(Error::Level { cell, known }) } else { Ok(settings) }
    }

    /// The author's data center, if the batch counts: a member's, and not one that was applied before.
    fn admit(&mut self, author: Author, batch: &Batch) -> Result<Option<String>, Error> {
        let known = NODES.get(&self.txn, &author.node)?;
        let Some(node) = known else {
            let founded = SETTINGS.has(&self.txn, &ONLY)?;
            return match batch.commands.first() {
                Some(Envelope { origin: Origin::Node, command: Command::AddNode(add) })
                    if !founded && add.node == author.node && add.check().is_ok() =>
                {
                    Ok(Some(add.dc.clone()))
                }
                _ => {
                    self.alarms.push(Alarm::NotAMember { position: self.position, node: author.node });
                    Ok(None)
                }
            };
        };
        let repeat = (author.incarnation, author.number) <= (node.incarnation, node.number);
        Ok(if repeat && !Bug::RepeatApplied.planted() { None } else { Some(node.dc) })
    }

    /// Remembers the batch, so that its repeats are known. After its commands, because the first batch of all makes its author a member.
    fn number(&mut self, author: Author) -> kv::Result<()> {
        if let Some(mut node) = NODES.get(&self.txn, &author.node)? {
            (node.incarnation, node.number) = (author.incarnation, author.number);
            NODES.put(&mut self.txn, &author.node, &node);
            self.txn.keep();
        }
        Ok(())
    }

    fn advance_clock(&mut self, node: u32, dc: &str, stamp: Millis, ticks: u32) -> kv::Result<Millis> {
        let mut clock = CLOCK.get(&self.txn, &ONLY)?.unwrap_or(Clock { now: 0, stamps: Vec::new() });
        time::advance(&mut clock, node, dc, stamp, ticks);
        if Bug::ClockRead.planted() {
            #[allow(clippy::disallowed_types, reason = "the planted bug is this very clock")]
            let elapsed = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
            clock.now = elapsed.map_or(0, |e| e.as_micros() as u64);
        }
        CLOCK.put(&mut self.txn, &ONLY, &clock);
        self.txn.keep();
        Ok(clock.now)
    }

    /// Finds out who asks, whether it was asked before, and runs it.
    fn command(
        &mut self,
        node: u32,
        now: Millis,
        settings: &Settings,
        envelope: &Envelope,
        index: u32,
        skip: bool,
    ) -> kv::Result<Outcome> {
        let known = match &envelope.origin {
            Origin::Node => Known::New(Actor::Node(node)),
            Origin::Device { device, number, id } => self.numbered(*device, *number, id)?,
            Origin::Http { device, key, request } => match PROGRESS.get(&self.txn, device)? {
                Some(progress) => {
                    self.keyed(Actor::Person { user: progress.user, device: *device }, *device, key, request)?
                }
                None => Known::Answer(Outcome::Rejected(Reject::DeviceUnknown)),
            },
            Origin::Anonymous { key, request } => self.keyed(Actor::Nobody, DeviceId(0), key, request)?,
        };
        let actor = match known {
            Known::Answer(outcome) => return Ok(outcome),
            Known::New(actor) => actor,
        };
        let outcome = if skip {
            Outcome::Rejected(Reject::Skipped)
        } else {
            self.run(actor, now, settings, &envelope.command, index)?
        };
        self.remember(actor, now, &envelope.origin, &outcome)?;
        Ok(outcome)
    }

    /// A device's command is new when its number is the next one.
    fn numbered(&self, device: DeviceId, number: u64, id: &[u8; 16]) -> kv::Result<Known> {
        let Some(Progress { user, last }) = PROGRESS.get(&self.txn, &device)? else {
            return Ok(Known::Answer(Outcome::Rejected(Reject::DeviceUnknown)));
        };
        if number == last + 1 || Bug::SkipDeviceNumberCheck.planted() {
            return Ok(Known::New(Actor::Person { user, device }));
        }
        if number > last {
            return Ok(Known::Answer(Outcome::Rejected(Reject::OutOfOrder)));
        }
        let slot = OUTCOMES.get(&self.txn, &(device, (number % SLOTS) as u8))?;
        Ok(Known::Answer(match slot {
            Some(slot) if slot.number == number && slot.id == *id => slot.outcome,
            Some(slot) if slot.number == number => Outcome::Rejected(Reject::NumberReused),
            _ => Outcome::Rejected(Reject::TooOld),
        }))
    }

    /// A change over HTTP is new when its key is.
    fn keyed(&self, actor: Actor, device: DeviceId, key: &[u8; 16], request: &[u8; 16]) -> kv::Result<Known> {
        Ok(match IDEMPOTENCY.get(&self.txn, &(device, *key))? {
            Some(answered) if answered.request == *request => Known::Answer(answered.outcome),
            Some(_) => Known::Answer(Outcome::Rejected(Reject::KeyReused)),
            None => Known::New(actor),
        })
    }

    /// Runs one command alone: it has all of its effect or, rejected or panicked, none.
    fn run(
        &mut self,
        actor: Actor,
        now: Millis,
        settings: &Settings,
        command: &Command,
        index: u32,
    ) -> kv::Result<Outcome> {
        if command.levels().is_none_or(|levels| !levels.contains(&settings.level)) {
            return Ok(Outcome::Rejected(Reject::Unsupported));
        }
        let mut events = Vec::new();
        let mut scope =
            Scope { txn: &mut self.txn, events: &mut events, actor, position: self.position, now, settings };
        let result = catch_unwind(AssertUnwindSafe(|| command.run(&mut scope)));
        match result {
            Ok(Ok(accepted)) => {
                self.txn.keep();
                self.events.append(&mut events);
                Ok(Outcome::Accepted(accepted))
            }
            Ok(Err(Stop::Reject(reject))) => {
                self.txn.undo();
                Ok(Outcome::Rejected(reject))
            }
            Ok(Err(Stop::Store(error))) => Err(error),
            Err(panic) => {
                if Bug::PanicKeepsWrites.planted() {
                    self.txn.keep();
                }
                self.txn.undo();
                let message = text_of(panic.as_ref());
                self.alarms.push(Alarm::Panicked { position: self.position, index, command: command.name(), message });
                Ok(Outcome::Rejected(Reject::Internal))
            }
        }
    }

    /// Keeps the outcome for a retry.
    fn remember(&mut self, actor: Actor, now: Millis, origin: &Origin, outcome: &Outcome) -> kv::Result<()> {
        let left_unused = matches!(outcome, Outcome::Rejected(reject) if reject.leaves_number_unused());
        match origin {
            Origin::Node => {}
            Origin::Device { device, number, id } => self.remember_number(actor, *device, *number, *id, outcome)?,
            Origin::Http { key, request, .. } | Origin::Anonymous { key, request } => {
                let device = match actor {
                    Actor::Person { device, .. } => device,
                    Actor::Node(_) | Actor::Nobody => DeviceId(0),
                };
                if !left_unused && !Bug::IdempotencyKeyIgnored.planted() {
                    let row = (device, *key);
                    let answered = Answered { request: *request, outcome: outcome.clone() };
                    IDEMPOTENCY.put(&mut self.txn, &row, &answered);
                    let expiry = (now.saturating_add(KEY_LIFE), Bytes::from(IDEMPOTENCY.key(&row)));
                    crate::tables::once::EXPIRY.put(&mut self.txn, &expiry, &None);
                }
            }
        }
        self.txn.keep();
        Ok(())
    }

    fn remember_number(
        &mut self,
        actor: Actor,
        device: DeviceId,
        number: u64,
        id: [u8; 16],
        outcome: &Outcome,
    ) -> kv::Result<()> {
        let Actor::Person { user, .. } = actor else { return Ok(()) };
        // A device that logged itself out is gone, and with it what was kept for its retries.
        if PROGRESS.has(&self.txn, &device)? {
            PROGRESS.put(&mut self.txn, &device, &Progress { user, last: number });
            let slot = Slot { number, id, outcome: outcome.clone() };
            OUTCOMES.put(&mut self.txn, &(device, (number % SLOTS) as u8), &slot);
        }
        Ok(())
    }

    /// Removes what has expired, more than a batch can add, so that it keeps up.
    fn expire(&mut self, now: Millis, settings: &Settings, commands: usize) -> Result<(), Error> {
        let mut events = Vec::new();
        let mut scope = Scope {
            txn: &mut self.txn,
            events: &mut events,
            actor: Actor::Nobody,
            position: self.position,
            now,
            settings,
        };
        let horizon = scope.remove_expired(64 + 2 * commands)?;
        if let Some(position) = horizon {
            let before = HORIZON.get(&self.txn, &ONLY)?.unwrap_or_default();
            HORIZON.put(&mut self.txn, &ONLY, &before.max(position));
        }
        self.txn.keep();
        Ok(())
    }
}

/// Whether a command was answered before.
enum Known {
    New(Actor),
    Answer(Outcome),
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

/// Whose device it is, if it is signed in.
pub fn owner_of(view: &(impl Read + ?Sized), device: DeviceId) -> kv::Result<Option<UserId>> {
    Ok(PROGRESS.get(view, &device)?.map(|p| p.user))
}

#[cfg(test)]
mod tests;
