//! What happened, as lines; a hash over all of them tells whether two lives were the same.

use std::fmt;

/// The trace of a life.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    lines: u64,
    shown: bool,
}

impl Trace {
    /// A trace that is printed as it grows if it is to be `shown`.
    pub(crate) fn new(shown: bool) -> Self {
        Self { hasher: blake3::Hasher::new(), lines: 0, shown }
    }

    pub(crate) fn line(&mut self, now: u64, text: fmt::Arguments<'_>) {
        let line = format!("{:>6}.{:03} {text}\n", now / 1_000, now % 1_000);
        self.hasher.update(line.as_bytes());
        self.lines += 1;
        if self.shown {
            print!("{line}");
        }
    }

    /// Takes in what is too long to be shown.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}
