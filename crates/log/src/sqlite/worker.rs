//! The thread that does a log's blocking work, and what it shares with everyone who waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use ieum_planted::Bug;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::error::failed;
use super::recent::Recent;
use super::store::{Placed, Store};
use crate::{BatchId, Entry, Error, Position, Result, Skip};

/// How many appends may be queued; others wait for their turn. A node has one under way.
const QUEUED: usize = 16;
/// A tail that is behind reads so much at a time; an append waits for one such read at most.
const READ_ROWS: usize = 256;
const READ_BYTES: usize = 1024 * 1024;

/// Work for the thread. A reply that nobody waits for any more is dropped.
pub(super) enum Request {
    Append(Append),
    /// The batches after this ordinal.
    Read(u64, oneshot::Sender<Result<Vec<Entry>>>),
    Trim(Trim),
    Skip(Position, u32, oneshot::Sender<Result<()>>),
    Skips(oneshot::Sender<Result<Vec<Skip>>>),
    Close(Option<oneshot::Sender<Result<()>>>),
}

pub(super) struct Append {
    id: BatchId,
    bytes: Bytes,
    reply: oneshot::Sender<Result<u64>>,
    _permit: OwnedSemaphorePermit,
}

pub(super) struct Trim {
    up_to: u64,
    reply: oneshot::Sender<Result<()>>,
}

/// What tails and [`super::Sqlite::last`] may rely on: it is durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published {
    pub(super) last: u64,
    pub(super) trimmed: u64,
    pub(super) closed: bool,
}

/// What the handle and its tails hold.
#[derive(Debug)]
pub(super) struct Shared {
    generation: u32,
    requests: mpsc::Sender<Request>,
    queue: Arc<Semaphore>,
    published: watch::Sender<Published>,
    recent: Mutex<Recent>,
}

impl Shared {
    pub(super) fn position(&self, ordinal: u64) -> Position {
        Position { generation: self.generation, ordinal }
    }

    pub(super) fn published(&self) -> Published {
        *self.published.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// The batch at `ordinal`, if it is one of the newest.
    pub(super) fn recent(&self, ordinal: u64) -> Option<Entry> {
        self.recent.lock().get(ordinal)
    }

    /// Refuses a position of another generation or beyond the end.
    pub(super) fn check(&self, asked: Position) -> Result<Published> {
        let published = self.published();
        let last = self.position(published.last);
        if published.closed {
            Err(Error::Closed)
        } else if asked.generation != last.generation || asked > last {
            Err(Error::NotInLog { asked, last })
        } else {
            Ok(published)
        }
    }

    pub(super) fn send(&self, request: Request) -> Result<()> {
        self.requests.send(request).map_err(|_| Error::Closed)
    }

    pub(super) async fn append(&self, id: BatchId, bytes: Bytes) -> Result<u64> {
        let permit = Arc::clone(&self.queue).acquire_owned().await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.send(Request::Append(Append { id, bytes, reply, _permit: permit }))?;
        answer.await.map_err(|_| Error::Closed)?
    }

    pub(super) fn read(&self, after: u64) -> Result<oneshot::Receiver<Result<Vec<Entry>>>> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Read(after, reply))?;
        Ok(answer)
    }

    pub(super) async fn trim(&self, up_to: Position) -> Result<()> {
        if up_to.ordinal <= self.check(up_to)?.trimmed {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Trim(Trim { up_to: up_to.ordinal, reply }))?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Shared {
    pub(super) async fn skip(&self, position: Position, index: u32) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Skip(position, index, reply))?;
        answer.await.map_err(|_| Error::Closed)?
    }

    pub(super) async fn skips(&self) -> Result<Vec<Skip>> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Skips(reply))?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// Gives the store to a thread of its own.
pub(super) fn start(store: Store, recent_bytes: usize) -> Result<(Arc<Shared>, JoinHandle<()>)> {
    let (requests, inbox) = mpsc::channel();
    let ends = store.ends();
    let published = Published { last: ends.last, trimmed: ends.trimmed, closed: false };
    let shared = Arc::new(Shared {
        generation: store.meta().generation,
        requests,
        queue: Arc::new(Semaphore::new(QUEUED)),
        published: watch::Sender::new(published),
        recent: Mutex::new(Recent::new(recent_bytes)),
    });
    let worker = Worker { store, inbox, held: None, trims: VecDeque::new(), shared: Arc::clone(&shared) };
    let thread = std::thread::Builder::new().name("ieum-log".to_owned()).spawn(move || {
        // Dropped last and by a panic too, so that nobody waits for a thread that is gone.
        let _closing = Closing(Arc::clone(&worker.shared));
        worker.run();
    });
    Ok((shared, thread.map_err(failed("starting the log's thread"))?))
}

struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.published.send_modify(|published| published.closed = true);
    }
}

struct Worker {
    store: Store,
    inbox: mpsc::Receiver<Request>,
    /// Taken from the inbox while looking for more appends.
    held: Option<Request>,
    /// Trims under way, the first of them first.
    trims: VecDeque<Trim>,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(mut self) {
        let reply = loop {
            match self.next() {
                Some(Request::Append(first)) => self.append(first),
                Some(Request::Read(after, reply)) => {
                    let _ = reply.send(self.store.read(after, READ_ROWS, READ_BYTES));
                }
                Some(Request::Trim(trim)) => self.trims.push_back(trim),
                Some(Request::Skip(position, index, reply)) => {
                    let _ = reply.send(self.store.skip(position, index));
                }
                Some(Request::Skips(reply)) => {
                    let _ = reply.send(self.store.skips());
                }
                Some(Request::Close(reply)) => break reply,
                None => {}
            }
            // A piece of trimming after each request, so that neither waits for all of the other.
            self.trim();
        };
        // Told before the database is closed: who is woken by an error must not find the log open.
        self.shared.published.send_modify(|published| published.closed = true);
        let closed = self.store.close();
        if let Some(reply) = reply {
            let _ = reply.send(closed);
        }
    }

    /// The next request; none when there is only trimming to do.
    fn next(&mut self) -> Option<Request> {
        if self.held.is_some() {
            self.held.take()
        } else if self.trims.is_empty() {
            // `shared` has a sender, so that this waits until a request comes.
            self.inbox.recv().ok()
        } else {
            self.inbox.try_recv().ok()
        }
    }

    /// Appends what is queued in one transaction: one fsync for all.
    fn append(&mut self, first: Append) {
        let mut appends = vec![first];
        while appends.len() < QUEUED {
            match self.inbox.try_recv() {
                Ok(Request::Append(append)) => appends.push(append),
                other => {
                    self.held = other.ok();
                    break;
                }
            }
        }
        if Bug::AckBeforeAppend.planted() {
            return self.append_afterwards(appends);
        }
        match self.store.append(appends.iter().map(|append| (append.id, &append.bytes))) {
            Ok(placed) => self.publish(appends, &placed, self.store.ends().last),
            Err(error) => refuse(appends, error),
        }
    }

    /// The planted bug: everybody is told before the batches are durable.
    fn append_afterwards(&mut self, appends: Vec<Append>) {
        let batches: Vec<_> = appends.iter().map(|append| (append.id, append.bytes.clone())).collect();
        let placed: Vec<_> = (self.store.ends().last + 1..).take(batches.len()).map(Placed::New).collect();
        let last = self.store.ends().last + placed.len() as u64;
        self.publish(appends, &placed, last);
        let _ = self.store.append(batches.iter().map(|(id, bytes)| (*id, bytes)));
    }

    /// Shows durable batches to the tails, and then answers those who appended them.
    fn publish(&mut self, appends: Vec<Append>, placed: &[Placed], last: u64) {
        let mut recent = self.shared.recent.lock();
        for (append, placed) in appends.iter().zip(placed) {
            if let Placed::New(ordinal) = *placed {
                let position = self.shared.position(ordinal);
                recent.push(Entry { position, id: append.id, bytes: append.bytes.clone() });
            }
        }
        drop(recent);
        self.shared.published.send_modify(|published| published.last = last);
        for (append, placed) in appends.into_iter().zip(placed) {
            let _ = append.reply.send(match *placed {
                Placed::New(ordinal) | Placed::Known(ordinal) => Ok(ordinal),
                Placed::Conflict => Err(Error::Conflict { id: append.id }),
            });
        }
    }

    /// Does a piece of the first trim under way.
    fn trim(&mut self) {
        let Some(trim) = self.trims.front() else { return };
        let up_to = trim.up_to;
        let mut done = Ok(());
        if self.store.ends().trimmed < up_to {
            done = self.store.trim_some(up_to);
            let ends = self.store.ends();
            self.shared.published.send_modify(|published| published.trimmed = ends.trimmed);
        }
        if (done.is_err() || self.store.ends().trimmed >= up_to)
            && let Some(trim) = self.trims.pop_front()
        {
            let _ = trim.reply.send(done);
        }
    }
}

/// Tells all appends of a failed transaction. The error itself goes to the first; the others get the same kind.
fn refuse(appends: Vec<Append>, error: Error) {
    let full = matches!(error, Error::Full);
    let text = error.to_string();
    let mut error = Some(error);
    for append in appends {
        let told = match error.take() {
            Some(error) => error,
            None if full => Error::Full,
            None => failed("committing batches with others")(std::io::Error::other(text.clone())),
        };
        let _ = append.reply.send(Err(told));
    }
}
