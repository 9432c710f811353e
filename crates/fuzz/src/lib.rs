//! Gives decoders damaged bytes, and looks at what they make of them: no panic, no more memory than the bytes warrant, and what else the
//! test asks. For tests only.
//!
//! ```text
//!  samples, all valid ──► damaged, so many times, by fixed seeds and by a fresh one ──► check(bytes)
//! ```
//!
//! A failure prints the seed; `FUZZ_SEED=… cargo test …` runs that one alone. `FUZZ_SECONDS=60` goes on with fresh seeds for so long, per
//! target; `make fuzz` does that for all. Memory is counted where the test's binary says
//! `#[global_allocator] static HEAP: ieum_fuzz::Heap = ieum_fuzz::Heap;`.

mod damage;

use std::hash::{BuildHasher as _, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use damage::{Random, damage};
pub use peak_alloc::PeakAlloc as Heap;

/// A decoder to be tried.
#[derive(Debug)]
pub struct Target<'a> {
    /// Its name in messages.
    pub name: &'a str,
    /// Valid bytes to damage.
    pub samples: &'a [Vec<u8>],
    /// How many damaged ones are tried for each of the two seeds of a run.
    pub cases: u32,
    /// The most memory that one may take, besides `per_byte` for each of its bytes.
    pub memory: usize,
    /// See `memory`.
    pub per_byte: usize,
}

/// The seed that every run tries.
const FIXED: u64 = 1;

/// One test after the other, because the memory of the whole process is looked at.
static ALONE: Mutex<()> = Mutex::new(());

/// As long as a test holds this, no other one that asks for it runs in the process. Ask first, then make the samples.
#[derive(Debug)]
pub struct Alone(#[allow(dead_code, reason = "it is held, not looked at")] MutexGuard<'static, ()>);

/// Waits until no other test runs.
pub fn alone() -> Alone {
    Alone(ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Target<'_> {
    /// Tries `check` on the samples as they are, then on damaged ones.
    ///
    /// # Panics
    /// When `check` panics, or takes too much memory; with the seed.
    pub fn run(&self, _: &Alone, mut check: impl FnMut(&[u8])) {
        let fresh = || RandomState::new().hash_one(FIXED);
        let only = variable("FUZZ_SEED");
        let until = variable("FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
        for sample in self.samples {
            self.case(sample, "a sample as it is", &mut check);
        }
        self.seed(only.unwrap_or(FIXED), &mut check);
        while until.is_some_and(|until| Instant::now() < until) {
            self.seed(fresh(), &mut check);
        }
    }

    fn seed(&self, seed: u64, check: &mut impl FnMut(&[u8])) {
        let mut random = Random::new(seed);
        for case in 0..self.cases {
            let Some(sample) = random.pick(self.samples) else { return };
            let bytes = damage(&mut random, sample, self.samples);
            self.case(&bytes, &format!("FUZZ_SEED={seed}, case {case}"), check);
        }
    }

    fn case(&self, bytes: &[u8], which: &str, check: &mut impl FnMut(&[u8])) {
        Heap.reset_peak_usage();
        let before = Heap.current_usage();
        let result = catch_unwind(AssertUnwindSafe(|| check(bytes)));
        let taken = Heap.peak_usage().saturating_sub(before);
        let most = self.memory + self.per_byte * bytes.len();
        if result.is_err() || taken > most {
            let shown: String = bytes.iter().take(400).map(|byte| byte.escape_ascii().to_string()).collect();
            let name = self.name;
            assert!(result.is_ok(), "{name}: {which}, {} bytes: {shown}", bytes.len());
            assert!(taken <= most, "{name}: {which}, {} bytes take {taken} of memory: {shown}", bytes.len());
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static HEAP: Heap = Heap;

    fn target<'a>(samples: &'a [Vec<u8>]) -> Target<'a> {
        Target { name: "a decoder", samples, cases: 2_000, memory: 1 << 20, per_byte: 2 }
    }

    #[test]
    fn a_decoder_that_trusts_a_length_is_found() {
        let alone = alone();
        let samples = [vec![3, b'a', b'b', b'c'], vec![0]];
        let sound = |bytes: &[u8]| {
            let _text = bytes.split_first().map(|(length, rest)| rest.get(..usize::from(*length)));
        };
        target(&samples).run(&alone, sound);
        let trusting =
            |bytes: &[u8]| drop(bytes.split_first().map(|(length, rest)| rest[..usize::from(*length)].to_vec()));
        assert!(catch_unwind(AssertUnwindSafe(|| target(&samples).run(&alone, trusting))).is_err());
        let greedy = |bytes: &[u8]| drop(bytes.first().map(|length| vec![0u8; usize::from(*length) << 16]));
        assert!(catch_unwind(AssertUnwindSafe(|| target(&samples).run(&alone, greedy))).is_err());
    }

    #[test]
    fn every_kind_of_damage_happens() {
        let _alone = alone();
        let sample = b"{\"a\":1234,\"b\":\"text\"}".to_vec();
        let other = b"[1,2,3]".to_vec();
        let mut random = Random::new(5);
        let all: Vec<Vec<u8>> = (0..500).map(|_| damage(&mut random, &sample, std::slice::from_ref(&other))).collect();
        assert!(all.iter().any(|bytes| bytes.len() < sample.len()));
        assert!(all.iter().any(|bytes| bytes.len() > sample.len()));
        assert!(all.iter().any(|bytes| bytes.ends_with(b"3]")));
        assert!(all.iter().any(|bytes| bytes.len() == sample.len() && *bytes != sample));
    }
}
