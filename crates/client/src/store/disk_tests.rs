use std::fs;

use proptest::prelude::*;

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn command(place: u64) -> Command {
    let body = Arc::from(format!(r#"{{"send":{{"room":1,"text":"m{place}"}}}}"#));
    Command { place, id: CommandId(u128::from(place) << 70 | 5), n: Some(place), body }
}

fn identity() -> Identity {
    Identity { user: 1, device: 2, secret: "s3cret".into() }
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = folder();
    let path = folder.path().join("a.ieum");
    let mut saved = Saved::default();
    {
        let mut disk = Disk::open(&path).unwrap();
        assert_eq!(disk.identity().unwrap(), None);
        assert_eq!(disk.load().unwrap(), Saved::default());
        let unnumbered = Command { n: None, ..command(4) };
        let writes = [
            Write::Identity(identity()),
            Write::Add(command(1)),
            Write::Add(command(2)),
            Write::Add(command(3)),
            Write::Add(unnumbered),
            Write::Answered { place: 1, n: 1, keep: true },
            Write::Answered { place: 2, n: 2, keep: false },
            Write::Cursor(Some(Position::read("1.7"))),
            Write::Seen(Position::read("1.9")),
            Write::Endpoints(vec!["ws://a:1".to_owned(), "wss://b:2".to_owned()]),
        ];
        disk.commit(&writes).unwrap();
        writes.iter().for_each(|write| saved.apply(write));
    }
    let mut disk = Disk::open(&path).unwrap();
    assert_eq!(disk.identity().unwrap(), Some(identity()));
    assert_eq!(disk.load().unwrap(), saved);
}

#[test]
fn a_commit_that_fails_takes_nothing() {
    let folder = folder();
    let mut disk = Disk::open(folder.path().join("a.ieum")).unwrap();
    disk.commit(&[Write::Add(command(1))]).unwrap();
    // The second of these has a place that is taken.
    assert!(disk.commit(&[Write::Add(command(2)), Write::Add(command(1))]).is_err());
    assert_eq!(disk.load().unwrap().outbox, [command(1)]);
    disk.commit(&[Write::Add(command(2))]).unwrap();
}

/// What a crash leaves: the files as they are now, without the store having been closed.
fn crashed(path: &Path, to: &Path) {
    for suffix in ["", "-wal"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        fs::copy(name(path), name(to)).unwrap();
    }
}

#[test]
fn of_a_commit_that_was_half_written_nothing_is_there_and_all_before_it_is() {
    let folder = folder();
    let (path, copy) = (folder.path().join("a.ieum"), folder.path().join("b.ieum"));
    let mut disk = Disk::open(&path).unwrap();
    disk.commit(&[Write::Add(command(1))]).unwrap();
    let wal = PathBuf::from(format!("{}-wal", path.display()));
    let before = fs::metadata(&wal).unwrap().len();
    disk.commit(&[Write::Add(command(2)), Write::Add(command(3))]).unwrap();
    let after = fs::metadata(&wal).unwrap().len();
    for (length, there) in [(after, 3), (after - 1, 1), (before + 100, 1), (before, 1), (before - 1, 0)] {
        crashed(&path, &copy);
        let half = fs::OpenOptions::new().write(true).open(format!("{}-wal", copy.display())).unwrap();
        half.set_len(length).unwrap();
        let mut reopened = Disk::open(&copy).unwrap();
        assert_eq!(reopened.load().unwrap().outbox.len(), there, "{length} of {after} bytes");
    }
}

#[cfg(unix)]
#[test]
fn only_its_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder();
    let path = folder.path().join("a.ieum");
    let modes = || -> Vec<u32> {
        let files = fs::read_dir(folder.path()).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().permissions().mode() & 0o777).collect()
    };
    let mut disk = Disk::open(&path).unwrap();
    disk.commit(&[Write::Identity(identity())]).unwrap();
    assert_eq!(modes(), [0o600, 0o600]);
    drop(disk);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut disk = Disk::open(&path).unwrap();
    disk.commit(&[Write::Seen(Position::read("1.1"))]).unwrap();
    assert_eq!(modes(), [0o600, 0o600]);
}

#[test]
fn a_second_opener_is_told_so() {
    let folder = folder();
    let path = folder.path().join("a.ieum");
    let first = Disk::open(&path).unwrap();
    let error = Disk::open(&path).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    drop(first);
    Disk::open(&path).unwrap();
}

#[test]
fn another_file_is_left_alone() {
    let folder = folder();
    let text = folder.path().join("letter.txt");
    fs::write(&text, "Dear Minji, ".repeat(1_000)).unwrap();
    assert!(matches!(Disk::open(&text), Err(Error::Foreign { .. })));
    assert!(fs::read_to_string(&text).unwrap().starts_with("Dear Minji"));

    let other = folder.path().join("other.db");
    let connection = Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE cats (name TEXT)").unwrap();
    drop(connection);
    assert!(matches!(Disk::open(&other), Err(Error::Foreign { .. })));
}

#[test]
fn a_later_format_is_not_touched() {
    let folder = folder();
    let path = folder.path().join("a.ieum");
    Disk::open(&path).unwrap().connection.pragma_update(None, "user_version", 2).unwrap();
    let error = Disk::open(&path).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 2, known: 1, .. }), "{error}");
}

#[test]
fn damage_is_named() {
    let folder = folder();
    let path = folder.path().join("a.ieum");
    {
        let mut disk = Disk::open(&path).unwrap();
        let writes: Vec<Write> = (1..500).map(|place| Write::Add(command(place))).collect();
        disk.commit(&writes).unwrap();
    }
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[4_096..middle].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let error = Disk::open(&path).and_then(|mut disk| disk.load()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn numbers_out_of_order_are_damage() {
    let folder = folder();
    let mut disk = Disk::open(folder.path().join("a.ieum")).unwrap();
    disk.commit(&[Write::Add(command(1)), Write::Add(command(2)), Write::Number { place: 1, n: 2 }]).unwrap();
    assert!(matches!(disk.load(), Err(Error::Damaged { .. })));
}

#[test]
fn only_commands_wait_for_an_fsync() {
    let folder = folder();
    let mut disk = Disk::open(folder.path().join("a.ieum")).unwrap();
    let mut level = |write: Write| {
        disk.commit(&[write]).unwrap();
        disk.connection.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(level(Write::Add(command(1))), 2);
    assert_eq!(level(Write::Answered { place: 1, n: 1, keep: true }), 1);
    assert_eq!(level(Write::Reoffer { place: 1 }), 2);
}

fn write() -> impl Strategy<Value = Write> {
    let place = 1..12_u64;
    prop_oneof![
        3 => place.clone().prop_map(|place| Write::Add(command(place))),
        1 => place.clone().prop_map(|place| Write::Replace { place, id: CommandId(3), body: Arc::from("{}") }),
        2 => (place.clone(), any::<bool>()).prop_map(|(place, keep)| Write::Answered { place, n: place, keep }),
        1 => place.clone().prop_map(|place| Write::Reoffer { place }),
        1 => place.clone().prop_map(|place| Write::Forget { place }),
        1 => (place.clone(), place.clone()).prop_map(|(last, answered)| Write::Counter { last, answered }),
        1 => place.clone().prop_map(|ordinal| Write::Cursor(Some(Position::Dense { generation: 1, ordinal }))),
        1 => Just(Write::Cursor(None)),
        1 => place.prop_map(|ordinal| Write::Seen(Position::Dense { generation: 1, ordinal })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// The machine answers only what waits and gives each place once; such writes mean on disk what `Saved::apply` says.
    #[test]
    fn the_disk_holds_what_the_writes_say(writes in prop::collection::vec(write(), 1..60)) {
        let folder = folder();
        let path = folder.path().join("a.ieum");
        let mut disk = Disk::open(&path).unwrap();
        let mut saved = Saved::default();
        let mut next = 1;
        for write in writes {
            let write = match write {
                Write::Add(_) => {
                    next += 1;
                    Write::Add(command(next))
                }
                Write::Answered { place, .. } | Write::Replace { place, .. }
                    if saved.outbox.iter().all(|command| command.place != place) => continue,
                write => write,
            };
            disk.commit(std::slice::from_ref(&write)).unwrap();
            saved.apply(&write);
        }
        drop(disk);
        prop_assert_eq!(Disk::open(&path).unwrap().load().unwrap(), saved);
    }
}

#[test]
fn a_number_beyond_all_numbers_is_damage() {
    let folder = folder();
    let path = folder.path().join("a.ieum");
    Disk::open(&path).unwrap().commit(&[Write::Add(command(1))]).unwrap();
    for (statement, number) in [
        ("REPLACE INTO facts (name, value) VALUES ('last', ?1)", u64::MAX.to_string()),
        ("UPDATE commands SET n = ?1", i64::MAX.to_string()),
    ] {
        let copy = folder.path().join("b.ieum");
        fs::copy(&path, &copy).unwrap();
        Connection::open(&copy).unwrap().execute(statement, [number]).unwrap();
        assert!(matches!(Disk::open(&copy).unwrap().load(), Err(Error::Damaged { .. })), "{statement}");
    }
}

#[test]
fn no_more_answers_wait_for_an_fsync_than_a_cell_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(folder.path().join("device.ieum")).unwrap();
    let mut fsyncs = Vec::new();
    for n in 1..=100 {
        disk.commit(&[Write::Answered { place: n, n, keep: false }, Write::Seen(Position::read("1.1"))]).unwrap();
        if disk.full {
            fsyncs.push(n);
        }
    }
    assert_eq!(fsyncs, [32, 64, 96]);
    // Any other fsync takes them along.
    disk.commit(&[Write::Reoffer { place: 1 }]).unwrap();
    for n in 101..=131 {
        disk.commit(&[Write::Answered { place: n, n, keep: false }]).unwrap();
        assert!(!disk.full, "{n}");
    }
    let many: Vec<Write> = (0..40).map(|n| Write::Answered { place: n, n, keep: false }).collect();
    disk.commit(&many).unwrap();
    assert!(disk.full);
}
