//! A node's own copy of a log that it shares with others: the same batches at the same positions.
//!
//! ```text
//!  put ──► batches in memory ──every second, 4 MiB or flush──► commit, fsync ──► `synced`
//! ```
//!
//! What was put and not yet committed is gone when the process dies; the shared log or a peer still has it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::error::failed;
use super::folder::Folder;
use super::store::{self, Kind, Store};
use super::{Meta, Options};
use crate::journaled::own_copy::is_next;
use crate::{Entry, Error, Position, Result, Skip};

/// How long a batch may wait to be committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// With so many bytes waiting, they are committed at once.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// So many bytes may wait; who puts more waits for the disk.
const MOST_WAITING: u32 = 64 * 1024 * 1024;
/// What a waiting batch takes beside its bytes.
const OVERHEAD: usize = 128;
/// One read gives about so many batches or bytes.
const READ_ROWS: usize = 1024;
const READ_BYTES: usize = 4 * 1024 * 1024;

enum Request {
    Put(Entry, OwnedSemaphorePermit),
    Flush(oneshot::Sender<Result<()>>),
    Read(u64, oneshot::Sender<Result<Vec<Entry>>>),
    Trim(u64, oneshot::Sender<Result<()>>),
    Skips(oneshot::Sender<Result<Vec<Skip>>>),
    Agreed(oneshot::Sender<Result<Vec<Skip>>>),
    KeepSkips(Vec<Skip>, oneshot::Sender<Result<()>>),
    Close,
}

/// What the journal has on the disk.
#[derive(Debug, Clone, Default)]
struct State {
    /// The last ordinal that is fsynced.
    synced: u64,
    trimmed: u64,
    /// Why nothing is written any more.
    failed: Option<String>,
}

/// A journal in a SQLite database, one thread.
#[derive(Debug)]
pub struct Journal {
    meta: Meta,
    directory: PathBuf,
    requests: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
    /// The last ordinal that was put.
    last: Mutex<u64>,
    state: watch::Receiver<State>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens the journal in `directory`; makes one of `meta`'s generation, whose first batch will follow the ordinal `after`, if there is none
    /// of that generation or a later one. Blocks.
    ///
    /// # Errors
    /// As [`super::Sqlite::open`]; [`Error::Foreign`] also when it is the log of a node that is alone.
    pub fn open(directory: impl AsRef<Path>, meta: &Meta, after: u64) -> Result<Self> {
        let directory = directory.as_ref().to_owned();
        let folder = Folder::lock(&directory, true)?;
        if folder.newest()?.is_none_or(|newest| newest < meta.generation) {
            store::create(&folder, Kind::Journal, meta, after)?;
        }
        let store =
            Store::open(folder, Some(Kind::Journal), Some(meta.cell), Options::new(meta.cell).checkpoint_bytes)?;
        store.check_ends()?;
        let ends = store.ends();
        let (requests, inbox) = mpsc::channel();
        let (publish, state) = watch::channel(State { synced: ends.last, trimmed: ends.trimmed, failed: None });
        let meta = *store.meta();
        let worker = Worker { store, publish, waiting: Vec::new(), bytes: 0, room: Vec::new(), due: None };
        let thread = std::thread::Builder::new().name("ieum-journal".to_owned()).spawn(move || worker.run(&inbox));
        let thread = Some(thread.map_err(failed("starting the journal's thread"))?);
        let room = Arc::new(Semaphore::new(MOST_WAITING as usize));
        Ok(Self { meta, directory, requests, room, last: Mutex::new(ends.last), state, thread })
    }

    /// Removes the journal of `meta`'s generation in `directory` and begins it again behind the ordinal `after`: what it held is no longer
    /// needed, because a snapshot at `after` is there. Blocks.
    ///
    /// # Errors
    /// As [`super::Sqlite::open`].
    pub fn begin_again(directory: impl AsRef<Path>, meta: &Meta, after: u64) -> Result<()> {
        let folder = Folder::lock(directory.as_ref(), true)?;
        folder.remove(meta.generation)?;
        store::create(&folder, Kind::Journal, meta, after)
    }

    /// What the journal says of itself.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    fn position(&self, ordinal: u64) -> Position {
        Position { generation: self.meta.generation, ordinal }
    }

    /// The last batch that was put.
    #[must_use]
    pub fn last(&self) -> Position {
        self.position(*self.last.lock())
    }

    /// Up to where everything survives a power cut.
    #[must_use]
    pub fn synced(&self) -> Position {
        self.position(self.state.borrow().synced)
    }

    /// The last batch that is here no more.
    #[must_use]
    pub fn trimmed(&self) -> Position {
        self.position(self.state.borrow().trimmed)
    }

    /// How many bytes the journal's folder takes on disk.
    ///
    /// # Errors
    /// [`Error::Engine`] when the folder cannot be read.
    pub fn bytes_on_disk(&self) -> Result<u64> {
        super::folder::bytes(&self.directory)
    }

    /// Copies a batch. One that is here already is passed over; one that leaves others out is [`Error::NotInLog`]. Waits while too much waits
    /// for the disk. Cancel safe: a dropped future has put the batch or not.
    pub async fn put(&self, entry: &Entry) -> Result<()> {
        let weight = u32::try_from(entry.bytes.len() + OVERHEAD).unwrap_or(MOST_WAITING).min(MOST_WAITING);
        let permit = Arc::clone(&self.room).acquire_many_owned(weight).await.map_err(|_| Error::Closed)?;
        self.check()?;
        let mut last = self.last.lock();
        if is_next(self.position(*last), entry.position)? {
            self.send(Request::Put(entry.clone(), permit))?;
            *last = entry.position.ordinal;
        }
        Ok(())
    }

    /// Returns when all that was put before is fsynced.
    pub async fn flush(&self) -> Result<()> {
        self.ask(Request::Flush).await
    }

    /// Batches behind `after`, some of them; none when there is none.
    ///
    /// # Errors
    /// [`Error::Trimmed`], [`Error::NotInLog`]; [`Error::Engine`] with [`super::Damaged`] as its source.
    pub async fn read(&self, after: Position) -> Result<Vec<Entry>> {
        let (last, trimmed) = (self.last(), self.trimmed());
        if after.generation != last.generation || after > last {
            return Err(Error::NotInLog { asked: after, last });
        }
        let read =
            if after < trimmed { Ok(Vec::new()) } else { self.ask(|reply| Request::Read(after.ordinal, reply)).await };
        // It may have been trimmed meanwhile.
        let trimmed = self.trimmed();
        if after < trimmed { Err(Error::Trimmed { after, trimmed }) } else { read }
    }

    /// Removes batches up to and including `up_to`, see [`crate::Log::trim`].
    pub async fn trim(&self, up_to: Position) -> Result<()> {
        let last = self.last();
        if up_to.generation != last.generation || up_to > last {
            return Err(Error::NotInLog { asked: up_to, last });
        }
        self.ask(|reply| Request::Trim(up_to.ordinal, reply)).await
    }

    /// The marks of commands to skip that this node knows the shared log to have, in order.
    pub async fn skips(&self) -> Result<Vec<Skip>> {
        self.ask(Request::Skips).await
    }

    /// The commands that this node has agreed to have skipped and does not know to be marked, see [`super::Offline::agreed`].
    pub async fn agreed(&self) -> Result<Vec<Skip>> {
        self.ask(Request::Agreed).await
    }

    /// Keeps marks of the shared log, durably: what is replayed from here without that log needs them too. What was only agreed to is marked
    /// from then on.
    pub async fn keep_skips(&self, marks: Vec<Skip>) -> Result<()> {
        self.ask(|reply| Request::KeepSkips(marks, reply)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.check()?;
        self.send(request(reply))?;
        answer.await.map_err(|_| Error::Closed)?
    }

    fn send(&self, request: Request) -> Result<()> {
        self.requests.send(request).map_err(|_| Error::Closed)
    }

    /// An error once the disk has failed: the node cannot keep what it must.
    fn check(&self) -> Result<()> {
        match &self.state.borrow().failed {
            Some(reason) => Err(failed("writing the journal")(std::io::Error::other(reason.clone()))),
            None => Ok(()),
        }
    }
}

impl Drop for Journal {
    /// Waits until what was put is committed and the database closed.
    fn drop(&mut self) {
        let _ = self.requests.send(Request::Close);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been told to every caller as `Closed`.
            let _ = thread.join();
        }
    }
}

struct Worker {
    store: Store,
    publish: watch::Sender<State>,
    /// Put and not yet committed.
    waiting: Vec<Entry>,
    bytes: usize,
    /// Given back when they are committed.
    room: Vec<OwnedSemaphorePermit>,
    /// When what waits is committed at the latest.
    due: Option<Instant>,
}

impl Worker {
    fn run(mut self, inbox: &mpsc::Receiver<Request>) {
        let mut trims = VecDeque::new();
        loop {
            match self.next(inbox, !trims.is_empty()) {
                Next::Request(Request::Put(entry, permit)) => self.put(entry, permit),
                Next::Request(Request::Flush(reply)) => {
                    let _ = reply.send(self.commit());
                }
                Next::Request(Request::Read(after, reply)) => {
                    let _ = reply.send(self.commit().and_then(|()| self.store.read(after, READ_ROWS, READ_BYTES)));
                }
                Next::Request(Request::Trim(up_to, reply)) => trims.push_back((up_to, reply)),
                Next::Request(Request::Skips(reply)) => {
                    let _ = reply.send(self.store.skips());
                }
                Next::Request(Request::Agreed(reply)) => {
                    let _ = reply.send(self.store.agreed());
                }
                Next::Request(Request::KeepSkips(marks, reply)) => {
                    let kept = marks.into_iter().try_for_each(|(at, index)| self.store.keep_skip(at, index));
                    let _ = reply.send(kept);
                }
                Next::Request(Request::Close) | Next::Gone => break,
                // Told to whoever asks next.
                Next::Nothing => {}
            }
            if self.due.is_some_and(|due| Instant::now() >= due) {
                // What fails is told by `failed`, or tried again when the disk was full.
                let _ = self.commit();
            }
            // A piece at a time, so that neither waits for all of the other.
            if let Some((up_to, reply)) = trims.pop_front() {
                match self.trim(up_to) {
                    Ok(false) => trims.push_front((up_to, reply)),
                    Ok(true) => drop(reply.send(Ok(()))),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
        }
        let _ = self.commit();
        let _ = self.store.close();
    }

    fn next(&self, inbox: &mpsc::Receiver<Request>, busy: bool) -> Next {
        if busy {
            return match inbox.try_recv() {
                Ok(request) => Next::Request(request),
                Err(mpsc::TryRecvError::Empty) => Next::Nothing,
                Err(mpsc::TryRecvError::Disconnected) => Next::Gone,
            };
        }
        let Some(due) = self.due else { return inbox.recv().map_or(Next::Gone, Next::Request) };
        match inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(request) => Next::Request(request),
            Err(mpsc::RecvTimeoutError::Timeout) => Next::Nothing,
            Err(mpsc::RecvTimeoutError::Disconnected) => Next::Gone,
        }
    }

    fn put(&mut self, entry: Entry, permit: OwnedSemaphorePermit) {
        self.bytes += entry.bytes.len();
        self.waiting.push(entry);
        self.room.push(permit);
        let due = *self.due.get_or_insert_with(|| Instant::now() + COMMIT_EVERY);
        if self.bytes >= COMMIT_BYTES {
            self.due = Some(due.min(Instant::now()));
        }
    }

    fn commit(&mut self) -> Result<()> {
        self.due = None;
        if self.waiting.is_empty() {
            return Ok(());
        }
        match self.store.copy(&self.waiting) {
            Ok(()) => {
                self.waiting.clear();
                self.room.clear();
                self.bytes = 0;
                let synced = self.store.ends().last;
                self.publish.send_modify(|state| state.synced = synced);
                Ok(())
            }
            Err(Error::Full) => {
                self.due = Some(Instant::now() + COMMIT_EVERY);
                Err(Error::Full)
            }
            Err(error) => {
                let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), |e| e.to_string());
                self.publish.send_modify(|state| state.failed = Some(reason));
                // Nobody waits for room that will never come.
                self.room.clear();
                Err(error)
            }
        }
    }

    /// Removes some of what is to go; tells whether that was all.
    fn trim(&mut self, up_to: u64) -> Result<bool> {
        self.commit()?;
        if self.store.ends().trimmed < up_to {
            self.store.trim_some(up_to)?;
            let trimmed = self.store.ends().trimmed;
            self.publish.send_modify(|state| state.trimmed = trimmed);
        }
        Ok(self.store.ends().trimmed >= up_to)
    }
}

enum Next {
    Request(Request),
    Nothing,
    Gone,
}
