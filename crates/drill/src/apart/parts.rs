//! What the parts of a cell use, read from `/proc`: processor time, bytes given to the disk, memory, and what goes between data centers.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Naming as _};

/// A tick of `/proc`, in seconds: Linux tells them in hundredths, whatever the kernel runs at.
const TICK: f64 = 0.01;
/// What `/proc/diskstats` counts in, in bytes.
const SECTOR: u64 = 512;

/// What something has used since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds of processor, user and system.
    pub cpu_s: f64,
    /// Bytes of pages that it gave to the disk; a page that is written twice with a sync between counts twice.
    pub written: u64,
    /// Resident memory now, in bytes; 0 for threads, who have none of their own.
    pub resident: u64,
    /// That of it which no file backs.
    pub anonymous: u64,
}

impl Usage {
    /// Together with another one.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_s: self.cpu_s + other.cpu_s,
            written: self.written + other.written,
            resident: self.resident + other.resident,
            anonymous: self.anonymous + other.anonymous,
        }
    }

    /// Without threads of the same process.
    #[must_use]
    pub fn without(self, threads: Self) -> Self {
        let cpu_s = (self.cpu_s - threads.cpu_s).max(0.0);
        Self { cpu_s, written: self.written.saturating_sub(threads.written), ..self }
    }
}

/// What went over an interface, received and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets; with veth one may be as large as 64 KiB.
    pub packets: u64,
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).naming(|| format!("reading {path}"))
}

/// A process.
pub fn process(id: u32) -> Result<Usage, Error> {
    let of = |file: &str| read(&format!("/proc/{id}/{file}"));
    let status = of("status")?;
    let kib = |name| field(&status, name).unwrap_or(0);
    Ok(Usage {
        cpu_s: cpu(&of("stat")?).ok_or_else(|| strange("its processor time", id))?,
        written: written(&of("io")?).ok_or_else(|| strange("what it wrote", id))?,
        resident: kib("VmRSS:") * 1024,
        anonymous: kib("RssAnon:") * 1024,
    })
}

/// Those threads of a process that have this name.
pub fn threads(id: u32, name: &str) -> Result<Usage, Error> {
    let folder = format!("/proc/{id}/task");
    let mut all = Usage::default();
    for entry in fs::read_dir(&folder).naming(|| format!("reading {folder}"))? {
        let thread = entry.naming(|| format!("reading {folder}"))?.path();
        // One that ends meanwhile is none of those that are looked for: they live as long as their process.
        let of = |file: &str| fs::read_to_string(thread.join(file)).unwrap_or_default();
        if of("comm").trim_end() == name {
            let cpu_s = cpu(&of("stat")).ok_or_else(|| strange("the processor time of its threads", id))?;
            let written = written(&of("io")).ok_or_else(|| strange("what its threads wrote", id))?;
            all = all.plus(Usage { cpu_s, written, ..Usage::default() });
        }
    }
    Ok(all)
}

/// Seconds in which a processor of this machine did something, over all of them.
pub fn busy() -> Result<f64, Error> {
    busy_of(&read("/proc/stat")?).ok_or_else(|| Error::other("reading /proc/stat", "it has another form"))
}

/// Bytes that went to the disk under a folder, whoever wrote them; none where the kernel counts none for it, as in some containers.
pub fn disk(folder: &Path) -> Option<u64> {
    use std::os::linux::fs::MetadataExt as _;
    let device = fs::metadata(folder).ok()?.st_dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    disk_of(&fs::read_to_string("/proc/diskstats").ok()?, major, minor)
}

/// What went over an interface of the namespace in which this process is.
pub fn traffic(id: u32, interface: &str) -> Result<Traffic, Error> {
    let path = format!("/proc/{id}/net/dev");
    let missing = || Error::other(format!("reading {path}"), format!("there is no {interface}"));
    traffic_of(&read(&path)?, interface).ok_or_else(missing)
}

fn strange(what: &str, id: u32) -> Error {
    Error::other(format!("reading what process {id} uses"), format!("{what} is not there"))
}

/// User and system time of a line of `stat`. The name in it may hold anything, so what counts is behind its last bracket.
fn cpu(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * TICK)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// What was written and dropped again before it reached the disk does not count.
fn written(io: &str) -> Option<u64> {
    Some(field(io, "write_bytes:")?.saturating_sub(field(io, "cancelled_write_bytes:").unwrap_or(0)))
}

fn busy_of(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user, nice, system, idle, waiting for the disk, interrupts, soft interrupts, taken by the host, …
    let working = [0, 1, 2, 5, 6];
    Some(working.into_iter().map(|at| ticks.get(at)).sum::<Option<f64>>()? * TICK)
}

fn disk_of(stats: &str, major: u64, minor: u64) -> Option<u64> {
    let line = stats.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|fields| {
        fields.first() == Some(&major.to_string().as_str()) && fields.get(1) == Some(&minor.to_string().as_str())
    })?;
    Some(line.get(9)?.parse::<u64>().ok()? * SECTOR)
}

fn traffic_of(text: &str, interface: &str) -> Option<Traffic> {
    let fields = text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    let fields: Vec<u64> = fields.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let sum = |received: usize, sent: usize| Some(fields.get(received)? + fields.get(sent)?);
    Some(Traffic { bytes: sum(0, 8)?, packets: sum(1, 9)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        assert_eq!(cpu("42 (a) b) 1 2) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 1 2 3"), Some(3.0));
        assert_eq!(cpu("42 (cut"), None);
        assert_eq!(busy_of("cpu  120 10 200 9999 888 30 40 55 0 0\ncpu0 1 1 1"), Some(4.0));
    }

    #[test]
    fn what_was_written_leaves_out_what_was_dropped() {
        let io = "rchar: 9\nwchar: 8\nsyscr: 7\nread_bytes: 1\nwrite_bytes: 8192\ncancelled_write_bytes: 4096\n";
        assert_eq!(written(io), Some(4096));
        assert_eq!(written("rchar: 9\n"), None);
    }

    #[test]
    fn a_disk_and_an_interface_are_told_from_their_neighbours() {
        let stats = " 254 0 vda 1 2 3 4 5 6 10 8 9\n 254 1 vda1 1 2 3 4 5 6 70 8 9\n";
        assert_eq!(disk_of(stats, 254, 1), Some(70 * 512));
        assert_eq!(disk_of(stats, 7, 1), None);
        let dev =
            "Inter-|   Receive\n face |bytes\n users: 5 1 0 0 0 0 0 0 6 1 0\nbetween: 100 7 0 0 0 0 0 0 20 3 0 0\n";
        assert_eq!(traffic_of(dev, "between"), Some(Traffic { bytes: 120, packets: 10 }));
        assert_eq!(traffic_of(dev, "betwee"), None);
    }

    #[test]
    fn this_process_works_and_takes_room() {
        let before = process(std::process::id()).expect("read");
        assert!(before.resident >= before.anonymous && before.anonymous > 0, "{before:?}");
        let named = std::thread::Builder::new().name("a-counter".to_owned());
        let (tell, hear) = std::sync::mpsc::channel::<()>();
        let held = named.spawn(move || hear.recv()).expect("start a thread");
        assert_eq!(threads(std::process::id(), "nobody").expect("read"), Usage::default());
        threads(std::process::id(), "a-counter").expect("read");
        drop(tell);
        held.join().expect("the end").expect_err("nobody told it anything");
    }
}
