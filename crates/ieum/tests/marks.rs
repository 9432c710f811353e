//! A command that is to be skipped in a cell over etcd, with the real binary: every node has to agree before any goes on, and then all skip it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use common::cell::{Cell, block, log, refuses, register, stop};
use common::{PATIENCE, Run, operator};
use ieum_core::batch::{Batch, Envelope, Header, Origin};
use ieum_core::commands::account::Register;
use ieum_log::{BatchId, Log as _, Position};

/// Appends a batch of two registrations behind what the stopped nodes have applied, as a node does that is killed by what it appended.
fn append(cell: &Cell, handles: [&str; 2]) -> Position {
    let of = |handle: &str| Register {
        handle: handle.to_owned(),
        name: handle.to_owned(),
        password: String::new(),
        secret_hash: [1; 32],
        device_name: "phone".to_owned(),
        invitation: None,
    };
    block(async {
        let log = log(cell).await;
        let (node, number) = (1, 1);
        let incarnation = log.register(node, 0).await.unwrap();
        let header = Header { node, incarnation, number, clock: 2_000_000 };
        let commands = handles.map(|handle| Envelope { origin: Origin::Node, command: of(handle).into() });
        let bytes = Batch { header, commands: commands.to_vec() }.encode();
        log.append(BatchId { node, incarnation, number }, bytes).await.unwrap()
    })
}

fn skip(cell: &Cell, at: usize, position: &str, more: &[&str]) -> Run {
    cell.operator(at, &[&["log", "skip", position, "1"], more].concat())
}

fn start(cell: &mut Cell, nodes: &[usize]) {
    for at in nodes {
        cell.nodes[*at].spawn().unwrap();
    }
    for at in nodes {
        cell.nodes[*at].wait_until_it_serves(PATIENCE).unwrap();
    }
}

/// Whether a handle can still be had, at a node that has everything.
fn is_free(cell: &Cell, at: usize, handle: &str) -> bool {
    let taken = register(cell, at, handle);
    if taken.code() == 0 {
        return true;
    }
    let said = taken.failure();
    assert!(said.contains("handle"), "{said}");
    false
}

#[test]
fn a_command_is_skipped_by_every_node_when_all_have_agreed() {
    let mut cell = Cell::started();
    // The last one has applied all that the others have appended.
    stop(&mut cell, &[0, 1, 2]);
    let position = append(&cell, ["one", "two"]).to_string();
    let other = Run(cell.command(0, &["log", "skip", &position, "1"], &[("NODE__CELL", "2")]).output().unwrap());
    assert!(other.failure().contains("cell"), "of another cell");
    assert!(skip(&cell, 2, "1.99999", &[]).failure().contains("position 1.99999 is not in this log"));
    assert!(cell.operator(2, &["log", "skip", &position, "2"]).failure().contains("has 2 commands"));
    let stranger = skip(&cell, 2, &position, &["--without", "9"]).failure();
    assert!(stranger.contains("node 9 is no member"), "{stranger}");

    let said = skip(&cell, 0, &position, &[]).success();
    assert!(said.contains("Node 1 agrees that command 1 (Register) of 2"), "{said}");
    let said = refuses(&mut cell, 0);
    assert!(said.contains("the other nodes have not all agreed"), "{said}");
    assert_eq!(skip(&cell, 0, &position, &["--take-back"]).code(), 0);
    assert!(!skip(&cell, 0, &position, &[]).success().contains("Marked:"));
    let said = skip(&cell, 2, &position, &[]).success();
    assert!(said.contains("Not marked yet: node 2 is missing"), "{said}");
    // Root may ask etcd, whoever the folder belongs to; that needs root here.
    std::os::unix::fs::chown(cell.nodes[1].data(), Some(65_534), None).unwrap();
    let listed = cell.operator(1, &["log", "skips"]).success();
    assert!(skip(&cell, 1, &position, &[]).failure().contains("runuser -u nobody"));
    std::os::unix::fs::chown(cell.nodes[1].data(), Some(0), None).unwrap();
    assert!(listed.contains("not skipped yet; node 1 agrees") && listed.contains("node 3 agrees"), "{listed}");
    // It has its data from elsewhere, and stands further back than the others.
    std::fs::remove_dir_all(cell.nodes[1].data()).unwrap();
    let nothing = skip(&cell, 1, &position, &[]);
    assert_ne!(nothing.code(), 0, "nobody knows what it had applied");
    let said = skip(&cell, 2, &position, &["--without", "2"]).success();
    assert!(said.contains("Marked: every node of the cell skips command 1 (Register) of 2"), "{said}");
    assert!(skip(&cell, 0, &position, &["--take-back"]).failure().contains("cannot be taken back"));
    assert!(skip(&cell, 2, &position, &[]).success().contains("is marked already"));
    assert_eq!(cell.operator(1, &["log", "skips"]).success(), format!("{position} 1\n"));

    start(&mut cell, &[0, 2, 1]);
    assert!(!is_free(&cell, 1, "one"), "the first command counts");
    assert!(is_free(&cell, 1, "two"), "the second one does not");
    for at in [0, 2] {
        assert!(!is_free(&cell, at, "two"), "it has what the others have");
        let said = operator(cell.nodes[at].data(), &["verify"]).success();
        assert!(said.starts_with("All is well"), "{said}");
    }
    assert!(skip(&cell, 0, &position, &[]).failure().contains("another process"), "it runs");
    cell.stop_well();
}

#[test]
fn what_a_node_has_applied_is_not_skipped_unless_that_node_is_given_up() {
    let mut cell = Cell::started();
    stop(&mut cell, &[0, 1, 2]);
    let position = append(&cell, ["one", "two"]).to_string();
    skip(&cell, 0, &position, &[]).success();
    // On a larger machine the command harms nobody, say.
    cell.nodes[1].start(PATIENCE).unwrap();
    let runs = skip(&cell, 2, &position, &["--without", "2"]).failure();
    assert!(runs.contains("node 2 runs"), "{runs}");
    stop(&mut cell, &[1]);
    let passed = skip(&cell, 1, &position, &[]).failure();
    assert!(passed.contains("the view stands at") && passed.contains("was applied"), "{passed}");
    let said = skip(&cell, 2, &position, &["--without", "2"]).success();
    assert!(said.contains("Marked:"), "{said}");
    start(&mut cell, &[0, 2]);
    let said = refuses(&mut cell, 1);
    assert!(said.contains("an operator marked it without this node") && said.contains("ieum node resync"), "{said}");
    cell.operator(1, &["node", "resync"]).success();
    cell.nodes[1].start(PATIENCE).unwrap();
    assert!(is_free(&cell, 1, "two"), "it has what the others have");
    cell.stop_well();
}
