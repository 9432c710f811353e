//! The engines under test, with what a test does to them from outside: stop, start, cut the power.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ieum_core::kv::Kv;
use tempfile::TempDir;

use crate::fjall::{OpenError, Options};
use crate::{Fjall, Memory};

pub(super) trait Engine: Sized + Sync {
    type Kv: Kv;

    fn new() -> Self;
    fn kv(&self) -> &Self::Kv;
    fn persist(&mut self);
    /// Stops and starts, nothing being lost.
    fn reopen(&mut self);
    /// Loses some of what was not persisted, as `random` says, and starts again.
    fn cut_power(&mut self, random: u64);
}

pub(super) struct InMemory(Memory);

impl Engine for InMemory {
    type Kv = Memory;

    fn new() -> Self {
        Self(Memory::new())
    }

    fn kv(&self) -> &Memory {
        &self.0
    }

    fn persist(&mut self) {
        self.0.persist().unwrap();
        assert_eq!(self.0.unpersisted(), 0);
    }

    fn reopen(&mut self) {
        self.0.persist().unwrap();
    }

    fn cut_power(&mut self, random: u64) {
        self.0.crash(random as usize % (self.0.unpersisted() + 1));
    }
}

/// A small memtable, so that the tests also meet flushes and merges.
pub(super) struct FjallOnDisk {
    engine: Option<Fjall>,
    folder: TempDir,
    /// The journal and how much of it was fsynced last.
    persisted: (PathBuf, usize),
}

/// In memory where there is such a place: what these tests lose they lose by themselves, and fsync only costs time.
fn folder() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

fn options() -> Options {
    Options { memtable_bytes: 256 << 10, table_bytes: 1 << 20, cache_bytes: 1 << 20, ..Options::default() }
}

/// The journal that is being written, by name, and its bytes without the zeroes that it was made with.
fn journal(folder: &Path) -> (PathBuf, Vec<u8>) {
    let newest = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().path().file_name().unwrap().to_str().map(PathBuf::from))
        .filter(|name| name.extension().is_some_and(|extension| extension == "jnl"))
        .max_by_key(|name| name.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap())
        .unwrap();
    // It was made 64 MiB long: stop at the first MiB of zeroes.
    let (mut file, mut bytes) = (File::open(folder.join(&newest)).unwrap(), Vec::new());
    loop {
        let before = bytes.len();
        file.by_ref().take(1 << 20).read_to_end(&mut bytes).unwrap();
        if bytes[before..].iter().all(|byte| *byte == 0) {
            break;
        }
    }
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    (newest, bytes)
}

/// Copies a folder, but not the journal `without`.
fn copy(from: &Path, to: &Path, without: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target, without);
        } else if entry.file_name() != without.as_os_str() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl Engine for FjallOnDisk {
    type Kv = Fjall;

    fn new() -> Self {
        let folder = folder();
        let engine = Fjall::open(folder.path(), &options()).unwrap();
        Self { engine: Some(engine), persisted: (PathBuf::from("0.jnl"), 0), folder }
    }

    fn kv(&self) -> &Fjall {
        self.engine.as_ref().unwrap()
    }

    fn persist(&mut self) {
        self.kv().persist().unwrap();
        let (name, bytes) = journal(self.folder.path());
        self.persisted = (name, bytes.len());
    }

    fn reopen(&mut self) {
        self.engine = None;
        self.engine = Some(Fjall::open(self.folder.path(), &options()).unwrap());
        self.persisted = (self.persisted.0.clone(), 0);
        self.persist();
    }

    /// Puts a copy in the folder's place, in which the journal is broken somewhere behind what was fsynced: cut off, or with
    /// zeroes from there on or for a page (the file system may write the length before the contents, and any page first).
    fn cut_power(&mut self, random: u64) {
        self.kv().settle();
        let (name, bytes) = journal(self.folder.path());
        let persisted = if name == self.persisted.0 { self.persisted.1.min(bytes.len()) } else { 0 };
        let kept = persisted + (random >> 2) as usize % (bytes.len() - persisted + 1);
        let (cut, mut broken) = (bytes[..kept].to_vec(), bytes);
        let zeroes = if random & 1 == 0 { 4096 } else { usize::MAX };
        broken.iter_mut().skip(kept).take(zeroes).for_each(|byte| *byte = 0);
        let after = folder();
        copy(self.folder.path(), after.path(), &name);
        fs::write(after.path().join(&name), if random & 2 == 0 { &cut } else { &broken }).unwrap();
        self.engine = None;
        self.folder = after;
        // fjall may give up where it should have cut off: a hole inside a value, or (an assertion of debug builds) inside a
        // row's header. A node then rebuilds the view; here the test goes on with the journal cut off.
        if let Err(error) = Fjall::open(self.folder.path(), &options()) {
            assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
            assert!(random & 3 == 2 || cfg!(debug_assertions), "{error:?}");
            fs::write(self.folder.path().join(&name), cut).unwrap();
        }
        self.reopen();
    }
}
