//! Who is said to type: each once while it lasts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// For how long it is true when nothing more comes.
const SHOWN: Duration = Duration::from_millis(ieum_protocol::TYPING_SHOWN_MS);

/// What was said before a message may come so much behind it.
const LATE: Duration = Duration::from_secs(1);

/// Of no more is it kept who typed or wrote last, and where.
const MOST: usize = 1_024;

/// Those who typed or wrote last in a room.
#[derive(Debug, Default)]
pub(crate) struct Typists {
    last: HashMap<(u64, u64), Last>,
}

#[derive(Debug, Clone, Copy)]
enum Last {
    Typed(Instant),
    Wrote(Instant),
}

impl Last {
    /// Whether it still matters.
    fn matters(self, now: Instant) -> bool {
        let (at, lasting) = match self {
            Self::Typed(at) => (at, SHOWN),
            Self::Wrote(at) => (at, LATE),
        };
        now.saturating_duration_since(at) < lasting
    }
}

impl Typists {
    /// Somebody types; tells whether that is news.
    pub(crate) fn type_now(&mut self, room: u64, user: u64, now: Instant) -> bool {
        match self.last.get(&(room, user)).filter(|last| last.matters(now)) {
            Some(Last::Wrote(_)) => false,
            before => {
                let goes_on = before.is_some();
                self.keep(room, user, Last::Typed(now), now);
                !goes_on
            }
        }
    }

    /// Somebody wrote a message, whether or not it was told that they type.
    pub(crate) fn wrote(&mut self, room: u64, user: u64, now: Instant) {
        self.keep(room, user, Last::Wrote(now), now);
    }

    /// Where too much would be kept, what does not matter any more goes. One that finds no room is not kept: at worst it is said too often who types.
    fn keep(&mut self, room: u64, user: u64, last: Last, now: Instant) {
        if self.last.len() >= MOST {
            self.last.retain(|_, last| last.matters(now));
        }
        if self.last.len() < MOST || self.last.contains_key(&(room, user)) {
            self.last.insert((room, user), last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_types_is_said_once_until_there_is_a_message_or_a_pause() {
        let (mut typists, start) = (Typists::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        let types = |typists: &mut Typists, ms| typists.type_now(7, 1, after(ms));
        assert_eq!([0, 3_000, 7_000, 12_000].map(|ms| types(&mut typists, ms)), [true, false, false, true]);
        typists.wrote(7, 1, after(13_000));
        assert_eq!([13_900, 14_000].map(|ms| types(&mut typists, ms)), [false, true]);
        assert!(typists.type_now(7, 2, after(14_000)) && typists.type_now(8, 1, after(14_000)));
    }

    #[test]
    fn who_wrote_typed_before_also_when_that_was_not_heard() {
        let (mut typists, start) = (Typists::default(), Instant::now());
        typists.wrote(7, 1, start);
        assert!(!typists.type_now(7, 1, start));
        assert!(typists.type_now(8, 1, start), "in another room they go on");
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let (mut typists, start) = (Typists::default(), Instant::now());
        for user in 0..5_000 {
            typists.wrote(7, user, start);
            assert!(typists.type_now(8, user, start));
            assert!(typists.last.len() <= MOST);
        }
        assert!(!typists.type_now(7, 0, start), "it is known of the first");
        typists.wrote(7, 9_999, start + SHOWN);
        assert_eq!(typists.last.len(), 1);
    }
}
