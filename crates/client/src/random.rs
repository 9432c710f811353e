//! Where the shell takes randomness from.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// A random number of the operating system's.
pub(crate) fn random() -> u64 {
    // It fails on no system that this runs on; the hasher's keys come from the same place.
    getrandom::u64().unwrap_or_else(|_| RandomState::new().build_hasher().finish())
}

/// Many random numbers from one of the system's (SplitMix64): for waits, and for ids that only have to differ within a device.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(random())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
