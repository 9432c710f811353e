//! A machine that a node runs on: its disk, its clock, and one life of the node's process after the other.

use std::collections::BTreeMap;

use ieum_core::apply::applied;
use ieum_core::commands::LEVEL;
use ieum_core::ids::{NodeId, Position};
use ieum_core::kv::Kv;
use ieum_log::weights::Weights;
use ieum_node::agreement::Checkpoints;
use ieum_node::clock::Clock;
use ieum_node::peers::{Agreement, Peers, Phase, Report, vouched};
use ieum_node::trimming::Trimming;
use ieum_store::Memory;

use crate::disk::Disk;
use crate::failure::Check;
use crate::log::Era;
use crate::node::Node;
use crate::random::Random;
use crate::wan::DCS;

/// A node's own copy of the log, as the ordinals that it reaches from and to: what a batch says does not change on its way.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Journal {
    /// The history of which it is a copy.
    pub(crate) era: Era,
    /// What lies up to here is not in it.
    pub(crate) from: u64,
    pub(crate) last: u64,
    /// What a power cut leaves at least.
    pub(crate) synced: u64,
}

impl Journal {
    pub(crate) fn has(&self, ordinal: u64) -> bool {
        self.from < ordinal && ordinal <= self.last
    }

    /// Power is lost: what was not synced may be gone, from its end.
    fn crash(&mut self, random: &mut Random) {
        self.last = random.between(self.synced, self.last);
        self.synced = self.last;
    }
}

/// A copy of another node's view on its way.
pub(crate) struct Copy {
    /// Who gives it, and in which life.
    pub(crate) from: (usize, u64),
    pub(crate) view: Memory,
    pub(crate) at: Position,
    /// Of which history it is.
    pub(crate) era: Era,
}

/// What a node knows of the others and tells them.
pub(crate) struct Circle {
    /// The process's monotonic time counts from here.
    pub(crate) started: u64,
    pub(crate) peers: Peers,
    pub(crate) own: Report,
    /// Its journal is known to be the log's.
    pub(crate) is_compared: bool,
    pub(crate) trimming: Trimming,
    /// Of the batches that it has applied.
    pub(crate) weights: Weights,
    pub(crate) checkpoints: Checkpoints,
}

/// Where a life of a node began in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Began {
    pub(crate) at: Position,
    pub(crate) since: u64,
    /// With a view that was wrong.
    pub(crate) is_wrong: bool,
}

/// What a node knows that has halted.
#[derive(Debug)]
pub(crate) struct Halted {
    /// Whether it has a view that can be used.
    pub(crate) has_view: bool,
    /// Nodes of another history, and where that shows.
    pub(crate) others: BTreeMap<NodeId, Position>,
    /// Whether it takes from others what it lacks, by the log that it saw last.
    pub(crate) takes: bool,
    /// Until then it takes nothing from others.
    pub(crate) still: u64,
}

/// A machine.
pub(crate) struct Host {
    pub(crate) index: usize,
    /// The view as its disk has it.
    pub(crate) disk: Memory,
    pub(crate) journal: Journal,
    pub(crate) data: Disk,
    /// The view began as a copy of another one, here.
    pub(crate) copied: Option<Position>,
    pub(crate) copying: Option<Copy>,
    /// Counts lives of the process, so that what was meant for an earlier one is told apart.
    pub(crate) lives: u64,
    /// While the process runs.
    pub(crate) circle: Option<Circle>,
    /// While it serves.
    pub(crate) node: Option<Node>,
    /// The process stands still until then, and sees nothing.
    pub(crate) frozen_until: u64,
    /// The tail hangs on a sick member until then.
    pub(crate) tail_hangs_until: u64,
    /// Nothing that the others say comes to it until then.
    pub(crate) deaf_until: u64,
    /// Which build it runs.
    pub(crate) build: u64,
    /// Whatever this life of its process tells the log to trim hangs.
    pub(crate) trims_hang: bool,
    /// How far its wall clock is off, in milliseconds.
    pub(crate) skew: i64,
    /// The clock that this life of its process stamps with.
    pub(crate) clock: Option<Clock>,
    /// When it lost its disk, and the journal on it. The others may count on that until they hear otherwise.
    pub(crate) emptied: Option<(u64, Journal)>,
    /// What its process does to the digests of its view, which is another one than the log gives.
    pub(crate) mask: Option<u64>,
    /// Its view was found to differ, and how: it does not start with it again.
    pub(crate) differs: Option<String>,
    /// What it has found of the cell's views, and since when that is open.
    pub(crate) found: Agreement,
    pub(crate) open_since: Option<u64>,
    /// Since when it knows that another one has to go, and nothing is open.
    pub(crate) decided_since: Option<u64>,
    /// Since when nobody gives it a copy of a view.
    pub(crate) asks_since: Option<u64>,
    /// Where this life of it began in the log.
    pub(crate) began: Option<Began>,
    /// This life of it began with a view.
    pub(crate) began_with_something: bool,
    /// While its process waits for a log.
    pub(crate) halted: Option<Halted>,
    /// It ran, and its log was found to be wrong.
    pub(crate) suspect: bool,
    /// How far its tail is off with the next batch: it passes over some, or shows one again.
    pub(crate) tail_off: i64,
    /// The highest level that the build knows that is installed, and the one of this life of its process.
    pub(crate) installed: u32,
    pub(crate) known: u32,
    /// When its process is started that has ended by itself.
    pub(crate) starts_at: u64,
    /// An operator has stopped it, and it does not start by itself.
    pub(crate) off: bool,
    /// Since when it has seen in the log that it is no member.
    pub(crate) removed_since: Option<u64>,
}

impl Host {
    pub(crate) fn new(index: usize) -> Self {
        Self {
            index,
            disk: Memory::new(),
            journal: Journal::default(),
            data: Disk::default(),
            copied: None,
            copying: None,
            lives: 0,
            circle: None,
            node: None,
            frozen_until: 0,
            tail_hangs_until: 0,
            deaf_until: 0,
            build: 1,
            trims_hang: false,
            skew: 0,
            clock: None,
            emptied: None,
            mask: None,
            differs: None,
            found: Agreement::Same,
            open_since: None,
            decided_since: None,
            asks_since: None,
            began: None,
            began_with_something: false,
            halted: None,
            suspect: false,
            tail_off: 0,
            installed: LEVEL,
            known: LEVEL,
            starts_at: 0,
            off: false,
            removed_since: None,
        }
    }

    /// The node's number in the cell.
    pub(crate) fn number(&self) -> NodeId {
        u32::try_from(self.index + 1).unwrap_or(NodeId::MAX)
    }

    pub(crate) fn dc(&self) -> usize {
        self.index % DCS
    }

    /// The process is gone. With the power goes what was not synced, but for the first `keep` commits of the view.
    pub(crate) fn dies(&mut self, keep: usize, random: &mut Random) -> Check {
        (self.node, self.circle, self.copying, self.halted) = (None, None, None, None);
        (self.frozen_until, self.suspect, self.tail_off, self.trims_hang) = (0, false, 0, false);
        (self.removed_since, self.began) = (None, None);
        self.disk.crash(keep);
        self.journal.crash(random);
        (self.found, self.open_since, self.decided_since, self.asks_since) = (Agreement::Same, None, None, None);
        self.stays_wrong()
    }

    /// Its disk is gone, and a new one is put in.
    pub(crate) fn is_emptied(&mut self, now: u64) {
        self.emptied = Some((now, self.journal));
        (self.disk, self.journal, self.copied) = (Memory::new(), Journal::default(), None);
        self.data = Disk::default();
    }

    /// The process is there, and says so.
    pub(crate) fn comes_up(&mut self, life: u64, started: u64, synced: Position) -> Check {
        self.lives += 1;
        (self.clock, self.known) = (None, self.installed);
        let at = applied(&self.disk.snapshot())?.position;
        self.began_with_something = self.has_data()?;
        let own = Report {
            node: self.number(),
            dc: dc_name(self.dc()),
            phase: Phase::Joining,
            applied: if self.began_with_something { at } else { Position::default() },
            synced: vouched(synced, false),
            build: self.build,
            life,
            endpoint: Some(endpoint(self.index)),
            addresses: Vec::new(),
            digests: Vec::new(),
            began: None,
            decided: Vec::new(),
            // It answers before it knows what its view is.
            copied: None,
        };
        self.circle = Some(Circle {
            started,
            peers: Peers::default(),
            own,
            is_compared: false,
            trimming: Trimming::default(),
            weights: Weights::default(),
            checkpoints: Checkpoints::default(),
        });
        Ok(())
    }

    /// Whether anything is on its disk.
    pub(crate) fn has_data(&self) -> Check<bool> {
        let empty = applied(&Memory::new().snapshot())?.position;
        let has_view = self.data.view_is_damaged || applied(&self.disk.snapshot())?.position != empty;
        Ok(has_view || self.journal.last > 0)
    }

    /// Somebody sets its wall clock right, and says so where the node asks.
    pub(crate) fn clock_is_set_right(&mut self) {
        self.skew = 0;
        if let Some(clock) = &mut self.clock {
            clock.accept();
        }
    }

    /// Whether clients are let in.
    pub(crate) fn serves(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.begun)
    }

    /// The copy has arrived whole: it is what the disk holds now.
    pub(crate) fn takes_copy(&mut self) {
        let Some(Copy { view, at, era, .. }) = self.copying.take() else { return };
        self.data.begins_with(at, view.copy());
        self.disk = view;
        self.copied = Some(at);
        self.journal = Journal { era, from: at.ordinal, last: at.ordinal, synced: at.ordinal };
    }
}

/// What a data center is called.
pub(crate) fn dc_name(dc: usize) -> String {
    ["a", "b", "c"].get(dc).unwrap_or(&"?").to_string()
}

/// Where clients find the node with this index.
pub(crate) fn endpoint(index: usize) -> String {
    format!("ws://{index}.test:80")
}

/// The index in what [`endpoint`] gives.
pub(crate) fn index_of(endpoint: &str) -> Option<usize> {
    endpoint.strip_prefix("ws://")?.split('.').next()?.parse().ok()
}
