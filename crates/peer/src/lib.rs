//! What the nodes of a cell tell each other beside the log, over gRPC.
//!
//! | call | gives |
//! |---|---|
//! | `Watch` | what a node says of itself, whenever that changes |
//! | `Batches` | what its journal holds behind a position |
//! | `Snapshot` | a verified copy of its view, in pieces |
//!
//! [`server`] offers them, [`client`] asks, [`resync`] brings a node back that the log no longer reaches. Messages are written down in
//! `messages`, so that no `protoc` is needed.

pub mod circle;
pub mod client;
mod messages;
pub mod resync;
pub mod server;

/// How much a piece of a snapshot holds, in bytes.
const PIECE: usize = 1024 * 1024;
/// The largest message, in bytes: a batch or a piece and what names it.
const MOST: usize = 2 * 1024 * 1024;
