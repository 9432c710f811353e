//! Lives lives of cells from seeds: one, with all that happens in it, or fresh ones until one ends badly.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use ieum_simulation::{Failed, Options, live, shrink};

/// Lives cells and their clients on one thread, from seeds. The same seed is the same life.
#[derive(Debug, Parser)]
struct Arguments {
    /// Live the life of this seed and show what happens in it. Without it: fresh lives, until one ends badly.
    #[arg(long)]
    seed: Option<u64>,
    /// Live so many, each with the next seed, and show none.
    #[arg(long, default_value_t = 1, requires = "seed")]
    lives: u64,
    /// Stop after so many minutes of real time.
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<u64>,
    /// How many nodes the cell has, over three data centers if it is more than one. The seed says it otherwise.
    #[arg(long)]
    nodes: Option<usize>,
    /// For how long people act and things break, in simulated seconds. The seed says it otherwise.
    #[arg(long, value_name = "SECONDS")]
    length: Option<u64>,
    /// Faults to leave out, by number.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    without: Vec<u64>,
    /// Do not look for a smaller life that ends as badly.
    #[arg(long)]
    no_shrink: bool,
}

impl Arguments {
    fn options(&self, seed: u64) -> Options {
        let of = Options::of(seed);
        Options {
            nodes: self.nodes.unwrap_or(of.nodes),
            ms: self.length.map_or(of.ms, |seconds| seconds.saturating_mul(1_000)),
            without: self.without.iter().copied().collect(),
            shown: self.seed.is_some() && self.lives == 1,
            ..of
        }
    }
}

/// What was lived so far.
struct Tally {
    began: Instant,
    told: Option<Instant>,
    lives: u64,
    ms: u64,
    commands: u64,
    faults: u64,
}

impl Tally {
    fn line(&self) -> String {
        let took = self.began.elapsed().as_secs_f64().max(0.001);
        let Self { lives, ms, commands, faults, .. } = self;
        let lived = *ms as f64 / 1_000.0;
        format!(
            "{lives} lives, {:.1} simulated hours ({:.0} times faster than life), {commands} commands ({:.0}/s), {faults} faults",
            lived / 3_600.0,
            lived / took,
            *commands as f64 / took
        )
    }

    /// Says how far it is: a line that stays in its place, or one a minute where nobody looks.
    fn progress(&mut self) {
        let often = if stderr().is_terminal() { Duration::from_secs(1) } else { Duration::from_secs(60) };
        if self.told.is_some_and(|told| told.elapsed() < often) {
            return;
        }
        self.told = Some(Instant::now());
        let end = if stderr().is_terminal() { "\r" } else { "\n" };
        eprint!("{}{end}", self.line());
        // Nobody is left to be told.
        let _ = stderr().flush();
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64 >> 8);
    let first = arguments.seed.unwrap_or_else(fresh);
    let lives = if arguments.seed.is_some() { arguments.lives } else { u64::MAX };
    let until = arguments.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let mut tally = Tally { began: Instant::now(), told: None, lives: 0, ms: 0, commands: 0, faults: 0 };
    for seed in (0..lives).map(|next| first.wrapping_add(next)) {
        let options = arguments.options(seed);
        match live(&options) {
            Ok(report) => {
                tally.lives += 1;
                tally.ms += report.met.ms;
                tally.commands += report.met.commands;
                tally.faults += report.met.faults;
                if options.shown {
                    println!("seed   {seed}, {} nodes\n{report}", options.nodes);
                }
                tally.progress();
            }
            Err(failed) => return ends_badly(&options, failed, !arguments.no_shrink && !options.shown),
        }
        if until.is_some_and(|until| tally.began.elapsed() >= until) {
            break;
        }
    }
    println!("{}", tally.line());
    ExitCode::SUCCESS
}

/// How somebody lives a life again.
fn again(options: &Options) -> String {
    let Options { seed, nodes, ms, without, .. } = options;
    let mut text = format!("make simulate SEED={seed} NODES={nodes} LENGTH={}", ms.div_ceil(1_000));
    if !without.is_empty() {
        text.push_str(&format!(" WITHOUT={}", listed(without)));
    }
    text
}

fn listed(numbers: &BTreeSet<u64>) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

fn ends_badly(options: &Options, failed: Failed, shrinks: bool) -> ExitCode {
    eprintln!("{failed}\n{}", again(options));
    if shrinks {
        eprintln!("looking for a smaller life that ends badly, too");
        let mut told = |options: &Options, failed: &Failed| {
            let faults = failed.faults - options.without.range(..=failed.faults).count() as u64;
            eprintln!("  {} nodes, {} s, {faults} faults: {}", options.nodes, options.ms / 1_000, failed.broken);
        };
        let (smaller, failed) = shrink(options, failed, &mut told);
        eprintln!("{failed}\n{}", again(&smaller));
    }
    ExitCode::FAILURE
}
