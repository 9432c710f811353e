//! The operator's door to a running node: a Unix socket in its data folder, which only who may read the folder can open. One JSON
//! request a connection, and one JSON answer; before that of long work come lines that say how far it is.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::Command;
use ieum_core::outcome::{Accepted, Outcome, Reject};
use ieum_gateway::{Gateway, Ticket};
use ieum_log::Kept;
use ieum_node::folder::{Extent, Folder};
use ieum_node::progress::{self, Step, Watch};
use ieum_node::service::Handle;
use ieum_node::{snapshot, verify};
use ieum_peer::circle::Circle;
use ieum_peer::shelf::{CLEARS_WITHIN, Hangs};
use ieum_store::fjall::Fjall;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle as Runtime;
use tokio::sync::mpsc::Sender;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::bar::Bar;
use crate::cell::NodeCell;
use crate::serve::Error;
use crate::{level, nodes};

/// What an operator asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Copy the view into this file.
    Backup { to: PathBuf },
    /// Check that log, snapshots and view agree.
    Verify,
    /// Follow the clock although it jumped.
    AcceptClock,
    /// Let people register with a code.
    Invite { uses: u32, days: u32 },
    /// Who the members are, and what was heard of them.
    Nodes,
    /// Make a node a member.
    AddNode { node: u32, dc: String },
    /// Take a node out.
    RemoveNode { node: u32, force: bool },
    /// Send the node's clients elsewhere and take no more; over so many seconds, or as it is set.
    Drain { seconds: Option<u64> },
    /// Take clients again.
    EndDrain,
    /// Which level is active, and what the members know.
    Levels,
    /// Make a level the active one.
    Activate { level: u32 },
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The backup is complete and durable.
    BackedUp { position: String },
    /// What was checked and found.
    Verified { position: String, from: String, batches: u64, rows: u64, findings: Vec<String> },
    /// The clock is followed; it had jumped so far.
    ClockAccepted { jump_ms: i64 },
    /// The code.
    Invited { code: String },
    /// The members.
    Nodes { members: Vec<nodes::Row> },
    /// So many sessions were sent elsewhere.
    Drained { sessions: u64 },
    /// The node takes clients; or it did before.
    DrainEnded { before: bool },
    /// The node is a member.
    NodeAdded { node: u32, dc: String },
    /// The node is none any more.
    NodeRemoved { node: u32 },
    /// Where the cell stands among the levels.
    Levels { active: u32, members: Vec<Knows> },
    /// The level is active.
    Activated { level: u32 },
    /// Not the answer yet: how far it is.
    Progress { what: String, done: u64, of: Option<u64> },
    /// It did not work.
    Failed { reason: String },
}

/// The highest level that a member knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Knows {
    pub(crate) node: u32,
    pub(crate) dc: String,
    pub(crate) level: u32,
}

/// How long an operator waits for the log.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the cell for what only its nodes may ask. An error when its outcome is not known.
pub(crate) async fn ask_cell(
    node: &Handle<Fjall, Ticket>,
    command: Command,
) -> Result<Result<Accepted, Reject>, Answer> {
    let (ticket, outcome) = Ticket::request();
    if node.submit(&Envelope { origin: Origin::Node, command }, ticket).is_err() {
        return Err(Answer::Failed { reason: "the node takes no more work just now".to_owned() });
    }
    match tokio::time::timeout(PATIENCE, outcome).await {
        Ok(Ok((_, Outcome::Accepted(accepted)))) => Ok(Ok(accepted)),
        Ok(Ok((_, Outcome::Rejected(reject)))) => Ok(Err(reject)),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(Answer::Failed { reason: "the log does not answer just now; try again when it does".to_owned() }),
    }
}

/// Where the socket of the node with this data lies.
pub(crate) fn socket(data: &Path) -> PathBuf {
    data.join("admin.sock")
}

/// Binds or connects to the socket. Its address holds 107 bytes, which a folder's path may have alone, so the path goes through the
/// opened folder.
fn at<T>(data: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let folder = std::fs::File::open(data)?;
    with(&socket(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd()))))
}

const LONGEST_REQUEST: u64 = 64 * 1024;
/// How often an operator is told how far long work is.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What answers an operator.
pub(crate) struct Context<L> {
    /// The data folder.
    pub(crate) folder: Folder,
    /// The log.
    pub(crate) log: Arc<L>,
    /// The node.
    pub(crate) node: Handle<Fjall, Ticket>,
    /// The node among the others, if the cell has others.
    pub(crate) circle: Option<Arc<Circle>>,
    /// Where its clients are.
    pub(crate) gateway: Arc<Gateway<NodeCell>>,
    /// Over how long they are sent elsewhere.
    pub(crate) drain: Duration,
}

/// Where operators are answered.
struct Desk<L> {
    context: Context<L>,
    /// Says that the node stops.
    stops: watch::Receiver<bool>,
    /// Goes last, when nobody holds what is above any more.
    _held: oneshot::Sender<()>,
}

impl<L> Desk<L> {
    fn goes_on(&self) -> Result<(), snapshot::Error> {
        if *self.stops.borrow() { Err(snapshot::Error::Closed) } else { Ok(()) }
    }

    /// Waits for what is asked of others, unless the node stops.
    fn wait(&self, runtime: &Runtime, work: impl Future<Output = Answer>) -> Answer {
        let mut stops = self.stops.clone();
        runtime.block_on(async {
            tokio::select! {
                biased;
                answer = work => answer,
                _ = stops.wait_for(|stops| *stops) => Answer::Failed {
                    reason: "the node stops; when it runs again, see whether it was done".to_owned(),
                },
            }
        })
    }
}

/// The operators' door, which is open until it is closed.
pub(crate) struct Open {
    stop: watch::Sender<bool>,
    listening: JoinHandle<()>,
    held: oneshot::Receiver<()>,
}

impl Open {
    /// Ends what is done for operators. None of them uses the log or the view when this returns.
    ///
    /// # Errors
    /// When that is not so, because a disk hangs.
    pub(crate) async fn close(self) -> Result<(), Hangs> {
        self.stop.send_replace(true);
        self.listening.abort();
        // Nothing is ever sent: it fails when the other end is gone.
        timeout(CLEARS_WITHIN, self.held).await.map(drop).map_err(|_| Hangs)
    }
}

/// Answers operators until closed.
pub(crate) fn listen<L: Kept>(context: Context<L>) -> Result<Open, Error> {
    let folder = &context.folder;
    let path = socket(folder.root());
    // The log's lock is held, so a socket that is there is a dead node's.
    let _ = std::fs::remove_file(&path);
    let error = |source| Error::File { operation: "listening on", path: path.clone(), source };
    let listener = at(folder.root(), |path| UnixListener::bind(path)).map_err(error)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(error)?;
    let (stop, stops) = watch::channel(false);
    let (holds, held) = oneshot::channel();
    let desk = Arc::new(Desk { context, stops, _held: holds });
    let listening = tokio::spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely; some will close.
                    tracing::warn!(%error, "an operator's connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Who says nothing yet holds nothing.
            let desk = Arc::downgrade(&desk);
            tokio::spawn(async move {
                if let Err(error) = converse(stream, desk).await {
                    tracing::warn!(%error, "an operator's request was not answered");
                }
            });
        }
    });
    Ok(Open { stop, listening, held })
}

async fn converse<L: Kept>(stream: UnixStream, desk: Weak<Desk<L>>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST_REQUEST)).read_line(&mut line).await?;
    let request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => return say(&mut write, &Answer::Failed { reason: error.to_string() }).await,
    };
    let Some(desk) = desk.upgrade() else { return say(&mut write, &failed(&snapshot::Error::Closed)).await };
    let (answers, mut said) = tokio::sync::mpsc::channel(16);
    let runtime = Runtime::current();
    // A thread of its own, because it steps back behind the threads that serve.
    let work = move || {
        progress::step_back();
        let answer = answer(request, &desk, &runtime, &tell(answers.clone()));
        // An operator who does not listen must not hold it.
        drop(desk);
        // An operator who went away hears nothing.
        let _ = answers.blocking_send(answer);
    };
    std::thread::Builder::new().name("ieum-operator".to_owned()).spawn(work)?;
    while let Some(answer) = said.recv().await {
        say(&mut write, &answer).await?;
    }
    Ok(())
}

async fn say(to: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) -> io::Result<()> {
    let mut text = serde_json::to_string(answer)?;
    text.push('\n');
    to.write_all(text.as_bytes()).await
}

/// Passes on some of the steps: what does not fit the channel is soon out of date.
fn tell(answers: Sender<Answer>) -> impl Fn(Step) + Sync {
    let told = Mutex::new(Instant::now());
    move |Step { what, done, of }| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            let _ = answers.try_send(Answer::Progress { what: what.to_owned(), done, of });
        }
    }
}

fn answer<L: Kept>(request: Request, desk: &Desk<L>, runtime: &Runtime, watch: Watch<'_>) -> Answer {
    let context = &desk.context;
    match request {
        Request::Backup { to } => {
            match snapshot::copy_while(context.node.kv().as_ref(), &to, watch, &|| desk.goes_on()) {
                Ok(meta) => Answer::BackedUp { position: meta.position.to_string() },
                Err(error) => failed(&error),
            }
        }
        Request::Verify => check(desk, runtime, watch),
        Request::AcceptClock => {
            let jump_ms = context.node.clock_jump();
            context.node.accept_clock();
            Answer::ClockAccepted { jump_ms }
        }
        Request::Invite { uses, days } => desk.wait(runtime, crate::invite::make(&context.node, uses, days)),
        Request::Nodes => nodes::list(&context.node, context.circle.as_deref()),
        Request::AddNode { node, dc } => desk.wait(runtime, nodes::add(&context.node, node, dc)),
        Request::RemoveNode { node, force } => {
            let circle = context.circle.as_deref();
            desk.wait(runtime, nodes::remove(&context.node, circle, context.log.as_ref(), node, force))
        }
        Request::Drain { seconds } => {
            let over = seconds.map_or(context.drain, Duration::from_secs);
            desk.wait(runtime, nodes::drain(&context.gateway, context.circle.as_deref(), over, watch))
        }
        Request::EndDrain => nodes::end_drain(&context.gateway, context.circle.as_deref()),
        Request::Levels => level::show(&context.node),
        Request::Activate { level } => desk.wait(runtime, level::activate(&context.node, level)),
    }
}

pub(crate) fn failed(error: &dyn std::error::Error) -> Answer {
    Answer::Failed { reason: ieum_node::chain(error) }
}

fn check<L: Kept>(desk: &Desk<L>, runtime: &Runtime, watch: Watch<'_>) -> Answer {
    let context = &desk.context;
    let log = context.log.as_ref();
    let extent = || Ok(Extent::of_kept(log, runtime.block_on(log.last())?));
    match verify::running(&context.folder, log, extent, &context.node, runtime, watch, &|| desk.goes_on()) {
        Ok(report) => verified(&report),
        Err(error) => failed(&error),
    }
}

pub(crate) fn verified(report: &verify::Report) -> Answer {
    Answer::Verified {
        position: report.position.to_string(),
        from: report.replayed_from.to_string(),
        batches: report.batches,
        rows: report.rows,
        findings: report.findings.iter().map(ToString::to_string).collect(),
    }
}

/// Asks the node with this data, and shows how far it is meanwhile; none when none runs.
pub(crate) fn ask(data: &Path, request: &Request, bar: &Bar) -> io::Result<Option<Answer>> {
    use std::io::{BufRead as _, Write as _};
    let mut stream = match at(data, |path| std::os::unix::net::UnixStream::connect(path)) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    for line in io::BufReader::new(stream).lines() {
        match serde_json::from_str(&line?)? {
            Answer::Progress { what, done, of } => bar.show(&what, done, of),
            answer => return Ok(Some(answer)),
        }
    }
    Err(io::Error::other("the node ended before it answered"))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use ieum_core::kv::{Kv as _, WriteSet};
    use ieum_gateway::Hub;
    use ieum_node::machine::Delivery;
    use ieum_node::service::{Identity, Node, Options};

    use super::*;
    use crate::config::Config;
    use crate::keys;

    /// One that does not become smaller, so that it fills a pipe, and others behind each of which it is looked whether a copy goes on.
    fn large() -> WriteSet {
        let mut random = vec![0; 2 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut random);
        let mut rows = WriteSet::default();
        rows.rows.insert(vec![0xfe, 0], Some(random.into()));
        rows.rows.extend((1..4).map(|row| (vec![0xfe, row], Some(vec![row; 9 << 20].into()))));
        rows
    }

    /// The node may go on in this process, and opens what was open.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_backup_ends_with_its_node_which_waits_for_that() {
        let root = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.node.data = root.path().join("data");
        let folder = Folder::new(&config.node.data);
        let opened = folder.open(3, &ieum_store::fjall::Options::default()).await.unwrap();
        opened.view.commit(&large()).unwrap();
        let identity = Identity { node: 1, dc: "a".to_owned(), cell: 3, key_id: 1, public_key: [1; 32] };
        let options = Options::new(identity, &folder);
        let (log, view) = (Arc::clone(&opened.log), Arc::clone(&opened.view));
        let node = Node::start(log, view, options, |_: Delivery<Ticket>| {}).await.unwrap();
        let keys = keys::signing_keys(&config.node.data).unwrap();
        let gateway = Gateway::new(NodeCell::new(node.handle(), None, &config), Hub::new(), config.gateway(), keys);
        let before = Arc::strong_count(&opened.log);
        let open = listen(Context {
            folder: folder.clone(),
            log: Arc::clone(&opened.log),
            node: node.handle(),
            circle: None,
            gateway: Arc::clone(&gateway),
            drain: Duration::ZERO,
        });
        let (open, connect) =
            (open.unwrap(), || at(folder.root(), |path| std::os::unix::net::UnixStream::connect(path)));
        let _silent = connect().unwrap();
        // A pipe, so that the copy is made no faster than it is read here.
        let pipe = root.path().join("backup.partial");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let to = root.path().join("backup.ieum");
        let data = folder.root().to_owned();
        let asks = tokio::task::spawn_blocking(move || ask(&data, &Request::Backup { to }, &Bar::new()));
        let mut pipe = tokio::task::spawn_blocking(move || std::fs::File::open(pipe)).await.unwrap().unwrap();
        let reads = async { tokio::task::spawn_blocking(move || pipe.read_to_end(&mut Vec::new())).await };
        let close = async { (open.close().await, Arc::strong_count(&opened.log)) };
        let (closed, _) = tokio::join!(biased; close, reads);
        assert_eq!(closed, (Ok(()), before), "nobody holds the log any more");
        let answer = asks.await.unwrap().unwrap().unwrap();
        assert_eq!(answer, Answer::Failed { reason: "the node stops".to_owned() });
        drop(node.stop(Duration::ZERO).await);
    }
}
