//! A node whose view differs from the others' of its cell: it serves nobody, and its data is kept as evidence until an operator sets it aside.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ieum_log::sqlite::Offline;
use ieum_planted::Bug;

use crate::folder::{Error, Folder};
use crate::{in_use, snapshot};

/// The file that keeps a node from starting, and holds what is known of the difference.
const MARKER: &str = "differs";
/// How the names of the folders begin that such data is kept in.
const ASIDE: &str = "before-resync-";

impl Folder {
    fn marker(&self) -> PathBuf {
        self.root().join(MARKER)
    }

    /// Keeps the node from starting again with this data. `evidence` says how its view differs. What was marked before stays so.
    pub fn mark_differing(&self, evidence: &str) -> io::Result<()> {
        let marker = self.marker();
        let mut file = match File::options().write(true).create_new(true).open(&marker) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            file => file?,
        };
        writeln!(file, "{evidence}")?;
        file.sync_all()?;
        File::open(self.root())?.sync_all()
    }

    /// Refuses data that was marked.
    ///
    /// # Errors
    /// [`Error::Differs`].
    pub fn refuse_differing(&self) -> Result<(), Error> {
        if Bug::DifferingStartsAgain.planted() {
            return Ok(());
        }
        let marker = self.marker();
        match fs::read_to_string(&marker) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // One that cannot be read is there all the same.
            read => Err(Error::Differs { evidence: read.unwrap_or_default().trim_end().to_owned(), marker }),
        }
    }

    /// Sets log, view and snapshots aside, in the folder of a node that does not run, so that it begins anew from the other nodes of its
    /// cell; gives where they are kept.
    pub fn set_aside(&self) -> Result<PathBuf, Error> {
        if self.log().exists()
            && let Err(source) = Offline::open(self.log(), None)
        {
            // Opening it makes sure that no node runs; one that cannot be read is set aside all the same.
            if in_use(&source) {
                return Err(Error::Log { path: self.log(), source });
            }
            tracing::warn!(error = &source as &dyn std::error::Error, "the journal that is set aside cannot be read");
        }
        let name = |n: u32| self.root().join(format!("{ASIDE}{n}"));
        let aside = (1..u32::MAX).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(u32::MAX));
        fs::create_dir(&aside).map_err(|source| failed("creating", &aside, source))?;
        // What keeps the node from starting goes last: if this is cut off, it still does not start on what is left.
        for path in [
            self.log(),
            self.view(),
            self.root().join("view.before"),
            self.snapshots(),
            self.copied_marker(),
            self.marker(),
            self.unfinished(),
        ] {
            if let Some(name) = path.file_name()
                && path.exists()
            {
                fs::rename(&path, aside.join(name)).map_err(|source| failed("setting aside", &path, source))?;
            }
        }
        snapshot::sync_folder_of(&aside.join(MARKER))?;
        snapshot::sync_folder_of(&aside)?;
        Ok(aside)
    }
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { operation, path: path.to_owned(), source }
}
