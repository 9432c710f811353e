//! The figures of each run, and of several together.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use super::anatomy::{self, Anatomy};
use super::check::{self, Counts};
use super::lived::{Lived, Mark};
use super::waits::{self, FUNCTIONS, Wait, longest, mark_of};
use crate::history::Outcome;
use crate::run::Record;

/// How many nanoseconds are one point of the timeline.
pub(super) const BIN: u64 = 100_000_000;

/// What is kept of a run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) counts: Counts,
    /// Of the nodes whose folder is not well: what `ieum verify` said.
    pub(super) unwell: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) about: BTreeMap<String, String>,
    /// Seconds from the beginning, and what was done.
    pub(super) marks: Vec<(f64, String)>,
    /// The longest wait after each mark, by function; first those before any.
    pub(super) after_marks: Vec<BTreeMap<&'static str, f64>>,
    /// By data center: acknowledged messages in each tenth of a second.
    pub(super) acknowledged: BTreeMap<String, Vec<u32>>,
    pub(super) anatomy: Anatomy,
    /// Of each function's longest wait.
    pub(super) stories: Vec<String>,
    /// From a message's writing until the last member had it, at most.
    pub(super) end_to_end: f64,
    /// Probes that were left out.
    pub(super) left_out: u64,
    outages: BTreeMap<(&'static str, Option<String>), f64>,
    normal: BTreeMap<&'static str, f64>,
}

impl Run {
    pub(super) fn of(lived: &Lived, record: Record) -> Self {
        let waits = waits::of(lived);
        let mut outages = BTreeMap::new();
        for wait in &waits {
            for whose in [None, Some(wait.dc.clone())] {
                let outage: &mut f64 = outages.entry((wait.function, whose)).or_default();
                *outage = outage.max(wait.lasted);
            }
        }
        let of_function = |function| waits.iter().filter(move |wait: &&Wait| wait.function == function);
        let stories = FUNCTIONS.iter().filter_map(|function| longest(of_function(*function)));
        let normal = FUNCTIONS
            .into_iter()
            .filter_map(|function| Some((function, waits::normal_after(lived, &waits, function)?)));
        let mut notes = record.notes;
        notes.extend(lived.unsettled.clone());
        let unwell = record.verify.iter().filter(|(_, said)| !said.starts_with("All is well"));
        Self {
            counts: check::check(lived),
            unwell: unwell.map(|(node, said)| format!("{node}: {said}")).collect(),
            notes,
            about: lived.about.clone(),
            marks: lived.marks.iter().map(|mark| (since(lived, mark.at), mark.text.clone())).collect(),
            after_marks: after_marks(lived, &waits),
            acknowledged: acknowledged(lived),
            anatomy: anatomy::of(lived, &waits, &record.elections),
            stories: stories.map(|wait| anatomy::story(lived, wait)).collect(),
            end_to_end: end_to_end(lived),
            left_out: lived.left_out,
            normal: normal.collect(),
            outages,
        }
    }

    /// The longest outage of a function that anybody saw, or any user of a data center.
    pub(super) fn outage(&self, function: &'static str, dc: Option<&str>) -> Option<f64> {
        self.outages.get(&(function, dc.map(str::to_owned))).copied()
    }

    pub(super) fn normal_after(&self, function: &str) -> Option<f64> {
        self.normal.get(function).copied()
    }

    pub(super) fn dcs(&self) -> Vec<String> {
        self.acknowledged.keys().cloned().collect()
    }

    pub(super) fn json(&self) -> Value {
        let marks = self.marks.iter().zip(self.after_marks.iter().skip(1)).map(|((at, text), longest)| {
            let longest: BTreeMap<&str, f64> = longest.iter().map(|(name, value)| (*name, rounded(*value))).collect();
            json!({"at_s": rounded(*at), "done": text, "longest_s": longest})
        });
        let outages = FUNCTIONS.iter().filter_map(|name| Some(((*name).to_owned(), rounded(self.outage(name, None)?))));
        json!({
            "acknowledged": self.counts.acknowledged,
            "outage_s": outages.map(|(name, value)| (name, json!(value))).collect::<serde_json::Map<_, _>>(),
            "marks": marks.collect::<Vec<_>>(),
            "notes": self.notes,
            "complaints": self.counts.complaints,
            "unwell": self.unwell,
            "probes_left_out": self.left_out,
            "longest": self.stories,
        })
    }
}

/// Seconds since everybody talked.
fn since(lived: &Lived, at: u64) -> f64 {
    (at as f64 - lived.live as f64) / 1e9
}

fn after_marks(lived: &Lived, waits: &[Wait]) -> Vec<BTreeMap<&'static str, f64>> {
    let mut after = vec![BTreeMap::new(); lived.marks.len() + 1];
    for wait in waits {
        let mark: Option<&Mark> = mark_of(lived, wait);
        let at = mark.and_then(|mark| lived.marks.iter().position(|one| one == mark)).map_or(0, |at| at + 1);
        if let Some(longest) = after.get_mut(at) {
            let longest: &mut f64 = longest.entry(wait.function).or_default();
            *longest = longest.max(wait.lasted);
        }
    }
    after
}

fn acknowledged(lived: &Lived) -> BTreeMap<String, Vec<u32>> {
    let bins = usize::try_from(lived.end.saturating_sub(lived.live) / BIN + 1).unwrap_or(0);
    let mut counts: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for client in lived.clients.iter().filter(|client| client.present) {
        let counts = counts.entry(client.dc.clone()).or_insert_with(|| vec![0; bins]);
        for ((_, answered), sent) in client.times.iter().zip(&client.history.sent) {
            let acknowledged = matches!(sent.outcome, Outcome::Acknowledged { .. });
            let Some(at) = answered.filter(|at| acknowledged && *at >= lived.live) else { continue };
            let bin = usize::try_from((at - lived.live) / BIN).ok().and_then(|bin| counts.get_mut(bin));
            if let Some(count) = bin {
                *count += 1;
            }
        }
    }
    counts
}

/// From a message's writing until the last member had it.
fn end_to_end(lived: &Lived) -> f64 {
    let mut longest: f64 = 0.0;
    for client in lived.clients.iter().filter(|client| client.present) {
        for (at, _, _, token) in &client.got {
            let Some(token) = token else { continue };
            let author = lived.clients.get(token.client as usize);
            let Some((written, _)) = author.and_then(|author| author.times.get(token.number as usize)) else {
                continue;
            };
            if *written >= lived.live {
                longest = longest.max(waits::counted(&lived.marks, *written, *at));
            }
        }
    }
    longest
}

/// Three digits behind the point.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// The middle one, the lower of two middle ones, and the largest.
pub(super) fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some((*sorted.get(sorted.len().saturating_sub(1) / 2)?, *sorted.last()?))
}

pub(super) fn json(values: &[f64]) -> Value {
    spread(values).map_or(Value::Null, |(median, max)| json!({"median": rounded(median), "max": rounded(max)}))
}

/// The run whose outage of sending and receiving is the middle one.
pub(super) fn typical(runs: &[Run]) -> Option<&Run> {
    let mut sorted: Vec<&Run> = runs.iter().collect();
    let outage = |run: &Run| run.outage("send_receive", None).unwrap_or(0.0);
    sorted.sort_by(|one, other| outage(one).total_cmp(&outage(other)));
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// What the time went into, over all users whose client had to move, of all runs.
pub(super) fn went_into(runs: &[Run]) -> Value {
    let moves: Vec<_> = runs.iter().flat_map(|run| &run.anatomy.moves).collect();
    let elections: Vec<_> = runs.iter().flat_map(|run| &run.anatomy.elections).collect();
    let election = |of: fn(&anatomy::Election) -> f64| json(&elections.iter().map(|one| of(one)).collect::<Vec<_>>());
    let part = |of: fn(&anatomy::Move) -> f64| json(&moves.iter().map(|one| of(one)).collect::<Vec<_>>());
    json!({
        "users_who_moved": moves.len(),
        "until_the_client_gave_its_server_up_s": part(|one| one.detection),
        "until_another_server_said_welcome_s": part(|one| one.reconnect),
        "until_it_was_caught_up_s": part(|one| one.catch_up),
        "elections_of_etcd": elections.len(),
        "until_etcd_had_a_new_leader_s": election(|one| one.chosen),
        "from_there_until_a_message_was_acknowledged_s": election(|one| one.acknowledged),
        "longest_of_those_who_stayed_s": json(&runs.iter().map(|run| run.anatomy.stayed).collect::<Vec<_>>()),
    })
}

fn said(program: &str, arguments: &[&str]) -> Value {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.and_then(|text| Some(text.lines().next()?.trim().to_owned())).map_or(Value::Null, Value::String)
}

/// Of what is checked out; what a report writes itself is no change.
fn commit() -> Value {
    let changed = said("git", &["status", "--porcelain", "--", ".", ":!drills/results", ":!docs/drills.md"]);
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    match (commit, changed) {
        (Value::String(commit), Value::String(_)) => Value::String(format!("{commit}-dirty")),
        (commit, _) => commit,
    }
}

fn line_of(path: &str, name: &str) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(Value::Null, |line| line.trim_start_matches([':', '\t', ' ']).trim().into())
}

/// Where it ran, and what.
pub(super) fn machine() -> Value {
    json!({
        "processor": line_of("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory": line_of("/proc/meminfo", "MemTotal"),
        "kernel": line_of("/proc/sys/kernel/osrelease", ""),
        "etcd": said("etcd", &["--version"]),
        "ieum": env!("CARGO_PKG_VERSION"),
        "commit": commit(),
    })
}
