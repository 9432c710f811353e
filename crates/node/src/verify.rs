//! Checks that log, snapshots and view agree, and says what differs.
//!
//! The view must be what the older snapshot and the log behind it give: the log is replayed into a scratch view beside it, and the two
//! are compared row by row, position and digest among them.

use std::cmp::Ordering;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ieum_core::apply::{self, Skips};
use ieum_core::ids::Position;
use ieum_core::kv::{self, Kv};
use ieum_core::tables::cell::Applied;
use ieum_log::sqlite::{self, Offline};
use ieum_log::{Entry, Log, Tail};
use ieum_store::fjall::{self, Fjall, OpenError};

use crate::applier::Applier;
use crate::folder::{self, Error as FolderError, Extent, Folder};
use crate::progress::{self, Step, Watch};
use crate::service::Handle;
use crate::snapshot::GoesOn;
use crate::{chain, core_position, in_use, log_position, snapshot};

/// At most so many differing rows are named.
const MOST_ROWS: usize = 20;
const PAGE: usize = 1_000;
/// Memory for blocks that are read while replaying: a node beside it needs the rest.
const SCRATCH_CACHE: u64 = 32 << 20;

type Row = (Bytes, Bytes);

/// What is wrong. The words before the colon are stable; `docs/operating/verify.md` lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The stable word.
    pub kind: Kind,
    /// What exactly.
    pub detail: String,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident $word:literal,)*) => {
        /// What can be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            /// The stable word.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

kinds! {
    /// There is no log.
    LogMissing "log-missing",
    /// The log cannot be opened, or is another cell's.
    LogUnreadable "log-unreadable",
    /// A batch is not what was written, is missing, or is one too many.
    LogDamaged "log-damaged",
    /// The log ends before what the view has applied.
    LogBehind "log-behind",
    /// A snapshot is not what was written.
    SnapshotDamaged "snapshot-damaged",
    /// There is no view, or an empty one.
    ViewMissing "view-missing",
    /// The view cannot be opened or read.
    ViewUnreadable "view-unreadable",
    /// The view stands where the log no longer reaches.
    ViewTooOld "view-too-old",
    /// The rolling digest is another one.
    DigestDiffers "digest-differs",
    /// A row has another value.
    RowDiffers "row-differs",
    /// A row is not there.
    RowMissing "row-missing",
    /// A row should not be there.
    RowUnexpected "row-unexpected",
    /// The log cannot be replayed: no snapshot fits it.
    NothingToReplayFrom "nothing-to-replay-from",
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.word(), self.detail)
    }
}

/// What was checked and found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Where the view stands.
    pub position: Position,
    /// Where the replay started.
    pub replayed_from: Position,
    /// How many batches were replayed.
    pub batches: u64,
    /// How many rows were compared.
    pub rows: u64,
    /// What is wrong; nothing when all is well.
    pub findings: Vec<Finding>,
}

impl Report {
    fn find(&mut self, kind: Kind, detail: impl fmt::Display) {
        self.findings.push(Finding { kind, detail: detail.to_string() });
    }
}

/// Checks the folder of a node that does not run. An error is something that kept it from checking; damage is a finding.
pub fn offline(folder: &Folder, cell: u16, watch: Watch<'_>) -> Result<Report, FolderError> {
    folder.refuse_unfinished()?;
    let mut check = Check::new(folder, watch, snapshot::unasked());
    let snapshots = check.snapshots()?;
    if !holds_a_log(folder)? {
        check.report.find(Kind::LogMissing, folder.log().display());
        return Ok(check.report);
    }
    let log = match Offline::open(folder.log(), Some(u32::from(cell))) {
        Ok(log) => log,
        Err(error) if in_use(&error) => return Err(FolderError::Log { path: folder.log(), source: error }),
        Err(error) => {
            check.report.find(Kind::LogUnreadable, chain(&error));
            return Ok(check.report);
        }
    };
    watch(Step { what: "reading the log", done: 0, of: None });
    let log_error = |source| FolderError::Log { path: folder.log(), source };
    for problem in log.check().map_err(log_error)? {
        check.report.find(Kind::LogDamaged, problem);
    }
    let Some(view) = check.open_view()? else { return Ok(check.report) };
    let mut read = |after: Position| log.read(log_position(after), PAGE);
    let skips = crate::skips(&log.skips().map_err(log_error)?);
    let source = Source { extent: Extent::of(&log), snapshots, skips, read: &mut read };
    if let Some(look) = check.look(&view) {
        check.compare(look, source)?;
    }
    // Nothing is trimmed while no node runs; somebody took a snapshot away.
    if check.overtaken { Err(FolderError::Overtaken(1)) } else { Ok(check.report) }
}

/// How often a running node is checked anew because it trimmed its log meanwhile.
const ATTEMPTS: u32 = 5;

/// Checks a running node: its view at one position against the log up to there. Blocks for long and holds little memory; call it on a
/// thread of its own, see [`crate::progress::step_back`]. `extent` is asked when the view was looked at, so that it is no earlier.
///
/// When the node takes snapshots and trims what is being read, that is no damage: it begins again with those that there are then. `goes_on` is asked
/// all the while: a node that stops waits for this.
pub fn running<L: Log, K: Kv, T: Send + 'static>(
    folder: &Folder,
    log: &L,
    extent: impl Fn() -> ieum_log::Result<Extent>,
    node: &Handle<K, T>,
    runtime: &tokio::runtime::Handle,
    watch: Watch<'_>,
    goes_on: GoesOn<'_>,
) -> Result<Report, FolderError> {
    for _ in 0..ATTEMPTS {
        let mut check = Check::new(folder, watch, goes_on);
        check.running(log, &extent, node, runtime)?;
        if !check.overtaken {
            return Ok(check.report);
        }
        tracing::info!("the log was trimmed while it was checked; checking anew");
    }
    Err(FolderError::Overtaken(ATTEMPTS))
}

fn holds_a_log(folder: &Folder) -> Result<bool, FolderError> {
    let newest = sqlite::newest_generation(folder.log());
    newest.map(|newest| newest.is_some()).map_err(|source| FolderError::Log { path: folder.log(), source })
}

type ReadLog<'a> = dyn FnMut(Position) -> ieum_log::Result<Vec<Entry>> + 'a;

/// What the view is compared with.
struct Source<'a> {
    extent: Extent,
    /// Those that can be read whole, oldest first.
    snapshots: Vec<(Position, PathBuf)>,
    skips: Skips,
    read: &'a mut ReadLog<'a>,
}

/// A check under way.
struct Check<'a> {
    folder: &'a Folder,
    watch: Watch<'a>,
    goes_on: GoesOn<'a>,
    /// The snapshots that there were at the beginning, damaged ones too.
    listed: Vec<(Position, PathBuf)>,
    /// What was listed is gone: the node took newer snapshots and trimmed its log. What was found is worth nothing.
    overtaken: bool,
    report: Report,
}

impl<'c> Check<'c> {
    fn new(folder: &'c Folder, watch: Watch<'c>, goes_on: GoesOn<'c>) -> Self {
        Self { folder, watch, goes_on, listed: Vec::new(), overtaken: false, report: Report::default() }
    }

    fn running<L: Log, K: Kv, T: Send + 'static>(
        &mut self,
        log: &L,
        extent: impl Fn() -> ieum_log::Result<Extent>,
        node: &Handle<K, T>,
        runtime: &tokio::runtime::Handle,
    ) -> Result<(), FolderError> {
        let snapshots = self.snapshots()?;
        let mut tail: Option<(Position, L::Tail)> = None;
        let mut read = |after: Position| -> ieum_log::Result<Vec<Entry>> {
            runtime.block_on(async {
                let (_, mut open) = match tail.take().filter(|(at, _)| *at == after) {
                    Some(open) => open,
                    None => (after, log.tail(log_position(after)).await?),
                };
                let entry = open.next().await?;
                tail = Some((core_position(entry.position), open));
                Ok(vec![entry])
            })
        };
        let path = self.folder.log();
        let log_error = |source| FolderError::Log { path: path.clone(), source };
        let skips = crate::skips(&runtime.block_on(log.skips()).map_err(log_error)?);
        if let Some(look) = self.look(node.kv().as_ref()) {
            let source = Source { extent: extent().map_err(log_error)?, snapshots, skips, read: &mut read };
            self.compare(look, source)?;
        }
        Ok(())
    }

    fn snapshots(&mut self) -> Result<Vec<(Position, PathBuf)>, FolderError> {
        let mut good = Vec::new();
        self.listed = snapshot::list(&self.folder.snapshots())?;
        for (position, path) in self.listed.clone() {
            match snapshot::check_while(&path, None, self.watch, self.goes_on) {
                Ok(_) => good.push((position, path)),
                Err(error @ snapshot::Error::Closed) => return Err(error.into()),
                Err(error) if error.is_missing() => self.overtaken = true,
                Err(error) => self.report.find(Kind::SnapshotDamaged, chain(&error)),
            }
        }
        Ok(good)
    }

    fn open_view(&mut self) -> Result<Option<Fjall>, FolderError> {
        let path = self.folder.view();
        if !path.exists() {
            self.report.find(Kind::ViewMissing, format!("{} is not there", path.display()));
            return Ok(None);
        }
        match Fjall::open(&path, &fjall::Options::default()) {
            Ok(view) => Ok(Some(view)),
            Err(error @ OpenError::Damaged { .. }) => {
                self.report.find(Kind::ViewUnreadable, chain(&error));
                Ok(None)
            }
            Err(error) => Err(FolderError::View(error)),
        }
    }

    /// Where the view stands, and its rows there. A snapshot is not held: what follows takes long, and that would cost memory.
    fn look<K: Kv>(&mut self, view: &K) -> Option<(Applied, K::Rows)> {
        let look = view.snapshot();
        match apply::applied(&look) {
            Ok(applied) => Some((applied, view.rows(look))),
            Err(error) => {
                self.report.find(Kind::ViewUnreadable, chain(&error));
                None
            }
        }
    }

    fn compare(
        &mut self,
        (applied, rows): (Applied, impl Iterator<Item = kv::Result<Row>>),
        source: Source<'_>,
    ) -> Result<(), FolderError> {
        let (at, log) = (applied.position, &source.extent);
        self.report.position = at;
        if at.ordinal == 0 && log.last.ordinal > 0 && applied.digest == [0; 32] {
            self.report.find(Kind::ViewMissing, "the view is empty");
            return Ok(());
        }
        if at > log.last {
            self.report.find(Kind::LogBehind, format!("the log ends at {}, the view stands at {at}", log.last));
            return Ok(());
        }
        if let Some((ahead, _)) = self.listed.last().filter(|(ahead, _)| *ahead > log.last) {
            self.report.find(Kind::LogBehind, format!("the log ends at {}, a snapshot stands at {ahead}", log.last));
            return Ok(());
        }
        if at < log.trimmed {
            self.report.find(Kind::ViewTooOld, format!("it stands at {at}, the log begins after {}", log.trimmed));
            return Ok(());
        }
        let scratch = self.folder.root().join("verify.scratch");
        remove(&scratch)?;
        let result = self.replay_and_compare(rows, at, source, &scratch);
        remove(&scratch)?;
        result
    }

    fn replay_and_compare(
        &mut self,
        found: impl Iterator<Item = kv::Result<Row>>,
        until: Position,
        source: Source<'_>,
        scratch_path: &Path,
    ) -> Result<(), FolderError> {
        let options = fjall::Options { cache_bytes: SCRATCH_CACHE, ..fjall::Options::default() };
        let scratch = Fjall::open(scratch_path, &options).map_err(FolderError::View)?;
        let Source { extent: log, snapshots, skips, read } = source;
        match snapshots.iter().find(|(position, _)| fits(*position, until, &log)) {
            Some((_, path)) => match folder::start_from(&scratch, path, &log, self.watch, self.goes_on) {
                Err(FolderError::Snapshot(error)) if error.is_missing() => {
                    self.overtaken = true;
                    return Ok(());
                }
                started => started?,
            },
            None if log.trimmed.ordinal == 0 && log.meta.predecessor.is_none() => {}
            None => {
                self.overtaken |= snapshot::list(&self.folder.snapshots())? != self.listed;
                self.report.find(Kind::NothingToReplayFrom, format!("the log begins after {}", log.trimmed));
                return Ok(());
            }
        }
        let mut applier = Applier::new(Arc::new(scratch), skips)?;
        self.report.replayed_from = applier.applied();
        if self.replay(&mut applier, until, read)? {
            let scratch = applier.view();
            self.compare_rows(scratch.rows(scratch.snapshot()), found)?;
        }
        Ok(())
    }

    /// Applies the log up to `until`; false when it cannot be, which is a finding.
    fn replay(
        &mut self,
        applier: &mut Applier<Fjall>,
        until: Position,
        read: &mut ReadLog<'_>,
    ) -> Result<bool, FolderError> {
        let from = applier.applied().ordinal;
        while applier.applied() < until {
            (self.goes_on)()?;
            let entries = match read(applier.applied()) {
                Ok(entries) if !entries.is_empty() => entries,
                Ok(_) => {
                    self.report.find(Kind::LogDamaged, format!("it ends after {}, before {until}", applier.applied()));
                    return Ok(false);
                }
                Err(ieum_log::Error::Trimmed { .. }) => {
                    self.overtaken = true;
                    return Ok(false);
                }
                Err(error) => {
                    let after = applier.applied();
                    self.report.find(Kind::LogDamaged, format!("replay stopped after {after}: {}", chain(&error)));
                    return Ok(false);
                }
            };
            for entry in entries.iter().take_while(|e| core_position(e.position) <= until) {
                if let Err(error) = applier.apply(entry) {
                    self.report.find(Kind::LogDamaged, chain(&error));
                    return Ok(false);
                }
                self.report.batches += 1;
            }
            let (done, of) = (applier.applied().ordinal.saturating_sub(from), until.ordinal.saturating_sub(from));
            (self.watch)(Step { what: "batches replayed", done, of: Some(of) });
        }
        Ok(true)
    }

    /// Compares all rows, `expected` against `found`.
    fn compare_rows(
        &mut self,
        expected: impl Iterator<Item = kv::Result<Row>>,
        found: impl Iterator<Item = kv::Result<Row>>,
    ) -> Result<(), FolderError> {
        let (mut left, mut right) = (expected.peekable(), found.peekable());
        let mut differing = 0usize;
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => break,
                (Some(Err(error)), _) | (_, Some(Err(error))) => {
                    self.report.find(Kind::ViewUnreadable, chain(error));
                    return Ok(());
                }
                (Some(Ok(_)), None) => Ordering::Less,
                (None, Some(Ok(_))) => Ordering::Greater,
                (Some(Ok((a, _))), Some(Ok((b, _)))) => a.cmp(b),
            };
            let a = if order.is_le() { left.next().and_then(Result::ok) } else { None };
            let b = if order.is_ge() { right.next().and_then(Result::ok) } else { None };
            self.report.rows += 1;
            if self.report.rows.is_multiple_of(progress::EVERY) {
                (self.watch)(Step { what: "rows compared", done: self.report.rows, of: None });
                (self.goes_on)()?;
            }
            let Some((kind, key)) = difference(a, b) else { continue };
            differing += 1;
            if differing <= MOST_ROWS {
                let hex: String = key.iter().skip(1).map(|b| format!("{b:02x}")).collect();
                let table = key.first().copied().unwrap_or_default();
                self.report.find(kind, format!("table {table}, key {hex}"));
            }
        }
        if differing > MOST_ROWS {
            self.report.find(Kind::RowDiffers, format!("{} more rows differ", differing - MOST_ROWS));
        }
        Ok(())
    }
}

fn remove(scratch: &Path) -> Result<(), FolderError> {
    if scratch.exists() { fjall::destroy(scratch).map_err(FolderError::View) } else { Ok(()) }
}

/// Whether a view at `position` leads to one at `until` through `log`.
fn fits(position: Position, until: Position, log: &Extent) -> bool {
    let begins_it = log.meta.predecessor.is_some_and(|p| core_position(p.end) == position) && log.trimmed.ordinal == 0;
    let within = position.generation == log.last.generation && position >= log.trimmed && position <= until;
    within || begins_it
}

/// How the row at one key differs, and its key.
fn difference(expected: Option<Row>, found: Option<Row>) -> Option<(Kind, Bytes)> {
    match (expected, found) {
        (Some((key, a)), Some((_, b))) if a != b => {
            let applied = key.first() == Some(&0);
            Some((if applied { Kind::DigestDiffers } else { Kind::RowDiffers }, key))
        }
        (Some((key, _)), None) => Some((Kind::RowMissing, key)),
        (None, Some((key, _))) => Some((Kind::RowUnexpected, key)),
        (Some(_), Some(_)) | (None, None) => None,
    }
}
