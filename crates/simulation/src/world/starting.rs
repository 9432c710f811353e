//! A node starts: it looks whether there is a log that it can go on with and whether the cell is its own, comes up to the log, and begins a life in
//! it. What `ieum serve` and `ieum_node::service` do before a node runs.

use std::sync::Arc;

use ieum_core::apply::{self, Skips, applied};
use ieum_core::ids::Position;
use ieum_core::kv::Kv as _;
use ieum_log::journaled::joins::Joins;
use ieum_log::weights::Weights;
use ieum_node::agreement::Checkpoints;
use ieum_node::applier::{self, Applier};
use ieum_node::fit::{Fit, fit};
use ieum_node::machine;
use ieum_node::start::{StartError, check_identity};
use ieum_store::Memory;

use super::{AGAIN, Event, NodeEvent, World};
use crate::disk::Disk;
use crate::failure::{Check, broken, holds};
use crate::host::{Began, Host, Journal, dc_name, endpoint};
use crate::node::{Node, identity};
use crate::wan::Way;

impl World {
    /// A host's process starts, if it has power and none runs.
    pub(crate) fn node_starts(&mut self, index: usize) -> Check {
        let dark = self.wan.is_dark(self.dc_of(index));
        let starts = |host: &&mut Host| host.circle.is_none() && host.differs.is_none() && !dark && !host.off;
        let Some(host) = self.hosts.get_mut(index).filter(starts) else { return Ok(()) };
        self.lives += 1;
        let synced = self.log.at(host.journal.era, host.journal.synced);
        host.comes_up(self.lives, self.clock.now(), synced)?;
        let number = host.number();
        self.note(format_args!("node {number} starts"));
        self.node_soon(index, 0, NodeEvent::Beat);
        self.open(index)
    }

    /// A node looks whether there is a log that it can go on with, and goes on, or has halted and waits for one.
    pub(super) fn open(&mut self, index: usize) -> Check {
        if self.hosts.get(index).is_some_and(|host| host.halted.is_some()) {
            return self.halted_looks(index);
        }
        let silent = self.way_to_log(index) != Way::Answered || self.clock.now() < self.log.stalled_until();
        if !silent && (self.hosts.len() == 1 || self.passes(index)?) {
            return self.opens(index);
        }
        self.node_soon(index, 500, NodeEvent::Open);
        Ok(())
    }

    /// A node brings its view up to the log and goes on from there, or asks for help.
    pub(super) fn opens(&mut self, index: usize) -> Check {
        let (last, trimmed, wall) = (self.log.last(), self.log.trimmed(), self.wall_clock(index));
        let is_shared = self.hosts.len() > 1;
        let Some(era) = self.log.held() else { return broken("a log that is lost is opened") };
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let crosses = self.log.generation(host.journal.era) != self.log.generation(era);
        if crosses {
            // Its snapshots fit no log any more.
            host.journal = Journal { era, ..Journal::default() };
            host.data.fits_no_more();
        }
        if !self.rebuilds(index, trimmed)? {
            return self.asks_for_copy(index);
        }
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let joins = if is_shared { self.log.joins(host.journal)? } else { Joins::Yes };
        // Where the log has forgotten it, others are asked in production, and what cannot be compared is set aside, as with a view that was
        // copied and has no batch yet; here it stays where it is.
        let journal = host.journal;
        let forgotten = self.losses.apart() == Some(era) && (journal.last <= trimmed || !journal.has(journal.last));
        if joins == Joins::Differs || (forgotten && !self.log.follows(host.journal, era)) {
            return self.is_refused(index, "the log has another batch where its journal ends");
        }
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let reach = if host.journal.last < trimmed { trimmed } else { trimmed.min(host.journal.from) };
        let extent = self.log.extent(era, reach);
        let fits = if host.journal.last > last { Err(()) } else { fit(&host.disk, &extent).map_err(drop) };
        let Ok(fits) = fits else {
            host.suspect = true;
            self.note(format_args!("node {} finds the log behind it", index + 1));
            self.node_soon(index, 0, NodeEvent::Open);
            return Ok(());
        };
        self.goes_on_rightly(index)?;
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let at = applied(&host.disk.snapshot())?.position.ordinal;
        let same = fits != Fit::Fits || self.log.batch(host.journal.era, at) == self.log.batch(era, at);
        holds(same, || format!("node {} goes on with another history than its own", index + 1))?;
        host.journal.era = era;
        if fits != Fit::Fits {
            (host.disk, host.journal) = (Memory::new(), Journal { era, ..Journal::default() });
            host.data = Disk::default();
            return self.asks_for_copy(index);
        }
        if crosses {
            host.data.begins_with(applied(&host.disk.snapshot())?.position, host.disk.copy());
        }
        let at = applied(&host.disk.snapshot())?.position.ordinal;
        let gone = (at + 1..=last).find(|ordinal| *ordinal <= trimmed && !host.journal.has(*ordinal));
        holds(gone.is_none(), || format!("node {} goes on from {at}, and batch {gone:?} is nowhere", index + 1))?;
        let mut weights = Weights::default();
        let mut applier = Applier::new(Arc::new(host.disk.clone()), Skips::new())?.knowing(host.known);
        for ordinal in at + 1..=last {
            let Some(entry) = self.log.batch(era, ordinal) else {
                return broken(format!("batch {ordinal} is nowhere"));
            };
            weights.note(ordinal, entry.bytes.len());
            if let Err(error) = applier.apply(entry) {
                return self.is_too_old(index, &error);
            }
        }
        if ieum_node::clock::ahead(&host.disk.snapshot(), wall)?.is_some() {
            // It asks its operator, who sets the clock right.
            host.skew = 0;
        }
        let began = applied(&host.disk.snapshot())?;
        host.began = Some(Began { at: began.position, since: self.clock.now(), is_wrong: host.is_wrong()? });
        if let Some(circle) = &mut host.circle {
            (circle.is_compared, circle.weights) = (true, weights);
            circle.checkpoints = Checkpoints::begin(began.position, began.digest);
        }
        if at > host.journal.last {
            host.journal.from = at;
        }
        host.journal.last = last;
        self.joins(index, self.log.at(era, last), last > at)
    }

    /// A node whose view is level with the log looks whether it is one of this cell, and begins a life in the log.
    fn joins(&mut self, index: usize, at: Position, has_applied: bool) -> Check {
        let Some(host) = self.hosts.get(index) else { return Ok(()) };
        if has_applied {
            self.knows_the_level(host, at)?;
        }
        let who = identity(host.number(), dc_name(host.dc()));
        match check_identity(&host.disk.snapshot(), &who, host.known, index == 0) {
            Ok(()) => {}
            Err(error @ (StartError::Level { .. } | StartError::NotAMember { .. } | StartError::NotFounded)) => {
                return self.is_refused(index, &error.to_string());
            }
            Err(error) => return broken(ieum_node::chain(&error)),
        }
        self.is_one_of_us(host, at)?;
        if !self.operators.are_there() || !self.troubled {
            return self.begins_life(index);
        }
        let after = self.operators.registers_after();
        self.node_soon(index, after, NodeEvent::Registers);
        Ok(())
    }

    /// The log is told that a life begins.
    pub(super) fn registers(&mut self, index: usize) -> Check {
        let Some(era) = self.hosts.get(index).map(|host| host.journal.era) else { return Ok(()) };
        if self.way_to_log(index) != Way::Answered || self.clock.now() < self.log.stalled_until() {
            self.node_soon(index, 500, NodeEvent::Registers);
            return Ok(());
        }
        if self.log.held() != Some(era) {
            return self.open(index);
        }
        self.begins_life(index)?;
        // What the log has got meanwhile.
        self.node_soon(index, 0, NodeEvent::Shown);
        Ok(())
    }

    /// A node begins a life in the log, and runs.
    fn begins_life(&mut self, index: usize) -> Check {
        let endpoints = (0..self.endpoints()).filter(|endpoint| self.host_of(*endpoint) == index);
        let endpoints = endpoints.map(endpoint).collect();
        let (is_shared, most_sessions, now) = (self.hosts.len() > 1, self.most_sessions(), self.clock.now());
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let (view, last) = (host.disk.snapshot(), host.journal.last);
        let least = machine::incarnation(&view, host.number())?;
        let Some(incarnation) = self.log.register(host.number(), least, is_shared) else {
            return self.is_refused(index, "the log counts fewer lives of it than it knows of");
        };
        let who = identity(host.number(), dc_name(host.dc()));
        host.node = Some(Node::start((&who, host.known), incarnation, &host.disk, endpoints, most_sessions, now)?);
        let number = host.number();
        self.note(format_args!("node {number} opens its view at {last}, as {incarnation}"));
        self.node_soon(index, 1_000, NodeEvent::Second);
        self.node_soon(index, 250, NodeEvent::Watch);
        self.next_snapshot(index);
        self.begins_to_measure(index);
        self.append(index);
        Ok(())
    }

    /// The cell is at a level that a node's build does not know: it ends before it, whatever else is wrong is broken.
    pub(super) fn is_too_old(&mut self, index: usize, error: &applier::Error) -> Check {
        let Some(host) = self.hosts.get(index) else { return Ok(()) };
        let Some(at) = stops_before(error) else { return broken(ieum_node::chain(error)) };
        self.is_too_new(host, at)?;
        self.is_refused(index, &ieum_node::chain(error))
    }

    /// A node ends at its start, with what it has. It is tried again.
    pub(super) fn is_refused(&mut self, index: usize, why: &str) -> Check {
        self.note(format_args!("node {} does not start: {why}", index + 1));
        self.ends(index, AGAIN)
    }

    /// A process ends that serves nobody. What it has written stays, and it is started again after so long, in milliseconds.
    pub(super) fn ends(&mut self, index: usize, again: u64) -> Check {
        let now = self.now();
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        host.journal.synced = host.journal.last;
        host.disk.persist()?;
        let is_to_start = host.starts_at > now;
        if !is_to_start {
            host.starts_at = now + again;
            self.after(again, Event::NodeStarts(index));
        }
        self.node_dies(index, usize::MAX)
    }

    /// How many sessions a node takes: where there are others, not all devices.
    fn most_sessions(&self) -> usize {
        match self.hosts.len() {
            1 => 1_000,
            2 => 60,
            _ => 40,
        }
    }
}

/// Before what a node stops because its build does not know the level there.
pub(super) fn stops_before(error: &applier::Error) -> Option<Position> {
    match error {
        applier::Error::Apply { position, source: apply::Error::Level { .. } } => Some(*position),
        _ => None,
    }
}
