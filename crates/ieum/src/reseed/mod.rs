//! `ieum log reseed`: a new generation of a log that is lost (docs/decisions/reseed.md). Nothing is written before the one transaction that
//! begins it, and nothing has to be done by this command after it.

mod ask;
mod restore;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use ieum_core::ids::NodeId;
use ieum_log_etcd::Options;
use ieum_log_etcd::record::{self, Begun, Found};
use ieum_node::backup::next_generation;
use ieum_node::peers::{Phase, Report};
use ieum_node::reseed::{Already, Obstacle, Patience, Plan, Seen, plan};
use tokio::time::sleep;

pub(crate) use self::ask::{Stay, ask};
use self::ask::{addresses, hear_at};
pub(crate) use self::restore::restore;
use crate::Failure;
use crate::config::{Config, Engine};
use crate::halted::{BEGIN_WITHIN, shared_log};
use crate::shared;

/// How long they may take to run again before the operator is told that they do not.
const COMING: Duration = Duration::from_secs(60);
/// How often they are asked.
const ASK_EVERY: Duration = Duration::from_millis(300);

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
        // What was shown may have changed while somebody was reading; from now on nothing changes, also when a node comes back that is given up.
        let (found, until) = (record::look(&self.etcd).await?, Instant::now() + BEGIN_WITHIN);
        let now = self
            .plan(&found, &self.seen(Stay::Still).await?)
            .map_err(|obstacle| format!("nothing was done: {obstacle}"))?;
        if now.end != plan.end {
            return Err(format!(
                "nothing was done, because the nodes stand at {} meanwhile: run it again",
                now.end.end
            )
            .into());
        }
        let generation = next_generation(now.newest, SystemTime::now());
        if Instant::now() >= until {
            return Err("nothing was done, because nodes took too long to say where they stand: run it again".into());
        }
        match record::begin(&self.etcd, &found, generation, now.end, until.into()).await? {
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
    async fn halted(&self) -> Result<Result<Plan, Already>, Failure> {
        let (began, mut patience, mut told) = (Instant::now(), Patience::since(0), BTreeSet::new());
        loop {
            let found = record::look(&self.etcd).await;
            let seen = self.seen(Stay::Free).await?;
            let late = patience.is_over(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), &seen);
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

    async fn seen(&self, stay: Stay) -> Result<Seen, Failure> {
        if addresses(self.config).is_empty() {
            return Err("no node can be asked: give [peers] addresses".into());
        }
        ask(self.config, stay).await
    }

    fn plan(&self, found: &Found, seen: &Seen) -> Result<Plan, Obstacle> {
        if let Some(held) = found.log.filter(|held| held.cell != u32::from(self.config.node.cell)) {
            return Err(Obstacle::OtherCell { found: held.cell, asked: self.config.node.cell });
        }
        plan(seen, shared_log(found).as_ref(), &self.asked.without, self.asked.replace)
    }

    fn show(&self, plan: &Plan) {
        println!(
            "The log of cell {} is to begin anew behind {}, where node {} stands. Nothing can be taken back of that.",
            self.config.node.cell, plan.end.end, plan.furthest
        );
        for (node, at) in &plan.behind {
            println!(
                "Node {node} stands at {at} and could not be brought level: it will resync from another one. Its log tells why."
            );
        }
        for node in &plan.without_view {
            println!("Node {node} has no view in which it is a member: it will resync from another one.");
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
        let mut addresses = addresses(self.config);
        while !waiting.is_empty() && began.elapsed() < COMING {
            for Report { node, applied, phase, addresses: more, .. } in hear_at(self.config, &addresses).await? {
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
