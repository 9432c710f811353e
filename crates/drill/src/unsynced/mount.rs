//! The file system in a process of its own, for tests: what a test does with it, and the switch.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum as _;
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use super::Metadata;
use crate::error::{Error, Naming as _};
use crate::process::{self, Process};

/// How long mounting, unmounting and each command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The name of the binary.
const BINARY: &str = "ieum-unsynced";

/// What to mount.
#[derive(Clone, Debug)]
pub struct Options {
    /// When changes of names become durable.
    pub metadata: Metadata,
    /// Bytes that fit on it.
    pub capacity: u64,
    /// A folder whose files are there from the beginning.
    pub backing: Option<PathBuf>,
    /// The `ieum-unsynced` binary. Tests of this crate give `env!("CARGO_BIN_EXE_ieum-unsynced")`; else it is looked for beside the running
    /// program, where `cargo build -p ieum-drill` puts it.
    pub binary: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { metadata: Metadata::default(), capacity: 1 << 30, backing: None, binary: None }
    }
}

impl Options {
    fn binary(&self) -> Result<PathBuf, Error> {
        if let Some(binary) = &self.binary {
            return Ok(binary.clone());
        }
        let finding = || format!("finding {BINARY}");
        let running = std::env::current_exe().naming(finding)?;
        running
            .ancestors()
            .skip(1)
            .take(2)
            .map(|folder| folder.join(BINARY))
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| Error::other(finding(), "it is not beside this program: cargo build -p ieum-drill"))
    }
}

/// A mounted file system that forgets unsynced writes. It is unmounted when dropped, and also when this process dies.
#[derive(Debug)]
pub struct Mount {
    process: Process,
    /// Holds the mount point and the control socket.
    folder: TempDir,
}

/// What happened since the mount, and what is unsynced now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes, in whole blocks, that a power cut would lose.
    pub unsynced_bytes: u64,
    /// Files of which a power cut would lose something.
    pub unsynced_files: u64,
    /// Changes of names that a power cut would undo.
    pub unsynced_changes: u64,
    /// Writes that reached the file system.
    pub writes: u64,
    /// Syncs of files and directories, also by `O_SYNC`.
    pub fsyncs: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Blocks of 4 KiB that fit.
    pub blocks: u64,
    /// Blocks of 4 KiB that are free.
    pub free_blocks: u64,
}

impl Mount {
    /// Mounts it on a new folder; see [`Self::path`].
    pub fn new(options: &Options) -> Result<Self, Error> {
        let folder = TempDir::with_prefix("ieum-unsynced-").naming(|| "making a folder for a mount".to_owned())?;
        let mountpoint = folder.path().join("mount");
        std::fs::create_dir(&mountpoint).naming(|| format!("making {}", mountpoint.display()))?;
        let metadata = options.metadata.to_possible_value();
        let mut spawned = process::Options::new(options.binary()?, folder.path())
            .arg(&mountpoint)
            .arg("--control")
            .arg(folder.path().join("control"))
            .arg("--capacity")
            .arg(options.capacity.to_string())
            .arg("--until-stdin-ends")
            .hold_stdin();
        if let Some(metadata) = &metadata {
            spawned = spawned.arg("--metadata").arg(metadata.get_name());
        }
        if let Some(backing) = &options.backing {
            let backing = std::path::absolute(backing).naming(|| format!("finding {}", backing.display()))?;
            spawned = spawned.arg("--backing").arg(backing);
        }
        // From here on dropping it unmounts.
        let mut mount = Self { process: Process::spawn(&spawned)?, folder };
        mount.process.wait_for_line(|line| line.starts_with("mounted"), PATIENCE)?;
        Ok(mount)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// The Unix socket that takes the same commands as lines.
    pub fn control(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// The power goes: everything unsynced is gone, and everything fails with EIO until [`Self::restore`]. Kill what runs on it before that:
    /// pages that the kernel has cached can still be read, as from a disk that broke.
    pub fn cut(&self) -> Result<(), Error> {
        self.command("cut").map(drop)
    }

    /// The power goes while the disk is writing: for each unsynced block the seed picks which version survives, and how much of the changes
    /// of names.
    pub fn cut_torn(&self, seed: u64) -> Result<(), Error> {
        self.command(&format!("cut {seed}")).map(drop)
    }

    /// Serves the durable state on a fresh mount at the same path. What is still open from before fails with EIO for ever.
    pub fn restore(&self) -> Result<(), Error> {
        self.command("restore").map(drop)
    }

    /// Lets only so many more bytes be written to new blocks of 4 KiB: then ENOSPC. Removing files makes room.
    pub fn full(&self, bytes: u64) -> Result<(), Error> {
        self.command(&format!("full {bytes}")).map(drop)
    }

    /// The whole capacity is there again.
    pub fn full_off(&self) -> Result<(), Error> {
        self.command("full off").map(drop)
    }

    /// The disk gets stuck: writes and syncs hang. A process in one of them does not even die of SIGKILL before [`Self::unstick`] or a cut.
    pub fn stick(&self) -> Result<(), Error> {
        self.command("stick").map(drop)
    }

    /// Carries out what hangs, in order; how many operations that were.
    pub fn unstick(&self) -> Result<u64, Error> {
        Ok(numbers(&self.command("unstick")?).map(|(_, number)| number).sum())
    }

    /// Counts.
    pub fn stats(&self) -> Result<Stats, Error> {
        let answer = self.command("stats")?;
        let mut stats = Stats::default();
        for (name, number) in numbers(&answer) {
            match name {
                "unsynced_bytes" => stats.unsynced_bytes = number,
                "unsynced_files" => stats.unsynced_files = number,
                "unsynced_changes" => stats.unsynced_changes = number,
                "writes" => stats.writes = number,
                "fsyncs" => stats.fsyncs = number,
                "cuts" => stats.cuts = number,
                "blocks" => stats.blocks = number,
                "free_blocks" => stats.free_blocks = number,
                _ => {}
            }
        }
        Ok(stats)
    }

    /// Writes what a power cut would leave into a folder outside.
    pub fn dump(&self, folder: &Path) -> Result<(), Error> {
        let folder = std::path::absolute(folder).naming(|| format!("finding {}", folder.display()))?;
        self.command(&format!("dump {}", folder.display())).map(drop)
    }

    /// Sends one line and takes the answer to it.
    fn command(&self, line: &str) -> Result<String, Error> {
        let commanding = || format!("{BINARY}: {line}");
        let socket = UnixStream::connect(self.control()).naming(commanding)?;
        socket.set_read_timeout(Some(PATIENCE)).naming(commanding)?;
        writeln!(&socket, "{line}").naming(commanding)?;
        let mut answer = String::new();
        BufReader::new(&socket).read_line(&mut answer).naming(commanding)?;
        match answer.trim_end().split_once(' ') {
            None if answer == "ok\n" => Ok(String::new()),
            Some(("ok", numbers)) => Ok(numbers.to_owned()),
            _ => Err(Error::other(commanding(), format!("{answer:?}; its standard error: {}", self.process.stderr()))),
        }
    }
}

fn numbers(answer: &str) -> impl Iterator<Item = (&str, u64)> {
    answer
        .split(' ')
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(name, number)| Some((name, number.parse().ok()?)))
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.process.end_stdin();
        if self.process.wait(PATIENCE).is_err() {
            // It hangs: take the mount away from it. The process is killed by its own drop.
            let _ = umount2(&self.path(), MntFlags::MNT_DETACH);
        }
    }
}
