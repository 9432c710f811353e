//! From what the clients of all runs of a drill lived through to its figures: `NAME.json`, a summary, a timeline, and the page with all drills.
//!
//! Nothing here asks the program how it is. A promise is broken, or somebody waited, when clients' own histories and what survivors show say so;
//! only what a wait went into is told by etcd's log, too.

mod anatomy;
mod check;
mod figures;
mod lived;
mod page;
#[cfg(test)]
mod tests;
mod timeline;
mod waits;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Error, Naming as _};
use crate::run::{RECORD, Record};
use figures::{Run, spread};
use lived::Lived;

/// A drill and its runs.
#[derive(Debug, Clone)]
pub struct Scenario<'a> {
    /// Its name: files are named after it.
    pub name: &'a str,
    /// One line for people.
    pub title: &'a str,
    /// What happened elsewhere that it answers.
    pub incident: &'a str,
    /// How to run it again.
    pub repeat: &'a str,
    /// Conditions, versions and settings, a line each.
    pub settings: Vec<String>,
    /// Each run's folder, with `load/` and `run.json` in it.
    pub runs: Vec<PathBuf>,
    /// What the median of the longest outage may be, in seconds.
    pub required_s: Option<f64>,
    /// Whether the page is left as it is.
    pub short: bool,
    /// Where the files go.
    pub results: &'a Path,
    /// Where the scenario files are, which say what is required of those whose results lie there already.
    pub drills: &'a Path,
    /// The page with all drills.
    pub page: &'a Path,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Of those, the lost ones.
    pub lost: u64,
    /// Messages that are there twice.
    pub duplicated: u64,
    /// Messages before an earlier one of the same sender.
    pub out_of_order: u64,
    /// Survivors that hold something else than most, or whose folder is not well.
    pub differing_views: u64,
    /// Other broken promises: no outcome, gaps, what nobody wrote, rooms that cannot be read.
    pub other: u64,
    /// The longest outage of each function, in seconds: median and largest over runs.
    pub outage_s: BTreeMap<String, (f64, f64)>,
    /// What the median may be of each.
    pub required_s: Option<f64>,
    /// All of it for people.
    pub summary: String,
}

impl Verdict {
    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.acknowledged > 0
            && [self.lost, self.duplicated, self.out_of_order, self.differing_views, self.other].iter().all(|n| *n == 0)
    }

    /// Median and largest outage of `send_receive`, `sync` or `login`, in seconds.
    pub fn outage(&self, function: &str) -> Option<(f64, f64)> {
        self.outage_s.get(function).copied()
    }

    /// The functions whose median outage is longer than it may be, with that median in seconds.
    pub fn over(&self) -> Vec<(&str, f64)> {
        let Some(required) = self.required_s else { return Vec::new() };
        let medians = self.outage_s.iter().map(|(function, (median, _))| (function.as_str(), *median));
        medians.filter(|(_, median)| *median > required).collect()
    }
}

/// Reads the runs and writes the files.
pub fn write(scenario: &Scenario<'_>) -> Result<Verdict, Error> {
    let mut runs = Vec::new();
    for folder in &scenario.runs {
        runs.push(Run::of(&Lived::read(&folder.join("load"))?, record(folder)?));
    }
    if runs.is_empty() {
        return Err(Error::other(format!("reporting {}", scenario.name), "there is no run"));
    }
    let verdict = verdict(&runs, scenario.required_s);
    let summary = page::summary(scenario, &runs, &verdict);
    let verdict = Verdict { summary, ..verdict };
    let writing = |path: &Path| format!("writing {}", path.display());
    std::fs::create_dir_all(scenario.results).naming(|| writing(scenario.results))?;
    let timeline = figures::typical(&runs).map(|run| timeline::draw(scenario.title, run)).unwrap_or_default();
    let json = serde_json::to_string_pretty(&json(scenario, &runs, &verdict)).naming(|| "writing JSON".to_owned())?;
    for (ending, text) in [("json", json + "\n"), ("txt", verdict.summary.clone()), ("svg", timeline)] {
        let path = scenario.results.join(format!("{}.{ending}", scenario.name));
        std::fs::write(&path, text).naming(|| writing(&path))?;
    }
    if !scenario.short {
        write_page(scenario.results, scenario.drills, scenario.page)?;
    }
    Ok(verdict)
}

/// Writes the page anew from the results that are kept in `results` and the scenario files in `drills`.
pub fn write_page(results: &Path, drills: &Path, page: &Path) -> Result<(), Error> {
    let text = page::page(results, drills, page)?;
    std::fs::write(page, text).naming(|| format!("writing {}", page.display()))
}

/// What the runner saw.
fn record(folder: &Path) -> Result<Record, Error> {
    let path = folder.join(RECORD);
    let reading = || format!("reading {}", path.display());
    serde_json::from_str(&std::fs::read_to_string(&path).naming(reading)?).naming(reading)
}

fn verdict(runs: &[Run], required_s: Option<f64>) -> Verdict {
    let sum = |of: fn(&Run) -> u64| -> u64 { runs.iter().map(of).sum() };
    let mut outage_s = BTreeMap::new();
    for function in waits::FUNCTIONS {
        let each: Vec<f64> = runs.iter().filter_map(|run| run.outage(function, None)).collect();
        outage_s.extend(spread(&each).map(|spread| (function.to_owned(), spread)));
    }
    Verdict {
        acknowledged: sum(|run| run.counts.acknowledged),
        lost: sum(|run| run.counts.lost),
        duplicated: sum(|run| run.counts.duplicated),
        out_of_order: sum(|run| run.counts.out_of_order),
        differing_views: sum(|run| run.counts.differing_views + run.unwell.len() as u64),
        other: sum(|run| run.counts.other),
        outage_s,
        required_s,
        summary: String::new(),
    }
}

fn json(scenario: &Scenario<'_>, runs: &[Run], verdict: &Verdict) -> Value {
    let mut by_dc = serde_json::Map::new();
    let mut normal = serde_json::Map::new();
    for function in waits::FUNCTIONS {
        let dcs = runs.first().map(Run::dcs).unwrap_or_default();
        let each = |dc: &String| {
            let outages: Vec<f64> = runs.iter().filter_map(|run| run.outage(function, Some(dc))).collect();
            (dc.clone(), figures::json(&outages))
        };
        by_dc.insert(function.to_owned(), dcs.iter().map(each).collect());
        let after: Vec<f64> = runs.iter().filter_map(|run| run.normal_after(function)).collect();
        normal.insert(function.to_owned(), figures::json(&after));
    }
    let outage = |function: &&'static str| {
        let each: Vec<f64> = runs.iter().filter_map(|run| run.outage(function, None)).collect();
        ((*function).to_owned(), figures::json(&each))
    };
    json!({
        "scenario": scenario.name,
        "title": scenario.title,
        "incident": scenario.incident,
        "repeat": scenario.repeat,
        "runs": runs.len(),
        "acknowledged": verdict.acknowledged,
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "out_of_order": verdict.out_of_order,
        "differing_views": verdict.differing_views,
        "other_broken_promises": verdict.other,
        "outage_s": waits::FUNCTIONS.iter().map(outage).collect::<serde_json::Map<_, _>>(),
        "required_outage_s": scenario.required_s,
        "outage_by_dc_s": by_dc,
        "normal_after_s": normal,
        "from_writing_to_everybody_s": figures::json(&runs.iter().map(|run| run.end_to_end).collect::<Vec<_>>()),
        "outage_went_into": figures::went_into(runs),
        "each_run": runs.iter().map(Run::json).collect::<Vec<_>>(),
        "settings": scenario.settings,
        "clients": runs.first().map(|run| &run.about),
        "machine": figures::machine(),
    })
}
