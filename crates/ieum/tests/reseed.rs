//! The log of a cell is lost: all of etcd's data. What was acknowledged is there again after `ieum log reseed`, and nothing else becomes of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use common::cell::{Cell, goes_on};
use common::rounds::{check, note};
use common::{PATIENCE, operator};

#[test]
fn nothing_acknowledged_is_lost_with_all_of_etcd() {
    let mut cell = Cell::started();
    let crowd = cell.crowd();
    crowd.write();
    goes_on(&crowd);
    cell.etcd.lose().unwrap();
    let began = std::time::Instant::now();
    let said = cell.operator(1, &["log", "reseed", "--yes"]).success();
    note(&format!("{said}The command took {:.1} s.", began.elapsed().as_secs_f64()));
    goes_on(&crowd);
    check(crowd);
    for node in &mut cell.nodes {
        assert!(node.stop(PATIENCE).unwrap().success());
    }
    for node in &cell.nodes {
        let said = operator(node.data(), &["verify"]).success();
        assert!(said.starts_with("All is well"), "{said}");
    }
}
