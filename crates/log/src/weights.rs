//! How much lies behind a position of a log: what a log that has little room is trimmed by.

use std::collections::VecDeque;

/// Positions are remembered about every so many bytes.
const STEP: u64 = 256 * 1024;
/// So many are remembered: a gibibyte.
const MARKS: usize = 4096;
/// What a batch takes beside its bytes, roughly: keys, and what the engine keeps of each.
const OVERHEAD: u64 = 512;

/// The weight of the batches that have passed by.
#[derive(Debug, Default)]
pub struct Weights {
    /// Ordinals, oldest first, and what all batches up to there weigh.
    marks: VecDeque<(u64, u64)>,
    last: u64,
    total: u64,
}

impl Weights {
    /// A batch has passed by. One that did before changes nothing; behind a gap it begins anew.
    pub fn note(&mut self, ordinal: u64, bytes: usize) {
        if !self.marks.is_empty() && ordinal <= self.last {
            return;
        }
        if self.marks.is_empty() || ordinal != self.last + 1 {
            *self = Self { last: ordinal.saturating_sub(1), ..Self::default() };
            self.marks.push_back((self.last, 0));
        }
        self.last = ordinal;
        self.total += bytes as u64 + OVERHEAD;
        if self.marks.back().is_none_or(|(_, total)| self.total - total >= STEP) {
            self.marks.push_back((ordinal, self.total));
        }
        if self.marks.len() > MARKS {
            self.marks.pop_front();
        }
    }

    /// The first remembered ordinal with no more than `bytes` behind it; none when less than that is known of.
    #[must_use]
    pub fn back_by(&self, bytes: u64) -> Option<u64> {
        let too_many = |total: u64| self.total - total > bytes;
        if !self.marks.front().is_some_and(|(_, total)| too_many(*total)) {
            return None;
        }
        let at = self.marks.partition_point(|(_, total)| too_many(*total));
        Some(self.marks.get(at).map_or(self.last, |(ordinal, _)| *ordinal))
    }

    /// What lies behind an ordinal, to about a step; none when it is not known.
    #[must_use]
    pub fn behind(&self, ordinal: u64) -> Option<u64> {
        let at = self.marks.partition_point(|(known, _)| *known <= ordinal).checked_sub(1)?;
        self.marks.get(at).map(|(_, total)| if ordinal >= self.last { 0 } else { self.total - total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch that weighs a step and a half, with what it takes else.
    const LARGE: usize = (STEP + STEP / 2 - OVERHEAD) as usize;

    #[test]
    fn a_position_is_found_by_what_lies_behind_it() {
        let mut weights = Weights::default();
        assert_eq!((weights.back_by(0), weights.behind(7)), (None, None));
        (8..=17).for_each(|ordinal| weights.note(ordinal, LARGE));
        // Repeats are no more.
        (8..=17).for_each(|ordinal| weights.note(ordinal, LARGE));
        let each = STEP + STEP / 2;
        assert_eq!(weights.back_by(0), Some(17));
        assert_eq!(weights.back_by(each), Some(16));
        assert_eq!(weights.back_by(3 * each - 1), Some(15));
        assert_eq!(weights.back_by(10 * each - 1), Some(8));
        assert_eq!(weights.back_by(10 * each), None, "nothing is known of what came before");
        assert_eq!(weights.behind(6), None);
        assert_eq!(weights.behind(7), Some(10 * each));
        assert_eq!(weights.behind(15), Some(2 * each));
        assert_eq!((weights.behind(17), weights.behind(20)), (Some(0), Some(0)));
    }

    #[test]
    fn small_batches_are_remembered_in_steps() {
        let mut weights = Weights::default();
        (1..=10_000).for_each(|ordinal| weights.note(ordinal, 512));
        let found = weights.back_by(1 << 20).unwrap();
        assert!((10_000 - 1024..10_000 - 512).contains(&found), "{found}");
        assert!(weights.marks.len() < 50, "{}", weights.marks.len());
    }

    #[test]
    fn what_it_remembers_is_bounded_and_a_gap_begins_anew() {
        let mut weights = Weights::default();
        (1..=10_000).for_each(|ordinal| weights.note(ordinal, LARGE));
        assert_eq!(weights.marks.len(), MARKS);
        weights.note(10_002, LARGE);
        assert_eq!((weights.behind(10_000), weights.behind(10_001)), (None, Some(STEP + STEP / 2)));
    }
}
