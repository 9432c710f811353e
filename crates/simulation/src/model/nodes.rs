//! The cell's nodes, its levels and its settings: what nodes and operators say.

use std::collections::{BTreeMap, BTreeSet};

use ieum_core::commands::Command;
use ieum_core::commands::operate::AddNode;
use ieum_core::ids::Position;
use ieum_core::outcome::{Accepted, Reject};
use ieum_log::BatchId;

use super::{Model, Past, Step};

/// How long a message may be edited and deleted until somebody says otherwise, in milliseconds.
const LIMITS: (u64, u64) = (15 * 60_000, 5 * 60_000);

/// A node of the cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) dc: String,
    /// The highest level that it said to know.
    pub(crate) level: u32,
    /// Its last batch: of which life, and which one of it.
    pub(crate) last: (u64, u64),
}

/// The nodes of the cell.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    members: BTreeMap<u32, Node>,
    /// How far those had come that are members no more.
    former: BTreeMap<u32, (u64, u64)>,
    /// Who was a member where a view stood, and at which level the cell was.
    were: Past<BTreeSet<u32>>,
    levels: Past<u32>,
    /// Batches that count for nothing, because their nodes were no members.
    ignored: BTreeMap<Position, u32>,
    /// What operators asked for, where it stands, and why it was refused.
    asked: Vec<(Position, Command, Option<Reject>)>,
}

impl Nodes {
    pub(super) fn member(&self, node: u32) -> Option<&Node> {
        self.members.get(&node)
    }

    /// Batches are counted from the beginning again.
    pub(super) fn cross(&mut self) {
        self.former.clear();
        self.members.values_mut().for_each(|node| node.last = (0, 0));
    }

    pub(super) fn has_logged(&mut self, id: BatchId) {
        if let Some(node) = self.members.get_mut(&id.node) {
            node.last = (id.incarnation, id.number);
        }
    }

    pub(super) fn ignore(&mut self, at: Position, node: u32) {
        self.ignored.insert(at, node);
    }

    /// An operator's command has given this. What nodes say by themselves nobody waits for.
    pub(super) fn operated(&mut self, at: Position, command: &Command, refused: Option<Reject>) {
        if !matches!(command, Command::Tick(_) | Command::StartNode(_)) {
            self.asked.push((at, command.clone(), refused));
        }
    }

    fn add(&mut self, at: Position, add: &AddNode) {
        // One that comes again goes on where it was.
        let last = self.former.remove(&add.node).unwrap_or_default();
        self.members.insert(add.node, Node { dc: add.dc.clone(), level: add.level, last });
        self.were.set(at, self.members.keys().copied().collect());
    }

    fn remove(&mut self, at: Position, node: u32) -> Step<()> {
        let row = self.members.remove(&node).ok_or(Reject::NodeUnknown)?;
        self.former.insert(node, row.last);
        self.were.set(at, self.members.keys().copied().collect());
        Ok(())
    }
}

impl Model {
    /// The cell's nodes, by number.
    pub(crate) fn members(&self) -> &BTreeMap<u32, Node> {
        &self.nodes.members
    }

    /// Who was a member for a view at `at`.
    pub(crate) fn members_at(&self, at: Position) -> BTreeSet<u32> {
        self.nodes.were.at(at).cloned().unwrap_or_default()
    }

    /// The node whose batch counts for nothing that stands there, if it does.
    pub(crate) fn ignored(&self, at: Position) -> Option<u32> {
        self.nodes.ignored.get(&at).copied()
    }

    /// The active level.
    pub(crate) fn level(&self) -> u32 {
        self.level
    }

    /// The level of the cell for a view at `at`.
    pub(crate) fn level_at(&self, at: Position) -> u32 {
        self.nodes.levels.at(at).copied().unwrap_or(self.level)
    }

    /// How long messages may be edited and deleted.
    pub(crate) fn limits(&self) -> (u64, u64) {
        (self.edit_limit, self.delete_limit)
    }

    /// What an operator's command gave that stands there: why it was refused, if it was. None if it does not stand there.
    pub(crate) fn asked(&self, at: Position, command: &Command) -> Option<Option<Reject>> {
        let is_it = |(there, asked, _): &&(Position, Command, Option<Reject>)| *there == at && asked == command;
        self.nodes.asked.iter().rev().find(is_it).map(|(.., refused)| *refused)
    }

    pub(super) fn of_node(&mut self, node: u32, command: &Command) -> Step {
        match command {
            Command::AddNode(add) => {
                if self.nodes.members.contains_key(&add.node) {
                    return Err(Reject::NodeUnknown);
                }
                if self.level == 0 {
                    self.cell = add.cell;
                    (self.edit_limit, self.delete_limit) = LIMITS;
                    self.has_level(add.level);
                } else if add.level < self.level {
                    return Err(Reject::LevelTooHigh);
                }
                self.nodes.add(self.at, add);
            }
            Command::RemoveNode(remove) if remove.node == node => return Err(Reject::NotYourself),
            Command::RemoveNode(remove) => self.nodes.remove(self.at, remove.node)?,
            Command::StartNode(start) => {
                let row = self.nodes.members.get_mut(&node).ok_or(Reject::NodeUnknown)?;
                if start.level < self.level {
                    return Err(Reject::LevelTooHigh);
                }
                row.level = start.level;
            }
            Command::Activate(activate) => {
                // Whoever is a member has to know it, and there is no way back.
                let least = self.nodes.members.values().map(|node| node.level).min().unwrap_or(0);
                if activate.level > least {
                    return Err(Reject::LevelTooHigh);
                }
                if activate.level < self.level {
                    return Err(Reject::Invalid);
                }
                self.has_level(activate.level);
            }
            Command::Configure(configure) => {
                (self.edit_limit, self.delete_limit) = (configure.edit_limit, configure.delete_limit);
            }
            _ => {}
        }
        Ok(Accepted::Done)
    }

    fn has_level(&mut self, level: u32) {
        self.level = level;
        self.nodes.levels.set(self.at, level);
    }
}
