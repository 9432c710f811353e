//! How often it may be said that a person types: by a session, and by all sessions of the person.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ieum_core::ids::{RoomId, UserId};
use ieum_core::query::typing::Typing;
use ieum_planted::Bug;

/// In so many rooms at a time: a person types in one.
const ROOMS: usize = 4;

/// So many people may type at a time; more are passed over.
const PEOPLE: usize = 4_096;

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

/// Where people have told lately that they type, through whichever of their devices: one with many devices types no more than one with one.
#[derive(Debug, Default)]
pub(crate) struct Typists {
    lately: HashMap<UserId, Typed>,
    /// Those who have said nothing since `lately` was begun.
    before: HashMap<UserId, Typed>,
    since: Option<Instant>,
}

/// Whether it may be told that somebody types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admits {
    /// It may.
    Yes,
    /// The person has said so lately, there or in a few rooms.
    TooSoon,
    /// As many people type as can be remembered.
    TooMany,
}

impl Typists {
    /// Whether it may be told now: as a session may tell it, but of all the person's sessions.
    pub(crate) fn admits(&mut self, typing: Typing, every: Duration, now: Instant) -> Admits {
        let Typing { room, user } = typing;
        if Bug::TypingEachDevice.planted() {
            return Admits::Yes;
        }
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= every) {
            // Who was in `before` has said nothing for so long.
            self.before = std::mem::take(&mut self.lately);
            self.since = Some(now);
        }
        if self.lately.len() >= PEOPLE && !self.lately.contains_key(&user) {
            return Admits::TooMany;
        }
        let of_user = self.lately.entry(user).or_insert_with(|| self.before.remove(&user).unwrap_or_default());
        if of_user.admits(room, every, now) { Admits::Yes } else { Admits::TooSoon }
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

    #[test]
    fn a_person_types_as_often_as_one_device_and_never_more_people_than_are_remembered() {
        use Admits::{TooMany, TooSoon, Yes};
        let (every, start) = (Duration::from_secs(3), Instant::now());
        let mut typists = Typists::default();
        let mut admits = |user, room, ms| {
            let typing = Typing { room: RoomId(room), user: UserId(user) };
            let admits = typists.admits(typing, every, start + Duration::from_millis(ms));
            assert!(typists.lately.len() <= PEOPLE && typists.before.len() <= PEOPLE);
            admits
        };
        // Also over the moment in which it begins to forget: exactly as long as it says.
        assert_eq!([0, 2_900, 3_000].map(|ms| admits(1, 1, ms)), [Yes, TooSoon, Yes]);
        assert_eq!((admits(1, 2, 5_900), admits(1, 1, 5_999), admits(1, 1, 6_000)), (Yes, TooSoon, Yes));
        assert_eq!([2, 3, 4, 5].map(|room| admits(1, room, 6_001)), [TooSoon, Yes, Yes, TooSoon]);
        // One is known already.
        for user in 2..=PEOPLE as u64 {
            assert_eq!(admits(user, 1, 7_000), Yes);
        }
        assert_eq!((admits(0, 1, 7_001), admits(2, 2, 7_001), admits(2, 1, 7_001)), (TooMany, Yes, TooSoon));
        assert_eq!((admits(0, 1, 9_000), admits(2, 1, 9_001), admits(2, 1, 10_000)), (Yes, TooSoon, Yes));
    }
}
