//! What breaks, chosen by the seed, one thing on top of the other.

mod cell;
mod disk;
mod log;
mod people;
mod staged;
mod views;

pub(crate) use staged::{Stage, Step};
pub(crate) use views::{Failing, Views};

use crate::failure::Check;
use crate::random::Random;
use crate::world::{Event, World};

/// Something that breaks. It draws what it needs from `World::trouble`.
type Fault = fn(&mut World) -> Check;

/// What breaks in every cell, and how often beside the others.
const ANYWHERE: [(u64, Fault); 21] = [
    (20, World::connection_breaks),
    (10, World::connection_hangs),
    (10, World::mass_cut),
    (15, World::device_dies_for_a_while),
    (12, World::device_offline),
    (10, World::device_deaf),
    (4, World::node_fault),
    (2, World::freeze),
    (6, World::log_stalls),
    (5, World::answers_get_lost),
    (3, World::endpoint_cut),
    (1, World::clock_is_off),
    (2, World::log_somebody_out),
    (3, World::new_year),
    (3, World::flood),
    (4, World::device_disk_full),
    (3, World::old_disk),
    (4, World::delivery_hangs),
    (1, World::disk_hangs),
    (1, World::bit_flips),
    (1, World::view_is_damaged),
];

/// What only a cell of several nodes survives.
const WITH_SEVERAL: [(u64, Fault); 10] = [
    (17, World::data_center_fault),
    (9, World::node_fault),
    (4, World::freeze),
    (4, World::tail_hangs),
    (9, World::empty_disk),
    (3, World::trims_hang),
    (3, World::view_goes_wrong),
    (3, World::disk_hangs),
    (4, World::bit_flips),
    (4, World::view_is_damaged),
];

/// What breaks where views are tried.
const WHERE_VIEWS_ARE_TRIED: [(u64, Fault); 6] = [
    (8, World::views_are_tried),
    (2, World::connection_breaks),
    (1, World::mass_cut),
    (1, World::device_dies_for_a_while),
    (1, World::device_offline),
    (1, World::bit_flips),
];

/// What breaks in the place of one of these now and then, in a cell of several nodes. It is drawn apart, so that most lives stay what they are
/// when something is added here.
const RARE: [Fault; 2] = [World::log_is_lost, World::tail_is_off];
/// In so many of a thousand cases.
const RARELY: u64 = 22;

impl World {
    /// Something breaks.
    pub(crate) fn fault(&mut self) -> Check {
        if !self.troubled {
            return Ok(());
        }
        // Each has numbers of its own, so that the others stay what they are when it is left out.
        let seed = self.troubles.next();
        self.trouble = Random::new(seed);
        let after = self.trouble.between(500, 12_000);
        self.after(after, Event::Fault);
        self.faults += 1;
        if self.without.contains(&self.faults) {
            return Ok(());
        }
        let number = self.faults;
        self.trace.breaks(true);
        self.note(format_args!("fault {number}"));
        let broke = self.fault_of(seed).map_or(Ok(()), |fault| fault(self));
        self.trace.breaks(false);
        broke
    }

    fn fault_of(&mut self, seed: u64) -> Option<Fault> {
        if self.views.on {
            return self.one_of(&WHERE_VIEWS_ARE_TRIED);
        }
        let is_several = self.hosts.len() > 1;
        let mut apart = Random::new(!seed);
        if is_several && apart.chance(RARELY) {
            return apart.pick(&RARE).copied();
        }
        let several = WITH_SEVERAL.iter().filter(|_| is_several);
        let faults: Vec<(u64, Fault)> = ANYWHERE.iter().chain(several).copied().collect();
        self.one_of(&faults)
    }

    fn one_of(&mut self, faults: &[(u64, Fault)]) -> Option<Fault> {
        let mut drawn = self.trouble.between(1, faults.iter().map(|(often, _)| often).sum());
        let fault = faults.iter().find(|(often, _)| {
            let is_it = drawn <= *often;
            drawn = drawn.saturating_sub(*often);
            is_it
        });
        fault.map(|(_, fault)| *fault)
    }

    /// The trouble is over: everything works again, and everybody looks at their devices.
    pub(crate) fn recover(&mut self) -> Check {
        self.troubled = false;
        (self.healed, self.history.healed) = (Some(self.now()), Some(self.now() + self.shortage.lasts()));
        self.shortage.is_over();
        self.unreachable.clear();
        if let Some(hangs) = self.losses.are_over(self.hosts.len()) {
            self.hosts.iter_mut().for_each(|host| host.trims_hang = host.index == hangs);
        }
        self.network.calm();
        self.log.recover();
        self.wan.heal();
        self.ends_hanging()?;
        let one = self.hosts.len() == 1;
        for index in 0..self.hosts.len() {
            if let Some(host) = self.hosts.get_mut(index) {
                if self.chatter.on && one {
                    host.clock_is_set_right();
                }
                // One that is frozen thaws by itself: what it was to do waits until then.
                (host.tail_hangs_until, host.data.hangs_until, host.deaf_until) = (0, 0, 0);
                host.off &= self.losses.apart().is_some();
                if let Some(node) = &mut host.node {
                    node.delivery_hangs_until = 0;
                }
            }
            self.node_starts(index)?;
        }
        for device in 0..self.devices.len() {
            if let Some(of) = self.devices.get_mut(device) {
                of.offline = false;
            }
            self.disk_has_room(device)?;
            self.device_starts(device)?;
            self.listens(device, true)?;
            self.foreground(device, true)?;
        }
        Ok(())
    }
}
