//! What the tests share.
#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(unreachable_pub, reason = "a module of tests")]

use std::fmt::Write;

use ieum_import::{Chat, Entry, Event, Import, Kind, Options, Report, Source};

/// All events of files given as names and bytes, and the report.
pub fn read_files(files: &[(&str, &[u8])], options: Options) -> (Vec<Event>, Report) {
    let sources = files
        .iter()
        .map(|(name, bytes)| Source::reader(name, bytes.len() as u64, std::io::Cursor::new(bytes.to_vec())));
    let mut import = Import::of(sources.collect(), options).unwrap();
    let events = import.by_ref().collect::<Result<_, _>>().unwrap();
    (events, import.report())
}

/// The entries of one file.
pub fn entries(name: &str, bytes: &[u8]) -> Vec<Entry> {
    read_files(&[(name, bytes)], Options::default()).0.into_iter().filter_map(entry).collect()
}

/// The event's entry.
pub fn entry(event: Event) -> Option<Entry> {
    match event {
        Event::Entry(entry) => Some(entry),
        Event::Chat(_) => None,
    }
}

/// Events and report, for people to read.
pub fn render(events: &[Event], report: &Report) -> String {
    let mut text = String::new();
    for event in events {
        match event {
            Event::Chat(chat) => render_chat(&mut text, chat),
            Event::Entry(entry) => render_entry(&mut text, entry),
        }
    }
    write!(text, "---- report\n{report}").unwrap();
    text
}

fn render_chat(text: &mut String, chat: &Chat) {
    let time = |ms| jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
    write!(text, "==== {:?} {}", chat.title, chat.platform).unwrap();
    if let Some(language) = chat.language {
        write!(text, " {language}").unwrap();
    }
    if let Some(members) = chat.members {
        write!(text, ", {members} members").unwrap();
    }
    if let Some(at) = chat.saved_at {
        write!(text, ", saved {}", time(at)).unwrap();
    }
    if let Some(part) = &chat.part {
        write!(text, ", part {} of {}", part.number, part.stamp).unwrap();
    }
    writeln!(text).unwrap();
}

fn render_entry(text: &mut String, entry: &Entry) {
    let at = jiff::Timestamp::from_millisecond(entry.time).unwrap();
    let local = at.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(9)));
    let author = entry.author.as_ref().map_or("*", |author| author.as_str());
    let kind = match &entry.kind {
        Kind::Text => String::new(),
        Kind::Photo { count } => format!(" <photo {count}>"),
        Kind::File { name } => format!(" <file {name:?}>"),
        Kind::Joined { who } => format!(" <joined {who:?}>"),
        Kind::Left { who } => format!(" <left {who:?}>"),
        Kind::Invited { by, whom } => format!(" <{by:?} invited {whom:?}>"),
        Kind::Removed { by, who } => format!(" <{by:?} removed {who:?}>"),
        other => format!(" <{}>", other.name()),
    };
    let part = entry.part.map(|part| format!(" ({part})")).unwrap_or_default();
    writeln!(
        text,
        "{:>3} {} {:<6} {author} |{kind}{part} {:?}",
        entry.line,
        local.strftime("%Y-%m-%d %H:%M:%S"),
        format!("{:?}", entry.precision).to_lowercase(),
        entry.text
    )
    .unwrap();
}
