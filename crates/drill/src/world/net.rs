//! The machine's network divided: a namespace for each data center and one for the users, with two networks between them.
//!
//! ```text
//!   world: users .254 ──┬─────────────┬─────────────┐   10.77.0.0/24 `users`: between people and data centers
//!                     dc-a .1       dc-b .2       dc-c .3
//!   world: (operator) ──┴─────────────┴─────────────┘   10.78.0.0/24 `between`: etcd, peers
//! ```
//!
//! Neighbours are told, not asked for: what is sent to a data center that is dark or cut off vanishes without an answer, as it does in a
//! network that is larger than one wire.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, Naming as _};
use crate::process;

/// The namespace of the users.
pub const WORLD: &str = "world";
/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";
/// The users' own number in both networks.
pub(super) const OUTSIDE: u8 = 254;

/// One of the two networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Between the users and the data centers.
    Users,
    /// Between the data centers.
    Between,
}

impl Network {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Users, Self::Between];

    /// The name of its interface in each data center.
    pub fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Between => "between",
        }
    }

    /// The address of a data center in it; data centers are counted from 0.
    pub fn address(self, dc: usize) -> Ipv4Addr {
        self.numbered(u8::try_from(dc + 1).unwrap_or(u8::MAX))
    }

    pub(super) fn numbered(self, number: u8) -> Ipv4Addr {
        let second = match self {
            Self::Users => 77,
            Self::Between => 78,
        };
        Ipv4Addr::new(10, second, 0, number)
    }

    fn hardware(self, number: u8) -> String {
        format!("02:00:00:{:02x}:00:{number:02x}", self as u8)
    }
}

/// Which way a data center hears and is heard by the others. Its users are not concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Neither hears the other.
    BothWays,
    /// It hears nothing, and is heard.
    Deaf,
    /// It hears, and is not heard.
    Mute,
}

/// The name of a data center's namespace.
pub fn namespace(name: &str) -> String {
    format!("dc-{name}")
}

/// Makes the namespaces and these networks. The calling process must have a mount namespace of its own: with that the names go when it ends,
/// and with the last process in it the namespaces.
pub fn build(names: &[&str], networks: &[Network]) -> Result<(), Error> {
    let making = || format!("making a place for the names of namespaces, {NAMES}");
    std::fs::create_dir_all(NAMES).naming(making)?;
    mount(Some("names"), NAMES, Some("tmpfs"), MsFlags::empty(), None::<&str>).naming(making)?;
    ip(&["netns", "add", WORLD])?;
    ip(&["-n", WORLD, "link", "set", "lo", "up"])?;
    for name in names {
        let inside = namespace(name);
        ip(&["netns", "add", &inside])?;
        ip(&["-n", &inside, "link", "set", "lo", "up"])?;
    }
    networks.iter().try_for_each(|network| join(*network, names))
}

/// From now on this thread, and what it starts, sees mounts of its own, as [`build`] asks for. Needs root.
pub fn have_own_mounts() -> Result<(), Error> {
    let doing = || "having mounts of its own (needs root)".to_owned();
    unshare(CloneFlags::CLONE_NEWNS).naming(doing)?;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).naming(doing)
}

/// From now on this thread, and what it starts, is in a namespace of [`build`].
pub fn enter(namespace: &str) -> Result<(), Error> {
    let entering = || format!("entering {namespace}");
    let entered = std::fs::File::open(file(namespace)).naming(entering)?;
    setns(&entered, CloneFlags::CLONE_NEWNET).naming(entering)
}

fn join(network: Network, names: &[&str]) -> Result<(), Error> {
    let (bridge, own) = (network.name(), network.numbered(OUTSIDE));
    ip(&["-n", WORLD, "link", "add", bridge, "address", &network.hardware(OUTSIDE), "type", "bridge"])?;
    ip(&["-n", WORLD, "addr", "add", &format!("{own}/24"), "dev", bridge])?;
    ip(&["-n", WORLD, "link", "set", bridge, "up"])?;
    let count = u8::try_from(names.len()).unwrap_or(u8::MAX);
    for (number, name) in (1..=count).zip(names) {
        let (inside, port) = (namespace(name), port(network, name));
        let (hardware, address) = (network.hardware(number), network.numbered(number));
        ip(&[
            "-n", &inside, "link", "add", bridge, "address", &hardware, "type", "veth", "peer", "name", &port, "netns",
            WORLD,
        ])?;
        ip(&["-n", WORLD, "link", "set", &port, "master", bridge, "up"])?;
        ip(&["-n", &inside, "addr", "add", &format!("{address}/24"), "dev", bridge])?;
        ip(&["-n", &inside, "link", "set", bridge, "up"])?;
        for other in (1..=count).filter(|other| *other != number).chain([OUTSIDE]) {
            meet(&inside, network, other)?;
        }
        meet(WORLD, network, number)?;
    }
    Ok(())
}

fn meet(namespace: &str, network: Network, number: u8) -> Result<(), Error> {
    let (address, hardware) = (network.numbered(number).to_string(), network.hardware(number));
    ip(&["-n", namespace, "neigh", "replace", &address, "lladdr", &hardware, "dev", network.name(), "nud", "permanent"])
}

/// The end of a data center's wire in the world.
fn port(network: Network, name: &str) -> String {
    format!("{}-{name}", network.name())
}

/// Pulls out both wires of a data center, or puts them back.
pub fn plug(name: &str, plugged: bool) -> Result<(), Error> {
    let state = if plugged { "up" } else { "down" };
    Network::BOTH.into_iter().try_for_each(|network| ip(&["-n", WORLD, "link", "set", &port(network, name), state]))
}

/// Drops what comes and goes between a data center and the others.
pub fn cut(name: &str, cut: Cut) -> Result<(), Error> {
    let deaf = "chain hears { type filter hook input priority 0; iifname \"between\" drop; }";
    let mute = "chain says { type filter hook output priority 0; oifname \"between\" drop; }";
    let chains = match cut {
        Cut::BothWays => format!("{deaf}\n{mute}"),
        Cut::Deaf => deaf.to_owned(),
        Cut::Mute => mute.to_owned(),
    };
    heal(name)?;
    filter(name, &format!("table inet drill {{\n{chains}\n}}\n"))
}

/// Takes [`cut`] back.
pub fn heal(name: &str) -> Result<(), Error> {
    // Made first, lest there be none to remove.
    filter(name, "table inet drill\ndelete table inet drill\n")
}

fn filter(name: &str, rules: &str) -> Result<(), Error> {
    run(within(&namespace(name), "nft").args(["-f", "-"]), rules).map(drop)
}

pub(super) fn ip(arguments: &[&str]) -> Result<(), Error> {
    run(Command::new("ip").args(arguments), "").map(drop)
}

pub(super) fn file(namespace: &str) -> PathBuf {
    Path::new(NAMES).join(namespace)
}

/// A command in a namespace of the network, and in no other one.
pub fn within(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", file(namespace).display())).arg("--").arg(program);
    command
}

/// The same for a process that is held; its standard error and working directory are the folder's.
pub fn process_within(namespace: &str, program: &Path, folder: &Path) -> process::Options {
    let entering = format!("--net={}", file(namespace).display());
    process::Options::new("nsenter", folder).arg(entering).arg("--").arg(program)
}

/// Runs a command to its end with this standard input; what it printed. An error, which quotes its standard error, when it fails.
pub fn run(command: &mut Command, input: &str) -> Result<String, Error> {
    use std::io::Write as _;
    let doing = format!("{command:?}");
    let naming = || format!("{doing} (Debian: iproute2, nftables, etcd-client, util-linux)");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().naming(naming)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).naming(naming)?;
    }
    let output = child.wait_with_output().naming(naming)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::other(doing, String::from_utf8_lossy(&output.stderr).trim()))
}
