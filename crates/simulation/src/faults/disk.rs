//! What goes wrong with a node's data.

use ieum_gateway::Cell as _;
use ieum_store::Memory;

use crate::failure::Check;
use crate::host::Host;
use crate::node::Node;
use crate::world::{Event, MOST_KEPT, World};

impl World {
    /// From here on a running node's view is another one than its log gives: a bit has flipped, or its build is wrong. The digest shows it.
    pub(super) fn view_goes_wrong(&mut self) -> Check {
        let index = self.trouble.index(self.hosts.len());
        let mask = self.trouble.next() | 1;
        // Two that are right are more than each that is wrong in its own way. Of two it stays open who is.
        let least = if self.hosts.len() > 2 && !self.trouble.chance(100) { 2 } else { 1 };
        // One that lags could be overtaken, and those that are left lend it nothing.
        let last = self.log.last();
        let keeps_up = |node: &Node| node.cell.applied().ordinal + MOST_KEPT / 2 >= last;
        let counts = |host: &Host| host.node.as_ref().is_some_and(keeps_up);
        if self.lost || self.right_views_beside(index, counts)? < least {
            return Ok(());
        }
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.node.is_some() && host.mask.is_none()) else {
            return Ok(());
        };
        host.mask = Some(mask);
        self.note(format_args!("the view of node {} goes wrong", index + 1));
        Ok(())
    }

    /// Nothing that a node writes becomes durable for a while.
    pub(super) fn disk_hangs(&mut self) -> Check {
        let index = self.trouble.index(self.hosts.len());
        let ms = self.trouble.between(1_000, 40_000);
        let until = self.now() + ms;
        if let Some(host) = self.hosts.get_mut(index) {
            host.data.hangs_until = until;
        }
        self.note(format_args!("the disk of node {} hangs for {ms} ms", index + 1));
        Ok(())
    }

    /// A bit of a snapshot flips.
    pub(super) fn bit_flips(&mut self) -> Check {
        let (index, bit) = (self.trouble.index(self.hosts.len()), self.trouble.next());
        let newest = self.trouble.chance(700);
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let mut snapshots = host.data.snapshots();
        let Some(snapshot) = (if newest { snapshots.next_back() } else { snapshots.next() }) else { return Ok(()) };
        snapshot.flipped = Some(bit);
        let at = snapshot.at;
        drop(snapshots);
        self.note(format_args!("a bit of the snapshot of node {} at {at} flips", index + 1));
        Ok(())
    }

    /// A node loses its power, and its view does not open any more.
    pub(super) fn view_is_damaged(&mut self) -> Check {
        let index = self.trouble.index(self.hosts.len());
        let down_for = self.trouble.between(100, 6_000);
        let runs = self.hosts.get(index).is_some_and(|host| host.node.is_some());
        if !runs || self.lost || !self.hosts.iter().all(Host::serves) || !self.may_lose_data(index)? {
            return Ok(());
        }
        self.loses_power(index, "dies, and its view is damaged")?;
        if let Some(host) = self.hosts.get_mut(index) {
            (host.disk, host.data.view_is_damaged) = (Memory::new(), true);
        }
        self.after(down_for, Event::NodeStarts(index));
        Ok(())
    }

    /// Data is taken from a node only beside one whose view is right, or all that is left to copy could be wrong.
    pub(crate) fn may_lose_data(&self, index: usize) -> Check<bool> {
        Ok(self.hosts.len() == 1 || self.right_views_beside(index, |_| true)? > 0)
    }

    /// How many other nodes of which this is true serve with a right view and stay.
    fn right_views_beside(&self, index: usize, counts: impl Fn(&Host) -> bool) -> Check<usize> {
        let mut right = 0;
        let stays = |host: &&Host| {
            host.index != index
                && host.serves()
                && host.journal.era == self.log.told()
                && !self.operators.have_out(host.index)
        };
        for host in self.hosts.iter().filter(stays).filter(|host| counts(host)) {
            right += usize::from(host.mask.is_none() && !host.is_wrong()?);
        }
        Ok(right)
    }
}
