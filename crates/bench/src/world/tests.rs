use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use ieum_core::apply::{Author, Skips, apply};
use ieum_core::batch::{Batch, Envelope, Header, Origin};
use ieum_core::commands::Command;
use ieum_core::commands::account::Register;
use ieum_core::commands::message::Send;
use ieum_core::commands::operate::AddNode;
use ieum_core::commands::room::OpenDirect;
use ieum_core::kv::{Kv as _, WriteSet};
use ieum_store::memory::Memory;

use super::*;

type Rows = BTreeMap<Vec<u8>, Bytes>;

fn all(view: &impl Read) -> Rows {
    let mut rows = Rows::new();
    view.scan(&[], &[0xff], Direction::Forward, &mut |key, value| {
        assert!(rows.last_key_value().is_none_or(|(last, _)| last.as_slice() < key), "rows ascend");
        rows.insert(key.to_vec(), value.clone());
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

/// The world that the commands give.
fn applied(world: &World) -> Rows {
    let node = |command: Command| Envelope { origin: Origin::Node, command };
    let add = AddNode { node: NODE.0, dc: NODE.1.to_owned(), level: LEVEL, cell: CELL };
    let register = |person| Register {
        handle: handle(person),
        name: name(person),
        password: PASSWORD.to_owned(),
        secret_hash: secret_hash(person),
        device_name: "bench".to_owned(),
        invitation: None,
    };
    let mut numbers = vec![0u64; world.people as usize];
    let mut device = |person: u32, command: Command| {
        let number = &mut numbers[person as usize];
        *number += 1;
        let origin = Origin::Device { device: DeviceId(id(person)), number: *number, id: command_id(person, *number) };
        Envelope { origin, command }
    };
    let opened = world.pairs.iter().map(|(low, high)| device(*low, OpenDirect { with: handle(*high) }.into()));
    let opened: Vec<_> = opened.collect();
    let mut sent = Vec::new();
    for (room, (low, high)) in (0u32..).zip(&world.pairs) {
        for seq in 1..=world.messages {
            let from = if seq % 2 == 1 { *low } else { *high };
            let text = World::text(room, seq);
            sent.push(device(from, Send { room: RoomId(id(room)), text, reply_to: None }.into()));
        }
    }
    let registered = (0..world.people).map(|person| node(register(person).into())).collect();
    let view = Memory::default();
    for (number, commands) in (1..).zip([vec![node(add.into())], registered, opened, sent]) {
        let header = Header { node: NODE.0, incarnation: 1, number, clock: world.now };
        let author = Author { node: NODE.0, incarnation: 1, number };
        let bytes = Batch { header, commands }.encode();
        let effects = apply(&view.snapshot(), Position::new(1, number), author, &bytes, &Skips::new()).unwrap();
        assert!(effects.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Accepted(_))));
        view.commit(&WriteSet { rows: effects.writes.rows }).unwrap();
    }
    all(&view.snapshot())
}

fn compare(world: &World) {
    let (mut made, mut applied) = (all(world), applied(world));
    // The digest is of the write sets, which a world that was not applied does not have.
    let key = APPLIED.key(&ONLY);
    assert!(made.remove(&key).is_some() && applied.remove(&key).is_some());
    for (key, row) in &applied {
        assert_eq!(made.get(key), Some(row), "table {}, key {key:?}", key[0]);
    }
    assert_eq!(made.len(), applied.len());
}

#[test]
fn every_row_is_what_the_commands_give() {
    for messages in [0, 1, 2, 7] {
        compare(&World::couples(6, messages, 1_700_000_000_000));
        compare(&World::neighbours(9, messages, 1_700_000_000_000));
    }
    // More commands of a device than outcomes are kept of.
    compare(&World::couples(2, 200, 1_700_000_000_000));
}

#[test]
fn pairs_spread_over_the_world_share_nobody() {
    let world = World::neighbours(100, 0, 1);
    let pairs = world.spread(10);
    assert_eq!(pairs.len(), 10);
    let people: std::collections::BTreeSet<u32> = pairs.iter().flat_map(|(one, other, _)| [*one, *other]).collect();
    assert_eq!(people.len(), 20);
    assert!(pairs.iter().all(|(one, other, room)| world.pairs[(*room - id(0)) as usize] == (*one, *other)));
}
