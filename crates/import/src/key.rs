//! Keys that stay the same from one export of a chat to the next.

use std::collections::HashMap;
use std::fmt;

use ieum_planted::Bug;

use crate::{Kind, Label, Precision};

/// Names an entry within its room, the same in every export that has the entry.
///
/// A key is made of the *minute*, the author's label, the kind, the words, and how many entries just like it stand before
/// it in the export. An archive that adds an entry only when it does not have its key therefore ends with each run of
/// identical entries as long as the longest that any export showed:
///
/// - The same export again: the same keys.
/// - A later export that overlaps: the shared entries have the same keys. When the earlier export was cut in the middle of
///   a minute, or the later one begins in the middle of one, it has fewer of some identical entries; the counts of the
///   other go further, and exactly the missing ones are added.
/// - Another platform's export: the minute is what all platforms write, the kind stands for the placeholder's language
///   (`사진` and `Photo` are both a photo), and spaces at the ends of lines do not count. Labels must agree, see
///   [`Options::aliases`](crate::Options::aliases).
///
/// Line numbers, file names and the place in the file are not in it: they change from export to export.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 16]);

/// Names a chat, the same in every export of it from any platform: made of its title alone, since exports carry nothing
/// else. Two chats of one title have one key; [`Options::room`](crate::Options::room) keeps them apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChatKey(pub [u8; 16]);

/// The key of the chat of this title. White space of any width and invisible characters in it do not count.
#[must_use]
pub fn chat_key(title: &str) -> ChatKey {
    let visible: String = title.chars().filter(|c| !invisible(*c)).collect();
    let words: Vec<&str> = visible.split_whitespace().collect();
    let mut hash = blake3::Hasher::new_derive_key("ieum import kakaotalk chat 1");
    hash.update(words.join(" ").as_bytes());
    ChatKey(prefix(&hash))
}

fn invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// What a key is made of, apart from the count of entries just like it.
pub(crate) struct Parts<'a> {
    /// Unix milliseconds, exact to `precision`.
    pub(crate) time: i64,
    pub(crate) precision: Precision,
    pub(crate) author: Option<&'a Label>,
    pub(crate) kind: &'a Kind,
    pub(crate) text: &'a str,
    pub(crate) line: u64,
}

impl Parts<'_> {
    /// Identical entries share it.
    fn base(&self) -> [u8; 16] {
        let mut hash = blake3::Hasher::new_derive_key("ieum import kakaotalk entry 1");
        hash.update(&self.time.div_euclid(60_000).to_le_bytes());
        hash.update(&[u8::from(self.precision == Precision::Day)]);
        optional(&mut hash, self.author.map(Label::as_str));
        kind(&mut hash, self.kind);
        if matches!(self.kind, Kind::Text | Kind::Notice) {
            let lines: Vec<&str> = self.text.lines().map(str::trim_end).collect();
            field(&mut hash, lines.join("\n").trim_end());
        }
        if Bug::ImportOverlapTwice.planted() {
            hash.update(&self.line.to_le_bytes());
        }
        prefix(&hash)
    }
}

fn kind(hash: &mut blake3::Hasher, kind: &Kind) {
    field(hash, kind.name());
    match kind {
        Kind::Photo { count } => {
            hash.update(&count.to_le_bytes());
        }
        Kind::File { name } => field(hash, name),
        Kind::Joined { who } | Kind::Left { who } => field(hash, who.as_str()),
        Kind::Removed { by, who } => {
            optional(hash, by.as_ref().map(Label::as_str));
            field(hash, who.as_str());
        }
        Kind::Invited { by, whom } => {
            field(hash, by.as_str());
            hash.update(&(whom.len() as u64).to_le_bytes());
            whom.iter().for_each(|who| field(hash, who.as_str()));
        }
        Kind::Text | Kind::Emoticon | Kind::Video | Kind::Voice | Kind::Deleted | Kind::Notice => {}
    }
}

fn field(hash: &mut blake3::Hasher, value: &str) {
    hash.update(&(value.len() as u64).to_le_bytes());
    hash.update(value.as_bytes());
}

fn optional(hash: &mut blake3::Hasher, value: Option<&str>) {
    hash.update(&[u8::from(value.is_some())]);
    field(hash, value.unwrap_or_default());
}

fn prefix(hash: &blake3::Hasher) -> [u8; 16] {
    let mut bytes = [0; 16];
    hash.finalize_xof().fill(&mut bytes);
    bytes
}

/// Counts identical entries per export, and knows which of them an earlier export of the same import already gave.
#[derive(Debug, Default)]
pub(crate) struct Occurrences {
    export: u32,
    counts: HashMap<[u8; 16], Count>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    /// The export that `here` counts in.
    export: u32,
    /// Identical entries so far in that export.
    here: u16,
    /// The most of them in any export so far.
    most: u16,
}

impl Occurrences {
    /// Counting begins anew: what follows is another export of the chat.
    pub(crate) fn next_export(&mut self) {
        self.export += 1;
    }

    /// The key of the next entry, and whether an earlier export of this import gave it already.
    pub(crate) fn key(&mut self, parts: &Parts<'_>) -> (Key, bool) {
        let base = parts.base();
        let count = self.counts.entry(base).or_default();
        if count.export != self.export {
            *count = Count { export: self.export, here: 0, most: count.most };
        }
        let number = count.here;
        count.here = count.here.saturating_add(1);
        let repeated = number < count.most;
        count.most = count.most.max(count.here);
        let mut hash = blake3::Hasher::new_derive_key("ieum import kakaotalk occurrence 1");
        hash.update(&base);
        hash.update(&number.to_le_bytes());
        (Key(prefix(&hash)), repeated)
    }
}

macro_rules! hexadecimal {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
hexadecimal!(Key);
hexadecimal!(ChatKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_known_by_its_visible_title() {
        assert_eq!(chat_key("산악회"), chat_key(" \u{feff}산악회\u{200b} "));
        assert_eq!(chat_key("Book club"), chat_key("Book\u{a0} club"));
        assert_ne!(chat_key("산악회"), chat_key("산악회 2"));
    }

    #[test]
    fn lengths_keep_fields_apart() {
        let (a, b) = (Label::new("ab"), Label::new("a"));
        let parts =
            |author, text| Parts { time: 0, precision: Precision::Minute, author, kind: &Kind::Text, text, line: 1 };
        assert_ne!(parts(Some(&a), "c").base(), parts(Some(&b), "bc").base());
        assert_ne!(parts(None, "c").base(), parts(Some(&Label::new("")), "c").base());
    }
}
