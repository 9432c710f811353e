//! How many times faster than life one core is.

use std::fs::read_to_string;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ieum_simulation::{Met, Options, live};

/// How many nodes the cell has.
const NODES: usize = 6;
/// For how long people act and things break, in simulated seconds.
const LENGTH: u64 = 1_200;
/// So many lives that bear the load are judged. Seeds are lived from 1 on until there are as many, and at most so many.
const LIVES: usize = 9;
const SEEDS: u64 = 40;
/// What is asked for: so many times faster than life, with so many commands a simulated second, and a fault at least so often, in seconds.
const TIMES: f64 = 300.0;
const COMMANDS: f64 = 5.0;
const FAULT_EVERY: f64 = 10.0;

/// What a life was like, the calm at its end included, and how fast all of it was.
struct Measured {
    /// By the time for which the thread had the core, and by the time that passed.
    times: f64,
    by_the_clock: f64,
    seconds: f64,
    commands: f64,
    fault_every: f64,
}

impl Measured {
    fn of(met: &Met, took: Duration, on_core: Option<Duration>) -> Self {
        let seconds = met.ms as f64 / 1_000.0;
        Self {
            times: seconds / on_core.unwrap_or(took).as_secs_f64(),
            by_the_clock: seconds / took.as_secs_f64(),
            seconds,
            commands: met.commands as f64 / seconds,
            fault_every: seconds / (met.faults as f64).max(1.0),
        }
    }

    fn bears_the_load(&self) -> bool {
        self.commands >= COMMANDS && self.fault_every <= FAULT_EVERY
    }

    fn line(&self) -> String {
        let Self { times, by_the_clock, seconds, commands, fault_every } = self;
        format!(
            "{times:.0} times faster than life ({by_the_clock:.0} by the clock), {seconds:.0} s, {commands:.1} commands/s, a fault every {fault_every:.1} s{}",
            if self.bears_the_load() { "" } else { "; too quiet, not judged" }
        )
    }
}

/// Measures, and says whether it is what is asked for.
pub(crate) fn measure() -> ExitCode {
    println!("{}", machine());
    println!(
        "{NODES} nodes, people act and things break for {LENGTH} s, then all comes to rest; one life after the other on one core, until \
         {LIVES} had {COMMANDS:.0} commands a second or more and a fault every {FAULT_EVERY:.0} s or more often. What counts is the time for which \
         the life had the core; by the clock it is slower where other programs want the core too"
    );
    let mut judged = Vec::new();
    let mut lived = 0;
    for seed in 1..=SEEDS {
        let (began, before) = (Instant::now(), had_core());
        let report = match live(&Options { nodes: NODES, ms: LENGTH * 1_000, ..Options::of(seed) }) {
            Ok(report) => report,
            Err(failed) => {
                eprintln!("{failed}");
                return ExitCode::FAILURE;
            }
        };
        let on_core = had_core().zip(before).map(|(now, before)| now.saturating_sub(before));
        let of = Measured::of(&report.met, began.elapsed(), on_core);
        println!("seed {seed}: {}", of.line());
        lived += 1;
        if of.bears_the_load() {
            judged.push(of);
        }
        if judged.len() == LIVES {
            break;
        }
    }
    verdict(&judged, lived)
}

fn verdict(judged: &[Measured], lived: u64) -> ExitCode {
    let of = |what: fn(&Measured) -> f64| sorted(judged.iter().map(what).collect());
    let (times, commands, faults) = (of(|of| of.times), of(|of| of.commands), of(|of| of.fault_every));
    let by_the_clock = middle(&of(|of| of.by_the_clock));
    let median = middle(&times);
    println!(
        "{} of {lived} lives bore the load: {median:.0} times faster than life at the median ({by_the_clock:.0} by the clock), {:.0} to {:.0}; medians of {:.1} commands/s and a fault every {:.1} s",
        judged.len(),
        times.first().copied().unwrap_or(0.0),
        times.last().copied().unwrap_or(0.0),
        middle(&commands),
        middle(&faults),
    );
    if judged.len() == LIVES && median >= TIMES {
        return ExitCode::SUCCESS;
    }
    println!("asked for: {TIMES:.0} times at the median of {LIVES} lives that bear the load");
    ExitCode::FAILURE
}

fn sorted(mut of: Vec<f64>) -> Vec<f64> {
    of.sort_unstable_by(f64::total_cmp);
    of
}

fn middle(of: &[f64]) -> f64 {
    of.get(of.len() / 2).copied().unwrap_or(0.0)
}

/// For how long this thread has had a core: less than has passed where other programs wanted it too. Known on Linux alone; elsewhere the clock
/// counts.
fn had_core() -> Option<Duration> {
    let nanos = read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()?;
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

/// What it is measured on, and what is measured.
fn machine() -> String {
    let cpus = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "one of {} cores of {}, {} {}; Ieum {}{}",
        cpus.lines().filter(|line| line.starts_with("processor")).count(),
        model.unwrap_or("a machine that does not say what it is"),
        std::env::consts::OS,
        kernel.trim(),
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) { ", DEBUG BUILD" } else { "" },
    )
}
