//! Whether a tail hangs: it has not shown what is known to be in the log.

use std::time::Duration;

/// How long a tail may leave out what is in the log before another member is asked.
const MOST: Duration = Duration::from_millis(500);

/// How far a tail is behind, and since when it has not moved. Times are since an arbitrary start.
#[derive(Debug)]
pub(crate) struct Lag {
    shown: u64,
    known: u64,
    since: Duration,
}

impl Lag {
    pub(crate) fn new(shown: u64, now: Duration) -> Self {
        Self { shown, known: shown, since: now }
    }

    /// The tail has got so far.
    pub(crate) fn shown(&mut self, ordinal: u64, now: Duration) {
        if ordinal > self.shown {
            (self.shown, self.since) = (ordinal, now);
        }
    }

    /// An append was acknowledged with this ordinal.
    pub(crate) fn known(&mut self, ordinal: u64, now: Duration) {
        if self.known <= self.shown && ordinal > self.shown {
            self.since = now;
        }
        self.known = self.known.max(ordinal);
    }

    /// When it counts as hanging, unless it moves before; none when it is not behind.
    pub(crate) fn hangs_at(&self) -> Option<Duration> {
        (self.known > self.shown).then(|| self.since + MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_hangs_half_a_second_after_what_it_has_not_shown() {
        let mut lag = Lag::new(7, ms(0));
        assert_eq!(lag.hangs_at(), None);
        lag.known(8, ms(1000));
        lag.known(9, ms(1300));
        assert_eq!(lag.hangs_at(), Some(ms(1500)));
        lag.shown(8, ms(1400));
        assert_eq!(lag.hangs_at(), Some(ms(1900)), "it moves");
        lag.shown(9, ms(1450));
        assert_eq!(lag.hangs_at(), None);
        lag.known(9, ms(1500));
        assert_eq!(lag.hangs_at(), None);
    }

    #[test]
    fn a_tail_that_is_ahead_of_acknowledgements_is_not_behind() {
        let mut lag = Lag::new(0, ms(0));
        lag.shown(5, ms(10));
        lag.known(5, ms(20));
        assert_eq!(lag.hangs_at(), None);
        lag.known(6, ms(30));
        assert_eq!(lag.hangs_at(), Some(ms(530)));
    }
}
