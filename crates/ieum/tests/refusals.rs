//! What a cell of several nodes does not take, with the real binary: each time a clear refusal that says what to do, and the cell goes on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use std::io::Write as _;
use std::net::TcpListener;

use common::cell::{Cell, goes_on, setting};
use common::rounds::check;
use common::{IEUM, PATIENCE, operator};
use ieum_drill::certificates::{Authority, expired, node_name};
use ieum_drill::etcd::{Etcd, Settings};
use ieum_drill::server::{Server, free_port};

/// A node that must not come up, and what it has to say.
struct Bad {
    node: Server,
    says: &'static [&'static str],
}

/// Whoever connects is told something of another kind.
fn garbage() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // Whoever connects may be gone already.
            let _ = stream.write_all(b"220 smtp.example ESMTP\r\n");
        }
    });
    format!("https://{address}")
}

/// Nodes that are not to run in this cell, or not so. Each has a folder of its own.
fn bad_nodes(cell: &Cell, strangers: &Authority) -> Vec<Bad> {
    let ours = cell.authority.as_ref().unwrap();
    let node = |name: &str, number| cell.node(name, number, &format!("https://127.0.0.1:{}", free_port().unwrap()));
    let peers = |node: Server, certificates| node.set("PEERS__CERTIFICATES", &setting(&certificates));
    let log = |node: Server, certificates| node.set("LOG__CERTIFICATES", &setting(&certificates));
    let mut mixed = ours.node(1, 3).unwrap();
    mixed.authority = strangers.node(1, 3).unwrap().authority;
    let out_of_date = || ours.issue(&[&node_name(1, 3)], expired).unwrap();
    let bad = |node, says| Bad { node, says };
    vec![
        bad(peers(node("expired", 3), out_of_date()), &["the other nodes would refuse", "expired"]),
        bad(peers(node("mixed", 3), mixed), &["the other nodes would refuse", "signed by the authority in"]),
        bad(
            peers(node("other number", 3), ours.node(1, 2).unwrap()),
            &["names node 2 of cell 1, and this is node 3 of cell 1"],
        ),
        bad(log(node("expired for etcd", 3), out_of_date()), &["which is out of date", "[log] certificates"]),
        bad(log(node("strange for etcd", 3), strangers.node(1, 3).unwrap()), &["https://127.0.0.1:", "certificate"]),
        bad(node("no etcd", 3).set("LOG__ENDPOINTS", &format!("[{:?}]", cell.addresses[0])), &["[log] endpoints"]),
        bad(node("garbage", 3).set("LOG__ENDPOINTS", &format!("[{:?}]", garbage())), &["[log] endpoints"]),
        bad(
            peers(node("other cell", 1).set("NODE__CELL", "2"), ours.node(2, 1).unwrap()),
            &["the log of cell 1, not of cell 2", "set the cell's number right"],
        ),
        bad(node("double", 1), &["another process runs as node 1", "[node] number"]),
        bad(node("nobody", 4), &["node 4 is no member", "`ieum node add`"]),
    ]
}

#[test]
fn a_cell_with_certificates_serves_and_refuses_what_does_not_belong_to_it() {
    let mut cell = Cell::started_with_certificates();
    let crowd = cell.talking();
    let strangers = Authority::new(&cell.folder.path().join("strangers")).unwrap();
    let mut bad = bad_nodes(&cell, &strangers);
    bad.iter_mut().for_each(|bad| bad.node.spawn().unwrap());
    for Bad { node, says } in &mut bad {
        let status = node.running().unwrap().wait(PATIENCE).unwrap();
        let said = node.stderr().unwrap();
        assert!(!status.success() && says.iter().all(|words| said.contains(words)), "{says:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    // A member with certificates of somebody else's, and with the address of something that is no node: it hears of nobody, and nobody believes it.
    let mut third = cell.nodes.remove(2);
    assert!(third.stop(PATIENCE).unwrap().success());
    let (elsewhere, known) = (garbage(), &cell.addresses);
    let addresses = format!("[{elsewhere:?}, {:?}, {:?}]", known[0], known[1]);
    let certificates = setting(&strangers.node(1, 3).unwrap());
    third = third.set("PEERS__CERTIFICATES", &certificates).set("PEERS__ADDRESSES", &addresses);
    third.start(PATIENCE).unwrap();
    let said = third.stderr().unwrap();
    assert!(said.contains("invalid peer certificate") && said.contains(&elsewhere), "{said}");
    goes_on(&crowd);
    check(crowd);
    let listed = operator(cell.nodes[0].data(), &["node", "list"]).success();
    assert!(listed.contains("Node 2 in data center b is ready"), "{listed}");
    assert!(!listed.contains("Node 3 in data center c is ready"), "{listed}");
    cell.nodes.push(third);
    cell.stop_well();
}

#[test]
fn a_node_says_that_etcd_is_at_its_quota_and_what_to_do() {
    let etcd = Etcd::start_with(1, Settings { quota: 4 << 20, ..Settings::default() }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let endpoints = serde_json::to_string(&etcd.endpoints()).unwrap();
    let node = Server::new(IEUM, folder.path(), folder.path().join("data")).unwrap().founding();
    let mut node = node.set("LOG__ENGINE", "etcd").set("LOG__ENDPOINTS", &endpoints);
    node.start(PATIENCE).unwrap();
    let large = "x".repeat(100_000);
    let full = (0..1_000).find_map(|n| etcd.run(&["put", &format!("filler/{n}"), &large]).err()).unwrap();
    assert!(full.to_string().contains("space exceeded"), "{full}");
    node.kill().unwrap();
    // The one that founds asks more of etcd.
    let outside = folder.path().join("again");
    std::fs::create_dir(&outside).unwrap();
    let again = Server::new(IEUM, outside, node.data()).unwrap();
    for mut node in [node, again.set("LOG__ENGINE", "etcd").set("LOG__ENDPOINTS", &endpoints)] {
        node.spawn().unwrap();
        let status = node.running().unwrap().wait(PATIENCE).unwrap();
        let said = node.stderr().unwrap();
        assert!(!status.success() && said.contains("quota") && said.contains("etcdctl alarm disarm"), "{said}");
    }
}
