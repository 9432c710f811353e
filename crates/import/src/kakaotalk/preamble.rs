//! The lines above the first message: title, date of the export, number of the part; and the file's name.

use jiff::civil::DateTime;

use super::date;
use super::scan::Scan;
use crate::{Language, Part};

/// What a line above the messages says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heading<'a> {
    /// The room's title.
    Title(&'a str, Language),
    /// The file's own name, which stands in the title's place in iOS exports.
    Part(Part),
}

/// The first line of an export.
pub(crate) fn heading(line: &str) -> Option<Heading<'_>> {
    let line = line.trim().trim_start_matches('\u{feff}');
    if let Some(part) = part(line) {
        return Some(Heading::Part(part));
    }
    if line.chars().count() > 300 {
        return None;
    }
    if let Some(title) = line.strip_suffix("카카오톡 대화").map(str::trim_end) {
        let title = title.strip_suffix("님과의").or_else(|| title.strip_suffix("님과")).unwrap_or(title);
        return titled(Some(title)).map(|title| Heading::Title(title, Language::Korean));
    }
    let title = line
        .strip_prefix("KakaoTalk Chats with ")
        .or_else(|| line.strip_suffix(" with KakaoTalk Chats"))
        .or_else(|| line.strip_suffix(" KakaoTalk Chats"));
    titled(title).map(|title| Heading::Title(title, Language::English))
}

fn titled(title: Option<&str>) -> Option<&str> {
    title.map(str::trim).filter(|title| !title.is_empty())
}

/// `Talk_2024.5.1 15:12-1.txt`; the colon is another mark where file systems do not take it.
pub(crate) fn part(name: &str) -> Option<Part> {
    let inner = name.strip_prefix("Talk_")?.strip_suffix(".txt")?;
    let (stamp, number) = inner.rsplit_once('-')?;
    let digits = !number.is_empty() && number.len() <= 4 && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|number| digits && *number > 0)?;
    let stamp: Vec<&str> = stamp.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty()).collect();
    (stamp.len() >= 3).then(|| Part { stamp: stamp.join("."), number })
}

/// The date of the export: the language of its label, and the time if it has a known shape.
pub(crate) fn saved(line: &str) -> Option<(Language, Option<DateTime>)> {
    let line = line.trim();
    let (language, rest) =
        [(Language::Korean, "저장한 날짜"), (Language::English, "Date Saved"), (Language::English, "Saved Date")]
            .into_iter()
            .find_map(|(language, label)| Some((language, line.strip_prefix(label)?)))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim();
    let at = date::moment(&mut Scan::new(rest)).and_then(|(day, clock)| Some(day.civil()?.to_datetime(clock.civil()?)));
    Some((language, at))
}

/// A title without the number of members that Android writes behind it for groups.
pub(crate) fn without_members(title: &str) -> (&str, Option<u32>) {
    let Some((name, number)) = title.rsplit_once(' ') else { return (title, None) };
    let digits = (1..=4).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    match number.parse() {
        Ok(members) if digits && !name.trim().is_empty() => (name.trim_end(), Some(members)),
        _ => (title, None),
    }
}

/// The room's name in the name of a macOS export: `KakaoTalk_Chat_거래처_2024-05-01-15-12-10.csv`.
pub(crate) fn title_of_file(name: &str) -> Option<&str> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let (title, stamp) = stem.strip_prefix("KakaoTalk_Chat_")?.rsplit_once('_')?;
    let stamped = stamp.len() >= 10 && stamp.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    titled(Some(title)).filter(|_| stamped)
}

/// The language of an interface that is neither Korean nor English, by the shape of its dates and its letters.
pub(crate) fn foreign(line: &str) -> Option<&'static str> {
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    let kana = |c: char| matches!(c, '\u{3041}'..='\u{30ff}');
    let cyrillic = |c: char| matches!(c, '\u{0400}'..='\u{04ff}');
    let thai = |c: char| matches!(c, '\u{0e00}'..='\u{0e7f}');
    if has(&["カカオトーク", "保存日", "午前", "午後"]) || line.contains(kana) {
        Some("Japanese")
    } else if line.contains('年') && has(&["上午", "下午", "星期", "週"]) {
        Some("Chinese")
    } else if line.contains(cyrillic) {
        Some("Russian")
    } else {
        line.contains(thai).then_some("Thai")
    }
}

/// `5/1/24, 3:12 PM` or `1.5.2024 15:12`: which number is the day cannot be known.
pub(crate) fn date_order_unknown(line: &str) -> bool {
    fn read(line: &str) -> Option<()> {
        let mut scan = Scan::new(line.strip_prefix('[').unwrap_or(line));
        scan.number(1, 2)?;
        let mark = ["/", ".", "-"].into_iter().find(|mark| scan.maybe(mark))?;
        scan.spaces();
        scan.number(1, 2)?;
        scan.lit(mark)?;
        scan.spaces();
        scan.number(2, 4)?;
        scan.maybe(",");
        scan.space()?;
        date::clock(&mut scan).map(|_| ())
    }
    read(line).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings() {
        let korean = |title| Some(Heading::Title(title, Language::Korean));
        assert_eq!(heading("산악회 12 님과 카카오톡 대화"), korean("산악회 12"));
        assert_eq!(heading("팀 채팅방 카카오톡 대화 "), korean("팀 채팅방"));
        assert_eq!(heading(" 님과 카카오톡 대화"), None);
        assert_eq!(heading("KakaoTalk Chats with Book club"), Some(Heading::Title("Book club", Language::English)));
        assert_eq!(
            heading("Talk_2024.5.1 15:12-2.txt"),
            Some(Heading::Part(Part { stamp: "2024.5.1.15.12".into(), number: 2 }))
        );
        assert_eq!(part("Talk_2024.5.1 15_12-2.txt"), part("Talk_2024.5.1 15:12-2.txt"));
        assert_eq!(part("Talk_show-1.txt"), None);
    }

    #[test]
    fn members_and_names() {
        assert_eq!(without_members("산악회 12"), ("산악회", Some(12)));
        assert_eq!(without_members("산악회 2024 12"), ("산악회 2024", Some(12)));
        assert_eq!(without_members("12"), ("12", None));
        assert_eq!(title_of_file("KakaoTalk_Chat_우리_방_2024-05-01-15-12-10.csv"), Some("우리_방"));
        assert_eq!(title_of_file("KakaoTalk_Chat_2024-05-01-15-12-10.csv"), None);
        assert_eq!(title_of_file("macos.csv"), None);
    }

    #[test]
    fn what_is_reported_instead_of_guessed() {
        assert_eq!(foreign("2024年5月1日 午後3:12, 田中 : こんにちは"), Some("Japanese"));
        assert_eq!(foreign("2024年5月1日 下午3:12, 王 : 你好"), Some("Chinese"));
        assert!(date_order_unknown("5/1/24, 3:12 PM, Kim : hi"));
        assert!(!date_order_unknown("2024. 5. 1. 오후 3:12, Kim : hi"));
    }
}
