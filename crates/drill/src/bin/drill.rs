//! `drill NAME`: runs a scenario of `drills/` with real processes in three data centers on this machine, and reports. `drill all` runs all of them
//! and goes on where it was stopped.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ieum_drill::report;
use ieum_drill::run::{self, Load, RECORD, remove};
use ieum_drill::scenario::Scenario;
use ieum_drill::world::inside;

/// Loses data centers on purpose, and measures from outside what people notice.
#[derive(Parser)]
struct Arguments {
    /// The scenario's name: `drills/NAME.toml`; `all` for all of them
    name: String,
    /// How often
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Less of everything, once, and only whether nothing was lost; results go nowhere
    #[arg(long)]
    short: bool,
    /// How many nodes are in each data center; with more than one the results go nowhere
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Run nothing: only report the runs that are there, or, without any, write the page anew from the results
    #[arg(long)]
    report: bool,
    /// Where scenarios are
    #[arg(long, default_value = "drills")]
    drills: PathBuf,
    /// Where the runs' folders go
    #[arg(long, default_value = "target/drill")]
    folder: PathBuf,
    /// The page that shows the results
    #[arg(long, default_value = "docs/drills.md")]
    page: PathBuf,
    /// Only this run, inside of its own namespaces: how `drill` starts itself
    #[arg(long, hide = true)]
    inside: Option<u32>,
}

/// How long a run may take in all.
const PATIENCE: Duration = Duration::from_secs(420);

/// At least what incidents ask for; a short run is for machines that do other things as well.
const LOAD: Load = Load { users: 300, rate: 300 };
const SHORT: Load = Load { users: 60, rate: 60 };

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ran = match arguments.inside {
        Some(run) => run_inside(&arguments, run).map(|()| true),
        None => run_all(&arguments),
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("drill: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_inside(arguments: &Arguments, run: u32) -> Result<(), Failure> {
    inside::watch();
    let folder = std::path::absolute(folder_of(arguments, &arguments.name, run))?;
    let options = run::Options {
        name: arguments.name.clone(),
        scenario: Scenario::read(&file_of(arguments, &arguments.name))?,
        run,
        short: arguments.short,
        load: if arguments.short { SHORT } else { LOAD },
        nodes: arguments.nodes.into(),
        folder,
        programs: programs()?,
    };
    run::run(&options)?;
    Ok(())
}

/// Whether nothing was lost in any of them, and nobody waited for longer than required.
fn run_all(arguments: &Arguments) -> Result<bool, Failure> {
    if arguments.name != "all" {
        return run_scenario(arguments, &arguments.name, false);
    }
    let mut names: Vec<String> = std::fs::read_dir(&arguments.drills)
        .map_err(|error| format!("reading {}: {error}", arguments.drills.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    let mut well = true;
    for name in &names {
        well &= run_scenario(arguments, name, true)?;
    }
    Ok(well)
}

/// With `resuming`, runs that are there already of the same programs and the same scenario are kept.
fn run_scenario(arguments: &Arguments, name: &str, resuming: bool) -> Result<bool, Failure> {
    let scenario = Scenario::read(&file_of(arguments, name))?;
    println!("{name}: {}", scenario.title);
    if arguments.report {
        let folders = (1..).map(|run| folder_of(arguments, name, run));
        let runs: Vec<PathBuf> = folders.take_while(|folder| folder.join(RECORD).exists()).collect();
        if runs.is_empty() {
            println!("  no run of it is in {}: only the page is written anew", arguments.folder.display());
            report::write_page(&arguments.drills.join("results"), &arguments.drills, &arguments.page)?;
            return Ok(true);
        }
        return report(arguments, name, &scenario, runs);
    }
    let fingerprint = fingerprint(arguments, name)?;
    let marked = arguments.folder.join(name).join("of");
    let same = std::fs::read_to_string(&marked).is_ok_and(|of| of == fingerprint);
    if !(resuming && same) {
        remove(&arguments.folder.join(name))?;
    }
    std::fs::create_dir_all(arguments.folder.join(name))?;
    std::fs::write(&marked, &fingerprint)?;
    let runs = if arguments.short { 1 } else { arguments.runs };
    let mut folders = Vec::new();
    for run in 1..=runs {
        let folder = folder_of(arguments, name, run);
        if folder.join(RECORD).exists() {
            println!("  run {run} of {runs}: done before");
        } else {
            println!("  run {run} of {runs}");
            remove(&folder)?;
            std::fs::create_dir_all(&folder)?;
            one_run(arguments, name, run, &folder)?;
        }
        folders.push(folder);
    }
    report(arguments, name, &scenario, folders)
}

/// A run in a process of its own, with its own namespaces.
fn one_run(arguments: &Arguments, name: &str, run: u32, folder: &Path) -> Result<(), Failure> {
    let shown = |path: &Path| path.display().to_string();
    let mut again = vec![name.to_owned(), "--inside".to_owned(), run.to_string()];
    again.extend(["--nodes".to_owned(), arguments.nodes.to_string()]);
    again.extend(["--drills".to_owned(), shown(&arguments.drills), "--folder".to_owned(), shown(&arguments.folder)]);
    if arguments.short {
        again.push("--short".to_owned());
    }
    Ok(inside::run(&format!("{name}, run {run}"), &again, &std::path::absolute(folder)?, PATIENCE)?)
}

/// Writes what came out of a scenario's runs, and says it. Of a short one nothing is kept, nor where the data centers are others than those of
/// the page.
fn report(arguments: &Arguments, name: &str, scenario: &Scenario, runs: Vec<PathBuf>) -> Result<bool, Failure> {
    let short = arguments.short;
    let aside = short || arguments.nodes != 1;
    let results = if aside { arguments.folder.join(name) } else { arguments.drills.join("results") };
    let repeat = format!("make drill NAME={name}");
    let verdict = report::write(&report::Scenario {
        name,
        title: &scenario.title,
        incident: &scenario.incident,
        repeat: &repeat,
        settings: run::conditions(scenario, short, arguments.nodes.into()),
        runs,
        required_s: scenario.required_s,
        short: aside,
        results: &results,
        drills: &arguments.drills,
        page: &arguments.page,
    })?;
    println!("{}", verdict.summary);
    // A short run has one set of faults and half of the machine, a debug build is several times slower: neither tells how long people wait.
    let timed = !short && !cfg!(debug_assertions);
    let over = if timed { verdict.over() } else { Vec::new() };
    for (function, median) in &over {
        println!("{name}: {function} was out for {median:.2} s (median): more than required");
    }
    Ok(verdict.is_clean() && over.is_empty())
}

fn file_of(arguments: &Arguments, name: &str) -> PathBuf {
    arguments.drills.join(format!("{name}.toml"))
}

fn folder_of(arguments: &Arguments, name: &str, run: u32) -> PathBuf {
    arguments.folder.join(name).join(format!("run-{run}"))
}

/// Where this program is, the others are.
fn programs() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().unwrap_or(Path::new(".")).to_owned())
}

/// Changes with the scenario and with each of the programs.
fn fingerprint(arguments: &Arguments, name: &str) -> std::io::Result<String> {
    let mut hasher = DefaultHasher::new();
    (arguments.short, arguments.nodes, std::fs::read(file_of(arguments, name))?).hash(&mut hasher);
    for program in ["ieum", "drill", "drill-load", "ieum-unsynced"] {
        std::fs::read(programs()?.join(program))?.hash(&mut hasher);
    }
    Ok(Hex(hasher.finish()).to_string())
}

struct Hex(u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
