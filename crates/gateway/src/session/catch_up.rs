//! Brings a device up to the view before its live stream begins.

use std::sync::Arc;

use ieum_core::ids::{RoomId, UserId};
use ieum_core::query::catch_up::{self, Limits, Start};
use ieum_protocol::errors::Problem;
use ieum_protocol::frames::CatchUp;

use crate::Gateway;
use crate::cell::Cell;
use crate::map::objects;

/// How much one frame holds.
const PAGE: Limits = Limits { rooms: 100, messages: 50 };

/// A catch-up under way: page by page, all from one look at the view.
pub(super) struct Pages<V> {
    view: Arc<V>,
    user: UserId,
    start: Start,
    after: Option<RoomId>,
    ended: bool,
    first: bool,
}

impl<V: ieum_core::kv::Read + Send + Sync + 'static> Pages<V> {
    /// A catch-up of `user` from `start`.
    pub(super) fn new(view: V, user: UserId, start: Start) -> Self {
        Self { view: Arc::new(view), user, start, after: None, ended: false, first: true }
    }

    /// The next page that holds anything; none at the end.
    pub(super) async fn next<C: Cell<View = V>>(
        &mut self,
        gateway: &Arc<Gateway<C>>,
    ) -> Result<Option<CatchUp>, Problem> {
        while !self.ended {
            let (view, user, start, after, first) =
                (Arc::clone(&self.view), self.user, self.start, self.after, self.first);
            let ((page, next), _) = gateway
                .read(move |_| {
                    let page = catch_up::page(&*view, user, start, after, PAGE)?;
                    let mut told = CatchUp::default();
                    for changes in page.rooms {
                        told.rooms.push(objects::changes(&*view, user, changes)?);
                    }
                    if let (true, Start::Since(since)) = (first, start) {
                        told.left = catch_up::left(&*view, user, since)?.into_iter().map(|room| room.0).collect();
                    }
                    Ok((told, page.next))
                })
                .await?;
            self.first = false;
            self.after = next;
            self.ended = next.is_none();
            if !page.rooms.is_empty() || !page.left.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }
}
