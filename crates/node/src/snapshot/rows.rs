//! Reading a snapshot back, byte for byte as it was written.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ieum_core::codec::{Code, Reader};
use ieum_planted::Bug;

use super::{CHUNK_BYTES, Error, MAGIC, MAX_CHUNK, Meta, checksum, io_error};

const ENDS_TOO_EARLY: &str = "it ends too early";

/// The rows of a snapshot, ascending. An error ends them; without one, all of the file was as it was written.
pub struct Rows<R = BufReader<File>> {
    path: PathBuf,
    input: R,
    pub(super) meta: Meta,
    chunk: Bytes,
    count: u64,
    sums: blake3::Hasher,
    ended: bool,
}

impl Rows {
    /// Opens the file and reads its header.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(io_error("opening", path))?;
        Self::read(BufReader::with_capacity(1 << 20, file), path)
    }
}

impl<R: io::Read> Rows<R> {
    /// Reads the header of a snapshot that errors call `path`.
    pub fn read(mut input: R, path: &Path) -> Result<Self, Error> {
        let meta = read_header(&mut input).map_err(|what| Error::Damaged { path: path.to_owned(), what })?;
        let path = path.to_owned();
        Ok(Self { path, input, meta, chunk: Bytes::new(), count: 0, sums: blake3::Hasher::new(), ended: false })
    }

    /// What the snapshot is of.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    fn next_row(&mut self) -> Result<Option<(Bytes, Bytes)>, String> {
        if self.chunk.is_empty() && !self.next_chunk()? {
            return Ok(None);
        }
        let key = self.part()?;
        let value = self.part()?;
        self.count += 1;
        Ok(Some((key, value)))
    }

    fn part(&mut self) -> Result<Bytes, String> {
        let mut reader = Reader::new(&self.chunk);
        let length = reader.length(1).map_err(|e| e.to_string())?;
        let start = self.chunk.len() - reader.rest().len();
        let part = self.chunk.slice(start..start + length);
        self.chunk = self.chunk.slice(start + length..);
        Ok(part)
    }

    /// Reads the next chunk; false at the end of a whole file.
    fn next_chunk(&mut self) -> Result<bool, String> {
        let plain = read_u32(&mut self.input)?;
        if plain == 0 {
            return self.end().map(|()| false);
        }
        let packed = read_u32(&mut self.input)?;
        if plain > MAX_CHUNK || packed > MAX_CHUNK {
            return Err("a chunk of an impossible length".to_owned());
        }
        // An LZ4 block grows at most 255-fold.
        if plain / 255 > packed {
            return Err("a chunk of an impossible length".to_owned());
        }
        let packed = read_bytes(&mut self.input, packed as usize)?;
        let sum = read_bytes(&mut self.input, 16)?;
        if checksum(&packed).as_slice() != sum && !Bug::SnapshotUnverified.planted() {
            return Err(format!("the chunk behind row {} does not fit its checksum", self.count));
        }
        self.sums.update(&sum);
        let chunk = lz4_flex::block::decompress(&packed, plain as usize).map_err(|e| e.to_string())?;
        if chunk.len() != plain as usize {
            return Err("a chunk of another length than it says".to_owned());
        }
        self.chunk = chunk.into();
        Ok(true)
    }

    fn end(&mut self) -> Result<(), String> {
        let rows = read_bytes(&mut self.input, 8)?;
        let sum = read_bytes(&mut self.input, 32)?;
        if rows != self.count.to_le_bytes() {
            return Err(format!("it ends after {} rows, which are not all", self.count));
        }
        if sum != self.sums.finalize().as_bytes() && !Bug::SnapshotUnverified.planted() {
            return Err("the file does not fit its checksum".to_owned());
        }
        let mut more = [0];
        match self.input.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err("there are bytes behind its end".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl<R: io::Read> Iterator for Rows<R> {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_row();
        self.ended = !matches!(next, Ok(Some(_)));
        next.map_err(|what| Error::Damaged { path: self.path.clone(), what }).transpose()
    }
}

fn read_header(input: &mut impl io::Read) -> Result<Meta, String> {
    if read_bytes(input, MAGIC.len())? != MAGIC {
        return Err("it is not a snapshot of a view".to_owned());
    }
    let length = read_u32(input)?;
    if length > 4096 {
        return Err("a header of an impossible length".to_owned());
    }
    let header = read_bytes(input, length as usize)?;
    if read_bytes(input, 32)? != blake3::hash(&header).as_bytes() {
        return Err("the header does not fit its checksum".to_owned());
    }
    let mut reader = Reader::new(&header);
    let meta = (|| {
        Ok(Meta {
            cell: Code::take(&mut reader)?,
            position: Code::take(&mut reader)?,
            digest: Code::take(&mut reader)?,
        })
    })();
    meta.map_err(|e: ieum_core::codec::Malformed| e.to_string())
}

fn read_u32(input: &mut impl io::Read) -> Result<u32, String> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes).map_err(|e| short(&e))?;
    Ok(u32::from_le_bytes(bytes))
}

fn read_bytes(input: &mut impl io::Read, count: usize) -> Result<Vec<u8>, String> {
    // As much room as there are bytes: the count is only the file's word.
    let mut bytes = Vec::with_capacity(count.min(CHUNK_BYTES));
    let read = input.take(count as u64).read_to_end(&mut bytes).map_err(|e| short(&e))?;
    if read == count { Ok(bytes) } else { Err(ENDS_TOO_EARLY.to_owned()) }
}

fn short(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ENDS_TOO_EARLY.to_owned(),
        _ => error.to_string(),
    }
}
