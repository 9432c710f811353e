//! What a power cut leaves of names and contents, in both modes, without FUSE.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;

use ieum_drill::unsynced::{Metadata, Model, Owner};
use nix::errno::Errno;

const ROOT: u64 = 1;
const OWNER: Owner = Owner { mode: 0o644, uid: 0, gid: 0 };
const BOTH: [Metadata; 2] = [Metadata::Strict, Metadata::Ext4];

fn name(name: &str) -> &OsStr {
    OsStr::new(name)
}

fn model(metadata: Metadata) -> Model {
    Model::new(metadata, 1 << 20)
}

/// A file whose name and content are durable.
fn durable(model: &mut Model, directory: u64, called: &str, content: &[u8]) -> u64 {
    let inode = file(model, directory, called, content);
    model.sync(inode, false).expect("sync the file");
    model.sync_directory(directory).expect("sync the directory");
    inode
}

fn file(model: &mut Model, directory: u64, called: &str, content: &[u8]) -> u64 {
    let inode = model.create_file(directory, name(called), OWNER).expect("create a file").inode;
    model.write(inode, 0, content).expect("write");
    inode
}

fn directory(model: &mut Model, parent: u64, called: &str) -> u64 {
    model.create_directory(parent, name(called), OWNER).expect("create a directory").inode
}

/// The names in a directory, each with the content.
fn names(model: &Model, directory: u64) -> Vec<(String, Vec<u8>)> {
    let entries = model.list(directory).expect("list");
    let read = |inode| model.read(inode, 0, 1 << 20).unwrap_or_default();
    entries.into_iter().map(|(name, inode, _)| (name.to_string_lossy().into_owned(), read(inode))).collect()
}

fn is(expected: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    expected.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect()
}

#[test]
fn a_new_file_that_was_synced_keeps_its_name_only_with_a_journal() {
    for metadata in BOTH {
        let mut model = model(metadata);
        let inode = file(&mut model, ROOT, "log", b"entry");
        model.sync(inode, false).expect("sync");
        model.cut(None);
        let expected = if metadata == Metadata::Ext4 { is(&[("log", "entry")]) } else { is(&[]) };
        assert_eq!(names(&model, ROOT), expected, "{metadata:?}");
    }
}

#[test]
fn a_name_without_a_synced_content_is_an_empty_file() {
    for metadata in BOTH {
        let mut model = model(metadata);
        file(&mut model, ROOT, "log", b"entry");
        model.sync_directory(ROOT).expect("sync");
        model.cut(None);
        assert_eq!(names(&model, ROOT), is(&[("log", "")]), "{metadata:?}");
    }
}

#[test]
fn an_append_is_durable_up_to_its_last_sync() {
    for metadata in BOTH {
        for data_only in [false, true] {
            let mut model = model(metadata);
            let inode = durable(&mut model, ROOT, "log", b"one");
            model.write(inode, 3, b"two").expect("write");
            model.sync(inode, data_only).expect("sync");
            model.write(inode, 6, b"three").expect("write");
            model.cut(None);
            assert_eq!(names(&model, ROOT), is(&[("log", "onetwo")]), "{metadata:?}");
        }
    }
}

#[test]
fn a_rename_over_a_file_is_undone_until_the_directory_is_synced() {
    for metadata in BOTH {
        let mut model = model(metadata);
        durable(&mut model, ROOT, "state", b"old");
        let new = file(&mut model, ROOT, "state.new", b"new");
        model.sync(new, false).expect("sync");
        model.rename((ROOT, name("state.new")), (ROOT, name("state")), true).expect("rename");
        assert_eq!(names(&model, ROOT), is(&[("state", "new")]));
        model.cut(None);
        let expected: &[_] =
            if metadata == Metadata::Ext4 { &[("state", "old"), ("state.new", "new")] } else { &[("state", "old")] };
        assert_eq!(names(&model, ROOT), is(expected), "{metadata:?}");
    }
}

#[test]
fn a_rename_that_was_synced_stays_and_the_replaced_file_is_gone() {
    for metadata in BOTH {
        let mut model = model(metadata);
        durable(&mut model, ROOT, "state", b"old");
        let new = file(&mut model, ROOT, "state.new", b"new");
        model.sync(new, false).expect("sync");
        model.rename((ROOT, name("state.new")), (ROOT, name("state")), true).expect("rename");
        model.sync_directory(ROOT).expect("sync");
        model.cut(None);
        assert_eq!(names(&model, ROOT), is(&[("state", "new")]), "{metadata:?}");
        assert_eq!(model.space(), (256, 255), "{metadata:?}");
    }
}

#[test]
fn a_rename_before_the_content_was_synced_leaves_an_empty_file() {
    for metadata in BOTH {
        let mut model = model(metadata);
        durable(&mut model, ROOT, "state", b"old");
        file(&mut model, ROOT, "state.new", b"new");
        model.rename((ROOT, name("state.new")), (ROOT, name("state")), true).expect("rename");
        model.sync_directory(ROOT).expect("sync");
        model.cut(None);
        assert_eq!(names(&model, ROOT), is(&[("state", "")]), "{metadata:?}");
    }
}

#[test]
fn with_a_journal_any_sync_commits_all_earlier_changes_of_names_but_no_data() {
    let mut model = model(Metadata::Ext4);
    durable(&mut model, ROOT, "gone", b"x");
    let other = durable(&mut model, ROOT, "other", b"");
    model.unlink(ROOT, name("gone")).expect("unlink");
    file(&mut model, ROOT, "new", b"never synced");
    let clean = model.sync(other, false);
    assert_eq!(clean, Ok(()), "a sync of a clean file commits nothing");
    assert_eq!(model.list(ROOT).expect("list").len(), 2);
    model.write(other, 0, b"y").expect("write");
    model.sync(other, false).expect("sync");
    file(&mut model, ROOT, "late", b"after the sync");
    model.cut(None);
    assert_eq!(names(&model, ROOT), is(&[("new", ""), ("other", "y")]));
}

#[test]
fn with_a_journal_fdatasync_of_an_overwrite_commits_no_names() {
    for (offset, expected) in [(0, is(&[("log", "xbc")])), (3, is(&[("log", "abcx"), ("new", "")]))] {
        let mut model = model(Metadata::Ext4);
        let log = durable(&mut model, ROOT, "log", b"abc");
        file(&mut model, ROOT, "new", b"");
        model.write(log, offset, b"x").expect("write");
        model.sync(log, true).expect("sync");
        model.cut(None);
        assert_eq!(names(&model, ROOT), expected);
    }
}

#[test]
fn with_a_journal_a_shortening_is_a_change_like_a_name() {
    let mut model = model(Metadata::Ext4);
    let log = durable(&mut model, ROOT, "log", b"abcdef");
    let other = durable(&mut model, ROOT, "other", b"");
    model.set_len(log, 2).expect("shorten");
    model.write(log, 2, b"XYZ").expect("write");
    model.write(other, 0, b"y").expect("write");
    model.sync(other, false).expect("sync");
    model.cut(None);
    assert_eq!(names(&model, ROOT), is(&[("log", "ab"), ("other", "y")]));
}

#[test]
fn an_unsynced_removal_is_undone_but_makes_room_meanwhile() {
    for metadata in BOTH {
        let mut model = model(metadata);
        durable(&mut model, ROOT, "journal", &[7; 8192]);
        model.fill(Some(0));
        assert_eq!(model.create_file(ROOT, name("full"), OWNER), Err(Errno::ENOSPC));
        model.unlink(ROOT, name("journal")).expect("unlink");
        assert_eq!(model.space(), (256, 2));
        let next = model.create_file(ROOT, name("next"), OWNER).expect("there is room").inode;
        assert_eq!(model.write(next, 0, &[8; 20000]), Ok(8192));
        assert_eq!(model.write(next, 8192, &[8; 20000]), Err(Errno::ENOSPC));
        model.cut(None);
        assert_eq!(names(&model, ROOT), [("journal".to_owned(), vec![7; 8192])], "{metadata:?}");
    }
}

#[test]
fn a_removed_file_that_is_open_can_be_used_until_it_is_closed() {
    let mut model = model(Metadata::Strict);
    let inode = durable(&mut model, ROOT, "scratch", b"x");
    model.open(inode).expect("open");
    model.unlink(ROOT, name("scratch")).expect("unlink");
    model.sync_directory(ROOT).expect("sync");
    model.write(inode, 1, b"y").expect("write");
    assert_eq!(model.read(inode, 0, 10), Ok(b"xy".to_vec()));
    model.release(inode).expect("close");
    assert_eq!(model.read(inode, 0, 10), Err(Errno::ENOENT));
    assert_eq!(model.space(), (256, 256));
}

#[test]
fn a_directory_needs_its_parent_synced() {
    for metadata in BOTH {
        let mut model = model(metadata);
        let inner = directory(&mut model, ROOT, "inner");
        let kept = durable(&mut model, inner, "file", b"content");
        model.cut(None);
        match metadata {
            Metadata::Strict => assert_eq!(model.attributes(kept), Err(Errno::ENOENT)),
            Metadata::Ext4 => assert_eq!(names(&model, inner), is(&[("file", "content")])),
        }
    }
}

#[test]
fn a_rename_between_directories_never_loses_the_file() {
    for synced in 0..2 {
        let mut model = model(Metadata::Strict);
        let (left, right) = (directory(&mut model, ROOT, "left"), directory(&mut model, ROOT, "right"));
        model.sync_directory(ROOT).expect("sync");
        durable(&mut model, left, "file", b"content");
        let new = directory(&mut model, right, "new");
        model.rename((left, name("file")), (new, name("file")), true).expect("rename");
        model.sync_directory([left, new][synced]).expect("sync");
        model.cut(None);
        assert_eq!((names(&model, left), names(&model, new)), (is(&[]), is(&[("file", "content")])));
        assert_eq!(model.parent(new), Ok(right));
    }
}

#[test]
fn a_second_name_is_durable_for_itself() {
    let mut model = model(Metadata::Strict);
    let inode = durable(&mut model, ROOT, "first", b"x");
    let other = directory(&mut model, ROOT, "other");
    model.sync_directory(ROOT).expect("sync");
    model.link(inode, other, name("second")).expect("link");
    model.unlink(ROOT, name("first")).expect("unlink");
    model.sync_directory(other).expect("sync");
    model.cut(None);
    assert_eq!((names(&model, ROOT).len(), names(&model, other)), (2, is(&[("second", "x")])));
    assert_eq!(model.attributes(inode).map(|attributes| attributes.links), Ok(2));
}

#[test]
fn names_follow_the_rules() {
    let mut model = model(Metadata::Strict);
    let full = directory(&mut model, ROOT, "full");
    file(&mut model, full, "file", b"");
    directory(&mut model, ROOT, "empty");
    let rename = |model: &mut Model, from, to, replace| model.rename((ROOT, name(from)), (ROOT, name(to)), replace);
    assert_eq!(model.remove_directory(ROOT, name("full")), Err(Errno::ENOTEMPTY));
    assert_eq!(model.unlink(ROOT, name("full")), Err(Errno::EISDIR));
    assert_eq!(rename(&mut model, "empty", "full", true), Err(Errno::ENOTEMPTY));
    assert_eq!(rename(&mut model, "full", "empty", false), Err(Errno::EEXIST));
    assert_eq!(rename(&mut model, "full", "empty", true), Ok(()));
    assert_eq!(rename(&mut model, "missing", "other", true), Err(Errno::ENOENT));
    assert_eq!(model.lookup(ROOT, name("empty")).map(|found| found.inode), Ok(full));
}

/// Does much at once; the power is cut with a seed.
fn torn(metadata: Metadata, seed: u64) -> Vec<(String, Vec<u8>)> {
    let mut model = model(metadata);
    for index in 0..8 {
        let inode = durable(&mut model, ROOT, &format!("file {index}"), &[b'a'; 10_000]);
        model.write(inode, 2000, &[b'b'; 10_000]).expect("write");
    }
    for index in 0..4 {
        file(&mut model, ROOT, &format!("new {index}"), b"content");
        model.unlink(ROOT, name(&format!("file {index}"))).expect("unlink");
    }
    let shortened = model.lookup(ROOT, name("file 7")).expect("it is there").inode;
    model.set_len(shortened, 5000).expect("shorten");
    model.cut(Some(seed));
    names(&model, ROOT)
}

#[test]
fn a_torn_cut_is_the_same_for_the_same_seed_and_keeps_the_order_of_names() {
    for metadata in BOTH {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let left = torn(metadata, seed);
            assert_eq!(left, torn(metadata, seed));
            let has = |name: String| left.iter().any(|(there, _)| *there == name);
            for index in 0..4 {
                assert!(has(format!("new {index}")) || has(format!("file {index}")), "{metadata:?} {seed}");
                assert!(index == 0 || has(format!("new {}", index - 1)) || !has(format!("new {index}")));
            }
            outcomes.insert(left);
        }
        assert!(outcomes.len() > 40, "{metadata:?}: only {} outcomes", outcomes.len());
    }
}

/// Random operations: after a plain cut there is exactly what was synced, and the space adds up.
#[test]
fn what_was_synced_survives_random_operations() {
    for seed in 0..200_u64 {
        let metadata = BOTH[seed as usize % 2];
        let mut model = model(metadata);
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        for _ in 0..60 {
            let called = format!("{}", below(5));
            let found = model.lookup(ROOT, name(&called)).map(|found| found.inode);
            match (below(6), found) {
                (0..=1, Ok(inode)) => {
                    let bytes = vec![below(255) as u8; below(9000) as usize];
                    assert_eq!(model.write(inode, below(20_000), &bytes), Ok(bytes.len()));
                }
                (2, Ok(inode)) => model.set_len(inode, below(20_000)).expect("set the length"),
                (3, Ok(inode)) => model.sync(inode, below(2) == 0).expect("sync"),
                (4, Ok(_)) => model.rename((ROOT, name(&called)), (ROOT, name("0")), true).expect("rename"),
                (5, Ok(_)) => model.unlink(ROOT, name(&called)).expect("unlink"),
                (_, _) => drop(model.create_file(ROOT, name(&called), OWNER)),
            }
        }
        for (_, inode, _) in model.list(ROOT).expect("list") {
            model.sync(inode, false).expect("sync");
        }
        model.sync_directory(ROOT).expect("sync");
        let (before, space) = (names(&model, ROOT), model.space());
        let folder = tempfile::tempdir().expect("make a folder");
        model.dump(folder.path()).expect("dump");
        model.cut(if seed % 3 == 0 { Some(seed) } else { None });
        assert_eq!((names(&model, ROOT), model.space()), (before.clone(), space), "seed {seed}");
        let mut loaded = Model::new(metadata, 1 << 20);
        loaded.load(folder.path()).expect("load");
        assert_eq!(names(&loaded, ROOT), before, "seed {seed}");
    }
}
