//! One suite for every log engine: each MUST of [`Log`] and [`Tail`] has a test here.
//!
//! An engine implements [`Harness`] in its tests and calls [`conformance_suite!`](crate::conformance_suite), which makes
//! one test of each function of this module that is listed there. Nothing sleeps: a test goes on when something
//! happened, and fails after a minute in which nothing did.
//!
//! It is an ordinary module and not a feature, because it is generic: what nobody calls is never compiled.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "this is test code: a panic is how a test fails"
)]

mod appending;
mod skipping;
mod tailing;
mod trimming;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

pub use self::appending::*;
pub use self::skipping::*;
pub use self::tailing::*;
pub use self::trimming::*;
use crate::{BatchId, Entry, Log, Position, Tail};

/// How the suite gets at one log of an engine, which is new and empty at first.
pub trait Harness: Send + Sync {
    /// The engine.
    type Log: Log;

    /// Opens the log. What was opened before has been dropped, so that this is a restart.
    fn open(&self) -> impl Future<Output = Self::Log> + Send;

    /// Begins a new life of `node` and gives its incarnation, which is greater than any before.
    fn incarnation(&self, log: &Self::Log, node: u32) -> impl Future<Output = u64> + Send;
}

/// Makes the suite's tests for the engine whose [`Harness`] the expression gives; it is evaluated anew for each.
#[macro_export]
macro_rules! conformance_suite {
    ($harness:expr) => {
        $crate::conformance_suite! { $harness;
            appends_are_dense_and_in_order
            empty_and_largest_batches_pass
            a_batch_over_the_limit_is_refused
            a_retry_gives_the_first_position
            other_bytes_under_a_known_id_conflict
            a_number_left_out_conflicts
            every_tail_shows_the_same_order
            a_dropped_append_can_be_retried
            last_is_never_behind
            reopening_keeps_everything
            a_tail_resumes_at_every_position
            a_tail_waits_for_the_next_batch
            a_tail_that_is_far_behind_catches_up
            dropping_next_loses_nothing
            a_tail_beyond_the_end_is_refused
            a_position_of_another_generation_is_refused
            trimming_removes_the_front_only
            trimming_twice_does_nothing
            trimming_beyond_the_end_is_refused
            ordinals_are_not_reused_after_trimming
            a_tail_that_was_trimmed_past_says_so
            tails_and_appends_go_on_while_trimming
            marks_are_kept
            marks_outside_the_log_are_refused
        }
    };
    ($harness:expr; $($test:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::conformance::within_a_minute($crate::conformance::$test($harness)).await;
            }
        )*
    };
}

/// Runs a test of the suite, and fails when it hangs.
pub async fn within_a_minute(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test ends within a minute");
}

/// One life of a node, which numbers its batches.
struct Writer {
    node: u32,
    incarnation: u64,
    number: u64,
}

impl Writer {
    async fn new<H: Harness>(harness: &H, log: &H::Log, node: u32) -> Writer {
        Writer { node, incarnation: harness.incarnation(log, node).await, number: 0 }
    }

    /// The next batch, with bytes that no other batch has.
    fn batch(&mut self) -> (BatchId, Bytes) {
        self.number += 1;
        let Writer { node, incarnation, number } = *self;
        (BatchId { node, incarnation, number }, Bytes::from(format!("batch {number} of node {node}.{incarnation}")))
    }

    /// Appends the next batch and gives what the log must show of it.
    async fn append(&mut self, log: &impl Log) -> Entry {
        let (id, bytes) = self.batch();
        let position = log.append(id, bytes.clone()).await.unwrap();
        Entry { position, id, bytes }
    }

    async fn append_some(&mut self, log: &impl Log, count: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(self.append(log).await);
        }
        entries
    }
}

/// The place before the first batch.
async fn start(log: &impl Log) -> Position {
    Position { ordinal: 0, ..log.last().await.unwrap() }
}

/// What a new tail shows after `after`, up to the last batch.
async fn read(log: &impl Log, after: Position) -> Vec<Entry> {
    let last = log.last().await.unwrap();
    let mut tail = log.tail(after).await.unwrap();
    let mut entries = Vec::new();
    for _ in after.ordinal..last.ordinal {
        entries.push(tail.next().await.unwrap());
    }
    entries
}

/// Polls a future once and drops it.
fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Fails unless `result` is an error of this shape.
macro_rules! assert_error {
    ($result:expr, $pattern:pat) => {
        match $result {
            Err($pattern) => {}
            Err(other) => panic!("expected {}, not {other:?}", stringify!($pattern)),
            Ok(_) => panic!("expected {}, but it went well", stringify!($pattern)),
        }
    };
}
use assert_error;
