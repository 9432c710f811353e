//! Conversations, their members and how far each has read.

use crate::codec::{choice, record};
use crate::ids::{Millis, Position, RoomId, Seq, UserId};
use crate::tables::Table;

choice! {
    /// What kind of room it is.
    #[derive(Copy)]
    pub enum Kind {
        /// Two people; there is one such room per pair.
        0 => Direct { low: UserId, high: UserId, },
        /// Up to 3,000 people with an owner and managers.
        1 => Group,
        /// One person's read-only import from elsewhere.
        2 => Archive { owner: UserId, },
    }
}

choice! {
    /// What a member may do.
    #[derive(Copy, PartialOrd, Ord)]
    pub enum Role {
        /// Talk, invite, leave.
        0 => Member,
        /// Also remove members and rename the room.
        1 => Manager,
        /// Also give roles.
        2 => Owner,
    }
}

record! {
    /// What rarely changes about a room.
    pub struct Room {
        /// What kind of room it is.
        pub kind: Kind,
        /// Its name; empty for a direct room.
        pub name: String,
        /// When it was made.
        pub created_at: Millis,
        /// How many members it has.
        pub members: u32,
    }
}

record! {
    /// What changes about a room with every message.
    pub struct Head {
        /// The last message's seq; 0 before the first.
        pub last: Seq,
        /// How many messages count as unread ones (all but system messages).
        pub counted: u64,
        /// When the last message was sent.
        pub last_time: Millis,
        /// Where the last message was applied.
        pub message_at: Position,
        /// Where a message was last edited or deleted.
        pub change_at: Position,
        /// Where a receipt last moved.
        pub receipt_at: Position,
    }
}

record! {
    /// A user in a room.
    pub struct Member {
        /// What they may do.
        pub role: Role,
        /// The first message that they see.
        pub from: Seq,
        /// When they joined.
        pub joined_at: Millis,
    }
}

record! {
    /// How far a member has read.
    pub struct Receipt {
        /// Every message up to this one.
        pub seq: Seq,
        /// How many messages up to there count as unread ones.
        pub counted: u64,
        /// Where it moved last.
        pub at: Position,
    }
}

/// Rooms.
pub const ROOMS: Table<RoomId, Room> = Table::new(20);
/// The fast-changing part of rooms.
pub const HEADS: Table<RoomId, Head> = Table::new(21);
/// The direct room of a pair, lower id first.
pub const DIRECT: Table<(UserId, UserId), RoomId> = Table::new(22);
/// Members.
pub const MEMBERS: Table<(RoomId, UserId), Member> = Table::new(23);
/// The rooms of a user, and where they became a member.
pub const USER_ROOMS: Table<(UserId, RoomId), Position> = Table::new(24);
/// How far members have read.
pub const RECEIPTS: Table<(RoomId, UserId), Receipt> = Table::new(25);
/// All members of a group room in one row, ascending, so that sending reads its audience at once.
pub const AUDIENCES: Table<RoomId, Vec<UserId>> = Table::new(26);
/// Archive rooms by owner and the source's key.
pub const ARCHIVES: Table<(UserId, [u8; 16]), RoomId> = Table::new(27);
/// Change index: rooms that a user left.
pub const DEPARTURES: Table<(UserId, Position, RoomId), bool> = Table::new(28);
