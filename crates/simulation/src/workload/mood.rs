//! How people are in a life: quiet, as usual, or stormy.

use ieum_core::commands::operate::Configure;

use crate::random::Random;

/// How people are.
#[derive(Debug)]
pub(crate) struct Mood {
    /// Between one that acts and the next, in milliseconds.
    least: u64,
    most: u64,
    /// In so many of a thousand cases somebody has much to say at once.
    pub(crate) hurry: u64,
    /// How long a message may be edited and deleted, and how far change indexes reach back: short, so that people come to all of these limits.
    pub(crate) edit_limit: u64,
    pub(crate) delete_limit: u64,
    horizon: u64,
}

impl Mood {
    pub(crate) fn of(random: &mut Random) -> Self {
        let (least, most, hurry) = match random.index(4) {
            0 => (100, 1_800, 5),
            1 | 2 => (40, 520, 25),
            _ => (10, 260, 30),
        };
        let edit_limit = random.between(10, 240) * 1_000;
        let delete_limit = random.between(5, 120) * 1_000;
        Self { least, most, hurry, edit_limit, delete_limit, horizon: random.between(2, 9) * 60_000 }
    }

    pub(super) fn pause(&self, random: &mut Random) -> u64 {
        random.between(self.least, self.most)
    }

    /// What the cell is set to.
    pub(crate) fn settings(&self) -> Configure {
        let Self { edit_limit, delete_limit, horizon, .. } = *self;
        Configure { edit_limit, delete_limit, horizon }
    }
}
