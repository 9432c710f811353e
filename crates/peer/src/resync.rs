//! Brings a node back to where the shared log still reaches: batches from another node's journal, or a snapshot and the batches behind it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt as _;
use ieum_core::ids::Position;
use ieum_log::sqlite::{Journal, Meta};
use ieum_log::{Error as LogError, Log};
use ieum_node::folder::Folder;
use ieum_node::snapshot::io_error;
use ieum_node::{core_position, snapshot};

use crate::client::{Error as PeerError, Peer};
use crate::messages::Piece;
use crate::shelf::Shelf;

/// Why a node is not back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No other node could help; each says why. Asking again later may help.
    #[error(
        "this node needs what the log has forgotten, and no other node gave it: {}. Start another node of the cell, or name one in \
         [peers] addresses", reasons.join("; ")
    )]
    NoPeer {
        /// One for each node that was asked.
        reasons: Vec<String>,
    },
    /// The log or the journal failed.
    #[error("the log")]
    Log(#[from] LogError),
    /// A snapshot could not be kept.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
}

/// What was needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Nothing: the log reaches back far enough.
    FromLog,
    /// Batches of another node's journal.
    FromJournal,
    /// A snapshot of another node, at this position.
    FromSnapshot(Position),
}

/// Makes the data in `folder` such that a node can go on with `shared`, of which `about` is what it says of itself. No node may run there.
/// Meanwhile others may have what is on the `shelf`.
///
/// # Errors
/// [`Error::NoPeer`] may be tried again: what has arrived of a snapshot is kept.
pub async fn bring_back<L: Log>(
    folder: &Folder,
    about: &Meta,
    shared: &L,
    peers: &[Peer],
    shelf: &Shelf,
) -> Result<Came, Error> {
    let journal = Arc::new(Journal::open(folder.log(), about, 0)?);
    shelf.put_journal(Arc::clone(&journal)).await;
    let filled = fill_from_any(&journal, shared, peers).await;
    shelf.clear().await;
    drop(journal);
    let mut reasons = match filled? {
        Filled::Yes(came) => return Ok(came),
        Filled::No(reasons) => reasons,
    };
    for peer in peers {
        match start_over(folder, about, shared, peer).await {
            Ok(position) => return Ok(Came::FromSnapshot(position)),
            Err(Failure::Peer(reason)) => reasons.push(reason.to_string()),
            Err(Failure::Own(error)) => return Err(error),
        }
    }
    Err(Error::NoPeer { reasons })
}

enum Filled {
    Yes(Came),
    /// Why not, by peer.
    No(Vec<String>),
}

/// Has the journal reach the log, with the help of any of the `peers` if it does not.
async fn fill_from_any<L: Log>(journal: &Journal, shared: &L, peers: &[Peer]) -> Result<Filled, Error> {
    if reached(shared, journal).await? {
        return Ok(Filled::Yes(Came::FromLog));
    }
    let mut reasons = Vec::new();
    for peer in peers {
        match fill(journal, peer, shared).await {
            Ok(()) => return Ok(Filled::Yes(Came::FromJournal)),
            Err(Failure::Peer(reason)) => reasons.push(reason.to_string()),
            Err(Failure::Own(error)) => return Err(error),
        }
    }
    Ok(Filled::No(reasons))
}

/// Begins again with a snapshot of `peer` and what its journal has behind it; gives where the snapshot stands.
async fn start_over<L: Log>(folder: &Folder, about: &Meta, shared: &L, peer: &Peer) -> Result<Position, Failure> {
    let position = fetch(&folder.snapshots(), peer).await?;
    Journal::begin_again(folder.log(), about, position.ordinal)?;
    let journal = Journal::open(folder.log(), about, position.ordinal)?;
    fill(&journal, peer, shared).await?;
    Ok(position)
}

enum Failure {
    /// Another node may do better.
    Peer(PeerError),
    /// None would.
    Own(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Own(error.into())
    }
}

/// Whether the log still has what follows the journal.
async fn reached<L: Log>(shared: &L, journal: &Journal) -> Result<bool, LogError> {
    match shared.tail(journal.last()).await {
        Ok(_) => Ok(true),
        Err(LogError::Trimmed { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Copies what `peer` has behind the journal's end, which brings it to where the log still reaches.
async fn fill<L: Log>(journal: &Journal, peer: &Peer, shared: &L) -> Result<(), Failure> {
    let mut batches = peer.batches(core_position(journal.last())).await.map_err(Failure::Peer)?;
    while let Some(entry) = batches.next().await {
        let entry = entry.map_err(Failure::Peer)?;
        match journal.put(&entry).await {
            Err(error @ LogError::NotInLog { .. }) => {
                let (address, reason) = (peer.address().to_owned(), error.to_string());
                return Err(Failure::Peer(PeerError::Garbage { address, reason }));
            }
            put => put?,
        }
    }
    journal.flush().await?;
    if reached(shared, journal).await? {
        return Ok(());
    }
    let address = peer.address().to_owned();
    Err(Failure::Peer(PeerError::Trimmed { address, reason: "its journal ends too early".to_owned() }))
}

/// The file that a snapshot arrives in. Its name tells which, so that a later try goes on with it.
const PART: &str = "part";

/// Copies a snapshot of `peer` into `folder`, checks it, and gives its position.
async fn fetch(folder: &Path, peer: &Peer) -> Result<Position, Failure> {
    fs::create_dir_all(folder).map_err(io_error("creating", folder))?;
    let part = part(folder)?;
    let mut pieces = peer.snapshot(part.as_ref().map(|part| (part.at, part.length))).await.map_err(Failure::Peer)?;
    let mut arriving = part;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|status| Failure::Peer(peer.error(&status)))?;
        take(folder, peer, &mut arriving, &piece)?;
    }
    let Some(Part { at, path, .. }) = arriving else {
        return Err(garbage(peer, "an empty snapshot"));
    };
    match snapshot::adopt(&path, folder, at) {
        Ok(()) => Ok(at),
        Err(error) => {
            // What arrived is worth nothing; the next try begins anew.
            fs::remove_file(&path).map_err(io_error("removing", &path))?;
            Err(garbage(peer, &error.to_string()))
        }
    }
}

fn garbage(peer: &Peer, reason: &str) -> Failure {
    Failure::Peer(PeerError::Garbage { address: peer.address().to_owned(), reason: reason.to_owned() })
}

/// What has arrived of a snapshot.
struct Part {
    at: Position,
    path: PathBuf,
    length: u64,
}

/// What an earlier try has left; older remains are removed.
fn part(folder: &Path) -> Result<Option<Part>, snapshot::Error> {
    let mut found: Option<Part> = None;
    for entry in fs::read_dir(folder).map_err(io_error("listing", folder))? {
        let path = entry.map_err(io_error("listing", folder))?.path();
        if path.extension().is_none_or(|extension| extension != PART) {
            continue;
        }
        let length = fs::metadata(&path).map_err(io_error("measuring", &path))?.len();
        let at = path.file_stem().and_then(|stem| stem.to_str()?.parse::<Position>().ok());
        match at {
            Some(at) if found.as_ref().is_none_or(|found| found.at < at) => {
                if let Some(older) = found.replace(Part { at, path, length }) {
                    fs::remove_file(&older.path).map_err(io_error("removing", &older.path))?;
                }
            }
            _ => fs::remove_file(&path).map_err(io_error("removing", &path))?,
        }
    }
    Ok(found)
}

/// Adds a piece to what has arrived, if it is sound and the next one.
fn take(folder: &Path, peer: &Peer, arriving: &mut Option<Part>, piece: &Piece) -> Result<(), Failure> {
    let Some(at) = piece.at.map(Position::from) else { return Err(garbage(peer, "a piece of no snapshot")) };
    if blake3::hash(&piece.bytes).as_bytes()[..] != piece.digest[..] {
        return Err(garbage(peer, "a piece that is not what its digest says"));
    }
    if arriving.as_ref().is_none_or(|part| part.at != at) {
        if let Some(other) = arriving.take() {
            fs::remove_file(&other.path).map_err(io_error("removing", &other.path))?;
        }
        let path = folder.join(format!("{at}.{PART}"));
        File::create(&path).map_err(io_error("creating", &path))?;
        *arriving = Some(Part { at, path, length: 0 });
    }
    let Some(part) = arriving else { return Ok(()) };
    if piece.offset != part.length {
        return Err(garbage(peer, "a piece out of order"));
    }
    let append = || OpenOptions::new().append(true).open(&part.path)?.write_all(&piece.bytes);
    append().map_err(io_error("writing", &part.path))?;
    part.length += piece.bytes.len() as u64;
    Ok(())
}
