//! The thread that has full memtables flushed.
//!
//! fjall would do it itself, but asks for it through its worker's bounded queue, once per commit while the memtable is full:
//! a long compaction lets the queue fill up, and then the worker waits for room in its own queue for ever (fjall 3.1.13,
//! `Keyspace::inner_rotate_memtable`; seen here after 1,000 small commits).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ::fjall::{AbstractTree, Keyspace};

/// How many memtables may wait for their flush. fjall blocks commits from 4 on.
const SEALED_MEMTABLES: usize = 3;

pub(super) struct Keeper {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread; `failed` is set when the disk refuses.
    pub(super) fn start(rows: Keyspace, memtable_bytes: u64, failed: Arc<AtomicBool>) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new().name("view:keeper".into()).spawn(move || {
            // A panic must not leave commits waiting for a memtable that nobody will change.
            if !matches!(catch_unwind(AssertUnwindSafe(|| keep(&rows, memtable_bytes, &woken))), Ok(Ok(()))) {
                failed.store(true, Ordering::Release);
            }
        })?;
        Ok(Self { wake: Some(wake), thread: Some(thread) })
    }

    /// Asks for a look at the memtable; never waits.
    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // Full: it is going to look anyway. Closed: `failed` is set.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // Its panics were caught.
            let _ = thread.join();
        }
    }
}

/// How often memtables that were replaced are looked at, while there are any.
const FREE_EVERY: Duration = Duration::from_millis(200);

fn keep(rows: &Keyspace, memtable_bytes: u64, woken: &Receiver<()>) -> ::fjall::Result<()> {
    // Keeping a hand on memtables that were replaced lets this thread free them, once nobody else needs them. Else fjall
    // frees them under the lock that every read and commit takes, and all stand still for up to a second.
    let mut replaced = Vec::new();
    loop {
        let wake = if replaced.is_empty() {
            woken.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            woken.recv_timeout(FREE_EVERY)
        };
        match wake {
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) => {
                let memtable = rows.tree.active_memtable();
                if memtable.size() >= memtable_bytes && rows.tree.sealed_memtable_count() < SEALED_MEMTABLES {
                    replaced.push(memtable);
                    rows.rotate_memtable()?;
                }
            }
        }
        replaced.retain(|memtable| Arc::strong_count(memtable) > 1);
    }
}
