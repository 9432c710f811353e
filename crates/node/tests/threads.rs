//! The threads of a running node.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::time::Duration;

use ieum_log::memory::Memory as Log;
use ieum_node::folder::Folder;
use ieum_node::machine::Delivery;
use ieum_node::service::{Identity, Node, Options};
use ieum_store::Memory as View;

/// A node that goes on without one of its threads would look alive and answer nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_panics_stops_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity { node: 1, dc: "a".into(), cell: 3, key_id: 1, public_key: [1; 32] };
    let options = Options::new(identity, &Folder::new(folder.path()));
    let deliver = |_: Delivery<()>| panic!("a planted panic");
    let node = Node::start(Arc::new(Log::new(1)), Arc::new(View::new()), options, deliver).await.unwrap();
    let reason = node.handle().failed().await;
    assert!(reason.contains("\"deliver\" panicked"), "{reason}");
    node.stop(Duration::ZERO).await;
}
