//! A data center's node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::net::{self, Network, WORLD};
use crate::error::{Error, Naming as _};
use crate::process::{Options, Process, Signal};

/// The line that a node prints once it serves.
const GREETING: &str = "Ieum is running at ";

/// Where a node belongs.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'a> {
    /// The name of its data center.
    pub dc: &'a str,
    /// Its place among so many.
    pub at: usize,
    /// How many data centers there are.
    pub of: usize,
    /// The how-manieth node it is there, from 0.
    pub nth: usize,
}

/// One node: its settings and, when it runs, its process.
#[derive(Debug)]
pub struct Node {
    /// Its number in the cell.
    pub number: u32,
    /// The name of its data center.
    pub dc: String,
    ieum: PathBuf,
    /// Takes its standard error; not on the disk that is harmed.
    outside: PathBuf,
    /// Its data.
    pub data: PathBuf,
    settings: Vec<(String, String)>,
    /// libfaketime, and the file that tells it how far to be off.
    clock: Option<(PathBuf, PathBuf)>,
    /// Its process; none while it is dark.
    pub process: Option<Process>,
}

impl Node {
    /// A node that does not run yet.
    pub fn new(number: u32, seat: Seat<'_>, ieum: &Path, outside: &Path, data: PathBuf) -> Self {
        let Seat { at, of: count, nth, .. } = seat;
        let etcd = |of: usize| format!("http://{}:2379", Network::Between.address(of));
        let peer = |of: usize| format!("http://{}:7400", Network::Between.address(of));
        // Its own data center's member first.
        let members = (0..count).map(|step| etcd((at + step) % count)).collect();
        let mut node = Self::alone(number, seat, ieum, outside, data);
        node.set("LOG__ENGINE", "etcd");
        node.set("LOG__ENDPOINTS", &list(members));
        node.set("PEERS__LISTEN", &format!("{}:{}", Network::Between.address(at), 7400 + nth));
        node.set("PEERS__ADDRESSES", &list((0..count).map(peer).collect()));
        // Nobody else is in the namespaces.
        node.set("PEERS__TRUSTED_NETWORK", "true");
        node
    }

    /// One that is a cell by itself, with its log beside it.
    pub fn alone(number: u32, seat: Seat<'_>, ieum: &Path, outside: &Path, data: PathBuf) -> Self {
        let Seat { dc, at, nth, .. } = seat;
        let address = Self::address(at, nth);
        let mut settings: Vec<(String, String)> = [
            ("NODE__NUMBER", number.to_string()),
            ("NODE__DC", dc.to_owned()),
            ("NODE__DATA", data.display().to_string()),
            ("LISTEN__ADDRESS", address.clone()),
            ("LISTEN__ENDPOINTS", list(vec![format!("http://{address}")])),
            // All people of a drill come from one address.
            ("LIMITS__SESSIONLESS_PER_ADDRESS", "1000000000".to_owned()),
        ]
        .map(|(name, value)| (format!("IEUM_{name}"), value))
        .into();
        for rate in ["REQUESTS", "SIGN_INS"] {
            for bound in ["PER_SECOND", "BURST"] {
                settings.push((format!("IEUM_LIMITS__{rate}_{bound}"), "1000000000".to_owned()));
            }
        }
        let (dc, ieum, outside) = (dc.to_owned(), ieum.to_owned(), outside.to_owned());
        Self { number, dc, ieum, outside, data, settings, clock: None, process: None }
    }

    /// Sets a setting: `("NODE__RESERVE_MIB", "64")` is `[node] reserve_mib`.
    pub fn set(&mut self, setting: &str, value: &str) {
        self.settings.push((format!("IEUM_{setting}"), value.to_owned()));
    }

    /// From its next start on it takes the time from libfaketime, which adds what this file says.
    pub fn follow_clock(&mut self, file: PathBuf) -> Result<(), Error> {
        let finding = || "finding libfaketime.so.1 (Debian: libfaketime)".to_owned();
        let libraries = std::fs::read_dir("/usr/lib").naming(finding)?.flatten();
        let found = libraries.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.is_file());
        let library = found.ok_or_else(|| Error::other(finding(), "it is in no folder of /usr/lib"))?;
        self.clock = Some((library, file));
        Ok(())
    }

    /// Whether its process really takes the time from there; else turning it would harm nobody.
    pub fn follows_clock(&self) -> Result<(), Error> {
        let looking = || format!("looking for libfaketime in node {}", self.number);
        let id = self.process.as_ref().map(Process::id).ok_or_else(|| Error::other(looking(), "it does not run"))?;
        let maps = std::fs::read_to_string(format!("/proc/{id}/maps")).naming(looking)?;
        if maps.contains("libfaketime") { Ok(()) } else { Err(Error::other(looking(), "it is not loaded")) }
    }

    /// Where users find the `nth` node of a data center.
    pub fn address(at: usize, nth: usize) -> String {
        format!("{}:{}", Network::Users.address(at), 8080 + nth)
    }

    fn log(&self) -> PathBuf {
        self.outside.join(format!("node-{}.log", self.number))
    }

    fn options(&self) -> Options {
        let options = net::process_within(&net::namespace(&self.dc), &self.ieum, &self.outside).stderr(self.log());
        let options = self.settings.iter().fold(options, |options, (name, value)| options.env(name, value));
        let Some((library, clock)) = &self.clock else { return options };
        options
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", clock)
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DONT_RESET", "1")
    }

    /// Starts it and does not wait; the first one of all founds the cell.
    pub fn spawn(&mut self, founding: bool) -> Result<(), Error> {
        let options = self.options().arg("serve");
        self.process = Some(Process::spawn(&if founding { options.arg("--found") } else { options })?);
        Ok(())
    }

    /// Waits until it has said since its start that it serves.
    pub fn wait_until_it_serves(&mut self, patience: Duration) -> Result<(), Error> {
        let process = self.process.as_mut();
        let process =
            process.ok_or_else(|| Error::other("looking for a node", format!("{} does not run", self.number)))?;
        process.wait_for_line(|line| line.starts_with(GREETING), patience).map(drop)
    }

    /// SIGKILL, if it runs.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.process.take().map_or(Ok(()), |mut process| process.kill().map(drop))
    }

    /// SIGTERM, if it runs, without waiting.
    pub fn ask_to_stop(&self) -> Result<(), Error> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal(Signal::SIGTERM))
    }

    /// Its end, after it was asked to stop.
    pub fn wait_for_end(&mut self, patience: Duration) -> Result<(), Error> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let status = process.wait(patience)?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::other(format!("stopping node {}", self.number), status.to_string()))
        }
    }

    /// SIGTERM, and its end.
    pub fn stop(&mut self, patience: Duration) -> Result<(), Error> {
        self.ask_to_stop()?;
        self.wait_for_end(patience)
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let running = self.process.as_ref();
        running
            .ok_or_else(|| Error::other("looking for a node", format!("{} does not run", self.number)))?
            .signal(signal)
    }

    /// `ieum …` with this node's settings, as its operator; what it printed. An error also when it takes too long.
    pub fn operate(&self, arguments: &[&str], patience: Duration) -> Result<String, Error> {
        let doing = || format!("ieum {} at node {}", arguments.join(" "), self.number);
        let mut command = net::within(WORLD, "timeout");
        command.arg("--signal=KILL").arg(patience.as_secs_f64().to_string()).arg(&self.ieum).args(arguments);
        let output = command.envs(self.settings.iter().cloned()).output().naming(doing)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        Err(Error::other(doing(), format!("{}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr))))
    }
}

fn list(items: Vec<String>) -> String {
    format!("{items:?}")
}
