//! Lives lives of a cell from seeds, and says what came of them.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ieum_simulation::{Options, live};

/// Lives a cell and its clients on one thread from a seed. The same seed is the same life.
#[derive(Debug, Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many lives, each with the next seed.
    #[arg(long, default_value_t = 1)]
    lives: u64,
    /// How many nodes the cell has, over three data centers if it is more than one.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// For how many minutes people act and things break in each.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Print what happens.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    for seed in arguments.seed..arguments.seed + arguments.lives {
        let began = Instant::now();
        match live(Options { seed, nodes: arguments.nodes, minutes: arguments.minutes, shown: arguments.trace }) {
            Ok(report) => {
                let took = began.elapsed().as_secs_f64();
                let lived = report.met.ms as f64 / 1_000.0;
                println!(
                    "seed   {seed}\n{report}\n{lived:.0} s lived in {took:.2} s: {:.0} times faster\n",
                    lived / took
                );
            }
            Err(failed) => {
                eprintln!("{failed}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
