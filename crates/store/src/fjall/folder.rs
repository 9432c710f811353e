//! The folder of a view: making sure that it is ours before anything is written into it or deleted.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ieum_planted::Bug;

/// Names the folder as a view of ours; written before anything else.
const MARKER: &str = "ieum-view";
const MARKER_TEXT: &str =
    "This folder is the view of an Ieum node. It can be rebuilt from a snapshot and the journal.\n";

/// Written by fjall when its folder is complete.
const FJALL_VERSION: &str = "version";
/// Where fjall keeps the tables of the first keyspace.
const FJALL_TABLES: &str = "keyspaces/1";

/// Why a view could not be opened or destroyed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder holds something else; nothing was touched.
    #[error("{0} is not empty and not a view of an Ieum node; choose another folder")]
    NotAView(PathBuf),
    /// Another process, or an engine or snapshot in this one, has it open.
    #[error("the view in {0} is in use by another process")]
    Locked(PathBuf),
    /// What is stored there cannot be read; destroy it and rebuild from a snapshot and the journal.
    #[error("the view in {path} is damaged and must be rebuilt")]
    Damaged {
        /// The view's folder.
        path: PathBuf,
        /// What did not fit.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The operating system refused: permissions, a full disk, a broken device.
    #[error("the view in {path} cannot be opened")]
    Io {
        /// The view's folder.
        path: PathBuf,
        /// What was refused.
        #[source]
        source: io::Error,
    },
}

/// Removes the view in `path`, to build it anew; does nothing when there is no such folder.
///
/// # Errors
///
/// [`OpenError::NotAView`] when the folder is not one of ours; [`OpenError::Locked`] when it is open.
pub fn destroy(path: impl AsRef<Path>) -> Result<(), OpenError> {
    let path = path.as_ref();
    match state(path)? {
        State::Absent => Ok(()),
        State::Foreign => Err(OpenError::NotAView(path.to_owned())),
        State::Empty | State::Ours => {
            let _lock = lock(path)?;
            // The marker last, so that what is left after a crash is still ours to delete.
            clear(path).and_then(|()| fs::remove_dir_all(path)).map_err(|source| io_error(path, source))
        }
    }
}

/// Makes `path` a folder that fjall can open: new, or a view that was created completely.
pub(super) fn prepare(path: &Path) -> Result<(), OpenError> {
    let error = |source| io_error(path, source);
    match state(path)? {
        State::Foreign => return Err(OpenError::NotAView(path.to_owned())),
        State::Ours => {}
        State::Absent | State::Empty => {
            fs::create_dir_all(path).map_err(error)?;
            mark(path).map_err(error)?;
            // The view's own name: without it all that is synced in the view is lost with it.
            File::open(parent(path)).and_then(|folder| folder.sync_all()).map_err(error)?;
        }
    }
    if path.join(FJALL_VERSION).try_exists().map_err(error)? {
        return Ok(());
    }
    // Killed while it was being created; fjall would stumble over its own first file. But never clear away rows.
    if path.join(FJALL_TABLES).try_exists().map_err(error)? {
        let source = io::Error::new(io::ErrorKind::NotFound, "the version file is missing");
        return Err(OpenError::Damaged { path: path.to_owned(), source: Box::new(source) });
    }
    let _lock = lock(path)?;
    clear(path).map_err(error)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes what was written to the journal so far durable.
///
/// Only the newest file needs it: fjall fsyncs a journal before it begins the next, and deletes it only when its rows are in
/// fsynced tables.
pub(super) fn sync_journal(path: &Path) -> io::Result<()> {
    loop {
        let newest =
            newest_journal(path)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no journal"))?;
        match File::open(newest) {
            Ok(file) => return file.sync_data(),
            // Superseded and deleted since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Journals are called `0.jnl`, `1.jnl` and so on; the highest number is the one being written.
fn newest_journal(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if number.is_some() && path.extension().is_some_and(|extension| extension == "jnl") {
            newest = newest.max(Some((number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Makes the names of all files and folders below `path` durable.
pub(super) fn sync_names(path: &Path) -> Result<(), OpenError> {
    if Bug::ViewFoldersNotSynced.planted() {
        return Ok(());
    }
    let error = |source| io_error(path, source);
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(error)? {
            let entry = entry.map_err(error)?;
            if entry.file_type().map_err(error)?.is_dir() {
                folders.push(entry.path());
            }
        }
        File::open(&folder).and_then(|opened| opened.sync_all()).map_err(error)?;
    }
    Ok(())
}

/// Sorts fjall's errors by what the caller can do about them.
pub(super) fn open_error(path: &Path, error: ::fjall::Error) -> OpenError {
    let path = path.to_owned();
    match error {
        ::fjall::Error::Locked => OpenError::Locked(path),
        ::fjall::Error::Io(source) | ::fjall::Error::Storage(::fjall::LsmError::Io(source))
            if !speaks_of_contents(&source) =>
        {
            OpenError::Io { path, source }
        }
        other => OpenError::Damaged { path, source: Box::new(other) },
    }
}

/// Whether an error comes from what the files hold (missing, too short, an offset that is nonsense) and not from the machine.
fn speaks_of_contents(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound, Other, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | IsADirectory | NotADirectory | NotFound | Other | UnexpectedEof)
}

enum State {
    Absent,
    Empty,
    Ours,
    Foreign,
}

fn state(path: &Path) -> Result<State, OpenError> {
    let error = |source| io_error(path, source);
    let mut entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(State::Absent),
        Err(source) => return Err(error(source)),
    };
    if path.join(MARKER).try_exists().map_err(error)? {
        return Ok(State::Ours);
    }
    Ok(if entries.next().is_none() { State::Empty } else { State::Foreign })
}

fn mark(path: &Path) -> io::Result<()> {
    fs::write(path.join(MARKER), MARKER_TEXT)?;
    File::open(path.join(MARKER))?.sync_all()?;
    File::open(path)?.sync_all()
}

/// Takes fjall's own lock, when there is one to take.
fn lock(path: &Path) -> Result<Option<File>, OpenError> {
    let file = match File::open(path.join("lock")) {
        Ok(file) => file,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error(path, source)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::Locked(path.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(io_error(path, source)),
    }
}

/// Deletes everything in the folder but the marker.
fn clear(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == MARKER {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    File::open(path)?.sync_all()
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}
