//! What comes to one client: written down, and how far it has each room.

use std::collections::HashMap;
use std::sync::Arc;

use ieum_client::Delivery;
use ieum_protocol::frames::{CatchUp, Event};
use ieum_protocol::objects::Message;

use super::shared::Shared;
use crate::history::Token;

/// Messages that a catch-up left out, to be paged in: those between two seqs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) room: u64,
    pub(super) after: u64,
    pub(super) before: u64,
}

/// The ears of a client.
pub(super) struct Hearing {
    client: u32,
    shared: Arc<Shared>,
    reached: HashMap<u64, u64>,
}

impl Hearing {
    pub(super) fn new(client: u32, shared: Arc<Shared>) -> Self {
        Self { client, shared, reached: HashMap::new() }
    }

    /// Up to where it has the room, but for holes.
    pub(super) fn reached(&self, room: u64) -> u64 {
        self.reached.get(&room).copied().unwrap_or(0)
    }

    /// Takes what is delivered; says what was left out.
    pub(super) fn hear(&mut self, delivery: &Delivery) -> Vec<Hole> {
        match delivery {
            Delivery::State(state) => self.shared.note_state(self.client, state),
            Delivery::Resync => {
                self.shared.note(format_args!("v {}", self.client));
                self.reached.clear();
            }
            Delivery::Events { list, .. } => {
                for event in list {
                    if let Event::Message { room, message } = event {
                        self.message(*room, message);
                    }
                }
            }
            Delivery::CatchUp(caught) => return self.catch_up(caught),
            _ => {}
        }
        Vec::new()
    }

    fn catch_up(&mut self, caught: &CatchUp) -> Vec<Hole> {
        let mut holes = Vec::new();
        for changes in &caught.rooms {
            let room = changes.room.id;
            if changes.fresh {
                self.reached.remove(&room);
            }
            if changes.fresh || changes.gap {
                self.shared.note(format_args!("l {} {room}", self.client));
            }
            let after = self.reached(room);
            let first = changes.messages.first().map_or(0, |message| message.seq);
            if changes.gap && first > after + 1 {
                holes.push(Hole { room, after, before: first });
            }
            for message in &changes.messages {
                self.message(room, message);
            }
        }
        holes
    }

    fn message(&mut self, room: u64, message: &Message) {
        let reached = self.reached.entry(room).or_default();
        *reached = (*reached).max(message.seq);
        note_message(&self.shared, 'g', self.client, room, message);
    }
}

/// Writes down that a message came.
pub(super) fn note_message(shared: &Shared, how: char, client: u32, room: u64, message: &Message) {
    let seq = message.seq;
    match message.text.as_deref().and_then(Token::read) {
        Some(Token { client: from, number }) => {
            shared.note(format_args!("{how} {client} {room} {seq} {from} {number}"));
        }
        None => shared.note(format_args!("{how} {client} {room} {seq} - -")),
    }
}
