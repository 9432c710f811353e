//! What holds of the cell's nodes and of its levels: who counts, who has to stop, and before what.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ieum_core::apply::applied;
use ieum_core::commands::LEVEL;
use ieum_core::event::Alarm;
use ieum_core::ids::Position;
use ieum_core::kv::{Direction, Kv as _};
use ieum_core::tables::cell::{NODES, ONLY, SETTINGS};

use crate::failure::{Check, holds};
use crate::host::Host;
use crate::world::World;

/// A node that sees that it is no member is gone within so many milliseconds.
const GONE: u64 = 1_000;

impl World {
    /// A node whose build knows no level above `known` has applied what stands at `at`.
    pub(crate) fn knows_the_level(&self, host: &Host, at: Position) -> Check {
        let level = self.model.level_at(at);
        holds(level <= host.known, || {
            format!("node {} knows levels up to {} and has applied {at}, at level {level}", host.number(), host.known)
        })
    }

    /// A node says that its build is too old for what stands at `at`.
    pub(crate) fn is_too_new(&self, host: &Host, at: Position) -> Check {
        let level = self.model.level_at(at);
        holds(level > host.known, || {
            format!("node {} knows levels up to {} and stops before {at}, at level {level}", host.number(), host.known)
        })
    }

    /// A node runs from here on whose view stands at `at`: one of the cell's, unless there is no cell yet.
    pub(crate) fn is_one_of_us(&self, host: &Host, at: Position) -> Check {
        let members = self.model.members_at(at);
        holds(members.is_empty() || members.contains(&host.number()), || {
            format!("node {} starts at {at}, where members are {members:?}", host.number())
        })
    }

    /// An operator hears of nothing but of batches that do not count, and of each of these.
    pub(crate) fn alarms_are_right(&self, position: Position, alarms: &[Alarm]) -> Check {
        let is_it = |alarm: &Alarm| match alarm {
            Alarm::NotAMember { position: at, node } => *at == position && self.model.ignored(position) == Some(*node),
            _ => false,
        };
        let due = usize::from(self.model.ignored(position).is_some());
        holds(alarms.len() == due && alarms.iter().all(is_it), || {
            format!("alarm: {alarms:?}, and the batch at {position} counts unless {:?}", self.model.ignored(position))
        })
    }

    /// Who has seen that it is no member does not go on; the cell's nodes and settings are what the log makes them.
    pub(crate) fn look_at_nodes(&self) -> Check {
        let now = self.now();
        for host in &self.hosts {
            let Some(since) = host.removed_since.filter(|_| host.node.is_some()) else { continue };
            let waits = since.max(host.frozen_until).max(host.data.hangs_until).max(self.healed.unwrap_or(0));
            holds(now < waits + GONE, || format!("node {} goes on, and the cell does not count it", host.number()))?;
        }
        // What goes on beside what people were told of has nodes of its own.
        let runs = |host: &&Host| host.node.is_some() && Some(host.journal.era) != self.losses.apart();
        self.hosts.iter().filter(runs).try_for_each(|host| self.has_our_nodes(host))
    }

    fn has_our_nodes(&self, host: &Host) -> Check {
        let view = host.disk.snapshot();
        if applied(&view)?.position != self.model.at() {
            return Ok(());
        }
        let mut rows = BTreeMap::new();
        NODES.range(&view, &0u32, &u32::MAX, Direction::Forward, |node, row| {
            rows.insert(node, (row.dc, row.level, (row.incarnation, row.number)));
            ControlFlow::Continue(())
        })?;
        let due = |(node, of): (&u32, &crate::model::Node)| (*node, (of.dc.clone(), of.level, of.last));
        let due: BTreeMap<_, _> = self.model.members().iter().map(due).collect();
        holds(rows == due, || format!("the cell's nodes are {rows:?}, and have to be {due:?}"))?;
        let settings = SETTINGS.get(&view, &ONLY)?.map(|of| (of.level, (of.edit_limit, of.delete_limit)));
        let due = (self.model.level(), self.model.limits());
        holds(settings == Some(due), || format!("the cell's settings are {settings:?}, and have to be {due:?}"))
    }

    /// In the end everybody is a member, of a build of today, at its level.
    pub(crate) fn nodes_are_whole(&self) -> Check {
        let level = self.model.level();
        holds(level == LEVEL, || format!("the cell is at level {level} still"))?;
        for host in &self.hosts {
            let number = host.number();
            holds(host.known == LEVEL, || format!("node {number} knows levels up to {}", host.known))?;
            holds(self.model.members().contains_key(&number), || format!("node {number} is no member"))?;
        }
        Ok(())
    }
}
