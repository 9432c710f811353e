//! A life in which somebody chooses what happens: a few lines set up a cell and let things break at chosen moments, and at the end what is checked
//! of every life is checked.

use ieum_core::commands::LEVEL;
use ieum_core::commands::operate::{Activate, AddNode, RemoveNode};
use ieum_node::agreement::CHECKPOINT_EVERY;
use ieum_protocol::frames::Change;

use crate::failure::{Check, holds};
use crate::host::dc_name;
use crate::wan::{Cut, DCS};
use crate::world::{Event, World};
use crate::{Options, ends};

/// Whatever is not chosen is drawn from it.
const SEED: u64 = 1;

/// A cell whose people are connected and at rest. Nodes are counted from 1, devices from 0; node 1 is in data center `a`, node 2 in `b`, node 3
/// in `c`, node 4 in `a` again.
pub struct Scenario {
    world: World,
}

impl Scenario {
    /// A cell of so many nodes.
    pub fn of(nodes: usize) -> Check<Self> {
        Self::found(World::new(&Options { nodes, ..Options::of(SEED) }))
    }

    /// One that nodes of the build before this one have founded, at the level that they know.
    pub fn of_earlier_builds(nodes: usize) -> Check<Self> {
        Self::found(World::at_the_level_before(&Options { nodes, ..Options::of(SEED) }))
    }

    fn found(mut world: World) -> Check<Self> {
        world.found()?;
        world.network.calm();
        world.after(0, Event::Look);
        let mut scenario = Self { world };
        scenario.passes(10)?;
        Ok(scenario)
    }

    /// So many seconds pass.
    pub fn passes(&mut self, seconds: u64) -> Check {
        self.world.run_until(self.world.now() + seconds * 1_000)
    }

    /// People do what they do for so many seconds.
    pub fn people_talk(&mut self, seconds: u64) -> Check {
        (self.world.troubled, self.world.acting) = (true, true);
        self.world.after(0, Event::Act);
        self.passes(seconds)?;
        (self.world.troubled, self.world.acting) = (false, false);
        // Until the last of them has noticed.
        self.passes(1)
    }

    /// Somebody wants something on a device.
    pub fn asks(&mut self, device: usize, change: Change) -> Check {
        self.world.ask(device, change)
    }

    /// A device has no power for so many seconds.
    pub fn device_dies(&mut self, device: usize, seconds: u64) {
        self.world.device_dies(device, true);
        self.world.after(seconds * 1_000, Event::DeviceStarts(device));
    }

    /// A device has no network for so many seconds.
    pub fn has_no_network(&mut self, device: usize, seconds: u64) {
        if let Some(of) = self.world.devices.get_mut(device) {
            of.offline = true;
        }
        let links = self.world.network.healthy().filter(|(_, of, _)| *of == device).map(|(link, ..)| link);
        links.collect::<Vec<_>>().into_iter().for_each(|link| self.world.network.lose(link));
        self.world.after(seconds * 1_000, Event::Online(device));
    }

    /// The next connection of a device to a node comes to nothing behind the first part of what the device has missed.
    pub fn catch_up_breaks_off(&mut self, device: usize, node: usize) {
        // The welcome, and that part.
        self.world.fading.insert((device, node - 1), 2);
    }

    /// The next hellos of a device are held up on their way, the first one for so many seconds, and so on.
    pub fn hellos_are_held_up(&mut self, device: usize, seconds: &[u64]) {
        self.world.held_up.insert(device, seconds.iter().map(|seconds| seconds * 1_000).collect());
    }

    /// A device's disk takes nothing more for so many seconds.
    pub fn disk_is_full(&mut self, device: usize, seconds: u64) {
        self.world.fills_disk(device, seconds * 1_000);
    }

    /// Somebody looks at a device.
    pub fn is_looked_at(&mut self, device: usize) -> Check {
        self.world.foreground(device, true)
    }

    /// A node's machine loses its power, and with it what the view had not persisted. It stays off.
    pub fn node_loses_power(&mut self, node: usize) -> Check {
        self.world.node_dies(node - 1, 0)
    }

    /// So does it, and its disk is lost, too.
    pub fn node_loses_its_disk(&mut self, node: usize) -> Check {
        self.node_loses_power(node)?;
        let now = self.world.now();
        if let Some(host) = self.world.hosts.get_mut(node - 1) {
            host.is_emptied(now);
        }
        Ok(())
    }

    /// A node is started.
    pub fn node_starts(&mut self, node: usize) -> Check {
        self.world.node_starts(node - 1)
    }

    /// This build is installed on a node, or the one before it, and the node is started anew with it.
    pub fn gets_build(&mut self, node: usize, today: bool) -> Check {
        self.world.installs(node - 1, if today { LEVEL } else { LEVEL - 1 })
    }

    /// An operator activates this build's level. Whether that is refused is as expected.
    pub fn activates(&mut self, is_refused: bool) -> Check {
        let refused = self.world.commands_at(0, Activate { level: LEVEL }.into())?;
        holds(refused.is_some() == is_refused, || format!("to activate level {LEVEL} gave {refused:?}"))
    }

    /// An operator removes a node, and the log takes nothing more of its life if it is told.
    pub fn removes(&mut self, node: usize, log_is_told: bool) -> Check {
        let number = self.world.number_of(node - 1);
        let refused = self.world.commands_at(node % self.world.hosts.len(), RemoveNode { node: number }.into())?;
        if log_is_told {
            self.world.log.remove(number);
        }
        holds(refused.is_none(), || format!("node {node} cannot be removed: {refused:?}"))
    }

    /// An operator asks the next node to take a node out, which says so where it is needed. Whether it is out.
    pub fn takes_out(&mut self, node: usize) -> Check<bool> {
        let needed = self.world.is_needed(node - 1, node % self.world.hosts.len());
        if !needed {
            self.removes(node, true)?;
        }
        Ok(!needed)
    }

    /// An operator adds a node again that was removed.
    pub fn adds_again(&mut self, node: usize) -> Check {
        let index = node - 1;
        let (number, dc) = (self.world.number_of(index), dc_name(self.world.dc_of(index)));
        let add = AddNode { node: number, dc, level: self.world.model.level(), cell: 0 };
        let refused = self.world.commands_at(node % self.world.hosts.len(), add.into())?;
        holds(refused.is_none(), || format!("node {node} cannot be added: {refused:?}"))
    }

    /// The log goes on until it stands so far behind a multiple of 32.
    pub fn log_comes_to_stand_behind_a_checkpoint(&mut self, by: u64) -> Check {
        while self.world.log.last() % CHECKPOINT_EVERY != by {
            self.world.run_until(self.world.now() + 1)?;
        }
        Ok(())
    }

    /// A node's process stands still for so many seconds.
    pub fn node_freezes(&mut self, node: usize, seconds: u64) {
        let until = self.world.now() + seconds * 1_000;
        if let Some(host) = self.world.hosts.get_mut(node - 1) {
            host.frozen_until = until;
        }
    }

    /// A node sees nothing new of the log for so many seconds.
    pub fn tail_hangs(&mut self, node: usize, seconds: u64) {
        let until = self.world.now() + seconds * 1_000;
        if let Some(host) = self.world.hosts.get_mut(node - 1) {
            host.tail_hangs_until = until;
        }
    }

    /// A node delivers nothing of what it applies for so many seconds.
    pub fn delivery_hangs(&mut self, node: usize, seconds: u64) {
        let until = self.world.now() + seconds * 1_000;
        if let Some(node) = self.world.node_mut(node - 1) {
            node.delivery_hangs_until = until;
        }
    }

    /// The nodes are started with these builds, the first one's first.
    pub fn start_with_builds(&mut self, builds: &[u64]) -> Check {
        for (index, build) in builds.iter().enumerate() {
            self.world.node_dies(index, usize::MAX)?;
            if let Some(host) = self.world.hosts.get_mut(index) {
                host.build = *build;
            }
            self.world.node_starts(index)?;
        }
        self.passes(10)
    }

    /// From here on a node's view is another one than its log gives.
    pub fn view_goes_wrong(&mut self, node: usize) {
        self.world.goes_wrong(node - 1, 1);
    }

    /// Nothing that the others say comes to a node for so many seconds.
    pub fn hears_nothing(&mut self, node: usize, seconds: u64) {
        self.world.hears_nothing(node - 1, seconds * 1_000);
    }

    /// What a node says of itself right now comes to another one also so many seconds later, when it has said more.
    pub fn says_late(&mut self, node: usize, to: usize, seconds: u64) {
        self.world.says_late(node - 1, to - 1, seconds * 1_000);
    }

    /// Trimming hangs in a node.
    pub fn trims_hang(&mut self, node: usize) {
        if let Some(host) = self.world.hosts.get_mut(node - 1) {
            host.trims_hang = true;
        }
    }

    /// All that the log held is gone. An operator is called.
    pub fn log_is_lost(&mut self) {
        self.world.log.lose();
        self.world.lost = true;
        self.world.operator_is_called(false);
    }

    /// So it is, and an operator is there at once, who soon gives up who is missing, whatever is lost with them.
    pub fn log_is_lost_to_the_careless(&mut self) {
        self.world.log.lose();
        self.world.lost = true;
        self.world.a_careless_operator_comes();
    }

    /// The log is back from a backup that was made before it was trimmed at all. An operator is called.
    pub fn log_is_from_an_old_backup(&mut self) -> Check {
        let end = self.world.log.whole_until();
        self.world.log.restore(end)?;
        self.world.lost = true;
        self.world.operator_is_called(true);
        Ok(())
    }

    /// A node's machine is switched off by somebody who sees that nothing is lost with it. It stays off.
    pub fn node_goes_off(&mut self, node: usize) -> Check {
        self.world.persists(node - 1)?;
        self.world.loses_power(node - 1, "goes off")
    }

    /// A node loses its view and all copies of it, and is started with the journal that is left.
    pub fn view_is_lost(&mut self, node: usize) -> Check {
        self.node_goes_off(node)?;
        self.world.view_is_lost(node - 1);
        self.world.node_starts(node - 1)
    }

    /// Everything is off. The log is back as it was when this node saw it last, or, with a new disk in it, before the node was a member.
    pub fn log_is_as_a_node_saw_it(&mut self, node: usize, new_disk: bool) -> Check {
        self.world.lost = true;
        (1..=self.world.hosts.len()).try_for_each(|node| self.node_goes_off(node))?;
        self.world.old_backup_is_back(node - 1, new_disk)
    }

    /// So it is, and ends there.
    pub fn log_ends_where_a_node_saw_it(&mut self, node: usize) -> Check {
        self.world.lost = true;
        let at = self.world.has(node - 1)?.ordinal;
        (1..=self.world.hosts.len()).try_for_each(|node| self.node_goes_off(node))?;
        self.world.log.restore(at)?;
        self.world.losses.go_apart(&self.world.log);
        Ok(())
    }

    /// The operator who has found that out gives the cell an empty log, and asks for a generation.
    pub fn log_is_emptied(&mut self) {
        self.world.log_is_emptied(false);
    }

    /// The same by one who gives up the nodes that went on with the backup, and waits for the others for long.
    pub fn log_is_emptied_by_the_patient(&mut self) {
        self.world.log.lose();
        self.world.a_patient_operator_comes();
    }

    /// A node speaks of a later generation than there is for so many seconds.
    pub fn speaks_of_a_later_generation(&mut self, node: usize, seconds: u64) {
        self.world.speaks_of_a_later_generation(node - 1, seconds * 1_000);
    }

    /// The tail of a node passes over its next batches, so many, or, with -1, shows the last one again.
    pub fn tail_is_off(&mut self, node: usize, off: i64) {
        if let Some(host) = self.world.hosts.get_mut(node - 1) {
            host.tail_off = off;
        }
    }

    /// A data center talks with no other one for so many seconds.
    pub fn is_cut_off(&mut self, dc: char, seconds: u64) {
        let dc = ('a'..='c').position(|name| name == dc).unwrap_or(0) % DCS;
        self.world.wan.cut(dc, Cut { deaf: true, mute: true, shut: false });
        self.world.after(seconds * 1_000, Event::Joined(dc));
    }

    /// Everything works again and comes to rest, and everything that must hold does.
    pub fn ends_well(mut self) -> Check {
        ends(&mut self.world).map(drop)
    }
}
