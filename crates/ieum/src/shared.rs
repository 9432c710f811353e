//! A node of a cell of several: its log is etcd's, and the others are asked where that no longer reaches.

use std::path::{Path, PathBuf};
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
use ieum_peer::server::{self, FindSnapshot, Offer};
use ieum_store::fjall::{self, Fjall};
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

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
    listener: Option<TcpListener>,
    tls: Option<ServerTlsConfig>,
}

/// Opens the log, brings the node back to where it reaches, and opens the view.
pub(crate) async fn open(
    config: &Config,
    folder: &Folder,
    options: &fjall::Options,
    found: bool,
) -> Result<Shared, Error> {
    let peers = &config.peers;
    let (listener, address) = match peers.listen {
        Some(address) => {
            let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
            let scheme = if peers.certificates.is_some() { "https" } else { "http" };
            (Some(listener), Some(peers.address.clone().unwrap_or_else(|| format!("{scheme}://{address}"))))
        }
        None => (None, None),
    };
    let (client, server) = certificates(peers.certificates.as_ref())?;
    let circle = Circle::new(Settings {
        cell: config.node.cell,
        node: config.node.number,
        dc: config.node.dc.clone(),
        build: BUILD,
        life: life()?,
        address,
        endpoint: config.listen.endpoints.first().cloned(),
        peers: peers.addresses.clone(),
        tls: client,
        out: Arc::new(|_| {}),
    });
    let log = open_log(config, found).await?;
    let about = Meta { cell: config.node.cell.into(), generation: log.generation(), predecessor: None };
    bring_back(&circle, folder, &about, &log).await?;
    let opened = folder.open_shared(&about, Arc::new(log), options).await?;
    Ok(Shared { opened, circle, listener, tls: server })
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
async fn bring_back(circle: &Circle, folder: &Folder, about: &Meta, log: &Etcd) -> Result<(), Error> {
    let peers = circle.asked()?;
    loop {
        match resync::bring_back(folder, about, log, &peers).await {
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
    /// Takes part among the others, from when the node runs until the set is dropped.
    pub(crate) fn take_part(self, folder: &Folder, node: &Handle<Fjall, Ticket>) -> (Arc<Circle>, JoinSet<()>) {
        let Self { opened: Opened { log, view, .. }, circle, listener, tls } = self;
        let mut parts = JoinSet::new();
        if let Some(listener) = listener {
            let offer = Offer {
                cell: u16::try_from(ieum_log::Kept::meta(log.as_ref()).cell).unwrap_or(u16::MAX),
                report: circle.report(),
                journal: Arc::clone(log.journal()),
                snapshot: find_snapshot(view, folder.snapshots(), &log),
                met: {
                    let circle = Arc::clone(&circle);
                    Arc::new(move |address| circle.meet(address))
                },
            };
            parts.spawn(async move {
                if let Err(error) = server::serve(offer, listener, tls).await {
                    tracing::error!(error = &error as &dyn std::error::Error, "alarm: other nodes are served no more");
                }
            });
        }
        parts.spawn(Arc::clone(&circle).run(node.clone(), log));
        (circle, parts)
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

type BothSides = (Option<ClientTlsConfig>, Option<ServerTlsConfig>);

/// Both sides show the node's certificate and ask for one of the cell's authority.
fn certificates(files: Option<&Certificates>) -> Result<BothSides, Error> {
    let Some(Certificates { authority, certificate, key }) = files else { return Ok((None, None)) };
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| Error::File { operation: "reading", path: path.to_owned(), source })
    };
    let (authority, identity) =
        (Certificate::from_pem(read(authority)?), Identity::from_pem(read(certificate)?, read(key)?));
    let client = ClientTlsConfig::new().ca_certificate(authority.clone()).identity(identity.clone());
    let server = ServerTlsConfig::new().identity(identity).client_ca_root(authority);
    Ok((Some(client), Some(server)))
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        Self::Setting(error.to_string())
    }
}
