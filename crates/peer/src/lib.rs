//! What the nodes of a cell tell each other beside the log, over gRPC.
//!
//! | call | gives |
//! |---|---|
//! | `Watch` | what a node says of itself, whenever that changes |
//! | `Batches` | what its journal holds behind a position |
//! | `Snapshot` | a verified copy of its view, in pieces |
//! | `Signals` | who has the app in front of them there, and who types; not durable |
//! | `Stand` | where it stands, when it has halted because the log is lost; nothing when it runs |
//!
//! [`server`] offers them, [`client`] asks, [`resync`] brings a node back that the log no longer reaches. Messages are written down in
//! `messages`, so that no `protoc` is needed.

mod addresses;
pub mod circle;
pub mod client;
mod connect;
mod door;
#[cfg(test)]
mod fuzz;
mod line;
mod messages;
pub mod resync;
pub mod server;
pub mod shelf;
pub mod signals;
pub mod tls;
pub mod trimmer;

use std::time::Duration;

/// How often the other end of a connection is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_millis(1_500);

pub use ieum_node::halt::Stood;

/// How much a piece of a snapshot holds, in bytes.
const PIECE: usize = 1024 * 1024;
/// The largest message, in bytes: a batch or a piece and what names it.
const MOST: usize = 2 * 1024 * 1024;
/// The largest one of those that carry neither, in bytes.
const SMALL: usize = 64 * 1024;
