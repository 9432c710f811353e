//! The view on disk: one [`fjall`](::fjall) keyspace, an LSM tree behind a journal.
//!
//! Why the knobs stand where they stand, with the figures: `docs/decisions/view-store.md`.

mod folder;
mod keeper;
mod options;
mod snapshot;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::fjall::{AbstractTree, Database, Keyspace, PersistMode};
use bytes::Bytes;
use ieum_core::kv::{self, Kv, WriteSet};
use parking_lot::Mutex;

pub use folder::{OpenError, destroy};
pub use options::Options;
pub use snapshot::{Rows, Snapshot};

/// The name of the one keyspace.
const KEYSPACE: &str = "view";

/// How many level-0 runs there may be before a commit waits for the worker. Below the number (20) at which fjall itself begins
/// to block, because fjall goes on blocking when its worker died.
const LEVEL_0_RUNS: usize = 16;

/// How many times [`Options::memtable_bytes`] the active memtable may reach while flushes wait behind a compaction.
const MEMTABLE_OVERSHOOT: u64 = 4;

/// An engine that keeps its rows in a folder.
///
/// The folder stays locked until the engine and all its snapshots are dropped.
pub struct Fjall {
    /// Before the database, so that its thread has ended when the database closes.
    keeper: keeper::Keeper,
    database: Database,
    rows: Keyspace,
    path: PathBuf,
    memtable_bytes: u64,
    /// What [`Kv::snapshot`] hands out; replaced by every commit. fjall's own `Database::snapshot` must not be called while a
    /// commit is under way: a flush or compaction that ends meanwhile publishes a sequence number beyond the commit's, and
    /// the snapshot would see a part of it (fjall 3.1.13, `SuperVersions::upgrade_version`).
    latest: Mutex<Snapshot>,
    /// Held for the length of a commit.
    writing: Mutex<()>,
    /// A write failed: what is on disk is a prefix, but which one is known only after reopening.
    failed: Arc<AtomicBool>,
}

/// Why a commit or persist was refused without being tried.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("an earlier write failed; the view must be reopened")]
    Failed,
    #[error("the engine panicked")]
    Panicked,
    #[error("the view already holds rows")]
    NotEmpty,
    #[error("row {0} is not after the one before it")]
    NotSorted(u64),
}

impl Fjall {
    /// Opens the view in `path`, or creates it when there is nothing.
    ///
    /// Blocks for as long as reading the journal takes (see `docs/decisions/view-store.md`). What it finds is a prefix of the
    /// commits in which the persisted ones are whole. Knobs of [`Options`] marked *fixed at creation* are ignored when the
    /// view exists.
    ///
    /// # Errors
    ///
    /// [`OpenError::Damaged`] asks for [`destroy`] and a rebuild; the others are for the operator.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, OpenError> {
        let path = path.as_ref();
        folder::prepare(path)?;
        // fjall asserts some of what it reads.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = options.builder(path).open()?;
            let rows = database.keyspace(KEYSPACE, || options.keyspace())?;
            Ok((database, rows))
        }));
        let (database, rows) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(folder::open_error(path, error)),
            Err(_) => return Err(OpenError::Damaged { path: path.to_owned(), source: Box::new(Refused::Panicked) }),
        };
        // fjall 3.1.13 does not sync the folders that it makes: without this a power cut may leave an empty view.
        folder::sync_names(path)?;
        let latest = Mutex::new(Snapshot::new(&rows, database.snapshot()));
        let failed = Arc::new(AtomicBool::new(false));
        let keeper = keeper::Keeper::start(rows.clone(), options.memtable_bytes, Arc::clone(&failed))
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Ok(Self {
            keeper,
            database,
            rows,
            path: path.to_owned(),
            memtable_bytes: options.memtable_bytes,
            latest,
            writing: Mutex::new(()),
            failed,
        })
    }

    /// Fills an empty view with `sorted` rows, for example those of a snapshot from a peer, and makes them durable. Writes
    /// tables directly, past journal and memtable. Gives the number of rows.
    ///
    /// # Errors
    ///
    /// When the view is not empty, a key is not greater than the one before it, `sorted` gives an error, or the disk fails.
    /// Then the view is empty or must be [`destroy`]ed.
    pub fn fill(&self, sorted: impl IntoIterator<Item = kv::Result<(Bytes, Bytes)>>) -> kv::Result<u64> {
        let _writing = self.writing.lock();
        self.refuse_after_failure("fill")?;
        let error = |source: ::fjall::Error| self.fail("fill", source);
        if !self.rows.is_empty().map_err(error)? {
            return Err(kv::Error::new("fill", Refused::NotEmpty));
        }
        let mut ingestion = self.rows.start_ingestion().map_err(error)?;
        let mut count = 0;
        let mut last = Bytes::new();
        for row in sorted {
            let (key, value) = row?;
            crate::check_row(&key, value.len()).map_err(|refused| kv::Error::new("fill", refused))?;
            if key <= last {
                return Err(kv::Error::new("fill", Refused::NotSorted(count)));
            }
            last = key.clone();
            ingestion.write(key, value).map_err(error)?;
            count += 1;
        }
        ingestion.finish().map_err(error)?;
        *self.latest.lock() = Snapshot::new(&self.rows, self.database.snapshot());
        Ok(count)
    }

    /// The bytes that the view takes on disk, its journals included.
    ///
    /// # Errors
    ///
    /// When the journal's length cannot be read.
    pub fn disk_bytes(&self) -> kv::Result<u64> {
        self.database.disk_space().map_err(|error| kv::Error::new("disk bytes", error))
    }

    /// Waits until the worker has nothing left to do, so that a test may copy the folder.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        self.rows.rotate_memtable_and_wait().unwrap();
        while self.database.active_compactions() > 0 {
            std::thread::yield_now();
        }
    }

    fn refuse_after_failure(&self, operation: &'static str) -> kv::Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(kv::Error::new(operation, Refused::Failed));
        }
        Ok(())
    }

    fn fail(&self, operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> kv::Error {
        self.failed.store(true, Ordering::Release);
        kv::Error::new(operation, source)
    }

    /// Has a full memtable flushed, and waits while the worker is too far behind for memory and reads to stay cheap.
    fn make_room(&self) -> ::fjall::Result<()> {
        loop {
            let tree = &self.rows.tree;
            let (runs, size) = (tree.l0_run_count(), tree.active_memtable().size());
            if size >= self.memtable_bytes {
                self.keeper.wake();
            }
            if runs < LEVEL_0_RUNS && size < self.memtable_bytes.saturating_mul(MEMTABLE_OVERSHOOT) {
                return Ok(());
            }
            // Nobody will make room any more when the worker (then this fails) or the keeper died.
            self.database.persist(PersistMode::Buffer)?;
            if self.failed.load(Ordering::Acquire) {
                return Err(::fjall::Error::Poisoned);
            }
            if runs >= LEVEL_0_RUNS && self.database.active_compactions() == 0 {
                // The worker compacts once per flush and may be idle: without this nobody would ever reduce the runs.
                let horizon = self.database.supervisor.snapshot_tracker.get_seqno_safe_to_gc();
                tree.compact(self.rows.config.compaction_strategy.clone(), horizon)?;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn write(&self, writes: &WriteSet) -> ::fjall::Result<()> {
        self.make_room()?;
        let mut batch = ::fjall::OwnedWriteBatch::with_capacity(self.database.clone(), writes.rows.len())
            .durability(Some(PersistMode::Buffer));
        for (key, value) in &writes.rows {
            match value {
                Some(value) => batch.insert(&self.rows, Bytes::copy_from_slice(key), value.clone()),
                None => batch.remove(&self.rows, Bytes::copy_from_slice(key)),
            }
        }
        batch.commit()
    }
}

impl Kv for Fjall {
    type Snapshot = Snapshot;
    type Rows = Rows;

    fn snapshot(&self) -> Snapshot {
        self.latest.lock().clone()
    }

    fn rows(&self, snapshot: Snapshot) -> Rows {
        Rows::of(snapshot)
    }

    /// Writes without fsync, in one journal batch. Waits while the worker is far behind.
    ///
    /// After an error every later commit is refused until the view is reopened, because what was written is unknown: the
    /// whole of it is found again, or nothing.
    fn commit(&self, writes: &WriteSet) -> kv::Result<()> {
        crate::check_rows(writes)?;
        let _writing = self.writing.lock();
        self.refuse_after_failure("commit")?;
        match catch_unwind(AssertUnwindSafe(|| self.write(writes))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.fail("commit", error)),
            Err(_) => return Err(self.fail("commit", Refused::Panicked)),
        }
        *self.latest.lock() = Snapshot::new(&self.rows, self.database.snapshot());
        Ok(())
    }

    /// One fsync of the journal. Commits go on meanwhile: call it from a thread of its own.
    fn persist(&self) -> kv::Result<()> {
        self.refuse_after_failure("persist")?;
        // fjall's own fsync would hold up commits for its length (35 ms here, at times 200). So fjall only hands what it has
        // to the operating system, which also tells whether it failed before; the fsync happens on a second handle.
        self.database.persist(PersistMode::Buffer).map_err(|error| self.fail("persist", error))?;
        folder::sync_journal(&self.path).map_err(|error| self.fail("persist", error))
    }
}
