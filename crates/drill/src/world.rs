//! Three data centers on this machine: in each a member of etcd and a node or more, in a network namespace of its own, all of them real processes.
//!
//! One run of a drill has a process that is the first of its own namespace of processes and mounts (see [`inside`]); whatever it starts ends with it.

pub mod disk;
mod elections;
pub mod inside;
pub mod member;
pub mod net;
pub mod node;
pub mod relay;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use disk::Disk;
use member::Member;
use net::Network;
use node::{Node, Seat};
use relay::Relay;

use crate::error::{Error, Naming as _};
use crate::unsynced::Metadata;

/// The data centers' names.
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// How long the cell may take to be whole.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How often something that is waited for is looked at.
const GLANCE: Duration = Duration::from_millis(50);
/// How long an operator's question to a node may take, and a change.
const QUESTION: Duration = Duration::from_secs(5);
/// How long a node may take to end by itself.
const END: Duration = Duration::from_secs(30);
/// How long a process that ended by itself stays so before it is started again: `RestartSec=` in docs/operating, of etcd's unit and ours.
const RESTART: Duration = Duration::from_secs(1);

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The binary.
    pub ieum: PathBuf,
    /// An empty folder for everything.
    pub folder: PathBuf,
    /// What the data lies on.
    pub disks: disk::Kind,
    /// Whether the nodes' clocks can be turned.
    pub clocks: bool,
    /// Whether the network between the data centers can be slowed; then it cannot be pulled out.
    pub relay: bool,
    /// What the nodes are set to beside their place, as [`Node::set`] takes it.
    pub nodes: &'static [(&'static str, &'static str)],
    /// How many nodes are in each data center.
    pub nodes_each: usize,
}

/// One data center.
#[derive(Debug)]
pub struct Dc {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its member of etcd.
    pub member: Member,
    /// Its nodes; there is one at least, and what harms "the node" harms the first.
    pub nodes: Vec<Node>,
    /// What the member's data lies on.
    pub member_disk: Disk,
    /// What the nodes' data lies on.
    pub node_disk: Disk,
}

/// The three of them.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    /// The network between the data centers, where it can be slowed.
    pub relay: Option<Relay>,
    /// The data centers, in the order of [`NAMES`].
    pub dcs: Vec<Dc>,
    /// The number of the last node that was added.
    pub last_node: u32,
    /// What an operator would want to know afterwards: what ended by itself.
    pub notes: Vec<String>,
    /// When each process that ended by itself may start again.
    ended: Vec<(String, Instant)>,
}

impl World {
    /// Makes the networks and starts everything: the members of etcd, the first node, the others.
    pub fn start(settings: Settings) -> Result<Self, Error> {
        let wires = if settings.relay { &[Network::Users][..] } else { &Network::BOTH };
        net::build(&NAMES, wires)?;
        let relay = settings.relay.then(|| Relay::start(&NAMES)).transpose()?;
        let dcs = NAMES.iter().enumerate().map(|(at, name)| Dc::new(&settings, at, name));
        let dcs = dcs.collect::<Result<Vec<_>, _>>()?;
        let last_node = u32::try_from(dcs.len() * settings.nodes_each).unwrap_or(u32::MAX);
        let mut world = Self { settings, relay, dcs, last_node, notes: Vec::new(), ended: Vec::new() };
        let cluster = world.cluster();
        world.dcs.iter_mut().try_for_each(|dc| dc.member.spawn(&cluster, "new"))?;
        let mut nodes = world.dcs.iter_mut().flat_map(|dc| dc.nodes.iter_mut());
        let Some(first) = nodes.next() else { return Ok(world) };
        first.spawn(true)?;
        first.wait_until_it_serves(PATIENCE)?;
        for node in nodes {
            first.operate(&["node", "add", &node.number.to_string(), "--dc", &node.dc], QUESTION)?;
            node.spawn(false)?;
        }
        world.until_whole()?;
        Ok(world)
    }

    /// All members, as etcd takes them.
    pub fn cluster(&self) -> String {
        let member = |dc: &Dc| format!("{}={}", dc.name, dc.member.peer_url());
        self.dcs.iter().map(member).collect::<Vec<_>>().join(",")
    }

    /// A data center by its name.
    pub fn dc(&mut self, name: &str) -> Result<&mut Dc, Error> {
        let found = self.dcs.iter_mut().find(|dc| dc.name == name);
        found.ok_or_else(|| Error::other("looking for a data center", format!("there is no {name:?}")))
    }

    /// The data centers other than this one.
    pub fn others(&self, name: &str) -> impl Iterator<Item = &Dc> {
        self.dcs.iter().filter(move |dc| dc.name != name)
    }

    /// The data center whose member of etcd leads.
    pub fn leader(&self) -> Result<String, Error> {
        let leads = |dc: &&Dc| dc.member.process.is_some() && dc.member.status().is_ok_and(|status| status.leads);
        let found = self.dcs.iter().find(leads);
        found.map(|dc| dc.name.clone()).ok_or_else(|| Error::other("looking for the leader of etcd", "there is none"))
    }

    /// Has a data center's member lead, or another one's.
    pub fn move_leader(&self, name: &str, inside: bool) -> Result<(), Error> {
        let leader = self.leader()?;
        if (leader == name) == inside {
            return Ok(());
        }
        let to = if inside { self.dcs.iter().find(|dc| dc.name == name) } else { self.others(name).next() };
        let from = self.dcs.iter().find(|dc| dc.name == leader);
        let (Some(to), Some(from)) = (to, from) else { return Ok(()) };
        let id = to.member.status()?.id;
        member::control(&[&from.member.endpoint()], &["move-leader", &id]).map(drop)
    }

    /// Lets time pass. What ends by itself meanwhile is started again, as systemd would.
    pub fn pass(&mut self, time: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.look_after()?;
            std::thread::sleep(GLANCE.min(deadline.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// Waits for something. What ends by itself meanwhile is started again.
    pub fn until(
        &mut self,
        what: &str,
        patience: Duration,
        mut come: impl FnMut(&Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        loop {
            self.look_after()?;
            match come(self) {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() >= deadline => {
                    return Err(Error::other(format!("waiting until {what}"), why.to_string()));
                }
                Err(_) => std::thread::sleep(GLANCE),
            }
        }
    }

    /// Waits until every member and every node runs and says of itself that it is ready.
    pub fn until_whole(&mut self) -> Result<(), Error> {
        self.until("the cell is whole", PATIENCE, Self::is_whole)
    }

    /// An error says what is missing.
    fn is_whole(&self) -> Result<(), Error> {
        let missing = |what: String| Error::other("looking at the cell", what);
        for dc in &self.dcs {
            let all: Vec<String> = self.dcs.iter().map(|dc| dc.member.endpoint()).collect();
            let name = &dc.name;
            // Of a frozen or stuck one the question has no answer in time.
            dc.member.status().map_err(|error| missing(format!("etcd in data center {name} of {all:?}: {error}")))?;
            for node in &dc.nodes {
                let listed = node.operate(&["node", "list"], QUESTION)?;
                let ready = |other: &Node| format!("Node {} in data center {} is ready", other.number, other.dc);
                if self.nodes().any(|other| !listed.contains(&ready(other))) {
                    return Err(missing(format!("node {} says: {listed}", node.number)));
                }
            }
        }
        Ok(())
    }

    /// Starts again what ended by itself.
    fn look_after(&mut self) -> Result<(), Error> {
        inside::still_wanted()?;
        let cluster = self.cluster();
        for dc in &mut self.dcs {
            let member = format!("etcd in data center {}", dc.name);
            if let Some(process) = &mut dc.member.process
                && let Some(status) = process.ended()?
                && Self::may_start(&mut self.ended, &mut self.notes, &member, status)
            {
                dc.member.spawn(&cluster, "existing")?;
            }
            for node in &mut dc.nodes {
                let name = format!("node {}", node.number);
                if let Some(process) = &mut node.process
                    && let Some(status) = process.ended()?
                    && Self::may_start(&mut self.ended, &mut self.notes, &name, status)
                {
                    node.spawn(false)?;
                }
            }
        }
        Ok(())
    }

    fn may_start(
        ended: &mut Vec<(String, Instant)>,
        notes: &mut Vec<String>,
        who: &str,
        how: std::process::ExitStatus,
    ) -> bool {
        let now = Instant::now();
        match ended.iter().position(|(name, _)| name == who) {
            Some(at) if ended.get(at).is_some_and(|(_, when)| now >= *when) => {
                ended.remove(at);
                true
            }
            Some(_) => false,
            None => {
                note(notes, format!("{who} ended by itself ({how}) and was started again"));
                ended.push((who.to_owned(), now + RESTART));
                false
            }
        }
    }

    /// Stops the nodes, then etcd, as an operator would.
    pub fn stop(&mut self) -> Result<(), Error> {
        // Together: each takes its time to send people away.
        self.nodes().try_for_each(Node::ask_to_stop)?;
        self.dcs.iter_mut().flat_map(|dc| &mut dc.nodes).try_for_each(|node| node.wait_for_end(END))?;
        self.dcs.iter_mut().try_for_each(|dc| dc.member.stop())
    }

    /// When etcd chose leaders, in nanoseconds of CLOCK_MONOTONIC, as its members' logs tell it.
    pub fn elections(&self) -> Vec<u64> {
        let logs: Vec<PathBuf> = self.dcs.iter().map(|dc| dc.member.log()).collect();
        elections::read(logs.iter().map(PathBuf::as_path))
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.dcs.iter().flat_map(|dc| &dc.nodes)
    }

    /// A node of this number in the place of the `nth` of a data center, with an empty folder. It does not run yet.
    pub fn replace_node(&mut self, name: &str, nth: usize, number: u32) -> Result<(), Error> {
        let settings = self.settings.clone();
        let at = self.dcs.iter().position(|dc| dc.name == name);
        let at = at.ok_or_else(|| Error::other("looking for a data center", format!("there is no {name:?}")))?;
        let dc = self.dc(name)?;
        let mut node = dc.seat(&settings, at, nth, number);
        dc.prepare(&settings, &mut node)?;
        let missing = || Error::other("looking for a node", format!("there is no {nth} in {name}"));
        *dc.nodes.get_mut(nth).ok_or_else(missing)? = node;
        Ok(())
    }
}

impl Dc {
    fn new(settings: &Settings, at: usize, name: &str) -> Result<Self, Error> {
        let folder = settings.folder.join(name);
        std::fs::create_dir_all(&folder).naming(|| format!("making {}", folder.display()))?;
        // etcd never syncs the directory of its data folder: where only that makes a name durable (Strict), a young member is gone after a power
        // cut, as seen with 3.4.23. Ours has to do with what POSIX promises.
        let member_disk = Disk::new(settings.disks, &folder, "etcd", Metadata::Ext4)?;
        let node_disk = Disk::new(settings.disks, &folder, "node", Metadata::Strict)?;
        let member = Member::new(name, at, &folder, member_disk.path().join("data"));
        let mut dc = Self { name: name.to_owned(), folder, member, nodes: Vec::new(), member_disk, node_disk };
        for nth in 0..settings.nodes_each {
            // As `make cluster` numbers them: the first of each data center first.
            let number = u32::try_from(nth * NAMES.len() + at + 1).unwrap_or(u32::MAX);
            let mut node = dc.seat(settings, at, nth, number);
            dc.prepare(settings, &mut node)?;
            dc.nodes.push(node);
        }
        Ok(dc)
    }

    /// Its `nth` node, with this number.
    fn seat(&self, settings: &Settings, at: usize, nth: usize, number: u32) -> Node {
        let data = self.node_disk.path().join(format!("node-{number}"));
        let seat = Seat { dc: &self.name, at, of: NAMES.len(), nth };
        Node::new(number, seat, &settings.ieum, &self.folder, data)
    }

    fn prepare(&self, settings: &Settings, node: &mut Node) -> Result<(), Error> {
        settings.nodes.iter().for_each(|(setting, value)| node.set(setting, value));
        if settings.disks != disk::Kind::Folder {
            // Small disks.
            node.set("NODE__RESERVE_MIB", "64");
        }
        if settings.clocks {
            self.turn_clock("+0")?;
            node.follow_clock(self.clock())?;
        }
        Ok(())
    }

    /// Its first node.
    pub fn node(&self) -> Result<&Node, Error> {
        self.nodes.first().ok_or_else(|| Error::other("looking for a node", format!("{} has none", self.name)))
    }

    /// The file that says how far the nodes' clocks are off.
    pub fn clock(&self) -> PathBuf {
        self.folder.join("clock")
    }

    /// Turns the nodes' clocks, such as by `+600`; seconds.
    pub fn turn_clock(&self, by: &str) -> Result<(), Error> {
        write_whole(&self.clock(), &format!("{by}\n"))
    }
}

/// Writes a note down; one that is there already gets a count.
fn note(notes: &mut Vec<String>, what: String) {
    let times = |note: &String| match note.strip_prefix(what.as_str()) {
        Some("") => Some(1),
        Some(rest) => rest.strip_prefix(", ")?.strip_suffix(" times")?.parse::<u64>().ok(),
        None => None,
    };
    match notes.iter_mut().find_map(|note| times(note).map(|times| (note, times))) {
        Some((note, times)) => *note = format!("{what}, {} times", times + 1),
        None => notes.push(what),
    }
}

/// A reader never sees half of it.
fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, path))
        .naming(|| format!("writing {}", path.display()))
}
