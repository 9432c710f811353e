//! What the machine hands to the app.

use std::sync::Arc;

use ieum_protocol::Pos;
use ieum_protocol::errors::Problem;
use ieum_protocol::frames::{CatchUp, Done, Event};

use crate::Endpoint;
use crate::command::CommandId;

/// Something for the app, in the order in which the app must take it.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// The connection's state changed.
    State(State),
    /// What the app holds is void: the catch-up that follows holds everything. It comes when the store has it, on disk, that there is no cursor
    /// any more; where the store does not take that the client stops instead, and the app's copy stays what it was.
    Resync,
    /// What changed while the client was away. A part may come twice when the connection breaks in the middle, so apply it by
    /// `(room, seq)`.
    CatchUp(Box<CatchUp>),
    /// The catch-up is complete up to here.
    CaughtUp {
        /// Give this to `Client::applied` once it is in the app's own durable copy, if the app has one.
        pos: Pos,
    },
    /// The live stream.
    Events {
        /// As in [`Delivery::CaughtUp`].
        pos: Pos,
        /// What happened, in order.
        list: Vec<Event>,
    },
    /// Somebody else types in a room: to be shown for [`ieum_protocol::TYPING_SHOWN_MS`], or until a message of theirs comes. May be lost.
    Typing {
        /// Where.
        room: u64,
        /// Who.
        user: u64,
    },
    /// A command's outcome is known. Each command has one, but for one that was offered again after a generation change.
    Outcome {
        /// Which command.
        id: CommandId,
        /// Its change as JSON, as [`Command::body`](crate::Command::body): the app may have forgotten what an earlier process submitted.
        body: Arc<str>,
        /// What it gave.
        result: Result<Done, Failure>,
        /// Whether the command had an outcome before, which the log then lost.
        again: bool,
    },
    /// A command was not taken for now; it stays in the outbox and is sent again.
    Refused {
        /// Which command.
        id: CommandId,
        /// Why.
        problem: Box<Problem>,
    },
}

/// Why a command gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The cell looked at it and it had no effect.
    #[error("rejected: {} ({})", .0.title, .0.code)]
    Rejected(Box<Problem>),
    /// No server takes it, however often it is sent. It had no effect.
    #[error("not taken: {} ({})", .0.title, .0.code)]
    NotTaken(Box<Problem>),
    /// Its number was used long ago: it was answered then, but the outcome is no longer kept.
    #[error("it was answered long ago; the outcome is no longer known")]
    TooOld,
    /// The outbox holds as much as it may. Nothing was kept.
    #[error("the outbox is full: {limit} commands wait already")]
    Full {
        /// How many it may hold.
        limit: usize,
    },
    /// It is larger than servers take. Nothing was kept.
    #[error("the change has {bytes} bytes; servers take {limit}")]
    TooLarge {
        /// Its size as a frame.
        bytes: usize,
        /// The most.
        limit: usize,
    },
    /// The store could not keep it, so it was not sent.
    #[error("it could not be stored, so it was not sent: {0}")]
    NotStored(String),
    /// The client has stopped. What was in the outbox before is still there.
    #[error("the client has stopped: {0}")]
    Stopped(Stop),
}

/// How the connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Between two attempts.
    Waiting {
        /// Why the last one ended; `None` before the first.
        why: Option<Why>,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// On the way to a server.
    Connecting {
        /// Which.
        endpoint: Endpoint,
    },
    /// Signed in; what happened meanwhile is coming in.
    CatchingUp {
        /// Where.
        endpoint: Endpoint,
        /// Whose device it is.
        user: u64,
    },
    /// Everything is here, and what happens next comes as it happens.
    Live {
        /// Where.
        endpoint: Endpoint,
    },
    /// Over: nothing happens any more.
    Stopped(Stop),
}

/// Why a connection or an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The server did not let itself be reached.
    Unreachable(String),
    /// The server did not answer in time.
    Silent,
    /// The connection broke.
    Broken(String),
    /// The server said goodbye, or that another one should be asked.
    Told(Box<Problem>),
    /// The server knows less than what was acknowledged.
    Behind,
}

/// Why a client stopped for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The app closed it.
    #[error("it was closed")]
    Closed,
    /// The server said so: `replaced`, `logged_out` or `secret_wrong`.
    #[error("{} ({})", .0.title, .0.code)]
    Told(Box<Problem>),
    /// The store failed where going on could lose or repeat a command.
    #[error("the store failed: {0}")]
    Store(String),
}
