//! Commands that the operator marked to be skipped.

use rusqlite::params;

use super::error::{failed, is_damage, sqlite};
use super::rows::checksum;
use super::store::Store;
use crate::numbering::can_be_skipped;
use crate::{BatchId, Error, Position, Result, Skip};

/// The tables, made where there are none.
pub(super) const TABLE: &str = include_str!("skips.sql");

impl Store {
    /// Keeps a mark, in a transaction of its own.
    pub(super) fn skip(&mut self, position: Position, index: u32) -> Result<()> {
        let ends = self.ends();
        let at = |ordinal| Position { generation: self.meta().generation, ordinal };
        can_be_skipped(position, at(ends.last), at(ends.trimmed))?;
        self.keep_skip(position, index)
    }

    /// Keeps a mark of a log that lies elsewhere, wherever this copy of it begins and ends. What was only agreed to is marked from then on.
    pub(super) fn keep_skip(&mut self, position: Position, index: u32) -> Result<()> {
        let (ordinal, sum) = (position.ordinal.cast_signed(), sum(position, index));
        let keep = || {
            let transaction = self.connection().unchecked_transaction()?;
            transaction.execute("INSERT OR IGNORE INTO skips VALUES (?1, ?2, ?3)", params![ordinal, index, sum])?;
            transaction.execute("DELETE FROM agreed WHERE ordinal = ?1 AND command = ?2", params![ordinal, index])?;
            transaction.commit()
        };
        keep().map_err(sqlite("marking a command"))
    }

    /// Keeps that the node stands before a command until it is marked; nothing when it is.
    pub(super) fn agree(&mut self, position: Position, index: u32) -> Result<()> {
        let row = params![position.ordinal.cast_signed(), index, sum(position, index)];
        let written = self.connection().execute(
            "INSERT OR IGNORE INTO agreed SELECT ?1, ?2, ?3
             WHERE NOT EXISTS (SELECT 1 FROM skips WHERE ordinal = ?1 AND command = ?2)",
            row,
        );
        written.map(drop).map_err(sqlite("agreeing to skip a command"))
    }

    /// Forgets that, and the mark.
    pub(super) fn disagree(&mut self, position: Position, index: u32) -> Result<()> {
        let row = params![position.ordinal.cast_signed(), index];
        let forget = || {
            let transaction = self.connection().unchecked_transaction()?;
            transaction.execute("DELETE FROM agreed WHERE ordinal = ?1 AND command = ?2", row)?;
            // Where a build that did not tell the two apart has kept it.
            transaction.execute("DELETE FROM skips WHERE ordinal = ?1 AND command = ?2", row)?;
            transaction.commit()
        };
        forget().map_err(sqlite("taking back that a command is to be skipped"))
    }

    /// Every mark, in order. One that is damaged is an error: to leave it out would be to apply what another node skips.
    pub(super) fn skips(&self) -> Result<Vec<Skip>> {
        self.commands_in("SELECT ordinal, command, checksum FROM skips ORDER BY ordinal, command")
    }

    /// Every command that the node has agreed to have skipped and does not know to be marked, in order. It MUST NOT be applied, nor skipped.
    pub(super) fn agreed(&self) -> Result<Vec<Skip>> {
        self.commands_in("SELECT ordinal, command, checksum FROM agreed ORDER BY ordinal, command")
    }

    fn commands_in(&self, query: &str) -> Result<Vec<Skip>> {
        let operation = "reading the marks of commands to skip";
        let read = || {
            let mut statement = self.connection().prepare(query)?;
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
