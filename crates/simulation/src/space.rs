//! How much of the simulated log's room is in use, in lives in which it has little. As with etcd, what is trimmed is given back only when the log
//! is trimmed beyond where it ended then.

use ieum_log::{Entry, Room};

/// What a batch takes beside its bytes, about.
const BESIDE: u64 = 512;

/// The room of a log.
#[derive(Debug)]
pub(crate) struct Space {
    most: u64,
    used: u64,
    /// The batches up to here take none any more.
    given_back: usize,
}

impl Space {
    pub(crate) fn of(most: u64) -> Self {
        Self { most, used: 0, given_back: 0 }
    }

    pub(crate) fn room(&self) -> Room {
        Room { used: self.used, most: self.most }
    }

    /// A batch was appended.
    pub(crate) fn grows(&mut self, bytes: usize) {
        self.used += weight(bytes);
    }

    /// The log was trimmed: where it ended whenever it was, and up to where that went.
    pub(crate) fn is_trimmed(&mut self, entries: &[Entry], trims: &[(u64, u64)]) {
        let trimmed = trims.last().map_or(0, |(_, trimmed)| *trimmed);
        let behind = trims.partition_point(|(last, _)| *last < trimmed);
        let up_to = behind.checked_sub(1).and_then(|at| trims.get(at)).map_or(0, |(_, trimmed)| *trimmed);
        let up_to = usize::try_from(up_to).unwrap_or(usize::MAX).max(self.given_back);
        let back = entries.get(self.given_back..up_to.min(entries.len())).unwrap_or_default();
        self.used = self.used.saturating_sub(weigh(back));
        self.given_back = up_to;
    }

    /// The log is another one.
    pub(crate) fn is_anew(&mut self, entries: &[Entry], trims: &[(u64, u64)]) {
        (self.used, self.given_back) = (weigh(entries), 0);
        self.is_trimmed(entries, trims);
    }
}

fn weight(bytes: usize) -> u64 {
    bytes as u64 + BESIDE
}

fn weigh(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| weight(entry.bytes.len())).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ieum_log::{BatchId, Position};

    use super::*;

    #[test]
    fn what_is_trimmed_is_given_back_behind_where_the_log_ended_then() {
        let entries: Vec<Entry> = (1..=9)
            .map(|number| Entry {
                position: Position { generation: 1, ordinal: number },
                id: BatchId { node: 1, incarnation: 1, number },
                bytes: Bytes::from_static(&[0; 488]),
            })
            .collect();
        let mut space = Space::of(8_000);
        let mut used = |last: usize, trims: &[(u64, u64)]| {
            space.is_anew(entries.get(..last).unwrap_or_default(), trims);
            space.room().used
        };
        assert_eq!(used(4, &[]), 4_000);
        assert_eq!(used(4, &[(4, 3)]), 4_000, "what it ended with is not trimmed yet");
        assert_eq!(used(6, &[(4, 3), (6, 4)]), 6_000, "nor is anything behind that");
        assert_eq!(used(6, &[(4, 3), (6, 5)]), 3_000);
        assert_eq!(used(9, &[(4, 3), (6, 5), (9, 8)]), 4_000);
    }
}
