//! The log of a cell over three data centers: an etcd cluster, one member in each.
//!
//! ```text
//!  append ─► transaction ─► the member that is asked first; another one when it is slow
//!  tail   ─► history up to the end, then a watch of one member; another one when it skips, hangs or dies
//!  trim   ─► batches and trim position in one transaction, then compaction up to that position
//! ```
//!
//! - `keys` is how the log lies in etcd; `append` is the transaction that everything rests on.
//! - `members` keeps a checked connection to each member, `hedge` decides which one is asked when, `call` does it.
//! - `lasting` tells what waiting for a member cannot mend.
//! - `history` reads what was appended at which revision; `assemble` reads a watch and notices what it leaves out; `lag` whether it hangs;
//!   `tail` puts these together.
//! - [`record`] looks whose log an etcd holds without opening it, and begins a new generation.
//! - `marks` keeps which commands are to be skipped, and who has agreed to that.
//! - `proto` and `rpc` speak to etcd.
//!
//! The etcd cluster is the cell's alone: compaction is the whole cluster's. Why it is made this way, with figures:
//! `docs/decisions/etcd-log.md`.

mod append;
mod assemble;
mod call;
mod endpoint;
mod ends;
mod error;
#[cfg(test)]
mod fuzz;
mod hedge;
mod history;
mod identity;
mod keys;
mod lag;
mod lasting;
mod marks;
mod members;
mod nodes;
mod proto;
pub mod record;
mod rpc;
mod tail;
#[cfg(test)]
mod tests;
mod tls;
mod trim;
mod txn;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ieum_log::sqlite::Predecessor;
use ieum_log::{BatchId, Error, Log, MAX_BATCH_BYTES, Position, Result, Room, Skip};
use ieum_planted::Bug;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::rustls::ClientConfig;

use self::append::Outcome;
use self::assemble::Cursor;
pub use self::endpoint::{Endpoint, NotAnEndpoint};
pub use self::error::{AtQuota, CompactedElsewhere, Refused, Torn, Unreachable};
use self::error::{CallError, failed};
use self::identity::Identity;
use self::keys::Keys;
pub use self::members::Health;
use self::members::{Cluster, Member};
use self::proto::TxnRequest;
pub use self::tail::Tail;
pub use self::tls::Tls;
use self::txn::{Answers, Malformed, get_at, read};

/// How to open a log.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the members answer clients, the nearest first.
    pub endpoints: Vec<Endpoint>,
    /// Certificates, for endpoints with `https`.
    pub tls: Option<Tls>,
    /// The cell that the log belongs to; a log of another cell is refused.
    pub cell: u32,
    /// Whether to make a new log where there is none.
    pub create: bool,
    /// etcd's number of the cluster, as [`record::look`] has found it: members of others are not used, and nothing is written there. Without it the
    /// first member that answers tells.
    pub cluster: Option<u64>,
    /// What the node's view has applied: a log of another generation, or one that ends before it, is refused.
    pub applied: Option<Position>,
    /// How long an operation tries to reach a member.
    pub patience: Duration,
    /// How many bytes of the database may be in use. Beyond it appends give [`Error::Full`]. etcd's own quota, at which it refuses all
    /// writes until an operator repairs it, has to be two and a half times as much: compaction can double a database's file.
    pub largest_database: u64,
}

impl Options {
    /// The defaults for `cell`: an existing log is opened and none is made; a database that stays below etcd's own quota of 2 GiB.
    #[must_use]
    pub fn new(cell: u32, endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints,
            tls: None,
            cell,
            create: false,
            cluster: None,
            applied: None,
            patience: Duration::from_secs(10),
            largest_database: 768 << 20,
        }
    }

    /// How connections are made: certificates go with `https` and with nothing else.
    fn tls(&self) -> Result<Option<Arc<ClientConfig>>> {
        if let Some(endpoint) = self.endpoints.iter().find(|endpoint| endpoint.tls != self.tls.is_some()) {
            let either = if endpoint.tls {
                "certificates have to be given"
            } else {
                "it has to be https, as certificates are given"
            };
            return Err(Error::Foreign(format!("{endpoint}: {either}")));
        }
        self.tls.as_ref().map(tls::config).transpose()
    }
}

/// A log in etcd.
#[derive(Debug)]
pub struct Etcd {
    inner: Arc<Inner>,
    keepers: Vec<AbortHandle>,
}

/// What the log, its tails and its tasks share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) keys: Keys,
    pub(crate) generation: u32,
    /// The highest ordinal that an append of this process was given.
    pub(crate) acknowledged: watch::Sender<u64>,
    /// How often a watch was caught leaving something out.
    pub(crate) gaps: AtomicU64,
    /// The last figure of [`Self::in_use`].
    in_use: AtomicU64,
    largest_database: u64,
    #[cfg(test)]
    pub(crate) tamper: tests::Tamper,
}

impl Etcd {
    /// Connects to the members and opens the log as soon as one of them shows it.
    ///
    /// # Errors
    /// [`Error::Foreign`] when what the members show is not this cell's log, or not all of it; [`Error::Engine`] with [`Unreachable`] as
    /// its source when none answers in time.
    pub async fn open(options: Options) -> Result<Self> {
        let tls = options.tls()?;
        let Options { cell, create, cluster, applied, .. } = options;
        let create = create && applied.is_none();
        let identity = Identity { cell, create, generation: None, predecessor: None, cluster, applied };
        let cluster = Cluster::new(options.endpoints, tls, identity, options.patience);
        let keeping = (0..cluster.members.len()).map(|at| tokio::spawn(members::keep(Arc::clone(&cluster), at)));
        let keepers = Keepers(keeping.map(|task| task.abort_handle()).collect());
        let generation = cluster.wait_until_usable().await?;
        let inner = Inner {
            cluster,
            keys: Keys::new(generation),
            generation,
            acknowledged: watch::Sender::new(0),
            gaps: AtomicU64::new(0),
            in_use: AtomicU64::new(0),
            largest_database: options.largest_database,
            #[cfg(test)]
            tamper: tests::Tamper::default(),
        };
        Ok(Self { inner: Arc::new(inner), keepers: keepers.keep() })
    }

    /// The log's generation.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.inner.generation
    }

    /// How the generation before ended; none for one in which the cell was founded.
    #[must_use]
    pub fn predecessor(&self) -> Option<Predecessor> {
        self.inner.cluster.identity.lock().predecessor
    }

    /// Why most of the members refuse to be used, if they do and no other can be: the log is lost, or another one is there now.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        let healths: Vec<_> = self.inner.cluster.members.iter().map(Member::health).collect();
        let mut reasons = Vec::new();
        for health in &healths {
            match health {
                Health::Up { .. } => return None,
                Health::Refused(reason) => reasons.push(reason.clone()),
                Health::Down(_) => {}
            }
        }
        let most = reasons.len() > healths.len() / 2;
        reasons.pop().filter(|_| most)
    }

    /// The members' URLs and how they are.
    #[must_use]
    pub fn members(&self) -> Vec<(String, Health)> {
        let members = self.inner.cluster.members.iter();
        members.map(|member| (member.endpoint.to_string(), member.health())).collect()
    }

    /// How often a watch was caught leaving something out, and the log was read again.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.inner.gaps.load(Ordering::Relaxed)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.inner.cluster.changed.send_replace(true);
        drop(Keepers(std::mem::take(&mut self.keepers)));
    }
}

/// The tasks that keep connections; dropping it ends them.
struct Keepers(Vec<AbortHandle>);

impl Keepers {
    fn keep(mut self) -> Vec<AbortHandle> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Inner {
    pub(crate) fn position(&self, ordinal: u64) -> Position {
        Position { generation: self.generation, ordinal }
    }

    pub(crate) async fn ask(&self, operation: &'static str, request: TxnRequest) -> Result<Answers> {
        self.cluster.ask(operation, request).await.map_err(|error| error.into_log(operation))
    }

    /// What the fullest member has in use; while none can be asked, what it was when one could.
    fn in_use(&self) -> u64 {
        let in_use = self.cluster.members.iter().filter_map(|member| match member.health() {
            Health::Up { in_use, .. } => Some(in_use),
            Health::Down(_) | Health::Refused(_) => None,
        });
        match in_use.max() {
            Some(in_use) => {
                self.in_use.store(in_use, Ordering::Relaxed);
                in_use
            }
            None if Bug::UnreachableIsEmpty.planted() => 0,
            None => self.in_use.load(Ordering::Relaxed),
        }
    }

    /// Refuses to fill the database up to etcd's quota.
    fn check_room(&self, bytes: usize) -> Result<()> {
        if self.room().takes(bytes) { Ok(()) } else { Err(Error::Full) }
    }

    fn room(&self) -> Room {
        Room { used: self.in_use(), most: self.largest_database }
    }

    /// The ordinal of the batch that was appended at a revision.
    async fn ordinal_at(&self, revision: i64) -> Result<u64> {
        let operation = "finding an earlier try of an append";
        let mut answers = self.ask(operation, read(vec![get_at(self.keys.count(), revision)])).await?;
        let count = answers.one().map_err(failed(operation))?;
        count.and_then(|count| u64::try_from(count.version).ok()).ok_or_else(|| failed(operation)(Malformed))
    }

    async fn append(&self, id: BatchId, bytes: Bytes) -> Result<Position> {
        let operation = "appending a batch";
        if bytes.len() > MAX_BATCH_BYTES {
            return Err(Error::TooLarge { bytes: bytes.len() });
        }
        self.check_room(bytes.len())?;
        let request = append::request(&self.keys, id, &bytes).ok_or(Error::Conflict { id })?;
        let answer = self.cluster.txn(operation, request).await.map_err(|error| error.into_log(operation))?;
        let ordinal = match append::judge(id, &bytes, answer).map_err(failed(operation))? {
            Outcome::Placed(ordinal) => ordinal,
            Outcome::PlacedAt(revision) => self.ordinal_at(revision).await?,
            Outcome::Conflict => return Err(Error::Conflict { id }),
            Outcome::Fenced => return Err(Error::Fenced { id }),
        };
        self.cluster.seen.fetch_max(ordinal, Ordering::Relaxed);
        self.acknowledged.send_if_modified(|highest| {
            let higher = ordinal > *highest;
            *highest = ordinal.max(*highest);
            higher
        });
        Ok(self.position(ordinal))
    }

    async fn tail(self: &Arc<Self>, after: Position) -> Result<Tail> {
        let operation = "finding where a tail begins";
        loop {
            let ends = self.cluster.ends(&self.keys).await?;
            let last = self.position(ends.last);
            if after.generation != last.generation || after > last {
                return Err(Error::NotInLog { asked: after, last });
            }
            if after.ordinal < ends.trim.ordinal {
                return Err(Error::Trimmed { after, trimmed: self.position(ends.trim.ordinal) });
            }
            match history::locate(&self.cluster, &self.keys, &ends, after.ordinal).await {
                Ok(revision) => {
                    let late = u64::from(Bug::EtcdResumesOneLate.planted() && (1..ends.last).contains(&after.ordinal));
                    return Ok(Tail::start(Arc::clone(self), Cursor { ordinal: after.ordinal + late, revision }));
                }
                // It may have been trimmed meanwhile; if nothing was, somebody else has compacted.
                Err(CallError::Compacted) if self.cluster.ends(&self.keys).await?.trim != ends.trim => {}
                Err(error) => return Err(error.into_log(operation)),
            }
        }
    }
}

impl Log for Etcd {
    type Tail = Tail;

    async fn register(&self, node: u32, least: u64) -> Result<u64> {
        let incarnation = self.inner.register(node).await?;
        if incarnation < least {
            return Err(Error::Foreign(format!(
                "node {node} would begin life {incarnation}, but life {least} has begun before: this etcd was made anew or restored; \
                 reseed the cell with `ieum log reseed`"
            )));
        }
        Ok(incarnation)
    }

    async fn remove(&self, node: u32) -> Result<()> {
        self.inner.remove_node(node).await
    }

    async fn append(&self, id: BatchId, bytes: Bytes) -> Result<Position> {
        self.inner.append(id, bytes).await
    }

    async fn tail(&self, after: Position) -> Result<Tail> {
        self.inner.tail(after).await
    }

    async fn trim(&self, up_to: Position) -> Result<()> {
        self.inner.trim(up_to).await
    }

    async fn skip(&self, position: Position, index: u32) -> Result<()> {
        self.inner.skip(position, index).await
    }

    async fn skips(&self) -> Result<Vec<Skip>> {
        self.inner.skips().await
    }

    async fn last(&self) -> Result<Position> {
        Ok(self.inner.position(self.inner.cluster.ends(&self.inner.keys).await?.last))
    }

    async fn trimmed_to(&self) -> Result<Position> {
        Ok(self.inner.position(self.inner.cluster.ends(&self.inner.keys).await?.trim.ordinal))
    }

    fn room(&self) -> Option<Room> {
        Some(self.inner.room())
    }
}
