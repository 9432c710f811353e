//! Exports of KakaoTalk for Windows.
//!
//! ```text
//! 가족방 님과 카카오톡 대화                                     Book club with KakaoTalk Chats
//! 저장한 날짜 : 2024-05-01 15:15:10                             Date Saved : 2024-05-01 15:15:10
//!
//! --------------- 2024년 4월 30일 화요일 ---------------         --------------- Tuesday, April 30, 2024 ---------------
//! [엄마] [오후 11:58] 저녁 먹었니?                               [Mom] [11:58 PM] Have you eaten?
//! 동생님이 나갔습니다.                                           [Me] [11:59 PM] Photo
//! ```
//!
//! The day and the time follow the system's language, the rest KakaoTalk's, so an export may have both. Notices have no
//! time and nothing that tells them from a message's next line; see [`untimed`](super::notice::untimed).

use super::date;
use super::layout::{DayForm, Shape, When};
use super::scan::Scan;

/// Fewer than these on either side do not make a day: fifteen, but for those that an editor may have joined or lost.
const DASHES: usize = 10;

pub(crate) fn read(line: &str) -> Shape<'_> {
    match line.chars().next() {
        Some('[') => message(line),
        Some('-' | '─' | '—') => dashes(line),
        // A day without dashes was typed by someone.
        _ => Shape::Text,
    }
}

/// `[name] [time] text`. The name ends at the first `] [` that a whole time and `]` follow, so it may hold brackets.
fn message(line: &str) -> Shape<'_> {
    let Some(inner) = line.strip_prefix('[') else { return Shape::Text };
    for (at, mark) in inner.match_indices("] [") {
        let Some((name, rest)) = inner.split_at_checked(at) else { continue };
        let mut scan = Scan::new(rest);
        if scan.lit(mark).is_none() {
            continue;
        }
        let Some(clock) = date::clock(&mut scan) else { continue };
        if scan.lit("]").is_none() {
            continue;
        }
        let Some(when) = When::new(None, clock) else { return Shape::Impossible };
        let text = scan.rest();
        let text = match text.strip_prefix(' ') {
            Some(text) => text,
            None if text.is_empty() => text,
            None => return Shape::Text,
        };
        let author = name.trim();
        if author.is_empty() {
            return Shape::Notice { when, text: text.trim() };
        }
        return Shape::Message { when, author, text };
    }
    Shape::Text
}

/// A day between dashes. KakaoTalk writes fifteen on either side; nobody types that many, so it is a day whatever follows.
/// One between a few dashes was typed, and would give its day to every message below.
fn dashes(line: &str) -> Shape<'_> {
    let dash = |c: char| matches!(c, '-' | '─' | '—');
    let line = line.trim();
    let inner = line.trim_matches(dash);
    let left = line.chars().take_while(|c| dash(*c)).count();
    let right = line.chars().rev().take_while(|c| dash(*c)).count();
    if left < DASHES || right < DASHES {
        return Shape::Text;
    }
    match date::day_line(inner).map(|(day, _)| day.civil()) {
        Some(Some(day)) => Shape::Day { day, form: DayForm::Dashed },
        Some(None) => Shape::ImpossibleDay,
        None => Shape::Text,
    }
}
