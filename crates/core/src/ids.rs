//! What things of a cell are called: numbers counted by the cell, unique in the whole country.

use std::fmt;
use std::str::FromStr;

use crate::codec::{Code, Malformed, Reader};

/// Bits of an id that count within a cell; the bits above hold the cell's number, and the whole fits the 53 bits that every
/// JSON reader keeps.
const COUNTER_BITS: u32 = 40;

/// The largest cell number.
pub const MAX_CELL: u16 = (1 << (53 - COUNTER_BITS)) - 1;

/// The id that the `counter`-th thing (1, 2, 3 …) of `cell` gets.
#[must_use]
pub fn compose(cell: u16, counter: u64) -> u64 {
    (u64::from(cell) << COUNTER_BITS) | counter
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl Code for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                u64::take(from).map(Self)
            }
        }
    };
}

id!(
    /// A person's account.
    UserId
);
id!(
    /// One installation of a client, signed in to one account.
    DeviceId
);
id!(
    /// A conversation.
    RoomId
);

/// A node's number within its cell, 1 and up.
pub type NodeId = u32;

/// Milliseconds since 1970-01-01 UTC, in cell time.
pub type Millis = u64;

/// A message's dense number in its room, 1 and up.
pub type Seq = u64;

/// Where a batch stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// One life of the log.
    pub generation: u32,
    /// Dense within a generation; 0 is the place before the first batch.
    pub ordinal: u64,
}

impl Position {
    /// A position.
    #[must_use]
    pub const fn new(generation: u32, ordinal: u64) -> Self {
        Self { generation, ordinal }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.ordinal)
    }
}

impl FromStr for Position {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bad = Malformed("a position is written generation.ordinal");
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let (generation, ordinal) = text.split_once('.').filter(|(g, o)| digits(g) && digits(o)).ok_or(bad)?;
        Ok(Self { generation: generation.parse().map_err(|_| bad)?, ordinal: ordinal.parse().map_err(|_| bad)? })
    }
}

impl Code for Position {
    fn put(&self, out: &mut Vec<u8>) {
        self.generation.put(out);
        self.ordinal.put(out);
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { generation: Code::take(from)?, ordinal: Code::take(from)? })
    }
}

#[cfg(test)]
mod tests;
