//! When etcd chose leaders, as its members' logs tell it: the only thing that is asked of the cell itself, and only to say what an outage went into.

use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use crate::load::clock;

/// What the member that was chosen writes.
const CHOSEN: &str = "became leader at term";

/// When members were chosen, in nanoseconds of CLOCK_MONOTONIC and in order. These logs are all of this run; one that cannot be read tells nothing.
pub(super) fn read<'a>(logs: impl Iterator<Item = &'a Path>) -> Vec<u64> {
    of(logs, Timestamp::now(), clock::now())
}

fn of<'a>(logs: impl Iterator<Item = &'a Path>, now: Timestamp, moment: u64) -> Vec<u64> {
    let mut elections: Vec<u64> = logs
        .filter_map(|log| std::fs::read_to_string(log).ok())
        .flat_map(|text| text.lines().filter_map(chosen).collect::<Vec<_>>())
        .filter_map(|at| told(at, now, moment))
        .collect();
    elections.sort_unstable();
    elections
}

/// A time as CLOCK_MONOTONIC has it, which is at `moment` now.
fn told(at: Timestamp, now: Timestamp, moment: u64) -> Option<u64> {
    moment.checked_sub(u64::try_from(now.duration_since(at).as_nanos()).ok()?)
}

/// The time of a line that tells of an election.
fn chosen(line: &str) -> Option<Timestamp> {
    let line: Value = serde_json::from_str(line).ok()?;
    line.get("msg")?.as_str()?.contains(CHOSEN).then_some(())?;
    line.get("ts")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_that_was_chosen_says_when() {
        let line = |message: &str| format!(r#"{{"level":"info","ts":"2026-11-26T01:57:50.438Z","msg":"{message}"}}"#);
        let at = chosen(&line("b275629b073d8570 became leader at term 2"));
        assert_eq!(at.map(|at| at.to_string()).as_deref(), Some("2026-11-26T01:57:50.438Z"));
        assert_eq!(chosen(&line("raft.node: a elected leader b275629b073d8570 at term 2")), None);
        assert_eq!(chosen("a panic of a member"), None);
    }

    #[test]
    fn times_are_told_by_the_clock_of_the_histories_and_in_order() {
        let at: Timestamp = "2026-11-26T01:57:50.438Z".parse().unwrap();
        let later: Timestamp = "2026-11-26T01:57:52Z".parse().unwrap();
        assert_eq!(told(at, later, 9_000_000_000), Some(7_438_000_000));
        assert_eq!(told(at, later, 1_000_000_000), None);
        let folder = tempfile::tempdir().unwrap();
        let log = |name: &str, second: u32| {
            let path = folder.path().join(name);
            let line = format!(r#"{{"ts":"2026-01-01T00:00:{second:02}.5Z","msg":"x became leader at term 2"}}"#);
            std::fs::write(&path, format!("starting\n{line}\n")).unwrap();
            path
        };
        let logs = [log("a", 9), log("b", 7), folder.path().join("none")];
        let read = of(logs.iter().map(std::path::PathBuf::as_path), later, u64::MAX);
        assert!(matches!(read[..], [first, second] if second - first == 2_000_000_000), "{read:?}");
    }
}
