//! What makes a node stop.

use std::io;

use ieum_gateway::Ticket;
use ieum_node::service::Handle;
use ieum_store::fjall::Fjall;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::serve::Error;

/// Ctrl-C and SIGTERM. Listened to before anybody is told that the node runs: who stops it at once must not kill it. From then on they do
/// nothing else, so that somebody has to listen as long as the process lives.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one of them.
    pub(crate) async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What makes a node that runs stop.
pub(crate) struct Until<'a, F> {
    pub(crate) signals: &'a mut Signals,
    /// Comes with the reason when the log is lost.
    pub(crate) lost: F,
}

impl<'a, F: Future<Output = String>> Until<'a, F> {
    /// Waits for a signal, a failure of the node, or the loss of its log. Gives the signals back: there may be another one.
    pub(crate) async fn ended(self, handle: &Handle<Fjall, Ticket>) -> (Result<(), Error>, &'a mut Signals) {
        let ended = tokio::select! {
            () = self.signals.told() => Ok(()),
            reason = self.lost => Err(Error::LogLost(reason)),
            reason = handle.failed() => Err(Error::Stopped(reason)),
        };
        (ended, self.signals)
    }
}
