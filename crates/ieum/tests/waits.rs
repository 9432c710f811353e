//! A node that is there before its etcd, as after a power cut of a whole country: it says what it waits for, stops when it is told to, goes on
//! when etcd answers, and refuses then what it must not go on with.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::net::TcpStream;

use common::{IEUM, PATIENCE};
use ieum_drill::etcd::Etcd;
use ieum_drill::process::Signal;
use ieum_drill::server::Server;
use tempfile::TempDir;

/// A node that runs in a folder `name`, on the data `data`.
fn node(etcd: &Etcd, folder: &TempDir, name: &str, data: &str) -> Server {
    let endpoints = serde_json::to_string(&etcd.endpoints()).unwrap();
    let outside = folder.path().join(name);
    std::fs::create_dir(&outside).unwrap();
    let node = Server::new(IEUM, &outside, folder.path().join(data)).unwrap();
    node.set("LOG__ENGINE", "etcd").set("LOG__ENDPOINTS", &endpoints)
}

/// Starts a node, and waits until it says what it waits for.
fn waits(node: &mut Server, etcd: &Etcd) {
    // What earlier processes have said stays in the file.
    let before = node.stderr().map_or(0, |said| said.len());
    node.spawn().unwrap();
    let endpoint = etcd.endpoints().remove(0);
    let waits = |said: &str| {
        let said = said.get(before..).unwrap_or_default();
        said.contains("this node waits for etcd, and serves nobody") && said.contains(&endpoint)
    };
    let said = node.running().unwrap().wait_for_stderr(waits, PATIENCE).unwrap();
    assert!(said.contains("no member of etcd answered"), "{said}");
    // Nobody is let in meanwhile.
    TcpStream::connect(node.address().trim_start_matches("http://")).unwrap_err();
}

/// Waits until a node that waited serves.
fn goes_on(node: &mut Server) {
    node.wait_until_it_serves(PATIENCE).unwrap();
    let said = node.stderr().unwrap();
    assert!(said.contains("etcd answers: the node goes on"), "{said}");
}

#[test]
fn a_node_that_is_there_before_etcd_waits_for_it() {
    let mut etcd = Etcd::start(1).unwrap();
    etcd.wait_until_it_serves(0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    etcd.kill(0).unwrap();
    // One that is to found the cell, told to stop meanwhile.
    let mut founding = node(&etcd, &folder, "founding", "data").founding();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        waits(&mut founding, &etcd);
        founding.running().unwrap().signal(signal).unwrap();
        let status = founding.running().unwrap().wait(PATIENCE).unwrap();
        assert!(status.success(), "{status}: {}", founding.stderr().unwrap());
    }
    waits(&mut founding, &etcd);
    etcd.restart(0).unwrap();
    goes_on(&mut founding);
    assert!(founding.stop(PATIENCE).unwrap().success());
    // One with data, beside an etcd that takes connections and answers nothing.
    etcd.freeze(0).unwrap();
    let mut again = node(&etcd, &folder, "again", "data");
    waits(&mut again, &etcd);
    etcd.thaw(0).unwrap();
    goes_on(&mut again);
    assert!(again.stop(PATIENCE).unwrap().success());
    // What comes is another cell's.
    etcd.kill(0).unwrap();
    let mut strange = node(&etcd, &folder, "strange", "other data").set("NODE__CELL", "2");
    waits(&mut strange, &etcd);
    etcd.restart(0).unwrap();
    let status = strange.running().unwrap().wait(PATIENCE).unwrap();
    let said = strange.stderr().unwrap();
    assert!(status.code() == Some(1) && said.contains("the log of cell 1, not of cell 2"), "{status}: {said}");
}
