//! What goes on beside the messages: persisting the view, taking snapshots, trimming the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ieum_core::apply;
use ieum_core::ids::Position;
use ieum_core::kv::Kv;
use ieum_log::{Log, Room};
use ieum_planted::Bug;
use tokio::runtime::Handle as Runtime;
use tokio::sync::watch;

use crate::leases::Leases;
use crate::service::{PERSIST_COMMANDS, Shared};
use crate::snapshot::{GoesOn, Meta};
use crate::{chain, log_position, progress, snapshot};

/// How often upkeep looks what there is to do.
const ROUND: Duration = Duration::from_millis(200);
/// How long a commit may stay unpersisted.
const PERSIST_EVERY: Duration = Duration::from_secs(1);
/// How long after a snapshot that failed the next one is tried.
const RETRY_AFTER: Duration = Duration::from_secs(10 * 60);
/// How long after its start a node without any snapshot takes one.
const FIRST_AFTER: Duration = Duration::from_secs(60 * 60);
/// How many snapshots are kept.
const KEPT: usize = 2;

/// When a snapshot is taken: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// After so many bytes of log.
    pub log_bytes: u64,
    /// After so many commands.
    pub commands: u64,
    /// After so long, if anything was logged.
    pub every: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { log_bytes: 4 << 30, commands: 50_000_000, every: Duration::from_secs(24 * 60 * 60) }
    }
}

pub(crate) fn run<L: Log, K: Kv, T: Send + 'static>(
    log: &Arc<L>,
    shared: &Arc<Shared<K, T>>,
    leases: &Arc<Leases>,
    policy: Policy,
    mut stop: watch::Receiver<bool>,
    runtime: &Runtime,
) {
    let mut persisted = Instant::now();
    // None: never.
    let generation = apply::applied(&shared.view.snapshot()).map_or(0, |applied| applied.position.generation);
    let mut due_at = Instant::now().checked_add(first_due(leases.folder(), policy, generation));
    let mut snapshot: Option<JoinHandle<bool>> = None;
    loop {
        let stopping =
            runtime.block_on(async { tokio::time::timeout(ROUND, stop.wait_for(|stop| *stop)).await.is_ok() });
        if stopping {
            break;
        }
        shared.reserve.look();
        look_at_room(shared, log.room());
        let unpersisted = shared.progress.lock().unpersisted;
        if unpersisted >= PERSIST_COMMANDS || (unpersisted > 0 && persisted.elapsed() >= PERSIST_EVERY) {
            match runtime.block_on(log.flush()) {
                Ok(()) => {
                    shared.progress.lock().unpersisted = 0;
                    if let Err(error) = shared.view.persist() {
                        return shared.fail(chain(&error));
                    }
                }
                // The view stays where it was, so that it does not come to stand beyond the journal; there may be room later.
                Err(ieum_log::Error::Full) => {}
                Err(error) => return shared.fail(chain(&error)),
            }
            persisted = Instant::now();
        }
        if let Err(error) = leases.prune(Instant::now()) {
            tracing::warn!(error = chain(&error), "a snapshot made for another node was not removed");
        }
        if let Some(done) = snapshot.take_if(|s| s.is_finished()) {
            // One that failed or panicked has said so; the log is kept until one succeeds.
            let taken = done.join().unwrap_or(false);
            let wait = if taken { policy.every } else { policy.every.min(RETRY_AFTER) };
            due_at = Instant::now().checked_add(wait);
        }
        let progress = *shared.progress.lock();
        let due = progress.log_bytes >= policy.log_bytes
            || progress.commands >= policy.commands
            || (progress.commands > 0 && due_at.is_some_and(|at| Instant::now() >= at));
        if due && snapshot.is_none() {
            let mut progress = shared.progress.lock();
            (progress.log_bytes, progress.commands) = (0, 0);
            drop(progress);
            let made = Snapshot { log: Arc::clone(log), shared: Arc::clone(shared), leases: Arc::clone(leases) };
            snapshot = made.start(stop.clone(), runtime.clone());
        }
    }
    if let Some(running) = snapshot {
        let _ = running.join();
    }
}

/// Takes less while the log's room runs out.
pub(crate) fn look_at_room<K, T>(shared: &Shared<K, T>, room: Option<Room>) {
    let mut batcher = shared.batcher.lock();
    let (changed, slowed) = (batcher.set_room(room), batcher.is_slowed());
    drop(batcher);
    let (used_mib, room_mib) = room.map_or((0, 0), |room| (room.used >> 20, room.most >> 20));
    match (changed, slowed) {
        (true, true) => tracing::error!(
            used_mib,
            room_mib,
            "alarm: half of the log's room is used, so that fewer and fewer commands are taken; see why the log is not trimmed"
        ),
        (true, false) => tracing::info!(used_mib, room_mib, "there is room in the log again: all commands are taken"),
        (false, _) => {}
    }
}

/// How long after a start the first snapshot is due: as if the node had not been stopped meanwhile.
fn first_due(folder: &Path, policy: Policy, generation: u32) -> Duration {
    let newest = snapshot::list(folder).ok().and_then(|mut all| all.pop());
    // One of an earlier generation fits the log no more: if the view is damaged now, there is nothing to rebuild it from.
    if generation > 1 && newest.as_ref().is_none_or(|(position, _)| position.generation < generation) {
        return Duration::ZERO;
    }
    let taken = newest.and_then(|(_, path)| std::fs::metadata(path).ok()?.modified().ok()?.elapsed().ok());
    // A cell without one is new, or has never run for long enough; it should not wait for a day.
    taken.map_or(policy.every.min(FIRST_AFTER), |age| policy.every.saturating_sub(age))
}

/// What a snapshot is made of, and by whom.
struct Snapshot<L, K, T> {
    log: Arc<L>,
    shared: Arc<Shared<K, T>>,
    leases: Arc<Leases>,
}

impl<L: Log, K: Kv, T: Send + 'static> Snapshot<L, K, T> {
    /// Takes it on a thread of its own, which tells whether it was taken. It ends when the node stops, which waits for it.
    fn start(self, stop: watch::Receiver<bool>, runtime: Runtime) -> Option<JoinHandle<bool>> {
        let work = move || {
            progress::step_back();
            self.take(&|| if *stop.borrow() { Err(snapshot::Error::Closed) } else { Ok(()) }, &runtime)
        };
        let spawned = std::thread::Builder::new().name("ieum-snapshot".to_owned()).spawn(work);
        spawned.map_err(|error| tracing::error!(%error, "no thread for a snapshot")).ok()
    }

    /// Takes it and trims the log behind the older of two.
    fn take(&self, goes_on: GoesOn<'_>, runtime: &Runtime) -> bool {
        let Self { log, shared, leases } = self;
        match take_alone(shared.view.as_ref(), leases, goes_on) {
            Ok((meta, path)) => {
                tracing::info!(position = %meta.position, path = %path.display(), "snapshot taken");
                shared.alarms.lock().snapshots += 1;
            }
            Err(snapshot::Error::Closed) => {
                tracing::info!("no snapshot was taken, because the node stops; the log is kept");
                return false;
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "no snapshot was taken; the log is kept");
                shared.alarms.lock().snapshot_failures += 1;
                return false;
            }
        }
        match runtime.block_on(trim_while(log.as_ref(), leases, goes_on)) {
            Err(error) if error.downcast_ref().is_some_and(|e| matches!(e, snapshot::Error::Closed)) => {
                tracing::info!("the log was not trimmed, because the node stops");
            }
            Err(error) => tracing::error!(error = chain(error.as_ref()), "the log was not trimmed"),
            Ok(()) => {}
        }
        true
    }
}

/// Takes a snapshot when nobody else makes one.
fn take_alone(view: &impl Kv, leases: &Leases, goes_on: GoesOn<'_>) -> Result<(Meta, PathBuf), snapshot::Error> {
    let _alone = leases.making(goes_on)?;
    snapshot::take_while(view, leases.folder(), &|_| leases.comes_on(), goes_on)
}

type TrimError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps the two newest snapshots that can be read whole and those that others are reading, and the log from the oldest of them on.
pub async fn trim<L: Log>(log: &L, leases: &Leases) -> Result<(), TrimError> {
    trim_while(log, leases, snapshot::unasked()).await
}

/// The same, while it `goes_on`.
async fn trim_while<L: Log>(log: &L, leases: &Leases, goes_on: GoesOn<'_>) -> Result<(), TrimError> {
    let mut all = snapshot::list(leases.folder())?;
    let Some((older, kept)) = keeps(&mut all) else { return Ok(()) };
    for (_, path) in &kept {
        snapshot::check_while(path, None, progress::unwatched(), goes_on)?;
    }
    let floor = leases.raise_floor(older, Instant::now());
    let last = log.last().await?;
    if floor.generation == last.generation {
        log.trim(log_position(floor)).await?;
    }
    for (_, path) in all.iter().filter(|(at, _)| *at < floor) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Takes the snapshots that stay out of `all`, oldest first, and gives them with the place up to which the log may be trimmed once they were
/// read whole. None while there are too few.
pub fn keeps<S>(all: &mut Vec<(Position, S)>) -> Option<(Position, Vec<(Position, S)>)> {
    let kept = all.split_off(all.len().checked_sub(KEPT)?);
    let older = if Bug::TrimPastOlderSnapshot.planted() { kept.last() } else { kept.first() };
    older.map(|(at, _)| *at).map(|older| (older, kept))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::leases::tests::{view, view_of_two_looks};
    use crate::progress::unwatched;

    /// Says so often that it goes on, then that the node stops.
    fn times(times: u64) -> impl Fn() -> Result<(), snapshot::Error> {
        let asked = AtomicU64::new(0);
        move || if asked.fetch_add(1, Ordering::Relaxed) < times { Ok(()) } else { Err(snapshot::Error::Closed) }
    }

    #[test]
    fn a_snapshot_ends_with_its_node_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let leases = Leases::new(folder.path());
        let view = view_of_two_looks();
        // Behind the wait for others; while it is written, three times; while it is read back, three times.
        for asked in 0..7 {
            let ended = take_alone(&view, &leases, &times(asked));
            assert!(matches!(ended, Err(snapshot::Error::Closed)), "{asked}: {ended:?}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{asked}: nothing is left of it");
        }
        take_alone(&view, &leases, &times(7)).unwrap();
        assert_eq!(snapshot::list(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_snapshot_in_memory_is_what_the_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        let (_, path) = snapshot::take(&view(7), folder.path(), unwatched()).unwrap();
        let bytes = snapshot::bytes_of(&view(7)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(snapshot::check_bytes(&bytes).unwrap(), snapshot::check(&path).unwrap());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(snapshot::check_bytes(&damaged).is_err(), "bit flipped in byte {at}");
        }
    }

    #[test]
    fn the_log_is_kept_from_the_older_of_two_snapshots_on() {
        let at = |ordinal| (Position::new(1, ordinal), ordinal);
        assert_eq!(keeps(&mut vec![at(3)]), None);
        let mut all = vec![at(3), at(5), at(9)];
        assert_eq!(keeps(&mut all), Some((Position::new(1, 5), vec![at(5), at(9)])));
        assert_eq!(all, [at(3)]);
    }

    /// Two snapshots are read for it.
    #[tokio::test]
    async fn trimming_ends_with_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let leases = Leases::new(folder.path());
        for at in [7, 8] {
            snapshot::take(&view(at), folder.path(), unwatched()).unwrap();
        }
        let log = ieum_log::memory::Memory::new(1);
        for asked in 0..2 {
            let ended = trim_while(&log, &leases, &times(asked)).await.unwrap_err();
            assert!(matches!(ended.downcast_ref(), Some(snapshot::Error::Closed)), "{asked}: {ended}");
        }
    }
}
