//! Lives in which the shared log runs out of room: it has a few MiB, nothing is trimmed for a while now and then, and some people write long texts
//! meanwhile, each the next one as soon as the one before is answered. All that is drawn for it comes from numbers of its own, and it happens in
//! every thirtieth life, so that the others are what they would be without.

use ieum_log::Room;
use ieum_protocol::frames::Change;
use ieum_protocol::objects::RoomKind;

use super::{Event, NodeEvent, World};
use crate::checker::Shrinks;
use crate::failure::{Check, holds};
use crate::random::Random;
use crate::wan::{DCS, Way};

/// The log's room. What one person writes takes more of it than it would of production's, and so do ticks.
const ROOM: u64 = 8 << 20;
/// How often a member of the log is asked how much is in use, and how much later a node may look what was answered.
const ASKED_EVERY: u64 = 1_000;
const LOOKED_WITHIN: u64 = 200;
/// When everything works again, this is how long it may take until there is room: a node that was started just then knows of nothing that is old
/// (30 s), another one takes over trimming (12 s), and what is trimmed is given back when what came until then is old, too (30 s); every 5 s it is
/// looked at.
const GIVEN_BACK_AFTER: u64 = 90_000;
/// Characters of a long text, the number at its front aside.
const LONG: usize = 9_900;
/// Hangul syllables: as bytes they do not get shorter.
const SYLLABLES: (u32, u32) = (0xac00, 11_172);

/// How the log runs out of room.
#[derive(Debug)]
pub(crate) struct Shortage {
    pub(crate) on: bool,
    random: Random,
    /// Whatever is told to trim hangs until then.
    hangs_until: u64,
    /// Who writes, how long after each other, and until when.
    writers: Vec<usize>,
    pause: u64,
    writes_until: u64,
    /// How what is left of the room gets less.
    pub(crate) shrinks: Option<Shrinks>,
}

impl Shortage {
    pub(crate) fn of(seed: u64, nodes: usize) -> Self {
        let random = Random::new(seed.rotate_left(32) ^ 0x726f_6f6d);
        let on = seed % 30 == 24 && nodes > 1;
        Self { on, random, hangs_until: 0, writers: Vec::new(), pause: 0, writes_until: 0, shrinks: None }
    }

    /// What room the log has.
    pub(crate) fn room(&self) -> Option<u64> {
        self.on.then_some(ROOM)
    }

    /// How much later than in other lives everything is well, when nothing breaks any more.
    pub(crate) fn lasts(&self) -> u64 {
        if self.on { GIVEN_BACK_AFTER } else { 0 }
    }

    /// Whether nobody comes to trim.
    pub(super) fn hangs(&self, now: u64) -> bool {
        now < self.hangs_until
    }

    /// Nothing breaks any more.
    pub(crate) fn is_over(&mut self) {
        (self.hangs_until, self.writes_until) = (0, 0);
    }
}

impl World {
    /// It is time that the log begins to run short.
    pub(crate) fn will_run_short(&mut self) {
        let after = self.shortage.random.between(5_000, 20_000);
        self.after(after, Event::RunsShort);
    }

    /// Nothing is trimmed for a while, and some people have much to say.
    pub(super) fn runs_short(&mut self) -> Check {
        if !self.troubled {
            return Ok(());
        }
        let (now, random) = (self.clock.now(), &mut self.shortage.random);
        let (ms, after) = (random.between(25_000, 70_000), random.between(60_000, 150_000));
        let (dc, alone) = (random.index(DCS), random.chance(300));
        let (writers, pause) = (random.between(4, 9), random.between(60, 140));
        self.after(ms + after, Event::RunsShort);
        self.faults += 1;
        if self.without.contains(&self.faults) {
            return Ok(());
        }
        let number = self.faults;
        self.note(format_args!("fault {number}"));
        let (running, random) = (self.running(), &mut self.shortage.random);
        let writers: Vec<usize> = (0..writers).filter_map(|_| random.pick(&running).copied()).collect();
        self.note(format_args!("devices {writers:?} write for {ms} ms"));
        (self.shortage.writers, self.shortage.pause, self.shortage.writes_until) = (writers, pause, now + ms);
        self.after(0, Event::Writes);
        if alone {
            return self.one_data_center_is_left(dc, ms);
        }
        self.note(format_args!("trimming hangs in all nodes for {ms} ms"));
        self.shortage.hangs_until = now + ms;
        Ok(())
    }

    /// The nodes of the other data centers have no power; the members of the log there do.
    fn one_data_center_is_left(&mut self, dc: usize, ms: u64) -> Check {
        for index in 0..self.hosts.len() {
            if self.dc_of(index) != dc % self.hosts.len().min(DCS) {
                self.loses_power(index, "loses its power")?;
                self.after(ms, Event::NodeStarts(index));
            }
        }
        Ok(())
    }

    /// One of those who have much to say says some of it, if what was said before is answered.
    pub(super) fn writes(&mut self) -> Check {
        if self.clock.now() >= self.shortage.writes_until {
            return Ok(());
        }
        self.after(self.shortage.pause, Event::Writes);
        let Some(device) = self.shortage.random.pick(&self.shortage.writers).copied() else { return Ok(()) };
        let process = self.devices.get(device).and_then(|of| of.process.as_ref());
        let is_free = |process: &&crate::device::Process| process.live && process.machine.waiting().next().is_none();
        let Some(process) = process.filter(is_free) else { return Ok(()) };
        // As few as can be have to take it.
        let rooms = process.copy.rooms.iter().filter(|(_, held)| held.kind != RoomKind::Archive && held.members <= 2);
        let rooms: Vec<u64> = rooms.map(|(id, _)| *id).collect();
        let change = match self.shortage.random.pick(&rooms).copied() {
            Some(room) => Change::Send { room, text: self.long_text(), reply_to: None },
            None => Change::CreateGroup { name: "notes".to_owned(), handles: Vec::new() },
        };
        self.ask(device, change)
    }

    fn long_text(&mut self) -> String {
        self.said += 1;
        let (first, count) = SYLLABLES;
        let random = &mut self.shortage.random;
        let mut syllable = || char::from_u32(first + u32::try_from(random.next() % u64::from(count)).unwrap_or(0));
        let text: String = (0..LONG).filter_map(|_| syllable()).collect();
        format!("#{} {text}", self.said)
    }

    /// A node begins a life beside a log that tells of its room.
    pub(super) fn begins_to_measure(&mut self, index: usize) {
        if self.shortage.on {
            self.measures(index);
        }
    }

    /// A node learns how much of the log's room is in use, if a member answers.
    pub(super) fn measures(&mut self, index: usize) {
        let (now, room) = (self.now(), self.log.room());
        let answered = self.way_to_log(index) == Way::Answered;
        let after = self.shortage.random.between(ASKED_EVERY, ASKED_EVERY + LOOKED_WITHIN);
        self.node_soon(index, after, NodeEvent::Measures);
        let Some(node) = self.node_mut(index).filter(|_| answered) else { return };
        node.room = room;
        if node.cell.at(now, |machine, _| machine.set_room(room)) {
            self.note(format_args!("node {} takes less, or all again, with {room:?}", index + 1));
        }
    }

    /// When everything has worked for a while there is room again, and all is taken.
    pub(crate) fn has_room_again(&mut self) -> Check {
        if !self.shortage.on {
            return Ok(());
        }
        self.run_until(self.now() + GIVEN_BACK_AFTER)?;
        let Some(Room { used, most }) = self.log.room() else { return Ok(()) };
        holds(self.lost || used * 2 < most, || {
            format!("{used} of {most} bytes of the log are in use when nothing is wrong")
        })
    }
}
