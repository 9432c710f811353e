//! What people read: the summary of a drill, and the page with all of them.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::figures::{Run, spread};
use super::waits::FUNCTIONS;
use super::{Scenario, Verdict};
use crate::error::{Error, Naming as _};
use crate::scenario;

/// What a function is called.
fn called(function: &str) -> &'static str {
    match function {
        "send_receive" => "send and receive",
        "sync" => "sync after coming back",
        _ => "login of a new device",
    }
}

/// The summary of a drill. Writing into a string does not fail.
pub(super) fn summary(scenario: &Scenario<'_>, runs: &[Run], verdict: &Verdict) -> String {
    let mut text =
        format!("{}: {}\n{} runs; again: {}\n\n", scenario.name, scenario.title, runs.len(), scenario.repeat);
    let Verdict { acknowledged, lost, duplicated, out_of_order, differing_views, other, .. } = verdict;
    let _ = writeln!(
        text,
        "{acknowledged} messages acknowledged: {lost} lost, {duplicated} duplicated, {out_of_order} out of order; \
         {differing_views} differing views; {other} other broken promises\n"
    );
    let _ = writeln!(text, "{:<26}{:>10}{:>10}   normal after", "longest outage, seconds", "median", "max");
    for function in FUNCTIONS {
        let Some((median, max)) = verdict.outage(function) else { continue };
        let after: Vec<f64> = runs.iter().filter_map(|run| run.normal_after(function)).collect();
        let after = spread(&after).map_or("-".to_owned(), |(median, max)| format!("{median:.2} (max {max:.2})"));
        let _ = writeln!(text, "{:<26}{median:>10.2}{max:>10.2}   {after}", called(function));
        for dc in runs.first().map(Run::dcs).unwrap_or_default() {
            let each: Vec<f64> = runs.iter().filter_map(|run| run.outage(function, Some(&dc))).collect();
            if let Some((median, max)) = spread(&each) {
                let _ = writeln!(text, "  users of data center {dc:<3}{median:>10.2}{max:>10.2}");
            }
        }
    }
    if let Some(required) = verdict.required_s {
        let over = verdict.over();
        let kept = if over.is_empty() { "kept" } else { "NOT KEPT" };
        let _ = writeln!(text, "required: no median over {required} s: {kept}");
    }
    let _ = writeln!(text, "\nwhat it went into: {}\n", super::figures::went_into(runs));
    for (number, run) in (1..).zip(runs) {
        run_summary(&mut text, number, run);
    }
    text
}

fn run_summary(text: &mut String, number: usize, run: &Run) {
    let _ = writeln!(text, "run {number}: {} acknowledged", run.counts.acknowledged);
    for ((at, done), longest) in run.marks.iter().zip(run.after_marks.iter().skip(1)) {
        let longest: Vec<String> = longest.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
        let _ = writeln!(text, "  {at:6.1} s  {done}: then at most {}", longest.join(", "));
    }
    let complaints = run.counts.complaints.iter().chain(&run.unwell).map(|line| ("BROKEN", line));
    let notes = run.notes.iter().map(|line| ("note", line));
    for (kind, line) in complaints.chain(notes).chain(run.stories.iter().map(|line| ("longest", line))) {
        let _ = writeln!(text, "  {kind}: {line}");
    }
    if run.left_out > 0 {
        let _ = writeln!(text, "  {} probes were left out because too many waited", run.left_out);
    }
}

const INTRODUCTION: &str = "\
# Drills

This page is written by `make drill`; do not edit it. Each drill does to a cell over three data centers what happened elsewhere, with real processes in
namespaces of one machine, and measures from outside what people notice. What a cell promises and why it should keep it: [design.md](design.md).

- **Load**: 300 people, spread evenly over the data centers, write 300 messages a second into direct rooms and groups that lead across data centers. Per data center a
  probe every 100 ms for *send and receive* and for *sync*, and every 500 ms for *login*. All of it through the shipped client (`crates/client`) with its shipped settings.
  A client knows all nodes, and is told which one is in its user's data center (`Options::home`): it tries that one first, and returns to it after some minutes.
- **Outage**: each thing that a user starts is waited for; the longest wait of any user is the run's outage, users of the dead data center included. Sending: from giving a
  message to the client until its acknowledgement. Receiving: from when anybody else had the message, or its acknowledgement, until this member had it. Sync: from opening
  the app on a device that was away until it is live and has all that was acknowledged to others before. Login: from sending handle and password on a new device until that
  device is live and has that too. What never ends counts until the end of the run. Median and maximum are over runs.
- **What does not count**: in two drills people wait for the drill itself, and not for the cell. In `all-dark` nothing counts from just before the power goes until it is back in
  every data center and everything there was started again; in `log-lost` from just before etcd's data is gone until the operator says `ieum log reseed`. Of what was begun
  before or meanwhile only the rest counts: what was waited before the fault, and what is waited after that moment. So these outages are counted *from the return of
  power* and *from the operator's word*, and people waited longer by the time that is left out (\"normal after\" and \"what it went into\" leave it out as well; the seconds inside of the
  stories of the summaries do not). In all other drills an outage counts from its first moment.
- **Normal after**: how long after a fault the last operation ended that took longer than normal (three times the 99th percentile before the first fault, at least 0.25 s for
  send and receive, 0.5 s for sync, 1 s for login).
- **Lost, duplicated, out of order, differing views**: from the clients' own histories and from what each surviving node shows, room by room, at the end, and from
  `ieum verify` of their stopped folders. Never from what the program says of itself.
- **What an outage went into**: from the clients' connections, and from the members' logs when etcd chose a leader.
";

/// What may be waited for at most in the drill of this name: as its scenario file says now, for results that are older than what is required.
fn required(drills: &Path, name: &str) -> Result<Option<f64>, Error> {
    let file = drills.join(format!("{name}.toml"));
    if file.exists() { Ok(scenario::Scenario::read(&file)?.required_s) } else { Ok(None) }
}

/// Whether a result is longer in the median than required.
fn is_over(drill: &Value, required: f64) -> bool {
    let median = |function: &str| drill.pointer(&format!("/outage_s/{function}/median")).and_then(Value::as_f64);
    FUNCTIONS.into_iter().filter_map(median).any(|median| median > required)
}

/// A required outage beside what came out, for a cell of a table.
fn demand(drill: &Value, required: Option<f64>) -> String {
    match required {
        None => "-".to_owned(),
        Some(required) if is_over(drill, required) => format!("{required}, **not kept**"),
        Some(required) => format!("{required}, kept"),
    }
}

/// The page, from all `*.json` in the folder of results.
pub(super) fn page(results: &Path, drills: &Path, page: &Path) -> Result<String, Error> {
    let reading = || format!("reading {}", results.display());
    let mut paths: Vec<_> = std::fs::read_dir(results)
        .naming(reading)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    paths.sort();
    let mut kept: Vec<(Value, Option<f64>)> = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).naming(|| format!("reading {}", path.display()))?;
        let drill: Value = serde_json::from_str(&text).naming(|| format!("reading {}", path.display()))?;
        let required = required(drills, &word(&drill, "/scenario"))?;
        kept.push((drill, required));
    }
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n| drill | runs | acknowledged | lost | twice | out of order | differing | send and receive | sync | login | at most |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (drill, required) in &kept {
        let name = word(drill, "/scenario");
        let counts = ["runs", "acknowledged", "lost", "duplicated", "out_of_order", "differing_views"];
        let counts = counts.map(|count| word(drill, &format!("/{count}"))).join(" | ");
        let outages = FUNCTIONS.map(|function| both(drill, &format!("/outage_s/{function}"))).join(" | ");
        let _ = writeln!(text, "| [{name}](#{name}) | {counts} | {outages} | {} |", demand(drill, *required));
    }
    text.push_str(
        "\nOutages are the longest that any user saw, in seconds: median over runs (largest). \"At most\" is what each of the three medians may be; `-` where nothing is\n\
         required. It stands in the scenario file (`required_s`), and `make drill` fails when it is not kept (a short run does not look).\n",
    );
    let images = relative(results, page);
    for (drill, required) in &kept {
        section(&mut text, drill, *required, &images);
    }
    Ok(text)
}

fn section(text: &mut String, drill: &Value, required: Option<f64>, images: &str) {
    let name = word(drill, "/scenario");
    let _ = writeln!(text, "\n## {name}\n\n{}. ({})\n", word(drill, "/title"), word(drill, "/incident"));
    let _ = writeln!(text, "![Acknowledged messages per 100 ms]({images}/{name}.svg)\n");
    let _ = writeln!(
        text,
        "Again: `{}`. All of it: [summary]({images}/{name}.txt), [JSON]({images}/{name}.json).\n",
        word(drill, "/repeat")
    );
    if let Some(required) = required {
        let kept = if is_over(drill, required) { "**not kept**" } else { "kept" };
        let _ = writeln!(text, "Required: no median outage over {required} s. That was {kept}.\n");
    }
    text.push_str("| | longest outage, s | by data center | normal after, s |\n|---|---|---|---|\n");
    for function in FUNCTIONS {
        let dcs = drill.pointer(&format!("/outage_by_dc_s/{function}")).and_then(Value::as_object);
        let dcs: Vec<String> =
            dcs.into_iter().flatten().map(|(dc, outage)| format!("{dc}: {}", both(outage, ""))).collect();
        let (outage, after) = (format!("/outage_s/{function}"), format!("/normal_after_s/{function}"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            called(function),
            both(drill, &outage),
            dcs.join(", "),
            both(drill, &after)
        );
    }
    let part = |name: &str| both(drill, &format!("/outage_went_into/{name}"));
    let _ = writeln!(
        text,
        "\nWhat it went into, for the {} times that a user's client had to move: {} s until it gave its server up, {} s until another said welcome, \
         {} s until it was caught up. The longest wait of those who kept theirs: {} s. After {} faults etcd chose a leader: {} s until then, and {} s more \
         until anybody's message was acknowledged (appends tried again, their way through the tail, and clients that came meanwhile).",
        word(drill, "/outage_went_into/users_who_moved"),
        part("until_the_client_gave_its_server_up_s"),
        part("until_another_server_said_welcome_s"),
        part("until_it_was_caught_up_s"),
        part("longest_of_those_who_stayed_s"),
        word(drill, "/outage_went_into/elections_of_etcd"),
        part("until_etcd_had_a_new_leader_s"),
        part("from_there_until_a_message_was_acknowledged_s"),
    );
    let settings = drill.pointer("/settings").and_then(Value::as_array);
    text.push('\n');
    for setting in settings.into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(text, "- {setting}");
    }
    let of = |name: &str| word(drill, &format!("/machine/{name}"));
    let _ = writeln!(
        text,
        "\nMachine: {}, {} cores, {}, Linux {}. Versions: Ieum {} ({}), {}. Clients: {}.",
        of("processor"),
        of("cores"),
        of("memory"),
        of("kernel"),
        of("ieum"),
        of("commit"),
        of("etcd"),
        clients(drill)
    );
}

/// The clients' settings, as the run noted them.
fn clients(drill: &Value) -> String {
    let about = drill.pointer("/clients").and_then(Value::as_object);
    let settings = about
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{} {}", key.strip_prefix("client.")?, value.as_str()?)));
    settings.collect::<Vec<_>>().join(", ")
}

fn word(drill: &Value, pointer: &str) -> String {
    match drill.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

/// Median and maximum.
fn both(drill: &Value, pointer: &str) -> String {
    let figure = |name: &str| drill.pointer(&format!("{pointer}/{name}")).and_then(Value::as_f64);
    match (figure("median"), figure("max")) {
        (Some(median), Some(max)) => format!("{median:.2} ({max:.2})"),
        _ => "-".to_owned(),
    }
}

/// The results as the page names them: both lie in the repository.
fn relative(results: &Path, page: &Path) -> String {
    let up = page.parent().map_or(0, |folder| folder.components().count());
    let absolute = results.is_absolute() || page.is_absolute();
    if absolute { results.display().to_string() } else { format!("{}{}", "../".repeat(up), results.display()) }
}
