//! Backups: a snapshot outside the data folder, and a cell begun anew from one.

use std::fs;
use std::path::{Path, PathBuf};

use ieum_log::sqlite::{self, Offline};
use ieum_planted::Bug;
use ieum_store::fjall;

use crate::folder::{Error as FolderError, Extent, Folder};
use crate::progress::{Step, Watch};
use crate::{in_use, snapshot};

/// Why a backup or a restore did not happen. Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The backup file.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// The log.
    #[error("the log")]
    Log(#[from] ieum_log::Error),
    /// There is data already.
    #[error(
        "{0} already holds data; stop the node and say --replace to keep that data aside and restore into a new folder"
    )]
    Occupied(PathBuf),
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

/// Backs up the folder of a node that does not run, into the file `to`.
pub fn offline(folder: &Folder, cell: u16, to: &Path, watch: Watch<'_>) -> Result<snapshot::Meta, Error> {
    let view = open_offline(folder, cell, watch)?;
    Ok(snapshot::copy(&view, to, watch)?)
}

/// The view of a node that does not run, brought up to its log.
fn open_offline(folder: &Folder, cell: u16, watch: Watch<'_>) -> Result<fjall::Fjall, Error> {
    let log = Offline::open(folder.log(), Some(u32::from(cell)))?;
    let (view, _) = folder.open_view(&Extent::of(&log), &fjall::Options::default())?;
    let view = std::sync::Arc::new(view);
    let skips = crate::skips(&log.skips()?);
    let mut applier = crate::applier::Applier::new(std::sync::Arc::clone(&view), skips).map_err(FolderError::Store)?;
    let from = applier.applied().ordinal;
    let of = Some(log.last().ordinal.saturating_sub(from));
    loop {
        let entries = log.read(crate::log_position(applier.applied()), 1_000)?;
        if entries.is_empty() {
            break;
        }
        for entry in &entries {
            applier.apply(entry).map_err(|e| FolderError::Store(ieum_core::kv::Error::new("apply", e)))?;
        }
        watch(Step { what: "batches applied", done: applier.applied().ordinal.saturating_sub(from), of });
    }
    drop(applier);
    std::sync::Arc::try_unwrap(view)
        .map_err(|_| FolderError::Store(ieum_core::kv::Error::new("open", "the view is still in use")).into())
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup was of.
    pub from: snapshot::Meta,
    /// The generation that begins.
    pub generation: u32,
    /// Where the data that was there lies now.
    pub kept_aside: Option<PathBuf>,
}

/// Begins a new generation of the cell from the backup `from`, in the folder of a node that does not run. With `replace`, data that is
/// there is moved aside, never deleted.
pub fn restore(folder: &Folder, from: &Path, replace: bool, watch: Watch<'_>) -> Result<Restored, Error> {
    let meta = snapshot::check_watched(from, None, watch)?;
    let occupied = fs::read_dir(folder.root()).is_ok_and(|mut entries| entries.next().is_some());
    let mut newest = meta.position.generation;
    let mut kept_aside = None;
    if occupied {
        if !replace {
            return Err(Error::Occupied(folder.root().to_owned()));
        }
        if folder.log().exists() {
            // Opening it makes sure that no node runs; a log that cannot be read is moved aside all the same.
            match Offline::open(folder.log(), None) {
                Ok(log) => newest = newest.max(log.meta().generation),
                Err(error) if in_use(&error) => return Err(error.into()),
                Err(error) => tracing::warn!(%error, "the log that is moved aside cannot be read"),
            }
        }
        kept_aside = Some(move_aside(folder.root())?);
    }
    let io = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { operation, path, source }
    };
    let snapshots = folder.snapshots();
    fs::create_dir_all(&snapshots).map_err(io("creating", &snapshots))?;
    // The view before the new generation, so that it can be rebuilt; the name tells its position.
    let view_path = folder.view();
    let view = fjall::Fjall::open(&view_path, &fjall::Options::default()).map_err(FolderError::View)?;
    crate::folder::fill(&view, from, watch)?;
    snapshot::take(&view, &snapshots, watch)?;
    drop(view);
    // Later than any life of the log that was here, so that the new one is not mistaken for it.
    let generation = if Bug::RestoreKeepsGeneration.planted() { newest } else { newest + 1 };
    let predecessor = crate::folder::predecessor(&meta);
    let begun = sqlite::begin_generation(folder.log(), u32::from(meta.cell), generation, predecessor)?;
    // Takes the view over into the new generation.
    let extent = Extent::of(&Offline::open(folder.log(), Some(u32::from(meta.cell)))?);
    drop(folder.open_view(&extent, &fjall::Options::default())?);
    Ok(Restored { from: meta, generation: begun.generation, kept_aside })
}

fn move_aside(root: &Path) -> Result<PathBuf, Error> {
    let name = root.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| "data".to_owned());
    let free = (1..).map(|n| root.with_file_name(format!("{name}.before-restore-{n}"))).find(|p| !p.exists());
    let aside = free.unwrap_or_else(|| root.with_extension("before-restore"));
    let error = |source| Error::Io { operation: "moving aside", path: root.to_owned(), source };
    fs::rename(root, &aside).map_err(error)?;
    fs::create_dir_all(root).map_err(error)?;
    Ok(aside)
}
