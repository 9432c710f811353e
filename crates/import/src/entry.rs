//! What an export is read into: chats and their entries.

use std::fmt;

use crate::{ChatKey, Key};

/// A person as an export names them. Not a user: exports carry no accounts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

impl Label {
    /// A label of this name, without white space around it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.trim().to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How exactly an export gives an entry's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// To the second: macOS.
    Second,
    /// To the minute: Android, iOS, Windows.
    Minute,
    /// Only the day: a notice in a Windows export. [`Entry::time`] is then that of the message before it on that day, or
    /// the day's beginning.
    Day,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Words. May be empty: KakaoTalk exports some messages (shared contacts, polls) as nothing.
    Text,
    /// Photos; the export has only their number.
    Photo {
        /// How many, at least 1.
        count: u32,
    },
    /// A sticker; the export does not say which.
    Emoticon,
    /// A video; not in the export.
    Video,
    /// A voice message; not in the export.
    Voice,
    /// A file; only its name is in the export.
    File {
        /// Its name.
        name: String,
    },
    /// A message that was deleted before the export was made.
    Deleted,
    /// Someone came in by themselves.
    Joined {
        /// Who.
        who: Label,
    },
    /// Someone left.
    Left {
        /// Who.
        who: Label,
    },
    /// Someone was brought in.
    Invited {
        /// By whom.
        by: Label,
        /// Who.
        whom: Vec<Label>,
    },
    /// Someone was put out.
    Removed {
        /// By whom, where the export says it.
        by: Option<Label>,
        /// Who.
        who: Label,
    },
    /// Something else that KakaoTalk itself says in the chat; the text says what.
    Notice,
}

impl Kind {
    /// A word for reports: `text`, `photo`, …
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Photo { .. } => "photo",
            Self::Emoticon => "emoticon",
            Self::Video => "video",
            Self::Voice => "voice",
            Self::File { .. } => "file",
            Self::Deleted => "deleted",
            Self::Joined { .. } => "joined",
            Self::Left { .. } => "left",
            Self::Invited { .. } => "invited",
            Self::Removed { .. } => "removed",
            Self::Notice => "notice",
        }
    }
}

/// One message or notice of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Names this entry in its room in every export that has it. See [`Key`].
    pub key: Key,
    /// When it was sent, in Unix milliseconds, as exactly as `precision` says.
    pub time: i64,
    /// How exactly the export gives the time.
    pub precision: Precision,
    /// Who sent it; none for what KakaoTalk itself says.
    pub author: Option<Label>,
    /// What it is.
    pub kind: Kind,
    /// The text as exported, without line breaks at its end and without control characters; for a photo the word that
    /// stands for it. At most [`Limits::message_chars`](crate::Limits::message_chars) characters.
    pub text: String,
    /// 1, 2, 3 … for the parts of a message that was too long for one entry.
    pub part: Option<u32>,
    /// The line of the file on which it begins, from 1.
    pub line: u64,
}

/// Which KakaoTalk wrote an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Android.
    Android,
    /// iPhone and iPad.
    Ios,
    /// Windows.
    Windows,
    /// macOS.
    Macos,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Android => "Android",
            Self::Ios => "iOS",
            Self::Windows => "Windows",
            Self::Macos => "macOS",
        })
    }
}

/// The language of the interface that wrote an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Korean.
    Korean,
    /// English.
    English,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Korean => "Korean",
            Self::English => "English",
        })
    }
}

/// One numbered file of an export that KakaoTalk split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What the parts of one export share, for example `2024.5.1 15:12`.
    pub stamp: String,
    /// 1 for the first.
    pub number: u32,
}

/// One chat as one export has it. A file has several when exports were joined into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// The room's name: [`Options::room`](crate::Options::room), else the title without the number of members. None when
    /// the export has no title (some iOS and macOS ones).
    pub title: Option<String>,
    /// The number of members in the title, which Android writes for groups.
    pub members: Option<u32>,
    /// Names the chat whichever platform exported it. None without a title: the caller must then ask for a room.
    pub key: Option<ChatKey>,
    /// Which KakaoTalk wrote it.
    pub platform: Platform,
    /// The interface's language, where the export shows it.
    pub language: Option<Language>,
    /// When the export was made, in Unix milliseconds.
    pub saved_at: Option<i64>,
    /// Which part of a split export this is.
    pub part: Option<Part>,
}
