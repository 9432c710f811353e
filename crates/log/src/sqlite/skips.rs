//! Commands that the operator marked to be skipped.

use rusqlite::params;

use super::error::{failed, is_damage, sqlite};
use super::rows::checksum;
use super::store::Store;
use crate::numbering::can_be_skipped;
use crate::{BatchId, Error, Position, Result, Skip};

/// The table, made where there is none.
pub(super) const TABLE: &str = include_str!("skips.sql");

impl Store {
    /// Keeps a mark, in a transaction of its own.
    pub(super) fn skip(&mut self, position: Position, index: u32) -> Result<()> {
        let ends = self.ends();
        let at = |ordinal| Position { generation: self.meta().generation, ordinal };
        can_be_skipped(position, at(ends.last), at(ends.trimmed))?;
        self.keep_skip(position, index)
    }

    /// Keeps a mark of a log that lies elsewhere, wherever this copy of it begins and ends.
    pub(super) fn keep_skip(&mut self, position: Position, index: u32) -> Result<()> {
        let row = params![position.ordinal.cast_signed(), index, sum(position, index)];
        let written = self.connection().execute("INSERT OR IGNORE INTO skips VALUES (?1, ?2, ?3)", row);
        written.map(drop).map_err(sqlite("marking a command"))
    }

    /// Forgets a mark.
    pub(super) fn forget_skip(&mut self, position: Position, index: u32) -> Result<()> {
        let row = params![position.ordinal.cast_signed(), index];
        let gone = self.connection().execute("DELETE FROM skips WHERE ordinal = ?1 AND command = ?2", row);
        gone.map(drop).map_err(sqlite("taking a mark back"))
    }

    /// Every mark, in order. One that is damaged is an error: to leave it out would be to apply what another node skips.
    pub(super) fn skips(&self) -> Result<Vec<Skip>> {
        let operation = "reading the marks of commands to skip";
        let read = || {
            let mut statement =
                self.connection().prepare("SELECT ordinal, command, checksum FROM skips ORDER BY ordinal, command")?;
            let rows = statement.query_map([], |row| {
                let ordinal = row.get::<_, i64>(0)?.cast_unsigned();
                let position = Position { generation: self.meta().generation, ordinal };
                let index: u32 = row.get(1)?;
                Ok((row.get::<_, i64>(2)? == sum(position, index)).then_some((position, index)))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let marks = match read() {
            Ok(marks) => marks.into_iter().collect::<Option<Vec<_>>>(),
            Err(error) if is_damage(&error) => None,
            Err(error) => return Err(sqlite(operation)(error)),
        };
        marks.ok_or_else(|| -> Error { failed(operation)(Damaged) })
    }
}

/// A mark is not what was written. The source of an [`Error::Engine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mark is not what was written; restore from a snapshot")]
struct Damaged;

fn sum(position: Position, index: u32) -> i64 {
    checksum(position, BatchId { node: 0, incarnation: 0, number: 0 }, &index.to_le_bytes())
}
