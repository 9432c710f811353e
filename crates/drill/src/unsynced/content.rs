//! What one file holds: the content that the programs see, the content that the disk is sure to have, and what lies between.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::random::Random;

/// Bytes in a block: the unit in which space is counted and writes are torn.
pub(crate) const BLOCK: u64 = 4096;
const BLOCK_BYTES: usize = 4096;

/// How many earlier versions of an unsynced block are kept, each of which a torn power cut may leave on the disk.
const VERSIONS: usize = 2;

type Block = Arc<[u8; BLOCK_BYTES]>;

/// A length and the blocks that were written; a missing block reads as zeros and takes no space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    len: u64,
    blocks: BTreeMap<u64, Block>,
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Blocks that take space.
    pub(crate) fn allocated(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// At most `size` bytes from `offset`; fewer at the end.
    pub(crate) fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let wanted = self.len.saturating_sub(offset).min(size as u64);
        let mut bytes = vec![0; wanted as usize];
        let mut rest = bytes.as_mut_slice();
        for piece in pieces(offset, wanted) {
            let (target, after) = rest.split_at_mut(piece.len);
            if let Some(source) = self.blocks.get(&piece.block).and_then(|block| block.get(piece.range())) {
                target.copy_from_slice(source);
            }
            rest = after;
        }
        bytes
    }

    /// The longest beginning of a write of `size` bytes at `offset` that takes at most `free` new blocks.
    fn fitting(&self, offset: u64, size: usize, free: u64) -> usize {
        let mut fresh = 0;
        let mut fits = 0;
        for piece in pieces(offset, size as u64) {
            fresh += u64::from(!self.blocks.contains_key(&piece.block));
            if fresh > free {
                break;
            }
            fits += piece.len;
        }
        fits
    }

    /// Shortens, or lengthens with a hole.
    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.blocks.split_off(&len.div_ceil(BLOCK));
            let kept = (len % BLOCK) as usize;
            if let Some(block) = self.blocks.get_mut(&(len / BLOCK)).filter(|_| kept > 0)
                && let Some(tail) = Arc::make_mut(block).get_mut(kept..)
            {
                tail.fill(0);
            }
        }
        self.len = len;
    }

    fn put(&mut self, index: u64, block: Option<&Block>) {
        match block {
            Some(block) => self.blocks.insert(index, Arc::clone(block)),
            None => self.blocks.remove(&index),
        };
    }
}

/// The part of a read or write that falls into one block.
struct Piece {
    block: u64,
    start: usize,
    len: usize,
}

impl Piece {
    fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.len
    }
}

fn pieces(offset: u64, size: u64) -> impl Iterator<Item = Piece> {
    let end = offset.saturating_add(size);
    let mut at = offset;
    std::iter::from_fn(move || {
        let start = at % BLOCK;
        let len = (BLOCK - start).min(end - at);
        let piece = Piece { block: at / BLOCK, start: start as usize, len: len as usize };
        at += len;
        (len > 0).then_some(piece)
    })
}

/// A file's content now and after a power cut.
#[derive(Debug, Default)]
pub(crate) struct File {
    current: Content,
    durable: Content,
    /// Blocks written since the last sync, each with its earlier unsynced versions, oldest first.
    dirty: BTreeMap<u64, Vec<Block>>,
    /// The shortest that the file has been since the last sync, if it was shortened.
    shrunk: Option<u64>,
}

impl File {
    /// A file that is on the disk already.
    pub(crate) fn loaded(bytes: &[u8]) -> Self {
        let mut file = Self::default();
        file.write(0, bytes, u64::MAX);
        file.sync();
        file
    }

    /// What programs see.
    pub(crate) fn current(&self) -> &Content {
        &self.current
    }

    /// What a power cut leaves.
    pub(crate) fn durable(&self) -> &Content {
        &self.durable
    }

    /// Bytes that the disk need not have yet, in whole blocks.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.dirty.len() as u64 * BLOCK
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.dirty.is_empty() && self.shrunk.is_none() && self.current.len == self.durable.len
    }

    /// Whether `fdatasync` needs no metadata: the length is the durable one and no block is new.
    pub(crate) fn only_overwritten(&self) -> bool {
        self.shrunk.is_none()
            && self.current.len == self.durable.len
            && self.dirty.keys().all(|block| self.durable.blocks.contains_key(block))
    }

    /// Writes what fits into `free` new blocks and says how many bytes that was.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8], free: u64) -> usize {
        let fits = self.current.fitting(offset, data.len(), free);
        let mut rest = data;
        for piece in pieces(offset, fits as u64) {
            let (source, after) = rest.split_at(piece.len);
            rest = after;
            let block = self.current.blocks.entry(piece.block).or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
            self.dirty
                .entry(piece.block)
                .and_modify(|versions| {
                    if versions.len() == VERSIONS {
                        versions.remove(0);
                    }
                    versions.push(Arc::clone(block));
                })
                .or_default();
            if let Some(target) = Arc::make_mut(block).get_mut(piece.range()) {
                target.copy_from_slice(source);
            }
        }
        if fits > 0 {
            self.current.len = self.current.len.max(offset.saturating_add(fits as u64));
        }
        fits
    }

    /// Shortens, or lengthens with a hole.
    pub(crate) fn set_len(&mut self, len: u64) {
        if len < self.current.len {
            self.shrunk = Some(self.shrunk.map_or(len, |shortest| shortest.min(len)));
            self.dirty.split_off(&len.div_ceil(BLOCK));
            if let Some(versions) = self.dirty.get_mut(&(len / BLOCK)) {
                versions.clear();
            }
        }
        self.current.set_len(len);
    }

    /// Makes the current content durable.
    pub(crate) fn sync(&mut self) {
        if let Some(len) = self.shrunk.take() {
            self.durable.set_len(len.min(self.durable.len));
        }
        for (index, _) in std::mem::take(&mut self.dirty) {
            self.durable.put(index, self.current.blocks.get(&index));
        }
        self.durable.len = self.current.len;
    }

    /// Makes a change of length durable without the data written around it.
    pub(crate) fn commit_len(&mut self, len: u64) {
        self.durable.set_len(len);
    }

    /// All changes of length are durable.
    pub(crate) fn lengths_committed(&mut self) {
        self.shrunk = None;
    }

    /// The power went: everything unsynced is gone.
    pub(crate) fn forget(&mut self) {
        self.current = self.durable.clone();
        self.dirty.clear();
        self.shrunk = None;
    }

    /// The power went while the disk was writing: of every unsynced block, the seed picks the synced version or a later one; of a longer
    /// file, how much longer. An unsynced shortening took place entirely (`shortened`), or not at all; in the second case nothing written
    /// beyond it survives, for a file system gives such data new space.
    pub(crate) fn tear(&mut self, seed: &mut Random, shortened: bool) {
        let limit = match self.shrunk {
            Some(len) if shortened => {
                self.durable.set_len(len.min(self.durable.len));
                u64::MAX
            }
            Some(len) => len,
            None => u64::MAX,
        };
        let before = self.durable.len;
        let after = match self.current.len.checked_sub(before) {
            Some(grown) if grown > 0 && limit == u64::MAX => match seed.below(3) {
                0 => before,
                1 => self.current.len,
                _ => before.max((before + seed.below(grown)).next_multiple_of(BLOCK).min(self.current.len)),
            },
            _ => before,
        };
        self.durable.len = before.max(self.current.len);
        for (index, versions) in std::mem::take(&mut self.dirty) {
            if (index + 1) * BLOCK > limit {
                continue;
            }
            match seed.below(versions.len() as u64 + 2) as usize {
                0 => {}
                pick => self.durable.put(index, versions.get(pick - 1).or(self.current.blocks.get(&index))),
            }
        }
        self.durable.set_len(after);
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(content: &Content) -> Vec<u8> {
        content.read(0, usize::MAX)
    }

    #[test]
    fn what_was_not_synced_is_forgotten_including_the_length() {
        let mut file = File::default();
        file.write(0, b"durable", u64::MAX);
        file.sync();
        file.write(3, b"lost and longer", u64::MAX);
        assert_eq!(all(file.current()), b"durlost and longer");
        file.forget();
        assert_eq!(all(file.current()), b"durable");
        assert!(file.is_synced());
    }

    #[test]
    fn holes_read_as_zeros_and_take_no_space() {
        let mut file = File::default();
        file.set_len(10 * BLOCK);
        file.write(5 * BLOCK + 1, b"x", u64::MAX);
        assert_eq!(file.current().allocated(), 1);
        assert_eq!(file.current().read(5 * BLOCK, 3), [0, b'x', 0]);
        assert_eq!(file.current().read(9 * BLOCK + 4000, 4096).len(), 96);
        assert!(file.current().read(11 * BLOCK, 1).is_empty());
    }

    #[test]
    fn shortening_and_lengthening_leaves_zeros_now_and_after_a_sync() {
        let mut file = File::loaded(&[7; 9000]);
        file.set_len(100);
        file.set_len(9000);
        let mut expected = vec![0; 9000];
        expected[..100].fill(7);
        assert_eq!(all(file.current()), expected);
        assert_eq!(all(file.durable()), [7; 9000]);
        file.sync();
        assert_eq!(all(file.durable()), expected);
    }

    #[test]
    fn a_shortening_that_was_not_synced_is_undone() {
        let mut file = File::loaded(&[7; 9000]);
        file.set_len(0);
        file.write(0, &[8; 5000], u64::MAX);
        file.forget();
        assert_eq!(all(file.current()), [7; 9000]);
    }

    #[test]
    fn a_write_stops_where_the_space_ends_but_overwrites_go_on() {
        let mut file = File::loaded(&[1; 4096]);
        assert_eq!(file.write(4000, &[2; 9000], 1), 96 + 4096);
        assert_eq!(file.current().len(), 8192);
        assert_eq!(file.write(0, &[3; 8192], 0), 8192);
        assert_eq!(file.write(8192, &[3; 1], 0), 0);
        assert_eq!(file.current().len(), 8192);
    }

    #[test]
    fn a_torn_cut_takes_whole_blocks_and_is_the_same_for_the_same_seed() {
        let torn = |seed| {
            let mut file = File::loaded(&[1; 40 * 4096]);
            file.write(0, &[2; 40 * 4096], u64::MAX);
            file.write(20 * BLOCK, &[3; 40 * 4096], u64::MAX);
            file.tear(&mut Random::new(seed), true);
            all(file.current())
        };
        let blocks = torn(7);
        assert_eq!(blocks, torn(7));
        assert_ne!(blocks, torn(8));
        assert!(blocks.len() >= 40 * 4096 && blocks.len() <= 60 * 4096);
        for (index, block) in blocks.chunks(4096).enumerate() {
            assert!(block.iter().all(|byte| *byte == block[0]), "block {index} is torn inside");
            let allowed: &[u8] = match index {
                0..20 => &[1, 2],
                20..40 => &[1, 2, 3],
                _ => &[0, 3],
            };
            assert!(allowed.contains(&block[0]), "block {index} is {}", block[0]);
        }
    }

    #[test]
    fn a_torn_cut_never_mixes_old_content_with_what_replaced_it() {
        for seed in 0..200 {
            let mut file = File::loaded(&[1; 8 * 4096]);
            file.set_len(0);
            file.write(0, &[2; 8 * 4096], u64::MAX);
            let shortened = seed % 2 == 0;
            file.tear(&mut Random::new(seed), shortened);
            let foreign = if shortened { 1 } else { 2 };
            assert!(!all(file.current()).contains(&foreign), "seed {seed}");
        }
    }
}
