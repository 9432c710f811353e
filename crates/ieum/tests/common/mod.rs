//! The real binary, as people and operators run it.

#![allow(dead_code, reason = "each test program uses some of it")]

#[allow(clippy::indexing_slicing, reason = "what fails here fails the test")]
pub(crate) mod cell;
pub(crate) mod gate;
pub(crate) mod rounds;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use ieum_drill::process::{self, Process};
use ieum_drill::server::Server;

pub(crate) const IEUM: &str = env!("CARGO_BIN_EXE_ieum");
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A node's folder, what it prints, and the homes of the people who talk to it.
pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server: Server,
}

impl Scene {
    /// A node that is not started yet.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::at(folder, data)
    }

    /// The same with its data elsewhere.
    pub(crate) fn with_data(data: PathBuf) -> Self {
        Self::at(tempfile::tempdir().unwrap(), data)
    }

    fn at(folder: tempfile::TempDir, data: PathBuf) -> Self {
        let server = Server::new(IEUM, folder.path(), data).unwrap();
        Self { folder, server: server.set("ACCOUNTS__PASSWORD_MEMORY_KIB", "8") }
    }

    pub(crate) fn started() -> Self {
        let mut scene = Self::new();
        scene.server.start(PATIENCE).unwrap();
        scene
    }

    pub(crate) fn set(mut self, setting: &str, value: &str) -> Self {
        self.server = self.server.set(setting, value);
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `ieum …` as the person with this profile.
    pub(crate) fn person(&self, profile: &str, arguments: &[&str]) -> Run {
        Run(self.command(profile, arguments).output().unwrap())
    }

    /// The same, to be changed before it is run.
    pub(crate) fn command(&self, profile: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(IEUM);
        command.args(arguments).current_dir(self.folder.path());
        for (name, value) in self.environment(profile) {
            command.env(name, value);
        }
        command
    }

    pub(crate) fn environment(&self, profile: &str) -> [(&'static str, String); 5] {
        [
            ("IEUM_HOME", self.path("home").display().to_string()),
            ("IEUM_PASSWORD", format!("{profile}'s password")),
            ("IEUM_PROFILE", profile.to_owned()),
            ("IEUM_SERVER", self.server.address()),
            ("LC_ALL", "C.UTF-8".to_owned()),
        ]
    }

    pub(crate) fn register(&self, handle: &str, name: &str) {
        let said = self.person(handle, &["account", "register", "--handle", handle, "--name", name]).success();
        assert!(said.contains(&format!("registered @{handle}")), "{said}");
    }

    /// A process that goes on: `chat` or `tail`. Lines can be written to it.
    pub(crate) fn terminal(&self, profile: &str, arguments: &[&str]) -> Process {
        self.terminal_through(profile, arguments, &self.server.address())
    }

    /// The same, with this as the server's address.
    pub(crate) fn terminal_through(&self, profile: &str, arguments: &[&str], server: &str) -> Process {
        let mut options = process::Options::new(IEUM, self.folder.path()).args(arguments).hold_stdin();
        options = options.stderr(self.path(&format!("{profile}.stderr")));
        for (name, value) in self.environment(profile) {
            options = options.env(name, value);
        }
        options = options.env("IEUM_SERVER", server);
        Process::spawn(&options).unwrap()
    }

    /// `ieum …` as the operator of the node.
    pub(crate) fn operator(&self, arguments: &[&str]) -> Run {
        operator(self.server.data(), arguments)
    }
}

/// `ieum …` as the operator of the data folder.
pub(crate) fn operator(data: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new(IEUM);
    command.args(arguments).env("IEUM_NODE__DATA", data);
    Run(command.output().unwrap())
}

/// How a command ended.
pub(crate) struct Run(pub(crate) Output);

impl Run {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// What it printed; it must have succeeded.
    #[track_caller]
    pub(crate) fn success(&self) -> String {
        assert_eq!(self.code(), 0, "{}{}", self.out(), self.err());
        self.out()
    }

    /// What it complained of; it must have failed, and without a panic.
    #[track_caller]
    pub(crate) fn failure(&self) -> String {
        let complaint = self.err();
        assert_ne!(self.code(), 0, "{}{complaint}", self.out());
        assert!(!complaint.contains("panicked"), "{complaint}");
        complaint
    }
}

/// What is answered to `GET` of a path without anything else.
pub(crate) fn page(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: ieum\r\nconnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    std::io::read_to_string(stream).unwrap()
}

/// Every figure that a node shows is explained to its operator, and each of these is shown.
pub(crate) fn all_explained(page: &str, shown: &[&str]) {
    let names: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ieum_")?.split(' ').next()).collect();
    assert!(names.len() > 10, "{page}");
    let explained = include_str!("../../../../docs/operating/metrics.md");
    for name in &names {
        assert!(explained.contains(&format!("`{name}`")), "docs/operating/metrics.md does not explain {name}");
    }
    for name in shown {
        assert!(names.contains(name), "no {name} in {page}");
    }
}

/// What `/metrics` says of one figure.
pub(crate) fn metric(server: &Server, name: &str) -> u64 {
    let page = page(&server.address(), "/metrics");
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    let value = line.and_then(|line| line.split(' ').nth(1)?.parse().ok());
    assert!(value.is_some(), "no {name} in {page}");
    value.unwrap()
}
