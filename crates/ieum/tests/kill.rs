//! SIGKILL at random moments under load: what was acknowledged is there, once and in order.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::rounds::{Random, Rounds};
use common::{IEUM, PATIENCE, operator};
use ieum_drill::server::Server;

#[test]
fn nothing_acknowledged_is_lost_by_sigkill() {
    let mut random = Random::seeded();
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::new(IEUM, folder.path(), folder.path().join("data")).unwrap().without_limits();
    let rounds = Rounds { count: 50, messages: 7_000, twice: 5 };
    let gave = rounds.run(&mut server, &mut random, |server, _| server.kill().unwrap());
    assert!(gave.acknowledged >= 50 * 7_000);
    assert!(gave.rate >= 10_000.0, "the load is too small to show anything: {:.0} messages/s", gave.rate);
    assert!(server.stop(PATIENCE).unwrap().success());
    let said = operator(server.data(), &["verify"]).success();
    assert!(said.starts_with("All is well"), "{said}");
}
