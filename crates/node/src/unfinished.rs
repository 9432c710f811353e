//! What a restore makes is made in a folder of its own, within the data folder because that may be where a file system is mounted, and gets
//! its names at the end. As long as that folder is there no node starts: whatever a restore was killed at, what it left is not taken for data.
//!
//! ```text
//!  restore.unfinished/ made ─► filled ─► what was there moved aside, the log last ─► log, snapshots, view moved in ─► restore.unfinished/ removed
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use ieum_log::sqlite;
use ieum_planted::Bug;

use crate::backup::{Error, io as failed};
use crate::folder::{self, ASIDE, Error as FolderError, Folder, is_aside};
use crate::progress::{Step, Watch};
use crate::{in_use, snapshot};

const NAME: &str = "restore.unfinished";
const LOCK: &str = "lock";

impl Folder {
    /// Where a restore makes what gets its names at the end.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.root().join(NAME)
    }

    /// Refuses data into whose place a restore is about to put other data, or was when it was cut off.
    ///
    /// # Errors
    /// [`FolderError::Unfinished`].
    pub fn refuse_unfinished(&self) -> Result<(), FolderError> {
        let path = self.unfinished();
        if !path.exists() || Bug::UnfinishedRestoreStarts.planted() {
            return Ok(());
        }
        Err(FolderError::Unfinished { path })
    }
}

/// What a restore makes.
struct Unfinished<'a> {
    folder: &'a Folder,
    path: PathBuf,
    /// Whether one that was cut off has left it: what was there before is moved in part, perhaps.
    was_cut_off: bool,
    /// Held until it is done.
    _lock: File,
}

impl<'a> Unfinished<'a> {
    /// Begins with nothing, whatever one that was cut off has left.
    fn begin(folder: &'a Folder) -> Result<Self, Error> {
        let path = folder.unfinished();
        let was_cut_off = path.exists();
        folder::create(&path).map_err(failed("creating", &path))?;
        let lock = File::options().create(true).append(true).open(path.join(LOCK));
        let lock = lock.map_err(failed("opening the lock of", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::AnotherRestores(path)),
            Err(TryLockError::Error(error)) => return Err(failed("locking", &path)(error)),
        }
        let unfinished = Self { folder, path, was_cut_off, _lock: lock };
        unfinished.empty()?;
        Ok(unfinished)
    }

    fn empty(&self) -> Result<(), Error> {
        for left in children(&self.path)?.into_iter().filter(|left| *left != self.path.join(LOCK)) {
            remove(&left).map_err(failed("removing", &left))?;
        }
        Ok(())
    }

    fn made(&self) -> Folder {
        Folder::new(&self.path)
    }

    /// Nothing came of it, and it moved nothing: the node may start on what there is, unless one before it was cut off.
    fn give_up(self) {
        if self.was_cut_off && !Bug::CutOffRestoreForgotten.planted() {
            if let Err(error) = self.empty() {
                tracing::warn!(%error, "what the restore has made so far is left");
            }
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            let path = self.path.display();
            tracing::warn!(%error, "no node starts here before {path} is removed, which holds nothing that is needed");
        }
    }

    /// Gives the names. The log first: how far this data reaches can be told from then on.
    fn put_in_place(self, watch: Watch<'_>) -> Result<(), Error> {
        let (made, root) = (self.made(), self.folder.root());
        snapshot::sync_folder_of(&self.path.join(LOCK))?;
        let moves = [
            (made.log(), self.folder.log()),
            (made.snapshots(), self.folder.snapshots()),
            (made.view(), self.folder.view()),
        ];
        for ((from, to), done) in moves.iter().zip(1..) {
            fs::rename(from, to).map_err(failed("putting in place", from))?;
            watch(Step { what: "folders put in place", done, of: Some(3) });
        }
        let copied = made.copied_marker();
        if copied.exists() {
            fs::rename(&copied, self.folder.copied_marker()).map_err(failed("putting in place", &copied))?;
        }
        snapshot::sync_folder_of(&self.path)?;
        fs::remove_dir_all(&self.path).map_err(failed("removing", &self.path))?;
        snapshot::sync_folder_of(&root.join(NAME)).map_err(Error::from)
    }
}

/// Has `make` make data in an empty folder and puts that in the place of the data in `folder`, of which a node that runs has none. With
/// `replace`, data that is there is moved aside, never deleted; where is what is given beside what `make` gives. `from` is what is read
/// from, and must not be among what is moved.
pub(crate) fn in_place_of<T>(
    folder: &Folder,
    from: &Path,
    replace: bool,
    watch: Watch<'_>,
    make: impl FnOnce(&Folder) -> Result<T, Error>,
) -> Result<(T, Option<PathBuf>), Error> {
    let data = data_in(folder.root())?;
    if !data.is_empty() && !replace {
        return Err(Error::Occupied(folder.root().to_owned()));
    }
    refuse_if_moved(from, &data, folder)?;
    refuse_running(folder)?;
    let unfinished = Unfinished::begin(folder)?;
    // Once more, because one may have started before it was told not to.
    let made = make(&unfinished.made()).and_then(|made| refuse_running(folder).map(|()| made));
    let (made, data) = match made.and_then(|made| Ok((made, data_in(folder.root())?))) {
        Ok(made) => made,
        Err(error) => {
            unfinished.give_up();
            return Err(error);
        }
    };
    if data.is_empty() {
        unfinished.put_in_place(watch)?;
        return Ok((made, None));
    }
    let aside = free_aside(folder.root());
    match move_aside(folder, &data, &aside, watch).and_then(|()| unfinished.put_in_place(watch)) {
        Ok(()) => Ok((made, Some(aside))),
        Err(error) => Err(Error::MovedAside { aside, source: Box::new(error) }),
    }
}

/// The log is not opened for this: that would fold its write-ahead file in, torn or not, before anybody has looked at it.
fn refuse_running(folder: &Folder) -> Result<(), Error> {
    if !folder.log().exists() {
        return Ok(());
    }
    match sqlite::refuse_in_use(folder.log()) {
        Err(error) if in_use(&error) => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "what is moved aside is no log");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// What lies in the data folder and must be moved aside: not what was moved aside before or is being made, nor what is the file system's own.
fn data_in(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let stays =
        |path: &PathBuf| is_aside(path) || path.file_name().is_some_and(|name| name == "lost+found" || name == NAME);
    Ok(children(root)?.into_iter().filter(|path| !stays(path)).collect())
}

fn children(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("listing", folder))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    paths.map_err(failed("listing", folder))
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn refuse_if_moved(from: &Path, data: &[PathBuf], folder: &Folder) -> Result<(), Error> {
    let file = fs::canonicalize(from).map_err(failed("looking for", from))?;
    for path in data.iter().chain([&folder.unfinished()]) {
        // A socket or a link to nowhere cannot hold it.
        if fs::canonicalize(path).is_ok_and(|path| file.starts_with(path)) {
            return Err(Error::Inside { from: from.to_owned(), root: folder.root().to_owned() });
        }
    }
    Ok(())
}

fn free_aside(root: &Path) -> PathBuf {
    let name = |n: u32| root.join(format!("{ASIDE}{n}"));
    (1..u32::MAX).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(u32::MAX))
}

/// Moves the contents and not the folder itself, which may be where a file system is mounted. The log goes last: it tells how far the data
/// reaches that lies there still when this is cut off.
fn move_aside(folder: &Folder, data: &[PathBuf], aside: &Path, watch: Watch<'_>) -> Result<(), Error> {
    fs::create_dir(aside).map_err(failed("creating", aside))?;
    let (log, others): (Vec<_>, Vec<_>) = data.iter().partition(|path| **path == folder.log());
    for (path, done) in others.into_iter().chain(log).zip(1..) {
        if let Some(name) = path.file_name() {
            fs::rename(path, aside.join(name)).map_err(failed("moving aside", path))?;
            watch(Step { what: "files and folders moved aside", done, of: Some(data.len() as u64) });
        }
    }
    snapshot::sync_folder_of(&aside.join("log"))?;
    Ok(snapshot::sync_folder_of(aside)?)
}
