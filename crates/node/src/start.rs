//! What a node does before it runs: it brings its view up to the log, and looks whether the cell is its own.

use std::ops::ControlFlow;

use ieum_core::ids::NodeId;
use ieum_core::kv::{Direction, Kv, Read};
use ieum_core::tables::cell::{NODES, ONLY, SETTINGS};
use ieum_log::{Log, Tail};
use ieum_planted::Bug;

use crate::applier::Applier;
use crate::log_position;
use crate::service::Identity;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log failed.
    #[error("reading the log")]
    Log(#[from] ieum_log::Error),
    /// The view failed.
    #[error("bringing the view up to the log")]
    Apply(#[from] crate::applier::Error),
    /// The view engine failed.
    #[error(transparent)]
    Store(#[from] ieum_core::kv::Error),
    /// A thread could not be started.
    #[error("starting a thread")]
    Thread(#[source] std::io::Error),
    /// The data is of another cell.
    #[error(
        "the data is of cell {found}, not of cell {asked}: set the cell's number right, or use another data folder"
    )]
    Cell {
        /// In the data.
        found: u16,
        /// In the configuration.
        asked: u16,
    },
    /// The cell's level is beyond what this build knows.
    #[error("the cell is at level {cell}, this build knows up to {known}: start a newer build")]
    Level {
        /// The active level.
        cell: u32,
        /// The highest that this build knows.
        known: u32,
    },
    /// Nobody has founded the cell, and this node is not to.
    #[error("the log is empty: start one node of the cell with --found first, then add this one with `ieum node add`")]
    NotFounded,
    /// The cell does not know the node: it would ignore all that is appended here.
    #[error(
        "node {node} is no member of the cell in this data, whose members are {members:?}: set `[node] number` to the number that \
         this data was made with, or use another data folder, or add it with `ieum node add`"
    )]
    NotAMember {
        /// In the configuration.
        node: u32,
        /// In the data.
        members: Vec<u32>,
    },
}

/// Applies what the log has beyond the view; gives where to read on.
///
/// # Errors
/// When the log or the view fails.
pub(crate) async fn bring_up<L: Log, K: Kv>(log: &L, applier: &mut Applier<K>) -> Result<L::Tail, StartError> {
    let last = log.last().await?;
    let mut tail = log.tail(log_position(applier.applied())).await?;
    while log_position(applier.applied()) < last && !Bug::ReadyBeforeCaughtUp.planted() {
        let entry = tail.next().await?;
        applier.apply(&entry)?;
    }
    Ok(tail)
}

/// Refuses the data of another cell, that of a cell without this node or at a level above `known`, and that of no cell unless it `founds` one.
///
/// # Errors
/// [`StartError::Cell`], [`StartError::NotAMember`], [`StartError::Level`], [`StartError::NotFounded`]; when the view cannot be read.
pub fn check_identity(view: &impl Read, identity: &Identity, known: u32, founds: bool) -> Result<(), StartError> {
    let Some(settings) = SETTINGS.get(view, &ONLY)? else {
        return if founds || Bug::AnyNodeFounds.planted() { Ok(()) } else { Err(StartError::NotFounded) };
    };
    if settings.cell != identity.cell {
        return Err(StartError::Cell { found: settings.cell, asked: identity.cell });
    }
    // What follows in the log may be nothing, and the view may have been made by a later build.
    if settings.level > known {
        return Err(StartError::Level { cell: settings.level, known });
    }
    if NODES.has(view, &identity.node)? || Bug::StrangerStarts.planted() {
        return Ok(());
    }
    let mut members = Vec::new();
    NODES.range(view, &NodeId::MIN, &NodeId::MAX, Direction::Forward, |node, _| {
        members.push(node);
        ControlFlow::Continue(())
    })?;
    Err(StartError::NotAMember { node: identity.node, members })
}
