//! A new generation of a log that is lost: what follows from where the nodes stand and what etcd holds (docs/decisions/reseed.md).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ieum_core::ids::{NodeId, Position};
use ieum_log::sqlite::Predecessor;
use ieum_planted::Bug;

use crate::halt::{Shared, Stand, Stood, Verdict, judge};
use crate::log_position;

/// What the nodes say.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Who has halted.
    pub stood: BTreeMap<NodeId, Stood>,
    /// Who runs, or is coming up, and where its view is.
    pub runs: BTreeMap<NodeId, Position>,
    /// Who comes up and has no data yet.
    pub empty: BTreeSet<NodeId>,
    /// Why others say nothing.
    pub silent: Vec<String>,
}

impl Seen {
    /// For the operator, a line each.
    pub fn lines(&self) -> Vec<String> {
        let stood = self.stood.values();
        let stood = stood.map(|stood| match (stood, can_begin(stood)) {
            (Stood { node, dc, stand }, true) => {
                format!("Node {node} in data center {dc} has halted at {}.", stand.applied)
            }
            (Stood { node, dc, stand }, false) => format!(
                "Node {node} in data center {dc} has halted without a view in which it is a member; its journal ends at {}.",
                stand.applied
            ),
        });
        let runs = self.runs.keys().map(|node| format!("Node {node} has not halted yet."));
        let empty = self.empty.iter().map(|node| format!("Node {node} has no data yet."));
        stood.chain(runs).chain(empty).chain(self.silent.iter().cloned()).collect()
    }
}

/// How long somebody who asks for a new generation waits for nodes to halt and to become level, in milliseconds of any clock.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    until: u64,
    at_most: u64,
    at: BTreeMap<NodeId, Position>,
}

/// So long in any case.
const HALTING_MS: u64 = 15_000;
/// And so long since one has halted or moved: by then those behind it have compared what they have with it.
const COMPARING_MS: u64 = 5_000;
/// But no longer than this: a node that is started again and again would keep everybody waiting.
const AT_MOST_MS: u64 = 60_000;

impl Patience {
    /// From now on.
    #[must_use]
    pub fn since(now: u64) -> Self {
        Self { until: now + HALTING_MS, at_most: now + AT_MOST_MS, at: BTreeMap::new() }
    }

    /// Whether it is over, now that the nodes are seen like this.
    pub fn is_over(&mut self, now: u64, seen: &Seen) -> bool {
        let at: BTreeMap<NodeId, Position> = seen.stood.iter().map(|(node, of)| (*node, of.stand.applied)).collect();
        if self.at != at && !Bug::LateComersUncompared.planted() {
            self.until = self.until.max(now + COMPARING_MS).min(self.at_most);
            self.at = at;
        }
        now >= self.until
    }
}

/// How the new generation begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Behind this.
    pub end: Predecessor,
    /// Whose view that is.
    pub furthest: NodeId,
    /// The latest generation that is known of.
    pub newest: u32,
    /// Members that are not given up.
    pub members: Vec<NodeId>,
    /// Nodes that are behind, and where they stand.
    pub behind: Vec<(NodeId, Position)>,
    /// Nodes that have no view in which they are members, or nothing at all.
    pub without_view: Vec<NodeId>,
    /// Nodes that are given up, and where they stand if they say so.
    pub given_up: Vec<(NodeId, Option<Position>)>,
}

/// It was done before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Already {
    /// The generation that has begun.
    pub generation: u32,
    /// Where the one before ended.
    pub end: Position,
    /// Who is a member.
    pub members: Vec<NodeId>,
}

impl fmt::Display for Already {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, end, .. } = self;
        write!(
            f,
            "Generation {generation} of the log has begun behind {end} already, and the nodes that stand there go on with it by themselves."
        )
    }
}

/// Why nothing is done.
#[expect(missing_docs, reason = "what each says is its text")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    #[error("{0}")]
    Already(Already),
    #[error(
        "etcd holds the log of cell {found}, not of cell {asked}: set the cell's number right ([node] cell), or give the endpoints of its own etcd"
    )]
    OtherCell { found: u32, asked: u16 },
    #[error(
        "no node answers that has halted{}. Start the nodes: those whose log is lost halt by themselves, and say so",
        list(silent)
    )]
    Nobody { silent: Vec<String> },
    #[error(
        "node {} runs and has not halted, so it does not find its log lost; nothing may be reseeded beside it. {}", numbers(nodes),
        log.map_or_else(
            || "Stop it if its log is another one than the etcd in the settings".to_owned(),
            |last| format!("etcd holds a log already, up to {last}")
        )
    )]
    Runs { nodes: Vec<NodeId>, log: Option<Position> },
    #[error(
        "{} missing{}. Start {} if that can be done (one whose data is gone ends again where there is no log, or one that has lost something, and is to be given up): what it alone has applied would be lost to the cell, which may be acknowledged messages \
         of its last moments (clients keep those of the last minutes, and offer them again). To go on all the same say {}",
        named(missing), list(silent), if missing.len() == 1 { "it" } else { "them" },
        without_each(missing.iter().map(|(node, _)| node))
    )]
    Missing { missing: Vec<(NodeId, String)>, silent: Vec<String> },
    #[error("node {0} is no member of the cell: --without is for members that are given up")]
    NotAMember(NodeId),
    #[error("no node is left: --without names all that answer")]
    NobodyLeft,
    #[error(
        "node {} halted without a view that can be used, and no other node that answers has one{}. Start the others if any is left; if none \
         is, restore a backup with `ieum restore`: with --journal it is brought up to the end of a journal",
        numbers(nodes),
        list(silent)
    )]
    NoView { nodes: Vec<NodeId>, silent: Vec<String> },
    #[error(
        "the journal of node {node} ends at {at}, and no node with a view is beyond {end}: they have not read from it yet what they lack, or \
         cannot (their logs tell why). Run it again; to go on without what only that journal holds say --without {node}"
    )]
    JournalAlone { node: NodeId, at: Position, end: Position },
    #[error(
        "nodes {} and {} stand at {at} with different views: give up the one that is wrong with --without (compare them with `ieum verify`)",
        nodes.0, nodes.1
    )]
    Differ { nodes: (NodeId, NodeId), at: Position },
    #[error(
        "nodes {0} and {1} have different batches at {at}: one of the two went on with an etcd that was restored from an old backup, and what \
         only one has leaves the cell. Which history goes on is yours to say: give up each node of the other one, --without {0} or \
         --without {1} (docs/operating/log-lost.md)", nodes.0, nodes.1
    )]
    OtherHistories { nodes: (NodeId, NodeId), at: Position },
    #[error(
        "the log is not lost: etcd holds it up to {last}, and node {node}, which stands at {at}, can go on with it. Restart the node"
    )]
    NotLost { last: Position, node: NodeId, at: Position },
    #[error(
        "node {node} is given up, and answers still: it stands at {at}, and etcd's log ends at {last}, so that beside it no node goes on with \
         that log. Stop it, and run this again"
    )]
    Answers { node: NodeId, at: Position, last: Position },
    #[error(
        "etcd holds a log of this cell already, up to {last}, with which no node that answers can go on: it was restored from an old backup, \
         or has come back after it was given up. Is it the right etcd? Then say --replace, and that log is deleted"
    )]
    Holds { last: Position },
}

impl Obstacle {
    /// Whether it may be gone when it is looked again.
    pub fn may_pass(&self) -> bool {
        match self {
            // Nodes may be opening their data still.
            Self::Nobody { .. } | Self::NoView { .. } | Self::Missing { .. } => true,
            Self::Differ { .. } | Self::OtherHistories { .. } | Self::JournalAlone { .. } => true,
            // Who has not noticed yet will.
            Self::Runs { log, .. } => log.is_none(),
            _ => false,
        }
    }
}

/// Why others say nothing, in brackets.
#[must_use]
pub fn list(silent: &[String]) -> String {
    if silent.is_empty() { String::new() } else { format!(" ({})", silent.join("; ")) }
}

/// Nodes by number.
#[must_use]
pub fn numbers(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", node ")
}

/// Who it is that is, or are, something.
pub fn named(nodes: &[(NodeId, String)]) -> String {
    let names: Vec<_> = nodes.iter().map(|(node, dc)| format!("node {node} in data center {dc}")).collect();
    names.join(" and ") + if nodes.len() == 1 { " is" } else { " are" }
}

/// What gives these nodes up.
pub fn without_each<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> String {
    nodes.into_iter().map(|node| format!("--without {node}")).collect::<Vec<_>>().join(" ")
}

/// Whether a generation can begin where a node stands: its view tells who the members are, and that it is one. With a new disk, to which
/// nothing or little was copied yet, there are fewer members or none, and nobody would seem to be missing.
pub fn can_begin(Stood { node, stand, .. }: &Stood) -> bool {
    let is_member = stand.members.iter().any(|(member, _)| member == node);
    stand.digest.is_some() && (is_member || Bug::EmptyViewCounts.planted())
}

/// Two nodes that count and have different histories, and where that shows.
fn other_histories(seen: &Seen, without: &[NodeId]) -> Option<Obstacle> {
    // One that has crossed into a later generation since, or has copied a view there, has that history no more.
    let still = |stood: &Stood, at: &Position| {
        stood.stand.applied.generation == at.generation || Bug::OldFindingCounts.planted()
    };
    let counts = |node: &NodeId| seen.stood.contains_key(node) && !without.contains(node);
    let has_it = |node: &NodeId, at: &Position| counts(node) && seen.stood.get(node).is_some_and(|of| still(of, at));
    let found = seen.stood.values().filter(|stood| counts(&stood.node)).find_map(|stood| {
        let (other, at) = stood.stand.others.iter().find(|(other, at)| has_it(other, at))?;
        Some(Obstacle::OtherHistories { nodes: (stood.node, *other), at: *at })
    });
    found.filter(|_| !Bug::LongerHistoryTaken.planted())
}

/// How the new generation begins, if it may.
///
/// # Errors
/// With the first of these that is so: somebody runs; nobody stands where it is a member; a number that is given up is nobody's; members are
/// missing; views differ; there are two histories; a journal alone has more; etcd holds a log that goes on, has begun, or is not to be replaced.
pub fn plan(seen: &Seen, log: Option<&Shared>, without: &[NodeId], replace: bool) -> Result<Plan, Obstacle> {
    let counts = |node: &NodeId| !without.contains(node);
    let halted = || seen.stood.values().filter(|stood| counts(&stood.node));
    let candidates = || halted().filter(|stood| can_begin(stood));
    let furthest = candidates().max_by_key(|stood| stood.stand.applied);
    let furthest = if Bug::ReseedFromTheFirst.planted() { candidates().next() } else { furthest };
    if !seen.runs.is_empty() {
        // Else it will notice.
        let goes_on = |log: &&Shared| seen.runs.values().any(|at| judge(Some(log), *at, &[0; 32]) == Verdict::GoesOn);
        let log = log.filter(goes_on).map(|log| log.last);
        return Err(Obstacle::Runs { nodes: seen.runs.keys().copied().collect(), log });
    }
    let Some(furthest) = furthest else {
        let nobody = Obstacle::Nobody { silent: seen.silent.clone() };
        let no_view = halted().map(|stood| stood.node).collect::<Vec<_>>();
        return Err(match (seen.stood.is_empty(), no_view.is_empty()) {
            (true, _) => nobody,
            (false, true) => Obstacle::NobodyLeft,
            (false, false) => Obstacle::NoView { nodes: no_view, silent: seen.silent.clone() },
        });
    };
    let Stand { applied: end, digest, members, .. } = furthest.stand.clone();
    let digest = digest.unwrap_or_default();
    let is_known = |node: &NodeId| seen.stood.contains_key(node) || members.iter().any(|(member, _)| member == node);
    if let Some(stranger) = without.iter().find(|node| !is_known(node)) {
        return Err(Obstacle::NotAMember(*stranger));
    }
    let is_here = |node: &NodeId| seen.stood.contains_key(node) || seen.empty.contains(node);
    let missing: Vec<_> = members.iter().filter(|(node, _)| counts(node) && !is_here(node)).cloned().collect();
    if !missing.is_empty() && !Bug::ReseedWithoutAsking.planted() {
        return Err(Obstacle::Missing { missing, silent: seen.silent.clone() });
    }
    let members: Vec<_> = members.iter().map(|(node, _)| *node).filter(counts).collect();
    if let Some(other) =
        candidates().find(|other| other.stand.applied == end && other.stand.digest != furthest.stand.digest)
    {
        return Err(Obstacle::Differ { nodes: (furthest.node, other.node), at: end });
    }
    if let Some(obstacle) = other_histories(seen, without) {
        return Err(obstacle);
    }
    let without_view = || halted().filter(|stood| !can_begin(stood));
    let more = without_view().find(|stood| stood.stand.applied > end);
    if let Some(Stood { node, stand, .. }) = more.filter(|_| !Bug::JournalAloneForgotten.planted()) {
        return Err(Obstacle::JournalAlone { node: *node, at: stand.applied, end });
    }
    let newest = seen.stood.values().map(|stood| stood.stand.applied.generation).max().unwrap_or(end.generation);
    if let Some(log) = log {
        check_log(log, furthest, candidates(), &members, replace).map_err(|obstacle| match obstacle {
            Obstacle::Already(_) | Obstacle::NotLost { .. } => who_answers(seen, log, without).unwrap_or(obstacle),
            obstacle => obstacle,
        })?;
    }
    let behind = candidates().filter(|other| other.stand.applied < end);
    Ok(Plan {
        end: Predecessor { end: log_position(end), digest },
        furthest: furthest.node,
        newest: newest.max(log.map_or(0, |log| log.last.generation)),
        members,
        behind: behind.map(|other| (other.node, other.stand.applied)).collect(),
        without_view: without_view().map(|stood| stood.node).chain(seen.empty.iter().copied().filter(counts)).collect(),
        given_up: without.iter().map(|node| (*node, seen.stood.get(node).map(|stood| stood.stand.applied))).collect(),
    })
}

/// One that is given up and says that it has more than the log: nodes that hear it do not go on.
fn who_answers(seen: &Seen, log: &Shared, without: &[NodeId]) -> Option<Obstacle> {
    let has_more =
        |stood: &&Stood| matches!(judge(Some(log), stood.stand.applied, &[0; 32]), Verdict::CutOff | Verdict::GivenUp);
    let given_up = seen.stood.values().filter(|stood| without.contains(&stood.node));
    let Stood { node, stand, .. } = given_up.filter(has_more).max_by_key(|stood| stood.stand.applied)?;
    Some(Obstacle::Answers { node: *node, at: stand.applied, last: log.last })
}

/// A log that a node can go on with is not replaced. Nor is one of a generation that has begun, if it has all that the furthest has: else no
/// node crosses into it.
fn check_log<'a>(
    log: &Shared,
    furthest: &Stood,
    mut candidates: impl Iterator<Item = &'a Stood>,
    members: &[NodeId],
    replace: bool,
) -> Result<(), Obstacle> {
    let verdict = |stood: &Stood| judge(Some(log), stood.stand.applied, &stood.stand.digest.unwrap_or_default());
    let is_short = matches!(verdict(furthest), Verdict::CutOff | Verdict::GivenUp) && !Bug::ShortLogHasBegun.planted();
    if let Some(stood) = candidates.find(|stood| verdict(stood) == Verdict::Crosses && !is_short) {
        let (generation, members) = (log.last.generation, members.to_vec());
        return Err(Obstacle::Already(Already { generation, end: stood.stand.applied, members }));
    }
    match verdict(furthest) {
        Verdict::GoesOn => Err(Obstacle::NotLost { last: log.last, node: furthest.node, at: furthest.stand.applied }),
        _ if replace => Ok(()),
        _ => Err(Obstacle::Holds { last: log.last }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node: NodeId, ordinal: u64) -> Stood {
        let members = (1..=3).map(|node| (node, "abc"[node as usize - 1..node as usize].to_owned())).collect();
        let applied = Position::new(4, ordinal);
        let stand = Stand { applied, digest: Some([ordinal as u8; 32]), members, others: vec![] };
        Stood { node, dc: "x".to_owned(), stand }
    }

    fn seen(nodes: impl IntoIterator<Item = (NodeId, u64)>) -> Seen {
        let stood = nodes.into_iter().map(|(number, ordinal)| (number, node(number, ordinal))).collect();
        Seen { stood, ..Seen::default() }
    }

    fn refused(seen: &Seen, log: Option<&Shared>, without: &[NodeId], replace: bool) -> String {
        plan(seen, log, without, replace).unwrap_err().to_string()
    }

    /// A log of the nodes' own generation, or one that follows it.
    fn log(predecessor: Option<(u64, u8)>, generation: u32, ordinal: u64) -> Shared {
        let end = |ordinal| ieum_log::Position { generation: 4, ordinal };
        let predecessor = predecessor.map(|(ordinal, digest)| Predecessor { end: end(ordinal), digest: [digest; 32] });
        Shared { predecessor, last: Position::new(generation, ordinal) }
    }

    #[test]
    fn the_furthest_of_all_members_wins() {
        let all = seen([(1, 40), (2, 42), (3, 41)]);
        let plan = plan(&all, None, &[], false).unwrap();
        assert_eq!((plan.end.end.ordinal, plan.end.digest, plan.furthest), (42, [42; 32], 2));
        assert_eq!((plan.newest, plan.members), (4, vec![1, 2, 3]));
        let at = |ordinal| Position::new(4, ordinal);
        assert_eq!(plan.behind, [(1, at(40)), (3, at(41))]);
        assert_eq!(plan.given_up, []);
    }

    #[test]
    fn who_halts_late_is_compared_before_anybody_counts_as_behind() {
        let (mut patience, two) = (Patience::since(1_000), seen([(1, 42), (3, 41)]));
        assert!(!patience.is_over(1_000, &two) && !patience.is_over(15_900, &two));
        let mut all = seen([(1, 42), (2, 40), (3, 41)]);
        assert!(!patience.is_over(15_950, &all));
        all.stood.insert(2, node(2, 42));
        assert!(!patience.is_over(16_000, &all) && !patience.is_over(20_900, &all));
        assert!(patience.is_over(21_000, &all));
        // One that comes and goes is not waited for without end.
        let mut restless = Patience::since(1_000);
        let over = (1..).map(|times| times * 1_000).find(|now| {
            let seen = if now / 1_000 % 2 == 0 { &two } else { &all };
            restless.is_over(*now, seen)
        });
        assert_eq!(over, Some(61_000));
    }

    #[test]
    fn who_is_missing_has_to_be_given_up_by_number() {
        let two = seen([(1, 40), (3, 41)]);
        let reason = refused(&two, None, &[], false);
        assert!(reason.contains("node 2 in data center b is missing") && reason.contains("--without 2"), "{reason}");
        let plan = plan(&two, None, &[2], false).unwrap();
        assert_eq!((plan.end.end.ordinal, plan.given_up, plan.members), (41, vec![(2, None)], vec![1, 3]));
        assert_eq!(plan.behind, [(1, Position::new(4, 40))]);
        assert!(refused(&two, None, &[2, 9], false).contains("node 9 is no member"));
        assert!(refused(&two, None, &[1, 2, 3], false).contains("no node is left"));
        assert!(refused(&Seen::default(), None, &[], false).contains("no node answers"));
    }

    /// Also when it stands furthest: it may be the one whose view is wrong.
    #[test]
    fn who_is_given_up_does_not_count_though_it_answers() {
        let all = seen([(1, 40), (2, 42), (3, 40)]);
        let plan = plan(&all, None, &[2], false).unwrap();
        assert_eq!((plan.end.end.ordinal, plan.given_up), (40, vec![(2, Some(Position::new(4, 42)))]));
    }

    /// It may hold what was acknowledged, though no generation can begin there.
    /// Node 3 stands where generation 5 begins, whose log has lost its end; node 1, which is given up, has that.
    #[test]
    fn who_is_given_up_and_has_more_than_the_log_is_to_be_stopped() {
        let mut all = seen([(1, 71), (3, 42)]);
        all.stood.entry(1).and_modify(|stood| stood.stand.applied = Position::new(5, 71));
        let log = log(Some((42, 42)), 5, 60);
        let said = refused(&all, Some(&log), &[1, 2], false);
        assert!(
            said.contains("node 1 is given up, and answers still: it stands at 5.71, and etcd's log ends at 5.60"),
            "{said}"
        );
        all.stood.remove(&1);
        let said = refused(&all, Some(&log), &[1, 2], false);
        assert!(said.contains("Generation 5 of the log has begun behind 4.42 already"), "{said}");
    }

    #[test]
    fn what_is_in_a_journal_without_a_view_is_waited_for() {
        let mut all = seen([(1, 40), (2, 41), (3, 42)]);
        let applied = Position::new(4, 42);
        all.stood.get_mut(&3).unwrap().stand = Stand { applied, digest: None, members: vec![], others: vec![] };
        let reason = refused(&all, None, &[], false);
        assert!(reason.contains("journal of node 3 ends at 4.42") && reason.contains("--without 3"), "{reason}");
        assert!(plan(&all, None, &[], false).unwrap_err().may_pass(), "they read it");
        assert_eq!(plan(&all, None, &[3], false).unwrap().end.end.ordinal, 41);
        all.stood.insert(2, node(2, 42));
        let level = plan(&all, None, &[], false).unwrap();
        assert_eq!((level.furthest, level.without_view), (2, vec![3]));
        all.stood.retain(|node, _| *node == 3);
        assert!(refused(&all, None, &[], false).contains("`ieum restore`"));
    }

    /// Power came back, etcd did not, and the node whose disk was exchanged just before is the first to answer.
    #[test]
    fn a_node_with_a_new_disk_is_not_all_members() {
        let applied = Position::new(1, 0);
        let stand = Stand { applied, digest: Some([0; 32]), members: vec![], others: vec![] };
        let empty = Stood { node: 3, dc: "c".to_owned(), stand };
        let mut all = Seen { stood: [(3, empty)].into(), ..Seen::default() };
        let alone = plan(&all, None, &[], false).unwrap_err();
        assert!(
            matches!(alone, Obstacle::NoView { .. }) && alone.may_pass(),
            "the others may be opening theirs: {alone}"
        );
        // A part of the log has arrived in which it is no member yet.
        all.stood.get_mut(&3).unwrap().stand.members = vec![(1, "a".to_owned())];
        assert!(matches!(plan(&all, None, &[], false).unwrap_err(), Obstacle::NoView { .. }));
        all.stood.insert(1, node(1, 40));
        assert!(refused(&all, None, &[], false).contains("node 2 in data center b is missing"));
        all.stood.insert(2, node(2, 42));
        let level = plan(&all, None, &[], false).unwrap();
        assert_eq!((level.furthest, level.without_view, level.end.end.ordinal), (2, vec![3], 42));
        // With more than the others have it is read from, or given up by its number, member or not.
        all.stood.get_mut(&3).unwrap().stand.applied = Position::new(4, 50);
        assert!(refused(&all, None, &[], false).contains("--without 3"));
        all.stood.get_mut(&1).unwrap().stand.members.pop();
        all.stood.get_mut(&2).unwrap().stand.members.pop();
        assert_eq!(plan(&all, None, &[3], false).unwrap().end.end.ordinal, 42);
    }

    /// One of them went on with an etcd from an old backup. The longer one need not be the one that counts.
    #[test]
    fn of_two_histories_the_operator_chooses_one() {
        let mut all = seen([(1, 45), (2, 42), (3, 42)]);
        all.stood.get_mut(&2).unwrap().stand.others = vec![(1, Position::new(4, 41))];
        let reason = refused(&all, None, &[], false);
        assert!(reason.contains("nodes 2 and 1 have different batches at 4.41"), "{reason}");
        assert!(reason.contains("--without 2 or --without 1"), "{reason}");
        assert!(plan(&all, None, &[], false).unwrap_err().may_pass(), "one of them may resync");
        assert_eq!(plan(&all, None, &[1], false).unwrap().end.end.ordinal, 42);
        assert_eq!(plan(&all, None, &[2], false).unwrap().end.end.ordinal, 45);
        // It has nothing any more.
        all.stood.remove(&1);
        all.empty.insert(1);
        assert_eq!(plan(&all, None, &[], false).unwrap().end.end.ordinal, 42);
    }

    /// One of them had gone on with an old backup, has begun anew with the others, and the log is lost once more, before the other one has noticed.
    #[test]
    fn who_has_left_another_history_is_in_nobodys_way() {
        let mut all = seen([(1, 45), (2, 42), (3, 42)]);
        let left = Position::new(3, 41);
        all.stood.get_mut(&3).unwrap().stand.applied = Position::new(3, 50);
        all.stood.get_mut(&3).unwrap().stand.others = vec![(1, left)];
        assert_eq!(plan(&all, None, &[], false).unwrap().end.end.ordinal, 45);
        // As long as it is there still, it counts.
        all.stood.get_mut(&1).unwrap().stand.applied = Position::new(3, 60);
        assert!(refused(&all, None, &[], false).contains("nodes 3 and 1 have different batches at 3.41"));
    }

    #[test]
    fn a_node_without_data_is_neither_missing_nor_running() {
        let mut all = seen([(1, 40), (2, 42)]);
        all.empty.insert(3);
        let plan = plan(&all, None, &[], false).unwrap();
        assert_eq!((plan.end.end.ordinal, plan.without_view, plan.members), (42, vec![3], vec![1, 2, 3]));
    }

    #[test]
    fn nodes_that_differ_where_they_stand_are_named() {
        let mut all = seen([(1, 40), (2, 42), (3, 42)]);
        all.stood.get_mut(&3).unwrap().stand.digest = Some([7; 32]);
        let reason = refused(&all, None, &[], false);
        assert!(reason.contains("stand at 4.42 with different views"), "{reason}");
        assert_eq!(plan(&all, None, &[3], false).unwrap().end.digest, [42; 32]);
    }

    #[test]
    fn nothing_is_reseeded_beside_a_node_that_runs() {
        let mut all = seen([(1, 40), (2, 42)]);
        all.runs.insert(3, Position::new(4, 41));
        let going_on = log(None, 4, 50);
        let reason = refused(&all, Some(&going_on), &[], true);
        assert!(reason.contains("node 3 runs") && reason.contains("up to 4.50"), "{reason}");
        assert!(!plan(&all, Some(&going_on), &[], false).unwrap_err().may_pass());
        assert!(plan(&all, None, &[], false).unwrap_err().may_pass(), "it will notice");
        let came_back = log(None, 3, 50);
        assert!(plan(&all, Some(&came_back), &[], false).unwrap_err().may_pass(), "it will notice");
    }

    #[test]
    fn a_log_that_can_be_gone_on_with_is_not_replaced() {
        let all = seen([(1, 40), (2, 42), (3, 42)]);
        let whole = refused(&all, Some(&log(None, 4, 42)), &[], true);
        assert!(whole.contains("the log is not lost"), "{whole}");
        // Restored from a backup, and one that was given up.
        for short in [log(None, 4, 41), log(None, 3, 99), log(Some((41, 41)), 5, 0)] {
            let reason = refused(&all, Some(&short), &[], false);
            assert!(reason.contains("--replace"), "{reason}");
            let plan = plan(&all, Some(&short), &[], true).unwrap();
            assert_eq!((plan.end.end.ordinal, plan.newest), (42, short.last.generation.max(4)));
        }
        let again = refused(&all, Some(&log(Some((42, 42)), 5, 0)), &[], true);
        assert!(again.contains("Generation 5 of the log has begun behind 4.42 already"), "{again}");
    }

    /// Node 3 was away when generation 5 began. The others have halted since beside an etcd that was restored from a backup of it, or of one before.
    #[test]
    fn a_generation_that_has_lost_something_counts_as_lost_although_it_has_begun() {
        let mut all = seen([(1, 70), (2, 71), (3, 42)]);
        for generation in [5, 6] {
            for node in [1, 2] {
                all.stood.get_mut(&node).unwrap().stand.applied.generation = generation;
            }
            let short = log(Some((42, 42)), 5, 60);
            let reason = refused(&all, Some(&short), &[], false);
            assert!(reason.contains("--replace"), "{reason}");
            let plan = plan(&all, Some(&short), &[], true).unwrap();
            assert_eq!((plan.end.end.generation, plan.end.end.ordinal, plan.newest), (generation, 71, generation));
        }
    }
}
