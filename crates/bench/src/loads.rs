//! The loads of the table, one function each.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::crowd::{Crowd, Next, Pairs};
use crate::error::Error;
use crate::report::{median, p99};
use crate::server::{Place, Server, own_cpu};
use crate::sizes::Sizes;
use crate::world::World;

/// What one run of a load of messages gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Acknowledged messages a second.
    pub(crate) rate: f64,
    /// Microseconds of the server's processor time for each.
    pub(crate) server_us: f64,
    /// Microseconds of the clients' processor time for each, both people's.
    pub(crate) client_us: f64,
}

/// Keeps `window` messages of each pair under way, run after run, then checks that all were delivered.
pub(crate) async fn rates(
    server: &Server,
    pairs: &[(u32, u32, u64)],
    window: u32,
    sizes: &Sizes,
) -> Result<Vec<Run>, Error> {
    let mut pairs = Pairs::connect(server, pairs, Next::Acknowledged).await?;
    pairs.begin(window)?;
    pairs.keep_going(sizes.run / 5).await?;
    let mut runs = Vec::new();
    for _ in 0..sizes.runs {
        let acked = |pairs: &Pairs| pairs.crowd.board.acked.load(Ordering::Relaxed);
        let (start, before, cpu, own) = (Instant::now(), acked(&pairs), server.cpu()?, own_cpu());
        pairs.keep_going(sizes.run).await?;
        let done = (acked(&pairs) - before).max(1) as f64;
        runs.push(Run {
            rate: done / start.elapsed().as_secs_f64(),
            server_us: (server.cpu()? - cpu) * 1e6 / done,
            client_us: (own_cpu() - own) * 1e6 / done,
        });
    }
    pairs.settle().await?;
    pairs.crowd.close().await;
    Ok(runs)
}

/// The 99th percentile of the milliseconds from sending to delivery, run after run, one message of each pair under way.
pub(crate) async fn delays(server: &Server, pairs: &[(u32, u32, u64)], sizes: &Sizes) -> Result<Vec<f64>, Error> {
    let mut pairs = Pairs::connect(server, pairs, Next::Delivered).await?;
    pairs.begin(1)?;
    pairs.keep_going(sizes.run / 5).await?;
    pairs.delays.take();
    let mut runs = Vec::new();
    for _ in 0..sizes.runs {
        pairs.keep_going(sizes.run).await?;
        runs.push(p99(&pairs.delays.take()) / 1e3);
    }
    pairs.settle().await?;
    pairs.crowd.close().await;
    Ok(runs)
}

/// What came of many idle sessions.
pub(crate) struct Idle {
    /// What the server's resident memory grew by, for each session, in KB of 1,000 bytes.
    pub(crate) kb_per_session: f64,
    /// Seconds from the cut until all were signed in and caught up again, each time.
    pub(crate) reconnect: Vec<f64>,
    /// Microseconds of the server's processor time for each of them.
    pub(crate) server_us: Vec<f64>,
    /// Microseconds of the clients' processor time for each of them.
    pub(crate) client_us: Vec<f64>,
}

/// Connects people who do nothing, reads the server's memory, then cuts all their connections at once, `sizes.runs` times.
pub(crate) async fn idle(server: &Server, sizes: &Sizes) -> Result<Idle, Error> {
    tokio::time::sleep(sizes.settled).await;
    let before = server.resident_kib()?;
    let mut crowd = Crowd::new();
    for person in 0..sizes.sessions {
        crowd.add(server, person, false, |_: &ieum_client::Delivery| {})?;
    }
    crowd.live().await?;
    tokio::time::sleep(sizes.settled).await;
    let grown = server.resident_kib()?.saturating_sub(before);
    let kb_per_session = grown as f64 * 1.024 / f64::from(sizes.sessions.max(1));
    let mut came = Idle { kb_per_session, reconnect: Vec::new(), server_us: Vec::new(), client_us: Vec::new() };
    for _ in 0..sizes.runs {
        let (cpu, own) = (server.cpu()?, own_cpu());
        came.reconnect.push(crowd.reconnect().await?.as_secs_f64());
        let each = |seconds: f64| seconds * 1e6 / f64::from(sizes.sessions.max(1));
        came.server_us.push(each(server.cpu()? - cpu));
        came.client_us.push(each(own_cpu() - own));
        tokio::time::sleep(sizes.settled).await;
    }
    crowd.close().await;
    Ok(came)
}

/// The rates of the direct load on an empty view, and with all of `world` in it.
pub(crate) async fn growth(place: &Place, world: &World, sizes: &Sizes) -> Result<[Vec<Run>; 2], Error> {
    let empty = World::couples(sizes.direct_pairs * 2, 0, crate::now());
    let mut all = Vec::new();
    for world in [&empty, world] {
        let server = place.serve(world)?;
        all.push(rates(&server, &world.spread(sizes.direct_pairs), sizes.direct_window, sizes).await?);
    }
    let mut all = all.into_iter();
    Ok([all.next().unwrap_or_default(), all.next().unwrap_or_default()])
}

/// What came of killing a server.
pub(crate) struct Restart {
    /// Seconds from the kill to the first new acknowledgement, each time.
    pub(crate) first: Vec<f64>,
    /// And until half of the clients had one.
    pub(crate) half: Vec<f64>,
}

/// Sends `sizes.restart_messages` through `server`, then kills it under load and starts it again, `sizes.kills` times.
pub(crate) async fn restart(server: &mut Server, pairs: &[(u32, u32, u64)], sizes: &Sizes) -> Result<Restart, Error> {
    let mut pairs = Pairs::connect(server, pairs, Next::Acknowledged).await?;
    pairs.begin(sizes.direct_window)?;
    while pairs.crowd.board.acked.load(Ordering::Relaxed) < sizes.restart_messages {
        let before = pairs.crowd.board.acked.load(Ordering::Relaxed);
        pairs.keep_going(Duration::from_secs(1)).await?;
        if pairs.crowd.board.acked.load(Ordering::Relaxed) == before {
            return Err(Error::Wrong("no message was acknowledged for a second".to_owned()));
        }
    }
    let mut came = Restart { first: Vec::new(), half: Vec::new() };
    for _ in 0..sizes.kills {
        pairs.killed_now();
        server.crash_and_start()?;
        pairs.keep_going(sizes.come_back).await?;
        let back: Vec<f64> = pairs.returns.take().into_iter().map(|micros| micros as f64 / 1e6).collect();
        let Some(first) = back.first() else {
            return Err(Error::Wrong(format!("nothing was acknowledged within {:?} after the kill", sizes.come_back)));
        };
        came.first.push(*first);
        came.half.push(median(&back));
    }
    pairs.settle_acknowledged().await?;
    pairs.crowd.close().await;
    Ok(came)
}
