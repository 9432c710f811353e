//! Where and with what it was measured.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Arm, Sizes, arm};
use crate::world::member;

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn line_of(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start_matches([':', '\t', ' ']).trim().to_owned())
}

/// The machine, versions and parameters.
#[must_use]
pub fn tell(folder: &Path, sizes: &Sizes) -> Value {
    let etcd = said("etcd", &["--version"]).and_then(|said| Some(said.lines().next()?.to_owned()));
    let arms: serde_json::Map<String, Value> = Arm::ALL
        .iter()
        .map(|arm| {
            let each_way_us = arm.relay().map(|each_way| each_way.as_micros() as u64);
            (arm.name().to_owned(), json!({"title": arm.title(), "relay_each_way_us": each_way_us}))
        })
        .collect();
    json!({
        "machine": {
            "processor": line_of("/proc/cpuinfo", "model name"),
            "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "memory": line_of("/proc/meminfo", "MemTotal"),
            "kernel": line_of("/proc/sys/kernel/osrelease", ""),
            "file_system": said("stat", &["--file-system", "--format=%T", &folder.to_string_lossy()]),
        },
        "versions": {
            "ieum": env!("CARGO_PKG_VERSION"),
            "commit": said("git", &["describe", "--always", "--dirty"]),
            "rustc": said("rustc", &["--version"]),
            "etcd": etcd,
        },
        "parameters": {
            "arms": arms,
            "sizes": sizes,
            "warm_up": "a quarter of the measured time before each load",
            "etcd_settings": member::SETTINGS,
            "node_settings": arm::NODES.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
        },
    })
}
