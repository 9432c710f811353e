//! What an import did and what it could not do.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Chat, Encoding, Entry, Label};

/// What an import did, file by file.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order in which they were read.
    pub files: Vec<FileReport>,
}

/// What one file gave.
#[derive(Debug, Clone)]
pub struct FileReport {
    /// The file's name without its folder.
    pub name: String,
    /// Bytes read.
    pub bytes: u64,
    /// Lines read.
    pub lines: u64,
    /// How its text is encoded.
    pub encoding: Encoding,
    /// The chats in it, in order. Empty when nothing in it was understood.
    pub chats: Vec<Chat>,
    /// Entries given, by [`Kind::name`](crate::Kind::name).
    pub entries: BTreeMap<&'static str, u64>,
    /// Entries that were in an earlier part of this import too and were therefore not given again.
    pub repeated: u64,
    /// Entries given, by author. A label that is gone, and one that is new, may be one person who was renamed.
    pub authors: BTreeMap<Label, u64>,
    /// Lines that are not imported, because they were not understood.
    pub unread: Problems,
    /// Lines that are imported, but about which there is something to know.
    pub notes: Problems,
    /// The language that the file seems to be in, when that is why nothing was understood.
    pub looks_like: Option<&'static str>,
}

impl FileReport {
    pub(crate) fn new(name: String, encoding: Encoding, listed: usize) -> Self {
        Self {
            name,
            bytes: 0,
            lines: 0,
            encoding,
            chats: Vec::new(),
            entries: BTreeMap::new(),
            repeated: 0,
            authors: BTreeMap::new(),
            unread: Problems::new(listed),
            notes: Problems::new(listed),
            looks_like: None,
        }
    }

    pub(crate) fn count(&mut self, entry: &Entry) {
        *self.entries.entry(entry.kind.name()).or_default() += 1;
        if let Some(author) = &entry.author {
            if let Some(count) = self.authors.get_mut(author) {
                *count += 1;
            } else if self.authors.len() < 10_000 {
                self.authors.insert(author.clone(), 1);
            }
        }
    }

    /// Whether the file gave a chat at all.
    #[must_use]
    pub fn understood(&self) -> bool {
        !self.chats.is_empty()
    }
}

/// Problems of one file: the first of them, and how many there were.
#[derive(Debug, Clone)]
pub struct Problems {
    /// The first ones, at most [`Limits::listed_problems`](crate::Limits::listed_problems).
    pub listed: Vec<Problem>,
    /// How many there were.
    pub total: u64,
    limit: usize,
}

impl Problems {
    fn new(limit: usize) -> Self {
        Self { listed: Vec::new(), total: 0, limit }
    }

    pub(crate) fn add(&mut self, line: u64, text: &str, why: Why) {
        self.total += 1;
        if self.listed.len() < self.limit {
            let mut shown: String = text.chars().take(80).collect();
            if shown.len() < text.len() {
                shown.push('…');
            }
            self.listed.push(Problem { line, text: shown, why });
        }
    }
}

/// One line about which there is something to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line in the file, from 1.
    pub line: u64,
    /// The line's first 80 characters.
    pub text: String,
    /// What is the matter.
    pub why: Why,
}

/// What is the matter with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It stands before the first message and is neither title nor date.
    BeforeFirstMessage,
    /// It has the shape of a message's first line, but there is no such day or time.
    NoSuchTime,
    /// Its date is written as numbers whose order (day or month first) cannot be known.
    DateOrder,
    /// It gives a time without a day, and no day was named before.
    NoDay,
    /// It continues a line that was not understood.
    ContinuesUnread,
    /// The file ends within it, before the line was complete.
    CutShort,
    /// A row without three columns, or with a quotation mark in the wrong place.
    BadRow,
    /// It is longer than a line may be; the rest is left out.
    LineTooLong,
    /// Bytes in it are no text in the file's encoding; each stands as `\u{fffd}`.
    BadBytes,
    /// It is encoded differently from the rest of the file.
    OtherEncoding,
    /// It has control characters; they are left out.
    ControlCharacters,
    /// Its message is too long for one entry; it became several.
    Split,
    /// Its day is before that of what stands above it.
    Backwards,
    /// The clocks were put forward over its time, which therefore never was.
    ClockGap,
    /// The clocks were put back over its time; it is taken as the first of the two.
    ClockOverlap,
    /// It has the words of a notice but no time, and names nobody who wrote before; it may be a message's text.
    UntimedNotice,
    /// It has a time but no author, and says nothing that KakaoTalk is known to say; it may be a message's text.
    OtherNotice,
    /// It is a day and taken as that of the messages below; it may be a message's text.
    TextAsDay,
    /// It is a day and taken as a message's text; it may be that of the messages below.
    DayAsText,
    /// Its day is after that on which the export was made; it may be a message's text.
    AfterExport,
    /// The file does not end with a line break; its last message may be cut.
    NoLineBreakAtEnd,
    /// The date of the export is in no known shape.
    SavedDate,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeFirstMessage => "before the first message",
            Self::NoSuchTime => "no such day or time",
            Self::DateOrder => "day and month cannot be told apart",
            Self::NoDay => "no day was named before it",
            Self::ContinuesUnread => "continues a line that was not understood",
            Self::CutShort => "the file ends within this line",
            Self::BadRow => "not a row of three columns",
            Self::LineTooLong => "line too long; the rest is left out",
            Self::BadBytes => "bytes that are not text",
            Self::OtherEncoding => "encoded differently from the rest",
            Self::ControlCharacters => "control characters left out",
            Self::Split => "message too long for one entry; split",
            Self::Backwards => "on an earlier day than the one above",
            Self::ClockGap => "a local time that never was",
            Self::ClockOverlap => "a local time that was twice; taken as the first",
            Self::UntimedNotice => "taken as a notice; may be text",
            Self::OtherNotice => "a notice of unknown words; may be text",
            Self::TextAsDay => "taken as a day; may be text",
            Self::DayAsText => "taken as text; may be a day",
            Self::AfterExport => "later than the export; may be text",
            Self::NoLineBreakAtEnd => "no line break at the end; the last message may be cut",
            Self::SavedDate => "date of the export not understood",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.iter().try_for_each(|file| write!(f, "{file}"))
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} lines, {} bytes, {}", self.name, self.lines, self.bytes, self.encoding)?;
        for chat in &self.chats {
            write!(f, "  chat {:?} from {}", chat.title.as_deref().unwrap_or("(no title)"), chat.platform)?;
            writeln!(f, "{}", chat.language.map(|language| format!(", {language}")).unwrap_or_default())?;
        }
        if !self.understood() {
            let language = self.looks_like.map(|language| format!("; it looks like {language}")).unwrap_or_default();
            writeln!(f, "  not a chat that KakaoTalk exports in Korean or English{language}")?;
        }
        for (kind, count) in &self.entries {
            writeln!(f, "  {count} {kind}")?;
        }
        if self.repeated > 0 {
            writeln!(f, "  {} repeated, given once", self.repeated)?;
        }
        list(f, "not imported", &self.unread)?;
        list(f, "to know", &self.notes)
    }
}

fn list(f: &mut fmt::Formatter<'_>, heading: &str, problems: &Problems) -> fmt::Result {
    if problems.total > 0 {
        writeln!(f, "  {heading}: {}", problems.total)?;
    }
    for problem in &problems.listed {
        writeln!(f, "    line {}: {}: {:?}", problem.line, problem.why, problem.text)?;
    }
    let more = problems.total.saturating_sub(problems.listed.len() as u64);
    if more > 0 {
        writeln!(f, "    and {more} more")?;
    }
    Ok(())
}
