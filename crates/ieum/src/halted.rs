//! A node before its log: whether it may go on with what etcd holds. If it may not it halts: its doors are shut, it answers the other nodes,
//! and it looks again until there is a log for it (docs/decisions/reseed.md).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use ieum_core::ids::Position;
use ieum_gateway::Ticket;
use ieum_log_etcd::record::{self, Found};
use ieum_log_etcd::{Etcd, Options};
use ieum_node::folder::{self, Folder};
use ieum_node::halt::{self, Halted, Shared, Stand, Verdict, judge};
use ieum_node::peers::{Phase, Report};
use ieum_node::service::Handle;
use ieum_node::{chain, core_position};
use ieum_peer::Stood;
use ieum_peer::circle::Circle;
use ieum_peer::client::{Caller, Peer};
use ieum_peer::resync;
use ieum_peer::server::{self, Offer};
use ieum_peer::shelf::Shelf;
use ieum_store::fjall::{self, Fjall};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::serve::{Error, Signals};
use crate::shared;

/// How often a halted node looks at etcd and at the other nodes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a running node asks whether its log refuses it.
const NOTICE_EVERY: Duration = Duration::from_millis(250);
/// How long another node may take to say where it stands.
const ANSWER: Duration = Duration::from_secs(1);

/// More addresses than this are not learned from others.
const MOST_ADDRESSES: usize = 64;

/// How a node goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Passage {
    /// With which generation of the log, if one was seen.
    pub(crate) generation: Option<u32>,
    /// Whether it may make the log.
    pub(crate) founds: bool,
    /// Whether it was halted first.
    pub(crate) waited: bool,
}

impl Passage {
    fn with(found: &Found) -> Self {
        Self { generation: found.log.map(|held| held.last.generation), ..Self::default() }
    }
}

/// Waits until the node may go on; none when it was told to stop. `suspect`: something was found to be wrong with the log.
pub(crate) async fn gate(config: &Config, founds: bool, suspect: bool) -> Result<Option<Passage>, Error> {
    let etcd = shared::etcd(config)?;
    let folder = Folder::new(&config.node.data);
    let others = others(config)?;
    let own_address = config.peers.own_address();
    let looking = async {
        // Who has halted is asked by others, and looks again soon.
        if suspect { record::look(&etcd).await } else { record::look_patiently(&etcd).await }
    };
    let (found, heard) = tokio::join!(looking, hear(&others, own_address.as_deref()));
    let Some(own) = halt::generation(&folder)? else { return newcomer(&found?, &heard, founds).map(Some) };
    match &found {
        // It is refused when it is opened.
        Ok(Found { log: Some(held), .. }) if held.cell != u32::from(config.node.cell) => {
            return Ok(Some(Passage::default()));
        }
        Ok(found @ Found { log: Some(held), .. })
            if !suspect
                && held.last.generation == own
                && others_verdict(&shared_log(found), &heard) == Verdict::GoesOn =>
        {
            return Ok(Some(Passage::with(found)));
        }
        Ok(Found { log: None, .. }) if founds => {
            return Err(Error::FoundedBefore { who: "this node".to_owned(), at: Position::new(own, 0) });
        }
        // One that has halted goes on waiting.
        Err(_) if !suspect => return found.map(|_| None).map_err(Error::from),
        _ => {}
    }
    // Where a view stands that differs from the others' counts for nothing.
    folder.refuse_differing()?;
    let mut signals = Signals::new()?;
    let halt = Halt { config, etcd, others, folder, own, own_address, met: Arc::default() };
    tokio::select! {
        passage = halt.wait(found.ok()) => passage.map(Some),
        () = signals.told() => Ok(None),
    }
}

/// A node without data takes whatever log there is, and makes one only where no other node knows of one.
fn newcomer(found: &Found, heard: &[Report], founds: bool) -> Result<Passage, Error> {
    let knows = heard.iter().find(|report| report.applied.ordinal > 0);
    if let Some(report) = knows.filter(|_| founds && found.log.is_none()) {
        return Err(Error::FoundedBefore { who: format!("node {}", report.node), at: report.applied });
    }
    Ok(Passage { founds: founds && found.log.is_none(), ..Passage::with(found) })
}

/// The other nodes that are set.
pub(crate) fn others(config: &Config) -> Result<Vec<Peer>, Error> {
    config.peers.addresses.iter().map(|address| peer(config, address)).collect()
}

/// The node at `address`.
pub(crate) fn peer(config: &Config, address: &str) -> Result<Peer, Error> {
    let caller = Caller { cell: config.node.cell, node: config.node.number, life: shared::life()? };
    Ok(Peer::new(address, caller, shared::certificates(config)?)?)
}

/// What those of the others say who answer, each of whom hears where this node is.
pub(crate) async fn hear(others: &[Peer], own_address: Option<&str>) -> Vec<Report> {
    let first = |peer: &Peer| {
        let (peer, own_address) = (peer.clone(), own_address.map(str::to_owned));
        async move {
            let mut reports = Box::pin(peer.watch(own_address).await.ok()?);
            reports.next().await?.ok()
        }
    };
    let asking = others.iter().map(|peer| timeout(ANSWER, first(peer)));
    futures_util::future::join_all(asking).await.into_iter().filter_map(|heard| heard.ok().flatten()).collect()
}

pub(crate) fn shared_log(found: &Found) -> Option<Shared> {
    found.log.map(|held| Shared { predecessor: held.predecessor, last: core_position(held.last) })
}

/// Whether the log is one that the others can go on with: what any of them has applied was in it.
fn others_verdict(log: &Option<Shared>, heard: &[Report]) -> Verdict {
    let furthest = heard.iter().map(|report| report.applied).max().unwrap_or_default();
    match judge(log.as_ref(), furthest, &[0; 32]) {
        verdict @ (Verdict::Gone | Verdict::CutOff | Verdict::GivenUp) => verdict,
        Verdict::GoesOn | Verdict::Crosses | Verdict::Elsewhere => Verdict::GoesOn,
    }
}

/// A node that waits for a log.
struct Halt<'a> {
    config: &'a Config,
    etcd: Options,
    others: Vec<Peer>,
    folder: Folder,
    /// The generation of its data.
    own: u32,
    own_address: Option<String>,
    /// Where nodes are that have asked.
    met: Arc<Mutex<BTreeSet<String>>>,
}

impl Halt<'_> {
    async fn wait(self, mut found: Option<Found>) -> Result<Passage, Error> {
        let view = fjall::Options { cache_bytes: self.config.view.cache_mib << 20, ..fjall::Options::default() };
        let end = found.as_ref().and_then(shared_log).and_then(|log| log.predecessor);
        let end = end.map(|before| core_position(before.end)).filter(|end| end.generation == self.own);
        let halted = Halted::open(&self.folder, self.config.node.cell, self.own, &view, end).await?.map(Arc::new);
        let (mut said, mut waited) = (None, None);
        loop {
            let stand = match &halted {
                Some(halted) => Some(halted.stand().await?),
                None => None,
            };
            let heard = hear(&self.others, self.own_address.as_deref()).await;
            let verdict = found.as_ref().map(|found| self.verdict(found, stand.as_ref(), &heard));
            match (&found, verdict) {
                (Some(found), Some(Verdict::GoesOn | Verdict::Crosses)) => {
                    return Ok(Passage { waited: waited.is_some(), ..Passage::with(found) });
                }
                // Its view will be found not to fit.
                (Some(found), Some(Verdict::Elsewhere)) if runs_in(found, &heard) => {
                    return Ok(Passage { waited: waited.is_some(), ..Passage::with(found) });
                }
                _ => {}
            }
            if let Some(halted) = halted.as_ref().filter(|_| waited.is_none()) {
                waited = Some(self.answer(halted).await?);
            }
            // Not before it can be asked.
            if let Some(verdict) = verdict.filter(|verdict| said != Some(*verdict)) {
                tell(verdict, stand.as_ref(), found.as_ref());
                said = Some(verdict);
            }
            if let (Some(halted), Some(report)) = (&halted, &waited) {
                self.level(halted).await;
                let (applied, addresses) = (halted.stand().await?.applied, self.addresses());
                report.send_modify(|report| {
                    (report.applied, report.synced, report.addresses) = (applied, applied, addresses);
                });
            }
            sleep(LOOK_EVERY).await;
            // What does not answer just now has told nothing new.
            found = record::look(&self.etcd).await.ok().or(found);
        }
    }

    fn verdict(&self, found: &Found, stand: Option<&Stand>, heard: &[Report]) -> Verdict {
        let log = shared_log(found);
        // Without a view it stands before everything.
        let (applied, digest) =
            stand.map_or((Position::new(self.own, 0), [0; 32]), |stand| (stand.applied, stand.digest));
        match judge(log.as_ref(), applied, &digest) {
            Verdict::GoesOn => others_verdict(&log, heard),
            verdict => verdict,
        }
    }

    /// Its own address, those that are set, and those of nodes that have asked.
    fn addresses(&self) -> Vec<String> {
        let met = self.met.lock().clone();
        let all: BTreeSet<_> =
            self.own_address.iter().chain(&self.config.peers.addresses).cloned().chain(met).collect();
        all.into_iter().collect()
    }

    /// Answers other nodes from now on; gives what it says of itself.
    async fn answer(&self, halted: &Arc<Halted>) -> Result<watch::Sender<Report>, Error> {
        let (node, dc) = (self.config.node.number, self.config.node.dc.clone());
        let applied = halted.stand().await?.applied;
        let report = watch::Sender::new(Report {
            node,
            dc: dc.clone(),
            phase: Phase::Joining,
            applied,
            synced: applied,
            build: shared::BUILD,
            life: shared::life()?,
            endpoint: None,
            addresses: self.addresses(),
            digests: Vec::new(),
        });
        let Some(address) = self.config.peers.listen else {
            tracing::error!("this node has no [peers] listen: neither `ieum log reseed` nor another node can ask it");
            return Ok(report);
        };
        let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let tls = shared::certificates(self.config)?;
        let (shelf, standing) = (Arc::new(Shelf::default()), Arc::clone(halted));
        shelf.put_journal(Arc::clone(halted.journal())).await;
        shelf.put_stand(Arc::new(move || {
            let (halted, dc) = (Arc::clone(&standing), dc.clone());
            Box::pin(async move {
                let stand = halted.stand().await.map_err(|error| chain(&error))?;
                Ok(Stood { node, dc, stand })
            })
        }));
        let offer = Offer {
            cell: self.config.node.cell,
            report: report.subscribe(),
            shelf,
            met: {
                let met = Arc::clone(&self.met);
                Arc::new(move |address: &str| meet(&met, address))
            },
        };
        // It ends with the runtime, which is this wait's own.
        tokio::spawn(async move {
            if let Err(error) = server::serve(offer, listener, tls).await {
                tracing::error!(error = &error as &dyn std::error::Error, "alarm: other nodes are served no more");
            }
        });
        Ok(report)
    }

    /// Takes from the journals of the others what it lacks. Who does not answer or has it no more is asked again next time.
    async fn level(&self, halted: &Halted) {
        for peer in &self.others {
            let stood = timeout(ANSWER, peer.stand()).await.ok().and_then(Result::ok).flatten();
            let Ok(own) = halted.stand().await else { return };
            if stood.is_none_or(|stood| stood.stand.applied <= own.applied) {
                continue;
            }
            if let Err(error) = copy(halted, peer).await {
                tracing::warn!(
                    error = chain(error.as_ref()),
                    peer = peer.address(),
                    "what another node has is not here yet"
                );
            }
        }
    }
}

fn meet(met: &Mutex<BTreeSet<String>>, address: &str) {
    let mut met = met.lock();
    if met.len() < MOST_ADDRESSES {
        met.insert(address.to_owned());
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn copy(halted: &Halted, peer: &Peer) -> Result<(), Failure> {
    let mut batches = Box::pin(peer.batches(halted.wants().await).await?);
    while let Some(entry) = timeout(ANSWER, batches.next()).await? {
        halted.take(&entry?).await?;
    }
    Ok(())
}

/// Whether another node serves in the generation that was found.
fn runs_in(found: &Found, heard: &[Report]) -> bool {
    let generation = found.log.map(|held| held.last.generation);
    heard.iter().any(|report| report.phase == Phase::Ready && Some(report.applied.generation) == generation)
}

/// What an operator has to know.
fn tell(verdict: Verdict, stand: Option<&Stand>, found: Option<&Found>) {
    let at =
        stand.map_or_else(|| "nowhere, because it has no view".to_owned(), |stand| format!("at {}", stand.applied));
    let log = found.and_then(|found| found.log);
    let (last, begins) = log.map_or_else(Default::default, |held| {
        let end = held.predecessor.map(|before| format!(" behind {}", before.end));
        (held.last.to_string(), end.unwrap_or_default())
    });
    let what = match verdict {
        Verdict::Gone => "etcd holds no log: the log is lost".to_owned(),
        Verdict::CutOff => {
            format!("the log ends at {last}, which is before what nodes have applied: etcd was restored from a backup")
        }
        Verdict::GivenUp => format!(
            "etcd holds the log up to {last}, of a generation that was given up: an etcd that was thought lost has come back. Correct [log] \
             endpoints, and switch the old one off"
        ),
        Verdict::Elsewhere => format!(
            "the log stands at {last} and begins{begins}, where this node does not stand: it resyncs from another one as soon as one runs"
        ),
        Verdict::GoesOn | Verdict::Crosses => return,
    };
    let reseed = match verdict {
        Verdict::Gone | Verdict::CutOff => {
            ". If that is so, run `ieum log reseed` once, when all nodes have halted: docs/operating/log-lost.md"
        }
        _ => "",
    };
    tracing::error!("alarm: this node has halted and stands {at}. {what}{reseed}");
}

/// Whether an error at the start tells that the log is not what it was.
pub(crate) fn or_lost(error: Error) -> Error {
    let lost = matches!(
        &error,
        Error::Folder(folder::Error::LogBehind { .. }) | Error::Resync(resync::Error::LogBehind { .. })
    );
    if lost { Error::LogLost(chain(&error)) } else { error }
}

/// Waits until a running node's log is lost or given up, and says how that shows. That the log refuses it is not enough: it is looked.
pub(crate) async fn noticed(
    config: &Config,
    log: Arc<Etcd>,
    node: Handle<Fjall, Ticket>,
    circle: Arc<Circle>,
) -> String {
    loop {
        sleep(NOTICE_EVERY).await;
        let applied = node.applied();
        let later = circle.heard().into_iter().find(|report| report.applied.generation > applied.generation);
        if let Some(report) = later {
            let (number, at) = (report.node, report.applied);
            return format!(
                "node {number} is at {at}, in a later generation than this node at {applied}: the cell was reseeded"
            );
        }
        let Some(reason) = log.refused() else { continue };
        if is_lost(config, applied).await {
            return reason;
        }
    }
}

/// Whether a node at `applied` cannot go on with what etcd holds.
pub(crate) async fn is_lost(config: &Config, applied: Position) -> bool {
    let Ok(etcd) = shared::etcd(config) else { return false };
    let Ok(found) = record::look(&etcd).await else { return false };
    let ours = found.log.is_none_or(|held| held.cell == u32::from(config.node.cell));
    ours && judge(shared_log(&found).as_ref(), applied, &[0; 32]) != Verdict::GoesOn
}
