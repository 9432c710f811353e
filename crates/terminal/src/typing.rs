//! Who is said to type: each once while it lasts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// For how long it is true when nothing more comes.
const SHOWN: Duration = Duration::from_millis(ieum_protocol::TYPING_SHOWN_MS);

/// What was said before a message may come so much behind it.
const LATE: Duration = Duration::from_secs(1);

/// Those who typed or wrote last.
#[derive(Debug, Default)]
pub(crate) struct Typists {
    last: HashMap<u64, Last>,
}

#[derive(Debug, Clone, Copy)]
enum Last {
    Typed(Instant),
    Wrote(Instant),
}

impl Typists {
    /// Somebody types; tells whether that is news.
    pub(crate) fn type_now(&mut self, user: u64, now: Instant) -> bool {
        match self.last.get(&user) {
            Some(Last::Wrote(at)) if now.saturating_duration_since(*at) < LATE => false,
            before => {
                let goes_on = matches!(before, Some(Last::Typed(at)) if now.saturating_duration_since(*at) < SHOWN);
                self.last.insert(user, Last::Typed(now));
                !goes_on
            }
        }
    }

    /// Somebody wrote a message.
    pub(crate) fn wrote(&mut self, user: u64, now: Instant) {
        if let Some(last) = self.last.get_mut(&user) {
            *last = Last::Wrote(now);
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
        let types = |typists: &mut Typists, ms| typists.type_now(1, after(ms));
        assert_eq!([0, 3_000, 7_000, 12_000].map(|ms| types(&mut typists, ms)), [true, false, false, true]);
        typists.wrote(1, after(13_000));
        assert_eq!([13_900, 14_000].map(|ms| types(&mut typists, ms)), [false, true]);
        assert!(typists.type_now(2, after(14_000)));
    }
}
