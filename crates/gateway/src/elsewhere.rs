//! Where clients go that this node cannot serve, and how they hear of it.
//!
//! A client is told with its welcome, and with the pong to its next ping when the endpoints are others than it was told: so a change costs
//! no session a frame of its own to wake up for, however many there are, and the telling is spread over a second by itself.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::ServerFrame;
use parking_lot::RwLock;

use crate::Gateway;
use crate::cell::Cell;
use crate::map::outcomes;

/// Where other nodes take clients just now.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    /// Goes up with each change.
    version: AtomicU64,
    list: RwLock<Vec<String>>,
    /// Tells the change, encoded once for all.
    frame: RwLock<Bytes>,
}

impl<C: Cell> Gateway<C> {
    /// Other nodes take clients at `endpoints` from now on.
    pub fn set_elsewhere(&self, endpoints: Vec<String>) {
        let Elsewhere { version, list, frame } = &self.elsewhere;
        if *list.read() == endpoints {
            return;
        }
        *list.write() = endpoints;
        *frame.write() = outcomes::text(&ServerFrame::Endpoints { list: self.endpoints() });
        version.fetch_add(1, Ordering::Release);
    }

    /// Where other nodes take clients just now.
    #[must_use]
    pub fn others(&self) -> Vec<String> {
        self.elsewhere.list.read().clone()
    }

    /// Which change of the endpoints was the last.
    pub(crate) fn endpoints_version(&self) -> u64 {
        self.elsewhere.version.load(Ordering::Acquire)
    }

    /// The frame that tells the endpoints, if they are others than at the change `told`, which becomes the last.
    pub(crate) fn news_of_endpoints(&self, told: &mut u64) -> Option<Bytes> {
        let version = self.endpoints_version();
        (std::mem::replace(told, version) != version).then(|| self.elsewhere.frame.read().clone())
    }

    /// The cell's servers: this one and those that take clients just now.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let mut endpoints = self.options.endpoints.clone();
        let elsewhere = self.elsewhere.list.read();
        endpoints.extend(elsewhere.iter().filter(|endpoint| !self.options.endpoints.contains(endpoint)).cloned());
        endpoints
    }

    /// The problem as a client is told it: where another server may do better it names them.
    pub(crate) fn told(&self, mut problem: Problem) -> Problem {
        if !problem.endpoints.is_empty() || !problem.known().is_some_and(Code::points_elsewhere) {
            return problem;
        }
        problem.endpoints = self.others();
        if problem.endpoints.is_empty() {
            problem.endpoints.clone_from(&self.options.endpoints);
        } else if problem.known() == Some(Code::ShuttingDown) {
            // They are sent away one after the other, so each may go at once.
            problem.retry_after_ms = Some(0);
        }
        problem
    }
}
