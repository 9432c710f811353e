//! A node of a cell of several: its log is etcd's, and the others are asked where that no longer reaches.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ieum_core::apply::{self, Skips};
use ieum_core::ids::Position;
use ieum_core::kv::Kv as _;
use ieum_gateway::Ticket;
use ieum_log::journaled::{Journaled, Settled};
use ieum_log::sqlite::{Journal, Meta};
use ieum_log_etcd::{Endpoint, Etcd, Tls, record};
use ieum_node::backup::{self, Reaches};
use ieum_node::folder::{self, Folder, Opened};
use ieum_node::halt;
use ieum_node::leases::Leases;
use ieum_node::reserve::Reserve;
use ieum_node::service::Handle;
use ieum_node::snapshot;
use ieum_node::{chain, core_position, log_position};
use ieum_peer::circle::{Circle, Settings};
use ieum_peer::client;
use ieum_peer::resync::{self, Came};
use ieum_peer::server::{self, Offer};
use ieum_peer::shelf::{FindSnapshot, Hangs, Shelf};
use ieum_peer::tls::{self, Files};
use ieum_store::fjall::{self, Fjall};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::config::{Certificates, Config};
use crate::halted::Passage;
use crate::serve::Error;

/// How long it waits before it asks the other nodes again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The build's number: later releases are greater. Two builds of one release are one, so that a tie between them stays open: which of them is to be
/// trusted more nothing tells.
pub(crate) const BUILD: u64 =
    release([env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")]);

/// A version as one number; each part has room for a thousand.
const fn release([major, minor, patch]: [&str; 3]) -> u64 {
    (number(major) * 1_000 + number(minor)) * 1_000 + number(patch)
}

/// Cargo takes nothing but digits for a part of a version.
const fn number(mut digits: &str) -> u64 {
    let mut number = 0;
    while let Some((digit, rest)) = digits.as_bytes().split_first() {
        number = number * 10 + (*digit - b'0') as u64;
        digits = match str::from_utf8(rest) {
            Ok(rest) => rest,
            Err(_) => "",
        };
    }
    number
}

/// The log of a cell of several nodes.
pub(crate) type SharedLog = Journaled<Etcd>;

/// A node that is about to run.
pub(crate) struct Shared {
    pub(crate) opened: Opened<SharedLog>,
    /// What the node skips, and nothing else in this life.
    pub(crate) skips: Skips,
    pub(crate) circle: Arc<Circle>,
    leases: Arc<Leases>,
    shelf: Arc<Shelf>,
    /// What it does among the others.
    parts: JoinSet<()>,
    /// Of these, what ends when it runs.
    coming_up: AbortHandle,
    /// Copies the log until then.
    copying: JoinSet<()>,
}

/// Opens the log, brings the node back to where it reaches, and opens the view. The others are answered from the start.
pub(crate) async fn open(
    config: &Config,
    folder: &Folder,
    options: &fjall::Options,
    passage: &Passage,
) -> Result<Shared, Error> {
    let node = &config.node;
    let tls = certificates(config)?;
    let listener = match config.peers.listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let circle = Circle::new(Settings {
        cell: node.cell,
        node: node.number,
        dc: node.dc.clone(),
        build: BUILD,
        life: life()?,
        address: config.peers.own_address(),
        endpoint: config.listen.endpoints.first().cloned(),
        peers: config.peers.addresses.clone(),
        stands: stands(folder)?,
        tls: tls.clone(),
        out: keep_out(folder.clone()),
        vouched: forget_copied(folder.clone()),
    });
    folder.refuse_differing()?;
    // Before anybody hears of this life: what is no vote must not pass for one.
    circle.set_copied(copied(folder)?);
    let (shelf, mut parts) = (Arc::new(Shelf::default()), JoinSet::new());
    if let Some(listener) = listener {
        let met = Arc::clone(&circle);
        let offer = Offer {
            cell: node.cell,
            report: circle.report(),
            shelf: Arc::clone(&shelf),
            met: Arc::new(move |address: &str| met.meet(address)),
        };
        parts.spawn(async move {
            if let Err(error) = server::serve(offer, listener, tls).await {
                tracing::error!(error = &error as &dyn std::error::Error, "alarm: other nodes are served no more");
            }
        });
    }
    shelf.put_signals(Arc::clone(circle.signals()));
    let double = tokio::spawn(Arc::clone(&circle).double());
    let log = open_log(config, passage.founds).await?;
    if passage.generation.is_some_and(|generation| generation != log.generation()) {
        return Err(Error::LogLost("another generation of the log began while the node started".to_owned()));
    }
    let about = Meta { cell: node.cell.into(), generation: log.generation(), predecessor: log.predecessor() };
    let coming_up = parts.spawn(Arc::clone(&circle).come_up(Arc::clone(&shelf)));
    let coming = Coming { circle: &circle, folder, about, log: Arc::new(log), shelf: &shelf };
    let (opened, copying) = coming.come_back(options).await?;
    // Before it registers, which would fence the other one off. Whoever cannot be asked is none.
    if let Ok(Some(address)) = double.await {
        return Err(Error::Double { node: node.number, address });
    }
    circle.set_copied(copied(folder)?);
    let skips = mind_marks(folder, &opened, node.number).await?;
    let reserve = Arc::new(Reserve::new(folder.root(), node.reserve_mib << 20));
    let leases = Leases::beside(folder.snapshots(), reserve);
    leases.sweep().map_err(resync::Error::from)?;
    let (view, journal) = (Arc::clone(&opened.view), Arc::clone(opened.log.journal()));
    let doubting = Arc::clone(&circle);
    shelf.put_doubt(Arc::new(move |newcomer| doubting.doubt(newcomer)));
    shelf.put_snapshots(find_snapshot(view, Arc::clone(&leases), journal));
    Ok(Shared { opened, skips, circle, leases, shelf, parts, coming_up, copying })
}

/// Listens for other nodes.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Peers { address, source })
}

/// Sees that the view fits the marks of commands to skip, before anything is applied, and gives what is skipped. Before that it takes back what this
/// node agreed to with data that it no longer has: from then on the command is marked only without this node's word.
async fn mind_marks(folder: &Folder, opened: &Opened<SharedLog>, node: u32) -> Result<Skips, Error> {
    let Opened { log, view, .. } = opened;
    let (kept, agreed) = (log.journal().skips().await?, log.journal().agreed().await?);
    let said = log.shared().agreed().await?.into_iter().filter(|(_, of)| *of == node);
    for (mark, _) in said.filter(|(mark, _)| !kept.contains(mark) && !agreed.contains(mark)) {
        // If it is marked already, that counts.
        log.shared().agree(node, mark, false).await?;
    }
    let applied = apply::applied(&view.snapshot()).map_err(folder::Error::Store)?.position;
    match log.settle(log_position(applied)).await? {
        Settled::Skips(marks) => Ok(ieum_node::skips(&marks)),
        Settled::Passed((position, index)) => {
            let evidence = format!(
                "its view, at {applied}, holds what command {index} at {} did, which the cell skips: an operator marked it without this node",
                core_position(position)
            );
            folder.mark_differing(&evidence)?;
            folder.refuse_differing()?;
            Err(Error::Stopped(evidence))
        }
    }
}

/// By which the nodes know each other, if the cell has certificates.
pub(crate) fn certificates(config: &Config) -> Result<Option<tls::Tls>, Error> {
    let Some(Certificates { authority, certificate, key }) = config.peers.certificates.clone() else { return Ok(None) };
    Ok(Some(tls::Tls::read(&Files { authority, certificate, key }, config.node.cell, config.node.number)?))
}

pub(crate) async fn open_log(config: &Config, found: bool) -> Result<Etcd, Error> {
    let options = etcd(config)?;
    // Which cluster is the cell's is what most of the endpoints say, not whoever answers first.
    let cluster = Some(record::look_patiently(&options).await?.cluster);
    Ok(Etcd::open(ieum_log_etcd::Options { create: found, cluster, ..options }).await?)
}

/// How the cell's etcd is reached. It makes no log there.
pub(crate) fn etcd(config: &Config) -> Result<ieum_log_etcd::Options, Error> {
    let etcd = &config.log;
    let endpoints = etcd.endpoints.iter().map(|endpoint| endpoint.parse::<Endpoint>());
    let endpoints = endpoints.collect::<Result<Vec<_>, _>>().map_err(|error| Error::Setting(error.to_string()))?;
    let tls = etcd.certificates.as_ref().map(|Certificates { authority, certificate, key }| Tls {
        authority: authority.clone(),
        certificate: certificate.clone(),
        key: key.clone(),
    });
    Ok(ieum_log_etcd::Options { tls, ..ieum_log_etcd::Options::new(config.node.cell.into(), endpoints) })
}

/// A node that comes up. Until this is done it serves nobody.
struct Coming<'a> {
    circle: &'a Circle,
    folder: &'a Folder,
    about: Meta,
    log: Arc<Etcd>,
    shelf: &'a Shelf,
}

impl Coming<'_> {
    /// Brings the node back to where the log reaches, and opens the view. From then on the log is copied, until the set is dropped.
    async fn come_back(&self, options: &fjall::Options) -> Result<(Opened<SharedLog>, JoinSet<()>), Error> {
        loop {
            self.bring_back().await?;
            let log = self.folder.open_journal(&self.about, Arc::clone(&self.log)).await?;
            self.shelf.put_journal(Arc::clone(log.journal())).await;
            let mut copying = JoinSet::new();
            copying.spawn(copy(Arc::clone(&log)));
            match self.folder.open_beside(&log, options).await {
                Ok(opened) => return Ok((opened, copying)),
                Err(folder::Error::NothingToRebuildFrom { reason, .. }) => {
                    tracing::warn!(
                        reason,
                        "there is no view that goes with the journal: another node is asked for one"
                    );
                }
                Err(error) => return Err(error.into()),
            }
            copying.shutdown().await;
            self.shelf.clear().await?;
            // What was said of it is said of one that is about to be replaced.
            self.shelf.set_compared(false);
            drop(log);
            self.begin_anew().await?;
        }
    }

    async fn bring_back(&self) -> Result<(), Error> {
        loop {
            match resync::bring_back(self.folder, &self.about, self.log.as_ref(), &self.circle.asked()?, self.shelf)
                .await
            {
                Ok(Came::FromLog) => return Ok(()),
                Ok(Came::FromJournal) => {
                    tracing::info!("another node gave the batches that the log has forgotten");
                    return Ok(());
                }
                Ok(Came::FromSnapshot(position)) => {
                    tracing::info!(%position, "another node gave a snapshot and what follows it");
                    return Ok(());
                }
                Err(error) => wait_for_help(error).await?,
            }
        }
    }

    /// If nobody helps now, what is here is looked at once more.
    async fn begin_anew(&self) -> Result<(), Error> {
        match resync::begin_anew(self.folder, &self.about, self.log.as_ref(), &self.circle.asked()?).await {
            Ok(position) => tracing::info!(%position, "another node gave a snapshot"),
            Err(error) => wait_for_help(error).await?,
        }
        Ok(())
    }
}

/// Waits until the others may be asked again, if that may help.
async fn wait_for_help(error: resync::Error) -> Result<(), Error> {
    match error {
        resync::Error::NoPeer { .. } => tracing::warn!(%error, "waiting for help"),
        error => return Err(error.into()),
    }
    tokio::time::sleep(ASK_AGAIN).await;
    Ok(())
}

/// Copies the log into the journal while the view is loaded, which may take longer than the log remembers.
async fn copy(log: Arc<SharedLog>) {
    let error = log.copy().await;
    // If it matters, whoever reads the log finds the same.
    tracing::warn!(error = chain(&error), "the log is not copied while the node comes up");
}

/// What keeps a node from starting again with a view that differs from the others'.
fn keep_out(folder: Folder) -> Arc<dyn Fn(&str) + Send + Sync> {
    Arc::new(move |evidence| {
        if let Err(error) = folder.mark_differing(evidence) {
            let folder = folder.root().display();
            tracing::error!(
                %error,
                "alarm: nothing keeps this node from starting again with the view in {folder}, which differs: run `ieum node resync` first"
            );
        }
    })
}

/// Where the view was copied, if it was and nobody has vouched for it.
fn copied(folder: &Folder) -> Result<Option<Position>, Error> {
    let copied = folder.copied().map_err(snapshot::io_error("reading whether the view was copied", folder.root()));
    Ok(copied.map_err(resync::Error::from)?)
}

/// What makes a view that was copied the node's own again.
fn forget_copied(folder: Folder) -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(move || {
        if let Err(error) = folder.forget_copied() {
            tracing::warn!(%error, "that the others agree with the view that was copied is not remembered");
        }
    })
}

pub(crate) fn life() -> Result<u64, Error> {
    let mut life = [0; 8];
    SystemRandom::new().fill(&mut life).map_err(|_| std::io::Error::other("no randomness"))?;
    Ok(u64::from_le_bytes(life))
}

impl Shared {
    /// The node's snapshots.
    pub(crate) fn leases(&self) -> Arc<Leases> {
        Arc::clone(&self.leases)
    }

    /// Takes part among the others, from when the node runs until what is given back is dropped.
    pub(crate) fn take_part(self, node: &Handle<Fjall, Ticket>) -> Part {
        let Self { opened: Opened { log, .. }, circle, leases, shelf, mut parts, coming_up, copying, skips: _ } = self;
        coming_up.abort();
        drop(copying);
        let shared = Arc::downgrade(log.shared());
        parts.spawn(Arc::clone(&circle).run(node.clone(), log));
        Part { circle, log: shared, leases, shelf, parts }
    }
}

/// A node's part among the others.
pub(crate) struct Part {
    pub(crate) circle: Arc<Circle>,
    /// To be asked how it is; it closes when its last user is gone.
    pub(crate) log: Weak<Etcd>,
    leases: Arc<Leases>,
    shelf: Arc<Shelf>,
    parts: JoinSet<()>,
}

impl Part {
    /// From now on no snapshot is made for another node, and one that is being made is given up: a node that stops would wait for it.
    pub(crate) fn lend_no_more(&self) {
        self.leases.close();
    }

    /// Takes part no longer. Nobody reads the journal, or makes a snapshot of the view for another node, when this returns.
    ///
    /// # Errors
    /// When that is not so, because a disk hangs.
    pub(crate) async fn leave(mut self) -> Result<(), Hangs> {
        self.lend_no_more();
        self.parts.shutdown().await;
        self.shelf.clear().await
    }
}

/// Where a node stands before its view is open: the generation alone. The default is that of one that holds nothing which another does not: a
/// view without a journal is more, an empty journal is not.
fn stands(folder: &Folder) -> Result<Position, Error> {
    let generation = halt::generation(folder)?.unwrap_or(1);
    Ok(match backup::reaches(folder) {
        Ok(Reaches::Nowhere) => Position::default(),
        // What cannot be read is something, too.
        Ok(Reaches::To(_) | Reaches::Unknown(_)) | Err(_) => Position::new(generation, 0),
    })
}

/// Snapshots for newcomers, with the log behind them in the journal.
fn find_snapshot(view: Arc<Fjall>, leases: Arc<Leases>, journal: Arc<Journal>) -> Arc<FindSnapshot> {
    Arc::new(move |asked, newcomer| {
        let log = || (core_position(journal.trimmed()), core_position(journal.last()));
        leases.lend(view.as_ref(), asked, log, newcomer).map_err(|error| chain(&error))
    })
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        Self::Setting(error.to_string())
    }
}

impl From<tls::Unusable> for Error {
    fn from(error: tls::Unusable) -> Self {
        Self::Setting(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_another_node_listens_is_a_setting_of_the_peers() {
        let taken = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let refused = listen(taken.local_addr().unwrap()).await.unwrap_err();
        assert!(refused.to_string().contains("[peers] listen"), "{refused}");
    }

    #[test]
    fn a_later_release_has_a_greater_number() {
        assert_eq!(release(["12", "3", "45"]), 12_003_045);
        let releases =
            [["0", "1", "0"], ["0", "1", "1"], ["0", "1", "10"], ["0", "2", "0"], ["0", "10", "1"], ["1", "0", "0"]];
        assert!(releases.map(release).is_sorted_by(|a, b| a < b));
        let parts: Vec<u64> = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().unwrap()).collect();
        assert!(parts.iter().all(|part| *part < 1_000), "else a release could count as another one");
        assert_eq!(BUILD, parts[0] * 1_000_000 + parts[1] * 1_000 + parts[2]);
    }

    #[test]
    fn only_a_folder_with_nothing_of_its_own_stands_nowhere() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::new(temporary.path());
        assert_eq!(stands(&folder).unwrap(), Position::default(), "an empty folder");
        std::fs::create_dir_all(folder.log()).unwrap();
        Journal::begin_again(folder.log(), &Meta { cell: 1, generation: 4, predecessor: None }, 0).unwrap();
        assert_eq!(stands(&folder).unwrap(), Position::default(), "an empty journal");
        std::fs::remove_dir_all(folder.log()).unwrap();
        std::fs::create_dir_all(folder.view()).unwrap();
        assert_eq!(stands(&folder).unwrap(), Position::new(1, 0), "a view whose journal is gone");
    }
}
