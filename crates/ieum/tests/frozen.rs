//! A node whose process stands still while the cell goes on, in a real cell: nothing that it answers when it thaws is old and passes as
//! fresh, and it goes on in no other history than the one that it knows.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::PATIENCE;
use common::cell::Cell;
use ieum_client::{Http, NewAccount, Trust};
use ieum_drill::crowd::{self, Crowd};
use ieum_drill::process::Signal;
use ieum_protocol::frames::Change;

/// For so long at least: beyond two seconds a node has to say that it may be behind.
const FROZEN: Duration = Duration::from_secs(3);
/// How many ask a frozen node. The kernel takes their requests, and the node finds them in its first moment.
const ASKING: usize = 24;

/// A person, as seen through one node.
struct Person {
    runtime: tokio::runtime::Runtime,
    http: Http,
    token: String,
}

impl Person {
    fn register(cell: &Cell, at: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let http = Http::new(vec![cell.nodes[at].address().parse().unwrap()], Trust::web());
        let account = NewAccount {
            handle: "minji".to_owned(),
            name: "name 0".to_owned(),
            password: "password of minji".to_owned(),
            device: "test".to_owned(),
            invitation: None,
        };
        let token = runtime.block_on(async {
            http.register(account).await.unwrap();
            http.token().await.unwrap()
        });
        Self { runtime, http, token }
    }

    fn rename(&self, name: &str) {
        let name = name.to_owned();
        self.runtime.block_on(self.http.change(&Change::SetName { name })).unwrap();
    }

    /// Asks a node who this is, and does not wait for the answer.
    fn ask(&self, cell: &Cell, at: usize) -> TcpStream {
        let mut stream = TcpStream::connect(cell.nodes[at].address().trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let token = &self.token;
        let request =
            format!("GET /v1/me HTTP/1.1\r\nhost: ieum\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Waits until a node answers that it is `name`, and not with a mark.
    fn is_seen(&self, cell: &Cell, at: usize, name: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = Answer::of(self.ask(cell, at));
            if answer.passes_as_fresh() && answer.has(name) {
                return;
            }
            assert!(Instant::now() < until, "{answer:?}");
        }
    }
}

#[derive(Debug)]
struct Answer(String);

impl Answer {
    fn of(mut stream: TcpStream) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Self(text)
    }

    /// It is an answer, and not marked.
    fn passes_as_fresh(&self) -> bool {
        self.0.starts_with("HTTP/1.1 200") && !self.0.contains("ieum-stale: true")
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains(&format!("{name:?}"))
    }
}

/// Stops a node's process without its noticing, and waits until it stands still.
fn freeze(cell: &mut Cell, at: usize) {
    let process = cell.nodes[at].running().unwrap();
    process.signal(Signal::SIGSTOP).unwrap();
    let (status, until) = (format!("/proc/{}/status", process.id()), Instant::now() + PATIENCE);
    while !std::fs::read_to_string(&status).unwrap().contains("State:\tT") {
        assert!(Instant::now() < until, "it does not stop");
    }
}

fn thaw(cell: &mut Cell, at: usize) {
    cell.nodes[at].running().unwrap().signal(Signal::SIGCONT).unwrap();
}

#[test]
fn a_node_that_was_frozen_passes_nothing_old_as_fresh() {
    let mut cell = Cell::started();
    let person = Person::register(&cell, 1);
    person.is_seen(&cell, 0, "name 0");
    // Once it can read on at once when it thaws, and once it cannot.
    for (name, log_hangs) in [("name 1", false), ("name 2", true)] {
        freeze(&mut cell, 0);
        let asking: Vec<_> = (0..ASKING).map(|_| person.ask(&cell, 0)).collect();
        person.rename(name);
        let until = Instant::now() + FROZEN;
        while Instant::now() < until {
            person.rename(name);
        }
        let members = if log_hangs { 0..3 } else { 0..0 };
        members.clone().for_each(|member| cell.etcd.freeze(member).unwrap());
        thaw(&mut cell, 0);
        for answer in asking.into_iter().map(Answer::of) {
            assert!(!answer.passes_as_fresh() || answer.has(name), "{answer:?}");
        }
        members.for_each(|member| cell.etcd.thaw(member).unwrap());
        person.is_seen(&cell, 0, name);
    }
    cell.stop_well();
}

#[test]
fn a_node_that_was_frozen_while_etcd_was_restored_does_not_go_on_in_another_history() {
    let mut cell = Cell::started();
    assert!(cell.nodes[0].stop(PATIENCE).unwrap().success());
    let backup = cell.folder.path().join("backup of etcd");
    cell.etcd.save(&backup).unwrap();
    let person = Person::register(&cell, 1);
    assert!(cell.nodes[2].stop(PATIENCE).unwrap().success());
    freeze(&mut cell, 1);
    cell.etcd.restore(&backup).unwrap();
    // It was behind the backup, and writes on until the log is longer than what the frozen one knows.
    cell.nodes[0].start(PATIENCE).unwrap();
    let endpoints = vec![cell.nodes[0].address().parse().unwrap()];
    let crowd = Crowd::gather(&crowd::Options { endpoints, people: 20, in_flight: 1 }).unwrap();
    crowd.write();
    crowd.wait_for(100, PATIENCE).unwrap();
    thaw(&mut cell, 1);
    let status = cell.nodes[1].running().unwrap().wait(PATIENCE).unwrap();
    let said = cell.nodes[1].stderr().unwrap();
    assert!(status.code() == Some(1) && !said.contains("panicked"), "{status}: {said}");
    // Nothing of the other history came into its view, so that it is found at the next start, too.
    assert!(!said.contains("views of the cell differ"), "{said}");
    cell.nodes[1].spawn().unwrap();
    let status = cell.nodes[1].running().unwrap().wait(PATIENCE).unwrap();
    let said = cell.nodes[1].stderr().unwrap();
    assert!(status.code() == Some(1) && said.contains("has another batch at"), "{status}: {said}");
    drop((crowd, person));
}
