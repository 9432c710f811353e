//! A cell of three nodes over three members of etcd, all of them real processes.

use std::process::Command;

use ieum_drill::crowd::{self, Crowd};
use ieum_drill::etcd::Etcd;
use ieum_drill::process::{self, Process};
use ieum_drill::server::{Server, free_port};
use tempfile::TempDir;

use super::{IEUM, PATIENCE, Run, operator};

pub(crate) const DCS: [&str; 3] = ["a", "b", "c"];

pub(crate) struct Cell {
    pub(crate) etcd: Etcd,
    pub(crate) nodes: Vec<Server>,
    peers: Vec<String>,
    folder: TempDir,
}

fn list(items: &[String]) -> String {
    serde_json::to_string(items).unwrap()
}

/// Of one node.
fn settings(at: usize, etcd: &Etcd, peers: &[String]) -> Vec<(&'static str, String)> {
    let mut endpoints = etcd.endpoints();
    endpoints.rotate_left(at);
    let addresses: Vec<String> = peers.iter().map(|peer| format!("http://{peer}")).collect();
    vec![
        ("NODE__NUMBER", (at + 1).to_string()),
        ("NODE__DC", DCS[at].to_owned()),
        ("NODE__DRAIN_SECONDS", "1".to_owned()),
        ("LOG__ENGINE", "etcd".to_owned()),
        ("LOG__ENDPOINTS", list(&endpoints)),
        ("PEERS__LISTEN", peers[at].clone()),
        ("PEERS__ADDRESSES", list(&addresses)),
    ]
}

impl Cell {
    /// Three members and three nodes that run.
    pub(crate) fn started() -> Self {
        let etcd = Etcd::start(3).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let peers: Vec<String> = DCS.iter().map(|_| format!("127.0.0.1:{}", free_port().unwrap())).collect();
        let node = |at: usize| {
            let outside = folder.path().join(DCS[at]);
            std::fs::create_dir(&outside).unwrap();
            let server = Server::new(IEUM, &outside, outside.join("data")).unwrap().without_limits();
            let server = if at == 0 { server.founding() } else { server };
            let own = server.address();
            let server = server.set("LISTEN__ENDPOINTS", &list(&[own]));
            settings(at, &etcd, &peers).into_iter().fold(server, |server, (name, value)| server.set(name, &value))
        };
        let mut nodes: Vec<Server> = (0..3).map(node).collect();
        nodes[0].start(PATIENCE).unwrap();
        for at in 1..3 {
            operator(nodes[0].data(), &["node", "add", &(at + 1).to_string(), "--dc", DCS[at]]).success();
            nodes[at].start(PATIENCE).unwrap();
        }
        Self { etcd, nodes, peers, folder }
    }

    /// `ieum …` with the settings of a node, some of them changed.
    pub(crate) fn command(&self, at: usize, arguments: &[&str], changed: &[(&str, &str)]) -> Command {
        let mut command = Command::new(IEUM);
        command.args(arguments).env("IEUM_NODE__DATA", self.nodes[at].data());
        for (name, value) in settings(at, &self.etcd, &self.peers) {
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
        let set = settings(at, &self.etcd, &self.peers).into_iter();
        Process::spawn(&set.fold(options, |options, (name, value)| options.env(format!("IEUM_{name}"), value))).unwrap()
    }

    /// The same, and how it ended.
    pub(crate) fn operator(&self, at: usize, arguments: &[&str]) -> Run {
        Run(self.command(at, arguments, &[]).output().unwrap())
    }

    pub(crate) fn crowd(&self) -> Crowd {
        let endpoints = self.nodes.iter().map(|node| node.address().parse().unwrap()).collect();
        Crowd::gather(&crowd::Options { endpoints, people: 60, in_flight: 16 }).unwrap()
    }
}

/// Some messages are acknowledged from now on.
pub(crate) fn goes_on(crowd: &Crowd) {
    crowd.wait_for(crowd.acknowledged() + 2_000, PATIENCE).unwrap();
}
