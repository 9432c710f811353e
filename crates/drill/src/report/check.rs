//! Whether a run kept what was promised: from what clients lived through and what survivors hold, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ieum_planted::Bug;

use super::lived::{Lived, Survivor};
use crate::history::{self, History, Outcome, Violation};

/// The most broken promises that are quoted.
const QUOTED: usize = 20;

/// How many promises were broken, by kind. A message that is lost at two survivors is lost once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) acknowledged: u64,
    /// Messages that were acknowledged and a survivor does not hold, or that a member never got.
    pub(super) lost: u64,
    /// Messages that are there twice.
    pub(super) duplicated: u64,
    /// Messages of a sender that stand, or came, before an earlier one of theirs.
    pub(super) out_of_order: u64,
    /// Survivors that hold something else than most.
    pub(super) differing_views: u64,
    /// Anything else that must not be: no outcome, a gap in a room's seqs, a message that nobody wrote, a room that cannot be read.
    pub(super) other: u64,
    /// The first few, in words.
    pub(super) complaints: Vec<String>,
}

/// Each kind's broken promises, each once.
#[derive(Default)]
struct Found {
    lost: BTreeSet<String>,
    duplicated: BTreeSet<String>,
    out_of_order: BTreeSet<String>,
    other: BTreeSet<String>,
}

pub(super) fn check(lived: &Lived) -> Counts {
    let histories: Vec<History> = lived.clients.iter().map(|client| client.history.clone()).collect();
    let mut found = Found::default();
    for (name, survivor) in &lived.survivors {
        for violation in history::check(&histories, &survivor.rooms).violations {
            found.sort_in(&violation);
        }
        check_members(lived, survivor, &mut found);
        found.other.extend(survivor.unreadable.iter().map(|why| format!("survivor {name} could not be read: {why}")));
    }
    let sent = histories.iter().flat_map(|history| &history.sent);
    let acknowledged = sent.filter(|sent| matches!(sent.outcome, Outcome::Acknowledged { .. })).count();
    let differing = differing(&lived.survivors);
    let mut complaints: Vec<String> =
        differing.iter().map(|name| format!("survivor {name} holds something else than most")).collect();
    let kinds = [&found.lost, &found.duplicated, &found.out_of_order, &found.other];
    complaints.extend(kinds.into_iter().flat_map(|kind| kind.iter().take(QUOTED / 4).cloned()));
    let size = |found: &BTreeSet<String>| found.len() as u64;
    Counts {
        acknowledged: acknowledged as u64,
        lost: size(&found.lost),
        duplicated: size(&found.duplicated),
        out_of_order: size(&found.out_of_order),
        differing_views: differing.len() as u64,
        other: size(&found.other),
        complaints,
    }
}

impl Found {
    fn sort_in(&mut self, violation: &Violation) {
        let kind = match violation {
            Violation::Lost { .. } => &mut self.lost,
            Violation::Duplicated { .. } => &mut self.duplicated,
            Violation::Disordered { .. } => &mut self.out_of_order,
            // Looked at by `check_members`: what was skipped may be lost, or late.
            Violation::NotHeard { .. } | Violation::Skipped { .. } => return,
            _ => &mut self.other,
        };
        kind.insert(violation.to_string());
    }
}

/// What each member has of each room: all of it, and each sender's messages in their order.
fn check_members(lived: &Lived, survivor: &Survivor, found: &mut Found) {
    for (number, client) in lived.clients.iter().enumerate() {
        let mut has: HashMap<u64, BTreeSet<u64>> = HashMap::new();
        for (_, room, seq, _) in client.got.iter().skip(client.void_at) {
            has.entry(*room).or_default().insert(*seq);
        }
        for room in client.history.rooms.iter().filter(|_| client.present && !Bug::MembersNotAsked.planted()) {
            let has = has.get(room);
            for held in survivor.rooms.get(room).into_iter().flatten() {
                if !has.is_some_and(|has| has.contains(&held.seq)) {
                    found.lost.insert(format!("lost: client {number} never got message {} of room {room}", held.seq));
                }
            }
        }
        check_stream(number, &client.history, found);
    }
}

/// In a stream no message comes before an earlier one of its room, unless it was said that messages are left out.
fn check_stream(number: usize, history: &History, found: &mut Found) {
    let mut reached: HashMap<u64, u64> = HashMap::new();
    let mut seen: HashMap<u64, BTreeSet<u64>> = HashMap::new();
    for heard in &history.heard {
        match *heard {
            history::Heard::Void => {
                reached.clear();
                seen.clear();
            }
            history::Heard::LeftOut { room } => {
                reached.remove(&room);
            }
            history::Heard::Message { room, seq, .. } => {
                // One that came before may come again when a connection breaks; a new one may not come late.
                let new = seen.entry(room).or_default().insert(seq);
                let newest = reached.entry(room).or_insert(seq);
                if new && seq < *newest {
                    found.out_of_order.insert(format!(
                        "disordered: client {number} got message {seq} of room {room} after message {newest}"
                    ));
                }
                *newest = (*newest).max(seq);
            }
        }
    }
}

/// The survivors that hold something else than most of them; of two that differ, the second.
fn differing(survivors: &BTreeMap<String, Survivor>) -> Vec<String> {
    let alike = |one: &Survivor| survivors.values().filter(|other| other.contents == one.contents).count();
    let mut most: Option<(&Survivor, usize)> = None;
    for survivor in survivors.values() {
        let alike = alike(survivor);
        if most.is_none_or(|(_, most)| alike > most) {
            most = Some((survivor, alike));
        }
    }
    let Some((most, _)) = most else { return Vec::new() };
    survivors.iter().filter(|(_, other)| other.contents != most.contents).map(|(name, _)| name.clone()).collect()
}
