//! `ieum log skip` in a cell with etcd. A mark must not be made when a node has applied the command, or may yet: so each node agrees by itself
//! while it does not run, and starts again only when the command is marked, which is done when all have agreed.

use std::collections::BTreeSet;
use std::process::ExitCode;

use ieum_core::ids::{NodeId, Position};
use ieum_log::{Log as _, Skip, Tail as _};
use ieum_log_etcd::Etcd;
use ieum_node::folder::Folder;
use ieum_node::marks::{self, Before};
use ieum_node::reseed::without_each;
use ieum_node::{core_position, log_position};
use ieum_planted::Bug;

use crate::Failure;
use crate::config::Config;
use crate::reseed::{Stay, ask};
use crate::shared;

/// Which command is meant, and how sure the operator is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Asked {
    /// Where the batch stands, such as 1.4711.
    pub(crate) position: Position,
    /// Which command of it, from 0.
    pub(crate) index: u32,
    /// In a cell with etcd: mark it although this node has not agreed, which is gone or cannot be reached. If it has applied the command, it will
    /// have to resync, and what it alone has acknowledged of it is lost. May be given more than once.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) without: Vec<NodeId>,
    /// In a cell with etcd: this node agrees no longer, so that it can start again. Not when the command is marked.
    #[arg(long, conflicts_with = "without")]
    pub(crate) take_back: bool,
}

impl Asked {
    fn mark(&self) -> Skip {
        (log_position(self.position), self.index)
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Has this node agree, and marks the command when all have.
pub(crate) fn skip(config: &Config, asked: &Asked) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        // The folder stays locked until etcd has what this node says.
        let before = Before::open(&Folder::new(&config.node.data), config.node.cell, asked.position)?;
        let log = open(config, asked.position).await?;
        if asked.take_back {
            take_back(config, asked, before, &log).await
        } else {
            agree(config, asked, before, &log).await
        }
    })
}

/// Every mark of the cell, and who has agreed to what is not marked.
pub(crate) fn list(config: &Config) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        let log = shared::open_log(config, false).await?;
        let (skips, agreed) = (log.skips().await?, log.agreed().await?);
        for (position, index) in &skips {
            println!("{} {index}", core_position(*position));
        }
        for ((position, index), node) in agreed.iter().filter(|(mark, _)| !skips.contains(mark)) {
            println!("{} {index} is not skipped yet; node {node} agrees", core_position(*position));
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The cell's log, if the position is of its generation.
async fn open(config: &Config, position: Position) -> Result<Etcd, Failure> {
    let log = shared::open_log(config, false).await?;
    let last = log.last().await?;
    let asked = log_position(position);
    ieum_log::can_be_skipped(asked, last, ieum_log::Position { ordinal: 0, ..last })?;
    Ok(log)
}

async fn take_back(config: &Config, asked: &Asked, mut before: Before, log: &Etcd) -> Result<ExitCode, Failure> {
    let (node, position, index) = (config.node.number, asked.position, asked.index);
    if !log.agree(node, asked.mark(), false).await? {
        return Err(format!("command {index} at {position} is marked to be skipped, which cannot be taken back").into());
    }
    before.disagree(index)?;
    println!("Node {node} does not agree to skip command {index} at {position}, and can be started.");
    Ok(ExitCode::SUCCESS)
}

async fn agree(config: &Config, asked: &Asked, mut before: Before, log: &Etcd) -> Result<ExitCode, Failure> {
    let (node, position, index) = (config.node.number, asked.position, asked.index);
    if log.skips().await?.contains(&asked.mark()) {
        before.keep(index)?;
        println!("Command {index} at {position} is marked already; every node skips it.");
        return Ok(ExitCode::SUCCESS);
    }
    let command = name(&before, log, position, index).await?;
    // First here: whatever becomes of this process, the node keeps to what etcd may already have of it.
    before.agree(index)?;
    let say = log.agree(node, asked.mark(), true).await;
    let say = say.map_err(|error| {
        format!(
            "{}. This node stands still until it has agreed: run it again, or with --take-back",
            ieum_node::chain(&error)
        )
    });
    if say? {
        println!(
            "Node {node} agrees that {command} at {position} will be skipped, and does not start before it is marked."
        );
    }
    let agreed = log.agreed().await?.into_iter().filter(|(mark, _)| *mark == asked.mark());
    let agreed: BTreeSet<_> = agreed.map(|(_, node)| node).collect();
    let Some(needed) = needed(before.members(), &agreed, node, &asked.without)? else {
        println!(
            "Its view stands at {}, not right before it, so that others tell who the cell's nodes are: run the same on one that stands there.",
            before.stands()
        );
        return Ok(ExitCode::SUCCESS);
    };
    let missing: Vec<_> = needed.difference(&agreed).copied().collect();
    if !missing.is_empty() {
        let (are, each) = (listed(&missing), without_each(&missing));
        println!(
            "Not marked yet: {are} missing. Stop them, and run the same on each. For one that is gone for good: {each}"
        );
        return Ok(ExitCode::SUCCESS);
    }
    refuse_running(config, &asked.without).await?;
    let needed: Vec<_> = needed.into_iter().collect();
    if !log.skip_agreed(asked.mark(), &needed).await? {
        return Err("it was not marked, because a node has taken its word back just now: run it again".into());
    }
    before.keep(index)?;
    println!("Marked: every node of the cell skips {command} at {position}.");
    println!("Start the nodes: ieum serve");
    Ok(ExitCode::SUCCESS)
}

/// What the command is, for people.
async fn name(before: &Before, log: &Etcd, position: Position, index: u32) -> Result<String, Failure> {
    let batch = match before.batch()? {
        Some(batch) => batch,
        // A process that died may not have written it to its journal.
        None => {
            let behind = Position { ordinal: position.ordinal.saturating_sub(1), ..position };
            log.tail(log_position(behind)).await?.next().await?
        }
    };
    let (command, of) = marks::command(&batch, index)?;
    Ok(format!("command {index} ({command}) of {of}"))
}

/// Why a command cannot be marked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Obstacle {
    #[error("node {0} is no member of the cell: --without is for members that are gone")]
    NotAMember(NodeId),
    #[error("this is node {0}: what it has applied can be seen, so leave --without {0} out")]
    Own(NodeId),
    #[error("node {0} runs, and applies the command any moment if it has not yet: stop it, and run the same there")]
    Runs(NodeId),
}

/// Who has to have agreed: every member that is not left out. None when it is not known who they are.
fn needed(
    members: Option<&[NodeId]>,
    agreed: &BTreeSet<NodeId>,
    own: NodeId,
    without: &[NodeId],
) -> Result<Option<BTreeSet<NodeId>>, Obstacle> {
    if without.contains(&own) {
        return Err(Obstacle::Own(own));
    }
    let Some(members) = members else { return Ok(None) };
    if let Some(stranger) = without.iter().find(|node| !members.contains(node)) {
        return Err(Obstacle::NotAMember(*stranger));
    }
    let needed = members.iter().filter(|node| !without.contains(node)).copied();
    let skipped = |node: &NodeId| Bug::SkipAsksNobody.planted() && !agreed.contains(node);
    Ok(Some(needed.filter(|node| !skipped(node)).collect()))
}

/// Who is left out because nobody can ask what it has applied must not run.
async fn refuse_running(config: &Config, without: &[NodeId]) -> Result<(), Failure> {
    if without.is_empty() {
        return Ok(());
    }
    let seen = ask(config, Stay::Free).await?;
    let mut runs = seen.runs.keys().chain(seen.stood.keys()).chain(&seen.empty);
    match runs.find(|node| without.contains(node)) {
        Some(node) => Err(Obstacle::Runs(*node).into()),
        None => Ok(()),
    }
}

fn listed(nodes: &[NodeId]) -> String {
    let names: Vec<_> = nodes.iter().map(|node| format!("node {node}")).collect();
    names.join(" and ") + if nodes.len() == 1 { " is" } else { " are" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_has_to_agree_that_is_not_left_out() {
        let members = Some(&[1, 2, 3][..]);
        let agreed = BTreeSet::from([1]);
        let needed = |without: &[NodeId]| needed(members, &agreed, 1, without);
        assert_eq!(needed(&[]), Ok(Some([1, 2, 3].into())));
        assert_eq!(needed(&[3]), Ok(Some([1, 2].into())));
        assert_eq!(needed(&[2, 3]), Ok(Some([1].into())));
        assert_eq!(needed(&[4]), Err(Obstacle::NotAMember(4)));
        assert_eq!(needed(&[1]), Err(Obstacle::Own(1)));
    }

    #[test]
    fn who_stands_further_back_does_not_know_the_members() {
        assert_eq!(needed(None, &BTreeSet::from([1, 2, 3]), 1, &[2]), Ok(None));
    }
}
