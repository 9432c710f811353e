//! What a node knows of the other nodes of its cell, and what follows from it: how far the shared log may be trimmed, where clients may go
//! instead, whether the views agree. A state machine: it is handed reports and the monotonic time.

use std::collections::BTreeMap;

use ieum_core::ids::{Millis, NodeId, Position};
use ieum_planted::Bug;

/// A node that has not been heard of for so long counts for nothing.
const GONE_AFTER: Millis = 10_000;
/// A node that has not been heard of for so long is no place to send clients to.
const QUIET_AFTER: Millis = 2_000;
/// So many batches behind, a member holds the log back no longer; it will resync from another one.
const MOST_LAG: u64 = 100_000;
/// Digests are compared at positions that are multiples of this.
const CHECKPOINT_EVERY: u64 = 32;
/// So many of them are told.
const CHECKPOINTS: usize = 64;

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is coming up to the log.
    Joining,
    /// It serves.
    Ready,
    /// It cannot keep up with the log just now.
    Behind,
    /// It sends its clients elsewhere.
    Draining,
    /// Its view differs from the others', and it serves nobody.
    Out,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which node.
    pub node: NodeId,
    /// Its data center.
    pub dc: String,
    /// What it is doing.
    pub phase: Phase,
    /// What its view has applied.
    pub applied: Position,
    /// What its journal has fsynced.
    pub synced: Position,
    /// Its build; later ones are greater.
    pub build: u64,
    /// Names this life of its process: of two nodes that give the same number one is wrong.
    pub life: u64,
    /// Where its clients come in, if it says.
    pub endpoint: Option<String>,
    /// Where nodes of the cell can be asked: itself first, then those that it knows.
    pub addresses: Vec<String>,
    /// The digests at its latest checkpoints, by position.
    pub digests: Vec<(Position, [u8; 32])>,
}

/// The digests of a view at positions that every node of the cell passes.
#[derive(Debug, Clone, Default)]
pub struct Checkpoints {
    latest: BTreeMap<Position, [u8; 32]>,
}

impl Checkpoints {
    /// Notes where the view stands, if that is a checkpoint.
    pub fn note(&mut self, position: Position, digest: [u8; 32]) {
        if !position.ordinal.is_multiple_of(CHECKPOINT_EVERY) {
            return;
        }
        self.latest.insert(position, digest);
        while self.latest.len() > CHECKPOINTS {
            self.latest.pop_first();
        }
    }

    /// Those noted last, by position.
    #[must_use]
    pub fn latest(&self) -> Vec<(Position, [u8; 32])> {
        self.latest.iter().map(|(position, digest)| (*position, *digest)).collect()
    }
}

/// Whether the views of a cell are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// No difference is known.
    Same,
    /// Another node's view differs, and that node is the one to go.
    OtherDiffers {
        /// Where.
        at: Position,
        /// Which node.
        node: NodeId,
    },
    /// This node's view differs from the others': it must not serve.
    OwnDiffers {
        /// Where.
        at: Position,
    },
}

/// How far the shared log may be trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trim {
    /// So far.
    UpTo(Position),
    /// Not at all, because batches lie on the disks of fewer than two data centers.
    OneDataCenter,
    /// Not at all, because two views differ.
    Diverged,
}

/// The nodes of the cell, as far as this one has heard.
#[derive(Debug)]
pub struct Peers {
    known: BTreeMap<NodeId, (Report, Millis)>,
    /// The first difference that was found; it stays until the node starts anew.
    agreement: Agreement,
}

impl Default for Peers {
    fn default() -> Self {
        Self { known: BTreeMap::new(), agreement: Agreement::Same }
    }
}

impl Peers {
    /// A node has said something of itself at `now`; `own` is what this node says.
    pub fn heard(&mut self, report: Report, own: &Report, now: Millis) {
        self.known.insert(report.node, (report, now));
        if !matches!(self.agreement, Agreement::OwnDiffers { .. }) {
            self.agreement = self.compare(own, now);
        }
    }

    /// Nodes that were heard of within `within` before `now`.
    fn lately(&self, now: Millis, within: Millis) -> impl Iterator<Item = &Report> {
        self.known.values().filter(move |(_, heard)| now.saturating_sub(*heard) <= within).map(|(report, _)| report)
    }

    /// Those that were heard of lately, by number.
    #[must_use]
    pub fn reports(&self, now: Millis) -> Vec<Report> {
        self.lately(now, GONE_AFTER).cloned().collect()
    }

    /// Whether the views agree.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        self.agreement
    }

    /// Compares the views at the latest position that this node and another have a digest of.
    fn compare(&self, own: &Report, now: Millis) -> Agreement {
        let reports: Vec<&Report> = self.lately(now, GONE_AFTER).filter(|report| report.node != own.node).collect();
        for (at, mine) in own.digests.iter().rev() {
            let said = |report: &&Report| report.digests.iter().find(|(p, _)| p == at).map(|(_, digest)| *digest);
            let votes: Vec<(&Report, [u8; 32])> =
                reports.iter().filter_map(|report| Some((*report, said(report)?))).collect();
            let Some((other, _)) = votes.iter().find(|(_, digest)| digest != mine) else { continue };
            let count = |digest: &[u8; 32]| votes.iter().filter(|(_, d)| d == digest).count();
            let mine_count = count(mine) + 1;
            let strongest = votes.iter().map(|(_, digest)| (digest, count(digest))).filter(|(d, _)| *d != mine);
            let most = strongest.map(|(_, count)| count).max().unwrap_or_default();
            let older = votes.iter().filter(|(_, digest)| digest != mine).all(|(report, _)| own.build > report.build);
            let goes = mine_count < most || (mine_count == most && older);
            if goes && !Bug::MinorityStays.planted() {
                return Agreement::OwnDiffers { at: *at };
            }
            return Agreement::OtherDiffers { at: *at, node: other.node };
        }
        Agreement::Same
    }

    /// How far the shared log may be trimmed, given the cell's `members` with their data centers and what this node says of itself: what two data centers have on
    /// their disks, and no further than a member that is not far behind still has to read.
    #[must_use]
    pub fn trim(&self, members: &BTreeMap<NodeId, String>, own: &Report, now: Millis) -> Trim {
        if self.agreement != Agreement::Same {
            return Trim::Diverged;
        }
        let counted = || {
            let others = self.lately(now, GONE_AFTER).filter(|report| report.node != own.node);
            let said = others.chain([own]).filter(|report| report.synced.generation == own.synced.generation);
            said.filter_map(|report| Some((members.get(&report.node)?, report.synced)))
        };
        let mut furthest: BTreeMap<&str, Position> = BTreeMap::new();
        for (dc, synced) in counted() {
            let of_dc = furthest.entry(dc.as_str()).or_default();
            *of_dc = synced.max(*of_dc);
        }
        let mut by_dc: Vec<Position> = furthest.into_values().collect();
        by_dc.sort_unstable_by(|a, b| b.cmp(a));
        let enough = usize::from(!Bug::TrimWithOneDataCenter.planted());
        let Some(safe) = by_dc.get(enough).copied() else { return Trim::OneDataCenter };
        let near = |synced: &Position| safe.ordinal.saturating_sub(synced.ordinal) <= MOST_LAG;
        let slowest = counted().map(|(_, synced)| synced).filter(near).min().unwrap_or(safe);
        Trim::UpTo(safe.min(slowest))
    }

    /// Where clients of this node may go: the endpoints of others that are ready, those of other data centers first.
    #[must_use]
    pub fn endpoints(&self, own: &Report, now: Millis) -> Vec<String> {
        let ready = |report: &&Report| report.node != own.node && report.phase == Phase::Ready;
        let mut ready: Vec<&Report> = self.lately(now, QUIET_AFTER).filter(ready).collect();
        ready.sort_by_key(|report| (report.dc == own.dc, report.node));
        ready.into_iter().filter_map(|report| report.endpoint.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ordinal: u64) -> Position {
        Position::new(1, ordinal)
    }

    fn report(node: NodeId, dc: &str, synced: u64) -> Report {
        Report {
            node,
            dc: dc.to_owned(),
            phase: Phase::Ready,
            applied: at(synced),
            synced: at(synced),
            build: 1,
            life: node.into(),
            endpoint: Some(format!("https://{node}.example")),
            addresses: Vec::new(),
            digests: Vec::new(),
        }
    }

    fn with_digest(node: NodeId, digest: u8) -> Report {
        Report { digests: vec![(at(32), [digest; 32])], ..report(node, &node.to_string(), 40) }
    }

    fn peers(own: &Report, others: &[Report], now: Millis) -> Peers {
        let mut peers = Peers::default();
        others.iter().for_each(|other| peers.heard(other.clone(), own, now));
        peers
    }

    /// Members 1, 2, 3 … in these data centers, as the cell knows them.
    fn members(dcs: &[&str]) -> BTreeMap<NodeId, String> {
        (1..).zip(dcs.iter().map(|dc| (*dc).to_owned())).collect()
    }

    #[test]
    fn the_log_is_trimmed_to_what_two_data_centers_have_on_their_disks() {
        let own = report(1, "a", 90);
        let all = [report(2, "a", 100), report(3, "b", 70), report(4, "c", 50)];
        let trim = |others: &[Report]| peers(&own, others, 0).trim(&members(&["a", "a", "b", "c"]), &own, 0);
        assert_eq!(trim(&all), Trim::UpTo(at(50)), "the third is not far behind, so that it need not resync");
        assert_eq!(trim(&all[..2]), Trim::UpTo(at(70)));
        assert_eq!(trim(&all[..1]), Trim::OneDataCenter, "two nodes, but of one data center");
        assert_eq!(trim(&[]), Trim::OneDataCenter);
    }

    #[test]
    fn a_member_that_is_far_behind_does_not_hold_the_log_back() {
        let own = report(1, "a", 300_000);
        let peers = peers(&own, &[report(2, "b", 250_000), report(3, "c", 10)], 0);
        assert_eq!(peers.trim(&members(&["a", "b", "c"]), &own, 0), Trim::UpTo(at(250_000)));
    }

    #[test]
    fn only_members_that_were_heard_of_lately_count() {
        let own = report(1, "a", 90);
        let peers = peers(&own, &[report(2, "b", 70)], 1_000);
        assert_eq!(peers.trim(&members(&["a", "b"]), &own, 11_000), Trim::UpTo(at(70)));
        assert_eq!(peers.trim(&members(&["a", "b"]), &own, 11_001), Trim::OneDataCenter);
        assert_eq!(peers.trim(&members(&["a"]), &own, 1_000), Trim::OneDataCenter, "it was removed");
        let elsewhere = peers.trim(&members(&["a", "a"]), &own, 1_000);
        assert_eq!(elsewhere, Trim::OneDataCenter, "it says so of its data center, the cell says otherwise");
        let before = Report { synced: Position::new(0, 70), ..report(2, "b", 70) };
        assert_eq!(self::peers(&own, &[before], 0).trim(&members(&["a", "b"]), &own, 0), Trim::OneDataCenter);
    }

    #[test]
    fn the_minority_takes_itself_out() {
        let own = with_digest(1, 7);
        let agreement = |others: &[Report]| peers(&own, others, 0).agreement();
        assert_eq!(agreement(&[with_digest(2, 7), with_digest(3, 7)]), Agreement::Same);
        assert_eq!(agreement(&[with_digest(2, 8), with_digest(3, 8)]), Agreement::OwnDiffers { at: at(32) });
        let other_differs = Agreement::OtherDiffers { at: at(32), node: 3 };
        assert_eq!(agreement(&[with_digest(2, 7), with_digest(3, 8)]), other_differs);
        assert_eq!(agreement(&[with_digest(3, 8)]), other_differs, "a tie of one build: both alarm, both stay");
        let older = Report { build: 0, ..with_digest(3, 8) };
        assert_eq!(agreement(&[older]), Agreement::OwnDiffers { at: at(32) }, "a tie: the older build stays");
        let elsewhere = Report { digests: vec![(at(64), [8; 32])], ..with_digest(3, 8) };
        assert_eq!(agreement(&[elsewhere]), Agreement::Same, "nothing to compare");
    }

    #[test]
    fn a_difference_is_not_forgotten_and_keeps_the_log() {
        let own = with_digest(1, 7);
        let mut peers = peers(&own, &[with_digest(2, 8), with_digest(3, 8)], 0);
        let on = Report { digests: vec![(at(64), [9; 32])], ..own.clone() };
        for node in [2, 3] {
            peers.heard(Report { digests: on.digests.clone(), ..with_digest(node, 8) }, &on, 1);
        }
        assert_eq!(peers.agreement(), Agreement::OwnDiffers { at: at(32) });
        assert_eq!(peers.trim(&members(&["1", "2", "3"]), &own, 1), Trim::Diverged);
    }

    #[test]
    fn clients_are_sent_to_nodes_that_are_ready_and_elsewhere_first() {
        let own = report(1, "a", 1);
        let draining = Report { phase: Phase::Draining, ..report(4, "c", 1) };
        let peers = peers(&own, &[report(2, "a", 1), report(3, "b", 1), draining, own.clone()], 0);
        assert_eq!(peers.endpoints(&own, 2_000), ["https://3.example", "https://2.example"]);
        assert_eq!(peers.endpoints(&own, 2_001), Vec::<String>::new());
    }

    #[test]
    fn checkpoints_are_where_every_node_has_them_and_few() {
        let mut checkpoints = Checkpoints::default();
        for ordinal in 1..=10_000 {
            checkpoints.note(at(ordinal), [0; 32]);
        }
        let positions: Vec<u64> = checkpoints.latest().iter().map(|(position, _)| position.ordinal).collect();
        assert_eq!(positions.len(), CHECKPOINTS);
        assert_eq!((positions[0], positions[CHECKPOINTS - 1]), (9_984 - 63 * 32, 9_984));
    }
}
