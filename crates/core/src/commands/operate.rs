//! What nodes and operators ask for.

use ieum_planted::Bug;

use crate::codec::record;
use crate::ids::{Millis, NodeId};
use crate::outcome::{Accepted, Reject};
use crate::scope::{Run, Scope, Step};
use crate::tables::accounts::{INVITATIONS, Invitation, SIGNING_KEYS, SigningKey};
use crate::tables::cell::{FORMER, Former, NODES, Node, ONLY, SETTINGS, Settings};

record! {
    /// A second of the node's monotonic clock has passed. Its effect on cell time is in [`crate::time`].
    pub struct Tick {}
}

record! {
    /// A node becomes a member of the cell. The first command of a cell's first batch adds the node that wrote it.
    pub struct AddNode {
        /// Its number, 1 to 4,294,967,294.
        pub node: NodeId,
        /// Its data center, 1 to 64 bytes.
        pub dc: String,
        /// The highest level that it knows.
        pub level: u32,
        /// The cell's number; counts in the first command of the cell only.
        pub cell: u16,
    }
}

record! {
    /// A node is no longer a member: its batches are ignored from here on, and its access tokens are worth nothing.
    pub struct RemoveNode {
        /// Its number.
        pub node: NodeId,
    }
}

record! {
    /// A node has started.
    pub struct StartNode {
        /// The highest level that it knows.
        pub level: u32,
        /// Names the key in access tokens.
        pub key_id: u64,
        /// Ed25519 key that its access tokens are verified with.
        pub public_key: [u8; 32],
    }
}

record! {
    /// A level becomes active.
    pub struct Activate {
        /// The level.
        pub level: u32,
    }
}

record! {
    /// The cell's settings change.
    pub struct Configure {
        /// How long a message may be edited, ms.
        pub edit_limit: Millis,
        /// How long a message may be deleted for everyone, ms.
        pub delete_limit: Millis,
        /// How long change indexes reach back, ms.
        pub horizon: Millis,
    }
}

record! {
    /// People may register with a code. A code added again starts anew.
    pub struct AddInvitation {
        /// BLAKE3 of the code.
        pub code_hash: [u8; 32],
        /// For how many accounts.
        pub uses: u32,
        /// Until when, in cell time.
        pub expires_at: Millis,
    }
}

const MINUTE: Millis = 60_000;

impl Settings {
    /// The settings of a new cell.
    #[must_use]
    pub fn new(cell: u16, level: u32) -> Self {
        Self { cell, level, edit_limit: 15 * MINUTE, delete_limit: 5 * MINUTE, horizon: 30 * 24 * 60 * MINUTE }
    }
}

impl Run for Tick {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        scope.node_only()?;
        Ok(Accepted::Done)
    }
}

impl AddNode {
    /// Whether its values are in their ranges.
    pub(crate) fn check(&self) -> Result<(), Reject> {
        let fits = (1..=64).contains(&self.dc.len())
            && (1..NodeId::MAX).contains(&self.node)
            && self.cell <= crate::ids::MAX_CELL;
        if fits { Ok(()) } else { Err(Reject::Invalid) }
    }
}

/// Refuses a node that does not know the active level: it could not apply what comes.
fn check_level(scope: &Scope<'_, '_>, level: u32) -> Result<(), Reject> {
    if level < scope.settings.level { Err(Reject::LevelTooHigh) } else { Ok(()) }
}

impl Run for AddNode {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        scope.node_only()?;
        self.check()?;
        if NODES.has(scope.view(), &self.node)? {
            return Err(Reject::NodeUnknown.into());
        }
        if SETTINGS.has(scope.view(), &ONLY)? {
            check_level(scope, self.level)?;
        } else {
            SETTINGS.put(scope.txn, &ONLY, &Settings::new(self.cell, self.level));
        }
        let mut node = Node { dc: self.dc.clone(), incarnation: 0, number: 0, level: self.level };
        if let Some(former) = FORMER.get(scope.view(), &self.node)? {
            FORMER.remove(scope.txn, &self.node);
            if !Bug::NodeReaddedReplays.planted() {
                (node.incarnation, node.number) = (former.incarnation, former.number);
            }
        }
        NODES.put(scope.txn, &self.node, &node);
        Ok(Accepted::Done)
    }
}

impl Run for RemoveNode {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        if scope.node_only()? == self.node {
            return Err(Reject::NotYourself.into());
        }
        let node = NODES.get(scope.view(), &self.node)?.ok_or(Reject::NodeUnknown)?;
        NODES.remove(scope.txn, &self.node);
        if (node.incarnation, node.number) != (0, 0) {
            let former = Former { incarnation: node.incarnation, number: node.number };
            FORMER.put(scope.txn, &self.node, &former);
        }
        let mut keys = Vec::new();
        // Nine bytes: behind every key of eight.
        let (all, behind) = (0u64, [0xff; 9]);
        SIGNING_KEYS.range(scope.view(), &all, &behind, crate::kv::Direction::Forward, |id, key| {
            if key.node == self.node {
                keys.push(id);
            }
            std::ops::ControlFlow::Continue(())
        })?;
        for id in keys {
            SIGNING_KEYS.remove(scope.txn, &id);
        }
        Ok(Accepted::Done)
    }
}

impl Run for StartNode {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let node = scope.node_only()?;
        let mut row = NODES.get(scope.view(), &node)?.ok_or(Reject::NodeUnknown)?;
        check_level(scope, self.level)?;
        if SIGNING_KEYS.get(scope.view(), &self.key_id)?.is_some_and(|key| key.node != node) {
            return Err(Reject::NotAllowed.into());
        }
        row.level = self.level;
        NODES.put(scope.txn, &node, &row);
        let key = SigningKey { public_key: self.public_key, node, since: scope.position };
        SIGNING_KEYS.put(scope.txn, &self.key_id, &key);
        Ok(Accepted::Done)
    }
}

impl Run for Activate {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        scope.node_only()?;
        let mut least = u32::MAX;
        NODES.range(scope.view(), &0u32, &u32::MAX, crate::kv::Direction::Forward, |_, node| {
            least = least.min(node.level);
            std::ops::ControlFlow::Continue(())
        })?;
        if self.level > least && !Bug::LevelRaisedAhead.planted() {
            return Err(Reject::LevelTooHigh.into());
        }
        let mut settings = scope.settings.clone();
        if self.level < settings.level {
            return Err(Reject::Invalid.into());
        }
        settings.level = self.level;
        SETTINGS.put(scope.txn, &ONLY, &settings);
        Ok(Accepted::Done)
    }
}

impl Run for Configure {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        scope.node_only()?;
        let mut settings = scope.settings.clone();
        settings.edit_limit = self.edit_limit;
        settings.delete_limit = self.delete_limit;
        settings.horizon = self.horizon;
        SETTINGS.put(scope.txn, &ONLY, &settings);
        Ok(Accepted::Done)
    }
}

impl Run for AddInvitation {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        scope.node_only()?;
        if self.uses == 0 || self.expires_at <= scope.now {
            return Err(Reject::Invalid.into());
        }
        let key = INVITATIONS.key(&self.code_hash);
        if let Some(before) = INVITATIONS.get(scope.view(), &self.code_hash)? {
            scope.keep_longer(before.expires_at, &key);
        }
        let invitation = Invitation { uses_left: self.uses, expires_at: self.expires_at };
        INVITATIONS.put(scope.txn, &self.code_hash, &invitation);
        scope.expire(self.expires_at, key, None);
        Ok(Accepted::Done)
    }
}

#[cfg(test)]
mod tests;
