//! The keys of a log in etcd, and what their values hold.
//!
//! | key | value | |
//! |---|---|---|
//! | `ieum/cell` | [`Cell`] | whose log this is, and which generation of it counts |
//! | `ieum/G/node/N` | a token | a node's registration; its mod revision is the node's incarnation |
//! | `ieum/G/head/N/I` | nothing | its version is how many batches that life of the node has appended |
//! | `ieum/G/log/batch/N/I/B` | the bytes | a batch |
//! | `ieum/G/log/count` | [`Placed`] | its version is the newest ordinal; each value names the batch that has it |
//! | `ieum/G/trim` | [`Trim`] | up to where batches were removed |
//! | `ieum/G/skip/O/C` | both numbers | a command that is to be skipped |
//! | `ieum/G/agreed/O/C/N` | [`Agreed`] | whether a node stands before that batch until the command is marked |
//!
//! Numbers in keys are hexadecimal of one width, so that keys sort as they do. Those of different generations never meet.

use bytes::{BufMut as _, Bytes, BytesMut};
use ieum_log::sqlite::Predecessor;
use ieum_log::{BatchId, Position};

/// The record of the cell.
pub(crate) static CELL: Bytes = Bytes::from_static(b"ieum/cell");

/// All keys with a prefix, as etcd wants it: the first key, and the first one behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: Bytes,
    pub(crate) end: Bytes,
}

/// The keys of one generation.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(generation: u32) -> Self {
        Self { prefix: format!("ieum/{generation:08x}") }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Range {
        Range { first: self.key(""), end: format!("{}0", self.prefix).into() }
    }

    fn key(&self, rest: &str) -> Bytes {
        format!("{}/{rest}", self.prefix).into()
    }

    /// Every key that begins with `rest` and a slash.
    fn under(&self, rest: &str) -> Range {
        // 0 follows the slash.
        Range { first: self.key(&format!("{rest}/")), end: self.key(&format!("{rest}0")) }
    }

    pub(crate) fn node(&self, node: u32) -> Bytes {
        self.key(&format!("node/{node:08x}"))
    }

    pub(crate) fn head(&self, id: BatchId) -> Bytes {
        self.key(&format!("head/{:08x}/{:016x}", id.node, id.incarnation))
    }

    /// The heads of all lives of a node.
    pub(crate) fn heads(&self, node: u32) -> Range {
        self.under(&format!("head/{node:08x}"))
    }

    /// What a tail watches: batches and the count.
    pub(crate) fn log(&self) -> Range {
        self.under("log")
    }

    pub(crate) fn batch(&self, id: BatchId) -> Bytes {
        self.key(&format!("log/batch/{:08x}/{:016x}/{:016x}", id.node, id.incarnation, id.number))
    }

    pub(crate) fn count(&self) -> Bytes {
        self.key("log/count")
    }

    pub(crate) fn trim(&self) -> Bytes {
        self.key("trim")
    }

    pub(crate) fn skip(&self, ordinal: u64, index: u32) -> Bytes {
        self.key(&format!("skip/{ordinal:016x}/{index:08x}"))
    }

    pub(crate) fn skips(&self) -> Range {
        self.under("skip")
    }

    pub(crate) fn agreed(&self, ordinal: u64, index: u32, node: u32) -> Bytes {
        self.key(&format!("agreed/{ordinal:016x}/{index:08x}/{node:08x}"))
    }

    /// What nodes have agreed to, whatever it is.
    pub(crate) fn all_agreed(&self) -> Range {
        self.under("agreed")
    }
}

/// The first byte of every record: how it is written.
const FORMAT: u8 = 1;

/// A value that is not what this version writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key {key:?} of etcd does not hold a record of ours")]
pub(crate) struct NotOurs {
    key: String,
}

/// Takes a record apart, the numbers little-endian.
struct Reader<'a> {
    key: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(key: &'a [u8], value: &'a [u8]) -> Result<Self, NotOurs> {
        let mut reader = Self { key, rest: value };
        if reader.take::<1>()? == [FORMAT] { Ok(reader) } else { Err(reader.not_ours()) }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], NotOurs> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.not_ours())?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, NotOurs> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, NotOurs> {
        self.take().map(u64::from_le_bytes)
    }

    /// Refuses what follows the record.
    fn end(&self) -> Result<(), NotOurs> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.not_ours()) }
    }

    fn not_ours(&self) -> NotOurs {
        NotOurs { key: String::from_utf8_lossy(self.key).into_owned() }
    }
}

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) cell: u32,
    pub(crate) generation: u32,
    /// How the generation before ended; none for a cell that was founded here.
    pub(crate) predecessor: Option<Predecessor>,
}

impl Cell {
    pub(crate) fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(53);
        bytes.put_u8(FORMAT);
        bytes.put_u32_le(self.cell);
        bytes.put_u32_le(self.generation);
        if let Some(Predecessor { end, digest }) = self.predecessor {
            bytes.put_u32_le(end.generation);
            bytes.put_u64_le(end.ordinal);
            bytes.put_slice(&digest);
        }
        bytes.freeze()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, NotOurs> {
        let mut reader = Reader::new(&CELL, value)?;
        let (cell, generation) = (reader.u32()?, reader.u32()?);
        let predecessor = if reader.rest.is_empty() {
            None
        } else {
            let end = Position { generation: reader.u32()?, ordinal: reader.u64()? };
            Some(Predecessor { end, digest: reader.take()? })
        };
        reader.end().map(|()| Self { cell, generation, predecessor })
    }
}

/// Which batch has an ordinal: the value of the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) id: BatchId,
    /// Of its bytes.
    pub(crate) length: u32,
    /// Of its id and bytes, the first 8 bytes of their BLAKE3.
    checksum: [u8; 8],
}

impl Placed {
    pub(crate) fn new(id: BatchId, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self { id, length, checksum: checksum(id, bytes) }
    }

    /// Whether these are the bytes that were appended.
    pub(crate) fn fits(&self, bytes: &[u8]) -> bool {
        *self == Self::new(self.id, bytes)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(33);
        bytes.put_u8(FORMAT);
        bytes.put_u32_le(self.id.node);
        bytes.put_u64_le(self.id.incarnation);
        bytes.put_u64_le(self.id.number);
        bytes.put_u32_le(self.length);
        bytes.put_slice(&self.checksum);
        bytes.freeze()
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, NotOurs> {
        let mut reader = Reader::new(key, value)?;
        let id = BatchId { node: reader.u32()?, incarnation: reader.u64()?, number: reader.u64()? };
        let placed = Self { id, length: reader.u32()?, checksum: reader.take()? };
        reader.end().map(|()| placed)
    }
}

fn checksum(id: BatchId, bytes: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&id.node.to_le_bytes());
    hasher.update(&id.incarnation.to_le_bytes());
    hasher.update(&id.number.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Up to where the log was trimmed, with the revision at which that batch was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Trim {
    pub(crate) ordinal: u64,
    pub(crate) revision: i64,
}

impl Trim {
    pub(crate) fn encode(self) -> Bytes {
        pair(self.ordinal, self.revision.cast_unsigned())
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, NotOurs> {
        let (ordinal, revision) = unpair(key, value)?;
        Ok(Self { ordinal, revision: revision.cast_signed() })
    }
}

/// The value of a mark: ordinal and index.
pub(crate) fn encode_skip(ordinal: u64, index: u32) -> Bytes {
    pair(ordinal, u64::from(index))
}

pub(crate) fn decode_skip(key: &[u8], value: &[u8]) -> Result<(u64, u32), NotOurs> {
    let (ordinal, index) = unpair(key, value)?;
    let index = u32::try_from(index).map_err(|_| NotOurs { key: String::from_utf8_lossy(key).into_owned() })?;
    Ok((ordinal, index))
}

/// What a node says of a command that is to be skipped. It stays when it is taken back, so that a late double of what was sent before does
/// not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) ordinal: u64,
    pub(crate) index: u32,
    pub(crate) node: u32,
    /// Not taken back.
    pub(crate) stands: bool,
}

impl Agreed {
    pub(crate) fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(18);
        bytes.put_u8(FORMAT);
        bytes.put_u64_le(self.ordinal);
        bytes.put_u32_le(self.index);
        bytes.put_u32_le(self.node);
        bytes.put_u8(u8::from(self.stands));
        bytes.freeze()
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, NotOurs> {
        let mut reader = Reader::new(key, value)?;
        let (ordinal, index, node) = (reader.u64()?, reader.u32()?, reader.u32()?);
        let stands = match reader.take::<1>()? {
            [0] => false,
            [1] => true,
            _ => return Err(reader.not_ours()),
        };
        reader.end().map(|()| Self { ordinal, index, node, stands })
    }
}

fn pair(first: u64, second: u64) -> Bytes {
    let mut bytes = BytesMut::with_capacity(17);
    bytes.put_u8(FORMAT);
    bytes.put_u64_le(first);
    bytes.put_u64_le(second);
    bytes.freeze()
}

fn unpair(key: &[u8], value: &[u8]) -> Result<(u64, u64), NotOurs> {
    let mut reader = Reader::new(key, value)?;
    let pair = (reader.u64()?, reader.u64()?);
    reader.end().map(|()| pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: BatchId = BatchId { node: 7, incarnation: 300, number: 2 };

    #[test]
    fn records_come_back_and_others_are_refused() {
        let cell = Cell { cell: 3, generation: 9, predecessor: None };
        assert_eq!(Cell::decode(&cell.encode()), Ok(cell));
        let predecessor = Some(Predecessor { end: Position { generation: 8, ordinal: 77 }, digest: [5; 32] });
        let reseeded = Cell { predecessor, ..cell };
        let good = reseeded.encode();
        assert_eq!(Cell::decode(&good), Ok(reseeded));
        for length in (0..good.len()).filter(|length| *length != cell.encode().len()) {
            Cell::decode(&good[..length]).unwrap_err();
        }
        Cell::decode(&[&good[..], b"x"].concat()).unwrap_err();
        let placed = Placed::new(ID, b"bytes");
        assert_eq!(Placed::decode(b"k", &placed.encode()), Ok(placed));
        let trim = Trim { ordinal: 4, revision: 5000 };
        assert_eq!(Trim::decode(b"k", &trim.encode()), Ok(trim));
        assert_eq!(decode_skip(b"k", &encode_skip(8, 1)), Ok((8, 1)));
        let agreed = Agreed { ordinal: 8, index: 1, node: 3, stands: true };
        assert_eq!(Agreed::decode(b"k", &agreed.encode()), Ok(agreed));
        Agreed::decode(b"k", &[&agreed.encode()[..17], &[2]].concat()).unwrap_err();
        let good = placed.encode();
        for length in 0..good.len() {
            Placed::decode(b"k", &good[..length]).unwrap_err();
        }
        Placed::decode(b"k", &[&good[..], b"x"].concat()).unwrap_err();
        Cell::decode(&[2; 9]).unwrap_err();
    }

    #[test]
    fn a_checksum_covers_id_and_bytes() {
        let placed = Placed::new(ID, b"bytes");
        assert!(placed.fits(b"bytes"));
        assert!(!placed.fits(b"bytez") && !placed.fits(b"byte") && !placed.fits(b""));
        assert_ne!(placed.checksum, Placed::new(BatchId { number: 3, ..ID }, b"bytes").checksum);
    }

    #[test]
    fn a_watched_range_holds_batches_and_count_and_nothing_else() {
        let keys = Keys::new(2);
        let Range { first, end } = keys.log();
        for inside in [keys.batch(ID), keys.count()] {
            assert!(first <= inside && inside < end, "{inside:?}");
        }
        let all = keys.all();
        for inside in [keys.batch(ID), keys.count(), keys.node(7), keys.head(ID), keys.trim(), keys.skip(1, 1)] {
            assert!(all.first <= inside && inside < all.end, "{inside:?}");
        }
        for outside in [CELL.clone(), Keys::new(3).count(), Keys::new(1).trim()] {
            assert!(outside < all.first || all.end <= outside, "{outside:?}");
        }
        for outside in [keys.node(7), keys.head(ID), keys.trim(), keys.skip(1, 1), CELL.clone(), Keys::new(3).count()] {
            assert!(outside < first || end <= outside, "{outside:?}");
        }
        assert!(keys.heads(7).first <= keys.head(ID) && keys.head(ID) < keys.heads(7).end);
    }
}
