//! What a cut cuts, seen by datagrams between the namespaces. Needs root; without it these tests fail and say so.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use ieum_drill::world::NAMES;
use ieum_drill::world::net::{self, Cut, Network, WORLD};
use ieum_drill::world::relay::Relay;
use nix::sched::{CloneFlags, CpuSet, sched_getcpu, sched_setaffinity, setns};
use nix::unistd::Pid;

/// How often a datagram that must come is sent, and how long it is waited for between.
const TIMES: u32 = 2_000;
const MOMENT: Duration = Duration::from_millis(10);

/// A socket in a namespace. It stays there whatever thread uses it.
fn socket((namespace, address): &(String, Ipv4Addr), port: u16) -> UdpSocket {
    let file = File::open(format!("/run/netns/{namespace}")).expect("open the namespace");
    std::thread::scope(|scope| {
        let made = scope.spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            let socket = UdpSocket::bind((*address, port)).expect("bind");
            socket.set_read_timeout(Some(MOMENT)).expect("set a time-out");
            socket
        });
        made.join().expect("make a socket")
    })
}

/// Two places that talk over one of the networks.
struct Pair {
    one: (String, Ipv4Addr),
    other: (String, Ipv4Addr),
}

impl Pair {
    /// Sends in both directions while `harm` is done and again after it is undone; whether what was sent meanwhile came, there and back.
    fn heard(&self, harm: impl FnOnce(), undo: impl FnOnce()) -> (bool, bool) {
        // A wire that was only just plugged in takes a moment.
        witness(&self.one, &self.other);
        witness(&self.other, &self.one);
        let port = port();
        let (one, other) = (socket(&self.one, port), socket(&self.other, port));
        let ways = [(&one, &other), (&other, &one)];
        let send = |(from, to): (&UdpSocket, &UdpSocket), text: &[u8]| {
            // While a wire is out the kernel may say so: that is not heard either.
            let _ = from.send_to(text, to.local_addr().expect("an address"));
        };
        harm();
        ways.iter().for_each(|way| send(*way, b"during"));
        // When this has come, what was sent before has come or is gone: the kernel takes what one processor sends in order, and this goes as
        // far, to where no harm is done.
        let aside = |name: &str, at: usize| (net::namespace(name), Network::Users.address(at));
        witness(&aside("b", 1), &aside("c", 2));
        undo();
        let [there, back] = ways.map(|way| {
            let mut text = [0; 16];
            // Datagrams keep their order: what was sent meanwhile is the first to come, or never comes.
            let first = (0..TIMES).find_map(|_| {
                send(way, b"after");
                way.1.recv_from(&mut text).ok()
            });
            let (len, _) = first.expect("a datagram after the end of the harm");
            text.get(..len) == Some(b"during")
        });
        (there, back)
    }
}

/// A port that was never used before: what came late is not heard by others, and a command that another test starts just now may still hold a
/// socket that is closed here, until it becomes the command.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(4000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Returns when something that was sent now has come.
fn witness(one: &(String, Ipv4Addr), other: &(String, Ipv4Addr)) {
    let port = port();
    let (from, to) = (socket(one, port), socket(other, port));
    let told = (0..TIMES).any(|_| {
        from.send_to(b"witness", (other.1, port)).expect("send");
        to.recv(&mut [0; 16]).is_ok()
    });
    assert!(told, "the witness did not arrive");
}

/// The thread sees mounts of its own from now on, and so do the commands that it runs.
fn alone(networks: &[Network]) {
    net::have_own_mounts().expect("have mounts of its own");
    let mut processor = CpuSet::new();
    processor.set(sched_getcpu().expect("find the processor")).expect("name it");
    sched_setaffinity(Pid::from_raw(0), &processor).expect("stay there, see `witness`");
    net::build(&NAMES, networks).expect("make namespaces");
}

#[test]
fn a_data_center_is_cut_off_from_the_others_and_not_from_its_users_and_dark_for_everybody() {
    alone(&Network::BOTH);
    let inside = |at: usize, network: Network| (net::namespace(NAMES.get(at).expect("a name")), network.address(at));
    let others = Pair { one: inside(0, Network::Between), other: inside(1, Network::Between) };
    let aside = Pair { one: inside(1, Network::Between), other: inside(2, Network::Between) };
    let users = Pair { one: inside(0, Network::Users), other: (WORLD.to_owned(), Ipv4Addr::new(10, 77, 0, 254)) };
    let nothing = || {};
    assert_eq!(others.heard(nothing, nothing), (true, true));
    let cut = |how| move || net::cut("a", how).expect("cut");
    let heal = || net::heal("a").expect("heal");
    // One is in a: what it says is heard there when it is only deaf.
    assert_eq!(others.heard(cut(Cut::Deaf), heal), (true, false));
    assert_eq!(others.heard(cut(Cut::Mute), heal), (false, true));
    assert_eq!(others.heard(cut(Cut::BothWays), heal), (false, false));
    assert_eq!(aside.heard(cut(Cut::BothWays), heal), (true, true));
    assert_eq!(users.heard(cut(Cut::BothWays), heal), (true, true));

    let pull = || net::plug("a", false).expect("pull out");
    let put = || net::plug("a", true).expect("put back");
    assert_eq!(others.heard(pull, put), (false, false));
    assert_eq!(users.heard(pull, put), (false, false));
    assert_eq!(aside.heard(pull, put), (true, true));
}

#[test]
fn a_slow_network_carries_what_it_does_not_lose() {
    alone(&[Network::Users]);
    let relay = Relay::start(&NAMES).expect("start the relay");
    let inside = |at: usize| (net::namespace(NAMES.get(at).expect("a name")), Network::Between.address(at));
    let others = Pair { one: inside(0), other: inside(2) };
    assert_eq!(others.heard(|| (), || ()), (true, true));
    assert_eq!(others.heard(|| relay.set(20, 0), || relay.set(0, 0)), (true, true));
    let both_lost = || {
        // The relay takes what a place sends in order, and loses nothing on the operator's wire.
        let operator = (WORLD.to_owned(), Ipv4Addr::new(10, 78, 0, 254));
        for from in [0, 2] {
            witness(&inside(from), &operator);
        }
        relay.set(0, 0);
    };
    assert_eq!(others.heard(|| relay.set(0, 100), both_lost), (false, false));
}
