//! A cell of three nodes over three members of etcd, all of them real processes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use std::io::{Read as _, Write as _};
use std::time::Instant;

use common::cell::{Cell, goes_on};
use common::rounds::check;
use common::{PATIENCE, all_explained, metric, operator, page};
use ieum_drill::server::Server;

#[test]
fn nothing_acknowledged_is_lost_when_nodes_and_members_of_the_log_are_killed() {
    let mut cell = Cell::started();
    let crowd = cell.talking();
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
    cell.stop_well();
}

/// Waits until every node says that so many members of etcd are of use.
fn all_see(cell: &Cell, members: u64) {
    let begun = Instant::now();
    while !cell.nodes.iter().all(|node| metric(node, "ieum_log_members_up") == members) {
        assert!(begun.elapsed() < PATIENCE, "not every node sees {members} members of etcd");
    }
}

#[test]
fn a_cell_that_is_well_says_so_and_one_with_a_member_of_its_log_less_does_not() {
    let mut cell = Cell::started_with_certificates();
    for node in &cell.nodes {
        for alarm in ["views_differ", "members_left_behind", "log_trim_failures_total", "log_slowed"] {
            assert_eq!(metric(node, &format!("ieum_{alarm}")), 0, "{alarm}");
        }
        assert_eq!(metric(node, "ieum_log_room_bytes"), 768 << 20);
        assert!((1..8 << 20).contains(&metric(node, "ieum_log_used_bytes")));
        assert_eq!(metric(node, "ieum_log_members"), 3);
        assert!(metric(node, "ieum_certificate_seconds_left") > 365 * 24 * 3_600);
        all_explained(&page(&node.address(), "/metrics"), &["one_data_center", "people_elsewhere"]);
    }
    all_see(&cell, 3);
    cell.etcd.kill(1).unwrap();
    all_see(&cell, 2);
    cell.etcd.restart(1).unwrap();
    all_see(&cell, 3);
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

/// Whether a node says that it is ready.
fn readyz(node: &Server) -> u16 {
    let mut stream = std::net::TcpStream::connect(node.address().trim_start_matches("http://")).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Clients are moved away from a node that is to stop, while they write: nobody is told twice, nothing is lost, and nobody stays.
#[test]
fn clients_leave_a_node_that_drains_and_every_node_is_restarted_under_load() {
    let mut cell = Cell::started();
    let crowd = cell.talking();
    let data = cell.nodes[1].data().to_owned();
    let said = operator(&data, &["node", "drain", "--seconds", "1"]).success();
    assert!(said.contains("this one takes no more"), "{said}");
    assert_eq!((readyz(&cell.nodes[0]), readyz(&cell.nodes[1])), (200, 503));
    let listed = operator(cell.nodes[0].data(), &["node", "list"]).success();
    assert!(listed.contains("Node 2 in data center b is draining"), "{listed}");
    goes_on(&crowd);
    operator(&data, &["node", "drain", "--end"]).success();
    let said = operator(&data, &["node", "drain", "--end"]).success();
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(readyz(&cell.nodes[1]), 200);
    for node in &mut cell.nodes {
        assert!(node.stop(PATIENCE).unwrap().success());
        goes_on(&crowd);
        node.start(PATIENCE).unwrap();
    }
    check(crowd);
}
