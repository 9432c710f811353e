//! Exports of KakaoTalk for iPhone and iPad.
//!
//! ```text
//! Talk_2024.5.1 15:12-1.txt, or 거래처 님과 카카오톡 대화     Talk_2026.4.25 10:20-1.txt
//! 저장한 날짜 : 2024. 5. 1. 오후 3:15                         Date Saved : Apr 25, 2026 at 10:38
//!
//!
//! 2024년 5월 1일 수요일                                       Wednesday, December 31, 2014
//! 2024. 5. 1. 오후 3:12, 거래처 : 견적서 부탁드립니다          Dec 31, 2014 at 19:12, iPad : hello
//! 2024. 5. 1. 오후 3:13: 거래처님이 나갔습니다.               Dec 31, 2014 at 19:12: me invited iPad .
//! ```
//!
//! Older ones have only the time before the name: `오후 3:12, 거래처 : …`.

use super::layout::{DayForm, Shape, When, after_time};
use super::scan::Scan;
use super::{android, date};

pub(crate) fn korean(line: &str) -> Shape<'_> {
    let mut scan = Scan::new(line);
    let Some(day) = date::dotted(&mut scan) else { return day_line(line) };
    if scan.space().is_none() {
        return Shape::Text;
    }
    match date::clock(&mut scan) {
        Some(clock) => after_time(When::new(Some(day), clock), scan),
        None => day_line(line),
    }
}

pub(crate) fn english(line: &str) -> Shape<'_> {
    match android::english(line) {
        Shape::Text => day_line(line),
        shape => shape,
    }
}

pub(crate) fn time_only(line: &str) -> Shape<'_> {
    let mut scan = Scan::new(line);
    match date::clock(&mut scan) {
        Some(_) if scan.at_end() => Shape::Text,
        Some(clock) => after_time(When::new(None, clock), scan),
        // Without knowing the day, nothing can be said of the messages below it.
        None => match date::day_line(line) {
            Some((day, Some(_))) if day.civil().is_none() => Shape::ImpossibleDay,
            _ => day_line(line),
        },
    }
}

/// A day with its weekday on a line of its own.
pub(crate) fn day_line(line: &str) -> Shape<'_> {
    let Some((day, weekday)) = date::day_line(line) else { return Shape::Text };
    let Some(day) = day.civil() else { return Shape::Text };
    let form = match weekday {
        None => DayForm::Bare,
        Some(weekday) if weekday == day.weekday() => DayForm::Weekday,
        Some(_) => DayForm::OtherWeekday,
    };
    Shape::Day { day, form }
}
