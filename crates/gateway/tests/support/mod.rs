//! A gateway on a real port, over a cell that applies each command at once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::account::Register;
use ieum_core::ids::Position;
use ieum_core::kv::Kv;
use ieum_gateway::options::{Limits, Passwords, Rate};
use ieum_gateway::{Cell, Gateway, Hub, Options, Refused, SigningKeys, Ticket};
use ieum_log::{BatchId, Entry};
use ieum_node::batcher::Bounds;
use ieum_node::machine::{self, Machine};
use ieum_node::service::Identity;
use ieum_store::Memory;
use parking_lot::Mutex;

/// A machine whose log takes everything at once.
struct Node {
    machine: Mutex<Machine<Memory, Option<Ticket>>>,
    hub: Arc<Hub>,
    ordinal: AtomicU64,
    me: Weak<Node>,
}

#[derive(Clone)]
struct AtOnce(Arc<Node>);

impl Node {
    fn run(&self, envelope: &Envelope, ticket: Option<Ticket>) {
        let mut machine = self.machine.lock();
        assert!(machine.submit(envelope, ticket, 0).is_ok(), "nothing waits");
        let append = machine.append(1_750_000_000_000).unwrap();
        machine.appended();
        let author = append.author;
        let id = BatchId { node: author.node, incarnation: author.incarnation, number: author.number };
        let ordinal = self.ordinal.fetch_add(1, Ordering::Relaxed) + 1;
        let position = ieum_log::Position { generation: 1, ordinal };
        let delivery = machine.entry(&Entry { position, id, bytes: append.bytes }).unwrap();
        assert_eq!(delivery.alarms, [], "a command panicked, or a batch was not understood");
        let view = machine.view().snapshot();
        let replies = delivery.replies.into_iter().filter_map(|(ticket, outcome)| Some((ticket?, outcome))).collect();
        self.hub.deliver(delivery.position, replies, delivery.events, || Box::new(view));
    }
}

impl Cell for AtOnce {
    type View = <Memory as Kv>::Snapshot;

    fn view(&self) -> Self::View {
        self.0.machine.lock().view().snapshot()
    }

    fn submit(&self, envelope: &Envelope, ticket: Ticket) -> Result<(), (Refused, Ticket)> {
        let node = self.0.me.upgrade().expect("it lives as long as the test");
        node.run(envelope, Some(ticket));
        Ok(())
    }

    fn applied(&self) -> Position {
        ieum_core::apply::applied(&self.view()).unwrap().position
    }

    async fn reach(&self, position: Position) {
        if position > self.applied() {
            std::future::pending::<()>().await;
        }
    }

    fn waiting(&self) -> Duration {
        Duration::ZERO
    }

    fn proven(&self) -> Duration {
        Duration::ZERO
    }

    fn metrics(&self, _: &mut String) {}
}

fn options() -> Options {
    let defaults = Options::default();
    let plenty = Rate { per_second: 1_000_000, burst: 1_000_000 };
    Options {
        passwords: Passwords { memory_kib: 8, passes: 1, ..defaults.passwords },
        limits: Limits { commands: plenty, hellos: plenty, requests: plenty, sign_ins: plenty, ..defaults.limits },
        behind_patience: Duration::from_millis(50),
        // This cell has no ticks.
        standstill_after: Duration::MAX,
        ..defaults
    }
}

/// Serves a cell with one account, whose device has `secret`, until the process ends.
pub(crate) fn serve(secret: &str) -> SocketAddr {
    let identity = Identity { node: 1, dc: "a".to_owned(), cell: 1, key_id: 0, public_key: [0; 32] };
    let keys = SigningKeys::from_seed(&[7; 32]).unwrap();
    let identity = Identity { key_id: keys.id(), public_key: keys.public_key(), ..identity };
    let view = Arc::new(Memory::new());
    let greeting = machine::greeting(&view.snapshot(), &identity).unwrap();
    let machine = Machine::new(1, 1, view, Bounds::default()).unwrap();
    let hub = Hub::new();
    let node = Arc::new_cyclic(|me| Node {
        machine: Mutex::new(machine),
        hub: Arc::clone(&hub),
        ordinal: AtomicU64::new(0),
        me: me.clone(),
    });
    greeting.iter().for_each(|envelope| node.run(envelope, None));
    let secret_hash = *blake3::hash(&BASE64URL_NOPAD.decode(secret.as_bytes()).unwrap()).as_bytes();
    let register = Register {
        handle: "minji".to_owned(),
        name: "민지".to_owned(),
        password: "no hash".to_owned(),
        secret_hash,
        device_name: "phone".to_owned(),
        invitation: None,
    };
    let origin = Origin::Anonymous { key: [1; 16], request: [1; 16] };
    node.run(&Envelope { origin, command: register.into() }, None);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Gateway::new(AtOnce(node), hub, options(), keys);
    std::thread::spawn(move || runtime.block_on(ieum_gateway::server::serve(gateway, listener, None)));
    address
}
