//! `drill-load`: people who talk through a cell, and probes, while others do harm to it. What they see goes into a folder.
//!
//! It says `live` when everybody talks, and takes lines on its standard input: `mark TEXT` (something was done), `uncounted TEXT` (and from
//! now on waiting does not count), `counted TEXT` (it does again), `survivor NAME ENDPOINT` (a node to be read at the end), `stop`. A line may
//! begin with its time, `@NANOSECONDS ` of CLOCK_MONOTONIC. When the input ends without `stop`, it ends at once.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ieum_drill::load::{self, Dc, Options};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The most files that it opens.
const FILES: u64 = 20_000;

/// People and probes through a drill.
#[derive(Parser)]
struct Arguments {
    /// A data center and its nodes: a=ws://10.77.0.1:8080,…
    #[arg(long = "dc", required = true)]
    dcs: Vec<Dc>,
    /// How many people talk, spread over the data centers
    #[arg(long, default_value_t = 300)]
    users: usize,
    /// Messages a second, all together
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// Milliseconds between two probes of a data center and function
    #[arg(long, default_value_t = 100)]
    probe_ms: u64,
    /// Milliseconds between two new devices of a data center
    #[arg(long, default_value_t = 500)]
    login_ms: u64,
    /// For how many seconds the end waits for what has no outcome
    #[arg(long, default_value_t = 60)]
    settle_s: u64,
    /// Draws who writes when and where
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where histories go
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        dcs: arguments.dcs,
        users: arguments.users,
        rate: arguments.rate,
        probe: Duration::from_millis(arguments.probe_ms.max(1)),
        login: Duration::from_millis(arguments.login_ms.max(1)),
        settle: Duration::from_secs(arguments.settle_s),
        seed: arguments.seed,
        out: arguments.out,
    };
    match raise_files()
        .and_then(|()| Ok(load::run(&options, std::io::BufReader::new(std::io::stdin()), &mut std::io::stdout())?))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("drill-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Lets it open as many files as it may, up to the bound.
fn raise_files() -> Result<(), Box<dyn std::error::Error>> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(FILES), hard)?;
    Ok(())
}
