//! What clients and servers of Ieum say to each other: the frames of the WebSocket protocol [`SUBPROTOCOL`], the bodies of
//! HTTP `/v1`, and the errors of both. `docs/protocol/` tells the same in words.
//!
//! Everything is JSON. Ids are whole numbers below 2^53; times are milliseconds since 1970-01-01 UTC.

pub mod errors;
pub mod frames;
pub mod http;
pub mod objects;

/// The WebSocket subprotocol's name.
pub const SUBPROTOCOL: &str = "ieum.v1";

/// Where the WebSocket is.
pub const SOCKET_PATH: &str = "/v1/socket";

/// Largest frame that a server takes, and sends, in bytes.
pub const MAX_FRAME: usize = 256 * 1024;

/// Most commands of a device that may be under way unanswered.
pub const MAX_IN_FLIGHT: usize = 64;

/// The name of the frame that tells that a person types, in [`frames::Welcome::takes`].
pub const TYPING: &str = "typing";

/// How often a client says that its person types in a room, at most, in milliseconds. A server passes over what comes sooner.
pub const TYPING_EVERY_MS: u64 = 3_000;

/// For how long a client shows that somebody types, in milliseconds.
pub const TYPING_SHOWN_MS: u64 = 5_000;

/// Largest body that a server takes over HTTP, in bytes.
pub const MAX_BODY: usize = 256 * 1024;

/// Request header: the highest position that the client has seen; the answer is never older.
pub const SEEN_HEADER: &str = "ieum-seen";

/// Response header: the position that the answer was read at, or at least where the change took effect.
pub const POSITION_HEADER: &str = "ieum-position";

/// Response header: `true` while the cell makes no progress on this server, so that what is read may be old.
pub const STALE_HEADER: &str = "ieum-stale";

/// Request header that makes a change over HTTP exactly once for 24 hours: 1 to 200 visible ASCII characters.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// A position, `generation.ordinal`. Clients keep it, send it back, and order two of them to find the highest that they have seen.
pub type Pos = String;
