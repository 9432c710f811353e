//! A command whose apply panics is answered, and the operator is told which one it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::identity;
use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::account::{Register, SetName};
use ieum_core::ids::UserId;
use ieum_core::kv::{self, Direction, Kv, Read, Visit, WriteSet};
use ieum_core::outcome::{Accepted, Outcome, Reject};
use ieum_core::tables::accounts::USERS;
use ieum_node::folder::Folder;
use ieum_node::machine::Delivery;
use ieum_node::service::{Node, Options};
use ieum_store::{Memory, memory};
use tokio::sync::mpsc;

/// A view whose accounts, once it is armed, panic when they are read.
#[derive(Clone)]
struct Trap {
    rows: Memory,
    armed: Arc<AtomicBool>,
}

struct Look {
    rows: memory::Snapshot,
    armed: Arc<AtomicBool>,
}

impl Read for Look {
    fn get(&self, key: &[u8]) -> kv::Result<Option<Bytes>> {
        let accounts = USERS.key(&UserId(0));
        assert!(key.first() != accounts.first() || !self.armed.load(Ordering::Acquire), "the trap snapped");
        self.rows.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> kv::Result<()> {
        self.rows.scan(from, to, direction, visit)
    }
}

impl Kv for Trap {
    type Snapshot = Look;
    type Rows = memory::AllRows;

    fn snapshot(&self) -> Look {
        Look { rows: self.rows.snapshot(), armed: Arc::clone(&self.armed) }
    }

    fn rows(&self, snapshot: Look) -> memory::AllRows {
        Kv::rows(&self.rows, snapshot.rows)
    }

    fn commit(&self, writes: &WriteSet) -> kv::Result<()> {
        self.rows.commit(writes)
    }

    fn persist(&self) -> kv::Result<()> {
        self.rows.persist()
    }
}

#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl io::Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_answered_counted_and_printed_with_its_place() {
    let printed = Printed::default();
    let writer = printed.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let folder = tempfile::tempdir().unwrap();
    let view = Trap { rows: Memory::new(), armed: Arc::default() };
    let log = Arc::new(ieum_log::memory::Memory::new(1));
    let options = Options::new(identity(), &Folder::new(folder.path()));
    let (answers, mut answered) = mpsc::unbounded_channel();
    let deliver = move |delivery: Delivery<()>| {
        for (_, outcome) in delivery.replies {
            answers.send((delivery.position, outcome)).unwrap();
        }
    };
    let node = Node::start(log, Arc::new(view.clone()), options, deliver).await.unwrap();
    let handle = node.handle();
    let register = Register {
        handle: "minji".to_owned(),
        name: "민지".to_owned(),
        password: String::new(),
        secret_hash: [1; 32],
        device_name: "phone".to_owned(),
        invitation: None,
    };
    handle.submit(&Envelope { origin: Origin::Node, command: register.into() }, ()).unwrap();
    let (_, outcome) = answered.recv().await.unwrap();
    let Outcome::Accepted(Accepted::Registered { device, .. }) = outcome else { panic!("{outcome:?}") };
    let rename = |number: u64| Envelope {
        origin: Origin::Device { device, number, id: u128::from(number).to_be_bytes() },
        command: SetName { name: "지민".to_owned() }.into(),
    };
    view.armed.store(true, Ordering::Release);
    handle.submit(&rename(1), ()).unwrap();
    let (position, outcome) = answered.recv().await.unwrap();
    assert_eq!(outcome, Outcome::Rejected(Reject::Internal));
    assert_eq!(handle.alarms().panicked, 1);
    view.armed.store(false, Ordering::Release);
    handle.submit(&rename(2), ()).unwrap();
    assert_eq!(answered.recv().await.unwrap().1, Outcome::Accepted(Accepted::Done), "the node goes on");
    node.stop(Duration::from_secs(60)).await;
    let text = String::from_utf8(printed.0.lock().unwrap().clone()).unwrap();
    let alarm = text.lines().find(|line| line.contains("alarm: a command panicked")).unwrap();
    for part in ["ERROR", &format!("position={position}"), "index=", "command=\"SetName\"", "the trap snapped"] {
        assert!(alarm.contains(part), "{part} is not in {alarm}");
    }
}
