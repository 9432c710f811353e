//! Inodes, and what a sync and a power cut do to the tree that they form.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use nix::errno::Errno;

use super::content::File;
use super::journal::{Change, Edit};
use super::model::{Kind, Model, Owner, ROOT, SOCKET};
use crate::random::Random;

/// A file or directory.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) body: Body,
    pub(crate) owner: Owner,
    pub(crate) modified: SystemTime,
    /// Names that it has now.
    pub(crate) links: u32,
    /// Names that it would have after a power cut.
    pub(crate) durable_links: u32,
    /// Edits of it that wait in the journal.
    pub(crate) waiting: u32,
    /// How often it is open.
    pub(crate) opens: u32,
    /// Whether programs can no longer reach it.
    pub(crate) gone: bool,
}

impl Inode {
    pub(crate) fn new(body: Body, owner: Owner) -> Self {
        Self { body, owner, modified: SystemTime::now(), links: 0, durable_links: 0, waiting: 0, opens: 0, gone: false }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.body {
            Body::Directory(_) => Kind::Directory,
            Body::File(_) if self.owner.mode & SOCKET == SOCKET => Kind::Socket,
            Body::File(_) => Kind::File,
        }
    }
}

/// What an inode holds.
#[derive(Debug)]
pub(crate) enum Body {
    File(File),
    Directory(Directory),
}

/// The names in a directory, now and after a power cut.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) parent: u64,
    pub(crate) current: BTreeMap<OsString, u64>,
    pub(crate) durable: BTreeMap<OsString, u64>,
}

impl Directory {
    pub(crate) fn new(parent: u64) -> Self {
        Self { parent, current: BTreeMap::new(), durable: BTreeMap::new() }
    }
}

impl Model {
    /// The power goes and comes back: what is not durable is gone. With a seed, the disk was writing at that moment and some of it survives;
    /// the same seed after the same operations leaves the same.
    pub fn cut(&mut self, seed: Option<u64>) {
        self.counts.cuts += 1;
        let mut seed = seed.map(Random::new);
        let mut undone = BTreeSet::new();
        match &mut seed {
            Some(seed) => {
                let (through, dropped) = self.journal.tear(seed, self.metadata);
                let lengths = dropped.iter().flat_map(|change| &change.edits);
                undone.extend(lengths.filter(|edit| matches!(edit, Edit::Length { .. })).map(Edit::inode));
                self.commit(through, &undone);
            }
            None => drop(self.journal.take_all()),
        }
        for (number, inode) in &mut self.inodes {
            let Body::File(file) = &mut inode.body else { continue };
            match &mut seed {
                Some(seed) => {
                    let shortened = match self.metadata {
                        super::Metadata::Strict => seed.coin(),
                        super::Metadata::Ext4 => !undone.contains(number),
                    };
                    file.tear(seed, shortened);
                }
                None => file.forget(),
            }
        }
        self.rebuild();
    }

    /// Makes the durable names the current ones and drops what has none.
    fn rebuild(&mut self) {
        let mut links: BTreeMap<u64, u32> = BTreeMap::from([(ROOT, 0)]);
        let mut found = vec![(ROOT, ROOT)];
        while let Some((number, parent)) = found.pop() {
            if let Ok(directory) = self.directory_mut(number) {
                directory.parent = parent;
                directory.current = directory.durable.clone();
                let children: Vec<u64> = directory.current.values().copied().collect();
                for child in children {
                    let names = links.entry(child).or_default();
                    *names += 1;
                    if *names == 1 {
                        found.push((child, number));
                    }
                }
            }
        }
        self.inodes.retain(|number, inode| {
            let names = links.get(number).copied();
            inode.links = names.unwrap_or(0);
            inode.durable_links = inode.links;
            inode.waiting = 0;
            inode.opens = 0;
            inode.gone = false;
            names.is_some()
        });
        self.used = self.inodes.values().map(allocated).sum();
    }

    /// Makes changes durable, in order. Files in `undone` have later changes of length that do not become durable.
    pub(super) fn commit(&mut self, changes: Vec<Change>, undone: &BTreeSet<u64>) {
        let mut touched = BTreeSet::new();
        for edit in changes.iter().flat_map(|change| &change.edits) {
            touched.insert(edit.inode());
            self.settle(edit.inode());
            let mut lost = None;
            match edit {
                Edit::Set { directory, name, inode } => {
                    if let Ok(directory) = self.directory_mut(*directory) {
                        lost = directory.durable.insert(name.clone(), *inode);
                        self.count_durable(*inode, 1);
                    }
                }
                Edit::Clear { directory, name, .. } => {
                    if let Ok(directory) = self.directory_mut(*directory) {
                        lost = directory.durable.remove(name);
                    }
                }
                Edit::Length { inode, len } => {
                    if let Ok(file) = self.file_mut(*inode) {
                        file.commit_len(*len);
                        if !undone.contains(inode) {
                            file.lengths_committed();
                        }
                    }
                }
            }
            if let Some(lost) = lost {
                self.count_durable(lost, -1);
                touched.insert(lost);
            }
        }
        for inode in touched {
            self.collect(inode);
        }
    }

    /// An edit of the inode waits no more.
    fn settle(&mut self, inode: u64) {
        if let Some(found) = self.inodes.get_mut(&inode) {
            found.waiting = found.waiting.saturating_sub(1);
        }
    }

    fn count_durable(&mut self, inode: u64, by: i32) {
        if let Some(found) = self.inodes.get_mut(&inode) {
            found.durable_links = found.durable_links.saturating_add_signed(by);
        }
    }

    /// Drops an inode that nothing refers to, now or after a power cut.
    pub(super) fn collect(&mut self, inode: u64) {
        let Some(found) = self.inodes.get_mut(&inode) else { return };
        if inode == ROOT || found.links + found.opens > 0 {
            return;
        }
        // What programs can no longer reach takes no space, although a power cut may bring it back.
        if !std::mem::replace(&mut found.gone, true) {
            self.used = self.used.saturating_sub(allocated(found));
        }
        if found.durable_links + found.waiting > 0 {
            return;
        }
        if let Some(Inode { body: Body::Directory(_), .. }) = self.inodes.remove(&inode) {
            let dropped = self.journal.drop_directory(inode);
            let edited: BTreeSet<u64> =
                dropped.iter().flat_map(|change| change.edits.iter().map(Edit::inode)).collect();
            dropped.iter().flat_map(|change| &change.edits).for_each(|edit| self.settle(edit.inode()));
            edited.into_iter().for_each(|inode| self.collect(inode));
        }
    }

    pub(super) fn find(&self, directory: u64, name: &OsStr) -> Result<u64, Errno> {
        self.directory(directory)?.current.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub(super) fn inode(&self, inode: u64) -> Result<&Inode, Errno> {
        self.inodes.get(&inode).ok_or(Errno::ENOENT)
    }

    pub(super) fn inode_mut(&mut self, inode: u64) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&inode).ok_or(Errno::ENOENT)
    }

    pub(super) fn file(&self, inode: u64) -> Result<&File, Errno> {
        match &self.inode(inode)?.body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => Err(Errno::EISDIR),
        }
    }

    pub(super) fn file_mut(&mut self, inode: u64) -> Result<&mut File, Errno> {
        match &mut self.inode_mut(inode)?.body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => Err(Errno::EISDIR),
        }
    }

    pub(super) fn directory(&self, directory: u64) -> Result<&Directory, Errno> {
        match &self.inode(directory)?.body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn directory_mut(&mut self, directory: u64) -> Result<&mut Directory, Errno> {
        match &mut self.inode_mut(directory)?.body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) => Err(Errno::ENOTDIR),
        }
    }
}

fn allocated(inode: &Inode) -> u64 {
    match &inode.body {
        Body::File(file) => file.current().allocated(),
        Body::Directory(_) => 0,
    }
}
