//! What a node knows of the other nodes of its cell, and what follows from it: how far the shared log may be trimmed, where clients may go
//! instead, whether the views agree. A state machine: it is handed reports and the monotonic time.

use std::collections::{BTreeMap, BTreeSet};

use ieum_core::ids::{Millis, NodeId, Position};
use ieum_planted::Bug;

pub use crate::agreement::{Agreement, Checkpoints, Decision};
use crate::agreement::{Verdict, Votes};

/// A node that has not been heard of for so long counts for nothing.
const GONE_AFTER: Millis = 10_000;
/// A node that has not been heard of for so long is no place to send clients to.
const QUIET_AFTER: Millis = 2_000;
/// A node that was just started listens for so long before it takes silence for absence: whoever can be reached has been asked twice by then.
const LISTENS_FOR: Millis = 5_000;

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

impl Phase {
    /// Whether clients are served, and its view counts.
    fn serves(self) -> bool {
        matches!(self, Self::Ready | Self::Behind | Self::Draining)
    }
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
    /// What of the log its journal has fsynced. Of no generation as long as it is not known to be of the log: the journal of a node that has
    /// halted, or that comes up and has not compared it yet.
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
    /// At which of these positions its life began, if that is still among them.
    pub began: Option<Position>,
    /// Where its view was copied from another node, until the others are known to have come to the same: till then its digests are no votes of
    /// its own.
    pub copied: Option<Position>,
    /// Who it knows to have been found to have to go.
    pub decided: Vec<Decision>,
}

impl Report {
    /// Whether it comes up and has nothing yet.
    fn has_nothing(&self) -> bool {
        self.phase == Phase::Joining && self.applied == Position::default()
    }
}

/// Why a copy of this node's view is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Views differ, this node's is one of them, and it is open which is the wrong one, or it is this one.
    Differs {
        /// Where.
        at: Position,
    },
    /// It was not compared yet with what another member has, in this life.
    NotCompared {
        /// With whose.
        node: NodeId,
    },
    /// Who the members are is not known yet.
    ComesUp,
}

/// What was heard of a node.
#[derive(Debug)]
struct Known {
    report: Report,
    /// When.
    heard: Millis,
    /// When its view had moved.
    moved: Millis,
    /// Whether it was seen in this life to come up with nothing: what it has was given to it since.
    from_nothing: bool,
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
#[derive(Debug, Default)]
pub struct Peers {
    known: BTreeMap<NodeId, Known>,
    /// The cell's members and their data centers, as this node's view has them.
    members: BTreeMap<NodeId, String>,
    votes: Votes,
    verdict: Verdict,
    /// Where this node's view differed; it stays until the node starts anew.
    own_differs: Option<Position>,
    /// Since when this node listens to the others.
    listens: Option<Millis>,
}

/// What a node says of its journal, which survives a power cut up to `synced`. Of no generation as long as it was not compared with the log: nobody
/// trims by it then, and that the node has data shows all the same.
#[must_use]
pub fn vouched(synced: Position, is_compared: bool) -> Position {
    if is_compared || Bug::UncomparedVouches.planted() {
        return synced;
    }
    Position { generation: 0, ..synced }
}

impl Peers {
    /// Who the members are, and in which data center each is. Nobody else counts.
    pub fn set_members(&mut self, members: BTreeMap<NodeId, String>) {
        self.votes.only(|node| members.contains_key(&node));
        self.members = members;
    }

    /// Who they are.
    #[must_use]
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.members.keys().copied().collect()
    }

    /// From now on, at the latest, the others are listened to.
    pub fn listen(&mut self, now: Millis) {
        self.listens.get_or_insert(now);
    }

    /// A node has said something of itself at `now`; `own` is what this node says.
    pub fn heard(&mut self, report: Report, own: &Report, now: Millis) {
        if self.members.contains_key(&report.node) {
            self.votes.hear(&report);
            if Bug::DecisionsComeLate.planted() {
                self.votes.take_over(own.node, &report, |node| self.members.contains_key(&node));
            }
        }
        self.know(report, now);
        self.judge(own, now);
    }

    fn know(&mut self, report: Report, now: Millis) {
        let before = self.known.get(&report.node).filter(|known| known.report.life == report.life);
        let moved = before.filter(|known| known.report.applied == report.applied).map_or(now, |known| known.moved);
        let from_nothing = report.has_nothing() || before.is_some_and(|known| known.from_nothing);
        self.known.insert(report.node, Known { report, heard: now, moved, from_nothing });
    }

    /// Who was found to have to go, as others may take it over.
    #[must_use]
    pub fn decided(&self) -> Vec<Decision> {
        self.votes.decided()
    }

    /// Compares the views. It is done again as time goes by, because it matters who is still there.
    pub fn judge(&mut self, own: &Report, now: Millis) {
        if !self.members.contains_key(&own.node) {
            return;
        }
        self.votes.hear(own);
        if !Bug::DecisionsComeLate.planted() {
            // Whose view is found to be this one's only now has said before what was decided.
            let known = self.known.values().filter(|known| now.saturating_sub(known.heard) <= GONE_AFTER);
            known.for_each(|Known { report, .. }| {
                self.votes.take_over(own.node, report, |node| self.members.contains_key(&node));
            });
        }
        self.verdict = if self.votes.are_at_one() {
            // As nearly always.
            Verdict::default()
        } else {
            self.votes.decide(&self.members(), &self.there(own, now))
        };
        if !Bug::MinorityStays.planted() {
            self.own_differs = self.own_differs.or_else(|| self.verdict.out.get(&own.node).copied());
        }
    }

    /// The members that are there and may still vote.
    fn there(&self, own: &Report, now: Millis) -> BTreeSet<NodeId> {
        let there = self
            .lately(now, GONE_AFTER)
            .filter(|report| report.phase.serves())
            .map(|report| report.node)
            .chain([own.node]);
        there.filter(|node| self.members.contains_key(node)).collect()
    }

    /// Why `newcomer` must not have a copy of this node's view: views differ so that it may be the wrong one, or it is not known yet whether they do.
    #[must_use]
    pub fn doubted_for(&self, newcomer: NodeId, own: &Report, now: Millis) -> Option<Doubt> {
        let differs = self.differs_for(newcomer, own, now).map(|at| Doubt::Differs { at });
        differs.or_else(|| self.not_compared(newcomer, own, now).filter(|_| !Bug::LendsUncompared.planted()))
    }

    /// Where views differ. What the newcomer's own view was does not matter: it gives that one up. Nor what the view of another one was that has
    /// given it up and has nothing, too.
    fn differs_for(&self, newcomer: NodeId, own: &Report, now: Millis) -> Option<Position> {
        let but = |mut nodes: BTreeSet<NodeId>| {
            nodes.retain(|node| *node != newcomer && !self.has_begun_anew(*node));
            nodes
        };
        let (members, there) = (but(self.members.keys().copied().collect()), but(self.there(own, now)));
        let verdict = self.votes.judge(&members, &there);
        let own_differs = self.own_differs.or_else(|| verdict.out.get(&own.node).copied());
        own_differs.or(verdict.undecided).filter(|_| !Bug::UndecidedGives.planted())
    }

    /// Whom this node has yet to compare its view with. A comparison with an earlier life of the other counts as long as that one's votes do.
    fn not_compared(&self, newcomer: NodeId, own: &Report, now: Millis) -> Option<Doubt> {
        if !self.members.contains_key(&own.node) {
            return Some(Doubt::ComesUp);
        }
        let others = self.members.keys().copied().filter(|node| *node != own.node && *node != newcomer);
        let mut yet = others.filter(|node| !self.votes.has_compared(own.node, *node));
        yet.find(|node| self.waits_for(*node, own, now)).map(|node| Doubt::NotCompared { node })
    }

    /// Whether another member has a view that this one will be compared with in a while. For one that is coming up it waits no longer than for one
    /// that is silent: that one may itself need help first.
    fn waits_for(&self, node: NodeId, own: &Report, now: Millis) -> bool {
        let ago = |then: Millis| now.saturating_sub(then);
        let listens = self.listens.is_none_or(|since| ago(since) < LISTENS_FOR);
        let Some(Known { report, heard, moved, from_nothing }) = self.known.get(&node) else { return listens };
        let is_there = ago(*heard) <= GONE_AFTER && report.phase.serves();
        // Its disk hangs, and it may never come to where this node began.
        let hangs = ago(*moved) > GONE_AFTER && own.digests.last().is_some_and(|(at, _)| report.applied < *at);
        (is_there || listens) && !from_nothing && !hangs
    }

    /// Whether a node's votes are of a view that it has no more: it was started again with nothing.
    fn has_begun_anew(&self, node: NodeId) -> bool {
        self.known
            .get(&node)
            .is_some_and(|Known { report, .. }| report.has_nothing() && self.votes.life(node) != Some(report.life))
    }

    /// Whether this node's view, which was copied, is known to be what the others have come to.
    #[must_use]
    pub fn vouch_for(&self, own: &Report) -> bool {
        self.votes.is_vouched_for(own.node, &self.members.keys().copied().collect())
    }

    /// Nodes that were heard of within `within` before `now`.
    fn lately(&self, now: Millis, within: Millis) -> impl Iterator<Item = &Report> {
        self.known
            .values()
            .filter(move |known| now.saturating_sub(known.heard) <= within)
            .map(|Known { report, .. }| report)
    }

    /// Those that were heard of lately, by number.
    #[must_use]
    pub fn reports(&self, now: Millis) -> Vec<Report> {
        self.lately(now, GONE_AFTER).cloned().collect()
    }

    /// Whether the views agree.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        if let Some(at) = self.own_differs {
            return Agreement::OwnDiffers { at };
        }
        match (self.verdict.undecided, self.verdict.out.first_key_value()) {
            (Some(at), _) => Agreement::Undecided { at },
            (None, Some((node, at))) => Agreement::OtherDiffers { at: *at, node: *node },
            (None, None) => Agreement::Same,
        }
    }

    /// What is known of differing views, in words: who said what where. Empty when no difference is known.
    #[must_use]
    pub fn evidence(&self) -> String {
        self.votes.evidence(&self.members.keys().copied().collect())
    }

    /// Whether no node serves whose view may be the wrong one, this one included. One that was set aside and comes up anew serves nobody yet.
    fn is_settled(&self, now: Millis) -> bool {
        let serves = |report: &Report| self.verdict.out.contains_key(&report.node) && report.phase.serves();
        self.own_differs.is_none() && self.verdict.undecided.is_none() && !self.lately(now, GONE_AFTER).any(serves)
    }

    /// How far the shared log may be trimmed, given what this node says of itself: what two data centers have on
    /// their disks, and no further than a member still has to read that has come as far as `nearest`.
    #[must_use]
    pub fn trim(&self, own: &Report, nearest: Position, now: Millis) -> Trim {
        if !self.is_settled(now) {
            return Trim::Diverged;
        }
        let by_dc = furthest_first(self.counted(own, now));
        let enough = usize::from(!Bug::TrimWithOneDataCenter.planted());
        let Some(safe) = by_dc.get(enough).copied() else { return Trim::OneDataCenter };
        let slowest = self
            .counted(own, now)
            .map(|(_, report)| report.synced)
            .filter(|synced| *synced >= nearest)
            .min()
            .unwrap_or(safe);
        Trim::UpTo(safe.min(slowest))
    }

    /// Whether what the log has forgotten, up to `trimmed`, would lie on the disks of one data center alone without this member; of none, where
    /// the others are all in one.
    #[must_use]
    pub fn is_needed(&self, member: NodeId, own: &Report, trimmed: Position, now: Millis) -> bool {
        if !self.members.contains_key(&member) || Bug::NeededTakenOut.planted() {
            return false;
        }
        let others = self.members.iter().filter(|(node, _)| **node != member);
        let dcs: BTreeSet<&str> = others.map(|(_, dc)| dc.as_str()).collect();
        let by_dc = furthest_first(self.counted(own, now).filter(|(_, report)| report.node != member));
        by_dc.into_iter().take_while(|synced| *synced >= trimmed).count() < dcs.len().min(2)
    }

    /// The members whose disks count, this node's own with them, and their data centers.
    fn counted<'a>(&'a self, own: &'a Report, now: Millis) -> impl Iterator<Item = (&'a str, &'a Report)> {
        let others = self.lately(now, GONE_AFTER).filter(|report| report.node != own.node);
        let others = others.filter(|report| !self.verdict.out.contains_key(&report.node));
        let said = others.chain([own]).filter(|report| report.synced.generation == own.synced.generation);
        said.filter_map(move |report| Some((self.members.get(&report.node)?.as_str(), report)))
    }

    /// How many nodes come before this one when it is about who trims: the ready ones by number, then those that are behind. Nothing when this one does
    /// not take part. In a log that is full everybody is behind, and somebody has to make room.
    #[must_use]
    pub fn before(&self, own: &Report, now: Millis) -> Option<usize> {
        let turn = |report: &Report| match report.phase {
            Phase::Ready => Some((0, report.node)),
            Phase::Behind => Some((1, report.node)),
            Phase::Joining | Phase::Draining | Phase::Out => None,
        };
        let mine = turn(own)?;
        let others = self.lately(now, GONE_AFTER).filter(|report| self.members.contains_key(&report.node));
        Some(others.filter_map(turn).filter(|theirs| *theirs < mine).count())
    }

    /// Members that run, and that a log which has forgotten what came before `trimmed` no longer reaches back to.
    #[must_use]
    pub fn left_behind(&self, own: &Report, trimmed: Position, now: Millis) -> BTreeSet<NodeId> {
        let runs = |report: &&Report| matches!(report.phase, Phase::Ready | Phase::Behind | Phase::Draining);
        let others = self.lately(now, GONE_AFTER).filter(runs).filter(|report| report.node != own.node);
        let members = others.filter(|report| self.members.contains_key(&report.node));
        members.filter(|report| report.synced < trimmed).map(|report| report.node).collect()
    }

    /// Whether any other node was heard of just now, whatever it is doing.
    #[must_use]
    pub fn hears_others(&self, own: &Report, now: Millis) -> bool {
        self.lately(now, QUIET_AFTER).any(|report| report.node != own.node)
    }

    /// Where clients of this node may go: the endpoints of others that are ready, those of other data centers first.
    #[must_use]
    pub fn endpoints(&self, own: &Report, now: Millis) -> Vec<String> {
        let ready = |report: &&Report| {
            report.node != own.node && report.phase == Phase::Ready && self.members.contains_key(&report.node)
        };
        let mut ready: Vec<&Report> = self.lately(now, QUIET_AFTER).filter(ready).collect();
        ready.sort_by_key(|report| (report.dc == own.dc, report.node));
        ready.into_iter().filter_map(|report| report.endpoint.clone()).collect()
    }
}

/// How far each data center has the log on a disk, the furthest first.
fn furthest_first<'a>(counted: impl Iterator<Item = (&'a str, &'a Report)>) -> Vec<Position> {
    let mut furthest: BTreeMap<&str, Position> = BTreeMap::new();
    for (dc, report) in counted {
        let of_dc = furthest.entry(dc).or_default();
        *of_dc = report.synced.max(*of_dc);
    }
    let mut by_dc: Vec<Position> = furthest.into_values().collect();
    by_dc.sort_unstable_by(|a, b| b.cmp(a));
    by_dc
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// So far back everybody is near.
    const FAR: Position = Position { generation: 0, ordinal: 0 };

    fn at(ordinal: u64) -> Position {
        Position::new(1, ordinal)
    }

    pub(crate) fn report(node: NodeId, dc: &str, synced: u64) -> Report {
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
            began: None,
            copied: None,
            decided: Vec::new(),
        }
    }

    fn with_digest(node: NodeId, digest: u8) -> Report {
        Report { digests: vec![(at(32), [digest; 32])], ..report(node, &node.to_string(), 40) }
    }

    /// What a node has heard at `now`, in a cell whose members 1, 2, 3 … lie in these data centers.
    fn peers(dcs: &[&str], own: &Report, others: &[Report], now: Millis) -> Peers {
        let mut peers = Peers::default();
        peers.listen(0);
        peers.set_members((1..).zip(dcs.iter().map(|dc| (*dc).to_owned())).collect());
        others.iter().for_each(|other| peers.heard(other.clone(), own, now));
        peers
    }

    #[test]
    fn the_log_is_trimmed_to_what_two_data_centers_have_on_their_disks() {
        let own = report(1, "a", 90);
        let all = [report(2, "a", 100), report(3, "b", 70), report(4, "c", 50)];
        let trim = |others: &[Report]| peers(&["a", "a", "b", "c"], &own, others, 0).trim(&own, FAR, 0);
        assert_eq!(trim(&all), Trim::UpTo(at(50)), "the third is not far behind, so that it need not resync");
        assert_eq!(trim(&all[..2]), Trim::UpTo(at(70)));
        assert_eq!(trim(&all[..1]), Trim::OneDataCenter, "two nodes, but of one data center");
        assert_eq!(trim(&[]), Trim::OneDataCenter);
    }

    #[test]
    fn who_alone_has_beside_one_what_the_log_has_forgotten_is_needed() {
        let own = report(1, "a", 90);
        let is_needed = |others: &[Report], member, trimmed| {
            peers(&["a", "b", "c"], &own, others, 0).is_needed(member, &own, at(trimmed), 0)
        };
        let all = [report(2, "b", 50), report(3, "c", 90)];
        assert!(!is_needed(&all, 3, 50), "the second data center has it, too");
        assert!(is_needed(&all, 3, 51) && !is_needed(&all, 2, 51));
        assert!(is_needed(&all[1..], 3, 51), "nobody knows what the third has");
        assert!(!is_needed(&all[1..], 2, 51) && !is_needed(&all[..1], 3, 50), "one whose data center has burnt");
        assert!(!is_needed(&all, 4, 51), "no member");
        let two = peers(&["a", "b"], &own, &all[..1], 0);
        assert!(
            !two.is_needed(2, &own, at(90), 0) && two.is_needed(2, &own, at(91), 0),
            "one data center is to be left"
        );
    }

    /// It rebuilds its view for minutes, while its journal is level with the log; the third data center is down, or has a witness alone.
    #[test]
    fn what_a_node_has_on_its_disk_that_comes_up_counts_for_its_data_center() {
        let own = report(1, "a", 600);
        let comes_up = |synced| Report { phase: Phase::Joining, applied: at(0), ..report(2, "b", synced) };
        let trim = |others: &[Report]| peers(&["a", "b", "c"], &own, others, 0).trim(&own, FAR, 0);
        assert_eq!(trim(&[comes_up(590)]), Trim::UpTo(at(590)));
        assert_eq!(trim(&[comes_up(300), report(3, "c", 500)]), Trim::UpTo(at(300)), "it has to read what follows");
        let not_compared = Report { synced: Position::new(0, 590), ..comes_up(590) };
        assert_eq!(trim(std::slice::from_ref(&not_compared)), Trim::OneDataCenter, "it may be another history");
        assert_eq!(trim(&[not_compared, report(3, "c", 500)]), Trim::UpTo(at(500)));
    }

    #[test]
    fn a_member_that_is_far_behind_does_not_hold_the_log_back() {
        let own = report(1, "a", 300);
        let peers = peers(&["a", "b", "c"], &own, &[report(2, "b", 250), report(3, "c", 10)], 0);
        assert_eq!(peers.trim(&own, at(10), 0), Trim::UpTo(at(10)));
        assert_eq!(peers.trim(&own, at(11), 0), Trim::UpTo(at(250)));
        assert_eq!(peers.trim(&own, at(1_000), 0), Trim::UpTo(at(250)), "never beyond what two have");
        assert_eq!(peers.left_behind(&own, at(10), 0), BTreeSet::new());
        assert_eq!(peers.left_behind(&own, at(11), 0), BTreeSet::from([3]));
    }

    #[test]
    fn nodes_trim_in_the_order_of_their_numbers_and_those_behind_come_last() {
        let with = |node, phase| Report { phase, ..report(node, "a", 1) };
        let before = |phases: [Phase; 3], own: usize| {
            let all: Vec<Report> = (1..).zip(phases).map(|(node, phase)| with(node, phase)).collect();
            peers(&["a", "b", "c"], &all[own], &all, 0).before(&all[own], 0)
        };
        let (ready, behind) = (Phase::Ready, Phase::Behind);
        assert_eq!([0, 1, 2].map(|own| before([ready; 3], own)), [Some(0), Some(1), Some(2)]);
        assert_eq!([0, 1, 2].map(|own| before([behind, ready, ready], own)), [Some(2), Some(0), Some(1)]);
        assert_eq!([0, 1, 2].map(|own| before([behind; 3], own)), [Some(0), Some(1), Some(2)], "a log that is full");
        assert_eq!([0, 1, 2].map(|own| before([Phase::Joining, Phase::Draining, ready], own)), [None, None, Some(0)]);
        let own = report(3, "a", 1);
        assert_eq!(peers(&["a", "b", "c"], &own, &[report(2, "b", 1)], 0).before(&own, 10_001), Some(0), "it is gone");
    }

    #[test]
    fn only_members_that_were_heard_of_lately_count() {
        let own = report(1, "a", 90);
        let trim = |dcs: &[&str], other: Report, now| peers(dcs, &own, &[other], 1_000).trim(&own, FAR, now);
        let other = report(2, "b", 70);
        assert_eq!(trim(&["a", "b"], other.clone(), 11_000), Trim::UpTo(at(70)));
        assert_eq!(trim(&["a", "b"], other.clone(), 11_001), Trim::OneDataCenter);
        assert_eq!(trim(&["a"], other.clone(), 1_000), Trim::OneDataCenter, "it was removed");
        let elsewhere = trim(&["a", "a"], other.clone(), 1_000);
        assert_eq!(elsewhere, Trim::OneDataCenter, "it says so of its data center, the cell says otherwise");
        let before = Report { synced: Position::new(0, 70), ..other };
        assert_eq!(trim(&["a", "b"], before, 1_000), Trim::OneDataCenter);
    }

    #[test]
    fn the_minority_takes_itself_out() {
        let own = with_digest(1, 7);
        let agreement = |others: &[Report]| peers(&["1", "2", "3"], &own, others, 0).agreement();
        assert_eq!(agreement(&[with_digest(2, 7), with_digest(3, 7)]), Agreement::Same);
        assert_eq!(
            agreement(&[with_digest(2, 8)]),
            Agreement::Undecided { at: at(32) },
            "who spoke first is no majority"
        );
        assert_eq!(agreement(&[with_digest(2, 8), with_digest(3, 8)]), Agreement::OwnDiffers { at: at(32) });
        let other_differs = Agreement::OtherDiffers { at: at(32), node: 3 };
        assert_eq!(agreement(&[with_digest(2, 7), with_digest(3, 8)]), other_differs);
        let strangers = [with_digest(2, 7), with_digest(8, 8), with_digest(9, 8)];
        assert_eq!(agreement(&strangers), Agreement::Same, "they are no members");
        let elsewhere = Report { digests: vec![(at(64), [8; 32])], ..with_digest(3, 8) };
        assert_eq!(agreement(&[elsewhere]), Agreement::Same, "nothing to compare");
    }

    /// Else the log could never be trimmed again once a node has failed so.
    #[test]
    fn the_log_is_kept_while_views_differ_until_the_minority_is_out() {
        let own = with_digest(1, 7);
        let mut peers = peers(&["1", "2", "3"], &own, &[with_digest(2, 8), with_digest(3, 7)], 0);
        assert_eq!(peers.trim(&own, FAR, 0), Trim::Diverged, "it still serves");
        peers.heard(Report { phase: Phase::Out, ..with_digest(2, 8) }, &own, 1);
        assert_eq!(peers.trim(&own, FAR, 1), Trim::UpTo(at(40)));
        peers.heard(with_digest(2, 8), &own, 2);
        assert_eq!(peers.trim(&own, FAR, 2), Trim::Diverged);
        let anew = Report { life: 9, phase: Phase::Joining, digests: Vec::new(), ..with_digest(2, 8) };
        peers.heard(anew, &own, 3);
        assert_eq!(peers.trim(&own, FAR, 3), Trim::UpTo(at(40)), "it was set aside and comes up anew");
        peers.heard(with_digest(2, 8), &own, 4);
        peers.heard(with_digest(3, 7), &own, 20_000);
        assert_eq!(peers.trim(&own, FAR, 20_000), Trim::UpTo(at(40)), "it is gone");
        assert_eq!(peers.agreement(), Agreement::OtherDiffers { at: at(32), node: 2 }, "and not forgotten");
        assert!(peers.evidence().contains("node 2"));
    }

    #[test]
    fn a_tie_keeps_the_log_also_when_the_other_is_gone() {
        let own = with_digest(1, 7);
        let mut peers = peers(&["1", "2", "3"], &own, &[with_digest(2, 8), report(3, "3", 40)], 0);
        peers.heard(report(3, "3", 40), &own, 20_000);
        peers.judge(&own, 20_000);
        assert_eq!(peers.agreement(), Agreement::Undecided { at: at(32) });
        assert_eq!(peers.trim(&own, FAR, 20_000), Trim::Diverged);
        peers.set_members([(1, "1".to_owned()), (3, "3".to_owned())].into());
        peers.judge(&own, 20_000);
        assert_eq!(peers.trim(&own, FAR, 20_000), Trim::UpTo(at(40)), "the operator has removed it");
    }

    #[test]
    fn who_may_be_wrong_gives_no_copy_but_to_whoever_it_differs_from() {
        let own = with_digest(1, 7);
        let doubted = |others: &[Report]| {
            let peers = peers(&["1", "2", "3", "4"], &own, others, LISTENS_FOR);
            [2, 3, 4].map(|newcomer| peers.doubted_for(newcomer, &own, LISTENS_FOR))
        };
        let differs = Some(Doubt::Differs { at: at(32) });
        assert_eq!(doubted(&[with_digest(2, 7), with_digest(3, 7)]), [None; 3]);
        assert_eq!(doubted(&[with_digest(2, 8)]), [None, differs, differs], "a tie; the second gives its view up");
        assert_eq!(
            doubted(&[with_digest(2, 7), with_digest(3, 7), with_digest(4, 8)]),
            [None; 3],
            "it is not this one"
        );
        let outvoted = [with_digest(2, 8), with_digest(3, 8), with_digest(4, 8)];
        assert_eq!(doubted(&outvoted), [differs; 3]);
    }

    /// A member that has another view than `with_digest(1, 7)`, or is about to have one.
    const NOT_COMPARED: Option<Doubt> = Some(Doubt::NotCompared { node: 2 });

    fn begins_with_nothing(node: NodeId) -> Report {
        Report { phase: Phase::Joining, applied: Position::default(), ..report(node, &node.to_string(), 0) }
    }

    /// What is known of differing views is in memory: in a tie, and also where all nodes were started at once.
    #[test]
    fn who_was_just_started_lends_once_it_has_compared_with_all_who_are_there() {
        let (started, own, late) = (report(1, "1", 40), with_digest(1, 7), 60_000);
        let mut peers = peers(&["1", "2", "3", "4"], &started, &[with_digest(2, 8), report(3, "3", 40)], late);
        peers.heard(begins_with_nothing(4), &started, late);
        assert_eq!(peers.doubted_for(4, &started, late), NOT_COMPARED, "however long it has run");
        let other = Some(Doubt::NotCompared { node: 3 });
        assert_eq!(peers.doubted_for(2, &started, late), other, "the second gives its own view up");
        peers.judge(&own, late);
        assert_eq!(peers.doubted_for(4, &own, late), Some(Doubt::Differs { at: at(32) }));
        peers.heard(with_digest(3, 7), &own, late);
        assert_eq!(peers.doubted_for(4, &own, late), None, "two of the three who are there");
        let anew = Report { life: 70, digests: Vec::new(), ..with_digest(2, 7) };
        let mut same = self::peers(&["1", "2", "3"], &own, &[with_digest(2, 7)], late);
        same.heard(anew, &own, late);
        assert_eq!(same.doubted_for(3, &own, late), None, "it was compared before it was started again");
    }

    /// A data center is lost, a node is down for good, or all others are.
    #[test]
    fn who_hears_nobody_for_a_while_lends() {
        let own = report(1, "1", 40);
        let alone = peers(&["1", "2", "3"], &own, &[], 0);
        assert_eq!(alone.doubted_for(3, &own, LISTENS_FOR - 1), NOT_COMPARED);
        assert_eq!(alone.doubted_for(3, &own, LISTENS_FOR), None);
        let deaf = Peers { listens: None, ..peers(&["1", "2", "3"], &own, &[], 0) };
        assert_eq!(deaf.doubted_for(3, &own, LISTENS_FOR), NOT_COMPARED, "it took long until it listened at all");
        let gone = peers(&["1", "2", "3"], &own, &[report(2, "2", 40)], 7_000);
        assert_eq!(gone.doubted_for(3, &own, 17_000), NOT_COMPARED);
        assert_eq!(gone.doubted_for(3, &own, 17_001), None);
        assert_eq!(peers(&["1"], &own, &[], 0).doubted_for(2, &own, 0), None, "a cell of one node");
        assert_eq!(Peers::default().doubted_for(2, &own, 0), Some(Doubt::ComesUp), "its members are not known yet");
    }

    /// Two that come up at once with data, and need a copy: each would wait for the other.
    #[test]
    fn who_comes_up_with_data_is_waited_for_no_longer_than_who_is_silent() {
        let own = report(1, "1", 40);
        let comes_up = Report { phase: Phase::Joining, applied: at(0), ..report(2, "2", 40) };
        let mut peers = peers(&["1", "2", "3"], &own, &[comes_up], LISTENS_FOR - 1);
        assert_eq!(peers.doubted_for(3, &own, LISTENS_FOR - 1), NOT_COMPARED);
        assert_eq!(peers.doubted_for(3, &own, LISTENS_FOR), None);
        peers.heard(report(2, "2", 41), &own, LISTENS_FOR);
        assert_eq!(peers.doubted_for(3, &own, LISTENS_FOR), NOT_COMPARED, "now it serves, and will be compared with");
    }

    /// Else each newcomer that is ready would keep the next one waiting.
    #[test]
    fn who_came_up_with_nothing_is_not_waited_for() {
        let own = report(1, "1", 40);
        let mut peers = peers(&["1", "2", "3"], &own, &[begins_with_nothing(2), begins_with_nothing(3)], 0);
        assert_eq!([2, 3].map(|newcomer| peers.doubted_for(newcomer, &own, 0)), [None; 2]);
        peers.heard(report(2, "2", 41), &own, 1);
        assert_eq!(peers.doubted_for(3, &own, 1), None, "what it has it was given since");
        peers.heard(Report { life: 70, ..report(2, "2", 42) }, &own, 2);
        assert_eq!(peers.doubted_for(3, &own, 2), NOT_COMPARED, "that it began with something");
    }

    /// It lives, and never comes to where this node began.
    #[test]
    fn whose_disk_hangs_is_not_waited_for() {
        let behind = |applied| Report { phase: Phase::Behind, ..report(2, "2", applied) };
        let own = Report { digests: vec![(at(64), [7; 32])], ..report(1, "1", 70) };
        let mut peers = peers(&["1", "2", "3"], &own, &[behind(40)], 20_000);
        peers.heard(behind(40), &own, 30_001);
        assert_eq!(
            peers.doubted_for(3, &report(1, "1", 70), 30_001),
            NOT_COMPARED,
            "it may be the log that stands still"
        );
        assert_eq!(peers.doubted_for(3, &own, 30_000), NOT_COMPARED);
        assert_eq!(peers.doubted_for(3, &own, 30_001), None);
        peers.heard(behind(41), &own, 30_002);
        assert_eq!(peers.doubted_for(3, &own, 30_002), NOT_COMPARED, "it was slow");
        peers.heard(Report { digests: own.digests.clone(), ..behind(64) }, &own, 30_003);
        assert_eq!(peers.doubted_for(3, &own, 30_003), None);
    }

    /// In a tie that was decided one of two that agree was started again, and the other one is a copy.
    #[test]
    fn who_was_just_started_hears_what_was_decided() {
        let own = with_digest(1, 7);
        let decided = vec![Decision { node: 3, at: at(32), life: Some(3) }];
        let second = Report { copied: Some(at(20)), ..with_digest(2, 7) };
        let mut peers = peers(&["1", "2", "3", "4"], &own, &[second.clone(), with_digest(3, 8)], LISTENS_FOR);
        assert_eq!(
            peers.doubted_for(4, &own, LISTENS_FOR),
            Some(Doubt::Differs { at: at(32) }),
            "two views of one each"
        );
        peers.heard(Report { decided, ..second }, &own, LISTENS_FOR);
        assert_eq!(peers.doubted_for(4, &own, LISTENS_FOR), None);
        assert_eq!(peers.agreement(), Agreement::OtherDiffers { at: at(32), node: 3 });
        assert_eq!(peers.decided().len(), 1, "and tells others");
    }

    /// What others have decided it was told before it had come to where it is compared with them: there the third's older build must not decide.
    #[test]
    fn what_was_decided_counts_as_soon_as_views_are_compared() {
        let starts = Report { copied: Some(at(20)), ..report(1, "1", 40) };
        let second = Report {
            decided: vec![Decision { node: 3, at: at(32), life: Some(3) }],
            digests: vec![(at(64), [7; 32])],
            ..report(2, "2", 64)
        };
        let third = Report { digests: vec![(at(64), [8; 32])], build: 0, ..report(3, "3", 64) };
        let mut peers = peers(&["1", "2", "3"], &starts, &[second, third], LISTENS_FOR);
        peers.judge(&Report { digests: vec![(at(64), [7; 32])], ..starts }, LISTENS_FOR);
        assert_eq!(peers.agreement(), Agreement::OtherDiffers { at: at(64), node: 3 });
    }

    /// Else nobody could be helped any more.
    #[test]
    fn one_that_is_out_does_not_keep_the_others_from_helping_each_other() {
        let own = with_digest(1, 7);
        let third = Report { phase: Phase::Out, build: 0, ..with_digest(3, 8) };
        let peers = peers(&["1", "2", "3"], &own, &[with_digest(2, 7), third], 0);
        assert_eq!(peers.agreement(), Agreement::OtherDiffers { at: at(32), node: 3 });
        assert_eq!([2, 3].map(|newcomer| peers.doubted_for(newcomer, &own, 0)), [None; 2]);
    }

    /// Two set their data aside at once, and this one is to help both.
    #[test]
    fn the_views_of_those_who_have_begun_anew_count_for_nothing() {
        let own = with_digest(1, 7);
        let third = Report { copied: Some(at(40)), ..with_digest(3, 8) };
        let mut peers = peers(&["1", "2", "3"], &own, &[with_digest(2, 8), third], 0);
        let doubted = |peers: &Peers| [2, 3].map(|newcomer| peers.doubted_for(newcomer, &own, 0));
        let differs = Some(Doubt::Differs { at: at(32) });
        assert_eq!(doubted(&peers), [differs; 2]);
        let anew = |node| Report {
            phase: Phase::Joining,
            applied: Position::default(),
            life: 70,
            digests: Vec::new(),
            ..with_digest(node, 0)
        };
        peers.heard(Report { applied: at(0), ..anew(2) }, &own, 0);
        assert_eq!(doubted(&peers), [differs; 2], "it has something of this log");
        peers.heard(anew(2), &own, 0);
        assert_eq!(doubted(&peers), [differs, None], "the third still has what differs");
        peers.heard(anew(3), &own, 0);
        assert_eq!(doubted(&peers), [None; 2]);
    }

    #[test]
    fn that_ones_own_view_differs_is_not_forgotten() {
        let own = with_digest(1, 7);
        let mut peers = peers(&["1", "2", "3"], &own, &[with_digest(2, 8), with_digest(3, 8)], 0);
        let on = Report { digests: vec![(at(64), [9; 32])], ..own.clone() };
        for node in [2, 3] {
            peers.heard(Report { digests: on.digests.clone(), ..with_digest(node, 8) }, &on, 1);
        }
        assert_eq!(peers.agreement(), Agreement::OwnDiffers { at: at(32) });
        assert_eq!(peers.trim(&own, FAR, 1), Trim::Diverged);
    }

    #[test]
    fn clients_are_sent_to_members_that_are_ready_and_elsewhere_first() {
        let own = report(1, "a", 1);
        let draining = Report { phase: Phase::Draining, ..report(4, "c", 1) };
        let others = [report(2, "a", 1), report(3, "b", 1), draining, own.clone(), report(5, "c", 1)];
        let peers = peers(&["a", "a", "b", "c"], &own, &others, 0);
        assert_eq!(peers.endpoints(&own, 2_000), ["https://3.example", "https://2.example"]);
        assert!(peers.hears_others(&own, 2_000));
        assert_eq!(peers.endpoints(&own, 2_001), Vec::<String>::new());
        assert!(!peers.hears_others(&own, 2_001));
    }
}
