//! `ieum serve` on loopback: started, killed, and started again on the same data and the same port.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::error::{Error, Naming as _};
use crate::process::{self, Process, Signal};

/// Ports below those that the kernel gives to outgoing connections: a client that tries again and again while its server is down would
/// else be given the server's own port some day, connect to itself, and hold the port.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The line that a node prints once it serves.
const GREETING: &str = "Ieum is running at ";

/// A free port on loopback.
pub fn free_port() -> Result<u16, Error> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    // Test processes that run at the same time begin at different places.
    let begin = u16::try_from(std::process::id() * 37 % u32::from(span)).unwrap_or(0);
    for _ in 0..span {
        let port = PORTS.start + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % span;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::other("finding a free port", format!("all of {} to {} are taken", PORTS.start, PORTS.end)))
}

/// A node's settings and its process, when it runs.
#[derive(Debug)]
pub struct Server {
    options: process::Options,
    data: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Server {
    /// A node of the binary `ieum` on a free port. `outside` is its working directory and takes its standard error; `data` its data folder.
    /// Settings are variables of the environment: [`Self::set`].
    pub fn new(ieum: impl Into<PathBuf>, outside: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Result<Self, Error> {
        let (port, data) = (free_port()?, data.into());
        let options = process::Options::new(ieum, outside)
            .arg("serve")
            .env("IEUM_LISTEN__ADDRESS", format!("127.0.0.1:{port}"))
            .env("IEUM_NODE__DATA", &data);
        Ok(Self { options, data, port, process: None })
    }

    /// Sets a setting: `("NODE__CELL", "2")` is `[node] cell`.
    #[must_use]
    pub fn set(mut self, setting: &str, value: &str) -> Self {
        self.options = self.options.env(format!("IEUM_{setting}"), value);
        self
    }

    /// Has it found its cell: the first node of one with etcd.
    #[must_use]
    pub fn founding(mut self) -> Self {
        self.options = self.options.arg("--found");
        self
    }

    /// Lets one machine be everybody, and passwords cost nothing: for load.
    #[must_use]
    pub fn without_limits(mut self) -> Self {
        let plenty = "1000000000";
        for rate in ["COMMANDS", "HELLOS", "REQUESTS", "SIGN_INS"] {
            self = self.set(&format!("LIMITS__{rate}_PER_SECOND"), plenty);
            self = self.set(&format!("LIMITS__{rate}_BURST"), plenty);
        }
        self = self.set("LIMITS__SESSIONLESS_PER_ADDRESS", plenty);
        self.set("ACCOUNTS__PASSWORD_MEMORY_KIB", "8").set("ACCOUNTS__PASSWORD_PASSES", "1")
    }

    /// Has it run another build from its next start on.
    pub fn set_build(&mut self, ieum: impl Into<PathBuf>) {
        self.options.set_program(ieum);
    }

    /// Its address, as clients take it.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Starts it, and does not wait for anything.
    pub fn spawn(&mut self) -> Result<(), Error> {
        self.process = Some(Process::spawn(&self.options)?);
        Ok(())
    }

    /// Waits until it serves. An error, which quotes its standard error, when it ends or the time is over first.
    pub fn wait_until_it_serves(&mut self, patience: Duration) -> Result<(), Error> {
        self.running()?.wait_for_line(|line| line.starts_with(GREETING), patience).map(drop)
    }

    /// Starts it and waits until it serves.
    pub fn start(&mut self, patience: Duration) -> Result<(), Error> {
        self.spawn()?;
        self.wait_until_it_serves(patience)
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.running()?.kill()?;
        self.process = None;
        Ok(())
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self, patience: Duration) -> Result<ExitStatus, Error> {
        let process = self.running()?;
        process.signal(Signal::SIGTERM)?;
        let status = process.wait(patience)?;
        self.process = None;
        Ok(status)
    }

    /// Its process.
    pub fn running(&mut self) -> Result<&mut Process, Error> {
        self.process.as_mut().ok_or_else(|| Error::other("looking for the node", "it does not run"))
    }

    /// All that its processes wrote to their standard error.
    pub fn stderr(&self) -> Result<String, Error> {
        let file = self.options.stderr_file();
        let bytes = std::fs::read(file).naming(|| format!("reading {}", file.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_free_ports_are_two_ports_that_no_outgoing_connection_gets() {
        let (one, other) = (free_port().expect("a port"), free_port().expect("a port"));
        assert_ne!(one, other);
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("read");
        let lowest: u16 = range.split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number");
        assert!(one < lowest && other < lowest, "{one}, {other} and {lowest}");
    }
}
