//! What breaks, chosen by the seed, one thing on top of the other.

use ieum_protocol::frames::Change;

use crate::failure::Check;
use crate::network::Link;
use crate::world::{Event, NodeEvent, World};

impl World {
    /// Something breaks.
    pub(crate) fn fault(&mut self) -> Check {
        if !self.troubled {
            return Ok(());
        }
        let after = self.random.between(500, 12_000);
        self.after(after, Event::Fault);
        self.faults += 1;
        let what = self.random.between(0, 99);
        match what {
            0..=29 => self.connection_fault(what),
            30..=39 => self.mass_cut(),
            40..=54 => self.device_dies_for_a_while(),
            55..=66 => self.device_offline(),
            67..=76 => self.device_deaf()?,
            77..=82 => return self.node_fault(),
            83..=88 => {
                let until = self.now() + self.random.between(300, 6_000);
                self.note(format_args!("the log stalls"));
                self.log.stall(until);
            }
            89..=93 => {
                let until = self.now() + self.random.between(1_000, 10_000);
                self.note(format_args!("the log's answers get lost"));
                self.log.sicken(until);
            }
            94..=96 => self.endpoint_cut(),
            97 => {
                self.skew = i64::try_from(self.random.between(0, 6_000)).unwrap_or(0) - 3_000;
                let skew = self.skew;
                self.note(format_args!("the clock is off by {skew} ms"));
            }
            _ => return self.log_somebody_out(),
        }
        Ok(())
    }

    fn connection_fault(&mut self, what: u64) {
        let links: Vec<Link> = self.network.healthy().map(|(link, ..)| link).collect();
        let Some(link) = self.random.pick(&links).copied() else { return };
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
            if self.random.chance(300) {
                self.cut(link);
            }
        }
    }

    fn any_device(&mut self) -> Option<usize> {
        let running = self.running();
        self.random.pick(&running).copied()
    }

    fn device_dies_for_a_while(&mut self) {
        let Some(device) = self.any_device() else { return };
        let power_cut = self.random.chance(500);
        let away = self.away();
        self.note(format_args!("device {device} dies for {away} ms"));
        self.device_dies(device, power_cut);
        self.after(away, Event::DeviceStarts(device));
    }

    /// For how long somebody is away: mostly a moment, sometimes beyond the horizon of catch-ups.
    fn away(&mut self) -> u64 {
        if self.random.chance(150) { self.random.between(60_000, 900_000) } else { self.random.between(200, 20_000) }
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
        let away = self.random.between(500, 40_000);
        self.note(format_args!("device {device} reads nothing for {away} ms"));
        self.listens(device, false)?;
        self.after(away, Event::Listens(device));
        Ok(())
    }

    fn node_fault(&mut self) -> Check {
        let Some(node) = &self.node else { return Ok(()) };
        if self.random.chance(250) {
            node.gateway.stop();
            self.note(format_args!("node stops"));
            self.node_soon(1_500, NodeEvent::Stop);
            return Ok(());
        }
        let unpersisted = self.disk.unpersisted();
        let keep = self.random.index(unpersisted + 1);
        let down_for = self.random.between(100, 6_000);
        self.note(format_args!("node dies for {down_for} ms, {keep} of {unpersisted} commits stay"));
        self.node_dies(keep, down_for)
    }

    fn endpoint_cut(&mut self) {
        let endpoint = self.random.index(2);
        let for_ms = self.random.between(3_000, 30_000);
        self.note(format_args!("nobody reaches endpoint {endpoint} for {for_ms} ms"));
        if let Some(unreachable) = self.unreachable.get_mut(endpoint) {
            *unreachable = true;
        }
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
        let Some((device, other)) = self.random.pick(&pairs).copied() else { return Ok(()) };
        let Some(other) = self.devices.get_mut(other) else { return Ok(()) };
        other.logged_out = true;
        let change = Change::LogOut { device: other.id };
        self.ask(device, change)
    }

    /// The trouble is over: everything works again, and everybody looks at their devices.
    pub(crate) fn recover(&mut self) -> Check {
        self.troubled = false;
        self.unreachable = [false; 2];
        self.network.calm();
        self.log.stall(0);
        self.log.sicken(0);
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
