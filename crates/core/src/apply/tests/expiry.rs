//! What is removed when its time has come.

use crate::commands::message::Edit;
use crate::commands::operate::Configure;
use crate::ids::{DeviceId, Position};
use crate::query::catch_up::{Start, start};
use crate::tables::cell::{HORIZON, ONLY};
use crate::tables::messages::CHANGES;
use crate::tables::once::{EXPIRY, IDEMPOTENCY};
use crate::tables::rooms::DEPARTURES;
use crate::testing::{Cell, DAY, Rows};

fn rows(view: &Rows, table_key: &[u8]) -> usize {
    view.0.keys().filter(|key| key[0] == table_key[0]).count()
}

fn keys(cell: &Cell) -> usize {
    rows(&cell.view, &IDEMPOTENCY.key(&(DeviceId(0), [0; 16])))
}

fn due(cell: &Cell) -> usize {
    rows(&cell.view, &EXPIRY.key(&(0, bytes::Bytes::new())))
}

#[test]
fn one_batch_removes_a_bounded_number() {
    let mut cell = Cell::found();
    for n in 0..200 {
        cell.register(&format!("handle{n}"));
    }
    cell.wait(DAY);
    cell.batch(vec![]);
    assert_eq!((keys(&cell), due(&cell)), (200 - 64, 200 - 64));
    for _ in 0..3 {
        cell.batch(vec![]);
    }
    assert_eq!((keys(&cell), due(&cell)), (0, 0));
}

/// Each batch may remove more than its commands add.
#[test]
fn removing_keeps_up_with_what_is_added() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let room = cell.group(minji, &[]);
    let seq = cell.say(minji, room, "0");
    cell.node(Configure { edit_limit: u64::MAX, delete_limit: 0, horizon: DAY }).unwrap();
    let mut most = 0;
    for day in 0..8u64 {
        for n in 0..100 {
            let edit = Edit { room, seq, text: format!("{n}") };
            cell.http(minji.device, day * 1_000 + n, 0, edit).unwrap();
        }
        most = most.max(due(&cell));
        cell.wait(DAY);
    }
    assert!(most <= 202, "{most} rows wait to be removed");
}

#[test]
fn the_horizon_follows_what_change_indexes_lost() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let room = cell.group(minji, &[dohyun]);
    let seq = cell.say(minji, room, "helo");
    cell.ok(minji, Edit { room, seq, text: "hello".to_owned() });
    let edited = cell.position();
    cell.ok(dohyun, crate::commands::group::Leave { room });
    let left = cell.position();
    assert!(CHANGES.has(&cell.view, &(room, edited, seq)).unwrap());
    assert!(DEPARTURES.has(&cell.view, &(dohyun.user, left, room)).unwrap());

    cell.wait(30 * DAY - 1);
    cell.batch(vec![]);
    assert_eq!(HORIZON.get(&cell.view, &ONLY).unwrap(), None);
    assert_eq!(start(&cell.view, Some(Position::new(1, 1))).unwrap(), Start::Since(Position::new(1, 1)));

    cell.wait(1);
    cell.batch(vec![]);
    assert_eq!(HORIZON.get(&cell.view, &ONLY).unwrap(), Some(left));
    assert!(!CHANGES.has(&cell.view, &(room, edited, seq)).unwrap());
    assert!(!DEPARTURES.has(&cell.view, &(dohyun.user, left, room)).unwrap());
    assert_eq!(start(&cell.view, Some(edited)).unwrap(), Start::Resync);
    assert_eq!(start(&cell.view, Some(left)).unwrap(), Start::Since(left));
}

#[test]
fn keys_that_expire_move_no_horizon() {
    let mut cell = Cell::found();
    cell.register("minji");
    cell.wait(DAY);
    cell.batch(vec![]);
    assert_eq!((keys(&cell), HORIZON.get(&cell.view, &ONLY).unwrap()), (0, None));
}
