//! A small disk in memory, to fill up.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::error::{Error, Naming as _};

/// A mounted tmpfs of a given size; unmounted when dropped. Needs root.
#[derive(Debug)]
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// Mounts an empty one that holds `bytes`, rounded up to pages of 4 KiB.
    pub fn new(bytes: u64) -> Result<Self, Error> {
        let folder = TempDir::with_prefix("ieum-tmpfs-").naming(|| "making a folder for a tmpfs".to_owned())?;
        let size = format!("size={bytes},mode=755");
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
        mount(Some("ieum-tmpfs"), folder.path(), Some("tmpfs"), flags, Some(size.as_str()))
            .naming(|| format!("mounting a tmpfs on {} (needs root)", folder.path().display()))?;
        Ok(Self { folder })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // A detached mount goes when the last process lets go of it; there is nobody to tell of a failure.
        let _ = umount2(self.folder.path(), MntFlags::MNT_DETACH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_gets_full_and_is_gone_afterwards() {
        let disk = Tmpfs::new(64 * 1024).expect("mount a tmpfs");
        let path = disk.path().to_owned();
        std::fs::write(path.join("fits"), vec![0; 32 * 1024]).expect("there is space");
        let full = std::fs::write(path.join("too much"), vec![0; 64 * 1024]).expect_err("there is no space");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        drop(disk);
        assert!(!path.exists());
    }
}
