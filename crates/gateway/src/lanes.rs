//! Work that blocks: reads of the view and password hashes. It runs off the threads that serve sockets, on a bounded number of threads for each
//! kind, so that no kind takes them all; a bounded number of askers waits for them, and whoever comes on top is told to come back: that they ask too much themselves (`rate_limited`), or
//! that the server has too much to do (`busy`), which sends a client to another one.
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
use crate::options::{Lane as Bounds, Turns};
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
    count: Mutex<Count>,
    /// Told `busy`, because too many were inside.
    refused: AtomicU64,
    /// Told `rate_limited`, because too many of them were their own.
    limited: AtomicU64,
    abandoned: AtomicU64,
}

/// Those who wait or whose work runs.
#[derive(Debug, Default)]
struct Count {
    all: usize,
    each: HashMap<Who, One>,
}

#[derive(Debug)]
struct One {
    inside: usize,
    turns: Arc<Semaphore>,
}

/// Somebody in a lane, until it is dropped.
struct Inside {
    lane: Arc<Lane>,
    who: Option<Who>,
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut count = self.lane.count.lock();
        count.all -= 1;
        if let Some(Entry::Occupied(mut one)) = self.who.map(|who| count.each.entry(who)) {
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
            count: Mutex::default(),
            refused: AtomicU64::new(0),
            limited: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
        })
    }

    /// Does `work` on a thread of its own when it is the asker's turn. Not at all, when that was not at once and the asker has gone meanwhile.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        asker: &Asker,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (inside, turns) = self.enter(asker.who)?;
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
            // Until the work is done, also when whoever waited for it has gone. Given back before the answer: who has it may ask again at once.
            let held = (inside, turn, thread);
            if !reply.is_closed() {
                let done = work();
                drop(held);
                // Nobody waits any more, at worst.
                let _ = reply.send(done);
            }
        });
        // It panicked, or the runtime stops.
        answer.await.map_err(|_| Code::Internal.problem())
    }

    /// A place in the lane, and where `who` takes turns. Who has too many inside is told so before the lane is looked at: elsewhere it would be
    /// no better for them.
    fn enter(self: &Arc<Self>, who: Option<Who>) -> Result<(Inside, Option<Arc<Semaphore>>), Problem> {
        let own = who.and_then(|who| Some((who, self.turns_of(who)?)));
        let mut count = self.count.lock();
        let has = own.and_then(|(who, _)| count.each.get(&who)).map_or(0, |one| one.inside);
        if own.is_some_and(|(_, each)| has >= each.at_once.saturating_add(each.waiting)) {
            self.limited.fetch_add(1, Ordering::Relaxed);
            return Err(Code::RateLimited.problem());
        }
        if count.all >= self.bounds.at_once.saturating_add(self.bounds.waiting) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Code::Busy.problem());
        }
        count.all += 1;
        let turns = own.map(|(who, each)| {
            let anew = || One { inside: 0, turns: Arc::new(Semaphore::new(each.at_once)) };
            let one = count.each.entry(who).or_insert_with(anew);
            one.inside += 1;
            Arc::clone(&one.turns)
        });
        Ok((Inside { lane: Arc::clone(self), who: own.map(|(who, _)| who) }, turns))
    }

    /// How many turns `who` has, if they have a bound of their own.
    fn turns_of(&self, who: Who) -> Option<Turns> {
        let each = match who {
            Who::Address(_) => self.bounds.address,
            Who::Account(_) => self.bounds.account,
        }?;
        let at_once = if Bug::OneAccountTakesAllReads.planted() { Semaphore::MAX_PERMITS } else { each.at_once.max(1) };
        Some(Turns { at_once, ..each })
    }

    /// Appends the lane's figures to the page.
    pub(crate) fn page(&self, page: &mut String, kind: &str) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let inside = self.count.lock().all;
        let name = |what: &str| format!("{kind}_{what}");
        figure(page, "gauge", &name("under_way"), "Those that wait for a thread or have one.", inside);
        figure(page, "counter", &name("refused_total"), "Refused because too many wait.", load(&self.refused));
        let help = "Refused because too many of one asker wait.";
        figure(page, "counter", &name("limited_total"), help, load(&self.limited));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    /// How many of this asker find room, and what the next one is told.
    fn fill(lane: &Arc<Lane>, who: Option<Who>, held: &mut Vec<Inside>) -> (usize, String) {
        for count in 0.. {
            match lane.enter(who) {
                Ok((inside, _)) => held.push(inside),
                Err(problem) => return (count, problem.code),
            }
        }
        unreachable!("somebody is refused");
    }

    #[test]
    fn each_has_a_bound_of_its_own_and_the_lane_one_for_all() {
        let [here, there] = ["10.0.0.1", "10.0.0.2"].map(|address| Some(Who::Address(address.parse().unwrap())));
        let [minji, dohyun] = [1, 2].map(|user| Some(Who::Account(UserId(user))));
        let passwords = Lane::new(Options::default().passwords.lane());
        let mut held = Vec::new();
        for who in [here, there, minji] {
            assert_eq!(fill(&passwords, who, &mut held), (9, "rate_limited".to_owned()));
        }
        assert_eq!(fill(&passwords, None, &mut held), (66 - 27, "busy".to_owned()));
        assert_eq!(
            fill(&passwords, here, &mut held),
            (0, "rate_limited".to_owned()),
            "its own bound, whoever else is there"
        );
        assert_eq!(fill(&passwords, dohyun, &mut held), (0, "busy".to_owned()));
        drop(held);
        assert!(passwords.count.lock().each.is_empty());
        let mut held = Vec::new();
        let hellos = Lane::new(Options::default().hellos());
        assert_eq!(fill(&hellos, minji, &mut held), (66, "rate_limited".to_owned()));
        assert_eq!(fill(&hellos, here, &mut held), (6 + 18_000 - 66, "busy".to_owned()));
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((count(&passwords.limited), count(&passwords.refused)), (4, 2));
    }
}
