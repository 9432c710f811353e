//! How long users waited. Each operation that a user began is a wait; the longest is the outage that was seen.
//!
//! | function | an operation begins | and ends |
//! |---|---|---|
//! | `send_receive` | a user gives a message to the client | it is acknowledged: the sender waited |
//! | | somebody else has a message, or its acknowledgement | this member has it too: the member waited |
//! | `sync` | the app is opened on a device that was away | it is live and has everything that was acknowledged to others before |
//! | `login` | somebody sends handle and password from a new device | the new device is live and has that too |
//!
//! What never ended lasts until the end of the run. Time between `uncounted` and `counted` marks is left out.

use std::collections::HashMap;

use ieum_planted::Bug;

use super::lived::{Lived, Mark};
use crate::history::Token;

/// The functions, in the order of the reports.
pub(super) const FUNCTIONS: [&str; 3] = ["send_receive", "sync", "login"];

/// An operation of a user.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wait {
    pub(super) function: &'static str,
    pub(super) dc: String,
    pub(super) client: u32,
    pub(super) from: u64,
    /// Where it ended, or the run.
    pub(super) to: u64,
    /// In seconds, without what does not count.
    pub(super) lasted: f64,
    /// What was waited for.
    pub(super) what: &'static str,
}

/// All operations that began once everybody talked.
pub(super) fn of(lived: &Lived) -> Vec<Wait> {
    let mut waits = Vec::new();
    let mut push = |function, dc: &str, client, (from, to): (u64, Option<u64>), what| {
        if from >= lived.live && (from <= lived.stop || lived.stop == 0) {
            let to = to.unwrap_or(if Bug::EndlessWaitForgotten.planted() { from } else { lived.end });
            let lasted = counted(&lived.marks, from, to);
            waits.push(Wait { function, dc: dc.to_owned(), client, from, to, lasted, what });
        }
    };
    for probe in &lived.probes {
        push(probe.function, &probe.dc, probe.client, (probe.begun, probe.ended), "the device");
    }
    for (number, client) in (0..).zip(&lived.clients) {
        for (written, answered) in &client.times {
            push("send_receive", &client.dc, number, (*written, *answered), "the acknowledgement");
        }
    }
    for (member, known, came) in receipts(lived) {
        let dc = lived.clients.get(member as usize).map_or("", |client| client.dc.as_str());
        push("send_receive", dc, member, (known, came), "somebody else's message");
    }
    waits
}

/// For each message and member who did not write it: when somebody first knew of it, and when the member had it.
fn receipts(lived: &Lived) -> Vec<(u32, u64, Option<u64>)> {
    let mut members: HashMap<u64, Vec<u32>> = HashMap::new();
    let mut known: HashMap<Token, u64> = HashMap::new();
    let mut came: HashMap<(u32, Token), u64> = HashMap::new();
    for (number, client) in (0..).zip(&lived.clients) {
        for (place, (_, answered)) in (0..).zip(&client.times) {
            if let Some(at) = answered {
                let first = known.entry(Token { client: number, number: place }).or_insert(*at);
                *first = (*first).min(*at);
            }
        }
        for (at, _, _, token) in &client.got {
            let Some(token) = token else { continue };
            came.entry((number, *token)).or_insert(*at);
            let first = known.entry(*token).or_insert(*at);
            *first = (*first).min(*at);
        }
        for room in client.history.rooms.iter().filter(|_| client.present) {
            members.entry(*room).or_default().push(number);
        }
    }
    let mut receipts = Vec::new();
    for (token, known) in &known {
        let author = lived.clients.get(token.client as usize);
        let room = author.and_then(|author| author.history.sent.get(token.number as usize)).map(|sent| sent.room);
        let members = room.and_then(|room| members.get(&room)).into_iter().flatten();
        for member in members.filter(|member| **member != token.client) {
            receipts.push((*member, *known, came.get(&(*member, *token)).copied()));
        }
    }
    receipts
}

/// Seconds between two moments, without those that do not count.
pub(super) fn counted(marks: &[Mark], from: u64, to: u64) -> f64 {
    let mut sum = 0;
    let (mut since, mut counts) = (0, true);
    for (at, next) in marks.iter().filter_map(|mark| Some((mark.at, mark.counts?))).chain([(u64::MAX, false)]) {
        if counts {
            sum += at.min(to).saturating_sub(since.max(from));
        }
        (since, counts) = (at, next);
    }
    sum as f64 / 1e9
}

/// The longest, if there is any.
pub(super) fn longest<'a>(waits: impl Iterator<Item = &'a Wait>) -> Option<&'a Wait> {
    waits.max_by(|one, other| one.lasted.total_cmp(&other.lasted))
}

/// The least that is not normal, in seconds: three times what 99 of 100 did not exceed before the first mark, and no less than this.
pub(super) fn limit(waits: &[Wait], function: &str, first_mark: u64) -> f64 {
    let least = match function {
        "send_receive" => 0.25,
        "sync" => 0.5,
        _ => 1.0,
    };
    let before = waits.iter().filter(|wait| wait.function == function && wait.to < first_mark);
    let mut lasted: Vec<f64> = before.map(|wait| wait.lasted).collect();
    lasted.sort_by(f64::total_cmp);
    let at = (lasted.len() * 99).div_ceil(100).saturating_sub(1);
    lasted.get(at).map_or(least, |p99| (3.0 * p99).max(least))
}

/// How long after a fault, at most, an operation of this function ended that had lasted longer than normal; nothing without a fault.
pub(super) fn normal_after(lived: &Lived, waits: &[Wait], function: &str) -> Option<f64> {
    let first = lived.marks.first()?.at;
    let limit = limit(waits, function, first);
    let faults: Vec<u64> = lived.marks.iter().filter(|mark| mark.is_fault()).map(|mark| mark.at).collect();
    let ends = faults.iter().skip(1).copied().chain([u64::MAX]);
    let windows = faults.iter().zip(ends).map(|(begin, end)| {
        let slow = waits.iter().filter(|wait| wait.function == function && wait.lasted > limit);
        let within = slow.filter(|wait| wait.to > *begin && wait.from < end);
        within.map(|wait| counted(&lived.marks, *begin, wait.to.min(end))).fold(0.0, f64::max)
    });
    windows.reduce(f64::max)
}

/// The mark that a wait belongs to: the first that it went through, or the last before it.
pub(super) fn mark_of<'a>(lived: &'a Lived, wait: &Wait) -> Option<&'a Mark> {
    let through = lived.marks.iter().find(|mark| mark.at > wait.from && mark.at < wait.to);
    through.or_else(|| lived.marks.iter().rev().find(|mark| mark.at <= wait.from))
}
