//! The shapes of days and times, in Korean and English.
//!
//! A shape that matches may still name a day or time that is not: the caller then knows that the line was meant as a
//! message's first line. Phones follow their region's settings, so 12-hour and 24-hour clocks occur in every language,
//! with any kind of space before AM and PM.

use jiff::civil;

use super::scan::Scan;
use crate::Language;

/// A day as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Day {
    year: u32,
    month: u32,
    day: u32,
    pub(crate) form: Form,
}

/// How a day is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `2024년 5월 1일`
    Korean,
    /// `2024. 5. 1.`
    Dotted,
    /// `2024-05-01`, `2024/5/1`
    Iso,
    /// `April 30, 2024`, `30 April 2024`
    English,
    /// `Apr 30, 2024`, `30 Apr 2024`
    EnglishShort,
}

impl Day {
    /// The day, if it is one that a KakaoTalk export can have.
    pub(crate) fn civil(self) -> Option<civil::Date> {
        if !(2000..=2200).contains(&self.year) {
            return None;
        }
        civil::Date::new(i16::try_from(self.year).ok()?, i8::try_from(self.month).ok()?, i8::try_from(self.day).ok()?)
            .ok()
    }

    pub(crate) fn language(self) -> Option<Language> {
        match self.form {
            Form::Korean => Some(Language::Korean),
            Form::Dotted | Form::Iso => None,
            Form::English | Form::EnglishShort => Some(Language::English),
        }
    }
}

/// A time of day as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    hour: u32,
    minute: u32,
    second: Option<u32>,
    half: Option<Half>,
    /// The language of its AM or PM.
    pub(crate) language: Option<Language>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Am,
    Pm,
}

impl Clock {
    /// The time, if there is one: 12 AM is midnight and 12 PM is noon.
    pub(crate) fn civil(self) -> Option<civil::Time> {
        let hour = match self.half {
            None => self.hour,
            Some(_) if self.hour > 12 => return None,
            Some(Half::Am) => self.hour % 12,
            Some(Half::Pm) => self.hour % 12 + 12,
        };
        let part = |value: u32| i8::try_from(value).ok();
        civil::Time::new(part(hour)?, part(self.minute)?, part(self.second.unwrap_or(0))?, 0).ok()
    }

    pub(crate) fn has_seconds(self) -> bool {
        self.second.is_some()
    }
}

/// `2024년 5월 1일`
pub(crate) fn korean(scan: &mut Scan<'_>) -> Option<Day> {
    let year = scan.number(4, 4)?;
    scan.lit("년")?;
    scan.spaces();
    let month = scan.number(1, 2)?;
    scan.lit("월")?;
    scan.spaces();
    let day = scan.number(1, 2)?;
    scan.lit("일")?;
    Some(Day { year, month, day, form: Form::Korean })
}

/// `2024. 5. 1.`, `2024.5.1`
pub(crate) fn dotted(scan: &mut Scan<'_>) -> Option<Day> {
    let year = scan.number(4, 4)?;
    scan.lit(".")?;
    scan.spaces();
    let month = scan.number(1, 2)?;
    scan.lit(".")?;
    scan.spaces();
    let day = scan.number(1, 2)?;
    scan.maybe(".");
    Some(Day { year, month, day, form: Form::Dotted })
}

/// `2024-05-01`, `2024/5/1`
pub(crate) fn iso(scan: &mut Scan<'_>) -> Option<Day> {
    let year = scan.number(4, 4)?;
    let mark = if scan.maybe("-") { "-" } else { "/" };
    if mark == "/" {
        scan.lit("/")?;
    }
    let month = scan.number(1, 2)?;
    scan.lit(mark)?;
    let day = scan.number(1, 2)?;
    Some(Day { year, month, day, form: Form::Iso })
}

/// `April 30, 2024`, `Apr 30, 2024`, `30 April 2024`, `30 Apr, 2024`
pub(crate) fn english(scan: &mut Scan<'_>) -> Option<Day> {
    let mut month_first = *scan;
    if let Some((month, short)) = month(&mut month_first) {
        month_first.space()?;
        let day = month_first.number(1, 2)?;
        month_first.maybe(",");
        month_first.space()?;
        return finish(scan, month_first, month, day, short);
    }
    let mut day_first = *scan;
    let day = day_first.number(1, 2)?;
    day_first.space()?;
    let (month, short) = month(&mut day_first)?;
    day_first.maybe(",");
    day_first.space()?;
    finish(scan, day_first, month, day, short)
}

fn finish<'a>(scan: &mut Scan<'a>, mut at: Scan<'a>, month: u32, day: u32, short: bool) -> Option<Day> {
    let year = at.number(4, 4)?;
    *scan = at;
    Some(Day { year, month, day, form: if short { Form::EnglishShort } else { Form::English } })
}

/// A month's number, and whether its name is shortened. `May` is taken as a full name.
fn month(scan: &mut Scan<'_>) -> Option<(u32, bool)> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let word = scan.letters();
    let (number, name) = (1..).zip(MONTHS).find(|(_, name)| {
        let short = name.get(..3).is_some_and(|short| short.eq_ignore_ascii_case(word));
        short || name.eq_ignore_ascii_case(word) || (*name == "September" && word.eq_ignore_ascii_case("Sept"))
    })?;
    scan.maybe(".");
    Some((number, word.len() < name.len()))
}

/// A day alone, and its weekday if it is there: `2024년 5월 1일 수요일`, `2025. 10. 14. 월요일`,
/// `Tuesday, April 30, 2024`, `2024-04-30`.
pub(crate) fn day_line(line: &str) -> Option<(Day, Option<civil::Weekday>)> {
    let mut scan = Scan::new(line.trim());
    let mut named = scan;
    let before = weekday(&mut named);
    if before.is_some() {
        named.maybe(",");
        named.space()?;
        scan = named;
    }
    let day = any_day(&mut scan)?;
    if scan.at_end() {
        return Some((day, before));
    }
    let tail = scan.rest().trim_start_matches([',', ' ', '(']).trim_end_matches(')');
    let mut last = Scan::new(tail);
    let after = korean_weekday(tail).or_else(|| weekday(&mut last).filter(|_| last.at_end()))?;
    Some((day, Some(after)))
}

const WEEK: [civil::Weekday; 7] = [
    civil::Weekday::Sunday,
    civil::Weekday::Monday,
    civil::Weekday::Tuesday,
    civil::Weekday::Wednesday,
    civil::Weekday::Thursday,
    civil::Weekday::Friday,
    civil::Weekday::Saturday,
];

fn weekday(scan: &mut Scan<'_>) -> Option<civil::Weekday> {
    let word = scan.letters();
    let names = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    let is_it = |name: &str| {
        name.eq_ignore_ascii_case(word) || name.get(..3).is_some_and(|short| short.eq_ignore_ascii_case(word))
    };
    names.into_iter().zip(WEEK).find(|(name, _)| is_it(name)).map(|(_, weekday)| weekday)
}

/// `수요일`, `수`
fn korean_weekday(word: &str) -> Option<civil::Weekday> {
    let short = word.strip_suffix("요일").unwrap_or(word);
    ["일", "월", "화", "수", "목", "금", "토"]
        .into_iter()
        .zip(WEEK)
        .find(|(name, _)| *name == short)
        .map(|(_, weekday)| weekday)
}

/// A day in any shape that needs no guess.
pub(crate) fn any_day(scan: &mut Scan<'_>) -> Option<Day> {
    for shape in [korean, dotted, iso, english] {
        let mut attempt = *scan;
        if let Some(day) = shape(&mut attempt) {
            *scan = attempt;
            return Some(day);
        }
    }
    None
}

/// `오후 3:12`, `15:12`, `3:12 PM`, `PM 3:12`, `3:12:10 p.m.`
pub(crate) fn clock(scan: &mut Scan<'_>) -> Option<Clock> {
    let mut at = *scan;
    let mut half = half(&mut at);
    if half.is_some() {
        at.spaces();
    }
    let hour = at.number(1, 2)?;
    at.lit(":")?;
    let minute = at.number(2, 2)?;
    let mut seconds = at;
    let mut second = None;
    if seconds.maybe(":")
        && let Some(number) = seconds.number(2, 2)
    {
        second = Some(number);
        at = seconds;
    }
    if half.is_none() {
        let mut after = at;
        after.spaces();
        half = self::half(&mut after).filter(|(_, language)| *language == Language::English);
        if half.is_some() {
            at = after;
        }
    }
    *scan = at;
    let (half, language) = half.unzip();
    Some(Clock { hour, minute, second, half, language })
}

fn half(scan: &mut Scan<'_>) -> Option<(Half, Language)> {
    let shapes = [("오전", Half::Am), ("오후", Half::Pm)];
    if let Some((_, half)) = shapes.into_iter().find(|(name, _)| scan.maybe(name)) {
        return Some((half, Language::Korean));
    }
    let mut at = *scan;
    let half = if at.word("a").is_some() {
        Half::Am
    } else {
        at.word("p")?;
        Half::Pm
    };
    at.maybe(".");
    at.word("m")?;
    at.maybe(".");
    if at.rest().starts_with(|c: char| c.is_alphanumeric()) {
        return None;
    }
    *scan = at;
    Some((half, Language::English))
}

/// A day and a time: `2024년 5월 1일 오후 3:15`, `May 1, 2024 at 3:15 PM`, `2024-05-01 15:15:10`.
pub(crate) fn moment(scan: &mut Scan<'_>) -> Option<(Day, Clock)> {
    let mut at = *scan;
    let day = any_day(&mut at)?;
    between(&mut at, day)?;
    let clock = clock(&mut at)?;
    *scan = at;
    Some((day, clock))
}

/// What stands between a day and a time.
pub(crate) fn between(scan: &mut Scan<'_>, day: Day) -> Option<()> {
    if day.language() == Some(Language::English) {
        scan.maybe(",");
        scan.space()?;
        if scan.word("at").is_some() {
            scan.space()?;
        }
        return Some(());
    }
    scan.space()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop")]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        let (day, clock) = moment(&mut Scan::new(text))?;
        Some(format!("{} {}", day.civil()?, clock.civil()?))
    }

    #[test]
    fn moments_of_all_shapes() {
        for (text, expected) in [
            ("2024년 5월 1일 오후 3:15", "2024-05-01 15:15:00"),
            ("2024년 5월 1일 오전 12:00", "2024-05-01 00:00:00"),
            ("2024년 5월 1일 오후 12:00", "2024-05-01 12:00:00"),
            ("2024년 05월 01일 오후 03:15", "2024-05-01 15:15:00"),
            ("2024년 5월 1일 15:15", "2024-05-01 15:15:00"),
            ("2024. 5. 1. 오후 3:15", "2024-05-01 15:15:00"),
            ("2024.5.1 15:15", "2024-05-01 15:15:00"),
            ("2024-05-01 15:15:10", "2024-05-01 15:15:10"),
            ("May 1, 2024 at 3:15 PM", "2024-05-01 15:15:00"),
            ("May 1, 2024 at 3:15\u{202f}PM", "2024-05-01 15:15:00"),
            ("May 1, 2024, 12:15 a.m.", "2024-05-01 00:15:00"),
            ("Apr 25, 2026 at 10:38", "2026-04-25 10:38:00"),
            ("25 April 2026 at 22:38", "2026-04-25 22:38:00"),
            ("Sept 2, 2023, PM 12:01", "2023-09-02 12:01:00"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment() {
        for text in [
            "2024년 2월 30일 오후 3:15",
            "2024년 5월 1일 오후 13:15",
            "2024년 5월 1일 24:00",
            "2024년 5월 1일 오후 3:5",
            "1924년 5월 1일 오후 3:15",
            "5/1/24, 3:15 PM",
            "2024年5月1日 午後3:15",
            "Mai 1, 2024 at 15:15",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn day_lines() {
        for text in [
            "2024년 4월 30일 화요일",
            "2024. 4. 30. 화요일",
            "Tuesday, April 30, 2024",
            "Tuesday, 30 April 2024",
            "Tue, Apr 30, 2024",
            "2024-04-30",
            "2024년 4월 30일 (화)",
            " April 30, 2024 ",
        ] {
            let (day, weekday) = day_line(text).unwrap();
            assert_eq!(day.civil(), Some(civil::date(2024, 4, 30)), "{text}");
            assert!(weekday.is_none_or(|weekday| weekday == civil::Weekday::Tuesday), "{text}");
        }
        for text in ["2024년 4월 30일 화요일 모임", "Tuesday", "April 30", "2024년 4월"] {
            assert_eq!(day_line(text), None, "{text}");
        }
    }
}
