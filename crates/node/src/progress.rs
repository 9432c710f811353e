//! Long work beside the messages: it says how far it has come, and others go first.

/// How far a piece of work has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What is counted, for example `rows written`.
    pub what: &'static str,
    /// How many are done.
    pub done: u64,
    /// Of how many, where that is known.
    pub of: Option<u64>,
}

/// Who is told of the progress, often: at every [`EVERY`] rows or so.
pub type Watch<'a> = &'a (dyn Fn(Step) + Sync);

/// Nobody is told.
pub fn unwatched() -> Watch<'static> {
    &|_| {}
}

/// Rows between two steps.
pub(crate) const EVERY: u64 = 10_000;

/// How far long work steps back: a thread of the serving kind that has work gets about ten times its share.
const NICE: i32 = 10;

/// Lets others go first on the processor from here on. For a thread that is made for one piece of long work.
pub fn step_back() {
    // Linux takes it for the calling thread alone. Refused: the work is done all the same, less politely.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "the priority stays as it is");
    }
}
