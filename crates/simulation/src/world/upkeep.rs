//! What goes on beside the messages: what is applied is made durable, snapshots are taken, the journal is trimmed behind them; and a view that
//! does not open is rebuilt.

use ieum_core::apply::applied;
use ieum_core::ids::Position;
use ieum_core::kv::Kv as _;
use ieum_node::snapshot::is_asked_for;
use ieum_store::Memory;

use super::{NodeEvent, World};
use crate::disk::{read, read_with};
use crate::failure::{Check, holds};
use crate::host::{Copy, Host};
use crate::log::FIRST;
use crate::node::CELL;

impl World {
    /// Makes durable what was applied, unless the disk hangs: first the journal, so that the view does not come to stand beyond it.
    pub(crate) fn persists(&mut self, index: usize) -> Check {
        let now = self.now();
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.data.hangs_until <= now) else { return Ok(()) };
        host.journal.synced = host.journal.last;
        Ok(host.disk.persist()?)
    }

    pub(super) fn next_snapshot(&mut self, index: usize) {
        let after = self.random.between(15_000, 90_000);
        self.node_soon(index, after, NodeEvent::Snapshot);
    }

    /// A node takes a snapshot and trims its journal behind the older of two.
    pub(super) fn takes_snapshot(&mut self, index: usize) -> Check {
        let now = self.now();
        self.next_snapshot(index);
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.data.hangs_until <= now) else { return Ok(()) };
        let view = host.disk.copy();
        let at = applied(&view.snapshot())?.position;
        let Some(older) = host.data.takes(at, view)? else { return Ok(()) };
        // What it has not read yet it reads first.
        if older.ordinal <= host.journal.last {
            host.journal.from = host.journal.from.max(older.ordinal);
            host.journal.synced = host.journal.synced.max(older.ordinal);
        }
        self.note(format_args!("node {} takes a snapshot at {at}, its journal begins behind {older}", index + 1));
        Ok(())
    }

    /// A view that does not open is made anew from a snapshot, or from all batches if there are all: those up to `trimmed` are not. False when
    /// nothing here is good for it.
    pub(super) fn rebuilds(&mut self, index: usize, trimmed: u64) -> Check<bool> {
        let generation = self.hosts.get(index).map_or(FIRST, |host| self.log.generation(host.journal.era));
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.data.view_is_damaged) else { return Ok(true) };
        let from = Position::new(generation, host.journal.from);
        let (view, at) = match host.data.newest(from)? {
            Some(snapshot) => (snapshot.view.copy(), snapshot.at),
            None if trimmed == 0 && generation == FIRST => (Memory::new(), Position::new(FIRST, 0)),
            None => return Ok(false),
        };
        let stands = applied(&view.snapshot())?.position;
        holds(stands == at, || format!("the snapshot at {at} gives a view at {stands}"))?;
        (host.disk, host.data.view_is_damaged) = (view, false);
        self.note(format_args!("node {} rebuilds its view from {at}", index + 1));
        Ok(true)
    }

    /// A copy has come, whole or not: one that is not what was asked for is given up, and another one asked for.
    pub(super) fn copied(&mut self, index: usize) -> Check {
        let (damaged, looks, bit) = (self.random.chance(80), self.random.chance(80), self.random.next());
        let Some(host) = self.hosts.get(index) else { return Ok(()) };
        let Some(Copy { view, at, from: (lender, life), .. }) = &host.copying else { return Ok(()) };
        let (at, lender, life) = (*at, *lender, *life);
        if damaged && self.troubled {
            read_with(view, bit)?;
        } else if looks {
            let meta = read(view)?;
            let is_it = is_asked_for(&meta, CELL.into(), at);
            holds(is_it.is_ok(), || format!("the copy at {at} is not what was asked for: {is_it:?}"))?;
        }
        let gives = self.hosts.get(lender).is_some_and(|lender| lender.lives == life && lender.circle.is_some());
        let host = self.hosts.get_mut(index);
        if gives && !(damaged && self.troubled) {
            host.into_iter().for_each(Host::takes_copy);
        } else {
            host.into_iter().for_each(|host| host.copying = None);
            self.note(format_args!("the copy for node {} is worth nothing", index + 1));
        }
        self.open(index)
    }
}
