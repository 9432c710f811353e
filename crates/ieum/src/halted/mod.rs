//! A node before its log: whether it may go on with what etcd holds. If it may not it halts: its doors are shut, it answers the other nodes,
//! and it looks again until there is a log for it (docs/decisions/reseed.md).

mod look;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use ieum_core::ids::{NodeId, Position};
use ieum_gateway::Ticket;
use ieum_log_etcd::record::{self, Found};
use ieum_log_etcd::{Etcd, Options};
use ieum_node::folder::{self, Folder};
use ieum_node::halt::decide::{
    Later, Start, at_start, later, others_verdict, says, shows, takes_more, verdict, waits_no_more,
};
use ieum_node::halt::{self, Halted, Shared, Stand, Stood, Verdict};
use ieum_node::peers::Report;
use ieum_node::service::Handle;
use ieum_node::{chain, core_position};
use ieum_peer::circle::Circle;
use ieum_peer::client::{Caller, Peer};
use ieum_peer::resync;
use ieum_peer::server::{self, Offer};
use ieum_peer::shelf::Shelf;
use ieum_store::fjall::{self, Fjall};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::look::{Told, look_and_hear};
pub(crate) use self::waiting::or_silent;
use crate::config::Config;
use crate::serve::Error;
use crate::shared;
use crate::stopping::Signals;
pub(crate) use ieum_node::halt::decide::Shows;

/// How often a halted node looks at etcd and at the other nodes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a running node asks whether its log refuses it.
const NOTICE_EVERY: Duration = Duration::from_millis(250);
/// How often a running node asks its etcd about a later generation of which only some speak.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often what lasts and needs a person is said again.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// How long a halted node stands still when a generation is about to begin there, counted from when it was asked to; no longer than the next
/// `ieum log reseed` waits for nodes to become level.
const STILL: Duration = Duration::from_secs(12);
/// How long after it asked the first node to stand still the command may send what begins a generation. The rest of the time is for what is
/// under way then.
pub(crate) const BEGIN_WITHIN: Duration = Duration::from_secs(8);
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
pub(crate) async fn gate(
    config: &Config,
    founds: bool,
    suspect: bool,
    signals: &mut Signals,
) -> Result<Option<Passage>, Error> {
    tokio::select! {
        passage = passage(config, founds, suspect) => passage.map(Some),
        () = signals.told() => Ok(None),
    }
}

async fn passage(config: &Config, founds: bool, suspect: bool) -> Result<Passage, Error> {
    let etcd = shared::etcd(config)?;
    let folder = Folder::new(&config.node.data);
    folder.refuse_unfinished()?;
    let others = others(config)?;
    let own_address = config.peers.own_address();
    let generation = halt::generation(&folder)?;
    // Who has halted is asked by others, and looks again soon.
    let may_halt = generation.filter(|_| suspect);
    let (own, found) = loop {
        if may_halt.is_none() {
            waiting::for_etcd(&etcd).await?;
        }
        // Others may have come while it waited.
        let hearing = hear(&others, own_address.as_deref());
        let (found, heard) = look_and_hear(record::look(&etcd), hearing, fits, record::look(&etcd)).await;
        let found = match (found, may_halt) {
            (Ok(found), _) => found,
            // One that has halted goes on waiting.
            (Err(_), Some(own)) => break (own, None),
            (Err(error), None) if waiting::is_silence(&error) => continue,
            (Err(error), None) => return Err(error.into()),
        };
        let foreign = found.log.is_some_and(|held| held.cell != u32::from(config.node.cell));
        match at_start(generation, (shared_log(&found).as_ref(), foreign), &heard, (suspect, founds)) {
            Start::GoesOn => return Ok(Passage::with(&found)),
            Start::Founds => return Ok(Passage { founds, ..Passage::with(&found) }),
            Start::FoundedBefore { node, at } => {
                let who = node.map_or_else(|| "this node".to_owned(), |node| format!("node {node}"));
                return Err(Error::FoundedBefore { who, at });
            }
            Start::FallsShort { node, at, given_up: false } => return Err(Error::FallsShort { node, at }),
            Start::FallsShort { node, at, given_up: true } => return Err(Error::OldLog { node, at }),
            Start::Halts { own } => break (own, Some(found)),
        }
    };
    // Where a view stands that differs from the others' counts for nothing.
    folder.refuse_differing()?;
    Halt { config, etcd, others, folder, own, own_address, met: Arc::default() }.wait(found).await
}

type Looked = Result<Found, ieum_log::Error>;

/// Whether what was heard of others was in the log that was seen, if one was.
fn fits(looked: &Looked, heard: &[Report]) -> bool {
    let log = looked.as_ref().ok().and_then(shared_log);
    log.is_none_or(|log| others_verdict(Some(&log), heard) == Verdict::GoesOn)
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
    /// `found`: what etcd holds, as far as it is known.
    async fn wait(self, found: Option<Found>) -> Result<Passage, Error> {
        let view = fjall::Options { cache_bytes: self.config.view.cache_mib << 20, ..fjall::Options::default() };
        let end = found.as_ref().and_then(shared_log).and_then(|log| log.predecessor);
        let end = end.map(|before| core_position(before.end)).filter(|end| end.generation == self.own);
        let halted = Halted::open(&self.folder, self.config.node.cell, self.own, &view, end).await?;
        let halted = Arc::new(halted);
        let (mut said, mut waited, mut lacking, mut takes) = (None, None, BTreeMap::new(), true);
        loop {
            let stand = halted.stand().await?;
            let hearing = hear(&self.others, self.own_address.as_deref());
            let (looked, heard) =
                look_and_hear(record::look(&self.etcd), hearing, fits, record::look(&self.etcd)).await;
            // What does not answer just now has told nothing new.
            let looked_at = looked.as_ref().ok().map(shared_log);
            let judged = looked.ok().map(|found| (judged(&found, &stand, &heard), found));
            if let Some((verdict, found)) = &judged
                && waits_no_more(*verdict, shared_log(found).as_ref(), &heard)
            {
                return Ok(Passage { waited: waited.is_some(), ..Passage::with(found) });
            }
            let report = match &mut waited {
                Some(report) => report,
                None => waited.insert(self.answer(&halted).await?),
            };
            // Not before it can be asked.
            if let Some((verdict, found)) = judged.filter(|(verdict, _)| said != Some(*verdict)) {
                tell(verdict, &stand, &found);
                said = Some(verdict);
            }
            // While etcd is silent it is as it was.
            takes = looked_at.map_or(takes, |log| takes_more(log.as_ref(), stand.applied, &digest(&stand)));
            if takes {
                self.level(&halted, &mut lacking).await;
            }
            let (applied, addresses) = (halted.stand().await?.applied, self.addresses());
            report.send_modify(|report| {
                *report = says(report.node, report.dc.clone(), (shared::BUILD, report.life), applied, addresses);
            });
            sleep(LOOK_EVERY).await;
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
        let report =
            watch::Sender::new(says(node, dc.clone(), (shared::BUILD, shared::life()?), applied, self.addresses()));
        let Some(address) = self.config.peers.listen else {
            tracing::error!("this node has no [peers] listen: neither `ieum log reseed` nor another node can ask it");
            return Ok(report);
        };
        let listener = shared::listen(address).await?;
        let tls = shared::certificates(self.config)?;
        let (shelf, standing) = (Arc::new(Shelf::default()), Arc::clone(halted));
        shelf.put_journal(Arc::clone(halted.journal())).await;
        shelf.put_stand(Arc::new(move |still| {
            let (halted, dc) = (Arc::clone(&standing), dc.clone());
            Box::pin(async move {
                let stand = if still { halted.stand_still(Instant::now() + STILL).await } else { halted.stand().await };
                let stand = stand.map_err(|error| chain(&error))?;
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

    /// Takes from the journals of the others what it lacks. Who does not answer or has it no more is asked again next time; why something is
    /// `lacking` is said once.
    async fn level(&self, halted: &Halted, lacking: &mut BTreeMap<String, String>) {
        for peer in &self.others {
            let stood = timeout(ANSWER, peer.stand()).await.ok().and_then(Result::ok).flatten();
            let Ok(own) = halted.stand().await else { return };
            let Some(ahead) = stood.filter(|stood| stood.stand.applied > own.applied) else {
                lacking.remove(peer.address());
                continue;
            };
            let Err(error) = copy(halted, ahead.node, peer).await else { continue };
            let error = chain(error.as_ref());
            if lacking.insert(peer.address().to_owned(), error.clone()).as_ref() != Some(&error) {
                tracing::warn!(error, peer = peer.address(), "what another node has is not here yet");
            }
        }
    }
}

fn judged(found: &Found, stand: &Stand, heard: &[Report]) -> Verdict {
    verdict(shared_log(found).as_ref(), stand.applied, &digest(stand), heard)
}

/// Without a view no generation is said to begin where it stands.
fn digest(stand: &Stand) -> [u8; 32] {
    stand.digest.unwrap_or_default()
}

fn meet(met: &Mutex<BTreeSet<String>>, address: &str) {
    let mut met = met.lock();
    if met.len() < MOST_ADDRESSES {
        met.insert(address.to_owned());
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn copy(halted: &Halted, node: NodeId, peer: &Peer) -> Result<(), Failure> {
    let Some(mut levelling) = halted.levelling(node).await? else { return Ok(()) };
    let mut batches = Box::pin(peer.batches(levelling.after()).await?);
    while let Some(entry) = timeout(ANSWER, batches.next()).await? {
        levelling.take(&entry?).await?;
    }
    Ok(())
}

/// What an operator has to know.
fn tell(verdict: Verdict, stand: &Stand, found: &Found) {
    let at = match stand {
        Stand { applied, digest: None, .. } => {
            format!("nowhere, because it has no view (its journal ends at {applied}, and others have that from it)")
        }
        Stand { applied, .. } => format!("at {applied}"),
    };
    let (last, begins) = found.log.map_or_else(Default::default, |held| {
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
    let (mut asked, mut told) = (None::<Instant>, Told::every(SAY_AGAIN));
    loop {
        sleep(NOTICE_EVERY).await;
        let applied = node.applied();
        let heard = circle.heard();
        let says = |Report { node, applied: at, .. }: &Report| {
            format!("node {node} is at {at}, in a later generation than this node at {applied}: the cell was reseeded")
        };
        match later(&heard, &circle.members(), applied) {
            Later::Nobody => {}
            Later::Most(report) => return says(report),
            Later::Some(report) if asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN) => {
                let shows = own_etcd(config, applied).await;
                if shows == Shows::Lost {
                    return says(report);
                }
                let now = Instant::now();
                asked = Some(now);
                // Of one that does not answer nothing is known; that is told elsewhere.
                if shows == Shows::GoesOn && told.is_due(report.node, now) {
                    let (node, at) = (report.node, report.applied);
                    tracing::error!(
                        "alarm: node {node} says that it is at {at}, in a later generation than this node at {applied}, but neither most members \
                         nor this node's etcd say so. One of the two has the endpoints of the wrong etcd: correct its [log] endpoints"
                    );
                }
            }
            Later::Some(_) => {}
        }
        let Some(reason) = log.refused() else { continue };
        if own_etcd(config, applied).await == Shows::Lost {
            return reason;
        }
    }
}

/// What its etcd shows a node at `applied`.
pub(crate) async fn own_etcd(config: &Config, applied: Position) -> Shows {
    let looking = async { record::look(&shared::etcd(config).ok()?).await.ok() };
    let found = looking.await;
    let seen =
        found.map(|found| (shared_log(&found), found.log.is_some_and(|held| held.cell != u32::from(config.node.cell))));
    shows(seen.as_ref().map(|(log, foreign)| (log.as_ref(), *foreign)), applied)
}
