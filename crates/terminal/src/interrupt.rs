//! Ctrl-C.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::Error;

/// What a shell says of a process that ended by Ctrl-C.
pub(crate) const CODE: u8 = 130;

/// The first Ctrl-C ends what is awaited; the second ends the process, whatever it is busy with.
#[derive(Clone)]
pub(crate) struct Interrupt {
    came: watch::Receiver<bool>,
}

impl Interrupt {
    /// Listens from now on, on a thread of its own: the other one may be writing to a pipe that nobody reads.
    pub(crate) fn listen() -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Signals)?;
        let mut signals = {
            let _entered = runtime.enter();
            signal(SignalKind::interrupt()).map_err(Error::Signals)?
        };
        let (sender, came) = watch::channel(false);
        std::thread::spawn(move || {
            runtime.block_on(async {
                signals.recv().await;
                sender.send_replace(true);
                signals.recv().await;
                std::process::exit(i32::from(CODE));
            });
        });
        Ok(Self { came })
    }

    /// Returns once the first came.
    pub(crate) async fn came(&mut self) {
        if self.came.wait_for(|came| *came).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Does something, unless Ctrl-C comes first.
    pub(crate) async fn or<T>(&mut self, doing: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            result = doing => result,
            () = self.came() => Err(Error::Interrupted),
        }
    }
}
