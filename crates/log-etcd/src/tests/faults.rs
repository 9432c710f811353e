//! Members that are killed, frozen, wiped; watches that leave out or hang; nodes that are removed: nothing is lost, repeated or reordered.

use std::future::Future;

use ieum_drill::etcd::Etcd as Members;
use ieum_log::Tail as _;
use ieum_log::conformance::within_a_minute;

use super::*;

/// A cluster of its own, a log in it, a writer and a tail from the beginning.
struct Scene {
    members: Members,
    log: Etcd,
    writer: Writer,
    tail: Tail,
    appended: Vec<Entry>,
}

impl Scene {
    async fn new() -> Self {
        let members = Members::start(3).unwrap();
        let log = Etcd::open(options(&members)).await.unwrap();
        let writer = Writer::new(&log, 1).await;
        let tail = log.tail(START).await.unwrap();
        Self { members, log, writer, tail, appended: Vec::new() }
    }

    async fn append_some(&mut self, count: usize) {
        let entries = self.writer.append_some(&self.log, count).await;
        self.appended.extend(entries);
    }

    /// What was appended has dense ordinals, and the tail that was there all along and a new one both show exactly that.
    async fn check(&mut self) {
        for (entry, ordinal) in self.appended.iter().zip(1..) {
            assert_eq!(entry.position.ordinal, ordinal);
        }
        let count = self.appended.len();
        assert_eq!(read(&mut self.tail, count).await, self.appended);
        assert_eq!(read(&mut self.log.tail(START).await.unwrap(), count).await, self.appended);
        assert_eq!(self.log.last().await.unwrap().ordinal, count as u64);
    }
}

async fn scene<F: Future<Output = Scene>>(play: impl FnOnce(Scene) -> F) {
    within_a_minute(async {
        let mut scene = play(Scene::new().await).await;
        scene.check().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_and_comes_back() {
    scene(async |mut scene| {
        scene.append_some(30).await;
        let leader = scene.members.leader().unwrap();
        scene.members.kill(leader).unwrap();
        scene.append_some(30).await;
        scene.members.restart(leader).unwrap();
        scene.append_some(30).await;
        scene
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_frozen_and_thaws() {
    scene(async |mut scene| {
        scene.append_some(30).await;
        let leader = scene.members.leader().unwrap();
        scene.members.freeze(leader).unwrap();
        scene.append_some(30).await;
        scene.members.thaw(leader).unwrap();
        scene.append_some(30).await;
        scene
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_member_that_is_watched_is_frozen() {
    scene(async |mut scene| {
        scene.append_some(5).await;
        let shown = read(&mut scene.tail, 5).await;
        assert_eq!(shown, scene.appended);
        // Tails begin at the first member.
        scene.members.freeze(0).unwrap();
        scene.append_some(5).await;
        assert_eq!(read(&mut scene.tail, 5).await, scene.appended[5..]);
        scene.tail = scene.log.tail(START).await.unwrap();
        scene
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_wiped_and_rejoins() {
    scene(async |mut scene| {
        scene.append_some(20).await;
        scene.members.kill(0).unwrap();
        scene.append_some(20).await;
        scene.members.replace(0).unwrap();
        scene.append_some(20).await;
        // Without another one, the new member has to carry its part.
        scene.members.wait_until_it_serves(0).unwrap();
        scene.members.kill(1).unwrap();
        scene.append_some(20).await;
        scene
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_dark_and_comes_back() {
    scene(async |mut scene| {
        scene.append_some(20).await;
        for member in 0..3 {
            scene.members.kill(member).unwrap();
        }
        let (id, bytes) = scene.writer.batch();
        let mut appending = Box::pin(scene.log.append(id, bytes.clone()));
        assert!(is_pending(&mut appending).await, "nobody is there to take it");
        for member in 0..3 {
            scene.members.restart(member).unwrap();
        }
        let position = appending.await.unwrap();
        scene.appended.push(Entry { position, id, bytes });
        scene.append_some(20).await;
        scene
    })
    .await;
}

/// Polls a future once; true: it is still pending.
async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending()))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_appended_until_there_is_one() {
    scene(async |mut scene| {
        scene.append_some(5).await;
        scene.members.kill(1).unwrap();
        scene.members.kill(2).unwrap();
        let short = Options { patience: Duration::from_millis(300), create: false, ..options(&scene.members) };
        let (id, bytes) = scene.writer.batch();
        {
            // Nobody shows the log, and the error names each member.
            let error = Etcd::open(short).await.unwrap_err();
            let told = crate::error::chain(&error);
            assert!(scene.members.endpoints().iter().all(|url| told.contains(url.as_str())), "{told}");
        }
        let mut appending = Box::pin(scene.log.append(id, bytes.clone()));
        assert!(is_pending(&mut appending).await);
        scene.members.restart(2).unwrap();
        let position = appending.await.unwrap();
        scene.appended.push(Entry { position, id, bytes });
        scene.append_some(5).await;
        scene
    })
    .await;
}

/// What a watch leaves out, alone and in runs, at its beginning and its end, is read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_skips_silently_is_caught() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let log = harness.open().await;
        let mut writer = Writer::new(&log, 1).await;
        let mut tail = log.tail(START).await.unwrap();
        let mut seen = 0;
        log.inner.tamper.set(move |mut answer| {
            answer.events.retain(|_| {
                seen += 1;
                seen % 7 != 0 && seen % 23 > 4
            });
            answer
        });
        for _ in 0..5 {
            let appended = writer.append_some(&log, 40).await;
            assert_eq!(read(&mut tail, 40).await, appended);
        }
        assert!(log.gaps() > 0);
    })
    .await;
}

/// A watch that shows nothing at all any more is left for another one, which takes no longer than its rule says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_hangs_is_left() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let log = harness.open().await;
        let mut writer = Writer::new(&log, 1).await;
        let mut tail = log.tail(START).await.unwrap();
        let appended = writer.append_some(&log, 3).await;
        assert_eq!(read(&mut tail, 3).await, appended);
        log.inner.tamper.set(|mut answer| {
            answer.events.clear();
            answer
        });
        let appended = writer.append_some(&log, 3).await;
        assert_eq!(read(&mut tail, 3).await, appended);
        assert_eq!(log.gaps(), 0, "nothing told that it skipped");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_removed_is_fenced_off() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let log = harness.open().await;
        let (mut one, mut other) = (Writer::new(&log, 1).await, Writer::new(&log, 2).await);
        let before = one.append(&log).await;
        log.remove(1).await.unwrap();
        log.remove(1).await.unwrap();
        let (id, bytes) = one.batch();
        assert!(matches!(log.append(id, bytes.clone()).await, Err(Error::Fenced { id: told }) if told == id));
        // What it has appended stays, and is still told where it stands.
        assert_eq!(log.append(before.id, before.bytes.clone()).await.unwrap(), before.position);
        let after = other.append(&log).await;
        assert_eq!(after.position.ordinal, 2);
        // Nor does one append that never did before.
        let mut idle = Writer::new(&log, 3).await;
        log.remove(3).await.unwrap();
        let (first, first_bytes) = idle.batch();
        assert!(matches!(log.append(first, first_bytes).await, Err(Error::Fenced { .. })));
        let mut again = Writer::new(&log, 1).await;
        assert!(again.id.incarnation > id.incarnation);
        assert_eq!(again.append(&log).await.position.ordinal, 3);
        assert!(matches!(log.append(id, bytes).await, Err(Error::Fenced { .. })));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_life_fences_off_the_earlier() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let log = harness.open().await;
        let mut first = Writer::new(&log, 1).await;
        first.append(&log).await;
        let mut second = Writer::new(&log, 1).await;
        let (id, bytes) = first.batch();
        assert!(matches!(log.append(id, bytes).await, Err(Error::Fenced { .. })));
        assert_eq!(second.append(&log).await.position.ordinal, 2);
    })
    .await;
}

/// The batch's key is gone with the trim, and still it is not appended a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_was_trimmed_is_not_appended_again() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let log = harness.open().await;
        let mut writer = Writer::new(&log, 1).await;
        let entries = writer.append_some(&log, 3).await;
        log.trim(entries[2].position).await.unwrap();
        for entry in &entries {
            assert!(matches!(log.append(entry.id, entry.bytes.clone()).await, Err(Error::Conflict { .. })));
        }
        assert_eq!(writer.append(&log).await.position.ordinal, 4);
    })
    .await;
}

/// More than one transaction can remove, by two nodes at once, and readers that are near the end go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_trim_at_once() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let (log, other) = (harness.open().await, harness.open().await);
        let mut writer = Writer::new(&log, 1).await;
        let mut entries = writer.append_some(&log, 350).await;
        let mut tail = log.tail(entries[319].position).await.unwrap();
        let (one, two) = tokio::join!(log.trim(entries[319].position), other.trim(entries[299].position));
        one.unwrap();
        two.unwrap();
        entries.extend(writer.append_some(&log, 10).await);
        assert_eq!(read(&mut tail, 40).await, entries[320..]);
        assert!(matches!(other.tail(entries[318].position).await, Err(Error::Trimmed { .. })));
        assert_eq!(read(&mut other.tail(entries[319].position).await.unwrap(), 40).await, entries[320..]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tails_of_a_closed_log_say_so() {
    within_a_minute(async {
        let harness = InEtcd::new().await;
        let log = harness.open().await;
        let mut tail = log.tail(START).await.unwrap();
        drop(log);
        for _ in 0..2 {
            assert!(matches!(tail.next().await, Err(Error::Closed)));
        }
    })
    .await;
}
