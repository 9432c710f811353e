//! A backup that is brought up with a journal: where views are lost and a journal is left, what it holds beyond the backup was acknowledged,
//! and comes back.
//!
//! | whose journal | what comes of it |
//! |---|---|
//! | that of a node that is alone, which is its log | a view at its end, and a new generation of the log behind that |
//! | a node's copy of a log that several share | a view at its end, and a copy of the journal: the generation goes on, or a reseed ends it |

mod refusal;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use ieum_core::apply::{self, Skips};
use ieum_core::batch::Batch;
use ieum_core::ids::{NodeId, Position};
use ieum_core::kv::{self, Kv as _, Read};
use ieum_core::tables::cell::{CLOCK, NODES, ONLY};
use ieum_log::sqlite::{self, Copying, Offline, Predecessor, Torn};
use ieum_log::{Entry, Skip};
use ieum_planted::Bug;
use ieum_store::fjall::{self, Fjall};

pub use self::refusal::Refusal;

use crate::applier::{self, Applier};
use crate::backup::{self, Reaches};
use crate::folder::{self, Error as FolderError, Extent, Folder};
use crate::progress::{Step, Watch};
use crate::unfinished::in_place_of;
use crate::{core_position, log_position, snapshot};

/// So many batches are read at a time.
const PAGE: usize = 1_000;

/// Whose journal it is.
#[derive(Debug, Clone)]
pub enum Whose {
    /// That of a node that is alone.
    Alone,
    /// A node's copy of a log that several share, which has these marks of commands to be skipped.
    Shared(Skips),
}

/// What is to be brought up with what.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The data folder that it is for, of a node that does not run.
    pub folder: &'a Folder,
    /// The cell.
    pub cell: u16,
    /// The backup.
    pub backup: &'a Path,
    /// The folder of a log, or of a node's data.
    pub journal: &'a Path,
    /// Whether data that is there is moved aside.
    pub replace: bool,
    /// The last batch that counts, where the journal is not used to its end.
    pub up_to: Option<Position>,
    /// Whose journal it is.
    pub whose: Whose,
}

/// What was brought up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// What the backup was of.
    pub from: snapshot::Meta,
    /// Where the view stands now.
    pub end: Position,
    /// How many batches were applied.
    pub batches: u64,
    /// Where the journal ends by what it says itself.
    pub last: Position,
    /// Why the batch behind `end` cannot be read, if that is why it ends there.
    pub damaged: Option<String>,
    /// The write-ahead file of the journal, if it was torn.
    pub torn: Option<Torn>,
    /// The generation that begins behind it, of a node that is alone.
    pub generation: Option<u32>,
    /// Where the data that was there lies now.
    pub kept_aside: Option<PathBuf>,
}

/// Brings a backup up with a journal, in the folder of a node that does not run.
///
/// # Errors
/// As [`backup::restore`]; [`Refusal`].
pub fn restore(asked: &Asked<'_>, watch: Watch<'_>) -> Result<Brought, backup::Error> {
    let (from, rows) = backup::about_cell(asked.backup, watch)?;
    if from.cell != asked.cell {
        return Err(Refusal::OtherCell { found: from.cell, asked: asked.cell }.into());
    }
    let real = |path: &Path| fs::canonicalize(path).ok();
    if let (Some(journal), Some(unfinished)) = (real(asked.journal), real(&asked.folder.unfinished()))
        && journal.starts_with(unfinished)
    {
        return Err(backup::Error::Inside { from: asked.journal.to_owned(), root: asked.folder.root().to_owned() });
    }
    let make = |made: &Folder| {
        let source = Source::open(asked)?;
        let joint = source.joint(&from)?;
        source.compare(joint, &from, &rows.snapshot())?;
        let span = source.span(joint, asked.up_to, &from, watch)?;
        source.refuse_to_pass_agreed(asked, joint, span.end)?;
        source.refuse_if_less(asked.folder, source.position(span.end))?;
        let generation = source.make(asked, &from, joint, &span, made, watch)?;
        Ok((source.position(span.end), source.last(), span.end - joint, span.damaged, source.torn.clone(), generation))
    };
    let is_own = is_own(asked.journal, asked.folder);
    let ((end, last, batches, damaged, mut torn, generation), kept_aside) =
        in_place_of(asked.folder, asked.backup, asked.replace, watch, make)?;
    // It was moved with the journal.
    if let (true, Some(Torn { kept, .. }), Some(aside)) = (is_own, &mut torn, &kept_aside)
        && let Some(name) = kept.file_name()
    {
        *kept = Folder::new(aside).log().join(name);
    }
    Ok(Brought { from, end, batches, last, damaged, torn, generation, kept_aside })
}

/// Whether a journal is the folder's own, whichever of the two folders was named.
fn is_own(journal: &Path, folder: &Folder) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    let journal = real(journal);
    journal.is_some() && [real(folder.root()), real(&folder.log())].contains(&journal)
}

/// The journal.
struct Source {
    directory: PathBuf,
    log: Offline,
    torn: Option<Torn>,
    /// Where the journal lies that a restore moved aside when it began this one, which holds nothing yet.
    aside: Option<PathBuf>,
}

/// What is used of it.
struct Span {
    /// Behind which batch it can be copied.
    begin: u64,
    /// The last batch that is applied.
    end: u64,
    /// Why the one behind it is not.
    damaged: Option<String>,
}

/// Why a pass over batches did not come to its end.
enum Stop {
    /// A batch cannot be read.
    Damaged { ordinal: u64, reason: String },
    /// Something else.
    Failed(backup::Error),
}

impl<E: Into<backup::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Stop {
    /// The journal was read to there before.
    fn unexpected(self) -> backup::Error {
        match self {
            Self::Failed(error) => error,
            Self::Damaged { ordinal, reason } => {
                ieum_log::Error::Foreign(format!("batch {ordinal} cannot be read any more: {reason}")).into()
            }
        }
    }
}

impl Source {
    fn open(asked: &Asked<'_>) -> Result<Self, backup::Error> {
        let has_one = |path: &Path| Ok::<_, ieum_log::Error>(sqlite::newest_generation(path)?.is_some());
        let mut directory = asked.journal.to_owned();
        if !has_one(&directory)? && has_one(&directory.join("log"))? {
            directory.push("log");
        }
        let asides = asked.folder.asides().map_err(backup::io("listing", asked.folder.root()))?;
        let aside = asides.iter().map(Folder::log).rfind(|log| matches!(has_one(log), Ok(true)));
        if !has_one(&directory)? {
            return Err(Refusal::Missing { path: directory, aside }.into());
        }
        let (log, torn) = Offline::open_noting(&directory, Some(asked.cell.into()))?;
        let is_copy = log.is_journal();
        if is_copy != matches!(asked.whose, Whose::Shared(_)) {
            return Err(Refusal::OtherKind { path: directory, is_copy }.into());
        }
        let begun = is_own(&directory, asked.folder) && log.last().ordinal == 0 && log.meta().predecessor.is_some();
        Ok(Self { directory, log, torn, aside: aside.filter(|_| begun) })
    }

    fn position(&self, ordinal: u64) -> Position {
        Position { ordinal, ..self.last() }
    }

    fn last(&self) -> Position {
        core_position(self.log.last())
    }

    fn trimmed(&self) -> u64 {
        self.log.first().ordinal.saturating_sub(1)
    }

    /// Behind which batch the backup goes on: where it ends, or at the beginning of the generation that follows it.
    fn joint(&self, from: &snapshot::Meta) -> Result<u64, Refusal> {
        let (backup, last, begin) = (from.position, self.last(), self.position(self.trimmed()));
        let gap = |begin| Refusal::Gap { begin, backup, aside: self.aside.clone() };
        if backup.generation > last.generation {
            return Err(Refusal::EndsBefore { last, backup });
        }
        if backup.generation == last.generation {
            return match backup {
                at if at > last => Err(Refusal::EndsBefore { last, backup }),
                at if at < begin => Err(gap(begin)),
                at => Ok(at.ordinal),
            };
        }
        match self.log.meta().predecessor {
            Some(before) if core_position(before.end) != backup => {
                let begin = if begin.ordinal == 0 { core_position(before.end) } else { begin };
                Err(gap(begin))
            }
            Some(before) if before.digest != from.digest => {
                let shows = format!("generation {} of the journal begins there, behind another view", last.generation);
                Err(Refusal::OtherHistory { backup, shows })
            }
            Some(_) if begin.ordinal == 0 => Ok(0),
            _ => Err(gap(begin)),
        }
    }

    /// Whether the backup came from the batches of this journal: the last one that it has applied is here, too, or the first ones behind it go on
    /// with the numbers that it knows. No two lives of a node have the same numbers and clock.
    fn compare(&self, joint: u64, from: &snapshot::Meta, rows: &impl Read) -> Result<(), backup::Error> {
        if Bug::JournalJoinUnchecked.planted() {
            return Ok(());
        }
        let refuse = |shows: String| Err(Refusal::OtherHistory { backup: from.position, shows }.into());
        let at = self.position(joint);
        if joint > self.trimmed() {
            let read = self.log.read(log_position(self.position(joint - 1)), 1);
            // One that cannot be read tells nothing; those behind it do.
            if let Some(entry) = read.ok().and_then(|page| page.into_iter().next())
                && !is_the_last_of(&entry, rows).map_err(FolderError::Store)?
            {
                return refuse(format!("the batch at {at} in it is not the one that the backup has applied last"));
            }
        }
        // A new generation begins with new lives.
        if at.generation != from.position.generation {
            return Ok(());
        }
        let mut seen: BTreeSet<NodeId> = BTreeSet::new();
        let page = self.log.read(log_position(at), PAGE).unwrap_or_default();
        for entry in &page {
            let (id, first) = (entry.id, seen.insert(entry.id.node));
            let Some(known) = NODES.get(rows, &id.node).map_err(FolderError::Store)?.filter(|_| first) else {
                continue;
            };
            let follows = (id.incarnation == known.incarnation && id.number == known.number + 1)
                || (id.incarnation > known.incarnation && id.number == 1);
            if !follows {
                let position = entry.position;
                return refuse(format!(
                    "the batch of node {} at {position} does not follow what the backup has of it",
                    id.node
                ));
            }
        }
        Ok(())
    }

    /// Reads batches behind `after` up to `until`.
    fn pass(&self, after: u64, until: u64, mut visit: impl FnMut(&[Entry]) -> Result<(), Stop>) -> Result<(), Stop> {
        let mut at = after;
        while at < until {
            let most = usize::try_from(until - at).unwrap_or(PAGE).min(PAGE);
            let page = match self.log.read(log_position(self.position(at)), most) {
                Ok(page) => page,
                Err(error) => {
                    return Err(match sqlite::damage(&error) {
                        Some(damaged) => {
                            Stop::Damaged { ordinal: damaged.position.ordinal, reason: damaged.reason.clone() }
                        }
                        None => error.into(),
                    });
                }
            };
            let Some(entry) = page.last() else {
                return Err(Stop::Damaged { ordinal: at + 1, reason: "it is missing".to_owned() });
            };
            at = entry.position.ordinal;
            visit(&page)?;
        }
        Ok(())
    }

    /// Reads all that is to be used, and finds where it is damaged.
    fn span(
        &self,
        joint: u64,
        up_to: Option<Position>,
        from: &snapshot::Meta,
        watch: Watch<'_>,
    ) -> Result<Span, backup::Error> {
        let (last, at_joint) = (self.last(), self.position(joint));
        let wanted = up_to.unwrap_or(last);
        if wanted.generation != last.generation || !(at_joint..=last).contains(&wanted) {
            return Err(Refusal::UpTo { up_to: wanted, backup: from.position, last }.into());
        }
        let of = Some(wanted.ordinal - self.trimmed());
        let look = |page: &[Entry]| {
            let done = page.last().map_or(0, |entry| entry.position.ordinal - self.trimmed());
            watch(Step { what: "batches checked", done, of });
            Ok(())
        };
        // What is before the joint is only for other nodes that are behind.
        let begins = [self.trimmed(), joint.saturating_sub(1).max(self.trimmed()), joint];
        let begin = begins.into_iter().find(|begin| self.pass(*begin, joint, look).is_ok()).unwrap_or(joint);
        let (ordinal, reason) = match self.pass(joint, wanted.ordinal, look) {
            Ok(()) => return Ok(Span { begin, end: wanted.ordinal, damaged: None }),
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Damaged { ordinal, reason }) => (ordinal, reason),
        };
        // One last batch may be what was being written. To give up more is for the operator to say.
        if ordinal == last.ordinal || Bug::DamageTakenForTheEnd.planted() {
            return Ok(Span { begin, end: ordinal - 1, damaged: Some(reason) });
        }
        let [at, before] = [ordinal, ordinal - 1].map(|ordinal| self.position(ordinal));
        let sound = self.log.sound_behind(ordinal).map(|ordinal| self.position(ordinal));
        Err(Refusal::Damaged { at, reason, sound, last, before }.into())
    }

    /// Refuses to apply a batch of which the journal's node has agreed to have a command skipped, if the shared log is not known to have that mark:
    /// whether the other nodes skip it is not known either.
    fn refuse_to_pass_agreed(&self, asked: &Asked<'_>, joint: u64, end: u64) -> Result<(), ieum_log::Error> {
        let is_marked = |(position, index): &Skip| match &asked.whose {
            Whose::Alone => false,
            Whose::Shared(marks) => marks.contains(&(core_position(*position), *index)),
        };
        let agreed: Vec<Skip> = self.log.agreed()?.into_iter().filter(|mark| !is_marked(mark)).collect();
        let passed = agreed.iter().find(|(position, _)| position.ordinal > joint && position.ordinal <= end);
        match passed.filter(|_| !Bug::BroughtPastAgreed.planted()) {
            Some((position, _)) => ieum_log::stands_before(&agreed, *position),
            None => Ok(()),
        }
    }

    /// Refuses to put less in the place of what is there.
    fn refuse_if_less(&self, folder: &Folder, end: Position) -> Result<(), backup::Error> {
        if is_own(&self.directory, folder) {
            return Ok(());
        }
        match backup::reaches(folder)? {
            Reaches::To(at) if at > end => Err(Refusal::OwnBeyond { folder: folder.root().to_owned(), at, end }.into()),
            _ => Ok(()),
        }
    }

    /// Makes view, snapshot and log; gives the generation that begins.
    fn make(
        &self,
        asked: &Asked<'_>,
        from: &snapshot::Meta,
        joint: u64,
        span: &Span,
        made: &Folder,
        watch: Watch<'_>,
    ) -> Result<Option<u32>, backup::Error> {
        let options = fjall::Options::default();
        let view = Fjall::open(made.view(), &options).map_err(FolderError::View)?;
        let extent = Extent { last: self.position(span.end), ..Extent::of(&self.log) };
        folder::start_from(&view, asked.backup, &extent, watch, snapshot::unasked())?;
        // A journal has kept those of its log.
        let mut skips = crate::skips(&self.log.skips()?);
        if let Whose::Shared(shared) = &asked.whose {
            skips.extend(shared.iter().copied());
            if !Bug::BroughtViewVotes.planted() {
                // Whose view the backup was of is not known.
                made.mark_copied(from.position).map_err(backup::io("marking as copied", made.root()))?;
            }
        }
        let marks: Vec<_> = skips.iter().map(|(position, index)| (log_position(*position), *index)).collect();
        let applier = Applier::new(Arc::new(view), skips).map_err(FolderError::Store)?;
        let mut applier = applier.keeping(applier::KEPT_BYTES);
        let mut copying = match asked.whose {
            Whose::Alone => None,
            Whose::Shared(_) => Some(Copying::begin(made.log(), self.log.meta(), span.begin)?),
        };
        // Else the node takes its view for one that has passed them.
        if let Some(copying) = copying.as_mut().filter(|_| !Bug::BroughtJournalForgetsMarks.planted()) {
            copying.keep_skips(marks)?;
        }
        let of = Some(span.end - joint);
        let take = |page: &[Entry]| {
            copying.as_mut().map_or(Ok(()), |copying| copying.put(page))?;
            for entry in page.iter().filter(|entry| entry.position.ordinal > joint) {
                applier.apply(entry).map_err(Refusal::from)?;
            }
            watch(Step { what: "batches applied", done: applier.applied().ordinal.saturating_sub(joint), of });
            Ok(())
        };
        let first = if matches!(asked.whose, Whose::Alone) { joint } else { span.begin };
        self.pass(first, span.end, take).map_err(Stop::unexpected)?;
        let view = Arc::clone(applier.view());
        drop(applier);
        view.persist().map_err(FolderError::Store)?;
        snapshot::take(view.as_ref(), &made.snapshots(), watch)?;
        let digest = apply::applied(&view.snapshot()).map_err(FolderError::Store)?.digest;
        drop(view);
        let generation = match copying {
            Some(copying) => {
                copying.close()?;
                None
            }
            None => {
                let newest = backup::newest_generation(asked.folder, from)?.max(self.last().generation);
                let generation = backup::next_generation(newest, SystemTime::now());
                let end = Predecessor { end: log_position(extent.last), digest };
                sqlite::begin_generation(made.log(), asked.cell.into(), generation, end)?;
                Some(generation)
            }
        };
        // As the node will open it; of a node that is alone this takes the view over into the new generation.
        let extent = Extent::of(&Offline::open(made.log(), Some(asked.cell.into()))?);
        drop(made.open_view(&extent, &options)?);
        Ok(generation)
    }
}

/// Whether the cell of which `rows` tell has applied this batch last. What it has not taken at all tells nothing.
fn is_the_last_of(entry: &Entry, rows: &impl Read) -> kv::Result<bool> {
    let id = entry.id;
    let (Ok(Batch { header, .. }), Some(node)) = (Batch::decode(&entry.bytes), NODES.get(rows, &id.node)?) else {
        return Ok(true);
    };
    let clock = CLOCK.get(rows, &ONLY)?;
    let stamp = clock.iter().flat_map(|clock| &clock.stamps).find(|stamp| stamp.dc == node.dc);
    Ok((node.incarnation, node.number) == (id.incarnation, id.number)
        && stamp.is_none_or(|stamp| stamp.clock == header.clock))
}
