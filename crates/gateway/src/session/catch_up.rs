//! Brings a device up to the view before its live stream begins.

use ieum_core::apply;
use ieum_core::ids::{DeviceId, Position, RoomId, UserId};
use ieum_core::kv::{self, Read};
use ieum_core::query::catch_up::{self, Limits, Start};
use ieum_protocol::frames::CatchUp;

use crate::map::objects;

/// How much one frame holds.
const PAGE: Limits = Limits { rooms: 100, messages: 50 };

/// A catch-up under way: page by page, all from one look at the view.
#[derive(Debug)]
pub struct Pages<V> {
    view: V,
    user: UserId,
    start: Start,
    after: Option<RoomId>,
    ended: bool,
    first: bool,
}

impl<V: Read> Pages<V> {
    /// A catch-up of `user` from `start`.
    pub fn new(view: V, user: UserId, start: Start) -> Self {
        Self { view, user, start, after: None, ended: false, first: true }
    }

    /// Where the view stands.
    pub fn position(&self) -> kv::Result<Position> {
        Ok(apply::applied(&self.view)?.position)
    }

    /// Whether `device` is signed in.
    pub fn is_signed_in(&self, device: DeviceId) -> kv::Result<bool> {
        Ok(apply::owner_of(&self.view, device)?.is_some())
    }

    /// The next page that holds anything; none at the end.
    pub fn next_page(&mut self) -> kv::Result<Option<CatchUp>> {
        while !self.ended {
            let page = catch_up::page(&self.view, self.user, self.start, self.after, PAGE)?;
            let mut told = CatchUp::default();
            for changes in page.rooms {
                told.rooms.push(objects::changes(&self.view, self.user, changes)?);
            }
            if let (true, Start::Since(since)) = (self.first, self.start) {
                let left = catch_up::left(&self.view, self.user, since)?;
                told.left = left.into_iter().map(|room| room.0).collect();
            }
            self.first = false;
            self.after = page.next;
            self.ended = page.next.is_none();
            if !told.rooms.is_empty() || !told.left.is_empty() {
                return Ok(Some(told));
            }
        }
        Ok(None)
    }
}
