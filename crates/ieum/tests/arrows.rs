//! The crates' arrows run one way; see ARCHITECTURE.md. An edge that is not listed here fails.

use std::collections::BTreeMap;
use std::process::Command;

/// What each crate may depend on of ours, besides `planted`, which everybody may.
const ALLOWED: &[(&str, &[&str])] = &[
    ("planted", &[]),
    ("core", &[]),
    ("log", &[]),
    ("protocol", &[]),
    ("import", &[]),
    ("fuzz", &[]),
    ("names", &[]),
    ("drill", &["client", "protocol"]),
    ("log-etcd", &["log", "names"]),
    ("store", &["core"]),
    ("node", &["core", "log", "store"]),
    ("peer", &["core", "log", "names", "node"]),
    ("gateway", &["core", "protocol"]),
    ("client", &["protocol"]),
    ("terminal", &["client", "protocol", "import"]),
    ("bench", &["client", "protocol", "core", "log", "node", "store"]),
    ("simulation", &["client", "core", "gateway", "log", "node", "protocol", "store"]),
    (
        "ieum",
        &["bench", "client", "core", "gateway", "log", "log-etcd", "node", "peer", "protocol", "store", "terminal"],
    ),
];

#[test]
fn no_arrow_runs_the_wrong_way() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let ours = |name: &str| name.strip_prefix("ieum-").unwrap_or(name).to_owned();
    for package in metadata["packages"].as_array().unwrap() {
        let name = ours(package["name"].as_str().unwrap());
        let may = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not listed here"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let local = dependency["path"].is_string();
            // What only tests use does not reach what is shipped.
            if !local || dependency["kind"] == "dev" {
                continue;
            }
            let to = ours(dependency["name"].as_str().unwrap());
            assert!(to == "planted" || may.contains(&to.as_str()), "{name} may not depend on {to}");
        }
    }
}
