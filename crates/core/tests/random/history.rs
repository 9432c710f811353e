//! A cell and its model, taken through the same steps.

use std::collections::BTreeMap;

use ieum_core::batch::Envelope;
use ieum_core::commands::LEVEL;
use ieum_core::event::Event;
use ieum_core::outcome::Outcome;
use ieum_core::tables::accounts::{HOLDINGS, Holdings};
use ieum_core::testing::{Cell, DAY, Logged, Rows, batch};
use ieum_core::{Author, testing};

use crate::choice::{Choice, Step};
use crate::model::{Device, Model};
use crate::told::told;

pub(crate) struct History {
    pub(crate) cell: Cell,
    pub(crate) model: Model,
    unique: u64,
}

/// A view and the events that led to it.
pub(crate) type Moment = (Rows, Vec<Event>);

impl History {
    /// Four people, one device each, in a cell of that level.
    pub(crate) fn begin(level: u32) -> Self {
        let mut cell = Cell::found_at(level);
        let people = cell.crowd(4);
        let model = Model {
            now: testing::START,
            level,
            users: people.iter().map(|p| (p.user, cell.handle(*p))).collect(),
            devices: people.iter().map(|p| (p.device, Device { user: p.user, history: Vec::new() })).collect(),
            devices_made: 4,
            rooms: BTreeMap::new(),
            ..Model::default()
        };
        Self { cell, model, unique: 1_000 }
    }

    /// Four people of whom all but one are in almost as many rooms as may be: others may bring the second into three more and the third
    /// into none, and the fourth may open two more.
    pub(crate) fn begin_full(level: u32) -> Self {
        let mut history = Self::begin(level);
        let users: Vec<_> = history.model.users.keys().copied().collect();
        for (user, rooms) in users.into_iter().zip([0, 7_997, 8_000, 9_998]) {
            history.cell.view.put(&HOLDINGS, &user, &Holdings { rooms, devices: 1 });
            history.model.elsewhere.insert(user, rooms);
        }
        history
    }

    /// Takes both through a step; every view on the way, with the events that led to it.
    pub(crate) fn step(&mut self, step: &Step) -> Vec<Moment> {
        match step {
            Step::Batch(time, choices) => {
                self.cell.wait(*time);
                vec![self.batch(choices)]
            }
            Step::Days(days) => {
                self.cell.wait(days * DAY);
                // So many batches that all is removed that has expired: how fast that goes is another test's matter.
                (0..6).map(|_| self.batch(&[])).collect()
            }
            Step::Activate => {
                self.cell.activate(LEVEL);
                self.model.level = LEVEL;
                vec![(self.cell.view.clone(), Vec::new())]
            }
            Step::Repeat => {
                let Logged { author, bytes } = self.cell.log.last().unwrap().clone();
                vec![self.without_effect(author, bytes)]
            }
            Step::Stranger(choices) => {
                let commands = choices.iter().map(|choice| choice.envelope(&self.model, 0)).collect();
                let stranger = Author { node: 99, incarnation: 1, number: 1 };
                let bytes = batch(stranger, self.cell.clock + DAY, commands);
                let moment = self.without_effect(stranger, bytes);
                assert_eq!(self.cell.alarms.len(), 1);
                vec![moment]
            }
        }
    }

    fn without_effect(&mut self, author: Author, bytes: bytes::Bytes) -> Moment {
        assert_eq!(self.cell.apply(author, bytes), []);
        assert_eq!(self.cell.events, []);
        (self.cell.view.clone(), Vec::new())
    }

    fn batch(&mut self, choices: &[Choice]) -> Moment {
        self.model.begin(self.cell.clock);
        let mut commands: Vec<Envelope> = Vec::new();
        let mut expected = Vec::new();
        for choice in choices {
            self.unique += 1;
            let envelope = choice.envelope(&self.model, self.unique);
            expected.push(match self.model.answer(&envelope) {
                Ok(accepted) => Outcome::Accepted(accepted),
                Err(reject) => Outcome::Rejected(reject),
            });
            commands.push(envelope);
        }
        self.model.end();
        let outcomes = self.cell.batch(commands.clone());
        assert_eq!(outcomes, expected, "of {commands:#?}");
        let heard: Vec<_> = self.cell.events.iter().map(told).collect();
        assert_eq!(heard, self.model.told, "told because of {commands:#?}");
        assert_eq!(self.cell.alarms, []);
        (self.cell.view.clone(), self.cell.events.clone())
    }
}
