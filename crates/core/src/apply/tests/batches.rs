//! Which batches count, and what every batch does besides its commands.

use crate::apply::{Error, apply};
use crate::batch::Envelope;
use crate::batch::Origin;
use crate::commands::LEVEL;
use crate::commands::account::SetName;
use crate::commands::operate::{Activate, AddNode, RemoveNode, StartNode, Tick};
use crate::event::Alarm;
use crate::ids::Position;
use crate::outcome::{Accepted, Outcome, Reject};
use crate::tables::accounts::USERS;
use crate::tables::cell::{APPLIED, CLOCK, ONLY, SETTINGS, Settings};
use crate::testing::{CELL, Cell, Logged, START, batch, first_node, id, register};
use crate::{Author, commands::Command};

const DONE: Outcome = Outcome::Accepted(Accepted::Done);

fn author(node: u32, incarnation: u64, number: u64) -> Author {
    Author { node, incarnation, number }
}

fn own(command: impl Into<Command>) -> Envelope {
    Envelope { origin: Origin::Node, command: command.into() }
}

fn from(cell: &mut Cell, author: Author, command: impl Into<Command>) -> Vec<Outcome> {
    let bytes = batch(author, cell.clock, vec![own(command)]);
    cell.apply(author, bytes)
}

fn now(cell: &Cell) -> u64 {
    CLOCK.get(&cell.view, &ONLY).unwrap().unwrap().now
}

#[test]
fn the_write_set_carries_its_own_position_and_digest() {
    let mut cell = Cell::found();
    let logged = cell.next(vec![own(Tick {})]);
    let effects = cell.try_apply(&cell.view, &logged).unwrap();
    cell.view.commit(&effects.writes);
    assert_eq!(APPLIED.get(&cell.view, &ONLY).unwrap(), Some(effects.applied.clone()));
    assert_eq!(effects.applied.position, Position::new(1, 2));
}

#[test]
fn a_batch_follows_the_one_before_it() {
    let mut cell = Cell::found();
    let Logged { author, bytes } = cell.next(vec![]);
    for (generation, ordinal) in [(1, 0), (1, 1), (1, 3), (0, 2), (2, 2), (2, 1), (1, u64::MAX)] {
        let position = Position::new(generation, ordinal);
        let gap = apply(&cell.view, position, author, &bytes, &cell.skips);
        assert!(matches!(gap, Err(Error::Gap { view, batch }) if view == Position::new(1, 1) && batch == position));
    }
}

#[test]
fn a_repeated_batch_has_no_effect_but_its_position() {
    let mut cell = Cell::empty();
    let founding = cell.next(vec![own(first_node()), own(register("minji")), own(Tick {})]);
    assert_eq!(cell.apply(founding.author, founding.bytes.clone()).len(), 3);
    let later = cell.next(vec![own(register("dohyun")), own(Tick {})]);
    cell.apply(later.author, later.bytes.clone());
    for logged in [founding, later] {
        let mut expected = cell.view.clone();
        let outcomes = cell.apply(logged.author, logged.bytes);
        assert_eq!((outcomes, cell.events.len(), cell.alarms.len()), (vec![], 0, 0));
        expected.put(&APPLIED, &ONLY, &crate::apply::applied(&cell.view).unwrap());
        assert_eq!(cell.view, expected);
    }
}

/// The first batch of all is remembered like any other.
#[test]
fn the_founding_batch_repeated_alone_has_no_effect() {
    let mut cell = Cell::empty();
    let founding = cell.next(vec![own(first_node()), own(register("minji"))]);
    cell.apply(founding.author, founding.bytes.clone());
    assert_eq!(cell.apply(founding.author, founding.bytes), []);
}

#[test]
fn batches_of_one_node_count_in_their_order_only() {
    let mut cell = Cell::found();
    assert_eq!(from(&mut cell, author(1, 2, 5), Tick {}), [DONE]);
    for (incarnation, number) in [(2, 5), (2, 4), (1, 6), (1, 99)] {
        assert_eq!(from(&mut cell, author(1, incarnation, number), Tick {}), []);
    }
    assert_eq!(from(&mut cell, author(1, 2, 6), Tick {}), [DONE]);
    assert_eq!(from(&mut cell, author(1, 3, 1), Tick {}), [DONE]);
}

#[test]
fn batches_of_strangers_do_not_count() {
    let mut cell = Cell::found();
    let before = now(&cell);
    cell.wait(1_000);
    assert_eq!(from(&mut cell, author(2, 1, 1), Tick {}), []);
    let stranger = Alarm::NotAMember { position: Position::new(1, 2), node: 2 };
    assert_eq!(cell.alarms, [stranger]);
    assert_eq!(now(&cell), before, "their clocks neither");
    let itself = AddNode { node: 2, dc: "b".to_owned(), level: LEVEL, cell: CELL };
    assert_eq!(from(&mut cell, author(2, 1, 2), itself), [], "nobody adds themself to a cell that there is");
}

#[test]
fn a_removed_node_is_a_stranger_from_there_on() {
    let mut cell = Cell::found();
    cell.node(AddNode { node: 2, dc: "b".to_owned(), level: LEVEL, cell: CELL }).unwrap();
    assert_eq!(from(&mut cell, author(2, 1, 1), Tick {}), [DONE]);
    cell.node(RemoveNode { node: 2 }).unwrap();
    assert_eq!(from(&mut cell, author(2, 1, 2), Tick {}), []);
    assert_eq!(cell.alarms.len(), 1);
}

/// Its log may still hold old batches, or an old life of it may still append some.
#[test]
fn a_node_added_again_does_not_start_over() {
    let mut cell = Cell::found();
    let add = AddNode { node: 2, dc: "b".to_owned(), level: LEVEL, cell: CELL };
    cell.node(add.clone()).unwrap();
    assert_eq!(from(&mut cell, author(2, 3, 1), Tick {}), [DONE]);
    assert_eq!(from(&mut cell, author(2, 3, 2), Tick {}), [DONE]);
    for _ in 0..2 {
        cell.node(RemoveNode { node: 2 }).unwrap();
        cell.node(add.clone()).unwrap();
        for (incarnation, number) in [(1, 1), (3, 1), (3, 2)] {
            assert_eq!(from(&mut cell, author(2, incarnation, number), Tick {}), [], "{incarnation}.{number}");
        }
    }
    assert_eq!(from(&mut cell, author(2, 4, 1), Tick {}), [DONE]);
}

#[test]
fn a_batch_whose_header_names_another_than_the_log_does_has_no_effect() {
    let mut cell = Cell::found();
    for (header, log) in
        [(author(1, 1, 2), author(1, 1, 3)), (author(1, 1, 2), author(1, 2, 2)), (author(1, 1, 2), author(2, 1, 2))]
    {
        let bytes = batch(header, cell.clock, vec![own(register("minji"))]);
        assert_eq!(cell.apply(log, bytes), []);
        assert!(matches!(cell.alarms[..], [Alarm::MalformedBatch { .. }]));
    }
    assert_eq!(from(&mut cell, author(1, 1, 2), register("minji")).len(), 1);
}

#[test]
fn a_cell_is_founded_by_a_proper_first_command_of_its_author() {
    let other = Envelope { origin: Origin::Anonymous { key: id(1), request: id(1) }, command: first_node().into() };
    let refused: [Vec<Envelope>; 6] = [
        vec![],
        vec![own(Tick {}), own(first_node())],
        vec![own(AddNode { node: 2, ..first_node() }), own(register("minji"))],
        vec![own(AddNode { dc: String::new(), ..first_node() }), own(register("minji"))],
        vec![own(AddNode { cell: u16::MAX, ..first_node() }), own(register("minji"))],
        vec![other, own(register("minji"))],
    ];
    for commands in refused {
        let mut cell = Cell::empty();
        assert_eq!(cell.batch(commands), []);
        assert_eq!(cell.alarms, [Alarm::NotAMember { position: Position::new(1, 1), node: 1 }]);
        assert_eq!(cell.view.0.len(), 1, "nothing but the position");
        assert!(cell.node(first_node()).is_ok(), "the next one can");
    }
}

#[test]
fn a_malformed_batch_advances_the_position_with_an_alarm() {
    let mut cell = Cell::found();
    let whole = cell.next(vec![own(Tick {})]).bytes;
    for bytes in [&b""[..], b"\x02", b"garbage", &whole[..whole.len() - 1], &[1, 0xff, 0xff, 0xff, 0x7f]] {
        let rows = cell.view.0.len();
        let position = cell.position();
        assert_eq!(cell.apply(author(1, 1, 99), bytes.to_vec().into()), []);
        assert!(matches!(cell.alarms[..], [Alarm::MalformedBatch { .. }]), "{bytes:?}");
        assert_eq!(cell.position().ordinal, position.ordinal + 1);
        assert_eq!(cell.view.0.len(), rows);
    }
    assert_eq!(cell.node(Tick {}), Ok(Accepted::Done));
}

#[test]
fn a_skipped_command_has_no_effect_and_its_outcome_stays() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let at = Position::new(1, cell.position().ordinal + 1);
    cell.skips.insert((at, 1));
    let rename = |name: &str| SetName { name: name.to_owned() };
    let three = vec![
        cell.envelope(minji, rename("one")),
        cell.envelope(minji, rename("two")),
        cell.envelope(minji, SetName { name: String::new() }),
    ];
    let skipped = three[1].clone();
    let outcomes = cell.batch(three);
    assert_eq!(outcomes[..2], [DONE, Outcome::Rejected(Reject::Skipped)]);
    assert_eq!(USERS.get(&cell.view, &minji.user).unwrap().unwrap().name, "one");
    assert_eq!(cell.batch(vec![skipped]), [Outcome::Rejected(Reject::Skipped)], "its retry too");
}

mod levels {
    use super::*;

    fn at_level(level: u32) -> Cell {
        let mut cell = Cell::found();
        cell.view.put(&SETTINGS, &ONLY, &Settings::new(CELL, level));
        cell
    }

    #[test]
    fn a_command_newer_than_the_active_level_is_unsupported() {
        let mut cell = at_level(0);
        assert_eq!(cell.node(register("minji")), Err(Reject::Unsupported));
        assert_eq!(cell.node(Tick {}), Ok(Accepted::Done));
        assert_eq!(cell.node(Activate { level: LEVEL }), Ok(Accepted::Done));
        assert!(cell.node(register("minji")).is_ok());
    }

    #[test]
    fn a_command_has_what_one_before_it_in_its_batch_has_set() {
        let mut cell = at_level(0);
        let activate = own(Activate { level: LEVEL });
        let outcomes = cell.batch(vec![own(register("minji")), activate, own(register("jisoo"))]);
        assert_eq!(outcomes[..2], [Outcome::Rejected(Reject::Unsupported), DONE]);
        assert!(matches!(outcomes[2], Outcome::Accepted(_)), "{outcomes:?}");
    }

    /// Also before bytes that a newer build may be able to read.
    #[test]
    fn a_build_stops_before_a_level_that_it_does_not_know() {
        let mut cell = at_level(LEVEL + 1);
        for bytes in [cell.next(vec![own(Tick {})]).bytes, cell.next(vec![]).bytes, b"a newer format".to_vec().into()] {
            let stopped = cell.try_apply(&cell.view, &Logged { author: author(1, 1, 50), bytes });
            assert!(matches!(stopped, Err(Error::Level { cell, known: LEVEL }) if cell == LEVEL + 1));
        }
    }

    #[test]
    fn a_build_stops_before_the_batch_that_activates_such_a_level() {
        let mut cell = Cell::found();
        cell.node(StartNode { level: LEVEL + 1, key_id: 1, public_key: [1; 32] }).unwrap();
        let logged = cell.next(vec![own(Activate { level: LEVEL + 1 })]);
        assert!(matches!(cell.try_apply(&cell.view, &logged), Err(Error::Level { .. })));
    }
}

mod cell_time {
    use super::*;

    fn three_data_centers() -> Cell {
        let mut cell = Cell::found();
        for (node, dc) in [(2, "b"), (3, "c")] {
            cell.node(AddNode { node, dc: dc.to_owned(), level: LEVEL, cell: CELL }).unwrap();
        }
        cell
    }

    fn tick(cell: &mut Cell, node: u32, number: u64, clock: u64) -> u64 {
        let author = author(node, 9, number);
        let bytes = batch(author, clock, vec![own(Tick {})]);
        assert_eq!(cell.apply(author, bytes), [DONE]);
        now(cell)
    }

    #[test]
    fn it_is_the_lower_median_and_never_goes_back() {
        let mut cell = three_data_centers();
        assert_eq!(tick(&mut cell, 2, 1, START + 20), START, "the lower of two");
        assert_eq!(tick(&mut cell, 3, 1, START + 10), START + 10);
        assert_eq!(tick(&mut cell, 3, 2, u64::MAX), START + 20, "one wrong clock");
        assert_eq!(tick(&mut cell, 2, 2, 0), START + 20);
    }

    #[test]
    fn a_data_center_that_fell_silent_counts_until_another_nodes_tenth_tick() {
        let mut cell = three_data_centers();
        tick(&mut cell, 2, 1, START + 1);
        tick(&mut cell, 3, 1, START + 2);
        for number in 2..=9 {
            tick(&mut cell, 3, number, START + number);
        }
        assert_eq!(now(&cell), START + 1, "a and b say so still");
        assert_eq!(tick(&mut cell, 3, 10, START + 500), START + 500, "a and b have been silent for ten ticks");
    }

    /// Ten commands of that name from a person are not ten seconds of a node.
    #[test]
    fn only_a_nodes_own_ticks_count() {
        let mut cell = three_data_centers();
        tick(&mut cell, 2, 1, START + 1);
        let author = author(3, 9, 1);
        let others = (0..10)
            .map(|n| Envelope { origin: Origin::Anonymous { key: id(n), request: id(n) }, command: Tick {}.into() });
        cell.apply(author, batch(author, START + 500, others.collect()));
        assert_eq!(now(&cell), START + 1, "a and b count still");
    }

    #[test]
    fn the_end_of_time_stops_nothing() {
        let mut cell = Cell::found();
        cell.clock = u64::MAX;
        let minji = cell.register("minji");
        let room = cell.group(minji, &[]);
        let seq = cell.say(minji, room, "still here");
        cell.ok(minji, crate::commands::message::Delete { room, seq });
        assert_eq!(now(&cell), u64::MAX);
    }
}
