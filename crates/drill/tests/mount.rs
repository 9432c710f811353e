//! The file system under real system calls. Needs root and /dev/fuse; without them these tests fail and say so.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use ieum_drill::unsynced::{Metadata, Mount, Options};
use nix::fcntl::OFlag;

const PATIENCE: Duration = Duration::from_secs(20);

fn options(metadata: Metadata) -> Options {
    Options { metadata, binary: Some(env!("CARGO_BIN_EXE_ieum-unsynced").into()), ..Options::default() }
}

fn mount(metadata: Metadata) -> Mount {
    Mount::new(&options(metadata)).expect("mount the file system")
}

fn sync_directory(folder: &Path) {
    File::open(folder).and_then(|folder| folder.sync_all()).expect("sync the directory");
}

fn power_cycle(mount: &Mount) {
    mount.cut().expect("cut");
    mount.restore().expect("restore");
}

fn is_eio<T>(result: std::io::Result<T>) -> bool {
    result.err().and_then(|error| error.raw_os_error()) == Some(nix::errno::Errno::EIO as i32)
}

#[test]
fn what_was_synced_survives_a_cut_and_nothing_else() {
    for metadata in [Metadata::Strict, Metadata::Ext4] {
        let mount = mount(metadata);
        let path = mount.path();
        let mut log = File::create(path.join("log")).expect("create");
        log.write_all(b"durable").expect("write");
        log.sync_data().expect("sync");
        sync_directory(&path);
        log.write_all(b" lost").expect("write");
        fs::write(path.join("new"), "lost as well").expect("write");
        assert_eq!(fs::read(path.join("log")).expect("read"), b"durable lost");
        let stats = mount.stats().expect("stats");
        assert_eq!((stats.unsynced_files, stats.unsynced_bytes, stats.unsynced_changes), (2, 8192, 1));
        power_cycle(&mount);
        assert_eq!(fs::read(path.join("log")).expect("read"), b"durable");
        assert!(!path.join("new").exists());
        assert_eq!(mount.stats().expect("stats").cuts, 1);
    }
}

#[test]
fn everything_fails_while_the_power_is_off_and_old_handles_for_ever() {
    let mount = mount(Metadata::Ext4);
    let path = mount.path();
    let mut log = File::create(path.join("log")).expect("create");
    log.write_all(b"durable").and_then(|()| log.sync_all()).expect("write and sync");
    mount.cut().expect("cut");
    assert!(is_eio(log.write_all(b"x")));
    assert!(is_eio(log.sync_all()));
    assert!(is_eio(fs::read_dir(&path).and_then(|mut entries| entries.next().expect("an error"))));
    assert!(is_eio(File::open(path.join("log"))));
    assert!(is_eio(File::create(path.join("other"))));
    assert!(mount.cut().expect_err("it is off").to_string().contains("off already"));
    mount.restore().expect("restore");
    assert!(is_eio(log.write_all(b"x")));
    assert!(is_eio(log.sync_all()));
    assert_eq!(fs::read(path.join("log")).expect("read"), b"durable");
    assert!(mount.restore().expect_err("it is on").to_string().contains("not cut"));
    power_cycle(&mount);
    assert_eq!(fs::read(path.join("log")).expect("read"), b"durable");
}

#[test]
fn a_write_with_o_dsync_is_durable() {
    let mount = mount(Metadata::Ext4);
    let path = mount.path().join("log");
    let flags = OFlag::O_DSYNC.bits();
    let log = OpenOptions::new().create(true).append(true).custom_flags(flags).open(&path).expect("open");
    (&log).write_all(&[7; 10_000]).expect("write");
    power_cycle(&mount);
    assert_eq!(fs::read(&path).expect("read"), [7; 10_000]);
}

#[test]
fn a_socket_is_one_and_forgotten_like_any_name() {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    let mount = mount(Metadata::Strict);
    let path = mount.path().join("socket");
    let listener = UnixListener::bind(&path).expect("listen");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("change the mode");
    assert!(fs::metadata(&path).expect("it is there").file_type().is_socket());
    let entry = fs::read_dir(mount.path()).expect("list").next().expect("an entry").expect("an entry");
    assert!(entry.file_type().expect("a type").is_socket());
    UnixStream::connect(&path).and_then(|mut stream| stream.write_all(b"x")).expect("write");
    let mut read = [0];
    listener.accept().and_then(|(mut stream, _)| stream.read_exact(&mut read)).expect("read");
    assert_eq!(&read, b"x");
    power_cycle(&mount);
    assert!(!path.exists());
}

#[test]
fn a_torn_cut_leaves_some_of_what_was_written() {
    let mount = mount(Metadata::Ext4);
    let path = mount.path().join("data");
    let data = File::create(&path).expect("create");
    data.write_all_at(&[1; 64 * 4096], 0).and_then(|()| data.sync_all()).expect("write and sync");
    data.write_all_at(&[2; 64 * 4096], 0).expect("write");
    mount.cut_torn(1).expect("cut");
    mount.restore().expect("restore");
    let left = fs::read(&path).expect("read");
    assert_eq!(left.len(), 64 * 4096);
    // The kernel may pass one write on in several; which whole blocks survive is tested with the model.
    assert!(left.iter().all(|byte| [1, 2].contains(byte)) && left.contains(&1) && left.contains(&2));
}

#[test]
fn the_disk_gets_full_and_removing_makes_room() {
    let mount = mount(Metadata::Strict);
    let path = mount.path();
    fs::write(path.join("old"), [1; 100_000]).expect("write");
    mount.full(20_480).expect("fill");
    let error = fs::write(path.join("new"), [2; 50_000]).expect_err("it is full");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(fs::metadata(path.join("new")).expect("it is there").len(), 20_480);
    assert_eq!(nix::sys::statvfs::statvfs(&path).expect("statvfs").blocks_available(), 0);
    let old = OpenOptions::new().write(true).open(path.join("old")).expect("open");
    old.write_all_at(&[3; 100_000], 0).expect("an overwrite needs no space");
    fs::remove_file(path.join("old")).expect("remove");
    drop(old);
    fs::write(path.join("new"), [2; 50_000]).expect("there is room");
    mount.full_off().expect("there is all the room");
    fs::write(path.join("more"), vec![2; 10_000_000]).expect("there is room");
}

#[test]
fn writes_and_syncs_hang_on_a_stuck_disk() {
    let mount = mount(Metadata::Ext4);
    let path = mount.path();
    let mut log = File::create(path.join("log")).expect("create");
    fs::write(path.join("other"), "read me").expect("write");
    mount.stick().expect("stick");
    let (sender, done) = channel();
    let written = log.try_clone().expect("clone");
    let hanging = std::thread::spawn(move || {
        let result = log.write_all(b"late").and_then(|()| log.sync_all());
        sender.send(result).expect("somebody listens");
    });
    done.recv_timeout(Duration::from_millis(200)).expect_err("it hangs");
    assert_eq!(fs::read(path.join("other")).expect("reading goes on"), b"read me");
    assert_eq!(mount.unstick().expect("unstick"), 1);
    done.recv_timeout(PATIENCE).expect("it goes on").expect("it works");
    hanging.join().expect("it ended");

    mount.stick().expect("stick");
    let (sender, done) = channel();
    let hanging = std::thread::spawn(move || sender.send(written.sync_all()).expect("somebody listens"));
    done.recv_timeout(Duration::from_millis(200)).expect_err("it hangs");
    power_cycle(&mount);
    assert!(is_eio(done.recv_timeout(PATIENCE).expect("the cut ends it")));
    hanging.join().expect("it ended");
    assert_eq!(fs::read(path.join("log")).expect("read"), b"late");
}

#[test]
fn a_folder_is_loaded_and_the_durable_state_dumped() {
    let (backing, dumped) = (tempfile::tempdir().expect("make a folder"), tempfile::tempdir().expect("make a folder"));
    fs::create_dir(backing.path().join("inner")).expect("make a folder");
    fs::write(backing.path().join("inner/file"), "content").expect("write");
    let mount =
        Mount::new(&Options { backing: Some(backing.path().into()), ..options(Metadata::Strict) }).expect("mount");
    let inner = mount.path().join("inner");
    let mut file = OpenOptions::new().append(true).open(inner.join("file")).expect("open");
    file.write_all(b" and more").and_then(|()| file.sync_all()).expect("write and sync");
    fs::write(inner.join("unsynced"), "x").expect("write");
    mount.dump(&dumped.path().join("to")).expect("dump");
    assert_eq!(fs::read(dumped.path().join("to/inner/file")).expect("read"), b"content and more");
    assert!(!dumped.path().join("to/inner/unsynced").exists());
    assert_eq!(fs::read(backing.path().join("inner/file")).expect("read"), b"content");
}

#[test]
fn a_large_folder_is_listed_and_removed() {
    let mount = mount(Metadata::Strict);
    let folder = mount.path().join("folder");
    fs::create_dir(&folder).expect("make a folder");
    for index in 0..3000 {
        fs::write(folder.join(format!("a rather long name for file {index}")), []).expect("write");
    }
    assert_eq!(fs::read_dir(&folder).expect("list").count(), 3000);
    fs::remove_dir_all(&folder).expect("remove");
    assert_eq!(fs::read_dir(mount.path()).expect("list").count(), 0);
}

#[test]
fn a_drop_unmounts_also_when_files_are_open() {
    let mount = mount(Metadata::Strict);
    let path = mount.path();
    let mut open = File::create(path.join("open")).expect("create");
    let mounted = || fs::read_to_string("/proc/self/mounts").expect("read").contains(path.to_str().expect("text"));
    assert!(mounted());
    drop(mount);
    assert!(!mounted());
    assert!(!path.exists());
    open.write_all(b"x").expect_err("nobody serves it");
    open.read_to_end(&mut Vec::new()).expect_err("nobody serves it");
}
