//! People, what they write, and probes, through a drill: `drill-load` (`src/bin/load.rs`). What users see is written down in [`book`]'s words.
//!
//! ```text
//!   people of each data center ──► talk at a fixed rate ─┐
//!   probes: send and receive, come back, sign in  ───────┼──► the cell, through the shipped client ──► history.txt
//!   stdin: what was done to the cell ────────────────────┘                        at the end: held-NODE.txt, each survivor's contents
//! ```
//!
//! All clients run on one thread, so that a machine of two cores has the other for what is measured.

pub(crate) mod book;
pub mod clock;
mod crowd;
pub(crate) mod ending;
mod hearing;
mod line;
mod people;
mod probes;
mod shared;

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ieum_client::Endpoint;
use ieum_client::machine::{Limits, Timing};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::error::{Error, Naming as _};
use book::Book;
use crowd::Crowd;
use line::{Counting, Line, Said};
use probes::Counts;
use shared::Shared;

/// How long it may take until everybody talks.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often what is written is given to the system.
const FLUSH: Duration = Duration::from_secs(1);

/// A data center and its nodes, as text `NAME=ENDPOINT,…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dc {
    /// Its name.
    pub name: String,
    /// Its nodes.
    pub endpoints: Vec<Endpoint>,
}

impl FromStr for Dc {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, list) = text.split_once('=').ok_or("write for example a=ws://10.77.0.1:8080")?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("{name:?} is no name of a data center"));
        }
        let read = list.split(',').map(|text| text.parse().map_err(|error: ieum_client::Invalid| error.to_string()));
        Ok(Self { name: name.to_owned(), endpoints: read.collect::<Result<_, _>>()? })
    }
}

/// What load, and where to.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data centers.
    pub dcs: Vec<Dc>,
    /// How many people talk.
    pub users: usize,
    /// How many messages a second they write, all together.
    pub rate: u32,
    /// Between two probes of a data center.
    pub probe: Duration,
    /// Between two new devices of a data center.
    pub login: Duration,
    /// For how long the end waits for outcomes.
    pub settle: Duration,
    /// Draws who writes when and where.
    pub seed: u64,
    /// Where histories go: a folder without any.
    pub out: PathBuf,
}

/// Runs until `input` says `stop`. Says `live` on `output` when everybody talks.
pub fn run(options: &Options, input: impl BufRead + Send + 'static, output: &mut impl Write) -> Result<(), Error> {
    if options.dcs.is_empty() || options.users == 0 {
        return Err(Error::other("beginning", "there has to be a data center and somebody to talk"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.naming(|| "starting a runtime for the clients".to_owned())?;
    let (sender, lines) = unbounded_channel();
    // Apart from the clients, so that a line's time is that of its coming. It ends with the input or with the process.
    std::thread::spawn(move || line::read(input, &sender));
    let shared = Arc::new(Shared::new(Book::create(&options.out)?, options.dcs.clone()));
    about(options, &shared);
    runtime.block_on(live_through(options, &shared, lines, output))?;
    shared.book.flush()
}

/// Writes down with what it is measured.
fn about(options: &Options, shared: &Shared) {
    let (timing, limits) = (Timing::default(), Limits::default());
    shared.note(format_args!("o client ieum-client {}", env!("CARGO_PKG_VERSION")));
    for setting in format!("{timing:?} {limits:?}").split(['{', '}', ',']) {
        if let Some((name, value)) = setting.trim().split_once(": ") {
            shared.note(format_args!("o client.{} {value}", name.trim()));
        }
    }
    let (users, rate, seed) = (options.users, options.rate, options.seed);
    let (probe, login) = (options.probe.as_millis(), options.login.as_millis());
    for (name, value) in [("users", users as u64), ("messages_per_s", rate.into()), ("seed", seed)] {
        shared.note(format_args!("o {name} {value}"));
    }
    shared.note(format_args!("o probe_ms {probe}"));
    shared.note(format_args!("o login_ms {login}"));
    for dc in &options.dcs {
        let endpoints: Vec<String> = dc.endpoints.iter().map(ToString::to_string).collect();
        shared.note(format_args!("o dc.{} {}", dc.name, endpoints.join(",")));
    }
}

fn say(output: &mut impl Write, line: &str) -> Result<(), Error> {
    writeln!(output, "{line}").and_then(|()| output.flush()).naming(|| format!("saying {line:?}"))
}

async fn live_through(
    options: &Options,
    shared: &Arc<Shared>,
    mut lines: UnboundedReceiver<Line>,
    output: &mut impl Write,
) -> Result<(), Error> {
    // A run on a cell that has seen others gives its people other names.
    let tag = format!("{:x}", clock::now() / 1_000_000);
    let crowd = crowd::gather(shared, options.users, &tag).await?;
    for person in crowd.present() {
        person.connect(crowd.seen.clone())?;
    }
    if !shared.wait(PATIENCE, || crowd.present().all(|person| person.at_home())).await {
        return Err(Error::other("connecting", "not everybody is at the own data center within two minutes"));
    }
    tokio::spawn(people::talk(crowd.talkers.clone(), Arc::clone(shared), options.rate, options.seed));
    let counts: Vec<Arc<Counts>> = crowd.probes.iter().map(|probes| probe(options, probes, shared)).collect();
    let talking = || crowd.talkers.iter().all(|person| person.was_heard());
    let works = || counts.iter().all(|counts| counts.all_work());
    if !shared.wait(PATIENCE, || talking() && works()).await {
        return Err(Error::other("beginning", "not everybody was answered within two minutes"));
    }
    shared.note(format_args!("q live"));
    say(output, "live")?;
    let survivors = match follow(shared, &mut lines).await? {
        Some(named) if !named.is_empty() => named,
        Some(_) => everywhere(&options.dcs),
        None => return Err(Error::other("going on", "the standard input ended without `stop`")),
    };
    end(options, (shared, &crowd), &survivors, output).await
}

fn probe(options: &Options, probes: &Arc<crowd::Probes>, shared: &Arc<Shared>) -> Arc<Counts> {
    let counts = Arc::new(Counts::default());
    let (count, with) = (|| Arc::clone(&counts), || Arc::clone(shared));
    tokio::spawn(probes::send(Arc::clone(probes), with(), options.probe));
    tokio::spawn(probes::probe(probes.rejoiners.clone(), count(), with(), options.probe));
    tokio::spawn(probes::probe(probes.newcomers.clone(), count(), with(), options.login));
    counts
}

/// Writes down what is done until the stop; the survivors that were named. Nothing when the input ended before.
async fn follow(
    shared: &Shared,
    lines: &mut UnboundedReceiver<Line>,
) -> Result<Option<Vec<(String, Endpoint)>>, Error> {
    let mut survivors = Vec::new();
    let mut flush = tokio::time::interval(FLUSH);
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = flush.tick() => {
                shared.book.flush()?;
                continue;
            }
        };
        let Some(Line { at, said }) = line else { return Ok(None) };
        match said {
            Said::Mark(counting, text) => {
                let letter = match counting {
                    Counting::AsBefore => "m",
                    Counting::Stops => "mu",
                    Counting::Begins => "mc",
                };
                shared.book.note_at(at, format_args!("{letter} {}", book::one_line(&text)));
            }
            Said::Survivor(name, endpoint) => survivors.push((name, endpoint)),
            Said::Stop => {
                shared.book.note_at(at, format_args!("q stop"));
                return Ok(Some(survivors));
            }
            Said::End => return Ok(None),
            Said::Strange(text) => {
                return Err(Error::other("reading the standard input", format!("{text:?} means nothing here")));
            }
        }
    }
}

/// All nodes: by their data center's name, numbered where there are several.
fn everywhere(dcs: &[Dc]) -> Vec<(String, Endpoint)> {
    let named = dcs.iter().flat_map(|dc| {
        dc.endpoints.iter().enumerate().map(|(at, endpoint)| {
            let name = if at == 0 { dc.name.clone() } else { format!("{}-{}", dc.name, at + 1) };
            (name, endpoint.clone())
        })
    });
    named.collect()
}

async fn end(
    options: &Options,
    (shared, crowd): (&Arc<Shared>, &Crowd),
    survivors: &[(String, Endpoint)],
    output: &mut impl Write,
) -> Result<(), Error> {
    match ending::settle(crowd, shared, options.settle).await {
        Ok(()) => {
            shared.note(format_args!("q settled"));
            say(output, "settled")?;
        }
        Err(missing) => {
            shared.note(format_args!("q unsettled {missing}"));
            say(output, &format!("not settled: {missing}"))?;
        }
    }
    let seen = ending::seen(crowd).await;
    for (name, endpoint) in survivors {
        ending::read(crowd, (name, endpoint), seen.as_ref(), &options.out).await?;
        shared.note(format_args!("o survivor.{name} {endpoint}"));
        say(output, &format!("read {name}"))?;
    }
    shared.note(format_args!("q end"));
    Ok(())
}
