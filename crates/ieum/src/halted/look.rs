//! How a node looks at etcd and hears the others at once, and what it says how often. What follows is `ieum_node::halt::decide`.

use std::time::{Duration, Instant};

use ieum_node::peers::Report;
use ieum_planted::Bug;

/// Looks at etcd while the others are heard, and once more where what was seen does not fit what was heard: others may have appended
/// between the two, and what was heard before a look has to be in what is seen.
pub(super) async fn look_and_hear<T>(
    looking: impl Future<Output = T>,
    hearing: impl Future<Output = Vec<Report>>,
    fits: impl Fn(&T, &[Report]) -> bool,
    looking_again: impl Future<Output = T>,
) -> (T, Vec<Report>) {
    let (seen, heard) = tokio::join!(looking, hearing);
    if fits(&seen, &heard) || Bug::LooksBeforeItHears.planted() {
        return (seen, heard);
    }
    (looking_again.await, heard)
}

/// What was said already, so that what lasts is said again only now and then.
#[derive(Debug)]
pub(super) struct Told<T> {
    said: Option<(T, Instant)>,
    again: Duration,
}

impl<T: PartialEq> Told<T> {
    /// Nothing yet; the same is due again after so long.
    pub(super) fn every(again: Duration) -> Self {
        Self { said: None, again }
    }

    /// Whether this is to be said `now`; then it was.
    pub(super) fn is_due(&mut self, what: T, now: Instant) -> bool {
        let same = |(said, at): &(T, Instant)| *said == what && now.saturating_duration_since(*at) < self.again;
        let due = !self.said.as_ref().is_some_and(same);
        if due {
            self.said = Some((what, now));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ieum_core::ids::Position;
    use ieum_node::halt::decide::{others_verdict, says, verdict};
    use ieum_node::halt::{Shared, Verdict};
    use std::cell::Cell;

    const DIGEST: [u8; 32] = [3; 32];

    fn log(ordinal: u64) -> Shared {
        Shared { predecessor: None, last: Position::new(4, ordinal) }
    }

    fn ahead() -> Report {
        says(2, "x".to_owned(), (1, 2), Position::new(4, 41), Vec::new())
    }

    /// Others append all the time: what they say last is not in what was looked at first.
    #[tokio::test]
    async fn a_log_that_others_go_on_with_is_not_taken_for_one_that_lost_its_end() {
        let end = Cell::new(40);
        let look = || async { log(end.get()) };
        let hear = async {
            end.set(41);
            vec![ahead()]
        };
        let fits = |seen: &Shared, heard: &[Report]| others_verdict(Some(seen), heard) == Verdict::GoesOn;
        let (seen, heard) = look_and_hear(look(), hear, fits, look()).await;
        assert_eq!(verdict(Some(&seen), Position::new(4, 40), &DIGEST, &heard), Verdict::GoesOn);
        // One that has lost its end is no longer when it is looked again.
        let short = || async { log(40) };
        let (seen, heard) = look_and_hear(short(), async { vec![ahead()] }, fits, short()).await;
        assert_eq!(verdict(Some(&seen), Position::new(4, 40), &DIGEST, &heard), Verdict::CutOff);
    }

    #[test]
    fn what_lasts_is_said_at_once_and_then_now_and_then() {
        let (mut told, began) = (Told::every(Duration::from_secs(60)), Instant::now());
        let mut said = |what, seconds| told.is_due(what, began + Duration::from_secs(seconds));
        assert!(said("a", 0) && !said("a", 1) && !said("a", 59));
        assert!(said("a", 60) && !said("a", 119) && said("a", 120));
        assert!(said("b", 121) && !said("b", 122) && said("a", 123));
    }
}
