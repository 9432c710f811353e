//! The lists beside this crate are whole: no bug is left out of them, silently or by mistake.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::collections::BTreeSet;

const BUGS: &str = include_str!("../src/lib.rs");
const CAUGHT: &str = include_str!("../planted.txt");
const BY_SEED: &str = include_str!("../seeds.txt");
/// The simulation's named scenarios, by the target that they are built into.
const SCENARIOS: [(&str, &str); 2] = [
    ("test=scenarios", include_str!("../../simulation/tests/scenarios.rs")),
    ("test=reseeds", include_str!("../../simulation/tests/reseeds.rs")),
];

fn lines(list: &str) -> impl Iterator<Item = Vec<&str>> {
    let told = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    told.map(|line| line.split_whitespace().collect())
}

/// Of the lines about each bug, which stand together.
fn names<'a>(lines: impl Iterator<Item = Vec<&'a str>>) -> Vec<&'a str> {
    let mut names: Vec<&str> = lines.map(|words| *words.first().unwrap()).collect();
    names.dedup();
    names
}

fn bugs() -> BTreeSet<&'static str> {
    let variants = BUGS.lines().skip_while(|line| !line.starts_with("pub enum Bug")).take_while(|line| *line != "}");
    variants.filter_map(|line| line.trim().strip_suffix(',')).filter(|name| !name.contains(' ')).collect()
}

#[test]
fn every_bug_has_a_test() {
    let bugs = bugs();
    assert!(bugs.len() > 100);
    let tests: Vec<_> = lines(CAUGHT).collect();
    assert_eq!(tests.iter().collect::<BTreeSet<_>>().len(), tests.len(), "a line stands there twice");
    let caught = names(lines(CAUGHT));
    assert_eq!(caught.iter().copied().collect::<BTreeSet<_>>(), bugs);
    assert_eq!(caught.len(), bugs.len(), "a bug stands there twice");
}

/// What is said above a scenario is no more than what is tried.
#[test]
fn every_scenario_is_tried_with_the_bugs_that_it_names() {
    let bugs = bugs();
    let mut named = BTreeSet::new();
    for (target, text) in SCENARIOS {
        let mut above = BTreeSet::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("/// ") {
                above.extend(comment.split('`').filter(|word| bugs.contains(word)));
            } else if let Some((name, _)) = line.strip_prefix("fn ").and_then(|line| line.split_once('(')) {
                named.extend(std::mem::take(&mut above).into_iter().map(|bug| (bug, target, name)));
            }
        }
    }
    let mut tried = BTreeSet::new();
    for words in lines(CAUGHT).filter(|words| words.get(1) == Some(&"ieum-simulation")) {
        let [bug, _, target, name] = words[..] else { panic!("{}", words.join(" ")) };
        if SCENARIOS.iter().any(|(of, _)| *of == target) {
            tried.insert((bug, target, name));
        }
    }
    assert_eq!(named, tried);
}

#[test]
fn of_every_bug_it_is_said_whether_the_simulation_finds_it() {
    assert_eq!(names(lines(BY_SEED)), names(lines(CAUGHT)), "a line for each bug of planted.txt, in the same order");
    for words in lines(BY_SEED) {
        let well = match words.get(1) {
            Some(&"seed") => {
                words.get(2..5).is_some_and(|numbers| numbers.iter().all(|number| number.parse::<u64>().is_ok()))
            }
            Some(&"unfound" | &"elsewhere") => words.len() > 2,
            _ => false,
        };
        assert!(well, "{}", words.join(" "));
    }
}

/// A list that shrinks says that a change has made the simulation blind.
#[test]
fn the_simulation_finds_no_fewer_than_it_did() {
    let found = lines(BY_SEED).filter(|words| words.get(1) == Some(&"seed")).count();
    assert!(found >= 86, "{found}");
}
