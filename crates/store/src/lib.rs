//! Ordered key-value engines for a node's view.
//!
//! | engine | for | survives a restart |
//! |---|---|---|
//! | [`Memory`] | tests and the simulation | as long as a clone of it lives; [`Memory::crash`] is a power cut |
//! | [`Fjall`] | a node | yes, see [`Fjall::open`] |
//!
//! Both implement [`ieum_core::kv::Kv`] and pass the same conformance suite. Both take keys of 1 to 65,535 bytes and values
//! of at most 4 GiB - 1, and refuse a whole write set that holds anything else.

#[cfg(test)]
mod conformance;
pub mod fjall;
pub mod memory;

use ieum_core::kv;

pub use fjall::Fjall;
pub use memory::Memory;

/// What every engine takes as one write set.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("a key of {0} bytes; keys have 1 to 65,535 bytes")]
    Key(usize),
    #[error("a value of {0} bytes; values have at most 4 GiB - 1")]
    Value(usize),
}

/// Refuses rows that an engine could not store; the same rows in every engine.
fn check_row(key: &[u8], value_length: usize) -> Result<(), Refused> {
    if key.is_empty() || key.len() > usize::from(u16::MAX) {
        return Err(Refused::Key(key.len()));
    }
    match u32::try_from(value_length) {
        Ok(_) => Ok(()),
        Err(_) => Err(Refused::Value(value_length)),
    }
}

fn check_rows(writes: &kv::WriteSet) -> kv::Result<()> {
    for (key, value) in &writes.rows {
        check_row(key, value.as_ref().map_or(0, bytes::Bytes::len))
            .map_err(|refused| kv::Error::new("commit", refused))?;
    }
    Ok(())
}
