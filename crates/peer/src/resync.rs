//! Brings a node back to where the shared log still reaches: batches from another node's journal, or a snapshot and the batches behind it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt as _;
use ieum_core::ids::Position;
use ieum_log::sqlite::{Journal, Meta};
use ieum_log::{Entry, Error as LogError, Log, Position as LogPosition, Tail as _};
use ieum_node::folder::Folder;
use ieum_node::snapshot::io_error;
use ieum_node::{core_position, snapshot};
use ieum_planted::Bug;

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
    /// The log is another one than this node has a copy of.
    #[error(
        "{whose} has another batch at {at} than this node's copy of the log: an older backup of etcd was restored, or this is not the etcd \
         of this node's cell. Nothing was changed. Stop the nodes and go on from the one that has most with `ieum log reseed`; if this node \
         alone is wrong, set its data aside with `ieum node resync`"
    )]
    OtherHistory {
        /// Where.
        at: Position,
        /// Who has the other one.
        whose: String,
    },
    /// The log ends before this node's copy of it.
    #[error(
        "the log ends at {last}, but this node's copy of it at {copied}: it has lost batches that were acknowledged; an older backup of \
         etcd was restored, or it was made anew. Nothing was changed. Stop the nodes and go on from the one that has most with \
         `ieum log reseed`"
    )]
    LogBehind {
        /// The log's last position.
        last: Position,
        /// The journal's.
        copied: Position,
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
    match filled? {
        Filled::Yes(came) => {
            // Of a snapshot that an earlier try did not need to the end.
            snapshot::sweep(&folder.snapshots(), &[PART])?;
            Ok(came)
        }
        Filled::No(reasons) => start_over(folder, about, shared, peers, reasons).await.map(Came::FromSnapshot),
    }
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

/// The same for a node whose journal may reach the log, but which has neither a view nor a snapshot to go with it: gives where the snapshot
/// of another node stands that it begins again with.
///
/// # Errors
/// As [`bring_back`].
pub async fn begin_anew<L: Log>(folder: &Folder, about: &Meta, shared: &L, peers: &[Peer]) -> Result<Position, Error> {
    let journal = Journal::open(folder.log(), about, 0)?;
    // Whether it does is not asked; that it is of this log is.
    reached(shared, &journal).await?;
    drop(journal);
    start_over(folder, about, shared, peers, Vec::new()).await
}

/// Begins again with a snapshot of one of the `peers` and what their journals have behind it; gives where the snapshot stands. `reasons` says
/// why they could not help otherwise.
async fn start_over<L: Log>(
    folder: &Folder,
    about: &Meta,
    shared: &L,
    peers: &[Peer],
    mut reasons: Vec<String>,
) -> Result<Position, Error> {
    for (at, peer) in peers.iter().enumerate() {
        let position = match fetch(&folder.snapshots(), about, shared, peer).await {
            Ok(position) => position,
            Err(Failure::Peer(reason)) => {
                reasons.push(reason.to_string());
                continue;
            }
            Err(Failure::Own(error)) => return Err(error),
        };
        Journal::begin_again(folder.log(), about, position.ordinal)?;
        let journal = Journal::open(folder.log(), about, position.ordinal)?;
        // First the node that gave the snapshot, which keeps what is behind it; but it may be gone meanwhile.
        let (before, from) = peers.split_at(at);
        let peers: Vec<Peer> = from.iter().chain(before).cloned().collect();
        match fill_from_any(&journal, shared, &peers).await? {
            Filled::Yes(_) => return Ok(position),
            // Asked again, it goes on from the snapshot.
            Filled::No(more) => reasons.extend(more),
        }
        break;
    }
    Err(Error::NoPeer { reasons })
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

/// Whether the log still has what follows the journal. The journal's end must be in it: a log that is long enough may be another one.
async fn reached<L: Log>(shared: &L, journal: &Journal) -> Result<bool, Error> {
    let (copied, last) = (journal.last(), shared.last().await?);
    if copied > last {
        return Err(Error::LogBehind { last: core_position(last), copied: core_position(copied) });
    }
    if let Some(end) = end(journal).await?
        && let Some(theirs) = in_log(shared, before(copied)).await?
        && theirs != end
        && !Bug::JournalEndUnchecked.planted()
    {
        return Err(Error::OtherHistory { at: core_position(copied), whose: "the log".to_owned() });
    }
    match shared.tail(copied).await {
        Ok(_) => Ok(true),
        Err(LogError::Trimmed { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The last batch that the journal holds, if it holds any.
async fn end(journal: &Journal) -> Result<Option<Entry>, LogError> {
    if journal.last() == journal.trimmed() {
        return Ok(None);
    }
    Ok(journal.read(before(journal.last())).await?.into_iter().next())
}

/// The batch of the log behind `after`, if it still has it.
async fn in_log<L: Log>(shared: &L, after: LogPosition) -> Result<Option<Entry>, LogError> {
    let entry = match shared.tail(after).await {
        Ok(mut tail) => tail.next().await,
        Err(error) => Err(error),
    };
    match entry {
        Ok(entry) => Ok(Some(entry)),
        Err(LogError::Trimmed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn before(position: LogPosition) -> LogPosition {
    LogPosition { ordinal: position.ordinal.saturating_sub(1), ..position }
}

/// Copies what `peer` has behind the journal's end, which brings it to where the log still reaches. The batch at the end must be the same.
async fn fill<L: Log>(journal: &Journal, peer: &Peer, shared: &L) -> Result<(), Failure> {
    let mut end = end(journal).await?;
    let from = if end.is_some() { before(journal.last()) } else { journal.last() };
    let mut batches = peer.batches(core_position(from)).await.map_err(Failure::Peer)?;
    while let Some(entry) = batches.next().await {
        let entry = entry.map_err(Failure::Peer)?;
        if end.take().is_some_and(|end| end != entry) {
            let whose = format!("the node at {}", peer.address());
            return Err(Error::OtherHistory { at: core_position(journal.last()), whose }.into());
        }
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
async fn fetch<L: Log>(folder: &Path, about: &Meta, shared: &L, peer: &Peer) -> Result<Position, Failure> {
    fs::create_dir_all(folder).map_err(io_error("creating", folder))?;
    let mut arriving = part(folder)?;
    loop {
        let had = arriving.as_ref().map(|part| (part.at, part.length));
        let received = receive(folder, peer, &mut arriving).await;
        let goes_on = |part: &Part| had.is_none_or(|(at, length)| part.at == at && part.length > length);
        match received {
            // It broke off on the way. As long as more of the same comes each time, the same node is asked again.
            Err(Failure::Peer(PeerError::Unreachable { .. })) if arriving.as_ref().is_some_and(goes_on) => {}
            received => break received?,
        }
    }
    let Some(Part { at, path, .. }) = arriving else {
        return Err(garbage(peer, "an empty snapshot"));
    };
    // Asked for now: the other node may have gone on while it made the snapshot.
    let last = core_position(shared.last().await?);
    if (at.generation != last.generation || at > last) && !Bug::PeerSnapshotOfAnyCell.planted() {
        fs::remove_file(&path).map_err(io_error("removing", &path))?;
        return Err(garbage(peer, &format!("a snapshot at {at}, though the log ends at {last}")));
    }
    match snapshot::adopt(&path, folder, about.cell, at) {
        Ok(()) => Ok(at),
        Err(error) => {
            // What arrived is worth nothing; the next try begins anew.
            fs::remove_file(&path).map_err(io_error("removing", &path))?;
            Err(garbage(peer, &error.to_string()))
        }
    }
}

/// Receives what `peer` has of a snapshot beyond what has arrived.
async fn receive(folder: &Path, peer: &Peer, arriving: &mut Option<Part>) -> Result<(), Failure> {
    let part = arriving.as_ref().map(|part| (part.at, part.length));
    let mut pieces = peer.snapshot(part).await.map_err(Failure::Peer)?;
    let mut total = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|status| Failure::Peer(peer.error(&status)))?;
        total = piece.total;
        take(folder, peer, arriving, &piece)?;
    }
    if arriving.as_ref().is_some_and(|part| part.length < total) {
        let address = peer.address().to_owned();
        return Err(Failure::Peer(PeerError::Unreachable { address, reason: "the snapshot broke off".to_owned() }));
    }
    Ok(())
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
