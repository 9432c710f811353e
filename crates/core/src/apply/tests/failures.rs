//! Commands that panic, and a view engine that fails.

use crate::apply::Error;
use crate::commands::account::SetName;
use crate::commands::message::Send;
use crate::event::{Alarm, News};
use crate::outcome::{Outcome, Reject};
use crate::tables::messages::MESSAGES;
use crate::tables::rooms::{AUDIENCES, HEADS};
use crate::testing::{Cell, Fault, Faulty, Logged, Person};

/// A batch of three commands. The second sends to a group: it reads who is told when it has written the message already.
fn three() -> (Cell, Person, crate::ids::RoomId, Logged) {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let room = cell.group(minji, &[]);
    let rename = |name: &str| SetName { name: name.to_owned() };
    let commands = vec![
        cell.envelope(minji, rename("before")),
        cell.envelope(minji, Send { room, text: "boom".to_owned(), reply_to: None }),
        cell.envelope(minji, rename("after")),
    ];
    let logged = cell.next(commands);
    (cell, minji, room, logged)
}

#[test]
fn a_command_that_panics_has_no_effect_and_is_answered_internal() {
    let (mut cell, minji, room, logged) = three();
    let broken = Faulty { rows: &cell.view, prefix: AUDIENCES.key(&room), fault: Fault::Panic };
    let effects = cell.try_apply(&broken, &logged).unwrap();
    let position = effects.applied.position;
    assert_eq!(effects.outcomes[1], Outcome::Rejected(Reject::Internal));
    assert!(matches!(effects.outcomes[..], [Outcome::Accepted(_), _, Outcome::Accepted(_)]));
    let message = "a planted panic".to_owned();
    assert_eq!(effects.alarms, [Alarm::Panicked { position, index: 1, command: "Send", message }]);
    assert!(effects.events.iter().all(|event| matches!(event.news, News::Profile { .. })));
    assert_eq!(effects.events.len(), 2);
    assert!(!effects.writes.rows.contains_key(&HEADS.key(&room)));
    assert!(!effects.writes.rows.contains_key(&MESSAGES.key(&(room, 2))));

    let again = cell.try_apply(&broken, &logged).unwrap();
    assert_eq!(again.writes, effects.writes, "identically everywhere");

    cell.view.commit(&effects.writes);
    assert_eq!(cell.seen(minji, room).len(), 1);
    assert_eq!(cell.say(minji, room, "the number was used up, the seq was not"), 2);
}

#[test]
fn a_panic_is_answered_again_to_a_retry() {
    let (mut cell, minji, room, logged) = three();
    let broken = Faulty { rows: &cell.view, prefix: AUDIENCES.key(&room), fault: Fault::Panic };
    let effects = cell.try_apply(&broken, &logged).unwrap();
    cell.view.commit(&effects.writes);
    let retry = Send { room, text: "boom".to_owned(), reply_to: None };
    let second = crate::batch::Batch::decode(&logged.bytes).unwrap().commands.swap_remove(1);
    assert_eq!(second.command, retry.into());
    assert_eq!(cell.batch(vec![second]), [Outcome::Rejected(Reject::Internal)]);
    assert_eq!(cell.seen(minji, room).len(), 1);
}

/// An error of the engine never becomes an outcome, wherever it happens.
#[test]
fn an_error_of_the_view_engine_stops_the_apply() {
    let (cell, _, _, logged) = three();
    let tables: std::collections::BTreeSet<u8> = cell.view.0.keys().map(|key| key[0]).collect();
    let mut reached = 0;
    for table in tables {
        let broken = Faulty { rows: &cell.view, prefix: vec![table], fault: Fault::Error };
        match cell.try_apply(&broken, &logged) {
            Err(Error::Store(error)) => {
                assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the disk is gone");
                reached += 1;
            }
            Err(other) => panic!("{other}"),
            Ok(effects) => assert_eq!(effects.outcomes.len(), 3, "this batch does not read table {table}"),
        }
    }
    assert!(reached >= 9, "{reached} tables were read");
}

#[test]
fn a_damaged_row_stops_the_apply() {
    let (mut cell, _, room, logged) = three();
    cell.view.0.insert(HEADS.key(&room), vec![0xff].into());
    let stopped = cell.try_apply(&cell.view, &logged);
    assert!(matches!(stopped, Err(Error::Store(error)) if error.operation == "read a row"));
}
