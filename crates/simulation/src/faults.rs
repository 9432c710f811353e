//! What breaks, chosen by the seed, one thing on top of the other.

use ieum_node::peers::Phase;
use ieum_protocol::frames::Change;

use crate::failure::Check;
use crate::host::Host;
use crate::network::Link;
use crate::random::Random;
use crate::wan::{Cut, DCS};
use crate::world::{Event, NodeEvent, World};

impl World {
    /// Something breaks.
    pub(crate) fn fault(&mut self) -> Check {
        if !self.troubled {
            return Ok(());
        }
        // Each has numbers of its own, so that the others stay what they are when it is left out.
        self.trouble = Random::new(self.troubles.next());
        let after = self.trouble.between(500, 12_000);
        self.after(after, Event::Fault);
        self.faults += 1;
        if self.without.contains(&self.faults) {
            return Ok(());
        }
        let number = self.faults;
        self.note(format_args!("fault {number}"));
        if self.hosts.len() > 1 && self.trouble.chance(300) {
            return self.fault_of_several();
        }
        let what = self.trouble.between(0, 99);
        match what {
            0..=29 => self.connection_fault(what),
            30..=39 => self.mass_cut(),
            40..=54 => self.device_dies_for_a_while(),
            55..=66 => self.device_offline(),
            67..=76 => self.device_deaf()?,
            77..=80 => return self.node_fault(),
            81..=82 => self.freeze(),
            83..=88 => {
                let until = self.now() + self.trouble.between(300, 6_000);
                self.note(format_args!("the log stalls until {until}"));
                self.log.stall(until);
            }
            89..=93 => {
                let until = self.now() + self.trouble.between(1_000, 10_000);
                self.note(format_args!("the log's answers get lost"));
                self.log.sicken(until);
            }
            94..=96 => self.endpoint_cut(),
            97 => {
                let host = self.trouble.index(self.hosts.len());
                let skew = i64::try_from(self.trouble.between(0, 6_000)).unwrap_or(0) - 3_000;
                self.note(format_args!("the clock of node {} is off by {skew} ms", host + 1));
                if let Some(host) = self.hosts.get_mut(host) {
                    host.skew = skew;
                }
            }
            _ => return self.log_somebody_out(),
        }
        Ok(())
    }

    /// What only a cell of several nodes survives.
    fn fault_of_several(&mut self) -> Check {
        match self.trouble.between(0, 9) {
            0..=3 => return self.data_center_fault(),
            4..=5 => return self.node_fault(),
            6 => self.freeze(),
            7 => self.tail_hangs(),
            _ => self.empty_disk(),
        }
        Ok(())
    }

    fn connection_fault(&mut self, what: u64) {
        let links: Vec<Link> = self.network.healthy().map(|(link, ..)| link).collect();
        let Some(link) = self.trouble.pick(&links).copied() else { return };
        if what < 20 {
            self.cut(link);
        } else {
            self.note(format_args!("session {link} hangs"));
            self.network.lose(link);
        }
    }

    fn mass_cut(&mut self) {
        let links: Vec<Link> = self.network.healthy().map(|(link, ..)| link).collect();
        for link in links {
            if self.trouble.chance(300) {
                self.cut(link);
            }
        }
    }

    fn any_device(&mut self) -> Option<usize> {
        let running = self.running();
        self.trouble.pick(&running).copied()
    }

    fn device_dies_for_a_while(&mut self) {
        let Some(device) = self.any_device() else { return };
        let power_cut = self.trouble.chance(500);
        let away = self.away();
        self.note(format_args!("device {device} dies for {away} ms"));
        self.device_dies(device, power_cut);
        self.after(away, Event::DeviceStarts(device));
    }

    /// For how long somebody is away: mostly a moment, sometimes beyond the horizon of catch-ups.
    fn away(&mut self) -> u64 {
        if self.trouble.chance(150) { self.trouble.between(60_000, 900_000) } else { self.trouble.between(200, 20_000) }
    }

    fn device_offline(&mut self) {
        let Some(device) = self.any_device() else { return };
        let away = self.away();
        self.note(format_args!("device {device} has no network for {away} ms"));
        if let Some(of) = self.devices.get_mut(device) {
            of.offline = true;
        }
        let links: Vec<Link> =
            self.network.healthy().filter(|(_, of, _)| *of == device).map(|(link, ..)| link).collect();
        links.into_iter().for_each(|link| self.network.lose(link));
        self.after(away, Event::Online(device));
    }

    fn device_deaf(&mut self) -> Check {
        let Some(device) = self.any_device() else { return Ok(()) };
        let away = self.trouble.between(500, 40_000);
        self.note(format_args!("device {device} reads nothing for {away} ms"));
        self.listens(device, false)?;
        self.after(away, Event::Listens(device));
        Ok(())
    }

    fn node_fault(&mut self) -> Check {
        let index = self.trouble.index(self.hosts.len());
        let stops = self.trouble.chance(250);
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.circle.is_some()) else { return Ok(()) };
        if stops && let (Some(node), Some(circle)) = (&host.node, &mut host.circle) {
            circle.own.phase = Phase::Draining;
            node.gateway.stop();
            self.note(format_args!("node {} stops", index + 1));
            self.node_soon(index, 1_500, NodeEvent::Stop);
            return Ok(());
        }
        let down_for = self.trouble.between(100, 6_000);
        self.loses_power(index, &format!("dies for {down_for} ms"));
        self.after(down_for, Event::NodeStarts(index));
        Ok(())
    }

    /// The process is gone, and what it has not synced may be, too.
    fn loses_power(&mut self, index: usize, what: &str) {
        let Some(host) = self.hosts.get(index).filter(|host| host.circle.is_some()) else { return };
        let unpersisted = host.disk.unpersisted();
        let keep = self.trouble.index(unpersisted + 1);
        self.note(format_args!("node {} {what}, {keep} of {unpersisted} commits stay", index + 1));
        self.node_dies(index, keep);
    }

    /// A process stands still, and goes on as if nothing had been.
    fn freeze(&mut self) {
        let index = self.trouble.index(self.hosts.len());
        let ms = self.trouble.between(300, 12_000);
        let until = self.now() + ms;
        if let Some(host) = self.hosts.get_mut(index) {
            host.frozen_until = until;
        }
        self.note(format_args!("node {} is frozen for {ms} ms", index + 1));
    }

    fn tail_hangs(&mut self) {
        let index = self.trouble.index(self.hosts.len());
        let until = self.now() + self.trouble.between(300, 8_000);
        if let Some(host) = self.hosts.get_mut(index) {
            host.tail_hangs_until = until;
        }
        self.note(format_args!("the tail of node {} hangs until {until}", index + 1));
    }

    /// A data center loses its power, or is cut off.
    fn data_center_fault(&mut self) -> Check {
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
            self.note(format_args!("data center {dc} is dark for {ms} ms"));
            let elects = self.wan.set_dark(dc, true);
            self.elects(elects);
            for index in 0..self.hosts.len() {
                if self.dc_of(index) == dc {
                    self.loses_power(index, "loses its power");
                }
            }
            self.after(ms, Event::Lit(dc));
        }
        // Who was connected to a node in there hears no more of it.
        let links: Vec<Link> = self.network.healthy().map(|(link, ..)| link).collect();
        for link in links {
            let at = self.network.endpoint(link).map(|endpoint| self.dc_of(self.host_of(endpoint)));
            if at.is_some_and(|at| !self.wan.is_open(at)) {
                self.network.lose(link);
            }
        }
        Ok(())
    }

    /// While the log has no leader nothing is appended.
    fn elects(&mut self, elects: bool) {
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
    fn empty_disk(&mut self) {
        let now = self.now();
        let index = self.trouble.index(self.hosts.len());
        if !self.hosts.iter().all(Host::serves) {
            return;
        }
        self.loses_power(index, "loses its disk");
        if let Some(host) = self.hosts.get_mut(index) {
            host.is_emptied(now);
        }
        let after = self.trouble.between(500, 8_000);
        self.after(after, Event::NodeStarts(index));
    }

    fn endpoint_cut(&mut self) {
        let endpoint = self.trouble.index(self.endpoints());
        let for_ms = self.trouble.between(3_000, 30_000);
        self.note(format_args!("nobody reaches endpoint {endpoint} for {for_ms} ms"));
        self.unreachable.insert(endpoint);
        let links: Vec<Link> =
            self.network.healthy().filter(|(.., at)| *at == endpoint).map(|(link, ..)| link).collect();
        links.into_iter().for_each(|link| self.network.lose(link));
        self.after(for_ms, Event::Reachable(endpoint));
    }

    /// Somebody logs another device of theirs out.
    fn log_somebody_out(&mut self) -> Check {
        let mut pairs = Vec::new();
        for device in self.running() {
            let Some(user) = self.devices.get(device).map(|of| of.user) else { continue };
            let others = self.devices.iter().filter(|of| of.user == user && of.index != device && !of.logged_out);
            pairs.extend(others.map(|other| (device, other.index)));
        }
        let Some((device, other)) = self.trouble.pick(&pairs).copied() else { return Ok(()) };
        let Some(other) = self.devices.get_mut(other) else { return Ok(()) };
        other.logged_out = true;
        let change = Change::LogOut { device: other.id };
        self.ask(device, change)
    }

    /// The trouble is over: everything works again, and everybody looks at their devices.
    pub(crate) fn recover(&mut self) -> Check {
        self.troubled = false;
        self.unreachable.clear();
        self.network.calm();
        self.log.recover();
        self.wan.heal();
        for index in 0..self.hosts.len() {
            if let Some(host) = self.hosts.get_mut(index) {
                (host.frozen_until, host.tail_hangs_until) = (0, 0);
            }
            self.node_starts(index)?;
        }
        for device in 0..self.devices.len() {
            if let Some(of) = self.devices.get_mut(device) {
                of.offline = false;
            }
            self.device_starts(device)?;
            self.listens(device, true)?;
            self.foreground(device, true)?;
        }
        Ok(())
    }
}
