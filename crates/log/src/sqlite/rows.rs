//! Rows of the table of batches: reading them, and telling that one is what was written.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::error::{Damaged, failed, is_damage, sqlite};
use super::store::Store;
use crate::{BatchId, Entry, Error, Position, Result};

/// A row's batch, or why it cannot be the one that was written.
pub(super) type Verified = std::result::Result<Entry, String>;

const SELECT: &str = "SELECT ordinal, node, incarnation, number, checksum, bytes FROM batches";

/// A digest of a row's content. The generation and the ordinal are in it, so that a row cannot stand in for another.
pub(super) fn checksum(position: Position, id: BatchId, bytes: &[u8]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&position.generation.to_le_bytes()).update(&position.ordinal.to_le_bytes());
    hasher.update(&id.node.to_le_bytes()).update(&id.incarnation.to_le_bytes()).update(&id.number.to_le_bytes());
    let mut first = [0; 8];
    hasher.update(bytes).finalize_xof().fill(&mut first);
    i64::from_le_bytes(first)
}

/// The batch in a row of [`SELECT`], if the row is what was written.
fn verify(generation: u32, row: &rusqlite::Row<'_>) -> rusqlite::Result<Verified> {
    let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let position = Position { generation, ordinal: number(0)? };
    let id = BatchId { node: row.get(1)?, incarnation: number(2)?, number: number(3)? };
    let bytes = row.get_ref(5)?.as_blob()?;
    if checksum(position, id, bytes) == row.get::<_, i64>(4)? {
        Ok(Ok(Entry { position, id, bytes: Bytes::copy_from_slice(bytes) }))
    } else {
        Ok(Err("its checksum does not match".to_owned()))
    }
}

impl Store {
    /// The batches after `after`: at least one if there is any, and no more after `rows` rows or `bytes` bytes. Those
    /// before a damaged one are given first.
    pub(super) fn read(&self, after: u64, rows: usize, bytes: usize) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        match self.read_into(&mut entries, after, rows, bytes) {
            Err(error) if entries.is_empty() => Err(error),
            _ => Ok(entries),
        }
    }

    fn read_into(&self, entries: &mut Vec<Entry>, after: u64, rows: usize, bytes: usize) -> Result<()> {
        let operation = "reading batches";
        let sql = format!("{SELECT} WHERE ordinal > ?1 ORDER BY ordinal");
        let mut statement = self.connection().prepare_cached(&sql).map_err(sqlite(operation))?;
        let mut cursor = statement.query([after.cast_signed()]).map_err(sqlite(operation))?;
        let mut expected = after;
        let mut total = 0;
        while entries.len() < rows && total < bytes {
            expected += 1;
            let found = cursor.next().and_then(|row| row.map(|row| verify(self.meta().generation, row)).transpose());
            match found {
                Ok(Some(Ok(entry))) if entry.position.ordinal == expected => {
                    total += entry.bytes.len();
                    entries.push(entry);
                }
                Ok(Some(Err(reason))) => return Err(self.damaged(expected, reason)),
                Ok(None) if expected > self.ends().last => break,
                Ok(_) => return Err(self.damaged(expected, "it is missing".to_owned())),
                Err(error) if is_damage(&error) => return Err(self.damaged(expected, error.to_string())),
                Err(error) => return Err(sqlite(operation)(error)),
            }
        }
        Ok(())
    }

    pub(super) fn damaged(&self, ordinal: u64, reason: String) -> Error {
        let position = Position { generation: self.meta().generation, ordinal };
        failed("reading batches")(Damaged { position, reason })
    }

    /// Gives every row to `visit`, in order, until it says `false`.
    pub(super) fn verify(&self, mut visit: impl FnMut(u64, Verified) -> bool) -> rusqlite::Result<()> {
        let mut statement = self.connection().prepare(&format!("{SELECT} ORDER BY ordinal"))?;
        let mut cursor = statement.query([])?;
        while let Some(row) = cursor.next()? {
            let ordinal = row.get::<_, i64>(0)?.cast_unsigned();
            let verified = match verify(self.meta().generation, row) {
                Err(error) if is_damage(&error) => Err(error.to_string()),
                verified => verified?,
            };
            if !visit(ordinal, verified) {
                break;
            }
        }
        Ok(())
    }

    /// Of each node, the ordinal that is kept as its newest batch's.
    pub(super) fn newest_ordinals(&self) -> rusqlite::Result<BTreeMap<u32, u64>> {
        let mut statement = self.connection().prepare("SELECT node, ordinal FROM newest")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
        rows.collect()
    }

    /// What SQLite says of the database's structure: `ok`, or up to 100 problems.
    pub(super) fn integrity_check(&self) -> rusqlite::Result<Vec<String>> {
        let mut statement = self.connection().prepare("PRAGMA integrity_check(100)")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect()
    }
}
