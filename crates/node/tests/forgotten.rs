//! A log that has taken a batch, lost the answer, and forgotten the batch since: what a node finds that was frozen for long.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::identity;
use ieum_log::memory::{Memory, Tail};
use ieum_log::{BatchId, Error, Log, Position, Result, Skip};
use ieum_node::folder::Folder;
use ieum_node::machine::Delivery;
use ieum_node::service::{Node, Options};

/// Takes the first batch and loses the answer; asked again, it knows no more where that batch stands.
struct Forgetful {
    log: Memory,
    took: AtomicBool,
}

impl Log for Forgetful {
    type Tail = Tail;

    async fn append(&self, id: BatchId, bytes: Bytes) -> Result<Position> {
        if self.took.swap(true, Ordering::SeqCst) {
            return Err(Error::Conflict { id });
        }
        self.log.append(id, bytes).await?;
        Err(Error::Engine { operation: "waiting for the answer", source: "it is lost".into() })
    }

    async fn tail(&self, after: Position) -> Result<Tail> {
        self.log.tail(after).await
    }

    async fn trim(&self, up_to: Position) -> Result<()> {
        self.log.trim(up_to).await
    }

    async fn skip(&self, position: Position, index: u32) -> Result<()> {
        self.log.skip(position, index).await
    }

    async fn skips(&self) -> Result<Vec<Skip>> {
        self.log.skips().await
    }

    async fn trimmed_to(&self) -> Result<Position> {
        self.log.trimmed_to().await
    }

    async fn last(&self) -> Result<Position> {
        self.log.last().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_batch_was_forgotten_may_begin_again() {
    let root = tempfile::tempdir().unwrap();
    let log = Arc::new(Forgetful { log: Memory::new(1), took: AtomicBool::new(false) });
    let view = Arc::new(ieum_store::memory::Memory::default());
    let options = Options::new(identity(), &Folder::new(root.path()));
    let node = Node::start(log, view, options, |_: Delivery<()>| {}).await.unwrap();
    let reason = node.handle().failed().await;
    assert!(node.handle().is_overtaken() && reason.contains("the log refused a batch"), "{reason}");
    drop(node.stop(Duration::ZERO).await);
}
