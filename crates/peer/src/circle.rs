//! A node among the others of its cell: it says where it stands, hears where they stand, and does what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use ieum_core::ids::{Millis, NodeId, Position};
use ieum_core::kv::{self, Direction, Kv, Read};
use ieum_core::tables::cell::NODES;
use ieum_log::Log;
use ieum_log::journaled::Journaled;
use ieum_log::sqlite::Journal;
use ieum_node::core_position;
use ieum_node::peers::{Agreement, Doubt, Peers, Phase, Report};
use ieum_node::service::Handle;
use ieum_planted::Bug;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::addresses::Addresses;
use crate::client::{Caller, Error as PeerError, Peer};
use crate::connect::CONNECT;
use crate::shelf::{Refusal, Shelf};
use crate::signals::Signals;
use crate::tls::Tls;
use crate::trimmer::State;

/// How often a node looks where it stands.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often it says where it stands although nothing has changed: who is silent for long counts as gone.
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// How often it looks who the members are.
const MEMBERS_EVERY: Duration = Duration::from_secs(1);
/// How long it waits before it asks a node again that does not answer.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(500);
/// A command that has been waiting for its outcome for so long means that the node does not keep up: its own tick is one each second.
const BEHIND_AFTER: Duration = Duration::from_millis(1_500);

/// Who a node is to the others.
#[derive(Clone)]
pub struct Settings {
    /// The cell.
    pub cell: u16,
    /// Its number.
    pub node: NodeId,
    /// Its data center.
    pub dc: String,
    /// Its build; later ones are greater.
    pub build: u64,
    /// Names this life of its process; random.
    pub life: u64,
    /// Where the others reach it, if they do.
    pub address: Option<String>,
    /// Where clients reach it, if they are to be told.
    pub endpoint: Option<String>,
    /// Where some of the others are.
    pub peers: Vec<String>,
    /// Where it stands as far as that is known before its view is open; the generation tells whether it has data at all.
    pub stands: Position,
    /// How it proves who it is; nothing where the network is trusted.
    pub tls: Option<Tls>,
    /// Is told, before the node stops, what is known when its view is found to differ from the others'.
    pub out: Arc<dyn Fn(&str) + Send + Sync>,
    /// Is told when the view, which was copied, is known to be what the others have come to. May block.
    pub vouched: Arc<dyn Fn() + Send + Sync>,
}

/// A node among the others.
pub struct Circle {
    settings: Settings,
    started: Instant,
    pub(crate) peers: Mutex<Peers>,
    own: watch::Sender<Report>,
    /// Counts what was heard.
    hears: watch::Sender<u64>,
    addresses: Mutex<Addresses>,
    pub(crate) trimming: Mutex<State>,
    signals: Arc<Signals>,
}

impl Circle {
    /// A node that is coming up.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        let report = Report {
            node: settings.node,
            dc: settings.dc.clone(),
            phase: Phase::Joining,
            applied: settings.stands,
            synced: Position::default(),
            build: settings.build,
            life: settings.life,
            endpoint: settings.endpoint.clone(),
            addresses: settings.address.iter().cloned().collect(),
            digests: Vec::new(),
            began: None,
            copied: None,
            decided: Vec::new(),
        };
        let (own, hears) = (watch::Sender::new(report), watch::Sender::new(0));
        let addresses = Mutex::new(Addresses::new(settings.address.clone(), &settings.peers));
        Arc::new(Self {
            settings,
            started: Instant::now(),
            peers: Mutex::default(),
            own,
            hears,
            addresses,
            trimming: Mutex::default(),
            signals: Arc::default(),
        })
    }

    pub(crate) fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What the node says of itself.
    #[must_use]
    pub fn report(&self) -> watch::Receiver<Report> {
        self.own.subscribe()
    }

    /// What the node is doing from now on.
    pub fn set_phase(&self, phase: Phase) {
        self.own.send_if_modified(|own| std::mem::replace(&mut own.phase, phase) != phase);
    }

    /// The view began as a copy of another node's, at this position, and nobody has vouched for it yet. Before [`Self::run`].
    pub fn set_copied(&self, copied: Option<Position>) {
        self.own.send_if_modified(|own| std::mem::replace(&mut own.copied, copied) != copied);
    }

    /// Why a newcomer must not have a copy of this node's view, if it must not.
    #[must_use]
    pub fn doubt(&self, newcomer: NodeId) -> Option<Refusal> {
        let doubt = self.peers.lock().doubted_for(newcomer, &self.own.borrow(), self.now())?;
        let why = match doubt {
            Doubt::Differs { at } => format!(
                "at {at} views of the cell differ, this node's is one of them, and it is open which is the wrong one: set that one aside with \
                 `ieum node resync`, or remove its node with `ieum node remove`"
            ),
            Doubt::NotCompared { node } => {
                format!("its view was not compared with that of node {node} yet, since it was started: it will be soon")
            }
            Doubt::ComesUp => "it is coming up itself".to_owned(),
        };
        Some(Refusal { why, passes: !matches!(doubt, Doubt::Differs { .. }) })
    }

    /// What was heard lately of the others.
    #[must_use]
    pub fn heard(&self) -> Vec<Report> {
        self.peers.lock().reports(self.now())
    }

    /// Whether a member must not be taken out yet: what the log has forgotten would not lie on disks of two data centers without it.
    #[must_use]
    pub fn is_needed(&self, member: NodeId) -> bool {
        let own = self.own.borrow().clone();
        // What was not looked at yet may be all that there is.
        let trimmed = self.trimming.lock().trimmed.unwrap_or(own.synced);
        self.peers.lock().is_needed(member, &own, trimmed, self.now())
    }

    /// The cell's members, as this node's view has them; none before it was looked.
    #[must_use]
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.peers.lock().members()
    }

    /// What is said and heard of what is not durable.
    #[must_use]
    pub fn signals(&self) -> &Arc<Signals> {
        &self.signals
    }

    /// Changes whenever another node says something.
    #[must_use]
    pub fn hears(&self) -> watch::Receiver<u64> {
        self.hears.subscribe()
    }

    /// Whether the views agree.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        self.peers.lock().agreement()
    }

    /// Whether any other node was heard of just now.
    #[must_use]
    pub fn hears_others(&self) -> bool {
        self.peers.lock().hears_others(&self.own.borrow(), self.now())
    }

    /// Where this node's clients may go instead.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.peers.lock().endpoints(&self.own.borrow(), self.now())
    }

    /// The others that are set, to ask for help.
    ///
    /// # Errors
    /// [`PeerError::Address`].
    pub fn asked(&self) -> Result<Vec<Peer>, PeerError> {
        let addresses = self.addresses.lock().where_to_ask(self.now());
        addresses.iter().map(|address| self.peer(address)).collect()
    }

    /// Where another process says that it runs as this node's number. All that are known are asked, and those that they know, for as long as a
    /// connection may take.
    pub async fn double(self: Arc<Self>) -> Option<String> {
        let (mut asked, mut asking) = (self.addresses.lock().where_to_ask(self.now()), JoinSet::new());
        for address in asked.clone() {
            asking.spawn(Arc::clone(&self).first(address));
        }
        let finding = async {
            while let Some(said) = asking.join_next().await {
                let Ok(Some((address, report))) = said else { continue };
                if report.node == self.settings.node {
                    return Some(address);
                }
                for address in report.addresses {
                    if Some(&address) != self.settings.address.as_ref() && asked.insert(address.clone()) {
                        asking.spawn(Arc::clone(&self).first(address));
                    }
                }
            }
            None
        };
        tokio::time::timeout(CONNECT, finding).await.ok().flatten()
    }

    /// What the node at `address` says first.
    async fn first(self: Arc<Self>, address: String) -> Option<(String, Report)> {
        let asking = async {
            let mut reports = Box::pin(self.peer(&address)?.watch(None).await?);
            reports.next().await.transpose()
        };
        match asking.await {
            Ok(report) => Some((address, report?)),
            Err(PeerError::Itself { .. }) => None,
            Err(error) => {
                tracing::warn!(%error, "another node does not say whether it runs as this one's number");
                None
            }
        }
    }

    pub(crate) fn peer(&self, address: &str) -> Result<Peer, PeerError> {
        let Settings { cell, node, life, .. } = self.settings;
        Peer::new(address, Caller { cell, node, life }, self.settings.tls.clone())
    }

    /// Takes part while the node comes up, until the future is dropped: it hears the others, and tells them how far the journal on the `shelf`
    /// is, once that is known to be the log's: they count it for its data center, and wait for it before they trim the log, within their bounds.
    pub async fn come_up(self: Arc<Self>, shelf: Arc<Shelf>) {
        self.peers.lock().listen(self.now());
        let mut asking = Asking::default();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut beat = Instant::now();
        loop {
            look.tick().await;
            let beats = beat.elapsed() >= BEAT_EVERY;
            if beats {
                beat = Instant::now();
            }
            let before = self.own.borrow().synced;
            let synced = shelf.synced(before).await;
            self.own.send_if_modified(|own| std::mem::replace(&mut own.synced, synced) != synced || beats);
            let addresses = self.addresses.lock().where_to_ask(self.now());
            asking.only(addresses, |address| Arc::clone(&self).ask(address));
        }
    }

    /// Takes part, until the future is dropped.
    pub async fn run<L: Log, K: Kv, T: Send + 'static>(self: Arc<Self>, node: Handle<K, T>, log: Arc<Journaled<L>>) {
        // What may take long has a task of its own: a node that says nothing counts as gone.
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self).know_members(node.clone()));
        if !Bug::TrimsInTheLoop.planted() {
            tasks.spawn(Arc::clone(&self).trim_on(node.clone(), Arc::clone(&log)));
        }
        self.peers.lock().listen(self.now());
        let mut asking = Asking::default();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let (mut beat, mut told) = (Instant::now(), Agreement::Same);
        loop {
            look.tick().await;
            let beats = beat.elapsed() >= BEAT_EVERY;
            if beats {
                beat = Instant::now();
            }
            self.look(&node, log.journal(), beats);
            let addresses = self.addresses.lock().where_to_ask(self.now());
            asking.only(addresses, |address| Arc::clone(&self).attend(address));
            self.judge(&node, &mut told);
            if Bug::TrimsInTheLoop.planted() {
                self.trim_what_there_is(node.applied(), &log).await;
            }
        }
    }

    /// Reads again and again from the view who the members are.
    async fn know_members<K: Kv, T: Send + 'static>(self: Arc<Self>, node: Handle<K, T>) {
        let mut look = tokio::time::interval(MEMBERS_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            look.tick().await;
            let view = node.clone();
            // It may wait for the disk. A view that cannot be read stops the node elsewhere.
            if let Ok(Ok(members)) = tokio::task::spawn_blocking(move || members(&view.view())).await {
                self.signals.set_members(members.keys().copied().collect());
                self.peers.lock().set_members(members);
            }
        }
    }

    /// Looks where this node stands, and says so if it has moved, or if it `beats`.
    fn look<K: Kv, T: Send + 'static>(&self, node: &Handle<K, T>, journal: &Journal, beats: bool) {
        let (applied, synced) = (node.applied(), core_position(journal.synced()));
        let (digests, began) = node.checkpoints();
        let addresses = self.addresses.lock().to_tell();
        let behind = node.waiting() > BEHIND_AFTER;
        self.own.send_if_modified(|own| {
            let phase = match own.phase {
                Phase::Ready if behind => Phase::Behind,
                Phase::Behind if !behind => Phase::Ready,
                phase => phase,
            };
            let next = Report { phase, applied, synced, digests, began, addresses, ..own.clone() };
            let moved = next != *own;
            *own = next;
            moved || beats
        });
    }

    /// A node that has asked this one is at `address`.
    pub fn meet(&self, address: &str) {
        self.addresses.lock().heard(address, self.now());
    }

    /// Listens to the node at `address` for as long as there may be one.
    pub(crate) async fn ask(self: Arc<Self>, address: String) {
        let peer = match self.peer(&address) {
            Ok(peer) => peer,
            Err(error) => return tracing::warn!(%error, "a node's address is passed over"),
        };
        let mut silent = false;
        loop {
            let listened = self.listen(&peer, &mut silent).await;
            self.addresses.lock().is_silent(&address);
            match listened {
                Ok(()) => {}
                Err(PeerError::Itself { .. }) => return self.addresses.lock().is_itself(&address),
                Err(error) if silent => tracing::debug!(%error, "another node does not answer"),
                Err(error) => tracing::warn!(%error, "another node does not answer"),
            }
            silent = true;
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn listen(&self, peer: &Peer, silent: &mut bool) -> Result<(), PeerError> {
        let mut reports = Box::pin(peer.watch(self.settings.address.clone()).await?);
        while let Some(report) = reports.next().await {
            let report = report?;
            let (own, now) = (self.own.borrow().clone(), self.now());
            if std::mem::take(silent) {
                tracing::info!(node = report.node, address = peer.address(), "another node answers again");
            }
            if report.node == own.node {
                tracing::error!(
                    node = own.node,
                    address = peer.address(),
                    "alarm: another process runs as this node's number; the log takes batches of the one that started last"
                );
                continue;
            }
            {
                let mut addresses = self.addresses.lock();
                addresses.answers(peer.address(), now);
                report.addresses.iter().for_each(|address| addresses.heard(address, now));
            }
            self.peers.lock().heard(report, &own, now);
            self.hears.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// A node whose view differs from the others' must not serve; a difference that was not `told` yet is.
    fn judge<K: Kv, T: Send + 'static>(&self, node: &Handle<K, T>, told: &mut Agreement) {
        let own = self.own.borrow().clone();
        let (agreement, evidence, vouched, decided) = {
            let mut peers = self.peers.lock();
            peers.judge(&own, self.now());
            (peers.agreement(), peers.evidence(), peers.vouch_for(&own), peers.decided())
        };
        self.own.send_if_modified(|own| {
            let is_new = own.decided != decided;
            own.decided = decided;
            is_new
        });
        if vouched {
            tracing::info!("the others have come to the view that this node has copied: from now on it counts");
            self.set_copied(None);
            let told = Arc::clone(&self.settings.vouched);
            // It writes to the disk, for which nobody waits: what is not forgotten is vouched for once more.
            tokio::task::spawn_blocking(move || told());
        }
        if let Agreement::OwnDiffers { at } = agreement {
            if own.phase != Phase::Out {
                self.set_phase(Phase::Out);
                (self.settings.out)(&evidence);
                node.fail(format!(
                    "alarm: at {at} this node's view differs from the others' of the cell. It serves no more and keeps its view as evidence: {evidence}"
                ));
            }
            return;
        }
        if std::mem::replace(told, agreement) == agreement {
            return;
        }
        match agreement {
            Agreement::Undecided { at } => tracing::error!(
                %at, evidence,
                "alarm: views of the cell differ, and it is open which is the wrong one. The shared log is not trimmed meanwhile"
            ),
            Agreement::OtherDiffers { at, node } => {
                tracing::error!(%at, node, evidence, "alarm: another node's view differs from the others' of the cell");
            }
            Agreement::Same => tracing::info!("the views of the cell agree again"),
            Agreement::OwnDiffers { .. } => {}
        }
    }
}

/// The tasks that listen to others, by address.
#[derive(Default)]
struct Asking {
    tasks: JoinSet<()>,
    running: BTreeMap<String, AbortHandle>,
}

impl Asking {
    /// Those at `addresses` are listened to from now on, and no others.
    fn only<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        addresses: BTreeSet<String>,
        ask: impl Fn(String) -> F,
    ) {
        self.running.retain(|address, task| {
            let wanted = addresses.contains(address);
            if !wanted {
                task.abort();
            }
            wanted
        });
        while self.tasks.try_join_next().is_some() {}
        for address in addresses {
            if !self.running.contains_key(&address) {
                let task = self.tasks.spawn(ask(address.clone()));
                self.running.insert(address, task);
            }
        }
    }
}

/// The cell's members and their data centers.
fn members(view: &impl Read) -> kv::Result<BTreeMap<NodeId, String>> {
    let mut members = BTreeMap::new();
    NODES.range(view, &NodeId::MIN, &NodeId::MAX, Direction::Forward, |number, node| {
        members.insert(number, node.dc);
        ControlFlow::Continue(())
    })?;
    Ok(members)
}
