//! A node's sessions and its deliveries to them. What the gateway's tasks do with sockets is done here event by event.

use bytes::Bytes;
use ieum_gateway::Cell as _;
use ieum_gateway::hub::Arrival;
use ieum_gateway::session::hello::Asked;
use ieum_gateway::session::{Live, Opening, Step, parse};
use ieum_node::machine::Delivery;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{ClientFrame, ServerFrame};

use super::typing::types;
use super::{Event, NodeEvent, World};
use crate::checker::{Budget, cost};
use crate::failure::{Broken, Check, broken, holds};
use crate::log::now;
use crate::network::{End, Link, Parcel};
use crate::node::{Node, RATE, Serving};
use crate::random::Random;

/// A session is not served while its client has more than this to take, in bytes.
const WINDOW: usize = 8 * 1024;
/// For how long a client may take nothing.
const PATIENCE: u64 = 10_000;
/// For how long a client waits whose node is behind what it has seen.
const BEHIND_PATIENCE: u64 = 1_000;

/// In every tenth life of one or two nodes what a hello asks for is read slowly now and then, while its client may have tried again.
#[derive(Debug)]
pub(crate) struct SlowReads {
    on: bool,
    random: Random,
}

impl SlowReads {
    pub(super) fn of(seed: u64, nodes: usize) -> Self {
        Self { on: seed % 10 == 6 && nodes < 3, random: Random::new(seed.rotate_left(32) ^ 0x7265_6164) }
    }

    /// How long a read takes, if it does not give at once.
    pub(crate) fn takes(&mut self) -> Option<u64> {
        let slow = self.on && self.random.chance(100);
        slow.then(|| self.random.between(1, 4_000))
    }
}

impl World {
    /// Hands the next batch's outcomes and events to the sessions.
    pub(super) fn deliver(&mut self, index: usize) -> Check {
        let now = self.now();
        let Some(node) = self.node_mut(index) else { return Ok(()) };
        if node.delivery_hangs_until > now {
            let after = node.delivery_hangs_until - now;
            self.node_soon(index, after, NodeEvent::Deliver);
            return Ok(());
        }
        let Some(Delivery { position, replies, unanswered, events, .. }) = node.undelivered.pop_front() else {
            return broken("nothing to deliver");
        };
        node.undelivered_since = (!node.undelivered.is_empty()).then_some(now);
        let replies = replies.into_iter().filter_map(|(ticket, outcome)| Some((ticket?, outcome))).collect();
        node.hub.give_up(unanswered.into_iter().flatten().collect());
        let cell = node.cell.clone();
        node.hub.deliver(position, replies, events, || Box::new(cell.view()));
        self.pump_all(index);
        Ok(())
    }

    pub(super) fn watch(&mut self, index: usize) -> Check {
        let (at, instant) = (self.now(), self.clock.instant());
        let Some(node) = self.hosts.get_mut(index).and_then(|host| host.node.as_mut()) else { return Ok(()) };
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
            match serving {
                Serving::Greeting { since } if at - since >= PATIENCE => {
                    given_up.push((*link, Some(Code::HelloFirst.problem())));
                }
                Serving::Behind { since, .. } if at - since >= BEHIND_PATIENCE => {
                    given_up.push((*link, Some(node.gateway.behind())));
                }
                _ => {}
            }
        }
        for (link, problem) in given_up {
            self.end(link, problem);
        }
        self.pump_all(index);
        self.node_soon(index, 250, NodeEvent::Watch);
        Ok(())
    }

    /// The view has come to what clients wait for.
    pub(super) fn greet_late(&mut self, index: usize) -> Check {
        let Some(node) = self.node_mut(index) else { return Ok(()) };
        let ready = |serving: &Serving| match serving {
            Serving::Behind { asked, .. } => !node.gateway.is_behind(asked.seen),
            _ => false,
        };
        let mut links: Vec<Link> = node.sessions.iter().filter(|(_, of)| ready(of)).map(|(link, _)| *link).collect();
        // Tasks are woken in any order.
        if links.len() > 1 && self.chatter.turns() {
            links.reverse();
        }
        for link in links {
            let Some(node) = self.node_mut(index) else { return Ok(()) };
            if let Some(Serving::Behind { asked, arrival, .. }) = node.sessions.remove(&link) {
                self.begin(link, &asked, arrival)?;
            }
        }
        Ok(())
    }

    /// The node at the other end of a connection, if it runs.
    fn server(&mut self, link: Link) -> Option<&mut Node> {
        let host = self.host_of(self.network.endpoint(link)?);
        self.node_mut(host)
    }

    pub(super) fn pump_all(&mut self, index: usize) {
        let links: Vec<Link> = self.node_mut(index).iter().flat_map(|node| node.sessions.keys().copied()).collect();
        for link in links {
            self.pump(link);
        }
    }

    /// Sends what waits in a session's queue, if the session was woken and its client takes what it is sent.
    pub(super) fn pump(&mut self, link: Link) {
        if self.network.untaken(link) > WINDOW {
            return;
        }
        let Some(node) = self.server(link) else { return };
        let Some(Serving::Live(live)) = node.sessions.get_mut(&link) else { return };
        if now(live.session().woken()).is_none() {
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
            if let Some((room, Some(user))) = types(&frame) {
                self.chatter.told.push((link, (room, user)));
            }
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
        let Some(node) = self.server(link) else { return };
        node.untaken_since.remove(&link);
        node.typing.ends(link);
        node.greeted.remove(&link);
        // Its place in the hub is given back with it.
        node.sessions.remove(&link);
    }

    /// What has arrived from a client, as far as its session reads now.
    pub(crate) fn at_server(&mut self, link: Link) -> Check {
        loop {
            let full = self.network.untaken(link) > WINDOW;
            let Some(node) = self.server(link) else { return Ok(()) };
            match node.sessions.get(&link) {
                // The task writes, or waits, so it does not read.
                Some(Serving::Opening(_) | Serving::Behind { .. } | Serving::Reads { .. }) => return Ok(()),
                Some(_) if full => return Ok(()),
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
    }

    fn client_frame(&mut self, link: Link, frame: &Bytes) -> Check {
        let Ok(text) = std::str::from_utf8(frame) else { return broken("a client sends what is not UTF-8") };
        let instant = self.clock.instant();
        let Some(host) = self.network.endpoint(link).map(|endpoint| self.host_of(endpoint)) else { return Ok(()) };
        let live = |node: &Node| matches!(node.sessions.get(&link), Some(Serving::Live(_)));
        if self.node_mut(host).is_some_and(|node| live(node)) {
            self.is_heard(link, host, frame);
        }
        let Some(node) = self.node_mut(host) else { return Ok(()) };
        match node.sessions.get_mut(&link) {
            Some(Serving::Greeting { .. }) => self.hello(link, text),
            Some(Serving::Live(live)) => {
                let mut out = Vec::new();
                let result = live.frame(&node.gateway, text, instant, &mut out);
                let refused = |frame: &Bytes| frame.starts_with(br#"{"refused""#);
                let spent = (result.is_ok() && !out.iter().any(refused)).then(|| parse(text).ok()).flatten();
                self.spends(link, host, spent)?;
                self.send_all(link, out);
                if let Err(problem) = result {
                    self.end(link, Some(problem));
                }
                self.append(host);
                self.round_soon(host);
                Ok(())
            }
            Some(Serving::Opening(_) | Serving::Behind { .. } | Serving::Reads { .. }) | None => Ok(()),
        }
    }

    /// A node has taken a command: its device had it to give.
    fn spends(&mut self, link: Link, host: usize, frame: Option<ClientFrame>) -> Check {
        let (now, device) = (self.now(), self.network.device(link));
        let (Some(ClientFrame::Cmd(cmd)), Some(device)) = (frame, device) else { return Ok(()) };
        let Some(node) = self.node_mut(host) else { return Ok(()) };
        let budget = node.budgets.entry(device).or_insert_with(|| Budget::new(RATE.1, now));
        budget.spends(cost(&cmd.change), RATE, now).map_err(|Broken(what)| Broken(format!("device {device}: {what}")))
    }

    fn hello(&mut self, link: Link, text: &str) -> Check {
        let asked = match parse(text) {
            Ok(ClientFrame::Hello(hello)) => Asked::of(hello),
            Ok(_) => Err(Code::HelloFirst.problem()),
            Err(problem) => Err(problem),
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(problem) => {
                self.end(link, Some(problem));
                return Ok(());
            }
        };
        let since = self.now();
        let Some(node) = self.server(link) else { return Ok(()) };
        let arrival = node.hub.arrival();
        node.hellos += 1;
        node.greeted.insert(link, node.hellos);
        if node.gateway.is_behind(asked.seen) {
            node.sessions.insert(link, Serving::Behind { asked: Box::new(asked), arrival, since });
            return Ok(());
        }
        if let Some(after) = self.slow_reads.takes() {
            let Some(host) = self.network.endpoint(link).map(|endpoint| self.host_of(endpoint)) else { return Ok(()) };
            let asked = Box::new(asked);
            self.node_mut(host).map(|node| node.sessions.insert(link, Serving::Reads { asked, arrival }));
            self.node_soon(host, after, NodeEvent::Begin(link));
            return Ok(());
        }
        self.begin(link, &asked, arrival)
    }

    /// A session begins whose client has seen nothing that the view has not.
    fn begin(&mut self, link: Link, asked: &Asked, arrival: Arrival) -> Check {
        let (instant, newer) = (self.clock.instant(), self.newer(link));
        let Some(node) = self.server(link) else { return Ok(()) };
        match Opening::begin(&node.gateway, asked, arrival, instant) {
            Ok((welcome, opening)) => {
                holds(newer.is_none(), || {
                    format!("session {link} takes the place of session {newer:?}, whose hello came later")
                })?;
                node.sessions.insert(link, Serving::Opening(Box::new(opening)));
                self.send_frame(link, &ServerFrame::Welcome(welcome));
                self.next_step(link);
            }
            Err(problem) => self.end(link, Some(problem)),
        }
        Ok(())
    }

    /// What a hello asks for was read, however long that took.
    pub(super) fn has_read(&mut self, link: Link) -> Check {
        let Some(node) = self.server(link) else { return Ok(()) };
        let Some(Serving::Reads { .. }) = node.sessions.get(&link) else { return Ok(()) };
        match node.sessions.remove(&link) {
            Some(Serving::Reads { asked, arrival }) => self.begin(link, &asked, arrival),
            _ => Ok(()),
        }
    }

    /// The session that has the place of this one's device, if its hello came later: it keeps it.
    fn newer(&mut self, link: Link) -> Option<Link> {
        let device = self.network.device(link);
        let node = self.server(link)?;
        let came = node.greeted.get(&link).copied();
        let has_place = |serving: &Serving| match serving {
            Serving::Opening(opening) => opening.session().over().is_none(),
            Serving::Live(live) => live.session().over().is_none(),
            Serving::Greeting { .. } | Serving::Behind { .. } | Serving::Reads { .. } => false,
        };
        let later = |link: &Link| node.greeted.get(link).copied() > came;
        let sessions = node.sessions.iter().filter(|(_, serving)| has_place(serving)).map(|(link, _)| *link);
        let newer: Vec<Link> = sessions.filter(later).collect();
        newer.into_iter().find(|newer| self.network.device(*newer) == device)
    }

    fn next_step(&mut self, link: Link) {
        let after = self.random.between(0, 12);
        if let Some(endpoint) = self.network.endpoint(link) {
            self.node_soon(self.host_of(endpoint), after, NodeEvent::Step(link));
        }
    }

    /// An opening session sends its next frame.
    pub(super) fn step(&mut self, link: Link) -> Check {
        if self.network.untaken(link) > WINDOW {
            // It goes on when the client has taken some.
            return Ok(());
        }
        let (instant, pauses) = (self.clock.instant(), self.random.chance(500));
        let Some(node) = self.server(link) else { return Ok(()) };
        let Some(Serving::Opening(opening)) = node.sessions.get_mut(&link) else { return Ok(()) };
        let step = opening.step(&node.gateway, instant);
        // A part that is sent ends here, or it goes on with the same look.
        let step = match step {
            Ok(Step::More(frame)) if pauses => opening.pause(&node.gateway).map(|()| Step::More(frame)),
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
        let now = self.now();
        if let Some(node) = self.server(link) {
            node.typing.hears(link, now);
            node.sessions.insert(link, Serving::Live(live));
        }
        self.send_frame(link, frame);
        self.pump(link);
        self.after(0, Event::ToServer(link));
    }

    /// A client has taken enough for its session to go on.
    pub(crate) fn resume(&mut self, link: Link) {
        let Some(node) = self.server(link) else { return };
        if let Some(Serving::Opening(_)) = node.sessions.get(&link) {
            self.next_step(link);
        }
        self.pump(link);
        self.after(0, Event::ToServer(link));
    }

    pub(crate) const fn window() -> usize {
        WINDOW
    }
}
