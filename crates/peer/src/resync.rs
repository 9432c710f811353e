//! Brings a node back to where the shared log still reaches: batches from another node's journal, or a snapshot and the batches behind it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use ieum_core::batch::plain_length;
use ieum_core::ids::Position;
use ieum_log::journaled::joins::{Continuation, Joins, joins};
use ieum_log::sqlite::{Journal, Meta};
use ieum_log::{Error as LogError, Log};
use ieum_node::folder::Folder;
use ieum_node::snapshot::io_error;
use ieum_node::{core_position, snapshot};
use ieum_planted::Bug;
use tokio::time::{Instant, sleep};

use crate::circle::ASK_AGAIN;
use crate::client::{Error as PeerError, Peer};
use crate::messages::Piece;
use crate::shelf::{Hangs, Shelf};

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
        /// Whether what one of them has against it passes in a while.
        passes: bool,
    },
    /// The log is another one than this node has a copy of.
    #[error(
        "{whose} has another batch at {at} than this node's copy of the log: an older backup of etcd was restored, or this is not the etcd \
         of this node's cell. Nothing was changed. If that etcd is the wrong one, correct [log] endpoints. Else others wrote on behind the \
         backup: how the cell goes on from what this node has (`ieum log reseed`) is said in docs/operating/log-lost.md. If this node alone is \
         wrong, set its data aside with `ieum node resync`"
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
    /// Another node was given batches meanwhile, and still reads them.
    #[error(transparent)]
    Hangs(#[from] Hangs),
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
/// Meanwhile others may have what is on the `shelf`; afterwards the journal is known to be the log's.
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
    shelf.set_compared(false);
    reach(folder, about, shared, peers, shelf).await.inspect(|_| shelf.set_compared(true))
}

async fn reach<L: Log>(
    folder: &Folder,
    about: &Meta,
    shared: &L,
    peers: &[Peer],
    shelf: &Shelf,
) -> Result<Came, Error> {
    let view_bytes = bytes_in(&folder.view()).map_err(io_error("measuring", &folder.view()))?;
    let reasons = match fill_journal(folder, about, shared, peers, shelf, Some(view_bytes)).await? {
        Filled::Yes(came) => {
            // Of a snapshot that an earlier try did not need to the end.
            snapshot::sweep(&folder.snapshots(), &[PART])?;
            return Ok(came);
        }
        Filled::No(reasons) => reasons,
        Filled::Far => match start_over_patiently(folder, about, shared, peers).await {
            Err(Error::NoPeer { reasons, .. }) => {
                tracing::info!(
                    reasons = reasons.join("; "),
                    "nobody gives a snapshot: all that is missing is applied, which takes longer"
                );
                match fill_journal(folder, about, shared, peers, shelf, None).await? {
                    Filled::Yes(came) => return Ok(came),
                    Filled::No(reasons) => return Err(Error::NoPeer { reasons, passes: false }),
                    Filled::Far => Vec::new(),
                }
            }
            came => return came.map(Came::FromSnapshot),
        },
    };
    start_over(folder, about, shared, peers, reasons).await.map(Came::FromSnapshot)
}

enum Filled {
    Yes(Came),
    /// Why not, by peer.
    No(Vec<String>),
    /// It might be, but a snapshot is faster.
    Far,
}

/// Has the journal in `folder` reach the log.
async fn fill_journal<L: Log>(
    folder: &Folder,
    about: &Meta,
    shared: &L,
    peers: &[Peer],
    shelf: &Shelf,
    view_bytes: Option<u64>,
) -> Result<Filled, Error> {
    let journal = Arc::new(Journal::open(folder.log(), about, 0)?);
    shelf.put_journal(Arc::clone(&journal)).await;
    let filled = fill_from_any(&journal, shared, peers, view_bytes.map(far)).await;
    shelf.clear().await?;
    filled
}

/// With more to apply than this, in bytes of decompressed batches, a node whose view takes `view_bytes` is back sooner with a snapshot. By
/// what was measured: docs/performance.md.
fn far(view_bytes: u64) -> u64 {
    FAR_FROM_NOTHING.saturating_add(view_bytes / VIEW_TO_LOG)
}

fn bytes_in(folder: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    entries.into_iter().try_fold(0, |bytes, entry| {
        let entry = entry?;
        let about = entry.metadata()?;
        let more = if about.is_dir() { bytes_in(&entry.path())? } else { about.len() };
        Ok(bytes + more)
    })
}

/// What a node applies that has nothing, in the time that making, sending and loading a small snapshot takes.
const FAR_FROM_NOTHING: u64 = 8 << 20;
/// So many bytes of a view are copied and loaded in the time that one byte of batches takes to apply.
const VIEW_TO_LOG: u64 = 8;
/// What each batch costs beside its bytes, as bytes.
const EACH_BATCH: u64 = 256;
/// A node that has nothing reads so many batches from the log without asking anybody.
const FEW_BATCHES: u64 = 100;

/// Has the journal reach the log, with the help of any of the `peers` if it does not, and with no more than `most` to apply.
async fn fill_from_any<L: Log>(
    journal: &Journal,
    shared: &L,
    peers: &[Peer],
    most: Option<u64>,
) -> Result<Filled, Error> {
    let reached = reached(shared, journal).await?;
    // What the log holds is little for those who were here before; a whole log may be much.
    let whole = journal.last().ordinal == 0 && shared.last().await?.ordinal > FEW_BATCHES && most.is_some();
    if reached && !whole {
        return Ok(Filled::Yes(Came::FromLog));
    }
    let mut reasons = Vec::new();
    for peer in peers {
        match fill(journal, peer, shared, most).await {
            Ok(true) => return Ok(Filled::Yes(Came::FromJournal)),
            Ok(false) => return Ok(Filled::Far),
            Err(Failure::Peer(reason)) => reasons.push(reason.to_string()),
            Err(Failure::Own(error)) => return Err(error),
        }
    }
    Ok(if reached { Filled::Yes(Came::FromLog) } else { Filled::No(reasons) })
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

/// As [`start_over`], which is asked for again while a peer's refusal is one that passes: to apply all that is missing may take far longer.
async fn start_over_patiently<L: Log>(
    folder: &Folder,
    about: &Meta,
    shared: &L,
    peers: &[Peer],
) -> Result<Position, Error> {
    let until = Instant::now() + PASSES_WITHIN;
    loop {
        match start_over(folder, about, shared, peers, Vec::new()).await {
            Err(Error::NoPeer { reasons, passes: true }) if Instant::now() < until && !Bug::RefusalsLast.planted() => {
                tracing::info!(reasons = reasons.join("; "), "a snapshot will be given soon, and is asked for again");
                sleep(ASK_AGAIN).await;
            }
            came => return came,
        }
    }
}

/// A lender that was just started has compared its view by then: docs/decisions/cell-of-nodes.md.
const PASSES_WITHIN: Duration = Duration::from_secs(20);

/// Begins again with a snapshot of one of the `peers` and what their journals have behind it; gives where the snapshot stands. `reasons` says
/// why they could not help otherwise.
async fn start_over<L: Log>(
    folder: &Folder,
    about: &Meta,
    shared: &L,
    peers: &[Peer],
    mut reasons: Vec<String>,
) -> Result<Position, Error> {
    let mut passes = false;
    for (at, peer) in peers.iter().enumerate() {
        let position = match fetch(folder, about, shared, peer).await {
            Ok(position) => position,
            Err(Failure::Peer(reason)) => {
                passes |= matches!(reason, PeerError::NotYet { .. });
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
        match fill_from_any(&journal, shared, &peers, None).await? {
            Filled::Yes(_) => return Ok(position),
            Filled::Far => {}
            // Asked again, it goes on from the snapshot.
            Filled::No(more) => reasons.extend(more),
        }
        break;
    }
    Err(Error::NoPeer { reasons, passes })
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

/// Whether the log still has what follows the journal, which must be of this log.
async fn reached<L: Log>(shared: &L, journal: &Journal) -> Result<bool, Error> {
    let copied = core_position(journal.last());
    match joins(shared, journal).await? {
        Joins::Yes => Ok(true),
        Joins::Trimmed => Ok(false),
        Joins::Behind(last) => Err(Error::LogBehind { last: core_position(last), copied }),
        Joins::Differs => Err(Error::OtherHistory { at: copied, whose: "the log".to_owned() }),
    }
}

/// Copies what `peer` has behind the journal's end, which brings it to where the log still reaches, but no more than `most` to apply:
/// whether it is there. The batch at the end must be the same.
async fn fill<L: Log>(journal: &Journal, peer: &Peer, shared: &L, most: Option<u64>) -> Result<bool, Failure> {
    let (mut continuation, mut work) = (Continuation::of(journal).await?, 0u64);
    let asking = peer.in_time(peer.batches(core_position(continuation.from()))).await.flatten();
    let mut batches = asking.map_err(Failure::Peer)?;
    while let Some(entry) = peer.in_time(batches.next()).await.map_err(Failure::Peer)? {
        let entry = entry.map_err(Failure::Peer)?;
        if !continuation.fits(&entry) {
            let whose = format!("the node at {}", peer.address());
            return Err(Error::OtherHistory { at: core_position(journal.last()), whose }.into());
        }
        work = work.saturating_add(plain_length(&entry.bytes)).saturating_add(EACH_BATCH);
        if most.is_some_and(|most| work > most) {
            return Ok(false);
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
        return Ok(true);
    }
    let address = peer.address().to_owned();
    Err(Failure::Peer(PeerError::Trimmed { address, reason: "its journal ends too early".to_owned() }))
}

/// So often a node that has given a part of a snapshot is asked on at once and gives nothing, before it counts as gone.
const TRIES_IN_VAIN: u32 = 2;

/// The file that a snapshot arrives in. Its name tells which, so that a later try goes on with it.
const PART: &str = "part";

/// Copies a snapshot of `peer` into `data`, checks it, and gives its position.
async fn fetch<L: Log>(data: &Folder, about: &Meta, shared: &L, peer: &Peer) -> Result<Position, Failure> {
    let folder = &data.snapshots();
    fs::create_dir_all(folder).map_err(io_error("creating", folder))?;
    let mut arriving = part(folder)?;
    let (mut came, mut in_vain) = (false, 0);
    loop {
        let had = arriving.as_ref().map(|part| (part.at, part.length));
        let received = receive(folder, peer, &mut arriving).await;
        let Err(Failure::Peer(PeerError::Unreachable { .. })) = received else { break received? };
        // It broke off on the way. As long as more of the same comes, the same node is asked on; the first request after a break may find
        // the old connection.
        let more = |part: &Part| had.is_none_or(|(at, length)| part.at == at && part.length > length);
        if arriving.as_ref().is_some_and(more) {
            (came, in_vain) = (true, 0);
        } else if !came || in_vain == TRIES_IN_VAIN {
            break received?;
        } else {
            in_vain += 1;
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
    // Before anything can be made of it: what it says of the cell is its lender's word.
    data.mark_copied(at).map_err(io_error("marking as copied", data.root()))?;
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
    let mut pieces = peer.in_time(peer.snapshot(part)).await.flatten().map_err(Failure::Peer)?;
    let mut total = 0;
    while let Some(piece) = peer.in_time(pieces.next()).await.map_err(Failure::Peer)? {
        let piece = piece.map_err(|status| Failure::Peer(peer.error(&status)))?;
        if piece == Piece::default() {
            // It is being made.
            continue;
        }
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
