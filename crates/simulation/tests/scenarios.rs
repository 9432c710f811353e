//! What went wrong once, or would: each is a life of a few lines in which it would again. Where a bug of `ieum-planted` stands above one, it was
//! seen to fail with that.

use ieum_protocol::frames::Change;
use ieum_simulation::{Broken, Scenario};

/// `TrimWithOneDataCenter`: what only one data center has on its disks was trimmed, and lost with it.
#[test]
fn what_one_data_center_alone_has_stays_in_the_log() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(20)?;
    cell.node_loses_power(2)?;
    cell.node_loses_power(3)?;
    cell.people_talk(120)?;
    cell.ends_well()
}

/// `NeededTakenOut`, 7014765430686579: a node was taken out while another one was off, and with a third one's disk what the log had forgotten was gone.
#[test]
fn who_has_what_others_lack_is_not_taken_out() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(20)?;
    cell.node_loses_power(3)?;
    cell.people_talk(60)?;
    let is_out = cell.takes_out(1)?;
    cell.node_loses_its_disk(2)?;
    cell.node_starts(2)?;
    cell.node_starts(3)?;
    cell.passes(20)?;
    assert!(is_out || cell.takes_out(1)?, "the others have all");
    cell.adds_again(1)?;
    cell.ends_well()
}

/// `NobodyTakesOver`: the node whose turn it is hangs in trimming, and the log grows until it is full.
#[test]
fn the_log_is_trimmed_although_it_hangs_in_the_first_node() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.trims_hang(1);
    cell.people_talk(60)?;
    cell.ends_well()
}

/// `KeptUnbounded`: what is new was kept, however much.
#[test]
fn a_busy_log_is_trimmed_before_it_is_old() -> Result<(), Broken> {
    let mut cell = Scenario::of(6)?;
    cell.people_talk(60)?;
    cell.ends_well()
}

/// `IncarnationReused`: the batches of a node's next life passed for those of the one before.
#[test]
fn a_node_that_is_started_again_is_another_life() -> Result<(), Broken> {
    let mut cell = Scenario::of(1)?;
    cell.people_talk(10)?;
    cell.node_loses_power(1)?;
    cell.node_starts(1)?;
    cell.people_talk(10)?;
    cell.ends_well()
}

/// `StaleAfterMoving`: people whose nodes go came to one that had not seen what they had.
#[test]
fn who_moves_to_a_node_that_is_behind_sees_nothing_older() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(20)?;
    for _ in 0..10 {
        cell.people_talk(3)?;
        // For no longer than it may without saying so.
        cell.tail_hangs(1, 2);
        cell.passes(1)?;
        cell.node_loses_power(2)?;
        cell.node_loses_power(3)?;
        cell.passes(4)?;
        cell.node_starts(2)?;
        cell.node_starts(3)?;
        cell.people_talk(10)?;
    }
    cell.ends_well()
}

/// `SessionEntersLate`: what came while a catch-up was on its way was never told.
#[test]
fn who_comes_back_while_people_talk_misses_nothing() -> Result<(), Broken> {
    let mut cell = Scenario::of(1)?;
    cell.people_talk(30)?;
    for round in 0..30 {
        for device in 0..20 {
            cell.device_dies(device, 8 + round % 3);
        }
        cell.people_talk(12)?;
    }
    cell.ends_well()
}

/// Everybody at once, twice, with what was not persisted gone: nothing that was acknowledged is lost, and nobody waits for somebody else for ever.
#[test]
fn a_cell_that_loses_all_power_goes_on_with_all_it_had() -> Result<(), Broken> {
    let mut cell = Scenario::of(6)?;
    for _ in 0..2 {
        cell.people_talk(20)?;
        (1..=6).try_for_each(|node| cell.node_loses_power(node))?;
        cell.passes(3)?;
        (1..=6).try_for_each(|node| cell.node_starts(node))?;
    }
    cell.people_talk(20)?;
    cell.ends_well()
}

/// A node that comes back with nothing copies another one's view, and the log goes on meanwhile. `ViewBehindTrimTrusted`: it went on from nothing.
#[test]
fn a_node_with_a_new_disk_comes_back_while_people_talk() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(60)?;
    cell.node_loses_its_disk(2)?;
    cell.people_talk(30)?;
    cell.node_starts(2)?;
    cell.people_talk(30)?;
    cell.ends_well()
}

/// `DeliveryHangUnseen`, found by seed 6 of six nodes: nothing counted as undelivered until something was delivered, and a node whose delivery hung from its start on kept
/// its people without a word.
#[test]
fn who_is_at_a_node_that_never_delivered_anything_is_told() -> Result<(), Broken> {
    let mut cell = Scenario::of(1)?;
    cell.people_talk(10)?;
    cell.node_loses_power(1)?;
    cell.node_starts(1)?;
    cell.delivery_hangs(1, 20);
    cell.people_talk(30)?;
    cell.ends_well()
}

/// A tail that passes over batches, or shows one again, stops its node before anybody is told of it. `ApplyGapIgnored`: it went on.
#[test]
fn who_is_at_a_node_whose_tail_passes_over_something_misses_nothing() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    for off in [1, 3, -1] {
        cell.tail_is_off(1, off);
        cell.people_talk(20)?;
    }
    cell.ends_well()
}

/// `LevelRaisedAhead`: a level was activated that a member did not know, which then stopped.
#[test]
fn a_cell_is_brought_to_the_next_level_node_by_node() -> Result<(), Broken> {
    let mut cell = Scenario::of_earlier_builds(3)?;
    for node in 1..=3 {
        cell.people_talk(10)?;
        cell.activates(true)?;
        cell.gets_build(node, true)?;
        cell.passes(5)?;
    }
    cell.activates(false)?;
    cell.people_talk(10)?;
    cell.activates(false)?;
    cell.ends_well()
}

/// `UnknownLevelTaken`: a node that had gone back to the build of before applied what that does not understand.
#[test]
fn a_node_of_an_earlier_build_stops_before_a_level_that_was_activated_while_it_was_away() -> Result<(), Broken> {
    let mut cell = Scenario::of_earlier_builds(3)?;
    (1..=3).try_for_each(|node| cell.gets_build(node, true))?;
    cell.people_talk(10)?;
    cell.node_loses_power(2)?;
    cell.gets_build(2, false)?;
    cell.activates(false)?;
    cell.node_starts(2)?;
    cell.people_talk(20)?;
    cell.gets_build(2, true)?;
    cell.people_talk(10)?;
    cell.ends_well()
}

/// `RemovedNodeStays`: a node whose log was not told went on, and what its people asked for had no effect.
#[test]
fn a_node_that_was_removed_serves_nobody_and_comes_back_when_it_is_added() -> Result<(), Broken> {
    let mut cell = Scenario::of(4)?;
    for log_is_told in [true, false] {
        cell.people_talk(10)?;
        cell.removes(2, log_is_told)?;
        cell.people_talk(20)?;
        cell.adds_again(2)?;
        cell.people_talk(10)?;
    }
    cell.ends_well()
}

/// `NodeReaddedReplays`: a node that was added again began to count anew, and its old batches with it.
#[test]
fn a_node_that_hangs_while_it_is_removed_and_added_again_goes_on_where_it_was() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.people_talk(10)?;
    cell.node_freezes(3, 40);
    cell.removes(3, false)?;
    cell.people_talk(10)?;
    cell.adds_again(3)?;
    cell.people_talk(40)?;
    cell.ends_well()
}

/// `BuildOfCopies`: a node that was found to differ, and hears nothing of it, gave a copy of its view, and a node that was right went for
/// that copy's older build.
#[test]
fn a_copy_of_a_wrong_view_drives_nobody_out() -> Result<(), Broken> {
    let mut cell = a_wrong_view_is_copied()?;
    cell.people_talk(15)?;
    cell.ends_well()
}

/// A cell of three whose second node has a wrong view and hears nothing of it. The third one, of an older build, begins anew, and has only that one to ask.
fn a_wrong_view_is_copied() -> Result<Scenario, Broken> {
    let mut cell = Scenario::of(3)?;
    cell.start_with_builds(&[2, 2, 1])?;
    cell.view_goes_wrong(2);
    cell.hears_nothing(2, 60);
    cell.people_talk(15)?;
    cell.node_loses_its_disk(3)?;
    // Only the second one is there to ask.
    cell.node_freezes(1, 1);
    cell.node_starts(3)?;
    Ok(cell)
}

/// `DecisionsComeLate`: two of three had found that the third has to go, which runs an older build and hears nothing. One of the two began anew, as a
/// copy of the other, and went because of that build before it had taken over what was decided.
#[test]
fn who_begins_anew_is_not_driven_out_by_one_that_was_found_to_differ() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.start_with_builds(&[2, 2, 1])?;
    cell.view_goes_wrong(3);
    cell.hears_nothing(3, 60);
    cell.people_talk(15)?;
    cell.node_loses_its_disk(2)?;
    cell.node_freezes(3, 1);
    cell.node_starts(2)?;
    // The others are there first where they are compared next.
    cell.tail_hangs(2, 10);
    cell.people_talk(15)?;
    cell.ends_well()
}

/// `LateWordLifts`: what a node had said while it came up, before it knew that its view is a copy, came to another one when that had compared the
/// two. The copy of a wrong view counted as a vote of its own from then on, and a node that was right went.
#[test]
fn a_word_that_comes_late_makes_no_vote_of_a_copy() -> Result<(), Broken> {
    let mut cell = a_wrong_view_is_copied()?;
    cell.says_late(3, 1, 14);
    cell.people_talk(15)?;
    cell.ends_well()
}

/// `CheckpointBegunAtDecides`: all went dark just when the log stood at a checkpoint. One whose view was wrong and one that was
/// right began there, and the build of the wrong one, which is older, decided before the third came.
#[test]
fn where_all_begin_at_a_checkpoint_no_build_decides() -> Result<(), Broken> {
    let mut cell = Scenario::of(3)?;
    cell.start_with_builds(&[2, 2, 1])?;
    cell.log_comes_to_stand_behind_a_checkpoint(8)?;
    cell.view_goes_wrong(3);
    cell.log_comes_to_stand_behind_a_checkpoint(0)?;
    (1..=3).try_for_each(|node| cell.node_goes_off(node))?;
    cell.node_starts(3)?;
    cell.node_starts(1)?;
    cell.passes(1)?;
    cell.node_starts(2)?;
    cell.people_talk(15)?;
    cell.ends_well()
}

/// `OneLateHello`: a client gave two hellos up, and both came late. That the first one had replaced its session it took for its own doing; when the
/// second one did it stopped for good.
#[test]
fn a_client_goes_on_although_two_hellos_of_its_own_come_late() -> Result<(), Broken> {
    let mut cell = Scenario::of(1)?;
    cell.device_dies(0, 1);
    cell.hellos_are_held_up(0, &[7, 9]);
    cell.passes(30)?;
    cell.ends_well()
}

/// `FailedWritesDropped`: a client's disk was full when a command of its was answered. That it was answered was stored with what was stored next, and
/// nothing was.
#[test]
fn what_was_answered_while_the_disk_was_full_is_stored_once_there_is_room() -> Result<(), Broken> {
    let mut cell = Scenario::of(1)?;
    cell.asks(0, Change::CreateGroup { name: "산책".to_owned(), handles: vec![] })?;
    cell.disk_is_full(0, 5);
    cell.passes(10)?;
    cell.ends_well()
}
