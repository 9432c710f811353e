//! Brings a device up to the view before its live stream begins.

use ieum_core::ids::{Position, RoomId, UserId};
use ieum_core::kv::{self, Read};
use ieum_core::query::catch_up::{self, Limits, Place, Start};
use ieum_protocol::frames::CatchUp;

use crate::map::objects;

/// How much one frame holds. It stays below [`ieum_protocol::MAX_FRAME`] with one more message of the greatest length, which takes 60,000
/// bytes when each of its 10,000 characters must be escaped.
const PAGE: Limits =
    Limits { rooms: 100, messages: 50, weight: 160 * 1024, room: 1_200, receipt: 64, message: objects::weight };
/// Rooms that were left, in one frame.
const DEPARTURES: usize = 5_000;

/// A round of a catch-up under way, page by page. Each page is read from a look of its own or from that of the page before. What changes
/// between two looks is told by this round or by the next one, which starts where the first look of this one stands, or by both.
#[derive(Debug)]
pub struct Pages {
    user: UserId,
    start: Start,
    next: Next,
}

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Rooms that were left, behind this departure.
    Departures(Position, RoomId),
    /// Rooms, from here on.
    Rooms(Option<Place>),
    Nothing,
}

impl Pages {
    /// A catch-up of `user` from `start`.
    #[must_use]
    pub fn new(user: UserId, start: Start) -> Self {
        let next = match start {
            Start::Since(cursor) => Next::Departures(cursor, RoomId(u64::MAX)),
            Start::Resync => Next::Rooms(None),
        };
        Self { user, start, next }
    }

    /// The next page that holds anything, read from `view`; none at the end.
    pub fn next_page(&mut self, view: &impl Read) -> kv::Result<Option<CatchUp>> {
        loop {
            let mut told = CatchUp::default();
            match self.next {
                Next::Nothing => return Ok(None),
                Next::Departures(position, room) => {
                    let page = catch_up::left(view, self.user, (position, room), DEPARTURES)?;
                    told.left = page.rooms.into_iter().map(|room| room.0).collect();
                    self.next = page.next.map_or(Next::Rooms(None), |(at, room)| Next::Departures(at, room));
                }
                Next::Rooms(place) => {
                    let page = catch_up::page(view, self.user, self.start, place, PAGE)?;
                    for changes in page.rooms {
                        told.rooms.push(objects::changes(view, self.user, changes)?);
                    }
                    self.next = page.next.map_or(Next::Nothing, |place| Next::Rooms(Some(place)));
                }
            }
            if !told.rooms.is_empty() || !told.left.is_empty() {
                return Ok(Some(told));
            }
        }
    }
}
