//! A node whose etcd does not answer yet: when power comes back in a whole country, nodes are there before it.

use std::error::Error as Source;
use std::time::{Duration, Instant};

use ieum_log_etcd::{Options, Unreachable, record};
use ieum_node::chain;
use tokio::time::sleep;

use super::look::Told;
use crate::serve::Error;

/// How often it looks whether etcd answers.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it is said again what the node waits for.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Waits until enough members of etcd answer.
///
/// # Errors
/// What waiting does not mend.
pub(super) async fn for_etcd(etcd: &Options) -> Result<(), Error> {
    let (mut told, mut waited) = (Told::every(SAY_AGAIN), false);
    loop {
        match record::look(etcd).await {
            Ok(_) if waited => {
                tracing::info!("etcd answers: the node goes on");
                return Ok(());
            }
            Ok(_) => return Ok(()),
            Err(error) if !is_silence(&error) => return Err(error.into()),
            Err(error) => {
                waited = true;
                if told.is_due((), Instant::now()) {
                    let error = chain(&error);
                    tracing::warn!(
                        error,
                        "this node waits for etcd, and serves nobody until most of its members answer"
                    );
                }
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Whether an error is only that too few members of etcd answered.
pub(crate) fn is_silence(error: &(dyn Source + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<Unreachable>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error at the start, which may be that etcd has gone silent meanwhile.
pub(crate) fn or_silent(error: Error) -> Error {
    if is_silence(&error) { Error::Silent(chain(&error)) } else { error }
}
