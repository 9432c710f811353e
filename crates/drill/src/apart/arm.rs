//! One arm's measurement: servers, people, two loads, and what each part of it used meanwhile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::parts::{self, Traffic, Usage};
use super::spread::Spread;
use super::wire::{self, Echo, Wire};
use super::{Arm, Figures, Sizes, people};
use crate::error::{Error, Naming as _};
use crate::process::Process;
use crate::world::net::{self, Network, WORLD};
use crate::world::node::{Node, Seat};
use crate::world::{NAMES, PATIENCE, Settings, World, disk, relay};

/// What every node is set to beside its place: one machine plays everybody, and nobody waits for password hashes.
pub const NODES: &[(&str, &str)] = &[
    ("LIMITS__COMMANDS_PER_SECOND", "1000000000"),
    ("LIMITS__COMMANDS_BURST", "1000000000"),
    ("LIMITS__HELLOS_PER_SECOND", "1000000000"),
    ("LIMITS__HELLOS_BURST", "1000000000"),
    ("LIMITS__SESSIONS_PER_ADDRESS", "20000"),
    ("ACCOUNTS__PASSWORD_MEMORY_KIB", "8"),
    ("ACCOUNTS__PASSWORD_PASSES", "1"),
];
/// The thread of a node that keeps its log, where it keeps one itself.
const LOG_THREAD: &str = "ieum-log";
/// How long a node may take to end.
const END: Duration = Duration::from_secs(30);
/// How long the people may take until they are connected, and until one load is over.
const CONNECTED: Duration = Duration::from_secs(120);
const MEASURED: Duration = Duration::from_secs(180);
/// The data center in which etcd leads, so that all rounds are alike.
const LEADER: &str = "a";

/// Where and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which.
    pub arm: Arm,
    /// How much.
    pub sizes: Sizes,
    /// The server's binary.
    pub ieum: PathBuf,
    /// An empty folder.
    pub folder: PathBuf,
}

/// What a part of the cell used while a load was measured.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Used {
    /// From begin to end; memory is what it was at the end.
    pub used: Usage,
    /// What resident memory grew by from begin to end; bytes.
    pub grown: i64,
}

/// One load's measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// What the people saw.
    pub people: Figures,
    /// What each part used. `log` is etcd, or the thread of the one node that keeps the log; `nodes` is the rest of the nodes.
    pub parts: BTreeMap<String, Used>,
    /// Seconds in which a processor of the machine did something.
    pub busy_s: f64,
    /// Bytes that went to the disk, as its driver counts them; none where the kernel does not.
    pub disk_bytes: Option<u64>,
    /// What data center a sent to the others and got from them.
    pub between: Option<Traffic>,
    /// Microseconds of a datagram between two data centers, there and back, meanwhile.
    pub round_trip_us: Option<Spread>,
}

/// What came of an arm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The network before anybody used it.
    pub wire: Option<Wire>,
    /// The calm load.
    pub calm: Phase,
    /// The steady load.
    pub steady: Phase,
    /// The full load.
    pub full: Phase,
}

/// Measures one arm. The calling process must be the first of its own namespaces.
pub fn measure(options: &Options) -> Result<Measured, Error> {
    let mut servers = Servers::start(options)?;
    let wire = servers.inside().map(|inside| wire::look([NAMES[0], NAMES[1]], inside)).transpose()?;
    let mut crowd = Crowd::gather(options)?;
    let Sizes { calm, steady, window, seconds, .. } = options.sizes;
    let calm = crowd.measure(&servers, options, &format!("steady {calm} {seconds}"))?;
    let steady = crowd.measure(&servers, options, &format!("steady {steady} {seconds}"))?;
    let full = crowd.measure(&servers, options, &format!("full {window} {seconds}"))?;
    drop(crowd);
    servers.stop()?;
    Ok(Measured { wire, calm, steady, full })
}

/// One node, or a cell.
enum Servers {
    Single(Box<Node>),
    Cell(Box<World>),
}

impl Servers {
    fn start(options: &Options) -> Result<Self, Error> {
        if options.arm == Arm::Single {
            return Self::single(options);
        }
        let delay = options.arm.relay();
        let world = World::start(Settings {
            ieum: options.ieum.clone(),
            folder: options.folder.clone(),
            disks: disk::Kind::Folder,
            clocks: false,
            relay: delay.is_some(),
            nodes: NODES,
            nodes_each: 1,
        })?;
        world.move_leader(LEADER, true)?;
        if let (Some(relay), Some(each_way)) = (&world.relay, delay) {
            relay.delay(each_way);
        }
        Ok(Self::Cell(Box::new(world)))
    }

    fn single(options: &Options) -> Result<Self, Error> {
        let [name, ..] = NAMES;
        net::build(&[name], &[Network::Users])?;
        let seat = Seat { dc: name, at: 0, of: 1, nth: 0 };
        let mut node = Node::alone(1, seat, &options.ieum, &options.folder, options.folder.join("node"));
        NODES.iter().for_each(|(setting, value)| node.set(setting, value));
        node.spawn(false)?;
        node.wait_until_it_serves(PATIENCE)?;
        Ok(Self::Single(Box::new(node)))
    }

    /// A process in the first data center, if there are several.
    fn inside(&self) -> Option<u32> {
        match self {
            Self::Single(_) => None,
            Self::Cell(world) => world.dcs.first().and_then(|dc| dc.nodes.first()?.process.as_ref()).map(Process::id),
        }
    }

    fn nodes(&self) -> Vec<&Node> {
        match self {
            Self::Single(node) => vec![node.as_ref()],
            Self::Cell(world) => world.dcs.iter().flat_map(|dc| &dc.nodes).collect(),
        }
    }

    /// What each part has used so far.
    fn used(&self) -> Result<BTreeMap<String, Usage>, Error> {
        let (mut nodes, mut log) = (Usage::default(), Usage::default());
        for id in self.nodes().into_iter().filter_map(|node| node.process.as_ref()).map(Process::id) {
            let own = parts::threads(id, LOG_THREAD)?;
            log = log.plus(own);
            nodes = nodes.plus(parts::process(id)?.without(own));
        }
        let mut all = BTreeMap::new();
        if let Self::Cell(world) = self {
            for dc in &world.dcs {
                let Some(process) = &dc.member.process else { continue };
                let used = parts::process(process.id())?;
                log = log.plus(used);
                all.insert(format!("etcd-{}", dc.name), used);
            }
        }
        all.insert("nodes".to_owned(), nodes);
        all.insert("log".to_owned(), log);
        all.insert("relay".to_owned(), parts::threads(std::process::id(), relay::THREADS)?);
        Ok(all)
    }

    fn stop(&mut self) -> Result<(), Error> {
        match self {
            Self::Single(node) => node.stop(END),
            Self::Cell(world) => world.stop(),
        }
    }
}

/// The people's process.
struct Crowd {
    process: Process,
}

impl Crowd {
    fn gather(options: &Options) -> Result<Self, Error> {
        let program = std::env::current_exe().naming(|| "finding this program".to_owned())?;
        let nodes = if options.arm == Arm::Single { 1 } else { NAMES.len() };
        let with = net::process_within(WORLD, &program, &options.folder)
            .stderr(options.folder.join("people.log"))
            .args(["--pairs", &options.sizes.pairs.to_string()])
            .hold_stdin();
        let with = (0..nodes).fold(with, |with, at| with.arg("--people").arg(format!("ws://{}", Node::address(at, 0))));
        let mut process = Process::spawn(&with)?;
        process.wait_for_line(|line| line == "ready", CONNECTED)?;
        Ok(Self { process })
    }

    fn measure(&mut self, servers: &Servers, options: &Options, load: &str) -> Result<Phase, Error> {
        let echo = servers.inside().map(|_| Echo::beside_a_load([NAMES[0], NAMES[1]])).transpose()?;
        self.process.write_line(load)?;
        self.process.wait_for_line(|line| line == "begin", MEASURED)?;
        let before = self.look(servers, options)?;
        // Of the time before nothing counts.
        echo.as_ref().map(Echo::take);
        self.process.wait_for_line(|line| line == "end", MEASURED)?;
        let after = self.look(servers, options)?;
        let round_trip_us = echo.as_ref().map(Echo::take);
        let settled = self.process.wait_for_line(|line| line.starts_with(people::SETTLED), MEASURED)?;
        let figures = settled.strip_prefix(people::SETTLED).unwrap_or_default();
        let people = serde_json::from_str(figures).naming(|| "reading the people's figures".to_owned())?;
        Ok(after.since(&before, people, round_trip_us))
    }

    /// What everything has used so far.
    fn look(&self, servers: &Servers, options: &Options) -> Result<Look, Error> {
        let mut parts = servers.used()?;
        parts.insert("people".to_owned(), parts::process(self.process.id())?);
        let between = servers.inside().map(|inside| parts::traffic(inside, Network::Between.name())).transpose()?;
        Ok(Look { parts, busy_s: parts::busy()?, disk: parts::disk(&options.folder), between })
    }
}

/// Counters, all of which only grow.
struct Look {
    parts: BTreeMap<String, Usage>,
    busy_s: f64,
    disk: Option<u64>,
    between: Option<Traffic>,
}

impl Look {
    fn since(self, before: &Self, people: Figures, round_trip_us: Option<Spread>) -> Phase {
        let parts = self.parts.into_iter().map(|(name, after)| {
            let before = before.parts.get(&name).copied().unwrap_or_default();
            (
                name,
                Used {
                    used: after.without(before),
                    grown: after.resident.cast_signed() - before.resident.cast_signed(),
                },
            )
        });
        let difference = |after: u64, before: u64| after.saturating_sub(before);
        Phase {
            people,
            parts: parts.collect(),
            busy_s: self.busy_s - before.busy_s,
            disk_bytes: self.disk.zip(before.disk).map(|(after, before)| difference(after, before)),
            between: self.between.zip(before.between).map(|(after, before)| Traffic {
                bytes: difference(after.bytes, before.bytes),
                packets: difference(after.packets, before.packets),
            }),
            round_trip_us,
        }
    }
}
