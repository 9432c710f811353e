//! A cell of three nodes is brought to a later build and to its level while people write, with the real binary over real etcd. The build of before is
//! the program `earlier` of the examples: the same one, whose nodes know one level less.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use std::net::TcpStream;
use std::path::Path;

use common::cell::Cell;
use common::rounds::check;
use common::{IEUM, PATIENCE, Run, metric};
use ieum_client::store::Identity;
use ieum_core::batch::{Batch, Envelope, Header, Origin};
use ieum_core::commands::group::CreateGroupById;
use ieum_core::commands::room::OpenDirectById;
use ieum_core::commands::{Command, LEVEL};
use ieum_core::ids::{DeviceId, UserId};
use ieum_drill::crowd::{self, Crowd};
use ieum_drill::process;
use ieum_log::{BatchId, Log as _};
use ieum_log_etcd::{Etcd, Options};

/// How many people of the crowd are in a group.
const GROUP: usize = 6;

/// Some messages are acknowledged from now on.
fn goes_on(crowd: &Crowd) {
    crowd.wait_for(crowd.acknowledged() + 500, PATIENCE).unwrap();
}

/// What clients of level 1 asked for, and those of today do not: rooms of people who are named by id. Node 3, which is stopped, is who writes it.
async fn open_by_id(cell: &Cell, people: &[Identity]) -> String {
    let mut commands = Vec::new();
    let mut ask = |person: &Identity, command: Command| {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&(commands.len() as u64).to_be_bytes());
        let origin = Origin::Http { device: DeviceId(person.device), key, request: key };
        commands.push(Envelope { origin, command });
    };
    for pair in people.chunks(2) {
        ask(&pair[0], OpenDirectById { with: UserId(pair[1].user) }.into());
    }
    for group in people.chunks(GROUP) {
        let members = group.iter().map(|person| UserId(person.user)).collect();
        ask(&group[0], CreateGroupById { name: "모두".to_owned(), members }.into());
    }
    let endpoints = cell.etcd.endpoints().iter().map(|endpoint| endpoint.parse().unwrap()).collect();
    let log = Etcd::open(Options::new(1, endpoints)).await.unwrap();
    let incarnation = log.register(3, 0).await.unwrap();
    let header = Header { node: 3, incarnation, number: 1, clock: ieum_node::clock::wall() };
    let id = BatchId { node: 3, incarnation, number: 1 };
    let position = log.append(id, Batch { header, commands }.encode()).await.unwrap();
    format!("{}.{}", position.generation, position.ordinal)
}

/// People who write in a cell that is below level 2.
fn talking(cell: &mut Cell) -> Crowd {
    assert!(cell.nodes[2].stop(PATIENCE).unwrap().success());
    let endpoints = cell.nodes.iter().map(|node| node.address().parse().unwrap()).collect();
    let options = crowd::Options { endpoints, people: 24, in_flight: 2 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let crowd = Crowd::gather_into(&options, |people| Ok(runtime.block_on(open_by_id(cell, people)))).unwrap();
    cell.nodes[2].start(PATIENCE).unwrap();
    crowd.write();
    goes_on(&crowd);
    crowd
}

/// `ieum …` as 민지, who has a home of her own, through one node.
fn minji(cell: &Cell, at: usize, arguments: &[&str]) -> Run {
    let mut command = cell.command(at, arguments, &[]);
    command.env("IEUM_HOME", cell.folder.path().join("home of 민지")).env("IEUM_PASSWORD", "password of 민지");
    Run(command.env("IEUM_SERVER", cell.nodes[at].address()).output().unwrap())
}

fn register(cell: &Cell, handle: &str) {
    let mut command = cell.command(0, &["account", "register", "--handle", handle, "--name", handle], &[]);
    command.env("IEUM_HOME", cell.folder.path().join(handle)).env("IEUM_PASSWORD", "password of others");
    Run(command.env("IEUM_SERVER", cell.nodes[0].address()).output().unwrap()).success();
}

/// From its next start on a node is of this build.
fn restart_as(cell: &mut Cell, at: usize, build: &Path, crowd: &Crowd) {
    assert!(cell.nodes[at].stop(PATIENCE).unwrap().success());
    goes_on(crowd);
    cell.nodes[at].set_build(build);
    cell.nodes[at].start(PATIENCE).unwrap();
    goes_on(crowd);
}

/// Whom the refusal names that is given for the later level.
fn behind(cell: &Cell, at: usize) -> Vec<usize> {
    let said = cell.operator(at, &["level", "activate", &LEVEL.to_string()]).failure();
    assert!(said.contains(&format!("level {LEVEL} is more than these members know")), "{said}");
    (1..=3).filter(|node| said.contains(&format!("node {node} in "))).collect()
}

/// A node of the build of before ends by itself, says why, and lets nobody in.
fn refuses(cell: &mut Cell, at: usize) {
    let before = cell.nodes[at].stderr().unwrap().len();
    cell.nodes[at].spawn().unwrap();
    let status = cell.nodes[at].running().unwrap().wait(PATIENCE).unwrap();
    let said = cell.nodes[at].stderr().unwrap().split_off(before);
    let why = format!("the cell is at level {LEVEL}, this build knows up to {}: start a newer build", LEVEL - 1);
    assert!(status.code() == Some(1) && said.contains(&why) && !said.contains("panicked"), "{status}: {said}");
    assert!(TcpStream::connect(cell.nodes[at].address().trim_start_matches("http://")).is_err());
}

#[test]
fn a_cell_is_brought_to_a_later_level_node_by_node_under_load() {
    let earlier = process::example("earlier").unwrap();
    let mut cell = Cell::started_with_build(&earlier);
    let crowd = talking(&mut cell);
    minji(&cell, 0, &["account", "register", "--handle", "minji", "--name", "민지"]).success();
    let others = ["first", "second", "third"];
    others.iter().for_each(|handle| register(&cell, handle));
    assert_eq!(behind(&cell, 0), [1, 2, 3]);
    for (at, left) in [vec![2, 3], vec![3], vec![]].into_iter().enumerate() {
        restart_as(&mut cell, at, IEUM.as_ref(), &crowd);
        let said = cell.operator(at, &["level"]).success();
        assert!(said.starts_with(&format!("The cell is at level {}.", LEVEL - 1)), "{said}");
        if !left.is_empty() {
            // Asked on a node that knows it, and on one that does not.
            assert_eq!((behind(&cell, at), behind(&cell, 2)), (left.clone(), left));
        }
        let refused = minji(&cell, at, &["send", others[at], "하나"]).failure();
        assert!(refused.contains("(unsupported)"), "{refused}");
    }
    let said = cell.operator(1, &["level", "activate", &LEVEL.to_string()]).success();
    assert_eq!(said, format!("The cell is at level {LEVEL} now.\n"));
    goes_on(&crowd);
    for (at, other) in others.into_iter().enumerate() {
        minji(&cell, at, &["send", other, "둘"]).success();
    }
    assert!(cell.nodes[2].stop(PATIENCE).unwrap().success());
    cell.nodes[2].set_build(&earlier);
    refuses(&mut cell, 2);
    goes_on(&crowd);
    cell.nodes[2].set_build(IEUM);
    cell.nodes[2].start(PATIENCE).unwrap();
    minji(&cell, 2, &["send", others[0], "셋"]).success();
    goes_on(&crowd);
    check(crowd);
    for node in &cell.nodes {
        assert_eq!(metric(node, "ieum_views_differ"), 0);
    }
    cell.stop_well();
}
