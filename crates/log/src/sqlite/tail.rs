//! A reader of the log: from memory when it keeps up, from the database when it is behind.

use std::collections::VecDeque;
use std::sync::Arc;

use ieum_planted::Bug;
use tokio::sync::{oneshot, watch};

use super::worker::{Published, Shared};
use crate::{Entry, Error, Position, Result};

/// A reader of a [`super::Sqlite`] log.
#[derive(Debug)]
pub struct Tail {
    shared: Arc<Shared>,
    published: watch::Receiver<Published>,
    /// The ordinal that comes next.
    next: u64,
    /// Batches read from the database and not yet given; the first has the ordinal `next`.
    read: VecDeque<Entry>,
    /// A read of what follows `next - 1`. Kept here, so that dropping the future of `next` does not ask for it again.
    reading: Option<oneshot::Receiver<Result<Vec<Entry>>>>,
}

impl Tail {
    pub(super) fn new(shared: Arc<Shared>, after: Position) -> Result<Tail> {
        // Subscribed first: what is published from here on wakes the reader.
        let published = shared.watch();
        let trimmed = shared.check(after)?.trimmed;
        if after.ordinal < trimmed {
            return Err(Error::Trimmed { after, trimmed: shared.position(trimmed) });
        }
        let late = u64::from(Bug::TailResumesOneLate.planted() && after.ordinal > 0);
        let next = after.ordinal + 1 + late;
        Ok(Tail { shared, published, next, read: VecDeque::new(), reading: None })
    }

    /// The next batch if it is at hand; else the next call knows more.
    fn ready(&mut self) -> Result<Option<Entry>> {
        if let Some(entry) = self.read.pop_front() {
            return Ok(Some(entry));
        }
        let published = *self.published.borrow_and_update();
        if published.closed {
            return Err(Error::Closed);
        }
        if self.next <= published.trimmed {
            let position = |ordinal| self.shared.position(ordinal);
            return Err(Error::Trimmed { after: position(self.next - 1), trimmed: position(published.trimmed) });
        }
        if self.next > published.last {
            return Ok(None);
        }
        let recent = self.shared.recent(self.next);
        if recent.is_none() {
            self.reading = Some(self.shared.read(self.next - 1)?);
        }
        Ok(recent)
    }
}

impl crate::Tail for Tail {
    async fn next(&mut self) -> Result<Entry> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = reading.await;
                self.reading = None;
                match read.map_err(|_| Error::Closed)? {
                    Ok(entries) => self.read = entries.into(),
                    // What looks missing to the database may just have been trimmed.
                    Err(error) if self.next > self.shared.published().trimmed => return Err(error),
                    Err(_) => {}
                }
            }
            if let Some(entry) = self.ready()? {
                self.next += 1;
                return Ok(entry);
            }
            if self.reading.is_none() {
                self.published.changed().await.map_err(|_| Error::Closed)?;
            }
        }
    }
}
