//! What an operator does with a node, with the real binary.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::fs;
use std::path::Path;

use common::{PATIENCE, Scene, all_explained, operator, page};
use ieum_core::batch::{Batch, Envelope, Header, Origin};
use ieum_core::commands::operate::AddNode;
use ieum_log::{BatchId, Log as _};

#[test]
fn a_backup_of_a_running_node_and_of_its_folder_is_restored() {
    let mut scene = Scene::started();
    scene.register("minji", "민지");
    scene.register("junho", "준호");
    scene.person("minji", &["send", "junho", "하나"]).success();
    let (running, stopped) = (scene.path("running.backup"), scene.path("stopped.backup"));
    let said = scene.operator(&["backup", running.to_str().unwrap()]).success();
    assert!(said.contains("Backed up to"), "{said}");
    scene.person("minji", &["send", "junho", "둘"]).success();
    // It refuses while the node runs.
    let complaint = scene.operator(&["restore", running.to_str().unwrap(), "--replace"]).failure();
    assert!(complaint.contains("stop that one first"), "{complaint}");
    assert!(scene.server.stop(PATIENCE).unwrap().success());
    scene.operator(&["backup", stopped.to_str().unwrap()]).success();

    let complaint = scene.operator(&["restore", running.to_str().unwrap()]).failure();
    assert!(complaint.contains("--replace"), "{complaint}");
    for (file, last) in [(&running, "하나"), (&stopped, "둘")] {
        let said = scene.operator(&["restore", file.to_str().unwrap(), "--replace"]).success();
        assert!(said.contains("The data that was there is kept in"), "{said}");
        scene.operator(&["verify"]).success();
        scene.server.start(PATIENCE).unwrap();
        let mut chat = scene.terminal("junho", &["chat", "minji"]);
        chat.write_line("/history 1").unwrap();
        chat.wait_for_line(|line| line.contains(&format!("민지: {last}")), PATIENCE).unwrap();
        scene.operator(&["verify"]).success();
        assert!(scene.server.stop(PATIENCE).unwrap().success());
    }
    let complaint = scene.operator(&["restore", scene.path("nothing").to_str().unwrap(), "--replace"]).failure();
    assert!(complaint.contains("nothing"), "{complaint}");
    fs::write(scene.path("nonsense"), "nonsense").unwrap();
    let complaint = scene.operator(&["restore", scene.path("nonsense").to_str().unwrap(), "--replace"]).failure();
    assert!(complaint.contains("not a snapshot"), "{complaint}");
    // Nothing was moved aside for a file that is none.
    scene.operator(&["verify"]).success();
}

#[test]
fn a_node_is_verified_while_it_runs_and_when_it_does_not() {
    let mut scene = Scene::started();
    scene.register("minji", "민지");
    let said = scene.operator(&["verify"]).success();
    assert!(said.starts_with("All is well at position 1."), "{said}");
    assert!(scene.server.stop(PATIENCE).unwrap().success());
    let said = scene.operator(&["verify"]).success();
    assert!(said.starts_with("All is well at position 1."), "{said}");
}

#[test]
fn a_setting_that_is_none_is_an_error() {
    let scene = Scene::new();
    let file = scene.path("ieum.toml");
    fs::write(&file, "[node]\ncel = 7\n").unwrap();
    let complaint = scene.operator(&["serve", "--config", file.to_str().unwrap()]).failure();
    assert!(complaint.contains("cel") && complaint.contains("ieum.toml"), "{complaint}");
    let complaint = scene.operator(&["verify", "--config", scene.path("missing").to_str().unwrap()]).failure();
    assert!(complaint.contains("missing"), "{complaint}");
    let mut scene = Scene::new().set("NODE__CEL", "7");
    let error = scene.server.start(PATIENCE).unwrap_err().to_string();
    assert!(error.contains("cel"), "{error}");
    assert!(!scene.server.data().exists(), "nothing is made before the settings are right");
}

#[test]
fn a_port_or_a_folder_that_is_taken_is_named() {
    let one = Scene::started();
    let address = one.server.address().trim_start_matches("http://").to_owned();
    let mut other = Scene::new().set("LISTEN__ADDRESS", &address);
    let error = other.server.start(PATIENCE).unwrap_err().to_string();
    assert!(error.contains(&address) && error.contains("is another server running there"), "{error}");
    assert!(!other.server.data().exists());
    let mut other = Scene::new().set("NODE__DATA", one.server.data().to_str().unwrap());
    let error = other.server.start(PATIENCE).unwrap_err().to_string();
    assert!(error.contains("another process uses the log"), "{error}");
}

#[test]
fn a_node_that_is_alone_sends_its_clients_nowhere() {
    let scene = Scene::started();
    let complaint = scene.operator(&["node", "drain"]).failure();
    assert!(complaint.contains("one node") && complaint.contains("SIGTERM"), "{complaint}");
    let complaint = scene.operator(&["node", "drain", "--seconds", "3601"]).failure();
    assert!(complaint.contains("3600"), "{complaint}");
    let said = scene.operator(&["node", "drain", "--end"]).success();
    assert!(said.contains("nothing was changed"), "{said}");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = operator("none".as_ref(), &["completions", shell]).success();
        assert!(script.contains("kakaotalk") && script.contains("restore") && script.contains("activate"), "{shell}");
    }
    assert!(operator("none".as_ref(), &["completions", "tcl"]).failure().contains("tcl"));
}

/// A data folder as the first build founded it: at level 1.
async fn founded_at_level_1(data: &Path) {
    let folder = ieum_node::folder::Folder::new(data);
    let opened = folder.open(1, &ieum_store::fjall::Options::default()).await.unwrap();
    let add = AddNode { node: 1, dc: "a".to_owned(), level: 1, cell: 1 };
    let author = ieum_core::Author { node: 1, incarnation: 1, number: 1 };
    let header = Header {
        node: author.node,
        incarnation: author.incarnation,
        number: author.number,
        clock: ieum_node::clock::wall(),
    };
    let commands = vec![Envelope { origin: Origin::Node, command: add.into() }];
    let id = BatchId { node: author.node, incarnation: author.incarnation, number: author.number };
    opened.log.append(id, Batch { header, commands }.encode()).await.unwrap();
}

#[test]
fn a_cell_of_an_earlier_build_is_brought_to_the_level_of_this_one() {
    let mut scene = Scene::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(founded_at_level_1(scene.server.data()));
    drop(runtime);
    let complaint = scene.operator(&["level"]).failure();
    assert!(complaint.contains("start it with `ieum serve`"), "{complaint}");
    scene.server.start(PATIENCE).unwrap();
    let said = scene.server.stderr().unwrap();
    assert!(said.contains("the cell is at level 1 and this build knows 2"), "{said}");
    assert!(said.contains("`ieum level activate 2`"), "{said}");
    scene.register("minji", "민지");
    scene.register("junho", "준호");
    let refused = scene.person("minji", &["send", "junho", "하나"]).failure();
    assert!(refused.contains("(unsupported)"), "{refused}");

    let shown = "The cell is at level 1.\nNode 1 in data center a knows up to level 2.\n";
    let said = scene.operator(&["level"]).success();
    assert!(said.starts_with(shown) && said.contains("`ieum level activate 2`"), "{said}");
    let complaint = scene.operator(&["level", "activate", "3"]).failure();
    assert!(complaint.contains("level 3 is more than these members know: node 1 in a knows up to 2"), "{complaint}");
    let said = scene.operator(&["level", "activate", "2"]).success();
    assert_eq!(said, "The cell is at level 2 now.\n");
    let complaint = scene.operator(&["level", "activate", "2"]).failure();
    assert!(complaint.contains("level 2 is active already"), "{complaint}");
    let complaint = scene.operator(&["level", "activate", "1"]).failure();
    assert!(complaint.contains("is at level 2 and never goes back to 1"), "{complaint}");

    scene.person("minji", &["send", "junho", "하나"]).success();
    assert!(scene.server.stop(PATIENCE).unwrap().success());
    scene.operator(&["verify"]).success();
    scene.server.start(PATIENCE).unwrap();
    let said = scene.operator(&["level"]).success();
    assert_eq!(said, "The cell is at level 2.\nNode 1 in data center a knows up to level 2.\n");
    assert_eq!(scene.server.stderr().unwrap().matches("the cell is at level").count(), 1, "it has nothing to say now");
    scene.person("junho", &["send", "minji", "둘"]).success();
}

#[test]
fn a_new_cell_is_at_the_level_of_its_build() {
    let scene = Scene::started();
    let said = scene.operator(&["level"]).success();
    assert!(said.starts_with("The cell is at level 2.\n") && said.lines().count() == 2, "{said}");
    assert!(!scene.server.stderr().unwrap().contains("the cell is at level"));
}

#[test]
fn a_stop_is_clean_and_tells_clients_to_come_back() {
    let mut scene = Scene::started();
    scene.register("minji", "민지");
    let mut tail = scene.terminal("minji", &["tail"]);
    tail.wait_for_stderr(|text| text.contains("connected to"), PATIENCE).unwrap();
    assert!(scene.server.stop(PATIENCE).unwrap().success());
    scene.server.start(PATIENCE).unwrap();
    tail.wait_for_stderr(|text| text.matches("connected to").count() == 2, PATIENCE).unwrap();
}

#[test]
fn nobody_else_on_the_machine_can_read_the_data() {
    use std::os::unix::fs::PermissionsExt;
    let mut scene = Scene::started();
    scene.register("minji", "민지");
    scene.operator(&["backup", scene.path("copy").to_str().unwrap()]).success();
    let open = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o077 != 0;
    let mut folders = vec![scene.server.data().to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        assert!(!open(&folder), "{}", folder.display());
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                seen += 1;
                assert!(!open(&path), "{}", path.display());
            }
        }
    }
    assert!(seen > 3 && !open(&scene.path("copy")));
    // A folder that is open to others is named.
    scene.server.stop(PATIENCE).unwrap();
    fs::set_permissions(scene.server.data(), fs::Permissions::from_mode(0o755)).unwrap();
    scene.server.start(PATIENCE).unwrap();
    let said = scene.server.stderr().unwrap();
    assert!(said.contains("chmod 700"), "{said}");
}

#[test]
fn a_mark_is_made_on_a_stopped_node_only_and_only_ahead_of_its_view() {
    let mut scene = Scene::started();
    let complaint = scene.operator(&["log", "skip", "1.1", "0"]).failure();
    assert!(complaint.contains("stop that one first"), "{complaint}");
    assert!(scene.server.stop(PATIENCE).unwrap().success());
    let complaint = scene.operator(&["log", "skip", "1.1", "0"]).failure();
    assert!(complaint.contains("1.1 was applied"), "{complaint}");
    let complaint = scene.operator(&["log", "skip", "1.99999", "0"]).failure();
    assert!(complaint.contains("1.99999 is not in this log"), "{complaint}");
    assert!(scene.operator(&["log", "skip", "somewhere", "0"]).failure().contains("generation.ordinal"));
    assert_eq!(scene.operator(&["log", "skips"]).success(), "");
}

/// Of a node that is alone; those of a cell of several are in `cell.rs`.
#[test]
fn every_metric_is_in_the_operators_page() {
    let scene = Scene::started();
    all_explained(&page(&scene.server.address(), "/metrics"), &["append_failures_total", "stalled"]);
}

#[test]
fn figures_may_be_kept_from_where_clients_come_in() {
    let apart = format!("127.0.0.1:{}", ieum_drill::server::free_port().unwrap());
    let mut scene = Scene::new().set("LISTEN__METRICS", &format!("{apart:?}"));
    scene.server.start(PATIENCE).unwrap();
    let clients = scene.server.address();
    assert!(page(&clients, "/metrics").starts_with("HTTP/1.1 404"));
    assert!(page(&clients, "/readyz").starts_with("HTTP/1.1 200"));
    all_explained(&page(&apart, "/metrics"), &["append_failures_total"]);
    assert!(page(&apart, "/readyz").ends_with("ready\n"));
    for path in ["/", "/v1/me", "/v1/socket", "/docs"] {
        assert!(page(&apart, path).starts_with("HTTP/1.1 404"), "{path}");
    }
    // Not twice, and it is said which setting is meant.
    let mut second = Scene::new().set("LISTEN__METRICS", &format!("{apart:?}"));
    let refused = second.server.start(PATIENCE).unwrap_err();
    assert!(refused.to_string().contains("[listen] metrics"), "{refused}");
    assert!(!second.path("data").join("log").exists(), "it begins nothing, however often it is started");
    assert!(scene.server.stop(PATIENCE).unwrap().success());
}

/// What root made there, the service could not open. Needs root.
#[test]
fn root_writes_nothing_into_the_folder_of_another_user() {
    let mut scene = Scene::started();
    let (data, copy) = (scene.server.data().to_owned(), scene.path("copy"));
    let copy = copy.to_str().unwrap();
    scene.operator(&["backup", copy]).success();
    assert!(scene.server.stop(PATIENCE).unwrap().success());
    std::os::unix::fs::chown(&data, Some(65_534), None).unwrap();
    let restore = ["restore", copy, "--replace"];
    let log = [&["log", "skip", "1.1", "0"][..], &["log", "skips"]];
    let others = [&["verify"][..], &["backup", copy], &restore, &["node", "resync"]];
    for arguments in log.into_iter().chain(others) {
        let said = scene.operator(arguments).failure();
        assert!(said.contains("is nobody's") && said.contains("runuser -u nobody"), "{arguments:?}: {said}");
    }
    let error = scene.server.start(PATIENCE).unwrap_err().to_string();
    assert!(error.contains("runuser -u nobody"), "{error}");
    std::os::unix::fs::chown(&data, Some(0), None).unwrap();
    scene.operator(&["verify"]).success();
}

#[test]
fn a_data_folder_may_lie_deep() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("deep".repeat(20)).join("deeper".repeat(20));
    let mut scene = Scene::with_data(data).set("NODE__DC", "1").set("NEW_PASSWORD", "x");
    scene.server.start(PATIENCE).unwrap();
    scene.operator(&["invite"]).success();
    let refused = scene.operator(&["invite", "--uses", "0"]).failure();
    assert!(refused.contains("--uses"), "{refused}");
    let refused = scene.operator(&["invite", "--days", "0"]).failure();
    assert!(refused.contains("--days"), "{refused}");
    assert!(scene.server.stop(PATIENCE).unwrap().success());
}
