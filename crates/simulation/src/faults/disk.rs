//! What goes wrong with a node's data.

use crate::failure::Check;
use crate::world::World;

impl World {
    /// From here on a running node's view is another one than its log gives: a bit has flipped, or its build is wrong. The digest shows it.
    pub(super) fn view_goes_wrong(&mut self) -> Check {
        let index = self.trouble.index(self.hosts.len());
        let mask = self.trouble.next() | 1;
        // Two that are right are more than each that is wrong in its own way. Of two it stays open who is.
        let most = if self.hosts.len() > 3 { self.hosts.len() - 2 } else { (self.hosts.len() - 1) / 2 };
        let mut wrong = 0;
        for host in &self.hosts {
            wrong += usize::from(host.is_wrong()? || host.mask.is_some());
        }
        let tie = self.trouble.chance(100);
        if wrong >= most && !(tie && wrong == 0) {
            return Ok(());
        }
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.node.is_some() && host.mask.is_none()) else {
            return Ok(());
        };
        host.mask = Some(mask);
        self.note(format_args!("the view of node {} goes wrong", index + 1));
        Ok(())
    }
}
