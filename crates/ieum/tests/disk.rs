//! A full disk: a small tmpfs under log and view. Needs root; without it the tests fail and say so.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use common::rounds::note;
use common::{IEUM, PATIENCE, metric, operator};
use ieum_drill::crowd::{self, Crowd};
use ieum_drill::history;
use ieum_drill::server::Server;
use ieum_drill::tmpfs::Tmpfs;

const MIB: u64 = 1 << 20;

fn crowd(server: &Server) -> Crowd {
    let endpoints = vec![server.address().parse().unwrap()];
    Crowd::gather(&crowd::Options { endpoints, people: 40, in_flight: 32 }).unwrap()
}

/// Writes a file until it has `bytes` or the disk is full.
fn ballast(path: &Path, bytes: u64) {
    let mut file = File::create(path).unwrap();
    let block = vec![1; 64 * 1024];
    for _ in 0..bytes / 65_536 {
        if file.write_all(&block).is_err() {
            return;
        }
    }
}

fn everything_is_there(crowd: Crowd, server: &mut Server) {
    crowd.rest(PATIENCE).unwrap();
    let rooms = crowd.read().unwrap();
    crowd.hear(&rooms, PATIENCE);
    let report = history::check(&crowd.leave(), &rooms);
    note(&format!("{} acknowledged, {} held", report.acknowledged, report.held));
    assert!(report.violations.is_empty(), "{}", report.complaint());
    assert!(server.stop(PATIENCE).unwrap().success());
    operator(server.data(), &["verify"]).success();
}

#[test]
fn commands_are_refused_before_the_disk_is_full_and_taken_again_when_there_is_room() {
    let disk = Tmpfs::new(256 * MIB).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let server = Server::new(IEUM, outside.path(), disk.path().join("data")).unwrap().without_limits();
    let mut server = server.set("NODE__RESERVE_MIB", "64");
    server.start(PATIENCE).unwrap();
    let crowd = crowd(&server);
    ballast(&disk.path().join("ballast"), 160 * MIB);
    crowd.write();
    crowd.wait_for_refusal("busy", PATIENCE).unwrap();
    assert_eq!(metric(&server, "ieum_disk_short"), 1);
    let free = metric(&server, "ieum_disk_free_bytes");
    // It stopped while there was room for what it must still do.
    assert!(free > 16 * MIB && free < 64 * MIB, "{free}");
    assert_eq!(metric(&server, "ieum_append_failures_total"), 0);
    let said = server.stderr().unwrap();
    assert!(said.contains("the disk is almost full") && said.contains("reserve_mib"), "{said}");
    // What was there before can be read; a stop, a start and a backup need no more room than there is.
    let before = crowd.acknowledged();
    assert!(crowd.read().unwrap().values().map(Vec::len).sum::<usize>() as u64 >= before);
    operator(server.data(), &["backup", outside.path().join("backup").to_str().unwrap()]).success();
    assert!(server.stop(PATIENCE).unwrap().success());
    server.start(PATIENCE).unwrap();
    crowd.wait_for_refusal("busy", PATIENCE).unwrap();
    std::fs::remove_file(disk.path().join("ballast")).unwrap();
    crowd.wait_for(crowd.acknowledged() + 1_000, PATIENCE).unwrap();
    assert!(server.stderr().unwrap().contains("there is room on the disk again"));
    everything_is_there(crowd, &mut server);
}

#[test]
fn a_disk_that_somebody_else_filled_loses_nothing_acknowledged() {
    let disk = Tmpfs::new(256 * MIB).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let server = Server::new(IEUM, outside.path(), disk.path().join("data")).unwrap().without_limits();
    let mut server = server.set("NODE__RESERVE_MIB", "0");
    server.start(PATIENCE).unwrap();
    let crowd = crowd(&server);
    crowd.write();
    crowd.wait_for(5_000, PATIENCE).unwrap();
    ballast(&disk.path().join("ballast"), 256 * MIB);
    // Either it cannot append, and says so, or it cannot write its view, and stops.
    let told = |text: &str| text.contains("the log did not take a batch") || text.contains("the node stops");
    server.running().unwrap().wait_for_stderr(told, PATIENCE).unwrap();
    note(server.stderr().unwrap().lines().last().unwrap());
    std::fs::remove_file(disk.path().join("ballast")).unwrap();
    if server.stderr().unwrap().contains("the node stops") {
        assert!(!server.running().unwrap().wait(PATIENCE).unwrap().success());
        server.start(PATIENCE).unwrap();
    }
    crowd.wait_for(crowd.acknowledged() + 1_000, PATIENCE).unwrap();
    everything_is_there(crowd, &mut server);
}
