//! One run of a scenario: a new world, people in it, what happens to them, and what is kept of it.
//!
//! ```text
//! FOLDER/load/      what the people lived through (drill-load)
//! FOLDER/run.json   what the runner saw, written last: a run without it was not completed
//! FOLDER/a, b, c/   the data centers: standard errors, data
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Naming as _};
use crate::faults::{self, Kind};
use crate::process::Process;
use crate::scenario::Scenario;
use crate::world::node::Node;
use crate::world::{self, NAMES, World, disk, member, net};

/// What a run's people do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many people.
    pub users: u32,
    /// How many messages a second they write together.
    pub rate: u32,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The scenario's name.
    pub name: String,
    /// What happens.
    pub scenario: Scenario,
    /// The how-manieth run; from 1.
    pub run: u32,
    /// Only what belongs to a short one.
    pub short: bool,
    /// The people.
    pub load: Load,
    /// How many nodes are in each data center.
    pub nodes: usize,
    /// A new folder.
    pub folder: PathBuf,
    /// Where `ieum` and `drill-load` are.
    pub programs: PathBuf,
}

/// Removes the folder of a run, if it is there.
pub fn remove(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).naming(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// What is kept of a run, beside what the people lived through.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Record {
    /// The scenario's name.
    pub scenario: String,
    /// The how-manieth run; from 1.
    pub run: u32,
    /// What the load was drawn from.
    pub seed: u64,
    /// What ended by itself, and whatever else is worth a look.
    pub notes: Vec<String>,
    /// When etcd chose leaders, in nanoseconds of CLOCK_MONOTONIC and in order.
    pub elections: Vec<u64>,
    /// What `ieum verify` said of each stopped node, by data center.
    pub verify: BTreeMap<String, String>,
}

/// The file of a [`Record`].
pub const RECORD: &str = "run.json";

/// How long the people may take until they talk, and until they have all heard everything and written it down.
const LIVE: Duration = Duration::from_secs(120);
const SETTLED: Duration = Duration::from_secs(120);
/// How long is watched after the last step.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// How long `ieum verify` may take.
const VERIFIED: Duration = Duration::from_secs(120);

/// Runs it.
pub fn run(options: &Options) -> Result<Record, Error> {
    let begun = Instant::now();
    let say = |what: &str| println!("    {:5.1} s  {what}", begun.elapsed().as_secs_f64());
    let mut world = World::start(world::Settings {
        ieum: options.programs.join("ieum"),
        folder: options.folder.clone(),
        disks: options.scenario.disks_of(options.short),
        clocks: options.scenario.clocks,
        relay: options.scenario.relay,
        nodes: &[],
        nodes_each: options.nodes,
    })?;
    say("the cell is whole");
    let mut people = People::gather(options)?;
    say("people talk");
    for step in options.scenario.steps.iter().filter(|step| !(step.long && options.short)) {
        faults::prepare(&mut world, &step.act, options.run)?;
        world.pass(Duration::from_secs_f64(step.after))?;
        people.still_there()?;
        let (kind, text) = faults::tell(&step.act, options.run);
        if matches!(kind, Kind::Fault | Kind::Uncounted | Kind::Spoken) {
            people.mark(kind, &text)?;
        }
        let done = faults::carry_out(&mut world, &step.act);
        done.map_err(|error| Error::other(text.clone(), error.to_string()))?;
        if matches!(kind, Kind::Heal | Kind::Counted | Kind::Whole) {
            people.mark(kind, &text)?;
        }
        say(&text);
    }
    world.pass(AFTERWARDS)?;
    let settled = people.leave()?;
    say(&settled);
    let mut notes = std::mem::take(&mut world.notes);
    if settled != SETTLED_WORD {
        notes.push(settled);
    }
    world.stop()?;
    let verify = world.dcs.iter().flat_map(|dc| (0..).zip(&dc.nodes));
    let verify = verify.map(|(nth, node)| (named(&node.dc, nth), verified(node))).collect();
    say("stopped and verified");
    let elections = world.elections();
    let (scenario, seed) = (options.name.clone(), options.run.into());
    let record = Record { scenario, run: options.run, seed, notes, elections, verify };
    write(&options.folder.join(RECORD), &record)?;
    Ok(record)
}

/// Under which conditions a scenario is run, a line each.
pub fn conditions(scenario: &Scenario, short: bool, nodes: usize) -> Vec<String> {
    let version = std::process::Command::new("etcd").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let version =
        version.lines().next().and_then(|line| line.split_whitespace().last()).unwrap_or("of unknown version");
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let disks = match scenario.disks_of(short) {
        disk::Kind::Folder => "the machine's own",
        disk::Kind::Unsynced => {
            "a file system that forgets what was not synced (names: strictly under nodes, as ext4 under etcd)"
        }
        disk::Kind::Loop => "ext4 in a file",
    };
    let mut lines = vec![
        format!("etcd {version}: {}", member::SETTINGS.join(" ")),
        format!(
            "{} and a member of etcd in each of three data centers, all on one machine with {processors} processors",
            if nodes == 1 { "a node".to_owned() } else { format!("{nodes} nodes") }
        ),
        "nodes as shipped, but for the limits of one address, from which all people come".to_owned(),
        format!("disks: {disks}"),
    ];
    if scenario.clocks {
        lines.push("nodes take the time from libfaketime".to_owned());
    }
    if scenario.relay {
        lines.push("packets between data centers go through a relay in user space".to_owned());
    }
    lines
}

/// A data center's first node goes by the name of it.
fn named(dc: &str, nth: usize) -> String {
    if nth == 0 { dc.to_owned() } else { format!("{dc}-{}", nth + 1) }
}

fn verified(node: &Node) -> String {
    match node.operate(&["verify"], VERIFIED) {
        Ok(said) => said.trim().to_owned(),
        Err(error) => error.to_string(),
    }
}

fn write(file: &Path, record: &Record) -> Result<(), Error> {
    let writing = || format!("writing {}", file.display());
    let text = serde_json::to_string_pretty(record).naming(writing)?;
    std::fs::write(file, text + "\n").naming(writing)
}

/// What `drill-load` says when nobody waits for anything any more.
const SETTLED_WORD: &str = "settled";

/// The people: the program `drill-load`, in the users' namespace.
struct People {
    process: Process,
}

impl People {
    /// Returns when they talk.
    fn gather(options: &Options) -> Result<Self, Error> {
        let program = options.programs.join("drill-load");
        let mut with = net::process_within(net::WORLD, &program, &options.folder)
            .stderr(options.folder.join("load.log"))
            .hold_stdin();
        for (at, name) in NAMES.iter().enumerate() {
            let nodes = (0..options.nodes).map(|nth| format!("ws://{}", Node::address(at, nth)));
            with = with.arg("--dc").arg(format!("{name}={}", nodes.collect::<Vec<_>>().join(",")));
        }
        let Load { users, rate } = options.load;
        for (name, number) in [("--users", users), ("--rate", rate), ("--seed", options.run)] {
            with = with.arg(name).arg(number.to_string());
        }
        let mut process = Process::spawn(&with.arg("--out").arg(options.folder.join("load")))?;
        process.wait_for_line(|line| line == "live", LIVE)?;
        Ok(Self { process })
    }

    fn still_there(&mut self) -> Result<(), Error> {
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => {
                Err(Error::other("looking after the people", format!("{status}: {}", self.process.stderr())))
            }
        }
    }

    /// Writes down what is done.
    fn mark(&mut self, kind: Kind, text: &str) -> Result<(), Error> {
        let line = match kind {
            Kind::Fault => format!("mark fault {text}"),
            Kind::Uncounted => format!("uncounted fault {text}"),
            Kind::Heal => format!("mark heal {text}"),
            Kind::Counted => format!("counted heal {text}"),
            Kind::Spoken => format!("counted act {text}"),
            Kind::Whole => "mark whole".to_owned(),
        };
        self.process.write_line(&line)
    }

    /// They stop writing, hear what there is to hear, and go; what they say of it.
    fn leave(mut self) -> Result<String, Error> {
        self.process.write_line("stop")?;
        let settled = |line: &str| line == SETTLED_WORD || line.starts_with("not settled");
        let said = self.process.wait_for_line(settled, SETTLED)?;
        let status = self.process.wait(SETTLED)?;
        if status.success() {
            Ok(said)
        } else {
            Err(Error::other("writing what people lived through", self.process.stderr()))
        }
    }
}
