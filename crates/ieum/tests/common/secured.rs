//! A cell of three nodes over three members of etcd, all of them real processes, all with certificates.

#![allow(clippy::indexing_slicing, reason = "a fixture that fails fails its test")]

use ieum_drill::crowd::{self, Crowd};
use ieum_drill::etcd::{Etcd, Settings};
use ieum_drill::server::{Server, free_port};
use tempfile::TempDir;

use super::certificates::{Authority, setting};
use super::{IEUM, PATIENCE, operator};

const DCS: [&str; 3] = ["a", "b", "c"];

pub(crate) struct Secured {
    pub(crate) etcd: Etcd,
    pub(crate) nodes: Vec<Server>,
    /// Where nodes come in for others.
    pub(crate) addresses: Vec<String>,
    pub(crate) authority: Authority,
    pub(crate) folder: TempDir,
}

impl Secured {
    /// Three members and three nodes that run.
    pub(crate) fn started() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(&folder.path().join("authority"));
        let certificates = Some(authority.issue("etcd", false));
        let etcd = Etcd::start_with(3, Settings { certificates, quota: 0 }).unwrap();
        let addresses = DCS.iter().map(|_| format!("https://127.0.0.1:{}", free_port().unwrap())).collect();
        let mut cell = Self { etcd, nodes: Vec::new(), addresses, authority, folder };
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
        let list = |items: &[String]| serde_json::to_string(items).unwrap();
        let at = (number - 1) % DCS.len();
        let mut endpoints = self.etcd.endpoints();
        endpoints.rotate_left(at);
        let outside = self.folder.path().join(name);
        std::fs::create_dir(&outside).unwrap();
        let server = Server::new(IEUM, &outside, outside.join("data")).unwrap().without_limits();
        let own = server.address();
        let server = server
            .set("NODE__NUMBER", &number.to_string())
            .set("NODE__DC", DCS[at])
            .set("LOG__ENGINE", "etcd")
            .set("LOG__ENDPOINTS", &list(&endpoints))
            .set("PEERS__LISTEN", address.split("//").last().unwrap())
            .set("PEERS__ADDRESSES", &list(&self.addresses))
            .set("LISTEN__ENDPOINTS", &list(&[own]));
        let certificates = setting(&self.authority.node(1, u32::try_from(number).unwrap()));
        server.set("LOG__CERTIFICATES", &certificates).set("PEERS__CERTIFICATES", &certificates)
    }

    pub(crate) fn crowd(&self) -> Crowd {
        let endpoints = self.nodes.iter().map(|node| node.address().parse().unwrap()).collect();
        Crowd::gather(&crowd::Options { endpoints, people: 60, in_flight: 16 }).unwrap()
    }
}
