//! Operators at work in the middle of faults: they bring a cell from one level to the next, build after build, take nodes out and add them
//! again, and change the settings. All that is drawn for it comes from numbers of its own, in lives of their own, so that the others stay what
//! they are.

use std::collections::BTreeMap;

use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::operate::{Activate, AddNode, Configure, RemoveNode};
use ieum_core::commands::{Command, LEVEL};
use ieum_core::ids::Position;
use ieum_core::outcome::{Outcome, Reject};
use ieum_gateway::{Cell as _, Ticket};
use ieum_node::levels::Levels;
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;

use super::{Event, World};
use crate::failure::{Check, holds};
use crate::host::{Circle, Host, dc_name};
use crate::random::Random;
use crate::wan::Way;

/// For how long an operator waits for an answer.
const PATIENCE: u64 = 6_000;
/// How often one looks when all that was broken works again.
const SOON: u64 = 1_000;
/// Who stands still for longer than this when all that was broken works again is started anew.
const THAWS: u64 = 12_000;

/// The operators of a life.
#[derive(Debug)]
pub(crate) struct Operators {
    /// They bring the cell to the next level.
    pub(crate) upgrade: bool,
    /// They take nodes out and add them again.
    pub(crate) move_nodes: bool,
    random: Random,
    /// They do something so often at most, in milliseconds.
    pace: u64,
    asked: Option<Asked>,
    /// Nodes that were taken out, by index.
    out: BTreeMap<usize, Out>,
}

/// What was asked of a node.
#[derive(Debug)]
struct Asked {
    /// The one that was asked.
    at: usize,
    command: Command,
    since: u64,
    waits: Receiver<(Position, Outcome)>,
}

/// A node that was taken out.
#[derive(Debug, Clone, Copy)]
struct Out {
    /// When it is to be there again.
    until: u64,
    /// With an empty disk.
    emptied: bool,
}

impl Operators {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed.rotate_left(32) ^ 0x6f70_6572);
        Self {
            upgrade: matches!(seed % 10, 0 | 7),
            move_nodes: matches!(seed % 10, 0 | 9),
            pace: random.between(3_000, 20_000),
            random,
            asked: None,
            out: BTreeMap::new(),
        }
    }

    /// Those of a cell that is founded at the level before today's, whatever the seed says.
    pub(crate) fn who_upgrade(seed: u64) -> Self {
        Self { upgrade: true, ..Self::of(seed) }
    }

    /// Whether there is anything for them to do.
    pub(crate) fn are_there(&self) -> bool {
        self.upgrade || self.move_nodes
    }

    /// Whether a node was taken out, or is about to be.
    pub(crate) fn have_out(&self, host: usize) -> bool {
        self.out.contains_key(&host)
    }

    /// What each node is built for when the cell is founded.
    pub(crate) fn first_build(&self) -> u32 {
        if self.upgrade { LEVEL - 1 } else { LEVEL }
    }

    /// How long the log takes to register a life.
    pub(super) fn registers_after(&mut self) -> u64 {
        if self.random.chance(300) { self.random.between(100, 3_000) } else { self.random.between(0, 20) }
    }

    /// When a second copy of a request to append arrives, if there is one: a member of the log that stood still goes on with what it holds.
    pub(super) fn doubles(&mut self) -> Option<u64> {
        (self.move_nodes && self.random.chance(15)).then(|| self.random.between(5_000, 100_000))
    }
}

impl World {
    /// An operator looks what there is to do.
    pub(super) fn operates(&mut self) -> Check {
        let pace = self.operators.pace;
        let after = if self.troubled { self.operators.random.between(SOON, pace) } else { SOON };
        self.after(after, Event::Operates);
        self.hears_answer()?;
        if self.operators.upgrade {
            self.exchanges_builds()?;
        }
        if self.operators.asked.is_some() {
            return Ok(());
        }
        let now = self.now();
        let asks = |host: &&Host| host.serves() && host.frozen_until <= now;
        let serving: Vec<usize> = self.hosts.iter().filter(asks).map(|host| host.index).collect();
        let Some(at) = self.operators.random.pick(&serving).copied() else { return Ok(()) };
        let view = self.node_mut(at).map(|node| node.cell.view());
        let Some(levels) = view.as_ref().map(Levels::of).transpose()?.flatten() else { return Ok(()) };
        if self.adds_again(at, &levels)? {
            return Ok(());
        }
        let Operators { upgrade, move_nodes, random, .. } = &mut self.operators;
        let (settings, moves) = (random.chance(100), *move_nodes && (!*upgrade || random.chance(500)));
        match self.troubled {
            false => self.finishes(at, &levels),
            true if settings => self.changes_settings(at),
            true if moves => self.takes_out(at, &levels),
            true if self.operators.upgrade => self.activates(at, &levels),
            true => Ok(()),
        }
    }

    /// Asks a node for a command.
    fn asks(&mut self, at: usize, command: Command) -> Check {
        let now = self.now();
        self.note(format_args!("an operator asks node {} for {command:?}", at + 1));
        let (ticket, waits) = Ticket::request();
        let envelope = Envelope { origin: Origin::Node, command: command.clone() };
        let Some(node) = self.node_mut(at) else { return Ok(()) };
        node.cell.pass(now);
        if node.cell.submit(&envelope, ticket).is_ok() {
            self.operators.asked = Some(Asked { at, command, since: now, waits });
            self.append(at);
        }
        Ok(())
    }

    /// What was asked for is answered, or nobody knows what became of it.
    fn hears_answer(&mut self) -> Check {
        let now = self.now();
        let Some(mut asked) = self.operators.asked.take() else { return Ok(()) };
        match asked.waits.try_recv() {
            Ok((at, outcome)) => self.is_answered(&asked, at, &outcome),
            Err(TryRecvError::Empty) if now - asked.since < PATIENCE => {
                self.operators.asked = Some(asked);
                Ok(())
            }
            Err(_) => {
                self.note(format_args!("what became of {:?} nobody knows", asked.command));
                Ok(())
            }
        }
    }

    fn is_answered(&mut self, Asked { at, command, .. }: &Asked, position: Position, outcome: &Outcome) -> Check {
        let refused = match outcome {
            Outcome::Accepted(_) => None,
            Outcome::Rejected(reject) => Some(*reject),
        };
        self.note(format_args!("{command:?} gave {outcome:?}"));
        let due = self.model.asked(position, command);
        holds(due == Some(refused), || {
            format!("{command:?} of an operator gave {outcome:?} at {position}, and is to be refused: {due:?}")
        })?;
        let Command::RemoveNode(RemoveNode { node }) = command else { return Ok(()) };
        // The log is told next, if the command comes so far.
        let comes_so_far = self.operators.random.chance(700) && self.way_to_log(*at) == Way::Answered;
        if matches!(refused, None | Some(Reject::NodeUnknown)) && comes_so_far {
            self.note(format_args!("the log takes nothing more of this life of node {node}"));
            self.log.remove(*node);
        }
        Ok(())
    }

    /// The limits for changes and the horizon are others from now on.
    fn changes_settings(&mut self, at: usize) -> Check {
        let random = &mut self.operators.random;
        let edit_limit = random.between(10, 240) * 1_000;
        let delete_limit = random.between(5, 120) * 1_000;
        let horizon = random.between(2, 9) * 60_000;
        self.asks(at, Configure { edit_limit, delete_limit, horizon }.into())
    }

    /// Another build is installed on a node, which is started anew with it: mostly a newer one; an older one as long as the cell is at its level, as
    /// far as somebody sees who looks.
    fn exchanges_builds(&mut self) -> Check {
        let old: Vec<usize> = self.hosts.iter().filter(|host| host.installed < LEVEL).map(|host| host.index).collect();
        let new: Vec<usize> = self.hosts.iter().filter(|host| host.installed == LEVEL).map(|host| host.index).collect();
        let below = self.hosts.iter().filter_map(|host| host.node.as_ref()).map(|node| Levels::of(&node.cell.view()));
        let below = below.collect::<Result<Vec<_>, _>>()?.iter().flatten().any(|levels| levels.active < LEVEL);
        let (often, back) = if self.troubled { (350, self.operators.random.chance(350)) } else { (1_000, false) };
        if !self.operators.random.chance(often) {
            return Ok(());
        }
        let (from, build) = if back && below { (new, LEVEL - 1) } else { (old, LEVEL) };
        let Some(index) = self.operators.random.pick(&from).copied() else { return Ok(()) };
        self.note(format_args!("node {} gets a build that knows levels up to {build}", index + 1));
        self.installs(index, build)
    }

    /// A build is installed on a node. If it runs it is started anew.
    pub(crate) fn installs(&mut self, index: usize, build: u32) -> Check {
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        host.installed = build;
        let runs = host.circle.is_some();
        if self.node_stops(index) || !runs { Ok(()) } else { self.ends(index, 500) }
    }

    /// Somebody says that a level is active from now on: often too early, and again. Half of them look first, as the command does.
    fn activates(&mut self, at: usize, levels: &Levels) -> Check {
        let random = &mut self.operators.random;
        let level = match random.index(8) {
            0 => LEVEL + 1,
            1 => levels.active,
            2 => LEVEL - 1,
            _ => LEVEL,
        };
        let looks = random.chance(500);
        if looks && levels.refusal(level).is_some() {
            return Ok(());
        }
        self.asks(at, Activate { level }.into())
    }

    /// A node is taken out, if the others can go on without it: it may hang, and its process may be stopped or not.
    fn takes_out(&mut self, at: usize, levels: &Levels) -> Check {
        let now = self.now();
        let random = &mut self.operators.random;
        let index = random.index(self.hosts.len());
        let (hangs, hangs_for) = (random.chance(400), random.between(3_000, 80_000));
        let stops = random.chance(500);
        let out = Out { until: now + random.between(2_000, 60_000), emptied: random.chance(400) };
        if index == at || self.operators.out.contains_key(&index) || !self.go_on_without(index, levels)? {
            return Ok(());
        }
        if self.is_needed(index, at) {
            self.note(format_args!("node {} is not taken out: it is needed", index + 1));
            return Ok(());
        }
        self.note(format_args!("node {} is to go, hangs: {hangs}, is stopped: {stops}", index + 1));
        self.operators.out.insert(index, out);
        if let Some(host) = self.hosts.get_mut(index) {
            if hangs {
                host.frozen_until = host.frozen_until.max(now + hangs_for);
            }
            host.off = stops;
        }
        if stops {
            self.node_stops(index);
        }
        self.asks(at, RemoveNode { node: self.number_of(index) }.into())
    }

    /// Whether this node, asked to take another one out, says that it is needed.
    pub(crate) fn is_needed(&self, index: usize, at: usize) -> bool {
        let Some(era) = self.log.held() else { return false };
        let trimmed = self.log.at(era, self.log.trimmed());
        let circle = self.hosts.get(at).and_then(|host| host.circle.as_ref());
        circle.is_some_and(|Circle { started, peers, own, .. }| {
            peers.is_needed(self.number_of(index), own, trimmed, self.now() - started)
        })
    }

    /// Whether the other members are enough: in two data centers, and all of them serve with what is right.
    fn go_on_without(&self, index: usize, levels: &Levels) -> Check<bool> {
        let number = self.number_of(index);
        let rest: Vec<&Host> = self
            .hosts
            .iter()
            .filter(|host| host.number() != number && levels.members.iter().any(|member| member.node == host.number()))
            .collect();
        let mut dcs: Vec<usize> = rest.iter().map(|host| host.dc()).collect();
        dcs.sort_unstable();
        dcs.dedup();
        let is_member = levels.members.iter().any(|member| member.node == number);
        let enough = dcs.len() > 1 && rest.iter().all(|host| host.serves() && host.frozen_until <= self.now());
        Ok(is_member && enough && !self.lost && !self.has_something_wrong()?)
    }

    /// Those whose time has come are members again, and started. Whether one was asked for anything.
    fn adds_again(&mut self, at: usize, levels: &Levels) -> Check<bool> {
        let now = self.now();
        for host in &self.hosts {
            // Somebody looked at a node that was behind, or it is one that is.
            if !levels.members.iter().any(|member| member.node == host.number()) {
                self.operators.out.entry(host.index).or_insert(Out { until: now, emptied: false });
            }
        }
        let due = |(index, out): (&usize, &Out)| (now >= out.until || !self.troubled).then_some((*index, *out));
        let Some((index, out)) = self.operators.out.iter().find_map(due) else { return Ok(false) };
        let node = self.number_of(index);
        if levels.members.iter().any(|member| member.node == node) {
            self.note(format_args!("node {node} is a member again"));
            self.operators.out.remove(&index);
            if let Some(host) = self.hosts.get_mut(index) {
                host.off = false;
            }
            self.node_starts(index)?;
            return Ok(true);
        }
        let is_left = !self.lost || self.others_have_all(index);
        if out.emptied && is_left && self.may_lose_data(index)? {
            self.note(format_args!("node {node} gets an empty disk"));
            self.operators.out.insert(index, Out { emptied: false, ..out });
            self.node_dies(index, usize::MAX)?;
            if let Some(host) = self.hosts.get_mut(index) {
                host.is_emptied(now);
                host.off = true;
            }
        }
        let dc = dc_name(self.dc_of(index));
        // The cell's number counts when it is founded only.
        self.asks(at, AddNode { node, dc, level: levels.active, cell: 0 }.into())?;
        Ok(true)
    }

    /// All that was broken works again: the cell comes to its level.
    fn finishes(&mut self, at: usize, levels: &Levels) -> Check {
        if levels.refusal(LEVEL).is_none() { self.asks(at, Activate { level: LEVEL }.into()) } else { Ok(()) }
    }

    /// Who hangs still when all that was broken works again is started anew.
    pub(crate) fn ends_hanging(&mut self) -> Check {
        let until = self.now() + THAWS;
        for index in 0..self.hosts.len() {
            if self.hosts.get(index).is_some_and(|host| host.frozen_until > until) {
                self.node_dies(index, usize::MAX)?;
            }
        }
        Ok(())
    }
}
