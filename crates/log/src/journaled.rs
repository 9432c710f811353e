//! A shared log with a node's own copy of it: what a node of a cell of several nodes runs on.
//!
//! ```text
//!  append, last, skip ──────────────► shared log
//!  skips ◄── shared log
//!  settle ◄── shared log ───────────► journal
//!  tail ◄── journal, as far as it reaches
//!       ◄── shared log ──each batch on its way──► journal
//!  trim ──► journal                     (the shared log is trimmed by what is in the journals of others, too)
//! ```

pub mod joins;
pub mod own_copy;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ieum_planted::Bug;
use parking_lot::Mutex;

use self::own_copy::OwnCopy;
use crate::sqlite::{Journal, Meta};
use crate::weights::Weights;
use crate::{BatchId, Entry, Error, Kept, Log, Position, Result, Room, Skip, Tail as _};

/// A log and the journal of it.
#[derive(Debug)]
pub struct Journaled<L, J = Journal> {
    shared: Arc<L>,
    journal: Arc<J>,
    /// Of what readers of this log have come past.
    weights: Arc<Mutex<Weights>>,
}

impl<L: Log, J: OwnCopy> Journaled<L, J> {
    /// `journal` MUST be of the same cell and generation as `shared`.
    #[must_use]
    pub fn new(shared: Arc<L>, journal: Arc<J>) -> Self {
        Self { shared, journal, weights: Arc::default() }
    }

    /// The log that other nodes write to as well.
    #[must_use]
    pub fn shared(&self) -> &Arc<L> {
        &self.shared
    }

    /// Copies what the shared log has behind the journal, and what comes, until that fails: else a node that has much to do before it reads on
    /// is overtaken by the trim.
    pub async fn copy(&self) -> Error {
        let copying = async {
            let mut tail = self.tail(self.journal.last()).await?;
            loop {
                tail.next().await?;
            }
        };
        match copying.await {
            Err(error) => error,
            Ok(never) => never,
        }
    }

    /// The node's own copy.
    #[must_use]
    pub fn journal(&self) -> &Arc<J> {
        &self.journal
    }

    /// What a node that starts has to skip, when its view stands at `applied`. The journal keeps it: it is replayed without the shared log, too.
    /// The node MUST skip just these, whatever is marked from then on: by what its journal has not, its next start finds what it did not skip.
    ///
    /// # Errors
    /// [`Error::Held`] when the shared log has no mark for what this node has agreed to; when log or journal fail. Then nothing is kept.
    pub async fn settle(&self, applied: Position) -> Result<Settled> {
        let (marks, kept) = (self.shared.skips().await?, self.journal.skips().await?);
        let agreed = self.journal.agreed().await?;
        let trimmed = self.journal.trimmed();
        let new: Vec<_> = marks.iter().filter(|mark| !kept.contains(mark)).copied().collect();
        // Before what it agreed to it stood. Who begins behind a mark has not passed it by itself.
        let own = |mark: &&Skip| mark.0 > trimmed && !agreed.contains(mark);
        let passed = new.iter().filter(own).find(|mark| mark.0 <= applied && !Bug::PassedMarkIgnored.planted());
        if let Some(passed) = passed {
            return Ok(Settled::Passed(*passed));
        }
        Self::refuse_held(&marks, kept.iter().chain(&agreed))?;
        if !new.is_empty() && !Bug::JournalForgetsMarks.planted() {
            self.journal.keep_skips(new).await?;
        }
        Ok(Settled::Skips(marks))
    }

    /// A command that this node alone has agreed to have skipped holds it back.
    fn refuse_held<'a>(marks: &[Skip], mut own: impl Iterator<Item = &'a Skip>) -> Result<()> {
        match own.find(|mark| !marks.contains(mark) && !Bug::HeldNodeStarts.planted()) {
            Some((position, index)) => Err(Error::Held { position: *position, index: *index }),
            None => Ok(()),
        }
    }

    /// The first position, to about 256 KiB, with no more than `bytes` of batches behind it; none when this process has seen less.
    #[must_use]
    pub fn back_by(&self, bytes: u64) -> Option<Position> {
        let ordinal = self.weights.lock().back_by(bytes)?;
        Some(Position { ordinal, ..self.journal.last() })
    }

    /// How many bytes of batches lie behind a position, to about 256 KiB; none when this process has not seen them all.
    #[must_use]
    pub fn behind(&self, position: Position) -> Option<u64> {
        self.weights.lock().behind(position.ordinal)
    }
}

/// What a node that starts finds out about commands to skip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It skips these, and no others.
    Skips(Vec<Skip>),
    /// Its view has passed this mark without skipping the command, because the node did not know of it.
    Passed(Skip),
}

impl<L: Log, J: OwnCopy> Kept for Journaled<L, J> {
    fn meta(&self) -> &Meta {
        self.journal.meta()
    }

    fn trimmed(&self) -> Position {
        self.journal.trimmed()
    }

    fn is_copy(&self) -> bool {
        true
    }
}

impl<L: Log, J: OwnCopy> Log for Journaled<L, J> {
    type Tail = Tail<L, J>;

    async fn append(&self, id: BatchId, bytes: Bytes) -> Result<Position> {
        self.shared.append(id, bytes).await
    }

    async fn register(&self, node: u32, least: u64) -> Result<u64> {
        self.shared.register(node, least).await
    }

    async fn remove(&self, node: u32) -> Result<()> {
        self.shared.remove(node).await
    }

    async fn tail(&self, after: Position) -> Result<Tail<L, J>> {
        let (last, trimmed) = (self.shared.last().await?, self.journal.trimmed());
        if after.generation != last.generation || after > last {
            return Err(Error::NotInLog { asked: after, last });
        }
        if after < trimmed {
            return Err(Error::Trimmed { after, trimmed });
        }
        let (shared, journal) = (Arc::clone(&self.shared), Arc::clone(&self.journal));
        let weights = Arc::clone(&self.weights);
        Ok(Tail { shared, journal, weights, after, read: VecDeque::new(), live: None, arrived: None })
    }

    /// Removes batches from the journal. What it does not hold yet it copies first, so that it stays without a gap.
    async fn trim(&self, up_to: Position) -> Result<()> {
        let last = self.shared.last().await?;
        if up_to.generation != last.generation || up_to > last {
            return Err(Error::NotInLog { asked: up_to, last });
        }
        if up_to > self.journal.last() {
            let mut tail = self.tail(self.journal.last()).await?;
            while self.journal.last() < up_to {
                tail.next().await?;
            }
        }
        self.journal.trim(up_to).await
    }

    async fn skip(&self, position: Position, index: u32) -> Result<()> {
        let trimmed = self.journal.trimmed();
        if position.generation == trimmed.generation && (1..=trimmed.ordinal).contains(&position.ordinal) {
            let after = Position { ordinal: position.ordinal - 1, ..position };
            return Err(Error::Trimmed { after, trimmed });
        }
        self.shared.skip(position, index).await
    }

    /// The shared log's. Nothing is kept of them: by that a node that starts knows which of them it has skipped, see [`Journaled::settle`]. One
    /// that this node alone has agreed to is [`Error::Held`].
    async fn skips(&self) -> Result<Vec<Skip>> {
        let (marks, kept) = (self.shared.skips().await?, self.journal.skips().await?);
        let agreed = self.journal.agreed().await?;
        Self::refuse_held(&marks, kept.iter().chain(&agreed))?;
        if Bug::SkipsReadMarksJournal.planted() {
            self.journal.keep_skips(marks.clone()).await?;
        }
        Ok(marks)
    }

    async fn last(&self) -> Result<Position> {
        self.shared.last().await
    }

    async fn trimmed_to(&self) -> Result<Position> {
        Ok(self.journal.trimmed())
    }

    fn room(&self) -> Option<Room> {
        self.shared.room()
    }

    async fn flush(&self) -> Result<()> {
        self.journal.flush().await
    }
}

/// A reader of a [`Journaled`] log.
pub struct Tail<L: Log, J = Journal> {
    shared: Arc<L>,
    journal: Arc<J>,
    weights: Arc<Mutex<Weights>>,
    /// The last batch that was shown.
    after: Position,
    /// Read from the journal and not yet shown.
    read: VecDeque<Entry>,
    /// The shared log's, behind the journal's end at the time when it was opened.
    live: Option<L::Tail>,
    /// Came from the shared log and may not be in the journal yet. Kept here, so that dropping the future of `next` does not lose it.
    arrived: Option<Entry>,
}

impl<L: Log, J: OwnCopy> Tail<L, J> {
    /// Brings a batch closer; the caller looks again.
    async fn fetch(&mut self) -> Result<()> {
        // Read once: another reader may put a batch meanwhile, and the live tail must not begin behind it.
        let last = self.journal.last();
        match &mut self.live {
            Some(live) => match live.next().await {
                Ok(entry) => self.arrived = Some(entry),
                // The journal may have it, because another reader was faster.
                Err(Error::Trimmed { .. }) if self.after < last => self.live = None,
                Err(error) => return Err(error),
            },
            None if self.after < last => self.read = self.journal.read(self.after).await?.into(),
            None => self.live = Some(self.shared.tail(last).await?),
        }
        Ok(())
    }
}

impl<L: Log, J: OwnCopy> crate::Tail for Tail<L, J> {
    async fn next(&mut self) -> Result<Entry> {
        loop {
            let trimmed = self.journal.trimmed();
            if self.after < trimmed {
                return Err(Error::Trimmed { after: self.after, trimmed });
            }
            if let Some(entry) = &self.arrived {
                self.journal.put(entry).await?;
            }
            let at_hand = self.read.pop_front().or_else(|| self.arrived.take());
            match at_hand {
                // The journal was behind where this reader began.
                Some(entry) if entry.position <= self.after => {}
                Some(entry) => {
                    self.after = entry.position;
                    self.weights.lock().note(entry.position.ordinal, entry.bytes.len());
                    return Ok(entry);
                }
                None => self.fetch().await?,
            }
        }
    }
}

#[cfg(test)]
mod tests;
