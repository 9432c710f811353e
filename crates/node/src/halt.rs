//! A node whose cell has no log: what its data stands for, and whether it may go on with the log that it finds
//! (docs/decisions/reseed.md).

pub mod decide;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ieum_core::apply;
use ieum_core::ids::{NodeId, Position};
use ieum_core::kv::Kv;
use ieum_log::sqlite::{self, Journal, Meta, Predecessor};
use ieum_log::{Entry, Error as LogError, Skip};
use ieum_planted::Bug;
use ieum_store::fjall::{self, Fjall};
use tokio::sync::Mutex;

use crate::applier::{self, Applier};
use crate::folder::{Error as FolderError, Extent, Folder};
use crate::levels::Levels;
use crate::{core_position, log_position};

/// Why a halted node's data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The journal.
    #[error("the journal")]
    Journal(#[from] LogError),
    /// A batch was not applied.
    #[error("bringing the view up to the journal")]
    Apply(#[from] applier::Error),
    /// Another node has another batch at a position that both have passed.
    #[error(
        "another node has another batch at {at}: one of the two has gone on with an etcd that was restored from an old backup. Nothing of the \
         other's was taken"
    )]
    OtherHistory {
        /// Where.
        at: Position,
    },
    /// Nothing tells whether another node's batches follow what this one has applied.
    #[error(
        "this node's journal does not hold the batch at {at}, where its view stands, so it cannot be compared with what another node has there: \
         nothing of it is taken, and this node will have to resync"
    )]
    NothingToCompare {
        /// Where this node stands.
        at: Position,
    },
    /// It was told to stand still.
    #[error(
        "an operator is about to begin a generation of the log where this node stands: nothing is taken from others just now"
    )]
    StandsStill,
    /// The view.
    #[error(transparent)]
    View(#[from] ieum_core::kv::Error),
}

/// Where a halted node stands. All of it is on its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    /// What its view has applied; of a node without a usable view, where its journal ends, which others may have from it.
    pub applied: Position,
    /// The rolling digest there; none without a view, or with one in which there is no cell yet, and then no generation can begin there.
    pub digest: Option<[u8; 32]>,
    /// The cell's members there, and their data centers; none without a view.
    pub members: Vec<(NodeId, String)>,
    /// Nodes that were found to have another history, and where they have another batch than this one.
    pub others: Vec<(NodeId, Position)>,
}

/// Where a halted node stands, and who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stood {
    /// Its number.
    pub node: NodeId,
    /// Its data center.
    pub dc: String,
    /// Where it stands.
    pub stand: Stand,
}

/// The data of a node that does not run.
pub struct Halted {
    journal: Arc<Journal>,
    held: Option<Held>,
    /// Nodes of another history, and where that shows.
    others: parking_lot::Mutex<BTreeMap<NodeId, Position>>,
}

/// A view that can be used.
struct Held {
    view: Arc<Fjall>,
    applier: Mutex<Applying>,
    /// Commands that this node has agreed to have skipped. Whether they are is not known without the log, so that it stands before them.
    agreed: Vec<Skip>,
}

struct Applying {
    applier: Applier<Fjall>,
    /// Until then it takes nothing from others.
    still: Option<Instant>,
}

impl Halted {
    /// Opens the data of a node of `cell` and brings its view up to its journal, but not beyond `up_to`, nor past a batch of which the node has
    /// agreed to have a command skipped without knowing it to be marked. Where there is no view and nothing to
    /// make one of, the journal alone counts. Blocks.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub async fn open(
        folder: &Folder,
        cell: u16,
        generation: u32,
        options: &fjall::Options,
        up_to: Option<Position>,
    ) -> Result<Self, Error> {
        let about = Meta { cell: cell.into(), generation, predecessor: None };
        let journal = Journal::open(folder.log(), &about, 0)?;
        // Nothing is known of the log's end, and the view may be ahead of the journal.
        let last = Position::new(generation, u64::MAX);
        let extent = Extent { meta: *journal.meta(), trimmed: core_position(journal.trimmed()), last, is_copy: true };
        let view = match folder.open_view(&extent, options) {
            Ok((view, _)) => Arc::new(view),
            Err(FolderError::NothingToRebuildFrom { .. }) => {
                return Ok(Self { journal: Arc::new(journal), held: None, others: Default::default() });
            }
            Err(error) => return Err(error.into()),
        };
        // With the log its marks are lost, too: the journal has kept them.
        let skips = if Bug::HaltedForgetMarks.planted() { Vec::new() } else { journal.skips().await? };
        let mut applier = Applier::new(Arc::clone(&view), crate::skips(&skips))?;
        let end = core_position(journal.last());
        let end = brought_to(end, up_to);
        let agreed = journal.agreed().await?;
        'journal: while applier.applied() < end {
            for entry in journal.read(log_position(applier.applied())).await? {
                if let Err(error) = ieum_log::stands_before(&agreed, entry.position) {
                    tracing::warn!(%error, "the view is not brought up to the journal's end");
                    break 'journal;
                }
                if core_position(entry.position) <= end {
                    applier.apply(&entry)?;
                }
            }
        }
        let held = Held { view, applier: Mutex::new(Applying { applier, still: None }), agreed };
        Ok(Self { journal: Arc::new(journal), held: Some(held), others: Default::default() })
    }

    /// Its journal, for others who are behind.
    #[must_use]
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// What it takes from the journal of node `of` to become level with it; none without a view, for which nothing can be done.
    ///
    /// # Errors
    /// [`Error::NothingToCompare`]; when the journal fails.
    pub async fn levelling(&self, of: NodeId) -> Result<Option<Levelling<'_>>, Error> {
        let Some(held) = &self.held else { return Ok(None) };
        let applied = held.applier.lock().await.applier.applied();
        let at = |after, joint| Ok(Some(Levelling { halted: self, held, of, after, joint }));
        let span = (core_position(self.journal.trimmed()), core_position(self.journal.last()));
        match joint(applied, span) {
            Joint::Beginning => at(applied, None),
            Joint::Behind(before) => {
                let page = self.journal.read(log_position(before)).await?;
                let joint = page.into_iter().next().ok_or(Error::NothingToCompare { at: applied })?;
                at(before, Some(joint))
            }
            Joint::Nowhere => Err(Error::NothingToCompare { at: applied }),
        }
    }

    /// Makes everything durable and says where the node stands.
    ///
    /// # Errors
    /// When journal or view fail.
    pub async fn stand(&self) -> Result<Stand, Error> {
        self.say(None).await
    }

    /// The same, and takes nothing from others until then: the end of a generation is about to be written down where the node stands, and a node
    /// that was given up must not carry it beyond.
    ///
    /// # Errors
    /// As [`Halted::stand`].
    pub async fn stand_still(&self, until: Instant) -> Result<Stand, Error> {
        self.say(Some(until)).await
    }

    async fn say(&self, still: Option<Instant>) -> Result<Stand, Error> {
        let Some(Held { view, applier, .. }) = &self.held else {
            self.journal.flush().await?;
            let (applied, others) = (core_position(self.journal.last()), Vec::new());
            return Ok(Stand { applied, digest: None, members: Vec::new(), others });
        };
        // Nothing is applied meanwhile.
        let mut applying = applier.lock().await;
        applying.still = applying.still.max(still);
        self.journal.flush().await?;
        view.persist()?;
        let look = view.snapshot();
        let applied = apply::applied(&look)?;
        let members = Levels::of(&look)?.map(|levels| levels.members).unwrap_or_default();
        let members: Vec<_> = members.into_iter().map(|member| (member.node, member.dc)).collect();
        // A new disk, on which nothing has arrived yet: the empty view knows of nobody who might have more.
        let digest = (!members.is_empty()).then_some(applied.digest);
        let others = self.others.lock().iter().map(|(node, at)| (*node, *at)).collect();
        Ok(Stand { applied: applied.position, digest, members, others })
    }
}

/// Batches of another node's journal on their way to a halted one that lacks them.
pub struct Levelling<'a> {
    halted: &'a Halted,
    held: &'a Held,
    /// The other node.
    of: NodeId,
    after: Position,
    /// The last batch that both should have, where this node stands; none when it was compared, or at the beginning of a generation.
    joint: Option<Entry>,
}

impl Levelling<'_> {
    /// Behind which batch it needs what the other one has. The first that comes may be one that is here, to be compared.
    #[must_use]
    pub fn after(&self) -> Position {
        self.after
    }

    /// Takes a batch of the other node's journal, in order from [`Levelling::after`] on.
    ///
    /// # Errors
    /// [`Error::OtherHistory`], [`Error::StandsStill`], [`LogError::Held`], and then nothing was taken; when journal or view fail.
    pub async fn take(&mut self, entry: &Entry) -> Result<(), Error> {
        match meet(&mut self.joint, entry) {
            Met::Other(at) => {
                self.halted.others.lock().insert(self.of, at);
                Err(Error::OtherHistory { at })
            }
            Met::Same => {
                self.halted.others.lock().remove(&self.of);
                Ok(())
            }
            Met::Next => self.put(entry).await,
        }
    }

    async fn put(&self, entry: &Entry) -> Result<(), Error> {
        let mut applying = self.held.applier.lock().await;
        if applying.still.is_some_and(|until| Instant::now() < until) && !Bug::MovesWhenHeld.planted() {
            return Err(Error::StandsStill);
        }
        ieum_log::stands_before(&self.held.agreed, entry.position)?;
        let applier = &mut applying.applier;
        self.halted.journal.put(entry).await?;
        let Position { generation, ordinal } = applier.applied();
        if core_position(entry.position) == Position::new(generation, ordinal + 1) {
            applier.apply(entry)?;
        }
        Ok(())
    }
}

/// Up to where a view is brought of a journal that ends at `end`: not beyond where a new generation begins.
#[must_use]
pub fn brought_to(end: Position, up_to: Option<Position>) -> Position {
    up_to.filter(|_| !Bug::CrossesBeyondTheEnd.planted()).map_or(end, |up_to| end.min(up_to))
}

/// Which batch of its own a halted node compares with another's before it takes what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joint {
    /// None: it stands at the beginning of a generation.
    Beginning,
    /// The one behind here, which is the one where it stands.
    Behind(Position),
    /// Its journal does not hold that.
    Nowhere,
}

/// The same for one that stands at `applied` and whose journal holds what lies behind `trimmed` up to `last`.
#[must_use]
pub fn joint(applied: Position, (trimmed, last): (Position, Position)) -> Joint {
    // No two lives of a cell have a generation in common, so that what follows its beginning is its own.
    if applied.ordinal == 0 {
        return Joint::Beginning;
    }
    // Not where a journal begins behind a snapshot, nor where the view is ahead of it.
    let holds = applied.generation == last.generation && trimmed < applied && applied <= last;
    match holds {
        true => Joint::Behind(Position { ordinal: applied.ordinal.saturating_sub(1), ..applied }),
        false if Bug::LevelsWithoutComparing.planted() => Joint::Beginning,
        false => Joint::Nowhere,
    }
}

/// What another node's batch is to a halted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// Both have it: what follows may be taken.
    Same,
    /// The two have different ones here: nothing is taken.
    Other(Position),
    /// It follows.
    Next,
}

/// The same where `joint` is left to be compared.
pub fn meet(joint: &mut Option<Entry>, entry: &Entry) -> Met {
    match joint.take() {
        Some(own) if own != *entry && !Bug::LevelsAnyHistory.planted() => {
            let at = core_position(own.position);
            *joint = Some(own);
            Met::Other(at)
        }
        Some(own) if own == *entry => Met::Same,
        _ => Met::Next,
    }
}

/// The newest generation that the folder of a node holds.
///
/// # Errors
/// When the folder cannot be read.
pub fn generation(folder: &Folder) -> Result<Option<u32>, Error> {
    Ok(sqlite::newest_generation(folder.log())?)
}

/// What is known of the log that nodes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// How the generation before ended.
    pub predecessor: Option<Predecessor>,
    /// Its last position, which tells its generation.
    pub last: Position,
}

/// What a node does about the log that it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    GoesOn,
    /// A new generation begins where it stands.
    Crosses,
    /// A new generation begins elsewhere: it resyncs, when there is a node to resync from.
    Elsewhere,
    /// There is no log.
    Gone,
    /// The log ends before what was applied.
    CutOff,
    /// The log is of a generation that was given up.
    GivenUp,
}

/// Whether a node that stands at `applied`, with this digest, may go on with `log`.
#[must_use]
pub fn judge(log: Option<&Shared>, applied: Position, digest: &[u8; 32]) -> Verdict {
    let Some(log) = log else { return Verdict::Gone };
    if log.last.generation < applied.generation {
        return if Bug::GivenUpLogTaken.planted() { Verdict::Elsewhere } else { Verdict::GivenUp };
    }
    if log.last.generation == applied.generation {
        return if applied <= log.last { Verdict::GoesOn } else { Verdict::CutOff };
    }
    match log.predecessor {
        Some(before) if core_position(before.end) == applied && before.digest == *digest => Verdict::Crosses,
        _ => Verdict::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: [u8; 32] = [3; 32];

    fn shared(predecessor: Option<(u32, u64)>, generation: u32, ordinal: u64) -> Shared {
        let end = |(generation, ordinal)| ieum_log::Position { generation, ordinal };
        let predecessor = predecessor.map(|at| Predecessor { end: end(at), digest: DIGEST });
        Shared { predecessor, last: Position::new(generation, ordinal) }
    }

    #[test]
    fn a_node_goes_on_with_the_log_that_it_knows_and_with_no_other() {
        let at = |ordinal| Position::new(1, ordinal);
        let judged = |log: Shared, applied| judge(Some(&log), applied, &DIGEST);
        assert_eq!(judge(None, at(9), &DIGEST), Verdict::Gone);
        assert_eq!(judged(shared(None, 1, 9), at(9)), Verdict::GoesOn);
        assert_eq!(judged(shared(None, 1, 8), at(9)), Verdict::CutOff);
        assert_eq!(judged(shared(None, 1, 99), Position::new(5, 0)), Verdict::GivenUp);
        assert_eq!(judged(shared(Some((1, 9)), 5, 0), at(9)), Verdict::Crosses);
        assert_eq!(judged(shared(Some((1, 9)), 5, 70), at(8)), Verdict::Elsewhere);
        assert_eq!(judged(shared(Some((1, 9)), 5, 70), at(10)), Verdict::Elsewhere);
        assert_eq!(judge(Some(&shared(Some((1, 9)), 5, 0)), at(9), &[4; 32]), Verdict::Elsewhere);
        // It was away while the cell was reseeded twice.
        assert_eq!(judged(shared(Some((5, 9)), 7, 0), at(9)), Verdict::Elsewhere);
    }
}
