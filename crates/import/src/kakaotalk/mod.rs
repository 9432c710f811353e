//! Reading what KakaoTalk exports. One file per platform; what they share is beside them.
//!
//! ```text
//! lines ──► text (Android, iOS, Windows) ─┐
//!       └─► macos (CSV) ──────────────────┴─► Found: exports, entries ──► import: zone, labels, keys
//! ```

mod android;
mod date;
mod days;
mod ios;
mod layout;
mod macos;
mod notice;
mod preamble;
mod scan;
mod text;
mod windows;

use std::collections::VecDeque;

use jiff::civil::DateTime;

use crate::lines::Line;
use crate::report::{FileReport, Why};
use crate::{Encoding, Kind, Language, Limits, Part, Platform, Precision};

pub(crate) use preamble::{part, title_of_file};

/// The beginning of an export in a file.
#[derive(Debug, Clone)]
pub(crate) struct Export {
    pub(crate) title: Option<String>,
    pub(crate) members: Option<u32>,
    pub(crate) platform: Platform,
    pub(crate) language: Option<Language>,
    pub(crate) saved_at: Option<DateTime>,
    pub(crate) part: Option<Part>,
}

/// An entry as the file has it: local time, labels as written.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) at: DateTime,
    pub(crate) precision: Precision,
    pub(crate) author: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) part: Option<u32>,
    pub(crate) line: u64,
}

/// What reading a line found.
#[derive(Debug)]
pub(crate) enum Found {
    Export(Box<Export>),
    Entry(Box<Raw>),
}

/// Where readers put what they find.
pub(crate) struct Out {
    pub(crate) found: VecDeque<Found>,
    pub(crate) report: FileReport,
    pub(crate) limits: Limits,
    /// The encoding of a title that was just read: the export below it has the same.
    pub(crate) encoding: Option<Encoding>,
}

impl Out {
    fn unread(&mut self, line: u64, text: &str, why: Why) {
        self.report.unread.add(line, text, why);
    }

    pub(crate) fn note(&mut self, line: u64, text: &str, why: Why) {
        self.report.notes.add(line, text, why);
    }

    fn entry(&mut self, raw: Raw) {
        self.found.push_back(Found::Entry(Box::new(raw)));
    }

    fn export(&mut self, export: Export) {
        self.found.push_back(Found::Export(Box::new(export)));
    }
}

/// Reads one file, line by line.
pub(crate) enum Reader {
    /// Nothing but empty lines so far.
    Unknown {
        name: String,
    },
    Text(Box<text::Reader>),
    Csv(Box<macos::Reader>),
}

impl Reader {
    /// A reader of the file of this name.
    pub(crate) fn new(name: &str) -> Self {
        Self::Unknown { name: name.to_owned() }
    }

    pub(crate) fn line(&mut self, line: Line, out: &mut Out) {
        if let Self::Unknown { name } = self {
            if line.text.trim().is_empty() {
                return;
            }
            let part = part(name);
            *self = if macos::is_heading(&line.text) || macos::begins_row(&line.text) {
                Self::Csv(Box::new(macos::Reader::new(title_of_file(name))))
            } else {
                Self::Text(Box::new(text::Reader::new(title_of_file(name), part)))
            };
        }
        match self {
            Self::Unknown { .. } => {}
            Self::Text(reader) => reader.line(&line, out),
            Self::Csv(reader) => reader.line(line, out),
        }
    }

    /// The file is at its end.
    pub(crate) fn end(&mut self, out: &mut Out) {
        match self {
            Self::Unknown { .. } => {}
            Self::Text(reader) => reader.end(out),
            Self::Csv(reader) => reader.end(out),
        }
    }
}

/// Puts an entry out, in parts if its text is too long for one. Returns the number of the last part.
fn emit(raw: Raw, out: &mut Out) {
    let limit = out.limits.message_chars.max(1);
    if raw.text.len() <= limit || raw.text.chars().count() <= limit {
        out.entry(raw);
        return;
    }
    let first = raw.part.unwrap_or(1);
    if first == 1 {
        out.note(raw.line, &raw.text, Why::Split);
    }
    let mut rest = raw.text.as_str();
    let mut part = first;
    while !rest.is_empty() {
        let (head, tail) = split(rest, limit);
        rest = tail;
        out.entry(Raw {
            at: raw.at,
            precision: raw.precision,
            author: raw.author.clone(),
            kind: raw.kind.clone(),
            text: head.to_owned(),
            part: Some(part),
            line: raw.line,
        });
        part += 1;
    }
}

/// The first at most `limit` characters, if possible up to a line break in their second half, and the rest.
fn split(text: &str, limit: usize) -> (&str, &str) {
    let Some((end, _)) = text.char_indices().nth(limit) else { return (text, "") };
    let (head, tail) = text.split_at_checked(end).unwrap_or((text, ""));
    match head.rfind('\n') {
        Some(at) if at >= end / 2 => {
            let (head, _) = head.split_at_checked(at).unwrap_or((head, ""));
            (head, text.get(at + 1..).unwrap_or(tail))
        }
        _ => (head, tail),
    }
}
