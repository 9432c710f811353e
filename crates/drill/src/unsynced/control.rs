//! The switch of the file system: lines over a Unix socket.
//!
//! Each line is answered by one line: `ok`, `ok NAME=NUMBER …`, or `error WHY`.
//!
//! | line | does |
//! |---|---|
//! | `cut` | forgets everything unsynced; from then on everything fails with EIO |
//! | `cut SEED` | the same, but the disk was just writing: the seed picks what survived |
//! | `restore` | serves the durable state, on a fresh mount |
//! | `full BYTES`, `full off` | ENOSPC after so many more bytes in new blocks; the whole capacity again |
//! | `stick`, `unstick` | writes and syncs hang; they are carried out, in order |
//! | `stats` | counts, see [`super::Stats`] |
//! | `dump FOLDER` | writes the durable state into a folder |

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use super::host::Host;
use crate::error::Error;

/// Obeys whoever connects, each on a thread of its own, for as long as the process lives.
pub fn serve(listener: &UnixListener, host: &Arc<Host>) {
    for connection in listener.incoming().flatten() {
        let host = Arc::clone(host);
        std::thread::spawn(move || {
            // A client that hangs up is done; there is nobody left to tell.
            let _ = talk(&connection, &host);
        });
    }
}

fn talk(connection: &UnixStream, host: &Host) -> std::io::Result<()> {
    let mut answers = connection;
    for line in BufReader::new(connection).lines() {
        let answer = match obey(host, line?.trim()) {
            Ok(numbers) if numbers.is_empty() => "ok\n".to_owned(),
            Ok(numbers) => format!("ok {numbers}\n"),
            Err(error) => format!("error {}\n", error.to_string().replace('\n', " ")),
        };
        answers.write_all(answer.as_bytes())?;
    }
    Ok(())
}

fn obey(host: &Host, line: &str) -> Result<String, Error> {
    let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
    let number = || argument.parse().map_err(|_| Error::other(format!("reading {line:?}"), "not a number"));
    match (verb, argument) {
        ("cut", "") => cut(host, None)?,
        ("cut", _) => cut(host, Some(number()?))?,
        ("restore", "") => host.restore()?,
        ("full", "off") => host.device.lock().inspect().fill(None),
        ("full", _) => host.device.lock().inspect().fill(Some(number()?)),
        ("stick", "") => host.device.lock().stick(),
        ("unstick", "") => return Ok(format!("operations={}", host.device.lock().unstick())),
        ("stats", "") => return Ok(stats(host)),
        ("dump", folder) if !folder.is_empty() => host.device.lock().inspect().dump(Path::new(folder))?,
        _ => return Err(Error::other(format!("reading {line:?}"), "no such command")),
    }
    Ok(String::new())
}

fn cut(host: &Host, seed: Option<u64>) -> Result<(), Error> {
    if host.device.lock().cut(seed) { Ok(()) } else { Err(Error::other("cutting the power", "it is off already")) }
}

fn stats(host: &Host) -> String {
    let mut state = host.device.lock();
    let model = state.inspect();
    let (bytes, files, changes) = model.unsynced();
    let (all, free) = model.space();
    let counts = model.counts;
    format!(
        "unsynced_bytes={bytes} unsynced_files={files} unsynced_changes={changes} writes={} fsyncs={} cuts={} blocks={all} free_blocks={free}",
        counts.writes, counts.fsyncs, counts.cuts
    )
}
