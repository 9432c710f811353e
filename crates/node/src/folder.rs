//! What a node keeps on its disk, and how a view that does not fit is repaired.
//!
//! ```text
//!  data/
//!    log/        the log (SQLite)
//!    view/       the view (fjall); can be rebuilt
//!    view.before/  the view that the last rebuilding replaced, if there was one
//!    restore.unfinished/  what a restore makes; while it is there no node starts
//!    before-restore-N/  what was here before a restore
//!    before-resync-N/   what was here before an operator had the node begin anew from the others
//!    differs     says that this node's view differs from the others', and keeps it from starting
//!    snapshots/  two verified copies of the view, outside its folder; the log reaches back to the older
//! ```
//!
//! | what is found | what is done |
//! |---|---|
//! | a view that fits the log | opened; the node applies what the log has beyond it |
//! | no view, an empty one, a damaged one, one behind the trimmed log | rebuilt from the newest good snapshot, or from the whole log |
//! | a view or a snapshot ahead of the log | refused: the log has lost acknowledged batches |
//! | nothing to rebuild from | refused |

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ieum_core::ids::Position;
use ieum_core::kv::{self, Kv as _};
use ieum_log::Log;
use ieum_log::journaled::Journaled;
use ieum_log::sqlite::{self, Journal, Meta, Sqlite};
use ieum_planted::Bug;
use ieum_store::fjall::{self, Fjall, OpenError};

pub use crate::extent::Extent;
use crate::fit::{Fit, fit};
use crate::progress::{self, Step, Watch};
use crate::snapshot::GoesOn;
use crate::{core_position, snapshot};

/// A node's data folder.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

/// Why the data could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log could not be opened.
    #[error("opening the log in {path}")]
    Log {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: ieum_log::Error,
    },
    /// The view could not be opened, and rebuilding would not help.
    #[error(transparent)]
    View(OpenError),
    /// The log ends before what was applied.
    #[error(
        "the log ends at {last}, but {what} stands at {applied}: the log has lost batches that were acknowledged. {}",
        if *is_copy {
            "An older backup of etcd was restored, or this is not the etcd of this node's cell. Go on from the node that has most with `ieum \
             log reseed`"
        } else {
            "Put the log's newer files back, or restore a backup with `ieum restore`"
        }
    )]
    LogBehind {
        /// The log's last position.
        last: Position,
        /// What proves it: a view or a snapshot.
        what: &'static str,
        /// What was applied.
        applied: Position,
        /// Whether the log lies elsewhere, and others write to it as well.
        is_copy: bool,
    },
    /// There is no view and nothing to make one of.
    #[error(
        "the view must be rebuilt ({reason}), but the log begins only after {trimmed} and no snapshot fits it{tried}. \
         Restore a backup with `ieum restore`, which brings it up to the end of this log with --journal"
    )]
    NothingToRebuildFrom {
        /// Why it must be.
        reason: String,
        /// Up to where the log was trimmed.
        trimmed: Position,
        /// What was tried.
        tried: String,
    },
    /// The node went out because its view differs from the others' of its cell.
    #[error(
        "this node's view differs from the others' of its cell, which is why it went out: {evidence}. It does not start with this data. \
         `ieum node resync` keeps the data aside as evidence and has the node begin anew from the others ({marker} keeps it from starting)"
    )]
    Differs {
        /// What is known of it.
        evidence: String,
        /// The file that says so.
        marker: PathBuf,
    },
    /// A restore did not come to its end.
    #[error(
        "a restore is at work in this folder or was cut off, and no node starts here while {path} is there: if none runs, restore again. What \
         was there before lies in the newest before-restore-N, or where it was"
    )]
    Unfinished {
        /// What it has made so far.
        path: PathBuf,
    },
    /// A snapshot could not be read or written.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// The node trimmed its log again and again while it was checked.
    #[error("the log was trimmed {0} times while it was checked: check again when the node has less to do")]
    Overtaken(u32),
    /// The view engine failed.
    #[error(transparent)]
    Store(#[from] kv::Error),
    /// The folder itself.
    #[error("{operation} {path}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// A folder opened for running.
pub struct Opened<L = Sqlite> {
    /// The log.
    pub log: Arc<L>,
    /// The view, which fits the log.
    pub view: Arc<Fjall>,
    /// Why the view was rebuilt, if it was.
    pub rebuilt: Option<String>,
}

impl Folder {
    /// The folder at `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where everything lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the log lies.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Where the view lies.
    #[must_use]
    pub fn view(&self) -> PathBuf {
        self.root.join("view")
    }

    /// Where the snapshots lie.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Opens log and view for running, made if there is nothing, repaired if it can be. Blocks.
    pub async fn open(&self, cell: u16, options: &fjall::Options) -> Result<Opened, Error> {
        self.refuse_unfinished()?;
        let path = self.log();
        create(&self.root).map_err(self.io("creating", &self.root))?;
        let log_error = |source| Error::Log { path: path.clone(), source };
        // Not whether the folder is there: a first start may have been cut off before the log had its name in it.
        let fresh = sqlite::newest_generation(&path).map_err(log_error)?.is_none();
        if fresh && self.had_a_log()? {
            return Err(log_error(missing_log("restore a backup with `ieum restore`")));
        }
        let log_options = sqlite::Options { create: fresh, ..sqlite::Options::new(u32::from(cell)) };
        let log = Sqlite::open(&path, &log_options).map_err(log_error)?;
        let last = ieum_log::Log::last(&log).await.map_err(log_error)?;
        let extent = Extent::of_kept(&log, last);
        let (view, rebuilt) = self.open_view(&extent, options)?;
        Ok(Opened { log: Arc::new(log), view: Arc::new(view), rebuilt })
    }

    /// Opens a log that other nodes write to as well, its journal, and the view beside them: [`Folder::open_journal`] and
    /// [`Folder::open_beside`].
    pub async fn open_shared<L: Log>(
        &self,
        about: &Meta,
        shared: Arc<L>,
        options: &fjall::Options,
    ) -> Result<Opened<Journaled<L>>, Error> {
        let log = self.open_journal(about, shared).await?;
        self.open_beside(&log, options).await
    }

    /// Opens the journal of a log that other nodes write to as well, made if there is none. `about` is what that log says of itself. Blocks.
    pub async fn open_journal<L: Log>(&self, about: &Meta, shared: Arc<L>) -> Result<Arc<Journaled<L>>, Error> {
        self.refuse_unfinished()?;
        self.refuse_differing()?;
        let path = self.log();
        create(&self.root).map_err(self.io("creating", &self.root))?;
        let log_error = |source| Error::Log { path: path.clone(), source };
        if sqlite::newest_generation(&path).map_err(log_error)?.is_none() && self.had_a_log()? {
            let mend = "have the node begin anew from the others with `ieum node resync`";
            return Err(log_error(missing_log(mend)));
        }
        let journal = Journal::open(&path, about, 0).map_err(log_error)?;
        let last = shared.last().await.map_err(log_error)?;
        if journal.last() > last {
            let (last, applied) = (core_position(last), core_position(journal.last()));
            return Err(Error::LogBehind { last, what: "this node's copy of it", applied, is_copy: true });
        }
        Ok(Arc::new(Journaled::new(shared, Arc::new(journal))))
    }

    /// Opens the view that goes with `log`, which may be copied on meanwhile. Blocks, for long when the view is rebuilt.
    pub async fn open_beside<L: Log>(
        &self,
        log: &Arc<Journaled<L>>,
        options: &fjall::Options,
    ) -> Result<Opened<Journaled<L>>, Error> {
        let last = log.last().await.map_err(|source| Error::Log { path: self.log(), source })?;
        let (view, rebuilt) = self.open_view(&Extent::of_kept(log.as_ref(), last), options)?;
        Ok(Opened { log: Arc::clone(log), view: Arc::new(view), rebuilt })
    }

    /// Whether something is left of a cell, although there may be no log.
    fn had_a_log(&self) -> Result<bool, Error> {
        let snapshots = snapshot::list(&self.snapshots())?;
        let asides = self.asides().map_err(self.io("listing", &self.root))?;
        Ok(self.view().exists() || !snapshots.is_empty() || !asides.is_empty())
    }

    /// Where restores keep what was here before them, the newest last.
    pub(crate) fn asides(&self) -> std::io::Result<Vec<Folder>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if is_aside(&path) {
                found.push(Folder::new(path));
            }
        }
        found.sort_by_key(|folder| number(&folder.root));
        Ok(found)
    }

    fn io<'a>(&self, operation: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Error + 'a {
        move |source| Error::Io { operation, path: path.to_owned(), source }
    }

    /// Opens the view, or rebuilds one that fits `log`, and says why it was rebuilt.
    pub fn open_view(&self, log: &Extent, options: &fjall::Options) -> Result<(Fjall, Option<String>), Error> {
        self.refuse_unfinished()?;
        self.refuse_lost_end(log)?;
        let new_cell = log.last.ordinal == 0 && log.meta.predecessor.is_none();
        let reason = if !self.view().exists() && !new_cell {
            // Not opened: that would make an empty one.
            "there is none".to_owned()
        } else {
            match Fjall::open(self.view(), options) {
                Ok(view) => match fit(&view, log)? {
                    Fit::Fits => return Ok((view, None)),
                    Fit::Not(reason) => reason,
                },
                Err(OpenError::Damaged { source, .. }) => format!("it does not open: {source}"),
                Err(error) => return Err(Error::View(error)),
            }
        };
        tracing::warn!(%reason, "rebuilding the view");
        Ok((self.rebuild(log, options, &reason)?, Some(reason)))
    }

    /// Refuses a log that ends before a snapshot, even one that cannot be read: its name tells where it stands. The view alone does not
    /// prove it, because after a power cut it may be older than both.
    fn refuse_lost_end(&self, log: &Extent) -> Result<(), Error> {
        match snapshot::list(&self.snapshots())?.pop() {
            Some((applied, _)) if applied > log.last && !Bug::SnapshotAheadPassedOver.planted() => {
                Err(Error::LogBehind { last: log.last, what: "a snapshot", applied, is_copy: log.is_copy })
            }
            _ => Ok(()),
        }
    }

    /// Makes a view beside the old one and puts it in its place.
    fn rebuild(&self, log: &Extent, options: &fjall::Options, reason: &str) -> Result<Fjall, Error> {
        let new = self.root.join("view.new");
        let mut tried = String::new();
        for (position, path) in snapshot::list(&self.snapshots())?.into_iter().rev() {
            match self.filled_from(&path, &new, log, options) {
                Ok(view) => {
                    drop(view);
                    return self.put_in_place(&new, options);
                }
                Err(error) if another_may_serve(&error) => {
                    tracing::warn!(%position, %error, "this snapshot cannot be used");
                    tried = format!("{tried}; {error}");
                }
                Err(error) => return Err(error),
            }
        }
        let whole = log.trimmed.ordinal == 0 && log.meta.predecessor.is_none();
        if !whole {
            let (reason, trimmed) = (reason.to_owned(), log.trimmed);
            return Err(Error::NothingToRebuildFrom { reason, trimmed, tried });
        }
        remove(&new)?;
        drop(Fjall::open(&new, options).map_err(Error::View)?);
        self.put_in_place(&new, options)
    }

    fn filled_from(&self, path: &Path, new: &Path, log: &Extent, options: &fjall::Options) -> Result<Fjall, Error> {
        remove(new)?;
        let view = Fjall::open(new, options).map_err(Error::View)?;
        start_from(&view, path, log, progress::unwatched(), snapshot::unasked())?;
        Ok(view)
    }

    /// Gives the new view its name. The old one is kept aside until the next rebuilding: it is evidence, and perhaps it was right and
    /// the log is what is wrong.
    fn put_in_place(&self, new: &Path, options: &fjall::Options) -> Result<Fjall, Error> {
        if self.view().exists() {
            let before = self.root.join("view.before");
            remove(&before)?;
            fs::rename(self.view(), &before).map_err(self.io("moving aside", &self.view()))?;
            tracing::warn!(path = %before.display(), "the view that is replaced is kept aside");
        }
        fs::rename(new, self.view()).map_err(self.io("renaming", new))?;
        snapshot::sync_folder_of(&self.view())?;
        Fjall::open(self.view(), options).map_err(Error::View)
    }
}

/// How the names of the folders begin that restores keep data in.
pub(crate) const ASIDE: &str = "before-restore-";

/// Whether a restore keeps data in `path`.
pub(crate) fn is_aside(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(ASIDE.as_bytes()))
}

/// Which one of them it is; what has no number is older than all.
fn number(aside: &Path) -> u32 {
    let name = aside.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_prefix(ASIDE)?.parse().ok()).unwrap_or_default()
}

/// Makes a folder and makes its name durable, and those of the folders above it that are made along: else the whole cell, every synced
/// file of it, is gone when the power goes.
pub(crate) fn create(folder: &Path) -> std::io::Result<()> {
    let absolute = std::path::absolute(folder)?;
    let made = absolute.ancestors().take_while(|folder| !folder.exists()).count();
    fs::create_dir_all(&absolute)?;
    if Bug::DataFolderNotSynced.planted() {
        return Ok(());
    }
    absolute.ancestors().skip(1).take(made).try_for_each(|parent| fs::File::open(parent)?.sync_all())
}

/// Whether what is wrong with a snapshot says nothing of the others. A log that ends before it is wrong for all of them; a disk that does
/// not answer, too.
fn another_may_serve(error: &Error) -> bool {
    matches!(error, Error::Snapshot(snapshot::Error::Damaged { .. })) || Bug::SnapshotAheadPassedOver.planted()
}

fn missing_log(mend: &str) -> ieum_log::Error {
    ieum_log::Error::Foreign(format!(
        "there is a view, a snapshot or data kept aside by a restore, but no log: put the log's folder back, or {mend}"
    ))
}

fn remove(view: &Path) -> Result<(), Error> {
    if view.exists() { fjall::destroy(view).map_err(Error::View) } else { Ok(()) }
}

/// Fills the empty `view` with the rows of the snapshot at `path`.
pub(crate) fn fill(view: &Fjall, path: &Path, watch: Watch<'_>) -> Result<(), Error> {
    fill_while(view, path, watch, snapshot::unasked())
}

fn fill_while(view: &Fjall, path: &Path, watch: Watch<'_>, goes_on: GoesOn<'_>) -> Result<(), Error> {
    let rows = snapshot::Rows::open(path)?;
    let mut damage = None;
    let rows = rows.zip(1u64..).map(|(row, done)| {
        let asks = done.is_multiple_of(progress::EVERY);
        if asks {
            watch(Step { what: "rows loaded", done, of: None });
        }
        let row = if asks { goes_on().and(row) } else { row };
        row.map_err(|error| {
            let message = error.to_string();
            damage = Some(error);
            kv::Error::new("fill", message)
        })
    });
    let filled = view.fill(rows);
    match (damage, filled) {
        (Some(damage), _) => Err(damage.into()),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(_)) => Ok(view.persist()?),
    }
}

/// Fills the empty `view` from the snapshot at `path` so that it can go on with `log`.
pub(crate) fn start_from(
    view: &Fjall,
    path: &Path,
    log: &Extent,
    watch: Watch<'_>,
    goes_on: GoesOn<'_>,
) -> Result<(), Error> {
    fill_while(view, path, watch, goes_on)?;
    match fit(view, log)? {
        Fit::Fits => Ok(()),
        Fit::Not(reason) => Err(snapshot::Error::Damaged { path: path.to_owned(), what: reason }.into()),
    }
}
