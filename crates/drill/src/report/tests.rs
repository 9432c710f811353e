//! The checker finds nothing in a run that kept every promise, and each kind of broken promise under its name; waits are counted as they are described.

use super::*;
use crate::load::book;

const S: u64 = 1_000_000_000;
/// Who is there: 0 in data center a and 1 in b, who have room 5; 2 comes back now and then.
const PEOPLE: &str = "u 0 a 100 talker\nr 0 5\nu 1 b 101 talker\nr 1 5\nu 2 a 102 rejoiner";
/// The room as a survivor shows it.
const HELD: &str = "j 5 1 100 {}\nm 5 2 100 9 0 0\nm 5 3 101 9 1 0\nm 5 4 100 9 0 1\n";

type Lines = Vec<(f64, &'static str)>;

/// A run: the lines between people and end, each with its second.
fn folder(lines: &[(f64, &str)], held: &[(&str, &str)], verify: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!("{}\n", book::TITLE);
    for line in PEOPLE.lines() {
        text.push_str(&format!("1 {line}\n"));
    }
    for (at, line) in lines {
        text.push_str(&format!("{} {line}\n", (at * S as f64) as u64));
    }
    for (name, contents) in held {
        text.push_str(&format!("{} o survivor.{name} ws://x:1\n", 60 * S));
        std::fs::create_dir_all(folder.path().join("load")).unwrap();
        std::fs::write(folder.path().join("load").join(crate::load::ending::file(name)), contents).unwrap();
    }
    text.push_str(&format!("{} q end\n", 60 * S));
    std::fs::write(folder.path().join("load").join(book::FILE), text).unwrap();
    let record = format!(
        r#"{{"scenario":"x","run":1,"seed":1,"notes":[],"elections":[1,5600000000,40000000000],"verify":{{"a":"{verify}"}}}}"#
    );
    std::fs::write(folder.path().join(RECORD), record).unwrap();
    folder
}

/// A run that kept every promise: sender 0 waits 2 s for its second message, member 1 then waits half a second more.
fn kept() -> Lines {
    vec![
        (1.0, "v 0"),
        (1.0, "v 1"),
        (1.0, "g 0 5 1 - -"),
        (1.0, "g 1 5 1 - -"),
        (2.0, "q live"),
        (3.0, "s 0 0 5"),
        (3.1, "a 0 0 2"),
        (3.1, "g 0 5 2 0 0"),
        (3.1, "g 1 5 2 0 0"),
        (4.0, "s 1 0 5"),
        (4.1, "a 1 0 3"),
        (4.1, "g 1 5 3 1 0"),
        (4.1, "g 0 5 3 1 0"),
        (5.0, "m fault dc a goes dark"),
        (5.0, "s 0 1 5"),
        (5.2, "b a-1 sync a 2"),
        (6.5, "c 0 waiting 100 Silent"),
        (6.6, "c 0 connecting ws://b:1"),
        (6.8, "c 0 catching_up ws://b:1"),
        (6.9, "c 0 live ws://b:1"),
        (7.0, "a 0 1 4"),
        (7.0, "g 0 5 4 0 1"),
        (7.5, "g 1 5 4 0 1"),
        (8.2, "e a-1"),
        (9.0, "q stop"),
        (9.0, "q settled"),
    ]
}

/// What is required in these tests, in seconds; what people do in [`kept`] takes up to 3 s.
const REQUIRED: f64 = 3.0;

fn reported(lines: &[(f64, &str)], held: &[(&str, &str)], verify: &str) -> (Verdict, Value) {
    let (folder, out) = (folder(lines, held, verify), tempfile::tempdir().unwrap());
    let scenario = Scenario {
        name: "x",
        title: "Something <happens>",
        incident: "2012",
        repeat: "make drill NAME=x",
        settings: vec!["1 ms".to_owned()],
        runs: vec![folder.path().to_owned()],
        required_s: Some(REQUIRED),
        short: false,
        results: out.path(),
        drills: out.path(),
        page: &out.path().join("drills.md"),
    };
    let verdict = write(&scenario).unwrap();
    let json: Value = serde_json::from_str(&std::fs::read_to_string(out.path().join("x.json")).unwrap()).unwrap();
    let page = std::fs::read_to_string(scenario.page).unwrap();
    assert!(page.contains("## x") && page.contains("x.svg"), "{page}");
    let svg = std::fs::read_to_string(out.path().join("x.svg")).unwrap();
    assert!(svg.contains("&lt;happens&gt;") && svg.contains("fault dc a goes dark"), "{svg}");
    (verdict, json)
}

const WELL: &str = "All is well at 1.9";

/// The counts after a change of the lines and of what the second of two survivors holds.
fn counts(change: impl FnOnce(&mut Lines, &mut String)) -> [u64; 5] {
    let (mut lines, mut held) = (kept(), HELD.to_owned());
    change(&mut lines, &mut held);
    let (verdict, _) = reported(&lines, &[("a", HELD), ("b", &held)], WELL);
    assert_eq!(verdict.is_clean(), verdict.acknowledged > 0 && counted(&verdict) == [0; 5]);
    counted(&verdict)
}

fn counted(verdict: &Verdict) -> [u64; 5] {
    [verdict.lost, verdict.duplicated, verdict.out_of_order, verdict.differing_views, verdict.other]
}

#[test]
fn a_run_that_kept_every_promise_is_clean_and_its_waits_are_those_of_its_users() {
    let (verdict, json) = reported(&kept(), &[("a", HELD), ("b", HELD)], WELL);
    assert!(verdict.is_clean(), "{}", verdict.summary);
    assert_eq!((verdict.acknowledged, json["runs"].as_u64()), (3, Some(1)));
    let outage = |pointer: &str| json.pointer(pointer).and_then(Value::as_f64);
    assert_eq!(outage("/outage_s/send_receive/max"), Some(2.0));
    assert_eq!(outage("/outage_s/sync/median"), Some(3.0));
    assert_eq!(outage("/outage_s/login/max"), None);
    assert_eq!(outage("/outage_by_dc_s/send_receive/a/max"), Some(2.0));
    assert_eq!(outage("/outage_by_dc_s/send_receive/b/max"), Some(0.5));
    assert_eq!(outage("/normal_after_s/send_receive/max"), Some(2.5));
    assert_eq!(outage("/from_writing_to_everybody_s/max"), Some(2.5));
    assert_eq!(outage("/outage_went_into/until_the_client_gave_its_server_up_s/median"), Some(1.5));
    assert_eq!(outage("/outage_went_into/until_another_server_said_welcome_s/median"), Some(0.3));
    assert_eq!(outage("/outage_went_into/longest_of_those_who_stayed_s/max"), Some(0.5));
    assert_eq!(outage("/outage_went_into/until_etcd_had_a_new_leader_s/max"), Some(0.6));
    assert_eq!(outage("/outage_went_into/from_there_until_a_message_was_acknowledged_s/max"), Some(1.4));
    assert!(verdict.summary.contains("1.50 waiting 100 Silent"), "{}", verdict.summary);
}

#[test]
fn a_median_outage_that_is_longer_than_required_is_told() {
    let (verdict, json) = reported(&kept(), &[("a", HELD)], WELL);
    assert_eq!((verdict.over(), json["required_outage_s"].as_f64()), (vec![], Some(REQUIRED)));
    assert!(verdict.summary.contains("no median over 3 s: kept"), "{}", verdict.summary);
    let mut lines = kept();
    lines.iter_mut().filter(|(_, line)| *line == "e a-1").for_each(|line| line.0 = 8.3);
    let (verdict, _) = reported(&lines, &[("a", HELD)], WELL);
    assert!(verdict.is_clean(), "a promise that was kept late is kept");
    assert!(matches!(verdict.over().as_slice(), [("sync", median)] if *median > REQUIRED));
    assert!(verdict.summary.contains("no median over 3 s: NOT KEPT"), "{}", verdict.summary);
}

#[test]
fn the_page_shows_what_is_required_beside_results_that_do_not_say_it() {
    let folder = tempfile::tempdir().unwrap();
    let (drills, results) = (folder.path(), folder.path().join("results"));
    std::fs::create_dir(&results).unwrap();
    for (name, median) in [("quick", 2.9), ("slow", 3.1), ("free", 9.0)] {
        let required = if name == "free" { "" } else { "required_s = 3" };
        let scenario = format!("title = \"t\"\nincident = \"i\"\n{required}\n[[steps]]\ndo.whole = {{}}\n");
        std::fs::write(drills.join(format!("{name}.toml")), scenario).unwrap();
        // As a build of before wrote it, without what is required.
        let json = json!({"scenario": name, "runs": 5, "outage_s": {"login": {"median": median, "max": 9.0}}});
        std::fs::write(results.join(format!("{name}.json")), json.to_string()).unwrap();
    }
    let page = page::page(&results, drills, &folder.path().join("drills.md")).unwrap();
    let row = |name: &str| page.lines().find(|line| line.starts_with(&format!("| [{name}]"))).unwrap().to_owned();
    assert!(row("quick").ends_with("2.90 (9.00) | 3, kept |"), "{page}");
    assert!(row("slow").ends_with("3.10 (9.00) | 3, **not kept** |"), "{page}");
    assert!(row("free").ends_with("9.00 (9.00) | - |"), "{page}");
    assert!(page.contains("Required: no median outage over 3 s. That was **not kept**."), "{page}");
}

#[test]
fn what_does_not_count_is_left_out_of_a_wait() {
    let mut lines = kept();
    lines.insert(15, (5.2, "mu fault no power"));
    lines.insert(16, (6.2, "mc heal power"));
    let (_, json) = reported(&lines, &[("a", HELD)], WELL);
    assert_eq!(json["outage_s"]["send_receive"]["max"], 1.0);
}

#[test]
fn a_wait_that_never_ends_lasts_until_the_end() {
    let mut lines = kept();
    lines.retain(|(_, line)| *line != "e a-1");
    let (_, json) = reported(&lines, &[("a", HELD)], WELL);
    assert_eq!(json["outage_s"]["sync"]["max"], 54.8);
}

#[test]
fn a_message_that_a_survivor_does_not_hold_is_lost() {
    let lost = counts(|_, held| held.truncate(held.trim_end().rfind('\n').unwrap() + 1));
    // Both members had it, so that the survivor's room has another message than they heard.
    assert_eq!((lost[0], lost[3]), (1, 1));
}

#[test]
fn a_message_that_a_member_never_got_is_lost() {
    assert_eq!(counts(|lines, _| lines.retain(|(_, line)| *line != "g 1 5 2 0 0")), [1, 0, 0, 0, 0]);
}

#[test]
fn what_was_left_out_has_to_be_paged_in() {
    let skip = |lines: &mut Lines, with: &'static str| {
        lines.iter_mut().filter(|(_, line)| *line == "g 1 5 2 0 0").for_each(|line| line.1 = "l 1 5");
        lines.push((9.5, with));
    };
    assert_eq!(counts(|lines, _| skip(lines, "n sync a")), [1, 0, 0, 0, 0]);
    assert_eq!(counts(|lines, _| skip(lines, "h 1 5 2 0 0")), [0; 5]);
}

#[test]
fn a_message_that_is_there_twice_is_duplicated() {
    let twice = counts(|_, held| held.push_str("m 5 5 101 9 1 0\n"));
    assert_eq!((twice[1], twice[3]), (1, 1));
}

#[test]
fn a_senders_messages_in_another_order_are_out_of_order() {
    let order =
        counts(|_, held| *held = "j 5 1 100 {}\nm 5 2 100 9 0 1\nm 5 3 101 9 1 0\nm 5 4 100 9 0 0\n".to_owned());
    assert_eq!((order[2], order[3]), (1, 1));
}

#[test]
fn a_message_that_comes_late_is_out_of_order() {
    let late = counts(|lines, _| {
        lines.retain(|(_, line)| *line != "g 1 5 2 0 0");
        lines.insert(12, (4.2, "g 1 5 2 0 0"));
    });
    assert_eq!(late, [0, 0, 1, 0, 0]);
}

#[test]
fn survivors_that_hold_something_else_differ() {
    assert_eq!(counts(|_, held| *held = held.replace("100 9 0 1", "100 8 0 1")), [0, 0, 0, 1, 0]);
    let (verdict, _) = reported(&kept(), &[("a", HELD)], "2 findings");
    assert_eq!(counted(&verdict), [0, 0, 0, 1, 0]);
}

#[test]
fn what_has_no_outcome_what_nobody_wrote_and_what_cannot_be_read_is_broken() {
    fn other(change: impl FnOnce(&mut Lines, &mut String)) -> u64 {
        counts(change)[4]
    }
    assert!(other(|lines, _| lines.retain(|(_, line)| *line != "a 0 1 4")) > 0);
    assert!(other(|_, held| held.push_str("m 5 5 101 9 1 7\n")) > 0);
    assert!(other(|_, held| held.push_str("b 6 no server answers\n")) > 0);
}

#[test]
fn a_run_that_was_not_completed_is_refused() {
    let refused = |lines: &[(f64, &str)], held: &[(&str, &str)]| {
        let folder = folder(lines, held, WELL);
        Lived::read(&folder.path().join("load")).unwrap_err().to_string()
    };
    let without_live: Vec<(f64, &str)> = kept().into_iter().filter(|(_, line)| *line != "q live").collect();
    assert!(refused(&without_live, &[("a", HELD)]).contains("not completed"));
    let mut strange = kept();
    strange.push((9.0, "a 0 99 4"));
    assert!(refused(&strange, &[("a", HELD)]).contains("means nothing"));
    assert!(refused(&kept(), &[("a", "m 5 x\n")]).contains("means nothing"));
}
