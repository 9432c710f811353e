//! Large and hostile files need little memory and time, and limits are kept.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may stop")]

mod common;

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{entries, entry, read_files};
use ieum_import::{Error, Event, Import, Limits, Options, Source, Why, Zone};

/// Gives `head` once and then `line` again and again, without holding them all.
struct Repeat {
    head: Vec<u8>,
    line: Vec<u8>,
    left: u64,
    at: usize,
}

impl Read for Repeat {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let most = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        for byte in &mut out[..most] {
            let line = (self.at.saturating_sub(self.head.len())) % self.line.len();
            *byte = self.head.get(self.at).copied().unwrap_or(self.line[line]);
            self.at += 1;
        }
        self.left -= most as u64;
        Ok(most)
    }
}

const SIZE: u64 = 4 << 20;

fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn run(name: &str, head: &str, line: &[u8]) -> (u64, ieum_import::Report) {
    let (before, start) = (memory(), Instant::now());
    let source = Repeat { head: head.into(), line: line.to_vec(), left: SIZE, at: 0 };
    let mut import = Import::of(vec![Source::reader(name, SIZE, source)], Options::default()).unwrap();
    let mut entries = 0;
    while let Some(event) = import.next_event().unwrap() {
        entries += u64::from(matches!(event, Event::Entry(_)));
    }
    let grown = memory() - before;
    assert!(grown < 3 * SIZE + (8 << 20), "{name} {head:?} needed {grown} bytes");
    assert!(start.elapsed() < Duration::from_secs(120), "{head:?} took {:?}", start.elapsed());
    (entries, import.report())
}

const ANDROID: &str = "방 님과 카카오톡 대화\n저장한 날짜 : 2024년 5월 1일 오후 3:15\n\n";

/// Messages that all differ, made as they are read.
struct Varied {
    number: u64,
    ready: std::collections::VecDeque<u8>,
    left: u64,
}

impl Read for Varied {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.ready.is_empty() && self.left > 0 {
            let (day, minute) = (self.number / 40_000 % 28 + 1, self.number / 700 % 60);
            let line = format!("2024년 5월 {day}일 오후 3:{minute:02}, 총무 : {}번째 이야기\n", self.number);
            self.number += 1;
            self.left = self.left.saturating_sub(line.len() as u64);
            self.ready.extend(line.bytes());
        }
        self.ready.read(out)
    }
}

#[test]
fn messages_that_all_differ() {
    let size = std::env::var("IMPORT_TEST_MB").map_or(SIZE, |mb| mb.parse::<u64>().unwrap() << 20);
    let (before, start) = (memory(), Instant::now());
    let source = Varied { number: 0, ready: ANDROID.bytes().collect(), left: size };
    let mut import = Import::of(vec![Source::reader("a.txt", size, source)], Options::default()).unwrap();
    let count = import.by_ref().filter(|event| matches!(event, Ok(Event::Entry(_)))).count();
    let grown = memory() - before;
    eprintln!("{count} entries, {} MB of memory, {:?}", grown >> 20, start.elapsed());
    assert!(grown < 2 * size + (8 << 20));
}

#[test]
fn many_messages() {
    let line = "2024년 5월 1일 오후 3:12, 총무 : 내일 8시 북한산 입구에서 봅시다\n";
    let (entries, report) = run("a.txt", ANDROID, line.as_bytes());
    assert!(entries >= SIZE / line.len() as u64 - 3);
    assert_eq!(report.files[0].bytes, SIZE);
}

#[test]
fn one_message_without_end() {
    run("a.txt", &format!("{ANDROID}2024년 5월 1일 오후 3:12, 총무 : 시작\n"), "이어지는 줄\n".as_bytes());
    run("a.txt", &format!("{ANDROID}2024년 5월 1일 오후 3:12, 총무 : 시작\n"), b"\n");
}

#[test]
fn one_line_without_end() {
    let (entries, report) = run("a.txt", &format!("{ANDROID}2024년 5월 1일 오후 3:12, 총무 : "), "가".as_bytes());
    assert!(entries > 30);
    assert!(report.files[0].notes.listed.iter().any(|note| note.why == Why::LineTooLong));
    run("a.txt", "[a", b"] [");
}

#[test]
fn rows_without_end() {
    run("a.csv", "Date,User,Message\n2024-05-01 15:12:10,\"a\",\"", b"line\n");
    run("a.csv", "Date,User,Message\n", b"2024-05-01 15:12:10,\"a\",\"never closed\n");
    run("a.csv", "Date,User,Message\n", b"2024-05-01 15:12:10,a,\"\n");
}

#[test]
fn nothing_understood() {
    let (entries, report) = run("a.txt", "", "目覚まし時計を午後3:12に\n".as_bytes());
    assert_eq!(entries, 0);
    assert_eq!(report.files[0].looks_like, Some("Japanese"));
    assert!(report.files[0].unread.total > 80_000);
    assert_eq!(report.files[0].unread.listed.len(), Limits::default().listed_problems);
}

#[test]
fn a_long_message_becomes_parts() {
    let line = "가나다라마바사아자차\n".repeat(1500);
    let text = format!("{ANDROID}2024년 5월 1일 오후 3:12, 총무 : {line}2024년 5월 1일 오후 3:12, 총무 : 끝\n");
    let read = entries("a.txt", text.as_bytes());
    assert_eq!(read.iter().map(|entry| entry.part).collect::<Vec<_>>(), [Some(1), Some(2), None]);
    assert!(read.iter().all(|entry| entry.text.chars().count() <= 10_000));
    let joined = format!("{}\n{}", read[0].text, read[1].text);
    assert_eq!(joined, line.trim_end());
    assert_eq!(read[0].author, read[1].author);
    let one = format!("{ANDROID}2024년 5월 1일 오후 3:12, 총무 : {}", "가".repeat(400_000));
    let read = entries("a.txt", one.as_bytes());
    assert_eq!(read.iter().map(|entry| entry.text.chars().count()).sum::<usize>(), 349_512, "one line has a limit too");
    assert_eq!(read.len(), 35);
}

#[test]
fn progress_goes_up_to_the_total() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let source = |name: &str| {
        let line = "2024년 5월 1일 오후 3:12, 총무 : 안녕\n".into();
        Source::reader(name, 1 << 20, Repeat { head: ANDROID.into(), line, left: 1 << 20, at: 0 })
    };
    let sink = Arc::clone(&seen);
    let mut import = Import::of(vec![source("a.txt"), source("b.txt")], Options::default())
        .unwrap()
        .on_progress(move |progress| sink.lock().unwrap().push(progress));
    assert!(import.by_ref().all(|event| event.is_ok()));
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= 8);
    assert!(seen.windows(2).all(|pair| pair[0].read <= pair[1].read));
    assert_eq!(seen.last().map(|progress| (progress.read, progress.total)), Some((2 << 20, 2 << 20)));
}

#[test]
fn what_cannot_be_read_is_named() {
    let read = |bytes: &'static [u8]| {
        let mut import = Import::of(vec![Source::reader("a.txt", 0, bytes)], Options::default()).unwrap();
        import.next_event().unwrap_err().to_string()
    };
    assert!(read(b"\xff\xfea\0").contains("UTF-16"));
    assert!(read(b"PK\x03\x04...").contains("ZIP"));
    let none: [&str; 0] = [];
    assert!(matches!(Import::open(&none, Options::default()), Err(Error::NoFile)));
    let many = vec!["x"; 1001];
    assert!(matches!(Import::open(&many, Options::default()), Err(Error::TooManyFiles { given: 1001, limit: 1000 })));
    let missing = Import::open(&["/nowhere/a.txt"], Options::default()).err().unwrap();
    assert!(missing.to_string().contains("/nowhere/a.txt"));
    assert!(Zone::named("Asia/Soul").unwrap_err().to_string().contains("\"Asia/Soul\""));
}

#[test]
fn clocks_that_change_are_noted() {
    let line = |time: &str| format!("2024년 {time}, 총무 : 안녕\n");
    let head = ANDROID.replace("5월", "12월");
    let text =
        format!("{head}{}{}{}", line("3월 10일 오전 2:30"), line("11월 3일 오전 1:30"), line("11월 3일 오전 3:00"));
    let options = Options { zone: Zone::named("america/new_york").unwrap(), ..Options::default() };
    let (events, report) = read_files(&[("a.txt", text.as_bytes())], options);
    let times: Vec<i64> = events.into_iter().filter_map(entry).map(|entry| entry.time / 60_000).collect();
    let utc = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second() / 60;
    assert_eq!(times, [utc("2024-03-10T07:30:00Z"), utc("2024-11-03T05:30:00Z"), utc("2024-11-03T08:00:00Z")]);
    let notes: Vec<Why> = report.files[0].notes.listed.iter().map(|note| note.why).collect();
    assert_eq!(notes, [Why::ClockGap, Why::ClockOverlap]);
}

#[test]
fn rooms_are_told_apart() {
    let other = ANDROID.replace("방", "다른 방");
    let line = "2024년 5월 1일 오후 3:12, 총무 : 안녕\n";
    let (a, b) = (format!("{ANDROID}{line}"), format!("{other}{line}"));
    let files: [(&str, &[u8]); 2] = [("a.txt", a.as_bytes()), ("b.txt", b.as_bytes())];
    let keys = |options| {
        let (events, _) = read_files(&files, options);
        let chats = events.iter().filter_map(|event| match event {
            Event::Chat(chat) => chat.key,
            Event::Entry(_) => None,
        });
        let chats: BTreeSet<_> = chats.collect();
        (chats.len(), events.into_iter().filter_map(entry).count())
    };
    assert_eq!(keys(Options::default()), (2, 2));
    assert_eq!(keys(Options { room: Some("한 방".into()), ..Options::default() }), (1, 1));
}
