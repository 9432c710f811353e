//! The newest batches, in memory, for tails that keep up.

use std::collections::VecDeque;

use crate::Entry;

/// At most so many batches are kept, however small they are.
const MOST: usize = 1024;

/// A bounded run of batches with dense ordinals, ending with the newest one that is durable.
#[derive(Debug)]
pub(super) struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
}

impl Recent {
    pub(super) fn new(limit: usize) -> Recent {
        Recent { entries: VecDeque::new(), bytes: 0, limit }
    }

    /// Adds the batch after the newest one and drops what is over the limit.
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes.len();
        self.entries.push_back(entry);
        while self.entries.len() > MOST || self.bytes > self.limit {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes.len();
        }
    }

    /// The batch with this ordinal, if it is still here.
    pub(super) fn get(&self, ordinal: u64) -> Option<Entry> {
        let oldest = self.entries.front()?.position.ordinal;
        let index = usize::try_from(ordinal.checked_sub(oldest)?).ok()?;
        self.entries.get(index).cloned()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{BatchId, Position};

    #[test]
    fn it_keeps_the_newest_within_its_limits() {
        let mut recent = Recent::new(10);
        for ordinal in 1..=4 {
            recent.push(Entry {
                position: Position { generation: 1, ordinal },
                id: BatchId { node: 1, incarnation: 1, number: ordinal },
                bytes: Bytes::from_static(b"four"),
            });
        }
        assert_eq!(recent.get(2), None);
        assert_eq!(recent.get(3).unwrap().position.ordinal, 3);
        assert_eq!(recent.get(4).unwrap().position.ordinal, 4);
        assert_eq!(recent.get(5), None);
        assert_eq!(recent.bytes, 8);
    }
}
