//! The cell itself: where its view stands, its time, its nodes, its counters and settings.

use crate::codec::record;
use crate::ids::{Millis, NodeId, Position};
use crate::tables::Table;

record! {
    /// Where a view stands: written in the same write set as the rows of that position.
    pub struct Applied {
        /// The last position applied.
        pub position: Position,
        /// The rolling digest of all write sets up to there.
        pub digest: [u8; 32],
    }
}

record! {
    /// What the cell is set to.
    pub struct Settings {
        /// The cell's number, part of every id.
        pub cell: u16,
        /// The active level: what commands and rules are understood.
        pub level: u32,
        /// How long a message may be edited.
        pub edit_limit: Millis,
        /// How long a message may be deleted for everyone.
        pub delete_limit: Millis,
        /// How long change indexes reach back; older cursors get a full resync.
        pub horizon: Millis,
    }
}

record! {
    /// A member node.
    pub struct Node {
        /// Its data center's name.
        pub dc: String,
        /// The last incarnation that logged anything.
        pub incarnation: u64,
        /// The number of the last batch of that incarnation.
        pub number: u64,
        /// The highest level that it knows.
        pub level: u32,
    }
}

record! {
    /// How far a node had come that is no member any more, so that its old batches stay repeats when it is added again.
    pub struct Former {
        /// Its last incarnation.
        pub incarnation: u64,
        /// The number of the last batch of that incarnation.
        pub number: u64,
    }
}

record! {
    /// The cell's clock.
    pub struct Clock {
        /// Cell time; never goes back.
        pub now: Millis,
        /// What each data center said last.
        pub stamps: Vec<Stamp>,
    }
}

record! {
    /// What a data center's nodes said of the time.
    pub struct Stamp {
        /// The data center's name.
        pub dc: String,
        /// The clock in its latest batch.
        pub clock: Millis,
        /// Ticks that each node elsewhere has logged since.
        pub ticks: Vec<(NodeId, u32)>,
    }
}

record! {
    /// How many of a kind were made, for the next id.
    pub struct Counters {
        /// Accounts.
        pub users: u64,
        /// Devices.
        pub devices: u64,
        /// Rooms.
        pub rooms: u64,
    }
}

record! {
    /// How a generation of the log ended.
    pub struct End {
        /// Its last position that the cell kept.
        pub position: Position,
        /// The digest there.
        pub digest: [u8; 32],
    }
}

/// The one row of [`Applied`].
pub const APPLIED: Table<u8, Applied> = Table::new(0);
/// The one row of [`Settings`].
pub const SETTINGS: Table<u8, Settings> = Table::new(1);
/// Member nodes.
pub const NODES: Table<NodeId, Node> = Table::new(10);
/// The one row of [`Clock`].
pub const CLOCK: Table<u8, Clock> = Table::new(11);
/// The one row of [`Counters`].
pub const COUNTERS: Table<u8, Counters> = Table::new(12);
/// Ended generations.
pub const ENDS: Table<u32, End> = Table::new(13);
/// Removed nodes that had logged anything.
pub const FORMER: Table<NodeId, Former> = Table::new(15);
/// The one row that says up to where change indexes may have lost entries.
pub const HORIZON: Table<u8, Position> = Table::new(14);

/// The one row that says up to which time everything that was due has been removed. Looking for what is due begins here, not at the
/// beginning: there the engine would have to pass over the traces of all that was ever removed.
pub const SWEPT: Table<u8, Millis> = Table::new(15);

/// The key of a table of one row.
pub const ONLY: u8 = 0;
