//! What may be asked of a running node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ieum_core::batch::Envelope;
use ieum_core::ids::Position;
use ieum_core::kv::Kv;
use ieum_log::Room;
use ieum_planted::Bug;

use super::{Shared, Ticket};
use crate::alarms::Alarms;
use crate::batcher::Refusal;
use crate::reserve::Reserve;

/// A running node, for those who use it. Cheap to clone.
pub struct Handle<K, T> {
    pub(super) shared: Arc<Shared<K, T>>,
}

impl<K, T> Clone for Handle<K, T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K: Kv, T: Send + 'static> Handle<K, T> {
    /// Takes a command. Its outcome comes to the [`super::Deliver`] with `ticket`; a refusal gives the ticket back. A disk that is almost full
    /// refuses as a queue does that is.
    pub fn submit(&self, envelope: &Envelope, ticket: T) -> Result<(), (Refusal, T)> {
        if self.shared.reserve.is_short() {
            return Err((Refusal::Full, ticket));
        }
        let now = self.shared.now();
        let pushed = self.shared.batcher.lock().push(envelope, Ticket::Client(ticket), now);
        match pushed {
            Ok(()) => {
                self.shared.ready_to_append.notify_one();
                Ok(())
            }
            Err((refusal, Ticket::Client(ticket))) => Err((refusal, ticket)),
            Err((_, Ticket::Own)) => Ok(()),
        }
    }

    /// A consistent look at the view.
    #[must_use]
    pub fn view(&self) -> K::Snapshot {
        self.shared.view.snapshot()
    }

    /// The view's engine.
    #[must_use]
    pub fn kv(&self) -> &Arc<K> {
        &self.shared.view
    }

    /// Where the view stands.
    #[must_use]
    pub fn applied(&self) -> Position {
        *self.shared.applied.borrow()
    }

    /// Waits until the view stands at `position` or beyond.
    pub async fn reach(&self, position: Position) {
        let mut applied = self.shared.applied.subscribe();
        // The sender lives as long as this handle.
        let _ = applied.wait_for(|at| *at >= position).await;
    }

    /// Waits until the node's first commands were applied: from then on its access tokens are good.
    pub async fn begun(&self) {
        let mut applied = self.shared.applied.subscribe();
        while !self.shared.batcher.lock().begun() {
            // The sender lives as long as this handle.
            let _ = applied.changed().await;
        }
    }

    /// For how long the oldest command has been waiting for its outcome.
    #[must_use]
    pub fn waiting(&self) -> Duration {
        let oldest = self.shared.batcher.lock().oldest();
        oldest.map_or(Duration::ZERO, |since| Duration::from_millis(self.shared.now().saturating_sub(since)))
    }

    /// How long ago the view had, as is proven, all that was acknowledged, through whichever node. It is the age of the node's own last tick that came back, so
    /// it is right in the first moment after the process was frozen, and nothing but memory is asked.
    #[must_use]
    pub fn proven(&self) -> Duration {
        let proven = self.shared.batcher.lock().proven();
        let now = if Bug::ProofNeverAges.planted() { proven } else { self.shared.now() };
        Duration::from_millis(now.saturating_sub(proven))
    }

    /// How far the wall clock jumped, ms, while it is not followed; 0 when all is well.
    #[must_use]
    pub fn clock_jump(&self) -> i64 {
        self.shared.clock.lock().jump()
    }

    /// The operator says that the clock is right as it is.
    pub fn accept_clock(&self) {
        self.shared.clock.lock().accept();
    }

    /// The digests of the view that other nodes compare theirs with, and where the first of them was, if this life began there.
    #[must_use]
    pub fn checkpoints(&self) -> (Vec<(Position, [u8; 32])>, Option<Position>) {
        let checkpoints = self.shared.checkpoints.lock();
        (checkpoints.latest(), checkpoints.began())
    }

    /// Whether the node has failed because the log has gone on without it and forgotten what it needs to know: it may begin again, and the
    /// other nodes have it.
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        self.shared.overtaken.load(Ordering::SeqCst)
    }

    /// Stops the node, which says why.
    pub fn fail(&self, reason: String) {
        self.shared.fail(reason);
    }

    /// Why the node cannot go on, if it cannot.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.fatal.borrow().clone()
    }

    /// Waits until the node cannot go on, and says why.
    pub async fn failed(&self) -> String {
        let mut fatal = self.shared.fatal.subscribe();
        match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Whether commands are taken more slowly than they may come, because the log's room runs out.
    #[must_use]
    pub fn is_slowed(&self) -> bool {
        self.shared.batcher.lock().is_slowed()
    }

    /// Whether so little waits that there is room for what is shed first.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.shared.batcher.lock().is_calm()
    }

    /// The log's room as of the last look, if it tells of one.
    #[must_use]
    pub fn room(&self) -> Option<Room> {
        self.shared.batcher.lock().room()
    }

    /// Room on the disk.
    #[must_use]
    pub fn reserve(&self) -> &Reserve {
        &self.shared.reserve
    }

    /// What an operator must hear of.
    #[must_use]
    pub fn alarms(&self) -> Alarms {
        *self.shared.alarms.lock()
    }
}
