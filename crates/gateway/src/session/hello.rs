//! Who is there, and from where their stream goes on.

use ieum_core::ids::{DeviceId, Position, UserId};
use ieum_core::kv::{self, Read};
use ieum_core::query::catch_up::{self, Start};
use ieum_core::tables::accounts::PROGRESS;
use ieum_planted::Bug;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::Hello;

use crate::check_secret;

/// A catch-up over more positions than this is sent before the session is registered, so that its queue need not hold what happens
/// meanwhile.
const LONG_WAY: u64 = 2_000;

/// What a hello says.
#[derive(Debug)]
pub struct Asked {
    device: DeviceId,
    secret: String,
    cursor: Option<Position>,
    /// The highest position that the client has seen.
    pub seen: Option<Position>,
}

impl Asked {
    /// What `frame` says, or what is wrong with it.
    pub fn of(frame: Hello) -> Result<Self, Problem> {
        let Hello { device, secret, cursor, seen, client: _ } = frame;
        let bad = |_| Code::BadFrame.problem().detail("a position is one that the server gave");
        let position = |text: Option<String>| text.map(|text| text.parse()).transpose().map_err(bad);
        Ok(Self { device: DeviceId(device), secret, cursor: position(cursor)?, seen: position(seen)? })
    }
}

/// A device that is signed in.
#[derive(Debug, Clone, Copy)]
pub struct Device {
    /// Whose it is.
    pub user: UserId,
    /// Which.
    pub device: DeviceId,
    /// Where its catch-up starts.
    pub start: Start,
    /// The last number that it has used.
    pub last: u64,
}

/// The device that asks, if its secret is right.
pub fn sign_in(view: &impl Read, asked: &Asked) -> kv::Result<Option<Device>> {
    let Some(user) = check_secret(view, asked.device, &asked.secret)? else { return Ok(None) };
    let last = PROGRESS.get(view, &asked.device)?.map_or(0, |p| p.last);
    // Of a catch-up that broke off a device holds more than its cursor says: what of that is lost it has to throw away.
    let holds_lost = match asked.seen.filter(|_| !Bug::LostSeenStays.planted()) {
        Some(seen) => catch_up::is_lost(view, seen)?,
        None => false,
    };
    let start = if holds_lost { Start::Resync } else { catch_up::start(view, asked.cursor)? };
    Ok(Some(Device { user, device: asked.device, start, last }))
}

/// Whether so little happened since `start` that a session's queue can hold what happens during the catch-up.
#[must_use]
pub fn is_near(start: Start, now: Position) -> bool {
    match start {
        Start::Since(since) => {
            since.generation == now.generation && now.ordinal.saturating_sub(since.ordinal) <= LONG_WAY
        }
        Start::Resync => false,
    }
}
