//! What holds of any chat, any bytes and any cut.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may stop")]

mod common;

use common::{entries, read_files};
use ieum_import::{Entry, Kind, Options, Precision};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Message {
    minutes: u32,
    author: String,
    text: String,
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let author = "[a-z가-힣👍]{1,4}[]a-z가-힣 ,.(:-]{0,8}[a-z가-힣0-9\"]";
    let line = "[]a-zA-Z가-힣0-9 ,.:\"👍\u{200d}(-]{0,12}[a-z가-힣0-9\"👍]";
    let text = proptest::collection::vec(prop_oneof![4 => line, 1 => Just(String::new()).boxed()], 1..4);
    let text = text.prop_map(|lines| lines.join("\n").trim_end().to_owned());
    let text = prop_oneof![8 => text, 1 => Just("사진".to_owned()), 1 => Just("이모티콘".to_owned())];
    let gap = prop_oneof![6 => 0..3_u32, 2 => 0..900_u32, 1 => 0..5000_u32];
    let message =
        (gap, author.prop_filter("no separator", |author| !author.contains(" : ") && !author.contains("] [")), text);
    let message = message.prop_map(|(minutes, author, text)| Message { minutes, author, text });
    proptest::collection::vec(message, 1..20).prop_map(|mut messages| {
        let mut at = 0;
        for message in &mut messages {
            at += message.minutes;
            message.minutes = at;
        }
        messages
    })
}

fn at(message: &Message) -> jiff::civil::DateTime {
    jiff::civil::date(2024, 2, 27).at(9, 0, 0, 0).saturating_add(jiff::Span::new().minutes(message.minutes))
}

#[derive(Debug, Clone, Copy)]
enum Format {
    AndroidKorean,
    AndroidEnglish,
    IosKorean,
    IosEnglish,
    IosTimeOnly,
    WindowsKorean,
    WindowsEnglish,
    Macos,
}

const FORMATS: [Format; 8] = [
    Format::AndroidKorean,
    Format::AndroidEnglish,
    Format::IosKorean,
    Format::IosEnglish,
    Format::IosTimeOnly,
    Format::WindowsKorean,
    Format::WindowsEnglish,
    Format::Macos,
];

impl Format {
    fn head(self) -> &'static str {
        match self {
            Self::AndroidKorean => "방 3 님과 카카오톡 대화\n저장한 날짜 : 2024년 5월 1일 오후 3:15\n\n\n",
            Self::AndroidEnglish => "KakaoTalk Chats with 방\nDate Saved : May 1, 2024 at 3:15 PM\n\n\n",
            Self::IosKorean | Self::IosTimeOnly => "방 님과 카카오톡 대화\n저장한 날짜 : 2024. 5. 1. 오후 3:15\n\n\n",
            Self::IosEnglish => "Talk_2024.5.1 15:12-1.txt\nDate Saved : May 1, 2024 at 15:15\n\n\n",
            Self::WindowsKorean => "방 님과 카카오톡 대화\n저장한 날짜 : 2024-05-01 15:15:10\n\n",
            Self::WindowsEnglish => "방 with KakaoTalk Chats\nDate Saved : 2024-05-01 15:15:10\n\n",
            Self::Macos => "Date,User,Message\n",
        }
    }

    fn day(self) -> &'static str {
        match self {
            Self::AndroidKorean => "%Y년 %-m월 %-d일 {half} %-I:%M\n",
            Self::AndroidEnglish => "%B %-d, %Y at %-I:%M %p\n",
            Self::IosKorean | Self::IosTimeOnly => "\n%Y년 %-m월 %-d일 {weekday}요일\n",
            Self::IosEnglish => "\n%A, %B %-d, %Y\n",
            Self::WindowsKorean => "--------------- %Y년 %-m월 %-d일 수요일 ---------------\n",
            Self::WindowsEnglish => "--------------- %A, %B %-d, %Y ---------------\n",
            Self::Macos => "",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::AndroidKorean => "%Y년 %-m월 %-d일 {half} %-I:%M, {author} : {text}\n",
            Self::AndroidEnglish => "%B %-d, %Y at %-I:%M %p, {author} : {text}\n",
            Self::IosKorean => "%Y. %-m. %-d. {half} %-I:%M, {author} : {text}\n",
            Self::IosEnglish => "%b %-d, %Y at %H:%M, {author} : {text}\n",
            Self::IosTimeOnly => "{half} %-I:%M, {author} : {text}\n",
            Self::WindowsKorean => "[{author}] [{half} %-I:%M] {text}\r\n",
            Self::WindowsEnglish => "[{author}] [%-I:%M %p] {text}\r\n",
            Self::Macos => "%Y-%m-%d %H:%M:%S,\"{author}\",\"{text}\"\n",
        }
    }

    fn korean(self) -> bool {
        !matches!(self, Self::AndroidEnglish | Self::IosEnglish | Self::WindowsEnglish)
    }

    fn write(self, messages: &[Message]) -> String {
        let mut text = self.head().to_owned();
        let mut day = None;
        for message in messages {
            let at = at(message);
            let half = if at.hour() < 12 { "오전" } else { "오후" };
            if day.replace(at.date()) != Some(at.date()) {
                let weekday = ["월", "화", "수", "목", "금", "토", "일"];
                let weekday = weekday[usize::from(at.date().weekday().to_monday_zero_offset().unsigned_abs())];
                let day = at.strftime(self.day()).to_string();
                text.push_str(&day.replace("{half}", half).replace("{weekday}", weekday));
            }
            let (author, words) = match self {
                Self::Macos => (message.author.replace('"', "\"\""), message.text.replace('"', "\"\"")),
                _ => (message.author.clone(), message.text.clone()),
            };
            let line = at.strftime(self.message()).to_string().replace("{half}", half);
            text.push_str(&line.replace("{author}", &author).replace("{text}", &words));
        }
        text
    }
}

fn instant(at: jiff::civil::DateTime) -> i64 {
    at.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(9))).unwrap().timestamp().as_millisecond()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read(messages in messages()) {
        for format in FORMATS {
            let text = format.write(&messages);
            let read = entries(if matches!(format, Format::Macos) { "a.csv" } else { "a.txt" }, text.as_bytes());
            prop_assert_eq!(read.len(), messages.len(), "{:?} {}", format, text);
            for (entry, message) in read.iter().zip(&messages) {
                prop_assert_eq!(entry.time, instant(at(message)), "{:?} {}", format, text);
                prop_assert_eq!(entry.author.as_ref().map(|author| author.as_str()), Some(message.author.as_str()));
                prop_assert_eq!(&entry.text, &message.text, "{:?} {}", format, text);
                let kind = match message.text.as_str() {
                    "사진" if format.korean() => Kind::Photo { count: 1 },
                    "이모티콘" if format.korean() => Kind::Emoticon,
                    _ => Kind::Text,
                };
                prop_assert_eq!(&entry.kind, &kind);
                let second = matches!(format, Format::Macos);
                prop_assert_eq!(entry.precision, if second { Precision::Second } else { Precision::Minute });
            }
        }
    }

    #[test]
    fn korean_exports_of_a_chat_have_the_same_keys(messages in messages()) {
        let keys = |format: Format| {
            let name = if matches!(format, Format::Macos) { "a.csv" } else { "a.txt" };
            entries(name, format.write(&messages).as_bytes()).iter().map(|entry| entry.key).collect::<Vec<_>>()
        };
        let android = keys(Format::AndroidKorean);
        prop_assert_eq!(android.iter().collect::<std::collections::HashSet<_>>().len(), messages.len());
        for format in FORMATS.into_iter().filter(|format| format.korean()) {
            prop_assert_eq!(&keys(format), &android, "{:?}", format);
        }
    }

    #[test]
    fn a_cut_file_keeps_what_was_whole(messages in messages(), cut in 0.0..1.0_f64) {
        for format in FORMATS {
            keeps_what_was_whole(format.write(&messages).as_bytes(), cut, matches!(format, Format::Macos));
        }
    }

    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        whatever(&bytes);
    }

    #[test]
    fn any_mixture_of_samples_is_read(pieces in proptest::collection::vec((0_usize..1000, 0_usize..5000, 0_usize..300), 1..12)) {
        let samples = samples();
        let mut bytes = Vec::new();
        for (sample, start, length) in pieces {
            let sample = &samples[sample % samples.len()];
            let start = start % sample.len().max(1);
            bytes.extend_from_slice(&sample[start..(start + length).min(sample.len())]);
        }
        whatever(&bytes);
    }
}

/// Reads bytes under names of every format.
fn whatever(bytes: &[u8]) {
    for name in ["a.txt", "a.csv", "Talk_2024.5.1 15_12-1.txt", "KakaoTalk_Chat_a_2024-05-01-15-12-10.csv"] {
        let source = ieum_import::Source::reader(name, bytes.len() as u64, std::io::Cursor::new(bytes.to_vec()));
        let mut import = ieum_import::Import::of(vec![source], Options::default()).unwrap();
        let total: usize = import.by_ref().map(|event| usize::from(event.is_ok())).sum();
        assert!(total <= bytes.len() + 1);
        let _ = import.report().to_string();
    }
}

fn samples() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/samples");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|extension| extension != "golden"));
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Entries below which another began before the cut are the same, and no more than one other is there.
fn keeps_what_was_whole(bytes: &[u8], cut: f64, csv: bool) {
    let name = if csv { "a.csv" } else { "a.txt" };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    #[expect(clippy::cast_precision_loss, reason = "a share of a length")]
    let end = (bytes.len() as f64 * cut) as usize;
    let head = &bytes[..end];
    let lines = head.iter().filter(|byte| **byte == b'\n').count() as u64;
    let whole: Vec<Entry> = entries(name, bytes);
    let read: Vec<Entry> =
        read_files(&[(name, head)], Options::default()).0.into_iter().filter_map(common::entry).collect();
    let sure = whole.windows(2).filter(|pair| pair[1].line <= lines).count();
    assert_eq!(read.get(..sure), whole.get(..sure), "cut at {end}");
    assert!(read.len() <= sure + 2, "cut at {end}");
}

#[test]
fn every_sample_can_be_cut_anywhere() {
    for sample in samples() {
        let csv = sample.windows(9).any(|bytes| bytes == b"Date,User");
        for end in 0..sample.len() {
            #[expect(clippy::cast_precision_loss, reason = "small lengths")]
            keeps_what_was_whole(&sample, (end as f64 + 0.5) / sample.len() as f64, csv);
        }
    }
}
