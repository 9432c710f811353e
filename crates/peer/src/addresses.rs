//! Where other nodes may be: the addresses that are set, and those that were heard of. What is only heard of is forgotten when nobody answers
//! there, and is told to others only while somebody does: else two nodes would keep it alive by telling each other.

use std::collections::{BTreeMap, BTreeSet};

use ieum_core::ids::Millis;
use ieum_planted::Bug;

/// More addresses than this are not learned from others.
const MOST: usize = 64;
/// An address that was heard of is asked for so long without an answer.
const FORGET_AFTER: Millis = 60_000;

/// The addresses that a node knows.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    own: Option<String>,
    set: Vec<String>,
    /// Heard of, with when there was a sign of life last.
    heard: BTreeMap<String, Millis>,
    answering: BTreeSet<String>,
    /// Other addresses of this very process.
    itself: BTreeSet<String>,
}

impl Addresses {
    /// Those that are set, without the node's own.
    pub(crate) fn new(own: Option<String>, set: &[String]) -> Self {
        let set = set.iter().filter(|address| Some(*address) != own.as_ref()).cloned().collect();
        Self { own, set, ..Self::default() }
    }

    /// There may be a node at `address`: it has asked this one, or another one says so.
    pub(crate) fn heard(&mut self, address: &str, now: Millis) {
        let known = self.own.as_deref() == Some(address)
            || self.itself.contains(address)
            || self.set.iter().any(|set| set == address);
        if let Some(seen) = self.heard.get_mut(address) {
            *seen = now;
        } else if !known && self.heard.len() < MOST {
            self.heard.insert(address.to_owned(), now);
        }
    }

    /// The node at `address` says something.
    pub(crate) fn answers(&mut self, address: &str, now: Millis) {
        self.answering.insert(address.to_owned());
        if let Some(seen) = self.heard.get_mut(address) {
            *seen = now;
        }
    }

    /// It says nothing any more.
    pub(crate) fn is_silent(&mut self, address: &str) {
        self.answering.remove(address);
    }

    /// At `address` is this very process.
    pub(crate) fn is_itself(&mut self, address: &str) {
        self.is_silent(address);
        self.heard.remove(address);
        self.set.retain(|set| set != address);
        if self.itself.len() < MOST {
            self.itself.insert(address.to_owned());
        }
    }

    /// Where to ask.
    pub(crate) fn where_to_ask(&mut self, now: Millis) -> BTreeSet<String> {
        if !Bug::AddressesKeptForEver.planted() {
            self.heard
                .retain(|address, seen| self.answering.contains(address) || now.saturating_sub(*seen) <= FORGET_AFTER);
        }
        self.set.iter().chain(self.heard.keys()).cloned().collect()
    }

    /// What others are told: where this node is, and where others are that answer.
    pub(crate) fn to_tell(&self) -> Vec<String> {
        self.own.iter().chain(&self.answering).take(MOST).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(addresses: &mut Addresses, now: Millis) -> Vec<String> {
        addresses.where_to_ask(now).into_iter().collect()
    }

    #[test]
    fn an_address_that_was_heard_of_is_forgotten_when_nobody_answers() {
        let mut addresses = Addresses::new(Some("own".to_owned()), &["set".to_owned(), "own".to_owned()]);
        addresses.heard("met", 1_000);
        addresses.heard("own", 1_000);
        assert_eq!(asks(&mut addresses, 1_000), ["met", "set"], "never itself");
        addresses.answers("met", 2_000);
        assert_eq!(asks(&mut addresses, 100_000), ["met", "set"]);
        addresses.answers("met", 100_000);
        addresses.is_silent("met");
        assert_eq!(asks(&mut addresses, 160_000), ["met", "set"]);
        assert_eq!(asks(&mut addresses, 160_001), ["set"], "what is set stays");
    }

    /// Two nodes that know an address where nobody is tell each other all that they tell.
    #[test]
    fn nodes_do_not_keep_a_dead_address_alive_by_telling_each_other() {
        let mut both = [(); 2].map(|()| Addresses::default());
        both.iter_mut().for_each(|addresses| addresses.heard("dead", 0));
        for now in (0..100_000).step_by(100) {
            let told: Vec<Vec<String>> = both.iter().map(Addresses::to_tell).collect();
            for (addresses, told) in both.iter_mut().zip(told.iter().rev()) {
                told.iter().for_each(|address| addresses.heard(address, now));
            }
        }
        assert_eq!(both.map(|mut addresses| asks(&mut addresses, 100_000)), [const { Vec::<String>::new() }; 2]);
    }

    #[test]
    fn what_others_say_is_bounded_and_no_way_to_ask_oneself() {
        let mut addresses = Addresses::new(None, &["alias".to_owned()]);
        addresses.is_itself("alias");
        addresses.heard("alias", 0);
        assert_eq!(asks(&mut addresses, 0), Vec::<String>::new());
        (0..1_000).for_each(|n| addresses.heard(&n.to_string(), 0));
        assert_eq!(asks(&mut addresses, 0).len(), MOST);
        addresses.answers("5", 0);
        assert_eq!(addresses.to_tell(), ["5"]);
    }
}
