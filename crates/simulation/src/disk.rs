//! What lies on a node's disk beside its view and its journal, and how the disk fares.

use ieum_core::ids::Position;
use ieum_node::snapshot::{self, Error, Meta};
use ieum_store::Memory;

use crate::failure::{Broken, Check, broken, holds};

/// A copy of the view. Its bytes are made when they matter: they follow from its rows.
pub(crate) struct Snapshot {
    pub(crate) at: Position,
    pub(crate) view: Memory,
    /// A bit that has flipped, anywhere.
    pub(crate) flipped: Option<u64>,
}

impl Snapshot {
    /// Whether it is as it was written, as who reads it finds out.
    pub(crate) fn is_whole(&self) -> Check<bool> {
        let Some(bit) = self.flipped else { return Ok(true) };
        Ok(read_with(&self.view, bit)?.is_none())
    }
}

/// What a snapshot of `view` is found to be of which one bit has flipped. It has to be nothing.
pub(crate) fn read_with(view: &Memory, bit: u64) -> Check<Option<Meta>> {
    let mut bytes = written(view)?;
    let bits = bytes.len() as u64 * 8;
    let at = usize::try_from(bit % bits.max(1) / 8).unwrap_or(0);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (bit % 8);
    }
    match snapshot::check_bytes(&bytes) {
        Err(Error::Damaged { .. }) => Ok(None),
        Err(error) => broken(format!("a snapshot cannot be read: {error}")),
        Ok(meta) => {
            broken(format!("nobody notices that byte {at} of the snapshot at {} is another one", meta.position))
        }
    }
}

/// What a whole snapshot of `view` is of, as who reads it finds out.
pub(crate) fn read(view: &Memory) -> Check<Meta> {
    snapshot::check_bytes(&written(view)?).map_err(|error| Broken(ieum_node::chain(&error)))
}

fn written(view: &Memory) -> Check<Vec<u8>> {
    snapshot::bytes_of(view).map_err(|error| Broken(ieum_node::chain(&error)))
}

/// A disk.
#[derive(Default)]
pub(crate) struct Disk {
    /// Oldest first.
    snapshots: Vec<(Position, Snapshot)>,
    /// The view does not open any more.
    pub(crate) view_is_damaged: bool,
    /// Nothing is made durable before.
    pub(crate) hangs_until: u64,
}

impl Disk {
    /// Another snapshot lies here. Gives where the older of two stands that can be read whole: what lies behind it is needed no more.
    pub(crate) fn takes(&mut self, at: Position, view: Memory) -> Check<Option<Position>> {
        if self.snapshots.last().is_some_and(|(newest, _)| *newest >= at) {
            return Ok(None);
        }
        self.snapshots.push((at, Snapshot { at, view, flipped: None }));
        let mut all = std::mem::take(&mut self.snapshots);
        let Some((older, kept)) = ieum_node::upkeep::keeps(&mut all) else {
            self.snapshots = all;
            return Ok(None);
        };
        let are_whole = kept.iter().try_fold(true, |whole, (_, kept)| kept.is_whole().map(|is| whole && is));
        let are_whole = are_whole?;
        // One that is damaged is kept, and all that was there before, so that the log reaches back as far.
        all.extend(kept);
        if are_whole {
            all.retain(|(at, _)| *at >= older);
        }
        self.snapshots = all;
        Ok(are_whole.then_some(older))
    }

    /// All that there is comes from another node.
    pub(crate) fn begins_with(&mut self, at: Position, view: Memory) {
        self.snapshots = vec![(at, Snapshot { at, view, flipped: None })];
        self.view_is_damaged = false;
    }

    /// The view is gone, and all copies of it.
    pub(crate) fn loses_view(&mut self) {
        self.snapshots.clear();
        self.view_is_damaged = true;
    }

    /// The snapshots are of an earlier generation than the log.
    pub(crate) fn fits_no_more(&mut self) {
        self.snapshots.clear();
    }

    pub(crate) fn snapshots(&mut self) -> impl DoubleEndedIterator<Item = &mut Snapshot> {
        self.snapshots.iter_mut().map(|(_, snapshot)| snapshot)
    }

    /// The newest snapshot that is whole and that a journal goes on from which reaches back to `from`.
    pub(crate) fn newest(&self, from: Position) -> Check<Option<&Snapshot>> {
        let mut damaged = 0;
        for (_, snapshot) in self.snapshots.iter().rev() {
            if !snapshot.is_whole()? {
                damaged += 1;
                continue;
            }
            let goes_on = snapshot.at >= from;
            holds(goes_on || damaged != 1, || {
                format!("the older snapshot, at {}, does not serve: the journal begins behind {from}", snapshot.at)
            })?;
            return Ok(Some(snapshot).filter(|_| goes_on));
        }
        Ok(None)
    }
}
