//! The task that appends the node's batches, one at a time.

use std::sync::Arc;
use std::time::Duration;

use ieum_core::kv::Kv;
use ieum_log::{BatchId, Log};
use tokio::sync::watch;

use crate::service::Shared;

/// How long an append that failed waits before it is repeated.
const APPEND_RETRY: Duration = Duration::from_millis(100);

/// Appends batch after batch. A batch whose append failed or whose result is unknown is repeated with the same id until the log
/// says that it has it: nothing behind it is appended before.
pub(crate) async fn append<L: Log, K: Kv, T: Send>(
    log: Arc<L>,
    shared: Arc<Shared<K, T>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let at = shared.stamp();
        let next = shared.batcher.lock().take(at);
        let Some(next) = next else {
            tokio::select! {
                () = shared.ready_to_append.notified() => continue,
                _ = stop.wait_for(|stop| *stop) => return,
            }
        };
        let id = BatchId { node: next.author.node, incarnation: next.author.incarnation, number: next.author.number };
        let mut failures = 0u32;
        loop {
            // A log that is lost would be waited for until its patience ends.
            let appended = tokio::select! {
                appended = log.append(id, next.bytes.clone()) => appended,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Err(error) = appended else { break };
            shared.alarms.lock().append_failures += 1;
            match error {
                // The batch was taken before its answer was lost, and trimmed since: nobody knows here where it stands. A new life of the node
                // appends on, and whoever waits for an outcome offers the command again.
                ieum_log::Error::Conflict { .. } => {
                    return shared.fail_behind(format!("the log refused a batch: {error}"));
                }
                ieum_log::Error::Fenced { .. } | ieum_log::Error::TooLarge { .. } | ieum_log::Error::Closed => {
                    return shared.fail(format!("the log refused a batch: {error}"));
                }
                _ => {}
            }
            if failures.is_multiple_of(50) {
                tracing::error!(error = &error as &dyn std::error::Error, "the log did not take a batch; trying again");
            }
            failures = failures.wrapping_add(1);
            tokio::select! {
                () = tokio::time::sleep(APPEND_RETRY) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
        shared.batcher.lock().appended();
    }
}
