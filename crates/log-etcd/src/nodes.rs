//! Which nodes may append: each has a registration, whose mod revision is the incarnation of the node's present life.

use std::hash::{BuildHasher as _, RandomState};

use bytes::{BufMut as _, Bytes, BytesMut};
use ieum_log::{Error, Result};

use crate::Inner;
use crate::error::{AtQuota, failed};
use crate::proto::TxnRequest;
use crate::txn::{Malformed, delete, delete_all, get, put, put_at, read};

impl Inner {
    /// Begins a life of a node: every earlier one is fenced off from now on. Tells its incarnation, which is greater than any before.
    pub(crate) async fn register(&self, node: u32) -> Result<u64> {
        let operation = "registering the node in etcd";
        let key = self.keys.node(node);
        // By this a registration is known again whose answer was lost: a late double of it must not fence off the life that it began.
        let token = token();
        loop {
            let was = self.registration(operation, &key).await?;
            let success = vec![put(key.clone(), token.clone()), delete_all(self.keys.heads(node))];
            let compare = vec![put_at(key.clone(), was)];
            let request = TxnRequest { compare, success, failure: vec![get(key.clone())] };
            let mut answers = self.ask(operation, request).await.map_err(|error| match error {
                Error::Full => failed(operation)(AtQuota),
                error => error,
            })?;
            let incarnation = if answers.succeeded {
                Some(answers.revision)
            } else {
                let found = answers.one().map_err(failed(operation))?;
                found.filter(|found| found.value == token).map(|found| found.mod_revision)
            };
            if let Some(incarnation) = incarnation {
                return u64::try_from(incarnation).map_err(|_| failed(operation)(Malformed));
            }
        }
    }

    /// Ends a node's registration: what it appends is refused from now on. One that is not registered is well.
    pub(crate) async fn remove_node(&self, node: u32) -> Result<()> {
        let operation = "removing the node from etcd";
        let key = self.keys.node(node);
        loop {
            let was = self.registration(operation, &key).await?;
            if was == 0 {
                return Ok(());
            }
            let success = vec![delete(key.clone()), delete_all(self.keys.heads(node))];
            let compare = vec![put_at(key.clone(), was)];
            if self.ask(operation, TxnRequest { compare, success, failure: Vec::new() }).await?.succeeded {
                return Ok(());
            }
        }
    }

    /// When the node was registered; 0: it is not.
    async fn registration(&self, operation: &'static str, key: &Bytes) -> Result<i64> {
        let mut answers = self.ask(operation, read(vec![get(key.clone())])).await?;
        let found = answers.one().map_err(failed(operation))?;
        Ok(found.map_or(0, |found| found.mod_revision))
    }
}

/// Bytes that no other process makes. `RandomState` is seeded by the system.
fn token() -> Bytes {
    let mut token = BytesMut::with_capacity(16);
    token.put_u64(RandomState::new().hash_one(std::process::id()));
    token.put_u64(RandomState::new().hash_one(std::time::Instant::now()));
    token.freeze()
}
