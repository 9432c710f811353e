//! Views that go wrong, with what makes it hard to tell whose: copies of them, nodes that start anew, one that hears nothing, builds that differ. In
//! every tenth life, in which nothing else takes nodes away: those that are right must be able to outvote the others.

use std::collections::BTreeSet;

use ieum_node::agreement::{Agreement, CHECKPOINT_EVERY};

use crate::failure::{Check, holds};
use crate::host::Host;
use crate::random::Random;
use crate::world::{Event, World};

/// What breaks in a node at a later moment of a trial.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failing {
    /// It loses its power, and comes back after so long.
    Power(u64),
    /// It loses its disk, and comes back after so long.
    Disk(u64),
}

/// The nodes of such a life.
#[derive(Debug)]
pub(crate) struct Views {
    pub(crate) on: bool,
    /// Trials are staged.
    pub(crate) staged: bool,
    /// Counts trials: what is left of an earlier one does not break the next.
    pub(super) trial: u64,
    /// Since when no process that runs has a wrong view.
    right_since: Option<u64>,
}

/// How far behind a checkpoint the log may stand where the whole cell starts anew: nodes that come late vote at the next one.
pub(super) const JUST_BEHIND: u64 = 4;
/// What one node knows of a difference the others know after so long, and who has nothing has a copy when nobody wrong has been there for so long.
const SOON: u64 = 45_000;

impl Views {
    pub(crate) fn of(seed: u64, nodes: usize) -> Self {
        let on = seed % 10 == 6 && nodes > 2;
        Self { on, staged: on && seed % 30 == 26, trial: 0, right_since: None }
    }

    /// The builds that the nodes run.
    pub(crate) fn builds(&self, seed: u64, hosts: &mut [Host]) {
        let mut random = Random::new(seed.rotate_left(32) ^ 0x6275_696c);
        hosts.iter_mut().filter(|_| self.on).for_each(|host| host.build = random.between(1, 3));
    }
}

impl World {
    /// Views go wrong, and whoever has to find out which is put to the test. Of those that are right more run on than go wrong; or as many, of which
    /// one has an older build than all that do.
    pub(super) fn views_are_tried(&mut self) -> Check {
        if self.lost || !self.all_agree()? {
            return Ok(());
        }
        if self.views.staged {
            return self.stage();
        }
        let order = self.shuffled();
        let wrong = if order.len() > 4 && self.trouble.chance(300) { 2 } else { 1 };
        let (wrong, right) = order.split_at(wrong);
        let build =
            |nodes: &[usize]| nodes.iter().filter_map(|node| self.hosts.get(*node)).map(|host| host.build).min();
        // Of as many that are right the builds are no later.
        let are_old = build(right.split_at(wrong.len()).0) <= build(wrong);
        let stay = wrong.len() + usize::from(!are_old);
        let (stay, others) = right.split_at(stay.min(right.len()));
        self.views.trial += 1;
        let mask = self.trouble.next() | 1;
        let same = self.trouble.chance(500);
        for node in wrong {
            let own = self.trouble.next() | 1;
            self.goes_wrong(*node, if same { mask } else { own });
        }
        match self.trouble.index(5) {
            // Of two that are right one would hear both wrong ones before the other.
            _ if wrong.len() > 1 => self.some_fail(wrong, others),
            0 => self.all_start_anew(wrong, stay, others),
            1 if are_old => self.one_hears_nothing(wrong, stay, others),
            2 => self.newcomer_asks_at_once(wrong, others),
            _ => self.some_fail(wrong, others),
        }
        Ok(())
    }

    /// All nodes in some order.
    pub(super) fn shuffled(&mut self) -> Vec<usize> {
        let count = self.hosts.len();
        let mut order: Vec<usize> = (0..count).collect();
        (0..count).for_each(|at| order.swap(at, self.trouble.index(count)));
        order
    }

    pub(crate) fn goes_wrong(&mut self, index: usize, mask: u64) {
        if let Some(host) = self.hosts.get_mut(index) {
            host.mask = Some(mask);
        }
        self.note(format_args!("the view of node {} goes wrong", index + 1));
    }

    fn fails(&mut self, index: usize, after: u64, failing: Failing) {
        self.after(after, Event::Fails { host: index, trial: self.views.trial, failing });
    }

    /// Those that need not stay lose their power or their disks while it is not known yet whose view is wrong.
    fn some_fail(&mut self, wrong: &[usize], others: &[usize]) {
        let at = self.trouble.between(500, 6_000);
        for node in wrong.iter().chain(others) {
            let near = at + self.trouble.between(0, 2_500);
            let after = if self.trouble.chance(500) { near } else { self.trouble.between(100, 12_000) };
            let down_for = self.trouble.between(100, 3_000);
            match self.trouble.index(3) {
                0 => self.fails(*node, after, Failing::Power(down_for)),
                1 if !wrong.contains(node) => {
                    self.fails(*node, after, Failing::Disk(down_for));
                    let again = after + self.trouble.between(8_000, 40_000);
                    self.fails(*node, again, Failing::Power(down_for));
                }
                _ => {}
            }
        }
    }

    /// The wrong one is started anew, and another one that has nothing looks for a copy before the two of them were compared with anybody.
    fn newcomer_asks_at_once(&mut self, wrong: &[usize], others: &[usize]) {
        let at = self.trouble.between(300, 12_000);
        wrong.iter().for_each(|node| self.fails(*node, at, Failing::Power(200)));
        for node in others.iter().take(1) {
            let down_for = self.trouble.between(200, 2_500);
            self.fails(*node, at, Failing::Disk(down_for));
        }
    }

    /// The whole cell loses its power: the wrong ones and as many that are right begin where the log ends, and the others come a little later.
    fn all_start_anew(&mut self, wrong: &[usize], stay: &[usize], others: &[usize]) {
        let at = self.trouble.between(300, 700);
        if self.log.last() % CHECKPOINT_EVERY >= JUST_BEHIND {
            return;
        }
        let first = stay.iter().take(wrong.len());
        wrong.iter().chain(first).for_each(|node| self.fails(*node, at, Failing::Power(300)));
        for node in stay.iter().skip(wrong.len()).chain(others) {
            let down_for = self.trouble.between(450, 700);
            self.fails(*node, at, Failing::Power(down_for));
        }
    }

    /// The wrong ones hear nothing of the others, which find them out, are copied and start anew meanwhile.
    fn one_hears_nothing(&mut self, wrong: &[usize], stay: &[usize], others: &[usize]) {
        let deaf_for = self.trouble.between(30_000, 90_000);
        wrong.iter().for_each(|node| self.hears_nothing(*node, deaf_for));
        let later = self.trouble.between(8_000, 25_000);
        for node in others {
            let (after, down_for) = (later + self.trouble.between(0, 8_000), self.trouble.between(100, 3_000));
            self.fails(*node, after, Failing::Disk(down_for));
        }
        let again = later + self.trouble.between(10_000, 25_000);
        stay.iter().for_each(|node| self.fails(*node, again, Failing::Power(500)));
    }

    /// Nothing that the others say comes to a node for so long.
    pub(crate) fn hears_nothing(&mut self, index: usize, ms: u64) {
        let until = self.now() + ms;
        if let Some(host) = self.hosts.get_mut(index) {
            host.deaf_until = until;
        }
        self.note(format_args!("node {} hears nothing of the others until {until}", index + 1));
    }

    /// A node's machine stops, and its disk is lost.
    pub(super) fn loses_disk(&mut self, index: usize, down_for: u64) -> Check {
        let now = self.now();
        self.node_dies(index, usize::MAX)?;
        if let Some(host) = self.hosts.get_mut(index) {
            host.is_emptied(now);
        }
        self.note(format_args!("node {} loses its disk for {down_for} ms", index + 1));
        Ok(())
    }

    /// A node sees nothing new of the log for so long.
    pub(super) fn lags(&mut self, index: usize, ms: u64) {
        let until = self.now() + ms;
        if let Some(host) = self.hosts.get_mut(index) {
            host.tail_hangs_until = until;
        }
    }

    /// A node fails in a trial, if the trial has not come to its end.
    pub(crate) fn fails_now(&mut self, index: usize, trial: u64, failing: Failing) -> Check {
        if !self.troubled || trial != self.views.trial {
            return Ok(());
        }
        let down_for = match failing {
            Failing::Power(down_for) => {
                self.keeps_all(index)?;
                down_for
            }
            Failing::Disk(down_for) => {
                if !self.may_lose_data(index)? {
                    return Ok(());
                }
                self.loses_disk(index, down_for)?;
                // Some come last where they are compared with the others next.
                self.lags(index, if down_for.is_multiple_of(2) { 12_000 } else { 0 });
                down_for
            }
        };
        self.after(down_for, Event::NodeStarts(index));
        Ok(())
    }

    /// A node's process ends, and what it has written stays.
    pub(super) fn keeps_all(&mut self, index: usize) -> Check {
        self.note(format_args!("node {} dies, and what it has written stays", index + 1));
        if let Some(host) = self.hosts.get_mut(index) {
            host.journal.synced = host.journal.last;
        }
        self.node_dies(index, usize::MAX)
    }

    /// Every node serves, by itself and with what the log gives, and has found nothing.
    fn all_agree(&self) -> Check<bool> {
        let mut agree = true;
        for host in &self.hosts {
            let is_own = host.serves() && host.copied.is_none();
            let calm = host.differs.is_none() && host.open_since.is_none() && host.deaf_until <= self.now();
            agree &= is_own && calm && host.mask.is_none() && !host.is_wrong()?;
        }
        Ok(agree)
    }

    /// What one node has found out all know soon; and where no process has a wrong view any more, who has nothing gets a copy.
    pub(crate) fn differences_end(&mut self) -> Check {
        let now = self.now();
        let mut wrong = BTreeSet::new();
        for host in self.hosts.iter().filter(|host| host.circle.is_some()) {
            if host.mask.is_some() || host.is_wrong()? {
                wrong.insert(host.index);
            }
        }
        let right_since = if wrong.is_empty() { Some(self.views.right_since.unwrap_or(now)) } else { None };
        self.views.right_since = right_since;
        self.beginnings_are_compared(&wrong)?;
        let long = |since: Option<u64>| since.is_some_and(|since| now - since > SOON);
        let right = |host: &&Host| host.serves() && !wrong.contains(&host.index);
        let knows = self.hosts.iter().filter(right).find(|host| long(host.decided_since));
        for host in self.hosts.iter().filter(right) {
            let Some(knows) = knows.filter(|_| long(host.open_since)) else { continue };
            return holds(false, || {
                let (node, other) = (host.number(), knows.number());
                format!("node {node} does not find out what node {other} has known for long: {:?}", knows.found)
            });
        }
        for host in self.hosts.iter().filter(|host| long(host.asks_since) && long(right_since)) {
            let gives = self.hosts.iter().filter(right).any(|other| other.index != host.index);
            holds(!gives, || {
                format!("node {} gets no copy, and no wrong view has been there for long", host.number())
            })?;
        }
        Ok(())
    }

    /// Two that began at one position know soon that they differ there, whatever the log takes since: they hear each other.
    fn beginnings_are_compared(&self, wrong: &BTreeSet<usize>) -> Check {
        let long = |since: u64| self.now() > since + SOON;
        let hears = |host: &&Host| long(host.deaf_until.max(host.frozen_until)) && host.circle.is_some();
        let began = |host: &Host| host.began.filter(|began| began.at.ordinal > 0 && long(began.since));
        let all = || self.hosts.iter().filter(hears).filter_map(|host| Some((host, began(host)?)));
        for (right, here) in all().filter(|(host, began)| !began.is_wrong && !wrong.contains(&host.index)) {
            for (other, _) in all().filter(|(_, began)| began.is_wrong && began.at == here.at) {
                let know = [right, other].iter().all(|host| host.found != Agreement::Same);
                holds(know, || {
                    let (node, other, at) = (right.number(), other.number(), here.at);
                    format!("nodes {node} and {other} began at {at}, where their views differ, and do not find it")
                })?;
            }
        }
        Ok(())
    }
}
