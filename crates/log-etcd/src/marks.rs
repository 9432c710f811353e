//! Which commands are to be skipped, and which nodes stand still until they are.
//!
//! A mark changes what the log means, so it must not be made when a node has applied the command, or may still apply it. A node that was
//! stopped before the batch *agrees*, and from then on starts only when there is the mark; when all have agreed, it is made in one transaction
//! that finds them all still agreeing.

use ieum_log::{Position, Result, Skip};

use crate::error::failed;
use crate::keys::{Agreed, decode_skip, encode_skip};
use crate::proto::{self, TxnRequest};
use crate::txn::{get_all, get_at, put, put_at, read, version_is, version_is_at_least};
use crate::{Etcd, Inner};

impl Etcd {
    /// Says that `node` agrees to have a command skipped, or takes that back. False when the command is marked already, and then nothing is said.
    ///
    /// The caller MUST know that no view of the node has passed `position` and that it will not start until the command is marked; when it
    /// takes that back, the node MUST NOT start before this has returned true.
    ///
    /// # Errors
    /// [`ieum_log::Error::NotInLog`] when no batch stands there; when etcd cannot be asked.
    pub async fn agree(&self, node: u32, (position, index): Skip, stands: bool) -> Result<bool> {
        self.inner.agree(node, (position, index), stands).await
    }

    /// Who has agreed to have which command skipped, in order; marked ones too.
    ///
    /// # Errors
    /// When etcd cannot be asked, or what it holds is not ours.
    pub async fn agreed(&self) -> Result<Vec<(Skip, u32)>> {
        let all = self.inner.agreed().await?;
        let standing = all.into_iter().filter(|(said, _)| said.stands);
        Ok(standing.map(|(said, _)| ((self.inner.position(said.ordinal), said.index), said.node)).collect())
    }

    /// Marks a command to be skipped, if all of `nodes` agree; false when one does not. Here it does not matter whether the batch was trimmed:
    /// the nodes have it in their journals.
    ///
    /// # Errors
    /// [`ieum_log::Error::NotInLog`] when no batch stands there; when etcd cannot be asked.
    pub async fn skip_agreed(&self, (position, index): Skip, nodes: &[u32]) -> Result<bool> {
        self.inner.skip_agreed((position, index), nodes).await
    }
}

impl Inner {
    pub(crate) async fn agreed(&self) -> Result<Vec<(Agreed, i64)>> {
        let operation = "reading which nodes agree to skip a command";
        let mut answers = self.ask(operation, read(vec![get_all(self.keys.all_agreed())])).await?;
        let found = answers.all().map_err(failed(operation))?;
        let said = |kv: &proto::KeyValue| {
            Ok((Agreed::decode(&kv.key, &kv.value).map_err(failed(operation))?, kv.mod_revision))
        };
        found.iter().map(said).collect()
    }

    async fn agree(&self, node: u32, (position, index): Skip, stands: bool) -> Result<bool> {
        let operation = "saying whether the node agrees to skip a command";
        let ordinal = position.ordinal;
        loop {
            let ends = self.cluster.ends(&self.keys).await?;
            ieum_log::can_be_skipped(position, self.position(ends.last), self.position(0))?;
            let key = self.keys.agreed(ordinal, index, node);
            let mark = self.keys.skip(ordinal, index);
            let mut answers = self.ask(operation, read(vec![get_at(key.clone(), 0), get_at(mark.clone(), 0)])).await?;
            let found = answers.one().map_err(failed(operation))?;
            if answers.one().map_err(failed(operation))?.is_some() {
                return Ok(false);
            }
            let was = found.map(|kv| Agreed::decode(&kv.key, &kv.value).map(|said| (said.stands, kv.mod_revision)));
            let was = was.transpose().map_err(failed(operation))?;
            // Also taking back what was never said is written: a late double of a request to agree must find that it comes too late.
            if was.is_some_and(|(stood, _)| stood == stands) {
                return Ok(true);
            }
            let said = Agreed { ordinal, index, node, stands };
            let request = TxnRequest {
                compare: vec![put_at(key.clone(), was.map_or(0, |(_, revision)| revision)), version_is(mark, 0)],
                success: vec![put(key, said.encode())],
                failure: Vec::new(),
            };
            if self.ask(operation, request).await?.succeeded {
                return Ok(true);
            }
        }
    }

    async fn skip_agreed(&self, (position, index): Skip, nodes: &[u32]) -> Result<bool> {
        let operation = "marking a command";
        let ordinal = position.ordinal;
        let ends = self.cluster.ends(&self.keys).await?;
        ieum_log::can_be_skipped(position, self.position(ends.last), self.position(0))?;
        let all = self.agreed().await?;
        let mut compare =
            vec![version_is_at_least(self.keys.count(), i64::try_from(ordinal).map_err(failed(operation))?)];
        for node in nodes {
            let agrees =
                |said: &Agreed| said.stands && (said.ordinal, said.index, said.node) == (ordinal, index, *node);
            let Some((_, revision)) = all.iter().find(|(said, _)| agrees(said)) else { return Ok(false) };
            compare.push(put_at(self.keys.agreed(ordinal, index, *node), *revision));
        }
        let success = vec![put(self.keys.skip(ordinal, index), encode_skip(ordinal, index))];
        Ok(self.ask(operation, TxnRequest { compare, success, failure: Vec::new() }).await?.succeeded)
    }

    pub(crate) async fn skip(&self, position: Position, index: u32) -> Result<()> {
        let operation = "marking a command";
        loop {
            let ends = self.cluster.ends(&self.keys).await?;
            ieum_log::can_be_skipped(position, self.position(ends.last), self.position(ends.trim.ordinal))?;
            let ordinal = i64::try_from(position.ordinal).map_err(failed(operation))?;
            let key = self.keys.skip(position.ordinal, index);
            let request = TxnRequest {
                compare: vec![
                    put_at(self.keys.trim(), ends.trim_put_at),
                    version_is_at_least(self.keys.count(), ordinal),
                ],
                success: vec![put(key, encode_skip(position.ordinal, index))],
                failure: Vec::new(),
            };
            if self.ask(operation, request).await?.succeeded {
                return Ok(());
            }
        }
    }

    pub(crate) async fn skips(&self) -> Result<Vec<Skip>> {
        let operation = "reading the marks of commands to skip";
        let mut answers = self.ask(operation, read(vec![get_all(self.keys.skips())])).await?;
        let marks = answers.all().map_err(failed(operation))?;
        let mark = |kv: &proto::KeyValue| {
            let (ordinal, index) = decode_skip(&kv.key, &kv.value).map_err(failed(operation))?;
            Ok((self.position(ordinal), index))
        };
        // Their keys sort as they do.
        marks.iter().map(mark).collect()
    }
}
