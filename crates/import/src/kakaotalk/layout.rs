//! What a line is. Each export has one layout throughout; only lines of that layout begin a message in it.

use jiff::civil;

use super::date::{Clock, Day};
use super::scan::Scan;
use super::{android, ios, windows};
use crate::{Language, Platform};

/// The shape of a whole export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `[name] [오후 3:12] text` under lines of dashes with the day; both languages.
    Windows,
    /// `2024년 5월 1일 오후 3:12, name : text`
    AndroidKorean,
    /// `April 30, 2024 at 3:12 PM, name : text`
    AndroidEnglish,
    /// `2024. 5. 1. 오후 3:12, name : text`
    IosKorean,
    /// `Apr 30, 2024 at 15:12, name : text`; notices after a colon
    IosEnglish,
    /// `오후 3:12, name : text` under lines with the day; older iOS, both languages.
    IosTimeOnly,
}

/// What one line is in a layout.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape<'a> {
    /// The first line of a message.
    Message { when: When, author: &'a str, text: &'a str },
    /// The first line of something that KakaoTalk itself says.
    Notice { when: When, text: &'a str },
    /// A day for the lines below it.
    Day { day: civil::Date, form: DayForm },
    /// A message's first line whose day or time is not.
    Impossible,
    /// A line with a day that is not, for messages that have none of their own.
    ImpossibleDay,
    /// Anything else: the text of the message above.
    Text,
}

/// How a line with only a day is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DayForm {
    /// Between dashes: nobody types it.
    Dashed,
    /// With a time.
    Timed,
    /// With its weekday.
    Weekday,
    /// With a weekday that the day does not have.
    OtherWeekday,
    /// Nothing but the day.
    Bare,
}

/// When, as far as one line says it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct When {
    pub(crate) date: Option<civil::Date>,
    pub(crate) time: civil::Time,
    pub(crate) seconds: bool,
    pub(crate) language: Option<Language>,
}

impl When {
    pub(crate) fn new(day: Option<Day>, clock: Clock) -> Option<Self> {
        let date = match day {
            Some(day) => Some(day.civil()?),
            None => None,
        };
        let language = day.and_then(Day::language).or(clock.language);
        Some(Self { date, time: clock.civil()?, seconds: clock.has_seconds(), language })
    }
}

impl Layout {
    /// In the order in which they are tried on a first line; no line fits two of the Korean ones.
    const ALL: [Self; 6] = [
        Self::Windows,
        Self::AndroidKorean,
        Self::IosKorean,
        Self::IosTimeOnly,
        Self::AndroidEnglish,
        Self::IosEnglish,
    ];

    pub(crate) fn read(self, line: &str) -> Shape<'_> {
        match self {
            Self::Windows => windows::read(line),
            Self::AndroidKorean => android::korean(line),
            Self::AndroidEnglish => android::english(line),
            Self::IosKorean => ios::korean(line),
            Self::IosEnglish => ios::english(line),
            Self::IosTimeOnly => ios::time_only(line),
        }
    }

    pub(crate) fn platform(self) -> Platform {
        match self {
            Self::Windows => Platform::Windows,
            Self::AndroidKorean | Self::AndroidEnglish => Platform::Android,
            Self::IosKorean | Self::IosEnglish | Self::IosTimeOnly => Platform::Ios,
        }
    }

    /// The layout of an export whose first message is this line. `ios` says that lines above were such as only iOS
    /// writes; English exports of the two phones differ in nothing else.
    pub(crate) fn of(line: &str, ios: bool) -> Option<Self> {
        let first = |layout: &Self| matches!(layout.read(line), Shape::Message { .. } | Shape::Notice { .. });
        match Self::ALL.into_iter().find(first) {
            Some(Self::AndroidEnglish) if ios || android::short_month(line) => Some(Self::IosEnglish),
            found => found,
        }
    }

    /// What a line is while the layout is still unknown.
    pub(crate) fn probe(line: &str) -> Shape<'_> {
        for layout in Self::ALL {
            match layout.read(line) {
                Shape::Text => {}
                shape => return shape,
            }
        }
        Shape::Text
    }

    /// Whether this may be the beginning of a message's first line that the end of the file cut off.
    pub(crate) fn may_begin(self, line: &str) -> bool {
        let whole: &[&str] = match self {
            Self::Windows => {
                &["[n] [오후 12:34] t", "[n] [12:34 PM] t", "--------------- 2024년 12월 12일 수요일 ---------------"]
            }
            Self::AndroidKorean => &["2024년 12월 12일 오후 12:34, n : t"],
            Self::IosKorean => &["2024. 12. 12. 오후 12:34, n : t"],
            Self::IosTimeOnly => &["오후 12:34, n : t"],
            Self::AndroidEnglish | Self::IosEnglish => {
                &["April 12, 2024 at 12:34 PM, n : t", "12 April 2024, 12:34, n : t"]
            }
        };
        let line = line.trim_start();
        line.len() < 200
            && line.chars().count() >= 4
            && whole.iter().any(|whole| {
                whole.char_indices().skip(1).filter_map(|(at, _)| whole.get(at..)).any(|rest| {
                    let joined = format!("{line}{rest}");
                    !matches!(self.read(&joined), Shape::Text) && matches!(self.read(line), Shape::Text)
                })
            })
    }
}

/// What follows the time in the exports of phones: `, name : text`, `, notice`, `: notice`, or nothing.
pub(crate) fn after_time<'a>(when: Option<When>, mut scan: Scan<'a>) -> Shape<'a> {
    if scan.at_end() {
        return match when.map(|when| when.date) {
            Some(Some(day)) => Shape::Day { day, form: DayForm::Timed },
            Some(None) | None => Shape::Text,
        };
    }
    let notice = if scan.maybe(",") {
        false
    } else if scan.maybe(":") && scan.rest().starts_with(char::is_whitespace) {
        true
    } else {
        return Shape::Text;
    };
    let Some(when) = when else { return Shape::Impossible };
    let rest = scan.rest();
    if notice {
        return Shape::Notice { when, text: rest.trim() };
    }
    let (author, text) = match rest.split_once(" : ") {
        Some((author, text)) => (author.trim(), text),
        None => match rest.trim_end().strip_suffix(" :") {
            Some(author) => (author.trim(), ""),
            None => return Shape::Notice { when, text: rest.trim() },
        },
    };
    if author.is_empty() {
        return Shape::Notice { when, text: text.trim() };
    }
    Shape::Message { when, author, text }
}
