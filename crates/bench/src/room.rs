//! One large room: how long until the last of its members has a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use ieum_client::Delivery;
use ieum_protocol::frames::{Change, Event};

use crate::crowd::{Crowd, micros};
use crate::error::Error;
use crate::report::p99;
use crate::server::Server;
use crate::sizes::Sizes;
use crate::world::handle;

/// The most people that one command may name.
const NAMED: usize = 100;

/// A message on its way to everybody.
#[derive(Debug, Default)]
struct Told {
    members: AtomicU32,
    /// When it came to the last one so far.
    last: AtomicU64,
}

/// Makes a group of the first people, and gives the 99th percentile of the milliseconds until its last member had a message.
pub(crate) async fn delays(server: &Server, sizes: &Sizes) -> Result<f64, Error> {
    let start = Instant::now();
    let told: Arc<Vec<Told>> = Arc::new((0..sizes.room_messages).map(|_| Told::default()).collect());
    let mut crowd = Crowd::new();
    for person in 0..sizes.room_members {
        let told = Arc::clone(&told);
        crowd.add(server, person, true, move |delivery: &Delivery| hear(delivery, &told, start))?;
    }
    crowd.live().await?;
    let owner = crowd.clients.first().ok_or_else(|| Error::Client("a room needs members".to_owned()))?;
    let room = gather(owner, sizes.room_members).await?;
    let mut times = Vec::new();
    let mut beat = tokio::time::interval(sizes.room_every);
    for number in 0..sizes.room_messages {
        beat.tick().await;
        times.push(micros(start));
        let change = Change::Send { room, text: format!("{number} 여러분 안녕하세요!"), reply_to: None };
        owner.submit(change).await.map_err(|e| Error::Client(e.to_string()))?;
    }
    let all = || told.iter().all(|told| told.members.load(Ordering::Relaxed) == sizes.room_members);
    crowd.until("members have every message", all).await?;
    crowd.check()?;
    let mut delays: Vec<u64> =
        told.iter().zip(times).map(|(told, sent)| told.last.load(Ordering::Relaxed).saturating_sub(sent)).collect();
    delays.sort_unstable();
    crowd.close().await;
    Ok(p99(&delays) / 1e3)
}

async fn gather(owner: &ieum_client::Client, members: u32) -> Result<u64, Error> {
    let failed = |failure: ieum_client::Failure| Error::Client(failure.to_string());
    let others: Vec<String> = (1..members).map(handle).collect();
    let made =
        owner.submit(Change::CreateGroup { name: "벤치".to_owned(), handles: Vec::new() }).await.map_err(failed)?;
    let room = made.room.ok_or_else(|| Error::Client("a new group has no id".to_owned()))?;
    for handles in others.chunks(NAMED) {
        owner.submit(Change::Invite { room, handles: handles.to_vec() }).await.map_err(failed)?;
    }
    Ok(room)
}

fn hear(delivery: &Delivery, told: &[Told], start: Instant) {
    let Delivery::Events { list, .. } = delivery else { return };
    for event in list {
        let Event::Message { message, .. } = event else { continue };
        let number = message.text.as_deref().and_then(|text| text.split(' ').next()?.parse::<usize>().ok());
        if let Some(told) = number.and_then(|number| told.get(number)) {
            told.members.fetch_add(1, Ordering::Relaxed);
            told.last.fetch_max(micros(start), Ordering::Relaxed);
        }
    }
}
