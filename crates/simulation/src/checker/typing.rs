//! Who is told that somebody types: written from `docs/decisions/signals.md` on the frames that come to a node and leave it, and on the model.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ieum_core::ids::Position;

use crate::failure::{Check, holds};
use crate::model::{Kind, Model, TOLD_RECEIPTS};
use crate::network::Link;

/// Once in so long a room, of a session and of a person; in so many rooms at a time.
const EVERY: u64 = 3_000;
const ROOMS: usize = 4;
/// Told to whoever was heard so lately, from a view of which so much is proven, of a look that took so long.
const IN_FRONT: u64 = 5_000;
const PROVEN: u64 = 2_000;
const LATE: u64 = 1_000;
/// A tenth of what may wait.
const CALM: usize = crate::node::MOST_WAITING / 10;
/// A session that has so much waiting gets no more.
const FEW: usize = 16;

/// Somebody types: where, and who.
pub(crate) type Types = (u64, u64);

/// Where somebody has said lately that they type.
type Lately = Vec<(u64, u64)>;

fn admits(lately: &mut Lately, room: u64, now: u64) -> bool {
    lately.retain(|(_, at)| now - at < EVERY);
    let admits = lately.len() < ROOMS && lately.iter().all(|(of, _)| *of != room);
    if admits {
        lately.push((room, now));
    }
    admits
}

/// What a node knows of who types, and when.
#[derive(Debug, Default)]
pub(crate) struct Typing {
    sessions: BTreeMap<Link, Lately>,
    people: BTreeMap<u64, Lately>,
    /// When each client was heard last.
    heard: BTreeMap<Link, u64>,
    own: BTreeSet<Types>,
    others: BTreeSet<Types>,
    /// Its own batches on their way, by when they were begun; when the last one that came back was.
    begun: VecDeque<u64>,
    proven: u64,
}

/// What may be told in a round.
#[derive(Debug)]
pub(crate) struct Round {
    began: u64,
    own: BTreeSet<Types>,
    others: BTreeSet<Types>,
    /// Nothing may be told.
    why_not: Option<&'static str>,
    /// Nothing speaks against it.
    must: bool,
    /// Where the view stands that is looked at.
    pub(crate) at: Position,
}

/// Where the log ended lately, and when.
#[derive(Debug, Default)]
pub(crate) struct Ends(VecDeque<(u64, Position)>);

impl Ends {
    pub(crate) fn add(&mut self, now: u64, at: Position) {
        while self.0.get(1).is_some_and(|(since, _)| since + PROVEN + LATE < now) {
            self.0.pop_front();
        }
        self.0.push_back((now, at));
    }

    /// What everybody has seen by now who may tell.
    fn known(&self, now: u64) -> Position {
        let known = self.0.iter().take_while(|(since, _)| since + PROVEN + LATE < now).last();
        known.map_or_else(Position::default, |(_, at)| *at)
    }
}

impl Typing {
    /// Of a node whose view has all that is in the log now.
    pub(crate) fn new(now: u64) -> Self {
        Self { proven: now, ..Self::default() }
    }

    pub(crate) fn begins_batch(&mut self, now: u64) {
        self.begun.push_back(now);
    }

    pub(crate) fn own_is_back(&mut self) {
        self.proven = self.begun.pop_front().unwrap_or(self.proven);
    }

    /// The node has read something of a client whose stream is live.
    pub(crate) fn hears(&mut self, link: Link, now: u64) {
        self.heard.insert(link, now);
    }

    pub(crate) fn ends(&mut self, link: Link) {
        self.heard.remove(&link);
        self.sessions.remove(&link);
    }

    /// A client says that its person types.
    pub(crate) fn types(&mut self, link: Link, user: u64, room: u64, now: u64) {
        let admitted = admits(self.sessions.entry(link).or_default(), room, now)
            && admits(self.people.entry(user).or_default(), room, now);
        if admitted {
            self.own.insert((room, user));
        }
    }

    /// Another node says who types there.
    pub(crate) fn is_told(&mut self, typing: impl Iterator<Item = Types>) {
        self.others.extend(typing);
    }

    /// What was said until now is to be told, by a node in which so many commands wait. In calm times it has to be.
    pub(crate) fn round(&mut self, now: u64, waiting: usize, calm: bool) -> Round {
        let old = now - self.proven >= PROVEN;
        let surge = waiting > CALM;
        Round {
            began: now,
            own: std::mem::take(&mut self.own),
            others: std::mem::take(&mut self.others),
            why_not: surge.then_some("much waits").or_else(|| old.then_some("the view is old")),
            must: calm && waiting == 0 && !old,
            at: Position::default(),
        }
    }

    fn in_front(&self, link: Link, now: u64) -> bool {
        self.heard.get(&link).is_some_and(|heard| now - heard < IN_FRONT)
    }
}

/// Whether two people are in a room in which it is told who types.
fn shared(model: &Model, (room, user): Types, hearer: u64, at: Position) -> bool {
    let Some(room) = model.rooms.get(&room).filter(|room| !matches!(room.kind, Kind::Archive(_))) else { return false };
    let few = room.size.at(at).is_some_and(|size| *size as usize <= TOLD_RECEIPTS);
    let is_in = |user| room.members.get(&user).and_then(|past| past.at(at)).is_some_and(Option::is_some);
    few && user != hearer && is_in(user) && is_in(hearer)
}

impl Round {
    /// The round is passed over.
    pub(crate) fn passed_over(&self) -> Check {
        let nothing = self.own.is_empty() && self.others.is_empty();
        holds(nothing || !self.must, || format!("nobody is told that {:?} and {:?} type", self.own, self.others))
    }

    /// A session of `hearer` was told of these; all that it is told now.
    pub(crate) fn told(
        &self,
        (model, ends, typing): (&Model, &Ends, &Typing),
        (link, hearer): (Link, u64),
        told: &[Types],
        now: u64,
    ) -> Check {
        let who = || format!("session {link} of user {hearer}");
        let late = now - self.began > LATE;
        let due = |of: &Types| usize::from(self.own.contains(of)) + usize::from(self.others.contains(of));
        for of in told {
            let what = || format!("{} is told that {of:?} types", who());
            if let Some(why) = self.why_not.or_else(|| late.then_some("it took long")) {
                return holds(false, || format!("{}, although {why}", what()));
            }
            holds(due(of) > 0, || format!("{}, which nobody has said or too lately", what()))?;
            let times = told.iter().filter(|other| *other == of).count();
            holds(times <= due(of), || format!("{} {times} times", what()))?;
            holds(typing.in_front(link, now), || format!("{}, and nobody looks at it", what()))?;
            holds(shared(model, *of, hearer, self.at), || format!("{} of no room of both at {}", what(), self.at))?;
            holds(self.at >= ends.known(now), || format!("{} by a view of long ago, {}", what(), self.at))?;
        }
        if !self.must || late || !typing.in_front(link, now) {
            return Ok(());
        }
        let all = self.own.iter().chain(&self.others);
        let due = all.filter(|of| shared(model, **of, hearer, self.at)).count();
        holds(told.len() == due.min(FEW), || format!("{} is told of {told:?}, and {due} are due", who()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_told_is_what_was_said_not_too_often() {
        let mut typing = Typing::new(0);
        for (link, room, now) in [(1, 7, 0), (2, 7, 2_999), (2, 7, 3_000), (2, 8, 3_000), (2, 8, 5_999)] {
            typing.types(link, 1, room, now);
        }
        // The second session's own word at 2,999 counts for it, although it was the person's second.
        let round = typing.round(1_000, 0, true);
        assert_eq!(round.own, BTreeSet::from([(7, 1), (8, 1)]));
        assert!(round.must && round.why_not.is_none() && round.passed_over().is_err());
        assert!(typing.round(2_000, 0, true).why_not.is_some());
        assert!(typing.round(1_000, CALM + 1, true).why_not.is_some());
        assert!(typing.round(1_000, 0, true).passed_over().is_ok(), "nothing is left");
    }

    #[test]
    fn what_was_in_the_log_three_seconds_ago_is_known() {
        let mut ends = Ends::default();
        for now in [0, 1_000, 2_000, 9_000] {
            ends.add(now, Position::new(1, now));
        }
        assert_eq!(ends.known(9_000), Position::new(1, 2_000));
        assert_eq!(ends.known(12_001), Position::new(1, 9_000));
    }
}
