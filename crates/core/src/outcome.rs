//! What applying a command gave: the same on every node, kept so that a retry is answered again.

use crate::codec::{Code, Malformed, Reader, choice};
use crate::ids::{DeviceId, Millis, RoomId, Seq, UserId};

choice! {
    /// The outcome of a command.
    pub enum Outcome {
        /// It took effect.
        0 => Accepted(Accepted),
        /// It had no effect.
        1 => Rejected(Reject),
    }
}

choice! {
    /// What an accepted command gave.
    pub enum Accepted {
        /// Nothing beyond having taken effect.
        0 => Done,
        /// A new account with its first device.
        1 => Registered { user: UserId, device: DeviceId, },
        /// A new device of the account.
        2 => DeviceAdded { device: DeviceId, },
        /// The room that was made or found.
        3 => Room { room: RoomId, created: bool, },
        /// A message has its place.
        4 => Sent { seq: Seq, time: Millis, },
        /// Entries of an archive: how many were new, how many were there already.
        5 => Archived { added: u64, known: u64, last: Seq, },
        /// How many people were added to the room.
        6 => Invited { added: u64, },
    }
}

macro_rules! rejects {
    ($($(#[$doc:meta])* $tag:literal $code:literal $variant:ident,)*) => {
        /// Why a command was rejected: a stable number in the log, a stable word towards clients.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reject { $($(#[$doc])* $variant,)* }

        impl Reject {
            /// Every reason there is.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The stable word that clients see.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }
        }

        impl Code for Reject {
            fn put(&self, out: &mut Vec<u8>) {
                let tag: u16 = match self { $(Self::$variant => $tag,)* };
                tag.put(out);
            }
            fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                match u16::take(from)? {
                    $($tag => Ok(Self::$variant),)*
                    _ => Err(Malformed("unknown reason")),
                }
            }
        }
    };
}

rejects! {
    /// The command is newer than the cell's active level, or was not understood.
    1 "unsupported" Unsupported,
    /// Applying it failed by a bug; it had no effect.
    2 "internal" Internal,
    /// The number was used before with another id.
    3 "number_reused" NumberReused,
    /// The number is below the last 64: its outcome is no longer kept.
    4 "too_old" TooOld,
    /// The number is beyond the next one. Does not use up the number.
    5 "out_of_order" OutOfOrder,
    /// The device was logged out or never existed. Does not use up a number.
    6 "device_unknown" DeviceUnknown,
    /// The idempotency key was used before with another request.
    7 "idempotency_key_reused" KeyReused,
    /// There is no such room, or the asker may not know of it.
    8 "room_unknown" RoomUnknown,
    /// There is no such person.
    9 "user_unknown" UserUnknown,
    /// There is no such message, or the asker may not see it.
    10 "message_unknown" MessageUnknown,
    /// The asker's role does not allow it.
    11 "not_allowed" NotAllowed,
    /// Somebody has this handle.
    12 "handle_taken" HandleTaken,
    /// A handle is 3 to 30 characters of a-z, 0-9, `_` and `.`.
    13 "handle_invalid" HandleInvalid,
    /// A name is 1 to 50 characters without control characters.
    14 "name_invalid" NameInvalid,
    /// The text is empty.
    15 "text_empty" TextEmpty,
    /// The text is over 10,000 characters.
    16 "text_too_long" TextTooLong,
    /// The room has its 3,000 members.
    17 "room_full" RoomFull,
    /// The time to edit is over.
    18 "edit_too_late" EditTooLate,
    /// The time to delete for everyone is over.
    19 "delete_too_late" DeleteTooLate,
    /// The message was deleted.
    20 "message_deleted" MessageDeleted,
    /// This kind of room does not know this.
    21 "wrong_room_kind" WrongRoomKind,
    /// More people, entries or bytes in one command than it takes.
    22 "too_many" TooMany,
    /// The invitation code is unknown or used up.
    23 "invitation_invalid" InvitationInvalid,
    /// The password changed since it was checked.
    24 "password_changed" PasswordChanged,
    /// The account has as many devices as one may have.
    25 "too_many_devices" TooManyDevices,
    /// The account is in as many rooms as one may be.
    26 "too_many_rooms" TooManyRooms,
    /// The node is not a member, or is one already.
    27 "node_unknown" NodeUnknown,
    /// The level is beyond what some member knows, or the active one beyond what the node knows.
    28 "level_too_high" LevelTooHigh,
    /// A person cannot do this to themself.
    29 "not_yourself" NotYourself,
    /// The person is not a member of the room.
    30 "not_a_member" NotAMember,
    /// Skipped by the operator.
    31 "skipped" Skipped,
    /// A value is out of its range.
    32 "invalid" Invalid,
}

impl Reject {
    /// Whether the outcome leaves the device's number unused.
    #[must_use]
    pub fn leaves_number_unused(self) -> bool {
        matches!(self, Self::OutOfOrder | Self::DeviceUnknown)
    }
}

#[cfg(test)]
mod tests;
