//! What a device missed: everything of its owner's rooms that changed behind its cursor.
//!
//! ```text
//!   cursor C ─────────────────────────► S, where the snapshot stands
//!            (C, S]: messages by their own position, edits and deletes by the change index, rooms left by theirs
//! ```
//!
//! Rooms come by id, so that a long catch-up can go on behind the last one. A cursor older than the change indexes reach, or of
//! another life of the log, gets everything: a resync.

use std::ops::ControlFlow;

use ieum_planted::Bug;

use crate::commands::receipt::MAX_TOLD_RECEIPTS;
use crate::ids::{Position, RoomId, Seq, UserId};
use crate::kv::{self, Direction, Read};
use crate::query::{Mine, receipts, room};
use crate::tables::cell::{APPLIED, ENDS, HORIZON, ONLY};
use crate::tables::messages::{CHANGES, MESSAGES, Message};
use crate::tables::rooms::{DEPARTURES, HEADS, Head, Kind, Receipt, USER_ROOMS};

/// What changed in one room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The room as it is now.
    pub mine: Mine,
    /// Whether the person came into it behind the cursor; what a device holds of it from before is void.
    pub fresh: bool,
    /// New messages, ascending. When `gap` is set there are older new ones, to be paged in.
    pub messages: Vec<(Seq, Message)>,
    /// Whether new messages older than `messages` were left out.
    pub gap: bool,
    /// Older messages that were edited or deleted, as they are now.
    pub changed: Vec<(Seq, Message)>,
    /// Receipts that moved, in rooms small enough to tell them.
    pub receipts: Vec<(UserId, Seq)>,
}

/// One page of a catch-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What changed, by room.
    pub rooms: Vec<Changes>,
    /// Go on behind this room; `None` when this was the last page.
    pub next: Option<RoomId>,
}

/// How much a page may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rooms looked at.
    pub rooms: usize,
    /// New messages per room; the latest ones.
    pub messages: usize,
}

/// Where a catch-up from `cursor` starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Behind the cursor: what follows is all that changed.
    Since(Position),
    /// From nothing: the cursor is too old or of a lost life of the log.
    Resync,
}

/// Decides how a device with `cursor` is brought up to the view.
pub fn start(view: &(impl Read + ?Sized), cursor: Option<Position>) -> kv::Result<Start> {
    let Some(cursor) = cursor else { return Ok(Start::Resync) };
    let applied = APPLIED.get(view, &ONLY)?.map_or(Position::default(), |a| a.position);
    let horizon = HORIZON.get(view, &ONLY)?.unwrap_or_default();
    let kept = if cursor.generation == applied.generation {
        cursor.ordinal <= applied.ordinal
    } else {
        ENDS.get(view, &cursor.generation)?.is_some_and(|end| cursor <= end.position)
    };
    let since =
        if Bug::CatchUpOneLate.planted() { Position::new(cursor.generation, cursor.ordinal + 1) } else { cursor };
    Ok(if kept && cursor >= horizon { Start::Since(since) } else { Start::Resync })
}

/// What changed for `user` behind `start`, in rooms behind `after`.
pub fn page(
    view: &(impl Read + ?Sized),
    user: UserId,
    start: Start,
    after: Option<RoomId>,
    limits: Limits,
) -> kv::Result<Page> {
    let mut ids = Vec::new();
    USER_ROOMS.within(view, &user, after.map(|a| (user, a)).as_ref(), |(_, id), since| {
        ids.push((id, since));
        if ids.len() < limits.rooms.max(1) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let next = if ids.len() < limits.rooms.max(1) { None } else { ids.last().map(|(id, _)| *id) };
    let mut rooms = Vec::new();
    for (id, joined) in ids {
        rooms.extend(changes(view, user, start, id, joined, limits)?);
    }
    Ok(Page { rooms, next })
}

fn changes(
    view: &(impl Read + ?Sized),
    user: UserId,
    start: Start,
    id: RoomId,
    joined: Position,
    limits: Limits,
) -> kv::Result<Option<Changes>> {
    let (since, fresh) = match start {
        Start::Resync => (Position::default(), true),
        Start::Since(since) => (since, joined > since),
    };
    let head = HEADS.get(view, &id)?.unwrap_or_else(Head::start);
    if !fresh && head.message_at.max(head.change_at).max(head.receipt_at) <= since {
        return Ok(None);
    }
    let Some(mine) = room(view, user, id)? else { return Ok(None) };
    let archive = matches!(mine.about.kind, Kind::Archive { .. });
    let (messages, gap) = if archive || head.message_at <= since {
        (Vec::new(), archive && mine.head.last > 0)
    } else {
        new_messages(view, &mine, since, limits.messages)?
    };
    let first_new = messages.first().map_or(Seq::MAX, |(seq, _)| *seq);
    let changed = if fresh || head.change_at <= since { Vec::new() } else { changed(view, &mine, since, first_new)? };
    let told = mine.about.members <= MAX_TOLD_RECEIPTS && !archive;
    let receipts = if told { moved(receipts(view, &mine)?, since) } else { Vec::new() };
    Ok(Some(Changes { mine, fresh, messages, gap, changed, receipts }))
}

fn moved(receipts: Vec<(UserId, Receipt)>, since: Position) -> Vec<(UserId, Seq)> {
    receipts.into_iter().filter(|(_, r)| r.at > since).map(|(user, r)| (user, r.seq)).collect()
}

/// The latest messages behind `since`, and whether there are more of them before those.
fn new_messages(
    view: &(impl Read + ?Sized),
    mine: &Mine,
    since: Position,
    limit: usize,
) -> kv::Result<(Vec<(Seq, Message)>, bool)> {
    let mut found = Vec::new();
    let mut gap = false;
    let range = ((mine.id, mine.member.from), (mine.id, Seq::MAX));
    MESSAGES.range(view, &range.0, &range.1, Direction::Backward, |(_, seq), message| {
        if message.at <= since {
            return ControlFlow::Break(());
        }
        if found.len() >= limit {
            gap = true;
            return ControlFlow::Break(());
        }
        found.push((seq, message));
        ControlFlow::Continue(())
    })?;
    found.reverse();
    Ok((found, gap))
}

/// Messages before `first_new` that were edited or deleted behind `since`.
fn changed(
    view: &(impl Read + ?Sized),
    mine: &Mine,
    since: Position,
    first_new: Seq,
) -> kv::Result<Vec<(Seq, Message)>> {
    let mut seqs = std::collections::BTreeSet::new();
    let from = (mine.id, Position::new(since.generation, since.ordinal.saturating_add(1)), 0u64);
    let to = (mine.id, Position::new(u32::MAX, u64::MAX), 0u64);
    CHANGES.range(view, &from, &to, Direction::Forward, |(_, _, seq), _| {
        seqs.insert(seq);
        ControlFlow::Continue(())
    })?;
    let mut found = Vec::new();
    for seq in seqs.range(mine.member.from..).filter(|seq| **seq < first_new) {
        found.extend(MESSAGES.get(view, &(mine.id, *seq))?.map(|message| (*seq, message)));
    }
    Ok(found)
}

/// Rooms that `user` left behind `since` and is not in now, ascending.
pub fn left(view: &(impl Read + ?Sized), user: UserId, since: Position) -> kv::Result<Vec<RoomId>> {
    let mut rooms = std::collections::BTreeSet::new();
    let from = (user, Position::new(since.generation, since.ordinal.saturating_add(1)));
    let to = (user, Position::new(u32::MAX, u64::MAX));
    DEPARTURES.range(view, &from, &to, Direction::Forward, |(_, _, room), _| {
        rooms.insert(room);
        ControlFlow::Continue(())
    })?;
    let mut gone = Vec::new();
    for room in rooms {
        if !USER_ROOMS.has(view, &(user, room))? {
            gone.push(room);
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests;
