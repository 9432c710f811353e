//! Views that differ: who goes out, and what an operator does then. That a view is wrong stands in a row of it that no code of the product
//! looks at, so that a copy of it is known to be wrong, too.

use ieum_core::apply::{applied, position_alone};
use ieum_core::kv::{Kv as _, Read as _};
use ieum_core::tables::cell::Applied;
use ieum_node::peers::{Agreement, Phase};
use ieum_store::Memory;

use super::{Event, World};
use crate::failure::{Broken, Check, holds};
use crate::host::Host;

/// The row that tells that a view is wrong; up to which ordinal its digests were bent.
const WRONG: &[u8] = b"\xfe wrong";
/// How often an operator looks.
pub(super) const LOOKS_EVERY: u64 = 5_000;
/// For how long a difference is there before an operator settles it.
const PATIENCE: u64 = 20_000;
/// For how long where views are tried, while things break: then the nodes have to come to an end by themselves.
const MORE_PATIENCE: u64 = 90_000;

impl Host {
    /// Whether the view on its disk is another one than the log gives.
    pub(crate) fn is_wrong(&self) -> Check<bool> {
        Ok(self.disk.snapshot().get(WRONG)?.is_some())
    }

    /// The process that made it wrong is gone. If what it wrote last is gone, too, the view is right again.
    pub(crate) fn stays_wrong(&mut self) -> Check {
        if self.mask.take().is_none() {
            return Ok(());
        }
        let view = self.disk.snapshot();
        let last = applied(&view)?.position.ordinal.to_le_bytes();
        if view.get(WRONG)?.is_some_and(|bent| bent[..] != last) {
            let mut writes = ieum_core::kv::WriteSet::default();
            writes.rows.insert(WRONG.to_vec(), None);
            self.disk.commit(&writes)?;
            self.disk.persist()?;
        }
        Ok(())
    }
}

/// While a view goes wrong, no digest of it is what it should be.
pub(super) fn bend(disk: &Memory, mask: Option<u64>) -> Check {
    let Some(mask) = mask else { return Ok(()) };
    let Applied { position, mut digest } = applied(&disk.snapshot())?;
    for (byte, flips) in digest.iter_mut().zip(mask.to_le_bytes()) {
        *byte ^= flips;
    }
    let mut writes = position_alone(&Applied { position, digest });
    writes.rows.insert(WRONG.to_vec(), Some(position.ordinal.to_le_bytes().to_vec().into()));
    Ok(disk.commit(&writes)?)
}

impl World {
    /// What a node finds out about the views of the cell.
    pub(super) fn finds(&mut self, index: usize, agreement: Agreement) -> Check {
        let now = self.now();
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let is_open = matches!(agreement, Agreement::Undecided { .. });
        host.open_since = is_open.then(|| host.open_since.unwrap_or(now));
        let is_decided = matches!(agreement, Agreement::OtherDiffers { .. });
        host.decided_since = is_decided.then(|| host.decided_since.unwrap_or(now));
        let before = std::mem::replace(&mut host.found, agreement);
        let is_news = before != agreement;
        if is_news {
            self.note(format_args!("node {} finds: {agreement:?}", index + 1));
        }
        if let (Agreement::OtherDiffers { node, .. }, true) = (before, is_open) {
            // Something else may be open now. What was decided stays, as long as it is right.
            let of = self.hosts.iter().find(|other| other.number() == node && other.circle.is_some());
            let is_wrong = of.map(Host::is_wrong).transpose()?.unwrap_or(false);
            let peers = self.hosts.get(index).and_then(|host| host.circle.as_ref()).map(|circle| &circle.peers);
            let knows = peers.is_none_or(|peers| peers.decided().iter().any(|decided| decided.node == node));
            holds(knows || !is_wrong, || format!("node {} knows no more that node {node} has to go", index + 1))?;
        }
        if let Agreement::OtherDiffers { node, .. } = agreement {
            holds(node != self.number_of(index), || format!("node {node} finds that it has to go, and stays"))?;
        }
        match agreement {
            Agreement::OwnDiffers { .. } => self.goes_out(index),
            _ => Ok(()),
        }
    }

    /// A node's view differs: it says so, ends, and does not start with this data again.
    fn goes_out(&mut self, index: usize) -> Check {
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let is_wrong = host.is_wrong()?;
        if let Some(circle) = &mut host.circle {
            let evidence = circle.peers.evidence();
            circle.own.phase = Phase::Out;
            host.differs.get_or_insert(evidence.clone());
            holds(is_wrong, || format!("node {} goes out, whose view is right: {evidence}", index + 1))?;
        }
        self.tell(index);
        self.note(format_args!("node {} goes out", index + 1));
        self.node_dies(index, usize::MAX)?;
        Ok(())
    }

    /// An operator looks after the cell: a node that went out begins anew from the others, and what stays open is settled.
    pub(super) fn operator_looks(&mut self) -> Check {
        self.after(LOOKS_EVERY, Event::OperatorLooks);
        let now = self.now();
        let waits = self.views.on && self.troubled;
        let patience = if waits { MORE_PATIENCE } else { PATIENCE };
        // Where each of two takes the other for the wrong one, neither goes.
        let since = |host: &Host| host.open_since.or(host.decided_since);
        let open = |host: &Host| since(host).is_some_and(|since| now - since >= patience);
        let is_open = self.hosts.iter().any(open);
        let right = |host: &Host| Ok::<_, Broken>(host.serves() && !host.is_wrong()?);
        let gives = self.hosts.iter().try_fold(false, |gives, host| right(host).map(|right| gives || right))?;
        if !gives {
            // What is here is all that there is.
            return Ok(());
        }
        for index in 0..self.hosts.len() {
            let Some(host) = self.hosts.get(index) else { continue };
            let is_out = host.differs.is_some() && (!waits || self.trouble.chance(150));
            if is_out || (is_open && host.is_wrong()?) {
                self.begins_anew(index)?;
                break;
            }
        }
        Ok(())
    }

    /// `ieum node resync`: what is there is set aside, and the node begins from the others.
    fn begins_anew(&mut self, index: usize) -> Check {
        let now = self.now();
        self.note(format_args!("node {} is to begin anew", index + 1));
        self.node_dies(index, usize::MAX)?;
        if let Some(host) = self.hosts.get_mut(index) {
            host.is_emptied(now);
            host.differs = None;
        }
        self.after(500, Event::NodeStarts(index));
        Ok(())
    }

    /// Nobody copies from a node that was started with a wrong view while one is there to compare it with.
    pub(super) fn lends_compared(&self, lender: usize, newcomer: usize) -> Check {
        let Some(host) = self.hosts.get(lender) else { return Ok(()) };
        let Some(circle) = &host.circle else { return Ok(()) };
        if host.mask.is_some() || !host.is_wrong()? {
            return Ok(());
        }
        let now = self.now() - circle.started;
        for report in circle.peers.reports(now) {
            let other = self.hosts.iter().find(|other| other.number() == report.node);
            let Some(other) = other.filter(|other| other.index != newcomer && other.index != lender) else { continue };
            let is_there = other.serves() && other.copied.is_none() && other.began_with_something;
            let same_life = other.circle.as_ref().is_some_and(|theirs| theirs.own.life == report.life);
            let compares = is_there && same_life && report.phase == Phase::Ready && !other.is_wrong()?;
            holds(!compares, || {
                format!("node {} gives its wrong view without comparing it with node {}", lender + 1, report.node)
            })?;
        }
        Ok(())
    }
}
