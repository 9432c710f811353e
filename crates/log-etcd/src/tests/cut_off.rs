//! Members in namespaces of the network, one of which is cut off from the others and from the log's users while batches are appended. Needs root.

use ieum_drill::world::NAMES;
use ieum_drill::world::member::Member;
use ieum_drill::world::net::{self, Cut, Network, WORLD};
use ieum_log::conformance::within_a_minute;

use super::*;

/// Three members, each in a data center of its own.
struct Apart {
    members: Vec<Member>,
    _folder: tempfile::TempDir,
}

impl Apart {
    /// Starts them. From now on this thread is in the namespace of the log's users.
    fn start() -> Self {
        net::have_own_mounts().unwrap();
        net::build(&NAMES, &[Network::Between]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let member = |(at, name): (usize, &&str)| {
            let outside = folder.path().join(name);
            std::fs::create_dir(&outside).unwrap();
            Member::new(name, at, &outside, outside.join("data"))
        };
        let mut members: Vec<Member> = NAMES.iter().enumerate().map(member).collect();
        let cluster: Vec<String> =
            members.iter().map(|member| format!("{}={}", member.name, member.peer_url())).collect();
        for member in &mut members {
            member.spawn(&cluster.join(","), "new").unwrap();
        }
        net::enter(WORLD).unwrap();
        Self { members, _folder: folder }
    }

    fn options(&self) -> Options {
        let endpoints = self.members.iter().map(|member| member.endpoint().parse().unwrap()).collect();
        Options { create: true, patience: PATIENCE, ..Options::new(CELL, endpoints) }
    }

    fn leader(&self) -> String {
        let leads = |member: &&Member| member.status().is_ok_and(|status| status.leads);
        // Asked a few times: they may just be electing one.
        let found = (0..100).find_map(|_| self.members.iter().find(leads));
        found.expect("a leader").name.clone()
    }
}

/// Plays on a thread that has its own namespaces, and ends with it.
fn apart(play: impl AsyncFnOnce(&Apart) + Send + 'static) {
    let played = std::thread::spawn(move || {
        let cluster = Apart::start();
        // The thread's own: a socket belongs to the namespace of the thread that makes it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(within_a_minute(play(&cluster)));
    });
    played.join().unwrap();
}

/// Cuts off whom `choose` names, again and again, while batches are appended.
fn cut_off_during_appends(choose: fn(&Apart) -> String) {
    apart(async move |cluster| {
        let log = Etcd::open(cluster.options()).await.unwrap();
        let mut writer = Writer::new(&log, 1).await;
        let mut tail = log.tail(START).await.unwrap();
        let mut appended = writer.append_some(&log, 10).await;
        for cut in [Cut::BothWays, Cut::Deaf, Cut::Mute] {
            let name = choose(cluster);
            net::cut(&name, cut).unwrap();
            appended.extend(writer.append_some(&log, 20).await);
            net::heal(&name).unwrap();
            appended.extend(writer.append_some(&log, 5).await);
        }
        for (entry, ordinal) in appended.iter().zip(1..) {
            assert_eq!(entry.position.ordinal, ordinal);
        }
        assert_eq!(read(&mut tail, appended.len()).await, appended);
        assert_eq!(read(&mut log.tail(START).await.unwrap(), appended.len()).await, appended);
        assert_eq!(log.last().await.unwrap().ordinal, appended.len() as u64);
    });
}

#[test]
fn the_leader_is_cut_off_both_ways_and_each_way() {
    cut_off_during_appends(Apart::leader);
}

#[test]
fn the_member_that_is_watched_is_cut_off_both_ways_and_each_way() {
    // Tails begin at the first member.
    cut_off_during_appends(|_| NAMES[0].to_owned());
}
