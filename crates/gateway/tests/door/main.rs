//! The door of a node, knocked at with real sockets: what is wrong is answered with a stable code or ended, nothing panics, nothing grows
//! without bound, and nobody learns of what is not theirs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod catch_up;
mod connections;
mod costs;
mod foreign;
mod frames;
mod http;
mod lanes;
mod moving;
mod node;
mod repeats;
mod requests;
mod socket;
mod stall;
mod typing;
