//! Whether the views of a cell are the same. The digests that nodes have at checkpoints are votes; the minority takes itself out.
//!
//! A digest holds all that came before it: two views that agree at a position agreed at every earlier one, and two that differ never agree
//! again, unless one of them is replaced by a copy of the other.
//!
//! Such a copy says what its lender says. It is no vote of its own until it is known to agree with those who have not copied, or with everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ieum_core::ids::{NodeId, Position};
use ieum_planted::Bug;

use crate::peers::{Phase, Report};

/// Digests are compared at positions that are multiples of this.
pub const CHECKPOINT_EVERY: u64 = 32;
/// So many of them are told.
const CHECKPOINTS: usize = 64;
/// So many votes of a node are kept beside those that show a difference: a node that is slow is compared with what the others said.
const KEPT: usize = 1024;
/// More decisions than this are not taken over at once.
const DECISIONS: usize = 64;

type Digest = [u8; 32];

/// The digests of a view at positions that every node of the cell passes, and where this life began.
#[derive(Debug, Clone, Default)]
pub struct Checkpoints {
    began: Option<Position>,
    latest: BTreeMap<Position, Digest>,
}

impl Checkpoints {
    /// Of a life that begins here, whatever the ordinal: nodes that begin at the end of a log which takes nothing have no other to compare.
    #[must_use]
    pub fn begin(position: Position, digest: Digest) -> Self {
        // That two had nothing says nothing.
        let tells = position.ordinal > 0 && !Bug::BeginningNotCompared.planted();
        let beginning = Some((position, digest)).filter(|_| tells);
        Self { began: beginning.map(|(at, _)| at), latest: beginning.into_iter().collect() }
    }

    /// Where this life began, if there is a digest of it.
    #[must_use]
    pub fn began(&self) -> Option<Position> {
        self.began
    }

    /// Notes where the view stands, if that is a checkpoint.
    pub fn note(&mut self, position: Position, digest: Digest) {
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
    pub fn latest(&self) -> Vec<(Position, Digest)> {
        self.latest.iter().map(|(position, digest)| (*position, *digest)).collect()
    }
}

/// Whether the views of a cell are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// No difference is known.
    Same,
    /// Views differ, and it is open who has to go: votes are missing, or it is a tie of one build.
    Undecided {
        /// Where.
        at: Position,
    },
    /// Another node's view differs from the others', and that node is the one to go.
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

/// That a node has to go, as one says who saw it decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Who has to go.
    pub node: NodeId,
    /// Where it showed.
    pub at: Position,
    /// In which life of its process, if that is known.
    pub life: Option<u64>,
}

/// What a node said of its view at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Vote {
    digest: Digest,
    build: u64,
    life: u64,
    /// That life began there.
    begins: bool,
}

/// How two views compare where both voted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Compared {
    at: Position,
    same: bool,
}

/// What the nodes of a cell said of their views. It stays when they are gone.
#[derive(Debug, Default)]
pub(crate) struct Votes {
    by_node: BTreeMap<NodeId, BTreeMap<Position, Vote>>,
    /// Up to where each node has voted, and in which life.
    heard: BTreeMap<NodeId, (u64, Position)>,
    /// By two nodes, the lower number first.
    pairs: BTreeMap<(NodeId, NodeId), Compared>,
    /// The life of each node that alone counts.
    counts: BTreeMap<NodeId, u64>,
    /// In which life whose view is a copy of another's, as of a position, and was not compared with the others' since.
    copied: BTreeMap<(NodeId, u64), Position>,
    /// Who was found to have to go. A decision stays when votes that it was made by are gone.
    out: BTreeMap<NodeId, Out>,
}

/// Where it showed that a node has to go, and in which life it said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Out {
    at: Position,
    life: Option<u64>,
}

/// Who has to go, and where that shows; and where it is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) out: BTreeMap<NodeId, Position>,
    pub(crate) undecided: Option<Position>,
}

impl Votes {
    /// Takes in what a node says of its view.
    pub(crate) fn hear(&mut self, report: &Report) {
        let node = report.node;
        self.hear_copied(report);
        let before = self.heard.get(&node).filter(|(life, _)| *life == report.life).map(|(_, at)| *at);
        let new = report.digests.iter().take(CHECKPOINTS).filter(|(at, _)| before.is_none_or(|before| *at > before));
        for (at, digest) in new {
            let begins = report.began == Some(*at);
            self.vote(node, *at, Vote { digest: *digest, build: report.build, life: report.life, begins });
        }
        self.drop_old(node);
    }

    /// Whether a view is a copy is said of one life: what the next one has says nothing of the votes of this one, which count until the next was
    /// compared. Who comes up does not know yet, and may have said so before what was heard first.
    fn hear_copied(&mut self, Report { node, life, copied, phase, .. }: &Report) {
        let lifted = copied.is_none() && Bug::CopyVotesAgain.planted();
        let votes = self.by_node.get(node).filter(|_| !lifted);
        let has_voted = |of: u64| votes.is_some_and(|votes| votes.values().any(|vote| vote.life == of));
        self.copied.retain(|(other, of), _| other != node || of == life || has_voted(*of));
        if let Some(at) = copied {
            self.copied.insert((*node, *life), *at);
        } else if *phase != Phase::Joining || Bug::LateWordLifts.planted() {
            self.copied.remove(&(*node, *life));
        }
    }

    /// Takes over what another node has decided whose view is this one's: who has the same view would have decided the same. What is said of this node
    /// itself it is not told by others: its own votes show it.
    pub(crate) fn take_over(&mut self, own: NodeId, report: &Report, is_member: impl Fn(NodeId) -> bool) {
        let teller = report.node;
        if report.decided.is_empty() {
            return;
        }
        let same = self.pairs.get(&pair(own, teller)).filter(|pair| pair.same).map(|pair| pair.at);
        let is_current = self.counts.get(&teller) == Some(&report.life);
        let Some(same) = same.filter(|_| is_current && !self.out.contains_key(&teller)) else { return };
        for Decision { node, at, life } in report.decided.iter().take(DECISIONS).copied() {
            let is_it = match self.pairs.get(&pair(own, node)) {
                Some(pair) => !pair.same,
                // It may have come back since with another view.
                None => self.life(node).is_none() || self.life(node) == life,
            };
            let is_another = node != own && node != teller && is_member(node);
            if is_another && at <= same && is_it && !Bug::DecisionsUnheard.planted() {
                self.out.entry(node).or_insert(Out { at, life });
            }
        }
    }

    /// Who was found to have to go, for others who did not see it.
    pub(crate) fn decided(&self) -> Vec<Decision> {
        self.out.iter().map(|(node, Out { at, life })| Decision { node: *node, at: *at, life: *life }).collect()
    }

    /// Whether two nodes were compared, in whatever life of theirs.
    pub(crate) fn has_compared(&self, a: NodeId, b: NodeId) -> bool {
        self.pairs.contains_key(&pair(a, b))
    }

    /// Only what members have said counts on: one that was removed and is added again may come back with another view.
    pub(crate) fn only(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.by_node.retain(|node, _| is_member(*node));
        self.heard.retain(|node, _| is_member(*node));
        self.pairs.retain(|(a, b), _| is_member(*a) && is_member(*b));
        self.counts.retain(|node, _| is_member(*node));
        self.copied.retain(|(node, _), _| is_member(*node));
        self.out.retain(|node, _| is_member(*node));
    }

    fn vote(&mut self, node: NodeId, at: Position, vote: Vote) {
        self.heard.insert(node, (vote.life, at));
        self.by_node.entry(node).or_default().insert(at, vote);
        let others = self.by_node.iter().filter(|(other, _)| **other != node);
        let others: Vec<(NodeId, Vote)> =
            others.filter_map(|(other, votes)| Some((*other, *votes.get(&at)?))).collect();
        for (other, theirs) in others {
            let newest = Compared { at, same: theirs.digest == vote.digest };
            let known = self.pairs.entry(pair(node, other)).or_insert(newest);
            if at >= known.at {
                *known = newest;
            }
            for (node, life) in [(node, vote.life), (other, theirs.life)] {
                if self.counts.insert(node, life) != Some(life) {
                    self.forget_earlier_lives(node, life);
                }
            }
            if newest.same {
                self.comes_back(node, other);
                self.comes_back(other, node);
            }
        }
    }

    /// Who was out and agrees in another life with one that is not, is out no more.
    fn comes_back(&mut self, node: NodeId, with: NodeId) {
        let life = self.life(node);
        if !self.out.contains_key(&with) && self.out.get(&node).is_some_and(|out| out.life != life) {
            self.out.remove(&node);
        }
    }

    /// The life of a node that counts; of one that was never compared the one that was heard of.
    pub(crate) fn life(&self, node: NodeId) -> Option<u64> {
        self.counts.get(&node).copied().or_else(|| self.heard.get(&node).map(|(life, _)| *life))
    }

    /// What counts of a node that was started again is its new life, once that was compared with another node: it may have come back with
    /// another view.
    fn forget_earlier_lives(&mut self, node: NodeId, life: u64) {
        let votes = self.by_node.entry(node).or_default();
        votes.retain(|_, vote| vote.life == life);
        self.pairs.retain(|(a, b), pair| (*a != node && *b != node) || votes.contains_key(&pair.at));
    }

    /// Keeps a node's newest votes, and those that show a difference.
    fn drop_old(&mut self, node: NodeId) {
        let Some(more) = self.by_node.get(&node).and_then(|votes| votes.len().checked_sub(KEPT)) else { return };
        let evidence: BTreeSet<Position> = self.disputes(|_| true).map(|(_, at)| at).collect();
        let Some(votes) = self.by_node.get_mut(&node) else { return };
        let old: Vec<Position> = votes.keys().filter(|at| !evidence.contains(at)).take(more).copied().collect();
        for at in old {
            votes.remove(&at);
        }
    }

    /// Who said what at a position.
    fn said(&self, at: Position) -> impl Iterator<Item = (NodeId, Vote)> {
        self.by_node.iter().filter_map(move |(node, votes)| Some((*node, *votes.get(&at)?)))
    }

    /// Pairs of members whose views differ, and where that shows.
    fn disputes(&self, is_member: impl Fn(NodeId) -> bool) -> impl Iterator<Item = ((NodeId, NodeId), Position)> {
        let between_members = move |((a, b), _): &(&(NodeId, NodeId), &Compared)| is_member(*a) && is_member(*b);
        self.pairs.iter().filter(between_members).filter(|(_, pair)| !pair.same).map(|(nodes, pair)| (*nodes, pair.at))
    }

    /// Whether no two views are known to differ, and nobody was found to have to go.
    pub(crate) fn are_at_one(&self) -> bool {
        self.out.is_empty() && self.pairs.values().all(|pair| pair.same)
    }

    /// Judges, and stays with it: votes that decided may go, as those of a node that is replaced by a copy of another.
    pub(crate) fn decide(&mut self, members: &BTreeSet<NodeId>, there: &BTreeSet<NodeId>) -> Verdict {
        self.take_back(members);
        let verdict = self.judge(members, there);
        if !Bug::DecisionForgotten.planted() {
            for (node, at) in &verdict.out {
                let life = self.life(*node);
                self.out.entry(*node).or_insert(Out { at: *at, life });
            }
        }
        verdict
    }

    /// Who turns out to have what most of all members have come to by themselves need not go: fewer had decided.
    fn take_back(&mut self, members: &BTreeSet<NodeId>) {
        let positions: BTreeSet<Position> = self.disputes(|node| members.contains(&node)).map(|(_, at)| at).collect();
        for at in positions {
            let most =
                groups(&self.sides(at, members)).into_values().find(|group| self.weight(group) * 2 > members.len());
            let most = most.unwrap_or_default();
            self.out.retain(|node, out| out.at > at || !most.contains(node));
        }
    }

    /// Judges, given who the members are and which of them are there and may still vote.
    pub(crate) fn judge(&self, members: &BTreeSet<NodeId>, there: &BTreeSet<NodeId>) -> Verdict {
        let mut verdict = Verdict::default();
        let disputes: Vec<_> = self.disputes(|node| members.contains(&node)).collect();
        let positions: BTreeSet<Position> = disputes.iter().map(|(_, at)| *at).collect();
        for at in positions {
            for node in self.losers(at, members, there) {
                verdict.out.entry(node).or_insert(at);
            }
        }
        for (node, out) in self.out.iter().filter(|(node, _)| members.contains(node)) {
            verdict.out.entry(*node).or_insert(out.at);
        }
        let open = |(a, b): &(NodeId, NodeId)| !verdict.out.contains_key(a) && !verdict.out.contains_key(b);
        verdict.undecided = disputes.iter().filter(|(nodes, _)| open(nodes)).map(|(_, at)| *at).min();
        verdict
    }

    /// The members whose views differ at a position from the one that stays; none while that is open.
    fn losers(&self, at: Position, members: &BTreeSet<NodeId>, there: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let sides = self.sides(at, members);
        // Who is out says no more who else has to go.
        let groups = groups(sides.iter().filter(|(node, _)| !self.out.contains_key(node)));
        let is_most = |count: usize| count * 2 > members.len();
        let majority = groups.iter().find(|(_, group)| is_most(self.weight(group))).map(|(digest, _)| *digest);
        let all_have_voted =
            is_most(sides.len()) && there.iter().all(|node| sides.contains_key(node) || self.out.contains_key(node));
        // Where a life began only those vote who began there: whoever comes later could never say that most have come to something else.
        let mut said = self.said(at).filter(|(node, _)| members.contains(node));
        let begins = said.any(|(_, vote)| vote.begins) && !Bug::CheckpointBegunAtDecides.planted();
        let all_pass = (at.ordinal.is_multiple_of(CHECKPOINT_EVERY) && !begins) || Bug::BeginningDecides.planted();
        let enough = (all_have_voted && all_pass) || Bug::FirstVoteDecides.planted();
        let stays = majority.or_else(|| if enough { self.strongest(&groups) } else { None });
        let Some(stays) = stays else { return BTreeSet::new() };
        sides.into_iter().filter(|(_, digest)| *digest != stays).map(|(node, _)| node).collect()
    }

    /// Where the view was copied by which a node voted, if it was not vouched for since.
    fn copied(&self, node: NodeId) -> Option<Position> {
        self.copied.get(&(node, self.life(node)?)).copied()
    }

    /// Whether a node's vote is its own.
    fn is_own(&self, node: NodeId) -> bool {
        self.copied(node).is_none() || Bug::CopiesVote.planted()
    }

    /// How many have come to the same view by themselves. Of copies alone it is not known whose they are, so they are one.
    fn weight(&self, group: &BTreeSet<NodeId>) -> usize {
        group.iter().filter(|node| self.is_own(**node)).count().max(1)
    }

    /// The view that most have; of several the one that an older build has made; none when that is a tie, too, or when one of them is known from
    /// copies alone: no build of theirs has made it.
    fn strongest(&self, groups: &BTreeMap<Digest, BTreeSet<NodeId>>) -> Option<Digest> {
        let most = groups.values().map(|group| self.weight(group)).max()?;
        let tied: Vec<_> = groups.iter().filter(|(_, group)| self.weight(group) == most).collect();
        if let [(digest, _)] = tied.as_slice() {
            return Some(**digest);
        }
        let made = |group: &BTreeSet<NodeId>| {
            let all = group.iter().filter(|node| self.is_own(**node) || Bug::BuildOfCopies.planted());
            all.filter_map(|node| self.build(*node)).min()
        };
        let builds: Option<Vec<(u64, Digest)>> =
            tied.into_iter().map(|(digest, group)| Some((made(group)?, *digest))).collect();
        let mut builds = builds?;
        builds.sort_unstable();
        match builds.as_slice() {
            [(oldest, one), (next, _), ..] if oldest < next => Some(*one),
            _ => None,
        }
    }

    /// The build of a node's latest vote.
    fn build(&self, node: NodeId) -> Option<u64> {
        self.by_node.get(&node)?.last_key_value().map(|(_, vote)| vote.build)
    }

    /// Which digest each member's view had at a position: what it said, or what somebody said with whom it agreed there or later.
    fn sides(&self, at: Position, members: &BTreeSet<NodeId>) -> BTreeMap<NodeId, Digest> {
        let said = self.said(at).filter(|(node, _)| members.contains(node));
        let mut sides: BTreeMap<NodeId, Digest> = said.map(|(node, vote)| (node, vote.digest)).collect();
        // Each round finds at least one more, or ends.
        loop {
            let agreed = self.pairs.iter().filter(|(_, pair)| pair.same && pair.at >= at);
            let found = agreed.flat_map(|((a, b), _)| [(a, b), (b, a)]).find_map(|(unknown, known)| {
                let is_new = members.contains(unknown) && !sides.contains_key(unknown);
                sides.get(known).filter(|_| is_new).map(|digest| (*unknown, *digest))
            });
            let Some((node, digest)) = found else { return sides };
            sides.insert(node, digest);
        }
    }

    /// Whether a member's copy is known to be what the others have come to by themselves: at a position at or behind that of the copy most of all
    /// members agree with it whose own vote that is, or, where nearly all have copied, as in a cell that has just grown, every member.
    pub(crate) fn is_vouched_for(&self, node: NodeId, members: &BTreeSet<NodeId>) -> bool {
        let (Some(since), Some(votes)) = (self.copied(node), self.by_node.get(&node)) else { return false };
        votes.range(since..).rev().any(|(at, vote)| {
            let agree =
                self.said(*at).filter(|(other, theirs)| members.contains(other) && theirs.digest == vote.digest);
            let agree: BTreeSet<NodeId> = agree.map(|(other, _)| other).collect();
            let own = agree.iter().filter(|other| self.copied(**other).is_none()).count();
            own * 2 > members.len() || agree.len() == members.len()
        })
    }

    /// What is known of the differences, in words: who said what where.
    pub(crate) fn evidence(&self, members: &BTreeSet<NodeId>) -> String {
        let positions: BTreeSet<Position> = self.disputes(|node| members.contains(&node)).map(|(_, at)| at).collect();
        let mut text = String::new();
        for at in positions {
            for (node, vote) in self.said(at).filter(|(node, _)| members.contains(node)) {
                let hex = vote.digest.iter().take(8).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
                // Writing to a string cannot fail.
                let _ = write!(text, "at {at} node {node} (build {}) has {hex}; ", vote.build);
            }
        }
        text.trim_end_matches("; ").to_owned()
    }
}

/// Two nodes as they are found in what was compared.
fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}

/// Who has the same view.
fn groups<'a>(sides: impl IntoIterator<Item = (&'a NodeId, &'a Digest)>) -> BTreeMap<Digest, BTreeSet<NodeId>> {
    let mut groups: BTreeMap<Digest, BTreeSet<NodeId>> = BTreeMap::new();
    for (node, digest) in sides {
        groups.entry(*digest).or_default().insert(*node);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::tests::report;

    fn at(ordinal: u64) -> Position {
        Position::new(1, ordinal)
    }

    /// What a node of this build says in this life of positions 32, 64 …
    fn says(node: NodeId, build: u64, life: u64, digests: &[(u64, u8)]) -> Report {
        let digests = digests.iter().map(|(ordinal, digest)| (at(*ordinal), [*digest; 32])).collect();
        Report { build, life, digests, ..report(node, "a", 1) }
    }

    fn nodes(nodes: &[NodeId]) -> BTreeSet<NodeId> {
        nodes.iter().copied().collect()
    }

    /// Each node's digest at 32, all of build 1.
    fn votes(digests: &[(NodeId, u8)]) -> Votes {
        let mut votes = Votes::default();
        for (node, digest) in digests {
            votes.hear(&says(*node, 1, 1, &[(32, *digest)]));
        }
        votes
    }

    fn out(nodes: &[NodeId], ordinal: u64) -> Verdict {
        Verdict { out: nodes.iter().map(|node| (*node, at(ordinal))).collect(), undecided: None }
    }

    fn open(ordinal: u64) -> Verdict {
        Verdict { out: BTreeMap::new(), undecided: Some(at(ordinal)) }
    }

    #[test]
    fn the_minority_goes_once_enough_have_voted() {
        let three = nodes(&[1, 2, 3]);
        let judge = |digests: &[(NodeId, u8)], there: &[NodeId]| votes(digests).judge(&three, &nodes(there));
        assert_eq!(judge(&[(1, 7), (2, 7), (3, 7)], &[1, 2, 3]), Verdict::default());
        assert_eq!(judge(&[(1, 7), (2, 8)], &[1, 2, 3]), open(32), "the third will tell");
        assert_eq!(judge(&[(1, 7), (2, 8), (3, 8)], &[1, 2, 3]), out(&[1], 32));
        assert_eq!(judge(&[(1, 7), (2, 7), (3, 8)], &[1]), out(&[3], 32), "whoever is there");
        assert_eq!(judge(&[(1, 7), (2, 8), (3, 9)], &[1, 2, 3]), open(32));
        let five = nodes(&[1, 2, 3, 4, 5]);
        let two_of_five = votes(&[(1, 7), (2, 8)]);
        assert_eq!(two_of_five.judge(&five, &nodes(&[1, 2])), open(32), "most are gone");
        let three_of_five = votes(&[(1, 7), (2, 8), (3, 8)]);
        assert_eq!(three_of_five.judge(&five, &nodes(&[1, 2, 3, 4])), open(32), "the fourth may yet make it a tie");
        assert_eq!(three_of_five.judge(&five, &nodes(&[1, 2, 3])), out(&[1], 32));
    }

    #[test]
    fn on_a_tie_the_older_build_stays() {
        let judge = |builds: &[(NodeId, u64, u8)]| {
            let mut votes = Votes::default();
            for (node, build, digest) in builds {
                votes.hear(&says(*node, *build, 1, &[(32, *digest)]));
            }
            let all: BTreeSet<NodeId> = builds.iter().map(|(node, ..)| *node).collect();
            votes.judge(&all, &all)
        };
        assert_eq!(judge(&[(1, 2, 7), (2, 1, 8)]), out(&[1], 32));
        assert_eq!(judge(&[(1, 1, 7), (2, 1, 8)]), open(32), "both alarm");
        assert_eq!(judge(&[(1, 1, 7), (2, 2, 7), (3, 2, 8), (4, 2, 8)]), out(&[3, 4], 32));
        assert_eq!(judge(&[(1, 3, 7), (2, 2, 8), (3, 1, 9)]), out(&[1, 2], 32), "three views of three nodes");
        assert_eq!(judge(&[(1, 3, 7), (2, 1, 8), (3, 1, 9)]), open(32));
        assert_eq!(judge(&[(1, 1, 7), (2, 9, 8), (3, 9, 8)]), out(&[1], 32), "most count, whatever the build");
    }

    /// After all went dark two begin at the same place and differ, and the third is late: it has no vote there, and never will.
    #[test]
    fn where_lives_began_no_build_decides() {
        let mut votes = Votes::default();
        let three = nodes(&[1, 2, 3]);
        votes.hear(&says(1, 1, 1, &[(40, 7)]));
        votes.hear(&says(2, 2, 1, &[(40, 8)]));
        assert_eq!(votes.decide(&three, &nodes(&[1, 2])), open(40));
        votes.hear(&says(1, 1, 1, &[(40, 7), (64, 5)]));
        votes.hear(&says(2, 2, 1, &[(40, 8), (64, 6)]));
        votes.hear(&says(3, 2, 1, &[(64, 6)]));
        assert_eq!(votes.decide(&three, &three), out(&[1], 64), "two have come to the same");
    }

    /// The same where the log ended at a checkpoint: who comes later has no vote there, and who begins there, too, may not have been heard yet.
    #[test]
    fn where_lives_began_no_build_decides_at_a_checkpoint_either() {
        let mut votes = Votes::default();
        let three = nodes(&[1, 2, 3]);
        let begins = |node, build, digest| Report { began: Some(at(32)), ..says(node, build, 1, &[(32, digest)]) };
        votes.hear(&begins(1, 1, 7));
        votes.hear(&begins(2, 2, 8));
        assert_eq!(votes.decide(&three, &nodes(&[1, 2])), open(32));
        let mut together = Votes::default();
        votes.hear(&says(1, 1, 1, &[(64, 5)]));
        votes.hear(&says(2, 2, 1, &[(64, 6)]));
        votes.hear(&says(3, 2, 1, &[(64, 6)]));
        assert_eq!(votes.decide(&three, &three), out(&[1], 64), "the third came later");
        [begins(1, 1, 7), begins(2, 2, 8), begins(3, 2, 8)].iter().for_each(|report| together.hear(report));
        assert_eq!(together.decide(&three, &nodes(&[3])), out(&[1], 32), "most of all have come to the same");
    }

    /// While two differ, the third takes a copy of one of them: it says the same, and knows no more.
    #[test]
    fn a_copy_makes_no_majority_of_a_tie() {
        let all = nodes(&[1, 2, 3]);
        let mut votes = votes(&[(1, 7), (2, 8)]);
        let copy = |build, digests| Report { copied: Some(at(50)), ..says(3, build, 1, digests) };
        votes.hear(&says(1, 1, 1, &[(64, 6)]));
        votes.hear(&copy(1, &[(64, 6)]));
        assert_eq!(votes.judge(&all, &all), open(32));
        assert!(!votes.is_vouched_for(3, &all), "by its lender alone");
        votes.hear(&copy(0, &[(96, 6)]));
        assert_eq!(votes.judge(&all, &all), open(32), "its build has not made that view");
        votes.hear(&says(2, 2, 1, &[(96, 9)]));
        assert_eq!(votes.judge(&all, &all), out(&[2], 32), "an older one has made the first one's");
    }

    #[test]
    fn a_copy_votes_once_the_others_agree_with_it() {
        let all = nodes(&[1, 2, 3]);
        let mut votes = votes(&[(1, 7), (2, 7)]);
        let copy = |digests| Report { copied: Some(at(64)), ..says(3, 1, 1, digests) };
        votes.hear(&copy(&[(32, 7)]));
        assert!(!votes.is_vouched_for(3, &all), "that was before");
        votes.hear(&copy(&[(64, 7)]));
        votes.hear(&says(1, 1, 1, &[(64, 7)]));
        assert!(!votes.is_vouched_for(3, &all), "by one of three");
        votes.hear(&says(2, 1, 1, &[(64, 7)]));
        assert!(votes.is_vouched_for(3, &all));
        votes.hear(&says(3, 1, 1, &[(96, 7)]));
        votes.hear(&says(1, 1, 1, &[(96, 7)]));
        votes.hear(&says(2, 1, 1, &[(96, 8)]));
        assert_eq!(votes.judge(&all, &all), out(&[2], 96), "now it decides");
    }

    /// In a cell that has just grown all but the first have copied.
    #[test]
    fn copies_vouch_for_each_other_when_every_member_agrees() {
        let all = nodes(&[1, 2, 3]);
        let mut votes = votes(&[(1, 7)]);
        let copy = |node, digests| Report { copied: Some(at(10)), ..says(node, 1, 1, digests) };
        votes.hear(&copy(2, &[(32, 7)]));
        assert!(!votes.is_vouched_for(2, &all));
        votes.hear(&copy(3, &[(32, 7)]));
        assert!(votes.is_vouched_for(2, &all) && votes.is_vouched_for(3, &all));
        assert!(!votes.is_vouched_for(2, &nodes(&[1, 2, 3, 4])), "one has not spoken");
        votes.hear(&copy(3, &[(64, 8)]));
        votes.hear(&copy(2, &[(64, 8)]));
        votes.hear(&says(1, 1, 1, &[(64, 9)]));
        assert_eq!(votes.judge(&all, &all), open(64), "two copies of nobody knows whom");
    }

    /// A build says who has made a view; whoever has copied it has not.
    #[test]
    fn no_build_decides_for_a_view_that_only_copies_have() {
        let all = nodes(&[1, 2, 3]);
        let mut votes = votes(&[(1, 7), (2, 8), (3, 7)]);
        assert_eq!(votes.decide(&all, &all), out(&[2], 32));
        votes.hear(&says(1, 2, 1, &[(64, 7)]));
        votes.hear(&Report { copied: Some(at(40)), ..says(3, 1, 2, &[(64, 9)]) });
        let Verdict { out, undecided } = votes.decide(&all, &all);
        assert_eq!(out.keys().collect::<Vec<_>>(), [&2], "what it had given before it went");
        assert_eq!(undecided, Some(at(64)));
    }

    /// It is started again: until its new life was compared, the votes of the one before are what they were.
    #[test]
    fn a_copy_that_is_started_again_does_not_decide_a_tie() {
        let all = nodes(&[1, 2, 3]);
        let mut votes = votes(&[(1, 7), (2, 8)]);
        let copy = |life, copied, digests| Report { copied, ..says(3, 1, life, digests) };
        votes.hear(&copy(1, Some(at(20)), &[(32, 8)]));
        assert_eq!(votes.judge(&all, &all), open(32));
        // It answers before it knows, or says, what its view is.
        votes.hear(&copy(2, None, &[]));
        assert_eq!(votes.judge(&all, &all), open(32));
        votes.hear(&copy(2, Some(at(20)), &[(64, 8)]));
        votes.hear(&says(2, 1, 1, &[(64, 8)]));
        assert_eq!(votes.judge(&all, &all), open(32), "its new life is the copy that it was");
    }

    /// What it said while it came up arrives when it has said more.
    #[test]
    fn a_word_that_comes_late_makes_no_vote_of_a_copy() {
        let all = nodes(&[1, 2, 3]);
        let mut votes = votes(&[(1, 7), (2, 8)]);
        votes.hear(&Report { copied: Some(at(20)), ..says(3, 1, 1, &[(32, 8)]) });
        votes.hear(&Report { phase: Phase::Joining, ..says(3, 1, 1, &[]) });
        assert_eq!(votes.judge(&all, &all), open(32));
        votes.hear(&says(3, 1, 1, &[]));
        assert_eq!(votes.judge(&all, &all), out(&[1], 32), "it was vouched for");
    }

    /// What its earlier life said it has come to by itself.
    #[test]
    fn a_copy_takes_no_votes_from_the_life_before() {
        let all = nodes(&[1, 2, 3]);
        let mut votes = votes(&[(1, 7), (2, 8), (3, 8)]);
        votes.hear(&Report { copied: Some(at(40)), ..says(3, 1, 2, &[]) });
        assert_eq!(votes.judge(&all, &all), out(&[1], 32));
    }

    /// Who is out stays out when one of those who decided it is replaced by a copy of another.
    #[test]
    fn what_was_decided_stays_when_votes_go() {
        let all = nodes(&[1, 2, 3]);
        let mut votes = votes(&[(1, 7), (2, 7)]);
        votes.hear(&says(3, 0, 1, &[(32, 8)]));
        assert_eq!(votes.decide(&all, &nodes(&[1, 2])), out(&[3], 32));
        assert_eq!(votes.judge(&nodes(&[1, 3]), &nodes(&[1])), out(&[3], 32), "without the second");
        votes.hear(&Report { copied: Some(at(40)), ..says(2, 1, 2, &[(64, 6)]) });
        votes.hear(&says(1, 1, 1, &[(64, 6)]));
        assert_eq!(votes.decide(&all, &nodes(&[1, 2])), out(&[3], 32), "though the third is of an older build");
        assert!(!votes.is_vouched_for(2, &all));
        votes.hear(&says(3, 0, 2, &[(64, 5)]));
        assert_eq!(votes.decide(&all, &all).out.keys().collect::<Vec<_>>(), [&3], "its next life differs, too");
        votes.hear(&says(3, 0, 3, &[(64, 6)]));
        assert_eq!(votes.decide(&all, &all), Verdict::default(), "now it agrees");
    }

    /// Where it was decided, the votes of those who saw it are gone by now: 1 was started again, and 2 is a copy of it.
    #[test]
    fn what_others_decided_is_taken_over_from_who_has_the_same_view() {
        let all = nodes(&[1, 2, 3]);
        let says_so = |teller, life, node, ordinal| Report {
            decided: vec![Decision { node, at: at(ordinal), life: Some(1) }],
            ..says(teller, 1, life, &[])
        };
        let told = |digests: &[(NodeId, u8)], report: Report| {
            let mut votes = votes(digests);
            votes.take_over(1, &report, |node| all.contains(&node));
            votes.decide(&all, &nodes(&[1, 2])).out.into_keys().collect::<Vec<_>>()
        };
        let none = Vec::<NodeId>::new();
        assert_eq!(told(&[(1, 7), (2, 7)], says_so(2, 1, 3, 32)), [3], "of one that says nothing any more");
        assert_eq!(told(&[(1, 7)], says_so(2, 1, 3, 32)), none, "who says so was not compared with");
        assert_eq!(told(&[(1, 7), (2, 7)], says_so(2, 2, 3, 32)), none, "nor is in this life");
        assert_eq!(told(&[(1, 7), (2, 7)], says_so(2, 1, 3, 64)), none, "nor up to there");
        assert_eq!(told(&[(1, 7), (2, 8)], says_so(2, 1, 3, 32)), none, "it has another view");
        assert_eq!(told(&[(1, 7), (2, 7), (3, 7)], says_so(2, 1, 3, 32)), none, "here it agrees");
        assert_eq!(told(&[(1, 7), (2, 7)], says_so(2, 1, 1, 32)), none, "of this node itself");
        assert_eq!(told(&[(1, 7), (2, 7)], says_so(2, 1, 9, 32)), none, "of no member");
        let mut votes = votes(&[(1, 7), (2, 7)]);
        votes.hear(&says(3, 1, 2, &[(64, 8)]));
        votes.take_over(1, &says_so(2, 1, 3, 32), |_| true);
        assert_eq!(votes.decide(&all, &all), Verdict::default(), "it was started again since");
    }

    /// Who told it takes it back at the same time, or says it a while longer.
    #[test]
    fn what_was_taken_over_is_taken_back_and_ends_as_ones_own() {
        let all = nodes(&[1, 2, 3]);
        let decided = Report { decided: vec![Decision { node: 3, at: at(32), life: Some(1) }], ..says(2, 1, 1, &[]) };
        let mut votes = votes(&[(1, 7), (2, 7)]);
        votes.take_over(1, &decided, |_| true);
        assert_eq!(votes.decided(), decided.decided);
        votes.hear(&says(3, 1, 2, &[(32, 7)]));
        assert_eq!(votes.decide(&all, &all), Verdict::default(), "it agrees in its new life");
        votes.take_over(1, &decided, |_| true);
        assert_eq!(votes.decide(&all, &all), Verdict::default(), "what is said of the life before");
        votes.only(|node| node != 3);
        votes.take_over(1, &decided, |node| node != 3);
        assert_eq!(votes.decided(), [], "it was removed");
    }

    #[test]
    fn most_of_all_members_overrule_what_fewer_had_decided() {
        let all = nodes(&[1, 2, 3]);
        let mut votes = votes(&[(1, 7)]);
        votes.hear(&says(3, 2, 1, &[(32, 8)]));
        assert_eq!(votes.decide(&all, &nodes(&[1, 3])), out(&[3], 32), "of two the older build stays");
        votes.hear(&says(2, 1, 1, &[(32, 8)]));
        assert_eq!(votes.decide(&all, &all), out(&[1], 32));
    }

    #[test]
    fn who_was_removed_is_out_no_more() {
        let all = nodes(&[1, 2, 3]);
        let mut votes = votes(&[(1, 7), (2, 7), (3, 8)]);
        assert_eq!(votes.decide(&all, &all), out(&[3], 32));
        votes.only(|node| node != 3);
        votes.hear(&says(3, 1, 1, &[(32, 7)]));
        assert_eq!(votes.decide(&all, &all), Verdict::default());
    }

    #[test]
    fn who_was_removed_comes_back_without_its_votes() {
        let all = nodes(&[1, 2]);
        let mut votes = votes(&[(1, 7), (2, 8)]);
        assert_eq!(votes.judge(&all, &all), open(32));
        votes.only(|node| node == 1);
        assert_eq!(votes.judge(&all, &all), Verdict::default());
        votes.hear(&says(2, 1, 1, &[(32, 8)]));
        assert_eq!(votes.judge(&all, &all), open(32), "with the same view");
    }

    #[test]
    fn only_members_vote() {
        let votes = votes(&[(1, 7), (2, 7), (3, 8), (8, 8), (9, 8)]);
        assert_eq!(votes.judge(&nodes(&[1, 2, 3]), &nodes(&[1, 2, 3])), out(&[3], 32));
        assert_eq!(votes.judge(&nodes(&[1, 2]), &nodes(&[1, 2])), Verdict::default());
    }

    /// One that joined later has no digest where the others differ, but agrees with one of them since.
    #[test]
    fn who_came_later_votes_by_whom_it_agrees_with() {
        let mut votes = votes(&[(1, 7), (2, 8)]);
        let all = nodes(&[1, 2, 3]);
        votes.hear(&says(2, 1, 1, &[(64, 9)]));
        assert_eq!(votes.judge(&all, &nodes(&[2, 3])), open(32));
        votes.hear(&says(3, 1, 1, &[(64, 9)]));
        assert_eq!(votes.judge(&all, &nodes(&[2, 3])), out(&[1], 32));
    }

    #[test]
    fn a_difference_stays_until_the_node_has_come_back_with_another_view() {
        let all = nodes(&[1, 2, 3]);
        let mut votes = votes(&[(1, 7), (2, 7), (3, 8)]);
        for checkpoint in 2..3_000 {
            for node in [1, 2] {
                votes.hear(&says(node, 1, 1, &[(checkpoint * 32, 7)]));
            }
        }
        assert_eq!(votes.judge(&all, &nodes(&[1, 2])), out(&[3], 32), "long after it has gone");
        assert!(votes.by_node.values().all(|votes| votes.len() <= KEPT + 1));
        votes.hear(&says(3, 1, 2, &[(3_000 * 32, 6)]));
        assert_eq!(votes.judge(&all, &all), out(&[3], 32), "its new life has not been compared yet");
        votes.hear(&says(1, 1, 1, &[(3_000 * 32, 7)]));
        votes.hear(&says(2, 1, 1, &[(3_000 * 32, 7)]));
        assert_eq!(votes.judge(&all, &all), out(&[3], 3_000 * 32), "it still differs");
        votes.hear(&says(3, 1, 3, &[(3_000 * 32, 7)]));
        assert_eq!(votes.judge(&all, &all), Verdict::default());
        assert_eq!(votes.evidence(&all), "");
    }

    /// One that says what cannot be does not push out what the others say.
    #[test]
    fn each_nodes_votes_have_room_of_their_own() {
        let mut votes = votes(&[(1, 7)]);
        for checkpoint in 1..10_000 {
            votes.hear(&says(2, 1, 1, &[(u64::MAX - 10_000 + checkpoint, 9)]));
        }
        votes.hear(&says(3, 1, 1, &[(32, 8)]));
        assert_eq!(votes.judge(&nodes(&[1, 3]), &nodes(&[1, 3])), open(32));
    }

    #[test]
    fn the_evidence_names_who_said_what_where() {
        let votes = votes(&[(1, 7), (2, 7), (3, 8)]);
        assert_eq!(
            votes.evidence(&nodes(&[1, 2, 3])),
            "at 1.32 node 1 (build 1) has 0707070707070707; at 1.32 node 2 (build 1) has 0707070707070707; \
             at 1.32 node 3 (build 1) has 0808080808080808"
        );
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
