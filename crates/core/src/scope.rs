//! What a running command sees and may do.

use std::ops::ControlFlow;

use bytes::Bytes;
use ieum_planted::Bug;

use crate::commands::account::check_handle;
use crate::event::{Audience, Event, News};
use crate::ids::{DeviceId, Millis, Position, RoomId, Seq, UserId, compose};
use crate::kv;
use crate::outcome::{Accepted, Reject};
use crate::tables::accounts::{HANDLES, HOLDINGS, Holdings, USERS};
use crate::tables::cell::{COUNTERS, Counters, ONLY, SWEPT, Settings};
use crate::tables::messages::{Body, MESSAGES, Message};
use crate::tables::once::EXPIRY;
use crate::tables::rooms::{AUDIENCES, HEADS, Head, Kind, MEMBERS, Member, RECEIPTS, ROOMS, Receipt, Room, USER_ROOMS};
use crate::txn::Txn;

/// Why a command ended early.
#[derive(Debug)]
pub enum Stop {
    /// It is rejected and has no effect.
    Reject(Reject),
    /// The view engine failed: the node stops.
    Store(kv::Error),
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl From<kv::Error> for Stop {
    fn from(error: kv::Error) -> Self {
        Self::Store(error)
    }
}

/// Result of a step of a command.
pub type Step<T> = Result<T, Stop>;

/// A command's logic.
pub trait Run {
    /// Takes effect through `scope`, or says why not. What it wrote before a rejection is undone.
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted>;
}

/// On whose behalf the running command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A node.
    Node(u32),
    /// A person, through one of their devices.
    Person {
        /// Who.
        user: UserId,
        /// Through which device.
        device: DeviceId,
    },
    /// Somebody not signed in.
    Nobody,
}

/// What a running command sees and may do.
pub struct Scope<'a, 'v> {
    pub(crate) txn: &'a mut Txn<'v>,
    pub(crate) events: &'a mut Vec<Event>,
    pub(crate) actor: Actor,
    pub(crate) position: Position,
    pub(crate) now: Millis,
    pub(crate) settings: &'a Settings,
}

/// Longest name of a person, device or room, in characters.
pub const MAX_NAME: usize = 50;
/// Longest message, in characters.
pub const MAX_TEXT: usize = 10_000;

/// Whether `name` can be a name: 1 to [`MAX_NAME`] characters, no control characters.
pub fn check_name(name: &str) -> Result<(), Reject> {
    // Written out, because what `char::is_control` covers is a table of a library.
    let control = |c: char| c < ' ' || ('\u{7f}'..'\u{a0}').contains(&c);
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(control) {
        return Err(Reject::NameInvalid);
    }
    Ok(())
}

/// Whether `text` can be a message.
pub fn check_text(text: &str) -> Result<(), Reject> {
    match text.chars().count() {
        0 => Err(Reject::TextEmpty),
        1..=MAX_TEXT => Ok(()),
        _ => Err(Reject::TextTooLong),
    }
}

impl<'v> Scope<'_, 'v> {
    /// The person who asks.
    pub(crate) fn person(&self) -> Step<(UserId, DeviceId)> {
        match self.actor {
            Actor::Person { user, device } => Ok((user, device)),
            Actor::Node(_) | Actor::Nobody => Err(Reject::NotAllowed.into()),
        }
    }

    /// Refuses whoever is not a node.
    pub(crate) fn node_only(&self) -> Step<u32> {
        match self.actor {
            Actor::Node(node) => Ok(node),
            Actor::Person { .. } | Actor::Nobody => Err(Reject::NotAllowed.into()),
        }
    }

    /// The view under the running command.
    pub(crate) fn view(&self) -> &Txn<'v> {
        self.txn
    }

    /// Tells `audience`.
    pub(crate) fn tell(&mut self, audience: Audience, news: News) {
        self.events.push(Event { audience, news });
    }

    /// Counts one up and gives the id of the new thing.
    pub(crate) fn count(&mut self, pick: impl FnOnce(&mut Counters) -> &mut u64) -> Step<u64> {
        let mut counters = COUNTERS.get(self.txn, &ONLY)?.unwrap_or(Counters { users: 0, devices: 0, rooms: 0 });
        let counter = pick(&mut counters);
        *counter += 1;
        let id = compose(self.settings.cell, *counter);
        COUNTERS.put(self.txn, &ONLY, &counters);
        Ok(id)
    }

    /// Removes the row at `key` when cell time has reached `at`; `index` says where it was made if it belongs to a change index.
    pub(crate) fn expire(&mut self, at: Millis, key: Vec<u8>, index: Option<Position>) {
        EXPIRY.put(self.txn, &(at, Bytes::from(key)), &index);
    }

    /// Takes back that the row at `key` was to be removed at `at`.
    pub(crate) fn keep_longer(&mut self, at: Millis, key: &[u8]) {
        EXPIRY.remove(self.txn, &(at, Bytes::copy_from_slice(key)));
    }

    /// Changes what `user` holds.
    pub(crate) fn hold(&mut self, user: UserId, change: impl FnOnce(&mut Holdings) -> Result<(), Reject>) -> Step<()> {
        let mut holdings = HOLDINGS.get(self.txn, &user)?.unwrap_or(Holdings { rooms: 0, devices: 0 });
        change(&mut holdings)?;
        HOLDINGS.put(self.txn, &user, &holdings);
        Ok(())
    }

    /// The room and its head, for a member; [`Reject::RoomUnknown`] for anyone else, whether it exists or not.
    pub(crate) fn room_of_member(&self, room: RoomId, user: UserId) -> Step<(Room, Head, Option<Member>)> {
        let about = ROOMS.get(self.txn, &room)?.ok_or(Reject::RoomUnknown)?;
        let member = match about.kind {
            Kind::Direct { low, high } if user == low || user == high => None,
            Kind::Archive { owner } if user == owner => None,
            Kind::Direct { .. } | Kind::Archive { .. } => return Err(Reject::RoomUnknown.into()),
            Kind::Group => Some(MEMBERS.get(self.txn, &(room, user))?.ok_or(Reject::RoomUnknown)?),
        };
        let head = self.head(room)?;
        Ok((about, head, member))
    }

    /// The room's head.
    pub(crate) fn head(&self, room: RoomId) -> Step<Head> {
        Ok(HEADS.get(self.txn, &room)?.unwrap_or_else(Head::start))
    }

    /// Everybody in the room.
    pub(crate) fn audience(&self, room: RoomId, about: &Room) -> Step<Audience> {
        Ok(match about.kind {
            Kind::Direct { low, high } => Audience::Pair(low, high),
            Kind::Archive { owner } => Audience::User(owner),
            Kind::Group => Audience::Users(AUDIENCES.get(self.txn, &room)?.unwrap_or_default().into()),
        })
    }

    /// Everybody in the room who sees its message `seq`: not those who joined later.
    pub(crate) fn audience_of(&self, room: RoomId, about: &Room, seq: Seq) -> Step<Audience> {
        if about.kind != Kind::Group {
            return self.audience(room, about);
        }
        let mut users = Vec::new();
        MEMBERS.within(self.txn, &room, None, |(_, user), member| {
            if member.from <= seq {
                users.push(user);
            }
            ControlFlow::Continue(())
        })?;
        Ok(Audience::Users(users.into()))
    }

    /// Appends a message and tells the room. The sender has read up to their own message; a system message counts for nobody.
    pub(crate) fn append(
        &mut self,
        room: RoomId,
        about: &Room,
        head: &mut Head,
        from: UserId,
        body: Body,
    ) -> Step<Seq> {
        let system = matches!(body, Body::System(_));
        head.last += 1;
        head.counted += u64::from(!system);
        head.last_time = self.now;
        head.message_at = self.position;
        let message = Message { from, time: self.now, at: self.position, counted: head.counted, edited_at: None, body };
        MESSAGES.put(self.txn, &(room, head.last), &message);
        HEADS.put(self.txn, &room, head);
        if !system {
            let receipt = Receipt { seq: head.last, counted: head.counted, at: self.position };
            RECEIPTS.put(self.txn, &(room, from), &receipt);
        }
        let audience = self.audience(room, about)?;
        self.tell(audience, News::Message { room, seq: head.last, message });
        Ok(head.last)
    }

    /// In how many rooms somebody may be for another to bring them into one more.
    pub(crate) fn most_by_others(&self) -> u32 {
        if self.settings.level < OWN_ROOMS_SINCE || Bug::OthersFillRooms.planted() {
            MAX_ROOMS
        } else {
            MAX_ROOMS - OWN_ROOMS
        }
    }

    /// Makes `user`, who must be in fewer than `most` rooms, a member of a group or records the room among theirs, and tells them.
    pub(crate) fn admit(
        &mut self,
        room: RoomId,
        about: &Room,
        head: &Head,
        user: UserId,
        member: &Member,
        most: u32,
    ) -> Step<()> {
        self.hold(user, |h| {
            if h.rooms >= most {
                return Err(Reject::TooManyRooms);
            }
            h.rooms += 1;
            Ok(())
        })?;
        if about.kind == Kind::Group {
            MEMBERS.put(self.txn, &(room, user), member);
            let receipt = Receipt { seq: head.last, counted: head.counted, at: self.position };
            RECEIPTS.put(self.txn, &(room, user), &receipt);
        }
        USER_ROOMS.put(self.txn, &(user, room), &self.position);
        let news =
            News::Joined { room, about: about.clone(), head: head.clone(), from: member.from, role: member.role };
        self.tell(Audience::User(user), news);
        Ok(())
    }

    /// Members of a group, ascending.
    pub(crate) fn members(&self, room: RoomId) -> Step<Vec<UserId>> {
        Ok(AUDIENCES.get(self.txn, &room)?.unwrap_or_default())
    }

    /// Sets the members of a group and how many they are.
    pub(crate) fn set_members(&mut self, room: RoomId, about: &mut Room, members: &[UserId]) {
        about.members = u32::try_from(members.len()).unwrap_or(u32::MAX);
        ROOMS.put(self.txn, &room, about);
        AUDIENCES.put(self.txn, &room, &members.to_vec());
    }

    /// Removes whatever was to be removed by now, at most `limit` rows.
    pub(crate) fn remove_expired(&mut self, limit: usize) -> kv::Result<Option<Position>> {
        let mut due = Vec::new();
        let from = SWEPT.get(self.txn, &ONLY)?.unwrap_or(0);
        EXPIRY.range(self.txn, &from, &self.now.saturating_add(1), kv::Direction::Forward, |key, index| {
            due.push((key, index));
            if due.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        // Nothing is ever made due before now, and cell time never goes back: so nothing comes to lie before this.
        if let Some(((last, _), _)) = due.last() {
            SWEPT.put(self.txn, &ONLY, last);
        }
        let mut horizon = None;
        for (key, index) in due {
            self.txn.set(key.1.to_vec(), None);
            EXPIRY.remove(self.txn, &key);
            horizon = horizon.max(index);
        }
        Ok(horizon)
    }
}

/// How a command names a person.
pub(crate) trait Named {
    /// Who it is; none for nobody's name.
    fn find(&self, scope: &Scope<'_, '_>) -> Step<Option<UserId>>;
}

/// A handle: only who knows it can name its owner.
impl Named for String {
    fn find(&self, scope: &Scope<'_, '_>) -> Step<Option<UserId>> {
        // Looked at first, so that no key is made of what somebody sends.
        if check_handle(self).is_err() {
            return Ok(None);
        }
        Ok(HANDLES.get(scope.view(), self)?)
    }
}

/// An id, in the commands of level 1. Ids are counted, so anybody can name everybody by one.
impl Named for UserId {
    fn find(&self, scope: &Scope<'_, '_>) -> Step<Option<UserId>> {
        Ok(USERS.has(scope.view(), self)?.then_some(*self))
    }
}

/// Most rooms that a person may be in.
pub const MAX_ROOMS: u32 = 10_000;
/// Of those, how many are kept for rooms that a person opens: others bring one into rooms only below [`MAX_ROOMS`] less this. So nobody
/// can be kept from opening rooms by those who make groups with them.
pub const OWN_ROOMS: u32 = 2_000;
/// The level from which [`OWN_ROOMS`] counts.
const OWN_ROOMS_SINCE: u32 = 2;
/// Most members of a group room.
pub const MAX_MEMBERS: usize = 3_000;
/// Most people named in one command.
pub const MAX_PEOPLE: usize = 100;
/// Most devices of an account.
pub const MAX_DEVICES: u32 = 20;

impl Head {
    /// The head of a room without messages.
    #[must_use]
    pub fn start() -> Self {
        let nowhere = Position::default();
        Self { last: 0, counted: 0, last_time: 0, message_at: nowhere, change_at: nowhere, receipt_at: nowhere }
    }
}
