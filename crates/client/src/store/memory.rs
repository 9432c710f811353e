//! A store that forgets: for load, probes and tests.

use super::{Error, Identity, Saved, Store, Write};

/// Keeps nothing beyond the process: what is in the outbox then is lost. The counter comes from the server.
#[derive(Debug, Default)]
pub struct Memory {
    identity: Option<Identity>,
    saved: Saved,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store as it was left, for tests.
    #[must_use]
    pub fn with(saved: Saved) -> Self {
        Self { identity: None, saved }
    }
}

impl Store for Memory {
    fn identity(&mut self) -> Result<Option<Identity>, Error> {
        Ok(self.identity.clone())
    }

    fn load(&mut self) -> Result<Saved, Error> {
        Ok(std::mem::take(&mut self.saved))
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), Error> {
        for write in writes {
            if let Write::Identity(identity) = write {
                self.identity = Some(identity.clone());
            }
        }
        Ok(())
    }

    fn blocks(&self) -> bool {
        false
    }
}
