use ieum_store::memory::Memory;

use super::*;
use crate::snapshot;

/// Somebody else makes one that does not come on, and the node's own waits for that.
#[test]
fn a_node_that_stops_does_not_wait_for_its_snapshot() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path());
    let identity = Identity { node: 1, dc: "a".to_owned(), cell: 3, key_id: 1, public_key: [1; 32] };
    let leases = Leases::new(folder.snapshots());
    let options = Options { leases: Arc::clone(&leases), ..Options::new(identity, &folder) };
    let log = Arc::new(ieum_log::memory::Memory::new(1));
    let started = Node::start(log, Arc::new(Memory::new()), options, |_: Delivery<()>| {});
    let node = runtime.block_on(started).unwrap();
    let alone = leases.making(snapshot::unasked()).unwrap();
    let handle = node.handle();
    let much = u64::MAX / 2;
    handle.shared.progress.lock().log_bytes = much;
    // It is counted anew when a snapshot begins.
    while handle.shared.progress.lock().log_bytes >= much {
        std::thread::yield_now();
    }
    drop(runtime.block_on(node.stop(Duration::ZERO)));
    drop(alone);
    assert_eq!(snapshot::list(&folder.snapshots()).unwrap(), []);
    assert_eq!(handle.shared.alarms.lock().snapshot_failures, 0, "nothing failed");
}
