//! Days that people type are text: no message changes its day for them, and no line is lost unreported.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may stop")]

mod common;

use common::{entry, read_files};
use ieum_import::{Entry, Options, Report, Why};
use proptest::prelude::*;

fn read(text: &str) -> (Vec<Entry>, Report) {
    let (events, report) = read_files(&[("a.txt", text.as_bytes())], Options::default());
    (events.into_iter().filter_map(entry).collect(), report)
}

/// Day, time, author and text of each entry.
fn said(text: &str) -> Vec<String> {
    let show = |entry: Entry| {
        let at = jiff::Timestamp::from_millisecond(entry.time).unwrap();
        let at = at.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(9))).strftime("%-m/%-d %H:%M").to_string();
        format!("{at} {} {}", entry.author.map_or_else(|| "*".to_owned(), |author| author.to_string()), entry.text)
    };
    read(text).0.into_iter().map(show).collect()
}

fn noted(text: &str) -> Vec<(u64, Why)> {
    read(text).1.files[0].notes.listed.iter().map(|note| (note.line, note.why)).collect()
}

fn unread(text: &str) -> Vec<(u64, Why)> {
    read(text).1.files[0].unread.listed.iter().map(|line| (line.line, line.why)).collect()
}

const WINDOWS: &str = "가족방 님과 카카오톡 대화\r\n저장한 날짜 : 2024-07-01 15:15:10\r\n\r\n";
const ANDROID: &str = "산악회 12 님과 카카오톡 대화\n저장한 날짜 : 2024년 7월 1일 오후 3:15\n\n\n";
const IOS: &str = "거래처 님과 카카오톡 대화\n저장한 날짜 : 2024. 7. 1. 오후 3:15\n\n\n";

#[test]
fn a_day_typed_on_windows_is_text() {
    let day = "--------------- 2024년 5월 1일 수요일 ---------------\r\n";
    let text = format!(
        "{WINDOWS}{day}[엄마] [오후 3:12] 제사 날짜 정했다\r\n2024년 6월 7일\r\n----- 2024년 6월 9일 일요일 -----\r\n2024년 6월 8일 토요일\r\n\
         [나] [오후 3:13] 네\r\n[동생] [오후 3:14] 저도요\r\n2024-06-09\r\n"
    );
    assert_eq!(
        said(&text),
        [
            "5/1 15:12 엄마 제사 날짜 정했다\n2024년 6월 7일\n----- 2024년 6월 9일 일요일 -----\n2024년 6월 8일 토요일",
            "5/1 15:13 나 네",
            "5/1 15:14 동생 저도요\n2024-06-09"
        ]
    );
    let headless = format!("{WINDOWS}2024년 6월 7일\r\n[나] [오후 3:13] 네\r\n{day}[나] [오후 3:14] 응\r\n");
    assert_eq!(said(&headless), ["5/1 15:14 나 응"]);
    assert_eq!(unread(&headless), [(4, Why::BeforeFirstMessage), (5, Why::NoDay)]);
}

#[test]
fn days_within_a_message_on_android_stay_in_it() {
    let text = format!(
        "{ANDROID}2024년 4월 30일 오후 11:58\n2024년 4월 30일 오후 11:58, 총무 : 후보 날짜 투표해주세요\n\
         2024년 5월 11일 토요일\n2024년 5월 12일 일요일\n2024년 5월 18일 토요일\n\
         2024년 4월 30일 오후 11:59, 막내 : 12일이요\n2024년 4월 30일 오후 11:59, 총무 : 집합 시간\n\
         2024년 4월 30일 오후 6:00\n2024년 4월 30일 오후 11:59, 막내 : 넵\n2024년 5월 1일 오전 7:40\n\
         2024년 5월 1일 오전 7:40, 총무 : 다음 모임\n2024년 5월 18일 토요일\n"
    );
    assert_eq!(
        said(&text),
        [
            "4/30 23:58 총무 후보 날짜 투표해주세요\n2024년 5월 11일 토요일\n2024년 5월 12일 일요일\n2024년 5월 18일 토요일",
            "4/30 23:59 막내 12일이요",
            "4/30 23:59 총무 집합 시간\n2024년 4월 30일 오후 6:00",
            "4/30 23:59 막내 넵",
            "5/1 07:40 총무 다음 모임\n2024년 5월 18일 토요일",
        ]
    );
    assert_eq!(noted(&text), [(16, Why::DayAsText)]);
}

#[test]
fn a_typed_day_right_above_a_heading_is_told_from_it() {
    let text = format!(
        "{IOS}2024년 5월 1일 수요일\n2024. 5. 1. 오후 3:12, 나 : 내일 봐요\n2024년 5월 2일 목요일\n\n\
         2024년 5월 2일 목요일\n2024. 5. 2. 오후 3:12, 나 : 왔어요\n2024년 2월 30일\n2024년 5월 9일\n\n\
         2024년 5월 4일 토요일\n2024년 5월 5일 일요일\n2024. 5. 5. 오후 3:12, 나 : 네\n"
    );
    assert_eq!(
        said(&text),
        [
            "5/1 15:12 나 내일 봐요\n2024년 5월 2일 목요일",
            "5/2 15:12 나 왔어요\n2024년 2월 30일\n2024년 5월 9일",
            "5/5 15:12 나 네"
        ]
    );
    assert_eq!(noted(&text), [(14, Why::TextAsDay)], "a day without messages");
}

#[test]
fn where_messages_have_only_a_time_a_day_needs_its_weekday() {
    let text = format!(
        "{IOS}2024년 5월 1일 수요일\n오후 3:12, 엄마 : 제사 날짜\n2024년 6월 7일\n오후 3:13, 나 : 네\n\
         2024년 6월 7일 월요일\n오후 3:14, 나 : 요일이 틀림\n2024년 4월 30일 화요일\n오후 3:15, 나 : 어제\n\
         2025년 6월 6일 금요일\n오후 3:16, 나 : 아직 오지 않은 날\n\n2024년 5월 2일 목요일\n오후 3:17, 나 : 다음날\n\
         2024년 5월 3일 금요일\n오후 3:18, 나 : 빈 줄 없이\n"
    );
    assert_eq!(
        said(&text),
        [
            "5/1 15:12 엄마 제사 날짜\n2024년 6월 7일",
            "5/1 15:13 나 네\n2024년 6월 7일 월요일",
            "5/1 15:14 나 요일이 틀림\n2024년 4월 30일 화요일",
            "5/1 15:15 나 어제\n2025년 6월 6일 금요일",
            "5/1 15:16 나 아직 오지 않은 날",
            "5/2 15:17 나 다음날\n2024년 5월 3일 금요일",
            "5/2 15:18 나 빈 줄 없이",
        ]
    );
    assert_eq!(noted(&text), [7, 9, 11, 13, 18].map(|line| (line, Why::DayAsText)));
    let text = format!(
        "{IOS}2024년 5월 1일 수요일\n오후 3:12, 엄마 : 제사 날짜\n2024년 6월 7일 금요일\n오후 3:13, 나 : 모르고 옮겨짐\n\n\
         2024년 5월 2일 목요일\n오후 3:14, 나 : 다시 제자리\n"
    );
    assert_eq!(
        said(&text),
        ["5/1 15:12 엄마 제사 날짜", "6/7 15:13 나 모르고 옮겨짐", "5/2 15:14 나 다시 제자리"],
        "nothing tells the typed day from a heading, but the next heading ends it"
    );
    assert_eq!(noted(&text), [(7, Why::TextAsDay), (11, Why::Backwards)]);
}

#[test]
fn a_pasted_line_that_begins_a_notice_or_message_is_listed() {
    let text = format!(
        "{ANDROID}2024년 5월 1일 오후 3:12\n2024년 5월 1일 오후 3:12, 총무 : 일정 공유\n\
         2024년 5월 4일 오후 6:00, 강남역 3번 출구\n2024년 8월 5일 오전 9:00, 준비물 : 물\n\
         2024년 5월 1일 오후 3:13, 막내님이 나갔습니다.\n"
    );
    assert_eq!(said(&text).len(), 4);
    assert_eq!(noted(&text), [(7, Why::OtherNotice), (8, Why::AfterExport), (9, Why::Backwards)]);
}

#[test]
fn a_cut_line_with_a_day_is_no_text() {
    let text = format!("{ANDROID}2024년 5월 1일 오후 3:12, 총무 : 안녕\n2024년 5월 2일 오후 3:12");
    assert_eq!(said(&text), ["5/1 15:12 총무 안녕"]);
    assert_eq!(unread(&text), [(6, Why::CutShort)]);
}

#[derive(Debug, Clone, Copy)]
enum Phone {
    Android,
    Ios,
    Old,
}

/// Messages of which some lines are days, in one format; each line's own words.
fn write(phone: Phone, messages: &[(u16, Vec<u8>)]) -> (String, Vec<(u64, String)>) {
    let mut lines: Vec<String> = match phone {
        Phone::Android => ANDROID.lines().map(str::to_owned).collect(),
        Phone::Ios | Phone::Old => IOS.lines().map(str::to_owned).collect(),
    };
    let mut words = Vec::new();
    let weekday = |date: jiff::civil::Date| {
        ["월", "화", "수", "목", "금", "토", "일"][usize::from(date.weekday().to_monday_zero_offset().unsigned_abs())]
    };
    let (mut at, mut last) = (jiff::civil::date(2024, 5, 1).at(12, 0, 0, 0), None);
    for (number, (gap, typed)) in messages.iter().enumerate() {
        at = at.saturating_add(jiff::Span::new().minutes(i64::from(*gap)));
        let half = if at.hour() < 12 { "오전" } else { "오후" };
        let show = |format: &str| at.strftime(format).to_string().replace("{half}", half);
        let day = |date: jiff::civil::Date| format!("{} {}요일", date.strftime("%Y년 %-m월 %-d일"), weekday(date));
        if last.replace(at.date()) != Some(at.date()) {
            match phone {
                Phone::Android => lines.push(show("%Y년 %-m월 %-d일 {half} %-I:%M")),
                Phone::Ios | Phone::Old => lines.extend([String::new(), day(at.date())]),
            }
        }
        let head = match phone {
            Phone::Android => show("%Y년 %-m월 %-d일 {half} %-I:%M"),
            Phone::Ios => show("%Y. %-m. %-d. {half} %-I:%M"),
            Phone::Old => show("{half} %-I:%M"),
        };
        lines.push(format!("{head}, 나 : 글 {number}."));
        words.push((lines.len() as u64, format!("글 {number}.")));
        for typed in typed {
            let date = at.date().saturating_add(jiff::Span::new().days(i64::from(*typed % 8) - 2));
            lines.push(match typed / 8 % 4 {
                0 => day(date),
                1 => date.strftime("%Y년 %-m월 %-d일").to_string(),
                2 => date.strftime("%Y년 %-m월 %-d일 오후 6:00").to_string(),
                _ => date.strftime("%Y-%m-%d").to_string(),
            });
            words.push((lines.len() as u64, lines[lines.len() - 1].clone()));
        }
    }
    (lines.join("\n") + "\n", words)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn typed_days_arrive_or_are_listed(
        messages in proptest::collection::vec((0..1000_u16, proptest::collection::vec(0..32_u8, 0..4)), 1..12)
    ) {
        for phone in [Phone::Android, Phone::Ios, Phone::Old] {
            let (text, words) = write(phone, &messages);
            let options = Options {
                limits: ieum_import::Limits { listed_problems: 1000, ..ieum_import::Limits::default() },
                ..Options::default()
            };
            let (events, report) = read_files(&[("a.txt", text.as_bytes())], options);
            let entries: Vec<Entry> = events.into_iter().filter_map(entry).collect();
            let mut all: Vec<&str> = entries.iter().flat_map(|entry| entry.text.lines()).collect();
            prop_assert_eq!(entries.len(), messages.len(), "{:?} {}", phone, text);
            let listed: Vec<u64> = report.files[0].notes.listed.iter().map(|note| note.line).collect();
            for (line, word) in &words {
                let mut arrived = || all.iter().position(|arrived| arrived == word).map(|at| all.remove(at)).is_some();
                prop_assert!(listed.contains(line) || arrived(), "line {} of {:?} {}", line, phone, text);
            }
            if matches!(phone, Phone::Android | Phone::Ios) {
                let (mut minutes, start) = (0, entries[0].time);
                for (entry, (gap, _)) in entries.iter().zip(&messages).skip(1) {
                    minutes += i64::from(*gap);
                    prop_assert_eq!(entry.time - start, minutes * 60_000, "{:?} {}", phone, text);
                }
            }
        }
    }
}
