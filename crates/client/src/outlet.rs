//! Where deliveries go.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::machine::Delivery;

/// Takes deliveries where they arise, on the client's task: for load tools, which hold thousands of clients. It must not block.
pub trait Observer: Send + 'static {
    /// Something happened.
    fn deliver(&mut self, delivery: Delivery);
}

impl<F: FnMut(Delivery) + Send + 'static> Observer for F {
    fn deliver(&mut self, delivery: Delivery) {
        self(delivery);
    }
}

/// The deliveries of a client, in order.
///
/// Take them quickly or in a task of their own: while `Options::deliveries` of them wait, the connection is not read, so that
/// nothing comes, not even the outcome of a command that the same task may be waiting for.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Delivery>,
}

impl Events {
    /// The next; `None` once the client has stopped and everything was taken.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.receiver.recv().await
    }

    /// The next, if it is there.
    pub fn try_next(&mut self) -> Option<Delivery> {
        self.receiver.try_recv().ok()
    }
}

/// Either way.
pub(crate) enum Outlet {
    Inline(Box<dyn Observer>),
    Channel {
        sender: mpsc::Sender<Delivery>,
        /// What the channel had no room for; while there is some, the connection is not read.
        waiting: VecDeque<Delivery>,
    },
}

impl Outlet {
    pub(crate) fn channel(capacity: usize) -> (Self, Events) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        (Self::Channel { sender, waiting: VecDeque::new() }, Events { receiver })
    }

    pub(crate) fn push(&mut self, delivery: Delivery) {
        match self {
            Self::Inline(observer) => observer.deliver(delivery),
            Self::Channel { waiting, .. } if !waiting.is_empty() => waiting.push_back(delivery),
            // An app that dropped its end wants no more deliveries.
            Self::Channel { sender, waiting } => {
                if let Err(mpsc::error::TrySendError::Full(delivery)) = sender.try_send(delivery) {
                    waiting.push_back(delivery);
                }
            }
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Channel { waiting, .. } if !waiting.is_empty())
    }

    /// Returns when something that waited went out; never if nothing waits.
    pub(crate) async fn move_on(&mut self) {
        match self {
            Self::Channel { sender, waiting } if !waiting.is_empty() => match sender.reserve().await {
                Ok(permit) => {
                    if let Some(delivery) = waiting.pop_front() {
                        permit.send(delivery);
                    }
                }
                Err(_) => waiting.clear(),
            },
            _ => std::future::pending().await,
        }
    }
}
