//! Lives in which the log is lost again and again, in quick succession and where it hurts: who alone has the last of it goes away or has only a
//! journal left, an old backup is gone on with while the others are off, a node speaks of a generation that nobody else knows. All that is drawn
//! for it comes from numbers of its own, and it happens in every tenth life, so that the others are what they would be without.

use ieum_core::apply::applied;
use ieum_core::batch::Batch;
use ieum_core::commands::Command;
use ieum_core::ids::{NodeId, Position};
use ieum_core::kv::Kv as _;
use ieum_store::Memory;

use super::operator::Reseed;
use super::{Event, World};
use crate::failure::{Check, broken};
use crate::host::Host;
use crate::log::{Era, Log};
use crate::random::Random;
use crate::wan::Cut;

/// For how long what a node said last may come late and then be believed.
const BELIEVED_FOR: u64 = 40_000;

/// How the log is lost in a life.
#[derive(Debug)]
pub(crate) struct Losses {
    pub(crate) on: bool,
    random: Random,
    /// Who stands still when two histories have become one.
    still: Random,
    /// Who speaks of a later generation, and until when.
    liar: Option<(usize, u64)>,
    /// What goes on behind an old backup, beside what people were told of: none of them is let in there.
    apart: Option<Era>,
}

/// What becomes of a node that alone has the end of the log when that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays.
    Stays,
    /// It has no power for a while.
    Off,
    /// Nor has its data center.
    Dark,
    /// Its view and all copies of it are gone; its journal is left.
    ViewLost,
}

/// A loss of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss {
    /// Who has more of it than all others, and what becomes of it.
    pub(crate) ahead: Option<(usize, Fate)>,
    /// It comes back as it was long ago.
    pub(crate) restored: bool,
}

/// What an operator does whose cell goes on with an old backup.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mends {
    /// Everything was off: the log comes back from a backup that is no younger than what a node has, and that one is started first. With a new
    /// disk it may be younger than its membership.
    StartsOne { first: usize, new_disk: bool },
    /// Another one is started.
    Starts { index: usize },
    /// The operator finds it out, gives the cell an empty log and asks for a generation, the `told` one with the numbers of those who went on.
    Empties { told: bool },
}

impl Losses {
    pub(crate) fn of(seed: u64) -> Self {
        let random = Random::new(seed.rotate_left(32) ^ 0x6c6f_7373);
        let still = Random::new(seed.rotate_left(32) ^ 0x7374_696c);
        Self { on: matches!(seed % 20, 13 | 18), random, still, liar: None, apart: None }
    }

    /// Whether a node speaks of a later generation that there is not.
    pub(super) fn lies(&self, index: usize, now: u64) -> bool {
        self.liar.is_some_and(|(liar, until)| liar == index && now < until)
    }

    pub(super) fn somebody_lies(&self, now: u64) -> bool {
        self.liar.is_some_and(|(_, until)| now < until)
    }

    /// Whether what one has said of it may still be believed: with another one at once they could be most of a cell.
    fn is_believed(&self, now: u64) -> bool {
        self.liar.is_some_and(|(_, until)| now < until + BELIEVED_FOR)
    }

    /// What goes on beside what people were told of.
    pub(crate) fn apart(&self) -> Option<Era> {
        self.apart
    }

    /// Whether somebody goes on with what the log is.
    pub(super) fn goes_on_with(&self, log: &Log) -> bool {
        self.apart.is_some() && self.apart == log.held()
    }

    /// What the log holds goes on beside what people were told of.
    pub(crate) fn go_apart(&mut self, log: &Log) {
        self.apart = log.held();
    }

    /// Nobody lies any more. In which of the nodes trimming hangs from here on, if in any: mostly in the one that has to begin with it.
    pub(crate) fn are_over(&mut self, nodes: usize) -> Option<usize> {
        self.liar = None;
        let hangs = self.on && nodes > 1 && self.random.chance(300);
        hangs.then(|| if self.random.chance(700) { 0 } else { self.random.index(nodes) })
    }

    fn pick(&mut self, from: &[usize]) -> Option<usize> {
        self.random.pick(from).copied()
    }
}

impl World {
    /// The log is lost once more, or something of the kind begins.
    pub(super) fn something_is_lost(&mut self) -> Check {
        if !self.troubled {
            return Ok(());
        }
        let after = self.losses.random.between(8_000, 40_000);
        self.after(after, Event::Loses);
        self.faults += 1;
        if self.without.contains(&self.faults) || !self.may_lose_log()? {
            return Ok(());
        }
        let number = self.faults;
        self.note(format_args!("fault {number}"));
        let serving: Vec<usize> = self.hosts.iter().filter(|host| host.serves()).map(|host| host.index).collect();
        let several = serving.len() > 1;
        let (what, restored) = (self.losses.random.between(0, 99), self.losses.random.chance(300));
        let Some(one) = self.losses.pick(&serving) else { return Ok(()) };
        match what {
            0..=14 if self.hosts.len() > 2 => {
                let ms = self.losses.random.between(4_000, 30_000);
                if !self.losses.is_believed(self.now()) {
                    self.speaks_of_a_later_generation(one, ms);
                }
                Ok(())
            }
            15..=39 if several => {
                // Who missed that the generation began crosses into it.
                let missed = self.hosts.iter().find(|host| self.missed(host)).map(|host| host.index);
                self.goes_off_before_a_backup(missed.unwrap_or(one))
            }
            40..=79 if several => {
                self.one_gets_ahead(one, restored);
                Ok(())
            }
            _ => self.is_lost(Loss { ahead: None, restored }),
        }
    }

    /// A node says of itself that it is in a generation that there is not: its log is another one.
    pub(crate) fn speaks_of_a_later_generation(&mut self, index: usize, ms: u64) {
        self.note(format_args!("node {} speaks of a later generation for {ms} ms", index + 1));
        self.losses.liar = Some((index, self.now() + ms));
    }

    /// Whether some disk has all that anybody was told of, and no view is wrong: where the log begins anew nothing would tell.
    fn may_lose_log(&self) -> Check<bool> {
        let told = self.log.at(self.log.told(), self.log.applied());
        let mut furthest = Position::default();
        for host in &self.hosts {
            furthest = furthest.max(self.has(host.index)?);
        }
        let is_whole = !self.lost && self.log.held() == Some(self.log.told()) && self.losses.apart.is_none();
        Ok(is_whole && furthest >= told && !self.has_something_wrong()?)
    }

    /// Nodes see nothing new for a moment, but for one, and then the log is lost.
    fn one_gets_ahead(&mut self, ahead: usize, restored: bool) {
        let ms = self.losses.random.between(200, 3_000);
        let until = self.now() + ms + 3_000;
        for host in self.hosts.iter_mut().filter(|host| host.index != ahead) {
            host.tail_hangs_until = host.tail_hangs_until.max(until);
        }
        let fate = match self.losses.random.between(0, 9) {
            0..=2 => Fate::Stays,
            3..=4 => Fate::Off,
            5..=6 => Fate::Dark,
            _ => Fate::ViewLost,
        };
        self.after(ms, Event::IsLost(Loss { ahead: Some((ahead, fate)), restored }));
    }

    pub(super) fn is_lost(&mut self, Loss { ahead, restored }: Loss) -> Check {
        if !self.troubled || !self.may_lose_log()? {
            return Ok(());
        }
        let replace = self.loses_log(restored)?;
        let (after, patience) = (self.losses.random.between(200, 6_000), self.losses.random.between(2_000, 40_000));
        let loses = self.losses.random.chance(600);
        self.operator_comes(after, Reseed { patience, replace, loses, ..Reseed::default() });
        let (away, soon) = (self.losses.random.between(3_000, 90_000), self.losses.random.between(100, 2_000));
        match ahead {
            Some((index, Fate::Off)) => {
                self.loses_power(index, "goes off")?;
                self.after(away, Event::NodeStarts(index));
            }
            Some((index, Fate::Dark)) => self.goes_dark(self.dc_of(index), away)?,
            Some((index, Fate::ViewLost)) if self.another_has_a_view(index)? => {
                self.loses_power(index, "loses its view and all copies of it")?;
                self.view_is_lost(index);
                if self.losses.random.chance(400) {
                    // An operator reaches it, and the others do not.
                    let elects = self.wan.cut(self.dc_of(index), Cut { deaf: true, mute: true, shut: false });
                    self.elects(elects);
                    self.after(away, Event::Joined(self.dc_of(index)));
                }
                self.after(soon, Event::NodeStarts(index));
            }
            _ => {}
        }
        Ok(())
    }

    /// The log is about to be lost. A view that a power cut has left ahead of its journal is compared with nobody's then: where another one has only a
    /// journal an operator would have to say what is to be lost, and nothing but their digests would tell it from another history.
    pub(crate) fn journals_reach_views(&mut self) -> Check {
        for host in self.hosts.iter_mut().filter(|host| !host.data.view_is_damaged) {
            let at = applied(&host.disk.snapshot())?.position;
            let journal = &mut host.journal;
            if at.generation == self.log.generation(journal.era) && at.ordinal > journal.last {
                (journal.last, journal.synced) = (at.ordinal, at.ordinal);
            }
        }
        Ok(())
    }

    /// Of a node that is off.
    pub(crate) fn view_is_lost(&mut self, index: usize) {
        if let Some(host) = self.hosts.get_mut(index) {
            host.disk = Memory::new();
            host.data.loses_view();
        }
    }

    /// Whether another node has a view that the journal of this one brings further.
    fn another_has_a_view(&self, index: usize) -> Check<bool> {
        let from = self.hosts.get(index).map_or(u64::MAX, |host| host.journal.from);
        let here = |host: &&Host| host.index != index && host.journal.era == self.log.told() && host.journal.last > 0;
        for host in self.hosts.iter().filter(here).filter(|host| !host.data.view_is_damaged) {
            let view = applied(&host.disk.snapshot())?.position;
            let is_ahead = view.generation == self.log.generation(host.journal.era) && view.ordinal > host.journal.last;
            if host.journal.last >= from && !is_ahead {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a node was away when a generation began.
    pub(super) fn missed(&self, host: &Host) -> bool {
        host.journal.last > 0 && self.log.generation(host.journal.era) < self.log.generation(self.log.told())
    }

    /// A node goes off, a while before everything does.
    fn goes_off_before_a_backup(&mut self, first: usize) -> Check {
        // The founder is a member of what is founded, and would know of nobody else.
        let new_disk = self.log.told() == 0 && self.losses.random.chance(500) && first > 0;
        let after = if new_disk { 0 } else { self.losses.random.between(500, 30_000) };
        if !new_disk {
            self.loses_power(first, "goes off")?;
            if let Some(host) = self.hosts.get_mut(first) {
                host.off = true;
            }
        }
        self.after(after, Event::Mends(Mends::StartsOne { first, new_disk }));
        Ok(())
    }

    pub(super) fn mends(&mut self, mends: Mends) -> Check {
        match mends {
            Mends::StartsOne { first, new_disk } => self.an_old_backup_goes_on(first, new_disk),
            Mends::Starts { index } => {
                if let Some(host) = self.hosts.get_mut(index) {
                    host.off = false;
                }
                self.node_starts(index)
            }
            Mends::Empties { told } => {
                self.log_is_emptied(told);
                Ok(())
            }
        }
    }

    /// Everything is off, and the log comes back as it was when `first` was there last.
    fn an_old_backup_goes_on(&mut self, first: usize, new_disk: bool) -> Check {
        if let Some(host) = self.hosts.get_mut(first) {
            host.off = false;
        }
        let may = self.troubled && self.may_lose_log()? && (!new_disk || self.others_have_all(first));
        if !may || self.backup_of(first, new_disk)?.is_none() {
            return self.node_starts(first);
        }
        self.journals_reach_views()?;
        self.lost = true;
        for index in 0..self.hosts.len() {
            self.loses_power(index, "goes off")?;
            if let Some(host) = self.hosts.get_mut(index) {
                host.off = true;
            }
        }
        self.old_backup_is_back(first, new_disk)?;
        // It is started first, or not before the others, who have halted then.
        let missed = self.hosts.get(first).is_some_and(|host| self.missed(host));
        let is_late = self.losses.random.chance(if missed { 700 } else { 250 });
        let late = if is_late { self.losses.random.between(5_000, 40_000) } else { 0 };
        let found = self.losses.random.between(5_000, 90_000);
        for index in 0..self.hosts.len() {
            // Where there is a new disk they are away still when the operator has found it out.
            let (least, most) = if new_disk { (found + 2_000, found + 40_000) } else { (2_000, found + 5_000) };
            let after = if index == first { late } else { self.losses.random.between(least, most) };
            self.after(after, Event::Mends(Mends::Starts { index }));
        }
        let told = self.losses.random.chance(400);
        self.after(found, Event::Mends(Mends::Empties { told }));
        Ok(())
    }

    /// Between where a backup may end that `first` goes on with: no earlier than what it has, or, with a new disk, before it was a member; and not where
    /// all that people were told of is in it.
    fn backup_of(&self, first: usize, new_disk: bool) -> Check<Option<(u64, u64)>> {
        let had = self.has(first)?;
        let is_of_now = had.generation == self.log.generation(self.log.told());
        let least = if is_of_now && !new_disk { had.ordinal.max(1) } else { 1 };
        let older = self.log.applied().min(self.log.last()).saturating_sub(1);
        let most = if new_disk { self.log.before_member(self.number_of(first)).min(older) } else { older };
        Ok((least <= most).then_some((least, most)))
    }

    /// The log is as it was when a node saw it last or some time later; if that has a new disk, when it was no member yet. Everybody is off.
    pub(crate) fn old_backup_is_back(&mut self, first: usize, new_disk: bool) -> Check {
        let Some((least, most)) = self.backup_of(first, new_disk)? else { return broken("no backup is old enough") };
        if new_disk {
            let now = self.now();
            self.hosts.get_mut(first).into_iter().for_each(|host| host.is_emptied(now));
        }
        let near = self.losses.random.chance(500);
        let to = self.losses.random.between(if near { least.max(most.saturating_sub(20)) } else { least }, most);
        self.note(format_args!("the log is as it was when it ended at {to}, and node {} goes on with it", first + 1));
        self.log.restore(to)?;
        self.losses.apart = self.log.held();
        Ok(())
    }

    /// Nodes that went on with what people were not told of.
    pub(crate) fn of_another_history(&self) -> Vec<NodeId> {
        let other = |host: &&Host| !self.log.is_told_up_to(host.journal.era, host.journal.last);
        self.hosts.iter().filter(other).map(Host::number).collect()
    }

    /// An operator has found out that nodes went on with an old backup, and gives the cell a log with nothing in it.
    pub(crate) fn log_is_emptied(&mut self, told: bool) {
        self.note(format_args!("the log is emptied, which ended at {}", self.log.last()));
        self.log.lose();
        let without = if told { self.of_another_history() } else { Vec::new() };
        let (after, patience) = (self.losses.random.between(200, 6_000), self.losses.random.between(2_000, 40_000));
        self.operator_comes(after, Reseed { patience, without, ..Reseed::default() });
    }

    /// The log has begun anew: whoever was kept off is started, and nobody is kept out.
    pub(super) fn all_start_again(&mut self) -> Check {
        if self.losses.apart.take().is_none() {
            return Ok(());
        }
        self.one_stands_still();
        for index in 0..self.hosts.len() {
            if let Some(host) = self.hosts.get_mut(index) {
                host.off = false;
            }
            self.node_starts(index)?;
        }
        Ok(())
    }

    /// One that has found another history stands still, while the others go on as one and may lose their log again: what it says then is of before.
    fn one_stands_still(&mut self) {
        let has_found = |host: &&Host| host.halted.as_ref().is_some_and(|halted| !halted.others.is_empty());
        let those: Vec<usize> = self.hosts.iter().filter(has_found).map(|host| host.index).collect();
        let (stands, ms) = (self.losses.still.chance(600), self.losses.still.between(15_000, 120_000));
        let Some(index) = self.losses.still.pick(&those).copied().filter(|_| stands) else { return };
        let until = self.now() + ms;
        if let Some(host) = self.hosts.get_mut(index) {
            host.frozen_until = host.frozen_until.max(until);
        }
        self.note(format_args!("node {}, which has found another history, stands still for {ms} ms", index + 1));
    }

    /// Whether nothing of what lies behind an ordinal of the log is about who somebody is: what was lost of that people would not offer again.
    pub(super) fn is_harmless(&self, behind: u64) -> bool {
        let skipped = usize::try_from(behind).unwrap_or(usize::MAX);
        self.log.entries(self.log.told()).iter().skip(skipped).all(|entry| {
            let commands = Batch::decode(&entry.bytes).map(|batch| batch.commands).unwrap_or_default();
            commands.iter().all(|of| {
                !matches!(
                    of.command,
                    Command::Register(_) | Command::AddDevice(_) | Command::LogOut(_) | Command::SetPassword(_)
                )
            })
        })
    }
}
