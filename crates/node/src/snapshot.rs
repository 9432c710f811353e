//! A view in one file: to rebuild from, to back up, to hand to a peer.
//!
//! ```text
//!  "IEUMSNP1"
//!  length u32 · header (cell, position, digest) · BLAKE3 of the header
//!  chunk*:  plain length u32 > 0 · length u32 · LZ4 block of rows · first 16 bytes of its BLAKE3
//!  end:     0 u32 · number of rows u64 · BLAKE3 over the chunks' checksums
//! ```
//!
//! Numbers are little-endian; a row is varint length and key, varint length and value, keys ascending. A file is written under
//! another name, made durable, read back, and only then given its name.

mod rows;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ieum_core::codec::Code;
use ieum_core::ids::Position;
use ieum_core::kv::{self, Direction, Kv, Read};
use ieum_core::tables::cell::{ONLY, SETTINGS};
use ieum_planted::Bug;

pub use rows::Rows;

use crate::progress::{self, Step, Watch};

const MAGIC: &[u8; 8] = b"IEUMSNP1";
const CHUNK_BYTES: usize = 256 * 1024;
/// Longest chunk that is believed; a row may be larger than [`CHUNK_BYTES`].
const MAX_CHUNK: u32 = 64 * 1024 * 1024;
const SUFFIX: &str = "snap";
/// How a file ends that is being written.
pub(crate) const PARTIAL: &str = "partial";
/// So much is written between two fsyncs: the log's own fsync may have to wait for one piece, not for the whole file.
const SYNC_BYTES: usize = 8 << 20;

/// So many bytes of rows are written before it is asked again whether to go on, or fewer.
const ASK_BYTES: usize = 8 << 20;

/// What errors call one that is in no file.
const IN_MEMORY: &str = "in memory";

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The cell's number.
    pub cell: u16,
    /// Where the view stood.
    pub position: Position,
    /// The rolling digest there.
    pub digest: [u8; 32],
}

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be written or read.
    #[error("{operation} {path}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("snapshot {path} is damaged: {what}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How it shows.
        what: String,
    },
    /// One for another node would take the room on the disk that this node needs itself.
    #[error("there is no room for a copy in {folder} beside what this node keeps free ([node] reserve_mib)")]
    NoRoom {
        /// Where it would lie.
        folder: PathBuf,
    },
    /// The node stops.
    #[error("the node stops")]
    Closed,
    /// The other node that it is for waits no more.
    #[error("nobody waits for it any more")]
    NobodyWaits,
    /// The view engine failed.
    #[error(transparent)]
    Store(#[from] kv::Error),
}

impl Error {
    /// Whether there is no such file.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What failed, on which file of a snapshot's.
pub fn io_error<'a>(operation: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::Io { operation, path: path.to_owned(), source }
}

/// The snapshots in `folder`, oldest first; none when there is no such folder.
pub fn list(folder: &Path) -> Result<Vec<(Position, PathBuf)>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("listing", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error("listing", folder))?.path();
        let position = path.extension().is_some_and(|e| e == SUFFIX).then(|| path.file_stem()).flatten();
        if let Some(position) = position.and_then(|stem| stem.to_str()).and_then(parse_stem) {
            found.push((position, path));
        }
    }
    found.sort();
    Ok(found)
}

fn parse_stem(stem: &str) -> Option<Position> {
    let (generation, ordinal) = stem.split_once('-')?;
    Some(Position::new(generation.parse().ok()?, ordinal.parse().ok()?))
}

/// Writes `view` as it is now into `folder`, verified and durable, under a name that tells its position. It may go on being written.
pub fn take(view: &impl Kv, folder: &Path, watch: Watch<'_>) -> Result<(Meta, PathBuf), Error> {
    take_while(view, folder, watch, unasked())
}

/// The same, while it `goes_on`: nothing is left of one that does not.
pub(crate) fn take_while(
    view: &impl Kv,
    folder: &Path,
    watch: Watch<'_>,
    goes_on: GoesOn<'_>,
) -> Result<(Meta, PathBuf), Error> {
    take_as(Way { care: Care::Kept, watch, goes_on }, view, folder)
}

/// The same for another node, which reads it once and checks it then: here it is neither made durable nor read back, and so is there sooner.
pub(crate) fn take_for_another(
    view: &impl Kv,
    folder: &Path,
    watch: Watch<'_>,
    goes_on: GoesOn<'_>,
) -> Result<(Meta, PathBuf), Error> {
    take_as(Way { care: Care::HandedOver, watch, goes_on }, view, folder)
}

fn take_as(way: Way<'_>, view: &impl Kv, folder: &Path) -> Result<(Meta, PathBuf), Error> {
    fs::create_dir_all(folder).map_err(io_error("creating", folder))?;
    let look = view.snapshot();
    let meta = meta(&look)?;
    let path = path_of(folder, meta.position);
    write_file(way, &meta, &path, |out| view.rows(look).try_for_each(|row| out.row(row?)))?;
    Ok((meta, path))
}

/// Nobody ends it.
pub(crate) fn unasked() -> GoesOn<'static> {
    &|| Ok(())
}

/// Is asked all the while by long work, and ends it with an error.
pub type GoesOn<'a> = &'a dyn Fn() -> Result<(), Error>;

/// What is done for a file so that it can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    /// It is made durable and read back.
    Kept,
    /// Nothing: whoever gets it looks.
    HandedOver,
}

/// How a file is made.
#[derive(Clone, Copy)]
struct Way<'a> {
    care: Care,
    watch: Watch<'a>,
    goes_on: GoesOn<'a>,
}

/// Where the snapshot at `position` lies in `folder`.
fn path_of(folder: &Path, Position { generation, ordinal }: Position) -> PathBuf {
    folder.join(format!("{generation:010}-{ordinal:020}.{SUFFIX}"))
}

/// Removes files in `folder` that end so; no matter if there is no such folder.
pub fn sweep(folder: &Path, endings: &[&str]) -> Result<(), Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(io_error("listing", folder))?,
    };
    for entry in entries {
        let path = entry.map_err(io_error("listing", folder))?.path();
        if path.extension().is_some_and(|extension| endings.iter().any(|ending| extension == *ending)) {
            fs::remove_file(&path).map_err(io_error("removing", &path))?;
        }
    }
    Ok(())
}

/// Takes `file`, which lies in `folder` and came from another node, as the snapshot of `cell` at `position`, if it is one and whole.
pub fn adopt(file: &Path, folder: &Path, cell: u32, position: Position) -> Result<(), Error> {
    let meta = check(file)?;
    is_asked_for(&meta, cell, position).map_err(|what| Error::Damaged { path: file.to_owned(), what })?;
    let path = path_of(folder, position);
    File::open(file).and_then(|file| file.sync_all()).map_err(io_error("syncing", file))?;
    fs::rename(file, &path).map_err(io_error("renaming", file))?;
    sync_folder_of(&path)
}

/// Whether what came from another node is the snapshot of `cell` at `position`.
///
/// # Errors
/// With what it is instead.
pub fn is_asked_for(meta: &Meta, cell: u32, position: Position) -> Result<(), String> {
    if meta.position != position {
        return Err(format!("it stands at {}, not at {position}", meta.position));
    }
    if u32::from(meta.cell) != cell && !Bug::PeerSnapshotOfAnyCell.planted() {
        return Err(format!("it is of cell {}, not of cell {cell}", meta.cell));
    }
    Ok(())
}

/// A snapshot of `view` as it is now, in memory: what a file of it would hold. For whoever has no files.
///
/// # Errors
/// When the view fails.
pub fn bytes_of(view: &impl Kv) -> Result<Vec<u8>, Error> {
    let look = view.snapshot();
    let mut writer = Writer::to(Vec::new(), Care::HandedOver);
    let failed = io_error("writing", Path::new(IN_MEMORY));
    writer.header(&meta(&look)?).map_err(&failed)?;
    for row in view.rows(look) {
        let (key, value) = row?;
        writer.row(&key, &value).map_err(&failed)?;
    }
    Ok(writer.finish().map_err(&failed)?.0)
}

/// Reads what [`bytes_of`] gave against its checksums and gives what it is of.
///
/// # Errors
/// When the bytes are no whole snapshot.
pub fn check_bytes(bytes: &[u8]) -> Result<Meta, Error> {
    let mut rows = Rows::read(bytes, Path::new(IN_MEMORY))?;
    rows.try_for_each(|row| row.map(drop))?;
    Ok(rows.meta)
}

/// Writes `view` as it is now to `path`, verified and durable. It may go on being written. Whatever was there is replaced at the end,
/// or stays if this fails.
pub fn copy(view: &impl Kv, path: &Path, watch: Watch<'_>) -> Result<Meta, Error> {
    copy_while(view, path, watch, unasked())
}

/// The same, while it `goes_on`.
pub fn copy_while(view: &impl Kv, path: &Path, watch: Watch<'_>, goes_on: GoesOn<'_>) -> Result<Meta, Error> {
    let look = view.snapshot();
    let meta = meta(&look)?;
    write_file(Way { care: Care::Kept, watch, goes_on }, &meta, path, |out| {
        view.rows(look).try_for_each(|row| out.row(row?))
    })?;
    Ok(meta)
}

/// As [`copy`], for rows that nobody changes meanwhile.
pub fn write(view: &impl Read, path: &Path) -> Result<Meta, Error> {
    let meta = meta(view)?;
    let way = Way { care: Care::Kept, watch: progress::unwatched(), goes_on: unasked() };
    write_file(way, &meta, path, |out| {
        let mut failure = None;
        view.scan(&[], &[0xff], Direction::Forward, &mut |key, value| match out.row((key, value)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failure.map_or(Ok(()), Err)
    })?;
    Ok(meta)
}

/// A file in the making.
struct Rowwise<'a> {
    writer: Writer<BufWriter<File>>,
    path: &'a Path,
    way: Way<'a>,
    /// Bytes since it was asked whether to go on.
    unasked: usize,
}

impl Rowwise<'_> {
    fn row(&mut self, (key, value): (impl AsRef<[u8]>, impl AsRef<[u8]>)) -> Result<(), Error> {
        let (key, value) = (key.as_ref(), value.as_ref());
        if self.writer.rows.is_multiple_of(progress::EVERY) || self.unasked >= ASK_BYTES {
            (self.way.goes_on)()?;
            self.unasked = 0;
        }
        self.unasked += key.len() + value.len();
        self.writer.row(key, value).map_err(io_error("writing", self.path))?;
        let done = self.writer.rows;
        if done.is_multiple_of(progress::EVERY) {
            (self.way.watch)(Step { what: "rows written", done, of: None });
        }
        Ok(())
    }
}

fn write_file(
    way: Way<'_>,
    meta: &Meta,
    path: &Path,
    fill: impl FnOnce(&mut Rowwise<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let partial = path.with_extension(PARTIAL);
    let written = write_partial(way, meta, &partial, path, fill);
    if written.is_err() {
        // The error that counts is the one above; a partial file is overwritten by the next attempt.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn meta(view: &impl Read) -> Result<Meta, Error> {
    let applied = ieum_core::apply::applied(view)?;
    let cell = SETTINGS.get(view, &ONLY)?.map_or(0, |s| s.cell);
    Ok(Meta { cell, position: applied.position, digest: applied.digest })
}

fn write_partial(
    way: Way<'_>,
    meta: &Meta,
    partial: &Path,
    path: &Path,
    fill: impl FnOnce(&mut Rowwise<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let file = File::create(partial).map_err(io_error("creating", partial))?;
    let mut writer = Writer::to(BufWriter::with_capacity(1 << 20, file), way.care);
    writer.header(meta).map_err(io_error("writing", partial))?;
    let mut rowwise = Rowwise { writer, path: partial, way, unasked: 0 };
    fill(&mut rowwise)?;
    let (_, count) = rowwise.writer.finish().map_err(io_error("writing", partial))?;
    if way.care == Care::HandedOver {
        return fs::rename(partial, path).map_err(io_error("renaming", partial));
    }
    check_while(partial, Some(count), way.watch, way.goes_on)?;
    fs::rename(partial, path).map_err(io_error("renaming", partial))?;
    sync_folder_of(path)
}

/// Makes the names in the folder of `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), Error> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|f| f.sync_all()).map_err(io_error("syncing", folder))
}

/// Where a snapshot is written.
trait Sink: io::Write {
    /// Makes durable what was written.
    fn sync(&mut self) -> io::Result<()>;
}

impl Sink for BufWriter<File> {
    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.get_ref().sync_all()
    }
}

impl Sink for Vec<u8> {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer<W> {
    out: W,
    chunk: Vec<u8>,
    care: Care,
    /// Bytes since the last fsync.
    unsynced: usize,
    rows: u64,
    sums: blake3::Hasher,
}

impl<W: Sink> Writer<W> {
    fn to(out: W, care: Care) -> Self {
        Self { out, chunk: Vec::new(), care, unsynced: 0, rows: 0, sums: blake3::Hasher::new() }
    }

    fn header(&mut self, meta: &Meta) -> io::Result<()> {
        let header = header_bytes(meta);
        self.out.write_all(MAGIC)?;
        self.out.write_all(&length(header.len())?.to_le_bytes())?;
        self.out.write_all(&header)?;
        self.out.write_all(blake3::hash(&header).as_bytes())
    }

    fn row(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        for part in [key, value] {
            ieum_core::codec::put_varint(&mut self.chunk, part.len() as u64);
            self.chunk.extend_from_slice(part);
        }
        self.rows += 1;
        if self.chunk.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let packed = lz4_flex::block::compress(&self.chunk);
        let sum = checksum(&packed);
        self.out.write_all(&length(self.chunk.len())?.to_le_bytes())?;
        self.out.write_all(&length(packed.len())?.to_le_bytes())?;
        self.out.write_all(&packed)?;
        self.out.write_all(&sum)?;
        self.sums.update(&sum);
        self.chunk.clear();
        self.unsynced += packed.len();
        if self.unsynced >= SYNC_BYTES && self.care == Care::Kept {
            self.unsynced = 0;
            self.out.sync()?;
        }
        Ok(())
    }

    /// Gives where it was written, and the number of rows.
    fn finish(mut self) -> io::Result<(W, u64)> {
        self.flush()?;
        self.out.write_all(&0u32.to_le_bytes())?;
        self.out.write_all(&self.rows.to_le_bytes())?;
        self.out.write_all(self.sums.finalize().as_bytes())?;
        match self.care {
            Care::Kept => self.out.sync()?,
            Care::HandedOver => self.out.flush()?,
        }
        Ok((self.out, self.rows))
    }
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| io::Error::other("a row is over 4 GiB"))
}

fn checksum(packed: &[u8]) -> [u8; 16] {
    let mut sum = [0; 16];
    sum.copy_from_slice(blake3::hash(packed).as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
    sum
}

fn header_bytes(meta: &Meta) -> Vec<u8> {
    let mut bytes = Vec::new();
    meta.cell.put(&mut bytes);
    meta.position.put(&mut bytes);
    meta.digest.put(&mut bytes);
    bytes
}

/// Reads the whole file against its checksums and gives what it is of.
pub fn check(path: &Path) -> Result<Meta, Error> {
    check_watched(path, None, progress::unwatched())
}

/// The same, with the number of rows that there should be where that is known.
pub(crate) fn check_watched(path: &Path, of: Option<u64>, watch: Watch<'_>) -> Result<Meta, Error> {
    check_while(path, of, watch, unasked())
}

/// The same, while it `goes_on`.
pub(crate) fn check_while(path: &Path, of: Option<u64>, watch: Watch<'_>, goes_on: GoesOn<'_>) -> Result<Meta, Error> {
    let mut rows = Rows::open(path)?;
    goes_on()?;
    let mut unasked = 0;
    for (row, done) in (&mut rows).zip(1u64..) {
        let (key, value) = row?;
        unasked += key.len() + value.len();
        if done.is_multiple_of(progress::EVERY) || unasked >= ASK_BYTES {
            goes_on()?;
            unasked = 0;
        }
        if done.is_multiple_of(progress::EVERY) {
            watch(Step { what: "rows read back", done, of });
        }
    }
    Ok(rows.meta)
}
