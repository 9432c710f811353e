//! The log is lost, or comes back as it was long ago, and begins anew: each is a life of a few lines. Where a bug of `ieum-planted` stands above one,
//! it was seen to fail with that.

use ieum_simulation::{Broken, Scenario};

/// A node is behind when the log is lost, and an operator has it begin anew. `LivesCarriedOver`: what was known of the lives of nodes was known still.
/// `RestoreReusesIds`: ids that were given before were given again. `RestoreKeepsGeneration`: it had the number of the one before.
#[test]
fn a_log_that_is_lost_begins_anew_behind_all_that_anybody_was_told() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(20)?;
    cell.node_loses_power(1)?;
    cell.people_talk(20)?;
    cell.log_is_lost();
    cell.node_starts(1)?;
    cell.people_talk(40)?;
    cell.ends_well()
}

/// `ShortLogTaken`: a node with a new disk applied what came back from a backup, and began a second history beside those who had halted.
#[test]
fn a_node_with_a_new_disk_does_not_begin_with_a_log_from_an_old_backup() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(20)?;
    cell.node_loses_its_disk(3)?;
    cell.log_is_from_an_old_backup()?;
    cell.node_starts(3)?;
    cell.people_talk(120)?;
    cell.node_starts(3)?;
    cell.ends_well()
}

/// `ReseedWithoutAsking`: the log began anew without the end of it that one node alone had, which was switched off when the operator asked.
#[test]
fn a_node_that_alone_has_the_end_of_a_lost_log_is_waited_for() -> Result<(), Broken> {
    let mut cell = one_gets_ahead(20)?;
    cell.log_is_lost();
    cell.node_goes_off(3)?;
    cell.passes(60)?;
    cell.node_starts(3)?;
    cell.ends_well()
}

/// `ReseedFromTheFirst`: the log began anew where the first of its nodes stood, which could not read what the last had beyond.
#[test]
fn a_log_that_is_lost_begins_anew_where_the_furthest_stands() -> Result<(), Broken> {
    let mut cell = one_gets_ahead(20)?;
    cell.log_is_lost();
    it_halts_alone(&mut cell)?;
    cell.is_cut_off('c', 60);
    cell.passes(60)?;
    cell.ends_well()
}

/// `JournalAloneForgotten`: the log began anew without what only the journal of a node that had lost its view still held.
#[test]
fn what_a_journal_without_a_view_holds_is_waited_for() -> Result<(), Broken> {
    // Its journal does not reach back to the beginning any more.
    let mut cell = one_gets_ahead(300)?;
    cell.log_is_lost();
    cell.view_is_lost(3)?;
    it_halts_alone(&mut cell)?;
    cell.is_cut_off('c', 60);
    cell.passes(60)?;
    cell.ends_well()
}

/// A cell of three who have talked for so many seconds. The third node has the end of the log, which the others have not seen.
fn one_gets_ahead(seconds: u64) -> Result<Scenario, Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(seconds)?;
    (1..=2).for_each(|node| cell.tail_hangs(node, 10));
    cell.people_talk(2)?;
    Ok(cell)
}

/// It halts before the others have noticed anything, and could take from it what they lack.
fn it_halts_alone(cell: &mut Scenario) -> Result<(), Broken> {
    (1..=2).for_each(|node| cell.node_freezes(node, 4));
    cell.passes(4)
}

/// `LongerHistoryTaken`: the log began anew with the history of a node that had gone on with an old backup, as it was the longer one.
#[test]
fn of_two_histories_the_one_that_people_were_told_of_goes_on() -> Result<(), Broken> {
    two_histories(3)?.ends_well()
}

/// A cell whose third node has gone on with an old backup, while the others were off. Its operator has just found that out.
fn two_histories(nodes: usize) -> Result<Scenario, Broken> {
    let mut cell = Scenario::of(nodes)?;
    cell.people_talk(20)?;
    cell.node_goes_off(3)?;
    cell.people_talk(5)?;
    cell.log_is_as_a_node_saw_it(3, false)?;
    cell.node_starts(3)?;
    cell.passes(90)?;
    (1..=nodes).filter(|node| *node != 3).try_for_each(|node| cell.node_starts(node))?;
    cell.log_is_emptied();
    Ok(cell)
}

/// `LateComersUncompared`, found by seed 1528163405494833: a node that had been off for long came last, and took what it lacked from the one that had gone on
/// with an old backup, which the operator had given up. The log was about to begin anew with that, before the others had compared what they had.
#[test]
fn who_comes_last_and_takes_another_history_is_compared_first() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(10)?;
    cell.node_goes_off(1)?;
    cell.people_talk(10)?;
    cell.node_goes_off(3)?;
    cell.people_talk(5)?;
    cell.log_is_as_a_node_saw_it(3, false)?;
    cell.node_starts(3)?;
    cell.passes(30)?;
    cell.node_starts(2)?;
    cell.log_is_emptied_by_the_patient();
    cell.passes(25)?;
    // Of the two that stand when it is asked again, neither has heard the other.
    cell.node_freezes(2, 2);
    cell.is_cut_off('b', 4);
    cell.node_starts(1)?;
    cell.passes(30)?;
    cell.ends_well()
}

/// `OldFindingCounts`, found by seed 1033: the log was lost once more after a node of another history had begun anew with the others, and did not begin
/// anew, as a node that had stood still since remembered that history.
#[test]
fn who_has_left_another_history_is_in_nobodys_way() -> Result<(), Broken> {
    let mut cell = two_histories(4)?;
    cell.passes(5)?;
    cell.node_freezes(4, 90);
    cell.passes(60)?;
    cell.people_talk(10)?;
    cell.log_is_lost();
    // Else it would be started anew.
    cell.passes(20)?;
    cell.ends_well()
}

/// `EmptyViewCounts`: the log began anew where a node with a new disk stood, which knew of nobody who could be missing.
#[test]
fn the_log_does_not_begin_anew_where_a_node_is_no_member() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(20)?;
    cell.log_is_as_a_node_saw_it(2, true)?;
    cell.node_starts(2)?;
    cell.passes(5)?;
    cell.log_is_emptied();
    cell.passes(60)?;
    cell.node_starts(1)?;
    cell.node_starts(3)?;
    cell.ends_well()
}

/// `OneReportShutsTheDoors`: all nodes shut their doors because one of them had another log.
#[test]
fn a_node_that_has_another_log_shuts_nobody_elses_doors() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(10)?;
    cell.speaks_of_a_later_generation(2, 20);
    cell.people_talk(30)?;
    cell.ends_well()
}

/// `CrossesIntoShortLog`: a node that had missed that a generation began crossed into it although its log had lost what those had who had halted, and
/// began a second history. `ShortLogHasBegun`: when it no longer did, the operator was told that this generation had begun already, and nothing followed.
#[test]
fn a_node_that_was_away_does_not_cross_into_a_log_from_an_old_backup() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(10)?;
    cell.node_goes_off(3)?;
    cell.log_is_lost();
    cell.passes(120)?;
    cell.people_talk(60)?;
    cell.log_is_from_an_old_backup()?;
    cell.passes(5)?;
    cell.node_starts(3)?;
    cell.passes(60)?;
    cell.ends_well()
}

/// `LostSeenStays`, found by seed 547: a catch-up broke off, and what it had told of was lost when the log began anew. The device, whose cursor was older,
/// kept it.
#[test]
fn a_device_forgets_what_it_was_told_of_a_lost_end() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(20)?;
    cell.has_no_network(9, 10);
    (1..=2).for_each(|node| cell.tail_hangs(node, 25));
    cell.people_talk(8)?;
    cell.catch_up_breaks_off(9, 3);
    cell.passes(10)?;
    // The third one alone has it, and is given up.
    cell.log_is_lost_to_the_careless();
    cell.node_goes_off(3)?;
    cell.passes(60)?;
    cell.node_starts(3)?;
    cell.ends_well()
}

/// `HaltedVouches`: beside a node that had gone on with an old backup what one that had halted had of the other history counted for its data center.
#[test]
fn what_a_node_of_another_history_has_does_not_count_when_the_log_is_trimmed() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(20)?;
    cell.node_goes_off(1)?;
    cell.node_goes_off(2)?;
    cell.people_talk(60)?;
    cell.log_ends_where_a_node_saw_it(1)?;
    cell.node_starts(1)?;
    cell.passes(5)?;
    cell.node_starts(3)?;
    cell.passes(90)?;
    cell.node_starts(2)?;
    cell.log_is_emptied();
    cell.ends_well()
}
