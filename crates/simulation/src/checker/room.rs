//! The room of the shared log, from `docs/decisions/cell-of-nodes.md`: from half of it on each node takes so many bytes a second from clients that
//! the rest would last it for five minutes. So what is left gets less ever more slowly, and is never used up.

use ieum_log::Room;

use crate::failure::{Check, holds};
use crate::wan::Way;
use crate::world::World;

/// For so long the rest lasts one node.
const LASTS: f64 = 300_000.0;
/// Each node has asked a member of the log within this time how much is in use, which it does every second.
const KNOWN_WITHIN: u64 = 2_000;
/// The most that one command takes, and what a batch takes beside commands, with a tick, which is always taken.
const COMMAND: u64 = 32 * 1024;
const BATCH: u64 = 1024;

/// Since when more than half is used and nothing keeps the nodes from knowing it.
#[derive(Debug)]
pub(crate) struct Shrinks {
    since: u64,
    from: Option<From>,
}

/// What was when all of them knew.
#[derive(Debug)]
struct From {
    at: u64,
    left: u64,
    /// Bytes that had been asked for and were not answered: a node may have taken them.
    asked: u64,
    batches: u64,
    lives: u64,
}

impl World {
    /// What is left of the log's room lasts as long as it must.
    pub(super) fn room_lasts(&mut self) -> Check {
        let Some(Room { used, most }) = self.log.room() else { return Ok(()) };
        let (now, left) = (self.now(), most.saturating_sub(used));
        if used * 2 < most || !self.all_ask_how_much_is_used() {
            self.shortage.shrinks = None;
            return Ok(());
        }
        let (batches, lives) = (self.log.last(), self.lives);
        let Shrinks { since, from } = self.shortage.shrinks.get_or_insert(Shrinks { since: now, from: None });
        if now < *since + KNOWN_WITHIN {
            return Ok(());
        }
        let asked = || self.history.unanswered();
        let from = from.get_or_insert_with(|| From { at: now, left, asked: asked(), batches, lives });
        let nodes = self.hosts.len() as u64;
        let passed = (now - from.at) as f64;
        let lasts = (from.left as f64 * (-passed * nodes as f64 / LASTS).exp()) as u64;
        // What was asked may have been taken by two nodes, and each life of one may take one command more than its part.
        let flies =
            from.asked * 2 + (nodes + lives - from.lives) * COMMAND + batches.saturating_sub(from.batches) * BATCH;
        holds(left + flies >= lasts, || {
            format!("the log has room for {left} bytes, and {passed} ms ago, when all nodes knew, for {}", from.left)
        })
    }

    /// Whether nothing keeps a node from learning how much is in use.
    fn all_ask_how_much_is_used(&self) -> bool {
        let runs = self.hosts.iter().filter(|host| host.node.is_some());
        let asks = |index: usize, frozen: u64| frozen <= self.now() && self.way_to_log(index) == Way::Answered;
        runs.into_iter().all(|host| asks(host.index, host.frozen_until)) && !self.lost
    }
}
