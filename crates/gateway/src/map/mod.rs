//! Between the protocol and the cell: changes to commands, outcomes to answers, rows and events to what clients read.

pub mod changes;
pub mod objects;
pub mod outcomes;
