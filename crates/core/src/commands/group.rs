//! Group rooms.

use std::collections::BTreeSet;

use ieum_planted::Bug;

use crate::codec::record;
use crate::commands::receipt::MAX_TOLD_RECEIPTS;
use crate::event::{Audience, News};
use crate::ids::{RoomId, UserId};
use crate::outcome::{Accepted, Reject};
use crate::scope::{MAX_MEMBERS, MAX_PEOPLE, MAX_ROOMS, Named, Run, Scope, Step, check_name};
use crate::tables::accounts::HOLDINGS;
use crate::tables::messages::{Body, System};
use crate::tables::rooms::{
    DEPARTURES, HEADS, Head, Kind, MEMBERS, Member, RECEIPTS, ROOMS, Receipt, Role, Room, USER_ROOMS,
};

record! {
    /// Makes a group room with its first members; who asks is its owner.
    pub struct CreateGroup {
        /// Its name.
        pub name: String,
        /// The other members' handles, at most 100; repeats and the asker count once.
        pub members: Vec<String>,
    }
}

record! {
    /// [`CreateGroup`] as level 1 has it.
    pub struct CreateGroupById {
        /// Its name.
        pub name: String,
        /// The other members, at most 100; repeats and the asker count once.
        pub members: Vec<UserId>,
    }
}

record! {
    /// Brings people into a group. Any member may.
    pub struct Invite {
        /// Which group.
        pub room: RoomId,
        /// Their handles, at most 100; those who are in it already, or in as many rooms as others may bring one into, are passed over.
        pub users: Vec<String>,
    }
}

record! {
    /// [`Invite`] as level 1 has it.
    pub struct InviteById {
        /// Which group.
        pub room: RoomId,
        /// Whom, at most 100; those who are in it already, or in as many rooms as one may be, are passed over.
        pub users: Vec<UserId>,
    }
}

record! {
    /// The person leaves a group. An owner's place goes to a manager, or to whoever has been there longest.
    pub struct Leave {
        /// Which group.
        pub room: RoomId,
    }
}

record! {
    /// A member is removed by somebody of a higher role.
    pub struct Remove {
        /// Which group.
        pub room: RoomId,
        /// Whom.
        pub user: UserId,
    }
}

record! {
    /// The owner or a manager renames the group.
    pub struct Rename {
        /// Which group.
        pub room: RoomId,
        /// The new name.
        pub name: String,
    }
}

record! {
    /// The owner gives a member a role. Giving the owner's role away leaves the giver a manager.
    pub struct GiveRole {
        /// Which group.
        pub room: RoomId,
        /// To whom.
        pub user: UserId,
        /// Which role.
        pub role: Role,
    }
}

/// A group as one of its members has it.
struct Group {
    id: RoomId,
    about: Room,
    head: Head,
    /// The asker.
    me: UserId,
    role: Role,
}

impl Group {
    fn of(scope: &Scope<'_, '_>, id: RoomId) -> Step<Self> {
        let (me, _) = scope.person()?;
        let (about, head, member) = scope.room_of_member(id, me)?;
        let role = member.ok_or(Reject::WrongRoomKind)?.role;
        Ok(Self { id, about, head, me, role })
    }

    /// Says in the room what happened to it.
    fn say(&mut self, scope: &mut Scope<'_, '_>, what: System) -> Step<()> {
        scope.append(self.id, &self.about, &mut self.head, self.me, Body::System(what))?;
        Ok(())
    }

    fn member(&self, scope: &Scope<'_, '_>, user: UserId) -> Step<Member> {
        Ok(MEMBERS.get(scope.view(), &(self.id, user))?.ok_or(Reject::NotAMember)?)
    }

    fn set_role(&self, scope: &mut Scope<'_, '_>, user: UserId, role: Role) -> Step<()> {
        let member = self.member(scope, user)?;
        MEMBERS.put(scope.txn, &(self.id, user), &Member { role, ..member });
        Ok(())
    }

    /// Takes `user` out and tells them; who stays is told by the system message that follows.
    fn take_out(&mut self, scope: &mut Scope<'_, '_>, user: UserId) -> Step<Vec<UserId>> {
        let mut members = scope.members(self.id)?;
        if !Bug::RemovedMemberReceives.planted() {
            members.retain(|member| *member != user);
        }
        scope.set_members(self.id, &mut self.about, &members);
        MEMBERS.remove(scope.txn, &(self.id, user));
        RECEIPTS.remove(scope.txn, &(self.id, user));
        if self.about.members == MAX_TOLD_RECEIPTS {
            self.tell_receipts(scope, &members)?;
        }
        USER_ROOMS.remove(scope.txn, &(user, self.id));
        scope.hold(user, |h| {
            h.rooms = h.rooms.saturating_sub(1);
            Ok(())
        })?;
        let departure = (user, scope.position, self.id);
        DEPARTURES.put(scope.txn, &departure, &true);
        let (at, position) = (scope.now.saturating_add(scope.settings.horizon), scope.position);
        scope.expire(at, DEPARTURES.key(&departure), Some(position));
        scope.tell(Audience::User(user), News::Left { room: self.id });
        Ok(members)
    }

    /// The group has just become small enough for receipts to be told: those that moved before are told now, to those who are there
    /// and, as moved here, to those who catch up later.
    fn tell_receipts(&mut self, scope: &mut Scope<'_, '_>, members: &[UserId]) -> Step<()> {
        let everybody: std::sync::Arc<[UserId]> = members.into();
        for user in members {
            if let Some(receipt) = RECEIPTS.get(scope.view(), &(self.id, *user))? {
                let seq = receipt.seq;
                RECEIPTS.put(scope.txn, &(self.id, *user), &Receipt { at: scope.position, ..receipt });
                let news = News::Receipt { room: self.id, user: *user, seq };
                scope.tell(Audience::Users(std::sync::Arc::clone(&everybody)), news);
            }
        }
        self.head.receipt_at = scope.position;
        Ok(())
    }

    /// Lets `users` in, who are not in it, and gives those who were. They see messages from the one that tells of it. Who is in `most`
    /// rooms is passed over, so that one person cannot keep the others out; when that leaves nobody it is refused.
    fn let_in(&mut self, scope: &mut Scope<'_, '_>, users: &[UserId], role: Role, most: u32) -> Step<Vec<UserId>> {
        let mut members = scope.members(self.id)?;
        if members.len() + users.len() > MAX_MEMBERS {
            return Err(Reject::RoomFull.into());
        }
        let mut entering = Vec::with_capacity(users.len());
        for user in users {
            if HOLDINGS.get(scope.view(), user)?.is_none_or(|h| h.rooms < most) {
                entering.push(*user);
            }
        }
        if entering.is_empty() {
            return Err(Reject::TooManyRooms.into());
        }
        members.extend_from_slice(&entering);
        members.sort_unstable();
        scope.set_members(self.id, &mut self.about, &members);
        let member = Member { role, from: self.head.last + 1, joined_at: scope.now };
        for user in &entering {
            scope.admit(self.id, &self.about, &self.head, *user, &member, most)?;
        }
        Ok(entering)
    }
}

/// The people named, each once, ascending, all of them known.
fn named(scope: &Scope<'_, '_>, names: &[impl Named]) -> Step<Vec<UserId>> {
    if names.len() > MAX_PEOPLE {
        return Err(Reject::TooMany.into());
    }
    let mut users = Vec::with_capacity(names.len());
    for name in names {
        users.push(name.find(scope)?.ok_or(Reject::UserUnknown)?);
    }
    if Bug::HashMapIteration.planted() {
        #[allow(clippy::disallowed_types, reason = "the planted bug is this very iteration")]
        let set: std::collections::HashSet<UserId> = users.into_iter().collect();
        return Ok(set.into_iter().collect());
    }
    Ok(users.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
}

impl Run for CreateGroup {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        create(scope, &self.name, &self.members)
    }
}

impl Run for CreateGroupById {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        create(scope, &self.name, &self.members)
    }
}

fn create(scope: &mut Scope<'_, '_>, name: &str, members: &[impl Named]) -> Step<Accepted> {
    let (me, _) = scope.person()?;
    check_name(name)?;
    let mut others = named(scope, members)?;
    others.retain(|user| *user != me);
    let id = RoomId(scope.count(|c| &mut c.rooms)?);
    let about = Room { kind: Kind::Group, name: name.to_owned(), created_at: scope.now, members: 0 };
    let mut group = Group { id, about, head: Head::start(), me, role: Role::Owner };
    HEADS.put(scope.txn, &id, &group.head);
    group.let_in(scope, &[me], Role::Owner, MAX_ROOMS)?;
    if !others.is_empty() {
        others = group.let_in(scope, &others, Role::Member, scope.most_by_others())?;
    }
    group.say(scope, System::Created)?;
    if !others.is_empty() {
        group.say(scope, System::Invited { users: others })?;
    }
    Ok(Accepted::Room { room: id, created: true })
}

impl Run for Invite {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        invite(scope, self.room, &self.users)
    }
}

impl Run for InviteById {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        invite(scope, self.room, &self.users)
    }
}

fn invite(scope: &mut Scope<'_, '_>, room: RoomId, people: &[impl Named]) -> Step<Accepted> {
    let mut group = Group::of(scope, room)?;
    let mut users = Vec::new();
    for user in named(scope, people)? {
        if !MEMBERS.has(scope.view(), &(room, user))? {
            users.push(user);
        }
    }
    if users.is_empty() {
        return Ok(Accepted::Invited { added: 0 });
    }
    let users = group.let_in(scope, &users, Role::Member, scope.most_by_others())?;
    let added = users.len() as u64;
    group.say(scope, System::Invited { users })?;
    Ok(Accepted::Invited { added })
}

impl Run for Leave {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let mut group = Group::of(scope, self.room)?;
        let me = group.me;
        let rest = group.take_out(scope, me)?;
        group.say(scope, System::Left)?;
        if group.role == Role::Owner
            && let Some(heir) = heir(scope, self.room, &rest)?
        {
            group.set_role(scope, heir, Role::Owner)?;
            group.say(scope, System::RoleGiven { user: heir, role: Role::Owner })?;
        }
        Ok(Accepted::Done)
    }
}

/// Who owns the group after its owner: the highest role, then the longest there, then the lowest id.
fn heir(scope: &Scope<'_, '_>, room: RoomId, rest: &[UserId]) -> Step<Option<UserId>> {
    let mut best = None;
    for user in rest {
        if let Some(member) = MEMBERS.get(scope.view(), &(room, *user))? {
            best = best.max(Some((member.role, std::cmp::Reverse((member.joined_at, member.from, *user)))));
        }
    }
    Ok(best.map(|(_, std::cmp::Reverse((_, _, user)))| user))
}

impl Run for Remove {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let mut group = Group::of(scope, self.room)?;
        if self.user == group.me {
            return Err(Reject::NotYourself.into());
        }
        let member = group.member(scope, self.user)?;
        if group.role <= member.role {
            return Err(Reject::NotAllowed.into());
        }
        group.take_out(scope, self.user)?;
        group.say(scope, System::Removed { user: self.user })?;
        Ok(Accepted::Done)
    }
}

impl Run for Rename {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let mut group = Group::of(scope, self.room)?;
        check_name(&self.name)?;
        if group.role < Role::Manager {
            return Err(Reject::NotAllowed.into());
        }
        group.about.name.clone_from(&self.name);
        ROOMS.put(scope.txn, &self.room, &group.about);
        group.say(scope, System::Renamed { name: self.name.clone() })?;
        Ok(Accepted::Done)
    }
}

impl Run for GiveRole {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let mut group = Group::of(scope, self.room)?;
        if group.role != Role::Owner {
            return Err(Reject::NotAllowed.into());
        }
        if self.user == group.me {
            return Err(Reject::NotYourself.into());
        }
        group.set_role(scope, self.user, self.role)?;
        if self.role == Role::Owner {
            let me = group.me;
            group.set_role(scope, me, Role::Manager)?;
        }
        group.say(scope, System::RoleGiven { user: self.user, role: self.role })?;
        Ok(Accepted::Done)
    }
}

#[cfg(test)]
mod tests;
