//! A node whose view began as a copy of another node's: until the others are known to have come to the same, it has no vote of its own when
//! views differ (`agreement`). A file remembers that, because the copy is not another one after a restart.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use ieum_core::ids::Position;

use crate::folder::Folder;

/// Holds where the copy stood.
const MARKER: &str = "copied";

impl Folder {
    /// The file that remembers where a copy stood.
    pub(crate) fn copied_marker(&self) -> PathBuf {
        self.root().join(MARKER)
    }

    /// The view is about to be a copy of another node's that stands at `position`.
    pub fn mark_copied(&self, position: Position) -> io::Result<()> {
        let (marker, next) = (self.copied_marker(), self.root().join("copied.next"));
        let mut file = File::create(&next)?;
        writeln!(file, "{position}")?;
        file.sync_all()?;
        fs::rename(&next, &marker)?;
        File::open(self.root())?.sync_all()
    }

    /// Where the copy stood that the view began as, if nobody has vouched for it since.
    pub fn copied(&self) -> io::Result<Option<Position>> {
        match fs::read_to_string(self.copied_marker()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // One that says nothing is there all the same: the copy may be as new as can be.
            read => Ok(Some(read?.trim_end().parse().unwrap_or(Position::new(u32::MAX, u64::MAX)))),
        }
    }

    /// The others have come to the same.
    pub fn forget_copied(&self) -> io::Result<()> {
        match fs::remove_file(self.copied_marker()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => File::open(self.root())?.sync_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stays_one_until_it_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        assert_eq!(folder.copied().unwrap(), None);
        for ordinal in [7, 50] {
            folder.mark_copied(Position::new(2, ordinal)).unwrap();
            assert_eq!(folder.copied().unwrap(), Some(Position::new(2, ordinal)));
        }
        fs::write(folder.copied_marker(), b"").unwrap();
        assert_eq!(
            folder.copied().unwrap(),
            Some(Position::new(u32::MAX, u64::MAX)),
            "no vote on a damaged file's word"
        );
        for _ in 0..2 {
            folder.forget_copied().unwrap();
            assert_eq!(folder.copied().unwrap(), None);
        }
    }
}
