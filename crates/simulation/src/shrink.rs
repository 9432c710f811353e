//! Makes a life that ends badly as short and as quiet as it still does, so that somebody can read it.

use std::collections::BTreeSet;

use crate::{Failed, Options, live};

/// So many lives are tried at most.
const MOST_TRIES: usize = 300;

/// A life that ends badly, and what is tried to make it smaller.
struct Smallest<'a> {
    options: Options,
    failed: Failed,
    tries: usize,
    told: &'a mut dyn FnMut(&Options, &Failed),
}

/// A smaller life that ends badly in the same way, and how; each step is `told`. A life that ends badly in another way is not taken: it would
/// lead away from what is looked for.
pub fn shrink(options: &Options, failed: Failed, told: &mut dyn FnMut(&Options, &Failed)) -> (Options, Failed) {
    let options = Options { show: None, ..options.clone() };
    let mut smallest = Smallest { options, failed, tries: 0, told };
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
        let Err(failed) = live(&options) else { return false };
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
        let until = self.options.ms.min(self.failed.ms);
        if until < self.options.ms {
            self.takes(Options { ms: until, ..self.options.clone() });
        }
        let mut step = self.options.ms / 2;
        while step >= 1_000 {
            let ms = self.options.ms.saturating_sub(step);
            if !self.takes(Options { ms, ..self.options.clone() }) {
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
