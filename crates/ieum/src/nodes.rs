//! `ieum node`: the members of the cell.

use std::time::Duration;

use ieum_core::commands::operate::{AddNode, RemoveNode};
use ieum_core::outcome::Reject;
use ieum_gateway::{Gateway, Ticket};
use ieum_log::Log;
use ieum_node::levels::Levels;
use ieum_node::peers::{Phase, Report};
use ieum_node::progress::{Step, Watch};
use ieum_node::service::Handle;
use ieum_peer::circle::Circle;
use ieum_store::fjall::Fjall;
use serde::{Deserialize, Serialize};

use crate::admin::{Answer, ask_cell, failed};
use crate::cell::NodeCell;

/// A member, and what was heard of it lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) node: u32,
    pub(crate) dc: String,
    /// Nothing when it was not heard of.
    pub(crate) says: Option<Says>,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Says {
    pub(crate) phase: String,
    pub(crate) applied: String,
    pub(crate) endpoint: Option<String>,
}

impl From<Report> for Says {
    fn from(report: Report) -> Self {
        let phase = match report.phase {
            Phase::Joining => "joining",
            Phase::Ready => "ready",
            Phase::Behind => "behind the log",
            Phase::Draining => "draining",
            Phase::Out => "out: its view differs",
        };
        Self { phase: phase.to_owned(), applied: report.applied.to_string(), endpoint: report.endpoint }
    }
}

/// The members and what was heard of them.
pub(crate) fn list(node: &Handle<Fjall, Ticket>, circle: Option<&Circle>) -> Answer {
    let levels = match Levels::of(&node.view()) {
        Ok(levels) => levels,
        Err(error) => return failed(&error),
    };
    let mut heard = circle.map(Circle::heard).unwrap_or_default();
    heard.extend(circle.map(|circle| circle.report().borrow().clone()));
    let says = |number| heard.iter().find(|report| report.node == number).cloned().map(Says::from);
    let members = levels.map(|levels| levels.members).unwrap_or_default();
    let row = |member: ieum_node::levels::Member| Row { says: says(member.node), node: member.node, dc: member.dc };
    Answer::Nodes { members: members.into_iter().map(row).collect() }
}

/// Makes a node a member.
pub(crate) async fn add(node: &Handle<Fjall, Ticket>, number: u32, dc: String) -> Answer {
    let level = match Levels::of(&node.view()) {
        Ok(Some(levels)) => levels.active,
        Ok(None) => return Answer::Failed { reason: "the cell is not founded yet".to_owned() },
        Err(error) => return failed(&error),
    };
    // The cell's number counts when it is founded only.
    let command = AddNode { node: number, dc: dc.clone(), level, cell: 0 };
    match ask_cell(node, command.into()).await {
        Ok(Ok(_)) => Answer::NodeAdded { node: number, dc },
        Ok(Err(Reject::NodeUnknown)) => Answer::Failed {
            reason: format!("node {number} is a member already: `ieum node list` tells of which data center"),
        },
        Ok(Err(Reject::Invalid)) => Answer::Failed {
            reason: "a node has a number from 1 on, and a data center a name of 1 to 64 bytes".to_owned(),
        },
        Ok(Err(reject)) => Answer::Failed { reason: reject.code().to_owned() },
        Err(answer) => answer,
    }
}

/// Sends the node's clients to the other nodes, and takes no more until that is ended or the node starts anew.
pub(crate) async fn drain(
    gateway: &Gateway<NodeCell>,
    circle: Option<&Circle>,
    over: Duration,
    watch: Watch<'_>,
) -> Answer {
    let Some(circle) = circle else {
        return Answer::Failed {
            reason: "this cell has one node, so its clients have nowhere to go; to stop the node send it SIGTERM"
                .to_owned(),
        };
    };
    if circle.endpoints().is_empty() {
        return Answer::Failed {
            reason: "no other node takes clients just now, so this one's have nowhere to go: `ieum node list` tells what the others do, and \
                     each needs [listen] endpoints"
                .to_owned(),
        };
    }
    // Said first: the others name this node to nobody any more.
    circle.set_phase(Phase::Draining);
    let sessions = gateway.sessions() as u64;
    gateway.drain(over, |done, of| watch(Step { what: "clients sent elsewhere", done, of: Some(of) })).await;
    Answer::Drained { sessions }
}

/// Takes clients again.
pub(crate) fn end_drain(gateway: &Gateway<NodeCell>, circle: Option<&Circle>) -> Answer {
    let before = !gateway.is_draining();
    gateway.stop_draining();
    if let Some(circle) = circle.filter(|_| !before) {
        circle.set_phase(Phase::Ready);
    }
    Answer::DrainEnded { before }
}

/// Takes a node out of the cell, and has the log refuse what it appends.
pub(crate) async fn remove(
    node: &Handle<Fjall, Ticket>,
    circle: Option<&Circle>,
    log: &impl Log,
    number: u32,
    force: bool,
) -> Answer {
    if !force && circle.is_some_and(|circle| circle.is_needed(number)) {
        return Answer::Failed {
            reason: format!(
                "node {number} is needed: without it, what the log has forgotten would lie on disks of too few data centers. `ieum node list` \
                 tells who is behind, or not heard; wait until they are ready. Where they will never be, and for what only node {number} has \
                 to be lost, there is --force"
            ),
        };
    }
    match ask_cell(node, RemoveNode { node: number }.into()).await {
        Ok(Ok(_)) => match log.remove(number).await {
            Ok(()) => Answer::NodeRemoved { node: number },
            // What it appends is ignored all the same.
            Err(error) => failed(&error),
        },
        // It may have been removed before, and the log not told.
        Ok(Err(Reject::NodeUnknown)) => match log.remove(number).await {
            Ok(()) => Answer::Failed { reason: format!("node {number} is no member: `ieum node list` tells who is") },
            Err(error) => failed(&error),
        },
        Ok(Err(Reject::NotYourself)) => {
            Answer::Failed { reason: "this is the node itself: ask another one to remove it".to_owned() }
        }
        Ok(Err(reject)) => Answer::Failed { reason: reject.code().to_owned() },
        Err(answer) => answer,
    }
}
