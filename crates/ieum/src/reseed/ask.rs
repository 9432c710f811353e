//! Asks the nodes of the cell where they stand.

use std::collections::BTreeSet;
use std::time::Duration;

use ieum_core::ids::Position;
use ieum_node::peers::{Phase, Report};
use ieum_node::reseed::Seen;
use ieum_peer::client::Peer;
use tokio::time::timeout;

use crate::Failure;
use crate::config::Config;
use crate::halted::{hear, peer};

/// How long one may take to answer: it makes everything durable first.
const ANSWER: Duration = Duration::from_secs(5);

/// Where nodes are, as it is set.
pub(super) fn addresses(config: &Config) -> BTreeSet<String> {
    config.peers.addresses.iter().cloned().chain(config.peers.own_address()).collect()
}

/// Whether nodes that have halted may move on afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    /// They may.
    Free,
    /// They stay for long enough to begin a generation where they stand.
    Still,
}

/// Asks every node that is set, or that one of those knows of.
pub(crate) async fn ask(config: &Config, stay: Stay) -> Result<Seen, Failure> {
    let set = addresses(config);
    let mut seen = Seen::default();
    let mut known = set.clone();
    for report in hear_at(config, &set).await? {
        known.extend(report.addresses);
    }
    let peers: Vec<_> = known.iter().filter_map(|address| peer(config, address).ok()).collect();
    let asking = peers.iter().map(|peer| timeout(ANSWER, say(peer, stay)));
    for (peer, said) in peers.iter().zip(futures_util::future::join_all(asking).await) {
        let address = peer.address().to_owned();
        match said {
            Ok(Ok(Said::Stands(stood))) => drop(seen.stood.insert(stood.node, stood)),
            Ok(Ok(Said::Runs(report))) if has_nothing(&report) => drop(seen.empty.insert(report.node)),
            Ok(Ok(Said::Runs(report))) => drop(seen.runs.insert(report.node, report.applied)),
            // One that others have heard of may be gone for long.
            Ok(Err(reason)) if set.contains(&address) => seen.silent.push(reason),
            Err(_) if set.contains(&address) => seen.silent.push(format!("the node at {address} does not answer")),
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Ok(seen)
}

/// What the nodes at `addresses` say who answer.
pub(super) async fn hear_at(config: &Config, addresses: &BTreeSet<String>) -> Result<Vec<Report>, Failure> {
    let peers = addresses.iter().map(|address| peer(config, address)).collect::<Result<Vec<_>, _>>()?;
    Ok(hear(&peers, None).await)
}

/// Whether it is a node that comes up and has no data yet: nothing can be lost with it. Its journal may be made already, and be empty.
fn has_nothing(report: &Report) -> bool {
    report.phase == Phase::Joining && report.applied == Position::default() && report.synced.ordinal == 0
}

enum Said {
    Stands(ieum_peer::Stood),
    Runs(Report),
}

/// What a node says of itself, or why it says nothing.
async fn say(peer: &Peer, stay: Stay) -> Result<Said, String> {
    let stood = match stay {
        Stay::Free => peer.stand().await,
        Stay::Still => peer.stand_still().await,
    };
    if let Some(stood) = stood.map_err(|error| error.to_string())? {
        return Ok(Said::Stands(stood));
    }
    let heard = hear(std::slice::from_ref(peer), None).await.pop();
    heard.map(Said::Runs).ok_or_else(|| format!("the node at {} does not say what it does", peer.address()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taken for one that has nothing, it would be left out of the reseed with what only it has.
    #[test]
    fn a_node_that_comes_up_with_data_is_not_taken_for_an_empty_one() {
        let report = |phase, applied, synced| Report {
            node: 3,
            dc: "c".to_owned(),
            phase,
            applied,
            synced,
            build: 1,
            life: 3,
            endpoint: None,
            addresses: Vec::new(),
            digests: Vec::new(),
            began: None,
            copied: None,
            decided: Vec::new(),
        };
        let nowhere = Position::default();
        assert!(has_nothing(&report(Phase::Joining, nowhere, nowhere)));
        // It waits for somebody to fill it.
        assert!(has_nothing(&report(Phase::Joining, nowhere, Position::new(4, 0))));
        // Its journal is not open yet, and then its view is not.
        assert!(!has_nothing(&report(Phase::Joining, Position::new(4, 0), nowhere)));
        assert!(!has_nothing(&report(Phase::Joining, nowhere, Position::new(4, 40))));
        assert!(!has_nothing(&report(Phase::Ready, nowhere, nowhere)));
    }
}
