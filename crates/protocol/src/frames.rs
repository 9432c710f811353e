//! The frames of a session: JSON objects with one member, whose name says what the frame is.
//!
//! ```text
//!  client                                server
//!    hello {device, secret, cursor}  ──►
//!                                    ◄──  welcome {n, pos, …}
//!                                    ◄──  catch_up {…} …         what changed behind the cursor
//!                                    ◄──  caught_up {pos}        the cursor moves here; the live stream begins
//!    cmd {n, id, do}                 ──►
//!                                    ◄──  ack {n, pos, …}        durable, ordered, applied: the outcome
//!                                    ◄──  events {pos, list}     the cursor moves here
//!    ping {id}                       ──►
//!                                    ◄──  pong {id, pos}         in the stream: the cursor moves here
//!    typing {room}                   ──►
//!                                    ◄──  typing {room, user}    somebody else's; may be lost
//! ```

use serde::{Deserialize, Serialize};

use crate::Pos;
use crate::errors::Problem;
use crate::objects::{Message, Receipt, Role, Room};

/// From a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientFrame {
    /// Who is there; the first frame.
    Hello(Hello),
    /// A numbered command.
    Cmd(Cmd),
    /// Are you there?
    Ping(Ping),
    /// The person types in a room. Nothing answers it. Only for servers whose [`Welcome::takes`] names [`TYPING`](crate::TYPING).
    Typing(Typing),
}

/// The person types in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Typing {
    /// Which.
    pub room: u64,
}

/// Who is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The device's id.
    pub device: u64,
    /// The device's secret.
    pub secret: String,
    /// Up to where the client has the stream; none for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Pos>,
    /// The highest position that the client has seen anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Pos>,
    /// The client's name and version, for the operator's logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// A numbered command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cmd {
    /// 1, 2, 3 … for the device's life.
    pub n: u64,
    /// Random, 32 lowercase hexadecimal digits; the same in every retry.
    pub id: String,
    /// What is asked for.
    #[serde(rename = "do")]
    pub change: Change,
}

/// A change that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Say something.
    Send {
        /// Where.
        room: u64,
        /// What, 1 to 10,000 characters.
        text: String,
        /// In reply to which message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<u64>,
    },
    /// Say it better.
    Edit {
        /// Where.
        room: u64,
        /// Which message.
        seq: u64,
        /// What it says now.
        text: String,
    },
    /// Take it back for everyone.
    Delete {
        /// Where.
        room: u64,
        /// Which message.
        seq: u64,
    },
    /// Have read.
    Read {
        /// Where.
        room: u64,
        /// Up to and including this message.
        seq: u64,
    },
    /// Open the room with one other person.
    OpenDirect {
        /// Their handle.
        handle: String,
    },
    /// Make a group.
    CreateGroup {
        /// Its name.
        name: String,
        /// Its other members' handles, at most 100.
        #[serde(default)]
        handles: Vec<String>,
    },
    /// Bring people into a group.
    Invite {
        /// Which group.
        room: u64,
        /// Their handles, at most 100.
        handles: Vec<String>,
    },
    /// Leave a group.
    Leave {
        /// Which group.
        room: u64,
    },
    /// Remove a member.
    Remove {
        /// From which group.
        room: u64,
        /// Whom.
        user: u64,
    },
    /// Rename a group.
    Rename {
        /// Which group.
        room: u64,
        /// The new name.
        name: String,
    },
    /// Give a role.
    GiveRole {
        /// In which group.
        room: u64,
        /// To whom.
        user: u64,
        /// Which.
        role: Role,
    },
    /// Change one's own name.
    SetName {
        /// The new name.
        name: String,
    },
    /// Log a device of one's own out.
    LogOut {
        /// Which.
        device: u64,
    },
    /// Open the archive of a conversation elsewhere.
    OpenArchive {
        /// Names the conversation for its owner: 32 lowercase hexadecimal digits.
        key: String,
        /// What its owner sees.
        name: String,
    },
    /// Add entries to an archive.
    AddToArchive {
        /// Which.
        room: u64,
        /// At most 500; those with a known key are passed over.
        entries: Vec<ArchiveEntry>,
    },
}

/// An entry for an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ArchiveEntry {
    /// Names the entry in its archive: 32 lowercase hexadecimal digits.
    pub key: String,
    /// The original time.
    pub time: u64,
    /// Who wrote it, at most 200 characters.
    pub author: String,
    /// `text`, `photo`, `file` …
    pub kind: String,
    /// What it says, at most 10,000 characters.
    pub text: String,
}

/// Are you there?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ping {
    /// Comes back in the pong.
    pub id: u64,
}

/// From a server. A client passes over frames that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerFrame {
    /// Signed in.
    Welcome(Welcome),
    /// What changed behind the cursor; as many of these as it takes.
    CatchUp(CatchUp),
    /// The catch-up is complete.
    CaughtUp {
        /// The cursor moves here.
        pos: Pos,
    },
    /// The live stream.
    Events {
        /// The cursor moves here.
        pos: Pos,
        /// What happened, in order.
        list: Vec<Event>,
    },
    /// A command's outcome.
    Ack(Ack),
    /// A command that was not taken: its number is still unused.
    Refused {
        /// Its number.
        n: u64,
        /// Where this server stands. Does not move the cursor.
        pos: Pos,
        /// Why.
        error: Problem,
    },
    /// Yes.
    Pong {
        /// From the ping.
        id: u64,
        /// The cursor moves here.
        pos: Pos,
    },
    /// The cell's servers are others than before.
    Endpoints {
        /// Those that take clients now, this one among them, as in [`Welcome::endpoints`].
        list: Vec<String>,
    },
    /// Somebody else types in a room; shown for [`TYPING_SHOWN_MS`](crate::TYPING_SHOWN_MS).
    Typing {
        /// Where.
        room: u64,
        /// Who.
        user: u64,
    },
    /// The session ends here: why, and whether to come back.
    Bye(Problem),
}

/// Signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The last number that this device has used.
    pub n: u64,
    /// What the cell has applied here.
    pub pos: Pos,
    /// Whose device this is.
    pub user: u64,
    /// Whether the client's copy is void: the catch-up that follows holds everything.
    pub resync: bool,
    /// Other servers of the cell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// Frames that this server takes beyond those of version 0.1.0, by name. An older server names none, and would end the session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub takes: Vec<String>,
}

/// What changed behind a cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct CatchUp {
    /// Rooms with changes.
    pub rooms: Vec<RoomChanges>,
    /// Rooms that the person is no longer in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<u64>,
}

/// What changed in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomChanges {
    /// The room as it is now.
    pub room: Room,
    /// What the client holds of the room from before is void.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// New messages, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// Before `messages` there are more new ones; page them in over HTTP when somebody looks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gap: bool,
    /// Older messages that changed, as they are now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<Message>,
    /// Receipts that moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<Receipt>,
}

/// A command's outcome: exactly one of `ok` and `error` is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The command's number.
    pub n: u64,
    /// Where the outcome is known from. Does not move the cursor.
    pub pos: Pos,
    /// It took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<Done>,
    /// It was rejected; its number is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// What an accepted command gave; the members that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Done {
    /// The room that was opened or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<u64>,
    /// Whether the room is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<bool>,
    /// The message's number, or an archive's last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The message's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<u64>,
    /// How many people or entries were added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<u64>,
    /// How many entries were there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<u64>,
}

/// Something that happened. A client passes over events that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A new message.
    Message {
        /// Where.
        room: u64,
        /// The message.
        #[serde(flatten)]
        message: Message,
    },
    /// A message was edited or deleted.
    Changed {
        /// Where.
        room: u64,
        /// The message as it is now.
        #[serde(flatten)]
        message: Message,
    },
    /// Somebody has read further.
    Receipt {
        /// Where.
        room: u64,
        /// Who.
        user: u64,
        /// Up to and including this message.
        seq: u64,
    },
    /// You are in a room now.
    Joined {
        /// Which.
        room: Room,
    },
    /// You are no longer in a room.
    Left {
        /// Which.
        room: u64,
    },
    /// An archive of yours has grown.
    Archived {
        /// Which.
        room: u64,
        /// Its last entry.
        last: u64,
    },
    /// Your devices changed.
    Devices {},
    /// Your profile changed.
    Profile {
        /// Your new name.
        name: String,
    },
}
