//! A cell and its clients on one thread: the production logic of `core`, `node`, `gateway`'s sessions and `client`, with a clock, a log,
//! data centers, a network and disks that are simulated from a seed. The same seed is the same life, to the byte.
//!
//! | file | what |
//! |---|---|
//! | `clock`, `random`, `trace` | virtual time, the seed's numbers, what happened |
//! | `log`, `space`, `wan`, `network` | what lies between the parts, with its delays and failures |
//! | `host`, `node`, `device` | a machine with its disk; one life of a node's process; a device with its disk, client and app |
//! | `world` | event after event; what threads, tasks, sockets, the nodes' talk with each other and operators do in production |
//! | `workload`, `faults` | what people do; what breaks |
//! | `shrink`, `scenario` | makes a life that ends badly shorter; a life in which somebody chooses what breaks |
//! | `copy`, `history` | what devices hold, what was asked and answered |
//! | `model` | the cell in plain words: what the log's commands give, and what people are told |
//! | `checker` | what must hold at every moment, and at the end |

mod checker;
mod clock;
mod copy;
mod device;
mod disk;
mod failure;
mod faults;
mod history;
mod host;
mod log;
mod model;
mod network;
mod node;
mod random;
mod scenario;
mod shrink;
mod space;
mod trace;
mod wan;
mod workload;
mod world;

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use failure::Broken;
use failure::{Check, holds};
use random::Random;
pub use scenario::Scenario;
pub use shrink::shrink;
pub use trace::Show;
use world::{Event, World};

/// Which life to live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Everything is drawn from it.
    pub seed: u64,
    /// How many nodes the cell has, over three data centers if it is more than one.
    pub nodes: usize,
    /// For how long people act and things break, in milliseconds.
    pub ms: u64,
    /// Faults that are left out, by their number in the life, from 1.
    pub without: BTreeSet<u64>,
    /// Which part of the trace is printed.
    pub show: Option<Show>,
}

impl Options {
    /// The life that a seed names: one to six nodes, four to twenty minutes.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(!seed);
        let nodes = random.index(6) + 1;
        Self { seed, nodes, ms: random.between(4, 20) * 60_000, without: BTreeSet::new(), show: None }
    }
}

/// A life that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// BLAKE3 over all that happened.
    pub trace: [u8; 32],
    /// The rolling digest of the view at the end.
    pub digest: [u8; 32],
    /// Lines of the trace.
    pub lines: u64,
    /// What the life held, so that nobody takes an idle one for a good one.
    pub met: Met,
}

/// What a life held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Met {
    /// Milliseconds lived.
    pub ms: u64,
    /// Commands that people gave.
    pub commands: u64,
    /// Those that the cell rejected.
    pub rejected: u64,
    /// Refusals by the gateway, after which a client sent again.
    pub refused: u64,
    /// Things that broke.
    pub faults: u64,
    /// Lives of the nodes.
    pub lives: u64,
    /// Lives of clients.
    pub processes: u64,
    /// Times that a client went live.
    pub sessions: u64,
    /// Catch-ups from nothing.
    pub resyncs: u64,
    /// Catch-ups that left older messages out.
    pub gaps: u64,
    /// Sessions that ended because their queue was full.
    pub slow: u64,
    /// Connections that a client gave up because nothing came.
    pub silent: u64,
    /// Times that a device was told that somebody types.
    pub typing: u64,
}

/// A life that did not end well.
#[derive(Debug, thiserror::Error)]
#[error("seed {seed}, after {}: {broken}", trace::clock(*.ms))]
pub struct Failed {
    /// Its seed.
    pub seed: u64,
    /// When it was noticed.
    pub ms: u64,
    /// How many things had broken by then.
    pub faults: u64,
    /// What is broken.
    #[source]
    pub broken: Broken,
}

/// For how long everything has time to come to rest, in milliseconds: longer than a session of a client that is gone may stay.
const REST: u64 = 150_000;
/// What everybody has is trimmed after so long at the latest, in milliseconds: also where it hangs in the two nodes that are first to do it.
const TRIMMED_AFTER: u64 = 90_000;
/// Nor is more kept than may be for longer than this, in milliseconds.
const SOON: u64 = 10_000;
/// For so long people go on when everything works again: then every command is answered soon.
const CALM: u64 = 60_000;
/// A client that moves back to the node that it prefers is between two of them for a moment; it is waited for so often.
const MOVES: u32 = 20;

/// Lives one life.
pub fn live(options: &Options) -> Result<Report, Failed> {
    let mut world = World::new(options);
    // Where production code panics a life ends, too, and its seed has to be told.
    let lived = catch_unwind(AssertUnwindSafe(|| run(&mut world, options.ms)));
    world.trace.end();
    let broken = match lived {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(broken)) => broken,
        Err(panic) => Broken(format!("a panic: {}", said(panic.as_ref()))),
    };
    Err(Failed { seed: options.seed, ms: world.now(), faults: world.faults, broken })
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why")
}

/// Everything works again, and has to come to a good end. The digest of the view there.
fn ends(world: &mut World) -> Check<[u8; 32]> {
    world.recover()?;
    world.after(CALM + world.shortage.lasts(), Event::Rest);
    world.has_room_again()?;
    world.rest()?;
    for _ in 0..MOVES {
        if world.at_rest().is_ok() {
            break;
        }
        world.run_until(world.now() + 5_000)?;
    }
    Ok(world.check()?.digest)
}

fn run(world: &mut World, ms: u64) -> Result<Report, Broken> {
    world.found()?;
    (world.troubled, world.acting) = (true, true);
    world.after(0, Event::Act);
    world.after(0, Event::Look);
    world.after(0, Event::Fault);
    if world.losses.on && world.hosts.len() > 1 {
        world.after(0, Event::Loses);
    }
    if world.chatter.on {
        world.after(0, Event::Types);
        if world.hosts.len() == 1 {
            world.after(0, Event::ClockJumps);
        }
    }
    if world.operators.are_there() {
        world.after(0, Event::Operates);
    }
    if world.shortage.on {
        world.will_run_short();
    }
    let begin = world.now();
    world.run_until(begin + ms)?;
    let digest = ends(world)?;
    let met = world.met();
    Ok(Report { trace: world.trace.hash(), digest, lines: world.trace.lines(), met })
}

impl World {
    /// Everything comes to rest. The log stays short meanwhile.
    fn rest(&mut self) -> Check {
        // An operator may be about to have the log begin anew.
        for _ in 0..MOVES {
            if self.lost {
                self.run_until(self.now() + SOON)?;
            }
        }
        self.run_until(self.now() + REST - TRIMMED_AFTER)?;
        let stood = self.log.last();
        self.run_until(self.now() + TRIMMED_AFTER - SOON)?;
        let stood_lately = self.log.last();
        self.run_until(self.now() + SOON)?;
        let trimmed = self.log.trimmed();
        if self.hosts.len() == 1 {
            return Ok(());
        }
        holds(trimmed >= stood, || format!("the log is trimmed to {trimmed} only, and stood at {stood} long ago"))?;
        let hangs = self.hosts.iter().any(|host| host.trims_hang) || self.shortage.on;
        holds(hangs || trimmed + world::MOST_KEPT >= stood_lately, || {
            format!("of the log up to {stood_lately} everything behind {trimmed} is kept")
        })
    }

    fn met(&self) -> Met {
        let sum = |of: fn(&device::Device) -> u64| self.devices.iter().map(of).sum();
        Met {
            ms: self.now(),
            commands: self.commands,
            rejected: self.history.rejected() as u64,
            refused: sum(|device| device.met.refused),
            faults: self.faults,
            lives: self.lives,
            processes: sum(|device| device.met.starts),
            sessions: sum(|device| device.met.sessions),
            resyncs: sum(|device| device.met.resyncs),
            gaps: sum(|device| device.process.as_ref().map_or(0, |process| process.copy.gaps)),
            slow: sum(|device| device.met.slow),
            silent: sum(|device| device.met.silent),
            typing: sum(|device| device.met.typing),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8; 32]| data_encoding::HEXLOWER.encode(bytes);
        writeln!(f, "trace  {} ({} lines)", hex(&self.trace), self.lines)?;
        writeln!(f, "digest {}", hex(&self.digest))?;
        write!(f, "{:?}", self.met)
    }
}
