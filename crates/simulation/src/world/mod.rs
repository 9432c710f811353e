//! Brings everything together: one event after the other.

mod devices;
mod serving;

use ieum_client::machine::Line;
use ieum_core::commands::operate::Configure;
use ieum_core::ids::Millis;
use ieum_store::Memory;

use crate::clock::Clock;
use crate::device::Device;
use crate::failure::{Check, broken};
use crate::history::History;
use crate::log::Log;
use crate::network::{Link, Network};
use crate::node::Node;
use crate::random::Random;
use crate::trace::Trace;

/// What happens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// In the node's life of this number.
    Node(u64, NodeEvent),
    /// The node's process starts.
    NodeStarts,
    /// A frame arrives at the node.
    ToServer(Link),
    /// A frame arrives at a device.
    ToClient(Link),
    /// An attempt to connect comes to something, for the process and connection of these numbers.
    Dialed { device: usize, process: u64, line: Line, endpoint: usize, reached: bool },
    /// A device's timer fires.
    Timer { device: usize, process: u64 },
    /// A device's process starts.
    DeviceStarts(usize),
    /// A device's app takes deliveries again.
    Listens(usize),
    /// A device has a network again.
    Online(usize),
    /// A way to the node works again.
    Reachable(usize),
    /// Somebody does something.
    Act,
    /// Something breaks.
    Fault,
}

/// What happens in the node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NodeEvent {
    /// A second has passed.
    Second,
    /// The gateway looks at its sessions.
    Watch,
    /// The append in flight becomes durable.
    Placed,
    /// The append in flight is answered.
    Answered { well: bool },
    /// The append is tried again.
    Retry,
    /// The tail shows what is there.
    Shown,
    /// What was applied is delivered.
    Deliver,
    /// An opening session goes on.
    Step(Link),
    /// The process ends in good order.
    Stop,
}

/// How many people there are.
const PEOPLE: u64 = 24;

/// A cell, its clients and everything between them.
pub(crate) struct World {
    pub(crate) clock: Clock<Event>,
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) network: Network,
    pub(crate) log: Log,
    /// The node's disk.
    pub(crate) disk: Memory,
    pub(crate) node: Option<Node>,
    pub(crate) lives: u64,
    pub(crate) devices: Vec<Device>,
    pub(crate) history: History,
    /// Which ways to the node are cut.
    pub(crate) unreachable: [bool; 2],
    /// How far the node's wall clock is off, in milliseconds.
    pub(crate) skew: i64,
    /// People act and things break.
    pub(crate) troubled: bool,
    pub(crate) commands: u64,
    pub(crate) faults: u64,
    pub(crate) said: u64,
}

/// What a wall clock shows when a life begins: 2026-01-01.
const BEGIN: Millis = 1_767_225_600_000;

impl World {
    /// A cell without anybody in it.
    pub(crate) fn new(seed: u64, shown: bool) -> Self {
        Self {
            clock: Clock::new(),
            random: Random::new(seed),
            trace: Trace::new(shown),
            network: Network::default(),
            log: Log::new(),
            disk: Memory::new(),
            node: None,
            lives: 0,
            devices: Vec::new(),
            history: History::default(),
            unreachable: [false; 2],
            skew: 0,
            troubled: false,
            commands: 0,
            faults: 0,
            said: 0,
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    pub(crate) fn wall_clock(&self) -> Millis {
        (BEGIN + self.now()).saturating_add_signed(self.skew)
    }

    /// Lets `event` happen in `ms` milliseconds.
    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.clock.set(self.now() + ms, event);
    }

    /// Founds the cell and registers everybody.
    pub(crate) fn found(&mut self) -> Check {
        self.node_starts()?;
        self.run_until(1_000)?;
        // Short, so that devices come back after it.
        let horizon = Configure { edit_limit: 15 * 60_000, delete_limit: 5 * 60_000, horizon: 8 * 60_000 };
        self.operate(horizon.into())?;
        for person in 0..PEOPLE {
            self.register(person)?;
        }
        Ok(())
    }

    /// Runs all that happens until `until`.
    pub(crate) fn run_until(&mut self, until: u64) -> Check {
        while self.now() < until {
            let Some(event) = self.clock.next() else { return broken("nothing happens any more") };
            if let Some(node) = &self.node {
                node.cell.pass(self.clock.now());
            }
            self.happen(event)?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Node(life, event) if self.node.as_ref().is_some_and(|node| node.life == life) => {
                self.node_event(event)
            }
            Event::Node(..) => Ok(()),
            Event::NodeStarts => self.node_starts(),
            Event::ToServer(link) => self.at_server(link),
            Event::ToClient(link) => self.at_client(link),
            Event::Dialed { device, process, line, endpoint, reached } => {
                self.dialed(device, (process, line), endpoint, reached)
            }
            Event::Timer { device, process } => self.timer(device, process),
            Event::DeviceStarts(device) => self.device_starts(device),
            Event::Listens(device) => self.listens(device, true),
            Event::Online(device) => {
                if let Some(device) = self.devices.get_mut(device) {
                    device.offline = false;
                }
                Ok(())
            }
            Event::Reachable(endpoint) => {
                if let Some(unreachable) = self.unreachable.get_mut(endpoint) {
                    *unreachable = false;
                }
                Ok(())
            }
            Event::Act => self.act(),
            Event::Fault => self.fault(),
        }
    }

    /// Notes what happened.
    pub(crate) fn note(&mut self, text: std::fmt::Arguments<'_>) {
        self.trace.line(self.clock.now(), text);
    }
}
