//! Virtual time: what happens next, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// A clock that jumps from one event to the next. Events of the same millisecond come in the order in which they were set.
#[derive(Debug)]
pub(crate) struct Clock<E> {
    now: u64,
    set: u64,
    /// When each event comes, after how many others it was set, and its place.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// The events, which are not moved while they wait, and places that are free.
    places: Vec<Option<E>>,
    free: Vec<usize>,
    /// What production code's monotonic time is counted from: only differences are ever looked at.
    origin: Instant,
}

impl<E> Clock<E> {
    pub(crate) fn new() -> Self {
        let (order, places, free) = (BinaryHeap::new(), Vec::new(), Vec::new());
        Self { now: 0, set: 0, order, places, free, origin: Instant::now() }
    }

    /// Milliseconds since the life began.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn instant(&self) -> Instant {
        self.origin + Duration::from_millis(self.now)
    }

    /// Lets `event` happen at `at`, or now if that is over.
    pub(crate) fn set(&mut self, at: u64, event: E) {
        self.set += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        if let Some(empty) = self.places.get_mut(place) {
            *empty = Some(event);
        }
        self.order.push(Reverse((at.max(self.now), self.set, place)));
    }

    /// Moves on to the next event.
    pub(crate) fn next(&mut self) -> Option<E> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.now = at;
        self.free.push(place);
        self.places.get_mut(place)?.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_they_were_set() {
        let mut clock = Clock::new();
        for (at, name) in [(5, "c"), (1, "a"), (5, "d"), (2, "b")] {
            clock.set(at, name);
        }
        assert_eq!(std::iter::from_fn(|| clock.next()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!(clock.now(), 5);
        clock.set(3, "late");
        assert_eq!((clock.next(), clock.now()), (Some("late"), 5));
    }
}
