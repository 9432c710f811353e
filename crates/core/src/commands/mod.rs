//! What can be asked of a cell: one file per family, this list the table of contents.
//!
//! A command's number and bytes never change once a log holds them. What a later version adds is a new number with a higher
//! level; a cell whose active level is below it answers [`Reject::Unsupported`] on every node. So does one whose active level is above
//! the last that a command has: it is there for the logs that hold it.

pub mod account;
pub mod archive;
pub mod device;
pub mod group;
pub mod message;
pub mod operate;
pub mod receipt;
pub mod room;

use std::ops::RangeInclusive;

use bytes::Bytes;
use ieum_planted::Bug;

use crate::codec::{Code, Malformed, Reader, put_varint};
use crate::outcome::{Accepted, Reject};
use crate::scope::{Run, Scope, Step};

/// The highest level that this build knows. What each brings: `docs/operating/levels.md`.
pub const LEVEL: u32 = 2;

macro_rules! commands {
    ($($(#[$doc:meta])* $number:literal level $level:literal $(..= $last:literal)? $name:ident($kind:ty),)*) => {
        /// A request to change the cell.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Command {
            $($(#[$doc])* $name($kind),)*
            /// One that this build does not know or cannot read. It is carried as it is and rejected.
            Unknown {
                /// Its number.
                number: u64,
                /// Its bytes.
                bytes: Bytes,
            },
        }

        impl Code for Command {
            fn put(&self, out: &mut Vec<u8>) {
                let (number, body): (u64, Bytes) = match self {
                    $(Self::$name(command) => ($number, command.to_bytes().into()),)*
                    Self::Unknown { number, bytes } => (*number, bytes.clone()),
                };
                put_varint(out, number);
                body.put(out);
            }

            fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                let number = from.varint()?;
                let length = from.length(1)?;
                let body = from.bytes(length)?;
                let known = match number {
                    $($number => <$kind>::from_bytes(body).ok().map(Self::$name),)*
                    _ => None,
                };
                Ok(known.unwrap_or_else(|| Self::Unknown { number, bytes: Bytes::copy_from_slice(body) }))
            }
        }

        impl Command {
            /// The name that alarms give it; `Unknown` for one that this build does not know.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                    Self::Unknown { .. } => "Unknown",
                }
            }

            /// The levels at which a cell takes this command; `None` for an unknown one.
            #[must_use]
            pub fn levels(&self) -> Option<RangeInclusive<u32>> {
                match self {
                    $(Self::$name(_) => Some($level..=last_level(&[$($last)?])),)*
                    Self::Unknown { .. } => None,
                }
            }
        }

        impl Run for Command {
            fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
                match self {
                    $(Self::$name(command) => command.run(scope),)*
                    Self::Unknown { .. } => Err(Reject::Unsupported.into()),
                }
            }
        }

        $(impl From<$kind> for Command {
            fn from(command: $kind) -> Self {
                Self::$name(command)
            }
        })*
    };
}

/// The last level of a command that has one.
fn last_level(named: &[u32]) -> u32 {
    if Bug::OldOpenStays.planted() { u32::MAX } else { named.first().copied().unwrap_or(u32::MAX) }
}

commands! {
    /// A second of a node's monotonic clock has passed.
    1 level 0 Tick(operate::Tick),
    /// A node becomes a member.
    2 level 0 AddNode(operate::AddNode),
    /// A node is no longer a member.
    3 level 0 RemoveNode(operate::RemoveNode),
    /// A node has started: what it knows and signs with.
    4 level 0 StartNode(operate::StartNode),
    /// A level becomes active.
    5 level 0 Activate(operate::Activate),
    /// The cell's settings change.
    6 level 1 Configure(operate::Configure),
    /// People may register with a code.
    7 level 1 AddInvitation(operate::AddInvitation),

    /// A new account with its first device.
    10 level 1 Register(account::Register),
    /// The person changes their name.
    11 level 1 SetName(account::SetName),
    /// The person changes their password.
    12 level 1 SetPassword(account::SetPassword),
    /// Somebody who knew the password gets a new device.
    13 level 1 AddDevice(device::AddDevice),
    /// A device is logged out.
    14 level 1 LogOut(device::LogOut),

    /// Opens the room of two people, the other named by id.
    20 level 1..=1 OpenDirectById(room::OpenDirectById),
    /// Makes a group room of people named by id.
    21 level 1..=1 CreateGroupById(group::CreateGroupById),
    /// Brings people named by id into a group.
    22 level 1..=1 InviteById(group::InviteById),
    /// The person leaves a group.
    23 level 1 Leave(group::Leave),
    /// A manager removes a member.
    24 level 1 Remove(group::Remove),
    /// A manager renames the group.
    25 level 1 Rename(group::Rename),
    /// The owner gives a role.
    26 level 1 GiveRole(group::GiveRole),
    /// Opens the room of two people.
    27 level 2 OpenDirect(room::OpenDirect),
    /// Makes a group room.
    28 level 2 CreateGroup(group::CreateGroup),
    /// Brings people into a group.
    29 level 2 Invite(group::Invite),

    /// Says something.
    30 level 1 Send(message::Send),
    /// Says it better.
    31 level 1 Edit(message::Edit),
    /// Takes it back for everyone.
    32 level 1 Delete(message::Delete),
    /// Has read.
    33 level 1 Read(receipt::Read),

    /// Opens an archive room.
    40 level 1 OpenArchive(archive::OpenArchive),
    /// Adds entries to an archive room.
    41 level 1 AddToArchive(archive::AddToArchive),
}
