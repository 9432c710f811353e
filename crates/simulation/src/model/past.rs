//! Values with their past: what something was where a view stood.

use ieum_core::ids::Position;

/// A value, and from which position on it was so.
#[derive(Debug, Clone)]
pub(crate) struct Past<T>(Vec<(Position, T)>);

impl<T> Default for Past<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Past<T> {
    /// From here on it is this.
    pub(crate) fn set(&mut self, at: Position, value: T) {
        match self.0.last_mut() {
            Some((last, before)) if *last == at => *before = value,
            _ => self.0.push((at, value)),
        }
    }

    /// What it is now.
    pub(crate) fn now(&self) -> Option<&T> {
        self.0.last().map(|(_, value)| value)
    }

    /// What it was for a view at `at`.
    pub(crate) fn at(&self, at: Position) -> Option<&T> {
        let known = self.0.partition_point(|(since, _)| *since <= at);
        self.0.get(known.checked_sub(1)?).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_was_is_what_was_set_last_by_then() {
        let at = |ordinal| Position::new(1, ordinal);
        let mut past = Past::default();
        for (ordinal, value) in [(3, "a"), (5, "b"), (5, "c"), (9, "d")] {
            past.set(at(ordinal), value);
        }
        assert_eq!([2, 3, 4, 5, 8, 9, 12].map(|o| past.at(at(o)).copied()), {
            [None, Some("a"), Some("a"), Some("c"), Some("c"), Some("d"), Some("d")]
        });
    }
}
