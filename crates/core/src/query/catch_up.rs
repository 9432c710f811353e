//! What a device missed: everything of its owner's rooms that changed behind its cursor.
//!
//! ```text
//!   cursor C ─────────────────────────► S, where the snapshot stands
//!            (C, S]: messages by their own position, edits and deletes by the change index, rooms left by theirs
//! ```
//!
//! Rooms come by id, in pages of bounded weight, so that a catch-up of any length can go on where the last page ended, in the middle of
//! a room too. The next page may be read from a later look: what changed between the two is told now or by the round that starts at the
//! first look, because all of it has a later position. A cursor older than the change indexes reach, or of another life of the log, gets everything: a resync.

use std::ops::ControlFlow;

use ieum_planted::Bug;

use crate::commands::receipt::MAX_TOLD_RECEIPTS;
use crate::ids::{Position, RoomId, Seq, UserId};
use crate::kv::{self, Direction, Read};
use crate::query::{self, Mine, receipts, room};
use crate::tables::cell::{APPLIED, ENDS, HORIZON, ONLY};
use crate::tables::messages::{CHANGES, MESSAGES, Message};
use crate::tables::rooms::{DEPARTURES, HEADS, Head, Kind, Receipt, USER_ROOMS};

/// What changed in one room, or a part of it: a page that is full goes on with the same room.
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
    /// Go on here; `None` when this was the last page.
    pub next: Option<Place>,
}

/// Where the next page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind this room.
    Behind(RoomId),
    /// In this room.
    Within {
        /// Which.
        room: RoomId,
        /// Its first new message that is told.
        first: Seq,
        /// What comes next of it.
        rest: Rest,
    },
}

/// What is still to be told of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// New messages from this one on, then the changed ones.
    Messages(Seq),
    /// Changed messages behind this row of the change index.
    Changed(Position, Seq),
}

/// How much a page may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rooms looked at.
    pub rooms: usize,
    /// New messages per room; the latest ones.
    pub messages: usize,
    /// What a page may weigh. One with a single message may weigh more by as much as that message does.
    pub weight: usize,
    /// What a room weighs without what is told of it.
    pub room: usize,
    /// What a receipt weighs.
    pub receipt: usize,
    /// What a message weighs.
    pub message: fn(&Message) -> usize,
}

/// Messages with their seqs, ascending.
type Messages = Vec<(Seq, Message)>;

/// Rows of the change index that one page looks at, at most.
const CHANGES_AT_ONCE: usize = 500;

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
    let is_ahead = cursor.generation == applied.generation && cursor.ordinal > applied.ordinal;
    let kept = !is_ahead && !is_lost(view, cursor)?;
    let since =
        if Bug::CatchUpOneLate.planted() { Position::new(cursor.generation, cursor.ordinal + 1) } else { cursor };
    Ok(if kept && cursor >= horizon { Start::Since(since) } else { Start::Resync })
}

/// Whether a position lies behind where its generation ended, so that what was told of it is lost.
///
/// # Errors
/// When the view fails.
pub fn is_lost(view: &(impl Read + ?Sized), position: Position) -> kv::Result<bool> {
    let applied = APPLIED.get(view, &ONLY)?.map_or(Position::default(), |a| a.position);
    let goes_on = position.generation == applied.generation;
    Ok(!goes_on && ENDS.get(view, &position.generation)?.is_none_or(|end| position > end.position))
}

/// Whether the change indexes still reach back to where a catch-up began. Asked of every look but the first, because they are shortened
/// while it is under way.
pub fn reaches(view: &(impl Read + ?Sized), start: Start) -> kv::Result<bool> {
    let Start::Since(since) = start else { return Ok(true) };
    Ok(HORIZON.get(view, &ONLY)?.is_none_or(|horizon| since >= horizon))
}

/// What changed for `user` behind `start`, from `place` on.
pub fn page(
    view: &(impl Read + ?Sized),
    user: UserId,
    start: Start,
    place: Option<Place>,
    limits: Limits,
) -> kv::Result<Page> {
    let (since, all) = match start {
        Start::Resync => (Position::default(), true),
        Start::Since(since) => (since, false),
    };
    let mut teller = Teller { view, user, since, all, limits, left: limits.weight, any: false, rooms: Vec::new() };
    let mut behind = None;
    match place {
        None => {}
        Some(Place::Behind(room)) => behind = Some(room),
        Some(Place::Within { room, first, rest }) => {
            if let Some(next) = teller.go_on(room, first, rest)? {
                return Ok(Page { rooms: teller.rooms, next: Some(next) });
            }
            behind = Some(room);
        }
    }
    let mut ids = Vec::new();
    USER_ROOMS.within(view, &user, behind.map(|room| (user, room)).as_ref(), |(_, id), joined| {
        ids.push((id, joined));
        if ids.len() < limits.rooms.max(1) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let last = if ids.len() < limits.rooms.max(1) { None } else { ids.last().map(|(id, _)| Place::Behind(*id)) };
    for (id, joined) in ids {
        match teller.room(id, joined)? {
            Told::Whole => behind = Some(id),
            Told::Part(next) => return Ok(Page { rooms: teller.rooms, next: Some(next) }),
            Told::Nothing => return Ok(Page { rooms: teller.rooms, next: behind.map(Place::Behind) }),
        }
    }
    Ok(Page { rooms: teller.rooms, next: last })
}

/// How much of a room a page took.
enum Told {
    /// All that there is to tell.
    Whole,
    /// Not all; the rest begins here.
    Part(Place),
    /// Nothing: the page, which holds other rooms, is full.
    Nothing,
}

/// A page being filled.
struct Teller<'v, V: ?Sized> {
    view: &'v V,
    user: UserId,
    since: Position,
    /// Everything is told, whatever the device has.
    all: bool,
    limits: Limits,
    /// What the page may still take.
    left: usize,
    /// It holds a message, so that the next one can wait for the next page.
    any: bool,
    rooms: Vec<Changes>,
}

impl<V: Read + ?Sized> Teller<'_, V> {
    fn takes(&mut self, weight: usize, first: bool) -> bool {
        let takes = first || weight <= self.left || Bug::CatchUpPageUnbounded.planted();
        if takes {
            self.left = self.left.saturating_sub(weight);
        }
        takes
    }

    /// Takes the beginning of `messages` and says whether that is all of them.
    fn takes_messages(&mut self, messages: &mut Vec<(Seq, Message)>) -> Option<Seq> {
        let mut taken = 0;
        for (_, message) in &*messages {
            if !self.takes((self.limits.message)(message), !self.any) {
                break;
            }
            self.any = true;
            taken += 1;
        }
        let next = messages.get(taken).map(|(seq, _)| *seq);
        messages.truncate(taken);
        next
    }

    /// Tells of a room from its beginning.
    fn room(&mut self, id: RoomId, joined: Position) -> kv::Result<Told> {
        let (view, since, limits) = (self.view, self.since, self.limits);
        let fresh = self.all || joined > since;
        let head = HEADS.get(view, &id)?.unwrap_or_else(Head::start);
        if !fresh && head.message_at.max(head.change_at).max(head.receipt_at) <= since {
            return Ok(Told::Whole);
        }
        let Some(mine) = room(view, self.user, id)? else { return Ok(Told::Whole) };
        let archive = matches!(mine.about.kind, Kind::Archive { .. });
        let (mut messages, gap) = if archive || head.message_at <= since {
            (Vec::new(), archive && mine.head.last > 0)
        } else {
            new_messages(view, &mine, since, limits.messages)?
        };
        // A room begins with its first message in the same page: a gap says what is missing before it.
        let begins = limits.room + messages.first().map_or(0, |(_, message)| (limits.message)(message));
        if begins > self.left && !self.rooms.is_empty() && !Bug::CatchUpPageUnbounded.planted() {
            return Ok(Told::Nothing);
        }
        self.takes(limits.room, true);
        let first = messages.first().map_or(Seq::MAX, |(seq, _)| *seq);
        let mut rest = self.takes_messages(&mut messages).map(Rest::Messages);
        let (mut changed, mut receipts) = (Vec::new(), Vec::new());
        if rest.is_none() {
            receipts = self.receipts(&mine, fresh)?;
            if !fresh && head.change_at > since {
                (changed, rest) = self.changed(&mine, first, (since, Seq::MAX))?;
            }
        }
        self.rooms.push(Changes { mine, fresh, messages, gap, changed, receipts });
        Ok(rest.map_or(Told::Whole, |rest| Told::Part(Place::Within { room: id, first, rest })))
    }

    /// Tells more of a room that the page before has begun with.
    fn go_on(&mut self, id: RoomId, first: Seq, rest: Rest) -> kv::Result<Option<Place>> {
        let Some(mine) = room(self.view, self.user, id)? else { return Ok(None) };
        let joined = USER_ROOMS.get(self.view, &(self.user, id))?;
        let fresh = self.all || joined.is_none_or(|joined| joined > self.since);
        self.takes(self.limits.room, true);
        let mut told =
            Changes { mine, fresh: false, messages: Vec::new(), gap: false, changed: Vec::new(), receipts: Vec::new() };
        let mut next = None;
        let mut behind = Some((self.since, Seq::MAX)).filter(|_| !fresh);
        match rest {
            Rest::Changed(at, seq) => behind = Some((at, seq)),
            Rest::Messages(from) => {
                let page = query::Page::After(from.saturating_sub(1));
                told.messages = query::messages(self.view, &told.mine, page, self.limits.messages)?;
                next = self.takes_messages(&mut told.messages).map(Rest::Messages);
                if next.is_none() {
                    told.receipts = self.receipts(&told.mine, fresh)?;
                }
            }
        }
        if let (None, Some(behind)) = (next, behind) {
            (told.changed, next) = self.changed(&told.mine, first, behind)?;
        }
        self.rooms.push(told);
        Ok(next.map(|rest| Place::Within { room: id, first, rest }))
    }

    /// Receipts that moved, in rooms small enough to tell them; all of them where the device holds nothing of the room. They come with the room's last new message: to have written one is to have
    /// read up to it, so a device that took them earlier could set them back.
    fn receipts(&mut self, mine: &Mine, fresh: bool) -> kv::Result<Vec<(UserId, Seq)>> {
        if mine.about.members > MAX_TOLD_RECEIPTS || matches!(mine.about.kind, Kind::Archive { .. }) {
            return Ok(Vec::new());
        }
        let since = if fresh { Position::default() } else { self.since };
        let moved = moved(receipts(self.view, mine)?, since);
        self.takes(moved.len() * self.limits.receipt, true);
        Ok(moved)
    }

    /// Messages before `first_new` that were edited or deleted behind a row of the change index, and where to go on.
    fn changed(
        &mut self,
        mine: &Mine,
        first_new: Seq,
        behind: (Position, Seq),
    ) -> kv::Result<(Messages, Option<Rest>)> {
        let mut rows = Vec::new();
        CHANGES.within(self.view, &mine.id, Some(&(mine.id, behind.0, behind.1)), |(_, at, seq), _| {
            rows.push((at, seq));
            if rows.len() < CHANGES_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let more = rows.len() == CHANGES_AT_ONCE;
        let mut found = std::collections::BTreeMap::new();
        let mut last = behind;
        for (at, seq) in rows {
            if (mine.member.from..first_new).contains(&seq)
                && !found.contains_key(&seq)
                && let Some(message) = MESSAGES.get(self.view, &(mine.id, seq))?
            {
                if !self.takes((self.limits.message)(&message), !self.any) {
                    return Ok((found.into_iter().collect(), Some(Rest::Changed(last.0, last.1))));
                }
                self.any = true;
                found.insert(seq, message);
            }
            last = (at, seq);
        }
        Ok((found.into_iter().collect(), more.then_some(Rest::Changed(last.0, last.1))))
    }
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

/// Rooms that a person left, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departures {
    /// The rooms, ascending.
    pub rooms: Vec<RoomId>,
    /// Go on behind this departure; `None` when these were the last.
    pub next: Option<(Position, RoomId)>,
}

/// Rooms that `user` left behind a departure and is not in now, from at most `limit` departures. To begin with, `behind` is the cursor
/// and the highest room.
pub fn left(
    view: &(impl Read + ?Sized),
    user: UserId,
    behind: (Position, RoomId),
    limit: usize,
) -> kv::Result<Departures> {
    let mut departures = Vec::new();
    DEPARTURES.within(view, &user, Some(&(user, behind.0, behind.1)), |(_, at, room), _| {
        departures.push((at, room));
        if departures.len() < limit.max(1) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let next = if departures.len() < limit.max(1) { None } else { departures.last().copied() };
    let rooms: std::collections::BTreeSet<RoomId> = departures.into_iter().map(|(_, room)| room).collect();
    let mut gone = Vec::new();
    for room in rooms {
        if !USER_ROOMS.has(view, &(user, room))? {
            gone.push(room);
        }
    }
    Ok(Departures { rooms: gone, next })
}

#[cfg(test)]
mod tests;
