//! The simulated log: its contract, and how it fails. Requests are slow or stand still, answers get lost, a request that was given up comes
//! to its end later, a life of a node that is over is fenced off, what was trimmed is gone, and so is everything when it is lost.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use ieum_core::apply::Author;
use ieum_core::batch::Batch;
use ieum_core::commands::Command;
use ieum_log::journaled::joins::{Joins, joins};
use ieum_log::journaled::own_copy::OwnCopy as _;
use ieum_log::memory::Memory;
use ieum_log::memory_journal::MemoryJournal;
use ieum_log::sqlite::{Meta, Predecessor};
use ieum_log::{BatchId, Entry, Error, Log as _, Position, Room};
use ieum_node::core_position;
use ieum_node::folder::Extent;
use ieum_node::halt::Shared;

use crate::failure::{Broken, Check, broken, holds};
use crate::host::Journal;
use crate::node::CELL;
use crate::space::Space;

/// The log's first generation.
pub(crate) const FIRST: u32 = 1;

/// What a future gives when it is polled once.
pub(crate) fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// What the log says to an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// The batch is there.
    There,
    /// It is not, and never will be: another life of its node has begun.
    Fenced,
    /// It is not known any more whether it is: it was trimmed.
    Conflict,
    /// The log that it was meant for is not here.
    Gone,
    /// There is no room for it.
    Full,
}

/// Names a history of the log: a generation, or what follows an old backup of one.
pub(crate) type Era = usize;

/// All that was ever appended in one, the first at the front: what is trimmed or lost is kept for journals and the checker.
#[derive(Debug, Clone)]
struct Written {
    generation: u32,
    /// Which one it follows, and where that ended.
    before: Option<(Era, Predecessor)>,
    entries: Vec<Entry>,
}

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    memory: Memory,
    eras: Vec<Written>,
    /// Which of them it holds, unless all of it is lost, and of which people have been told.
    held: Option<Era>,
    told: Era,
    trimmed: u64,
    /// Where the log ended when it was trimmed, and up to where.
    trims: Vec<(u64, u64)>,
    /// The life of each node that may append.
    lives: BTreeMap<u32, u64>,
    /// It knows no more of a batch that was trimmed, and takes it again.
    forgets: bool,
    /// How many it has taken again.
    repeats: u64,
    /// Under which name it has a batch that it took again, by ordinal.
    repeated: BTreeMap<u64, BatchId>,
    /// The furthest batch of the era of which people are told that any node has ever applied.
    applied: u64,
    /// Nothing becomes durable before.
    stalled_until: u64,
    /// It has no room for anything until then.
    full_until: u64,
    /// Answers get lost until then.
    sick_until: u64,
    /// Of its room, if it has little.
    space: Option<Space>,
}

impl Log {
    /// One that takes again what was trimmed if it `forgets`: etcd never does, and apply is not to rely on that.
    pub(crate) fn new(forgets: bool, most: Option<u64>) -> Self {
        Self {
            space: most.map(Space::of),
            forgets,
            repeats: 0,
            repeated: BTreeMap::new(),
            memory: Memory::new(FIRST),
            eras: vec![Written { generation: FIRST, before: None, entries: Vec::new() }],
            held: Some(0),
            told: 0,
            trimmed: 0,
            trims: Vec::new(),
            lives: BTreeMap::new(),
            applied: 0,
            stalled_until: 0,
            full_until: 0,
            sick_until: 0,
        }
    }

    pub(crate) fn stall(&mut self, until: u64) {
        self.stalled_until = self.stalled_until.max(until);
    }

    /// Until then it takes nothing, and says so.
    pub(crate) fn fills(&mut self, until: u64) {
        self.full_until = until;
    }

    pub(crate) fn is_full(&self, now: u64) -> bool {
        now < self.full_until
    }

    pub(crate) fn sicken(&mut self, until: u64) {
        self.sick_until = until;
    }

    pub(crate) fn recover(&mut self) {
        (self.stalled_until, self.full_until, self.sick_until) = (0, 0, 0);
    }

    pub(crate) fn stalled_until(&self) -> u64 {
        self.stalled_until
    }

    pub(crate) fn is_sick(&self, now: u64) -> bool {
        now < self.sick_until
    }

    /// The last ordinal of the newest era, be it lost or not.
    pub(crate) fn last(&self) -> u64 {
        self.eras.last().map_or(0, |era| era.entries.len() as u64)
    }

    /// What it tells of its room.
    pub(crate) fn room(&self) -> Option<Room> {
        self.space.as_ref().map(Space::room)
    }

    pub(crate) fn trimmed(&self) -> u64 {
        self.trimmed
    }

    /// Where it ended before it was trimmed for the first time, or ends if it never was.
    pub(crate) fn whole_until(&self) -> u64 {
        self.trims.first().map_or(self.last(), |(last, _)| last.saturating_sub(1))
    }

    /// What it holds.
    pub(crate) fn held(&self) -> Option<Era> {
        self.held
    }

    /// The newest era, be it lost or not.
    pub(crate) fn newest(&self) -> Era {
        self.eras.len().saturating_sub(1)
    }

    pub(crate) fn generation(&self, era: Era) -> u32 {
        self.eras.get(era).map_or(FIRST, |era| era.generation)
    }

    /// A place in an era.
    pub(crate) fn at(&self, era: Era, ordinal: u64) -> ieum_core::ids::Position {
        ieum_core::ids::Position::new(self.generation(era), ordinal)
    }

    /// What is known of it, as a node learns it that looks.
    pub(crate) fn shared(&self) -> Option<Shared> {
        let held = self.held?;
        let predecessor = self.eras.get(held)?.before.map(|(_, end)| end);
        Some(Shared { predecessor, last: self.at(held, self.last()) })
    }

    /// What a node has of an era that reaches back to the batch behind `trimmed`.
    pub(crate) fn extent(&self, era: Era, trimmed: u64) -> Extent {
        let predecessor = self.eras.get(era).and_then(|era| era.before.map(|(_, end)| end));
        let last = self.eras.get(era).map_or(0, |era| era.entries.len() as u64);
        Extent {
            meta: Meta { cell: CELL.into(), generation: self.generation(era), predecessor },
            trimmed: self.at(era, trimmed),
            last: self.at(era, last),
            is_copy: true,
        }
    }

    /// The eras that the newest one follows and itself, the first at the front, each with where the next one begins.
    pub(crate) fn lineage(&self) -> Vec<(Era, Option<u64>)> {
        self.lineage_of(self.newest())
    }

    fn lineage_of(&self, era: Era) -> Vec<(Era, Option<u64>)> {
        let (mut era, mut until, mut lineage) = (era, None, Vec::new());
        loop {
            lineage.push((era, until));
            let Some((before, end)) = self.eras.get(era).and_then(|era| era.before) else { break };
            (era, until) = (before, Some(end.end.ordinal));
        }
        lineage.reverse();
        lineage
    }

    /// All that was ever appended in an era.
    pub(crate) fn entries(&self, era: Era) -> &[Entry] {
        self.eras.get(era).map_or(&[], |era| &era.entries)
    }

    /// The same up to an ordinal.
    pub(crate) fn up_to(&self, era: Era, until: Option<u64>) -> &[Entry] {
        let entries = self.entries(era);
        let until = until.and_then(|until| usize::try_from(until).ok()).unwrap_or(usize::MAX);
        entries.get(..until.min(entries.len())).unwrap_or_default()
    }

    /// A node has applied a batch.
    pub(crate) fn is_applied(&mut self, era: Era, ordinal: u64) {
        if era == self.told {
            self.applied = self.applied.max(ordinal);
        }
    }

    /// The era of which people have been told.
    pub(crate) fn told(&self) -> Era {
        self.told
    }

    /// The furthest that any node has applied of it.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// How far what an era holds up to `ordinal` is what people were told of, or what that follows.
    pub(crate) fn told_of(&self, era: Era, ordinal: u64) -> ieum_core::ids::Position {
        let generation = self.generation(era);
        let line = self.lineage_of(self.told);
        let Some((of, until)) = line.into_iter().find(|(of, _)| self.generation(*of) == generation) else {
            return ieum_core::ids::Position::default();
        };
        ieum_core::ids::Position::new(generation, self.common(of, era).min(ordinal).min(until.unwrap_or(u64::MAX)))
    }

    /// Whether what an era holds up to `ordinal` is what people were told of.
    pub(crate) fn is_told_up_to(&self, era: Era, ordinal: u64) -> bool {
        self.told_of(era, ordinal) == self.at(era, ordinal)
    }

    /// Up to where two eras of a generation are the same.
    fn common(&self, one: Era, other: Era) -> u64 {
        let (a, b) = (self.entries(one), self.entries(other));
        if one == other {
            return a.len() as u64;
        }
        a.iter().zip(b).take_while(|(a, b)| a == b).count() as u64
    }

    /// Whether a journal is of the history of an era, as far as that reaches.
    pub(crate) fn follows(&self, journal: Journal, era: Era) -> bool {
        self.generation(journal.era) != self.generation(era)
            || journal.last > self.entries(era).len() as u64
            || self.batch(journal.era, journal.last) == self.batch(era, journal.last)
    }

    /// A new life of a node: nothing of an earlier one is taken from here on. A shared log numbers lives by itself, whatever was known of them
    /// where another log was; one that no other node writes to keeps no account of them. None: the node knows of a later life of its own.
    pub(crate) fn register(&mut self, node: u32, least: u64, is_shared: bool) -> Option<u64> {
        let before = self.lives.get(&node).copied().unwrap_or_default();
        let life = if is_shared { before + 1 } else { least };
        self.lives.insert(node, life);
        (life >= least).then_some(life)
    }

    /// A node is removed: nothing of its life is taken from here on.
    pub(crate) fn remove(&mut self, node: u32) {
        if let Some(life) = self.lives.get_mut(&node) {
            *life += 1;
        }
    }

    /// A request to append to an era arrives.
    pub(crate) fn place(&mut self, era: Era, author: Author, bytes: &Bytes) -> Check<Placed> {
        if self.held != Some(era) {
            return Ok(Placed::Gone);
        }
        if self.lives.get(&author.node) != Some(&author.incarnation) {
            return Ok(Placed::Fenced);
        }
        let id = BatchId { node: author.node, incarnation: author.incarnation, number: author.number };
        let last = self.last();
        match now(self.memory.append(id, bytes.clone())) {
            Some(Ok(position)) => {
                if position.ordinal > last {
                    self.adds(era, Entry { position, id, bytes: bytes.clone() });
                }
                Ok(Placed::There)
            }
            Some(Err(Error::Conflict { .. })) if self.forgets && self.is_forgotten(era, id, bytes) => {
                let position = self.again(bytes)?;
                self.adds(era, Entry { position, id, bytes: bytes.clone() });
                Ok(Placed::There)
            }
            Some(Err(Error::Conflict { .. })) => Ok(Placed::Conflict),
            Some(Err(error)) => broken(format!("the log refused batch {id:?}: {error}")),
            None => broken("the log in memory waits"),
        }
    }

    fn adds(&mut self, era: Era, entry: Entry) {
        if let Some(space) = &mut self.space {
            space.grows(entry.bytes.len());
        }
        if let Some(era) = self.eras.get_mut(era) {
            era.entries.push(entry);
        }
    }

    /// Whether a batch was there and is trimmed.
    fn is_forgotten(&self, era: Era, id: BatchId, bytes: &Bytes) -> bool {
        let trimmed = usize::try_from(self.trimmed).unwrap_or(usize::MAX);
        self.entries(era).iter().take(trimmed).any(|entry| entry.id == id && entry.bytes == *bytes)
    }

    /// Takes a batch a second time.
    fn again(&mut self, bytes: &Bytes) -> Check<Position> {
        self.repeats += 1;
        let id = BatchId { node: u32::MAX, incarnation: 1, number: self.repeats };
        match now(self.memory.append(id, bytes.clone())) {
            Some(Ok(position)) => {
                self.repeated.insert(position.ordinal, id);
                Ok(position)
            }
            placed => broken(format!("the log refused a batch again: {placed:?}")),
        }
    }

    /// Forgets what lies up to `ordinal`.
    pub(crate) fn trim(&mut self, ordinal: u64) -> Check {
        holds(ordinal <= self.last(), || format!("{ordinal} is trimmed of a log that ends at {}", self.last()))?;
        match now(self.memory.trim(Position { generation: self.generation(self.newest()), ordinal })) {
            Some(Ok(())) => {
                self.trimmed = self.trimmed.max(ordinal);
                self.trims.push((self.last(), self.trimmed));
                if let (Some(space), Some(era)) = (&mut self.space, self.eras.last()) {
                    space.is_trimmed(&era.entries, &self.trims);
                }
                Ok(())
            }
            trimmed => broken(format!("the log is not trimmed: {trimmed:?}")),
        }
    }

    /// The batch at `ordinal` of an era, as somebody has it who has it at all.
    pub(crate) fn batch(&self, era: Era, ordinal: u64) -> Option<&Entry> {
        self.entries(era).get(usize::try_from(ordinal.checked_sub(1)?).ok()?)
    }

    /// Whether it still has what follows a node's journal, which has data of the same generation.
    pub(crate) fn joins(&self, journal: Journal) -> Check<Joins> {
        let meta = self.extent(journal.era, 0).meta;
        let holds_end = journal.has(journal.last);
        let copy = MemoryJournal::new(meta, journal.last - u64::from(holds_end));
        if let Some(end) = self.batch(journal.era, journal.last).filter(|_| holds_end) {
            let id = self.repeated.get(&journal.last).copied().unwrap_or(end.id);
            match now(copy.put(&Entry { id, ..end.clone() })) {
                Some(put) => put.map_err(|error| Broken(ieum_node::chain(&error)))?,
                None => return broken("the journal in memory waits"),
            }
        }
        match now(joins(&self.memory, &copy)) {
            Some(joins) => joins.map_err(|error| Broken(ieum_node::chain(&error))),
            None => broken("the log in memory waits"),
        }
    }

    /// The last ordinal before the one whose batch makes a node a member.
    pub(crate) fn before_member(&self, node: u32) -> u64 {
        let adds = |entry: &&Entry| {
            let commands = Batch::decode(&entry.bytes).map(|batch| batch.commands).unwrap_or_default();
            commands.iter().any(|of| matches!(&of.command, Command::AddNode(add) if add.node == node))
        };
        self.entries(0).iter().find(adds).map_or(0, |entry| entry.position.ordinal.saturating_sub(1))
    }

    /// All of it is gone for good.
    pub(crate) fn lose(&mut self) {
        self.held = None;
    }

    /// It is back as it was when it ended at `ordinal`.
    pub(crate) fn restore(&mut self, ordinal: u64) -> Check {
        let Some(mut era) = self.eras.last().cloned() else { return broken("there was no log") };
        era.entries.truncate(usize::try_from(ordinal).unwrap_or(usize::MAX));
        (self.memory, self.repeats, self.repeated) = (Memory::new(era.generation), 0, BTreeMap::new());
        for Entry { position, id, bytes } in &era.entries {
            let again = match now(self.memory.append(*id, bytes.clone())) {
                Some(Ok(at)) if at == *position => at,
                _ => self.again(bytes)?,
            };
            holds(again == *position, || format!("{position} is restored as {again}"))?;
        }
        // Which lives there were it knows as it did then.
        self.lives = BTreeMap::new();
        for Entry { id, .. } in &era.entries {
            let life = self.lives.entry(id.node).or_default();
            *life = id.incarnation.max(*life);
        }
        self.eras.push(era);
        self.held = Some(self.newest());
        self.trims.retain(|(last, _)| *last <= ordinal);
        self.trimmed = self.trims.last().map_or(0, |(_, trimmed)| *trimmed);
        self.has_another_room();
        if self.trimmed > 0 { self.trim(self.trimmed) } else { Ok(()) }
    }

    /// A generation begins behind the `end` of an era, and whatever was here is deleted.
    pub(crate) fn begin(&mut self, generation: u32, before: Era, end: Predecessor) -> Check {
        let known = self.eras.iter().map(|era| era.generation).max().unwrap_or(0);
        holds(generation > known, || format!("generation {generation} begins, and there was {known}"))?;
        holds(end.end.ordinal <= self.entries(before).len() as u64, || {
            format!("generation {generation} begins behind {}, where nothing was", core_position(end.end))
        })?;
        self.eras.push(Written { generation, before: Some((before, end)), entries: Vec::new() });
        (self.memory, self.repeats, self.repeated) = (Memory::new(generation), 0, BTreeMap::new());
        (self.held, self.told) = (Some(self.newest()), self.newest());
        (self.trimmed, self.applied, self.lives, self.trims) = (0, 0, BTreeMap::new(), Vec::new());
        self.has_another_room();
        Ok(())
    }

    fn has_another_room(&mut self) {
        if let (Some(space), Some(era)) = (&mut self.space, self.eras.last()) {
            space.is_anew(&era.entries, &self.trims);
        }
    }
}
