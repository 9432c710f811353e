//! What was lived so far, for whoever looks on.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

use ieum_simulation::{Failed, Met};

/// What was lived so far.
pub(crate) struct Tally {
    pub(crate) began: Instant,
    told: Option<Instant>,
    lives: u64,
    ms: u64,
    commands: u64,
    faults: u64,
}

impl Tally {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), told: None, lives: 0, ms: 0, commands: 0, faults: 0 }
    }

    pub(crate) fn add(&mut self, met: &Met) {
        self.lives += 1;
        self.ms += met.ms;
        self.commands += met.commands;
        self.faults += met.faults;
    }

    /// Of a life that ended badly.
    pub(crate) fn add_bad(&mut self, failed: &Failed) {
        self.lives += 1;
        self.ms += failed.ms;
        self.faults += failed.faults;
    }

    pub(crate) fn line(&self) -> String {
        let took = self.began.elapsed().as_secs_f64().max(0.001);
        let Self { lives, ms, commands, faults, .. } = self;
        let lived = *ms as f64 / 1_000.0;
        format!(
            "{lives} lives, {:.1} simulated hours ({:.0} times faster than life), {commands} commands ({:.0}/s), {faults} faults",
            lived / 3_600.0,
            lived / took,
            *commands as f64 / took
        )
    }

    /// Says how far it is: a line that stays in its place, or one a minute where nobody looks.
    pub(crate) fn progress(&mut self) {
        let terminal = stderr().is_terminal();
        let (often, end) = if terminal { (1, "\x1b[K\r") } else { (60, "\n") };
        let since = *self.told.get_or_insert(self.began);
        if since.elapsed() < Duration::from_secs(often) {
            return;
        }
        self.told = Some(Instant::now());
        // At once: others may write there, too.
        eprint!("{}", self.line() + end);
        // Nobody is left to be told.
        let _ = stderr().flush();
    }

    /// Makes room for what comes after the line that stays in its place.
    pub(crate) fn end(&self) {
        if self.told.is_some_and(|told| told != self.began) && stderr().is_terminal() {
            eprint!("\x1b[K");
        }
    }
}
