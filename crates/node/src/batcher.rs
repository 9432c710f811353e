//! Collects commands into batches while an append is under way.
//!
//! One append is in flight; what comes meanwhile fills the next batch. So batches grow with the load by themselves and the order
//! of a device's commands is kept without any timer.

use std::collections::VecDeque;

use bytes::Bytes;
use ieum_core::apply::Author;
use ieum_core::batch::{self, Envelope, Header, MAX_COMMANDS, Origin};
use ieum_core::codec::Code;
use ieum_core::commands::Command;
use ieum_core::ids::Millis;
use ieum_log::Room;
use ieum_planted::Bug;

use crate::brake::Brake;

/// Plain bytes at which a batch is full. Compression may add a little, so this stays below the log's limit.
const FULL_BYTES: usize = 480 * 1024;

/// How much may wait before submitting is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Commands.
    pub commands: usize,
    /// Their plain bytes.
    pub bytes: usize,
    /// Imports that have no outcome yet: those that wait, those under way and those being applied. One takes as long to apply as two
    /// hundred messages, and nobody waits for it.
    pub imports: usize,
    /// Their plain bytes. A single import may have more.
    pub import_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { commands: 100_000, bytes: 32 * 1024 * 1024, imports: 4, import_bytes: 128 * 1024 }
    }
}

/// Beyond this part of what may wait, imports are refused, and nobody is told who types.
const SHED_IMPORTS: usize = 10;

/// Commands and their plain bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Load {
    commands: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, more: Self) {
        self.commands += more.commands;
        self.bytes += more.bytes;
    }

    fn take(&mut self, less: Self) {
        self.commands -= less.commands;
        self.bytes -= less.bytes;
    }
}

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// As much waits as may wait, or there is no room to keep more.
    #[error("as many commands wait as may wait")]
    Full,
    /// The command is larger than a batch.
    #[error("the command is larger than a batch")]
    TooLarge,
}

/// A batch to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Who appends it and as which one; a retry has the same.
    pub author: Author,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The node's commands on their way to the log and back. `T` is what the submitter wants back with the outcome.
#[derive(Debug)]
pub struct Batcher<T> {
    node: u32,
    incarnation: u64,
    bounds: Bounds,
    /// The number of the last batch that was handed out.
    number: u64,
    /// Batches being filled, the last one open.
    filling: VecDeque<Filling<T>>,
    queued: Load,
    /// Imports without an outcome.
    imports: Load,
    /// Slows what is taken while the log's room runs out.
    brake: Brake,
    room: Option<Room>,
    in_flight: bool,
    /// A batch of this life came back.
    begun: bool,
    /// Handed out and not yet back from the log, oldest first.
    waiting: VecDeque<Waiting<T>>,
    /// When the last batch that came back was begun: the view has all that was in the log then.
    proven: Millis,
}

#[derive(Debug)]
struct Filling<T> {
    commands: Vec<u8>,
    tickets: Vec<T>,
    imports: Load,
    since: Millis,
}

#[derive(Debug)]
struct Waiting<T> {
    number: u64,
    tickets: Vec<T>,
    imports: Load,
    since: Millis,
}

impl<T> Batcher<T> {
    /// A batcher of `node` in its life `incarnation`.
    #[must_use]
    pub fn new(node: u32, incarnation: u64, bounds: Bounds) -> Self {
        Self {
            node,
            incarnation,
            bounds,
            number: 0,
            filling: VecDeque::new(),
            queued: Load::default(),
            imports: Load::default(),
            brake: Brake::default(),
            room: None,
            in_flight: false,
            begun: false,
            waiting: VecDeque::new(),
            proven: 0,
        }
    }

    /// Takes a command at monotonic time `now`. What is returned as an error was not taken and has no effect, its ticket comes
    /// back.
    pub fn push(&mut self, envelope: &Envelope, ticket: T, now: Millis) -> Result<(), (Refusal, T)> {
        if self.queued.commands >= self.bounds.commands || self.queued.bytes >= self.bounds.bytes {
            return Err((Refusal::Full, ticket));
        }
        // The node's own are few, and an operator's may be what helps.
        if envelope.origin != Origin::Node && !self.brake.admits(now) {
            return Err((Refusal::Full, ticket));
        }
        let import = matches!(envelope.command, Command::AddToArchive(_));
        if import && !self.takes_imports() {
            return Err((Refusal::Full, ticket));
        }
        if self.filling.is_empty() {
            self.open(Vec::new(), now);
        }
        if self.filling.back().is_some_and(|last| last.tickets.len() >= MAX_COMMANDS) {
            self.open(Vec::new(), now);
        }
        let Some(last) = self.filling.back_mut() else { return Err((Refusal::Full, ticket)) };
        let before = last.commands.len();
        envelope.put(&mut last.commands);
        let size = last.commands.len() - before;
        if last.commands.len() > FULL_BYTES {
            let encoded = last.commands.split_off(before);
            if before == 0 {
                self.filling.pop_back();
            }
            if size > FULL_BYTES {
                return Err((Refusal::TooLarge, ticket));
            }
            self.open(encoded, now);
        }
        let load = Load { commands: 1, bytes: size };
        if let Some(last) = self.filling.back_mut() {
            last.tickets.push(ticket);
            if import {
                last.imports.add(load);
                self.imports.add(load);
            }
        }
        self.queued.add(load);
        self.brake.charge(size);
        Ok(())
    }

    /// What is known of the log's room: the less is left, the less is taken. Tells whether that begins or ends now.
    pub fn set_room(&mut self, room: Option<Room>) -> bool {
        self.room = room;
        self.brake.set(room)
    }

    /// The log's room as it was told last.
    #[must_use]
    pub fn room(&self) -> Option<Room> {
        self.room
    }

    /// Whether less is taken than comes might be, because the log's room runs out.
    #[must_use]
    pub fn is_slowed(&self) -> bool {
        self.brake.is_on()
    }

    /// Whether so little waits that there is room for what is shed first.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        let Self { bounds, queued, .. } = self;
        !self.brake.is_on()
            && queued.commands <= bounds.commands / SHED_IMPORTS
            && queued.bytes <= bounds.bytes / SHED_IMPORTS
    }

    /// Whether one more import may wait. Imports are the first that are shed: few of them are under way at any time, and none is taken
    /// while much else waits.
    fn takes_imports(&self) -> bool {
        let Self { bounds, imports, .. } = self;
        let idle = self.is_calm();
        let few = imports.commands < bounds.imports && imports.bytes < bounds.import_bytes;
        (idle && few) || Bug::ImportsUnbounded.planted()
    }

    fn open(&mut self, commands: Vec<u8>, since: Millis) {
        self.filling.push_back(Filling { commands, tickets: Vec::new(), imports: Load::default(), since });
    }

    /// The next batch to append, stamped with the wall clock, if there is one and no other is in flight.
    pub fn take(&mut self, clock: Millis) -> Option<Append> {
        if self.in_flight {
            return None;
        }
        let Filling { commands, tickets, imports, since } = self.filling.pop_front()?;
        self.queued.take(Load { commands: tickets.len(), bytes: commands.len() });
        self.number += 1;
        self.in_flight = true;
        let header = Header { node: self.node, incarnation: self.incarnation, number: self.number, clock };
        let bytes = batch::seal(&header, tickets.len(), &commands);
        self.waiting.push_back(Waiting { number: self.number, tickets, imports, since });
        let author = Author { node: self.node, incarnation: self.incarnation, number: self.number };
        Some(Append { author, bytes })
    }

    /// Whether a batch is one of this life's.
    pub fn is_own(&self, author: Author) -> bool {
        (author.node, author.incarnation) == (self.node, self.incarnation)
    }

    /// The append in flight is durable.
    pub fn appended(&mut self) {
        self.in_flight = false;
    }

    /// A batch came back from the log and was applied: the tickets of its commands, in order, if it is one of this life's.
    pub fn applied(&mut self, author: Author) -> Vec<T> {
        if !self.is_own(author) {
            return Vec::new();
        }
        self.begun = true;
        // Never earlier ones: batches come back in order. Their submitters would hear nothing and repeat.
        while let Some(waiting) = self.waiting.pop_front_if(|w| w.number <= author.number) {
            self.imports.take(waiting.imports);
            if waiting.number == author.number {
                self.proven = self.proven.max(waiting.since);
                return waiting.tickets;
            }
        }
        Vec::new()
    }

    /// Whether the first batch of this life was applied.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// When the oldest command that has no outcome yet was taken.
    #[must_use]
    pub fn oldest(&self) -> Option<Millis> {
        self.waiting.front().map(|w| w.since).or_else(|| self.filling.front().map(|f| f.since))
    }

    /// The latest moment of which it is proven that the view has all that was acknowledged by then, through whichever node: when the last of
    /// this node's batches that came back was begun. At the start it is the start itself.
    #[must_use]
    pub fn proven(&self) -> Millis {
        self.proven
    }

    /// Whether nothing waits for anything.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.filling.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ieum_core::batch::{Batch, Origin};
    use ieum_core::commands::archive::{AddToArchive, Entry};
    use ieum_core::commands::operate::Tick;
    use ieum_core::ids::RoomId;

    fn tick() -> Envelope {
        Envelope { origin: Origin::Node, command: Tick {}.into() }
    }

    #[test]
    fn one_append_in_flight_and_the_next_batch_fills_meanwhile() {
        let mut batcher = Batcher::new(1, 7, Bounds::default());
        batcher.push(&tick(), "a", 10).unwrap();
        let first = batcher.take(1_000).unwrap();
        batcher.push(&tick(), "b", 11).unwrap();
        batcher.push(&tick(), "c", 12).unwrap();
        assert_eq!(batcher.take(1_001), None);
        batcher.appended();
        let second = batcher.take(1_002).unwrap();
        assert_eq!((first.author.number, second.author.number), (1, 2));
        assert_eq!(Batch::decode(&second.bytes).unwrap().commands.len(), 2);
        assert_eq!(batcher.oldest(), Some(10));
        assert_eq!(batcher.proven(), 0);
        assert_eq!(batcher.applied(first.author), ["a"]);
        assert_eq!(batcher.proven(), 10, "what came into the log before the batch was begun was applied before it");
        assert_eq!(batcher.applied(Author { node: 2, ..second.author }), Vec::<&str>::new());
        assert_eq!(batcher.proven(), 10, "another node's proves nothing");
        assert_eq!(batcher.applied(second.author), ["b", "c"]);
        assert_eq!(batcher.proven(), 11);
        assert!(batcher.is_idle());
    }

    #[test]
    fn refuses_beyond_its_bounds_and_gives_the_ticket_back() {
        let mut batcher = Batcher::new(1, 1, Bounds { commands: 1, bytes: 1_000, ..Bounds::default() });
        batcher.push(&tick(), 1, 0).unwrap();
        assert_eq!(batcher.push(&tick(), 2, 0), Err((Refusal::Full, 2)));
        let huge = Command::Unknown { number: 9_999, bytes: vec![0; FULL_BYTES].into() };
        let mut batcher = Batcher::new(1, 1, Bounds::default());
        let envelope = Envelope { origin: Origin::Node, command: huge };
        assert_eq!(batcher.push(&envelope, 3, 0), Err((Refusal::TooLarge, 3)));
        assert!(batcher.is_idle());
    }

    #[test]
    fn a_batch_has_no_more_commands_than_it_may() {
        let mut batcher = Batcher::new(1, 1, Bounds::default());
        for ticket in 0..=MAX_COMMANDS {
            batcher.push(&tick(), ticket, 0).unwrap();
        }
        let first = Batch::decode(&batcher.take(0).unwrap().bytes).unwrap();
        batcher.appended();
        let second = Batch::decode(&batcher.take(0).unwrap().bytes).unwrap();
        assert_eq!((first.commands.len(), second.commands.len()), (MAX_COMMANDS, 1));
    }

    fn import(bytes: usize) -> Envelope {
        let entry =
            Entry { key: [0; 16], time: 1, author: String::new(), kind: "text".to_owned(), text: "x".repeat(bytes) };
        Envelope { origin: Origin::Node, command: AddToArchive { room: RoomId(1), entries: vec![entry] }.into() }
    }

    #[test]
    fn messages_flow_while_imports_flood() {
        let bounds = Bounds::default();
        let mut batcher = Batcher::new(1, 1, bounds);
        let (mut refused, mut taken) = (0, 0);
        for round in 0..200 {
            // More imports come than could ever be appended, then one message.
            for _ in 0..100 {
                match batcher.push(&import(20_000), "import", round) {
                    Ok(()) => taken += 1,
                    Err((refusal, _)) => {
                        assert_eq!(refusal, Refusal::Full);
                        refused += 1;
                    }
                }
            }
            batcher.push(&tick(), "message", round).unwrap();
            let append = batcher.take(round).unwrap();
            batcher.appended();
            let batch = Batch::decode(&append.bytes).unwrap();
            let imports = batch.commands.iter().filter(|c| matches!(c.command, Command::AddToArchive(_))).count();
            assert!(imports <= bounds.imports, "{imports}");
            let tickets = batcher.applied(append.author);
            assert_eq!(tickets.last(), Some(&"message"), "it is in the very next batch");
        }
        assert!(taken >= 200 && refused > taken, "{taken} taken, {refused} refused");
        assert!(batcher.is_idle());
    }

    #[test]
    fn commands_are_taken_more_slowly_while_the_logs_room_runs_out() {
        let mut batcher = Batcher::new(1, 1, Bounds::default());
        let from_device = |bytes| Envelope {
            origin: Origin::Anonymous { key: [0; 16], request: [0; 16] },
            command: Command::Unknown { number: 9_999, bytes: vec![0; bytes].into() },
        };
        let room = |used: u64| Some(Room { used: used << 20, most: 768 << 20 });
        assert!(!batcher.set_room(room(383)));
        batcher.push(&from_device(1 << 18), 1, 1_000).unwrap();
        assert!(batcher.set_room(room(468)) && batcher.is_slowed(), "a MiB a second from here on");
        assert_eq!(batcher.push(&from_device(10), 2, 1_000), Err((Refusal::Full, 2)));
        (0..4).for_each(|ticket| batcher.push(&from_device(1 << 18), ticket, 2_000).unwrap());
        assert_eq!(batcher.push(&from_device(10), 3, 2_000), Err((Refusal::Full, 3)));
        batcher.push(&tick(), 4, 2_000).unwrap();
        assert_eq!(batcher.push(&import(10), 5, 9_000), Err((Refusal::Full, 5)), "imports are shed first");
        assert!(batcher.set_room(room(300)) && !batcher.is_slowed());
        batcher.push(&from_device(10), 6, 9_000).unwrap();
    }

    #[test]
    fn imports_count_until_they_have_their_outcome_and_by_their_bytes() {
        let mut batcher = Batcher::new(1, 1, Bounds { imports: 2, import_bytes: 1_000, ..Bounds::default() });
        batcher.push(&import(10), 1, 0).unwrap();
        let first = batcher.take(0).unwrap();
        batcher.appended();
        batcher.push(&import(10), 2, 0).unwrap();
        assert_eq!(batcher.push(&import(10), 3, 0), Err((Refusal::Full, 3)), "the first is not applied yet");
        assert_eq!(batcher.applied(first.author), [1]);
        batcher.push(&import(5_000), 4, 0).unwrap();
        let second = batcher.take(0).unwrap();
        assert_eq!(batcher.applied(second.author), [2, 4]);
        batcher.push(&import(5_000), 5, 0).unwrap();
        assert_eq!(batcher.push(&import(10), 6, 0), Err((Refusal::Full, 6)), "it has more bytes than may wait");
    }

    #[test]
    fn imports_are_refused_before_anything_else() {
        let mut batcher = Batcher::new(1, 1, Bounds { commands: 20, ..Bounds::default() });
        (0..3).for_each(|ticket| batcher.push(&tick(), ticket, 0).unwrap());
        assert_eq!(batcher.push(&import(10), 3, 0), Err((Refusal::Full, 3)));
        batcher.push(&tick(), 3, 0).unwrap();
    }
}
