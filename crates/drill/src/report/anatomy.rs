//! What the time of an outage went into, as the clients' connections tell it.

use std::collections::HashSet;

use super::lived::{Client, Lived, Mark};
use super::waits::{Wait, counted, longest};

/// How a user's client got through a fault, in seconds that count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Move {
    /// From the fault until it gave its server up.
    pub(super) detection: f64,
    /// From there until another server said welcome.
    pub(super) reconnect: f64,
    /// From there until it was live.
    pub(super) catch_up: f64,
}

/// How the log got over a fault that took its leader, in seconds that count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Election {
    /// From the fault until etcd had chosen another leader.
    pub(super) chosen: f64,
    /// From there until anybody's message was acknowledged.
    pub(super) acknowledged: f64,
}

/// What everybody went through.
#[derive(Debug, Clone, Default)]
pub(super) struct Anatomy {
    pub(super) moves: Vec<Move>,
    /// Of the faults after which etcd chose a leader.
    pub(super) elections: Vec<Election>,
    /// The longest wait of a user whose client kept its server.
    pub(super) stayed: f64,
}

fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

/// How the client got through what began at `fault`; nothing when it kept its server until `next`.
fn moved(client: &Client, marks: &[Mark], fault: u64, next: u64) -> Option<Move> {
    let mut states = client.states.iter().filter(|(at, _)| *at >= fault && *at < next);
    let (gave_up, _) = states.find(|(_, state)| state.starts_with("waiting"))?;
    let mut welcome = None;
    for (at, state) in states {
        if state.starts_with("catching_up") {
            welcome = Some(*at);
        } else if state.starts_with("live")
            && let Some(welcome) = welcome
        {
            let (detection, reconnect) = (counted(marks, fault, *gave_up), counted(marks, *gave_up, welcome));
            return Some(Move { detection, reconnect, catch_up: counted(marks, welcome, *at) });
        }
    }
    None
}

/// The first election of these between a fault and whatever was done next, and what came of it.
fn elected(lived: &Lived, elections: &[u64], fault: u64) -> Option<Election> {
    let next = lived.marks.iter().map(|mark| mark.at).find(|at| *at > fault).unwrap_or(u64::MAX);
    let at = elections.iter().copied().find(|at| *at >= fault && *at < next)?;
    let answers = lived.clients.iter().flat_map(|client| &client.times).filter_map(|(_, answered)| *answered);
    let first = answers.filter(|answered| *answered >= at).min()?;
    Some(Election { chosen: counted(&lived.marks, fault, at), acknowledged: counted(&lived.marks, at, first) })
}

/// `elections` are the moments at which etcd chose leaders.
pub(super) fn of(lived: &Lived, waits: &[Wait], elections: &[u64]) -> Anatomy {
    let mut anatomy = Anatomy::default();
    let faults: Vec<u64> = lived.marks.iter().filter(|mark| mark.is_fault()).map(|mark| mark.at).collect();
    let ends = faults.iter().skip(1).copied().chain([u64::MAX]);
    for (fault, next) in faults.iter().copied().zip(ends) {
        anatomy.elections.extend(elected(lived, elections, fault));
        let mut stayed = HashSet::new();
        for (number, client) in (0..).zip(&lived.clients).filter(|(_, client)| client.present) {
            match moved(client, &lived.marks, fault, next) {
                Some(one) => anatomy.moves.push(one),
                None => _ = stayed.insert(number),
            }
        }
        let waits = waits.iter().filter(|wait| wait.to > fault && wait.from < next);
        let of_them = waits.filter(|wait| wait.function == "send_receive" && stayed.contains(&wait.client));
        anatomy.stayed = anatomy.stayed.max(longest(of_them).map_or(0.0, |wait| wait.lasted));
    }
    anatomy
}

/// The story of a wait: what its client's connection went through meanwhile, with seconds since the wait began.
pub(super) fn story(lived: &Lived, wait: &Wait) -> String {
    let Wait { function, dc, client, from, to, lasted, what } = wait;
    let mut story = format!("{function}: client {client} of dc {dc} waited {lasted:.2} s for {what}");
    let marks = lived.marks.iter().map(|mark| (mark.at, format!("[{}]", mark.text)));
    let states = lived.clients.get(*client as usize).into_iter().flat_map(|client| client.states.iter().cloned());
    let mut steps: Vec<(u64, String)> = marks.chain(states).filter(|(at, _)| at >= from && at <= to).collect();
    steps.sort_by_key(|(at, _)| *at);
    for (at, step) in steps {
        story.push_str(&format!("; {:.2} {step}", seconds(*from, at)));
    }
    story
}
