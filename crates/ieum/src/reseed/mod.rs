//! `ieum log reseed`: a new generation of a log that is lost (docs/decisions/reseed.md). Nothing is written before the one transaction that
//! begins it, and nothing has to be done by this command after it.

mod plan;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use ieum_core::ids::NodeId;
use ieum_log_etcd::Options;
use ieum_log_etcd::record::{self, Begun, Found};
use ieum_node::backup::{self, Restored, next_generation};
use ieum_node::folder::Folder;
use ieum_node::peers::{Phase, Report};
use ieum_node::snapshot;
use ieum_peer::client::Peer;
use tokio::time::{sleep, timeout};

use self::plan::{Obstacle, Plan, Seen, plan};
use crate::Failure;
use crate::bar::Bar;
use crate::config::{Config, Engine};
use crate::halted::{hear, peer, shared_log};
use crate::shared;

/// How long nodes may take to halt and to become level.
const HALTING: Duration = Duration::from_secs(15);
/// How long they may take to run again before the operator is told that they do not.
const COMING: Duration = Duration::from_secs(60);
/// How often they are asked.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// How long one may take to answer: it makes everything durable first.
const ANSWER: Duration = Duration::from_secs(5);

/// What the operator says.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Asked {
    /// Do it without asking.
    #[arg(long)]
    yes: bool,
    /// Go on without this node, which does not answer or is not to count: what it alone has applied is lost to the cell. May be given more
    /// than once.
    #[arg(long, value_name = "NUMBER")]
    without: Vec<NodeId>,
    /// Put the new generation in the place of a log that etcd holds and that no node can go on with, as after etcd was restored from a backup.
    #[arg(long)]
    replace: bool,
}

pub(crate) fn run(config: &Config, asked: &Asked) -> Result<ExitCode, Failure> {
    if config.log.engine != Engine::Etcd {
        return Err(
            "the log of this cell lies in its node's data folder: begin it anew from a backup with `ieum restore`"
                .into(),
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Reseed { config, asked, etcd: shared::etcd(config)? }.run())
}

/// Restores a backup into the folder of one node and begins the log of its cell in an etcd that is empty.
pub(crate) fn restore(config: &Config, from: &Path, replace: bool, bar: &Bar) -> Result<Restored, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let etcd = shared::etcd(config)?;
    let found = runtime.block_on(record::look_patiently(&etcd))?;
    if let Some(held) = found.log {
        return Err(format!(
            "etcd holds a log already, of cell {} up to {}: a cell with etcd is restored into an empty one. Stop all nodes, and give it an etcd \
             that holds nothing",
            held.cell, held.last
        )
        .into());
    }
    let cell = snapshot::check(from)?.cell;
    if cell != config.node.cell {
        return Err(
            format!("this is a backup of cell {cell}, not of cell {}: correct [node] cell", config.node.cell).into()
        );
    }
    let restored = backup::restore_shared(&Folder::new(&config.node.data), from, replace, &bar.watch())?;
    let predecessor = backup::predecessor(&restored.from);
    match runtime.block_on(record::begin(&etcd, &found, restored.generation, predecessor))? {
        Begun::Here => Ok(restored),
        Begun::Changed => Err("the backup is in the data folder, but somebody else has begun a log in this etcd meanwhile: restore again with \
                               --replace when etcd is empty"
            .into()),
    }
}

struct Reseed<'a> {
    config: &'a Config,
    asked: &'a Asked,
    etcd: Options,
}

impl Reseed<'_> {
    async fn run(self) -> Result<ExitCode, Failure> {
        let plan = match self.halted().await? {
            Ok(plan) => plan,
            Err(already) => {
                println!("{already}");
                return self.watch(already.generation, &already.members).await;
            }
        };
        self.show(&plan);
        if !self.agreed()? {
            return Err("nothing was done; say --yes to do it".into());
        }
        // What was shown may have changed while somebody was reading.
        let found = record::look(&self.etcd).await?;
        let now = self.plan(&found, &self.ask().await?).map_err(|obstacle| format!("nothing was done: {obstacle}"))?;
        if now.end != plan.end {
            return Err(format!(
                "nothing was done, because the nodes stand at {} meanwhile: run it again",
                now.end.end
            )
            .into());
        }
        let generation = next_generation(now.newest, SystemTime::now());
        match record::begin(&self.etcd, &found, generation, now.end).await? {
            Begun::Here => {}
            Begun::Changed => {
                return Err(
                    "nothing was done: somebody else has begun a log in this etcd just now. Run it again to see".into(),
                );
            }
        }
        println!("Generation {generation} of the log begins behind {}.", now.end.end);
        self.watch(generation, &now.members).await
    }

    /// What is to be done, as soon as all nodes have halted and are level; or that it was done before.
    async fn halted(&self) -> Result<Result<Plan, plan::Already>, Failure> {
        let (until, mut told) = (Instant::now() + HALTING, BTreeSet::new());
        loop {
            let late = Instant::now() >= until;
            let found = record::look(&self.etcd).await;
            let seen = self.ask().await?;
            for line in seen.lines() {
                if told.insert(line.clone()) {
                    println!("{line}");
                }
            }
            match found {
                Ok(found) => match self.plan(&found, &seen) {
                    Ok(plan) if plan.behind.is_empty() || late => return Ok(Ok(plan)),
                    Ok(_) => {}
                    Err(Obstacle::Already(already)) => return Ok(Err(already)),
                    Err(obstacle) if late || !obstacle.may_pass() => return Err(obstacle.into()),
                    Err(_) => {}
                },
                Err(error) if late || matches!(error, ieum_log::Error::Foreign(_)) => return Err(error.into()),
                Err(_) => {}
            }
            sleep(ASK_EVERY).await;
        }
    }

    fn plan(&self, found: &Found, seen: &Seen) -> Result<Plan, Obstacle> {
        if let Some(held) = found.log.filter(|held| held.cell != u32::from(self.config.node.cell)) {
            return Err(Obstacle::OtherCell { found: held.cell, asked: self.config.node.cell });
        }
        plan(seen, shared_log(found).as_ref(), &self.asked.without, self.asked.replace)
    }

    /// Asks every node that is set, or that one of those knows of.
    async fn ask(&self) -> Result<Seen, Failure> {
        let set: BTreeSet<String> =
            self.config.peers.addresses.iter().cloned().chain(self.config.peers.own_address()).collect();
        if set.is_empty() {
            return Err("no node can be asked: give [peers] addresses".into());
        }
        let mut seen = Seen::default();
        let mut known = set.clone();
        for report in self.hear(&set).await? {
            known.extend(report.addresses);
        }
        let peers: Vec<_> = known.iter().filter_map(|address| peer(self.config, address).ok()).collect();
        let asking = peers.iter().map(|peer| timeout(ANSWER, say(peer)));
        for (peer, said) in peers.iter().zip(futures_util::future::join_all(asking).await) {
            let address = peer.address().to_owned();
            match said {
                Ok(Ok(Said::Stands(stood))) => drop(seen.stood.insert(stood.node, stood)),
                Ok(Ok(Said::Runs(report))) => drop(seen.runs.insert(report.node, report.applied)),
                // One that others have heard of may be gone for long.
                Ok(Err(reason)) if set.contains(&address) => seen.silent.push(reason),
                Err(_) if set.contains(&address) => seen.silent.push(format!("the node at {address} does not answer")),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Ok(seen)
    }

    async fn hear(&self, addresses: &BTreeSet<String>) -> Result<Vec<Report>, Failure> {
        let peers = addresses.iter().map(|address| peer(self.config, address)).collect::<Result<Vec<_>, _>>()?;
        Ok(hear(&peers, None).await)
    }

    fn show(&self, plan: &Plan) {
        println!(
            "The log of cell {} is to begin anew behind {}, where node {} stands. Nothing can be taken back of that.",
            self.config.node.cell, plan.end.end, plan.furthest
        );
        for (node, at) in &plan.behind {
            println!("Node {node} stands at {at} and could not be brought level: it will resync from another one.");
        }
        for (node, at) in &plan.given_up {
            let ahead = at.map(|at| format!(", and it stands at {at}")).unwrap_or_default();
            println!(
                "Node {node} is given up{ahead}: what it alone has applied is lost to the cell, but for what clients have kept of the last \
                 minutes and offer again."
            );
        }
        if self.asked.replace {
            println!("The log that etcd holds is deleted.");
        }
    }

    /// Whether the operator wants it.
    fn agreed(&self) -> io::Result<bool> {
        if self.asked.yes {
            return Ok(true);
        }
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Ok(false);
        }
        eprint!("Is every etcd that held the old log switched off for good, and is this to be done? [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// Tells how the nodes come back.
    async fn watch(&self, generation: u32, members: &[NodeId]) -> Result<ExitCode, Failure> {
        let (began, mut waiting) = (Instant::now(), members.iter().copied().collect::<BTreeSet<_>>());
        let mut addresses: BTreeSet<String> =
            self.config.peers.addresses.iter().cloned().chain(self.config.peers.own_address()).collect();
        while !waiting.is_empty() && began.elapsed() < COMING {
            for Report { node, applied, phase, addresses: more, .. } in self.hear(&addresses).await? {
                addresses.extend(more);
                if phase == Phase::Ready && applied.generation == generation && waiting.remove(&node) {
                    println!("Node {node} runs, at {applied}, after {:.1} s.", began.elapsed().as_secs_f64());
                }
            }
            sleep(ASK_EVERY).await;
        }
        if waiting.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        let waiting: Vec<_> = waiting.iter().map(ToString::to_string).collect();
        println!(
            "Not heard of yet: node {}. Their logs tell why; there is no need to run this again.",
            waiting.join(", node ")
        );
        Ok(ExitCode::from(2))
    }
}

enum Said {
    Stands(ieum_peer::Stood),
    Runs(Report),
}

/// What a node says of itself, or why it says nothing.
async fn say(peer: &Peer) -> Result<Said, String> {
    if let Some(stood) = peer.stand().await.map_err(|error| error.to_string())? {
        return Ok(Said::Stands(stood));
    }
    let heard = hear(std::slice::from_ref(peer), None).await.pop();
    heard.map(Said::Runs).ok_or_else(|| format!("the node at {} does not say what it does", peer.address()))
}
