//! Rows and events to what clients read.

use bytes::Bytes;
use ieum_core::event::News;
use ieum_core::ids::{RoomId, Seq, UserId};
use ieum_core::kv::{self, Read};
use ieum_core::query::Mine;
use ieum_core::query::catch_up::Changes;
use ieum_core::tables::accounts::USERS;
use ieum_core::tables::messages::{Body, Message, System};
use ieum_core::tables::rooms::{Kind, Member, Role};
use ieum_protocol::frames::{Event, RoomChanges};
use ieum_protocol::objects;

/// A person as others see them; nobody when the id is nobody's.
pub fn person(view: &impl Read, user: UserId) -> kv::Result<objects::Person> {
    let row = USERS.get(view, &user)?;
    let (handle, name) = row.map_or_else(Default::default, |row| (row.handle, row.name));
    Ok(objects::Person { id: user.0, handle, name })
}

/// A room as `me` has it.
pub fn room(view: &impl Read, me: UserId, mine: &Mine) -> kv::Result<objects::Room> {
    let (kind, peer) = match mine.about.kind {
        Kind::Direct { low, high } => (objects::RoomKind::Direct, Some(if me == low { high } else { low })),
        Kind::Group => (objects::RoomKind::Group, None),
        Kind::Archive { .. } => (objects::RoomKind::Archive, None),
    };
    Ok(objects::Room {
        id: mine.id.0,
        kind,
        name: mine.about.name.clone(),
        peer: peer.map(|peer| person(view, peer)).transpose()?,
        members: mine.about.members,
        role: role(mine.member.role),
        from: mine.member.from,
        last: mine.head.last,
        last_time: mine.head.last_time,
        read: mine.receipt.as_ref().map_or(0, |r| r.seq),
        unread: mine.unread(),
    })
}

/// A member of a room.
pub fn member(view: &impl Read, user: UserId, member: &Member) -> kv::Result<objects::Member> {
    Ok(objects::Member { person: person(view, user)?, role: role(member.role), joined_at: member.joined_at })
}

fn role(role: Role) -> objects::Role {
    match role {
        Role::Member => objects::Role::Member,
        Role::Manager => objects::Role::Manager,
        Role::Owner => objects::Role::Owner,
    }
}

/// A message.
#[must_use]
pub fn message(seq: Seq, message: Message) -> objects::Message {
    let mut told = objects::Message {
        seq,
        from: message.from.0,
        time: message.time,
        text: None,
        reply_to: None,
        edited_at: message.edited_at,
        deleted: false,
        system: None,
        archived: None,
        unread: None,
    };
    match message.body {
        Body::Text { text, reply_to } => (told.text, told.reply_to) = (Some(text), reply_to),
        Body::Deleted => told.deleted = true,
        Body::System(what) => told.system = Some(system(what)),
        Body::Archived { author, kind, text } => told.archived = Some(objects::Archived { author, kind, text }),
    }
    told
}

/// At most so many bytes a message takes as JSON.
#[must_use]
pub fn weight(message: &Message) -> usize {
    // Its numbers and the names of its members.
    const FRAME: usize = 256;
    let said = match &message.body {
        Body::Text { text, .. } => escaped(text),
        Body::Deleted => 0,
        Body::System(System::Invited { users }) => users.len() * 21,
        Body::System(System::Renamed { name }) => escaped(name),
        Body::System(_) => 0,
        Body::Archived { author, kind, text } => escaped(author) + escaped(kind) + escaped(text),
    };
    FRAME + said
}

/// How many bytes a text takes as JSON, between its quotes.
fn escaped(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | 0x08 | 0x09 | 0x0a | 0x0c | 0x0d => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum()
}

fn system(what: System) -> objects::System {
    match what {
        System::Created => objects::System::Created,
        System::Invited { users } => objects::System::Invited { users: users.into_iter().map(|u| u.0).collect() },
        System::Left => objects::System::Left,
        System::Removed { user } => objects::System::Removed { user: user.0 },
        System::Renamed { name } => objects::System::Renamed { name },
        System::RoleGiven { user, role: given } => objects::System::RoleGiven { user: user.0, role: role(given) },
    }
}

/// What changed in a room behind a cursor.
pub fn changes(view: &impl Read, me: UserId, changes: Changes) -> kv::Result<RoomChanges> {
    let told = |list: Vec<(Seq, Message)>| list.into_iter().map(|(seq, m)| message(seq, m)).collect();
    Ok(RoomChanges {
        room: room(view, me, &changes.mine)?,
        fresh: changes.fresh,
        messages: told(changes.messages),
        gap: changes.gap,
        changed: told(changes.changed),
        receipts: changes.receipts.into_iter().map(|(user, seq)| objects::Receipt { user: user.0, seq }).collect(),
    })
}

/// The event that tells of `news`, encoded; none for what is no event of the stream. `me` and `view` are needed for what is told to
/// one person only.
pub fn event(news: News, me: Option<UserId>, view: &impl Read) -> kv::Result<Option<Bytes>> {
    let event = match news {
        News::Message { room, seq, message: m } => Event::Message { room: room.0, message: message(seq, m) },
        News::Changed { room, seq, message: m } => Event::Changed { room: room.0, message: message(seq, m) },
        News::Receipt { room, user, seq } => Event::Receipt { room: room.0, user: user.0, seq },
        News::Joined { room: id, about, head, from, role: given } => {
            let joined_at = about.created_at;
            let mine = Mine { id, about, head, member: Member { role: given, from, joined_at }, receipt: None };
            let me = me.unwrap_or_default();
            // Nothing before `from` is theirs to read, so nothing is unread.
            let told = objects::Room { unread: 0, read: from.saturating_sub(1), ..room(view, me, &mine)? };
            Event::Joined { room: told }
        }
        News::Left { room: RoomId(room) } => Event::Left { room },
        News::Archived { room, last } => Event::Archived { room: room.0, last },
        News::Devices => Event::Devices {},
        News::Profile { name } => Event::Profile { name },
        News::LoggedOut => return Ok(None),
    };
    Ok(Some(serde_json::to_vec(&event).unwrap_or_default().into()))
}
