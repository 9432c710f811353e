//! The log of a cell is lost: all of etcd's data. What was acknowledged is there again after `ieum log reseed`, and nothing else becomes of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use std::collections::BTreeSet;
use std::process::Stdio;

use common::cell::{Cell, goes_on};
use common::rounds::{check, note};
use common::{PATIENCE, Run, operator};

#[test]
fn nothing_acknowledged_is_lost_with_all_of_etcd() {
    let mut cell = Cell::started();
    let crowd = cell.talking();
    cell.etcd.lose().unwrap();
    let began = std::time::Instant::now();
    let said = cell.operator(1, &["log", "reseed", "--yes"]).success();
    note(&format!("{said}The command took {:.1} s.", began.elapsed().as_secs_f64()));
    goes_on(&crowd);
    check(crowd);
    cell.stop_well();
}

/// Every key that etcd holds.
fn keys(cell: &Cell) -> String {
    cell.etcd.run(&["get", "", "--prefix", "--keys-only"]).unwrap()
}

#[test]
fn a_log_is_reseeded_once_and_by_nobody_who_must_not() {
    let mut cell = Cell::started();
    let crowd = cell.talking();
    let runs = cell.operator(0, &["log", "reseed", "--yes", "--replace"]).failure();
    assert!(runs.contains("has not halted") && runs.contains("etcd holds a log already"), "{runs}");
    let other = Run(cell.command(0, &["log", "reseed", "--yes"], &[("NODE__CELL", "2")]).output().unwrap()).failure();
    assert!(other.contains("cell 1, not of cell 2"), "{other}");
    let endpoints = [("LOG__ENDPOINTS", r#"["https://127.0.0.1:1"]"#)];
    let bare = Run(cell.command(0, &["log", "reseed", "--yes"], &endpoints).output().unwrap()).failure();
    assert!(bare.contains("certificates have to be given"), "{bare}");

    // The third node is behind when the log is lost, and does not run.
    cell.nodes[2].kill().unwrap();
    goes_on(&crowd);
    cell.etcd.lose().unwrap();
    let missing = cell.operator(0, &["log", "reseed", "--yes"]).failure();
    assert!(missing.contains("node 3 in data center c is missing") && missing.contains("--without 3"), "{missing}");
    let unsaid = cell.operator(0, &["log", "reseed", "--without", "3"]).failure();
    assert!(unsaid.contains("nothing was done; say --yes"), "{unsaid}");
    assert_eq!(keys(&cell), "");

    let both = [0, 1].map(|at| cell.command(at, &["log", "reseed", "--yes", "--without", "3"], &[]));
    let both = both.map(|mut command| {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    });
    let both = both.map(|child| Run(child.wait_with_output().unwrap()));
    // Also both may say that they did it: if they meant the very same.
    let said: Vec<String> = both.iter().map(|run| run.out() + &run.err()).collect();
    let begun: BTreeSet<&str> =
        said.iter().flat_map(|said| said.lines()).filter_map(|line| line.strip_prefix("Generation ")).collect();
    let generations: BTreeSet<_> = begun.iter().filter_map(|rest| rest.split(' ').next()).collect();
    assert_eq!(generations.len(), 1, "{said:?}");
    goes_on(&crowd);
    let again = cell.operator(1, &["log", "reseed", "--yes", "--without", "3"]).failure();
    assert!(again.contains("etcd holds a log already"), "{again}");
    cell.nodes[2].start(PATIENCE).unwrap();
    let said = cell.nodes[2].stderr().unwrap();
    assert!(said.contains("another node gave a snapshot"), "{said}");
    goes_on(&crowd);

    // The etcd that was thought lost has come back, and no node goes on with it. The command waits until they have halted.
    cell.etcd.find_again().unwrap();
    let old = cell.operator(0, &["log", "reseed", "--yes"]).failure();
    assert!(old.contains("etcd holds a log of this cell already, up to 1."), "{old}");
    cell.nodes[0].kill().unwrap();
    cell.nodes[0].spawn().unwrap();
    // Killed before anything is written, because a node is missing, and when that is all that is done.
    cell.nodes[2].kill().unwrap();
    let mut first = cell.process(1, &["log", "reseed", "--yes", "--replace"]);
    first.wait_for_line(|line| line.starts_with("Node"), PATIENCE).unwrap();
    first.kill().unwrap();
    cell.nodes[2].spawn().unwrap();
    let mut second = cell.process(1, &["log", "reseed", "--yes", "--replace"]);
    second.wait_for_line(|line| line.starts_with("Generation"), PATIENCE).unwrap();
    second.kill().unwrap();
    for at in 0..3 {
        let said = cell.nodes[at].stderr().unwrap();
        assert!(said.contains("of a generation that was given up"), "node {}: {said}", at + 1);
    }
    goes_on(&crowd);
    check(crowd);

    // It would make another cell beside the data of this one.
    cell.nodes[0].kill().unwrap();
    cell.etcd.lose_again().unwrap();
    cell.nodes[0].spawn().unwrap();
    let status = cell.nodes[0].running().unwrap().wait(PATIENCE).unwrap();
    let said = cell.nodes[0].stderr().unwrap();
    assert!(!status.success() && said.contains("the cell was founded before"), "{said}");
    assert_eq!(keys(&cell), "");
}

#[test]
fn a_backup_is_restored_into_an_empty_etcd_and_the_other_nodes_follow() {
    let mut cell = Cell::started();
    let register = |cell: &Cell, at: usize, handle: &str| {
        let mut command = cell.command(at, &["account", "register", "--handle", handle, "--name", "민지"], &[]);
        let home = tempfile::tempdir().unwrap();
        command
            .env("IEUM_HOME", home.path())
            .env("IEUM_PASSWORD", "password of 민지")
            .env("IEUM_SERVER", cell.nodes[at].address());
        Run(command.output().unwrap())
    };
    register(&cell, 0, "minji").success();
    let file = cell.nodes[0].data().with_file_name("backup");
    let file = file.to_str().unwrap();
    operator(cell.nodes[0].data(), &["backup", file]).success();
    // The third node has more than the backup: another history, of which nothing comes back.
    register(&cell, 2, "later").success();
    let held = cell.operator(1, &["restore", file, "--replace"]).failure();
    assert!(held.contains("etcd holds a log already, of cell 1"), "{held}");
    for node in &mut cell.nodes {
        assert!(node.stop(PATIENCE).unwrap().success());
    }
    cell.etcd.lose().unwrap();
    cell.etcd.wait_until_it_serves(0).unwrap();
    let other =
        Run(cell.command(1, &["restore", file, "--replace"], &[("NODE__CELL", "2")]).output().unwrap()).failure();
    assert!(other.contains("a backup of cell 1, not of cell 2"), "{other}");
    // What lies in the folder itself is more, too, and what a node has that does not run nobody knows.
    let here = cell.operator(1, &["restore", file, "--replace"]).failure();
    assert!(here.contains("but node 2 stands at 1.") && here.contains("`ieum log reseed`"), "{here}");
    let missing = cell.operator(1, &["restore", file, "--replace", "--without", "2"]).failure();
    assert!(missing.contains("node 1 in data center a and node 3 in data center c are missing"), "{missing}");
    cell.nodes[2].spawn().unwrap();
    let has_halted = |line: &str| line.contains("this node has halted and stands at 1.");
    cell.nodes[2].running().unwrap().wait_for_stderr(has_halted, PATIENCE).unwrap();
    let beyond = cell.operator(1, &["restore", file, "--replace", "--without", "1", "--without", "2"]).failure();
    assert!(beyond.contains("node 3 stands at 1.") && beyond.contains("`ieum log reseed`"), "{beyond}");
    assert_eq!(keys(&cell), "");
    assert!(cell.nodes[2].stop(PATIENCE).unwrap().success());
    let without = ["--without", "1", "--without", "2", "--without", "3"];
    let all = [&["restore", file, "--replace"][..], &without].concat();
    let said = cell.operator(1, &all).success();
    assert!(said.contains("Restored cell 1"), "{said}");
    for at in [1, 2] {
        cell.nodes[at].start(PATIENCE).unwrap();
        let taken = register(&cell, at, "minji").failure();
        assert!(taken.contains("handle"), "{taken}");
    }
    register(&cell, 2, "later").success();
    let said = cell.nodes[2].stderr().unwrap();
    assert!(said.contains("another node gave a snapshot"), "{said}");
}
