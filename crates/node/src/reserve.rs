//! Room on the disk that a node keeps free: trimming the log, taking snapshots and closing the databases need some, and a view that could
//! not be written stops the node. So it refuses commands before the disk is full, and takes them again when there is room.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ieum_planted::Bug;

/// How much more than the reserve must be free before commands are taken again, as a part of it: else it would go to and fro.
const RETURN_PART: u64 = 8;

/// So much more is written before it is looked again whether a copy for another node still leaves room.
const MARGIN: u64 = 32 << 20;

/// How much is kept free, and whether it still is.
#[derive(Debug)]
pub struct Reserve {
    folder: PathBuf,
    bytes: u64,
    free: AtomicU64,
    short: AtomicBool,
}

impl Reserve {
    /// Keeps `bytes` free where `folder` lies; 0 asks for nothing.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, bytes: u64) -> Self {
        let (free, short) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
        Self { folder: folder.into(), bytes, free, short }
    }

    /// Whether less is free than should be, as of the last look.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// Bytes that were free at the last look.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Looks how much is free, and says so when that changes what the node does.
    pub fn look(&self) {
        match self.measure() {
            Ok(free) => self.note(free),
            Err(error) => tracing::warn!(%error, folder = %self.folder.display(), "the disk's free space is unknown"),
        }
    }

    /// Whether a copy for another node leaves room, looked at now. Of a disk that cannot be asked nothing is taken for granted, nor refused.
    pub(crate) fn has_room_for_copies(&self) -> bool {
        Bug::CopiesTakeReserve.planted() || self.measure().map_or(true, |free| self.is_enough_for_copies(free))
    }

    /// With no more than the reserve left this node would have to refuse commands itself.
    fn is_enough_for_copies(&self, free: u64) -> bool {
        let (back, margin) = (self.bytes / RETURN_PART, MARGIN);
        self.bytes == 0 || free >= self.bytes.saturating_add(back).saturating_add(margin)
    }

    fn measure(&self) -> io::Result<u64> {
        let space = nix::sys::statvfs::statvfs(&self.folder)?;
        // Their types differ between platforms.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "32 or 64 bits by platform")]
        let (blocks, size) = (space.blocks_available() as u64, space.fragment_size() as u64);
        Ok(blocks.saturating_mul(size))
    }

    fn note(&self, free: u64) {
        self.free.store(free, Ordering::Relaxed);
        let was = self.is_short();
        let wanted = if was { self.bytes.saturating_add(self.bytes / RETURN_PART) } else { self.bytes };
        let short = free < wanted && !Bug::ReserveIgnored.planted();
        self.short.store(short, Ordering::Relaxed);
        let (free_mib, reserve_mib) = (free >> 20, self.bytes >> 20);
        if short && !was {
            let folder = self.folder.display();
            tracing::error!(
                %folder, free_mib, reserve_mib,
                "the disk is almost full: commands are refused until there is room again. Make room, or set [node] reserve_mib"
            );
        } else if was && !short {
            tracing::info!(free_mib, reserve_mib, "there is room on the disk again: commands are taken");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_short_below_the_reserve_and_until_there_is_clearly_more() {
        let reserve = Reserve::new("/", 800);
        assert!(!reserve.is_short());
        for (free, short) in
            [(800, false), (799, true), (800, true), (899, true), (900, false), (800, false), (0, true)]
        {
            reserve.note(free);
            assert_eq!((reserve.is_short(), reserve.free()), (short, free), "{free} bytes free");
        }
    }

    /// While it is written, what the node itself writes does not bring it to its reserve.
    #[test]
    fn a_copy_ends_long_before_the_node_is_short() {
        let reserve = Reserve::new("/", 800 << 20);
        assert!(!reserve.is_enough_for_copies(900 << 20), "where it is looked next commands might be refused");
        assert!(reserve.is_enough_for_copies((900 << 20) + MARGIN));
        assert!(Reserve::new("/", 0).is_enough_for_copies(0));
    }

    #[test]
    fn a_reserve_of_nothing_is_never_short() {
        let reserve = Reserve::new("/", 0);
        reserve.note(0);
        assert!(!reserve.is_short());
    }

    #[test]
    fn a_real_disk_has_some_room_and_an_absent_one_changes_nothing() {
        let reserve = Reserve::new("/", u64::MAX / 2);
        reserve.look();
        assert!(reserve.is_short() && reserve.free() < u64::MAX / 2);
        let absent = Reserve::new("/there/is/no/such/folder", u64::MAX / 2);
        absent.look();
        assert!(!absent.is_short());
    }
}
