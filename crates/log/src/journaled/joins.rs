//! Whether a journal goes on in the log that it is a copy of, and in what another node has of it. A log that is long enough may be another one.

use super::own_copy::OwnCopy;
use crate::{Entry, Error, Log, Position, Result, Tail as _};
use ieum_planted::Bug;

/// Whether the log still has what follows the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joins {
    /// It does, as far as can be seen: what the journal ends with is forgotten there, or the same.
    Yes,
    /// It has forgotten it.
    Trimmed,
    /// The log ends before the journal, here.
    Behind(Position),
    /// It has another batch where the journal ends.
    Differs,
}

/// Compares a journal's end with the log.
///
/// # Errors
/// When log or journal fail.
pub async fn joins<L: Log, J: OwnCopy>(shared: &L, journal: &J) -> Result<Joins> {
    let (copied, last) = (journal.last(), shared.last().await?);
    if copied > last {
        return Ok(Joins::Behind(last));
    }
    if let Some(end) = end(journal).await?
        && let Some(theirs) = in_log(shared, before(copied)).await?
        && theirs != end
        && !Bug::JournalEndUnchecked.planted()
    {
        return Ok(Joins::Differs);
    }
    match shared.tail(copied).await {
        Ok(_) => Ok(Joins::Yes),
        Err(Error::Trimmed { .. }) => Ok(Joins::Trimmed),
        Err(error) => Err(error),
    }
}

/// What another node has of the log behind a journal's end. It begins with what the journal ends with, so that the two can be compared.
#[derive(Debug)]
pub struct Continuation {
    end: Option<Entry>,
    from: Position,
}

impl Continuation {
    /// Of `journal`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn of<J: OwnCopy>(journal: &J) -> Result<Self> {
        let end = end(journal).await?;
        let from = if end.is_some() { before(journal.last()) } else { journal.last() };
        Ok(Self { end, from })
    }

    /// The other node is asked for what it has behind this.
    #[must_use]
    pub fn from(&self) -> Position {
        self.from
    }

    /// Whether the next batch that came may be put: the first one must be the journal's last.
    pub fn fits(&mut self, entry: &Entry) -> bool {
        self.end.take().is_none_or(|end| end == *entry)
    }
}

/// The last batch that the journal holds, if it holds any.
async fn end<J: OwnCopy>(journal: &J) -> Result<Option<Entry>> {
    if journal.last() == journal.trimmed() {
        return Ok(None);
    }
    Ok(journal.read(before(journal.last())).await?.into_iter().next())
}

/// The batch of the log behind `after`, if it still has it.
async fn in_log<L: Log>(shared: &L, after: Position) -> Result<Option<Entry>> {
    let entry = match shared.tail(after).await {
        Ok(mut tail) => tail.next().await,
        Err(error) => Err(error),
    };
    match entry {
        Ok(entry) => Ok(Some(entry)),
        Err(Error::Trimmed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn before(position: Position) -> Position {
    Position { ordinal: position.ordinal.saturating_sub(1), ..position }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::BatchId;
    use crate::memory::Memory;
    use crate::memory_journal::MemoryJournal;
    use crate::sqlite::Meta;

    fn at(ordinal: u64) -> Position {
        Position { generation: 1, ordinal }
    }

    fn entry(ordinal: u64, text: &str) -> Entry {
        let id = BatchId { node: 1, incarnation: 1, number: ordinal };
        Entry { position: at(ordinal), id, bytes: Bytes::from(format!("{text} {ordinal}")) }
    }

    async fn journal(ordinals: std::ops::RangeInclusive<u64>, text: &str) -> MemoryJournal {
        let meta = Meta { cell: 1, generation: 1, predecessor: None };
        let journal = MemoryJournal::new(meta, ordinals.start() - 1);
        for ordinal in ordinals {
            journal.put(&entry(ordinal, text)).await.unwrap();
        }
        journal
    }

    #[tokio::test]
    async fn a_journal_is_compared_with_the_log_where_it_ends() {
        let log = Memory::new(1);
        for Entry { id, bytes, .. } in (1..=9).map(|ordinal| entry(ordinal, "a")) {
            log.append(id, bytes).await.unwrap();
        }
        log.trim(at(4)).await.unwrap();
        for (last, text, is) in [
            (9, "a", Joins::Yes),
            (5, "a", Joins::Yes),
            // What it ends with is there no more.
            (4, "b", Joins::Yes),
            (3, "a", Joins::Trimmed),
            (7, "b", Joins::Differs),
            (10, "a", Joins::Behind(at(9))),
        ] {
            assert_eq!(joins(&log, &journal(1..=last, text).await).await.unwrap(), is, "{last} {text}");
        }
    }

    #[tokio::test]
    async fn what_another_node_has_begins_with_the_journals_end() {
        let mut from = Continuation::of(&journal(3..=6, "a").await).await.unwrap();
        assert_eq!(from.from(), at(5));
        assert!(from.fits(&entry(6, "a")) && from.fits(&entry(7, "b")));
        assert!(!Continuation::of(&journal(3..=6, "a").await).await.unwrap().fits(&entry(6, "b")));
        let empty = MemoryJournal::new(Meta { cell: 1, generation: 1, predecessor: None }, 6);
        let mut from = Continuation::of(&empty).await.unwrap();
        assert_eq!(from.from(), at(6));
        assert!(from.fits(&entry(7, "b")));
    }
}
