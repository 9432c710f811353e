//! Many times of the same thing in four numbers.

use serde::{Deserialize, Serialize};

/// How many there were, and how they lie; in the unit of what went in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// Half of them are at most this.
    pub p50: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Spread {
    /// Of these.
    #[must_use]
    pub fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |percent: usize| {
            let place = (values.len() * percent).div_ceil(100).saturating_sub(1);
            values.get(place).copied().unwrap_or(0)
        };
        Self { count: values.len() as u64, p50: at(50), p99: at(99), max: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_one_and_none() {
        assert_eq!(Spread::of((1..=100).rev().collect()), Spread { count: 100, p50: 50, p99: 99, max: 100 });
        assert_eq!(Spread::of(vec![7]), Spread { count: 1, p50: 7, p99: 7, max: 7 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
