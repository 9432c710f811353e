//! Makes a life that ends badly as short and as quiet as it still does, so that somebody can read it.

use std::collections::BTreeSet;

use crate::{Failed, Options, Report, live};

/// So many lives are tried at most.
const MOST_TRIES: usize = 300;

/// A life that ends badly, and what is tried to make it smaller.
struct Smallest<'a> {
    live: &'a dyn Fn(&Options) -> Result<Report, Failed>,
    options: Options,
    failed: Failed,
    tries: usize,
    told: &'a mut dyn FnMut(&Options, &Failed),
}

/// A smaller life that ends badly in the same way, and how; each step is `told`. A life that ends badly in another way is not taken: it would
/// lead away from what is looked for.
pub fn shrink(options: &Options, failed: Failed, told: &mut dyn FnMut(&Options, &Failed)) -> (Options, Failed) {
    shrink_with(&live, options, failed, told)
}

fn shrink_with(
    live: &dyn Fn(&Options) -> Result<Report, Failed>,
    options: &Options,
    failed: Failed,
    told: &mut dyn FnMut(&Options, &Failed),
) -> (Options, Failed) {
    let options = Options { show: None, ..options.clone() };
    let mut smallest = Smallest { live, options, failed, tries: 0, told };
    smallest.nodes();
    smallest.time();
    smallest.faults();
    smallest.time();
    (smallest.options, smallest.failed)
}

impl Smallest<'_> {
    /// Lives another life, and stays with it if it ends as badly.
    fn takes(&mut self, options: Options) -> bool {
        if self.tries >= MOST_TRIES {
            return false;
        }
        self.tries += 1;
        let Err(failed) = (self.live)(&options) else { return false };
        if failed.broken.kind() != self.failed.broken.kind() {
            return false;
        }
        (self.options, self.failed) = (options, failed);
        (self.told)(&self.options, &self.failed);
        true
    }

    fn nodes(&mut self) {
        for nodes in 1..self.options.nodes {
            if self.takes(Options { nodes, ..self.options.clone() }) {
                return;
            }
        }
    }

    fn time(&mut self) {
        // It is told in whole seconds.
        let until = self.options.ms.min(self.failed.ms.next_multiple_of(1_000));
        if until < self.options.ms {
            self.takes(Options { ms: until, ..self.options.clone() });
        }
        let mut step = self.options.ms / 2_000;
        while step > 0 {
            let ms = self.options.ms.saturating_sub(step * 1_000).next_multiple_of(1_000).max(1_000);
            if ms == self.options.ms || !self.takes(Options { ms, ..self.options.clone() }) {
                step /= 2;
            }
        }
    }

    /// Leaves faults out, many at once and then fewer.
    fn faults(&mut self) {
        let mut size = usize::try_from(self.failed.faults).unwrap_or(usize::MAX);
        while size > 0 {
            let left: Vec<u64> = (1..=self.failed.faults).filter(|n| !self.options.without.contains(n)).collect();
            for some in left.chunks(size) {
                let without: BTreeSet<u64> = self.options.without.iter().chain(some).copied().collect();
                self.takes(Options { without, ..self.options.clone() });
            }
            size /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Broken, Met};

    fn failed(ms: u64, what: &str) -> Failed {
        Failed { seed: 1, ms, faults: 40, broken: Broken(what.to_owned()) }
    }

    /// Breaks after a minute by fault 7 on top of fault 12 in a cell of at least three nodes; a cell of two has a trouble of its own.
    fn lived(options: &Options) -> Result<Report, Failed> {
        let with = |fault| !options.without.contains(&fault);
        if options.nodes == 2 {
            return Err(failed(1, "node 1 is something else"));
        }
        if options.nodes >= 3 && options.ms >= 60_000 && with(7) && with(12) {
            return Err(failed(59_001, "room 5 is broken"));
        }
        Ok(Report { trace: [0; 32], digest: [0; 32], lines: 0, met: Met::default() })
    }

    #[test]
    fn a_life_gets_smaller_and_breaks_as_it_did() {
        let options = Options { nodes: 6, ms: 900_000, ..Options::of(1) };
        let mut steps = 0;
        let first = failed(59_001, "room 77 is broken");
        let (smaller, failed) = shrink_with(&lived, &options, first, &mut |_, _| steps += 1);
        assert_eq!(failed.broken.to_string(), "room 5 is broken");
        assert_eq!((smaller.nodes, smaller.ms), (3, 60_000));
        assert_eq!(smaller.without, (1..=40).filter(|fault| ![7, 12].contains(fault)).collect());
        assert!(steps > 3);
        assert!(lived(&smaller).is_err());
    }
}
