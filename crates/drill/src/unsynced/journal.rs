//! Changes of names and lengths that no sync has made durable yet, in the order in which they were made.

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::Metadata;
use crate::random::Random;

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// The name in the directory now means this inode.
    Set { directory: u64, name: OsString, inode: u64 },
    /// The name in the directory, which meant this inode, is gone.
    Clear { directory: u64, name: OsString, inode: u64 },
    /// The file was shortened or lengthened by `ftruncate`.
    Length { inode: u64, len: u64 },
}

impl Edit {
    /// The inode that a sync of it would have to cover.
    pub(crate) fn inode(&self) -> u64 {
        match self {
            Self::Set { inode, .. } | Self::Clear { inode, .. } | Self::Length { inode, .. } => *inode,
        }
    }
}

/// What one system call changed; it becomes durable as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The directories whose sync makes it durable.
    pub(crate) directories: Vec<u64>,
    pub(crate) edits: Vec<Edit>,
}

impl Change {
    fn touches(&self, directories: &BTreeSet<u64>) -> bool {
        self.directories.iter().any(|directory| directories.contains(directory))
    }
}

/// The changes that wait, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    waiting: Vec<Change>,
}

impl Journal {
    pub(crate) fn push(&mut self, change: Change) {
        self.waiting.push(change);
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a change of the names in this directory waits.
    pub(crate) fn waits_for(&self, directory: u64) -> bool {
        self.waiting.iter().any(|change| change.directories.contains(&directory))
    }

    pub(crate) fn take_all(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.waiting)
    }

    /// The changes of this directory, with the earlier ones that they build on: a rename from another directory drags along what happened
    /// there before, so that the names stay what they were in some moment.
    pub(crate) fn take_directory(&mut self, directory: u64) -> Vec<Change> {
        let mut directories = BTreeSet::from([directory]);
        let mut taken = Vec::new();
        let mut kept = Vec::new();
        for change in self.take_all().into_iter().rev() {
            if change.touches(&directories) {
                directories.extend(&change.directories);
                taken.push(change);
            } else {
                kept.push(change);
            }
        }
        kept.reverse();
        taken.reverse();
        self.waiting = kept;
        taken
    }

    /// Drops the changes that only concern this directory, which nobody can reach or sync any more.
    pub(crate) fn drop_directory(&mut self, directory: u64) -> Vec<Change> {
        let (dropped, kept) = self.take_all().into_iter().partition(|change| {
            !change.directories.is_empty() && change.directories.iter().all(|other| *other == directory)
        });
        self.waiting = kept;
        dropped
    }

    /// Splits what waits into what a power cut lets through and what it drops: with one journal a beginning of it, else a beginning of each
    /// directory's changes.
    pub(crate) fn tear(&mut self, seed: &mut Random, metadata: Metadata) -> (Vec<Change>, Vec<Change>) {
        let mut through = self.take_all();
        match metadata {
            Metadata::Ext4 => {
                let dropped = through.split_off(seed.below(through.len() as u64 + 1) as usize);
                (through, dropped)
            }
            Metadata::Strict => {
                let mut closed = BTreeSet::new();
                through.into_iter().partition(|change| {
                    let passes = !change.touches(&closed) && seed.below(4) > 0;
                    if !passes {
                        closed.extend(&change.directories);
                    }
                    passes
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(directories: &[u64], inode: u64) -> Change {
        Change { directories: directories.to_vec(), edits: vec![Edit::Length { inode, len: 0 }] }
    }

    fn inodes(changes: &[Change]) -> Vec<u64> {
        changes.iter().flat_map(|change| change.edits.iter().map(Edit::inode)).collect()
    }

    #[test]
    fn a_directory_takes_what_its_changes_build_on_and_nothing_later() {
        let mut journal = Journal::default();
        for change in [change(&[2], 10), change(&[3], 11), change(&[1, 2], 12), change(&[2], 13), change(&[1], 14)] {
            journal.push(change);
        }
        assert_eq!(inodes(&journal.take_directory(1)), [10, 12, 14]);
        assert_eq!(inodes(&journal.take_all()), [11, 13]);
    }

    #[test]
    fn a_torn_journal_keeps_the_order_within_each_directory() {
        for seed in 0..100 {
            let mut journal = Journal::default();
            (0..20).for_each(|inode| journal.push(change(&[inode % 3], inode)));
            let (through, dropped) = journal.tear(&mut Random::new(seed), Metadata::Strict);
            for directory in 0..3 {
                let of =
                    |changes: &[Change]| inodes(changes).into_iter().filter(|inode| inode % 3 == directory).collect();
                let (through, dropped): (Vec<u64>, Vec<u64>) = (of(&through), of(&dropped));
                assert!(through.last().is_none_or(|last| dropped.iter().all(|later| later > last)));
            }
        }
    }
}
