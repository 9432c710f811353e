//! The database of a generation: its settings, its transactions, and how it is read.

use std::path::Path;

use bytes::Bytes;
use ieum_planted::Bug;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::error::{is_damage, sqlite};
use super::folder::{self, Folder};
use super::rows::checksum;
use super::{Meta, Predecessor};
use crate::numbering::{Newest, Turn, turn};
use crate::{BatchId, Entry, Error, Position, Result};

/// "Ieum", so that `file` and we can tell a log from another database.
const APPLICATION: i32 = 0x4965_756d;
/// "IeuJ", for a node's copy of a log that others write to as well.
const JOURNAL: i32 = 0x4965_754a;
/// The format that this version reads and writes.
const FORMAT: i32 = 1;
/// Four times SQLite's default, which halves the longest wait for a checkpoint and costs small batches little.
const PAGE_BYTES: i32 = 16 * 1024;
/// Trimming commits after so many rows or bytes: an append waits for one such transaction at most.
const TRIM_ROWS: i64 = 256;
const TRIM_BYTES: u64 = 2 * 1024 * 1024;

/// What a database is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The log of a node that is alone.
    Log,
    /// A node's copy of a log that lies elsewhere. Appended to by itself it would become another one.
    Journal,
}

impl Kind {
    fn application(self) -> i32 {
        match self {
            Self::Log => APPLICATION,
            Self::Journal => JOURNAL,
        }
    }

    /// Why a database of this kind is refused by who wants the other.
    fn refused(self, database: &Path) -> Error {
        let what = match self {
            Self::Log => {
                "is the log of a node that is alone, not a node's copy of a log that several share: correct [log] engine or \
                 [node] data; a node that joins a cell begins with an empty folder"
            }
            Self::Journal => {
                "is a node's copy of a log that several nodes share, not a log of its own: start the node with the \
                 configuration that names that log ([log] engine = \"etcd\"), or correct [node] data"
            }
        };
        Error::Foreign(format!("{} {what}", database.display()))
    }
}

/// Where a log starts and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    /// The newest ordinal given; 0 before the first.
    pub(super) last: u64,
    /// The highest ordinal that was trimmed; 0 when none was.
    pub(super) trimmed: u64,
}

/// What became of a batch to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// It stands at this ordinal now.
    New(u64),
    /// It stood at this ordinal before.
    Known(u64),
    /// It does not fit what the log holds.
    Conflict,
}

/// An open database. All of it blocks.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    kind: Kind,
    meta: Meta,
    ends: Ends,
    // After the connection, so that the lock is let go when the database is closed.
    folder: Folder,
}

/// Makes the database of a generation, whose first batch here will follow `after`.
pub(super) fn create(folder: &Folder, kind: Kind, meta: &Meta, after: u64) -> Result<()> {
    let write = |path: &Path| {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "application_id", kind.application())?;
        connection.pragma_update(None, "user_version", FORMAT)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(include_str!("schema.sql"))?;
        connection.execute_batch(super::skips::TABLE)?;
        let end = meta.predecessor.map(|before| (before.end.generation, before.end.ordinal.cast_signed()));
        connection.execute(
            "INSERT INTO meta VALUES (1, ?1, ?2, ?3, ?4, ?5)",
            params![
                meta.cell,
                meta.generation,
                end.map(|end| end.0),
                end.map(|end| end.1),
                meta.predecessor.map(|before| before.digest)
            ],
        )?;
        connection.execute("INSERT INTO ends VALUES (1, ?1, ?1)", [after.cast_signed()])?;
        connection.close().map_err(|(_, error)| error)
    };
    folder.put(meta.generation, |path| write(path).map_err(sqlite("making a new log")))
}

/// What a database says of itself.
pub(super) fn peek(database: &Path) -> Result<Meta> {
    read_meta(&connect(database)?.0)
}

pub(super) fn other_cell(directory: &Path, found: u32, wanted: u32) -> Error {
    Error::Foreign(format!(
        "the log in {} belongs to cell {found}, not to cell {wanted}: correct the path or the cell",
        directory.display()
    ))
}

/// Opens a database for this process alone, if it is a log of ours.
fn connect(database: &Path) -> Result<(Connection, Kind)> {
    const OPERATION: &str = "opening the log";
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags).map_err(sqlite(OPERATION))?;
    // Alone, SQLite keeps the index of its write-ahead log in its own memory and needs no shared file for it; and no
    // other tool's long read can keep that log from being folded in.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(sqlite(OPERATION))?;
    let read = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let kind = match read("application_id") {
        Ok(APPLICATION) => Kind::Log,
        Ok(JOURNAL) => Kind::Journal,
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            return Err(folder::in_use(database));
        }
        Err(error) if !is_damage(&error) => return Err(sqlite(OPERATION)(error)),
        Ok(_) | Err(_) => {
            let path = database.display();
            return Err(Error::Foreign(format!(
                "{path} is not a log of Ieum, or its start is damaged: correct the path, or restore a backup with `ieum restore`"
            )));
        }
    };
    let format = read("user_version").map_err(sqlite(OPERATION))?;
    if format == FORMAT {
        return Ok((connection, kind));
    }
    Err(Error::Foreign(format!(
        "{} has format {format}, and this version of Ieum knows format {FORMAT}: use the version that wrote it",
        database.display()
    )))
}

fn read_meta(connection: &Connection) -> Result<Meta> {
    let sql = "SELECT cell, generation, predecessor_generation, predecessor_ordinal, predecessor_digest FROM meta";
    let meta = connection.query_row(sql, [], |row| {
        let end: (Option<u32>, Option<i64>) = (row.get(2)?, row.get(3)?);
        let predecessor = match (end, row.get(4)?) {
            ((Some(generation), Some(ordinal)), Some(digest)) => {
                Some(Predecessor { end: Position { generation, ordinal: ordinal.cast_unsigned() }, digest })
            }
            _ => None,
        };
        Ok(Meta { cell: row.get(0)?, generation: row.get(1)?, predecessor })
    });
    meta.map_err(sqlite("reading what the log is"))
}

impl Store {
    /// Opens the newest generation in `folder`; of any kind when `wanted` is none, any cell's when `cell` is none.
    pub(super) fn open(
        folder: Folder,
        wanted: Option<Kind>,
        cell: Option<u32>,
        checkpoint_bytes: u32,
    ) -> Result<Store> {
        let generation = folder.newest()?.ok_or_else(|| folder::missing(folder.path()))?;
        let database = folder.database(generation);
        let (connection, kind) = connect(&database)?;
        if wanted.is_some_and(|wanted| wanted != kind) && !Bug::JournalTakenForLog.planted() {
            return Err(kind.refused(&database));
        }
        let meta = read_meta(&connection)?;
        if let Some(cell) = cell.filter(|cell| *cell != meta.cell) {
            return Err(other_cell(folder.path(), meta.cell, cell));
        }
        if meta.generation != generation {
            return Err(Error::Foreign(format!(
                "{} holds generation {}: give the file its name back",
                database.display(),
                meta.generation
            )));
        }
        configure(&connection, checkpoint_bytes).map_err(sqlite("setting up the log"))?;
        // A log may be older than the marks.
        connection.execute_batch(super::skips::TABLE).map_err(sqlite("setting up the log"))?;
        let ends = connection.query_row("SELECT last, trimmed FROM ends", [], |row| {
            Ok(Ends { last: row.get::<_, i64>(0)?.cast_unsigned(), trimmed: row.get::<_, i64>(1)?.cast_unsigned() })
        });
        Ok(Store { ends: ends.map_err(sqlite("reading where the log ends"))?, connection, kind, meta, folder })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn meta(&self) -> &Meta {
        &self.meta
    }

    pub(super) fn ends(&self) -> Ends {
        self.ends
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Refuses a log whose rows do not reach from the trimmed part to the last ordinal.
    pub(super) fn check_ends(&self) -> Result<()> {
        let outermost = |sql| self.connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
        let first = outermost("SELECT min(ordinal) FROM batches").map_err(sqlite("reading the first batch"))?;
        let last = outermost("SELECT max(ordinal) FROM batches").map_err(sqlite("reading the last batch"))?;
        let Ends { last: expected, trimmed } = self.ends;
        let first = first.map_or(expected.saturating_add(1), i64::cast_unsigned);
        let last = last.map_or(trimmed, i64::cast_unsigned);
        let reason = |found| format!("the log should hold {} to {expected} but {found}", trimmed.saturating_add(1));
        if first != trimmed.saturating_add(1) {
            return Err(self.damaged(trimmed.saturating_add(1), reason(format!("starts at {first}"))));
        }
        if last != expected {
            return Err(self.damaged(last.saturating_add(1), reason(format!("ends at {last}"))));
        }
        Ok(())
    }

    /// Appends batches in one transaction: all that fit are durable when it returns, and none is when it fails.
    pub(super) fn append<'a>(&mut self, batches: impl Iterator<Item = (BatchId, &'a Bytes)>) -> Result<Vec<Placed>> {
        let mut ends = self.ends;
        let transaction = begin(&self.connection)?;
        let placed = batches.map(|(id, bytes)| self.place(&mut ends, id, bytes)).collect::<Result<Vec<_>>>()?;
        transaction.commit().map_err(sqlite("committing batches"))?;
        self.ends = ends;
        Ok(placed)
    }

    fn place(&self, ends: &mut Ends, id: BatchId, bytes: &Bytes) -> Result<Placed> {
        let newest = self.newest(id.node)?;
        match turn(newest, id) {
            Turn::Next => {}
            Turn::Earlier => {
                let known = self.find(id)?.filter(|entry| entry.bytes == *bytes);
                return Ok(known.map_or(Placed::Conflict, |entry| Placed::Known(entry.position.ordinal)));
            }
            Turn::TooEarly => return Ok(Placed::Conflict),
        }
        if Bug::OrdinalReusedAfterTrim.planted() {
            ends.last = self.highest_row()?;
        }
        ends.last += 1;
        self.insert(ends.last, id, bytes).map_err(sqlite("writing a batch"))?;
        Ok(Placed::New(ends.last))
    }

    /// Writes batches that another log has placed, in one transaction. The first MUST follow the last one here.
    pub(super) fn copy(&mut self, entries: &[Entry]) -> Result<()> {
        let transaction = begin(&self.connection)?;
        for entry in entries {
            self.insert(entry.position.ordinal, entry.id, &entry.bytes).map_err(sqlite("copying a batch"))?;
        }
        transaction.commit().map_err(sqlite("committing copied batches"))?;
        if let Some(entry) = entries.last() {
            self.ends.last = entry.position.ordinal;
        }
        Ok(())
    }

    fn insert(&self, ordinal: u64, id: BatchId, bytes: &Bytes) -> rusqlite::Result<()> {
        let checksum = checksum(Position { generation: self.meta.generation, ordinal }, id, bytes);
        let (ordinal, incarnation, number) =
            (ordinal.cast_signed(), id.incarnation.cast_signed(), id.number.cast_signed());
        let mut statement = self.connection.prepare_cached("INSERT INTO batches VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        statement.execute(params![ordinal, id.node, incarnation, number, checksum, &bytes[..]])?;
        let mut statement = self.connection.prepare_cached("REPLACE INTO newest VALUES (?1, ?2, ?3, ?4)")?;
        statement.execute(params![id.node, incarnation, number, ordinal])?;
        self.connection.prepare_cached("UPDATE ends SET last = ?1")?.execute([ordinal])?;
        Ok(())
    }

    /// What the log would count from if it kept no last ordinal: only the planted bug asks.
    fn highest_row(&self) -> Result<u64> {
        let highest = self.connection.query_row("SELECT coalesce(max(ordinal), 0) FROM batches", [], |row| row.get(0));
        highest.map(i64::cast_unsigned).map_err(sqlite("reading the last batch"))
    }

    fn newest(&self, node: u32) -> Result<Option<Newest>> {
        let find = || {
            let sql = "SELECT incarnation, number FROM newest WHERE node = ?1";
            let mut statement = self.connection.prepare_cached(sql)?;
            let newest = statement.query_row([node], |row| {
                let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
                Ok(Newest { incarnation: number(0)?, number: number(1)? })
            });
            newest.optional()
        };
        find().map_err(sqlite("finding a node's newest batch"))
    }

    /// Looks for a batch by its id, the newest first. There is no index: what is retried is among the newest.
    fn find(&self, id: BatchId) -> Result<Option<Entry>> {
        let find = || {
            let sql = "SELECT ordinal FROM batches WHERE node = ?1 AND incarnation = ?2 AND number = ?3 \
                       ORDER BY ordinal DESC LIMIT 1";
            let mut statement = self.connection.prepare_cached(sql)?;
            let ordinal = statement
                .query_row(params![id.node, id.incarnation.cast_signed(), id.number.cast_signed()], |row| {
                    row.get::<_, i64>(0)
                });
            ordinal.optional()
        };
        let Some(ordinal) = find().map_err(sqlite("finding a batch by its id"))? else { return Ok(None) };
        Ok(self.read(ordinal.cast_unsigned().saturating_sub(1), 1, usize::MAX)?.pop())
    }

    /// Removes some of the batches up to `up_to`, in one short transaction. [`Store::ends`] tells how far it came.
    pub(super) fn trim_some(&mut self, up_to: u64) -> Result<()> {
        let ends = Ends { trimmed: self.trim_stop(up_to).map_err(sqlite("choosing what to trim"))?, ..self.ends };
        let delete = || {
            let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            let end = ends.trimmed.cast_signed();
            transaction.prepare_cached("DELETE FROM batches WHERE ordinal <= ?1")?.execute([end])?;
            transaction.prepare_cached("UPDATE ends SET trimmed = ?1")?.execute([end])?;
            transaction.commit()
        };
        delete().map_err(sqlite("trimming batches"))?;
        self.ends = ends;
        Ok(())
    }

    /// How far one transaction trims.
    fn trim_stop(&self, up_to: u64) -> rusqlite::Result<u64> {
        let sql =
            "SELECT ordinal, length(bytes) FROM batches WHERE ordinal > ?1 AND ordinal <= ?2 ORDER BY ordinal LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let range = params![self.ends.trimmed.cast_signed(), up_to.cast_signed(), TRIM_ROWS];
        let mut rows = statement.query(range)?;
        let (mut stop, mut bytes) = (up_to, 0);
        while let Some(row) = rows.next()? {
            stop = row.get::<_, i64>(0)?.cast_unsigned();
            bytes += row.get::<_, i64>(1)?.cast_unsigned();
            if bytes >= TRIM_BYTES {
                break;
            }
        }
        Ok(stop)
    }

    /// Folds the write-ahead log in and closes the database.
    pub(super) fn close(self) -> Result<()> {
        self.connection.close().map_err(|(_, error)| sqlite("closing the log")(error))
    }
}

fn begin(connection: &Connection) -> Result<Transaction<'_>> {
    Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(sqlite("beginning a transaction"))
}

fn configure(connection: &Connection, checkpoint_bytes: u32) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = if Bug::SynchronousOff.planted() { "OFF" } else { "FULL" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    let page: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    connection.pragma_update(None, "wal_autocheckpoint", checkpoint_bytes / page.max(1))?;
    // The write-ahead log keeps its size, because an fsync over bytes that the file already has is the cheaper one.
    connection.pragma_update(None, "journal_size_limit", i64::from(checkpoint_bytes) * 4)?;
    // What was trimmed need not be overwritten: that would write everything a second time.
    connection.pragma_update(None, "secure_delete", "OFF")?;
    connection.pragma_update(None, "cache_size", -8192)
}
