//! How many times faster than life one core is.

use std::process::ExitCode;
use std::time::Instant;

use ieum_simulation::{Met, Options, live};

/// How many nodes the cell has.
const NODES: usize = 6;
/// For how long people act and things break, in simulated seconds.
const LENGTH: u64 = 1_200;
/// So many lives, with the seeds from 1.
const LIVES: u64 = 9;
/// What is asked for: so many times faster than life, with so many commands a simulated second, and a fault at least so often, in seconds.
const TIMES: f64 = 300.0;
const COMMANDS: f64 = 5.0;
const FAULT_EVERY: f64 = 10.0;

/// What a life was like while people acted and things broke, and how fast all of it was.
struct Measured {
    times: f64,
    commands: f64,
    fault_every: f64,
}

impl Measured {
    fn of(met: &Met, took: f64) -> Self {
        let acted = LENGTH as f64;
        Self {
            times: met.ms as f64 / 1_000.0 / took,
            commands: met.commands as f64 / acted,
            fault_every: acted / (met.faults as f64).max(1.0),
        }
    }
}

/// Measures, and says whether it is what is asked for.
pub(crate) fn measure() -> ExitCode {
    println!(
        "{}; ieum-simulation {}{}",
        machine(),
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) { ", DEBUG BUILD" } else { "" }
    );
    println!(
        "{NODES} nodes, {LENGTH} s and the rest at their end, seeds 1 to {LIVES}, one after the other on one core"
    );
    let mut measured = Vec::new();
    for seed in 1..=LIVES {
        let began = Instant::now();
        let report = match live(&Options { nodes: NODES, ms: LENGTH * 1_000, ..Options::of(seed) }) {
            Ok(report) => report,
            Err(failed) => {
                eprintln!("{failed}");
                return ExitCode::FAILURE;
            }
        };
        let of = Measured::of(&report.met, began.elapsed().as_secs_f64());
        let Measured { times, commands, fault_every } = of;
        println!(
            "seed {seed}: {times:.0} times faster than life, {commands:.1} commands/s, a fault every {fault_every:.1} s"
        );
        measured.push(of);
    }
    let times = median(&measured, |of| of.times);
    let (commands, fault_every) = (median(&measured, |of| of.commands), median(&measured, |of| of.fault_every));
    println!("median: {times:.0} times faster than life, {commands:.1} commands/s, a fault every {fault_every:.1} s");
    if times >= TIMES && commands >= COMMANDS && fault_every <= FAULT_EVERY {
        return ExitCode::SUCCESS;
    }
    println!("asked for: {TIMES:.0} times, {COMMANDS:.0} commands/s, a fault every {FAULT_EVERY:.0} s");
    ExitCode::FAILURE
}

fn median(measured: &[Measured], of: fn(&Measured) -> f64) -> f64 {
    let mut sorted: Vec<f64> = measured.iter().map(of).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// What it is measured on.
fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    format!("one core of {}", model.unwrap_or("a machine that does not say what it is"))
}
