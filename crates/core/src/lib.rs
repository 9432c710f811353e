//! The rules of a cell.
//!
//! `core` turns a totally ordered sequence of batches into a view: the same batches give the same view and the same
//! outcomes on every node, in every build and in every later version. It has no async, no input or output of its own,
//! no clock and no random source; time and ids come from the batch or are counted in the view.
//!
//! | module | what |
//! |---|---|
//! | [`commands`] | what can be asked of a cell, one file per family |
//! | [`mod@apply`] | how a batch of them changes the view |
//! | [`outcome`], [`event`] | what came of it, and what devices are told |
//! | [`tables`] | the rows of the view |
//! | [`query`] | what clients read from a view |
//! | [`kv`], [`codec`] | the key-value interface below, the bytes of it all |
//! | `testing` | with the feature of that name: a cell in memory |

mod txn;

pub mod apply;
pub mod batch;
pub mod codec;
pub mod commands;
pub mod event;
pub mod ids;
pub mod kv;
pub mod outcome;
pub mod query;
pub mod scope;
pub mod tables;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;

pub use apply::{Author, Effects, apply};
