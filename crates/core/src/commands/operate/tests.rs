use super::*;
use crate::commands::message::{Delete, Edit};
use crate::commands::{Command, LEVEL};
use crate::testing::{CELL, Cell, START};

fn node(node: NodeId, level: u32) -> AddNode {
    AddNode { node, dc: "b".to_owned(), level, cell: 0 }
}

fn start(level: u32) -> StartNode {
    StartNode { level, key_id: 5, public_key: [5; 32] }
}

fn settings(cell: &Cell) -> Settings {
    SETTINGS.get(&cell.view, &ONLY).unwrap().unwrap()
}

#[test]
fn the_first_node_founds_the_cell() {
    let cell = Cell::found();
    assert_eq!(settings(&cell), Settings::new(CELL, LEVEL));
    let row = NODES.get(&cell.view, &1).unwrap().unwrap();
    assert_eq!(row, Node { dc: "a".to_owned(), incarnation: 1, number: 1, level: LEVEL });
}

#[test]
fn a_node_is_added_once_and_removed_once() {
    let mut cell = Cell::found();
    assert_eq!(cell.node(node(2, LEVEL)), Ok(Accepted::Done));
    assert_eq!(cell.node(node(2, LEVEL)), Err(Reject::NodeUnknown));
    assert_eq!(settings(&cell).cell, CELL, "the cell's number stays");
    assert_eq!(cell.node(RemoveNode { node: 2 }), Ok(Accepted::Done));
    assert_eq!(cell.node(RemoveNode { node: 2 }), Err(Reject::NodeUnknown));
    assert_eq!(cell.node(RemoveNode { node: 1 }), Err(Reject::NotYourself));
    assert_eq!(cell.node(node(2, LEVEL)), Ok(Accepted::Done));
}

#[test]
fn a_node_has_a_number_and_a_data_center() {
    let mut cell = Cell::found();
    let invalid = Err(Reject::Invalid);
    assert_eq!(cell.node(node(0, LEVEL)), invalid);
    assert_eq!(cell.node(node(NodeId::MAX, LEVEL)), invalid);
    assert_eq!(cell.node(AddNode { dc: String::new(), ..node(2, LEVEL) }), invalid);
    assert_eq!(cell.node(AddNode { dc: "x".repeat(65), ..node(2, LEVEL) }), invalid);
    assert_eq!(cell.node(AddNode { cell: crate::ids::MAX_CELL + 1, ..node(2, LEVEL) }), invalid);
    let largest = AddNode { dc: "x".repeat(64), cell: crate::ids::MAX_CELL, ..node(NodeId::MAX - 1, LEVEL) };
    assert_eq!(cell.node(largest), Ok(Accepted::Done));
}

#[test]
fn a_node_that_starts_logs_its_level_and_key() {
    let mut cell = Cell::found();
    cell.node(start(9)).unwrap();
    assert_eq!(NODES.get(&cell.view, &1).unwrap().unwrap().level, 9);
    let key = SIGNING_KEYS.get(&cell.view, &5).unwrap().unwrap();
    assert_eq!((key.public_key, key.node, key.since), ([5; 32], 1, cell.position()));
}

#[test]
fn a_node_that_does_not_know_the_active_level_is_no_member() {
    let mut cell = Cell::found();
    assert_eq!(cell.node(node(2, LEVEL - 1)), Err(Reject::LevelTooHigh));
    assert_eq!(cell.node(start(LEVEL - 1)), Err(Reject::LevelTooHigh));
    assert_eq!(NODES.get(&cell.view, &1).unwrap().unwrap().level, LEVEL);
    assert!(!SIGNING_KEYS.has(&cell.view, &5).unwrap());
}

#[test]
fn a_nodes_keys_are_its_own_and_go_with_it() {
    let mut cell = Cell::found();
    cell.node(start(LEVEL)).unwrap();
    cell.node(node(2, LEVEL)).unwrap();
    let mut number = 0;
    let mut ask = |cell: &mut Cell, key_id| {
        number += 1;
        let author = crate::Author { node: 2, incarnation: 1, number };
        let command = StartNode { level: LEVEL, key_id, public_key: [9; 32] }.into();
        let envelope = crate::batch::Envelope { origin: crate::batch::Origin::Node, command };
        cell.apply(author, crate::testing::batch(author, START, vec![envelope])).remove(0)
    };
    let refused = crate::outcome::Outcome::Rejected(Reject::NotAllowed);
    assert_eq!(ask(&mut cell, 5), refused, "node 1 signs with it");
    for key_id in [0, 6, u64::MAX, 6] {
        assert_ne!(ask(&mut cell, key_id), refused);
        assert!(SIGNING_KEYS.has(&cell.view, &key_id).unwrap());
    }
    cell.node(RemoveNode { node: 2 }).unwrap();
    assert!([0, 6, u64::MAX].iter().all(|key_id| !SIGNING_KEYS.has(&cell.view, key_id).unwrap()));
    assert_eq!(SIGNING_KEYS.get(&cell.view, &5).unwrap().unwrap().public_key, [5; 32], "those of others stay");
}

#[test]
fn a_level_is_activated_when_every_member_knows_it() {
    let mut cell = Cell::found();
    assert_eq!(cell.node(Activate { level: LEVEL + 1 }), Err(Reject::LevelTooHigh));
    cell.node(node(NodeId::MAX - 1, LEVEL)).unwrap();
    cell.node(start(LEVEL + 1)).unwrap();
    assert_eq!(cell.node(Activate { level: LEVEL + 1 }), Err(Reject::LevelTooHigh), "the other one does not");
    assert_eq!(cell.node(Activate { level: LEVEL }), Ok(Accepted::Done));
    assert_eq!(cell.node(Activate { level: LEVEL - 1 }), Err(Reject::Invalid), "never back");
}

#[test]
fn limits_of_time_are_set() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.direct(minji, dohyun);
    cell.say(minji, room, "hi");
    cell.node(Configure { edit_limit: 10, delete_limit: 20, horizon: 30 }).unwrap();
    assert_eq!(
        settings(&cell),
        Settings { edit_limit: 10, delete_limit: 20, horizon: 30, ..Settings::new(CELL, LEVEL) }
    );
    cell.wait(11);
    assert_eq!(cell.ask(minji, Edit { room, seq: 1, text: "x".to_owned() }), Err(Reject::EditTooLate));
    cell.wait(10);
    assert_eq!(cell.ask(minji, Delete { room, seq: 1 }), Err(Reject::DeleteTooLate));
}

#[test]
fn people_do_not_operate() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let invitation = AddInvitation { code_hash: [0; 32], uses: 1, expires_at: START + 1 };
    let all: [Command; 7] = [
        Tick {}.into(),
        node(2, 1).into(),
        RemoveNode { node: 1 }.into(),
        start(1).into(),
        Activate { level: 1 }.into(),
        Configure { edit_limit: 0, delete_limit: 0, horizon: 0 }.into(),
        invitation.into(),
    ];
    for command in all {
        assert_eq!(cell.ask(minji, command.clone()), Err(Reject::NotAllowed), "{command:?}");
        assert_eq!(cell.anonymous(command.clone()), Err(Reject::NotAllowed), "{command:?}");
    }
    assert_eq!(cell.node(Tick {}), Ok(Accepted::Done));
}
