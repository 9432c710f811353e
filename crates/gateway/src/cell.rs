//! What a gateway needs of a node.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ieum_core::batch::Envelope;
use ieum_core::ids::{Position, UserId};
use ieum_core::kv::Read;
use ieum_core::outcome::Outcome;
use ieum_core::query::typing::Typing;
use tokio::sync::oneshot;

use crate::session::Session;

/// A node of a cell, as its gateway uses it.
///
/// What comes of a submitted command is given to [`crate::Hub::deliver`] with the same ticket, after it was applied here; batches in the
/// order of the log.
pub trait Cell: Send + Sync + 'static {
    /// A consistent look at the view.
    type View: Read + Send + Sync + 'static;

    /// A look at the view as it is now.
    fn view(&self) -> Self::View;

    /// Takes a command, or gives its ticket back.
    fn submit(&self, envelope: &Envelope, ticket: Ticket) -> Result<(), (Refused, Ticket)>;

    /// Where the view stands.
    fn applied(&self) -> Position;

    /// Waits until the view stands at `position` or beyond.
    fn reach(&self, position: Position) -> impl Future<Output = ()> + Send;

    /// For how long the oldest command has been waiting for its outcome.
    fn waiting(&self) -> Duration;

    /// How long ago the view had, as is proven, all that was acknowledged, through whichever node. Right at the moment it is asked, also
    /// behind a freeze of the process, and without a disk.
    fn proven(&self) -> Duration;

    /// Whether so little waits that there is room for what is not needed.
    fn is_calm(&self) -> bool {
        true
    }

    /// Tells the other nodes of the cell who types here, and who may hear of it. A node that is alone tells nobody.
    fn signal(&self, _typing: &[(Typing, Vec<UserId>)]) {}

    /// Appends the node's own figures to a page of Prometheus metrics.
    fn metrics(&self, page: &mut String);
}

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// As much waits as may wait.
    Busy,
    /// It is larger than one may be.
    TooLarge,
}

/// Who waits for an outcome.
#[derive(Debug)]
pub struct Ticket(pub(crate) Waiter);

impl Ticket {
    /// A ticket for an operator's command, and where its outcome comes.
    #[must_use]
    pub fn request() -> (Self, oneshot::Receiver<(Position, Outcome)>) {
        let (reply, outcome) = oneshot::channel();
        (Self(Waiter::Request(reply)), outcome)
    }
}

#[derive(Debug)]
pub(crate) enum Waiter {
    /// A session, with the number that its device gave the command.
    Session(Arc<Session>, u64),
    /// A request over HTTP.
    Request(oneshot::Sender<(Position, Outcome)>),
}
