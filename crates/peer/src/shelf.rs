//! What a node has to give to others at the moment: nothing at first, then its journal, then snapshots too.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ieum_core::ids::{NodeId, Position};
use ieum_log::Entry;
use ieum_log::sqlite::Journal;
use ieum_node::leases::{Lent, Newcomer};
use ieum_node::{core_position, log_position};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, RwLock, Semaphore, watch};
use tokio::time::timeout;
use tonic::Status;

use crate::Stood;
use crate::signals::Signals;

/// Finds the snapshot that a newcomer has a part of, else one that is new enough to start from, else makes one, and tells whenever that comes
/// on. Blocks.
pub type FindSnapshot = dyn Fn(Option<Position>, Newcomer<'_>) -> Result<Lent, String> + Send + Sync;

/// So many newcomers are given snapshots at the same time; each has a thread.
const NEWCOMERS: u32 = 2;

/// How long a disk may take until who reads from it notices that this has to end.
pub const CLEARS_WITHIN: Duration = Duration::from_secs(10);

/// What was lent is not given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "what reads the view or the journal for another node or an operator has not ended within {CLEARS_WITHIN:?}: is the disk well?"
)]
pub struct Hangs;

/// Says why a node must not have a copy of this one's view, if it must not.
pub type Doubt = dyn Fn(NodeId) -> Option<Refusal> + Send + Sync;

/// Why a newcomer is given no copy of the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In words.
    pub why: String,
    /// Whether that passes in a while without anybody.
    pub passes: bool,
}

/// Says where a halted node stands, once that is on its disk; with `true` it stays there for a while.
pub type SayStand = dyn Fn(bool) -> Pin<Box<dyn Future<Output = Result<Stood, String>> + Send>> + Send + Sync;

/// What a node has to give.
pub struct Shelf {
    newcomers: Arc<Semaphore>,
    /// Changes when all that is given to them ends.
    cleared: watch::Sender<()>,
    journal: RwLock<Option<Arc<Journal>>>,
    /// Whether what the journal holds was found to be the log's.
    compared: AtomicBool,
    snapshots: Mutex<Option<Arc<FindSnapshot>>>,
    doubt: Mutex<Option<Arc<Doubt>>>,
    stand: Mutex<Option<Arc<SayStand>>>,
    signals: Mutex<Option<Arc<Signals>>>,
}

impl Default for Shelf {
    fn default() -> Self {
        let newcomers = Arc::new(Semaphore::new(NEWCOMERS as usize));
        let (journal, snapshots, doubt, stand, signals) = Default::default();
        let (cleared, compared) = (watch::Sender::new(()), AtomicBool::new(false));
        Self { newcomers, cleared, journal, compared, snapshots, doubt, stand, signals }
    }
}

impl Shelf {
    /// From now on others may have the batches of `journal`.
    pub async fn put_journal(&self, journal: Arc<Journal>) {
        *self.journal.write().await = Some(journal);
    }

    /// Whether what the node's journal holds was found to be the log's: an etcd that was restored from a backup goes on in another way.
    pub fn set_compared(&self, compared: bool) {
        self.compared.store(compared, Ordering::SeqCst);
    }

    /// From now on others may have snapshots.
    pub fn put_snapshots(&self, find: Arc<FindSnapshot>) {
        *self.snapshots.lock() = Some(find);
    }

    /// From now on others hear who types here and who is there.
    pub fn put_signals(&self, signals: Arc<Signals>) {
        *self.signals.lock() = Some(signals);
    }

    /// Snapshots are given to those only whom `doubt` has nothing against.
    pub fn put_doubt(&self, doubt: Arc<Doubt>) {
        *self.doubt.lock() = Some(doubt);
    }

    /// From now on the node says where it stands: it has halted, because the log is lost.
    pub fn put_stand(&self, say: Arc<SayStand>) {
        *self.stand.lock() = Some(say);
    }

    pub(crate) fn stand(&self) -> Option<Arc<SayStand>> {
        self.stand.lock().clone()
    }

    /// Takes journal and snapshots back, and ends what is sent of a snapshot, read or not. When this returns nobody reads the journal or makes a snapshot
    /// of the view any more: whoever has them alone may close them. What is made for newcomers ends only when its maker is told to.
    ///
    /// # Errors
    /// When a disk hangs from which somebody reads, so that this is not so.
    pub async fn clear(&self) -> Result<(), Hangs> {
        self.clear_within(CLEARS_WITHIN).await
    }

    async fn clear_within(&self, patience: Duration) -> Result<(), Hangs> {
        let clearing = async {
            *self.snapshots.lock() = None;
            self.cleared.send_replace(());
            *self.journal.write().await = None;
            // It is never closed.
            drop(self.newcomers.acquire_many(NEWCOMERS).await);
        };
        timeout(patience, clearing).await.map_err(|_| Hangs)
    }

    /// Changes when the shelf is cleared after this.
    pub(crate) fn cleared(&self) -> watch::Receiver<()> {
        self.cleared.subscribe()
    }

    /// A place among the newcomers that are given a snapshot. Whoever has it keeps it until it has let go of all that it was given.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        let place = Arc::clone(&self.newcomers).try_acquire_owned();
        place.map_err(|_| Status::unavailable("it gives snapshots to others just now"))
    }

    /// Batches behind `after`, some of them; none when there is none.
    pub(crate) async fn read(&self, after: Position) -> Result<Vec<Entry>, Status> {
        let journal = self.journal.read().await;
        let journal = journal.as_ref().ok_or_else(not_yet)?;
        journal.read(log_position(after)).await.map_err(told)
    }

    /// Up to where the journal survives a power cut, as far as it counts; `before` when there is none just now.
    pub(crate) async fn synced(&self, before: Position) -> Position {
        let synced = self.journal.read().await.as_ref().map_or(before, |journal| core_position(journal.synced()));
        ieum_node::peers::vouched(synced, self.compared.load(Ordering::SeqCst))
    }

    pub(crate) fn signals(&self) -> Result<Arc<Signals>, Status> {
        self.signals.lock().clone().ok_or_else(not_yet)
    }

    /// Why `newcomer` must not have a copy of the view.
    pub(crate) fn doubts(&self, newcomer: NodeId) -> Option<Refusal> {
        let doubt = self.doubt.lock().clone();
        doubt.and_then(|doubt| doubt(newcomer))
    }

    pub(crate) fn snapshots(&self) -> Result<Arc<FindSnapshot>, Status> {
        self.snapshots.lock().clone().ok_or_else(not_yet)
    }
}

fn not_yet() -> Status {
    Status::unavailable("it is coming up itself")
}

/// What a caller is told of the journal's error.
fn told(error: ieum_log::Error) -> Status {
    match error {
        ieum_log::Error::Trimmed { .. } => Status::out_of_range(error.to_string()),
        ieum_log::Error::NotInLog { .. } => Status::failed_precondition(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ieum_core::ids::Position;
    use ieum_drill::unsynced::{self, Mount};
    use ieum_log::BatchId;
    use ieum_log::sqlite::Meta;
    use ieum_node::peers::{Phase, Report};
    use tokio::net::TcpListener;

    use super::*;
    use crate::client::{Caller, Peer};
    use crate::server::{self, Offer};

    fn report() -> Report {
        Report {
            node: 1,
            dc: "1".to_owned(),
            phase: Phase::Ready,
            applied: Position::default(),
            synced: Position::default(),
            build: 1,
            life: 1,
            endpoint: None,
            addresses: Vec::new(),
            digests: Vec::new(),
            began: None,
            copied: None,
            decided: Vec::new(),
        }
    }

    /// A node that serves what is on the shelf, and a newcomer.
    async fn newcomer(shelf: &Arc<Shelf>) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let report = watch::channel(report()).1;
        let offer = Offer { cell: 3, report, shelf: Arc::clone(shelf), met: Arc::new(|_| ()) };
        tokio::spawn(server::serve(offer, listener, None));
        Peer::new(&address, Caller { cell: 3, node: 2, life: 2 }, None).unwrap()
    }

    /// Its disk hangs: it answers pings, and takes nothing.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_stops_does_not_wait_for_newcomers_that_read_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        // Far more than all that lies on the way.
        std::fs::File::create(&path).unwrap().set_len(256 << 20).unwrap();
        let shelf = Arc::new(Shelf::default());
        shelf.put_snapshots(Arc::new(move |_, _| Ok(Lent::kept(Position::new(1, 7), path.clone()))));
        let peer = newcomer(&shelf).await;
        let mut pieces = peer.snapshot(None).await.unwrap();
        assert!(pieces.message().await.unwrap().is_some());
        assert_eq!(shelf.clear().await, Ok(()));
        let refused = peer.snapshot(None).await.unwrap_err().to_string();
        assert!(refused.contains("coming up itself"), "its place is free: {refused}");
        while let Ok(Some(_)) = pieces.message().await {}
    }

    #[tokio::test]
    async fn a_disk_that_hangs_does_not_keep_a_node_from_stopping() {
        let shelf = Shelf::default();
        let place = shelf.place().unwrap();
        assert_eq!(shelf.clear_within(Duration::ZERO).await, Err(Hangs));
        drop(place);
        assert_eq!(shelf.clear().await, Ok(()));
    }

    /// Another node asked for batches, and the journal's thread hangs.
    #[tokio::test]
    async fn a_disk_that_hangs_under_the_journal_does_not_either() {
        let disk = Mount::new(&unsynced::Options::default()).unwrap();
        let about = Meta { cell: 3, generation: 1, predecessor: None };
        let journal = Arc::new(Journal::open(disk.path().join("journal"), &about, 0).unwrap());
        let shelf = Shelf::default();
        shelf.put_journal(Arc::clone(&journal)).await;
        disk.stick().unwrap();
        let id = BatchId { node: 1, incarnation: 1, number: 1 };
        let position = log_position(Position::new(1, 1));
        journal.put(&Entry { position, id, bytes: Bytes::from_static(b"batch") }).await.unwrap();
        let mut reading = Box::pin(shelf.read(Position::new(1, 0)));
        assert!(timeout(Duration::ZERO, reading.as_mut()).await.is_err(), "it hangs");
        assert_eq!(shelf.clear_within(Duration::ZERO).await, Err(Hangs));
        disk.unstick().unwrap();
        assert_eq!(reading.await.unwrap().len(), 1);
        assert_eq!(shelf.clear().await, Ok(()));
    }
}
