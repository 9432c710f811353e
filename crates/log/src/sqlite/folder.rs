//! The folder of a log: `lock`, and `generation-N.sqlite` for each generation, of which the highest counts.
//!
//! A generation is a file of its own so that a new one begins by a single rename, whatever state the one before is in.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::error::{InUse, failed};
use crate::{Error, Result};

/// A folder that this process holds.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Held until it is dropped. SQLite locks the database as well, but with POSIX locks, which a process loses when any
    /// part of it opens and closes that file, for a copy for example.
    _lock: File,
}

impl Folder {
    /// Takes the folder for this process.
    pub(super) fn lock(path: &Path, create: bool) -> Result<Folder> {
        if create {
            fs::create_dir_all(path).map_err(failed("making the log's folder"))?;
            // Also one that is there: whoever made it may have been killed before this.
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                sync(parent)?;
            }
        }
        if !path.is_dir() {
            return Err(missing(path));
        }
        let lock = File::options().create(true).append(true).open(path.join("lock"));
        let lock = lock.map_err(failed("opening the log's lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(in_use(path)),
            Err(TryLockError::Error(error)) => Err(failed("locking the log")(error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The highest generation that the folder holds.
    pub(super) fn newest(&self) -> Result<Option<u32>> {
        newest(&self.path)
    }

    /// The database of a generation.
    pub(super) fn database(&self, generation: u32) -> PathBuf {
        self.path.join(format!("generation-{generation}.sqlite"))
    }

    /// Removes the database of a generation and what belongs to it.
    pub(super) fn remove(&self, generation: u32) -> Result<()> {
        let database = self.database(generation);
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut path = database.clone().into_os_string();
            path.push(suffix);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed("removing a generation of the log")(error));
                }
                _ => {}
            }
        }
        sync(&self.path)
    }

    /// Lets `make` write a database, and gives it its name when that is done: a crash leaves all of it or none.
    pub(super) fn put(&self, generation: u32, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let unfinished = self.path.join("unfinished");
        for leftover in [unfinished.clone(), self.path.join("unfinished-journal")] {
            match fs::remove_file(leftover) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed("removing an unfinished log")(error));
                }
                _ => {}
            }
        }
        make(&unfinished)?;
        fs::rename(&unfinished, self.database(generation)).map_err(failed("naming the new log"))?;
        sync(&self.path)
    }
}

/// The highest generation that the folder at `path` holds, by the names in it; none when there is no such folder.
pub(super) fn newest(path: &Path) -> Result<Option<u32>> {
    let files = match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        files => files.map_err(failed("listing the log's folder"))?,
    };
    let mut newest = None;
    for file in files {
        let name = file.map_err(failed("listing the log's folder"))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("generation-")?.strip_suffix(".sqlite"));
        newest = newest.max(number.and_then(|number| number.parse().ok()));
    }
    Ok(newest)
}

/// Makes the names in a folder durable.
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("syncing the log's folder"))
}

/// How many bytes the files of a log's folder take.
pub(super) fn bytes(path: &Path) -> Result<u64> {
    let operation = "measuring the log's folder";
    let mut bytes = 0;
    for file in fs::read_dir(path).map_err(failed(operation))? {
        let file = file.map_err(failed(operation))?;
        match file.metadata() {
            Ok(metadata) => bytes += metadata.len(),
            // SQLite removes its journals when it closes.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(operation)(error)),
        }
    }
    Ok(bytes)
}

pub(super) fn missing(path: &Path) -> Error {
    Error::Foreign(format!("there is no log in {}: correct the path, or have one made there", path.display()))
}

pub(super) fn in_use(path: &Path) -> Error {
    failed("opening the log")(InUse { directory: path.to_owned() })
}
