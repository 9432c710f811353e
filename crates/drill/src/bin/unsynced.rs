//! `ieum-unsynced`: mounts the file system that forgets unsynced writes, until SIGTERM, SIGINT or the end of its standard input.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use ieum_drill::unsynced::{Host, Metadata, Model, serve};
use nix::sys::signal::{SigSet, Signal};

/// A file system in memory that forgets at a power cut whatever was not synced.
#[derive(Parser)]
struct Arguments {
    /// The folder to mount it on
    mountpoint: PathBuf,
    /// The Unix socket that takes cut, restore, full, stick, stats and dump
    #[arg(long)]
    control: PathBuf,
    /// A folder whose files are there from the beginning, durably; it is never written to
    #[arg(long)]
    backing: Option<PathBuf>,
    /// When changes of names become durable
    #[arg(long, value_enum, default_value_t)]
    metadata: Metadata,
    /// Bytes that fit on it
    #[arg(long, default_value_t = 1 << 30)]
    capacity: u64,
    /// Unmount and end at the end of the standard input, so that no mount outlives whoever started it
    #[arg(long)]
    until_stdin_ends: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ieum-unsynced: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // Before any thread starts, so that all inherit it and only `wait` below gets the signals.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block()?;
    let mut model = Model::new(arguments.metadata, arguments.capacity);
    if let Some(folder) = &arguments.backing {
        model.load(folder)?;
    }
    let listener = UnixListener::bind(&arguments.control)
        .map_err(|error| format!("listening on {}: {error}", arguments.control.display()))?;
    let host = Arc::new(Host::mount(model, &arguments.mountpoint)?);
    let served = Arc::clone(&host);
    std::thread::spawn(move || serve(&listener, &served));
    if arguments.until_stdin_ends {
        std::thread::spawn(|| {
            // What is written there does not matter, nor why it ended.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let _ = nix::sys::signal::kill(nix::unistd::getpid(), Signal::SIGTERM);
        });
    }
    println!("mounted on {}", arguments.mountpoint.display());
    std::io::stdout().flush()?;
    signals.wait()?;
    host.unmount();
    let _ = std::fs::remove_file(&arguments.control);
    Ok(())
}
