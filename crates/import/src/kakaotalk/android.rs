//! Exports of KakaoTalk for Android.
//!
//! ```text
//! 산악회 12 님과 카카오톡 대화                     KakaoTalk Chats with Book club
//! 저장한 날짜 : 2024년 5월 1일 오후 3:15            Date Saved : May 1, 2024 at 3:15 PM
//!
//!
//! 2024년 4월 30일 오후 11:58                        April 30, 2024 at 11:58 PM
//! 2024년 4월 30일 오후 11:58, 총무 : 내일 8시       April 30, 2024 at 11:58 PM, You : See you at 8
//! 2024년 5월 1일 오전 7:40, 새회원님이 들어왔습니다.  May 1, 2024 at 9:12 AM, Newcomer joined this chatroom.
//! ```

use super::layout::{Shape, When, after_time};
use super::scan::Scan;
use super::{date, ios};

pub(crate) fn korean(line: &str) -> Shape<'_> {
    let mut scan = Scan::new(line);
    let Some(day) = date::korean(&mut scan) else { return Shape::Text };
    if scan.space().is_none() {
        return Shape::Text;
    }
    match date::clock(&mut scan) {
        Some(clock) => after_time(When::new(Some(day), clock), scan),
        None => ios::day_line(line),
    }
}

/// Month first or day first, month full or short, with `at`, a comma or nothing before the time.
pub(crate) fn english(line: &str) -> Shape<'_> {
    let mut scan = Scan::new(line);
    let Some(day) = date::english(&mut scan) else { return Shape::Text };
    if date::between(&mut scan, day).is_none() {
        return Shape::Text;
    }
    let Some(clock) = date::clock(&mut scan) else { return Shape::Text };
    after_time(When::new(Some(day), clock), scan)
}

/// Whether the line begins with a day whose month is shortened, as iOS does.
pub(crate) fn short_month(line: &str) -> bool {
    date::english(&mut Scan::new(line)).is_some_and(|day| day.form == date::Form::EnglishShort)
}
