//! What frames and bodies are made of.

use serde::{Deserialize, Serialize};

/// A person as others see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Person {
    /// Their id.
    pub id: u64,
    /// What they are found by: 3 to 30 of a-z, 0-9, `_`, `.`.
    pub handle: String,
    /// What they are called.
    pub name: String,
}

/// What kind of room it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    /// Two people.
    Direct,
    /// Up to 3,000 people.
    Group,
    /// A read-only import from elsewhere.
    Archive,
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Talk, invite, leave.
    Member,
    /// Also remove members and rename the room.
    Manager,
    /// Also give roles.
    Owner,
}

/// A room as one of its members has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Room {
    /// Its id.
    pub id: u64,
    /// What kind it is.
    pub kind: RoomKind,
    /// Its name; empty for a direct room.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The other person of a direct room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Person>,
    /// How many members it has.
    pub members: u32,
    /// What you may do.
    pub role: Role,
    /// The first message that you see.
    pub from: u64,
    /// The last message; 0 before the first.
    pub last: u64,
    /// When the last message was sent; 0 before the first.
    pub last_time: u64,
    /// Up to which message you have read.
    pub read: u64,
    /// How many messages you have not read.
    pub unread: u64,
}

/// An entry of a room. Exactly one of `text`, `deleted`, `system`, `archived` says what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Message {
    /// Its dense number in the room.
    pub seq: u64,
    /// Who sent it, or did what `system` tells.
    pub from: u64,
    /// When.
    pub time: u64,
    /// What it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Which message it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<u64>,
    /// When it was edited last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<u64>,
    /// It was deleted for everyone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// What happened to the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<System>,
    /// An imported entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<Archived>,
    /// How many of those who see it have not read it; only where somebody asked for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<u64>,
}

/// What happened to a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// It was made.
    Created,
    /// People were invited.
    Invited {
        /// Whom.
        users: Vec<u64>,
    },
    /// The sender left.
    Left,
    /// The sender removed somebody.
    Removed {
        /// Whom.
        user: u64,
    },
    /// The sender renamed the room.
    Renamed {
        /// The new name.
        name: String,
    },
    /// The sender gave somebody a role, or left it to them.
    RoleGiven {
        /// To whom.
        user: u64,
        /// Which.
        role: Role,
    },
}

/// An imported entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Archived {
    /// Who wrote it: a label, no account.
    pub author: String,
    /// `text`, `photo`, `file` …
    pub kind: String,
    /// What it says.
    pub text: String,
}

/// A user in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Member {
    /// Who.
    pub person: Person,
    /// What they may do.
    pub role: Role,
    /// When they joined.
    pub joined_at: u64,
}

/// How far a member has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Receipt {
    /// Who.
    pub user: u64,
    /// Up to and including this message.
    pub seq: u64,
}

/// One installation of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Device {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// When it was added.
    pub added_at: u64,
    /// Whether it is the one that asks.
    pub this: bool,
}
