//! The disk under a node's or a member's data: an ordinary folder, or one that can be harmed.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};
use nix::sys::statvfs::statvfs;

use super::net::run;
use crate::error::{Error, Naming as _};
use crate::unsynced::{self, Metadata};

/// What kind of disk a scenario needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A folder of the machine's disk.
    #[default]
    Folder,
    /// The file system that forgets unsynced writes.
    Unsynced,
    /// An ext4 in a file, which can be frozen and filled.
    Loop,
}

/// How large such a disk is.
const CAPACITY: u64 = 1 << 30;

/// A disk; given back when dropped.
#[derive(Debug)]
pub enum Disk {
    /// See [`Kind::Folder`].
    Folder(PathBuf),
    /// See [`Kind::Unsynced`].
    Unsynced(unsynced::Mount),
    /// See [`Kind::Loop`].
    Loop(Loop),
}

/// An ext4 in a file.
#[derive(Debug)]
pub struct Loop {
    mounted: PathBuf,
    frozen: bool,
}

impl Disk {
    /// A new empty disk of this kind, with the name in the folder. `metadata` says what one that forgets makes durable.
    pub fn new(kind: Kind, folder: &Path, name: &str, metadata: Metadata) -> Result<Self, Error> {
        let path = folder.join(name);
        match kind {
            Kind::Folder => {
                std::fs::create_dir(&path).naming(|| format!("making {}", path.display()))?;
                Ok(Self::Folder(path))
            }
            Kind::Unsynced => {
                let options = unsynced::Options { capacity: 2 * CAPACITY, metadata, ..unsynced::Options::default() };
                unsynced::Mount::new(&options).map(Self::Unsynced)
            }
            Kind::Loop => Loop::new(&path).map(Self::Loop),
        }
    }

    /// Where data goes.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Folder(path) => path.clone(),
            Self::Unsynced(mount) => mount.path(),
            Self::Loop(disk) => disk.mounted.clone(),
        }
    }

    /// Writes and syncs hang from now on.
    pub fn stick(&mut self) -> Result<(), Error> {
        match self {
            Self::Folder(path) => Err(unable(path)),
            Self::Unsynced(mount) => mount.stick(),
            Self::Loop(disk) => disk.freeze(true),
        }
    }

    /// What hangs goes on.
    pub fn unstick(&mut self) -> Result<(), Error> {
        match self {
            Self::Folder(path) => Err(unable(path)),
            Self::Unsynced(mount) => mount.unstick().map(drop),
            Self::Loop(disk) => disk.freeze(false),
        }
    }

    /// The power goes: what is not synced is forgotten. What runs on it must be killed before.
    pub fn power_cycle(&self) -> Result<(), Error> {
        match self {
            Self::Unsynced(mount) => mount.cut().and_then(|()| mount.restore()),
            Self::Folder(_) | Self::Loop(_) => Err(unable(&self.path())),
        }
    }

    /// Leaves no room for anything more, or the room that there was.
    pub fn fill(&self, full: bool) -> Result<(), Error> {
        match self {
            Self::Folder(path) => Err(unable(path)),
            Self::Unsynced(mount) if full => mount.full(0),
            Self::Unsynced(mount) => mount.full_off(),
            Self::Loop(disk) => disk.fill(full),
        }
    }
}

fn unable(path: &Path) -> Error {
    Error::other(format!("harming the disk {}", path.display()), "the scenario's disks are of another kind")
}

impl Loop {
    fn new(path: &Path) -> Result<Self, Error> {
        let image = path.with_extension("image");
        std::fs::create_dir(path).naming(|| format!("making {}", path.display()))?;
        let file = std::fs::File::create(&image).naming(|| format!("making {}", image.display()))?;
        file.set_len(CAPACITY).naming(|| format!("making {}", image.display()))?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image), "")?;
        // The loop device is given back when nothing is mounted from it any more.
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(path), "")?;
        Ok(Self { mounted: path.to_owned(), frozen: false })
    }

    fn freeze(&mut self, frozen: bool) -> Result<(), Error> {
        let how = if frozen { "--freeze" } else { "--unfreeze" };
        run(Command::new("fsfreeze").arg(how).arg(&self.mounted), "")?;
        self.frozen = frozen;
        Ok(())
    }

    fn fill(&self, full: bool) -> Result<(), Error> {
        let file = self.mounted.join("filling");
        if !full {
            return std::fs::remove_file(&file).naming(|| format!("removing {}", file.display()));
        }
        let room = statvfs(&self.mounted).naming(|| format!("measuring {}", self.mounted.display()))?;
        let most = (room.blocks_available() * room.fragment_size()).saturating_sub(1 << 20);
        run(Command::new("fallocate").arg("--length").arg(most.to_string()).arg(&file), "")?;
        // What is left, block by block: it ends when nothing more fits, which is what it is for.
        let of = format!("of={}", file.display());
        let filled =
            run(Command::new("dd").args(["if=/dev/zero", "bs=4k", "oflag=append", "conv=notrunc"]).arg(of), "");
        match filled {
            Err(_) => Ok(()),
            Ok(_) => Err(Error::other(format!("filling {}", self.mounted.display()), "it does not get full")),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if self.frozen {
            let _ = self.freeze(false);
        }
        let _ = umount2(&self.mounted, MntFlags::MNT_DETACH);
    }
}
