//! The server under load: the real binary as another process, measured from outside.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use ieum_client::store::Identity;
use ieum_client::{Endpoint, Options, Trust};
use ieum_node::backup;
use ieum_node::folder::Folder;

use crate::error::{Error, doing};
use crate::world::{self, World};

/// What every server of a bench run is set to beyond its defaults: one machine plays ten thousand people behind one address.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("IEUM_LIMITS__COMMANDS_PER_SECOND", "1000000"),
    ("IEUM_LIMITS__COMMANDS_BURST", "1000000"),
    ("IEUM_LIMITS__REQUESTS_PER_SECOND", "1000000"),
    ("IEUM_LIMITS__REQUESTS_BURST", "1000000"),
    ("IEUM_LIMITS__SESSIONS_PER_ADDRESS", "20000"),
    ("IEUM_LIMITS__SESSIONLESS_PER_ADDRESS", "20000"),
    ("IEUM_ACCOUNTS__TOKEN_SECONDS", "1"),
    ("IEUM_LOG", "warn"),
];

/// Where a bench run keeps its data, and what its servers have in common.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    folder: PathBuf,
    tls: Option<Arc<Tls>>,
}

/// A certificate that only this run's clients trust.
#[derive(Debug)]
struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    trust: Trust,
}

impl Place {
    /// A fresh folder beneath `parent`.
    pub(crate) fn new(parent: &Path) -> Result<Self, Error> {
        let folder = parent.join(format!("bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(doing("making a folder for the servers' data", &folder))?;
        Ok(Self { folder, tls: None })
    }

    /// The same place, for servers that speak TLS.
    pub(crate) fn with_tls(&self) -> Result<Self, Error> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let made = made.map_err(|error| Error::Certificate(error.to_string()))?;
        let (certificate, key) = (self.folder.join("certificate.pem"), self.folder.join("key.pem"));
        for (path, pem) in [(&certificate, made.cert.pem()), (&key, made.signing_key.serialize_pem())] {
            std::fs::write(path, pem).map_err(doing("writing", path))?;
        }
        let trust = Trust::authorities(made.cert.pem().as_bytes());
        let trust = trust.map_err(|error| Error::Certificate(error.to_string()))?;
        Ok(Self { folder: self.folder.clone(), tls: Some(Arc::new(Tls { certificate, key, trust })) })
    }

    /// Removes everything.
    pub(crate) fn clear(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("ieum bench: {} is left behind: {error}", self.folder.display());
        }
    }

    /// A server whose cell is `world`, as if it had been restored from a backup.
    pub(crate) fn serve(&self, world: &World) -> Result<Server, Error> {
        let data = self.folder.join("data");
        if data.exists() {
            std::fs::remove_dir_all(&data).map_err(doing("removing", &data))?;
        }
        seed(world, &self.folder, &data)?;
        Server::start(self.clone(), data, "127.0.0.1:0".to_owned())
    }
}

/// Writes `world` as a backup file and restores it, as `ieum restore` does.
fn seed(world: &World, folder: &Path, data: &Path) -> Result<(), Error> {
    let file = folder.join("seed.snap");
    ieum_node::snapshot::write(world, &file).map_err(|e| Error::Seed(ieum_node::chain(&e)))?;
    backup::restore(&Folder::new(data), &file, false, ieum_node::progress::unwatched())
        .map_err(|e| Error::Seed(ieum_node::chain(&e)))?;
    std::fs::remove_file(&file).map_err(doing("removing", &file))
}

/// A server that runs.
pub(crate) struct Server {
    place: Place,
    data: PathBuf,
    address: String,
    child: Child,
}

impl Server {
    fn start(place: Place, data: PathBuf, address: String) -> Result<Self, Error> {
        let child = spawn(&place, &data, &address)?;
        let mut server = Self { place, data, address, child };
        server.address = server.greeted()?;
        Ok(server)
    }

    /// Kills it at once and starts it again at the same address.
    pub(crate) fn crash_and_start(&mut self) -> Result<(), Error> {
        self.kill();
        self.child = spawn(&self.place, &self.data, &self.address)?;
        Ok(())
    }

    /// Waits until it says where it is.
    pub(crate) fn greeted(&mut self) -> Result<String, Error> {
        // By reference, so that the pipe stays open: the server may have more to say.
        for line in self.child.stdout.as_mut().map(BufReader::new).into_iter().flat_map(BufReader::lines) {
            let line = line.map_err(doing("reading what the server says from", &self.data))?;
            if let Some((_, address)) = line.split_once("://") {
                return Ok(address.trim_end_matches('/').to_owned());
            }
        }
        let said = std::fs::read_to_string(self.place.folder.join("server.log")).unwrap_or_default();
        Err(Error::Server(said.trim().to_owned()))
    }

    fn kill(&mut self) {
        // Killed and reaped, or gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What a client of `person` is opened with.
    pub(crate) fn options(&self, person: u32, foreground: bool) -> Result<Options, Error> {
        let scheme = if self.place.tls.is_some() { "https" } else { "http" };
        let endpoint: Endpoint =
            format!("{scheme}://{}", self.address).parse().map_err(|_| Error::Server(self.address.clone()))?;
        let id = world::id(person);
        let mut options =
            Options::new(vec![endpoint]).identity(Identity { user: id, device: id, secret: world::secret(person) });
        options.limits.kept = 0;
        options.foreground = foreground;
        if let Some(tls) = &self.place.tls {
            options.trust = tls.trust.clone();
        }
        Ok(options)
    }

    /// Seconds of processor that it has used so far, user and system.
    pub(crate) fn cpu(&self) -> Result<f64, Error> {
        let path = PathBuf::from(format!("/proc/{}/stat", self.child.id()));
        let stat = std::fs::read_to_string(&path).map_err(doing("reading", &path))?;
        cpu_of(&stat).ok_or_else(|| Error::Server("its processor time cannot be read".to_owned()))
    }

    /// Its resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64, Error> {
        let path = PathBuf::from(format!("/proc/{}/status", self.child.id()));
        let status = std::fs::read_to_string(&path).map_err(doing("reading", &path))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        kib.ok_or_else(|| Error::Server("its memory cannot be read".to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A clock tick of `/proc`, in seconds: Linux tells them in hundredths, whatever the kernel runs at.
const TICK: f64 = 0.01;

/// User and system time of a line of `/proc/PID/stat`. The name in it may hold anything, so what counts is behind its last bracket.
pub(crate) fn cpu_of(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * TICK)
}

/// Seconds of processor that this process has used so far.
pub(crate) fn own_cpu() -> f64 {
    std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_of(&stat)).unwrap_or_default()
}

fn spawn(place: &Place, data: &Path, address: &str) -> Result<Child, Error> {
    let binary = std::env::current_exe().map_err(doing("finding the binary", Path::new("itself")))?;
    let log = place.folder.join("server.log");
    let said = File::create(&log).map_err(doing("making", &log))?;
    let mut command = Command::new(&binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("IEUM_") {
            command.env_remove(name);
        }
    }
    command.arg("serve").arg("--data").arg(data).env("IEUM_LISTEN__ADDRESS", address).envs(SETTINGS.iter().copied());
    if let Some(tls) = &place.tls {
        command.env("IEUM_LISTEN__CERTIFICATE", &tls.certificate).env("IEUM_LISTEN__KEY", &tls.key);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said).spawn().map_err(doing("starting", &binary))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "42 (a) b) 1 2) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_of(stat), Some(3.0));
        assert_eq!(cpu_of("42 (cut"), None);
    }
}
