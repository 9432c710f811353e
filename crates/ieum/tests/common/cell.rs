//! A cell of three nodes over three members of etcd, all of them real processes.

use std::path::{Path, PathBuf};
use std::process::Command;

use ieum_drill::certificates::Authority;
use ieum_drill::crowd::{self, Crowd};
use ieum_drill::etcd::{Certificates, Etcd, Settings};
use ieum_drill::process::{self, Process};
use ieum_drill::server::{Server, free_port};
use ieum_log_etcd::{Etcd as Log, Options};
use tempfile::TempDir;

use super::{IEUM, PATIENCE, Run, operator};

const DCS: [&str; 3] = ["a", "b", "c"];

pub(crate) struct Cell {
    pub(crate) etcd: Etcd,
    pub(crate) nodes: Vec<Server>,
    /// Where nodes come in for others.
    pub(crate) addresses: Vec<String>,
    /// Who signed everybody's certificates, if they have any.
    pub(crate) authority: Option<Authority>,
    pub(crate) folder: TempDir,
    /// The build that nodes run.
    build: PathBuf,
}

fn list(items: &[String]) -> String {
    serde_json::to_string(items).unwrap()
}

/// As a setting has them.
pub(crate) fn setting(certificates: &Certificates) -> String {
    let Certificates { authority, certificate, key } = certificates;
    format!("{{ authority = {authority:?}, certificate = {certificate:?}, key = {key:?} }}")
}

impl Cell {
    /// Three members and three nodes that run.
    pub(crate) fn started() -> Self {
        Self::started_with_build(IEUM.as_ref())
    }

    /// The same with another build on the nodes.
    pub(crate) fn started_with_build(build: &Path) -> Self {
        Self::start(tempfile::tempdir().unwrap(), None, build)
    }

    /// The same with certificates everywhere.
    pub(crate) fn started_with_certificates() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(&folder.path().join("authority")).unwrap();
        Self::start(folder, Some(authority), IEUM.as_ref())
    }

    fn start(folder: TempDir, authority: Option<Authority>, build: &Path) -> Self {
        let certificates = authority.as_ref().map(|authority| authority.issue(&["etcd"], |_| ()).unwrap());
        let scheme = if authority.is_some() { "https" } else { "http" };
        let etcd = Etcd::start_with(3, Settings { certificates, ..Settings::default() }).unwrap();
        let addresses = DCS.map(|_| format!("{scheme}://127.0.0.1:{}", free_port().unwrap())).to_vec();
        let mut cell = Self { etcd, nodes: Vec::new(), addresses, authority, folder, build: build.to_owned() };
        for (at, dc) in DCS.into_iter().enumerate() {
            let node = cell.node(dc, at + 1, &cell.addresses[at]);
            cell.nodes.push(if at == 0 { node.founding() } else { node });
        }
        cell.nodes[0].start(PATIENCE).unwrap();
        for (at, dc) in DCS.into_iter().enumerate().skip(1) {
            operator(cell.nodes[0].data(), &["node", "add", &(at + 1).to_string(), "--dc", dc]).success();
            cell.nodes[at].start(PATIENCE).unwrap();
        }
        cell
    }

    /// A node that does not run yet, with data in a folder `name` and others coming in at `address`.
    pub(crate) fn node(&self, name: &str, number: usize, address: &str) -> Server {
        let outside = self.folder.path().join(name);
        std::fs::create_dir(&outside).unwrap();
        let server = Server::new(&self.build, &outside, outside.join("data")).unwrap().without_limits();
        let own = server.address();
        let server = server.set("LISTEN__ENDPOINTS", &list(&[own]));
        self.settings(number, address).into_iter().fold(server, |server, (name, value)| server.set(name, &value))
    }

    fn settings(&self, number: usize, address: &str) -> Vec<(&'static str, String)> {
        let at = (number - 1) % DCS.len();
        let mut endpoints = self.etcd.endpoints();
        endpoints.rotate_left(at);
        let mut settings = vec![
            ("NODE__NUMBER", number.to_string()),
            ("NODE__DC", DCS[at].to_owned()),
            ("NODE__DRAIN_SECONDS", "1".to_owned()),
            ("LOG__ENGINE", "etcd".to_owned()),
            ("LOG__ENDPOINTS", list(&endpoints)),
            ("PEERS__LISTEN", address.split("//").last().unwrap().to_owned()),
            ("PEERS__ADDRESSES", list(&self.addresses)),
        ];
        if let Some(authority) = &self.authority {
            let certificates = setting(&authority.node(1, u32::try_from(number).unwrap()).unwrap());
            settings.extend([("LOG__CERTIFICATES", certificates.clone()), ("PEERS__CERTIFICATES", certificates)]);
        }
        settings
    }

    /// `ieum …` with the settings of a node, some of them changed.
    pub(crate) fn command(&self, at: usize, arguments: &[&str], changed: &[(&str, &str)]) -> Command {
        let mut command = Command::new(IEUM);
        command.args(arguments).env("IEUM_NODE__DATA", self.nodes[at].data());
        for (name, value) in self.settings(at + 1, &self.addresses[at]) {
            command.env(format!("IEUM_{name}"), value);
        }
        for (name, value) in changed {
            command.env(format!("IEUM_{name}"), value);
        }
        command
    }

    /// The same as a process that goes on. Its folder takes what it complains of.
    pub(crate) fn process(&self, at: usize, arguments: &[&str]) -> Process {
        let options = process::Options::new(IEUM, self.folder.path()).args(arguments);
        let options = options.env("IEUM_NODE__DATA", self.nodes[at].data());
        let set = self.settings(at + 1, &self.addresses[at]).into_iter();
        Process::spawn(&set.fold(options, |options, (name, value)| options.env(format!("IEUM_{name}"), value))).unwrap()
    }

    /// The same, and how it ended.
    pub(crate) fn operator(&self, at: usize, arguments: &[&str]) -> Run {
        Run(self.command(at, arguments, &[]).output().unwrap())
    }

    /// People who write, and go on doing so.
    pub(crate) fn talking(&self) -> Crowd {
        let endpoints = self.nodes.iter().map(|node| node.address().parse().unwrap()).collect();
        let crowd = Crowd::gather(&crowd::Options { endpoints, people: 60, in_flight: 16 }).unwrap();
        crowd.write();
        goes_on(&crowd);
        crowd
    }

    /// Stops every node, and sees that all is well with what it has.
    pub(crate) fn stop_well(&mut self) {
        for node in &mut self.nodes {
            assert!(node.stop(PATIENCE).unwrap().success());
        }
        for node in &self.nodes {
            let said = operator(node.data(), &["verify"]).success();
            assert!(said.starts_with("All is well"), "{said}");
        }
    }
}

/// Some messages are acknowledged from now on.
pub(crate) fn goes_on(crowd: &Crowd) {
    crowd.wait_for(crowd.acknowledged() + 2_000, PATIENCE).unwrap();
}

pub(crate) fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The log of a cell without certificates, beside its nodes.
pub(crate) async fn log(cell: &Cell) -> Log {
    let endpoints = cell.etcd.endpoints().iter().map(|endpoint| endpoint.parse().unwrap()).collect();
    Log::open(Options::new(1, endpoints)).await.unwrap()
}

/// An account, through one node. Fails where the handle is taken.
pub(crate) fn register(cell: &Cell, at: usize, handle: &str) -> Run {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["account", "register", "--handle", handle, "--name", "민지"];
    let mut command = cell.command(at, &arguments, &[]);
    command.env("IEUM_HOME", home.path()).env("IEUM_PASSWORD", "password of 민지");
    Run(command.env("IEUM_SERVER", cell.nodes[at].address()).output().unwrap())
}

/// Starts a node that must end by itself, and gives what it says.
pub(crate) fn refuses(cell: &mut Cell, at: usize) -> String {
    let before = cell.nodes[at].stderr().unwrap().len();
    cell.nodes[at].spawn().unwrap();
    let status = cell.nodes[at].running().unwrap().wait(PATIENCE).unwrap();
    let said = cell.nodes[at].stderr().unwrap().split_off(before);
    assert!(status.code() == Some(1) && !said.contains("panicked"), "{status}: {said}");
    said
}

pub(crate) fn stop(cell: &mut Cell, nodes: &[usize]) {
    for at in nodes {
        assert!(cell.nodes[*at].stop(PATIENCE).unwrap().success());
    }
}
