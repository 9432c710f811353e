//! An operator whose cell has lost its log: what `ieum log reseed` does with sockets is done here event by event.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use ieum_core::ids::{NodeId, Position};
use ieum_node::backup::next_generation;
use ieum_node::halt::Shared;
use ieum_node::reseed::{Obstacle, Patience, Plan, Seen, plan};

use super::halted::LOOK_EVERY;
use super::{Event, World};
use crate::failure::{Check, broken, holds};
use crate::wan::Way;

/// How long one stands still when a generation is about to begin there.
const STILL: u64 = 12_000;
/// How long after it asked them to the command may send what begins a generation.
const BEGIN_WITHIN: u64 = 8_000;
/// So long after one has halted or moved the others have compared what they have with it, if they can.
const COMPARING: u64 = 5_000;
/// How long one that was switched off is off, and how long nodes may take to answer people again.
const HALTING: u64 = 15_000;

/// An operator who is about to have the log begin anew.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reseed {
    /// Since when an operator is at it, and how long the command waits for nodes, which is run again with those who are given up.
    pub(super) since: u64,
    pub(super) runs: Patience,
    /// Where the nodes stand, and since when: looked at apart from what the command itself waits for, which is what is tried.
    pub(super) stand: BTreeMap<NodeId, Position>,
    pub(super) still: u64,
    /// After which members that are in the way are given up.
    pub(super) patience: u64,
    /// Members that are given up.
    pub(super) without: Vec<NodeId>,
    /// What etcd holds may be deleted.
    pub(super) replace: bool,
    /// Members are given up also with what they alone have.
    pub(super) loses: bool,
    /// What etcd held when the nodes were asked last.
    pub(super) found: Option<Shared>,
}

impl World {
    /// An operator notices some time later that the log is lost, or ends too early.
    pub(crate) fn operator_is_called(&mut self, replace: bool) {
        let (after, patience) = (self.trouble.between(500, 20_000), self.trouble.between(20_000, 90_000));
        self.operator_comes(after, Reseed { patience, replace, ..Reseed::default() });
    }

    /// An operator is there at once, does not wait for long, and gives members up also with what they alone have.
    pub(crate) fn a_careless_operator_comes(&mut self) {
        self.operator_comes(1_000, Reseed { patience: 5_000, loses: true, ..Reseed::default() });
    }

    /// An operator is there at once who knows which nodes have another history, and waits for long for who is missing.
    pub(crate) fn a_patient_operator_comes(&mut self) {
        let without = self.of_another_history();
        self.operator_comes(1_000, Reseed { patience: 90_000, without, ..Reseed::default() });
    }

    /// An operator runs `ieum log reseed` in so many milliseconds.
    pub(super) fn operator_comes(&mut self, after: u64, asked: Reseed) {
        let since = self.now() + after;
        self.after(after, Event::Reseed(Reseed { since, runs: Patience::since(since), ..asked }));
    }

    /// What the nodes say to an operator.
    fn seen(&mut self, still: bool) -> Check<Seen> {
        let (mut seen, now) = (Seen::default(), self.now());
        for index in 0..self.hosts.len() {
            let reached = self.wan.is_open(self.dc_of(index));
            let Some(host) = self.hosts.get_mut(index).filter(|host| reached && host.frozen_until <= now) else {
                continue;
            };
            if let Some(halted) = host.halted.as_mut().filter(|_| still) {
                halted.still = now + STILL;
            }
            if host.halted.is_some() {
                if let Some(stood) = self.stand(index)? {
                    seen.stood.insert(stood.node, stood);
                }
                continue;
            }
            let Some(report) = self.hosts.get(index).and_then(|host| Some(&host.circle.as_ref()?.own)) else {
                continue;
            };
            if report.applied == Position::default() {
                seen.empty.insert(report.node);
            } else {
                seen.runs.insert(report.node, report.applied);
            }
        }
        Ok(seen)
    }

    /// An operator runs `ieum log reseed`, or it asks again.
    pub(super) fn reseed(&mut self, mut asked: Reseed) -> Check {
        let (now, found) = (self.now(), self.log.shared());
        let seen = self.seen(false)?;
        let late = asked.runs.is_over(now, &seen);
        let stand = seen.stood.iter().map(|(node, of)| (*node, of.stand.applied)).collect();
        if asked.stand != stand {
            (asked.stand, asked.still) = (stand, now);
        }
        let planned = plan(&seen, found.as_ref(), &asked.without, asked.replace);
        self.is_right(&asked.without, &planned)?;
        if let Err(obstacle) = &planned {
            let name = format!("{obstacle:?}");
            let name = name.split([' ', '(']).next().unwrap_or_default().to_owned();
            self.note(format_args!("an operator is told {name}"));
        }
        match planned {
            Ok(plan) if plan.behind.is_empty() || late => {
                let cannot = plan.behind.is_empty() || now >= asked.still + COMPARING;
                if cannot && self.has_uncompared(&seen, &asked.without) {
                    // Who went on with an old backup is known to the operator, if not to those who cannot compare what they have.
                    asked.without.extend(self.of_another_history());
                } else {
                    return self.stand_still(asked, &plan);
                }
            }
            Ok(_) => {}
            Err(Obstacle::Already(_)) => return Ok(()),
            Err(Obstacle::Answers { node, .. }) => self.is_switched_off(node)?,
            Err(obstacle) if now >= asked.since + asked.patience => self.gives_up(&mut asked, &seen, &obstacle)?,
            Err(_) => {}
        }
        self.after(LOOK_EVERY, Event::Reseed(asked));
        Ok(())
    }

    /// An operator who has waited for long enough gives up who is in the way. Somebody looks what would be lost with them.
    fn gives_up(&mut self, asked: &mut Reseed, seen: &Seen, obstacle: &Obstacle) -> Check {
        let mut without = asked.without.clone();
        match obstacle {
            Obstacle::Missing { missing, .. } => without.extend(missing.iter().map(|(node, _)| *node)),
            Obstacle::JournalAlone { node, .. } => without.push(*node),
            Obstacle::OtherHistories { .. } | Obstacle::Differ { .. } => without.extend(self.of_another_history()),
            _ => return Ok(()),
        }
        without.sort_unstable();
        without.dedup();
        if without != asked.without && self.may_be_lost(seen, &without, asked.loses)? {
            self.note(format_args!("an operator gives up {without:?}"));
            (asked.without, asked.runs) = (without, Patience::since(self.now()));
        }
        Ok(())
    }

    /// A node that is given up, and in the way of all others, has no power for a while.
    fn is_switched_off(&mut self, node: NodeId) -> Check {
        let Some(index) = self.hosts.iter().position(|host| host.number() == node) else { return Ok(()) };
        self.loses_power(index, "is switched off")?;
        self.after(HALTING, Event::NodeStarts(index));
        Ok(())
    }

    /// Whether those who have halted have all that anybody was ever told of without these nodes, or what they lack may be lost.
    fn may_be_lost(&self, seen: &Seen, without: &[NodeId], loses: bool) -> Check<bool> {
        let counts = |node: &NodeId| !without.contains(node);
        let other = self.of_another_history();
        let stood = seen.stood.values().filter(|stood| counts(&stood.node) && stood.stand.digest.is_some());
        let stood = stood.filter(|stood| !other.contains(&stood.node));
        let index = |node: NodeId| usize::try_from(node).unwrap_or(0).saturating_sub(1);
        let mut furthest = Position::default();
        for stood in stood {
            furthest = furthest.max(self.has(index(stood.node))?);
        }
        let told = self.log.at(self.log.told(), self.log.applied());
        Ok(furthest >= told || (loses && furthest.generation == told.generation && self.is_harmless(furthest.ordinal)))
    }

    /// Whether nodes that count have different histories and none of them has found that out.
    fn has_uncompared(&self, seen: &Seen, without: &[NodeId]) -> bool {
        let counts = |node: &NodeId| seen.stood.contains_key(node) && !without.contains(node);
        let mut those = seen.stood.values().filter(|stood| counts(&stood.node));
        let found = those.any(|stood| stood.stand.others.iter().any(|(other, _)| counts(other)));
        let is_other = self.of_another_history().iter().any(counts);
        !found && is_other && self.losses.apart().is_some()
    }

    /// The nodes are asked once more, and from then on stand still.
    fn stand_still(&mut self, mut asked: Reseed, shown: &Plan) -> Check {
        let seen = self.seen(true)?;
        asked.found = self.log.shared();
        match plan(&seen, asked.found.as_ref(), &asked.without, asked.replace) {
            Ok(plan) if plan.end == shown.end => {
                let after = self.random.between(1, BEGIN_WITHIN);
                self.after(after, Event::Begins(asked, Box::new(plan)));
            }
            _ => self.after(LOOK_EVERY, Event::Reseed(asked)),
        }
        Ok(())
    }

    /// The record of the new generation arrives at the log.
    pub(super) fn begins(&mut self, asked: Reseed, plan: &Plan) -> Check {
        // Somebody else may have written meanwhile.
        let unheard = (0..self.hosts.len()).all(|index| self.way_to_log(index) != Way::Answered);
        if unheard || asked.found != self.log.shared() {
            self.after(LOOK_EVERY, Event::Reseed(asked));
            return Ok(());
        }
        let end = ieum_node::core_position(plan.end.end);
        let index = usize::try_from(plan.furthest).unwrap_or(0).saturating_sub(1);
        let now_at = match self.stand(index)? {
            Some(stood) => stood.stand.applied,
            None => end,
        };
        if now_at > end {
            // It was started again and has taken more from one who is given up: nobody would stand where the generation begins.
            self.after(LOOK_EVERY, Event::Reseed(asked));
            return Ok(());
        }
        self.only_who_was_given_up_loses(&asked.without, end)?;
        let told = self.log.at(self.log.told(), self.log.applied());
        let Some(era) = self.hosts.get(index).map(|host| host.journal.era) else { return broken("nobody is furthest") };
        holds(self.log.is_told_up_to(era, end.ordinal), || {
            format!("the log begins anew behind {end} of another history than people were told of")
        })?;
        let clock = UNIX_EPOCH + Duration::from_millis(self.wall_clock(0));
        let generation = next_generation(plan.newest, clock);
        self.note(format_args!("generation {generation} begins behind {end}, given up: {:?}", asked.without));
        self.history.reseeds += 1;
        self.lost = false;
        // Nothing could be answered until now.
        let now = self.now();
        self.history.healed = self.history.healed.map(|_| now + HALTING);
        self.healed = self.healed.map(|_| now);
        self.log.begin(generation, era, plan.end)?;
        self.goes_on_behind(end < told)?;
        self.all_start_again()
    }

    /// People are told from here on what the log gives that has begun. What they were told before holds, but for what is lost.
    fn goes_on_behind(&mut self, loses: bool) -> Check {
        let lineage = self.log.lineage();
        let before = std::mem::take(&mut self.model);
        self.model
            .anew(lineage.iter().map(|(era, until)| (self.log.generation(*era), self.log.up_to(*era, *until))))?;
        let ends = lineage.iter().filter_map(|(era, until)| Some((self.log.generation(*era), (*until)?)));
        self.history.ends(ends.collect());
        if loses {
            self.note(format_args!("what was told is lost in part"));
            self.history.loses(&before, &self.devices);
        }
        self.still_holds(&before)?;
        if loses {
            self.befores.push(before);
        }
        Ok(())
    }
}
