//! What must hold when the log begins anew, and before: what an operator is told of the nodes, and what may be lost with those who are given up.

use std::collections::BTreeSet;

use ieum_core::apply::applied;
use ieum_core::ids::{NodeId, Position};
use ieum_core::kv::Kv as _;
use ieum_core::tables::cell::NODES;
use ieum_node::reseed::{Obstacle, Plan};

use crate::failure::{Check, holds};
use crate::host::Host;
use crate::model::Model;
use crate::world::World;

impl World {
    /// How far a node's disk has what people were told of.
    pub(crate) fn has(&self, index: usize) -> Check<Position> {
        let Some(host) = self.hosts.get(index) else { return Ok(Position::default()) };
        let era = host.journal.era;
        let view = applied(&host.disk.snapshot())?.position;
        let view = if view.generation == self.log.generation(era) { view.ordinal } else { 0 };
        Ok(self.log.told_of(era, view.max(host.journal.last)))
    }

    /// What an operator is told who asks for a new generation, against where the nodes are. `docs/operating/log-lost.md`: it begins where the
    /// furthest of all members stands, none of whom runs; who does not answer, or has only a journal that reaches further, is to be given up by
    /// number; and it begins at no node that is no member of what it has.
    pub(crate) fn is_right(&self, without: &[NodeId], said: &Result<Plan, Obstacle>) -> Check {
        let now = self.now();
        let is_heard = |host: &&Host| self.wan.is_open(host.dc()) && host.frozen_until <= now && host.circle.is_some();
        let heard: Vec<&Host> = self.hosts.iter().filter(is_heard).collect();
        let runs = |host: &&Host| {
            let nothing = host.circle.as_ref().is_none_or(|circle| circle.own.applied == Position::default());
            host.halted.is_none() && !nothing
        };
        if heard.iter().copied().any(|host| runs(&host)) {
            return holds(matches!(said, Err(Obstacle::Runs { .. })), || format!("beside nodes that run: {said:?}"));
        }
        holds(!matches!(said, Err(Obstacle::Runs { .. })), || format!("no node runs: {said:?}"))?;
        let counts = |host: &&Host| !without.contains(&host.number());
        let (mut furthest, mut journals, mut known) = (None, Position::default(), BTreeSet::new());
        let mut members: BTreeSet<NodeId> = BTreeSet::new();
        for host in heard {
            let Some(halted) = &host.halted else {
                known.insert(host.number());
                continue;
            };
            if host.data.hangs_until > now {
                continue;
            }
            known.insert(host.number());
            let view = host.disk.snapshot();
            let at = if halted.has_view {
                applied(&view)?.position
            } else {
                self.log.at(host.journal.era, host.journal.last)
            };
            let is_member = halted.has_view && NODES.has(&view, &host.number())?;
            if counts(&host) && is_member {
                if furthest.is_none_or(|furthest| furthest <= at) {
                    members = self
                        .hosts
                        .iter()
                        .map(Host::number)
                        .filter(|node| NODES.has(&view, node).unwrap_or(false))
                        .collect();
                }
                furthest = furthest.max(Some(at));
            } else if counts(&host) {
                journals = journals.max(at);
            }
        }
        let Some(furthest) = furthest else {
            let right = matches!(said, Err(Obstacle::Nobody { .. } | Obstacle::NoView { .. } | Obstacle::NobodyLeft));
            return holds(right, || format!("no node stands where it is a member: {said:?}"));
        };
        let missing: Vec<NodeId> =
            members.iter().copied().filter(|node| !without.contains(node) && !known.contains(node)).collect();
        if !missing.is_empty() {
            let right = matches!(said, Err(Obstacle::Missing { missing: named, .. })
                if named.iter().map(|(node, _)| *node).eq(missing.iter().copied()));
            return holds(right, || format!("nodes {missing:?} do not answer: {said:?}"));
        }
        let is_so = match said {
            Err(
                Obstacle::Missing { .. } | Obstacle::Nobody { .. } | Obstacle::NoView { .. } | Obstacle::NobodyLeft,
            ) => false,
            Err(Obstacle::JournalAlone { .. }) => journals > furthest,
            Err(Obstacle::OtherHistories { .. }) => {
                self.of_another_history().iter().any(|node| known.contains(node) && !without.contains(node))
            }
            _ => true,
        };
        holds(is_so, || {
            format!("all members answer, the furthest stands at {furthest}, a journal ends at {journals}: {said:?}")
        })?;
        let is_short = self
            .log
            .shared()
            .is_some_and(|log| log.last.generation == furthest.generation && log.last.ordinal < furthest.ordinal);
        holds(!is_short || !matches!(said, Err(Obstacle::Already(_))), || {
            format!("a node stands at {furthest}, which the log has lost: {said:?}")
        })?;
        let Ok(plan) = said else { return Ok(()) };
        let end = ieum_node::core_position(plan.end.end);
        holds(end == furthest, || format!("a generation is to begin behind {end}, and a node stands at {furthest}"))?;
        holds(journals <= end, || format!("a generation is to begin behind {end}, and a journal ends at {journals}"))
    }

    /// What was acknowledged is lost only with a node that alone had it and that the operator gave up by its number.
    pub(crate) fn only_who_was_given_up_loses(&self, without: &[NodeId], end: Position) -> Check {
        let told = self.log.at(self.log.told(), self.log.applied());
        let mut had = end;
        for host in self.hosts.iter().filter(|host| without.contains(&host.number())) {
            had = had.max(self.has(host.index)?);
        }
        for host in self.hosts.iter().filter(|host| !without.contains(&host.number())) {
            // One that was started again since it was asked stands still no more, and may have taken what one has who is given up.
            let stands_still = host.halted.as_ref().is_some_and(|halted| halted.still > self.now());
            let (has, most) = (self.has(host.index)?, if stands_still { end } else { had });
            holds(has <= most, || {
                format!("the log begins anew behind {end}, and node {} has what follows up to {has}", host.number())
            })?;
        }
        holds(had >= told, || format!("the log begins anew behind {end}, and a node had applied up to {told}"))
    }

    /// A node goes on with a log only if those whom it hears have applied nothing that the log does not hold.
    pub(crate) fn goes_on_rightly(&self, index: usize) -> Check {
        let Some(held) = self.log.held() else { return Ok(()) };
        let (generation, last) = (self.log.generation(held), self.log.last());
        let is_heard = |host: &&Host| {
            let reached = self.wan.gets_through(host.dc(), self.dc_of(index))
                && self.wan.gets_through(self.dc_of(index), host.dc());
            let answers = host.halted.is_some() || host.node.is_some();
            reached && answers && host.index != index && host.frozen_until <= self.now()
        };
        for host in self.hosts.iter().filter(is_heard) {
            // One that has halted and whose disk hangs does not say yet where it stands.
            let said = host.halted.as_ref().and_then(|_| Some(host.circle.as_ref()?.own.applied));
            let at = said.map_or_else(|| applied(&host.disk.snapshot()).map(|at| at.position), Ok)?;
            holds(at.generation != generation || at.ordinal <= last, || {
                format!(
                    "node {} goes on with a log that ends at {last}, and node {} has {at}",
                    index + 1,
                    host.number()
                )
            })?;
        }
        Ok(())
    }

    /// A node shuts its doors for a log that is lost, and not because another one says so.
    pub(crate) fn shuts_rightly(&self, index: usize, at: Position) -> Check {
        let goes_on = self.hosts.get(index).is_some_and(|host| self.log.held() == Some(host.journal.era));
        holds(!goes_on || self.log.last() < at.ordinal, || {
            format!("node {} shuts its doors at {at}, and its log goes on", index + 1)
        })
    }

    /// What people were answered and told before the log began anew is what the log gives that goes on, but for what is lost.
    pub(crate) fn still_holds(&self, before: &Model) -> Check {
        for (id, asked, answer) in self.history.answered().filter(|(_, asked, _)| !asked.gone) {
            let device = self.devices.get(asked.device).map_or(0, |device| device.id);
            let gives = self.model.answer(device, id.0);
            holds(gives.as_ref() == Some(answer), || {
                format!("{asked:?} was answered, and gives {gives:?} since the log began anew")
            })?;
        }
        for device in &self.devices {
            let Some(process) = &device.process else { continue };
            let list = |model: &'_ Model| model.people.get(&device.user).map_or(0, |person| person.told.len());
            let so_far = process.watch.told_so_far().min(list(before));
            let told = |model: &Model| {
                let told = model.people.get(&device.user)?.told.iter().take(so_far);
                Some(told.filter(|(at, _)| !self.history.is_gone(*at)).cloned().collect::<Vec<_>>())
            };
            let (is, was) = (told(&self.model), told(before));
            let same = is.iter().flatten().take(was.as_ref().map_or(0, Vec::len)).eq(was.iter().flatten());
            holds(same, || {
                format!("device {} was told what is not there any more since the log began anew", device.index)
            })?;
        }
        Ok(())
    }
}
