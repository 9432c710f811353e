//! What people's devices are told.

use ieum_core::tables::rooms::Role;

/// Something that a person's devices are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Message {
        room: u64,
        seq: u64,
    },
    /// The message as it is from this change on.
    Changed {
        room: u64,
        seq: u64,
        version: usize,
    },
    Receipt {
        room: u64,
        user: u64,
        seq: u64,
    },
    Joined {
        room: u64,
        from: u64,
        last: u64,
        role: Role,
        members: u32,
    },
    Left {
        room: u64,
    },
    Archived {
        room: u64,
        last: u64,
    },
    Devices,
    Profile {
        name: String,
    },
}
