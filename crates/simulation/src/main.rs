//! Lives lives of cells from seeds: one, with all that happens in it, or fresh ones until one ends badly.

mod speed;
mod tally;

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _, stdout};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use clap::builder::{RangedU64ValueParser, ValueParser};
use ieum_simulation::{Failed, Options, Report, Show, live, shrink};
use tally::Tally;

/// The product's: what a life does is to take memory and to give it back, for a third of the time with glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// No cell has more nodes.
const MOST_NODES: u64 = 9;
/// A day.
const LONGEST: u64 = 86_400;
/// No life takes longer than this, or than it would if it were lived for real; one that does hangs.
const HANGS_AFTER: Duration = Duration::from_secs(300);

/// Lives cells and their clients on one thread, from seeds. The same seed is the same life, in every build.
///
/// Without `--seed`: fresh lives, until one ends badly. That one's seed is printed, and a smaller life is looked for that ends as badly.
#[derive(Debug, Parser)]
struct Arguments {
    /// Live the life of this seed and show what happens in it.
    #[arg(long)]
    seed: Option<u64>,
    /// Live so many, each with the next seed, and show none.
    #[arg(long, default_value = "1", requires = "seed", value_parser = at_least_one(u64::MAX))]
    lives: u64,
    /// Live fresh seeds for so many minutes of real time.
    #[arg(long, value_name = "MINUTES", conflicts_with = "seed", value_parser = at_least_one(60 * 24 * 365))]
    minutes: Option<u64>,
    /// How many nodes the cell has, 1 to 9, over three data centers if it is more than one. The seed says it otherwise.
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_NODES))]
    nodes: Option<usize>,
    /// For how long people act and things break, in simulated seconds, a day at most. The seed says it otherwise.
    #[arg(long, value_name = "SECONDS", value_parser = at_least_one(LONGEST))]
    length: Option<u64>,
    /// Faults to leave out, by their numbers in the life (`fault 7` in what is shown of it).
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    without: Vec<u64>,
    /// Show a life from this simulated second on.
    #[arg(long, value_name = "SECOND", requires = "seed", default_value_t = 0)]
    from: u64,
    /// Show a life up to this simulated second.
    #[arg(long, value_name = "SECOND", requires = "seed")]
    to: Option<u64>,
    /// Print a line for each life: its seed, the hash of all that happened and the digest of the cell's view at its end.
    #[arg(long, requires = "seed")]
    hashes: bool,
    /// Do not look for a smaller life that ends as badly.
    #[arg(long)]
    no_shrink: bool,
    /// Measure how many times faster than life one core is, with a cell of six nodes.
    #[arg(long, conflicts_with_all = ["seed", "minutes", "nodes", "length", "without"])]
    speed: bool,
}

fn at_least_one(most: u64) -> ValueParser {
    RangedU64ValueParser::<u64>::new().range(1..=most).into()
}

impl Arguments {
    fn options(&self, seed: u64) -> Options {
        let of = Options::of(seed);
        let shows = self.seed.is_some() && self.lives == 1 && !self.hashes;
        let show = Show {
            from: self.from.saturating_mul(1_000),
            to: self.to.map_or(u64::MAX, |second| second.saturating_mul(1_000)),
            colour: stdout().is_terminal(),
        };
        Options {
            nodes: self.nodes.unwrap_or(of.nodes),
            ms: self.length.map_or(of.ms, |seconds| seconds * 1_000),
            without: self.without.iter().copied().collect(),
            show: shows.then_some(show),
            ..of
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.speed {
        return speed::measure();
    }
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64 >> 8);
    let first = arguments.seed.unwrap_or_else(fresh);
    let lives = if arguments.seed.is_some() { arguments.lives } else { u64::MAX };
    let until = arguments.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let mut tally = Tally::begin();
    for seed in (0..lives).map(|next| first.wrapping_add(next)) {
        let options = arguments.options(seed);
        match watched(&options) {
            Ok(report) => {
                tally.add(&report.met);
                told(&arguments, &options, &report);
                tally.progress();
            }
            Err(failed) => {
                tally.add_bad(&failed);
                tally.end();
                eprintln!("{}", tally.line());
                return ends_badly(&options, failed, !arguments.no_shrink && options.show.is_none());
            }
        }
        if until.is_some_and(|until| tally.began.elapsed() >= until) {
            break;
        }
    }
    tally.end();
    if !arguments.hashes {
        say(&tally.line());
    }
    ExitCode::SUCCESS
}

/// Says something to whoever has not seen enough yet.
fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

fn told(arguments: &Arguments, options: &Options, report: &Report) {
    if options.show.is_some() {
        say(&format!("seed   {}, {} nodes\n{report}", options.seed, options.nodes));
    } else if arguments.hashes {
        let hex = |bytes: &[u8; 32]| data_encoding::HEXLOWER.encode(bytes);
        say(&format!("{} {} {}", options.seed, hex(&report.trace), hex(&report.digest)));
    }
}

/// The number of the life that is being lived, from 1; 0 between two.
static LIVING: AtomicU64 = AtomicU64::new(0);
static LIVED: AtomicU64 = AtomicU64::new(0);

/// Lives a life. One that comes to no end is told by its seed, too.
fn watched(options: &Options) -> Result<Report, Failed> {
    let number = LIVED.fetch_add(1, Ordering::Relaxed) + 1;
    LIVING.store(number, Ordering::Relaxed);
    let patience = HANGS_AFTER.max(Duration::from_millis(options.ms));
    let again = again(options);
    let watcher = thread::spawn(move || {
        let began = Instant::now();
        while LIVING.load(Ordering::Relaxed) == number {
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                eprintln!("a life hangs: nothing was to be seen of its end after {} s\n{again}", patience.as_secs());
                std::process::exit(1);
            }
            thread::park_timeout(left);
        }
    });
    let lived = live(options);
    LIVING.store(0, Ordering::Relaxed);
    watcher.thread().unpark();
    // It has nothing to say, and does not panic.
    let _ = watcher.join();
    lived
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
        eprintln!("looking for a smaller life that ends as badly");
        let mut told = |options: &Options, failed: &Failed| {
            let faults = failed.faults - options.without.range(..=failed.faults).count() as u64;
            eprintln!(
                "  {} nodes, {} s, {faults} faults: {}",
                options.nodes,
                options.ms.div_ceil(1_000),
                failed.broken
            );
        };
        let (smaller, failed) = shrink(options, failed, &mut told);
        eprintln!("{failed}\n{}", again(&smaller));
    }
    ExitCode::FAILURE
}
