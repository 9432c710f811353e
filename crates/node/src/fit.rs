//! Whether a view fits the log that a node finds, and what makes a view of the end of one generation one of the beginning of the next.

use std::ops::ControlFlow;

use ieum_core::apply::{self, position_alone};
use ieum_core::codec::Code;
use ieum_core::ids::Position;
use ieum_core::kv::{self, Kv, WriteSet};
use ieum_core::tables::cell::{Applied, COUNTERS, Counters, ENDS, End, FORMER, NODES, Node, ONLY};
use ieum_planted::Bug;

use crate::core_position;
use crate::extent::Extent;
use crate::folder::Error;

/// Whether a view and a log belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// A node goes on from the view.
    Fits,
    /// It does not, for this reason.
    Not(String),
}

/// Whether a node may go on from `view` with `log`. A view that stands exactly where the log's generation began is taken over into it.
///
/// # Errors
/// [`Error::LogBehind`]; when the view cannot be written.
pub fn fit(view: &impl Kv, log: &Extent) -> Result<Fit, Error> {
    let applied = match apply::applied(&view.snapshot()) {
        Ok(applied) => applied,
        Err(error) => return Ok(Fit::Not(error.to_string())),
    };
    let at = applied.position;
    // Also one of a later generation: its log was there once.
    if at > log.last {
        return Err(Error::LogBehind { last: log.last, what: "the view", applied: at, is_copy: log.is_copy });
    }
    if at.generation == log.last.generation {
        let behind = at < log.trimmed && !Bug::ViewBehindTrimTrusted.planted();
        return Ok(if behind {
            Fit::Not(format!("it stands at {at}, the log begins after {}", log.trimmed))
        } else {
            Fit::Fits
        });
    }
    match log.meta.predecessor {
        Some(before)
            if core_position(before.end) == at && before.digest == applied.digest && log.trimmed.ordinal == 0 =>
        {
            take_over(view, &applied, log.last.generation)?;
            Ok(Fit::Fits)
        }
        _ => Ok(Fit::Not(format!("it stands at {at}, the log is of generation {}", log.last.generation))),
    }
}

/// How many ids of each kind a new generation leaves out. What the lost end of the one before had given away is never given to anything
/// else: people still hold tokens of its devices, and offer commands again that name its rooms. A count has 40 bits, room for 65,000
/// restores.
const IDS_LEFT_OUT: u64 = 1 << 24;

/// Moves a view to the beginning of the next generation and records how the one before ended. The same on every node that starts from
/// the same view.
fn take_over(view: &impl Kv, ended: &Applied, generation: u32) -> Result<(), Error> {
    let mut writes: WriteSet =
        position_alone(&Applied { position: Position::new(generation, 0), digest: ended.digest });
    let end = End { position: ended.position, digest: ended.digest };
    writes.rows.insert(ENDS.key(&ended.position.generation), Some(end.to_bytes().into()));
    // A node's batches are remembered within a generation: what was lost with the old log may be offered again.
    let look = view.snapshot();
    NODES.range(&look, &0u32, &[0xff; 5], kv::Direction::Forward, |id, node| {
        let node = Node { incarnation: 0, number: 0, ..node };
        if !Bug::LivesCarriedOver.planted() {
            writes.rows.insert(NODES.key(&id), Some(node.to_bytes().into()));
        }
        ControlFlow::Continue(())
    })?;
    FORMER.range(&look, &0u32, &[0xff; 5], kv::Direction::Forward, |id, _| {
        writes.rows.insert(FORMER.key(&id), None);
        ControlFlow::Continue(())
    })?;
    if let Some(counters) = COUNTERS.get(&look, &ONLY)?
        && !Bug::RestoreReusesIds.planted()
    {
        let beyond = |count: u64| count.saturating_add(IDS_LEFT_OUT);
        let Counters { users, devices, rooms } = counters;
        let counters = Counters { users: beyond(users), devices: beyond(devices), rooms: beyond(rooms) };
        writes.rows.insert(COUNTERS.key(&ONLY), Some(counters.to_bytes().into()));
    }
    view.commit(&writes)?;
    view.persist()?;
    Ok(())
}
