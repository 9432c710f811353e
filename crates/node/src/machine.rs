//! A node's logic on one thread: batcher and applier together, handed time and the log's answers. The threads of [`crate::service`]
//! run the same two parts; simulations and tests run this.

use std::sync::Arc;

use ieum_core::apply::{Author, Skips};
use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::LEVEL;
use ieum_core::commands::operate::{AddNode, StartNode};
use ieum_core::event::{Alarm, Event};
use ieum_core::ids::{Millis, Position};
use ieum_core::kv::{self, Kv, Read};
use ieum_core::outcome::Outcome;
use ieum_core::tables::cell::{NODES, ONLY, SETTINGS};
use ieum_log::{Entry, Room};
use ieum_planted::Bug;

use crate::applier::{Applier, Error, KEPT_BYTES};
use crate::author;
use crate::batcher::{Append, Batcher, Bounds, Refusal};
use crate::service::Identity;

/// What came of a batch.
#[derive(Debug)]
pub struct Delivery<T> {
    /// Where the view stands now.
    pub position: Position,
    /// Outcomes of commands submitted to this node, in order.
    pub replies: Vec<(T, Outcome)>,
    /// Commands submitted to this node that will never have an outcome, because their batch was skipped as a whole; `alarms` says why.
    /// Who waits for one must be told that it is not known.
    pub unanswered: Vec<T>,
    /// What devices are told, in order.
    pub events: Vec<Event>,
    /// What an operator must hear of.
    pub alarms: Vec<Alarm>,
    /// It was a batch of this life's, and the cell does not count it, because its node is no member. `Service` has stopped by then and serves
    /// nobody; whoever runs a [`Machine`] by itself MUST see to that.
    pub removed: bool,
}

/// A node's logic.
#[derive(Debug)]
pub struct Machine<K, T> {
    batcher: Batcher<T>,
    applier: Applier<K>,
}

impl<K: Kv, T> Machine<K, T> {
    /// A node that goes on where its view stands.
    pub fn new(node: u32, incarnation: u64, view: Arc<K>, bounds: Bounds) -> kv::Result<Self> {
        Ok(Self {
            batcher: Batcher::new(node, incarnation, bounds),
            applier: Applier::new(view, Skips::new())?.keeping(KEPT_BYTES),
        })
    }

    /// Stops before a level above `known`, as a build does that knows no higher one.
    #[must_use]
    pub fn knowing(mut self, known: u32) -> Self {
        self.applier = self.applier.knowing(known);
        self
    }

    /// Takes a command, or gives its ticket back.
    pub fn submit(&mut self, envelope: &Envelope, ticket: T, now: Millis) -> Result<(), (Refusal, T)> {
        self.batcher.push(envelope, ticket, now)
    }

    /// The batch to append now, if there is one.
    pub fn append(&mut self, clock: Millis) -> Option<Append> {
        self.batcher.take(clock)
    }

    /// The append in flight is durable.
    pub fn appended(&mut self) {
        self.batcher.appended();
    }

    /// What is known of the log's room. Tells whether less is taken from here on, or all again.
    pub fn set_room(&mut self, room: Option<Room>) -> bool {
        self.batcher.set_room(room)
    }

    /// The log's next batch.
    pub fn entry(&mut self, entry: &Entry) -> Result<Delivery<T>, Error> {
        let effects = self.applier.apply(entry)?;
        let removed = is_removed(&self.batcher, author(entry), &effects.alarms);
        let tickets = self.batcher.applied(author(entry));
        Ok(deliver(effects, tickets, removed))
    }

    /// The latest moment of which it is proven that the view has all that was acknowledged by then.
    #[must_use]
    pub fn proven(&self) -> Millis {
        self.batcher.proven()
    }

    /// Whether so little waits that there is room for what is not needed.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.batcher.is_calm()
    }

    /// Since when the oldest command waits.
    #[must_use]
    pub fn oldest(&self) -> Option<Millis> {
        self.batcher.oldest()
    }

    /// The view.
    #[must_use]
    pub fn view(&self) -> &Arc<K> {
        self.applier.view()
    }
}

/// The life that `node` begins behind a view that has come to the log's end: one more than its last.
pub fn incarnation(view: &impl Read, node: u32) -> kv::Result<u64> {
    let before = NODES.get(view, &node)?;
    let more = u64::from(!Bug::IncarnationReused.planted());
    Ok(before.map_or(1, |node| node.incarnation + more))
}

/// Whether a batch that was applied shows that the cell does not count this node: the log may take its batches all the same, because one that
/// registers after it was removed is not fenced off.
pub(crate) fn is_removed<T>(batcher: &Batcher<T>, author: Author, alarms: &[Alarm]) -> bool {
    let ignored = alarms.iter().any(|alarm| matches!(alarm, Alarm::NotAMember { .. }));
    ignored && batcher.is_own(author) && !Bug::RemovedNodeStays.planted()
}

/// A life's first commands: it founds the cell if there is none, and says what it knows and signs with.
pub fn greeting(view: &impl Read, identity: &Identity) -> kv::Result<Vec<Envelope>> {
    greeting_knowing(LEVEL, view, identity)
}

/// The same of a build that knows levels up to `level`.
pub fn greeting_knowing(level: u32, view: &impl Read, identity: &Identity) -> kv::Result<Vec<Envelope>> {
    let founded = SETTINGS.has(view, &ONLY)?;
    let add = AddNode { node: identity.node, dc: identity.dc.clone(), level, cell: identity.cell };
    let start = StartNode { level, key_id: identity.key_id, public_key: identity.public_key };
    let found = (!founded).then(|| add.into());
    let commands = found.into_iter().chain([start.into()]);
    Ok(commands.map(|command| Envelope { origin: Origin::Node, command }).collect())
}

impl<T> Delivery<T> {
    /// With those tickets that `client` gives something for.
    pub(crate) fn for_clients<C>(self, client: impl Fn(T) -> Option<C>) -> Delivery<C> {
        let Self { position, replies, unanswered, events, alarms, removed } = self;
        let replies = replies.into_iter().filter_map(|(ticket, outcome)| Some((client(ticket)?, outcome))).collect();
        let unanswered = unanswered.into_iter().filter_map(client).collect();
        Delivery { position, replies, unanswered, events, alarms, removed }
    }
}

/// Brings outcomes and those who wait for them together.
pub(crate) fn deliver<T>(effects: ieum_core::Effects, mut tickets: Vec<T>, removed: bool) -> Delivery<T> {
    let unanswered = tickets.split_off(tickets.len().min(effects.outcomes.len()));
    let replies = tickets.into_iter().zip(effects.outcomes).collect();
    let position = effects.applied.position;
    Delivery { position, replies, unanswered, events: effects.events, alarms: effects.alarms, removed }
}
