//! Whether a write-ahead file ends where it was written to. SQLite passes over what is torn without a word, and overwrites it later.
//!
//! The format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::error::failed;
use crate::Result;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The last bit says in which order the words of the checksums are read.
const MAGIC: u32 = 0x377f_0682;

/// A write-ahead file that does not end where it was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The first byte that cannot be used.
    pub at: u64,
    /// How many bytes there are.
    pub length: u64,
    /// Where it is kept as it was found.
    pub kept: PathBuf,
}

/// Looks at the write-ahead file of `database`, if there is one, and keeps a copy of one that is torn. Where none is any more, one that was kept
/// before is told of: whoever kept it may have been killed before anybody heard of it.
pub(super) fn look(database: &Path) -> Result<Option<Torn>> {
    let beside = |ending: &str| {
        let mut path = database.as_os_str().to_owned();
        path.push(ending);
        PathBuf::from(path)
    };
    let (path, kept, copy) = (beside("-wal"), beside("-wal.torn"), beside("-wal.torn.part"));
    let Some((at, length)) = tear(&path)? else {
        return Ok(tear(&kept)?.map(|(at, length)| Torn { at, length, kept }));
    };
    // Whole or not at all: it is looked at again when this is cut off.
    let keep = || {
        fs::copy(&path, &copy)?;
        File::open(&copy)?.sync_all()?;
        fs::rename(&copy, &kept)
    };
    keep().map_err(failed("keeping a torn write-ahead file"))?;
    Ok(Some(Torn { at, length, kept }))
}

/// The first byte of a file that cannot be used, and how many there are; none when there is no such file or it is whole.
fn tear(path: &Path) -> Result<Option<(u64, u64)>> {
    let operation = "looking at the log's write-ahead file";
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed(operation))?,
    };
    let length = file.metadata().map_err(failed(operation))?.len();
    let at = torn_at(BufReader::new(file)).map_err(failed(operation))?;
    Ok(at.map(|at| (at, length)))
}

/// The first byte that cannot be used, if what follows it was written with what is before it.
fn torn_at(mut file: impl Read) -> io::Result<Option<u64>> {
    let mut header = [0; HEADER];
    match fill(&mut file, &mut header)? {
        0 => return Ok(None),
        HEADER => {}
        _ => return Ok(Some(0)),
    }
    let magic = word(&header, 0);
    let order = if magic & 1 == 1 { u32::from_be_bytes } else { u32::from_le_bytes };
    let mut sum = Sum { order, s: [0, 0] };
    sum.add(header.get(..24).unwrap_or_default());
    if magic & !1 != MAGIC || sum.s != [word(&header, 24), word(&header, 28)] {
        return Ok(Some(0));
    }
    let salts = [word(&header, 16), word(&header, 20)];
    let page = word(&header, 8) as usize;
    let mut frame = vec![0; FRAME_HEADER + page];
    let (mut at, mut unusable) = (HEADER as u64, None);
    loop {
        let read = fill(&mut file, &mut frame)?;
        if read < 16 {
            return Ok(None);
        }
        let of_this_life = [word(&frame, 8), word(&frame, 12)] == salts;
        sum.add(frame.get(..8).unwrap_or_default());
        sum.add(frame.get(FRAME_HEADER..).unwrap_or_default());
        let whole = read == frame.len() && sum.s == [word(&frame, 16), word(&frame, 20)];
        if !(of_this_life && whole) {
            unusable = unusable.or(Some(at));
        }
        // What an earlier life of the file has left behind its end has other salts.
        if of_this_life && unusable.is_some() {
            return Ok(unusable);
        }
        at += frame.len() as u64;
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_be_bytes(*word))
}

/// The checksum over everything up to a frame.
struct Sum {
    order: fn([u8; 4]) -> u32,
    s: [u32; 2],
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        let [mut first, mut second] = self.s;
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            first = first.wrapping_add((self.order)([a, b, c, d])).wrapping_add(second);
            second = second.wrapping_add((self.order)([e, f, g, h])).wrapping_add(first);
        }
        self.s = [first, second];
    }
}
