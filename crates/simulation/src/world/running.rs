//! A node's life and its log: it appends, applies and ends. What `ieum_node::service` does with threads is done here event by event.

use bytes::Bytes;
use ieum_core::apply::{Author, applied};
use ieum_gateway::Cell as _;
use ieum_log::Entry;
use ieum_node::core_position;
use ieum_node::machine::Delivery;

use super::starting::stops_before;
use super::{Event, NodeEvent, World};
use crate::failure::{Broken, Check};
use crate::log::{Era, Placed};
use crate::network::{End, Link};
use crate::node::{Node, Ticket};
use crate::wan::Way;

/// How long an append that failed waits before it is repeated.
const APPEND_RETRY: u64 = 100;

impl World {
    /// How a request of a node to the log fares. A log that one node has for itself is on its own disk.
    pub(crate) fn way_to_log(&self, index: usize) -> Way {
        if self.hosts.len() == 1 { Way::Answered } else { self.wan.way_to_log(self.dc_of(index)) }
    }

    /// The process is gone, and with it what it did not persist beyond the first `keep` commits.
    pub(crate) fn node_dies(&mut self, index: usize, keep: usize) -> Check {
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let links: Vec<Link> = host.node.iter().flat_map(|node| node.sessions.keys().copied()).collect();
        if self.losses.on && self.lost {
            // As where the log was lost behind it.
            host.journal.synced = host.journal.last;
        }
        host.dies(keep, &mut self.random)?;
        for link in links {
            self.cut(link);
            self.network.close(link, End::Server, self.clock.now());
        }
        Ok(())
    }

    pub(crate) fn node_soon(&mut self, host: usize, ms: u64, event: NodeEvent) {
        let Some(life) = self.hosts.get(host).map(|host| host.lives) else { return };
        self.after(ms, Event::Node { host, life, event });
    }

    pub(crate) fn node_event(&mut self, index: usize, event: NodeEvent) -> Check {
        match event {
            NodeEvent::Open => return self.open(index),
            NodeEvent::Beat => return self.beat(index),
            NodeEvent::Copied => return self.copied(index),
            NodeEvent::Registers => return self.registers(index),
            NodeEvent::Snapshot => return self.takes_snapshot(index),
            _ => {}
        }
        if matches!(event, NodeEvent::Second) && self.hosts.len() > 1 && self.notices(index)? {
            return Ok(());
        }
        let at = self.now();
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let Some(node) = &mut host.node else { return Ok(()) };
        match event {
            NodeEvent::Second => {
                node.tick(at);
                self.persists(index)?;
                self.node_soon(index, 1_000, NodeEvent::Second);
                self.append(index);
                self.trim(index)
            }
            NodeEvent::Measures => {
                self.measures(index);
                Ok(())
            }
            NodeEvent::Watch => self.watch(index),
            NodeEvent::Answered { attempt, .. } if attempt != node.attempts => Ok(()),
            NodeEvent::Answered { well: true, .. } => {
                node.in_flight = None;
                node.cell.at(at, |machine, _| machine.appended());
                self.append(index);
                Ok(())
            }
            NodeEvent::Answered { well: false, .. } => {
                self.node_soon(index, APPEND_RETRY, NodeEvent::Retry);
                Ok(())
            }
            NodeEvent::Retry => {
                self.send_append(index);
                Ok(())
            }
            NodeEvent::Shown => self.shown(index),
            NodeEvent::Deliver => self.deliver(index),
            NodeEvent::Signals => self.looks_who_hears(index),
            NodeEvent::TellSignals => self.tells_who_types(index),
            NodeEvent::Begin(link) => self.has_read(link),
            NodeEvent::Step(link) => self.step(link),
            NodeEvent::Stop => {
                if host.data.hangs_until > at {
                    // It waits for what it writes last, which may not take as long as it would have.
                    let after = (host.data.hangs_until - at).min(500);
                    self.node_soon(index, after, NodeEvent::Stop);
                    return Ok(());
                }
                self.persists(index)?;
                self.node_dies(index, usize::MAX)?;
                self.after(500, Event::NodeStarts(index));
                Ok(())
            }
            NodeEvent::Open | NodeEvent::Beat | NodeEvent::Copied | NodeEvent::Registers | NodeEvent::Snapshot => {
                Ok(())
            }
        }
    }

    /// Appends the next batch, if there is one and none is in flight.
    pub(crate) fn append(&mut self, index: usize) {
        let (at, clock, chatters) = (self.now(), self.stamp(index), self.chatter.on);
        let Some(node) = self.node_mut(index) else { return };
        if node.in_flight.is_some() {
            return;
        }
        node.in_flight = node.cell.at(at, |machine, _| machine.append(clock));
        if let Some(append) = &node.in_flight {
            if chatters {
                node.typing.begins_batch(at);
                node.cell.are_taken(&append.bytes);
            }
            self.send_append(index);
        }
    }

    pub(crate) fn node_mut(&mut self, index: usize) -> Option<&mut Node> {
        self.hosts.get_mut(index)?.node.as_mut()
    }

    /// Sends the batch in flight to the log. It may be slow, its answer may be lost, and one that was given up may arrive all the same.
    fn send_append(&mut self, index: usize) {
        let now = self.clock.now();
        let way = self.way_to_log(index);
        let Some(host) = self.hosts.get_mut(index) else { return };
        let (life, era, Some(node)) = (host.lives, host.journal.era, &mut host.node) else { return };
        let Some(append) = &node.in_flight else { return };
        node.attempts += 1;
        let (author, bytes, attempt) = (append.author, append.bytes.clone(), node.attempts);
        if node.room.is_some_and(|room| !room.takes(bytes.len())) {
            self.node_soon(index, 0, NodeEvent::Answered { attempt, well: false });
            return;
        }
        let random = &mut self.random;
        let slow = if random.chance(20) { random.between(20, 400) } else { random.between(1, 5) };
        let mut arrives = now.max(self.log.stalled_until()) + slow;
        let sick = self.log.is_sick(now) && random.chance(500);
        let is_lost = match way {
            Way::Answered => sick && random.chance(500),
            Way::AnswerLost => random.chance(500),
            Way::Unheard => true,
        };
        let well = way == Way::Answered && !sick;
        let answer = arrives + random.between(0, 3);
        if !well {
            // Given up after a while; it is on its way for longer now and then.
            let given_up = now + random.between(200, 2_000);
            if random.chance(200) {
                arrives = given_up + random.between(0, 5_000);
            }
            let answered = NodeEvent::Answered { attempt, well: false };
            self.clock.set(given_up, Event::Node { host: index, life, event: answered });
        }
        if !is_lost {
            if let Some(after) = self.operators.doubles() {
                let (bytes, answered) = (bytes.clone(), None);
                self.clock.set(now + after, Event::Append { host: index, life, attempt, era, author, bytes, answered });
            }
            let answered = well.then_some(answer);
            self.clock.set(arrives, Event::Append { host: index, life, attempt, era, author, bytes, answered });
        }
    }

    /// A request to append arrives at the log.
    pub(crate) fn append_arrives(
        &mut self,
        (host, life, attempt): (usize, u64, u64),
        (era, author): (Era, Author),
        bytes: &Bytes,
        answered: Option<u64>,
    ) -> Check {
        let before = self.log.last();
        let is_full = self.log.is_full(self.now());
        let placed = if is_full { Placed::Full } else { self.log.place(era, author, bytes)? };
        if self.log.last() > before {
            // Nobody is told of what goes on beside what people were told of.
            if self.losses.apart() != Some(era) {
                self.model.follow(self.log.entries(era))?;
                self.chatter.ends.add(self.clock.now(), self.model.at());
            }
            for index in 0..self.hosts.len() {
                let after = self.random.between(0, 3);
                self.node_soon(index, after, NodeEvent::Shown);
            }
        }
        let Some(answered) = answered else { return Ok(()) };
        let event = match placed {
            Placed::There => NodeEvent::Answered { attempt, well: true },
            // It begins a new life, which can do it better.
            Placed::Fenced | Placed::Conflict => NodeEvent::Stop,
            Placed::Gone | Placed::Full => NodeEvent::Answered { attempt, well: false },
        };
        self.clock.set(answered, Event::Node { host, life, event });
        Ok(())
    }

    /// Applies what the log's tail shows.
    fn shown(&mut self, index: usize) -> Check {
        let (at, way) = (self.now(), self.way_to_log(index));
        let trimmed = self.log.trimmed();
        loop {
            let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
            let Some(node) = &mut host.node else { return Ok(()) };
            // One that has lost its end shows nothing more to those who were there.
            if self.log.held() != Some(host.journal.era) {
                return Ok(());
            }
            if host.tail_hangs_until > at || way != Way::Answered {
                self.node_soon(index, 50, NodeEvent::Shown);
                return Ok(());
            }
            let (era, next) = (host.journal.era, host.journal.last + 1);
            let shows = next.saturating_add_signed(host.tail_off);
            let Some(entry) = self.log.batch(era, shows).cloned() else { break };
            if shows == next && shows <= trimmed {
                self.note(format_args!("node {} is overtaken by the trim", index + 1));
                return self.node_event(index, NodeEvent::Stop);
            }
            host.tail_off = 0;
            let delivery = match node.cell.at(at, |machine, _| machine.entry(&entry)) {
                Err(error) if shows != next || stops_before(&error).is_some() => {
                    if let (true, Some(host)) = (shows == next, self.hosts.get(index)) {
                        self.is_too_new(host, core_position(entry.position))?;
                    }
                    self.note(format_args!("node {} stops: {}", index + 1, ieum_node::chain(&error)));
                    return self.node_event(index, NodeEvent::Stop);
                }
                delivery => delivery.map_err(|error| Broken(ieum_node::chain(&error)))?,
            };
            host.journal.last = entry.position.ordinal;
            self.log.is_applied(era, entry.position.ordinal);
            self.follows(index, &entry, &delivery)?;
            if delivery.removed {
                return self.is_out(index);
            }
            let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
            let Some(node) = &mut host.node else { return Ok(()) };
            if node.is_own(entry.id, host.index as u32 + 1) {
                (node.begun, node.own_at) = (true, at);
                node.typing.own_is_back();
            }
            node.undelivered_since.get_or_insert(at);
            super::differing::bend(&host.disk, host.mask)?;
            let now_at = applied(&node.cell.view())?;
            if let Some(circle) = &mut host.circle {
                circle.weights.note(entry.position.ordinal, entry.bytes.len());
                circle.checkpoints.note(now_at.position, now_at.digest);
            }
            node.undelivered.push_back(delivery);
            self.trace.bytes(&entry.bytes);
            self.note(format_args!("node {} applied {}, {} bytes", index + 1, entry.position, entry.bytes.len()));
            let after = self.random.between(0, 4);
            self.node_soon(index, after, NodeEvent::Deliver);
        }
        self.greet_late(index)
    }

    /// What a node has applied it may know, and an operator hears of what does not count.
    fn follows(&mut self, index: usize, entry: &Entry, delivery: &Delivery<Ticket>) -> Check {
        let (now, at) = (self.now(), core_position(entry.position));
        let Some(host) = self.hosts.get(index) else { return Ok(()) };
        self.knows_the_level(host, at)?;
        self.alarms_are_right(at, &delivery.alarms)?;
        let ignored = self.model.ignored(at).is_some();
        if let Some(host) = self.hosts.get_mut(index)
            && let Some(node) = host.node.as_ref().filter(|_| ignored)
            && node.is_own(entry.id, host.number())
        {
            host.removed_since.get_or_insert(now);
        }
        Ok(())
    }

    /// A node sees that it is no member: it serves nobody, and ends.
    fn is_out(&mut self, index: usize) -> Check {
        self.note(format_args!("node {} is no member of the cell", index + 1));
        if let Some(node) = self.node_mut(index) {
            node.begun = false;
            node.gateway.stop();
        }
        self.node_event(index, NodeEvent::Stop)
    }
}
