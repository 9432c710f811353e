//! What a node makes of the log that etcd holds and of what the other nodes say.

use std::collections::BTreeSet;

use ieum_core::ids::{NodeId, Position};
use ieum_planted::Bug;

use super::{Shared, Verdict, judge};
use crate::peers::{Phase, Report};

/// What a node says of itself that has halted. What is on its disk counts for nothing when others trim the log: it may be of another history, as
/// beside an etcd that was restored from a backup.
#[must_use]
pub fn says(node: NodeId, dc: String, (build, life): (u64, u64), applied: Position, addresses: Vec<String>) -> Report {
    Report {
        node,
        dc,
        phase: Phase::Joining,
        applied,
        synced: if Bug::HaltedVouches.planted() { applied } else { Position::default() },
        build,
        life,
        endpoint: None,
        addresses,
        digests: Vec::new(),
        began: None,
        copied: None,
        decided: Vec::new(),
    }
}

/// Whether the log is one that the others can go on with: what any of them has applied was in it. One who says more is enough: the log is
/// shown to have lost something by whoever has it.
pub fn others_verdict(log: Option<&Shared>, heard: &[Report]) -> Verdict {
    let furthest = heard.iter().map(|report| report.applied).max().unwrap_or_default();
    match judge(log, furthest, &[0; 32]) {
        verdict @ (Verdict::Gone | Verdict::CutOff | Verdict::GivenUp) => verdict,
        Verdict::GoesOn | Verdict::Crosses | Verdict::Elsewhere => Verdict::GoesOn,
    }
}

/// The same for a node that stands at `applied` with this digest, and for the others. One that missed that a generation began crosses into its log,
/// or copies the view of a node that runs there, only if that log has not lost what others have applied since.
pub fn verdict(log: Option<&Shared>, applied: Position, digest: &[u8; 32], heard: &[Report]) -> Verdict {
    match judge(log, applied, digest) {
        Verdict::GoesOn => others_verdict(log, heard),
        own @ (Verdict::Crosses | Verdict::Elsewhere) if !Bug::CrossesIntoShortLog.planted() => {
            match others_verdict(log, heard) {
                Verdict::GoesOn => own,
                verdict => verdict,
            }
        }
        verdict => verdict,
    }
}

/// Whether a halted node takes from others what it lacks. Not where the generation of this log begins just where it stands: what they have behind
/// that was given up, and beyond it the node could not cross any more.
#[must_use]
pub fn takes_more(log: Option<&Shared>, applied: Position, digest: &[u8; 32]) -> bool {
    judge(log, applied, digest) != Verdict::Crosses
}

/// Whether a node that has halted opens its doors again.
pub fn waits_no_more(verdict: Verdict, log: Option<&Shared>, heard: &[Report]) -> bool {
    match verdict {
        Verdict::GoesOn | Verdict::Crosses => true,
        // Its view will be found not to fit, and then there has to be somebody to resync from.
        Verdict::Elsewhere => runs_in(log, heard),
        Verdict::Gone | Verdict::CutOff | Verdict::GivenUp => false,
    }
}

/// Whether another node serves in the generation of `log`.
fn runs_in(log: Option<&Shared>, heard: &[Report]) -> bool {
    let generation = log.map(|log| log.last.generation);
    heard.iter().any(|report| report.phase == Phase::Ready && Some(report.applied.generation) == generation)
}

/// What a node does at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// It goes on with what etcd holds; if that does not fit it is refused when it is opened.
    GoesOn,
    /// It makes the log.
    Founds,
    /// It is to make a log, but there was one: somebody stands there.
    FoundedBefore {
        /// Who; none for itself.
        node: Option<NodeId>,
        /// Where.
        at: Position,
    },
    /// It has nothing and is not to begin with a log that has lost what another one has applied: that would be a second history.
    FallsShort {
        /// Who has applied more.
        node: NodeId,
        /// Up to where.
        at: Position,
        /// Whether that is of a later generation: the log is one that was given up.
        given_up: bool,
    },
    /// It halts with what it has, which is of this generation, and looks closer.
    Halts {
        /// The generation.
        own: u32,
    },
}

/// What a node does at its start whose data is of the generation `own`, if it has any. `suspect`: it ran, and its log was found to be wrong;
/// `founds`: the operator lets it make the log; `foreign`: the log is another cell's.
pub fn at_start(
    own: Option<u32>,
    (log, foreign): (Option<&Shared>, bool),
    heard: &[Report],
    (suspect, founds): (bool, bool),
) -> Start {
    let Some(own) = own else {
        // Without data it takes the log that there is and the others can go on with, and makes one only where nobody knows of one.
        let knows =
            heard.iter().max_by_key(|report| report.applied).filter(|report| report.applied != Position::default());
        return match (log, founds, knows) {
            (Some(_), _, Some(report))
                if !foreign && others_verdict(log, heard) != Verdict::GoesOn && !Bug::ShortLogTaken.planted() =>
            {
                let given_up = others_verdict(log, heard) == Verdict::GivenUp;
                Start::FallsShort { node: report.node, at: report.applied, given_up }
            }
            (None, true, Some(report)) => Start::FoundedBefore { node: Some(report.node), at: report.applied },
            (None, true, None) => Start::Founds,
            _ => Start::GoesOn,
        };
    };
    match log {
        Some(_) if foreign => Start::GoesOn,
        Some(log) if !suspect && log.last.generation == own && others_verdict(Some(log), heard) == Verdict::GoesOn => {
            Start::GoesOn
        }
        None if founds => Start::FoundedBefore { node: None, at: Position::new(own, 0) },
        _ => Start::Halts { own },
    }
}

/// What a node that runs hears of a later generation than its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Later<'a> {
    /// Nothing.
    Nobody,
    /// From some, of whom this is one: its own etcd has to say so, too. One node that is wrong must not shut the doors of all.
    Some(&'a Report),
    /// From most members.
    Most(&'a Report),
}

/// Who of the `members`, of which this node is one, says that the cell is in a later generation than this node at `applied`. Most are most of
/// the others: of two members the other one.
pub fn later<'a>(heard: &'a [Report], members: &BTreeSet<NodeId>, applied: Position) -> Later<'a> {
    let is_later = |report: &&Report| report.applied.generation > applied.generation && members.contains(&report.node);
    let says: BTreeSet<NodeId> = heard.iter().filter(is_later).map(|report| report.node).collect();
    match heard.iter().find(is_later) {
        None => Later::Nobody,
        Some(report) if says.len() * 2 > members.len().saturating_sub(1) || Bug::OneReportShutsTheDoors.planted() => {
            Later::Most(report)
        }
        Some(report) => Later::Some(report),
    }
}

/// What a running node's own etcd shows of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// The node cannot go on with it.
    Lost,
    /// It can, or it is another cell's, of which nothing follows for this one.
    GoesOn,
    /// Nothing: too few of its members answer.
    Nothing,
}

/// The same for a node at `applied` that saw this, if it saw anything. `foreign`: the log is another cell's.
pub fn shows(seen: Option<(Option<&Shared>, bool)>, applied: Position) -> Shows {
    match seen {
        None => Shows::Nothing,
        Some((_, true)) => Shows::GoesOn,
        Some((log, false)) if judge(log, applied, &[0; 32]) == Verdict::GoesOn => Shows::GoesOn,
        Some((_, false)) => Shows::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::{Peers, Trim};
    use std::collections::BTreeMap;

    use ieum_log::sqlite::Predecessor;

    const DIGEST: [u8; 32] = [3; 32];

    fn report(node: NodeId, phase: Phase, generation: u32, ordinal: u64) -> Report {
        let at = Position::new(generation, ordinal);
        Report { phase, synced: at, ..says(node, "x".to_owned(), (1, node.into()), at, Vec::new()) }
    }

    fn ready(node: NodeId, generation: u32, ordinal: u64) -> Report {
        report(node, Phase::Ready, generation, ordinal)
    }

    fn log(generation: u32, ordinal: u64) -> Shared {
        Shared { predecessor: None, last: Position::new(generation, ordinal) }
    }

    fn behind(generation: u32, ordinal: u64, of: Shared) -> Shared {
        let predecessor = Predecessor { end: ieum_log::Position { generation, ordinal }, digest: DIGEST };
        Shared { predecessor: Some(predecessor), ..of }
    }

    #[test]
    fn a_log_counts_as_lost_when_any_node_has_more_than_it_holds() {
        let at = Position::new(4, 40);
        let judged = |log: Option<&Shared>, heard: &[Report]| verdict(log, at, &DIGEST, heard);
        assert_eq!(judged(Some(&log(4, 40)), &[]), Verdict::GoesOn);
        assert_eq!(judged(Some(&log(4, 39)), &[]), Verdict::CutOff);
        assert_eq!(judged(Some(&log(4, 50)), &[ready(2, 4, 50), ready(3, 4, 51)]), Verdict::CutOff);
        assert_eq!(judged(Some(&log(4, 50)), &[ready(2, 9, 1)]), Verdict::GivenUp);
        assert_eq!(judged(None, &[]), Verdict::Gone);
        // Where others stand says nothing of a later generation that this node crosses into, or does not.
        assert_eq!(judged(Some(&behind(4, 40, log(5, 0))), &[ready(2, 4, 41)]), Verdict::Crosses);
        assert_eq!(judged(Some(&behind(4, 41, log(5, 0))), &[]), Verdict::Elsewhere);
    }

    /// It was away when generation 5 began, and etcd was restored from a backup of that one since.
    #[test]
    fn a_node_does_not_cross_into_a_log_that_has_lost_something() {
        let (at, new) = (Position::new(4, 40), behind(4, 40, log(5, 70)));
        let judged = |heard: &[Report]| verdict(Some(&new), at, &DIGEST, heard);
        assert_eq!(judged(&[ready(2, 5, 70), ready(3, 4, 41)]), Verdict::Crosses);
        assert_eq!(judged(&[ready(2, 5, 70), report(3, Phase::Joining, 5, 71)]), Verdict::CutOff);
        assert_eq!(judged(&[ready(2, 9, 0)]), Verdict::GivenUp);
        // Nor does one that stands elsewhere copy a view of it.
        let elsewhere = |heard: &[Report]| verdict(Some(&new), Position::new(4, 39), &DIGEST, heard);
        assert_eq!(elsewhere(&[ready(2, 5, 70)]), Verdict::Elsewhere);
        assert_eq!(elsewhere(&[ready(2, 5, 70), report(3, Phase::Joining, 5, 71)]), Verdict::CutOff);
    }

    #[test]
    fn a_node_takes_nothing_beyond_where_it_could_cross() {
        let takes = |log: Option<&Shared>, ordinal| takes_more(log, Position::new(4, ordinal), &DIGEST);
        let new = behind(4, 40, log(5, 70));
        assert!(!takes(Some(&new), 40));
        assert!(takes(Some(&new), 39) && takes(Some(&new), 41));
        assert!(takes(None, 40) && takes(Some(&log(4, 30)), 40));
    }

    #[test]
    fn a_node_that_halted_opens_its_doors_for_a_log_that_is_its_own() {
        let new = behind(4, 41, log(5, 0));
        let waits = |verdict, heard: &[Report]| !waits_no_more(verdict, Some(&new), heard);
        assert!(!waits(Verdict::GoesOn, &[]) && !waits(Verdict::Crosses, &[]));
        assert!(waits(Verdict::Gone, &[]) && waits(Verdict::CutOff, &[]) && waits(Verdict::GivenUp, &[ready(2, 5, 1)]));
        // There has to be somebody to resync from.
        assert!(waits(Verdict::Elsewhere, &[]) && waits(Verdict::Elsewhere, &[ready(2, 4, 41)]));
        assert!(waits(Verdict::Elsewhere, &[report(2, Phase::Joining, 5, 1)]));
        assert!(!waits(Verdict::Elsewhere, &[ready(3, 4, 41), ready(2, 5, 1)]));
    }

    #[test]
    fn a_node_starts_where_its_data_fits_and_halts_where_it_does_not() {
        let start =
            |log: Option<&Shared>, heard: &[Report], suspect| at_start(Some(4), (log, false), heard, (suspect, false));
        assert_eq!(start(Some(&log(4, 40)), &[ready(2, 4, 40)], false), Start::GoesOn);
        assert_eq!(start(Some(&log(4, 40)), &[ready(2, 4, 41)], false), Start::Halts { own: 4 });
        assert_eq!(start(Some(&log(4, 40)), &[], true), Start::Halts { own: 4 });
        assert_eq!(start(Some(&behind(4, 40, log(5, 0))), &[], false), Start::Halts { own: 4 });
        assert_eq!(start(Some(&log(3, 90)), &[], false), Start::Halts { own: 4 });
        assert_eq!(start(None, &[], false), Start::Halts { own: 4 });
        // Another cell's log is refused when it is opened, whatever it holds.
        assert_eq!(at_start(Some(4), (Some(&log(3, 1)), true), &[], (true, false)), Start::GoesOn);
    }

    /// An etcd that was restored from an old backup, while the others have halted with more, and one disk is new.
    #[test]
    fn a_node_without_data_does_not_begin_with_a_log_that_has_lost_something() {
        let start =
            |log: &Shared, foreign, heard: &[Report]| at_start(None, (Some(log), foreign), heard, (false, false));
        let heard = [ready(2, 4, 30), report(3, Phase::Joining, 4, 41)];
        let falls_short = |given_up| Start::FallsShort { node: 3, at: Position::new(4, 41), given_up };
        assert_eq!(start(&log(4, 40), false, &heard), falls_short(false));
        assert_eq!(start(&log(3, 90), false, &heard), falls_short(true));
        assert_eq!(start(&log(4, 41), false, &heard), Start::GoesOn);
        assert_eq!(start(&log(5, 0), false, &heard), Start::GoesOn, "they will cross into it");
        assert_eq!(start(&log(4, 0), false, &[]), Start::GoesOn);
        // Another cell's log is refused when it is opened.
        assert_eq!(start(&log(4, 40), true, &heard), Start::GoesOn);
    }

    #[test]
    fn a_cell_is_founded_once() {
        let found = |own, heard: &[Report]| at_start(own, (None, false), heard, (false, true));
        assert_eq!(found(None, &[]), Start::Founds);
        // One that is empty itself is waiting for it.
        assert_eq!(found(None, &[report(2, Phase::Joining, 0, 0)]), Start::Founds);
        let at = Position::new(4, 40);
        // One that comes up with data does not say yet where it stands.
        let comes_up = Start::FoundedBefore { node: Some(2), at: Position::new(4, 0) };
        assert_eq!(found(None, &[report(2, Phase::Joining, 4, 0)]), comes_up);
        assert_eq!(found(None, &[ready(2, 4, 40)]), Start::FoundedBefore { node: Some(2), at });
        assert_eq!(found(Some(4), &[]), Start::FoundedBefore { node: None, at: Position::new(4, 0) });
        // There is one: nothing is to be founded.
        assert_eq!(at_start(None, (Some(&log(4, 40)), false), &[], (false, true)), Start::GoesOn);
        assert_eq!(at_start(Some(4), (Some(&log(4, 40)), false), &[], (false, true)), Start::GoesOn);
        assert_eq!(at_start(None, (None, false), &[], (false, false)), Start::GoesOn);
    }

    #[test]
    fn one_node_that_speaks_of_a_later_generation_is_not_believed_alone() {
        let members = BTreeSet::from([1, 2, 3]);
        let said = |heard: &[Report]| said_of(&members, heard);
        assert_eq!(said(&[]), "nobody");
        assert_eq!(said(&[ready(2, 4, 90), ready(3, 3, 99)]), "nobody");
        assert_eq!(said(&[ready(2, 4, 40), ready(3, 5, 0)]), "some");
        assert_eq!(said(&[ready(2, 5, 1), ready(3, 5, 0)]), "most");
        // The same one twice, and others who are no members.
        assert_eq!(said(&[ready(3, 5, 0), ready(3, 5, 0), ready(8, 5, 0), ready(9, 5, 0)]), "some");
        assert_eq!(said(&[ready(8, 5, 0), ready(9, 5, 0)]), "nobody");
        let five = BTreeSet::from([1, 2, 3, 4, 5]);
        assert_eq!(said_of(&five, &[ready(2, 5, 1), ready(3, 5, 0)]), "some");
        assert_eq!(said_of(&five, &[ready(2, 5, 1), ready(3, 5, 0), ready(4, 5, 0)]), "most");
    }

    /// With a witness in the third data center: a node that is alone with the old etcd never hears of more than one.
    #[test]
    fn of_two_nodes_the_other_one_decides() {
        let two = BTreeSet::from([1, 2]);
        assert_eq!(said_of(&two, &[ready(2, 5, 0)]), "most");
        assert_eq!(said_of(&two, &[ready(2, 4, 90)]), "nobody");
        assert_eq!(said_of(&two, &[ready(8, 5, 0)]), "nobody");
        // Not known yet.
        assert_eq!(said_of(&BTreeSet::new(), &[ready(2, 5, 0)]), "nobody");
    }

    /// What a node that runs at 4.40 makes of it.
    fn said_of(members: &BTreeSet<NodeId>, heard: &[Report]) -> &'static str {
        match later(heard, members, Position::new(4, 40)) {
            Later::Nobody => "nobody",
            Later::Some(report) if report.applied.generation == 5 => "some",
            Later::Most(report) if report.applied.generation == 5 => "most",
            Later::Some(_) | Later::Most(_) => "another",
        }
    }

    /// Else a node says of an etcd that is away for a moment that it goes on, and sends its operator to look at the endpoints.
    #[test]
    fn an_etcd_that_does_not_answer_is_not_taken_for_one_that_goes_on() {
        let at = Position::new(4, 40);
        assert_eq!(shows(None, at), Shows::Nothing);
        assert_eq!(shows(Some((Some(&log(4, 40)), false)), at), Shows::GoesOn);
        assert_eq!(shows(Some((Some(&log(3, 1)), true)), at), Shows::GoesOn);
        assert_eq!(shows(Some((None, false)), at), Shows::Lost);
        assert_eq!(shows(Some((Some(&log(4, 39)), false)), at), Shows::Lost);
        assert_eq!(shows(Some((Some(&log(5, 0)), false)), at), Shows::Lost);
    }

    /// An etcd that was restored from a backup at 400 goes on with two nodes; the third stood at 900, and has halted.
    #[test]
    fn what_a_halted_node_has_on_its_disk_does_not_count_for_its_data_center() {
        let at = |ordinal| Position::new(5, ordinal);
        let halted = says(3, "c".to_owned(), (1, 3), at(900), Vec::new());
        let runs = |node, dc: &str, synced| Report {
            phase: Phase::Ready,
            synced: at(synced),
            ..says(node, dc.to_owned(), (1, node.into()), at(synced), Vec::new())
        };
        let own = runs(1, "a", 600);
        let trim = |others: &[Report]| {
            let mut peers = Peers::default();
            peers.set_members(BTreeMap::from([(1, "a"), (2, "b"), (3, "c")].map(|(node, dc)| (node, dc.to_owned()))));
            others.iter().for_each(|other| peers.heard(other.clone(), &own, 0));
            peers.trim(&own, Position::default(), 0)
        };
        assert_eq!(trim(&[runs(2, "b", 500), halted.clone()]), Trim::UpTo(at(500)));
        assert_eq!(trim(&[halted]), Trim::OneDataCenter, "b is down: what follows 400 lies in a alone");
    }
}
