//! What an operator must hear of: a line in the log, and a count for the metrics (docs/operating/metrics.md).

use ieum_core::event::Alarm;

/// What an operator must hear of, counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Alarms {
    /// Commands whose apply panicked.
    pub panicked: u64,
    /// Batches that could not be read.
    pub malformed: u64,
    /// Batches of nodes that are no members.
    pub not_members: u64,
    /// Appends that failed and were repeated.
    pub append_failures: u64,
    /// Snapshots taken since the start; no alarm, but one that stays 0 for days is.
    pub snapshots: u64,
    /// Snapshots that could not be taken.
    pub snapshot_failures: u64,
}

impl Alarms {
    /// Counts what applying a batch gave, and says it.
    pub(crate) fn take_in(&mut self, alarms: &[Alarm]) {
        for alarm in alarms {
            match alarm {
                Alarm::Panicked { position, index, command, message } => {
                    self.panicked += 1;
                    tracing::error!(%position, index, command, message, "alarm: a command panicked and had no effect");
                }
                Alarm::MalformedBatch { position, message } => {
                    self.malformed += 1;
                    tracing::error!(%position, message, "alarm: a batch cannot be read and had no effect");
                }
                Alarm::NotAMember { position, node } => {
                    self.not_members += 1;
                    tracing::error!(%position, node, "alarm: a batch of a node that is no member had no effect");
                }
            }
        }
    }
}
