//! How often a session may tell that its person types.

use std::time::{Duration, Instant};

use ieum_core::ids::RoomId;
use ieum_planted::Bug;

/// In so many rooms at a time: a person types in one.
const ROOMS: usize = 4;

/// Where a session has told lately that its person types.
#[derive(Debug, Default)]
pub(super) struct Typed {
    rooms: Vec<(RoomId, Instant)>,
}

impl Typed {
    /// Whether it may tell it of `room` now: not again before `every` is over, and not of more than a few rooms meanwhile.
    pub(super) fn admits(&mut self, room: RoomId, every: Duration, now: Instant) -> bool {
        self.rooms.retain(|(_, at)| now.saturating_duration_since(*at) < every);
        if (self.rooms.len() >= ROOMS || self.rooms.iter().any(|(of, _)| *of == room))
            && !Bug::TypingUnlimited.planted()
        {
            return false;
        }
        self.rooms.push((room, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_in_a_while_in_each_of_a_few_rooms() {
        let (every, start) = (Duration::from_secs(3), Instant::now());
        let mut typed = Typed::default();
        let mut admits = |room, ms| typed.admits(RoomId(room), every, start + Duration::from_millis(ms));
        assert_eq!([0, 1, 2_999, 3_000, 3_001].map(|ms| admits(1, ms)), [true, false, false, true, false]);
        assert_eq!([2, 3, 4, 5, 6].map(|room| admits(room, 4_000)), [true, true, true, false, false]);
        assert_eq!((admits(5, 5_999), admits(5, 6_000), admits(1, 6_001)), (false, true, false));
    }
}
