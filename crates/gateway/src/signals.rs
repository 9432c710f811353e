//! Who types: told to those who are in the room now and look at their screen, within a moment or not at all.
//!
//! ```text
//!  typing frame ─► own ───┐ every 100 ms, while the node is calm:          ┌─► sessions here
//!                         ├─► who may hear it, as the view says ───────────┤
//!  other nodes ─► others ─┘                                     own alone  └─► Cell::signal: other nodes
//! ```
//!
//! Nothing here waits for anything that messages need, and nothing of messages waits for it: both queues are bounded and lose their oldest, the
//! view is read on a thread of its own, and a session whose queue has something in it already gets none. See `docs/decisions/signals.md`.

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
use crate::map::outcomes;
use crate::session::Session;

/// How long it waits for others that type, so that they are looked up together.
const ROUND: Duration = Duration::from_millis(100);
/// How many wait for a round at most, from here and from other nodes each.
const WAITING: usize = 1_024;
/// How many frames a round puts into sessions' queues at most.
const FRAMES: usize = 1_000;
/// How many threads reading the view for it takes.
pub(crate) const THREADS: usize = 1;

/// Who types, on the way to those who may hear it.
#[derive(Debug, Default)]
pub(crate) struct Signals {
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

impl<C: Cell> Gateway<C> {
    /// A session says that its person types. Never waits.
    pub(crate) fn typed(&self, typing: Typing) {
        self.signals.put(&[typing], |waiting| &mut waiting.own);
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
        session.silence(now) < self.options.in_front
    }

    /// Tells who types, until it is dropped.
    pub(crate) async fn tell_signals(self: Arc<Self>) {
        loop {
            self.signals.something.notified().await;
            tokio::time::sleep(ROUND).await;
            let Waiting { own, others } = std::mem::take(&mut *self.signals.waiting.lock());
            // What is late is worth nothing, and a view that is old may show people in rooms that they are no longer in.
            if self.stale() || !self.cell.is_calm() {
                self.signals.shed(own.order.len() + others.order.len());
                continue;
            }
            let gateway = Arc::clone(&self);
            let read = tokio::task::spawn_blocking(move || {
                let view = gateway.cell.view();
                let heard = |queue: Latest| -> kv::Result<Vec<Heard>> {
                    let known = queue.order.into_iter().map(|typing| Ok((typing, typing::hearers(&view, typing)?)));
                    known.filter(|heard| heard.as_ref().map_or(true, |(_, people)| !people.is_empty())).collect()
                };
                Ok::<_, kv::Error>((heard(own)?, heard(others)?))
            });
            match read.await {
                Ok(Ok((own, others))) => {
                    self.show(own.iter().chain(&others));
                    self.cell.signal(&own);
                }
                Ok(Err(error)) => tracing::warn!(error = &error as &dyn std::error::Error, "nobody is told who types"),
                // The runtime ends.
                Err(_) => return,
            }
        }
    }

    /// Tells the sessions here.
    fn show<'a>(&self, heard: impl Iterator<Item = &'a Heard>) {
        let (now, mut room) = (Instant::now(), FRAMES);
        for (Typing { room: place, user }, people) in heard {
            if room == 0 {
                self.signals.shed(1);
                continue;
            }
            let frame = outcomes::text(&ServerFrame::Typing { room: place.0, user: user.0 });
            let mut told = self.hub.signal(people, &frame, room, |session| self.in_front(session, now));
            if Bug::TypistHearsTyping.planted() {
                told += self.hub.signal(&[*user], &frame, room, |_| true);
            }
            room = room.saturating_sub(told);
            self.signals.told.fetch_add(u64::try_from(told).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ieum_core::ids::RoomId;

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
}
