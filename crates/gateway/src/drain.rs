//! Sends the clients of a node elsewhere, spread over time, so that the others take them one after the other and nobody waits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ieum_protocol::errors::Code;
use tokio::time::Instant;

use crate::Gateway;
use crate::cell::Cell;

/// Sessions leave in groups this far apart.
const STEP: Duration = Duration::from_millis(20);

impl<C: Cell> Gateway<C> {
    /// Whether it sends its clients elsewhere.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Takes clients again.
    pub fn stop_draining(&self) {
        self.draining.store(false, Ordering::SeqCst);
    }

    /// Takes no new sessions, and sends those that there are elsewhere, spread over `over`: each hears goodbye when what it asked for is
    /// answered. `progress` is told how many have left, of how many. Returns when they have, or have been given up.
    pub async fn drain(&self, over: Duration, progress: impl Fn(u64, u64)) {
        // Said first: a session that takes its place behind this looks and leaves by itself.
        self.draining.store(true, Ordering::SeqCst);
        let mut sessions = Vec::new();
        self.hub.each(|session| sessions.push(session.clone()));
        let (start, of) = (Instant::now(), sessions.len());
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let mut sent = 0;
        while sent < of && self.is_draining() {
            let due = due(of, start.elapsed(), over);
            for session in sessions.get(sent..due).unwrap_or_default() {
                session.send_away();
            }
            sent = due;
            progress(count(sent.saturating_sub(self.hub.sessions())), count(of));
            tokio::time::sleep(STEP).await;
        }
        let until = Instant::now() + self.options.drain_patience;
        while self.hub.sessions() > 0 && self.is_draining() && Instant::now() < until {
            tokio::time::sleep(STEP).await;
        }
        if self.is_draining() {
            self.hub.end_all(Code::ShuttingDown);
        }
        progress(count(of), count(of));
    }
}

/// How many of so many sessions are to leave by now: the first at once, the last before the time is over.
fn due(of: usize, elapsed: Duration, over: Duration) -> usize {
    let (elapsed, over) = (elapsed.as_millis(), over.as_millis());
    let whole = u128::try_from(of).unwrap_or(u128::MAX).saturating_mul(elapsed).checked_div(over);
    whole.and_then(|due| usize::try_from(due).ok()).map_or(of, |due| due.saturating_add(1).min(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_leave_spread_over_the_time() {
        let over = Duration::from_secs(5);
        let after = |ms| due(10_000, Duration::from_millis(ms), over);
        assert_eq!([0, 20, 2_500, 4_999, 5_000, 60_000].map(after), [1, 41, 5_001, 9_999, 10_000, 10_000]);
        assert_eq!(due(3, Duration::ZERO, Duration::ZERO), 3);
        assert_eq!(due(1, Duration::ZERO, over), 1);
    }
}
