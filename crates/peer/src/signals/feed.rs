//! What another node is told, as far as it takes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use ieum_core::ids::{NodeId, UserId};
use ieum_core::query::typing::Typing;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Signals;
use super::messages::{PEOPLE, Said, TYPING};

/// How often something is said at most.
const SAY_EVERY: Duration = Duration::from_millis(100);

/// A node that asked to be told.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) node: NodeId,
    /// Who types, as much as fits into a message.
    waiting: Mutex<VecDeque<Typing>>,
    something: Notify,
}

impl Subscriber {
    pub(super) fn wake(&self) {
        self.something.notify_one();
    }

    /// Adds somebody who types; the oldest is lost where too many wait.
    pub(super) fn push(&self, typing: Typing) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= TYPING {
            waiting.pop_front();
        }
        waiting.push_back(typing);
        drop(waiting);
        self.wake();
    }
}

/// What one node is told, from the first word on.
pub(crate) struct Feed {
    signals: Arc<Signals>,
    /// Who says it.
    own: NodeId,
    subscriber: Arc<Subscriber>,
    /// Who is here, as the other one was told it; nothing before the first word.
    told: Option<Arc<Vec<UserId>>>,
}

impl Feed {
    /// What `node` is told by `own` from now on.
    pub(crate) fn new(signals: &Arc<Signals>, own: NodeId, node: NodeId) -> Self {
        let subscriber = Arc::new(Subscriber { node, waiting: Mutex::default(), something: Notify::new() });
        signals.subscribers.lock().push(Arc::downgrade(&subscriber));
        subscriber.wake();
        Self { signals: Arc::clone(signals), own, subscriber, told: None }
    }

    /// What is said, when there is something and the other one takes it.
    pub(crate) fn stream(self) -> impl Stream<Item = Said> + Send {
        stream::unfold(self, |mut feed| async {
            loop {
                feed.subscriber.something.notified().await;
                tokio::time::sleep(SAY_EVERY).await;
                if let Some(said) = feed.next() {
                    return Some((said, feed));
                }
            }
        })
    }

    /// What is new, as much of it as fits into a message.
    pub(super) fn next(&mut self) -> Option<Said> {
        let typing: Vec<Typing> = std::mem::take(&mut *self.subscriber.waiting.lock()).into();
        if !self.signals.is_member(self.subscriber.node) {
            // It may become one.
            self.told = None;
            return None;
        }
        let (here, all) = (self.signals.here(), self.told.is_none());
        let told = self.told.take().unwrap_or_default();
        let Changes { came, went, told } = changes(&told, here);
        if !Arc::ptr_eq(&told, &self.signals.here()) {
            self.subscriber.wake();
        }
        self.told = Some(told);
        let said = Said { node: self.own, all, came, went, typing };
        (all || !said.came.is_empty() || !said.went.is_empty() || !said.typing.is_empty()).then_some(said)
    }
}

/// What has changed, and what the other one knows when it was told.
struct Changes {
    came: Vec<UserId>,
    went: Vec<UserId>,
    told: Arc<Vec<UserId>>,
}

/// What the other one has to be told who knows `told`, as much as fits; both ascend.
fn changes(told: &Arc<Vec<UserId>>, here: Arc<Vec<UserId>>) -> Changes {
    let (mut came, mut went) = (Vec::new(), Vec::new());
    if Arc::ptr_eq(told, &here) {
        return Changes { came, went, told: here };
    }
    let (mut before, mut now) = (told.iter().copied().peekable(), here.iter().copied().peekable());
    let mut merged = Vec::new();
    let mut room = PEOPLE;
    while room > 0 {
        match (before.peek().copied(), now.peek().copied()) {
            (None, None) => return Changes { came, went, told: here },
            (Some(old), Some(new)) if old == new => {
                merged.push(old);
                before.next();
                now.next();
                continue;
            }
            (Some(old), new) if new.is_none_or(|new| old < new) => {
                went.push(old);
                before.next();
            }
            (_, Some(new)) => {
                came.push(new);
                merged.push(new);
                now.next();
            }
            // Covered by the second.
            (Some(_), None) => return Changes { came, went, told: here },
        }
        room -= 1;
    }
    // The rest is told next: until then the other one knows of it what it knew.
    merged.extend(before);
    Changes { came, went, told: Arc::new(merged) }
}
