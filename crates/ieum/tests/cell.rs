//! A cell of three nodes over three members of etcd, all of them real processes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use common::rounds::check;
use common::{IEUM, PATIENCE, operator};
use ieum_drill::crowd::{self, Crowd};
use ieum_drill::etcd::Etcd;
use ieum_drill::server::{Server, free_port};
use tempfile::TempDir;

const DCS: [&str; 3] = ["a", "b", "c"];

struct Cell {
    etcd: Etcd,
    nodes: Vec<Server>,
    _folder: TempDir,
}

impl Cell {
    /// Three members and three nodes that run.
    fn started() -> Self {
        let etcd = Etcd::start(3).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let list = |items: &[String]| serde_json::to_string(items).unwrap();
        let peers: Vec<String> = DCS.iter().map(|_| format!("127.0.0.1:{}", free_port().unwrap())).collect();
        let addresses: Vec<String> = peers.iter().map(|peer| format!("http://{peer}")).collect();
        let node = |at: usize| {
            let mut endpoints = etcd.endpoints();
            endpoints.rotate_left(at);
            let outside = folder.path().join(DCS[at]);
            std::fs::create_dir(&outside).unwrap();
            let server = Server::new(IEUM, &outside, outside.join("data")).unwrap().without_limits();
            let server = if at == 0 { server.founding() } else { server };
            let own = server.address();
            server
                .set("NODE__NUMBER", &(at + 1).to_string())
                .set("NODE__DC", DCS[at])
                .set("LOG__ENGINE", "etcd")
                .set("LOG__ENDPOINTS", &list(&endpoints))
                .set("PEERS__LISTEN", &peers[at])
                .set("PEERS__ADDRESSES", &list(&addresses))
                .set("LISTEN__ENDPOINTS", &list(&[own]))
        };
        let mut nodes: Vec<Server> = (0..3).map(node).collect();
        nodes[0].start(PATIENCE).unwrap();
        for at in 1..3 {
            operator(nodes[0].data(), &["node", "add", &(at + 1).to_string(), "--dc", DCS[at]]).success();
            nodes[at].start(PATIENCE).unwrap();
        }
        Self { etcd, nodes, _folder: folder }
    }

    fn crowd(&self) -> Crowd {
        let endpoints = self.nodes.iter().map(|node| node.address().parse().unwrap()).collect();
        Crowd::gather(&crowd::Options { endpoints, people: 60, in_flight: 16 }).unwrap()
    }
}

/// Some messages are acknowledged from now on.
fn goes_on(crowd: &Crowd) {
    crowd.wait_for(crowd.acknowledged() + 2_000, PATIENCE).unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_when_nodes_and_members_of_the_log_are_killed() {
    let mut cell = Cell::started();
    let crowd = cell.crowd();
    crowd.write();
    goes_on(&crowd);
    for round in 0..3 {
        cell.nodes[round].kill().unwrap();
        goes_on(&crowd);
        let leader = cell.etcd.leader().unwrap();
        cell.etcd.kill(leader).unwrap();
        goes_on(&crowd);
        cell.etcd.restart(leader).unwrap();
        cell.nodes[round].start(PATIENCE).unwrap();
        goes_on(&crowd);
    }
    check(crowd);
    for node in &mut cell.nodes {
        assert!(node.stop(PATIENCE).unwrap().success());
    }
    for node in &cell.nodes {
        let said = operator(node.data(), &["verify"]).success();
        assert!(said.starts_with("All is well"), "{said}");
    }
}

#[test]
fn a_node_that_nobody_added_and_one_of_another_cell_say_what_to_do() {
    let mut cell = Cell::started();
    cell.nodes[2].stop(PATIENCE).unwrap();
    let listed = operator(cell.nodes[0].data(), &["node", "list"]).success();
    assert!(listed.contains("Node 1 in data center a is ready"), "{listed}");
    let twice = operator(cell.nodes[0].data(), &["node", "add", "2", "--dc", "b"]);
    assert!(twice.failure().contains("node 2 is a member already"));
    operator(cell.nodes[0].data(), &["node", "remove", "3"]).success();
    cell.nodes[2].spawn().unwrap();
    let status = cell.nodes[2].running().unwrap().wait(PATIENCE).unwrap();
    let said = cell.nodes[2].stderr().unwrap();
    assert!(!status.success() && said.contains("`ieum node add`"), "{said}");
}
