//! Tells the cell what was read: the newest message shown, about once a second at most.

use std::time::Duration;

use ieum_client::Http;
use ieum_protocol::frames::Change;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// As often as the protocol asks a client to say it at most.
const GAP: Duration = Duration::from_secs(1);

/// For how long the end of a chat waits for it.
const GOODBYE: Duration = Duration::from_secs(2);

/// What was read, on its way to the cell. Losing it loses no message, so nobody waits for it.
pub(crate) struct Reading {
    shown: watch::Sender<Option<(u64, u64)>>,
    http: Http,
    task: JoinHandle<()>,
}

impl Reading {
    pub(crate) fn start(http: Http) -> Self {
        let (shown, seen) = watch::channel(None);
        let task = tokio::spawn(report(http.clone(), seen));
        Self { shown, http, task }
    }

    /// Whoever shows messages says so here.
    pub(crate) fn shown(&self) -> watch::Sender<Option<(u64, u64)>> {
        self.shown.clone()
    }

    /// Says the last of it.
    pub(crate) async fn finish(self) {
        self.task.abort();
        let last = *self.shown.borrow();
        let _ = tokio::time::timeout(GOODBYE, tell(&self.http, last)).await;
    }
}

async fn report(http: Http, mut shown: watch::Receiver<Option<(u64, u64)>>) {
    while shown.changed().await.is_ok() {
        let now = *shown.borrow_and_update();
        tell(&http, now).await;
        tokio::time::sleep(GAP).await;
    }
}

async fn tell(http: &Http, shown: Option<(u64, u64)>) {
    if let Some((room, seq)) = shown {
        // The next one makes up for one that failed.
        let _ = http.change(&Change::Read { room, seq }).await;
    }
}
