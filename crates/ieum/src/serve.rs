//! `ieum serve`: a node and its gateway.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ieum_core::apply::Skips;
use ieum_core::ids::{NodeId, Position};
use ieum_core::kv::{Kv, Read};
use ieum_gateway::{Gateway, Hub, SigningKeys, Ticket};
use ieum_log::Kept;
use ieum_node::clock;
use ieum_node::folder::{self, Folder, Opened};
use ieum_node::halt;
use ieum_node::leases::Leases;
use ieum_node::machine::Delivery;
use ieum_node::peers::Phase;
use ieum_node::reserve::Reserve;
use ieum_node::service::{self, Identity, Node};
use ieum_node::upkeep::Policy;
use ieum_peer::circle::Circle;
use ieum_peer::shelf::Hangs;
use ieum_store::fjall::{self, Fjall};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

use crate::cell::NodeCell;
use crate::config::{self, Config, Engine};
use crate::halted::{self, Passage};
use crate::shared::Part;
use crate::stopping::{Signals, Until};
use crate::{admin, keys, shared, signals, sockets};

/// How long a stop waits for what was submitted.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How long clients wait at a start for the node's first commands to be applied.
const BEGIN_PATIENCE: Duration = Duration::from_secs(5);

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Folder(#[from] folder::Error),
    #[error(
        "the clock stands {hours} hours past the last time that this cell knows: set it right, or, if it is right, start once with \
         --clock-is-right"
    )]
    Clock { hours: u64 },
    #[error("starting the node")]
    Start(#[from] service::StartError),
    #[error("the log")]
    Log(#[from] ieum_log::Error),
    #[error(transparent)]
    Resync(#[from] ieum_peer::resync::Error),
    #[error("a setting: {0}")]
    Setting(String),
    #[error("{operation} {path}")]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} does not hold what it should: {what}")]
    Pem { path: PathBuf, what: String },
    #[error("listening on {address}; is another server running there? Set [listen] address")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("listening on {address} for who asks for metrics; is another server running there? Set [listen] metrics")]
    Metrics {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("listening on {address} for other nodes; is another node running there? Set [peers] listen")]
    Peers {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(
        "another process runs as node {node}, at {address}: stop that one first, or give this one a number of its own ([node] number, `ieum \
         node add`)"
    )]
    Double { node: u32, address: String },
    #[error("{0}")]
    Runtime(#[from] io::Error),
    #[error("{0}")]
    Stopped(String),
    #[error(transparent)]
    Hangs(#[from] Hangs),
    #[error("{0}")]
    LogLost(String),
    #[error("etcd has stopped to answer while the node came up: {0}")]
    Silent(String),
    #[error("the data of a node without a log")]
    Halted(#[from] halt::Error),
    #[error(
        "etcd holds no log, but {who} has data of a cell at {at}: the cell was founded before, and its log is lost. Start without --found, and \
         begin a new generation of the log with `ieum log reseed`"
    )]
    FoundedBefore { who: String, at: Position },
    #[error(
        "node {node} has applied {at}, and etcd's log ends before that: it has lost batches that were acknowledged (an older backup of etcd was \
         restored). This node has no data and does not begin with that log. Begin a new generation with `ieum log reseed`, which misses this \
         node: give it up there with --without and its number, and start it again afterwards"
    )]
    FallsShort { node: NodeId, at: Position },
    #[error(
        "node {node} stands at {at}, in a later generation than that of etcd's log, which was given up: an etcd that was thought lost has come \
         back. This node has no data and does not begin with that log. Correct [log] endpoints, and switch the old etcd off"
    )]
    OldLog { node: NodeId, at: Position },
    #[error("the log has gone on without this node and forgotten what it needs: it asks the other nodes for it")]
    Overtaken,
}

/// Threads for blocking work that is not the gateway's.
const SPARE_THREADS: usize = 2;

/// Runs a node until it is told to stop.
pub(crate) fn run(config: &Config, start: Start) -> Result<(), Error> {
    sockets::raise_files(config.limits.connections);
    match config.log.engine {
        Engine::Sqlite => alone(config, serve_alone(config, start)),
        Engine::Etcd => run_among_others(config, start),
    }
}

/// One that finds no etcd waits for it. One whose log is lost begins again, and halts until there is one that it can go on with.
fn run_among_others(config: &Config, mut start: Start) -> Result<(), Error> {
    let mut suspect = false;
    let mut signals = alone(config, async { Ok(Signals::new()?) })?;
    loop {
        let Some(passage) = alone(config, halted::gate(config, start.found, suspect, &mut signals))? else {
            return Ok(());
        };
        match alone(config, serve(config, start, &passage, &mut signals)) {
            // Not for ever, if nothing is found to be wrong.
            Err(Error::LogLost(reason)) if passage.waited || !suspect => {
                tracing::error!(reason, "alarm: the doors are shut, because the log is not what it was");
                (start.found, suspect) = (false, true);
            }
            Err(error @ Error::Silent(_)) => tracing::warn!("{error}. It begins again"),
            ended => return ended,
        }
    }
}

/// Runs on threads of its own: when it returns nothing is left that holds the data folder.
fn alone<T>(config: &Config, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    // Two threads for sockets; blocking work (passwords, reads of the view) has a bounded pool.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(config.gateway().threads() + SPARE_THREADS)
        .thread_name("ieum-io")
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

/// What this build makes is its owner's alone, but the folder may have been made by hand.
fn warn_if_open_to_others(data: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(about) = std::fs::metadata(data) else { return };
    if about.permissions().mode() & 0o077 != 0 {
        let path = data.display();
        tracing::warn!("other users of this machine can open {path}, which holds every message: chmod 700 {path}");
    }
}

/// What the operator says of this start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// The clock is right, although it stands far past cell time.
    pub(crate) clock_is_right: bool,
    /// The cell is founded by this node, if it is not founded yet.
    pub(crate) found: bool,
    /// The highest level that this build knows.
    pub(crate) known: u32,
}

/// What a node needs of this machine before it opens its data.
struct Ground {
    socket: TcpSocket,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    /// Where figures are shown apart, if the settings name an address.
    apart: Option<(TcpSocket, SocketAddr)>,
    folder: Folder,
    view: fjall::Options,
}

impl Ground {
    fn of(config: &Config) -> Result<Self, Error> {
        let tls = keys::tls(config)?;
        let address = config.listen.address;
        // Bound first: a port that is taken is the most common mistake, and nothing has been touched yet.
        let socket = sockets::bind(address).map_err(|source| Error::Listen { address, source })?;
        let for_figures = |address| match sockets::bind(address) {
            Ok(socket) => Ok((socket, address)),
            Err(source) => Err(Error::Metrics { address, source }),
        };
        let apart = config.listen.metrics.map(for_figures).transpose()?;
        let folder = Folder::new(&config.node.data);
        warn_if_open_to_others(folder.root());
        let view = fjall::Options { cache_bytes: config.view.cache_mib << 20, ..fjall::Options::default() };
        Ok(Self { socket, address, tls, apart, folder, view })
    }

    /// Clients may come.
    fn door(
        socket: TcpSocket,
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        apart: Option<(TcpSocket, SocketAddr)>,
    ) -> Result<Door, Error> {
        let listener = socket.listen(sockets::BACKLOG).map_err(|source| Error::Listen { address, source })?;
        let apart = apart.map(|(socket, address)| {
            socket.listen(sockets::BACKLOG).map_err(|source| Error::Metrics { address, source })
        });
        Ok(Door { listener, tls, apart: apart.transpose()? })
    }
}

/// A node that is its cell.
async fn serve_alone(config: &Config, start: Start) -> Result<(), Error> {
    let Ground { socket, address, tls, apart, folder, view } = Ground::of(config)?;
    // Its clients may as well wait for it.
    let door = Ground::door(socket, address, tls, apart)?;
    let opened = folder.open(config.node.cell, &view).await?;
    let leases = Leases::new(folder.snapshots());
    let running = run_node(config, start, &folder, &opened, (leases, true, None)).await?;
    let mut signals = Signals::new()?;
    let until = Until { signals: &mut signals, lost: std::future::pending() };
    serve_clients(config, &folder, opened.log, running, door, None, until).await
}

/// A node among others.
async fn serve(config: &Config, start: Start, passage: &Passage, signals: &mut Signals) -> Result<(), Error> {
    let Ground { socket, address, tls, apart, folder, view } = Ground::of(config)?;
    let starting = async {
        let shared = shared::open(config, &folder, &view, passage).await?;
        let rest = (shared.leases(), start.found, Some(shared.skips.clone()));
        let running = run_node(config, start, &folder, &shared.opened, rest).await;
        Ok::<_, Error>((shared, running.map_err(overtaken)?))
    };
    let (shared, running) = tokio::select! {
        started = starting => started.map_err(|error| halted::or_silent(halted::or_lost(error)))?,
        () = signals.told() => return Ok(()),
    };
    let log = Arc::clone(&shared.opened.log);
    let part = shared.take_part(&running.node.handle());
    let circle = Arc::clone(&part.circle);
    // Not before the node is ready: until then its clients are better served elsewhere.
    let door = Ground::door(socket, address, tls, apart)?;
    circle.set_phase(Phase::Ready);
    let node = running.node.handle();
    let lost = halted::noticed(config, Arc::clone(log.shared()), node.clone(), Arc::clone(&circle));
    let until = Until { signals, lost };
    let served = serve_clients(config, &folder, log, running, door, Some(&part), until).await;
    let left = part.leave().await;
    let served = match served {
        // Also a node that its log has refused is stopped by that.
        Err(Error::Stopped(reason)) if halted::own_etcd(config, node.applied()).await == halted::Shows::Lost => {
            Err(Error::LogLost(reason))
        }
        served => served,
    };
    unless_it_hangs(served, left)
}

/// How a node ends that has `left` the others.
fn unless_it_hangs(served: Result<(), Error>, left: Result<(), Hangs>) -> Result<(), Error> {
    let Err(hangs) = left else { return served };
    match served {
        // It would go on in this process, or may, and open what is still open. Why it stopped was said.
        Err(Error::LogLost(_) | Error::Stopped(_)) => Err(hangs.into()),
        served => {
            tracing::warn!(%hangs, "the node ends all the same");
            served
        }
    }
}

/// What may be mended by beginning again, as that.
fn overtaken(error: Error) -> Error {
    match error {
        Error::Start(service::StartError::Log(ieum_log::Error::Trimmed { .. })) => Error::Overtaken,
        error => error,
    }
}

/// Where clients come in, and who asks for figures.
struct Door {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    apart: Option<TcpListener>,
}

/// A node that runs.
struct Running<L> {
    node: Node<L, Fjall, Ticket>,
    hub: Arc<Hub>,
    keys: SigningKeys,
}

/// Starts the node and waits until its first commands were applied.
async fn run_node<L: Kept>(
    config: &Config,
    start: Start,
    folder: &Folder,
    opened: &Opened<L>,
    (leases, founds, skips): (Arc<Leases>, bool, Option<Skips>),
) -> Result<Running<L>, Error> {
    if let Some(reason) = &opened.rebuilt {
        tracing::warn!(%reason, "the view was rebuilt");
    }
    let keys = keys::signing_keys(&config.node.data)?;
    let hub = Hub::new();
    let identity = Identity {
        node: config.node.number,
        dc: config.node.dc.clone(),
        cell: config.node.cell,
        key_id: keys.id(),
        public_key: keys.public_key(),
    };
    let options = service::Options {
        founds,
        known: start.known,
        leases,
        snapshots: policy(&config.snapshots),
        reserve: Arc::new(Reserve::new(folder.root(), config.node.reserve_mib << 20)),
        skips,
        ..service::Options::new(identity, folder)
    };
    // Both times the same marks: by what its journal has not, the next start finds what this one did not skip.
    let skips = options.skips.as_ref();
    service::catch_up(opened.log.as_ref(), Arc::clone(&opened.view), start.known, skips).await?;
    if let Some(ahead) = clock::ahead(&opened.view.snapshot(), clock::wall()).map_err(service::StartError::from)? {
        ask_about_clock(ahead / 3_600_000, start.clock_is_right)?;
    }
    let deliver = deliver(Arc::clone(&hub), Arc::clone(&opened.view));
    let node = Node::start(Arc::clone(&opened.log), Arc::clone(&opened.view), options, deliver).await?;
    // Else the first clients get tokens that nobody accepts yet. A log that takes nothing (a full disk) is no reason not to serve reads.
    let _ = tokio::time::timeout(BEGIN_PATIENCE, node.handle().begun()).await;
    if let Some(reason) = node.handle().failure() {
        return Err(Error::Stopped(reason));
    }
    Ok(Running { node, hub, keys })
}

/// Serves clients and operators until told to stop, or until the node fails or its log is lost.
async fn serve_clients<L: Kept>(
    config: &Config,
    folder: &Folder,
    log: Arc<L>,
    running: Running<L>,
    door: Door,
    part: Option<&Part>,
    until: Until<'_, impl Future<Output = String>>,
) -> Result<(), Error> {
    let circle = part.map(|part| Arc::clone(&part.circle));
    let (Running { node, hub, keys }, Door { listener, tls, apart }) = (running, door);
    let (handle, address) = (node.handle(), listener.local_addr()?);
    let gateway = Gateway::new(NodeCell::new(handle.clone(), part, config), hub, config.gateway(), keys);
    let apart = apart.map(|listener| tokio::spawn(ieum_gateway::apart::serve(Arc::clone(&gateway), listener)));
    let drain = Duration::from_secs(config.node.drain_seconds);
    let context = admin::Context {
        folder: folder.clone(),
        log,
        node: handle.clone(),
        circle: circle.as_ref().map(Arc::clone),
        gateway: Arc::clone(&gateway),
        drain,
    };
    let admin = admin::listen(context)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    greet(scheme, address);
    let server = tokio::spawn(ieum_gateway::server::serve(Arc::clone(&gateway), listener, tls));
    let telling = circle.as_ref().map(|circle| tokio::spawn(tell_elsewhere(Arc::clone(circle), Arc::clone(&gateway))));
    let sharing = circle.as_ref().map(|circle| tokio::spawn(signals::share(Arc::clone(circle), Arc::clone(&gateway))));
    let (mut ended, signals) = until.ended(&handle).await;
    if let Some(part) = part {
        part.lend_no_more();
    }
    let among_others = circle.is_some();
    if let Some(circle) = circle {
        circle.set_phase(Phase::Draining);
        if ended.is_ok() && !circle.endpoints().is_empty() {
            tracing::info!(
                sessions = gateway.sessions(),
                "sending clients to the other nodes; told to stop again, it stops at once"
            );
            tokio::select! {
                () = gateway.drain(drain, |_, _| ()) => {}
                () = signals.told() => {}
                reason = handle.failed() => ended = Err(Error::Stopped(reason)),
            }
        }
    }
    [telling, sharing, apart].into_iter().flatten().for_each(|task| task.abort());
    gateway.stop();
    let _ = server.await;
    let closed = admin.close().await;
    drop(gateway);
    // Without a log nothing comes of what was submitted.
    let patience = if matches!(ended, Err(Error::LogLost(_))) { Duration::ZERO } else { STOP_PATIENCE };
    // The log closes when its last user is gone.
    drop(node.stop(patience).await);
    match ended {
        // Only a log that others write to may be trimmed by others.
        Err(Error::Stopped(_)) if handle.is_overtaken() && among_others => Err(Error::Overtaken),
        ended => unless_it_hangs(ended, closed),
    }
}

/// Keeps clients told where else they may go.
async fn tell_elsewhere(circle: Arc<Circle>, gateway: Arc<Gateway<NodeCell>>) {
    let mut look = tokio::time::interval(LOOK_ELSEWHERE);
    loop {
        look.tick().await;
        let endpoints = circle.endpoints();
        // A node that hears of no other is more likely cut off than alone: where its clients could go before is the best that it knows.
        if !endpoints.is_empty() || circle.hears_others() {
            gateway.set_elsewhere(endpoints);
        }
    }
}

/// How often it is looked where clients may go: a node that is gone is not named for long.
const LOOK_ELSEWHERE: Duration = Duration::from_millis(500);

/// The operator must say that the clock is right: cell time would follow it, and never goes back.
fn ask_about_clock(hours: u64, clock_is_right: bool) -> Result<(), Error> {
    if clock_is_right {
        return Ok(());
    }
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        eprint!("The clock stands {hours} hours past the last time that this cell knows. Is it right? [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
    }
    Err(Error::Clock { hours })
}

fn greet(scheme: &str, address: SocketAddr) {
    use std::io::Write as _;
    let ieum = std::env::args().next().unwrap_or_else(|| "ieum".to_owned());
    let words = format!(
        "Ieum is running at {scheme}://{address}/\n\n  Register, then talk; a second person in another terminal with --profile NAME:\n    \
         {ieum} account register --handle minji --name 민지 --server {scheme}://{address}\n    \
         {ieum} chat --server {scheme}://{address}\n  \
         Stop with Ctrl-C. / 이음이 실행 중입니다. 종료하려면 Ctrl-C를 누르세요.\n"
    );
    // Nobody need be there to read it.
    let _ = io::stdout().write_all(words.as_bytes()).and_then(|()| io::stdout().flush());
}

/// What the node delivers goes to the hub.
fn deliver(hub: Arc<Hub>, view: Arc<Fjall>) -> impl FnMut(Delivery<Ticket>) + Send + 'static {
    move |Delivery { position, replies, unanswered, events, .. }| {
        hub.give_up(unanswered);
        let view = Arc::clone(&view);
        hub.deliver(position, replies, events, move || Box::new(view.snapshot()) as Box<dyn Read>);
    }
}

fn policy(snapshots: &config::Snapshots) -> Policy {
    Policy {
        log_bytes: snapshots.log_mib << 20,
        commands: snapshots.commands,
        every: Duration::from_secs(snapshots.hours.saturating_mul(3600)),
    }
}
