//! What devices are told because of an outcome.

use std::sync::Arc;

use crate::ids::{DeviceId, Position, RoomId, Seq, UserId};
use crate::tables::messages::Message;
use crate::tables::rooms::{Head, Role, Room};

/// Something to tell, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose devices are told.
    pub audience: Audience,
    /// What they are told.
    pub news: News,
}

/// Whose devices an event is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Both people of a direct room.
    Pair(UserId, UserId),
    /// These people.
    Users(Arc<[UserId]>),
    /// One person.
    User(UserId),
    /// One device.
    Device(DeviceId),
}

impl Audience {
    /// The people, in no particular order; none for a single device.
    pub fn users(&self) -> impl Iterator<Item = UserId> + '_ {
        let (pair, many): ([Option<UserId>; 2], &[UserId]) = match self {
            Self::Pair(a, b) => ([Some(*a), Some(*b)], &[]),
            Self::Users(users) => ([None, None], users),
            Self::User(user) => ([Some(*user), None], &[]),
            Self::Device(_) => ([None, None], &[]),
        };
        pair.into_iter().flatten().chain(many.iter().copied())
    }
}

/// What devices are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A new message.
    Message {
        /// In which room.
        room: RoomId,
        /// Its number there.
        seq: Seq,
        /// The message.
        message: Message,
    },
    /// A message was edited or deleted.
    Changed {
        /// In which room.
        room: RoomId,
        /// Its number there.
        seq: Seq,
        /// The message as it is now.
        message: Message,
    },
    /// Somebody has read further.
    Receipt {
        /// In which room.
        room: RoomId,
        /// Who.
        user: UserId,
        /// Up to and including this message.
        seq: Seq,
    },
    /// The person is now in a room.
    Joined {
        /// Which.
        room: RoomId,
        /// What it is.
        about: Room,
        /// Where it stands.
        head: Head,
        /// The first message that they see.
        from: Seq,
        /// What they may do there.
        role: Role,
    },
    /// The person is no longer in a room.
    Left {
        /// Which.
        room: RoomId,
    },
    /// The person's archive has grown.
    Archived {
        /// Which.
        room: RoomId,
        /// Its last message.
        last: Seq,
    },
    /// The device was logged out.
    LoggedOut,
    /// The person's devices changed.
    Devices,
    /// The person's own profile changed.
    Profile {
        /// The new name.
        name: String,
    },
}

/// What an operator must hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// A command's apply panicked; it had no effect.
    Panicked {
        /// In which batch.
        position: Position,
        /// Which command of it, from 0.
        index: u32,
        /// What kind of command.
        command: &'static str,
        /// What the panic said.
        message: String,
    },
    /// A batch that is not one of ours; it had no effect.
    MalformedBatch {
        /// Where it stands.
        position: Position,
        /// What is wrong with it.
        message: &'static str,
    },
    /// A batch of a node that is no member; it had no effect.
    NotAMember {
        /// Where it stands.
        position: Position,
        /// Who appended it.
        node: u32,
    },
}
