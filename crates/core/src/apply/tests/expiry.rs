//! What is removed when its time has come.

use std::cell::RefCell;

use bytes::Bytes;

use crate::batch::{Envelope, Origin};
use crate::commands::message::Edit;
use crate::commands::operate::Configure;
use crate::ids::{DeviceId, Position};
use crate::kv::{self, Direction, Read, Visit};
use crate::query::catch_up::{Start, start};
use crate::tables::cell::{CLOCK, HORIZON, ONLY};
use crate::tables::messages::CHANGES;
use crate::tables::once::{EXPIRY, IDEMPOTENCY};
use crate::tables::rooms::DEPARTURES;
use crate::testing::{Cell, DAY, Rows, id};

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

/// However full batches are, each removes more than its commands add: here two rows each, a key's and a change's.
#[test]
fn removing_keeps_up_with_what_is_added() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let room = cell.group(minji, &[]);
    let seqs: Vec<u64> = (0..200).map(|n| cell.say(minji, room, &n.to_string())).collect();
    cell.node(Configure { edit_limit: u64::MAX, delete_limit: 0, horizon: DAY }).unwrap();
    cell.wait(DAY);
    for day in 1..8 {
        let edit = |seq| Envelope {
            origin: Origin::Http { device: minji.device, key: id(day * 1_000 + seq), request: id(0) },
            command: Edit { room, seq, text: format!("day {day}") }.into(),
        };
        cell.batch(seqs.iter().map(|seq| edit(*seq)).collect());
        assert_eq!(due(&cell), 2 * seqs.len(), "only what day {day} added waits");
        cell.wait(DAY);
    }
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

/// Notes where scans of what is due begin.
struct Watched<'a> {
    rows: &'a Rows,
    from: RefCell<Vec<Vec<u8>>>,
}

impl Read for Watched<'_> {
    fn get(&self, key: &[u8]) -> kv::Result<Option<Bytes>> {
        self.rows.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> kv::Result<()> {
        if from.first() == EXPIRY.key(&(0, Bytes::new())).first() {
            self.from.borrow_mut().push(from.to_vec());
        }
        self.rows.scan(from, to, direction, visit)
    }
}

/// An engine passes over the traces of removed rows one by one: a scan from the beginning would cost every batch more each day.
#[test]
fn what_was_removed_is_not_passed_over_again() {
    let mut cell = Cell::found();
    for n in 0..10 {
        cell.register(&format!("handle{n}"));
        cell.wait(1_000);
    }
    let first = CLOCK.get(&cell.view, &ONLY).unwrap().unwrap().now;
    cell.wait(DAY);
    cell.batch(vec![]);
    assert_eq!(due(&cell), 0);
    let logged = cell.next(vec![]);
    let watched = Watched { rows: &cell.view, from: RefCell::default() };
    cell.try_apply(&watched, &logged).unwrap();
    let begun = watched.from.into_inner();
    assert_eq!(begun.len(), 1);
    assert!(begun[0] >= EXPIRY.key(&(first, Bytes::new())), "{begun:?}");
}
