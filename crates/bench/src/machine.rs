//! Where and with what it was measured.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Map, Value, json};

use crate::error::{Error, doing};
use crate::sizes::Sizes;

/// Lets this process, and the server that it starts, open as many files as the system gives one process.
pub(crate) fn raise_files() -> Result<u64, Error> {
    let limits = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(hard)
    });
    limits.map_err(|errno| doing("raising the limit of", Path::new("open files"))(errno.into()))
}

/// Refuses a load that needs more files than there are.
pub(crate) fn need_files(what: &'static str, sessions: u32, limit: u64) -> Result<(), Error> {
    // Some hundred for the server's own files.
    let needed = u64::from(sessions) + 500;
    if needed > limit { Err(Error::Files { what, needed, limit }) } else { Ok(()) }
}

/// Refuses a folder without enough room.
pub(crate) fn need_room(folder: &Path, needed_mib: u64) -> Result<(), Error> {
    let about = nix::sys::statvfs::statvfs(folder);
    let about = about.map_err(|errno| doing("asking for the room in", folder)(errno.into()))?;
    let free_mib = (about.blocks_available() as u64).saturating_mul(about.fragment_size() as u64) >> 20;
    if free_mib < needed_mib {
        return Err(Error::Disk { folder: folder.to_owned(), free_mib, needed_mib });
    }
    Ok(())
}

/// Median time of appending 4 KiB to a file in `folder` and making it durable, in microseconds.
fn fsync_us(folder: &Path) -> Result<f64, Error> {
    let path = folder.join("fsync");
    let mut file = File::create(&path).map_err(doing("making", &path))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all(&[0; 4096]).and_then(|()| file.sync_data()).map_err(doing("writing", &path))?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(&path).map_err(doing("removing", &path))?;
    Ok(crate::report::median(&times).round())
}

fn said(program: &str, arguments: &[&str]) -> Value {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    output.map_or(Value::Null, |output| String::from_utf8_lossy(&output.stdout).trim().into())
}

fn line_of(path: &str, name: &str) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(Value::Null, |line| line.trim_start_matches([':', '\t', ' ']).trim().into())
}

/// Machine, versions and parameters.
pub(crate) fn about(folder: &Path, sizes: &Sizes, settings: &[(&str, &str)]) -> Result<Map<String, Value>, Error> {
    let settings: Map<String, Value> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let when = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let about = json!({
        "sizes": sizes.name,
        "unix_time": when,
        "machine": {
            "processor": line_of("/proc/cpuinfo", "model name"),
            "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "memory": line_of("/proc/meminfo", "MemTotal"),
            "kernel": line_of("/proc/sys/kernel/osrelease", ""),
            "file_system": said("stat", &["--file-system", "--format=%T", &folder.to_string_lossy()]),
            "fsync_4k_median_us": fsync_us(folder)?,
        },
        "versions": {
            "ieum": env!("CARGO_PKG_VERSION"),
            "commit": said("git", &["describe", "--always", "--dirty"]),
            "rustc": said("rustc", &["--version"]),
        },
        "parameters": {
            "runs": sizes.runs,
            "run_seconds": sizes.run.as_secs_f64(),
            "direct": {"pairs": sizes.direct_pairs, "in_flight": sizes.direct_window},
            "single": {"pairs": sizes.single_pairs, "in_flight": 1},
            "direct.p99_ms": {"pairs": sizes.delay_pairs, "in_flight": 1},
            "idle": {"sessions": sizes.sessions},
            "reconnect": {"sessions": sizes.sessions},
            "room": {
                "members": sizes.room_members,
                "messages": sizes.room_messages,
                "every_ms": sizes.room_every.as_secs_f64() * 1e3,
            },
            "growth": {"rooms": sizes.growth_rooms, "messages": u64::from(sizes.growth_rooms) * sizes.growth_messages},
            "restart": {"messages": sizes.restart_messages, "kills": sizes.kills},
            "server_settings": settings,
        },
    });
    Ok(match about {
        Value::Object(about) => about,
        _ => Map::new(),
    })
}
