//! A node before its log: what `ieum`'s gate does with sockets is done here event by event.

use std::collections::BTreeMap;
use std::sync::Arc;

use ieum_core::apply::{Skips, applied};
use ieum_core::ids::Position;
use ieum_core::kv::Kv as _;
use ieum_gateway::Cell as _;
use ieum_node::applier::Applier;
use ieum_node::halt::decide::{self, Later, Shows, Start};
use ieum_node::halt::{Joint, Met, Shared, Stand, Stood, joint, meet};
use ieum_node::levels::Levels;
use ieum_node::peers::Report;

use super::{Event, NodeEvent, World};
use crate::failure::{Check, broken};
use crate::host::{Halted, Host, dc_name};
use crate::wan::Way;

/// How often a halted node looks at the log and at the other nodes.
pub(super) const LOOK_EVERY: u64 = 500;

impl World {
    /// What another node says of itself right now, as the others hear who can ask it.
    fn heard(&self, index: usize) -> Vec<Report> {
        // Who has not passed its gate yet answers nobody.
        let answers = |other: &&Host| other.halted.is_some() || other.node.is_some();
        let reached = self.hosts.iter().filter(|other| other.index != index && self.hear_each_other(index, other));
        let reached = reached.filter(answers);
        reached.filter_map(|other| self.word(other.index)).collect()
    }

    fn hear_each_other(&self, index: usize, other: &Host) -> bool {
        let dc = self.dc_of(index);
        let reached = self.wan.gets_through(dc, other.dc()) && self.wan.gets_through(other.dc(), dc);
        reached && other.frozen_until <= self.now()
    }

    /// Whether a node may go on with the log that it finds. If not it has halted now.
    pub(super) fn passes(&mut self, index: usize) -> Check<bool> {
        let found = self.log.shared();
        let heard = self.heard(index);
        let Some(host) = self.hosts.get(index) else { return Ok(false) };
        let own = host.has_data()?.then(|| self.log.generation(host.journal.era));
        let knows = heard.iter().any(|report| report.applied != Position::default());
        match decide::at_start(own, (found.as_ref(), false), &heard, (host.suspect, false)) {
            // Nobody starts a node without data beside what came back from a backup while nobody else can be asked: it would make another history.
            // But for operators who do.
            Start::GoesOn
                if own.is_none()
                    && self.lost
                    && (found.is_none() || !knows)
                    && !self.losses.goes_on_with(&self.log) =>
            {
                self.has_nothing(index)
            }
            Start::FallsShort { .. } if self.lost || self.losses.somebody_lies(self.clock.now()) => {
                self.has_nothing(index)
            }
            Start::GoesOn => Ok(true),
            Start::Halts { .. } => self.halts(index, found.as_ref()).map(|()| false),
            start @ (Start::Founds | Start::FoundedBefore { .. } | Start::FallsShort { .. }) => {
                broken(format!("node {} is at {start:?}", index + 1))
            }
        }
    }

    /// A node that has nothing ends at its start.
    fn has_nothing(&mut self, index: usize) -> Check<bool> {
        self.is_refused(index, "it has nothing, and does not begin beside this log").map(|()| false)
    }

    /// A node halts: it brings its view up to its journal.
    fn halts(&mut self, index: usize, found: Option<&Shared>) -> Check {
        let Some(from) = self.hosts.get(index).map(|host| host.journal.from) else { return Ok(()) };
        let is_whole = self.rebuilds(index, from)?;
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let era = host.journal.era;
        let generation = self.log.generation(era);
        let begins = found.and_then(|log| log.predecessor).map(|before| ieum_node::core_position(before.end));
        let up_to = begins.filter(|end| end.generation == generation);
        let end = ieum_node::halt::brought_to(Position::new(generation, host.journal.last), up_to);
        let at = applied(&host.disk.snapshot())?.position;
        let has_view = is_whole && at.generation == generation && (at >= end || host.journal.has(at.ordinal + 1));
        if has_view {
            let mut applier = Applier::new(Arc::new(host.disk.clone()), Skips::new())?.knowing(host.known);
            for ordinal in at.ordinal + 1..=end.ordinal {
                let Some(entry) = self.log.batch(era, ordinal) else {
                    return broken(format!("batch {ordinal} is nowhere"));
                };
                if let Err(error) = applier.apply(entry) {
                    return self.is_too_old(index, &error);
                }
            }
        }
        host.halted = Some(Halted { has_view, others: BTreeMap::new(), takes: true, still: 0 });
        let stands = self.stand(index)?.map(|stood| stood.stand.applied);
        self.note(format_args!("node {} halts at {stands:?}", index + 1));
        self.says(index)
    }

    /// Where a halted node stands. All of that is on its disk: while that hangs it says nothing.
    pub(super) fn stand(&mut self, index: usize) -> Check<Option<Stood>> {
        let now = self.now();
        let generation = self.hosts.get(index).map_or(0, |host| self.log.generation(host.journal.era));
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.data.hangs_until <= now) else { return Ok(None) };
        let Some(halted) = &host.halted else { return Ok(None) };
        host.journal.synced = host.journal.last;
        let stand = if halted.has_view {
            host.disk.persist()?;
            let look = host.disk.snapshot();
            let at = applied(&look)?;
            let members = Levels::of(&look)?.map(|levels| levels.members).unwrap_or_default();
            let members: Vec<_> = members.into_iter().map(|member| (member.node, member.dc)).collect();
            let others = halted.others.iter().map(|(node, at)| (*node, *at)).collect();
            let digest = (!members.is_empty()).then_some(at.digest);
            Stand { applied: at.position, digest, members, others }
        } else {
            let at = Position::new(generation, host.journal.last);
            Stand { applied: at, digest: None, members: Vec::new(), others: Vec::new() }
        };
        Ok(Some(Stood { node: host.number(), dc: dc_name(host.dc()), stand }))
    }

    /// What a halted node says of itself.
    fn says(&mut self, index: usize) -> Check {
        let Some(Stood { node, dc, stand }) = self.stand(index)? else { return Ok(()) };
        if let Some(circle) = self.hosts.get_mut(index).and_then(|host| host.circle.as_mut()) {
            circle.own = decide::says(node, dc, (circle.own.build, circle.own.life), stand.applied, Vec::new());
        }
        Ok(())
    }

    /// A halted node looks whether it may go on, and takes from others what it lacks.
    pub(super) fn halted_looks(&mut self, index: usize) -> Check {
        let Some(Stood { stand, .. }) = self.stand(index)? else {
            self.node_soon(index, LOOK_EVERY, NodeEvent::Open);
            return Ok(());
        };
        if self.way_to_log(index) == Way::Answered && self.now() >= self.log.stalled_until() {
            let (found, heard) = (self.log.shared(), self.heard(index));
            let digest = stand.digest.unwrap_or_default();
            let verdict = decide::verdict(found.as_ref(), stand.applied, &digest, &heard);
            if decide::waits_no_more(verdict, found.as_ref(), &heard) {
                if self.would_begin_a_second_history(index, &heard) {
                    let why =
                        "it missed that the generation began, and nobody is there who knows what the log has lost";
                    return self.is_refused(index, why);
                }
                self.note(format_args!("node {} waits no more at {}: {verdict:?}", index + 1, stand.applied));
                if let Some(host) = self.hosts.get_mut(index) {
                    (host.halted, host.suspect) = (None, false);
                }
                return self.opens(index);
            }
            if let Some(halted) = self.hosts.get_mut(index).and_then(|host| host.halted.as_mut()) {
                halted.takes = decide::takes_more(found.as_ref(), stand.applied, &digest);
            }
        }
        if self.hosts.get(index).and_then(|host| host.halted.as_ref()).is_some_and(|halted| halted.takes) {
            for other in 0..self.hosts.len() {
                self.levels(index, other)?;
            }
        }
        self.says(index)?;
        self.node_soon(index, LOOK_EVERY, NodeEvent::Open);
        Ok(())
    }

    /// Whether a node that missed that the generation began would cross into it although its log is back from a backup, and hears of nobody who has
    /// more. Its operator does not start it before somebody does.
    fn would_begin_a_second_history(&self, index: usize, heard: &[Report]) -> bool {
        let missed = self.hosts.get(index).is_some_and(|host| self.missed(host));
        let Some(log) = self.log.shared().filter(|_| missed && self.lost && !self.losses.goes_on_with(&self.log))
        else {
            return false;
        };
        heard.iter().all(|report| report.applied <= log.last)
    }

    /// A halted node takes from the journal of another one what it lacks.
    fn levels(&mut self, index: usize, other: usize) -> Check {
        let reached = self.hosts.get(other).is_some_and(|of| other != index && self.hear_each_other(index, of));
        let (Some(own), Some(theirs)) = (self.stand(index)?, self.stand(other)?) else { return Ok(()) };
        let has_view =
            self.hosts.get(index).and_then(|host| host.halted.as_ref()).is_some_and(|halted| halted.has_view);
        if !reached || !has_view || theirs.stand.applied <= own.stand.applied {
            return Ok(());
        }
        let Some([mine, lender]) =
            self.hosts.get(index).zip(self.hosts.get(other)).map(|(a, b)| [a.journal, b.journal])
        else {
            return Ok(());
        };
        let generation = self.log.generation(mine.era);
        if self.log.generation(lender.era) != generation {
            return Ok(());
        }
        let place = |ordinal| Position::new(generation, ordinal);
        let mut compared = None;
        let after = match joint(own.stand.applied, (place(mine.from), place(mine.last))) {
            Joint::Beginning => own.stand.applied,
            Joint::Behind(before) => {
                compared = self.log.batch(mine.era, own.stand.applied.ordinal).cloned();
                before
            }
            Joint::Nowhere => return Ok(()),
        };
        let page = (after.ordinal + 1..=lender.last).map_while(|ordinal| lender.has(ordinal).then_some(ordinal));
        let mut taken = 0;
        for ordinal in page {
            let Some(entry) = self.log.batch(lender.era, ordinal).cloned() else {
                return broken("a journal without a batch");
            };
            let now = self.now();
            let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
            let Some(halted) = &mut host.halted else { return Ok(()) };
            match meet(&mut compared, &entry) {
                Met::Other(at) => {
                    halted.others.insert(theirs.node, at);
                    return Ok(());
                }
                Met::Same => drop(halted.others.remove(&theirs.node)),
                Met::Next if halted.still > now => return Ok(()),
                Met::Next => {
                    // From here on it has what the other one has.
                    host.journal.era = lender.era;
                    host.journal.last = host.journal.last.max(ordinal);
                    let mut applier = Applier::new(Arc::new(host.disk.clone()), Skips::new())?.knowing(host.known);
                    if applier.applied().ordinal + 1 == ordinal
                        && let Err(error) = applier.apply(&entry)
                    {
                        return self.is_too_old(index, &error);
                    }
                    taken += 1;
                }
            }
        }
        if taken > 0 {
            self.note(format_args!("node {} takes {taken} batches from node {}", index + 1, theirs.node));
        }
        Ok(())
    }

    /// A running node looks whether its log is still its own.
    pub(super) fn notices(&mut self, index: usize) -> Check<bool> {
        let now = self.now();
        // It ends only when what it has is durable.
        let Some(host) = self.hosts.get(index).filter(|host| host.data.hangs_until <= now) else { return Ok(false) };
        let (Some(circle), Some(node)) = (&host.circle, &host.node) else { return Ok(false) };
        let at = node.cell.applied();
        let asked = self.way_to_log(index) == Way::Answered;
        let found = self.log.shared();
        let shows = || decide::shows(asked.then_some((found.as_ref(), false)), at) == Shows::Lost;
        let heard = circle.peers.reports(now - circle.started);
        let lost = match decide::later(&heard, &circle.peers.members(), at) {
            Later::Most(_) => true,
            Later::Some(_) if shows() => true,
            // That the log refuses it is not enough: it is looked.
            Later::Some(_) | Later::Nobody => asked && self.log.held() != Some(host.journal.era) && shows(),
        };
        if !lost {
            return Ok(false);
        }
        self.shuts_rightly(index, at)?;
        self.note(format_args!("node {} finds its log lost at {at}", index + 1));
        let Some(host) = self.hosts.get_mut(index) else { return Ok(false) };
        host.disk.persist()?;
        host.journal.synced = host.journal.last;
        self.node_dies(index, usize::MAX)?;
        if let Some(host) = self.hosts.get_mut(index) {
            host.suspect = true;
        }
        let after = self.random.between(0, 300);
        self.after(after, Event::NodeStarts(index));
        Ok(true)
    }
}
