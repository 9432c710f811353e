//! An archive that adds what it has no key of gets each message once, whatever exports it is given.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may stop")]

mod common;

use std::collections::{BTreeMap, HashMap};

use common::{entries, entry, read_files};
use ieum_import::{Entry, Key, Kind, Options};

/// What a room would hold.
#[derive(Default)]
struct Archive(HashMap<Key, Entry>);

impl Archive {
    /// Adds what is new, and says how much that was.
    fn import(&mut self, files: &[(&str, String)], options: Options) -> usize {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        let before = self.0.len();
        for entry in read_files(&files, options).0.into_iter().filter_map(entry) {
            self.0.entry(entry.key).or_insert(entry);
        }
        self.0.len() - before
    }

    fn texts(&self) -> Vec<String> {
        let mut entries: Vec<&Entry> = self.0.values().collect();
        entries.sort_by(|a, b| (a.time, &a.text).cmp(&(b.time, &b.text)));
        entries.into_iter().map(|entry| entry.text.clone()).collect()
    }
}

const MESSAGES: [(&str, &str, &str); 12] = [
    ("오후 3:12", "나", "ㅋ"),
    ("오후 3:12", "나", "ㅋ"),
    ("오후 3:12", "엄마", "ㅋ"),
    ("오후 3:12", "나", "ㅋ"),
    ("오후 3:13", "엄마", "사진"),
    ("오후 3:13", "엄마", "사진"),
    ("오후 3:14", "나", "첫 줄\n둘째 줄"),
    ("오후 3:14", "나", "첫 줄"),
    ("오후 3:15", "엄마", "이모티콘"),
    ("오후 3:15", "엄마", "이모티콘"),
    ("오후 3:15", "나", "삭제된 메시지입니다."),
    ("오후 3:16", "나", "끝"),
];

fn windows(messages: &[(&str, &str, &str)]) -> String {
    let lines: String = messages.iter().map(|(time, author, text)| format!("[{author}] [{time}] {text}\r\n")).collect();
    format!(
        "가족방 님과 카카오톡 대화\r\n저장한 날짜 : 2024-05-01 15:15:10\r\n\r\n\
         --------------- 2024년 5월 1일 수요일 ---------------\r\n{lines}"
    )
}

fn android(messages: &[(&str, &str, &str)]) -> String {
    let lines: String =
        messages.iter().map(|(time, author, text)| format!("2024년 5월 1일 {time}, {author} : {text}\n")).collect();
    format!("가족방 2 님과 카카오톡 대화\n저장한 날짜 : 2024년 5월 1일 오후 3:15\n\n{lines}")
}

fn macos(messages: &[(&str, &str, &str)]) -> String {
    let mut text = "\u{feff}Date,User,Message\r\n".to_owned();
    for (number, (time, author, message)) in messages.iter().enumerate() {
        let minute = time.strip_prefix("오후 3:").unwrap();
        text.push_str(&format!("2024-05-01 15:{minute}:{number:02},\"{author}\",\"{message}\"\r\n"));
    }
    text
}

fn room() -> Options {
    Options { room: Some("가족방".into()), ..Options::default() }
}

#[test]
fn the_same_export_twice_adds_nothing() {
    let mut archive = Archive::default();
    assert_eq!(archive.import(&[("a.txt", windows(&MESSAGES))], Options::default()), MESSAGES.len());
    assert_eq!(archive.import(&[("b.txt", windows(&MESSAGES))], Options::default()), 0);
    let mut archive = Archive::default();
    let both = [("a.txt", windows(&MESSAGES)), ("b.txt", windows(&MESSAGES))];
    assert_eq!(archive.import(&both, Options::default()), MESSAGES.len());
}

/// The earlier export ends anywhere, also within a minute; the later one begins at any minute before that end.
#[test]
fn a_later_overlapping_export_adds_exactly_what_is_new() {
    let minute = |at: usize| at == 0 || MESSAGES[at].0 != MESSAGES[at - 1].0;
    for write in [windows, android, macos] {
        for end in 1..=MESSAGES.len() {
            for start in (0..end).filter(|start| minute(*start)) {
                let mut archive = Archive::default();
                let (earlier, later) = (write(&MESSAGES[..end]), write(&MESSAGES[start..]));
                let name = if earlier.contains("Date,User") { "a.csv" } else { "a.txt" };
                assert_eq!(archive.import(&[(name, earlier)], room()), end);
                assert_eq!(archive.import(&[(name, later)], room()), MESSAGES.len() - end, "{start}..{end}");
            }
        }
    }
}

/// Seconds and placeholders' languages are no difference; the label of oneself may be, and is an alias then.
#[test]
fn other_platforms_of_the_same_chat_add_nothing() {
    let mut archive = Archive::default();
    archive.import(&[("a.txt", windows(&MESSAGES))], room());
    assert_eq!(archive.import(&[("b.txt", android(&MESSAGES))], room()), 0);
    assert_eq!(archive.import(&[("c.csv", macos(&MESSAGES))], room()), 0);
    let phone = android(&MESSAGES).replace(", 나 :", ", 회원님 :");
    let mine = MESSAGES.iter().filter(|message| message.1 == "나").count();
    assert_eq!(archive.import(&[("d.txt", phone.clone())], room()), mine, "a label nobody explained is another person");
    let mut archive = Archive::default();
    archive.import(&[("a.txt", windows(&MESSAGES))], room());
    let aliases = BTreeMap::from([("회원님".to_owned(), "나".to_owned())]);
    assert_eq!(archive.import(&[("d.txt", phone)], Options { aliases, ..room() }), 0);
}

#[test]
fn a_message_deleted_between_exports_keeps_its_text_and_is_marked_once() {
    let mut archive = Archive::default();
    let mut later = MESSAGES;
    later[11].2 = "삭제된 메시지입니다.";
    archive.import(&[("a.txt", windows(&MESSAGES))], room());
    assert_eq!(archive.import(&[("b.txt", windows(&later))], room()), 1);
    assert_eq!(archive.import(&[("c.txt", windows(&later))], room()), 0);
    assert!(archive.texts().contains(&"끝".to_owned()));
    let marks = archive.0.values().filter(|entry| entry.kind == Kind::Deleted).count();
    assert_eq!(marks, 2);
}

#[test]
fn parts_are_one_export_in_any_order() {
    let ios = |number: usize, messages: &[(&str, &str, &str)]| {
        let lines: String =
            messages.iter().map(|(time, author, text)| format!("2024. 5. 1. {time}, {author} : {text}\n")).collect();
        let name = format!("Talk_2024.5.1 15:12-{number}.txt");
        format!("{name}\n저장한 날짜 : 2024. 5. 1. 오후 3:15\n\n\n2024년 5월 1일 수요일\n{lines}")
    };
    let name = |number: usize| format!("Talk_2024.5.1 15_12-{number}.txt");
    let parts: Vec<(String, String)> =
        MESSAGES.iter().enumerate().map(|(at, m)| (name(at + 1), ios(at + 1, &[*m]))).collect();
    for options in [Options::default(), room()] {
        let mut files: Vec<(&str, String)> = parts.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
        files.sort_by_key(|(name, _)| *name);
        let mut archive = Archive::default();
        assert_eq!(archive.import(&files, options.clone()), MESSAGES.len(), "a minute may lie in two parts");
        assert_eq!(archive.import(&[("whole.txt", windows(&MESSAGES))], options), 0);
    }
}

#[test]
fn notices_without_a_time_are_known_by_their_day() {
    let text = windows(&MESSAGES[..3]) + "이모님이 들어왔습니다.\r\n" + "이모님이 나갔습니다.\r\n";
    let later = windows(&MESSAGES[2..3]) + "이모님이 들어왔습니다.\r\n" + "이모님이 나갔습니다.\r\n";
    let (text, later) = (entries("a.txt", text.as_bytes()), entries("b.txt", later.as_bytes()));
    assert_eq!(
        text[3..].iter().map(|e| e.key).collect::<Vec<_>>(),
        later[1..].iter().map(|e| e.key).collect::<Vec<_>>()
    );
}

#[test]
fn keys_never_change_between_versions() {
    let entries = entries("a.txt", windows(&MESSAGES[..2]).as_bytes());
    let keys: Vec<String> = entries.iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(
        keys,
        ["2124fb2de1f184a9f4480323fc02144d", "71b719bfa8cea62915e2c73cd11d9376"],
        "an archive holds these keys: a change imports everything twice"
    );
}

#[test]
fn older_exports_come_first_whatever_order_they_are_given_in() {
    let folder = tempfile::tempdir().unwrap();
    let part = |day: u32, number: usize| {
        let name = format!("Talk_2024.5.{day} 15:12-{number}.txt");
        let text = format!(
            "{name}\n저장한 날짜 : 2024. 5. {day}. 오후 3:15\n\n\n2024. 5. {day}. 오후 {number}:00, 나 : {day}일 {number}\n"
        );
        (name.replace(':', "_"), text)
    };
    let windows = windows(&MESSAGES[11..]).replace("5월 1일 수요일", "5월 3일 금요일");
    let chats = [
        part(5, 2),
        ("nothing.txt".to_owned(), "not a chat\n".to_owned()),
        part(5, 1),
        ("windows.txt".to_owned(), windows),
        part(2, 1),
        ("gone.txt".to_owned(), String::new()),
    ];
    let paths: Vec<_> = chats.iter().map(|(name, _)| folder.path().join(name)).collect();
    for (path, (_, text)) in paths.iter().zip(&chats) {
        std::fs::write(path, text).unwrap();
    }
    let mut import = ieum_import::Import::open(&paths, room()).unwrap();
    let texts: Vec<String> =
        import.by_ref().filter_map(|event| entry(event.unwrap())).map(|entry| entry.text).collect();
    assert_eq!(texts, ["2일 1", "끝", "5일 1", "5일 2"]);
    let names: Vec<String> = import.report().files.into_iter().map(|file| file.name).collect();
    assert_eq!(names.last().map(String::as_str), Some("gone.txt"), "what shows no time stays where it is: {names:?}");
}
