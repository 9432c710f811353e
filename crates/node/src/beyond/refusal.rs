//! Why a backup is not brought up with a journal.

use std::path::{Path, PathBuf};

use ieum_core::ids::Position;

use crate::applier;

fn moved_to(aside: Option<&Path>) -> String {
    aside.map(|aside| format!(": a restore has moved one to {}", aside.display())).unwrap_or_default()
}

/// Why a journal is of no use for a backup.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The backup is another cell's.
    #[error("this is a backup of cell {found}, not of cell {asked}: correct [node] cell")]
    OtherCell {
        /// In the backup.
        found: u16,
        /// In the configuration.
        asked: u16,
    },
    /// There is none.
    #[error("there is no journal in {path}{}", moved_to(aside.as_deref()))]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// Where one lies that a restore has moved aside.
        aside: Option<PathBuf>,
    },
    /// It is not what the configuration speaks of.
    #[error(
        "{path} holds {}: correct [log] engine or --journal",
        if *is_copy { "a node's copy of a log that several nodes share" } else { "the log of a node that is alone" }
    )]
    OtherKind {
        /// Where it lies.
        path: PathBuf,
        /// What it is.
        is_copy: bool,
    },
    /// It ends before the backup.
    #[error(
        "the journal ends at {last}, before the backup, which ends at {backup}: it holds nothing to bring that up with. Give the journal of another \
         node, or leave --journal out"
    )]
    EndsBefore {
        /// Its end.
        last: Position,
        /// The backup's.
        backup: Position,
    },
    /// It begins behind the backup.
    #[error(
        "the backup ends at {backup}, but the journal begins only behind {begin}: what is between is in neither. Give a later backup (a snapshot \
         from a node's snapshots folder is one), or a journal that reaches back further{}",
        moved_to(aside.as_deref())
    )]
    Gap {
        /// Behind which batch it begins.
        begin: Position,
        /// The backup's end.
        backup: Position,
        /// Where the one lies that a restore has moved aside, if it is what a restore has begun that was given.
        aside: Option<PathBuf>,
    },
    /// The batches are not those that the backup came from.
    #[error(
        "the journal is of another history than the backup, which ends at {backup}: {shows}. One of the two is from an etcd or a log that was given up"
    )]
    OtherHistory {
        /// The backup's end.
        backup: Position,
        /// How it shows.
        shows: String,
    },
    /// A batch within it cannot be read.
    #[error(
        "the journal is damaged at {at} ({reason}), {}: this is no torn end. Give the journal of another node, or a copy of this one, if there is \
         any. To give up what it holds from {at} on, up to {last}, say --up-to {before}",
        match sound {
            Some(sound) => format!("but {sound} behind it can be read"),
            None => format!("and none of the {} batches from there on can be read", last.ordinal - before.ordinal),
        }
    )]
    Damaged {
        /// The first batch that cannot be read.
        at: Position,
        /// How it shows.
        reason: String,
        /// The first one behind it that can, if any can.
        sound: Option<Position>,
        /// The last one.
        last: Position,
        /// The last one before it.
        before: Position,
    },
    /// It is to be used up to where it does not reach.
    #[error("--up-to {up_to} is not between the end of the backup, {backup}, and that of the journal, {last}")]
    UpTo {
        /// What was asked for.
        up_to: Position,
        /// The backup's end.
        backup: Position,
        /// Its own.
        last: Position,
    },
    /// The folder itself has more.
    #[error(
        "the data in {folder} reaches to {at}, and the journal only to {end}: bring the backup up with that folder's own journal, or move that \
         data out of it if it is not to count"
    )]
    OwnBeyond {
        /// The data folder.
        folder: PathBuf,
        /// How far it reaches.
        at: Position,
        /// How far the journal reaches.
        end: Position,
    },
    /// A batch could not be applied.
    #[error("bringing the backup up to the journal")]
    Apply(#[from] applier::Error),
}
