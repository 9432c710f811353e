//! `ieum-apart`: measures what it costs that a cell's data centers are apart. Rounds of the same load on one node with a log of its own, and on
//! cells over three data centers without and with a delay between them, in turns, each arm in namespaces of its own.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::{BufReader, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use ieum_client::Endpoint;
use ieum_drill::apart::results::{self, Round};
use ieum_drill::apart::{Arm, Sizes, about, arm, chart, people};
use ieum_drill::run::remove;
use ieum_drill::world::inside;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Measures a cell over three data centers beside one on one machine.
#[derive(Parser)]
struct Arguments {
    /// How many rounds; each measures every arm once
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Keeps the rounds that are there of the same programs and sizes, and adds what is missing
    #[arg(long)]
    go_on: bool,
    /// Only these, with commas between
    #[arg(long, value_enum, value_delimiter = ',')]
    arms: Vec<Arm>,
    /// Pairs of people
    #[arg(long, default_value_t = 200)]
    pairs: usize,
    /// Messages a second of the calm load
    #[arg(long, default_value_t = 200)]
    calm: u32,
    /// Messages a second of the steady load
    #[arg(long, default_value_t = 1_000)]
    steady: u32,
    /// Messages of each pair under way in the full load
    #[arg(long, default_value_t = 16)]
    window: u32,
    /// For how many seconds each load is measured
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// Where the rounds go, and the data of an arm while it is measured
    #[arg(long, default_value = "target/apart")]
    folder: PathBuf,
    /// Where the results go: JSON, and a chart beside it
    #[arg(long, default_value = "bench/results/apart.json")]
    results: PathBuf,
    /// Only this arm, inside of its own namespaces: how `ieum-apart` starts itself
    #[arg(long, hide = true)]
    inside: Option<Arm>,
    /// Only the people, for these nodes: likewise
    #[arg(long, hide = true)]
    people: Vec<Endpoint>,
}

/// How long an arm may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// The most files that it opens.
const FILES: u64 = 20_000;
/// What an arm gave, in its folder.
const MEASURED: &str = "measured.json";

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ran = if arguments.people.is_empty() {
        arguments.inside.map_or_else(|| all_rounds(&arguments), |arm| measure(&arguments, arm))
    } else {
        be_people(&arguments)
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ieum-apart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn be_people(arguments: &Arguments) -> Result<(), Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(FILES), hard)?;
    let options = people::Options { nodes: arguments.people.clone(), pairs: arguments.pairs };
    Ok(people::run(&options, BufReader::new(stdin()), &mut stdout())?)
}

fn sizes(arguments: &Arguments) -> Sizes {
    let Arguments { pairs, calm, steady, window, seconds, .. } = *arguments;
    Sizes { pairs, calm, steady, window, seconds }
}

fn measure(arguments: &Arguments, arm: Arm) -> Result<(), Failure> {
    inside::watch();
    let folder = arguments.folder.clone();
    let ieum = std::env::current_exe()?.with_file_name("ieum");
    let measured = arm::measure(&arm::Options { arm, sizes: sizes(arguments), ieum, folder })?;
    Ok(std::fs::write(arguments.folder.join(MEASURED), serde_json::to_vec(&measured)?)?)
}

fn all_rounds(arguments: &Arguments) -> Result<(), Failure> {
    let folder = std::path::absolute(&arguments.folder)?;
    let fingerprint = fingerprint(arguments)?;
    let marked = folder.join("of");
    let same = std::fs::read_to_string(&marked).is_ok_and(|of| of == fingerprint);
    if !(arguments.go_on && same) {
        remove(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    std::fs::write(&marked, &fingerprint)?;
    let mut rounds = Vec::new();
    for number in 1..=arguments.rounds {
        let file = folder.join(format!("round-{number}.json"));
        let round = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(_) => {
                let round = one_round(arguments, &folder, number)?;
                std::fs::write(&file, serde_json::to_vec(&round)?)?;
                round
            }
        };
        rounds.push(round);
    }
    println!("{}", results::table(&rounds));
    let about = about::tell(&folder, &sizes(arguments));
    std::fs::write(&arguments.results, format!("{:#}\n", results::json(&about, &rounds)))?;
    std::fs::write(arguments.results.with_extension("svg"), chart::draw(&rounds))?;
    Ok(())
}

fn one_round(arguments: &Arguments, folder: &Path, number: u32) -> Result<Round, Failure> {
    let arms = if arguments.arms.is_empty() { Arm::ALL.to_vec() } else { arguments.arms.clone() };
    let mut round = Round::default();
    for arm in arms {
        let begun = Instant::now();
        let inside = folder.join(format!("{}-{number}", arm.name()));
        remove(&inside)?;
        std::fs::create_dir_all(&inside)?;
        one_arm(arguments, arm, &inside)?;
        let measured = serde_json::from_slice(&std::fs::read(inside.join(MEASURED))?)?;
        let figures = results::figures(&measured);
        let of = |name: &str| figures.get(name).copied().unwrap_or_default();
        println!(
            "round {number}, {:<8} {:>6.0} messages/s, acknowledged within {:.2} and {:.2} ms (p50, p99, calm); {:.0} s",
            arm.name(),
            of("messages_per_s"),
            of("calm.acknowledged_p50_ms"),
            of("calm.acknowledged_p99_ms"),
            begun.elapsed().as_secs_f64()
        );
        round.arms.insert(arm, measured);
        remove(&inside)?;
    }
    Ok(round)
}

/// An arm in a process of its own, with its own namespaces.
fn one_arm(arguments: &Arguments, arm: Arm, folder: &Path) -> Result<(), Failure> {
    let Sizes { pairs, calm, steady, window, seconds } = sizes(arguments);
    let again = [
        ("--inside", arm.name().to_owned()),
        ("--folder", folder.display().to_string()),
        ("--pairs", pairs.to_string()),
        ("--calm", calm.to_string()),
        ("--steady", steady.to_string()),
        ("--window", window.to_string()),
        ("--seconds", seconds.to_string()),
    ];
    let again: Vec<String> = again.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    Ok(inside::run(arm.name(), &again, folder, PATIENCE)?)
}

/// Changes with each of the programs and with what is measured.
fn fingerprint(arguments: &Arguments) -> Result<String, Failure> {
    let mut hasher = DefaultHasher::new();
    let own = std::env::current_exe()?;
    for program in [own.with_file_name("ieum"), own] {
        std::fs::read(&program).map_err(|error| format!("reading {}: {error}", program.display()))?.hash(&mut hasher);
    }
    (format!("{:?}", arguments.arms), serde_json::to_string(&sizes(arguments))?).hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}
