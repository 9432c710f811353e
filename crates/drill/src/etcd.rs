//! An etcd cluster on loopback: members that are killed, frozen, wiped and started again. Needs Debian's `etcd-server` and `etcd-client`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::{Error, Naming as _};
use crate::process::{Options, Process, Signal};
use crate::server::free_port;

/// How long `etcdctl` may take.
const PATIENCE: &str = "20s";

/// How long the members may take to count as connected, and how often that is looked at.
const RECONNECTED: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(100);

/// Where a member's data lies that it has lost.
const LOST: &str = "data-that-was-lost";

/// Certificates for the members' both sides, as PEM files. Clients and other members have to show one of the same authority.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's.
    pub authority: PathBuf,
    /// The members', for 127.0.0.1.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// How a cluster is set up.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// With these the members speak TLS, and take nobody without a certificate.
    pub certificates: Option<Certificates>,
    /// At how many bytes of database a member refuses to write; 0 for etcd's own 2 GiB.
    pub quota: u64,
}

/// One member.
#[derive(Debug)]
struct Member {
    name: String,
    folder: PathBuf,
    client_port: u16,
    peer_port: u16,
    process: Option<Process>,
    /// Ends it when this process ends without ending it, as one does that is killed.
    guard: Option<Process>,
}

impl Drop for Member {
    fn drop(&mut self) {
        // Before the process, whose number may go to another one.
        self.guard = None;
    }
}

/// The cluster. Its processes end and its data goes when it is dropped.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    settings: Settings,
    _folder: TempDir,
}

impl Etcd {
    /// Starts a cluster of so many members, with the settings that the design asks for. Returns at once: clients wait for it.
    pub fn start(members: usize) -> Result<Self, Error> {
        Self::start_with(members, Settings::default())
    }

    /// The same with other settings.
    pub fn start_with(members: usize, settings: Settings) -> Result<Self, Error> {
        let folder = TempDir::with_prefix("ieum-etcd-").naming(|| "making a folder for etcd".to_owned())?;
        let member = |number| {
            let name = format!("m{number}");
            let folder = folder.path().join(&name);
            std::fs::create_dir(&folder).naming(|| format!("making {}", folder.display()))?;
            Ok(Member { name, folder, client_port: free_port()?, peer_port: free_port()?, process: None, guard: None })
        };
        let members = (1..=members).map(member).collect::<Result<_, Error>>()?;
        let mut cluster = Self { members, settings, _folder: folder };
        for at in 0..cluster.members.len() {
            cluster.spawn(at, "new")?;
        }
        Ok(cluster)
    }

    fn member(&self, at: usize) -> Result<&Member, Error> {
        self.members.get(at).ok_or_else(|| Error::other("looking for a member of etcd", format!("there is no {at}")))
    }

    fn running(&mut self, at: usize) -> Result<&mut Process, Error> {
        let process = self.members.get_mut(at).and_then(|member| member.process.as_mut());
        process.ok_or_else(|| Error::other("looking for a member of etcd", format!("{at} does not run")))
    }

    fn spawn(&mut self, at: usize, state: &str) -> Result<(), Error> {
        let member = self.member(at)?;
        let (client, peer) = (self.url(member), self.peer_url(member));
        let mut options = Options::new("etcd", &member.folder)
            .args(["--name", &member.name, "--data-dir", "data", "--logger", "zap"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.initial(), "--initial-cluster-state", state])
            .args(["--pre-vote", "--heartbeat-interval", "100", "--election-timeout", "500"])
            .args(["--snapshot-count", "2000", "--quota-backend-bytes", &self.settings.quota.to_string()]);
        if let Some(Certificates { authority, certificate, key }) = &self.settings.certificates {
            options = options.arg("--client-cert-auth").arg("--trusted-ca-file").arg(authority);
            options = options.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
            options = options.arg("--peer-client-cert-auth").arg("--peer-trusted-ca-file").arg(authority);
            options = options.arg("--peer-cert-file").arg(certificate).arg("--peer-key-file").arg(key);
        }
        let process = Process::spawn(&options)?;
        // Its standard input ends with us.
        let guard = Options::new("sh", &member.folder).args(["-c", "read -r nothing; kill -9 \"$0\""]);
        let guard = Process::spawn(&guard.arg(process.id().to_string()).hold_stdin())?;
        if let Some(member) = self.members.get_mut(at) {
            (member.process, member.guard) = (Some(process), Some(guard));
        }
        Ok(())
    }

    /// The members as each is told of them when it begins.
    fn initial(&self) -> String {
        let each = self.members.iter().map(|member| format!("{}={}", member.name, self.peer_url(member)));
        each.collect::<Vec<_>>().join(",")
    }

    fn url(&self, member: &Member) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), member.client_port)
    }

    fn peer_url(&self, member: &Member) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), member.peer_port)
    }

    fn scheme(&self) -> &'static str {
        if self.settings.certificates.is_some() { "https" } else { "http" }
    }

    /// Where the members answer clients.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| self.url(member)).collect()
    }

    /// SIGKILL.
    pub fn kill(&mut self, at: usize) -> Result<(), Error> {
        self.running(at)?.kill()?;
        if let Some(member) = self.members.get_mut(at) {
            (member.process, member.guard) = (None, None);
        }
        Ok(())
    }

    /// Starts a member that was killed, on its data.
    pub fn restart(&mut self, at: usize) -> Result<(), Error> {
        self.spawn(at, "existing")
    }

    /// Stops a member without its noticing: SIGSTOP. Its connections stay open.
    pub fn freeze(&mut self, at: usize) -> Result<(), Error> {
        self.running(at)?.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen member go on.
    pub fn thaw(&mut self, at: usize) -> Result<(), Error> {
        self.running(at)?.signal(Signal::SIGCONT)
    }

    /// Takes a killed member's disk away and brings it back empty, by remove and add, which is the only way.
    pub fn replace(&mut self, at: usize) -> Result<(), Error> {
        let (name, data, peer) = {
            let member = self.member(at)?;
            (member.name.clone(), member.folder.join("data"), self.peer_url(member))
        };
        std::fs::remove_dir_all(&data).naming(|| format!("removing {}", data.display()))?;
        let others = self.endpoints_but(at);
        let listed = self.control(&others, &["member", "list"])?;
        let id =
            listed.lines().find(|line| line.contains(&format!(" {name},"))).and_then(|line| line.split(',').next());
        let id = id.ok_or_else(|| Error::other("looking for a member's id", listed.clone()))?;
        self.control(&others, &["member", "remove", id])?;
        let adding = format!("--peer-urls={peer}");
        let deadline = Instant::now() + RECONNECTED;
        loop {
            match self.control(&others, &["member", "add", &name, &adding]) {
                // etcd changes its members only when the others have been connected for five seconds, and does not tell when that is.
                Err(error) if error.to_string().contains("unhealthy cluster") && Instant::now() < deadline => {
                    std::thread::sleep(GLANCE);
                }
                added => break drop(added?),
            };
        }
        self.spawn(at, "existing")
    }

    /// All members lose their data at once and begin again empty, as one new cluster. [`Self::find_again`] brings back what was lost.
    pub fn lose(&mut self) -> Result<(), Error> {
        self.exchange(LOST, None)
    }

    /// The members begin again with what [`Self::lose`] has taken from them.
    pub fn find_again(&mut self) -> Result<(), Error> {
        self.exchange("data-after-the-loss", Some(LOST))
    }

    /// The same once more, after [`Self::find_again`].
    pub fn lose_again(&mut self) -> Result<(), Error> {
        self.exchange("data-that-was-lost-again", None)
    }

    /// A backup of what is stored, in a new file.
    pub fn save(&self, file: &Path) -> Result<(), Error> {
        let file = file.display().to_string();
        // Of one member: that is what etcd makes a backup of.
        self.control(&self.url(self.member(0)?), &["snapshot", "save", &file]).map(drop)
    }

    /// All members are killed and begin again with what a backup holds, as an operator would have them: what was stored since is gone.
    pub fn restore(&mut self, file: &Path) -> Result<(), Error> {
        self.exchange_by("data-before-the-backup-was-restored", |cluster, at| {
            let (member, members) = (cluster.member(at)?, cluster.initial());
            let (file, data) = (file.display().to_string(), member.folder.join("data").display().to_string());
            let restoring = ["snapshot", "restore", &file, "--data-dir", &data, "--name", &member.name];
            let among = ["--initial-cluster", &members, "--initial-advertise-peer-urls", &cluster.peer_url(member)];
            cluster.control(&cluster.url(member), &[&restoring[..], &among].concat()).map(drop)
        })
    }

    /// Kills all members, puts their data aside under a name, and starts them with what lies under another.
    fn exchange(&mut self, aside: &str, instead: Option<&str>) -> Result<(), Error> {
        self.exchange_by(aside, |cluster, at| {
            let Some(instead) = instead else { return Ok(()) };
            rename(&cluster.member(at)?.folder, instead, "data")
        })
    }

    /// The same with what is put there for each.
    fn exchange_by(&mut self, aside: &str, put: impl Fn(&Self, usize) -> Result<(), Error>) -> Result<(), Error> {
        for at in 0..self.members.len() {
            self.kill(at)?;
        }
        for at in 0..self.members.len() {
            rename(&self.member(at)?.folder, "data", aside)?;
            put(self, at)?;
        }
        for at in 0..self.members.len() {
            self.spawn(at, "new")?;
        }
        Ok(())
    }

    /// Throws everything away that is stored.
    pub fn clear(&self) -> Result<(), Error> {
        self.control(&self.endpoints_but(usize::MAX), &["del", "", "--prefix"]).map(drop)
    }

    /// Deletes a key, stores one or does whatever else `etcdctl` can.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Error> {
        self.control(&self.endpoints_but(usize::MAX), arguments)
    }

    /// Which member leads.
    pub fn leader(&self) -> Result<usize, Error> {
        for (at, endpoint) in self.endpoints().iter().enumerate() {
            let status = self.control(endpoint, &["endpoint", "status", "-w", "fields"])?;
            let field = |name: &str| {
                status
                    .lines()
                    .find_map(|line| line.strip_prefix(name).map(|rest| rest.trim_start_matches([' ', ':']).to_owned()))
            };
            if field("\"MemberID\"").is_some_and(|id| Some(id) == field("\"Leader\"")) {
                return Ok(at);
            }
        }
        Err(Error::other("looking for the leader of etcd", "there is none"))
    }

    fn endpoints_but(&self, left_out: usize) -> String {
        let endpoints = self.endpoints().into_iter().enumerate();
        endpoints.filter(|(at, _)| *at != left_out).map(|(_, url)| url).collect::<Vec<_>>().join(",")
    }

    fn control(&self, endpoints: &str, arguments: &[&str]) -> Result<String, Error> {
        let doing = || format!("etcdctl {}", arguments.join(" "));
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args([
            "--endpoints",
            endpoints,
            "--command-timeout",
            PATIENCE,
            "--dial-timeout",
            PATIENCE,
        ]);
        if let Some(Certificates { authority, certificate, key }) = &self.settings.certificates {
            command.arg("--cacert").arg(authority).arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        let output = command.args(arguments).output().naming(|| format!("{} (Debian: etcd-client)", doing()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::other(doing(), String::from_utf8_lossy(&output.stderr)))
    }

    /// The folder of a member: its standard error and its data.
    pub fn folder(&self, at: usize) -> Result<&Path, Error> {
        self.member(at).map(|member| member.folder.as_path())
    }

    /// Waits until a member that was started takes part in the cluster.
    pub fn wait_until_it_serves(&self, at: usize) -> Result<(), Error> {
        let member = self.member(at)?;
        self.control(&self.url(member), &["get", "nothing"]).map(drop)
    }
}

fn rename(folder: &Path, from: &str, to: &str) -> Result<(), Error> {
    std::fs::rename(folder.join(from), folder.join(to)).naming(|| format!("renaming {from} of {}", folder.display()))
}
