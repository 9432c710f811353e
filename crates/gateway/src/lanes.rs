//! Work that blocks: reads of the view and password hashes. It runs off the threads that serve sockets, on a bounded number of threads for each
//! kind, so that no kind takes them all; a bounded number of askers waits for them, and whoever comes on top is told to come back.
//!
//! ```text
//!  asker ─► its account's or address's turn ─► a thread of the lane ─► work      (in the order that they came, at each place)
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ieum_core::ids::UserId;
use ieum_planted::Bug;
use ieum_protocol::errors::{Code, Problem};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::metrics::figure;
use crate::options::Lane as Bounds;
use crate::wire::Line;

/// Who has something done, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// Nobody who signed in, from there.
    Address(IpAddr),
    /// Whose token it is.
    Account(UserId),
}

/// Whom work is for.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// Who takes turns with themselves; nobody where something else bounds how much one asks.
    pub(crate) who: Option<Who>,
    /// The connection that waits for the answer.
    pub(crate) line: Line,
}

/// One kind of work.
#[derive(Debug)]
pub(crate) struct Lane {
    bounds: Bounds,
    threads: Arc<Semaphore>,
    inside: Mutex<Inside>,
    refused: AtomicU64,
    abandoned: AtomicU64,
}

/// Those who wait or whose work runs.
#[derive(Debug, Default)]
struct Inside {
    all: usize,
    each: HashMap<Who, One>,
}

#[derive(Debug)]
struct One {
    inside: usize,
    turns: Arc<Semaphore>,
}

/// A place in a lane, until it is dropped.
struct Place {
    lane: Arc<Lane>,
    who: Option<Who>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.lane.inside.lock();
        inside.all -= 1;
        if let Some(Entry::Occupied(mut one)) = self.who.map(|who| inside.each.entry(who)) {
            one.get_mut().inside -= 1;
            if one.get().inside == 0 {
                one.remove();
            }
        }
    }
}

impl Lane {
    pub(crate) fn new(bounds: Bounds) -> Arc<Self> {
        let threads = if Bug::ReadsTakeAllThreads.planted() { Semaphore::MAX_PERMITS } else { bounds.at_once.max(1) };
        Arc::new(Self {
            bounds,
            threads: Arc::new(Semaphore::new(threads)),
            inside: Mutex::default(),
            refused: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
        })
    }

    /// Does `work` on a thread of its own when it is the asker's turn. Not at all, when that was not at once and the asker has gone meanwhile.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        asker: &Asker,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (place, turns) = self.enter(asker.who).inspect_err(|_| {
            self.refused.fetch_add(1, Ordering::Relaxed);
        })?;
        let mut waited = false;
        let turn = match turns {
            Some(turns) => Some(take(turns, &mut waited).await?),
            None => None,
        };
        let thread = take(Arc::clone(&self.threads), &mut waited).await?;
        if waited && asker.line.is_closed() && !Bug::AbandonedReadsRun.planted() {
            self.abandoned.fetch_add(1, Ordering::Relaxed);
            // Read by nobody, or by one who has only said all that they have to say.
            return Err(Code::Busy.problem());
        }
        let (reply, answer) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            // Until the work is done, also when whoever waited for it has gone.
            let _held = (place, turn, thread);
            if !reply.is_closed() {
                // Nobody waits any more, at worst.
                let _ = reply.send(work());
            }
        });
        // It panicked, or the runtime stops.
        answer.await.map_err(|_| Code::Internal.problem())
    }

    /// A place in the lane, and where `who` takes turns.
    fn enter(self: &Arc<Self>, who: Option<Who>) -> Result<(Place, Option<Arc<Semaphore>>), Problem> {
        let mut inside = self.inside.lock();
        if inside.all >= self.bounds.at_once.saturating_add(self.bounds.waiting) {
            return Err(Code::Busy.problem());
        }
        let turns = match who {
            Some(who) => {
                let each = match who {
                    Who::Address(_) => self.bounds.address,
                    Who::Account(_) => self.bounds.account,
                };
                let at_once =
                    if Bug::OneAccountTakesAllReads.planted() { Semaphore::MAX_PERMITS } else { each.at_once.max(1) };
                let one = inside.each.entry(who);
                let one = one.or_insert_with(|| One { inside: 0, turns: Arc::new(Semaphore::new(at_once)) });
                if one.inside >= at_once.saturating_add(each.waiting) {
                    return Err(Code::Busy.problem());
                }
                one.inside += 1;
                Some(Arc::clone(&one.turns))
            }
            None => None,
        };
        inside.all += 1;
        Ok((Place { lane: Arc::clone(self), who }, turns))
    }

    /// Appends the lane's figures to the page.
    pub(crate) fn page(&self, page: &mut String, kind: &str) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let inside = self.inside.lock().all;
        let name = |what: &str| format!("{kind}_{what}");
        figure(page, "gauge", &name("under_way"), "Those that wait for a thread or have one.", inside);
        figure(page, "counter", &name("refused_total"), "Refused because too many wait.", load(&self.refused));
        let help = "Not done because whoever asked was gone when it was their turn.";
        figure(page, "counter", &name("abandoned_total"), help, load(&self.abandoned));
    }
}

/// A permit, and whether it had to be waited for.
async fn take(from: Arc<Semaphore>, waited: &mut bool) -> Result<OwnedSemaphorePermit, Problem> {
    if let Ok(permit) = Arc::clone(&from).try_acquire_owned() {
        return Ok(permit);
    }
    *waited = true;
    // Nobody closes it.
    from.acquire_owned().await.map_err(|_| Code::Internal.problem())
}
