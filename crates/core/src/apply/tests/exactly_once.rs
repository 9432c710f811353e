//! Each command takes effect once, however often and through whichever node it comes.

use crate::apply::{Outcome, Reject};
use crate::batch::{Envelope, Origin};
use crate::commands::Command;
use crate::commands::message::Send;
use crate::ids::{DeviceId, RoomId};
use crate::outcome::Accepted;
use crate::tables::accounts::PROGRESS;
use crate::testing::{Cell, DAY, Person, START, id, register};

fn pair() -> (Cell, Person, RoomId) {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.direct(dohyun, minji);
    (cell, minji, room)
}

fn send(room: RoomId, n: u64) -> Send {
    Send { room, text: format!("message {n}"), reply_to: None }
}

fn sent(seq: u64) -> Result<Accepted, Reject> {
    Ok(Accepted::Sent { seq, time: START })
}

fn last_number(cell: &Cell, device: DeviceId) -> u64 {
    PROGRESS.get(&cell.view, &device).unwrap().unwrap().last
}

#[test]
fn a_retry_is_answered_again_and_has_no_effect() {
    let (mut cell, Person { device, .. }, room) = pair();
    assert_eq!(cell.numbered(device, 1, 11, send(room, 1)), sent(1));
    assert_eq!(cell.numbered(device, 2, 12, send(room, 2)), sent(2));
    cell.wait(DAY);
    assert_eq!(cell.numbered(device, 1, 11, send(room, 1)), sent(1));
    assert!(cell.events.is_empty());
    assert_eq!(cell.numbered(device, 2, 12, send(room, 2)), sent(2));
    assert_eq!(last_number(&cell, device), 2);
}

#[test]
fn a_retry_in_the_same_batch_is_answered_again() {
    let (mut cell, Person { device, .. }, room) = pair();
    let origin = Origin::Device { device, number: 1, id: id(1) };
    let twice = vec![Envelope { origin, command: send(room, 1).into() }; 2];
    let outcomes = cell.batch(twice);
    assert_eq!(outcomes, vec![Outcome::Accepted(Accepted::Sent { seq: 1, time: START }); 2]);
    assert_eq!(cell.events.len(), 1);
}

#[test]
fn another_id_under_a_used_number_is_refused() {
    let (mut cell, Person { device, .. }, room) = pair();
    assert_eq!(cell.numbered(device, 1, 11, send(room, 1)), sent(1));
    assert_eq!(cell.numbered(device, 1, 12, send(room, 2)), Err(Reject::NumberReused));
    assert_eq!(cell.numbered(device, 1, 11, send(room, 1)), sent(1), "the refusal is not what is kept");
    assert_eq!(last_number(&cell, device), 1);
}

#[test]
fn a_number_beyond_the_next_is_refused_and_not_used_up() {
    let (mut cell, Person { device, .. }, room) = pair();
    assert_eq!(cell.numbered(device, 2, 2, send(room, 2)), Err(Reject::OutOfOrder));
    assert_eq!(cell.numbered(device, u64::MAX, 2, send(room, 2)), Err(Reject::OutOfOrder));
    assert_eq!(cell.numbered(device, 1, 1, send(room, 1)), sent(1));
    assert_eq!(cell.numbered(device, 2, 2, send(room, 2)), sent(2));
    assert_eq!(cell.numbered(device, 0, 0, send(room, 3)), Err(Reject::TooOld), "numbers start with 1");
}

#[test]
fn the_last_64_outcomes_are_kept() {
    let (mut cell, Person { device, .. }, room) = pair();
    for n in 1..=65 {
        assert_eq!(cell.numbered(device, n, n, send(room, n)), sent(n));
    }
    for n in 2..=65 {
        assert_eq!(cell.numbered(device, n, n, send(room, n)), sent(n));
        assert_eq!(cell.numbered(device, n, n + 500, send(room, n)), Err(Reject::NumberReused));
    }
    assert_eq!(cell.numbered(device, 1, 1, send(room, 1)), Err(Reject::TooOld));
    assert_eq!(cell.numbered(device, 1, 501, send(room, 1)), Err(Reject::TooOld));
    assert_eq!(last_number(&cell, device), 65);
}

#[test]
fn a_rejection_uses_its_number_up_and_stays() {
    let (mut cell, Person { device, .. }, room) = pair();
    let unknown = Err(Reject::RoomUnknown);
    assert_eq!(cell.numbered(device, 1, 1, send(RoomId(room.0 + 1), 1)), unknown);
    let [minji, dohyun] = cell.people();
    assert_eq!(cell.direct(minji, dohyun).0, room.0 + 1, "now there is such a room");
    assert_eq!(cell.numbered(device, 1, 1, send(RoomId(room.0 + 1), 1)), unknown);
    assert_eq!(cell.numbered(device, 2, 2, send(room, 2)), sent(1));
}

#[test]
fn an_unknown_command_is_unsupported_and_uses_its_number_up() {
    let (mut cell, Person { device, .. }, room) = pair();
    let unknown = Command::Unknown { number: 9_999, bytes: vec![1, 2, 3].into() };
    assert_eq!(cell.numbered(device, 1, 1, unknown.clone()), Err(Reject::Unsupported));
    assert_eq!(cell.numbered(device, 2, 2, send(room, 2)), sent(1));
    assert_eq!(cell.anonymous(unknown.clone()), Err(Reject::Unsupported));
    assert_eq!(cell.node(unknown), Err(Reject::Unsupported));
}

#[test]
fn a_known_command_with_unreadable_bytes_is_unsupported() {
    let (mut cell, Person { device, .. }, _) = pair();
    let garbled = Command::Unknown { number: 30, bytes: vec![0xff; 3].into() };
    assert_eq!(cell.numbered(device, 1, 1, garbled), Err(Reject::Unsupported));
    assert_eq!(last_number(&cell, device), 1);
}

#[test]
fn each_device_counts_for_itself() {
    let (mut cell, minji, room) = pair();
    let other = cell.register("another").device;
    assert_eq!(cell.numbered(minji.device, 1, 1, send(room, 1)), sent(1));
    assert_eq!(cell.numbered(other, 1, 1, send(room, 1)), Err(Reject::RoomUnknown));
    assert_eq!(cell.numbered(DeviceId(404), 1, 1, send(room, 1)), Err(Reject::DeviceUnknown));
    assert_eq!(cell.numbered(DeviceId(0), 1, 1, send(room, 1)), Err(Reject::DeviceUnknown));
}

#[test]
fn a_key_makes_a_change_once() {
    let (mut cell, Person { device, .. }, room) = pair();
    assert_eq!(cell.http(device, 1, 1, send(room, 1)), sent(1));
    assert_eq!(cell.http(device, 1, 1, send(room, 1)), sent(1));
    assert!(cell.events.is_empty());
    assert_eq!(cell.http(device, 1, 2, send(room, 2)), Err(Reject::KeyReused));
    assert_eq!(cell.http(device, 1, 1, send(room, 1)), sent(1), "the refusal is not what is kept");
    assert_eq!(cell.http(device, 2, 1, send(room, 2)), sent(2), "another key, another change");
    assert_eq!(last_number(&cell, device), 0, "numbers and keys are apart");
}

#[test]
fn a_keys_rejection_stays() {
    let (mut cell, Person { device, .. }, room) = pair();
    assert_eq!(cell.http(device, 1, 1, send(room, 1)), sent(1));
    let empty = Send { room, text: String::new(), reply_to: None };
    assert_eq!(cell.http(device, 3, 3, empty), Err(Reject::TextEmpty));
    assert_eq!(cell.http(device, 3, 3, send(room, 3)), Err(Reject::TextEmpty));
}

#[test]
fn keys_are_a_devices_own() {
    let (mut cell, Person { device, .. }, room) = pair();
    let other = cell.register("another").device;
    assert_eq!(cell.http(device, 1, 1, send(room, 1)), sent(1));
    assert_eq!(cell.http(other, 1, 1, send(room, 1)), Err(Reject::RoomUnknown));
    let origin = Origin::Anonymous { key: id(1), request: id(1) };
    assert!(cell.run(origin.clone(), register("nobody.yet")).is_ok());
    assert_eq!(cell.http(DeviceId(0), 1, 1, send(room, 1)), Err(Reject::DeviceUnknown));
    let again = cell.run(origin, register("nobody.yet"));
    assert!(matches!(again, Ok(Accepted::Registered { .. })));
    let other_request = Origin::Anonymous { key: id(1), request: id(2) };
    assert_eq!(cell.run(other_request, register("somebody")), Err(Reject::KeyReused));
}

#[test]
fn a_key_is_remembered_for_24_hours_of_cell_time() {
    let (mut cell, Person { device, .. }, room) = pair();
    assert_eq!(cell.http(device, 1, 1, send(room, 1)), sent(1));
    cell.wait(DAY - 1);
    assert_eq!(cell.http(device, 1, 1, send(room, 1)), sent(1));
    cell.wait(1);
    cell.batch(vec![]);
    assert_eq!(cell.http(device, 1, 2, send(room, 2)), Ok(Accepted::Sent { seq: 2, time: START + DAY }));
    assert_eq!(cell.http(device, 1, 1, send(room, 1)), Err(Reject::KeyReused), "its new life");
}
