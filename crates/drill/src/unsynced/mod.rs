//! A file system that forgets at a power cut whatever was not synced.
//!
//! SIGKILL keeps the page cache, so it proves nothing about `fsync`. This file system keeps, beside what programs see, what a disk would be
//! sure to hold; `cut` makes every operation fail with EIO, and `restore` serves that durable state again.
//!
//! ```text
//!  program ──► kernel ──► adapter (FUSE) ──► device (power, stuck) ──► model (inodes: current and durable)
//!                                                ▲
//!  test ──► Mount ──► control socket ────────────┘
//! ```
//!
//! What is durable:
//! - a file's content and length, after `fsync`, `fdatasync`, `msync(MS_SYNC)` or a write with `O_SYNC` or `O_DSYNC`. `sync(2)`, `syncfs` and
//!   `sync_file_range` do not reach the file system and make nothing durable.
//! - names (create, remove, rename, link) by [`Metadata`]. A file whose name is durable and whose content never was synced is empty.
//! - times, modes and owners are not modelled: the latest ones stay.
//!
//! Space is counted in blocks of 4 KiB that hold data; a hole is free, an overwrite never fails for want of space.
//!
//! Restoring mounts a fresh file system over the detached old one, so no page, name or attribute that the kernel cached outlives the cut, and
//! whatever a surviving process still holds open keeps failing with EIO.

mod adapter;
mod backing;
mod content;
mod control;
mod device;
mod host;
mod journal;
mod model;
mod mount;
mod tree;

pub use control::serve;
pub use host::Host;
pub use model::{Attributes, Kind, Model, Owner, SOCKET};
pub use mount::{Mount, Options, Stats};

/// When a change of names becomes durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Metadata {
    /// Only by a sync of its directory, as POSIX promises: also a new file's name, however often the file is synced. A rename between
    /// directories is durable, on both sides, once either of them was synced.
    #[default]
    Strict,
    /// As on ext4 with one journal: any sync of a file or directory that has something to commit makes all earlier changes of names and
    /// lengths durable, in order. There is no commit by time (ext4: 5 s), and a rename over a file does not write the new file's content
    /// first (ext4's `noauto_da_alloc`).
    Ext4,
}
