//! The load tool: runs the real server as another process and measures it with the real client library.
//!
//! ```text
//!  ieum bench ──starts──► ieum serve (same binary, own process, data on a real disk)
//!      │                      ▲   processor time and memory are read from /proc
//!      └── thousands of clients (`ieum-client`, outbox in memory)
//! ```
//!
//! How it measures, and why so: `docs/decisions/bench.md`. What it measured: `docs/performance.md`.

mod crowd;
mod error;
mod loads;
mod machine;
mod report;
mod room;
mod server;
mod sizes;
mod world;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use error::Error;
use loads::Run;
use report::{Report, TLS, median};
use server::Place;
use sizes::{FULL, QUICK, Sizes};
use world::World;

/// What is measured, by name.
const LOADS: &[&str] = &["direct", "delay", "single", "idle", "room", "growth", "restart"];

/// How to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Smaller sizes, under a minute.
    #[arg(long)]
    quick: bool,
    /// Only these, with commas between: direct, delay, single, idle, room, growth, restart. The other figures in the results stay.
    #[arg(long, value_delimiter = ',', value_name = "LOAD")]
    only: Vec<String>,
    /// Only without TLS, or only with it. The other figures in the results stay.
    #[arg(long, value_name = "BOOL")]
    tls: Option<bool>,
    /// Where the servers' data goes: on the disk that is to be measured, not in memory.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// Where the results go.
    #[arg(long, default_value = "bench/results/latest.json")]
    results: PathBuf,
}

/// Measures, prints the table, and writes the results.
///
/// # Errors
/// What could not be measured, and why. Nothing is written then.
pub fn run(options: &Options) -> Result<(), Error> {
    if let Some(unknown) = options.only.iter().find(|name| !LOADS.contains(&name.as_str())) {
        return Err(Error::Unknown(unknown.clone(), LOADS.join(", ")));
    }
    let sizes = if options.quick { QUICK } else { FULL };
    let files = machine::raise_files()?;
    machine::need_files("the most connected clients", sizes.people(), files)?;
    std::fs::create_dir_all(&options.dir).map_err(error::doing("making", &options.dir))?;
    machine::need_room(&options.dir, needed_mib(options, &sizes))?;
    let about = machine::about(&options.dir, &sizes, server::SETTINGS)?;
    let place = Place::new(&options.dir)?;
    let measured = measure(options, &sizes, &place);
    place.clear();
    let report = measured?;
    println!("{}", report.table(&sizes));
    let whole = options.only.is_empty() && options.tls.is_none();
    let before = if whole { None } else { read(&options.results)? };
    write(&options.results, &report.json(about, before))
}

/// How much room the servers' data need: some for what the loads write, and where the view is to be large, its rows, the log's start and two
/// snapshots while it is restored, about 1 KiB a message in all.
fn needed_mib(options: &Options, sizes: &Sizes) -> u64 {
    let large = options.only.is_empty() || options.only.iter().any(|name| name == "growth");
    2_048 + if large { u64::from(sizes.growth_rooms) * sizes.growth_messages / 1024 } else { 0 }
}

fn measure(options: &Options, sizes: &Sizes, place: &Place) -> Result<Report, Error> {
    let mut report = Report::default();
    for (prefix, place) in [("", place.clone()), (TLS, place.with_tls()?)] {
        if options.tls.is_some_and(|tls| tls != (prefix == TLS)) {
            continue;
        }
        for load in LOADS {
            if options.only.is_empty() || options.only.iter().any(|name| name == load) {
                eprintln!("ieum bench: {prefix}{load}");
                clients(load)?.block_on(one(load, prefix, &place, sizes, &mut report))?;
            }
        }
    }
    Ok(report)
}

/// What the clients run on: one thread, so that they take at most one of the two cores and no locks between them; two where thousands
/// connect at once, which is more work for them than for the server.
fn clients(load: &str) -> Result<tokio::runtime::Runtime, Error> {
    let mut builder = match load {
        "idle" => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.map_err(error::doing("starting", Path::new("the clients' runtime")))
}

async fn one(load: &str, prefix: &str, place: &Place, sizes: &Sizes, report: &mut Report) -> Result<(), Error> {
    let direct = World::couples(sizes.direct_pairs * 2, 0, now());
    match load {
        "direct" => {
            let server = place.serve(&direct)?;
            let pairs = direct.spread(sizes.direct_pairs);
            let runs = loads::rates(&server, &pairs, sizes.direct_window, sizes).await?;
            tell(report, prefix, "direct", &runs);
            report.add(prefix, "direct.server_resident_mib", &[server.resident_kib()? as f64 / 1024.0]);
        }
        "delay" => {
            let server = place.serve(&direct)?;
            let delays = loads::delays(&server, &direct.spread(sizes.delay_pairs), sizes).await?;
            report.add(prefix, "direct.p99_ms", &delays);
        }
        "single" => {
            let world = World::couples(sizes.single_pairs * 2, 0, now());
            let server = place.serve(&world)?;
            tell(report, prefix, "single", &loads::rates(&server, &world.spread(sizes.single_pairs), 1, sizes).await?);
        }
        "idle" => {
            // Everybody has a room with something in it, so that coming back reads what it would read.
            let server = place.serve(&World::couples(sizes.sessions, 2, now()))?;
            let came = loads::idle(&server, sizes).await?;
            report.add(prefix, "idle.kb_per_session", &[came.kb_per_session]);
            report.add(prefix, "reconnect.seconds", &came.reconnect);
            report.add(prefix, "reconnect.server_cpu_us_per_session", &came.server_us);
            report.add(prefix, "reconnect.clients_cpu_us_per_session", &came.client_us);
        }
        "room" => {
            let server = place.serve(&World::couples(sizes.room_members, 0, now()))?;
            report.add(prefix, "room.p99_ms", &[room::delays(&server, sizes).await?]);
        }
        "growth" => {
            let world = World::neighbours(sizes.growth_rooms, sizes.growth_messages, now());
            let [empty, full] = loads::growth(place, &world, sizes).await?;
            let rates = |runs: &[Run]| runs.iter().map(|run| run.rate).collect::<Vec<_>>();
            report.add(prefix, "growth.empty_messages_per_s", &rates(&empty));
            report.add(prefix, "growth.full_messages_per_s", &rates(&full));
            report.add(prefix, "growth.ratio", &[median(&rates(&full)) / median(&rates(&empty))]);
        }
        "restart" => {
            let mut server = place.serve(&direct)?;
            let came = loads::restart(&mut server, &direct.spread(sizes.direct_pairs), sizes).await?;
            report.add(prefix, "restart.seconds", &came.first);
            report.add(prefix, "restart.half_of_clients_seconds", &came.half);
        }
        _ => {}
    }
    Ok(())
}

fn tell(report: &mut Report, prefix: &str, load: &str, runs: &[Run]) {
    let all = |pick: fn(&Run) -> f64| runs.iter().map(pick).collect::<Vec<_>>();
    report.add(prefix, &format!("{load}.messages_per_s"), &all(|run| run.rate));
    report.add(prefix, &format!("{load}.server_cpu_us_per_message"), &all(|run| run.server_us));
    report.add(prefix, &format!("{load}.clients_cpu_us_per_message"), &all(|run| run.client_us));
}

/// The results that are there, if there are any.
fn read(path: &Path) -> Result<Option<serde_json::Value>, Error> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error::doing("reading", path)(error)),
    };
    let results = serde_json::from_slice(&text);
    results.map(Some).map_err(|error| error::doing("reading", path)(error.into()))
}

fn write(path: &Path, results: &serde_json::Value) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(error::doing("making", folder))?;
    }
    std::fs::write(path, format!("{results:#}\n")).map_err(error::doing("writing", path))
}

/// The wall clock, in milliseconds since 1970.
fn now() -> u64 {
    let since: Duration = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
