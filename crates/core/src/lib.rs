//! The rules of a cell.
//!
//! `core` turns a totally ordered sequence of batches into a view: the same batches give the same view and the same
//! outcomes on every node, in every build and in every later version. It has no async, no input or output of its own,
//! no clock and no random source; time and ids come from the batch or are counted in the view.

pub mod kv;
