//! The node's side: its log, its sessions, its deliveries. What `ieum_node::service` and the gateway's tasks do with threads and
//! sockets is done here event by event.

use std::sync::Arc;

use bytes::Bytes;
use ieum_core::apply::applied;
use ieum_core::kv::Kv;
use ieum_gateway::Cell as _;
use ieum_gateway::session::hello::Asked;
use ieum_gateway::session::{Live, Opening, Step, parse};
use ieum_node::machine::Delivery;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{ClientFrame, ServerFrame};

use super::{Event, NodeEvent, World};
use crate::failure::{Broken, Check, broken, holds};
use crate::log::{self, now};
use crate::network::{End, Link, Parcel};
use crate::node::{Node, Serving};

/// A session is not served while its client has more than this to take, in bytes.
const WINDOW: usize = 8 * 1024;
/// For how long a client may take nothing.
const PATIENCE: u64 = 10_000;

impl World {
    pub(crate) fn node_starts(&mut self) -> Check {
        self.lives += 1;
        let node = Node::start(self.lives, &self.log, &self.disk, self.clock.now())?;
        let at = node.cell.applied();
        self.node = Some(node);
        let life = self.lives;
        self.note(format_args!("node starts, life {life} at {at}"));
        self.node_soon(1_000, NodeEvent::Second);
        self.node_soon(250, NodeEvent::Watch);
        self.append();
        Ok(())
    }

    /// The process is gone, and with it what it did not persist beyond the first `keep` commits.
    pub(crate) fn node_dies(&mut self, keep: usize, down_for: u64) -> Check {
        let Some(node) = self.node.take() else { return Ok(()) };
        if let Some(append) = &node.in_flight
            && self.random.chance(500)
        {
            self.log.place(append.author, &append.bytes)?;
        }
        self.disk.crash(keep);
        for link in node.sessions.keys() {
            self.cut(*link);
            self.network.close(*link, End::Server, self.clock.now());
        }
        self.after(down_for, Event::NodeStarts);
        Ok(())
    }

    pub(crate) fn node_soon(&mut self, ms: u64, event: NodeEvent) {
        let life = self.lives;
        self.after(ms, Event::Node(life, event));
    }

    pub(crate) fn node_event(&mut self, event: NodeEvent) -> Check {
        let at = self.now();
        let Some(node) = &mut self.node else { return Ok(()) };
        match event {
            NodeEvent::Second => {
                node.tick(at);
                self.disk.persist()?;
                self.node_soon(1_000, NodeEvent::Second);
                self.append();
                Ok(())
            }
            NodeEvent::Watch => self.watch(),
            NodeEvent::Placed => {
                if let Some(append) = &node.in_flight {
                    self.log.place(append.author, &append.bytes)?;
                }
                let after = self.random.between(0, 3);
                self.node_soon(after, NodeEvent::Shown);
                Ok(())
            }
            NodeEvent::Answered { well: true } => {
                node.in_flight = None;
                node.cell.at(at, |machine| machine.appended());
                self.append();
                Ok(())
            }
            NodeEvent::Answered { well: false } => {
                self.node_soon(100, NodeEvent::Retry);
                Ok(())
            }
            NodeEvent::Retry => {
                self.send_append();
                Ok(())
            }
            NodeEvent::Shown => self.shown(),
            NodeEvent::Deliver => self.deliver(),
            NodeEvent::Step(link) => self.step(link),
            NodeEvent::Stop => {
                self.disk.persist()?;
                self.node_dies(usize::MAX, 500)
            }
        }
    }

    /// Appends the next batch, if there is one and none is in flight.
    pub(crate) fn append(&mut self) {
        let (at, clock) = (self.now(), self.wall_clock());
        let Some(node) = &mut self.node else { return };
        if node.in_flight.is_some() {
            return;
        }
        node.in_flight = node.cell.at(at, |machine| machine.append(clock));
        if node.in_flight.is_some() {
            self.send_append();
        }
    }

    fn send_append(&mut self) {
        let fate = self.log.fate(self.clock.now(), &mut self.random);
        let life = self.lives;
        if let Some(placed) = fate.placed {
            self.clock.set(placed, Event::Node(life, NodeEvent::Placed));
        }
        self.clock.set(fate.answered, Event::Node(life, NodeEvent::Answered { well: fate.well }));
    }

    /// Applies what the log's tail shows.
    fn shown(&mut self) -> Check {
        let at = self.now();
        while let Some(node) = &mut self.node
            && let Some(entry) = log::next(&mut node.tail)?
        {
            let delivery = node.cell.at(at, |machine| machine.entry(&entry));
            let delivery = delivery.map_err(|error| Broken(ieum_node::chain(&error)))?;
            holds(delivery.alarms.is_empty(), || format!("alarm: {:?}", delivery.alarms))?;
            let position = delivery.position;
            node.undelivered.push_back(delivery);
            self.trace.bytes(&entry.bytes);
            self.note(format_args!("applied {position}, {} bytes", entry.bytes.len()));
            let after = self.random.between(0, 4);
            self.node_soon(after, NodeEvent::Deliver);
        }
        Ok(())
    }

    fn deliver(&mut self) -> Check {
        let Some(node) = &mut self.node else { return Ok(()) };
        let Some(Delivery { position, replies, unanswered, events, .. }) = node.undelivered.pop_front() else {
            return broken("nothing to deliver");
        };
        let replies = replies.into_iter().filter_map(|(ticket, outcome)| Some((ticket?, outcome))).collect();
        node.hub.give_up(unanswered.into_iter().flatten().collect());
        let cell = node.cell.clone();
        node.hub.deliver(position, replies, events, || Box::new(cell.view()));
        self.pump_all();
        Ok(())
    }

    fn watch(&mut self) -> Check {
        let (at, instant) = (self.now(), self.clock.instant());
        let Some(node) = &mut self.node else { return Ok(()) };
        node.gateway.watch(instant);
        let mut given_up = Vec::new();
        for (link, serving) in &node.sessions {
            if self.network.untaken(*link) > WINDOW {
                let since = *node.untaken_since.entry(*link).or_insert(at);
                if at - since >= PATIENCE {
                    given_up.push((*link, None));
                }
            } else {
                node.untaken_since.remove(link);
            }
            if let Serving::Greeting { since } = serving
                && at - since >= PATIENCE
            {
                given_up.push((*link, Some(Code::HelloFirst.problem())));
            }
        }
        for (link, problem) in given_up {
            self.end(link, problem);
        }
        self.pump_all();
        self.node_soon(250, NodeEvent::Watch);
        Ok(())
    }

    fn pump_all(&mut self) {
        let links: Vec<Link> = self.node.iter().flat_map(|node| node.sessions.keys().copied()).collect();
        for link in links {
            self.pump(link);
        }
    }

    /// Sends what waits in a session's queue, if the session was woken and its client takes what it is sent.
    fn pump(&mut self, link: Link) {
        let Some(node) = &mut self.node else { return };
        let Some(Serving::Live(live)) = node.sessions.get_mut(&link) else { return };
        if self.network.untaken(link) > WINDOW || now(live.session().woken()).is_none() {
            return;
        }
        let mut out = Vec::new();
        let ended = live.queued(node.hub.complete(), &mut out);
        self.send_all(link, out);
        if let Some(code) = ended {
            self.end(link, Some(code.problem()));
        }
    }

    fn send_all(&mut self, link: Link, frames: Vec<Bytes>) {
        for frame in frames {
            self.trace.bytes(&frame);
            self.send(link, End::Client, frame);
        }
    }

    fn send_frame(&mut self, link: Link, frame: &ServerFrame) {
        self.send_all(link, vec![ieum_gateway::map::outcomes::text(frame)]);
    }

    /// The node ends a session, and says why if it can.
    fn end(&mut self, link: Link, problem: Option<Problem>) {
        if let Some(problem) = problem {
            self.note(format_args!("session {link} ends: {}", problem.code));
            self.send_frame(link, &ServerFrame::Bye(problem));
        }
        self.forget(link);
        if let Some(at) = self.network.close(link, End::Server, self.clock.now()) {
            self.clock.set(at, Event::ToClient(link));
        }
    }

    fn forget(&mut self, link: Link) {
        let Some(node) = &mut self.node else { return };
        node.untaken_since.remove(&link);
        // Its place in the hub is given back with it.
        node.sessions.remove(&link);
    }

    /// What has arrived from a client, as far as its session reads now.
    pub(crate) fn at_server(&mut self, link: Link) -> Check {
        while let Some(node) = &self.node {
            match node.sessions.get(&link) {
                // The task writes, so it does not read.
                Some(Serving::Opening(_)) => return Ok(()),
                Some(_) if self.network.untaken(link) > WINDOW => return Ok(()),
                _ => {}
            }
            match self.network.receive(link, End::Server, self.clock.now()) {
                Some(Parcel::Frame(frame)) => self.client_frame(link, &frame)?,
                Some(Parcel::Over) => {
                    self.forget(link);
                    self.network.close(link, End::Server, self.clock.now());
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn client_frame(&mut self, link: Link, frame: &Bytes) -> Check {
        let Ok(text) = std::str::from_utf8(frame) else { return broken("a client sends what is not UTF-8") };
        let instant = self.clock.instant();
        let Some(node) = &mut self.node else { return Ok(()) };
        match node.sessions.get_mut(&link) {
            Some(Serving::Greeting { .. }) => self.hello(link, text),
            Some(Serving::Live(live)) => {
                let mut out = Vec::new();
                let result = live.frame(&node.gateway, text, instant, &mut out);
                self.send_all(link, out);
                if let Err(problem) = result {
                    self.end(link, Some(problem));
                }
                self.append();
                Ok(())
            }
            Some(Serving::Opening(_)) | None => Ok(()),
        }
    }

    fn hello(&mut self, link: Link, text: &str) -> Check {
        let instant = self.clock.instant();
        let asked = match parse(text) {
            Ok(ClientFrame::Hello(hello)) => Asked::of(hello),
            Ok(_) => Err(Code::HelloFirst.problem()),
            Err(problem) => Err(problem),
        };
        let Some(node) = &mut self.node else { return Ok(()) };
        let begun = match asked {
            Ok(asked) => {
                let at = node.cell.applied();
                holds(asked.seen.is_none_or(|seen| seen <= at), || {
                    format!("a client has seen {:?}, the node stands at {at}", asked.seen)
                })?;
                Opening::begin(&node.gateway, &asked, node.hub.arrival(), instant)
            }
            Err(problem) => Err(problem),
        };
        match begun {
            Ok((welcome, opening)) => {
                node.sessions.insert(link, Serving::Opening(Box::new(opening)));
                self.send_frame(link, &ServerFrame::Welcome(welcome));
                self.next_step(link);
            }
            Err(problem) => self.end(link, Some(problem)),
        }
        Ok(())
    }

    fn next_step(&mut self, link: Link) {
        let after = self.random.between(0, 12);
        self.node_soon(after, NodeEvent::Step(link));
    }

    /// An opening session sends its next frame.
    fn step(&mut self, link: Link) -> Check {
        if self.network.untaken(link) > WINDOW {
            // It goes on when the client has taken some.
            return Ok(());
        }
        let instant = self.clock.instant();
        let Some(node) = &mut self.node else { return Ok(()) };
        let Some(Serving::Opening(opening)) = node.sessions.get_mut(&link) else { return Ok(()) };
        let step = opening.step(&node.gateway, instant);
        // A part that is sent ends here, or it goes on with the same look.
        let step = match step {
            Ok(Step::More(frame)) if self.random.chance(500) => {
                opening.pause(&node.gateway).map(|()| Step::More(frame))
            }
            step => step,
        };
        match step {
            Ok(Step::More(frame)) => {
                self.send_frame(link, &frame);
                self.next_step(link);
            }
            Ok(Step::Live(frame, live)) => self.goes_live(link, &frame, live),
            Err(problem) => self.end(link, Some(problem)),
        }
        Ok(())
    }

    fn goes_live(&mut self, link: Link, frame: &ServerFrame, live: Box<Live>) {
        live.listen(self.clock.instant());
        if let Some(node) = &mut self.node {
            node.sessions.insert(link, Serving::Live(live));
        }
        self.send_frame(link, frame);
        self.pump(link);
        self.after(0, Event::ToServer(link));
    }

    /// A client has taken enough for its session to go on.
    pub(crate) fn resume(&mut self, link: Link) {
        let Some(node) = &self.node else { return };
        if let Some(Serving::Opening(_)) = node.sessions.get(&link) {
            self.next_step(link);
        }
        self.pump(link);
        self.after(0, Event::ToServer(link));
    }

    /// The digest of the node's view, and where it stands.
    pub(crate) fn digest(&self) -> Check<ieum_core::tables::cell::Applied> {
        let view = Arc::new(self.disk.clone()).snapshot();
        Ok(applied(&view)?)
    }

    pub(crate) const fn window() -> usize {
        WINDOW
    }
}
