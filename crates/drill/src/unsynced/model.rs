//! The file system itself, without FUSE: inodes, each with a current and a durable state.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::Metadata;
use super::content::{BLOCK, File};
use super::journal::{Change, Edit, Journal};
use super::tree::{Body, Directory, Inode};

/// The root directory's inode number, which FUSE fixes.
pub(crate) const ROOT: u64 = 1;

/// In an [`Owner`]'s mode: the file is a socket.
pub const SOCKET: u32 = SFlag::S_IFSOCK.bits();

/// What `stat` tells of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The inode number; never used again, also not after a power cut.
    pub inode: u64,
    /// The length of a file in bytes; 0 for a directory.
    pub len: u64,
    /// Blocks of 4 KiB that take space.
    pub blocks: u64,
    /// Permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// How many names it has.
    pub links: u32,
    /// What it is.
    pub kind: Kind,
    /// When the content changed last.
    pub modified: SystemTime,
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// The name of a Unix socket: to us a file, of which the kernel keeps the rest.
    Socket,
}

/// Who creates a file or directory, and with which permission bits.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// Permission bits, the umask applied; [`SOCKET`] besides marks a socket.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
}

/// What happened since the start; what is unsynced now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) fsyncs: u64,
    pub(crate) writes: u64,
    pub(crate) cuts: u64,
}

/// Files and directories in memory; see the module's description.
#[derive(Debug)]
pub struct Model {
    pub(super) metadata: Metadata,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) journal: Journal,
    pub(super) next: u64,
    /// Blocks that the files take now.
    pub(super) used: u64,
    pub(super) capacity: u64,
    /// Blocks that may be used, if the disk was made full.
    pub(super) limit: Option<u64>,
    pub(super) counts: Counts,
}

impl Model {
    /// An empty file system of `capacity` bytes.
    pub fn new(metadata: Metadata, capacity: u64) -> Self {
        let root = Inode::new(Body::Directory(Directory::new(ROOT)), Owner { mode: 0o755, uid: 0, gid: 0 });
        Self {
            metadata,
            inodes: BTreeMap::from([(ROOT, root)]),
            journal: Journal::default(),
            next: ROOT + 1,
            used: 0,
            capacity: capacity / BLOCK,
            limit: None,
            counts: Counts::default(),
        }
    }

    /// Blocks of 4 KiB: all, and those that are free.
    pub fn space(&self) -> (u64, u64) {
        (self.capacity, self.free())
    }

    /// Lets only `bytes` more be written to new blocks, or as much as there is. Removing files makes room again.
    pub fn fill(&mut self, bytes: Option<u64>) {
        self.limit = bytes.map(|bytes| self.used + bytes / BLOCK);
    }

    /// What a name in a directory means.
    pub fn lookup(&self, directory: u64, name: &OsStr) -> Result<Attributes, Errno> {
        self.attributes(self.find(directory, name)?)
    }

    /// What `stat` tells.
    pub fn attributes(&self, inode: u64) -> Result<Attributes, Errno> {
        let found = self.inode(inode)?;
        let (len, blocks) = match &found.body {
            Body::File(file) => (file.current().len(), file.current().allocated()),
            Body::Directory(_) => (0, 0),
        };
        Ok(Attributes {
            inode,
            len,
            blocks,
            mode: found.owner.mode,
            uid: found.owner.uid,
            gid: found.owner.gid,
            links: found.links,
            kind: found.kind(),
            modified: found.modified,
        })
    }

    /// The names in a directory, each with its inode and what that is.
    pub fn list(&self, directory: u64) -> Result<Vec<(OsString, u64, Kind)>, Errno> {
        let names = &self.directory(directory)?.current;
        names.iter().map(|(name, inode)| Ok((name.clone(), *inode, self.inode(*inode)?.kind()))).collect()
    }

    /// The directory that a directory is in.
    pub fn parent(&self, directory: u64) -> Result<u64, Errno> {
        Ok(self.directory(directory)?.parent)
    }

    /// Makes an empty file.
    pub fn create_file(&mut self, directory: u64, name: &OsStr, owner: Owner) -> Result<Attributes, Errno> {
        self.create(directory, name, Body::File(File::default()), owner)
    }

    /// Makes an empty directory.
    pub fn create_directory(&mut self, directory: u64, name: &OsStr, owner: Owner) -> Result<Attributes, Errno> {
        self.create(directory, name, Body::Directory(Directory::new(directory)), owner)
    }

    fn create(&mut self, directory: u64, name: &OsStr, body: Body, owner: Owner) -> Result<Attributes, Errno> {
        if self.directory(directory)?.current.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        if self.free() == 0 {
            return Err(Errno::ENOSPC);
        }
        let inode = self.next;
        self.next += 1;
        self.inodes.insert(inode, Inode::new(body, owner));
        self.change(vec![directory], vec![Edit::Set { directory, name: name.to_owned(), inode }])?;
        self.attributes(inode)
    }

    /// Removes a file's name; the file goes once nobody has it open.
    pub fn unlink(&mut self, directory: u64, name: &OsStr) -> Result<(), Errno> {
        let inode = self.find(directory, name)?;
        if self.directory(inode).is_ok() {
            return Err(Errno::EISDIR);
        }
        self.change(vec![directory], vec![Edit::Clear { directory, name: name.to_owned(), inode }])
    }

    /// Removes an empty directory.
    pub fn remove_directory(&mut self, directory: u64, name: &OsStr) -> Result<(), Errno> {
        let inode = self.find(directory, name)?;
        if !self.directory(inode)?.current.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.change(vec![directory], vec![Edit::Clear { directory, name: name.to_owned(), inode }])
    }

    /// Gives a file a further name.
    pub fn link(&mut self, inode: u64, directory: u64, name: &OsStr) -> Result<Attributes, Errno> {
        if self.directory(inode).is_ok() {
            return Err(Errno::EPERM);
        }
        if self.directory(directory)?.current.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.change(vec![directory], vec![Edit::Set { directory, name: name.to_owned(), inode }])?;
        self.attributes(inode)
    }

    /// Moves a name, over another one if `replace`.
    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), replace: bool) -> Result<(), Errno> {
        let inode = self.find(from.0, from.1)?;
        let is_directory = self.directory(inode).is_ok();
        match self.find(to.0, to.1) {
            Ok(_) if !replace => return Err(Errno::EEXIST),
            Ok(same) if same == inode => return Ok(()),
            Ok(other) => match (is_directory, self.directory(other)) {
                (true, Ok(replaced)) if !replaced.current.is_empty() => return Err(Errno::ENOTEMPTY),
                (true, Err(_)) => return Err(Errno::ENOTDIR),
                (false, Ok(_)) => return Err(Errno::EISDIR),
                _ => {}
            },
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
        let mut directories = vec![from.0];
        if from.0 != to.0 {
            // A sync of one side must not lose the file: it covers how the other side came to be.
            directories.push(to.0);
            let mut above = to.0;
            while above != ROOT {
                above = self.parent(above)?;
                directories.push(above);
            }
        }
        let clear = Edit::Clear { directory: from.0, name: from.1.to_owned(), inode };
        let set = Edit::Set { directory: to.0, name: to.1.to_owned(), inode };
        self.change(directories, vec![clear, set])?;
        if let Ok(moved) = self.directory_mut(inode) {
            moved.parent = to.0;
        }
        Ok(())
    }

    /// Keeps a file although it may lose its last name.
    pub fn open(&mut self, inode: u64) -> Result<(), Errno> {
        self.inode_mut(inode)?.opens += 1;
        Ok(())
    }

    /// Undoes one [`Self::open`].
    pub fn release(&mut self, inode: u64) -> Result<(), Errno> {
        let found = self.inode_mut(inode)?;
        found.opens = found.opens.saturating_sub(1);
        self.collect(inode);
        Ok(())
    }

    /// At most `size` bytes from `offset`.
    pub fn read(&self, inode: u64, offset: u64, size: usize) -> Result<Vec<u8>, Errno> {
        Ok(self.file(inode)?.current().read(offset, size))
    }

    /// Writes what there is space for and says how much that was.
    pub fn write(&mut self, inode: u64, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        let free = self.free();
        let written = self.resize(inode, |file| file.write(offset, data, free))?;
        self.counts.writes += 1;
        self.inode_mut(inode)?.modified = SystemTime::now();
        if written == 0 && !data.is_empty() {
            return Err(Errno::ENOSPC);
        }
        Ok(written)
    }

    /// Shortens a file, or lengthens it with a hole.
    pub fn set_len(&mut self, inode: u64, len: u64) -> Result<(), Errno> {
        self.resize(inode, |file| file.set_len(len))?;
        self.inode_mut(inode)?.modified = SystemTime::now();
        if self.metadata == Metadata::Ext4 {
            self.change(Vec::new(), vec![Edit::Length { inode, len }])?;
        }
        Ok(())
    }

    /// Changes the owner and the permission bits.
    pub fn set_owner(&mut self, inode: u64, owner: Owner) -> Result<(), Errno> {
        self.inode_mut(inode)?.owner = owner;
        Ok(())
    }

    /// Changes when the content changed last.
    pub fn set_modified(&mut self, inode: u64, modified: SystemTime) -> Result<(), Errno> {
        self.inode_mut(inode)?.modified = modified;
        Ok(())
    }

    /// `fsync`, or `fdatasync` if `data_only`, of a file.
    pub fn sync(&mut self, inode: u64, data_only: bool) -> Result<(), Errno> {
        self.counts.fsyncs += 1;
        let waits = self.inode(inode)?.waiting > 0;
        let file = self.file(inode)?;
        let commits = waits || if data_only { !file.only_overwritten() } else { !file.is_synced() };
        if self.metadata == Metadata::Ext4 && commits {
            let changes = self.journal.take_all();
            self.commit(changes, &BTreeSet::new());
        }
        self.file_mut(inode)?.sync();
        Ok(())
    }

    /// `fsync` of a directory.
    pub fn sync_directory(&mut self, directory: u64) -> Result<(), Errno> {
        self.counts.fsyncs += 1;
        self.directory(directory)?;
        let changes = match self.metadata {
            Metadata::Strict => self.journal.take_directory(directory),
            Metadata::Ext4 if self.journal.waits_for(directory) || self.inode(directory)?.waiting > 0 => {
                self.journal.take_all()
            }
            Metadata::Ext4 => Vec::new(),
        };
        self.commit(changes, &BTreeSet::new());
        Ok(())
    }

    /// Bytes and files that a power cut would touch, and changes of names that it would undo.
    pub(crate) fn unsynced(&self) -> (u64, usize, usize) {
        let files = self.inodes.values().filter_map(|inode| match &inode.body {
            Body::File(file) if !file.is_synced() => Some(file.unsynced_bytes()),
            _ => None,
        });
        let (bytes, count) = files.fold((0, 0), |(bytes, count), file| (bytes + file, count + 1));
        (bytes, count, self.journal.len())
    }

    /// Applies a change to what programs see and lets it wait for a sync.
    fn change(&mut self, directories: Vec<u64>, edits: Vec<Edit>) -> Result<(), Errno> {
        let change = Change { directories, edits };
        for edit in &change.edits {
            self.inode_mut(edit.inode())?.waiting += 1;
        }
        let mut replaced = Vec::new();
        for edit in &change.edits {
            match edit {
                Edit::Set { directory, name, inode } => {
                    replaced.extend(self.directory_mut(*directory)?.current.insert(name.clone(), *inode));
                    self.inode_mut(*inode)?.links += 1;
                }
                Edit::Clear { directory, name, .. } => {
                    replaced.extend(self.directory_mut(*directory)?.current.remove(name));
                }
                Edit::Length { .. } => {}
            }
        }
        self.journal.push(change);
        for inode in replaced {
            let found = self.inode_mut(inode)?;
            found.links = found.links.saturating_sub(1);
            self.collect(inode);
        }
        Ok(())
    }

    fn resize<T>(&mut self, inode: u64, action: impl FnOnce(&mut File) -> T) -> Result<T, Errno> {
        let file = self.file_mut(inode)?;
        let before = file.current().allocated();
        let result = action(file);
        let after = file.current().allocated();
        self.used = (self.used + after).saturating_sub(before);
        Ok(result)
    }

    fn free(&self) -> u64 {
        self.limit.map_or(self.capacity, |limit| limit.min(self.capacity)).saturating_sub(self.used)
    }
}
