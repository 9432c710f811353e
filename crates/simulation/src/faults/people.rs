//! What breaks between people and the cell, and on their devices.

use ieum_protocol::frames::Change;

use crate::failure::Check;
use crate::network::Link;
use crate::world::{Event, World};

impl World {
    fn any_link(&mut self) -> Option<Link> {
        let links: Vec<Link> = self.network.healthy().map(|(link, ..)| link).collect();
        self.trouble.pick(&links).copied()
    }

    pub(super) fn connection_breaks(&mut self) -> Check {
        if let Some(link) = self.any_link() {
            self.cut(link);
        }
        Ok(())
    }

    pub(super) fn connection_hangs(&mut self) -> Check {
        if let Some(link) = self.any_link() {
            self.note(format_args!("session {link} hangs"));
            self.network.lose(link);
        }
        Ok(())
    }

    pub(super) fn mass_cut(&mut self) -> Check {
        let links: Vec<Link> = self.network.healthy().map(|(link, ..)| link).collect();
        for link in links {
            if self.trouble.chance(300) {
                self.cut(link);
            }
        }
        Ok(())
    }

    fn any_device(&mut self) -> Option<usize> {
        let running = self.running();
        self.trouble.pick(&running).copied()
    }

    pub(super) fn device_dies_for_a_while(&mut self) -> Check {
        let Some(device) = self.any_device() else { return Ok(()) };
        let power_cut = self.trouble.chance(500);
        let away = self.away();
        self.note(format_args!("device {device} dies for {away} ms"));
        self.device_dies(device, power_cut);
        self.after(away, Event::DeviceStarts(device));
        Ok(())
    }

    /// For how long somebody is away: mostly a moment, sometimes beyond the horizon of catch-ups.
    fn away(&mut self) -> u64 {
        if self.trouble.chance(150) { self.trouble.between(60_000, 900_000) } else { self.trouble.between(200, 20_000) }
    }

    pub(super) fn device_offline(&mut self) -> Check {
        let Some(device) = self.any_device() else { return Ok(()) };
        let away = self.away();
        self.note(format_args!("device {device} has no network for {away} ms"));
        if let Some(of) = self.devices.get_mut(device) {
            of.offline = true;
        }
        let links: Vec<Link> =
            self.network.healthy().filter(|(_, of, _)| *of == device).map(|(link, ..)| link).collect();
        links.into_iter().for_each(|link| self.network.lose(link));
        self.after(away, Event::Online(device));
        Ok(())
    }

    pub(super) fn device_deaf(&mut self) -> Check {
        let Some(device) = self.any_device() else { return Ok(()) };
        let away = self.trouble.between(500, 40_000);
        self.note(format_args!("device {device} reads nothing for {away} ms"));
        self.listens(device, false)?;
        self.after(away, Event::Listens(device));
        Ok(())
    }

    pub(super) fn endpoint_cut(&mut self) -> Check {
        let endpoint = self.trouble.index(self.endpoints());
        let for_ms = self.trouble.between(3_000, 30_000);
        self.note(format_args!("nobody reaches endpoint {endpoint} for {for_ms} ms"));
        self.unreachable.insert(endpoint);
        let links: Vec<Link> =
            self.network.healthy().filter(|(.., at)| *at == endpoint).map(|(link, ..)| link).collect();
        links.into_iter().for_each(|link| self.network.lose(link));
        self.after(for_ms, Event::Reachable(endpoint));
        Ok(())
    }

    /// Somebody logs another device of theirs out.
    pub(super) fn log_somebody_out(&mut self) -> Check {
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

    /// Everybody comes back at the same moment, and says something.
    pub(super) fn new_year(&mut self) -> Check {
        self.note(format_args!("New Year"));
        let links: Vec<Link> = self.network.healthy().map(|(link, ..)| link).collect();
        links.into_iter().for_each(|link| self.cut(link));
        for device in self.running() {
            self.foreground(device, true)?;
            self.greets(device)?;
        }
        Ok(())
    }

    /// Somebody's device gives far more commands than it may.
    pub(super) fn flood(&mut self) -> Check {
        let Some(device) = self.any_device() else { return Ok(()) };
        let times = self.trouble.between(60, 160);
        self.note(format_args!("device {device} gives {times} commands"));
        (0..times).try_for_each(|_| self.greets(device))
    }

    fn greets(&mut self, device: usize) -> Check {
        let process = self.devices.get(device).and_then(|of| of.process.as_ref());
        let rooms: Vec<u64> = process.iter().flat_map(|process| process.copy.rooms.keys().copied()).collect();
        match self.trouble.pick(&rooms).copied() {
            Some(room) => {
                self.said += 1;
                let text = format!("#{}", self.said);
                self.ask(device, Change::Send { room, text, reply_to: None })
            }
            None => Ok(()),
        }
    }

    /// A device's disk takes nothing more for a while.
    pub(super) fn device_disk_full(&mut self) -> Check {
        let Some(device) = self.any_device() else { return Ok(()) };
        let for_ms = self.trouble.between(1_000, 60_000);
        self.fills_disk(device, for_ms);
        Ok(())
    }

    /// This one's disk does.
    pub(crate) fn fills_disk(&mut self, device: usize, for_ms: u64) {
        self.note(format_args!("the disk of device {device} is full for {for_ms} ms"));
        if let Some(of) = self.devices.get_mut(device) {
            of.fills_up();
        }
        self.after(for_ms, Event::HasRoom(device));
    }

    /// A device's disk takes something again; a client that had to stop starts again.
    pub(crate) fn disk_has_room(&mut self, device: usize) -> Check {
        let stopped = self.devices.get_mut(device).is_some_and(crate::device::Device::has_room);
        if stopped {
            self.device_dies(device, false);
            return self.device_starts(device);
        }
        Ok(())
    }

    /// A device goes on from an old copy of its disk; or one is made.
    pub(super) fn old_disk(&mut self) -> Check {
        let Some(device) = self.any_device() else { return Ok(()) };
        let Some(of) = self.devices.get_mut(device) else { return Ok(()) };
        if !of.has_backup() {
            of.back_up();
            return Ok(());
        }
        self.note(format_args!("device {device} goes on from an old copy of its disk"));
        self.device_dies(device, false);
        if let Some(of) = self.devices.get_mut(device) {
            of.restore();
        }
        self.history.lose(device);
        self.device_starts(device)
    }

    /// What a node applies reaches nobody for a while.
    pub(super) fn delivery_hangs(&mut self) -> Check {
        let index = self.trouble.index(self.hosts.len());
        let until = self.now() + self.trouble.between(500, 8_000);
        if let Some(node) = self.node_mut(index) {
            node.delivery_hangs_until = until;
            self.note(format_args!("node {} delivers nothing until {until}", index + 1));
        }
        Ok(())
    }
}
