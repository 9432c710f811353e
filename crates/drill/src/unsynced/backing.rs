//! Loads a folder into the model, and writes the durable state out again.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::content::File;
use super::model::{Kind, Model, Owner, ROOT};
use super::tree::{Body, Directory, Inode};
use crate::error::{Error, Naming as _};

impl Model {
    /// Takes over the files and directories below a folder, as durable ones. Anything else in it is left out.
    pub fn load(&mut self, folder: &Path) -> Result<(), Error> {
        self.load_into(ROOT, folder)?;
        // What was put into the durable state becomes the current one.
        self.cut(None);
        self.counts.cuts = 0;
        Ok(())
    }

    fn load_into(&mut self, parent: u64, folder: &Path) -> Result<(), Error> {
        let reading = || format!("loading {}", folder.display());
        for entry in fs::read_dir(folder).naming(reading)? {
            let entry = entry.naming(reading)?;
            let (path, metadata) = (entry.path(), entry.metadata().naming(reading)?);
            let body = if metadata.is_dir() {
                Body::Directory(Directory::new(parent))
            } else if metadata.is_file() {
                Body::File(File::loaded(&fs::read(&path).naming(|| format!("loading {}", path.display()))?))
            } else {
                continue;
            };
            let number = self.next;
            self.next += 1;
            let owner = Owner { mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() };
            self.inodes.insert(number, Inode::new(body, owner));
            if let Ok(directory) = self.directory_mut(parent) {
                directory.durable.insert(entry.file_name(), number);
            }
            if metadata.is_dir() {
                self.load_into(number, &path)?;
            }
        }
        Ok(())
    }

    /// Writes what a power cut would leave into a folder, which is made if it is not there.
    pub fn dump(&self, folder: &Path) -> Result<(), Error> {
        self.dump_from(ROOT, folder)
    }

    fn dump_from(&self, directory: u64, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).naming(|| format!("making {}", folder.display()))?;
        let names = self.directory(directory).naming(|| format!("dumping {}", folder.display()))?;
        for (name, number) in &names.durable {
            let path = folder.join(name);
            match self.inode(*number).map(|inode| &inode.body) {
                // A dump is of contents.
                _ if self.inode(*number).is_ok_and(|inode| inode.kind() == Kind::Socket) => {}
                Ok(Body::Directory(_)) => self.dump_from(*number, &path)?,
                Ok(Body::File(file)) => fs::write(&path, file.durable().read(0, usize::MAX))
                    .naming(|| format!("writing {}", path.display()))?,
                Err(_) => {}
            }
        }
        Ok(())
    }
}
