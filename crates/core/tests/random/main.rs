//! Random histories of a small cell, against a model and against what its clients make of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod check;
mod choice;
mod client;
mod history;
mod model;
mod told;

use ieum_core::apply::applied;
use ieum_core::commands::LEVEL;
use ieum_core::query::catch_up::Limits;
use ieum_core::tables::cell::{APPLIED, ONLY};
use ieum_core::testing::Cell;
use proptest::prelude::*;

use crate::choice::steps;
use crate::client::Client;
use crate::history::History;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Outcomes, what is told and whom, and everything that anybody can read are as the model has them.
    #[test]
    fn a_cell_does_what_the_model_says(level in 1..=LEVEL, steps in steps()) {
        let mut history = History::begin(level);
        for step in &steps {
            history.step(step);
            check::same(&history.model, &history.cell);
        }
    }

    /// The same where people are in almost as many rooms as one may be.
    #[test]
    fn who_is_in_many_rooms_opens_some_and_is_brought_into_none(level in 1..=LEVEL, steps in steps()) {
        let mut history = History::begin_full(level);
        for step in &steps {
            history.step(step);
            check::same(&history.model, &history.cell);
        }
    }

    /// Live, caught up from any earlier place in pages of any size, or read at once: it is the same.
    #[test]
    fn a_client_that_catches_up_has_what_a_live_one_has(
        level in 1..=LEVEL,
        steps in steps(),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), 1usize..4, 0usize..4), 1..8),
    ) {
        let mut history = History::begin(level);
        let users: Vec<_> = history.model.users.keys().copied().collect();
        let mut live: Vec<Client> = users.iter().map(|user| Client::new(*user)).collect();
        let mut earlier = vec![(history.cell.position(), history.cell.view.clone(), live.clone())];
        for step in &steps {
            for (view, events) in history.step(step) {
                for client in &mut live {
                    events.iter().for_each(|event| client.hear(&view, event));
                    prop_assert_eq!(client.settled(), Client::of(&view, client.user));
                }
                earlier.push((applied(&view).unwrap().position, view, live.clone()));
            }
        }
        // From any cursor to the end, and from there on to ends in between.
        for (n, (index, rooms, messages)) in picks.iter().enumerate() {
            let from = index.index(earlier.len());
            let to = if n % 2 == 0 { earlier.len() - 1 } else { from + (earlier.len() - from) / 2 };
            let weight = 1 + (n + rooms) % 7;
            let limits =
                Limits { rooms: *rooms, messages: *messages, weight, room: 0, receipt: 0, message: |_| 1 };
            let (cursor, _, clients) = &earlier[from];
            let (_, view, then) = &earlier[to.min(earlier.len() - 1)];
            for (client, then) in clients.iter().zip(then) {
                let mut client = client.clone();
                client.catch_up(view, *cursor, limits);
                prop_assert_eq!(client.settled(), then.settled());
                let mut anew = Client::new(then.user);
                anew.catch_up(view, ieum_core::ids::Position::new(0, 0), limits);
                prop_assert_eq!(anew.settled(), then.settled());
            }
        }
    }

    /// A log gives the same view and digests each time, and a log that hands each batch out twice the same rows.
    #[test]
    fn a_log_gives_one_view(level in 1..=LEVEL, steps in steps()) {
        let mut history = History::begin(level);
        let mut digests = Vec::new();
        for step in &steps {
            history.step(step);
            digests.push((history.cell.log.len(), history.cell.digest()));
        }
        let mut once = Cell::empty();
        let mut twice = Cell::empty();
        once.skips = history.cell.skips.clone();
        for logged in history.cell.log.clone() {
            once.apply(logged.author, logged.bytes.clone());
            twice.apply(logged.author, logged.bytes.clone());
            twice.apply(logged.author, logged.bytes);
            prop_assert!(twice.events.is_empty());
            if let Some((_, digest)) = digests.iter().find(|(length, _)| *length == once.log.len()) {
                prop_assert_eq!(once.digest(), *digest);
            }
        }
        prop_assert_eq!(&once.view, &history.cell.view);
        prop_assert_eq!(twice.position().ordinal, 2 * once.position().ordinal);
        prop_assert_ne!(twice.digest(), once.digest(), "other positions, another history");
        for user in history.model.users.keys() {
            let rooms = |cell: &Cell| check::rendered(&cell.view, *user);
            prop_assert_eq!(rooms(&twice), rooms(&once));
        }
        let mut rest = once.view.clone();
        rest.0.remove(&APPLIED.key(&ONLY));
        prop_assert_eq!(rest.0.len() + 1, once.view.0.len(), "the position is among the rows");
    }
}
