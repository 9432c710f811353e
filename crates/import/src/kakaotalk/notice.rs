//! What KakaoTalk itself says in a chat, and the words that stand for what an export leaves out.

use std::collections::HashSet;

use crate::{Kind, Label, Language};

/// What a notice says. Its words are kept as the entry's text, whatever is made of them here.
pub(crate) fn kind(text: &str) -> Kind {
    let line = text.lines().next().unwrap_or_default().trim();
    deleted(line).or_else(|| korean(line)).or_else(|| english(line)).unwrap_or(Kind::Notice)
}

fn deleted(line: &str) -> Option<Kind> {
    is_deleted(line, None).then_some(Kind::Deleted)
}

/// Open chats add warnings right behind the full stop: `님이 들어왔습니다.운영정책을 …`.
fn korean(line: &str) -> Option<Kind> {
    for invited in ["님을 초대했습니다", "님을 초대하였습니다"] {
        if let Some((by, whom)) = sentence(line, invited).and_then(|names| names.split_once("님이 ")) {
            let whom = whom.split("님, ").flat_map(|names| names.split("님과 ")).map(Label::new).collect();
            return Some(Kind::Invited { by: Label::new(by), whom });
        }
    }
    if let Some(names) = sentence(line, "님을 내보냈습니다") {
        return Some(match names.split_once("님이 ") {
            Some((by, who)) => Kind::Removed { by: Some(Label::new(by)), who: Label::new(who) },
            None => Kind::Removed { by: None, who: Label::new(names) },
        });
    }
    if let Some(who) = sentence(line, "님이 들어왔습니다") {
        return Some(Kind::Joined { who: Label::new(who) });
    }
    sentence(line, "님이 나갔습니다").map(|who| Kind::Left { who: Label::new(who) })
}

/// A notice that KakaoTalk is known to write, but of no kind of its own.
pub(crate) fn other(line: &str) -> bool {
    line == "채팅방 관리자가 메시지를 가렸습니다."
}

/// The names before a notice's last words.
fn sentence<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    let (names, rest) = line.split_once(words)?;
    let whole = rest.is_empty() || rest.starts_with('.');
    (whole && !names.trim().is_empty()).then_some(names)
}

fn english(line: &str) -> Option<Kind> {
    let line = line.trim_end_matches('.').trim_end();
    for ending in [" has joined this chatroom", " joined this chatroom", " has joined", " joined"] {
        if let Some(who) = name(line.strip_suffix(ending)) {
            return Some(Kind::Joined { who });
        }
    }
    for ending in [" has left this chatroom", " left this chatroom", " has left", " left"] {
        if let Some(who) = name(line.strip_suffix(ending)) {
            return Some(Kind::Left { who });
        }
    }
    let (by, whom) = line.split_once(" has invited ").or_else(|| line.split_once(" invited "))?;
    let whom = whom.strip_suffix(" to this chatroom").unwrap_or(whom);
    let whom: Vec<Label> = whom.split(", ").flat_map(|names| names.split(" and ")).map(Label::new).collect();
    Some(Kind::Invited { by: name(Some(by))?, whom })
}

fn name(text: Option<&str>) -> Option<Label> {
    text.map(Label::new).filter(|label| !label.as_str().is_empty())
}

/// What a line without a time may be, in a Windows export.
pub(crate) enum Untimed {
    /// A notice.
    Notice,
    /// Taken as a notice, although it may as well be a message's text.
    Perhaps,
    /// Text.
    Text,
}

/// Whether a line without a time is a notice. It has nothing to tell it from a message's next line but its words:
/// the whole line must be one of KakaoTalk's sentences. Korean ones (`…님이 나갔습니다.`) are seldom typed, and taken as
/// notices; they are certain when they name an author. English ones (`Mom left.`) are ordinary sentences, and taken only
/// when they end in `this chatroom.` or all whom they name are authors.
pub(crate) fn untimed(line: &str, authors: &HashSet<String>) -> Untimed {
    let line = line.trim();
    if other(line) {
        return Untimed::Notice;
    }
    let known = |label: &Label| authors.contains(label.as_str());
    if let Some(kind) = korean(line) {
        let end = line.split_once("습니다.").map(|(_, rest)| rest).unwrap_or("?");
        let warning = ["운영정책을 ", "타인, 기관 "].iter().any(|words| end.starts_with(words));
        if !end.is_empty() && !warning {
            return Untimed::Text;
        }
        return if named(&kind).into_iter().any(known) || warning { Untimed::Notice } else { Untimed::Perhaps };
    }
    let Some(kind) = english(line).filter(|_| line.ends_with('.')) else { return Untimed::Text };
    let certain = line.ends_with(" this chatroom.") || named(&kind).into_iter().all(known);
    if certain { Untimed::Notice } else { Untimed::Text }
}

fn named(kind: &Kind) -> Vec<&Label> {
    match kind {
        Kind::Joined { who } | Kind::Left { who } | Kind::Removed { by: None, who } => vec![who],
        Kind::Removed { by: Some(by), who } => vec![by, who],
        Kind::Invited { by, whom } => std::iter::once(by).chain(whom).collect(),
        _ => Vec::new(),
    }
}

/// What a message is. An export writes one word for what it leaves out; someone who typed just that word cannot be told
/// apart. Only words of the interface's language count, when it is known.
pub(crate) fn message(text: &str, language: Option<Language>) -> Kind {
    let text = text.trim();
    let korean = language != Some(Language::English);
    let english = language != Some(Language::Korean);
    if is_deleted(text, language) {
        return Kind::Deleted;
    }
    match text {
        "사진" | "<사진 읽지 않음>" if korean => Kind::Photo { count: 1 },
        "동영상" | "<동영상 읽지 않음>" if korean => Kind::Video,
        "이모티콘" | "(이모티콘)" if korean => Kind::Emoticon,
        "음성메시지" | "음성 메시지" if korean => Kind::Voice,
        "Photo" if english => Kind::Photo { count: 1 },
        "Video" | "Videos" | "videos" if english => Kind::Video,
        "Emoticon" | "Emoticons" | "Sticker" if english => Kind::Emoticon,
        "Voice Note" | "Voice note" | "Voice Message" | "Voice message" if english => Kind::Voice,
        _ => photos(text, korean, english)
            .or_else(|| file(text, korean, english))
            .or_else(|| media_names(text))
            .unwrap_or(Kind::Text),
    }
}

fn is_deleted(text: &str, language: Option<Language>) -> bool {
    let bare = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text);
    match bare.strip_suffix('.').unwrap_or(bare) {
        "삭제된 메시지입니다" | "메시지가 삭제되었습니다" => language != Some(Language::English),
        "This message was deleted"
        | "The message has been deleted"
        | "This message has been deleted"
        | "Deleted message" => language != Some(Language::Korean),
        _ => false,
    }
}

/// `사진 3장`, `3 photos`, `Photos 3`
fn photos(text: &str, korean: bool, english: bool) -> Option<Kind> {
    let count = if korean && let Some(count) = text.strip_prefix("사진 ").and_then(|rest| rest.strip_suffix("장")) {
        count
    } else if english {
        [" photos", " Photos"]
            .iter()
            .find_map(|words| text.strip_suffix(words))
            .or_else(|| ["Photos ", "Photo "].iter().find_map(|words| text.strip_prefix(words)))?
    } else {
        return None;
    };
    let digits = count.len() <= 3 && count.bytes().all(|byte| byte.is_ascii_digit());
    count.parse().ok().filter(|count| digits && *count > 0).map(|count| Kind::Photo { count })
}

/// `파일: 회비.xlsx`, `File: dues.xlsx`
fn file(text: &str, korean: bool, english: bool) -> Option<Kind> {
    let name = ["파일: ", "파일 : "]
        .iter()
        .filter(|_| korean)
        .chain(["File: ", "File : "].iter().filter(|_| english))
        .find_map(|words| text.strip_prefix(words))?
        .trim();
    (!name.is_empty() && name.len() <= 1024 && !name.contains('\n')).then(|| Kind::File { name: name.to_owned() })
}

/// Android names the files of an export with media by 50 or more hexadecimal digits, and writes these names as the text.
fn media_names(text: &str) -> Option<Kind> {
    let mut photos = 0;
    let mut other = None;
    for line in text.lines() {
        let (stem, extension) = line.trim().rsplit_once('.')?;
        if stem.len() < 50 || !stem.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match extension.to_ascii_lowercase().as_str() {
            "jpg" | "jpeg" | "png" | "gif" | "webp" | "heic" => photos += 1,
            "mp4" | "mov" => other = Some(Kind::Video),
            "m4a" | "aac" => other = Some(Kind::Voice),
            _ => return None,
        }
    }
    match (photos, other) {
        (0, other) => other.filter(|_| text.lines().count() == 1),
        (count, None) => Some(Kind::Photo { count }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices() {
        let label = Label::new;
        let invited = |by: &str, whom: &[&str]| Kind::Invited {
            by: label(by),
            whom: whom.iter().map(|who| label(who)).collect(),
        };
        for (text, expected) in [
            ("새회원님이 들어왔습니다.", Kind::Joined { who: label("새회원") }),
            ("새회원님이 들어왔습니다.운영정책을 위반한 메시지로", Kind::Joined { who: label("새회원") }),
            ("막내님이 나갔습니다.", Kind::Left { who: label("막내") }),
            ("막내님을 내보냈습니다.", Kind::Removed { by: None, who: label("막내") }),
            ("총무님이 막내님을 내보냈습니다.", Kind::Removed { by: Some(label("총무")), who: label("막내") }),
            ("총무님이 막내님, 둘째님과 첫째님을 초대하였습니다.", invited("총무", &["막내", "둘째", "첫째"])),
            ("Mom invited iPad .", invited("Mom", &["iPad"])),
            ("Mom invited A, B and C.", invited("Mom", &["A", "B", "C"])),
            ("Newcomer joined this chatroom.", Kind::Joined { who: label("Newcomer") }),
            ("iPad left this chatroom.", Kind::Left { who: label("iPad") }),
            ("총무님이 공지를 등록했습니다.", Kind::Notice),
            ("님이 나갔습니다.", Kind::Notice),
            (" left.", Kind::Notice),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
    }

    #[test]
    fn placeholders_of_the_interface_language() {
        let (ko, en) = (Some(Language::Korean), Some(Language::English));
        for (text, language, expected) in [
            ("사진", ko, Kind::Photo { count: 1 }),
            ("사진 ", None, Kind::Photo { count: 1 }),
            ("사진", en, Kind::Text),
            ("Photo", ko, Kind::Text),
            ("Photo", en, Kind::Photo { count: 1 }),
            ("사진 12장", ko, Kind::Photo { count: 12 }),
            ("사진 +3장", ko, Kind::Text),
            ("사진 0장", ko, Kind::Text),
            ("3 photos", en, Kind::Photo { count: 3 }),
            ("사진 보내줘", ko, Kind::Text),
            ("파일: a b.xlsx", ko, Kind::File { name: "a b.xlsx".into() }),
            ("파일: ", ko, Kind::Text),
            ("음성메시지", ko, Kind::Voice),
            ("(삭제된 메시지입니다.)", ko, Kind::Deleted),
            ("This message was deleted.", en, Kind::Deleted),
            ("", ko, Kind::Text),
        ] {
            assert_eq!(message(text, language), expected, "{text}");
        }
        let name = format!("{}.jpg", "0a".repeat(32));
        assert_eq!(message(&format!("{name}\n{name}"), ko), Kind::Photo { count: 2 });
    }
}
