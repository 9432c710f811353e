//! The wall clock, as a node stamps its batches with it.
//!
//! Where there are three data centers the others outvote a wrong clock. A node that is alone is not outvoted, and cell time never goes back, so
//! it asks its operator instead of believing a clock that jumped against the monotonic one, or that stands far past cell time at a start.
//! Until it is answered it goes on from where the clock was, by the monotonic clock: messages flow.

use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use ieum_core::ids::Millis;
use ieum_core::kv::{self, Direction, Read};
use ieum_core::tables::cell::{CLOCK, NODES, ONLY};
use ieum_planted::Bug;

/// What a jump is: more than this between two readings, against the monotonic clock.
const MOST_JUMP: Millis = 60 * 1000;
/// How far past cell time the clock may stand at a start.
const MOST_AHEAD: Millis = 24 * 60 * 60 * 1000;

/// The machine's wall clock, milliseconds since 1970.
#[must_use]
pub fn wall() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// How far `wall` stands past the cell time of `view`, ms, if a node that is alone must ask before it stamps with it.
pub fn ahead(view: &impl Read, wall: Millis) -> kv::Result<Option<Millis>> {
    let Some(clock) = CLOCK.get(view, &ONLY)? else { return Ok(None) };
    let ahead = wall.saturating_sub(clock.now);
    Ok((ahead > MOST_AHEAD && alone(view)?).then_some(ahead))
}

/// Whether the cell has no more than one node.
pub fn alone(view: &impl Read) -> kv::Result<bool> {
    let mut nodes = 0;
    NODES.range(view, &0u32, &[0xff; 5], Direction::Forward, |_, _| {
        nodes += 1;
        if nodes > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(nodes <= 1)
}

/// A stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// What the batch carries.
    pub at: Millis,
    /// The clock jumped since the stamp before, so far, and is not believed from here on.
    pub jumped: Option<i64>,
}

/// The clock that a node stamps with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// The wall clock and the monotonic one when they last belonged together.
    wall: Millis,
    monotonic: Millis,
    /// How far the wall clock stands from where it should, ms, while it is not believed.
    jump: i64,
    accepted: bool,
}

impl Clock {
    /// Begins with a clock that is believed.
    #[must_use]
    pub fn new(wall: Millis, monotonic: Millis) -> Self {
        Self { wall, monotonic, jump: 0, accepted: false }
    }

    /// The stamp when the clocks stand at `wall` and `monotonic`; `alone` is asked when the clock jumped.
    pub fn stamp(&mut self, wall: Millis, monotonic: Millis, alone: impl FnOnce() -> bool) -> Stamp {
        let expected = self.wall.saturating_add(monotonic.saturating_sub(self.monotonic));
        let jump = i64::try_from(i128::from(wall) - i128::from(expected)).unwrap_or(i64::MAX);
        let believed = jump.unsigned_abs() <= MOST_JUMP || self.accepted || Bug::ClockJumpTaken.planted() || !alone();
        if believed {
            *self = Self::new(wall, monotonic);
            return Stamp { at: wall, jumped: None };
        }
        let first = self.jump == 0;
        self.jump = jump;
        Stamp { at: expected, jumped: first.then_some(jump) }
    }

    /// How far the clock jumped, ms, while it is not believed; 0 when all is well.
    #[must_use]
    pub fn jump(&self) -> i64 {
        self.jump
    }

    /// The operator says that the clock is right as it is.
    pub fn accept(&mut self) {
        self.accepted = self.jump != 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ieum_core::testing::{Cell, DAY, START};

    const MINUTE: Millis = 60_000;

    #[test]
    fn a_clock_that_goes_with_the_monotonic_one_is_followed() {
        let mut clock = Clock::new(1_000_000, 0);
        let mut wall = 1_000_000;
        for second in 1..1_000 {
            // A whole minute off each time is no jump yet, forward and back.
            wall = if second % 2 == 0 { wall + 1_000 + MINUTE } else { wall + 1_000 - MINUTE };
            assert_eq!(clock.stamp(wall, second * 1_000, || true), Stamp { at: wall, jumped: None });
        }
    }

    #[test]
    fn a_jump_is_not_believed_until_the_operator_says_so() {
        for jump in [MINUTE as i64 + 1, -(MINUTE as i64) - 1, 50 * 365 * DAY as i64] {
            let start: Millis = 60 * 365 * DAY;
            let mut clock = Clock::new(start, 7);
            let jumped = |second: u64| (start + second * 1_000).checked_add_signed(jump).unwrap();
            let first = clock.stamp(jumped(1), 1_007, || true);
            assert_eq!(first, Stamp { at: start + 1_000, jumped: Some(jump) });
            let second = clock.stamp(jumped(2), 2_007, || true);
            assert_eq!(second, Stamp { at: start + 2_000, jumped: None }, "told once, and time goes on");
            assert_eq!(clock.jump(), jump);
            clock.accept();
            assert_eq!(clock.stamp(jumped(3), 3_007, || true).at, jumped(3));
            assert_eq!(clock.jump(), 0);
            let back = clock.stamp(start + 4_000, 4_007, || true);
            assert_eq!(back.jumped, Some(-jump), "said of one jump, not of the next");
        }
    }

    #[test]
    fn a_clock_that_comes_back_by_itself_is_believed_again() {
        let mut clock = Clock::new(1_000_000, 0);
        assert!(clock.stamp(9_000_000, 1_000, || true).jumped.is_some());
        assert_eq!(clock.stamp(1_002_000, 2_000, || true), Stamp { at: 1_002_000, jumped: None });
        assert_eq!(clock.jump(), 0);
    }

    #[test]
    fn a_node_that_is_not_alone_is_outvoted_and_need_not_ask() {
        let mut clock = Clock::new(1_000_000, 0);
        assert_eq!(clock.stamp(9_000_000, 1_000, || false), Stamp { at: 9_000_000, jumped: None });
    }

    #[test]
    fn a_start_over_a_day_past_cell_time_asks() {
        let mut cell = Cell::empty();
        assert_eq!(ahead(&cell.view, u64::MAX).unwrap(), None, "a new cell has no time yet");
        cell.node(ieum_core::testing::first_node()).unwrap();
        for (wall, asks) in [(0, None), (START + DAY, None), (START + DAY + 1, Some(DAY + 1))] {
            assert_eq!(ahead(&cell.view, wall).unwrap(), asks);
        }
        let second = ieum_core::commands::operate::AddNode { node: 2, ..ieum_core::testing::first_node() };
        cell.node(second).unwrap();
        assert_eq!(ahead(&cell.view, u64::MAX).unwrap(), None, "not alone");
    }
}
