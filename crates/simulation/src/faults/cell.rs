//! What breaks in the cell: processes, machines, data centers and the log.

use ieum_node::peers::Phase;

use crate::failure::Check;
use crate::host::Host;
use crate::network::Link;
use crate::wan::{Cut, DCS};
use crate::world::{Event, NodeEvent, World};

impl World {
    pub(super) fn node_fault(&mut self) -> Check {
        let index = self.trouble.index(self.hosts.len());
        let stops = self.trouble.chance(250);
        if self.hosts.get(index).is_none_or(|host| host.circle.is_none()) || (stops && self.node_stops(index)) {
            return Ok(());
        }
        let down_for = self.trouble.between(100, 6_000);
        self.loses_power(index, &format!("dies for {down_for} ms"))?;
        self.after(down_for, Event::NodeStarts(index));
        Ok(())
    }

    /// A node that serves is told to stop, and does. False: it does not.
    pub(crate) fn node_stops(&mut self, index: usize) -> bool {
        let Some(host) = self.hosts.get_mut(index) else { return false };
        let (Some(node), Some(circle)) = (&host.node, &mut host.circle) else { return false };
        circle.own.phase = Phase::Draining;
        node.gateway.stop();
        self.note(format_args!("node {} stops", index + 1));
        self.node_soon(index, 1_500, NodeEvent::Stop);
        true
    }

    /// The process is gone, and what it has not synced may be, too.
    pub(crate) fn loses_power(&mut self, index: usize, what: &str) -> Check {
        let Some(host) = self.hosts.get(index).filter(|host| host.circle.is_some()) else { return Ok(()) };
        let unpersisted = host.disk.unpersisted();
        let mut keep = self.trouble.index(unpersisted + 1);
        if self.lost {
            // Nothing but what the nodes have is left: their processes die, and the power stays.
            keep = unpersisted;
            if let Some(host) = self.hosts.get_mut(index) {
                host.journal.synced = host.journal.last;
            }
        }
        self.note(format_args!("node {} {what}, {keep} of {unpersisted} commits stay", index + 1));
        self.node_dies(index, keep)
    }

    pub(super) fn log_stalls(&mut self) -> Check {
        let until = self.now() + self.trouble.between(300, 6_000);
        self.note(format_args!("the log stalls until {until}"));
        self.log.stall(until);
        Ok(())
    }

    pub(super) fn answers_get_lost(&mut self) -> Check {
        let until = self.now() + self.trouble.between(1_000, 10_000);
        self.note(format_args!("the log's answers get lost"));
        self.log.sicken(until);
        Ok(())
    }

    pub(super) fn clock_is_off(&mut self) -> Check {
        let index = self.trouble.index(self.hosts.len());
        let skew = i64::try_from(self.trouble.between(0, 6_000)).unwrap_or(0) - 3_000;
        self.note(format_args!("the clock of node {} is off by {skew} ms", index + 1));
        if let Some(host) = self.hosts.get_mut(index) {
            host.skew = skew;
        }
        Ok(())
    }

    /// A process stands still, and goes on as if nothing had been.
    pub(super) fn freeze(&mut self) -> Check {
        let index = self.trouble.index(self.hosts.len());
        let ms = self.trouble.between(300, 12_000);
        let until = self.now() + ms;
        if let Some(host) = self.hosts.get_mut(index) {
            // What waits for the end of an earlier one still does.
            host.frozen_until = host.frozen_until.max(until);
        }
        self.note(format_args!("node {} is frozen for {ms} ms", index + 1));
        Ok(())
    }

    pub(super) fn tail_hangs(&mut self) -> Check {
        let index = self.trouble.index(self.hosts.len());
        let until = self.now() + self.trouble.between(300, 8_000);
        if let Some(host) = self.hosts.get_mut(index) {
            host.tail_hangs_until = until;
        }
        self.note(format_args!("the tail of node {} hangs until {until}", index + 1));
        Ok(())
    }

    /// Trimming hangs in a node, for as long as its process lives; not in all: nobody would be left to do it.
    pub(super) fn trims_hang(&mut self) -> Check {
        let index = self.trouble.index(self.hosts.len());
        if self.hosts.iter().any(|host| host.trims_hang) {
            return Ok(());
        }
        if let Some(host) = self.hosts.get_mut(index) {
            host.trims_hang = true;
        }
        self.note(format_args!("trimming hangs in node {}", index + 1));
        Ok(())
    }

    /// A data center loses its power, or is cut off.
    pub(super) fn data_center_fault(&mut self) -> Check {
        let dc = self.trouble.index(DCS);
        let ms = if self.trouble.chance(200) {
            self.trouble.between(30_000, 120_000)
        } else {
            self.trouble.between(500, 15_000)
        };
        if self.trouble.chance(500) {
            let (deaf, mute, shut) = (self.trouble.chance(700), self.trouble.chance(700), self.trouble.chance(500));
            self.note(format_args!("data center {dc} is cut off for {ms} ms (deaf {deaf}, mute {mute}, shut {shut})"));
            let elects = self.wan.cut(dc, Cut { deaf, mute, shut });
            self.elects(elects);
            self.after(ms, Event::Joined(dc));
        } else {
            self.goes_dark(dc, ms)?;
        }
        self.cuts_off_people();
        Ok(())
    }

    /// A data center has no power for so long.
    pub(crate) fn goes_dark(&mut self, dc: usize, ms: u64) -> Check {
        self.note(format_args!("data center {dc} is dark for {ms} ms"));
        let elects = self.wan.set_dark(dc, true);
        self.elects(elects);
        for index in 0..self.hosts.len() {
            if self.dc_of(index) == dc {
                self.loses_power(index, "loses its power")?;
            }
        }
        self.after(ms, Event::Lit(dc));
        Ok(())
    }

    fn cuts_off_people(&mut self) {
        // Who was connected to a node in there hears no more of it.
        let links: Vec<Link> = self.network.healthy().map(|(link, ..)| link).collect();
        for link in links {
            let at = self.network.endpoint(link).map(|endpoint| self.dc_of(self.host_of(endpoint)));
            if at.is_some_and(|at| !self.wan.is_open(at)) {
                self.network.lose(link);
            }
        }
    }

    /// While the log has no leader nothing is appended.
    pub(crate) fn elects(&mut self, elects: bool) {
        if elects {
            let until = self.now() + self.random.between(600, 1_300);
            self.log.stall(until);
        }
    }

    /// Power is back.
    pub(crate) fn lit(&mut self, dc: usize) -> Check {
        let elects = self.wan.set_dark(dc, false);
        self.elects(elects);
        for index in 0..self.hosts.len() {
            if self.dc_of(index) == dc {
                let after = self.random.between(0, 2_000);
                self.after(after, Event::NodeStarts(index));
            }
        }
        Ok(())
    }

    /// A data center is cut off no more.
    pub(crate) fn joined(&mut self, dc: usize) -> Check {
        let elects = self.wan.cut(dc, Cut { deaf: false, mute: false, shut: false });
        self.elects(elects);
        Ok(())
    }

    /// A node's disk is gone. Not another one's before that one is whole again: what both data centers that have a batch lose is lost.
    pub(super) fn empty_disk(&mut self) -> Check {
        let now = self.now();
        let index = self.trouble.index(self.hosts.len());
        let is_left = !self.lost || self.others_have_all(index);
        let all_serve = self.hosts.iter().all(Host::serves);
        if self.hosts.len() == 1 || !all_serve || !is_left || !self.may_lose_data(index)? {
            return Ok(());
        }
        self.loses_power(index, "loses its disk")?;
        if let Some(host) = self.hosts.get_mut(index) {
            host.is_emptied(now);
        }
        let after = self.trouble.between(500, 8_000);
        self.after(after, Event::NodeStarts(index));
        Ok(())
    }
}
