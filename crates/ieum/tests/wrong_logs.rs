//! A log that a node must not go on with, with the real binary and real etcd: one of a later level, one of another generation, and an etcd
//! that was restored from an old backup. Each time the node says so and what to do, and serves nobody.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use std::net::TcpStream;
use std::path::PathBuf;

use common::PATIENCE;
use common::cell::{Cell, block, goes_on, log, refuses, register, stop};
use common::rounds::check;
use ieum_core::batch::{Batch, Envelope, Header, Origin};
use ieum_core::commands::operate::{Activate, StartNode};
use ieum_core::commands::{Command, LEVEL};
use ieum_drill::crowd::{self, Crowd};
use ieum_log::{BatchId, Log as _, Position};
use ieum_log_etcd::Etcd;

/// Where the log ends.
fn last(cell: &Cell) -> Position {
    block(async { log(cell).await.last().await.unwrap() })
}

/// Where nobody serves.
fn is_shut(cell: &Cell, at: usize) -> bool {
    TcpStream::connect(cell.nodes[at].address().trim_start_matches("http://")).is_err()
}

/// Waits until a node that runs has halted, and gives what it says.
fn halts(cell: &mut Cell, at: usize) -> String {
    let halted = |said: &str| said.contains("this node has halted");
    let said = cell.nodes[at].running().unwrap().wait_for_stderr(halted, PATIENCE).unwrap();
    assert!(is_shut(cell, at), "{said}");
    said
}

/// What the members write once a later build runs on each of them and its operator raises the level.
async fn raise_level(log: &Etcd, members: u32) {
    let own = |command: Command| Envelope { origin: Origin::Node, command };
    for node in 1..=members {
        let incarnation = log.register(node, 0).await.unwrap();
        let start = StartNode { level: LEVEL + 1, key_id: node.into(), public_key: [7; 32] };
        let mut commands = vec![own(start.into())];
        if node == members {
            commands.push(own(Activate { level: LEVEL + 1 }.into()));
        }
        let header = Header { node, incarnation, number: 1, clock: 0 };
        let batch = Batch { header, commands }.encode();
        log.append(BatchId { node, incarnation, number: 1 }, batch).await.unwrap();
    }
}

#[test]
fn a_node_of_an_earlier_level_stops_before_what_it_does_not_know() {
    let mut cell = Cell::started();
    register(&cell, 0, "minji").success();
    stop(&mut cell, &[0, 1, 2]);
    block(async { raise_level(&log(&cell).await, 3).await });
    let end = last(&cell);
    for at in [0, 1, 2] {
        let said = refuses(&mut cell, at);
        let level = format!("the cell is at level {}, this build knows up to {LEVEL}: start a newer build", LEVEL + 1);
        assert!(said.contains(&level), "{said}");
        assert!(is_shut(&cell, at));
    }
    // None of them wrote anything.
    assert_eq!(last(&cell), end);
}

fn backup(cell: &Cell) -> PathBuf {
    let file = cell.folder.path().join("backup of etcd");
    cell.etcd.save(&file).unwrap();
    file
}

#[test]
fn an_etcd_from_an_old_backup_is_served_by_nobody_until_it_is_reseeded() {
    let mut cell = Cell::started();
    let crowd = cell.talking();
    let file = backup(&cell);
    goes_on(&crowd);
    // Two run on while etcd is exchanged under them, one starts afterwards.
    cell.nodes[2].kill().unwrap();
    cell.etcd.restore(&file).unwrap();
    cell.nodes[2].spawn().unwrap();
    for at in [2, 0, 1] {
        let said = halts(&mut cell, at);
        assert!(said.contains("etcd was restored from a backup") && said.contains("`ieum log reseed`"), "{said}");
    }
    let held = cell.operator(0, &["log", "reseed", "--yes"]).failure();
    assert!(held.contains("etcd holds a log of this cell already") && held.contains("--replace"), "{held}");
    cell.operator(0, &["log", "reseed", "--yes", "--replace"]).success();
    goes_on(&crowd);
    check(crowd);
    cell.stop_well();
}

#[test]
fn an_etcd_from_an_old_backup_that_has_grown_since_is_refused_and_what_it_lacks_comes_back() {
    let mut cell = Cell::started();
    // It knows nothing of what comes behind the backup.
    stop(&mut cell, &[0]);
    let file = backup(&cell);
    register(&cell, 1, "minji").success();
    stop(&mut cell, &[1, 2]);
    let end = last(&cell);
    cell.etcd.restore(&file).unwrap();
    cell.nodes[0].start(PATIENCE).unwrap();
    let endpoints = vec![cell.nodes[0].address().parse().unwrap()];
    let crowd = Crowd::gather(&crowd::Options { endpoints, people: 20, in_flight: 1 }).unwrap();
    crowd.write();
    crowd.wait_for(100, PATIENCE).unwrap();
    assert!(last(&cell) > end, "it has not grown");
    for at in [1, 2] {
        let said = refuses(&mut cell, at);
        assert!(said.contains("has another batch at") && said.contains("docs/operating/log-lost.md"), "{said}");
        assert!(is_shut(&cell, at));
    }
    // As that page says.
    drop(crowd);
    stop(&mut cell, &[0]);
    cell.etcd.lose().unwrap();
    for at in [1, 2] {
        cell.nodes[at].spawn().unwrap();
        let said = halts(&mut cell, at);
        assert!(said.contains("etcd holds no log"), "{said}");
    }
    cell.operator(1, &["log", "reseed", "--yes", "--without", "1"]).success();
    cell.nodes[0].start(PATIENCE).unwrap();
    let taken = register(&cell, 0, "minji").failure();
    assert!(taken.contains("handle"), "{taken}");
    cell.stop_well();
}

#[test]
fn a_node_finds_its_log_in_another_generation_and_waits_for_help() {
    let mut cell = Cell::started();
    register(&cell, 0, "minji").success();
    cell.nodes[2].kill().unwrap();
    register(&cell, 0, "jisoo").success();
    cell.etcd.lose().unwrap();
    cell.operator(0, &["log", "reseed", "--yes", "--without", "3"]).success();
    stop(&mut cell, &[0, 1]);
    cell.nodes[2].spawn().unwrap();
    let said = halts(&mut cell, 2);
    assert!(said.contains("where this node does not stand: it resyncs from another one"), "{said}");
    cell.nodes[1].start(PATIENCE).unwrap();
    cell.nodes[2].wait_until_it_serves(PATIENCE).unwrap();
    for handle in ["minji", "jisoo"] {
        let taken = register(&cell, 2, handle).failure();
        assert!(taken.contains("handle"), "{taken}");
    }
}
