//! Apply is pure (design.md, invariant 4): a scan of the sources for what could make two nodes, builds or versions differ.
//!
//! `clippy.toml` bans types and methods; this also finds what clippy cannot be told to ban, and that a ban was switched off.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// What must not be in the code, and why.
const BANNED: &[(&str, &str)] = &[
    ("HashMap", "its order is random: BTreeMap"),
    ("HashSet", "its order is random: BTreeSet"),
    ("SystemTime", "time comes from the batch"),
    ("Instant", "time comes from the batch"),
    ("thread", "apply is one thread's work"),
    ("Mutex", "apply is one thread's work"),
    ("RwLock", "apply is one thread's work"),
    ("Atomic", "apply is one thread's work"),
    ("OnceLock", "nothing outlives a batch but the view"),
    ("LazyLock", "nothing outlives a batch but the view"),
    ("static", "nothing outlives a batch but the view"),
    ("async", "core does no waiting"),
    ("rand", "ids come from the command or are counted"),
    ("getrandom", "ids come from the command or are counted"),
    ("RandomState", "ids come from the command or are counted"),
    ("f32", "floats may round differently"),
    ("f64", "floats may round differently"),
    ("env", "what a node was told outside the log must not change outcomes"),
    ("fs", "core does no input or output"),
    ("net", "core does no input or output"),
    ("process", "core does no input or output"),
    ("cfg", "the same code in every build"),
    ("debug_assert", "the same checks in every build"),
    ("unsafe", "forbidden"),
    ("trim", "Unicode tables change between versions"),
    ("to_lowercase", "Unicode tables change between versions"),
    ("to_uppercase", "Unicode tables change between versions"),
    ("is_alphabetic", "Unicode tables change between versions"),
    ("is_alphanumeric", "Unicode tables change between versions"),
    ("is_numeric", "Unicode tables change between versions"),
    ("is_whitespace", "Unicode tables change between versions"),
    ("split_whitespace", "Unicode tables change between versions"),
    ("is_lowercase", "Unicode tables change between versions"),
    ("is_uppercase", "Unicode tables change between versions"),
    ("is_control", "Unicode tables change between versions"),
    ("compress", "its answers change between versions: only for bytes on their way into the log"),
    ("as_ptr", "addresses differ from run to run"),
];

/// The exceptions: file, word, how often. The first two are planted bugs.
const EXCEPTIONS: &[(&str, &str, usize)] = &[
    ("apply.rs", "SystemTime", 2),
    ("commands/group.rs", "HashSet", 1),
    ("batch.rs", "compress", 1),
    // `cfg(test)` and the `testing` feature.
    ("lib.rs", "cfg", 1),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["tests", "testing"].contains(&name.as_str()) {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && !["tests.rs", "testing.rs"].contains(&name.as_str()) {
            found.push(path);
        }
    }
}

/// The code of a file: no comments, no text in quotes, nothing from `#[cfg(test)]` on, no lifetimes.
fn code_of(source: &str) -> String {
    let (before_tests, tests) = source.split_once("#[cfg(test)]").unwrap_or((source, "\nmod tests"));
    assert!(tests.starts_with("\nmod tests"), "only tests, at the end of a file, are not looked at");
    let mut code = String::new();
    for line in before_tests.lines() {
        let mut quoted = false;
        let line = line.split("//").next().unwrap().replace("'static", "").replace("\\\"", "");
        code.extend(line.chars().filter(|c| {
            quoted ^= *c == '"';
            !quoted
        }));
        code.push('\n');
    }
    code
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

#[test]
fn the_rules_use_nothing_that_differs_from_node_to_node() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() >= 25, "the scan misses files");
    let mut faults = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let code = code_of(&fs::read_to_string(&file).unwrap());
        for (banned, reason) in BANNED {
            let count =
                words(&code).filter(|word| word == banned || (*banned == "Atomic" && word.starts_with(banned))).count();
            let allowed = EXCEPTIONS.iter().find(|e| (e.0, e.1) == (name.as_str(), *banned)).map_or(0, |e| e.2);
            if count != allowed {
                faults.push(format!("{name}: `{banned}` {count} times, allowed {allowed}: {reason}"));
            }
        }
        faults.extend(floats(&code).map(|float| format!("{name}: {float}: floats may round differently")));
        for word in ["disallowed_types", "disallowed_methods"] {
            let allowed = EXCEPTIONS.iter().any(|e| e.0 == name && ["SystemTime", "HashSet"].contains(&e.1));
            if words(&code).any(|found| found == word) && !allowed {
                faults.push(format!("{name}: switches {word} off"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Literals such as `1.5`; `0..5` and `pair.0.1` are none.
fn floats(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).filter(|token| {
        token.split_once('.').is_some_and(|(whole, rest)| {
            whole.starts_with(|c: char| c.is_ascii_digit()) && rest.starts_with(|c: char| c.is_ascii_digit())
        })
    })
}

#[test]
fn overflow_is_checked_in_every_build() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml")).unwrap();
    let release = manifest.split("[profile.release]").nth(1).unwrap().split("\n[").next().unwrap();
    assert!(release.contains("overflow-checks = true"), "an overflow must panic in release builds too");
    assert!(release.contains("panic = \"unwind\""), "a command that panics must be caught");
    assert!(!manifest.contains("overflow-checks = false"));
}

#[test]
fn the_scan_finds_what_it_looks_for() {
    let code = code_of(
        "let a = 1.5; // f64\nlet b = \"HashMap\"; let x: &'static str = thread::spawn;\n#[cfg(test)]\nmod tests { Instant }",
    );
    assert_eq!(floats(&code).collect::<Vec<_>>(), ["1.5"]);
    assert!(words(&code).any(|word| word == "thread"));
    assert!(!words(&code).any(|word| ["f64", "HashMap", "static", "Instant"].contains(&word)));
    assert_eq!(floats("0..5 pair.0.1 x.1 2.max(3)").count(), 0);
}
