//! One live connection of a device.
//!
//! [`Opening`] and [`Live`] are the logic, handed time and frames; `run` moves their frames through a socket.

mod catch_up;
pub mod hello;
mod intake;
mod live;
mod opening;
mod queue;
mod run;
mod typed;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ieum_core::ids::{DeviceId, Position, UserId};
use ieum_core::kv;
use ieum_planted::Bug;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::ClientFrame;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::hub::Arrival;
use crate::options::Options;
pub use catch_up::Pages;
pub use live::Live;
pub use opening::{Opening, Step};
use queue::{Item, Queue};
pub(crate) use run::serve;
pub(crate) use typed::{Admits, Typists};

/// The frame that a client's text is, or what is wrong with it.
pub fn parse(text: &str) -> Result<ClientFrame, Problem> {
    serde_json::from_str(text).map_err(|error| Code::BadFrame.problem().detail(error.to_string()))
}

fn failed(error: &kv::Error) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "reading the view for a session");
    Code::Internal.problem()
}

/// What the hub and the session's task share.
#[derive(Debug)]
pub struct Session {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    /// When its hello came.
    pub(crate) arrival: Arrival,
    queue: Mutex<Queue>,
    something: Notify,
    /// Commands submitted and not answered yet.
    in_flight: AtomicUsize,
    /// Its client is to go elsewhere once what it asked for is answered.
    leaving: AtomicBool,
    /// The lowest number that the cell refused since the session's task looked last.
    refused: AtomicU64,
    began: Instant,
    /// Milliseconds after `began` at which the client was heard last; while it is not listened to [`DEAF`] and for how many it had been
    /// silent before.
    heard: AtomicU64,
}

/// Marks that the client is not listened to.
const DEAF: u64 = 1 << 63;

impl Session {
    /// A session of `device` that begins now. Its client is not listened to yet.
    #[must_use]
    pub fn new(user: UserId, device: DeviceId, arrival: Arrival, options: &Options, now: Instant) -> Self {
        Self {
            user,
            device,
            arrival,
            queue: Mutex::new(Queue::new(options.queue_items, options.queue_bytes)),
            something: Notify::new(),
            in_flight: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            refused: AtomicU64::new(u64::MAX),
            began: now,
            heard: AtomicU64::new(DEAF),
        }
    }

    /// Puts an event into the queue; true when the session is to be woken once the batch is complete.
    pub(crate) fn tell(&self, position: Position, event: &Bytes) -> bool {
        self.queue.lock().push(position, Item::Event(event.clone()))
    }

    /// Puts a frame into the queue that may be lost; tells whether there was room.
    pub(crate) fn signal(&self, frame: &Bytes) -> bool {
        let (taken, wakes) = self.queue.lock().signal(frame.clone());
        if wakes {
            self.wake();
        }
        taken
    }

    /// Puts the answer to command `n` into the queue; true when the session is to be woken. A command whose number is still
    /// `unused` is expected again.
    pub(crate) fn answer(&self, n: u64, unused: bool, position: Position, frame: Bytes) -> bool {
        if unused {
            self.refused.fetch_min(n, Ordering::Relaxed);
        }
        let woken = self.queue.lock().push(position, Item::Answer(frame));
        // Behind that: a session that leaves has nothing under way and nothing that waits.
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        woken
    }

    /// Its client is to go elsewhere once what it asked for is answered.
    pub(crate) fn send_away(&self) {
        self.leaving.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether it is: no more is read of what the client sends.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Whether everything that the client asked for is answered, and that was sent.
    pub(crate) fn is_answered(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0 && self.queue.lock().is_empty()
    }

    /// The lowest number that the cell refused since this was asked last; the largest number there is if none.
    fn first_refused(&self) -> u64 {
        self.refused.swap(u64::MAX, Ordering::Relaxed)
    }

    /// Ends the session behind what it is told up to here; true when it is to be woken once the batch is complete.
    pub(crate) fn finish(&self, position: Position, code: Code) -> bool {
        self.queue.lock().finish(position, code, tokio::time::Instant::now())
    }

    /// Why the session is to end behind what it is told, and since when, if it is.
    pub(crate) fn finishing(&self) -> Option<(Code, tokio::time::Instant)> {
        self.queue.lock().finishing().filter(|_| !Bug::LoggedOutLingers.planted())
    }

    /// Why the session is over now, if it is: the cell makes no progress, or its client has been silent for too long.
    pub(crate) fn due(&self, stalled: bool, silence: Duration, now: Instant) -> Option<Code> {
        match (stalled, self.in_flight() > 0) {
            (true, true) => Some(Code::OutcomeUnknown),
            (true, false) if !Bug::StallNotTold.planted() => Some(Code::Unavailable),
            _ => (self.silence(now) >= silence).then_some(Code::Silent),
        }
    }

    /// Ends the session with a reason that its client is told.
    pub(crate) fn end(&self, code: Code) {
        self.queue.lock().end(code);
        self.wake();
    }

    /// Why the session is over, whatever it still has to send: for a client that is too slow it is not, it may take what it was told before.
    #[must_use]
    pub fn over(&self) -> Option<Code> {
        self.queue.lock().ended().filter(|code| *code != Code::SlowReader)
    }

    /// Tells the session's task that there is something in the queue.
    pub(crate) fn wake(&self) {
        self.something.notify_one();
    }

    /// Waits until there is something in the queue.
    pub async fn woken(&self) {
        self.something.notified().await;
    }

    /// How much waits to be sent: items and their bytes. For whoever checks that queues are bounded.
    #[must_use]
    pub fn waits(&self) -> (usize, usize) {
        self.queue.lock().load()
    }

    /// Commands submitted and not answered yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn heard(&self, now: Instant) {
        self.heard.store(self.lived(now), Ordering::Relaxed);
    }

    /// The client is read from here on.
    pub(crate) fn listen(&self, now: Instant) {
        self.heard.store(self.lived(now).saturating_sub(self.silent(now)), Ordering::Relaxed);
    }

    /// The client is not read from here on, so its silence says nothing.
    pub(crate) fn stop_listening(&self, now: Instant) {
        self.heard.store(DEAF | self.silent(now), Ordering::Relaxed);
    }

    /// For how long the client has been silent while it was listened to.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        Duration::from_millis(self.silent(now))
    }

    /// The same in milliseconds.
    fn silent(&self, now: Instant) -> u64 {
        let heard = self.heard.load(Ordering::Relaxed);
        if heard & DEAF > 0 { heard & !DEAF } else { self.lived(now).saturating_sub(heard) }
    }

    /// Milliseconds since it began.
    fn lived(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX) & !DEAF
    }

    #[cfg(test)]
    pub(crate) fn queue_is_empty(&self) -> bool {
        self.queue.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_is_listened_to_can_be_silent() {
        let (start, bound) = (Instant::now(), Duration::from_secs(120));
        let after = |seconds| start + Duration::from_secs(seconds);
        let arrival = crate::Hub::new().arrival();
        let session = Session::new(UserId(1), DeviceId(1), arrival, &Options::default(), start);
        // A long catch-up, before which nothing is read.
        assert_eq!(session.due(false, bound, after(500)), None);
        session.listen(after(500));
        assert_eq!(session.due(false, bound, after(619)), None);
        assert_eq!(session.due(false, bound, after(620)), Some(Code::Silent));
        session.heard(after(619));
        // A client that takes what it is sent slowly.
        session.stop_listening(after(700));
        assert_eq!(session.silence(after(900)), Duration::from_secs(81));
        session.listen(after(900));
        assert_eq!(session.silence(after(938)), Duration::from_secs(119));
        assert_eq!(session.due(false, bound, after(939)), Some(Code::Silent));
    }
}
