//! What makes commands take effect exactly once, and what is removed when its time has come.

use bytes::Bytes;

use crate::codec::record;
use crate::ids::{DeviceId, Millis, Position};
use crate::outcome::Outcome;
use crate::tables::Table;

record! {
    /// A numbered command of a device and its outcome.
    pub struct Slot {
        /// Its number.
        pub number: u64,
        /// The random id that the device gave it.
        pub id: [u8; 16],
        /// What it gave.
        pub outcome: Outcome,
    }
}

record! {
    /// A change asked for over HTTP and its outcome.
    pub struct Answered {
        /// Digest of the request, so that the key is not used for another.
        pub request: [u8; 16],
        /// What it gave.
        pub outcome: Outcome,
    }
}

/// How many of a device's latest outcomes are kept.
pub const SLOTS: u64 = 64;

/// The last [`SLOTS`] outcomes of a device, at number modulo [`SLOTS`].
pub const OUTCOMES: Table<(DeviceId, u8), Slot> = Table::new(40);
/// Outcomes by device (0 before there is one) and idempotency key.
pub const IDEMPOTENCY: Table<(DeviceId, [u8; 16]), Answered> = Table::new(41);
/// Rows to remove when cell time reaches the key's time; the key's rest is theirs. For an entry of a change index the value says
/// where it was made.
pub const EXPIRY: Table<(Millis, Bytes), Option<Position>> = Table::new(42);
