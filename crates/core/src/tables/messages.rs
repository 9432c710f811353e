//! What was said.

use crate::codec::{choice, record};
use crate::ids::{Millis, Position, RoomId, Seq, UserId};
use crate::tables::Table;
use crate::tables::rooms::Role;

record! {
    /// An entry of a room.
    pub struct Message {
        /// Who sent it, or did what a system message tells.
        pub from: UserId,
        /// When, in cell time; for an archived message the original time.
        pub time: Millis,
        /// Where it was applied.
        pub at: Position,
        /// How many messages up to this one count as unread ones.
        pub counted: u64,
        /// When it was edited last.
        pub edited_at: Option<Millis>,
        /// What it says.
        pub body: Body,
    }
}

choice! {
    /// What a message says.
    pub enum Body {
        /// Text, perhaps in reply to an earlier message.
        0 => Text { text: String, reply_to: Option<Seq>, },
        /// Deleted for everyone.
        1 => Deleted,
        /// What happened to the room.
        2 => System(System),
        /// Imported; the author is a label and no account.
        3 => Archived { author: String, kind: String, text: String, },
    }
}

choice! {
    /// What happened to a room.
    pub enum System {
        /// It was made.
        0 => Created,
        /// People were invited.
        1 => Invited { users: Vec<UserId>, },
        /// The sender left.
        2 => Left,
        /// The sender removed somebody.
        3 => Removed { user: UserId, },
        /// The sender renamed it.
        4 => Renamed { name: String, },
        /// The sender gave somebody a role, or left it to them.
        5 => RoleGiven { user: UserId, role: Role, },
    }
}

/// Messages.
pub const MESSAGES: Table<(RoomId, Seq), Message> = Table::new(30);
/// Change index: messages edited or deleted.
pub const CHANGES: Table<(RoomId, Position, Seq), bool> = Table::new(31);
/// The keys of an archive's entries.
pub const ARCHIVE_KEYS: Table<(RoomId, [u8; 16]), Seq> = Table::new(32);
