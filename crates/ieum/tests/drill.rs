//! The load of the drills on the real binary: what its people live through is written down and fits what the node holds.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here fails the test")]

mod common;

use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use common::{IEUM, PATIENCE};
use ieum_drill::load::{self, Dc, Options};
use ieum_drill::report;
use ieum_drill::server::Server;
use tempfile::TempDir;

/// The load in a thread, as `drill-load` runs it.
struct Load {
    input: PipeWriter,
    output: BufReader<PipeReader>,
    thread: JoinHandle<Result<(), ieum_drill::Error>>,
}

impl Load {
    fn start(server: &Server, out: &Path) -> Self {
        let endpoints = vec![server.address().parse().unwrap()];
        let options = Options {
            dcs: vec![Dc { name: "a".to_owned(), endpoints }],
            users: 12,
            rate: 100,
            probe: Duration::from_millis(100),
            login: Duration::from_millis(200),
            settle: PATIENCE,
            seed: 1,
            out: out.to_owned(),
        };
        let (reader, input) = std::io::pipe().unwrap();
        let (output, mut writer) = std::io::pipe().unwrap();
        let thread = std::thread::spawn(move || load::run(&options, BufReader::new(reader), &mut writer));
        Self { input, output: BufReader::new(output), thread }
    }

    fn says(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }
}

/// A node that runs, and a folder for the load.
fn node() -> (TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::new(IEUM, folder.path(), folder.path().join("data")).unwrap().without_limits();
    server.start(PATIENCE).unwrap();
    (folder, server)
}

/// How many lines of a file begin with this word, at this place.
fn count(file: &Path, at: usize, word: &str) -> usize {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().filter(|line| line.split(' ').nth(at) == Some(word)).count()
}

#[test]
fn what_people_live_through_is_written_down() {
    let (folder, server) = node();
    let out = folder.path().join("load");
    let mut load = Load::start(&server, &out);
    assert_eq!(load.says(), "live");
    load.tell("mark act nothing in particular");
    load.tell("stop");
    assert_eq!(load.says(), "settled");
    assert_eq!(load.says(), "read a");
    load.thread.join().unwrap().unwrap();
    let history = out.join("history.txt");
    let acknowledged = count(&history, 1, "a");
    assert!(acknowledged >= 12);
    assert_eq!(count(&history, 1, "s"), acknowledged);
    assert_eq!(count(&history, 1, "b"), count(&history, 1, "e"));
    assert_eq!(count(&out.join("held-a.txt"), 0, "m"), acknowledged);
    assert_eq!(count(&history, 1, "m"), 1);
    assert_clean(folder.path());
}

/// What the report makes of it: every promise was kept.
fn assert_clean(run: &Path) {
    let record = r#"{"scenario":"none","run":1,"seed":1,"notes":[],"elections":[],"verify":{}}"#;
    std::fs::write(run.join("run.json"), record).unwrap();
    let results = run.join("results");
    let verdict = report::write(&report::Scenario {
        name: "none",
        title: "Nothing happens",
        incident: "",
        repeat: "",
        settings: Vec::new(),
        runs: vec![run.to_owned()],
        required_s: None,
        short: true,
        results: &results,
        drills: run,
        page: &run.join("page.md"),
    });
    let verdict = verdict.unwrap();
    assert!(verdict.is_clean(), "{}", verdict.summary);
    assert!(results.join("none.svg").exists() && !run.join("page.md").exists());
}

#[test]
fn without_a_word_to_stop_it_ends_without_an_end() {
    let (folder, server) = node();
    let out = folder.path().join("load");
    let mut load = Load::start(&server, &out);
    assert_eq!(load.says(), "live");
    drop(load.input);
    let error = load.thread.join().unwrap().unwrap_err().to_string();
    assert!(error.contains("without `stop`"), "{error}");
    let text = std::fs::read_to_string(out.join("history.txt")).unwrap();
    assert!(!text.contains(" q end"));
}
