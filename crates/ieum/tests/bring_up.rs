//! `ieum restore --journal`: the views are lost, a backup and the journals are left, and every acknowledged message is there again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use std::fs;
use std::path::Path;

use common::cell::{Cell, goes_on};
use common::rounds::check;
use common::{IEUM, PATIENCE, Run, operator};
use ieum_drill::crowd::{self, Crowd};
use ieum_drill::process::{self, Process};
use ieum_drill::server::Server;

/// The views and all that they could be made of.
fn lose_views(data: &Path) {
    fs::remove_dir_all(data.join("view")).unwrap();
    fs::remove_dir_all(data.join("snapshots")).unwrap();
}

/// Up to where the data of a node reaches that does not run.
fn reach(data: &Path) -> String {
    let file = data.with_file_name("reach");
    let said = operator(data, &["backup", file.to_str().unwrap()]).success();
    said.split("up to position ").nth(1).unwrap().trim_end_matches(['.', '\n']).to_owned()
}

/// Has `ieum restore` killed as soon as `step` is there in the data folder. It may have come to its end before.
fn killed_at(step: &str, data: &Path, arguments: &[&str]) {
    let options = process::Options::new(IEUM, data.parent().unwrap()).args(arguments).env("IEUM_NODE__DATA", data);
    let mut process = Process::spawn(&options).unwrap();
    while process.ended().unwrap().is_none() && !data.join(step).exists() {
        std::thread::yield_now();
    }
    process.kill().unwrap();
}

#[test]
fn a_node_that_is_alone_loses_nothing_with_its_view() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = Server::new(IEUM, folder.path(), &data).unwrap().without_limits();
    let backup = folder.path().join("backup");
    let backup = backup.to_str().unwrap();
    // A log that does not begin with the cell: no view can be made of it alone.
    server.start(PATIENCE).unwrap();
    assert!(server.stop(PATIENCE).unwrap().success());
    operator(&data, &["backup", backup]).success();
    operator(&data, &["restore", backup, "--replace"]).success();
    server.start(PATIENCE).unwrap();
    let endpoints = vec![server.address().parse().unwrap()];
    let crowd = Crowd::gather(&crowd::Options { endpoints, people: 60, in_flight: 16 }).unwrap();
    crowd.write();
    goes_on(&crowd);
    operator(&data, &["backup", backup]).success();
    goes_on(&crowd);
    server.kill().unwrap();
    let end = reach(&data);
    lose_views(&data);

    // The node says what to do.
    let refused = server.start(PATIENCE).unwrap_err().to_string();
    assert!(refused.contains("--journal"), "{refused}");
    let asked = |log: &Path| ["restore", backup, "--journal", log.to_str().unwrap(), "--replace"].map(str::to_owned);
    let (log, aside) = (data.join("log"), data.join("before-restore-2/log"));
    let restore = asked(&log);
    let restore = restore.each_ref().map(String::as_str);
    let both = operator(&data, &[&restore[..], &["--without", "1"]].concat()).failure();
    assert!(both.contains("cannot be used with"), "{both}");
    let other = operator(&data, &["restore", backup, "--journal", "/nowhere", "--replace"]).failure();
    assert!(other.contains("there is no journal in /nowhere"), "{other}");

    let unfinished = data.join("restore.unfinished");
    let steps =
        ["restore.unfinished", "restore.unfinished/view", "restore.unfinished/snapshots", "restore.unfinished/log"];
    for step in steps.into_iter().take_while(|_| !aside.exists()) {
        killed_at(step, &data, &restore);
        if unfinished.exists() {
            let refused = server.start(PATIENCE).unwrap_err().to_string();
            assert!(refused.contains("no node starts here while"), "{step}: {refused}");
        }
    }
    // One that was not killed in time has done it.
    if unfinished.exists() || !aside.exists() {
        let log = if aside.exists() { aside } else { log };
        let restore = asked(&log);
        let said = operator(&data, &restore.each_ref().map(String::as_str)).success();
        assert!(said.contains(&format!("up to {end}.")) && said.contains("of its log begins"), "{said}");
    }
    server.start(PATIENCE).unwrap();
    goes_on(&crowd);
    check(crowd);
    assert!(server.stop(PATIENCE).unwrap().success());
    let said = operator(&data, &["verify"]).success();
    assert!(said.starts_with("All is well"), "{said}");
}

#[test]
fn a_cell_without_a_view_loses_nothing_as_long_as_a_journal_is_left() {
    let mut cell = Cell::started();
    let crowd = cell.talking();
    // A log that does not begin with the cell: no view can be made of it alone.
    cell.etcd.lose().unwrap();
    cell.operator(1, &["log", "reseed", "--yes"]).success();
    goes_on(&crowd);
    let backup = cell.folder.path().join("backup");
    let backup = backup.to_str().unwrap();
    operator(cell.nodes[2].data(), &["backup", backup]).success();
    goes_on(&crowd);
    for at in [2, 0, 1] {
        assert!(cell.nodes[at].stop(PATIENCE).unwrap().success());
    }
    // Whether commands are skipped is not known from the etcd of another cell.
    let log = cell.nodes[0].data().join("log");
    let asked = ["restore", backup, "--journal", log.to_str().unwrap(), "--replace"];
    let other = Run(cell.command(0, &asked, &[("NODE__CELL", "2")]).output().unwrap()).failure();
    assert!(other.contains("which holds no log of this cell"), "{other}");
    cell.etcd.lose_again().unwrap();
    cell.etcd.wait_until_it_serves(0).unwrap();
    let old = [0, 1].map(|at| cell.nodes[at].data().to_owned());
    let ends = old.each_ref().map(|data| reach(data));
    old.iter().for_each(|data| lose_views(data));
    fs::remove_dir_all(cell.nodes[2].data()).unwrap();
    // The first node on a new disk: it was started to found the cell, and is not to do that again.
    cell.nodes[0] = cell.node("new", 1, &cell.addresses[0]);
    let restore = |cell: &Cell, at: usize, data: &Path| {
        cell.operator(at, &["restore", backup, "--journal", data.join("log").to_str().unwrap(), "--replace"])
    };
    let journal = old[0].join("log");
    let mut other =
        cell.command(0, &["restore", backup, "--journal", journal.to_str().unwrap()], &[("NODE__CELL", "2")]);
    let other = Run(other.output().unwrap()).failure();
    assert!(other.contains("a backup of cell 1, not of cell 2"), "{other}");
    // Each with its own journal, the third with another's.
    for (at, of, is_kept) in [(0, 0, false), (1, 1, true), (2, 1, false)] {
        let said = restore(&cell, at, &old[of]).success();
        assert!(said.contains(&format!("behind it: up to {}.", ends[of])) && said.contains("log reseed"), "{said}");
        assert_eq!(said.contains("kept in"), is_kept, "{said}");
    }
    for node in &mut cell.nodes {
        node.spawn().unwrap();
    }
    cell.operator(1, &["log", "reseed", "--yes"]).success();
    goes_on(&crowd);
    check(crowd);
    cell.stop_well();
}
