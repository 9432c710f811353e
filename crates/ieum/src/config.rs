//! What an operator sets: one commented TOML file (`ieum.example.toml`) and environment variables over it.
//!
//! The variable of `[node] data` is `IEUM_NODE__DATA`: section and key in capitals, two underscores between. An unknown key, in either, is an
//! error.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ieum_gateway::options::{Limits, Passwords, Rate};
use ieum_gateway::{Options, Registration};
use ieum_planted::Bug;
use serde::Deserialize;

/// Variables that begin like ours and are no settings.
const OTHER_VARIABLES: &[&str] = &[
    "IEUM_CONFIG",
    "IEUM_LOG",
    "IEUM_PLANTED",
    "IEUM_SERVER",
    "IEUM_PROFILE",
    "IEUM_HOME",
    "IEUM_PASSWORD",
    "IEUM_NEW_PASSWORD",
    "IEUM_CA",
];

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// `[node]`
    pub node: Node,
    /// `[log]`
    pub log: Log,
    /// `[peers]`
    pub peers: Peers,
    /// `[listen]`
    pub listen: Listen,
    /// `[accounts]`
    pub accounts: Accounts,
    /// `[limits]`
    pub limits: LimitSettings,
    /// `[view]`
    pub view: View,
    /// `[snapshots]`
    pub snapshots: Snapshots,
}

/// `[node]`: who this node is and where its data lies.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    /// The cell's number.
    pub cell: u16,
    /// The node's number within the cell.
    pub number: u32,
    /// The name of its data center.
    pub dc: String,
    /// The folder for its data.
    pub data: PathBuf,
    /// Room to keep free on its disk, in MiB.
    pub reserve_mib: u64,
    /// Over how many seconds its clients are sent to the other nodes when it stops.
    pub drain_seconds: u64,
}

/// Which log the cell has.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq, Default)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Engine {
    /// SQLite in the data folder: a cell of one node.
    #[default]
    Sqlite,
    /// An etcd cluster: a cell of several nodes.
    Etcd,
}

/// PEM files by which two sides know each other.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificates {
    /// The authority that signed both.
    pub authority: PathBuf,
    /// This side's certificate and its chain.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// Which.
    pub engine: Engine,
    /// Where etcd's members answer, the nearest first.
    pub endpoints: Vec<String>,
    /// How etcd and the node know each other; needed where the endpoints are `https`.
    pub certificates: Option<Certificates>,
}

/// `[peers]`: the other nodes of the cell.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Peers {
    /// Address and port where they come in.
    pub listen: Option<SocketAddr>,
    /// What they are told that this is, such as `http://10.0.0.7:7400`.
    pub address: Option<String>,
    /// Where some of them are.
    pub addresses: Vec<String>,
    /// How the nodes know each other.
    pub certificates: Option<Certificates>,
    /// Nobody but the nodes of the cell reaches the network that `listen` is in, so that there need be no certificates.
    pub trusted_network: bool,
}

impl Peers {
    /// What the others are told that this node is.
    pub(crate) fn own_address(&self) -> Option<String> {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        self.listen.map(|listen| self.address.clone().unwrap_or_else(|| format!("{scheme}://{listen}")))
    }

    /// Whoever reaches it reads every message and is believed.
    fn check(&self) -> Result<(), Error> {
        let reached = self.listen.is_some_and(|listen| !listen.ip().is_loopback());
        let bare = self.certificates.is_none() && !self.trusted_network && !Bug::ListensUnguarded.planted();
        if reached && bare {
            return Err(invalid(
                "peers",
                "listen can be reached from other machines, and whoever reaches it would read every message and be believed: set \
                 certificates (docs/operating/three-data-centers.md), or trusted_network = true where nobody but the nodes of the \
                 cell reaches it",
            ));
        }
        Ok(())
    }
}

/// `[listen]`: where clients come in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// PEM file with the certificate and its chain. With `key`, everything is TLS.
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub key: Option<PathBuf>,
    /// Base addresses that clients are told, such as `https://a.example`.
    pub endpoints: Vec<String>,
    /// Address and port where figures are shown, instead of where clients come in.
    pub metrics: Option<SocketAddr>,
}

/// Who may register.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RegistrationMode {
    /// Anybody.
    Open,
    /// With an invitation code (`ieum invite`).
    Invitation,
    /// Nobody.
    Closed,
}

/// `[accounts]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Accounts {
    /// Who may register.
    pub registration: RegistrationMode,
    /// For how many seconds an access token is good.
    pub token_seconds: u64,
    /// Argon2id's memory in KiB.
    pub password_memory_kib: u32,
    /// Argon2id's passes.
    pub password_passes: u32,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitSettings {
    /// Commands per device and second, in tokens: some cost more than one.
    pub commands_per_second: u32,
    /// How many of them at once.
    pub commands_burst: u32,
    /// Hellos per device and second.
    pub hellos_per_second: u32,
    /// How many of them at once.
    pub hellos_burst: u32,
    /// Frames per session and second.
    pub frames_per_second: u32,
    /// How many of them at once.
    pub frames_burst: u32,
    /// Their bytes per session and second.
    pub frame_bytes_per_second: u32,
    /// How many of them at once.
    pub frame_bytes_burst: u32,
    /// HTTP requests per address and second.
    pub requests_per_second: u32,
    /// How many of them at once.
    pub requests_burst: u32,
    /// Registrations and sign-ins per address and second.
    pub sign_ins_per_second: u32,
    /// How many of them at once.
    pub sign_ins_burst: u32,
    /// Connections per address.
    pub sessions_per_address: usize,
    /// Those of them that are no sessions.
    pub sessionless_per_address: usize,
    /// Sessions in all, from their hello on.
    pub sessions: usize,
    /// Connections in all.
    pub connections: usize,
}

/// `[view]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct View {
    /// Memory for rows that were read lately, in MiB.
    pub cache_mib: u64,
}

/// `[snapshots]`: when the view is copied; the log is kept from the older of two copies on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Snapshots {
    /// At least every so many hours.
    pub hours: u64,
    /// And after so many MiB of log.
    pub log_mib: u64,
    /// And after so many commands.
    pub commands: u64,
}

impl Default for Node {
    fn default() -> Self {
        Self { cell: 1, number: 1, dc: "a".to_owned(), data: PathBuf::from("data"), reserve_mib: 512, drain_seconds: 5 }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            certificate: None,
            key: None,
            endpoints: Vec::new(),
            metrics: None,
        }
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            registration: RegistrationMode::Open,
            token_seconds: 15 * 60,
            password_memory_kib: 19 * 1024,
            password_passes: 2,
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        let limits = Options::default().limits;
        Self {
            commands_per_second: limits.commands.per_second,
            commands_burst: limits.commands.burst,
            hellos_per_second: limits.hellos.per_second,
            hellos_burst: limits.hellos.burst,
            frames_per_second: limits.frames.per_second,
            frames_burst: limits.frames.burst,
            frame_bytes_per_second: limits.frame_bytes.per_second,
            frame_bytes_burst: limits.frame_bytes.burst,
            requests_per_second: limits.requests.per_second,
            requests_burst: limits.requests.burst,
            sign_ins_per_second: limits.sign_ins.per_second,
            sign_ins_burst: limits.sign_ins.burst,
            sessions_per_address: limits.sessions_per_address,
            sessionless_per_address: limits.sessionless_per_address,
            sessions: limits.sessions,
            connections: limits.connections,
        }
    }
}

impl Default for View {
    fn default() -> Self {
        Self { cache_mib: 256 }
    }
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { hours: 24, log_mib: 4096, commands: 50_000_000 }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file could not be read.
    #[error("reading {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{place}: {message}")]
    Invalid {
        /// In which file, or which variable.
        place: String,
        /// What is wrong.
        message: String,
    },
}

fn invalid(place: impl ToString, message: impl ToString) -> Error {
    Error::Invalid { place: place.to_string(), message: message.to_string() }
}

impl Config {
    /// The defaults, the file over them if there is one, and `variables` over that.
    pub(crate) fn load(
        file: Option<&Path>,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Error> {
        let mut table = match file {
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
                // Read on its own first, so that an error names the line.
                toml::from_str::<Self>(&text).map_err(|e| invalid(path.display(), e))?;
                toml::from_str::<toml::Table>(&text).map_err(|e| invalid(path.display(), e))?
            }
            None => toml::Table::new(),
        };
        for (name, value) in variables {
            // A name that is no UTF-8 is nobody's setting.
            let Some(name) = name.to_str() else { continue };
            if let Some(path) = name.strip_prefix("IEUM_").filter(|_| !OTHER_VARIABLES.contains(&name)) {
                let value = value.to_str().ok_or_else(|| invalid(name, "its value is not UTF-8"))?;
                set(&mut table, name, path, value)?;
            }
        }
        let config: Self = table.try_into().map_err(|e| invalid("settings", e))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Error> {
        if self.node.cell > ieum_core::ids::MAX_CELL {
            return Err(invalid("node.cell", format!("at most {}", ieum_core::ids::MAX_CELL)));
        }
        if self.node.number == 0 {
            return Err(invalid("node.number", "1 and up"));
        }
        if self.node.dc.is_empty() || self.node.dc.len() > 64 {
            return Err(invalid("node.dc", "1 to 64 bytes"));
        }
        if self.node.reserve_mib > 1 << 40 {
            return Err(invalid("node.reserve_mib", "more than any disk has"));
        }
        if self.node.drain_seconds > 3_600 {
            return Err(invalid("node.drain_seconds", "an hour at most: who stops a node waits for it"));
        }
        if (self.log.engine == Engine::Etcd) == self.log.endpoints.is_empty() {
            return Err(invalid("log", "endpoints are where etcd answers, and go with engine = \"etcd\""));
        }
        if self.log.engine == Engine::Sqlite && (self.peers.listen.is_some() || !self.peers.addresses.is_empty()) {
            return Err(invalid(
                "peers",
                "a cell with the log in SQLite has no other nodes: set [log] engine = \"etcd\"",
            ));
        }
        self.peers.check()?;
        if self.listen.certificate.is_some() != self.listen.key.is_some() {
            return Err(invalid("listen", "certificate and key go together"));
        }
        self.limits.check()
    }

    /// The gateway's part.
    pub(crate) fn gateway(&self) -> Options {
        let (limits, accounts) = (&self.limits, &self.accounts);
        let rate = |per_second, burst| Rate { per_second, burst };
        let defaults = Options::default();
        Options {
            registration: match accounts.registration {
                RegistrationMode::Open => Registration::Open,
                RegistrationMode::Invitation => Registration::Invitation,
                RegistrationMode::Closed => Registration::Closed,
            },
            endpoints: self.listen.endpoints.clone(),
            metrics_apart: self.listen.metrics.is_some(),
            token_life: Duration::from_secs(accounts.token_seconds),
            passwords: Passwords {
                memory_kib: accounts.password_memory_kib,
                passes: accounts.password_passes,
                ..defaults.passwords
            },
            limits: Limits {
                commands: rate(limits.commands_per_second, limits.commands_burst),
                hellos: rate(limits.hellos_per_second, limits.hellos_burst),
                frames: rate(limits.frames_per_second, limits.frames_burst),
                frame_bytes: rate(limits.frame_bytes_per_second, limits.frame_bytes_burst),
                requests: rate(limits.requests_per_second, limits.requests_burst),
                sign_ins: rate(limits.sign_ins_per_second, limits.sign_ins_burst),
                sessions_per_address: limits.sessions_per_address,
                sessionless_per_address: limits.sessionless_per_address,
                sessions: limits.sessions,
                connections: limits.connections,
            },
            ..defaults
        }
    }
}

impl LimitSettings {
    /// A limit of none, or one that another makes unreachable, is a server that serves nobody, or fewer than it says.
    fn check(&self) -> Result<(), Error> {
        let at_least_one = [
            ("commands_per_second", u64::from(self.commands_per_second)),
            ("commands_burst", u64::from(self.commands_burst)),
            ("hellos_per_second", u64::from(self.hellos_per_second)),
            ("hellos_burst", u64::from(self.hellos_burst)),
            ("frames_per_second", u64::from(self.frames_per_second)),
            ("frames_burst", u64::from(self.frames_burst)),
            ("frame_bytes_per_second", u64::from(self.frame_bytes_per_second)),
            ("frame_bytes_burst", u64::from(self.frame_bytes_burst)),
            ("requests_per_second", u64::from(self.requests_per_second)),
            ("requests_burst", u64::from(self.requests_burst)),
            ("sign_ins_per_second", u64::from(self.sign_ins_per_second)),
            ("sign_ins_burst", u64::from(self.sign_ins_burst)),
            ("sessions_per_address", self.sessions_per_address as u64),
            ("sessionless_per_address", self.sessionless_per_address as u64),
            ("sessions", self.sessions as u64),
        ];
        for (key, limit) in at_least_one {
            if limit == 0 {
                return Err(invalid(format!("limits.{key}"), "1 and up: with none, nobody is served"));
            }
        }
        if self.connections < self.sessions {
            let message = format!("at least as many as limits.sessions, {}: each session takes one", self.sessions);
            return Err(invalid("limits.connections", message));
        }
        Ok(())
    }
}

/// Sets the key that a variable names.
fn set(table: &mut toml::Table, name: &str, path: &str, value: &str) -> Result<(), Error> {
    let (section, key) = path
        .split_once("__")
        .ok_or_else(|| invalid(name, "no such setting: a variable is IEUM_, the section, two underscores, the key"))?;
    let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
    let value = value_of(&section, &key, value);
    let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
    let section = section.as_table_mut().ok_or_else(|| invalid(name, "no such section"))?;
    section.insert(key, value);
    Ok(())
}

/// A number, a flag or a list as TOML writes it, but text where the setting is a text: a data center may be called 1.
fn value_of(section: &str, key: &str, value: &str) -> toml::Value {
    let fits = |value: &toml::Value| {
        let inner = toml::Table::from_iter([(key.to_owned(), value.clone())]);
        toml::Table::from_iter([(section.to_owned(), inner.into())]).try_into::<Config>().is_ok()
    };
    let text = toml::Value::from(value);
    match format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("v")) {
        Some(parsed) if fits(&parsed) || !fits(&text) => parsed,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
        static FILES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = FILES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("ieum-config-{}-{number}", std::process::id()));
        std::fs::write(&file, text).unwrap();
        let variables: Vec<(OsString, OsString)> = variables.iter().map(|(k, v)| (k.into(), v.into())).collect();
        let loaded = Config::load(Some(&file), variables.into_iter());
        std::fs::remove_file(&file).unwrap();
        loaded
    }

    #[test]
    fn the_example_holds_the_defaults() {
        let example = toml::from_str::<Config>(include_str!("../../../ieum.example.toml")).unwrap();
        assert_eq!(format!("{example:?}"), format!("{:?}", Config::default()));
    }

    #[test]
    fn variables_go_over_the_file() {
        let set = load(
            "[node]\ncell = 7\n",
            &[("IEUM_NODE__DATA", "/srv/x"), ("IEUM_LIMITS__SESSIONS", "12"), ("HOME", "/")],
        );
        let config = set.unwrap();
        assert_eq!((config.node.cell, config.limits.sessions), (7, 12));
        assert_eq!(config.node.data, PathBuf::from("/srv/x"));
    }

    #[test]
    fn a_text_may_look_like_a_number() {
        let variables = [("IEUM_NODE__DC", "1"), ("IEUM_NODE__DATA", "123"), ("IEUM_NODE__NUMBER", "2")];
        let config = load("", &variables).unwrap();
        assert_eq!((config.node.dc.as_str(), config.node.number), ("1", 2));
        assert_eq!(config.node.data, PathBuf::from("123"));
        let quoted = load("", &[("IEUM_NODE__DC", "\"seoul\""), ("IEUM_LISTEN__ENDPOINTS", "[\"ws://a\"]")]).unwrap();
        assert_eq!((quoted.node.dc.as_str(), quoted.listen.endpoints.len()), ("seoul", 1));
        assert!(load("", &[("IEUM_LIMITS__SESSIONS", "-1")]).unwrap_err().to_string().contains("-1"));
    }

    #[test]
    fn variables_that_are_no_settings_are_passed_over() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = || OsString::from_vec(vec![0xff]);
        let passed_over = [
            ("IEUM_NEW_PASSWORD".into(), odd()),
            ("IEUM_CA".into(), "/ca.pem".into()),
            (OsString::from_vec(b"IEUM_\xff".to_vec()), "x".into()),
            ("OTHER".into(), odd()),
        ];
        assert!(Config::load(None, passed_over.into_iter()).is_ok());
        let error = Config::load(None, [("IEUM_NODE__DC".into(), odd())].into_iter()).unwrap_err();
        assert!(error.to_string().contains("IEUM_NODE__DC"), "{error}");
    }

    #[test]
    fn a_node_that_others_reach_needs_certificates() {
        let peers = |rest: &str| load(&format!("[log]\nengine = \"etcd\"\nendpoints = [\"x\"]\n[peers]\n{rest}"), &[]);
        let certificates = "certificates = { authority = \"a\", certificate = \"c\", key = \"k\" }\n";
        for listen in ["0.0.0.0:7400", "10.1.0.2:7400", "[::]:7400"] {
            let listen = format!("listen = \"{listen}\"\n");
            let error = peers(&listen).unwrap_err().to_string();
            assert!(error.contains("set certificates") && error.contains("trusted_network"), "{error}");
            assert!(peers(&format!("{listen}{certificates}")).is_ok());
            assert!(peers(&format!("{listen}trusted_network = true")).is_ok());
        }
        assert!(peers("listen = \"127.0.0.1:7400\"").is_ok());
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        assert!(load("[node]\ncel = 7\n", &[]).unwrap_err().to_string().contains("cel"));
        assert!(load("", &[("IEUM_NODE__CEL", "7")]).unwrap_err().to_string().contains("cel"));
        assert!(load("", &[("IEUM_NODE", "7")]).is_err());
        assert!(load("[node]\nnumber = 0\n", &[]).is_err());
    }

    #[test]
    fn limits_that_serve_nobody_or_fewer_than_they_say_are_errors() {
        let example = include_str!("../../../ieum.example.toml");
        let limits = example.split("[limits]").nth(1).unwrap().split("[view]").next().unwrap();
        let keys: Vec<_> = limits.lines().filter_map(|line| line.split_once(" = ")).collect();
        let keys: Vec<_> = keys.into_iter().map(|(key, _)| key).filter(|key| !key.starts_with('#')).collect();
        assert!(keys.len() > 14, "{keys:?}");
        for key in keys {
            let error = load(&format!("[limits]\n{key} = 0\n"), &[]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("limits.{key}: ")), "{error}");
            let variable = format!("IEUM_LIMITS__{}", key.to_ascii_uppercase());
            assert!(load("", &[(variable.as_str(), "0")]).is_err(), "{variable}");
        }
        let error = load("[limits]\nsessions = 30000\n", &[]).unwrap_err().to_string();
        assert!(error.contains("limits.connections") && error.contains("30000"), "{error}");
        assert!(load("[limits]\nsessions = 30000\nconnections = 30000\n", &[]).is_ok());
    }

    /// Part of `make fuzz`.
    #[test]
    fn damaged_settings() {
        let alone = ieum_fuzz::alone();
        let samples = [include_bytes!("../../../ieum.example.toml").to_vec(), b"[node]\ncell = 7\n".to_vec()];
        let target =
            ieum_fuzz::Target { name: "settings", samples: &samples, cases: 300, memory: 1 << 30, per_byte: 0 };
        target.run(&alone, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let value = text.get(..text.len().min(9)).unwrap_or_default();
            let _either = load(&text, &[]);
            if let Ok(config) = load("", &[("IEUM_NODE__DC", value), ("IEUM_LISTEN__ENDPOINTS", value)]) {
                assert!(config.check().is_ok());
            }
        });
    }
}
