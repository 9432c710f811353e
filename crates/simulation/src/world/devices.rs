//! The devices' side: their processes, their timers and their connections. What the client's shell does on a tokio task is done here
//! event by event.

use std::collections::VecDeque;

use bytes::Bytes;
use ieum_client::CommandId;
use ieum_client::machine::{Line, Moment};
use ieum_protocol::frames::Change;

use super::{Event, World};
use crate::device::{Device, Process, Wish};
use crate::failure::{Broken, Check, broken};
use crate::network::{End, Link, Parcel};
use crate::node::Serving;

impl World {
    fn moment(&mut self) -> Moment {
        Moment { now: self.clock.now(), random: self.random.next() }
    }

    /// Runs `input` on a device's process, if there is one, and does what its machine asks for.
    pub(super) fn input(&mut self, device: usize, input: impl FnOnce(&mut Process, Moment)) -> Check {
        let moment = self.moment();
        if let Some(process) = self.devices.get_mut(device).and_then(|device| device.process.as_mut()) {
            input(process, moment);
        }
        self.settle(device)
    }

    fn settle(&mut self, device: usize) -> Check {
        let now = self.clock.now();
        while let Some(of) = self.devices.get_mut(device) {
            // What was on its way when the log began anew is of what was before.
            let age = of.process.as_ref().map_or(usize::MAX, |process| process.age);
            let model = self.befores.get(age).unwrap_or(&self.model);
            let Some(wish) = of.settle((&mut self.history, model), &mut self.random, now)? else { break };
            match wish {
                Wish::Connect(line, endpoint) => {
                    if let Some(process) = &mut of.process {
                        process.wires.opens(line, now);
                    }
                    self.connect(device, line, endpoint);
                }
                Wish::Send(line, frame) => {
                    if let (Some(process), Ok(text)) = (&mut of.process, std::str::from_utf8(&frame)) {
                        process.wires.sends(line, text, now)?;
                    }
                    let lines = of.process.as_ref().map(|process| &process.lines);
                    if let Some(link) = lines.and_then(|lines| *lines.get(&line)?) {
                        self.send(link, End::Server, frame);
                    }
                }
                Wish::Close(line) => {
                    let closed = of.process.as_mut().and_then(|process| {
                        process.wires.closes(line);
                        process.lines.remove(&line)?
                    });
                    if let Some(link) = closed {
                        self.hang_up(link);
                    }
                }
            }
        }
        self.arm(device);
        Ok(())
    }

    fn connect(&mut self, device: usize, line: Line, endpoint: usize) {
        let Some(of) = self.devices.get_mut(device) else { return };
        let Some(process) = &mut of.process else { return };
        process.lines.insert(line, None);
        let number = of.processes;
        let shut = !self.wan.is_open(endpoint % self.hosts.len() % crate::wan::DCS);
        let cut = of.offline || shut || self.unreachable.contains(&endpoint);
        if cut && self.random.chance(500) {
            // Nobody answers, nobody says so.
            return;
        }
        let after = self.random.between(1, 60);
        self.after(after, Event::Dialed { device, process: number, line, endpoint, reached: !cut });
    }

    pub(crate) fn dialed(
        &mut self,
        device: usize,
        (number, line): (u64, Line),
        endpoint: usize,
        reached: bool,
    ) -> Check {
        let (now, host) = (self.clock.now(), self.host_of(endpoint));
        let Some(of) = self.devices.get_mut(device).filter(|of| of.processes == number) else { return Ok(()) };
        let dials = |process: &&mut Process| process.lines.get(&line).is_some_and(Option::is_none);
        let Some(process) = of.process.as_mut().filter(dials) else { return Ok(()) };
        let apart = self.losses.apart();
        let server =
            self.hosts.get_mut(host).filter(|host| reached && host.serves() && Some(host.journal.era) != apart);
        let Some(node) = server.and_then(|host| host.node.as_mut()) else {
            return self.input(device, |process, moment| {
                process.wires.closes(line);
                process.machine.failed(moment, line, "nobody is there".to_owned(), None);
            });
        };
        let link = self.network.open(device, endpoint, self.befores.len(), &mut self.random);
        if let Some(frames) = self.fading.remove(&(device, host)) {
            self.network.fade(link, frames);
        }
        process.lines.insert(line, Some(link));
        node.sessions.insert(link, Serving::Greeting { since: now });
        self.note(format_args!("device {device} connects to node {}, session {link}", host + 1));
        self.input(device, |process, moment| process.machine.connected(moment, line))
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, link: Link, to: End, frame: Bytes) {
        let late = if to == End::Server { self.chatter.hello_is_late(&frame) + self.holds_up(link, &frame) } else { 0 };
        let leaves = self.clock.now() + late;
        let (arrives, doomed) = self.network.send(link, to, frame, leaves, &mut self.random);
        if let Some(at) = arrives {
            let event = if to == End::Client { Event::ToClient(link) } else { Event::ToServer(link) };
            self.clock.set(at, event);
        }
        if doomed {
            self.cut(link);
        }
    }

    /// For how long somebody holds a frame of a client's up on its way.
    fn holds_up(&mut self, link: Link, frame: &[u8]) -> u64 {
        let held_up = self.network.device(link).and_then(|device| self.held_up.get_mut(&device));
        held_up.filter(|_| frame.starts_with(br#"{"hello""#)).and_then(VecDeque::pop_front).unwrap_or(0)
    }

    /// Breaks a connection.
    pub(crate) fn cut(&mut self, link: Link) {
        let before = self.network.untaken(link);
        if let Some(at) = self.network.cut(link, self.clock.now(), &mut self.random) {
            self.clock.set(at, Event::ToClient(link));
            self.clock.set(at, Event::ToServer(link));
            self.note(format_args!("session {link} is cut"));
        }
        self.taken(link, before);
    }

    /// The client closes a connection.
    fn hang_up(&mut self, link: Link) {
        let before = self.network.untaken(link);
        if let Some(at) = self.network.close(link, End::Client, self.clock.now()) {
            self.clock.set(at, Event::ToServer(link));
        }
        self.taken(link, before);
    }

    /// A session that could not write goes on when its client has taken enough, or has gone.
    fn taken(&mut self, link: Link, before: usize) {
        if before > Self::window() && self.network.untaken(link) <= Self::window() {
            self.resume(link);
        }
    }

    /// What has arrived at a device, as far as its app takes it.
    pub(crate) fn at_client(&mut self, link: Link) -> Check {
        let Some(device) = self.network.device(link) else { return Ok(()) };
        let before = self.network.untaken(link);
        loop {
            let process = self.devices.get(device).and_then(|device| device.process.as_ref());
            let Some(process) = process else { break };
            let Some(line) = process.lines.iter().find(|(_, of)| **of == Some(link)).map(|(line, _)| *line) else {
                break;
            };
            if process.deaf {
                break;
            }
            match self.network.receive(link, End::Client, self.clock.now()) {
                Some(Parcel::Frame(frame)) => {
                    let Ok(text) = std::str::from_utf8(&frame) else { return broken("a frame is not UTF-8") };
                    let mut heard = Ok(());
                    let age = self.network.age(link);
                    let strange = self.chatter.strange_pong(text);
                    self.input(device, |process, moment| {
                        (process.bytes, process.age) = (text.len(), age);
                        heard = match strange {
                            Some(_) => process.wires.hears(moment.now),
                            None => process.wires.receives(line, text, moment.now),
                        };
                        process.machine.frame(moment, line, strange.as_deref().unwrap_or(text));
                    })?;
                    heard.map_err(|Broken(what)| Broken(format!("device {device}: {what}")))?;
                }
                Some(Parcel::Over) => {
                    self.hang_up(link);
                    self.input(device, |process, moment| {
                        process.lines.remove(&line);
                        process.wires.closes(line);
                        process.machine.closed(moment, line, "it broke".to_owned());
                    })?;
                }
                None => break,
            }
        }
        self.taken(link, before);
        Ok(())
    }

    /// Sets a device's timer if it would fire too late.
    fn arm(&mut self, device: usize) {
        let Some(of) = self.devices.get_mut(device) else { return };
        let number = of.processes;
        let Some(process) = &mut of.process else { return };
        let Some(deadline) = process.machine.deadline() else { return };
        if process.armed.is_none_or(|armed| deadline < armed) {
            process.armed = Some(deadline);
            self.clock.set(deadline, Event::Timer { device, process: number });
        }
    }

    pub(crate) fn timer(&mut self, device: usize, number: u64) -> Check {
        let now = self.clock.now();
        let Some(of) = self.devices.get_mut(device).filter(|of| of.processes == number) else { return Ok(()) };
        let Some(process) = &mut of.process else { return Ok(()) };
        if process.armed.is_none_or(|armed| armed > now) {
            return Ok(());
        }
        process.armed = None;
        self.input(device, |process, moment| {
            if process.machine.deadline().is_some_and(|deadline| moment.now >= deadline) {
                process.machine.tick(moment);
            }
        })
    }

    pub(crate) fn device_starts(&mut self, device: usize) -> Check {
        let moment = self.moment();
        let foreground = self.random.chance(250);
        if let Some(of) = self.devices.get_mut(device).filter(|of| of.process.is_none()) {
            of.start(foreground, moment);
        }
        self.settle(device)
    }

    pub(crate) fn device_dies(&mut self, device: usize, power_cut: bool) {
        let links = self.devices.get_mut(device).map(|of| of.kill(power_cut)).unwrap_or_default();
        for link in links {
            if power_cut {
                self.network.lose(link);
            }
            self.hang_up(link);
        }
    }

    /// A device's app takes deliveries, or does not.
    pub(crate) fn listens(&mut self, device: usize, listens: bool) -> Check {
        let process = self.devices.get(device).and_then(|of| of.process.as_ref());
        // A driver says it where it changes: to begin to listen is to wait anew.
        if process.is_none_or(|process| process.deaf != listens) {
            return Ok(());
        }
        self.input(device, |process, moment| {
            process.deaf = !listens;
            process.wires.takes(listens, moment.now);
            process.machine.listening(moment, listens);
        })?;
        let process = self.devices.get(device).filter(|_| listens).and_then(|of| of.process.as_ref());
        let links: Vec<Link> = process.iter().flat_map(|process| process.lines.values().copied().flatten()).collect();
        links.into_iter().try_for_each(|link| self.at_client(link))
    }

    /// Somebody looks at a device, or nobody does any more.
    pub(crate) fn foreground(&mut self, device: usize, foreground: bool) -> Check {
        self.input(device, |process, moment| {
            process.wires.looked_at(foreground, moment.now);
            process.machine.foreground(moment, foreground);
        })
    }

    /// A person asks for a change on a device.
    pub(crate) fn ask(&mut self, device: usize, change: Change) -> Check {
        let id = CommandId::from_random(self.wishes.next(), self.wishes.next());
        let Some(of) = self.devices.get_mut(device) else { return Ok(()) };
        // What waits behind much else has to wait.
        let at_once = |process: &Process| process.live && process.machine.waiting().next().is_none();
        let at_once = of.process.as_ref().is_some_and(at_once);
        if of.submit(id, &change) {
            self.commands += 1;
            // Long texts are written much faster so than as Rust shows them.
            let said = serde_json::to_string(&change).unwrap_or_default();
            self.note(format_args!("device {device} asks {said}"));
            self.history.ask(device, id, change, (self.clock.now(), at_once));
        }
        self.settle(device)
    }

    /// Devices that run and have not been stopped.
    pub(crate) fn running(&self) -> Vec<usize> {
        let runs = |device: &&Device| device.process.as_ref().is_some_and(|process| !process.stopped);
        self.devices.iter().filter(runs).map(|device| device.index).collect()
    }
}
