#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what fails here fails the test")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::Poll;

use parking_lot::Condvar;
use tokio::net::TcpListener;

use super::*;
use crate::ask::MOST;

/// Longer than any test.
const PATIENT: Duration = Duration::from_secs(3_600);

fn addresses(of: &[&str]) -> Vec<SocketAddr> {
    of.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect()
}

fn fails() -> io::Result<Vec<SocketAddr>> {
    Err(io::Error::other("no server could be reached"))
}

/// Names whose look-ups find one after the other what `found` says, and after that fail.
fn finding(found: Vec<io::Result<Vec<SocketAddr>>>, patience: Duration) -> Names {
    let found = Mutex::new(found.into_iter());
    Names::new(Box::new(move |_| found.lock().next().unwrap_or_else(fails)), patience)
}

/// What look-ups wait for.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn pass(&self) {
        self.1.wait_while(&mut self.0.lock(), |open| !*open);
    }

    fn open(&self) {
        *self.0.lock() = true;
        self.1.notify_all();
    }
}

/// Whether it still waits after a look.
async fn waits<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

/// The resolver hangs until other work has run, for which the runtime has a single thread.
#[test]
fn other_blocking_work_goes_on_while_the_resolver_hangs() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
    let (worked, work) = mpsc::channel();
    let (began, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let work = Mutex::new(work);
    let lookup = move |_: &str| {
        began.send(()).unwrap();
        // Waits for long only where it has the thread that the work needs.
        work.lock().recv_timeout(Duration::from_secs(10)).map_err(io::Error::other)?;
        Ok(addresses(&["10.0.0.1"]))
    };
    let names = Names::new(Box::new(lookup), PATIENT);
    let found = runtime.block_on(async {
        let looking = tokio::spawn(async move { names.addresses("a.example").await });
        begins.recv().await.unwrap();
        let working = tokio::task::spawn_blocking(move || worked.send(()));
        let found = looking.await.unwrap();
        drop(working.await);
        found
    });
    assert_eq!(found.unwrap()[..], addresses(&["10.0.0.1"]));
}

#[tokio::test]
async fn a_name_is_looked_up_once_at_a_time_whoever_asks() {
    let (gate, asked) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)));
    let names = {
        let (gate, asked) = (Arc::clone(&gate), Arc::clone(&asked));
        let lookup = move |_: &str| {
            let last = asked.fetch_add(1, Ordering::Relaxed) + 1;
            gate.pass();
            Ok(addresses(&[&format!("10.0.0.{last}")]))
        };
        Names::new(Box::new(lookup), PATIENT)
    };
    let mut asking: Vec<_> = (0..8).map(|_| Box::pin(names.addresses("a.example"))).collect();
    for asking in &mut asking {
        assert!(waits(asking).await);
    }
    // Who gives up takes nothing from the others.
    drop(asking.remove(0));
    gate.open();
    for asking in asking {
        assert_eq!(asking.await.unwrap()[..], addresses(&["10.0.0.1"]));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // What was found is not kept in the resolver's place.
    assert_eq!(names.addresses("a.example").await.unwrap()[..], addresses(&["10.0.0.2"]));
}

#[tokio::test]
async fn more_names_than_threads_take_turns() {
    let gate = Arc::new(Gate::default());
    let names = {
        let gate = Arc::clone(&gate);
        let lookup = move |name: &str| {
            gate.pass();
            Ok(addresses(&[name.strip_prefix("ten.").unwrap()]))
        };
        Names::new(Box::new(lookup), PATIENT)
    };
    let more = THREADS + 3;
    let all: Vec<String> = (0..more).map(|at| format!("ten.10.0.0.{at}")).collect();
    let mut asking: Vec<_> = all.iter().map(|name| Box::pin(names.addresses(name))).collect();
    for asking in &mut asking {
        assert!(waits(asking).await);
    }
    assert_eq!(names.threads(), THREADS);
    gate.open();
    for (at, asking) in asking.into_iter().enumerate() {
        assert_eq!(asking.await.unwrap()[..], addresses(&[&format!("10.0.0.{at}")]));
    }
}

#[tokio::test]
async fn the_last_addresses_are_used_when_the_resolver_fails() {
    let had = addresses(&["10.0.0.1", "10.0.0.2"]);
    let names = finding(vec![Ok(had.clone()), fails(), Ok(vec![])], PATIENT);
    for _ in 0..4 {
        assert_eq!(names.addresses("a.example").await.unwrap()[..], had);
    }
    let error = io::Error::from(names.addresses("b.example").await.unwrap_err());
    assert_eq!(error.to_string(), "looking up b.example");
    let reason = std::error::Error::source(error.get_ref().unwrap()).unwrap().to_string();
    assert_eq!(reason, "no server could be reached");
}

/// They are used at once, and what is found at last is there for whoever asks next.
#[tokio::test]
async fn the_last_addresses_are_used_when_the_resolver_hangs() {
    let gate = Arc::new(Gate::default());
    let (had, has) = (addresses(&["10.0.0.1"]), addresses(&["10.0.0.2"]));
    let names = {
        let (gate, found) = (Arc::clone(&gate), Mutex::new(vec![has.clone(), had.clone()]));
        let lookup = move |_: &str| {
            let Some(found) = found.lock().pop() else { return fails() };
            if found == addresses(&["10.0.0.2"]) {
                gate.pass();
            }
            Ok(found)
        };
        Names::new(Box::new(lookup), Duration::ZERO)
    };
    for _ in 0..3 {
        assert_eq!(names.addresses("a.example").await.unwrap()[..], had);
    }
    let mut under_way = names.ask("a.example").unwrap();
    gate.open();
    assert_eq!(under_way.found().await.unwrap()[..], has);
    assert_eq!(names.addresses("a.example").await.unwrap()[..], has);
}

#[tokio::test]
async fn what_a_name_has_now_takes_the_place_of_what_it_had() {
    let (had, has) = (addresses(&["10.0.0.1"]), addresses(&["10.0.0.2"]));
    let names = finding(vec![Ok(had.clone()), Ok(has.clone()), fails()], PATIENT);
    for now in [&had, &has, &has] {
        assert_eq!(names.addresses("a.example").await.unwrap()[..], now[..]);
    }
}

#[tokio::test]
async fn of_several_addresses_the_next_is_tried_when_one_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let names = finding(vec![Ok(addresses(&["127.0.0.2", "127.0.0.1"])), Ok(addresses(&["127.0.0.2"]))], PATIENT);
    assert_eq!(names.connect("a.example", at.port()).await.unwrap().peer_addr().unwrap(), at);
    let refused = names.connect("a.example", at.port()).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn an_address_is_not_looked_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let names = Names::new(Box::new(|name| panic!("{name} is looked up")), PATIENT);
    assert_eq!(names.connect("127.0.0.1", at.port()).await.unwrap().peer_addr().unwrap(), at);
    // Whatever comes of it.
    drop(names.connect("::1", at.port()).await);
    assert_eq!(names.remembered(), 0);
}

#[tokio::test]
async fn a_resolver_that_panics_has_failed_once() {
    let mut turns = [false, true].into_iter();
    let turns = Mutex::new(move || turns.next().unwrap());
    let lookup = move |_: &str| {
        let sound = turns.lock()();
        assert!(sound, "planned");
        Ok(addresses(&["10.0.0.1"]))
    };
    let names = Names::new(Box::new(lookup), PATIENT);
    assert!(names.addresses("a.example").await.is_err());
    assert_eq!(names.addresses("a.example").await.unwrap()[..], addresses(&["10.0.0.1"]));
}

#[tokio::test]
async fn of_many_names_those_are_forgotten_that_nobody_asks_for() {
    let fails_now = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let names = {
        let fails_now = Arc::clone(&fails_now);
        let lookup =
            move |_: &str| if fails_now.load(Ordering::Relaxed) { fails() } else { Ok(addresses(&["10.0.0.1"])) };
        Names::new(Box::new(lookup), PATIENT)
    };
    for at in 0..2 * MOST {
        names.addresses(&format!("{at}.example")).await.unwrap();
        names.addresses("always.example").await.unwrap();
    }
    assert_eq!(names.remembered(), MOST);
    fails_now.store(true, Ordering::Relaxed);
    assert!(names.addresses("always.example").await.is_ok());
    assert!(names.addresses("0.example").await.is_err());
}
