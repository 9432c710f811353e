//! Cell time: the lower median of what data centers said last.

use std::collections::BTreeMap;

/// A data center counts until some node elsewhere has logged so many ticks since.
const SILENT: usize = 10;

#[derive(Debug, Default)]
pub(crate) struct Time {
    now: u64,
    /// What each data center's clock said last, and the ticks of others since.
    said: BTreeMap<String, (u64, BTreeMap<u32, usize>)>,
}

impl Time {
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn advance(&mut self, node: u32, dc: &str, clock: u64, ticks: usize) {
        for (_, (_, since)) in self.said.iter_mut().filter(|(of, _)| *of != dc) {
            *since.entry(node).or_default() += ticks;
        }
        self.said.insert(dc.to_owned(), (clock, BTreeMap::new()));
        self.said.retain(|_, (_, since)| since.values().all(|ticks| *ticks < SILENT));
        let mut clocks: Vec<u64> = self.said.values().map(|(clock, _)| *clock).collect();
        clocks.sort_unstable();
        let median = clocks.get((clocks.len() - 1) / 2).copied().unwrap_or(0);
        self.now = self.now.max(median);
    }
}
