//! Ieum: the binary's parts. Configuration and wiring only.

mod admin;
mod bar;
mod bring_up;
mod cell;
mod certificates;
mod config;
mod halted;
mod invite;
mod keys;
mod level;
mod marks;
mod nodes;
mod operate;
mod owner;
mod reseed;
mod serve;
mod shared;
mod signals;
mod sockets;
mod stopping;

use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use config::Config;
use ieum_core::ids::{NodeId, Position};

/// Ieum (이음): a messenger that does not go down.
#[derive(Debug, Parser)]
#[command(name = "ieum", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Person(ieum_terminal::Command),
    /// Run a node: the server.
    Serve {
        #[command(flatten)]
        settings: Settings,
        /// Start although the clock stands over a day past the last time that the cell knows. Cell time never goes back.
        #[arg(long)]
        clock_is_right: bool,
        /// Found the cell: make its log in etcd if there is none, and be its first node. For the very first start of a cell with etcd.
        #[arg(long)]
        found: bool,
    },
    /// What to do about the clock of a running node.
    #[command(subcommand)]
    Clock(ClockCommand),
    /// Copy a node's data into one file, while it runs or not.
    Backup {
        #[command(flatten)]
        settings: Settings,
        /// The file to write.
        to: PathBuf,
    },
    /// Begin anew from a backup. The node must be stopped; of a cell with etcd all nodes, and etcd must be empty. With --journal only this node
    /// must be stopped, and nothing is lost that the journal holds.
    Restore {
        #[command(flatten)]
        settings: Settings,
        /// The file that `ieum backup` wrote.
        from: PathBuf,
        /// Move data that is there aside (it is kept) and restore.
        #[arg(long)]
        replace: bool,
        /// In a cell with etcd: go on although this node runs, does not answer, or holds more than the backup, all of which leaves the cell. May
        /// be given more than once.
        #[arg(long, value_name = "NUMBER", conflicts_with = "journal")]
        without: Vec<NodeId>,
        /// Bring the backup up with what this folder's log holds behind it (of a cell with etcd a node's journal): where the views are lost and
        /// that is left.
        #[arg(long, value_name = "FOLDER")]
        journal: Option<PathBuf>,
        /// Give up what the journal holds behind this position, such as 1.4711: where it is damaged within.
        #[arg(long, value_name = "POSITION", requires = "journal")]
        up_to: Option<Position>,
    },
    /// Check that a node's log, snapshots and view agree, while it runs or not, and say what differs.
    Verify(Settings),
    /// A cell's log: begin it anew when etcd has lost it, or mark commands to be skipped.
    #[command(subcommand)]
    Log(LogCommand),
    /// Make a code with which people may register, where registration is by invitation. The node must run.
    Invite {
        #[command(flatten)]
        settings: Settings,
        /// For how many accounts it is good.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// For how many days it is good.
        #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..))]
        days: u32,
    },
    /// The members of the cell. The node that is asked must run.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Say at which level the cell is and what its members know, or make a higher one active. The node must run.
    #[command(args_conflicts_with_subcommands = true)]
    Level {
        #[command(flatten)]
        settings: Settings,
        #[command(subcommand)]
        command: Option<LevelCommand>,
    },
    /// Measure this build on this machine, against the table of requirements.
    Bench(ieum_bench::Options),
    /// Print a script that completes ieum's commands in a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ClockCommand {
    /// Follow the clock although it jumped: it is right now.
    Accept(Settings),
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// List the members, what each says of itself, and where it stands.
    List(Settings),
    /// Make a node a member, before it is started for the first time.
    Add {
        #[command(flatten)]
        settings: Settings,
        /// Its number, which no other node has or had.
        number: u32,
        /// The name of its data center.
        #[arg(long)]
        dc: String,
    },
    /// Send the clients of this node to the others, one after the other, and take no more: before it is stopped for longer, or looked into.
    /// Stopping it (SIGTERM) does the same by itself. It stays a member, and takes clients again with --end or when it is started anew.
    Drain {
        #[command(flatten)]
        settings: Settings,
        /// Over how many seconds; [node] drain_seconds when not given.
        #[arg(long, value_parser = clap::value_parser!(u64).range(..=3_600))]
        seconds: Option<u64>,
        /// Take clients again.
        #[arg(long, conflicts_with = "seconds")]
        end: bool,
    },
    /// Take a node out of the cell for good: what it says counts no more.
    Remove {
        #[command(flatten)]
        settings: Settings,
        /// Its number.
        number: u32,
        /// Also where what the log has forgotten then lies on the disks of one data center alone, or is lost.
        #[arg(long)]
        force: bool,
    },
    /// Have this node of a cell of several begin anew from the others: what it has is set aside and kept. The node must be stopped.
    Resync(Settings),
}

#[derive(Debug, Subcommand)]
enum LevelCommand {
    /// Make a level active that every member knows: its commands and rules count from here on. There is no way back.
    Activate {
        #[command(flatten)]
        settings: Settings,
        /// Which level.
        level: u32,
    },
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Have one command skipped, where it keeps nodes from going on. Only for a position that was not applied yet; the node must be stopped. In a
    /// cell with etcd run it on each of its nodes: the last one marks the command, and until then none of them starts.
    Skip {
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        asked: marks::Asked,
    },
    /// List the commands that are skipped: position and number. The node of a cell of one must be stopped.
    Skips(Settings),
    /// Begin the log of a cell with etcd anew where the furthest node stands, when etcd has lost it. Run it once, anywhere where the
    /// configuration of a node is; all nodes must run, and halt by themselves (docs/operating/log-lost.md).
    Reseed {
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        asked: reseed::Asked,
    },
}

/// Where a node's settings come from.
#[derive(Debug, clap::Args)]
struct Settings {
    /// The settings, see ieum.example.toml; defaults when not given.
    #[arg(long, env = "IEUM_CONFIG")]
    config: Option<PathBuf>,
    /// The data folder; overrides the settings.
    #[arg(long)]
    data: Option<PathBuf>,
}

impl Settings {
    fn load(&self) -> Result<Config, config::Error> {
        let mut config = Config::load(self.config.as_deref(), std::env::vars_os())?;
        if let Some(data) = &self.data {
            config.node.data.clone_from(data);
        }
        Ok(config)
    }

    /// For what writes into the data folder itself.
    fn load_to_write(&self) -> Result<Config, Failure> {
        let config = self.load()?;
        owner::check(&config.node.data)?;
        Ok(config)
    }
}

type Failure = Box<dyn std::error::Error>;

/// The program, as a build whose nodes know levels up to `known`.
pub fn main(known: u32) -> ExitCode {
    // Messages, hashes and secrets: whatever any command writes is its owner's alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::S_IRWXG | nix::sys::stat::Mode::S_IRWXO);
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("IEUM_LOG").unwrap_or_else(|_| "info".into());
    // Colours are for people; a file takes plain text.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    match run(arguments.command, known) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ieum: {}", ieum_node::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Has the process begin again as it was begun; returns only if that fails. All that it held is let go of, whoever held it.
fn again() -> std::io::Error {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_else(|| "ieum".into());
    std::process::Command::new(program).args(arguments).exec()
}

fn run(command: Command, known: u32) -> Result<ExitCode, Failure> {
    match command {
        Command::Person(command) => return ieum_terminal::run(command),
        Command::Serve { settings, clock_is_right, found } => {
            match serve::run(&settings.load_to_write()?, serve::Start { clock_is_right, found, known }) {
                Err(error @ serve::Error::Overtaken) => {
                    tracing::warn!(%error, "beginning again");
                    return Err(again().into());
                }
                served => served?,
            }
        }
        Command::Clock(ClockCommand::Accept(settings)) => return operate::accept_clock(&settings.load()?),
        Command::Backup { settings, to } => return operate::backup(&settings.load()?, &to),
        Command::Restore { settings, from, replace, without: _, journal: Some(journal), up_to } => {
            return bring_up::restore(&settings.load_to_write()?, &bring_up::Asked { from, replace, journal, up_to });
        }
        Command::Restore { settings, from, replace, without, journal: None, up_to: _ } => {
            return operate::restore(&settings.load_to_write()?, &from, replace, &without);
        }
        Command::Verify(settings) => return operate::verify(&settings.load()?),
        Command::Log(LogCommand::Skip { settings, asked }) => return operate::skip(&settings.load_to_write()?, &asked),
        Command::Log(LogCommand::Skips(settings)) => return operate::skips(&settings.load()?),
        Command::Log(LogCommand::Reseed { settings, asked }) => return reseed::run(&settings.load()?, &asked),
        Command::Invite { settings, uses, days } => return operate::invite(&settings.load()?, uses, days),
        Command::Node(NodeCommand::List(settings)) => return operate::nodes(&settings.load()?),
        Command::Node(NodeCommand::Add { settings, number, dc }) => {
            return operate::add_node(&settings.load()?, number, dc);
        }
        Command::Node(NodeCommand::Drain { settings, seconds, end: false }) => {
            return operate::drain(&settings.load()?, seconds);
        }
        Command::Node(NodeCommand::Drain { settings, end: true, .. }) => return operate::end_drain(&settings.load()?),
        Command::Node(NodeCommand::Remove { settings, number, force }) => {
            return operate::remove_node(&settings.load()?, number, force);
        }
        Command::Node(NodeCommand::Resync(settings)) => return operate::resync(&settings.load_to_write()?),
        Command::Level { settings, command: None } => return operate::levels(&settings.load()?),
        Command::Level { command: Some(LevelCommand::Activate { settings, level }), .. } => {
            return operate::activate(&settings.load()?, level);
        }
        Command::Bench(options) => ieum_bench::run(&options)?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "ieum", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}
