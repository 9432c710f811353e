//! What nodes tell each other beside the log, and what follows: where clients may go, who has to go, how far the log is trimmed, and whose
//! view a newcomer copies. What `ieum_peer` does with connections is done here event by event.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use ieum_core::apply::applied;
use ieum_core::ids::{NodeId, Position};
use ieum_core::kv::{Direction, Kv as _, Read};
use ieum_core::tables::cell::NODES;
use ieum_gateway::Cell as _;
use ieum_node::peers::{Phase, Report, vouched};
use ieum_node::trimming::{AT_ONCE_PART, KEPT_PART, News, Sight, nearest};

use super::{Event, NodeEvent, World};
use crate::failure::{Check, holds};
use crate::host::{self, Circle, Journal};

/// How often a node says where it stands.
pub(super) const BEAT_EVERY: u64 = 500;
/// A command that has been waiting for so long means that the node does not keep up.
const BEHIND_AFTER: u64 = 1_500;
/// What was said is believed for so long, on its way included.
const HEARD_FOR: u64 = 23_000;
/// So many batches are kept though everybody has them.
pub(crate) const MOST_KEPT: u64 = 100;

impl World {
    /// A node looks where it stands, and says so.
    pub(super) fn beat(&mut self, host: usize) -> Check {
        self.look(host)?;
        self.tell(host);
        self.node_soon(host, BEAT_EVERY, NodeEvent::Beat);
        Ok(())
    }

    fn look(&mut self, index: usize) -> Check {
        let at = self.now();
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.halted.is_none()) else { return Ok(()) };
        let Some(Circle { started, peers, own, checkpoints, is_compared, .. }) = &mut host.circle else {
            return Ok(());
        };
        let now = at - *started;
        own.synced = vouched(self.log.at(host.journal.era, host.journal.synced), *is_compared);
        let Some(node) = &host.node else { return Ok(()) };
        own.copied = host.copied;
        node.cell.pass(at);
        let is_behind = node.cell.waiting().as_millis() > u128::from(BEHIND_AFTER);
        own.phase = match own.phase {
            Phase::Joining if node.begun => Phase::Ready,
            Phase::Ready if is_behind => Phase::Behind,
            Phase::Behind if !is_behind => Phase::Ready,
            phase => phase,
        };
        own.applied = node.cell.applied();
        (own.digests, own.began, own.decided) = (checkpoints.latest(), checkpoints.began(), peers.decided());
        peers.set_members(members(&node.cell.view())?);
        peers.judge(own, now);
        if own.copied.is_some() && peers.vouch_for(own) {
            (host.copied, own.copied) = (None, None);
        }
        node.gateway.set_elsewhere(peers.endpoints(own, now));
        let agreement = peers.agreement();
        self.finds(index, agreement)
    }

    /// What a node says of itself goes to all others that it reaches.
    pub(super) fn tell(&mut self, from: usize) {
        let Some(report) = self.word(from) else { return };
        for to in 0..self.hosts.len() {
            let is_deaf = self.hosts.get(to).is_some_and(|host| host.deaf_until > self.clock.now());
            if to == from || is_deaf || !self.wan.gets_through(self.dc_of(from), self.dc_of(to)) {
                continue;
            }
            // Each way has a connection of its own, so that one may be late or lost and the next one not.
            // Where trials are staged what comes late is, too.
            let troubled = self.troubled && !self.views.staged;
            if troubled && self.random.chance(20) {
                continue;
            }
            let life = self.hosts.get(to).map_or(0, |host| host.lives);
            let times = if self.random.chance(20) { 2 } else { 1 };
            for _ in 0..times {
                let after = match self.random.between(0, 999) {
                    0..=2 if troubled => self.random.between(3_000, 12_000),
                    3..=32 if !self.views.staged => self.random.between(100, 3_000),
                    _ => self.random.between(1, 8),
                };
                self.after(after, Event::Told { host: to, life, report: Box::new(report.clone()) });
            }
        }
    }

    /// What a node says of itself right now comes to another one also so much later, when it has said more.
    pub(crate) fn says_late(&mut self, from: usize, to: usize, ms: u64) {
        let life = self.hosts.get(to).map_or(0, |host| host.lives);
        if let Some(report) = self.word(from).map(Box::new) {
            self.after(ms, Event::Told { host: to, life, report });
        }
    }

    /// What a node says of itself. One that has another log speaks of a later generation.
    pub(super) fn word(&self, of: usize) -> Option<Report> {
        let own = self.hosts.get(of)?.circle.as_ref()?.own.clone();
        if !self.losses.lies(of, self.clock.now()) {
            return Some(own);
        }
        let later = |at: Position| Position { generation: at.generation + 1_000, ..at };
        let (applied, synced) = (later(own.applied), later(own.synced));
        Some(Report { applied, synced, digests: Vec::new(), decided: Vec::new(), ..own })
    }

    /// Another node has said where it stands.
    pub(super) fn told(&mut self, host: usize, life: u64, report: Report) {
        let now = self.now();
        let host = self.hosts.get_mut(host).filter(|host| host.lives == life);
        if let Some(Circle { started, peers, own, .. }) = host.and_then(|host| host.circle.as_mut()) {
            peers.heard(report, own, now - *started);
        }
    }

    /// A node looks whether the log is to be trimmed by it.
    pub(super) fn trim(&mut self, index: usize) -> Check {
        let now = self.now();
        let Some(era) = self.log.held() else { return Ok(()) };
        let trimmed = self.log.at(era, self.log.trimmed());
        let (dc, all_hang) = (self.dc_of(index), self.shortage.hangs(now));
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.journal.era == era) else { return Ok(()) };
        let (Some(node), Some(Circle { started, peers, own, trimming, weights, .. })) = (&host.node, &mut host.circle)
        else {
            return Ok(());
        };
        let now = now - *started;
        let applied = node.cell.applied();
        let kept = match node.room {
            Some(room) => weights.back_by(room.most / KEPT_PART),
            None => Some(applied.ordinal.saturating_sub(MOST_KEPT)),
        };
        let most_kept = kept.map(|ordinal| Position { ordinal, ..applied });
        let nearest = nearest(node.room, most_kept);
        let sight = Sight {
            now,
            before: peers.before(own, now),
            applied,
            trimmed,
            most_kept,
            at_once: node.room.map_or(u64::MAX, |room| room.most / AT_ONCE_PART),
            trim: peers.trim(own, nearest, now),
        };
        let own_at = own.applied;
        let step = trimming.look(&sight, |position| weights.behind(position.ordinal));
        let takes_over = step.news.contains(&News::TakesOver);
        let Some(to) = step.trim else { return Ok(()) };
        let hangs = host.trims_hang || all_hang || self.wan.way_to_log(dc) != crate::wan::Way::Answered;
        if hangs && self.hosts.len() > 1 {
            return Ok(());
        }
        self.is_safe(to, &self.model.members_at(own_at))?;
        self.note(format_args!(
            "node {} trims to {to}{}",
            index + 1,
            if takes_over { ", as nobody else does" } else { "" }
        ));
        self.log.trim(to.ordinal)
    }

    /// What is trimmed lies on the disks of members in two data centers.
    fn is_safe(&self, to: Position, members: &BTreeSet<NodeId>) -> Check {
        let now = self.now();
        let held = self.log.held().unwrap_or_default();
        let is_in = |journal: &Journal| {
            let same = || self.log.batch(journal.era, to.ordinal) == self.log.batch(held, to.ordinal);
            journal.synced >= to.ordinal && self.log.generation(journal.era) == to.generation && same()
        };
        // The others may not have heard of it yet.
        let had = |(at, journal): &(u64, Journal)| now - at < HEARD_FOR && is_in(journal);
        let has = |host: &&host::Host| is_in(&host.journal) || host.emptied.as_ref().is_some_and(had);
        let of_us = self.hosts.iter().filter(|host| members.contains(&host.number()));
        let dcs: BTreeSet<usize> = of_us.filter(has).map(host::Host::dc).collect();
        holds(dcs.len() > 1, || {
            format!("the log is trimmed to {to}, which only data centers {dcs:?} have on their disks")
        })
    }

    /// A node that has not what the log has forgotten asks another one for a copy of its view.
    pub(super) fn asks_for_copy(&mut self, index: usize) -> Check {
        let now = self.now();
        let (dc, number) = (self.dc_of(index), self.number_of(index));
        let lends = |host: &&host::Host| {
            let reached = host.index != index
                && self.wan.gets_through(dc, host.dc())
                && self.wan.gets_through(host.dc(), dc)
                && host.frozen_until <= now;
            let ready = host.serves() && host.copying.is_none() && self.log.held() == Some(host.journal.era);
            let gives = |circle: &Circle| circle.peers.doubted_for(number, &circle.own, now - circle.started).is_none();
            reached && ready && host.circle.as_ref().is_some_and(gives)
        };
        let lenders: Vec<usize> = self.hosts.iter().filter(lends).map(|host| host.index).collect();
        let Some(lender) = self.random.pick(&lenders).copied() else {
            if let Some(host) = self.hosts.get_mut(index) {
                host.asks_since.get_or_insert(self.clock.now());
            }
            self.node_soon(index, 500, NodeEvent::Open);
            return Ok(());
        };
        let lent = self.hosts.get(lender).map(|host| (host.disk.copy(), host.lives, host.journal.era));
        let Some((view, life, era)) = lent else {
            return Ok(());
        };
        let at = applied(&view.snapshot())?.position;
        self.lends_compared(lender, index)?;
        self.note(format_args!("node {number} copies the view of node {}, at {at}", lender + 1));
        if let Some(host) = self.hosts.get_mut(index) {
            host.asks_since = None;
            host.copying = Some(host::Copy { from: (lender, life), view, at, era });
        }
        let after = self.random.between(50, 3_000);
        self.node_soon(index, after, NodeEvent::Copied);
        Ok(())
    }
}

/// The members of the cell, as a view has them.
fn members(view: &impl Read) -> Check<BTreeMap<NodeId, String>> {
    let mut members = BTreeMap::new();
    NODES.range(view, &NodeId::MIN, &NodeId::MAX, Direction::Forward, |node, row| {
        members.insert(node, row.dc);
        ControlFlow::Continue(())
    })?;
    Ok(members)
}
