//! People and their devices.

use crate::codec::record;
use crate::ids::{DeviceId, Millis, NodeId, Position, UserId};
use crate::tables::Table;

record! {
    /// A person's account.
    pub struct User {
        /// What others find it by.
        pub handle: String,
        /// What others see.
        pub name: String,
        /// The password's hash as a PHC string, made by the gateway.
        pub password: String,
        /// When it was registered.
        pub registered_at: Millis,
    }
}

record! {
    /// One installation of a client.
    pub struct Device {
        /// Whose it is.
        pub user: UserId,
        /// BLAKE3 of the device's secret.
        pub secret_hash: [u8; 32],
        /// What its owner sees in the list of devices.
        pub name: String,
        /// When it was added.
        pub added_at: Millis,
    }
}

record! {
    /// How far a device's numbered commands have come; apart from [`Device`] because it changes with every command.
    pub struct Progress {
        /// Whose device it is.
        pub user: UserId,
        /// The last number used up.
        pub last: u64,
    }
}

record! {
    /// How much an account has, for its limits.
    pub struct Holdings {
        /// Rooms it is a member of, archives included.
        pub rooms: u32,
        /// Devices signed in.
        pub devices: u32,
    }
}

record! {
    /// A code that lets people register where registration is by invitation.
    pub struct Invitation {
        /// How many accounts it is still good for.
        pub uses_left: u32,
        /// When it ends, in cell time.
        pub expires_at: Millis,
    }
}

record! {
    /// A public key that access tokens are verified with.
    pub struct SigningKey {
        /// Ed25519 public key.
        pub public_key: [u8; 32],
        /// The node that signs with it.
        pub node: NodeId,
        /// Where it was logged.
        pub since: Position,
    }
}

/// Accounts.
pub const USERS: Table<UserId, User> = Table::new(2);
/// Accounts by handle.
pub const HANDLES: Table<String, UserId> = Table::new(3);
/// Devices.
pub const DEVICES: Table<DeviceId, Device> = Table::new(4);
/// The devices of an account.
pub const USER_DEVICES: Table<(UserId, DeviceId), bool> = Table::new(5);
/// How far each device's commands have come.
pub const PROGRESS: Table<DeviceId, Progress> = Table::new(6);
/// What each account holds.
pub const HOLDINGS: Table<UserId, Holdings> = Table::new(7);
/// Invitations by BLAKE3 of the code.
pub const INVITATIONS: Table<[u8; 32], Invitation> = Table::new(8);
/// Nodes' signing keys by key id.
pub const SIGNING_KEYS: Table<u64, SigningKey> = Table::new(9);
