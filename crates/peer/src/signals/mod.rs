//! What is not durable, between nodes: who types, and who is there.
//!
//! A node tells each other one that asks for it ([`feed`]) who has the app in front of them here, and who types: that only to nodes which have
//! said that somebody who may hear it is there. Everything is bounded: where a node does not keep up, the oldest is lost. A message goes out
//! every 100 ms at most, and is taken in every 50 ms at most, so that a node that floods is held back by its own connection.

pub(crate) mod feed;
mod hear;
pub(crate) mod messages;
pub(crate) mod tell;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use ieum_core::ids::{NodeId, UserId};
use ieum_core::query::typing::Typing;
use ieum_planted::Bug;
use parking_lot::Mutex;

use crate::client::{Error, Peer};
use feed::Subscriber;
use messages::Said;

/// How often something is taken from another node at most.
const TAKE_EVERY: Duration = Duration::from_millis(50);
/// More people than this are not remembered of another node.
const MOST_PEOPLE: usize = 100_000;

/// Takes what other nodes say of who types there. Must not block.
pub type Ear = Arc<dyn Fn(&[Typing]) + Send + Sync>;

/// What a node says and hears of what is not durable.
#[derive(Default)]
pub struct Signals {
    /// Who is here, ascending.
    here: Mutex<Arc<Vec<UserId>>>,
    subscribers: Mutex<Vec<Weak<Subscriber>>>,
    /// By the address at which it was heard.
    elsewhere: Mutex<BTreeMap<String, Arc<Elsewhere>>>,
    members: Mutex<BTreeSet<NodeId>>,
    ear: Mutex<Option<Ear>>,
}

/// Who is at another node.
#[derive(Clone, Default)]
struct Elsewhere {
    node: NodeId,
    people: HashSet<UserId>,
}

impl Signals {
    /// From now on what others say of who types goes there, or nowhere.
    pub fn put_ear(&self, ear: Option<Ear>) {
        *self.ear.lock() = ear;
    }

    /// Who is here, ascending.
    pub fn set_people(&self, people: Vec<UserId>) {
        if **self.here.lock() == people {
            return;
        }
        *self.here.lock() = Arc::new(people);
        self.each(Subscriber::wake);
    }

    /// Who types here, and who may hear of it: told to the nodes where one of these is.
    pub fn tell(&self, typing: &[(Typing, Vec<UserId>)]) {
        if typing.is_empty() {
            return;
        }
        let elsewhere = self.elsewhere();
        self.each(|subscriber| {
            let there: Vec<&Arc<Elsewhere>> =
                elsewhere.iter().filter(|elsewhere| elsewhere.node == subscriber.node).collect();
            for (typing, people) in typing {
                if people.iter().any(|person| there.iter().any(|there| there.people.contains(person))) {
                    subscriber.push(*typing);
                }
            }
        });
    }

    /// How many people are at other nodes, as these say.
    #[must_use]
    pub fn people_elsewhere(&self) -> usize {
        self.elsewhere().iter().map(|elsewhere| elsewhere.people.len()).sum()
    }

    /// Whether `person` has the app in front of them at another node.
    #[must_use]
    pub fn is_elsewhere(&self, person: UserId) -> bool {
        self.elsewhere().iter().any(|elsewhere| elsewhere.people.contains(&person))
    }

    /// The members of the cell: others are told nothing, and not believed.
    pub(crate) fn set_members(&self, members: BTreeSet<NodeId>) {
        let before = std::mem::replace(&mut *self.members.lock(), members.clone());
        if before != members {
            self.each(Subscriber::wake);
        }
    }

    pub(crate) fn is_member(&self, node: NodeId) -> bool {
        self.members.lock().contains(&node) || Bug::SignalsForStrangers.planted()
    }

    /// Who is at other members.
    fn elsewhere(&self) -> Vec<Arc<Elsewhere>> {
        let elsewhere = self.elsewhere.lock();
        elsewhere.values().filter(|elsewhere| self.is_member(elsewhere.node)).cloned().collect()
    }

    fn here(&self) -> Arc<Vec<UserId>> {
        Arc::clone(&self.here.lock())
    }

    fn each(&self, visit: impl Fn(&Subscriber)) {
        self.subscribers.lock().retain(|subscriber| subscriber.upgrade().inspect(|there| visit(there)).is_some());
    }

    /// Hears what the node says, until that ends.
    pub(crate) async fn listen(&self, peer: &Peer) -> Result<(), Error> {
        let mut said = Box::pin(peer.signals().await?);
        while let Some(said) = said.next().await {
            if !self.take(peer.address(), said?) {
                return Err(Error::Garbage {
                    address: peer.address().to_owned(),
                    reason: format!("more than {MOST_PEOPLE} people are there, as it says"),
                });
            }
            tokio::time::sleep(TAKE_EVERY).await;
        }
        Ok(())
    }

    /// Takes in what the node at `address` says; false when it is more than can be.
    pub(crate) fn take(&self, address: &str, said: Said) -> bool {
        let Said { node, all, came, went, typing } = said;
        {
            let mut elsewhere = self.elsewhere.lock();
            // Of one that is no member it is kept, since it may become one, and it says no more than what changes.
            let there = Arc::make_mut(elsewhere.entry(address.to_owned()).or_default());
            there.node = node;
            if all {
                there.people = HashSet::new();
            }
            there.people.extend(came);
            for person in &went {
                there.people.remove(person);
            }
            if there.people.len() > MOST_PEOPLE {
                return false;
            }
        }
        let ear = self.ear.lock().clone();
        if let Some(ear) = ear.filter(|_| !typing.is_empty() && self.is_member(node)) {
            ear(&typing);
        }
        true
    }

    /// The node at `address` says nothing any more.
    pub(crate) fn forget(&self, address: &str) {
        self.elsewhere.lock().remove(address);
    }
}

#[cfg(test)]
mod tests;
