//! Brings everything together: one event after the other.

mod circle;
mod devices;
mod differing;
mod everywhere;
mod halted;
mod losses;
mod operator;
mod operators;
mod running;
mod serving;
mod shortage;
mod starting;
mod typing;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
pub(crate) use circle::MOST_KEPT;
use ieum_client::machine::Line;
use ieum_core::apply::Author;
use ieum_core::commands::operate::AddNode;
use ieum_core::ids::{Millis, NodeId};
use ieum_core::query::typing::Typing;
use ieum_gateway::Cell as _;
use ieum_node::clock;
use ieum_node::peers::Report;
use ieum_node::reseed::Plan;
pub(crate) use operators::Operators;
use serving::SlowReads;
pub(crate) use typing::{Chatter, Telling};

pub(crate) use self::losses::Losses;
use self::losses::{Loss, Mends};
use self::operator::Reseed;
use self::shortage::Shortage;
use crate::Options;
use crate::clock::Clock;
use crate::device::Device;
use crate::failure::{Check, broken};
use crate::faults::{Failing, Stage, Step, Views};
use crate::history::History;
use crate::host::{Host, dc_name};
use crate::log::{Era, Log};
use crate::model::Model;
use crate::network::{Link, Network};
use crate::node::CELL;
use crate::random::Random;
use crate::trace::Trace;
use crate::wan::Wan;
use crate::workload::{Mood, Request, Somebody};

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// In a node's life of this number, on the host with this index.
    Node { host: usize, life: u64, event: NodeEvent },
    /// A node's process starts.
    NodeStarts(usize),
    /// A request to append arrives at the log.
    Append { host: usize, life: u64, attempt: u64, era: Era, author: Author, bytes: Bytes, answered: Option<u64> },
    /// Another node's report arrives, on a connection that the host's process of this life has made.
    Told { host: usize, life: u64, report: Box<Report> },
    /// Another node's word of who types there arrives.
    Typing { host: usize, typing: Vec<Typing> },
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
    /// A device's disk takes something again.
    HasRoom(usize),
    /// A way to a node works again.
    Reachable(usize),
    /// A data center has power again.
    Lit(usize),
    /// A data center is cut off no more.
    Joined(usize),
    /// Somebody does something.
    Act,
    /// Somebody types.
    Types,
    /// The clock of a node that is alone jumps, or is set right.
    ClockJumps,
    /// The log begins to run out of room.
    RunsShort,
    /// Somebody writes a long text.
    Writes,
    /// Something breaks.
    Fault,
    /// Something breaks in a node, in a trial of views.
    Fails { host: usize, trial: u64, failing: Failing },
    /// A trial of views that is staged goes on.
    Staged(Step, Box<Stage>),
    /// It is looked whether everything keeps its bounds.
    Look,
    /// People rest.
    Rest,
    /// The log is lost once more, or something of the kind begins.
    Loses,
    /// It is now.
    IsLost(Loss),
    /// An operator is about to make things worse, or mends them.
    Mends(Mends),
    /// An operator looks after the cell.
    OperatorLooks,
    /// An operator looks what there is to do.
    Operates,
    /// An operator has the log begin anew, or looks whether it can.
    Reseed(Reseed),
    /// What that comes to arrives at the log.
    Begins(Reseed, Box<Plan>),
}

/// What happens in a node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NodeEvent {
    /// It looks whether it can go on with what its disk holds.
    Open,
    /// The copy of another one's view is here.
    Copied,
    /// It begins a life in the log.
    Registers,
    /// It is time for a snapshot.
    Snapshot,
    /// A second has passed.
    Second,
    /// A member of the log says how much of its room is in use.
    Measures,
    /// It is time to say where it stands.
    Beat,
    /// The gateway looks at its sessions.
    Watch,
    /// An append is answered.
    Answered { attempt: u64, well: bool },
    /// The append is tried again.
    Retry,
    /// The tail shows what is there.
    Shown,
    /// What was applied is delivered.
    Deliver,
    /// What was said of who types is to be told.
    Signals,
    /// Who may hear it was looked up.
    TellSignals,
    /// What a hello asks for was read.
    Begin(Link),
    /// An opening session goes on.
    Step(Link),
    /// The process ends in good order.
    Stop,
}

/// After how long a node is started again that has ended.
const AGAIN: u64 = 2_000;

/// How many people there are.
const PEOPLE: u64 = 24;

/// A cell, its clients and everything between them.
pub(crate) struct World {
    pub(crate) clock: Clock<Event>,
    /// Delays and chances of what lies between the parts.
    pub(crate) random: Random,
    /// What people want.
    pub(crate) wishes: Random,
    /// What each fault draws from, and the one that happens.
    pub(crate) troubles: Random,
    pub(crate) trouble: Random,
    /// Faults that are left out, by number.
    pub(crate) without: BTreeSet<u64>,
    pub(crate) trace: Trace,
    pub(crate) network: Network,
    pub(crate) log: Log,
    pub(crate) wan: Wan,
    /// Those on which nodes run, by index.
    pub(crate) hosts: Vec<Host>,
    pub(crate) lives: u64,
    pub(crate) devices: Vec<Device>,
    pub(crate) history: History,
    pub(crate) model: Model,
    /// What it was whenever the log began anew before its end: what was on its way then is of these.
    pub(crate) befores: Vec<Model>,
    /// Which endpoints people do not reach, by index.
    pub(crate) unreachable: BTreeSet<usize>,
    /// For how long the next hellos of a device are held up on their way, in a scenario.
    pub(crate) held_up: BTreeMap<usize, VecDeque<u64>>,
    /// The next connection of a device to a host comes to nothing behind so many frames to the device, in a scenario.
    pub(crate) fading: BTreeMap<(usize, usize), u64>,
    /// Things break.
    pub(crate) troubled: bool,
    /// The log is lost, and no generation has begun since.
    pub(crate) lost: bool,
    pub(crate) commands: u64,
    pub(crate) faults: u64,
    pub(crate) said: u64,
    pub(crate) people: Vec<Somebody>,
    pub(crate) mood: Mood,
    /// What is asked for without a stream.
    pub(crate) requests: Vec<Request>,
    /// People act.
    pub(crate) acting: bool,
    /// Who types.
    pub(crate) chatter: Chatter,
    /// What operators do of themselves.
    pub(crate) operators: Operators,
    /// Whether views are tried.
    pub(crate) views: Views,
    /// Whether a node's reads may take long.
    pub(crate) slow_reads: SlowReads,
    /// How the clock of a node that is alone jumps.
    jumps: Random,
    /// Since when everything works, if it does.
    pub(crate) healed: Option<u64>,
    /// How the log is lost again and again.
    pub(crate) losses: Losses,
    /// How the log runs out of room.
    pub(crate) shortage: Shortage,
    /// Whose names are asked for.
    pub(crate) names: Random,
    /// Somebody is in as many rooms as others may bring one into.
    everywhere: bool,
}

/// What a wall clock shows when a life begins: 2026-01-01.
const BEGIN: Millis = 1_767_225_600_000;

const DAY: Millis = 24 * 60 * 60 * 1000;

impl World {
    /// A cell without anybody in it.
    pub(crate) fn new(options: &Options) -> Self {
        Self::with(options, Operators::of(options.seed))
    }

    /// The same of nodes that know one level less, who are brought to the next one.
    pub(crate) fn at_the_level_before(options: &Options) -> Self {
        Self::with(options, Operators::who_upgrade(options.seed))
    }

    fn with(options: &Options, operators: Operators) -> Self {
        let mut seeds = Random::new(options.seed);
        let mut stream = || Random::new(seeds.next());
        let (random, mut wishes, troubles, trouble) = (stream(), stream(), stream(), stream());
        let mut hosts: Vec<Host> = (0..options.nodes.max(1)).map(Host::new).collect();
        hosts.iter_mut().for_each(|host| host.installed = operators.first_build());
        let views = Views::of(options.seed, hosts.len());
        views.builds(options.seed, &mut hosts);
        let shortage = Shortage::of(options.seed, hosts.len());
        Self {
            mood: Mood::of(&mut wishes),
            clock: Clock::new(),
            random,
            wishes,
            troubles,
            trouble,
            without: options.without.clone(),
            trace: Trace::new(options.show),
            network: Network::default(),
            log: Log::new(operators.move_nodes, shortage.room()),
            wan: Wan::default(),
            hosts,
            lives: 0,
            devices: Vec::new(),
            history: History::of(operators.upgrade),
            operators,
            model: Model::default(),
            befores: Vec::new(),
            unreachable: BTreeSet::new(),
            held_up: BTreeMap::new(),
            fading: BTreeMap::new(),
            troubled: false,
            lost: false,
            commands: 0,
            faults: 0,
            said: 0,
            people: Vec::new(),
            requests: Vec::new(),
            acting: false,
            chatter: Chatter::of(options.seed),
            views,
            slow_reads: SlowReads::of(options.seed, options.nodes),
            jumps: Random::new(options.seed.rotate_left(32) ^ 0x6a75_6d70),
            healed: None,
            losses: Losses::of(options.seed),
            shortage,
            names: Random::new(options.seed.rotate_left(32) ^ 0x6e61_6d65),
            everywhere: everywhere::somebody_is(options.seed),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// What the wall clock of a host shows.
    pub(crate) fn wall_clock(&self, host: usize) -> Millis {
        let skew = self.hosts.get(host).map_or(0, |host| host.skew);
        self.true_time().saturating_add_signed(skew)
    }

    /// What a right wall clock shows.
    pub(crate) fn true_time(&self) -> Millis {
        BEGIN + self.now()
    }

    /// What a batch of a host's is stamped with.
    pub(crate) fn stamp(&mut self, index: usize) -> Millis {
        let (now, wall) = (self.now(), self.wall_clock(index));
        let Some(host) = self.hosts.get_mut(index) else { return wall };
        let (clock, node) = (&mut host.clock, &host.node);
        // As production has it: where the view cannot be read, it is careful.
        let alone = || node.as_ref().is_none_or(|node| clock::alone(&node.cell.view()).unwrap_or(true));
        clock.get_or_insert_with(|| clock::Clock::new(wall, now)).stamp(wall, now, alone).at
    }

    /// The clock of a node that is alone jumps by days. After a while somebody sets it right.
    fn clock_jumps(&mut self) -> Check {
        let is_off = self.hosts.iter().any(|host| host.skew.unsigned_abs() >= DAY);
        let ahead = i64::try_from(self.jumps.between(2 * DAY, 30 * DAY)).unwrap_or(0);
        let skew = if self.jumps.chance(700) { ahead } else { -ahead };
        let (short, long) = (self.jumps.between(3_000, 40_000), self.jumps.between(30_000, 200_000));
        let jumps = self.troubled && !is_off;
        if let Some(host) = self.hosts.first_mut().filter(|_| jumps || is_off) {
            if jumps {
                host.skew = skew;
            } else {
                host.clock_is_set_right();
            }
            self.note(format_args!("the clock is off by {} ms", if jumps { skew } else { 0 }));
        }
        if self.troubled || jumps {
            self.after(if jumps { short } else { long }, Event::ClockJumps);
        }
        Ok(())
    }

    /// In which data center a host is.
    pub(crate) fn dc_of(&self, host: usize) -> usize {
        self.hosts.get(host).map_or(0, Host::dc)
    }

    pub(crate) fn number_of(&self, host: usize) -> NodeId {
        self.hosts.get(host).map_or(0, Host::number)
    }

    /// How many endpoints clients know: one of each node, and two of one that is alone.
    pub(crate) fn endpoints(&self) -> usize {
        self.hosts.len().max(2)
    }

    /// The host behind an endpoint.
    pub(crate) fn host_of(&self, endpoint: usize) -> usize {
        endpoint % self.hosts.len()
    }

    /// Lets `event` happen in `ms` milliseconds.
    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.clock.set(self.now() + ms, event);
    }

    /// Founds the cell and registers everybody.
    pub(crate) fn found(&mut self) -> Check {
        self.node_starts(0)?;
        self.run_until(1_000)?;
        self.operate(self.mood.settings().into())?;
        for host in 1..self.hosts.len() {
            let dc = dc_name(self.dc_of(host));
            self.operate(AddNode { node: self.number_of(host), dc, level: self.model.level(), cell: CELL }.into())?;
            self.node_starts(host)?;
        }
        self.after(differing::LOOKS_EVERY, Event::OperatorLooks);
        for person in 0..PEOPLE {
            self.register(person)?;
        }
        if self.everywhere {
            self.somebody_is_everywhere()?;
        }
        if self.operators.upgrade { self.old_clients_make_rooms() } else { Ok(()) }
    }

    /// Runs all that happens until `until`.
    pub(crate) fn run_until(&mut self, until: u64) -> Check {
        while self.now() < until {
            let Some(event) = self.clock.next() else { return broken("nothing happens any more") };
            self.happen(event)?;
        }
        Ok(())
    }

    /// The host on which something happens in a process.
    fn place(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Node { host, .. } | Event::Told { host, .. } | Event::Typing { host, .. } => Some(*host),
            Event::ToServer(link) => self.network.endpoint(*link).map(|endpoint| self.host_of(endpoint)),
            _ => None,
        }
    }

    fn happen(&mut self, event: Event) -> Check {
        if let Some(host) = self.place(&event).and_then(|host| self.hosts.get(host)) {
            if host.frozen_until > self.now() {
                // It is seen when the process goes on.
                self.clock.set(host.frozen_until, event);
                return Ok(());
            }
            if let Some(node) = &host.node {
                node.cell.pass(self.clock.now());
            }
        }
        match event {
            Event::Node { host, life, event } => {
                if self.hosts.get(host).is_some_and(|of| of.lives == life && of.circle.is_some()) {
                    return self.node_event(host, event);
                }
                Ok(())
            }
            Event::NodeStarts(host) => self.node_starts(host),
            Event::Append { host, life, attempt, era, author, bytes, answered } => {
                self.append_arrives((host, life, attempt), (era, author), &bytes, answered)
            }
            Event::Told { host, life, report } => {
                self.told(host, life, *report);
                Ok(())
            }
            Event::Typing { host, typing } => self.hears(host, &typing),
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
            Event::HasRoom(device) => self.disk_has_room(device),
            Event::Reachable(endpoint) => {
                self.unreachable.remove(&endpoint);
                Ok(())
            }
            Event::Lit(dc) => self.lit(dc),
            Event::Joined(dc) => self.joined(dc),
            Event::Act => self.act(),
            Event::Types => self.somebody_types(),
            Event::ClockJumps => self.clock_jumps(),
            Event::RunsShort => self.runs_short(),
            Event::Writes => self.writes(),
            Event::Fault => self.fault(),
            Event::Fails { host, trial, failing } => self.fails_now(host, trial, failing),
            Event::Staged(step, stage) => self.goes_on_stage(step, *stage),
            Event::Look => self.look_around(),
            Event::Rest => {
                self.acting = false;
                Ok(())
            }
            Event::Loses => self.something_is_lost(),
            Event::IsLost(loss) => self.is_lost(loss),
            Event::Mends(mends) => self.mends(mends),
            Event::OperatorLooks => self.operator_looks(),
            Event::Operates => self.operates(),
            Event::Reseed(asked) => self.reseed(asked),
            Event::Begins(asked, plan) => self.begins(asked, &plan),
        }
    }

    /// Notes what happened.
    pub(crate) fn note(&mut self, text: std::fmt::Arguments<'_>) {
        self.trace.line(self.clock.now(), text);
    }
}
