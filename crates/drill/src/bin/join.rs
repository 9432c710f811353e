//! `ieum-join`: measures how long a node takes that is added with an empty disk to a cell that serves, and what those notice who write
//! meanwhile. Three members of etcd, two nodes with so many messages, all of them real processes on loopback.
//!
//! The result is a table: from the start of the new node's process until it says that it serves, and over that time and two seconds more
//! the longest pause between two acknowledged messages of anybody and how long single messages took. The first line is without a join.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use ieum_client::store::Memory;
use ieum_client::{Client, CommandId, Delivery, Http, NewAccount, Trust};
use ieum_drill::crowd::{self, Crowd};
use ieum_drill::etcd::Etcd;
use ieum_drill::server::{Server, free_port};
use ieum_protocol::frames::Change;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// How long is looked on when the node is ready.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// How long is looked at the cell without a join.
const BEFORE: Duration = Duration::from_secs(10);

/// Measures how long a node with an empty disk takes to be ready, while the cell serves.
#[derive(Parser)]
struct Arguments {
    /// The server's binary
    #[arg(long, default_value = "target/release/ieum")]
    ieum: PathBuf,
    /// So many messages the cell holds first
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// So many messages a second are written meanwhile
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// So many people write them
    #[arg(long, default_value_t = 20)]
    writers: u32,
    /// So many nodes join, one after another
    #[arg(long, default_value_t = 5)]
    joins: u32,
    /// Waits for a line on the standard input when the messages are there
    #[arg(long)]
    hold: bool,
    /// Prints what each node that joined said
    #[arg(long)]
    show: bool,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ieum-join: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut cell = Cell::start(std::path::absolute(&arguments.ieum)?)?;
    let begun = Instant::now();
    cell.fill(arguments.messages)?;
    eprintln!("{} messages written in {:.0} s", arguments.messages, begun.elapsed().as_secs_f64());
    if arguments.hold {
        std::io::stdin().read_line(&mut String::new())?;
    }
    let load = Load::begin(&cell, arguments)?;
    std::thread::sleep(BEFORE);
    println!("{:>8} {:>10} {:>10} {:>8} {:>8} {:>8}", "join", "ready s", "pause ms", "p50 ms", "p99 ms", "worst ms");
    println!("{:>8} {:>10} {}", "none", "", load.seen(begun.elapsed().min(BEFORE)));
    for join in 0..arguments.joins {
        let started = Instant::now();
        let said = cell.join(3 + join, |ready| {
            std::thread::sleep(AFTERWARDS);
            println!("{:>8} {:>10.2} {}", join + 1, ready.as_secs_f64(), load.seen(started.elapsed()));
        })?;
        if arguments.show {
            println!("{said}");
        }
    }
    Ok(())
}

/// A cell of two data centers' nodes, to which a third's is added.
struct Cell {
    ieum: PathBuf,
    etcd: Etcd,
    nodes: Vec<Server>,
    peers: Vec<String>,
    folder: TempDir,
}

impl Cell {
    fn start(ieum: PathBuf) -> Result<Self, Failure> {
        let mut cell =
            Self { ieum, etcd: Etcd::start(3)?, nodes: Vec::new(), peers: Vec::new(), folder: tempfile::tempdir()? };
        for (number, dc) in [(1, "a"), (2, "b")] {
            let mut node = cell.node(number, dc)?;
            if number > 1 {
                cell.operate(&["node", "add", &number.to_string(), "--dc", dc])?;
            }
            node.start(PATIENCE)?;
            cell.nodes.push(node);
        }
        Ok(cell)
    }

    /// A node that is not started yet.
    fn node(&mut self, number: u32, dc: &str) -> Result<Server, Failure> {
        let outside = self.folder.path().join(number.to_string());
        std::fs::create_dir(&outside)?;
        let server = Server::new(&self.ieum, &outside, outside.join("data"))?.without_limits();
        let server = if number == 1 { server.founding() } else { server };
        let mut endpoints = self.etcd.endpoints();
        let nearest = usize::try_from(number - 1)?.checked_rem(endpoints.len()).unwrap_or(0);
        endpoints.rotate_left(nearest);
        let listen = format!("127.0.0.1:{}", free_port()?);
        let own = server.address();
        let server = server
            .set("NODE__NUMBER", &number.to_string())
            .set("NODE__DC", dc)
            .set("LOG__ENGINE", "etcd")
            .set("LOG__ENDPOINTS", &list(&endpoints))
            .set("PEERS__LISTEN", &listen)
            .set("PEERS__ADDRESSES", &list(&self.peers))
            .set("LISTEN__ENDPOINTS", &list(&[own]));
        self.peers.push(format!("http://{listen}"));
        Ok(server)
    }

    fn endpoints(&self) -> Result<Vec<ieum_client::Endpoint>, Failure> {
        Ok(self.nodes.iter().map(|node| node.address().parse()).collect::<Result<_, _>>()?)
    }

    /// Has so many messages written, as fast as they are taken.
    fn fill(&self, messages: u64) -> Result<(), Failure> {
        let crowd = Crowd::gather(&crowd::Options { endpoints: self.endpoints()?, people: 60, in_flight: 32 })?;
        crowd.write();
        crowd.wait_for(messages, PATIENCE)?;
        crowd.rest(PATIENCE)?;
        crowd.leave();
        Ok(())
    }

    /// What an operator says to the first node.
    fn operate(&self, arguments: &[&str]) -> Result<(), Failure> {
        let data = self.nodes.first().map(Server::data).unwrap_or(Path::new("."));
        let output = Command::new(&self.ieum).args(arguments).arg("--data").arg(data).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("ieum {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Adds a node with an empty disk, tells how long it took, and takes the node away again. Gives what it said.
    fn join(&mut self, number: u32, ready: impl FnOnce(Duration)) -> Result<String, Failure> {
        let mut node = self.node(number, "c")?;
        self.operate(&["node", "add", &number.to_string(), "--dc", "c"])?;
        let started = Instant::now();
        node.start(PATIENCE)?;
        ready(started.elapsed());
        self.operate(&["node", "remove", &number.to_string()])?;
        node.kill()?;
        self.peers.pop();
        let said = node.stderr()?;
        std::fs::remove_dir_all(node.data())?;
        Ok(said)
    }
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", "))
}

/// People who write at a steady rate, and when they were answered.
struct Load {
    record: Arc<Record>,
    // Its threads end with it.
    _runtime: Runtime,
}

/// What is under way and what was acknowledged.
#[derive(Default)]
struct Record {
    sent: Mutex<HashMap<CommandId, Instant>>,
    /// When, and how long it took.
    acknowledged: Mutex<Vec<(Instant, Duration)>>,
}

/// One who writes.
struct Writer {
    client: Client,
    room: u64,
}

impl Load {
    fn begin(cell: &Cell, arguments: &Arguments) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let record = Arc::new(Record::default());
        let endpoints = cell.endpoints()?;
        let writers = runtime.block_on(async {
            let mut writers = Vec::new();
            for number in 0..arguments.writers {
                writers.push(writer(number, &endpoints, &record).await?);
            }
            Ok::<_, Failure>(writers)
        })?;
        let every = Duration::from_secs(1).checked_div(arguments.rate).ok_or("the rate is 0")?;
        runtime.spawn(write(writers, every, Arc::clone(&record)));
        Ok(Self { record, _runtime: runtime })
    }

    /// What was seen in the last `span`.
    fn seen(&self, span: Duration) -> String {
        let now = Instant::now();
        let begin = now.checked_sub(span).unwrap_or(now);
        let acknowledged = self.record.acknowledged.lock();
        let window: Vec<(Instant, Duration)> = acknowledged.iter().filter(|(at, _)| *at >= begin).copied().collect();
        drop(acknowledged);
        let ends = [begin].into_iter().chain(window.iter().map(|(at, _)| *at));
        let pauses = ends.zip(window.iter().map(|(at, _)| *at).chain([now]));
        let pause = pauses.map(|(one, next)| next.saturating_duration_since(one)).max().unwrap_or(span);
        let mut took: Vec<Duration> = window.iter().map(|(_, took)| *took).collect();
        took.sort_unstable();
        let at = |part: f64| {
            let index = (took.len() as f64 * part) as usize;
            took.get(index.min(took.len().saturating_sub(1))).copied().unwrap_or(span).as_secs_f64() * 1e3
        };
        format!("{:>10.0} {:>8.1} {:>8.1} {:>8.1}", pause.as_secs_f64() * 1e3, at(0.5), at(0.99), at(1.0))
    }
}

/// Somebody with a room of their own, connected.
async fn writer(number: u32, endpoints: &[ieum_client::Endpoint], record: &Arc<Record>) -> Result<Writer, Failure> {
    let http = Http::new(endpoints.to_vec(), Trust::web());
    let handle = format!("writer{number}");
    let account = NewAccount {
        name: handle.clone(),
        handle,
        password: format!("password of {number}"),
        device: "join".to_owned(),
        invitation: None,
    };
    http.register(account).await?;
    let room = http.change(&Change::CreateGroup { name: "방".to_owned(), handles: Vec::new() }).await?.room;
    let mut options = ieum_client::Options::new(endpoints.to_vec());
    options.identity = http.identity().await;
    options.limits.kept = 0;
    let record = Arc::clone(record);
    let observer = move |delivery| {
        if let Delivery::Outcome { id, result: Ok(_), .. } = delivery
            && let Some(sent) = record.sent.lock().remove(&id)
        {
            let now = Instant::now();
            record.acknowledged.lock().push((now, now.saturating_duration_since(sent)));
        }
    };
    let client = Client::observe(options, Memory::new(), observer)?;
    client.live().await.map_err(|stop| stop.to_string())?;
    Ok(Writer { client, room: room.ok_or("a room without a number")? })
}

/// One message after another, by one person after another, whether they are answered or not.
async fn write(writers: Vec<Writer>, every: Duration, record: Arc<Record>) {
    let mut tick = tokio::time::interval(every);
    for (number, writer) in (1u128..).zip(writers.iter().cycle()) {
        tick.tick().await;
        let id = CommandId(u128::MAX / 3 + number);
        let text = format!("message {number}, of the length that messages have");
        record.sent.lock().insert(id, Instant::now());
        if let Err(failure) = writer.client.try_post(id, Change::Send { room: writer.room, text, reply_to: None }) {
            eprintln!("ieum-join: a client takes no more: {failure}");
            return;
        }
    }
}
