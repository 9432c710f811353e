//! Who types, between people at different nodes of a real cell over a real etcd.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use common::cell::Cell;
use common::{PATIENCE, metric};
use ieum_client::{Client, Delivery, Http, NewAccount, Options, Trust, store};
use ieum_drill::server::Server;
use ieum_protocol::frames::{Change, Event};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What a person is told of this.
#[derive(Debug, PartialEq)]
enum Told {
    Typing { room: u64, user: u64 },
    Left { room: u64 },
}

/// Somebody at one node.
struct Person {
    user: u64,
    client: Client,
    told: UnboundedReceiver<Told>,
}

impl Person {
    async fn at(node: &Server, handle: &str) -> Self {
        let endpoint: ieum_client::Endpoint = node.address().parse().unwrap();
        let http = Http::new(vec![endpoint.clone()], Trust::web());
        let account = NewAccount {
            handle: handle.to_owned(),
            name: handle.to_owned(),
            password: "correct horse".to_owned(),
            device: "phone".to_owned(),
            ..NewAccount::default()
        };
        let identity = http.register(account).await.unwrap();
        let user = identity.user;
        let mut options = Options::new(vec![endpoint]).identity(identity);
        options.seen = http.seen().await;
        let (tell, told) = unbounded_channel();
        let observer = move |delivery: Delivery| {
            // The test may have ended.
            let _ = match delivery {
                Delivery::Typing { room, user } => tell.send(Told::Typing { room, user }),
                Delivery::Events { list, .. } => list.into_iter().try_for_each(|event| match event {
                    Event::Left { room } => tell.send(Told::Left { room }),
                    _ => Ok(()),
                }),
                _ => Ok(()),
            };
        };
        let client = Client::observe(options, store::Memory::new(), observer).unwrap();
        client.live().await.unwrap();
        Self { user, client, told }
    }

    async fn group(&self, handles: &[&str]) -> u64 {
        let handles = handles.iter().map(ToString::to_string).collect();
        let made = self.client.submit(Change::CreateGroup { name: "group".to_owned(), handles }).await;
        made.unwrap().room.unwrap()
    }

    async fn next(&mut self) -> Told {
        tokio::time::timeout(PATIENCE, self.told.recv()).await.unwrap().unwrap()
    }

    /// Goes on typing in these rooms, one after the other, until `hears` is done: what is told may be lost.
    async fn types(&self, rooms: &[u64], hears: impl Future<Output = ()>) {
        let typing = async {
            let mut key = tokio::time::interval(Duration::from_millis(200));
            loop {
                for room in rooms {
                    self.client.typing(*room);
                }
                key.tick().await;
            }
        };
        tokio::select! {
            () = hears => {}
            () = typing => {}
        }
    }
}

#[test]
fn people_at_different_nodes_hear_who_types_and_who_was_removed_does_not() {
    let cell = Cell::started();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(live(&cell));
}

async fn live(cell: &Cell) {
    let minji = Person::at(&cell.nodes[0], "minji").await;
    let mut dohyun = Person::at(&cell.nodes[1], "dohyun").await;
    let mut jun = Person::at(&cell.nodes[2], "jun").await;
    let mut eve = Person::at(&cell.nodes[2], "eve").await;
    let ours = minji.group(&["dohyun", "jun"]).await;
    let all = minji.group(&["dohyun", "jun", "eve"]).await;
    let typing = |room| Told::Typing { room, user: minji.user };
    minji
        .types(&[ours], async {
            assert_eq!(dohyun.next().await, typing(ours));
            assert_eq!(jun.next().await, typing(ours));
        })
        .await;
    // At another node than the one that is asked for it.
    minji.client.submit(Change::Remove { room: ours, user: jun.user }).await.unwrap();
    minji
        .types(&[ours, all], async {
            while jun.next().await != (Told::Left { room: ours }) {}
            // What was looked up before may come right behind it.
            while jun.next().await != typing(all) {}
            for _ in 0..2 {
                assert_eq!(jun.next().await, typing(all));
            }
            // Who never was in the room heard nothing else all the time.
            for _ in 0..2 {
                assert_eq!(eve.next().await, typing(all));
            }
            while dohyun.next().await != typing(ours) {}
        })
        .await;
    assert!(metric(&cell.nodes[0], "ieum_people_elsewhere") >= 1);
    for client in [minji.client, dohyun.client, jun.client, eve.client] {
        client.close().await;
    }
}
