//! A node of a cell of several: its log is etcd's, and the others are asked where that no longer reaches.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ieum_gateway::Ticket;
use ieum_log::journaled::Journaled;
use ieum_log::sqlite::Meta;
use ieum_log_etcd::{Endpoint, Etcd, Tls};
use ieum_node::folder::{Folder, Opened};
use ieum_node::service::Handle;
use ieum_node::{progress, snapshot};
use ieum_peer::circle::{Circle, Settings};
use ieum_peer::client;
use ieum_peer::resync::{self, Came};
use ieum_peer::server::{self, Offer};
use ieum_peer::shelf::{FindSnapshot, Shelf};
use ieum_peer::tls::{self, Files};
use ieum_store::fjall::{self, Fjall};
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::{Certificates, Config};
use crate::serve::Error;

/// How long it waits before it asks the other nodes again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A snapshot is new enough for a newcomer with no more batches behind it than this.
const FEW_BATCHES: u64 = 20_000;
/// The build's number: later ones are greater.
const BUILD: u64 = 1;

/// The log of a cell of several nodes.
pub(crate) type SharedLog = Journaled<Etcd>;

/// A node that is about to run.
pub(crate) struct Shared {
    pub(crate) opened: Opened<SharedLog>,
    pub(crate) circle: Arc<Circle>,
    shelf: Arc<Shelf>,
    /// What it does among the others.
    parts: JoinSet<()>,
}

/// Opens the log, brings the node back to where it reaches, and opens the view. The others are answered from the start.
pub(crate) async fn open(
    config: &Config,
    folder: &Folder,
    options: &fjall::Options,
    found: bool,
) -> Result<Shared, Error> {
    let node = &config.node;
    let files = |Certificates { authority, certificate, key }: Certificates| Files { authority, certificate, key };
    let tls = config.peers.certificates.clone().map(files);
    let tls = tls.map(|files| tls::Tls::read(&files, node.cell, node.number)).transpose()?;
    let listener = match config.peers.listen {
        Some(address) => Some(TcpListener::bind(address).await.map_err(|source| Error::Peers { address, source })?),
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
        tls: tls.clone(),
        out: Arc::new(|_| {}),
    });
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
    let log = open_log(config, found).await?;
    let about = Meta { cell: node.cell.into(), generation: log.generation(), predecessor: None };
    bring_back(&circle, folder, &about, &log, &shelf).await?;
    let opened = folder.open_shared(&about, Arc::new(log), options).await?;
    shelf.put_journal(Arc::clone(opened.log.journal())).await;
    shelf.put_snapshots(find_snapshot(Arc::clone(&opened.view), folder.snapshots(), &opened.log));
    Ok(Shared { opened, circle, shelf, parts })
}

async fn open_log(config: &Config, found: bool) -> Result<Etcd, Error> {
    let etcd = &config.log;
    let endpoints = etcd.endpoints.iter().map(|endpoint| endpoint.parse::<Endpoint>());
    let endpoints = endpoints.collect::<Result<Vec<_>, _>>().map_err(|error| Error::Setting(error.to_string()))?;
    let tls = etcd.certificates.as_ref().map(|Certificates { authority, certificate, key }| Tls {
        authority: authority.clone(),
        certificate: certificate.clone(),
        key: key.clone(),
    });
    let options = ieum_log_etcd::Options {
        tls,
        create: found,
        ..ieum_log_etcd::Options::new(config.node.cell.into(), endpoints)
    };
    Ok(Etcd::open(options).await?)
}

/// Until this is done the node serves nobody.
async fn bring_back(circle: &Circle, folder: &Folder, about: &Meta, log: &Etcd, shelf: &Shelf) -> Result<(), Error> {
    let peers = circle.asked()?;
    loop {
        match resync::bring_back(folder, about, log, &peers, shelf).await {
            Ok(Came::FromLog) => return Ok(()),
            Ok(Came::FromJournal) => {
                tracing::info!("another node gave the batches that the log has forgotten");
                return Ok(());
            }
            Ok(Came::FromSnapshot(position)) => {
                tracing::info!(%position, "another node gave a snapshot and what follows it");
                return Ok(());
            }
            Err(error @ resync::Error::NoPeer { .. }) => {
                tracing::warn!(%error, "waiting for help");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn life() -> Result<u64, Error> {
    let mut life = [0; 8];
    SystemRandom::new().fill(&mut life).map_err(|_| std::io::Error::other("no randomness"))?;
    Ok(u64::from_le_bytes(life))
}

impl Shared {
    /// Takes part among the others, from when the node runs until what is given back is dropped.
    pub(crate) fn take_part(self, node: &Handle<Fjall, Ticket>) -> Part {
        let Self { opened: Opened { log, .. }, circle, shelf, mut parts } = self;
        parts.spawn(Arc::clone(&circle).run(node.clone(), log));
        Part { circle, shelf, parts }
    }
}

/// A node's part among the others.
pub(crate) struct Part {
    pub(crate) circle: Arc<Circle>,
    shelf: Arc<Shelf>,
    parts: JoinSet<()>,
}

impl Part {
    /// Takes part no longer. Nobody reads the journal when this returns.
    pub(crate) async fn leave(mut self) {
        self.parts.shutdown().await;
        self.shelf.clear().await;
    }
}

/// A snapshot for a newcomer: the newest one, or a new one when much has happened since.
fn find_snapshot(view: Arc<Fjall>, folder: PathBuf, log: &Arc<SharedLog>) -> Arc<FindSnapshot> {
    // One at a time: a second newcomer gets what the first one waits for.
    let (journal, taking) = (Arc::clone(log.journal()), Mutex::new(()));
    Arc::new(move || {
        let _alone = taking.lock();
        let told = |error: snapshot::Error| error.to_string();
        let newest = snapshot::list(&folder).map_err(told)?.pop();
        let last = journal.last();
        if let Some((position, path)) = newest
            && position.generation == last.generation
            && position.ordinal.saturating_add(FEW_BATCHES) >= last.ordinal
        {
            return Ok((position, path));
        }
        let (meta, path) = snapshot::take(view.as_ref(), &folder, progress::unwatched()).map_err(told)?;
        Ok((meta.position, path))
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
