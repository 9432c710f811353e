//! Against real etcd: the conformance suite, and what members and watches may do.

mod cut_off;
mod faults;
mod marks;
mod record;
mod refusals;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ieum_drill::etcd::Etcd as Members;
use ieum_log::conformance::Harness;
use ieum_log::{BatchId, Entry};
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::*;
use crate::proto::WatchResponse;

const CELL: u32 = 7;
const PATIENCE: Duration = Duration::from_secs(30);

type Change = Box<dyn FnMut(WatchResponse) -> WatchResponse + Send>;

/// Changes what watches show, below all that checks it.
#[derive(Default)]
pub(crate) struct Tamper(Mutex<Option<Change>>);

impl fmt::Debug for Tamper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tamper")
    }
}

impl Tamper {
    pub(crate) fn apply(&self, answer: WatchResponse) -> WatchResponse {
        match &mut *self.0.lock() {
            Some(change) => change(answer),
            None => answer,
        }
    }

    fn set(&self, change: impl FnMut(WatchResponse) -> WatchResponse + Send + 'static) {
        *self.0.lock() = Some(Box::new(change));
    }
}

fn options(members: &Members) -> Options {
    let endpoints = members.endpoints().iter().map(|url| url.parse().unwrap()).collect();
    Options { create: true, patience: PATIENCE, ..Options::new(CELL, endpoints) }
}

/// A cluster that tests use in turn, each from empty: starting one takes longer than most tests.
struct Shared {
    members: Mutex<Members>,
    turn: Arc<Turn<()>>,
}

struct InEtcd {
    shared: Arc<Shared>,
    _turn: OwnedMutexGuard<()>,
}

impl InEtcd {
    async fn new() -> Self {
        // It ends with the last test that uses it.
        static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
        let shared = {
            let mut last = SHARED.lock();
            last.upgrade().unwrap_or_else(|| {
                let new = Arc::new(Shared { members: Mutex::new(Members::start(3).unwrap()), turn: Arc::default() });
                *last = Arc::downgrade(&new);
                new
            })
        };
        let turn = Arc::clone(&shared.turn).lock_owned().await;
        shared.members.lock().clear().unwrap();
        Self { shared, _turn: turn }
    }
}

impl Harness for InEtcd {
    type Log = Etcd;

    async fn open(&self) -> Etcd {
        let options = options(&self.shared.members.lock());
        Etcd::open(options).await.unwrap()
    }

    async fn incarnation(&self, log: &Etcd, node: u32) -> u64 {
        log.register(node, 0).await.unwrap()
    }
}

ieum_log::conformance_suite!(InEtcd::new().await);

/// A node that appends, in the tests that do not come from the suite.
struct Writer {
    id: BatchId,
}

impl Writer {
    async fn new(log: &Etcd, node: u32) -> Self {
        Self { id: BatchId { node, incarnation: log.register(node, 0).await.unwrap(), number: 0 } }
    }

    fn batch(&mut self) -> (BatchId, Bytes) {
        self.id.number += 1;
        (self.id, Bytes::from(format!("batch {:?}", self.id)))
    }

    async fn append(&mut self, log: &Etcd) -> Entry {
        let (id, bytes) = self.batch();
        let position = log.append(id, bytes.clone()).await.unwrap();
        Entry { position, id, bytes }
    }

    async fn append_some(&mut self, log: &Etcd, count: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(self.append(log).await);
        }
        entries
    }
}

/// The place before the first batch.
const START: Position = Position { generation: 1, ordinal: 0 };

async fn read(tail: &mut Tail, count: usize) -> Vec<Entry> {
    use ieum_log::Tail as _;
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(tail.next().await.unwrap());
    }
    entries
}
