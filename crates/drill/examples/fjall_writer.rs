//! What the tests of fjall on the file system that forgets run as another process, and kill: it writes batches into `DATABASE`.

#![allow(clippy::expect_used, reason = "whoever started it sees how it ends")]

use std::path::Path;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};

/// Batches between two persists.
const BATCHES: u64 = 50;

fn main() {
    let folder = std::env::var("DATABASE").expect("only the other tests start this");
    let database = Database::builder(&folder).open().expect("open the database");
    let view = database.keyspace("view", KeyspaceCreateOptions::default).expect("open the view");
    // fjall 3.1.13 makes `keyspaces/0` and `/1` and never syncs `keyspaces`: where a file's sync does not commit them along (`strict`), they
    // are gone after a cut, and the database opens empty, without an error.
    std::fs::File::open(Path::new(&folder).join("keyspaces")).and_then(|keyspaces| keyspaces.sync_all()).expect("sync");
    for number in 1_u64.. {
        let mut batch = database.batch();
        batch.insert(&view, "last", number.to_be_bytes());
        batch.insert(&view, number.to_be_bytes(), [7; 2000]);
        batch.commit().expect("commit");
        if number % (5 * BATCHES) == 0 {
            view.rotate_memtable_and_wait().expect("write a table");
        }
        if number % BATCHES == 0 {
            database.persist(PersistMode::SyncAll).expect("persist");
            println!("persisted {number}");
        }
    }
}
