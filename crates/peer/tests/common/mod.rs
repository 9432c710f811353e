//! Nodes that run, for tests.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a fixture that fails fails its test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::Command;
use ieum_core::commands::account::Register;
use ieum_core::commands::operate::AddNode;
use ieum_core::ids::Position;
use ieum_core::outcome::Outcome;
use ieum_log::Log;
use ieum_log::journaled::Journaled;
use ieum_log::memory::Memory as Shared;
use ieum_log::sqlite::{Journal, Meta};
use ieum_node::core_position;
use ieum_node::folder::{Folder, Opened};
use ieum_node::leases::{Leases, Lent, Newcomer};
use ieum_node::machine::Delivery;
use ieum_node::peers::{Phase, Report};
use ieum_node::service::{Identity, Node, Options};
use ieum_peer::circle::{Circle, Settings};
use ieum_peer::client::{Caller, Peer};
use ieum_peer::server::{self, Offer};
use ieum_peer::shelf::Shelf;
use ieum_store::fjall::Fjall;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) const CELL: u16 = 3;
pub(crate) const ABOUT: Meta = Meta { cell: CELL as u32, generation: 1, predecessor: None };

/// A node that runs over a shared log.
pub(crate) struct Member<L: Log = Shared> {
    pub(crate) folder: Folder,
    pub(crate) node: Node<Journaled<L>, Fjall, ()>,
    pub(crate) log: Arc<Journaled<L>>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) view: Arc<Fjall>,
    outcomes: UnboundedReceiver<Outcome>,
    pub(crate) report: watch::Sender<Report>,
}

pub(crate) async fn start<L: Log>(log: &Arc<L>, data: &Path, number: u32) -> Member<L> {
    let folder = Folder::new(data);
    let opened = folder.open_shared(&ABOUT, Arc::clone(log), &Default::default()).await.unwrap();
    let Opened { log, view, .. } = opened;
    let journal = Arc::clone(log.journal());
    let identity =
        Identity { node: number, dc: number.to_string(), cell: CELL, key_id: number.into(), public_key: [1; 32] };
    let (answers, outcomes) = mpsc::unbounded_channel();
    let deliver = move |delivery: Delivery<()>| {
        // Who asked may have ended.
        delivery.replies.into_iter().for_each(|(_, outcome)| drop(answers.send(outcome)));
    };
    let options = Options::new(identity, &folder);
    let node = Node::start(Arc::clone(&log), Arc::clone(&view), options, deliver).await.unwrap();
    Member { folder, node, log, journal, view, outcomes, report: watch::Sender::new(report(number)) }
}

pub(crate) fn report(node: u32) -> Report {
    Report {
        node,
        dc: node.to_string(),
        phase: Phase::Joining,
        applied: Position::new(1, 7),
        synced: Position::new(1, 5),
        build: 9,
        life: u64::MAX,
        endpoint: Some("https://a.example".to_owned()),
        addresses: vec!["http://10.0.0.7:7400".to_owned()],
        digests: vec![(Position::new(1, 32), [7; 32])],
        began: Some(Position::new(1, 32)),
        copied: None,
        decided: Vec::new(),
    }
}

impl<L: Log> Member<L> {
    pub(crate) async fn ask(&mut self, command: impl Into<Command>) {
        self.node.handle().submit(&Envelope { origin: Origin::Node, command: command.into() }, ()).unwrap();
        assert!(matches!(self.outcomes.recv().await.expect("the node runs"), Outcome::Accepted(_)));
    }

    pub(crate) async fn register(&mut self, handles: std::ops::Range<u32>) {
        for handle in handles {
            let handle = format!("person{handle}");
            self.ask(Register {
                name: handle.clone(),
                handle,
                password: String::new(),
                secret_hash: [1; 32],
                device_name: "phone".into(),
                invitation: None,
            })
            .await;
        }
    }

    /// Serves other nodes; gives where.
    pub(crate) async fn offer(&self) -> String {
        let leases = Leases::new(self.folder.snapshots());
        let (view, journal) = (Arc::clone(&self.view), Arc::clone(&self.journal));
        self.offer_snapshot(move |asked| {
            let log = || (core_position(journal.trimmed()), core_position(journal.last()));
            leases.lend(view.as_ref(), asked, log, Newcomer::patient()).map_err(|error| error.to_string())
        })
        .await
    }

    pub(crate) async fn offer_snapshot(
        &self,
        snapshot: impl Fn(Option<Position>) -> Result<Lent, String> + Send + Sync + 'static,
    ) -> String {
        give(&self.journal, self.report.subscribe(), snapshot).await
    }

    pub(crate) async fn stop(self) {
        drop(self.node.stop(Duration::from_secs(60)).await);
    }
}

/// Serves other nodes what a node has that says `report` of itself; gives where.
async fn give(
    journal: &Arc<Journal>,
    report: watch::Receiver<Report>,
    snapshot: impl Fn(Option<Position>) -> Result<Lent, String> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let shelf = shelf(journal, snapshot).await;
    let offer = Offer { cell: CELL, report, shelf, met: Arc::new(|_| ()) };
    tokio::spawn(server::serve(offer, listener, None));
    address
}

/// The same of a node that does nothing else.
pub(crate) async fn serve(
    journal: &Arc<Journal>,
    snapshot: impl Fn(Option<Position>) -> Result<Lent, String> + Send + Sync + 'static,
) -> String {
    give(journal, watch::channel(report(1)).1, snapshot).await
}

/// A node with all to give.
pub(crate) async fn shelf(
    journal: &Arc<Journal>,
    snapshot: impl Fn(Option<Position>) -> Result<Lent, String> + Send + Sync + 'static,
) -> Arc<Shelf> {
    let shelf = Shelf::default();
    shelf.put_journal(Arc::clone(journal)).await;
    shelf.put_snapshots(Arc::new(move |asked, _| snapshot(asked)));
    Arc::new(shelf)
}

pub(crate) const CALLER: Caller = Caller { cell: CELL, node: 2, life: 2 };

pub(crate) fn peer(address: &str) -> Peer {
    Peer::new(address, CALLER, None).unwrap()
}

/// A node that takes part.
pub(crate) struct Present<L: Log = Shared> {
    pub(crate) member: Member<L>,
    pub(crate) circle: Arc<Circle>,
    pub(crate) address: String,
    running: JoinHandle<()>,
    /// What it said when it went out.
    pub(crate) out: Receiver<String>,
}

/// Makes a node a member in a data center of its own.
pub(crate) fn add(node: u32) -> AddNode {
    AddNode { node, dc: node.to_string(), level: ieum_core::commands::LEVEL, cell: CELL }
}

pub(crate) async fn join<L: Log>(log: &Arc<L>, data: &Path, number: u32, peers: &[String]) -> Present<L> {
    let member = start(log, data, number).await;
    let (out, said) = std::sync::mpsc::channel();
    let out = move |evidence: &str| drop(out.send(evidence.to_owned()));
    let (circle, _, address) = node(number, peers, &member.journal, out).await;
    let running = tokio::spawn(Arc::clone(&circle).run(member.node.handle(), Arc::clone(&member.log)));
    Present { member, circle, address, running, out: said }
}

/// A node that others reach; what it has to give, and where it is.
pub(crate) async fn node(
    number: u32,
    peers: &[String],
    journal: &Arc<Journal>,
    out: impl Fn(&str) + Send + Sync + 'static,
) -> (Arc<Circle>, Arc<Shelf>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let circle = Circle::new(Settings {
        cell: CELL,
        node: number,
        dc: number.to_string(),
        build: 1,
        life: number.into(),
        address: Some(address.clone()),
        endpoint: Some(format!("https://{number}.example")),
        peers: peers.to_vec(),
        stands: Position::default(),
        tls: None,
        out: Arc::new(out),
        vouched: Arc::new(|| ()),
    });
    let shelf = shelf(journal, |_| Err("not here".to_owned())).await;
    shelf.put_signals(Arc::clone(circle.signals()));
    let doubting = Arc::clone(&circle);
    shelf.put_doubt(Arc::new(move |newcomer| doubting.doubt(newcomer)));
    let offer = Offer {
        cell: CELL,
        report: circle.report(),
        shelf: Arc::clone(&shelf),
        met: {
            let circle = Arc::clone(&circle);
            Arc::new(move |address: &str| circle.meet(address))
        },
    };
    tokio::spawn(server::serve(offer, listener, None));
    (circle, shelf, address)
}

impl<L: Log> Present<L> {
    /// Waits until what it has heard is so.
    pub(crate) async fn until(&self, so: impl Fn(&Circle) -> bool) {
        let mut hears = self.circle.hears();
        while !so(&self.circle) {
            hears.changed().await.unwrap();
        }
    }

    pub(crate) async fn leave(self) {
        self.running.abort();
        // It was aborted.
        let _ = self.running.await;
        self.member.stop().await;
    }
}
