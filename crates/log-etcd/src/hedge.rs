//! When a request goes to which member: at once to the first, and again to another one when that is slow or fails.
//!
//! A request can hang although every member that is left works: a proposal that a member passed on to a leader that is dead is lost, and
//! the member does not tell. So it is made again at intervals, which is harmless because the transactions are made so that it is.

use std::time::Duration;

/// How many tries of one request may be under way.
const MOST_UNDER_WAY: usize = 8;

/// What to do now. Times are since an arbitrary start that the caller keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send it to this member.
    Send(usize),
    /// Nothing before this time, unless an answer comes or a member changes.
    Wait(Duration),
    /// The time is over.
    GiveUp,
}

/// One request's tries.
#[derive(Debug)]
pub(crate) struct Hedge {
    deadline: Duration,
    resend: Duration,
    tries: Vec<Tries>,
    sent: Option<Duration>,
    under_way: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    count: u32,
    last: Option<Duration>,
}

impl Hedge {
    /// A request that is begun `now`, sent again every `resend` and given up after `patience`.
    pub(crate) fn new(members: usize, now: Duration, resend: Duration, patience: Duration) -> Self {
        let tries = vec![Tries::default(); members];
        Self { deadline: now + patience, resend, tries, sent: None, under_way: 0 }
    }

    /// What to do, given the members that can be used, the best first. Having said `Send` it counts as sent.
    pub(crate) fn next(&mut self, now: Duration, usable: &[usize]) -> Next {
        if now >= self.deadline {
            return Next::GiveUp;
        }
        let mut wait = self.deadline;
        if self.under_way > 0 {
            let due = self.sent.unwrap_or(now) + self.resend;
            if now < due {
                return Next::Wait(due.min(wait));
            }
            if self.under_way >= MOST_UNDER_WAY {
                return Next::Wait(wait);
            }
        }
        let mut best: Option<(u32, usize)> = None;
        for &member in usable {
            let Some(tries) = self.tries.get(member) else { continue };
            match tries.last.map(|last| last + self.resend) {
                // One that just failed is not asked again at once.
                Some(due) if now < due => wait = wait.min(due),
                _ if best.is_none_or(|(count, _)| tries.count < count) => best = Some((tries.count, member)),
                _ => {}
            }
        }
        let Some((_, member)) = best else { return Next::Wait(wait) };
        if let Some(tries) = self.tries.get_mut(member) {
            *tries = Tries { count: tries.count + 1, last: Some(now) };
        }
        self.sent = Some(now);
        self.under_way += 1;
        Next::Send(member)
    }

    /// A try has failed, or took too long.
    pub(crate) fn failed(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Whether tries are under way, of which nobody knows what becomes of them.
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way > 0
    }
}

/// How long requests take, smoothed, to tell slow from usual.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    usual: Duration,
}

impl Pace {
    /// A healthy cell's slowest appends stay below this; a dead member should not cost more.
    const SHORTEST: Duration = Duration::from_millis(150);
    const LONGEST: Duration = Duration::from_secs(1);

    /// A request was answered after this long.
    pub(crate) fn took(&mut self, time: Duration) {
        self.usual = (self.usual * 15 + time.min(Self::LONGEST)) / 16;
    }

    /// After how long one counts as slow. An etcd that is slow because it has much to do is not given more to do.
    pub(crate) fn slow(&self) -> Duration {
        (self.usual * 4).clamp(Self::SHORTEST, Self::LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn hedge() -> Hedge {
        Hedge::new(3, ms(0), ms(100), ms(1000))
    }

    #[test]
    fn a_slow_member_is_left_waiting_and_the_others_are_asked_in_turn() {
        let mut hedge = hedge();
        let all = [1, 0, 2];
        assert_eq!(hedge.next(ms(0), &all), Next::Send(1));
        assert_eq!(hedge.next(ms(1), &all), Next::Wait(ms(100)));
        assert_eq!(hedge.next(ms(100), &all), Next::Send(0));
        assert_eq!(hedge.next(ms(150), &all), Next::Wait(ms(200)));
        assert_eq!(hedge.next(ms(210), &all), Next::Send(2));
        assert_eq!(hedge.next(ms(310), &all), Next::Send(1), "what was passed on to a dead leader is lost");
        assert_eq!(hedge.next(ms(1000), &all), Next::GiveUp);
    }

    #[test]
    fn a_member_that_fails_is_replaced_at_once_and_asked_again_later() {
        let mut hedge = hedge();
        let all = [0, 1];
        assert_eq!(hedge.next(ms(0), &all), Next::Send(0));
        hedge.failed();
        assert_eq!(hedge.next(ms(1), &all), Next::Send(1));
        hedge.failed();
        assert_eq!(hedge.next(ms(2), &all), Next::Wait(ms(100)));
        assert_eq!(hedge.next(ms(100), &all), Next::Send(0));
    }

    #[test]
    fn without_members_it_waits_and_takes_the_first_that_comes() {
        let mut hedge = hedge();
        assert_eq!(hedge.next(ms(0), &[]), Next::Wait(ms(1000)));
        assert_eq!(hedge.next(ms(70), &[2]), Next::Send(2));
        assert!(hedge.is_under_way());
        assert_eq!(hedge.next(ms(170), &[2]), Next::Send(2));
    }

    #[test]
    fn so_many_tries_and_no_more() {
        let mut hedge = Hedge::new(1, ms(0), ms(10), ms(1000));
        for round in 0..MOST_UNDER_WAY as u64 {
            assert_eq!(hedge.next(ms(round * 10), &[0]), Next::Send(0));
        }
        assert_eq!(hedge.next(ms(500), &[0]), Next::Wait(ms(1000)));
        hedge.failed();
        assert_eq!(hedge.next(ms(500), &[0]), Next::Send(0));
    }

    #[test]
    fn slow_is_a_multiple_of_usual_within_bounds() {
        let mut pace = Pace::default();
        assert_eq!(pace.slow(), Pace::SHORTEST);
        for _ in 0..200 {
            pace.took(ms(100));
        }
        assert!(pace.slow() > ms(350) && pace.slow() <= ms(400), "{:?}", pace.slow());
        for _ in 0..200 {
            pace.took(ms(60_000));
        }
        assert_eq!(pace.slow(), Pace::LONGEST);
    }
}
