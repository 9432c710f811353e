//! A data center's member of etcd.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::net::{self, Network, WORLD};
use crate::error::Error;
use crate::process::{Process, Signal};

/// How long one question of `etcdctl` may take.
const PATIENCE: &str = "2s";
/// What every member is told beside its place, as docs/operating says.
pub const SETTINGS: [&str; 7] =
    ["--pre-vote", "--heartbeat-interval", "100", "--election-timeout", "500", "--snapshot-count", "2000"];
/// How long the end of a member may take.
const END: Duration = Duration::from_secs(10);

/// One member: its folder and, when it runs, its process.
#[derive(Debug)]
pub struct Member {
    /// The data center's name; the member has the same.
    pub name: String,
    dc: usize,
    /// Takes its standard error; not on the disk that is harmed.
    outside: PathBuf,
    /// Its data.
    pub data: PathBuf,
    /// Its process; none while it is dark.
    pub process: Option<Process>,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its id, in hexadecimal.
    pub id: String,
    /// Whether it leads.
    pub leads: bool,
}

impl Member {
    /// A member that does not run yet.
    pub fn new(name: &str, dc: usize, outside: &Path, data: PathBuf) -> Self {
        Self { name: name.to_owned(), dc, outside: outside.to_owned(), data, process: None }
    }

    /// Where clients find it.
    pub fn endpoint(&self) -> String {
        format!("http://{}:2379", Network::Between.address(self.dc))
    }

    /// What it says.
    pub fn log(&self) -> PathBuf {
        self.outside.join("etcd.log")
    }

    /// Where the other members find it.
    pub fn peer_url(&self) -> String {
        format!("http://{}:2380", Network::Between.address(self.dc))
    }

    /// Starts it: as one of a new cluster of these, or of one that exists.
    pub fn spawn(&mut self, cluster: &str, state: &str) -> Result<(), Error> {
        let (client, peer) = (self.endpoint(), self.peer_url());
        let options = net::process_within(&net::namespace(&self.name), Path::new("etcd"), &self.outside)
            .stderr(self.log())
            .args(["--name", &self.name, "--logger", "zap", "--data-dir"])
            .arg(&self.data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", cluster, "--initial-cluster-state", state])
            .args(SETTINGS);
        self.process = Some(Process::spawn(&options)?);
        Ok(())
    }

    /// SIGKILL, if it runs.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.process.take().map_or(Ok(()), |mut process| process.kill().map(drop))
    }

    /// SIGTERM, and its end.
    pub fn stop(&mut self) -> Result<(), Error> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::SIGTERM)?;
        process.wait(END).map(drop)
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let running = self.process.as_ref();
        running
            .ok_or_else(|| Error::other("looking for a member of etcd", format!("{} does not run", self.name)))?
            .signal(signal)
    }

    /// What it says of itself; an error when it does not answer.
    pub fn status(&self) -> Result<Status, Error> {
        let said = control(&[&self.endpoint()], &["endpoint", "status"])?;
        // endpoint, id, version, size, leads, …
        let fields: Vec<&str> = said.split(',').map(str::trim).collect();
        match (fields.get(1), fields.get(4)) {
            (Some(id), Some(leads)) => Ok(Status { id: (*id).to_owned(), leads: *leads == "true" }),
            _ => Err(Error::other("reading what a member of etcd says", said)),
        }
    }
}

/// Asks some members to do something.
pub fn control(endpoints: &[&str], arguments: &[&str]) -> Result<String, Error> {
    let mut command: Command = net::within(WORLD, "etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoints.join(",")]);
    command.args(["--command-timeout", PATIENCE, "--dial-timeout", PATIENCE]).args(arguments);
    net::run(&mut command, "")
}
