//! Lives of a cell with its clients: an hour twice is the same hour, other seeds are other lives, and all of them end well.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use ieum_simulation::{Options, Report, live};

fn lived(seed: u64, nodes: usize, minutes: u64) -> Report {
    let ms = minutes * 60_000;
    live(&Options { nodes, ms, ..Options::of(seed) }).unwrap_or_else(|failed| panic!("{failed}"))
}

#[test]
fn an_hour_lived_twice_is_the_same_to_the_byte() {
    let (first, second) = (lived(1, 1, 60), lived(1, 1, 60));
    assert_eq!(first, second);
    // It was no idle hour.
    let met = first.met;
    assert!(met.ms > 3_600_000 && met.commands > 5_000 && met.faults > 300, "{met:?}");
    for (what, count) in [
        ("lives of the node", met.lives),
        ("resyncs", met.resyncs),
        ("gaps", met.gaps),
        ("rejected commands", met.rejected),
        ("refused commands", met.refused),
        ("slow readers", met.slow),
        ("silent connections", met.silent),
        ("sessions", met.sessions / 100),
    ] {
        assert!(count >= 10, "{what}: {met:?}");
    }
}

#[test]
fn short_lives_of_other_seeds_are_others_and_end_well() {
    let lives: Vec<Report> = (2..=9).map(|seed| lived(seed, 1, 8)).collect();
    // In the first of them people type.
    let told: Vec<bool> = lives.iter().map(|life| life.met.typing >= 100).collect();
    assert_eq!(told, [true, false, false, false, false, false, false, false]);
    for (index, life) in lives.iter().enumerate() {
        assert!(lives[..index].iter().all(|other| other.trace != life.trace && other.digest != life.digest));
    }
}

/// Data centers go dark and are cut off, nodes lose their disks and are frozen, the log is trimmed.
#[test]
fn cells_of_several_nodes_end_well() {
    let lives: Vec<Report> = (11..=16).zip([2, 3, 3, 4, 6, 6]).map(|(seed, nodes)| lived(seed, nodes, 8)).collect();
    assert_eq!(lives.last(), Some(&lived(16, 6, 8)), "the same seed is the same life");
    let faults: u64 = lives.iter().map(|life| life.met.faults).sum();
    assert!(faults > 300, "{faults} faults");
}
