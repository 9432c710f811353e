//! Cell time: what the nodes' clocks agree on.
//!
//! Every batch carries its node's clock. Cell time is the lower median of the latest clocks, one per data center, and never goes
//! back. A data center counts until some node elsewhere has logged [`SILENT_TICKS`] ticks since its last batch. With three data
//! centers one wrong clock cannot move cell time; with fewer it can.

use ieum_planted::Bug;

use crate::ids::{Millis, NodeId};
use crate::tables::cell::{Clock, Stamp};

/// After so many ticks of one node elsewhere, a silent data center no longer counts.
pub const SILENT_TICKS: u32 = 10;

/// Takes in the clock of a batch from `node` in `dc` that holds `ticks` ticks.
pub(crate) fn advance(clock: &mut Clock, node: NodeId, dc: &str, stamp: Millis, ticks: u32) {
    for other in clock.stamps.iter_mut().filter(|s| s.dc != dc) {
        match other.ticks.iter_mut().find(|(n, _)| *n == node) {
            Some((_, count)) => *count = count.saturating_add(ticks),
            None => other.ticks.push((node, ticks)),
        }
    }
    match clock.stamps.iter_mut().find(|s| s.dc == dc) {
        Some(own) => {
            own.clock = stamp;
            own.ticks.clear();
        }
        None => clock.stamps.push(Stamp { dc: dc.to_owned(), clock: stamp, ticks: Vec::new() }),
    }
    clock.stamps.retain(|s| s.ticks.iter().all(|(_, count)| *count < SILENT_TICKS));
    let mut clocks: Vec<Millis> = clock.stamps.iter().map(|s| s.clock).collect();
    clocks.sort_unstable();
    let highest = clocks.len().saturating_sub(1);
    let middle = if Bug::MedianIsMax.planted() { highest } else { highest / 2 };
    let median = clocks.get(middle).copied().unwrap_or_default();
    clock.now = clock.now.max(median);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Clock {
        Clock { now: 0, stamps: Vec::new() }
    }

    #[test]
    fn one_wrong_clock_of_three_cannot_move_it() {
        let mut clock = fresh();
        for (node, dc, stamp) in
            [(1, "a", 1_000), (2, "b", 1_010), (3, "c", 9_000_000), (1, "a", 2_000), (2, "b", 2_010)]
        {
            advance(&mut clock, node, dc, stamp, 0);
        }
        assert_eq!(clock.now, 2_010);
    }

    #[test]
    fn never_goes_back() {
        let mut clock = fresh();
        advance(&mut clock, 1, "a", 5_000, 1);
        advance(&mut clock, 1, "a", 1_000, 1);
        assert_eq!(clock.now, 5_000);
    }

    #[test]
    fn a_silent_data_center_counts_until_ten_ticks() {
        let mut clock = fresh();
        advance(&mut clock, 1, "a", 100, 0);
        advance(&mut clock, 2, "b", 90, 0);
        for second in 1..=9 {
            advance(&mut clock, 1, "a", 100 + second * 1_000, 1);
        }
        assert_eq!(clock.now, 100, "b still holds the lower median back");
        advance(&mut clock, 1, "a", 10_100, 1);
        assert_eq!(clock.now, 10_100);
    }
}
