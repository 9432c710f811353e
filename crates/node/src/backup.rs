//! Backups: a snapshot outside the data folder, and a cell begun anew from one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ieum_core::ids::{NodeId, Position};
use ieum_core::kv::{Kv as _, WriteSet};
use ieum_core::tables::cell::{CLOCK, NODES, ONLY, SETTINGS};
use ieum_log::sqlite::{self, Offline};
use ieum_planted::Bug;
use ieum_store::fjall;
use ieum_store::memory::Memory;

use crate::beyond;
use crate::folder::{Error as FolderError, Extent, Folder};
use crate::levels::Levels;
use crate::progress::{EVERY, Step, Watch};
use crate::unfinished::in_place_of;
use crate::{in_use, snapshot};

/// Why a backup or a restore did not happen. Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The backup file.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// The log.
    #[error("the log")]
    Log(#[from] ieum_log::Error),
    /// There is data already.
    #[error("{0} already holds data; stop the node and say --replace to keep that data aside and restore in its place")]
    Occupied(PathBuf),
    /// The backup would be moved aside with the data.
    #[error("{from} lies in the data folder {root}, from which everything is moved aside: copy it out of there first")]
    Inside {
        /// The backup file.
        from: PathBuf,
        /// The data folder.
        root: PathBuf,
    },
    /// Somebody else restores into the same folder.
    #[error("another restore is at work in {0}: wait for it")]
    AnotherRestores(PathBuf),
    /// A backup was to be brought up with a journal.
    #[error(transparent)]
    Beyond(#[from] beyond::Refusal),
    /// It failed when the data that was there had been moved aside.
    #[error(
        "the restore did not come to its end, and the data that was there is kept in {aside}: restore again when the reason is mended"
    )]
    MovedAside {
        /// Where.
        aside: PathBuf,
        /// Why it failed.
        #[source]
        source: Box<Error>,
    },
    /// The folder itself.
    #[error("{operation} {path}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// Backs up the folder of a node that does not run, into the file `to`.
pub fn offline(folder: &Folder, cell: u16, to: &Path, watch: Watch<'_>) -> Result<snapshot::Meta, Error> {
    let view = open_offline(folder, cell, watch)?;
    Ok(snapshot::copy(&view, to, watch)?)
}

/// The view of a node that does not run, brought up to its log.
fn open_offline(folder: &Folder, cell: u16, watch: Watch<'_>) -> Result<fjall::Fjall, Error> {
    let log = Offline::open(folder.log(), Some(u32::from(cell)))?;
    let (view, _) = folder.open_view(&Extent::of(&log), &fjall::Options::default())?;
    let view = std::sync::Arc::new(view);
    // Whether the others skip what this node has agreed to is not known here, so that it goes neither way.
    let (mut marks, mut agreed) = (log.skips()?, log.agreed()?);
    if Bug::AgreedSkipped.planted() {
        marks.append(&mut agreed);
    }
    let skips = crate::skips(&marks);
    let mut applier = crate::applier::Applier::new(std::sync::Arc::clone(&view), skips).map_err(FolderError::Store)?;
    let from = applier.applied().ordinal;
    let of = Some(log.last().ordinal.saturating_sub(from));
    loop {
        let entries = log.read(crate::log_position(applier.applied()), 1_000)?;
        if entries.is_empty() {
            break;
        }
        for entry in &entries {
            ieum_log::stands_before(&agreed, entry.position)?;
            applier.apply(entry).map_err(|e| FolderError::Store(ieum_core::kv::Error::new("apply", e)))?;
        }
        watch(Step { what: "batches applied", done: applier.applied().ordinal.saturating_sub(from), of });
    }
    drop(applier);
    std::sync::Arc::try_unwrap(view)
        .map_err(|_| FolderError::Store(ieum_core::kv::Error::new("open", "the view is still in use")).into())
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup was of.
    pub from: snapshot::Meta,
    /// The generation that begins.
    pub generation: u32,
    /// Where the data that was there lies now.
    pub kept_aside: Option<PathBuf>,
}

/// Begins a new generation of the cell from the backup `from`, in the folder of a node that does not run. With `replace`, data that is
/// there is moved aside, never deleted.
pub fn restore(folder: &Folder, from: &Path, replace: bool, watch: Watch<'_>) -> Result<Restored, Error> {
    restore_as(Kind::Alone, folder, from, replace, watch)
}

/// The same for the first node of a cell of several: what begins here is its journal, and the log that the nodes share has to begin with the
/// same generation and predecessor before the node starts. The generation is later than `newest`, the latest that the other nodes tell of.
pub fn restore_shared(
    folder: &Folder,
    from: &Path,
    replace: bool,
    newest: u32,
    watch: Watch<'_>,
) -> Result<Restored, Error> {
    restore_as(Kind::Shared { newest }, folder, from, replace, watch)
}

/// Whose log it is that goes on.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Of a node that is alone.
    Alone,
    /// Of several, and the node has a copy.
    Shared {
        /// The latest generation that the others tell of.
        newest: u32,
    },
}

fn restore_as(kind: Kind, folder: &Folder, from: &Path, replace: bool, watch: Watch<'_>) -> Result<Restored, Error> {
    let meta = snapshot::check_watched(from, None, watch)?;
    let of_others = if let Kind::Shared { newest } = kind { newest } else { 0 };
    let generation = next_generation(newest_generation(folder, &meta)?.max(of_others), SystemTime::now());
    let make = |made: &Folder| begin(kind, made, from, &meta, generation, watch);
    let ((), kept_aside) = in_place_of(folder, from, replace, watch, make)?;
    Ok(Restored { from: meta, generation, kept_aside })
}

/// What a backup is of, and who the cell's members were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// What it is of.
    pub meta: snapshot::Meta,
    /// The members and their data centers.
    pub members: Vec<(NodeId, String)>,
}

/// Reads the whole backup against its checksums and says what it is of.
pub fn about(from: &Path) -> Result<About, Error> {
    let (meta, view) = about_cell(from, crate::progress::unwatched())?;
    let levels = Levels::of(&view.snapshot()).map_err(FolderError::Store)?;
    let members = levels.into_iter().flat_map(|levels| levels.members).map(|member| (member.node, member.dc));
    Ok(About { meta, members: members.collect() })
}

/// Reads the whole backup against its checksums, and keeps the few rows that tell of the cell itself: its settings, members and clock.
pub(crate) fn about_cell(from: &Path, watch: Watch<'_>) -> Result<(snapshot::Meta, Memory), Error> {
    let mut rows = snapshot::Rows::open(from)?;
    let nodes = NODES.key(&NodeId::MIN)..=NODES.key(&NodeId::MAX);
    let single = [SETTINGS.key(&ONLY), CLOCK.key(&ONLY)];
    let mut kept = WriteSet::default();
    for (row, done) in (&mut rows).zip(1u64..) {
        let (key, value) = row?;
        let key = key.to_vec();
        if single.contains(&key) || nodes.contains(&key) {
            kept.rows.insert(key, Some(value));
        }
        if done.is_multiple_of(EVERY) {
            watch(Step { what: "rows of the backup read", done, of: None });
        }
    }
    let view = Memory::new();
    view.commit(&kept).map_err(FolderError::Store)?;
    Ok((rows.meta().clone(), view))
}

/// How far the data in a folder reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reaches {
    /// There is none.
    Nowhere,
    /// Up to there.
    To(Position),
    /// There is some, and nothing tells how far it reaches; why.
    Unknown(String),
}

/// How far the data in the folder of a node that does not run reaches. Only its journal and the names of its snapshots are looked at: the view
/// may be what is damaged.
pub fn reaches(folder: &Folder) -> Result<Reaches, Error> {
    let of_snapshots = snapshot::list(&folder.snapshots())?.pop().map(|(position, _)| position);
    if sqlite::newest_generation(folder.log())?.is_none() {
        // They are made beside a journal, which went on behind them.
        let had = folder.view().exists() || of_snapshots.is_some();
        let unknown = || Reaches::Unknown("it holds a view or a snapshot, but no journal".to_owned());
        return Ok(if had { unknown() } else { Reaches::Nowhere });
    }
    // It may be moved aside next: what is torn of it is kept.
    let of_log = match Offline::open_noting(folder.log(), None) {
        // Nothing is in it yet but what it follows.
        Ok((log, _)) if log.last().ordinal == 0 => log.meta().predecessor.map(|before| before.end),
        Ok((log, _)) => Some(log.last()),
        Err(error) if in_use(&error) => return Err(error.into()),
        Err(error) => return Ok(Reaches::Unknown(format!("its journal cannot be read: {}", crate::chain(&error)))),
    };
    Ok(of_log.map(crate::core_position).max(of_snapshots).map_or(Reaches::Nowhere, Reaches::To))
}

/// Where the log of a cell goes on that is restored from `backup`.
#[must_use]
pub fn predecessor(backup: &snapshot::Meta) -> sqlite::Predecessor {
    sqlite::Predecessor { end: crate::log_position(backup.position), digest: backup.digest }
}

/// Makes view, snapshot and log of the new generation.
fn begin(
    kind: Kind,
    folder: &Folder,
    from: &Path,
    meta: &snapshot::Meta,
    generation: u32,
    watch: Watch<'_>,
) -> Result<(), Error> {
    let snapshots = folder.snapshots();
    fs::create_dir_all(&snapshots).map_err(io("creating", &snapshots))?;
    // The view before the new generation, so that it can be rebuilt; the name tells its position.
    let view_path = folder.view();
    let view = fjall::Fjall::open(&view_path, &fjall::Options::default()).map_err(FolderError::View)?;
    crate::folder::fill(&view, from, watch)?;
    snapshot::take(&view, &snapshots, watch)?;
    drop(view);
    let (cell, predecessor) = (u32::from(meta.cell), predecessor(meta));
    match kind {
        Kind::Alone => drop(sqlite::begin_generation(folder.log(), cell, generation, predecessor)?),
        Kind::Shared { .. } => {
            let about = sqlite::Meta { cell, generation, predecessor: Some(predecessor) };
            sqlite::Journal::begin_again(folder.log(), &about, 0)?;
        }
    }
    // Takes the view over into the new generation.
    let extent = Extent::of(&Offline::open(folder.log(), Some(u32::from(meta.cell)))?);
    drop(folder.open_view(&extent, &fjall::Options::default())?);
    Ok(())
}

/// 2020-01-01, in seconds since 1970.
const EPOCH: u64 = 1_577_836_800;

/// A generation that no life of the cell's log has had, not even one of which nothing is left here: later than all that are known, and
/// no less than the seconds since 2020. They fit 32 bits until 2156. With the number of another life, a device's cursor into what was
/// lost would pass for one into this log.
#[must_use]
pub fn next_generation(newest: u32, now: SystemTime) -> u32 {
    if Bug::RestoreKeepsGeneration.planted() {
        return newest;
    }
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).ok();
    let seconds = since_1970.and_then(|since| u32::try_from(since.as_secs().checked_sub(EPOCH)?).ok());
    let seconds = if Bug::GenerationFromFilesAlone.planted() { None } else { seconds };
    // A clock that is wrong may give less. The last number of all is refused by the log, which cannot follow itself.
    newest.saturating_add(1).max(seconds.unwrap_or_default())
}

/// The newest generation that the backup or anything in the data folder is of, by their names: the files may be damaged.
pub(crate) fn newest_generation(folder: &Folder, backup: &snapshot::Meta) -> Result<u32, Error> {
    let mut newest = backup.position.generation;
    let asides = folder.asides().map_err(io("listing", folder.root()))?;
    for folder in asides.iter().chain([folder]) {
        let of_snapshots = snapshot::list(&folder.snapshots())?.pop().map(|(position, _)| position.generation);
        newest = newest.max(sqlite::newest_generation(folder.log())?.max(of_snapshots).unwrap_or_default());
    }
    Ok(newest)
}

pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_later_restore_has_a_later_generation_though_it_knows_of_no_other() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH + seconds);
        assert_eq!(next_generation(1, at(200_000_000)), 200_000_000);
        assert_eq!(next_generation(1, at(200_000_001)), 200_000_001);
        // Two in one second, a clock that went back, one before 2020, one after 2156.
        assert_eq!(next_generation(200_000_000, at(200_000_000)), 200_000_001);
        assert_eq!(next_generation(200_000_000, at(7)), 200_000_001);
        assert_eq!(next_generation(1, SystemTime::UNIX_EPOCH), 2);
        assert_eq!(next_generation(9, at(u64::from(u32::MAX) + 1)), 10);
    }
}
