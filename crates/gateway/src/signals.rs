//! Who types: told to those who are in the room now and look at their screen, within a moment or not at all.
//!
//! ```text
//!  typing frame ─► own ───┐ every 100 ms, while the node is calm:          ┌─► sessions here
//!                         ├─► who may hear it, as the view says ───────────┤
//!  other nodes ─► others ─┘                                     own alone  └─► Cell::signal: other nodes
//! ```
//!
//! Nothing here waits for anything that messages need, and nothing of messages waits for it: both queues are bounded and lose their oldest, the
//! view is read and the sessions are told on a thread of its own, and a session in whose queue much waits gets none. See
//! `docs/decisions/signals.md`.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ieum_core::ids::UserId;
use ieum_core::kv;
use ieum_core::query::typing::{self, Typing};
use ieum_planted::Bug;
use ieum_protocol::frames::ServerFrame;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Gateway;
use crate::cell::Cell;
use crate::hub::Hub;
use crate::map::outcomes;
use crate::session::{Admits, Session, Typists};

/// How long it waits for others that type, so that they are looked up together.
const ROUND: Duration = Duration::from_millis(100);
/// How many wait for a round at most, from here and from other nodes each.
const WAITING: usize = 1_024;
/// How many frames a round puts into sessions' queues at most.
const FRAMES: usize = 1_000;
/// How many threads reading the view for it takes.
pub(crate) const THREADS: usize = 1;
/// How often it is said that it fails, at most: a disk that fails does so in each round.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Who types, on the way to those who may hear it.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Who has said so lately, through whichever device.
    typists: Mutex<Typists>,
    waiting: Mutex<Waiting>,
    something: Notify,
    /// Frames put into sessions' queues since the start.
    pub(crate) told: AtomicU64,
    /// What was passed over since the start, because there was too much of it or too much else to do.
    pub(crate) shed: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    own: Latest,
    others: Latest,
}

impl Waiting {
    fn count(&self) -> usize {
        self.own.order.len() + self.others.order.len()
    }
}

/// The latest that were said, each once.
#[derive(Debug, Default)]
struct Latest {
    order: VecDeque<Typing>,
    known: HashSet<Typing>,
}

impl Latest {
    /// Adds one; tells whether another one was lost for it.
    fn push(&mut self, typing: Typing) -> bool {
        if !self.known.insert(typing) {
            return false;
        }
        self.order.push_back(typing);
        let lost = if self.order.len() > WAITING { self.order.pop_front() } else { None };
        lost.is_some_and(|lost| self.known.remove(&lost))
    }
}

impl Signals {
    fn put(&self, typing: &[Typing], which: impl Fn(&mut Waiting) -> &mut Latest) {
        let mut waiting = self.waiting.lock();
        let queue = which(&mut waiting);
        let lost = typing.iter().filter(|typing| queue.push(**typing)).count();
        drop(waiting);
        self.shed(lost);
        self.something.notify_one();
    }

    fn shed(&self, count: usize) {
        self.shed.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Somebody types, and those who may hear it.
type Heard = (Typing, Vec<UserId>);

/// What is told together.
#[derive(Debug)]
pub struct Round {
    waiting: Waiting,
    began: Instant,
}

/// The same, with those who may hear it as the view had them.
#[derive(Debug)]
pub struct Looked {
    own: Vec<Heard>,
    others: Vec<Heard>,
    count: usize,
    began: Instant,
}

impl<C: Cell> Gateway<C> {
    /// A session says that its person types. Never waits.
    pub(crate) fn typed(&self, typing: Typing, now: Instant) {
        let admits = self.signals.typists.lock().admits(typing, self.options.typing_every, now);
        match admits {
            Admits::Yes => self.signals.put(&[typing], |waiting| &mut waiting.own),
            Admits::TooSoon => {}
            Admits::TooMany => self.signals.shed(1),
        }
    }

    /// Another node says who types there. Believed as far as this node's own view says the same: of people who are in the room. Never waits.
    pub fn hear(&self, typing: &[Typing]) {
        self.signals.put(typing, |waiting| &mut waiting.others);
    }

    /// Who is here, ascending: whoever has the app in front of them on a device that is connected to this node.
    #[must_use]
    pub fn people(&self) -> Vec<UserId> {
        let now = Instant::now();
        self.hub.people(|session| self.in_front(session, now))
    }

    fn in_front(&self, session: &Session, now: Instant) -> bool {
        session.silence(now) < self.options.in_front || Bug::TypingToTheAway.planted()
    }

    /// Whether anybody has said that they type, and it was not told yet: for whoever checks that nothing stays.
    #[must_use]
    pub fn signals_wait(&self) -> bool {
        self.signals.waiting.lock().count() > 0
    }

    /// Tells who types, until it is dropped. A round that fails, or panics, is lost and no other.
    pub(crate) async fn tell_signals(self: Arc<Self>) {
        let mut complained: Option<Instant> = None;
        loop {
            self.signals.something.notified().await;
            tokio::time::sleep(ROUND).await;
            let Some(round) = self.signals_due(Instant::now()) else { continue };
            let count = round.waiting.count();
            let gateway = Arc::clone(&self);
            let told = tokio::task::spawn_blocking(move || {
                let looked = gateway.look_up(round)?;
                gateway.tell_round(&looked, Instant::now());
                Ok::<_, kv::Error>(())
            });
            let failure: Box<dyn std::error::Error + Send + Sync> = match told.await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.into(),
                Err(error) if error.is_panic() => error.into(),
                // The runtime ends.
                Err(_) => return,
            };
            self.signals.shed(count);
            if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                complained = Some(Instant::now());
                tracing::error!(error = &*failure as &dyn std::error::Error, "nobody is told who types");
            }
        }
    }

    /// What was said since the last round is to be told now, 100 ms after its beginning; nothing of it, where the node has too much else to do or
    /// its view is old.
    pub fn signals_due(&self, now: Instant) -> Option<Round> {
        let waiting = std::mem::take(&mut *self.signals.waiting.lock());
        // What is late is worth nothing, and a view that is old may show people in rooms that they are no longer in.
        let old = self.stale() && !Bug::TypingFromOldView.planted();
        if (old || !self.cell.is_calm()) && !Bug::TypingInSurge.planted() {
            self.signals.shed(waiting.count());
            return None;
        }
        // The time of before the view was asked how old it is: what is read of it may take long.
        Some(Round { waiting, began: now })
    }

    /// Looks up who may hear it, which may wait for the disk.
    ///
    /// # Errors
    /// When the view fails.
    pub fn look_up(&self, Round { waiting, began }: Round) -> kv::Result<Looked> {
        let (view, count) = (self.cell.view(), waiting.count());
        let heard = |queue: Latest| -> kv::Result<Vec<Heard>> {
            let known = queue.order.into_iter().map(|typing| Ok((typing, typing::hearers(&view, typing)?)));
            known.filter(|heard| heard.as_ref().map_or(true, |(_, people)| !people.is_empty())).collect()
        };
        Ok(Looked { own: heard(waiting.own)?, others: heard(waiting.others)?, count, began })
    }

    /// Tells those who may hear it.
    pub fn tell_round(&self, looked: &Looked, now: Instant) {
        let Looked { own, others, count, began } = looked;
        // Where the disk hung meanwhile, who was in the room then may have been removed since. The view's age is not asked again: what was read is
        // of a view that was not old behind `began`, so it is older by no more than this patience.
        let late = now.saturating_duration_since(*began) > self.options.typing_patience;
        if late && !Bug::LateLookTellsTyping.planted() {
            self.signals.shed(*count);
            return;
        }
        let (told, passed_over) = show(&self.hub, in_turn(others, own), |session| self.in_front(session, now));
        self.signals.told.fetch_add(u64::try_from(told).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.signals.shed(passed_over);
        self.cell.signal(own);
    }
}

/// One of each in turn, and then the rest of the longer.
fn in_turn<'a, T>(one: &'a [T], other: &'a [T]) -> impl Iterator<Item = &'a T> {
    (0..one.len().max(other.len())).flat_map(move |at| [one.get(at), other.get(at)].into_iter().flatten())
}

/// Tells the sessions here that somebody looks at. Gives how many frames they took, and how many who type were passed over because a round has no
/// more.
fn show<'a>(hub: &Hub, heard: impl Iterator<Item = &'a Heard>, in_front: impl Fn(&Session) -> bool) -> (usize, usize) {
    let (mut room, mut passed_over) = (FRAMES, 0);
    for (Typing { room: place, user }, people) in heard {
        if room == 0 {
            passed_over += 1;
            continue;
        }
        let frame = outcomes::text(&ServerFrame::Typing { room: place.0, user: user.0 });
        let mut told = hub.signal(people, &frame, room, &in_front);
        if Bug::TypistHearsTyping.planted() {
            told += hub.signal(&[*user], &frame, room, |_| true);
        }
        room = room.saturating_sub(told);
    }
    (FRAMES - room, passed_over)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use ieum_core::ids::{DeviceId, RoomId};

    fn typing(user: u64) -> Typing {
        Typing { room: RoomId(1), user: UserId(user) }
    }

    #[test]
    fn the_oldest_is_lost_where_too_many_type() {
        let signals = Signals::default();
        for _ in 0..2 {
            (0..WAITING as u64).for_each(|user| signals.put(&[typing(user)], |waiting| &mut waiting.own));
        }
        assert_eq!(signals.shed.load(Ordering::Relaxed), 0, "each is there once");
        let more: Vec<Typing> = (0..10_000).map(|user| typing(1_000_000 + user)).collect();
        signals.put(&more, |waiting| &mut waiting.others);
        signals.put(&more[..3], |waiting| &mut waiting.own);
        let Waiting { own, others } = std::mem::take(&mut *signals.waiting.lock());
        for queue in [&own, &others] {
            assert_eq!((queue.order.len(), queue.known.len()), (WAITING, WAITING));
        }
        assert_eq!((own.order.front(), own.order.back()), (Some(&typing(3)), Some(&more[2])));
        assert!(others.order.iter().eq(&more[more.len() - WAITING..]));
        assert_eq!(signals.shed.load(Ordering::Relaxed), 3 + (10_000 - WAITING as u64));
    }

    /// Whatever there is of the one, the other has its turn.
    #[test]
    fn those_of_other_nodes_and_those_from_here_come_in_turn() {
        let all = |one: &[u64], other: &[u64]| in_turn(one, other).copied().collect::<Vec<_>>();
        assert_eq!(all(&[1, 2], &[10, 20, 30, 40]), [1, 10, 2, 20, 30, 40]);
        assert_eq!(all(&[1, 2, 3], &[10]), [1, 10, 2, 3]);
        assert_eq!((all(&[], &[10]), all(&[1], &[])), (vec![10], vec![1]));
    }

    #[test]
    fn a_round_has_a_thousand_frames_and_what_is_beyond_them_is_passed_over() {
        let (hub, options, now) = (Hub::new(), Options::default(), Instant::now());
        let places: Vec<_> = (0..300)
            .map(|id| {
                let session = Session::new(UserId(id), DeviceId(id), hub.arrival(), &options, now);
                let place = hub.take(session, usize::MAX).unwrap();
                hub.enter(place.session());
                place
            })
            .collect();
        let people: Vec<UserId> = places.iter().map(|place| place.session().user).collect();
        let heard: Vec<Heard> = (1_000..1_010).map(|user| (typing(user), people.clone())).collect();
        // The fourth is told to some.
        assert_eq!(show(&hub, heard.iter(), |_| true), (1_000, 6));
        assert_eq!(show(&hub, heard[..2].iter(), |session| session.user.0 < 50), (100, 0));
    }
}
