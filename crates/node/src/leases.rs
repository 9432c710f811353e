//! Snapshots that other nodes read: they are not deleted meanwhile, and the log behind them is kept.
//!
//! ```text
//!  snapshots/             two copies that this node would itself be rebuilt from
//!  snapshots/newcomers/   copies made for others, removed when nobody has read them for a while
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ieum_core::ids::Position;
use ieum_core::kv::Kv;
use ieum_planted::Bug;
use parking_lot::{Mutex, MutexGuard};

use crate::progress::{self, Step, Watch};
use crate::reserve::Reserve;
use crate::snapshot::{self, Error, GoesOn};

/// So long after its last reader a snapshot stays: who was cut off comes back to it, and needs the batches behind it when it has all.
const STAYS: Duration = Duration::from_secs(120);
/// How often who waits for another's snapshot looks whether that one comes on.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A snapshot is new enough for a newcomer with no more batches behind it than this.
const FEW_BATCHES: u64 = 20_000;

/// The snapshots of a node and who reads them.
#[derive(Debug)]
pub struct Leases {
    folder: PathBuf,
    /// Held by whoever makes a snapshot: a second one at the same time would take as much disk and processor again.
    making: Mutex<()>,
    /// Counts what is done of those that are made.
    made: AtomicU64,
    /// How many newcomers wait for the one that is made.
    waiting: AtomicUsize,
    /// Nothing is made for others any more.
    closed: AtomicBool,
    /// What a copy for another node must leave free.
    reserve: Arc<Reserve>,
    state: Mutex<State>,
    /// How long a copy is gone on with for a newcomer that has lost its connection.
    comes_back: Duration,
}

#[derive(Debug, Default)]
struct State {
    lent: BTreeMap<Position, Reading>,
    /// What stands before this is deleted, or about to be.
    floor: Position,
}

#[derive(Debug)]
struct Reading {
    readers: usize,
    /// When the last one came or left.
    last: Instant,
}

impl Reading {
    fn is_over(&self, now: Instant) -> bool {
        self.readers == 0 && now.saturating_duration_since(self.last) >= STAYS
    }
}

/// Another node that waits for a snapshot.
#[derive(Clone, Copy)]
pub struct Newcomer<'a> {
    /// Is told whenever that comes on.
    pub watch: Watch<'a>,
    /// Says whether it waits no more.
    pub gone: &'a (dyn Fn() -> bool + Sync),
}

impl Newcomer<'_> {
    /// One that waits for as long as it takes.
    #[must_use]
    pub fn patient() -> Self {
        Self { watch: progress::unwatched(), gone: &|| false }
    }

    fn is_gone(self) -> bool {
        (self.gone)()
    }
}

/// A snapshot that is being read. It stays for as long as this is kept, and a while longer.
#[derive(Debug)]
pub struct Lent {
    /// Where it stands.
    pub position: Position,
    /// Where it lies.
    pub path: PathBuf,
    leases: Option<Arc<Leases>>,
}

impl Lent {
    /// A file that nobody would delete.
    #[must_use]
    pub fn kept(position: Position, path: PathBuf) -> Self {
        Self { position, path, leases: None }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(leases) = &self.leases {
            let mut state = leases.state.lock();
            if let Some(reading) = state.lent.get_mut(&self.position) {
                reading.readers = reading.readers.saturating_sub(1);
                reading.last = Instant::now();
            }
        }
    }
}

/// Counts who waits for as long as it does.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn of(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Leases {
    /// Those in `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Arc<Self> {
        let folder = folder.into();
        let nothing = Reserve::new(&folder, 0);
        Self::beside(folder, Arc::new(nothing))
    }

    /// The same; copies for other nodes leave `reserve` free.
    #[must_use]
    pub fn beside(folder: impl Into<PathBuf>, reserve: Arc<Reserve>) -> Arc<Self> {
        Arc::new(Self::waiting(folder.into(), reserve, STAYS))
    }

    fn waiting(folder: PathBuf, reserve: Arc<Reserve>, comes_back: Duration) -> Self {
        let (making, closed) = (Mutex::new(()), AtomicBool::new(false));
        let (made, waiting) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self { folder, making, made, waiting, closed, reserve, comes_back, state: Mutex::default() }
    }

    /// From now on nothing is made for others, and what is being made is given up.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether a copy for another node may be made, or gone on with.
    fn goes_on(&self, is_gone: bool) -> Result<(), Error> {
        if self.closed.load(Ordering::Relaxed) && !Bug::CopyOutlivesNode.planted() {
            return Err(Error::Closed);
        }
        if is_gone {
            return Err(Error::NobodyWaits);
        }
        if self.reserve.has_room_for_copies() { Ok(()) } else { Err(Error::NoRoom { folder: self.newcomers() }) }
    }

    /// Something was done of a snapshot.
    pub(crate) fn comes_on(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits as [`Self::making`] does; the newcomer is told when the one that is being made comes on.
    fn making_watched(&self, newcomer: Newcomer<'_>) -> Result<MutexGuard<'_, ()>, Error> {
        let mut seen = self.made.load(Ordering::Relaxed);
        let _waits = Waits::of(&self.waiting);
        loop {
            if let Some(alone) = self.making.try_lock_for(LOOK_EVERY) {
                return Ok(alone);
            }
            self.goes_on(newcomer.is_gone())?;
            let made = self.made.load(Ordering::Relaxed);
            if std::mem::replace(&mut seen, made) != made {
                (newcomer.watch)(Step { what: "steps of another snapshot", done: made, of: None });
            }
        }
    }

    /// Where the node's own snapshots lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn newcomers(&self) -> PathBuf {
        self.folder.join("newcomers")
    }

    /// Waits until nobody else makes a snapshot, while it `goes_on`.
    pub(crate) fn making(&self, goes_on: GoesOn<'_>) -> Result<MutexGuard<'_, ()>, Error> {
        loop {
            let alone = self.making.try_lock_for(LOOK_EVERY);
            goes_on()?;
            if let Some(alone) = alone {
                return Ok(alone);
            }
        }
    }

    /// A snapshot for another node, at `asked` if that one is still there, else the newest one, else a new one of `view`. `log` gives where
    /// the log that goes with it was trimmed, and its end. Blocks, while a snapshot is made for long; the newcomer is told whenever that comes on. It ends
    /// when that one is gone, who would keep others from being given anything: at once while another one's is waited for, after a while in which nobody
    /// waits for it, when it is its own.
    pub fn lend(
        self: &Arc<Self>,
        view: &impl Kv,
        asked: Option<Position>,
        log: impl Fn() -> (Position, Position),
        newcomer: Newcomer<'_>,
    ) -> Result<Lent, Error> {
        if let Some(asked) = asked.filter(|asked| *asked >= log().0)
            && let Some(lent) = self.find(|at| at == asked)?
        {
            return Ok(lent);
        }
        let _alone = self.making_watched(newcomer)?;
        let (trimmed, last) = log();
        let serves = |at: Position| {
            let few = at.ordinal.saturating_add(FEW_BATCHES) >= last.ordinal;
            at.generation == last.generation && at >= trimmed && few
        };
        if let Some(lent) = self.find(serves)? {
            return Ok(lent);
        }
        let come_on = |step| {
            self.comes_on();
            (newcomer.watch)(step);
        };
        let left = Mutex::new(None);
        // Who has lost its connection comes back for what was made meanwhile, and others may wait for it by now.
        let goes_on = || {
            let waited_for = !newcomer.is_gone() || self.waiting.load(Ordering::Relaxed) > 0;
            let mut left = left.lock();
            let since = if waited_for { None } else { Some(left.unwrap_or_else(Instant::now)) };
            *left = since;
            drop(left);
            self.goes_on(since.is_some_and(|since| since.elapsed() >= self.comes_back))
        };
        let (meta, path) = snapshot::take_for_another(view, &self.newcomers(), &come_on, &goes_on)?;
        tracing::info!(position = %meta.position, "snapshot taken for another node");
        let taken = self.lent(meta.position, path, Instant::now());
        // Nothing newer can have become the floor: whoever trims makes a snapshot first.
        taken.ok_or_else(|| Error::Damaged { path: self.newcomers(), what: "it was deleted at once".to_owned() })
    }

    /// The newest snapshot that is wanted.
    fn find(self: &Arc<Self>, wanted: impl Fn(Position) -> bool) -> Result<Option<Lent>, Error> {
        let mut all = snapshot::list(&self.folder)?;
        all.extend(snapshot::list(&self.newcomers())?);
        all.sort();
        let now = Instant::now();
        let newest = all.into_iter().rev().filter(|(at, _)| wanted(*at));
        Ok(newest.filter_map(|(at, path)| self.lent(at, path, now)).next())
    }

    /// Lends what lies at `path`, if it is not about to be deleted.
    fn lent(self: &Arc<Self>, position: Position, path: PathBuf, now: Instant) -> Option<Lent> {
        let mut state = self.state.lock();
        if position < state.floor || !path.exists() {
            return None;
        }
        let reading = state.lent.entry(position).or_insert(Reading { readers: 0, last: now });
        reading.readers += 1;
        Some(Lent { position, path, leases: Some(Arc::clone(self)) })
    }

    /// Of what stands before the position that it gives, nothing is lent from here on: `older`, or what is being read if that is older still.
    pub(crate) fn raise_floor(&self, older: Position, now: Instant) -> Position {
        let mut state = self.state.lock();
        let oldest = state.lent.iter().find(|(_, reading)| !reading.is_over(now)).map(|(at, _)| *at);
        let floor = oldest.filter(|_| !Bug::LeaseIgnored.planted()).map_or(older, |oldest| oldest.min(older));
        state.floor = state.floor.max(floor);
        floor
    }

    /// Removes copies made for others that nobody reads any more.
    pub(crate) fn prune(&self, now: Instant) -> Result<(), Error> {
        let mut over = Vec::new();
        let mut state = self.state.lock();
        state.lent.retain(|at, reading| {
            let stays = !reading.is_over(now);
            if !stays {
                over.push(*at);
            }
            stays
        });
        if over.is_empty() {
            return Ok(());
        }
        // While nothing can be lent.
        let remove = |path: &Path| fs::remove_file(path).map_err(snapshot::io_error("removing", path));
        let newcomers = snapshot::list(&self.newcomers())?;
        newcomers.iter().filter(|(at, _)| over.contains(at)).try_for_each(|(_, path)| remove(path))
    }

    /// Removes what an earlier life of the process has left: whoever read it begins anew. Before anything is lent.
    pub fn sweep(&self) -> Result<(), Error> {
        match fs::remove_dir_all(self.newcomers()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(snapshot::io_error("removing", &self.newcomers())(error))
            }
            _ => snapshot::sweep(&self.folder, &[snapshot::PARTIAL]),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ieum_core::apply::position_alone;
    use ieum_core::tables::cell::Applied;
    use ieum_store::memory::Memory;

    use super::*;
    use crate::progress::unwatched;

    fn at(ordinal: u64) -> Position {
        Position::new(1, ordinal)
    }

    pub(crate) fn view(ordinal: u64) -> Memory {
        let view = Memory::default();
        view.commit(&position_alone(&Applied { position: at(ordinal), digest: [0; 32] })).unwrap();
        view
    }

    /// At 7, with so many rows that it is looked twice whether a copy of it may go on.
    pub(crate) fn view_of_two_looks() -> impl Kv {
        let view = view(7);
        let mut rows = ieum_core::kv::WriteSet::default();
        for row in 0..2 * crate::progress::EVERY {
            rows.rows.insert([&[0xfe][..], &row.to_be_bytes()].concat(), Some(bytes::Bytes::from_static(b"row")));
        }
        view.commit(&rows).unwrap();
        view
    }

    fn nothing_trimmed(last: u64) -> impl Fn() -> (Position, Position) {
        move || (at(0), at(last))
    }

    fn left(folder: &Path) -> Vec<u64> {
        snapshot::list(folder).unwrap().into_iter().map(|(at, _)| at.ordinal).collect()
    }

    #[test]
    fn a_newcomer_gets_one_that_is_new_enough_and_what_it_had_before() {
        let folder = tempfile::tempdir().unwrap();
        let leases = Leases::new(folder.path());
        let old = leases.lend(&view(7), None, nothing_trimmed(7), Newcomer::patient()).unwrap();
        assert_eq!(old.position, at(7));
        let same = leases.lend(&view(20_007), None, nothing_trimmed(20_007), Newcomer::patient()).unwrap();
        assert_eq!(same.position, at(7), "few batches follow it");
        let new = leases.lend(&view(20_008), None, nothing_trimmed(20_008), Newcomer::patient()).unwrap();
        assert_eq!(new.position, at(20_008));
        let again = leases.lend(&view(20_008), Some(at(7)), nothing_trimmed(20_008), Newcomer::patient()).unwrap();
        assert_eq!(again.position, at(7), "it was cut off and goes on with what it has");
        let gone = leases.lend(&view(20_009), Some(at(8)), nothing_trimmed(20_009), Newcomer::patient()).unwrap();
        assert_eq!(gone.position, at(20_008));
        let trimmed = leases.lend(&view(20_009), None, || (at(20_009), at(20_009)), Newcomer::patient()).unwrap();
        assert_eq!(trimmed.position, at(20_009), "the log behind the other is gone");
    }

    #[test]
    fn what_is_read_stays_and_is_removed_a_while_after() {
        let folder = tempfile::tempdir().unwrap();
        let leases = Leases::new(folder.path());
        let newcomers = leases.newcomers();
        let first = leases.lend(&view(7), None, nothing_trimmed(7), Newcomer::patient()).unwrap();
        let second = leases.lend(&view(7), Some(at(7)), nothing_trimmed(7), Newcomer::patient()).unwrap();
        let soon = Instant::now() + Duration::from_secs(60);
        let late = || Instant::now() + STAYS;
        drop(first);
        leases.prune(late()).unwrap();
        assert_eq!((left(&newcomers), leases.raise_floor(at(30), late())), (vec![7], at(7)), "one still reads");
        drop(second);
        leases.prune(soon).unwrap();
        assert_eq!((left(&newcomers), leases.raise_floor(at(30), soon)), (vec![7], at(7)), "it may come back");
        assert_eq!(leases.raise_floor(at(30), late()), at(30));
        let newer = leases.lend(&view(40), Some(at(7)), nothing_trimmed(40), Newcomer::patient()).unwrap();
        assert_eq!(newer.position, at(40), "what is about to go is not lent");
        leases.prune(late()).unwrap();
        assert_eq!(left(&newcomers), [40]);
    }

    /// A copy is large, and this node needs the room to go on itself.
    #[test]
    fn no_copy_is_made_of_what_is_kept_free() {
        let folder = tempfile::tempdir().unwrap();
        let leases = Leases::beside(folder.path(), Arc::new(Reserve::new(folder.path(), u64::MAX / 2)));
        let refused = leases.lend(&view(7), None, nothing_trimmed(7), Newcomer::patient());
        assert!(matches!(refused, Err(Error::NoRoom { .. })), "{refused:?}");
        assert_eq!(std::fs::read_dir(leases.newcomers()).map_or(0, Iterator::count), 0, "nothing is left of it");
        snapshot::take(&view(7), folder.path(), unwatched()).unwrap();
        let own = leases.lend(&view(7), None, nothing_trimmed(7), Newcomer::patient()).unwrap();
        assert_eq!(own.position, at(7), "what is there is given");
    }

    /// It would keep the view open.
    #[test]
    fn what_is_made_for_another_is_given_up_when_the_node_stops() {
        let folder = tempfile::tempdir().unwrap();
        let leases = Leases::new(folder.path());
        let view = view_of_two_looks();
        let steps = AtomicU64::new(0);
        // It stops while the snapshot is made.
        let watch = |_: Step| {
            leases.close();
            steps.fetch_add(1, Ordering::Relaxed);
        };
        let newcomer = Newcomer { watch: &watch, ..Newcomer::patient() };
        let refused = leases.lend(&view, None, nothing_trimmed(7), newcomer);
        assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
        assert_eq!(steps.into_inner(), 1, "it was on the way");
        assert_eq!(std::fs::read_dir(leases.newcomers()).unwrap().count(), 0);
    }

    /// Few rows may be much.
    #[test]
    fn it_is_looked_by_bytes_whether_a_copy_may_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let view = view(7);
        let mut rows = ieum_core::kv::WriteSet::default();
        for row in 0..5_u8 {
            rows.rows.insert(vec![0xfe, row], Some(bytes::Bytes::from(vec![row; 9 << 20])));
        }
        view.commit(&rows).unwrap();
        let asked = AtomicU64::new(0);
        let goes_on = || {
            asked.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        snapshot::take_for_another(&view, folder.path(), unwatched(), &goes_on).unwrap();
        assert_eq!(asked.into_inner(), 5, "at the beginning, and behind each large row but the last");
    }

    /// It has a place that others need.
    #[test]
    fn nothing_is_made_for_a_newcomer_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = Arc::new(Reserve::new(folder.path(), 0));
        let leases = Arc::new(Leases::waiting(folder.path().to_owned(), nothing, Duration::ZERO));
        let view = view_of_two_looks();
        let steps = AtomicU64::new(0);
        let watch = |_: Step| {
            steps.fetch_add(1, Ordering::Relaxed);
        };
        // It goes while the snapshot is made.
        let newcomer = Newcomer { watch: &watch, gone: &|| steps.load(Ordering::Relaxed) > 0 };
        let ended = leases.lend(&view, None, nothing_trimmed(7), newcomer);
        assert!(matches!(ended, Err(Error::NobodyWaits)), "{ended:?}");
        assert_eq!(steps.load(Ordering::Relaxed), 1, "it was on the way");
        let _alone = leases.making(snapshot::unasked()).unwrap();
        let ended = leases.lend(&view, None, nothing_trimmed(7), newcomer);
        assert!(matches!(ended, Err(Error::NobodyWaits)), "while it waited for another's: {ended:?}");
    }

    /// It lost its connection, and while the copy is made comes back, or another one does.
    #[test]
    fn a_copy_is_gone_on_with_while_anybody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = Arc::new(Reserve::new(folder.path(), 0));
        let leases = Arc::new(Leases::waiting(folder.path().to_owned(), nothing, Duration::ZERO));
        let view = view_of_two_looks();
        let gone = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (begun, begins) = std::sync::mpsc::channel();
            let begun = Mutex::new(begun);
            let (leases, view, gone) = (&leases, &view, &gone);
            let first = scope.spawn(move || {
                let watch = |_: Step| {
                    begun.lock().send(()).unwrap();
                    while leases.waiting.load(Ordering::Relaxed) == 0 {
                        std::thread::yield_now();
                    }
                    gone.store(true, Ordering::Relaxed);
                };
                let newcomer = Newcomer { watch: &watch, gone: &|| gone.load(Ordering::Relaxed) };
                leases.lend(view, None, nothing_trimmed(7), newcomer).map(|lent| lent.position)
            });
            begins.recv().unwrap();
            let second = leases.lend(view, None, nothing_trimmed(7), Newcomer::patient());
            assert_eq!(first.join().unwrap().unwrap(), at(7), "somebody waits for it");
            assert_eq!(second.unwrap().position, at(7));
        });
    }

    /// A connection breaks, and the newcomer comes back.
    #[test]
    fn what_was_made_is_there_for_a_newcomer_that_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let leases = Leases::new(folder.path());
        let view = view(7);
        let newcomer = Newcomer { watch: crate::progress::unwatched(), gone: &|| true };
        let made = leases.lend(&view, None, nothing_trimmed(7), newcomer).unwrap();
        let found = leases.lend(&view, Some(made.position), nothing_trimmed(7), Newcomer::patient()).unwrap();
        assert_eq!(found.path, made.path);
    }

    /// Who waits says so as long as what it waits for comes on.
    #[test]
    fn who_waits_for_anothers_snapshot_tells_that_it_comes_on() {
        let folder = tempfile::tempdir().unwrap();
        let leases = Leases::new(folder.path());
        let alone = leases.making(snapshot::unasked()).unwrap();
        let (told, tells) = std::sync::mpsc::channel();
        let told = Mutex::new(told);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let watch = |step: Step| told.lock().send(step.what).unwrap();
                let newcomer = Newcomer { watch: &watch, ..Newcomer::patient() };
                leases.lend(&view(7), None, nothing_trimmed(7), newcomer).unwrap()
            });
            while tells.try_recv().is_err() {
                leases.comes_on();
                std::thread::yield_now();
            }
            drop(alone);
            assert_eq!(waits.join().unwrap().position, at(7));
        });
    }

    #[test]
    fn an_earlier_life_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let leases = Leases::new(folder.path());
        drop(leases.lend(&view(7), None, nothing_trimmed(7), Newcomer::patient()).unwrap());
        std::fs::write(folder.path().join("0000000001-00000000000000000009.partial"), b"half").unwrap();
        snapshot::take(&view(6), folder.path(), crate::progress::unwatched()).unwrap();
        Leases::new(folder.path()).sweep().unwrap();
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, ["0000000001-00000000000000000006.snap"]);
    }
}
