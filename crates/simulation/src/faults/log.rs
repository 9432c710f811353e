//! What breaks in the log as a whole: it is lost, comes back as it was long ago, or tells a node less than there is.

use crate::failure::Check;
use crate::host::Host;
use crate::world::{Event, World};

impl World {
    /// Everything that the log held is gone for good, or back as it was a while ago. An operator will be there.
    pub(super) fn log_is_lost(&mut self) -> Check {
        let (newest, held) = (self.log.newest(), self.log.held());
        // What one loss leaves is made whole before the next: two at once may cost what was acknowledged.
        let here = |host: &&Host| host.circle.is_some() && host.journal.era == newest;
        let most = self.hosts.iter().filter(here).map(|host| host.journal.last).max().unwrap_or(0);
        let rests = self.hosts.iter().any(|host| host.journal.era != newest || host.halted.is_some());
        let restored = self.trouble.chance(400);
        if held != Some(newest) || most < self.log.applied() || rests || self.has_something_wrong()? {
            return Ok(());
        }
        let back = self.loses_log(restored)?;
        self.operator_is_called(back);
        if self.trouble.chance(300) { self.disk_is_lost_with_it() } else { Ok(()) }
    }

    /// The log is gone, or, if it may be, back as it was a while ago. Whether it is back.
    pub(crate) fn loses_log(&mut self, restored: bool) -> Check<bool> {
        self.journals_reach_views()?;
        // Who has anything has more than what comes back: who has not would go on with it while nobody else can be asked.
        let mut least = u64::MAX;
        for host in &self.hosts {
            let copies = host.copying.as_ref().map_or(u64::MAX, |copy| copy.at.ordinal);
            // Who missed that the generation began waits for somebody who knows what was lost.
            let is_here = self.log.generation(host.journal.era) == self.log.generation(self.log.newest());
            let has = if host.has_data()? && is_here { host.journal.synced } else { u64::MAX };
            least = least.min(copies).min(has);
        }
        let back = restored && (2..=self.log.last()).contains(&least);
        if back {
            let to = self.trouble.between(1, least - 1);
            self.note(format_args!("the log is as it was when it ended at {to}, and it ended at {}", self.log.last()));
            self.log.restore(to)?;
        } else {
            self.note(format_args!("the log is lost, which ended at {}", self.log.last()));
            self.log.lose();
        }
        self.lost = true;
        Ok(back)
    }

    /// The machine of a node, too, if others have what it has.
    fn disk_is_lost_with_it(&mut self) -> Check {
        let (index, after) = (self.trouble.index(self.hosts.len()), self.trouble.between(500, 30_000));
        if !self.others_have_all(index) {
            return Ok(());
        }
        let now = self.now();
        self.loses_power(index, "loses its disk, too")?;
        if let Some(host) = self.hosts.get_mut(index) {
            host.is_emptied(now);
        }
        self.after(after, Event::NodeStarts(index));
        Ok(())
    }

    /// Whether a node other than this one runs, or has halted, with all that any has applied.
    pub(crate) fn others_have_all(&self, index: usize) -> bool {
        let told = self.log.at(self.log.told(), self.log.applied());
        let is_here =
            |host: &&Host| host.index != index && host.circle.is_some() && !self.operators.have_out(host.index);
        let has = |host: &Host| self.log.told_of(host.journal.era, host.journal.last) >= told;
        self.hosts.iter().filter(is_here).any(has)
    }

    /// A view is another one than the log gives, or was. Where the log begins anew nothing would tell.
    pub(crate) fn has_something_wrong(&self) -> Check<bool> {
        let mut wrong = false;
        for host in &self.hosts {
            wrong |= host.is_wrong()? || host.mask.is_some() || host.differs.is_some();
        }
        Ok(wrong)
    }

    /// A tail passes over what there is without a word, or shows it again.
    pub(super) fn tail_is_off(&mut self) -> Check {
        let index = self.trouble.index(self.hosts.len());
        let off = if self.trouble.chance(700) { self.trouble.between(1, 3) as i64 } else { -1 };
        self.note(format_args!("the tail of node {} is off by {off}", index + 1));
        if let Some(host) = self.hosts.get_mut(index).filter(|host| host.node.is_some()) {
            host.tail_off = off;
        }
        Ok(())
    }
}
