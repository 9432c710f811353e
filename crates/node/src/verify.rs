//! Checks that log, snapshots and view agree, and says what differs.
//!
//! The view must be what the older snapshot and the log behind it give: the log is replayed into a scratch view beside it, and the two
//! are compared row by row, position and digest among them.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ieum_core::apply;
use ieum_core::ids::Position;
use ieum_core::kv::{self, Direction, Kv, Read};
use ieum_log::sqlite::Offline;
use ieum_log::{Entry, Log, Tail};
use ieum_store::fjall::{self, Fjall, OpenError};

use crate::applier::Applier;
use crate::folder::{self, Error as FolderError, Extent, Folder};
use crate::service::Handle;
use crate::{chain, core_position, in_use, log_position, snapshot};

/// At most so many differing rows are named.
const MOST_ROWS: usize = 20;
const PAGE: usize = 1_000;

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
pub fn offline(folder: &Folder, cell: u16) -> Result<Report, FolderError> {
    let mut report = Report::default();
    let snapshots = check_snapshots(folder, &mut report)?;
    if !folder.log().exists() {
        report.find(Kind::LogMissing, folder.log().display());
        return Ok(report);
    }
    let log = match Offline::open(folder.log(), Some(u32::from(cell))) {
        Ok(log) => log,
        Err(error) if in_use(&error) => return Err(FolderError::Log { path: folder.log(), source: error }),
        Err(error) => {
            report.find(Kind::LogUnreadable, chain(&error));
            return Ok(report);
        }
    };
    let log_error = |source| FolderError::Log { path: folder.log(), source };
    for problem in log.check().map_err(log_error)? {
        report.find(Kind::LogDamaged, problem);
    }
    let extent = Extent::of(&log);
    let Some(view) = open_view(folder, &mut report)? else { return Ok(report) };
    let view = view.snapshot();
    let mut read = |after: Position| log.read(log_position(after), PAGE);
    compare(folder, &view, &extent, &snapshots, &mut read, &mut report)?;
    Ok(report)
}

/// Checks a running node: its view at one position against the log up to there. Blocks; call it off the runtime's threads.
pub fn running<L: Log, K: Kv, T: Send + 'static>(
    folder: &Folder,
    log: &L,
    extent: &Extent,
    node: &Handle<K, T>,
    runtime: &tokio::runtime::Handle,
) -> Result<Report, FolderError> {
    let mut report = Report::default();
    let snapshots = check_snapshots(folder, &mut report)?;
    let view = node.view();
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
    compare(folder, &view, extent, &snapshots, &mut read, &mut report)?;
    Ok(report)
}

fn check_snapshots(folder: &Folder, report: &mut Report) -> Result<Vec<(Position, std::path::PathBuf)>, FolderError> {
    let mut good = Vec::new();
    for (position, path) in snapshot::list(&folder.snapshots())? {
        match snapshot::check(&path) {
            Ok(_) => good.push((position, path)),
            Err(error) => report.find(Kind::SnapshotDamaged, chain(&error)),
        }
    }
    Ok(good)
}

fn open_view(folder: &Folder, report: &mut Report) -> Result<Option<Fjall>, FolderError> {
    let path = folder.view();
    if !path.exists() {
        report.find(Kind::ViewMissing, format!("{} is not there", path.display()));
        return Ok(None);
    }
    match Fjall::open(&path, &fjall::Options::default()) {
        Ok(view) => Ok(Some(view)),
        Err(error @ OpenError::Damaged { .. }) => {
            report.find(Kind::ViewUnreadable, chain(&error));
            Ok(None)
        }
        Err(error) => Err(FolderError::View(error)),
    }
}

type ReadLog<'a> = dyn FnMut(Position) -> ieum_log::Result<Vec<Entry>> + 'a;

fn compare(
    folder: &Folder,
    view: &impl Read,
    log: &Extent,
    snapshots: &[(Position, std::path::PathBuf)],
    read: &mut ReadLog<'_>,
    report: &mut Report,
) -> Result<(), FolderError> {
    let applied = match apply::applied(view) {
        Ok(applied) => applied,
        Err(error) => {
            report.find(Kind::ViewUnreadable, chain(&error));
            return Ok(());
        }
    };
    report.position = applied.position;
    if applied.position.ordinal == 0 && log.last.ordinal > 0 && applied.digest == [0; 32] {
        report.find(Kind::ViewMissing, "the view is empty");
        return Ok(());
    }
    if applied.position > log.last {
        report.find(Kind::LogBehind, format!("the log ends at {}, the view stands at {}", log.last, applied.position));
        return Ok(());
    }
    if applied.position < log.trimmed {
        report
            .find(Kind::ViewTooOld, format!("it stands at {}, the log begins after {}", applied.position, log.trimmed));
        return Ok(());
    }
    let scratch_path = folder.root().join("verify.scratch");
    remove(&scratch_path)?;
    let result = replay_and_compare(view, applied.position, log, snapshots, &scratch_path, read, report);
    remove(&scratch_path)?;
    result
}

fn remove(scratch: &Path) -> Result<(), FolderError> {
    if scratch.exists() { fjall::destroy(scratch).map_err(FolderError::View) } else { Ok(()) }
}

fn replay_and_compare(
    view: &impl Read,
    until: Position,
    log: &Extent,
    snapshots: &[(Position, std::path::PathBuf)],
    scratch_path: &Path,
    read: &mut ReadLog<'_>,
    report: &mut Report,
) -> Result<(), FolderError> {
    let scratch = Fjall::open(scratch_path, &fjall::Options::default()).map_err(FolderError::View)?;
    let older = snapshots.iter().find(|(position, _)| fits(*position, until, log));
    match older {
        Some((_, path)) => folder::start_from(&scratch, path, log)?,
        None if log.trimmed.ordinal == 0 && log.meta.predecessor.is_none() => {}
        None => {
            report.find(Kind::NothingToReplayFrom, format!("the log begins after {}", log.trimmed));
            return Ok(());
        }
    }
    let mut applier = Applier::new(Arc::new(scratch), Default::default())?;
    report.replayed_from = applier.applied();
    while applier.applied() < until {
        let entries = match read(applier.applied()) {
            Ok(entries) if !entries.is_empty() => entries,
            Ok(_) => {
                report.find(Kind::LogDamaged, format!("it ends after {}, before {until}", applier.applied()));
                return Ok(());
            }
            Err(error) => {
                report.find(Kind::LogDamaged, format!("replay stopped after {}: {error}", applier.applied()));
                return Ok(());
            }
        };
        for entry in entries.iter().take_while(|e| core_position(e.position) <= until) {
            if let Err(error) = applier.apply(entry) {
                report.find(Kind::LogDamaged, chain(&error));
                return Ok(());
            }
            report.batches += 1;
        }
    }
    let scratch = applier.view().snapshot();
    compare_rows(&scratch, view, report);
    Ok(())
}

/// Whether a view at `position` leads to one at `until` through `log`.
fn fits(position: Position, until: Position, log: &Extent) -> bool {
    let begins_it = log.meta.predecessor.is_some_and(|p| core_position(p.end) == position) && log.trimmed.ordinal == 0;
    let within = position.generation == log.last.generation && position >= log.trimmed && position <= until;
    within || begins_it
}

/// Compares all rows, `expected` against `found`.
fn compare_rows(expected: &impl Read, found: &impl Read, report: &mut Report) {
    let (mut left, mut right) = (Pages::new(expected), Pages::new(found));
    let mut differing = 0usize;
    loop {
        let (a, b) = match (left.peek(), right.peek()) {
            (Ok(a), Ok(b)) => (a, b),
            (_, Err(error)) | (Err(error), _) => {
                report.find(Kind::ViewUnreadable, chain(&error));
                return;
            }
        };
        let (kind, key) = match (a, b) {
            (None, None) => break,
            (Some((ka, va)), Some((kb, vb))) if ka == kb => {
                report.rows += 1;
                let same = va == vb;
                let kind = if ka.first() == Some(&0) { Kind::DigestDiffers } else { Kind::RowDiffers };
                left.advance();
                right.advance();
                if same {
                    continue;
                }
                (kind, ka)
            }
            (Some((ka, _)), b) if b.as_ref().is_none_or(|(kb, _)| ka < *kb) => {
                left.advance();
                (Kind::RowMissing, ka)
            }
            (_, Some((kb, _))) => {
                right.advance();
                (Kind::RowUnexpected, kb)
            }
            (Some((ka, _)), None) => {
                left.advance();
                (Kind::RowMissing, ka)
            }
        };
        differing += 1;
        if differing <= MOST_ROWS {
            let hex: String = key.iter().skip(1).map(|b| format!("{b:02x}")).collect();
            let table = key.first().copied().unwrap_or_default();
            report.find(kind, format!("table {table}, key {hex}"));
        }
    }
    if differing > MOST_ROWS {
        report.find(Kind::RowDiffers, format!("{} more rows differ", differing - MOST_ROWS));
    }
}

type Row = (Vec<u8>, Bytes);

/// All rows of a view, a page at a time.
struct Pages<'a, R> {
    view: &'a R,
    page: std::collections::VecDeque<Row>,
    next: Option<Vec<u8>>,
}

impl<'a, R: Read> Pages<'a, R> {
    fn new(view: &'a R) -> Self {
        Self { view, page: Default::default(), next: Some(Vec::new()) }
    }

    fn peek(&mut self) -> kv::Result<Option<Row>> {
        if self.page.is_empty()
            && let Some(from) = self.next.take()
        {
            let page = &mut self.page;
            self.view.scan(&from, &[0xff], Direction::Forward, &mut |key, value| {
                page.push_back((key.to_vec(), value.clone()));
                if page.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            if page.len() == PAGE {
                self.next = page.back().map(|(key, _)| [key.as_slice(), &[0]].concat());
            }
        }
        Ok(self.page.front().cloned())
    }

    fn advance(&mut self) {
        self.page.pop_front();
    }
}
