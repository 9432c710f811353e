//! Text exports: which lines begin a message, and which go on with the one above.
//!
//! A line that does not begin a message belongs to the message above it: the format has no other rule. What a line with
//! a day is, is known only from the line below it, so it is held back until then.

use std::collections::HashSet;

use jiff::civil::{Date, DateTime, Time};

use super::days::{self, Held, Next, Place};
use super::layout::{DayForm, Layout, Shape, When};
use super::notice::{self, Untimed};
use super::preamble::{self, Heading};
use super::{Export, Out, Raw, emit};
use crate::lines::Line;
use crate::report::Why;
use crate::{Kind, Language, Part, Precision};

/// Authors that are remembered to tell notices from text; the largest rooms have a few thousand.
const MOST_AUTHORS: usize = 10_000;

/// Reads a text export.
pub(crate) struct Reader {
    preamble: Preamble,
    /// Known from the first message on.
    layout: Option<Layout>,
    language: Option<Language>,
    /// The day of lines that have only a time.
    day: Option<Date>,
    last: Option<DateTime>,
    open: Option<Open>,
    /// Lines with only a day, one below the other, until what follows shows what they are.
    day_lines: Vec<Held>,
    headings: days::Seen,
    /// A line that is a title, if the date of an export follows it; and its number.
    title_line: Option<(String, u64)>,
    /// The line above was not understood: what continues it is not the text of the message before.
    skipping: bool,
    /// The last line, if the file ended within it.
    cut: bool,
    authors: HashSet<String>,
}

/// What stands above the messages.
#[derive(Default)]
struct Preamble {
    title: Option<String>,
    language: Option<Language>,
    saved_at: Option<DateTime>,
    part: Option<Part>,
    /// Lines that only iOS writes were there.
    ios: bool,
}

/// The message that is being read.
struct Open {
    at: DateTime,
    precision: Precision,
    author: Option<String>,
    text: String,
    line: u64,
    /// Empty lines since the last text: part of it only if more text follows.
    blanks: usize,
    /// Parts already given, because the text is too long for one entry.
    given: u32,
}

impl Reader {
    /// A reader of a file whose name says what is given.
    pub(crate) fn new(title: Option<&str>, part: Option<Part>) -> Self {
        let preamble = Preamble { title: title.map(str::to_owned), part, ..Preamble::default() };
        Self {
            preamble,
            layout: None,
            language: None,
            day: None,
            last: None,
            open: None,
            day_lines: Vec::new(),
            headings: days::Seen::default(),
            title_line: None,
            skipping: false,
            cut: false,
            authors: HashSet::new(),
        }
    }

    pub(crate) fn line(&mut self, line: &Line, out: &mut Out) {
        self.cut = !line.ended;
        let text = line.text.as_str();
        if let Some((title, number)) = self.title_line.take() {
            if let Some(saved) = preamble::saved(text) {
                self.next_export(&title, out);
                self.saved(saved, line.number, text, out);
                out.encoding = Some(line.encoding);
                return;
            }
            self.body(&title, number, out);
        }
        if self.layout.is_none() && self.above(line, out) {
            return;
        }
        if self.layout.is_some() && preamble::heading(text).is_some() && !self.cut {
            self.title_line = Some((text.to_owned(), line.number));
            return;
        }
        self.body(text, line.number, out);
    }

    /// The file is at its end.
    pub(crate) fn end(&mut self, out: &mut Out) {
        if let Some((title, number)) = self.title_line.take() {
            self.body(&title, number, out);
        }
        self.settle_days(Next::End, out);
        self.close(out);
    }

    /// Takes a line above the first message, if it is title or date of the export.
    fn above(&mut self, line: &Line, out: &mut Out) -> bool {
        let text = line.text.as_str();
        if Layout::of(text, false).is_some() {
            return false;
        }
        match preamble::heading(text) {
            Some(heading) => self.heading(heading),
            None => match preamble::saved(text) {
                Some(saved) => self.saved(saved, line.number, text, out),
                None => return false,
            },
        }
        out.encoding = (!text.is_ascii()).then_some(line.encoding).or(out.encoding);
        true
    }

    fn heading(&mut self, heading: Heading<'_>) {
        match heading {
            Heading::Title(title, language) => {
                self.preamble.title = Some(title.to_owned());
                self.preamble.language = Some(language);
            }
            Heading::Part(part) => {
                self.preamble.part = Some(part);
                self.preamble.ios = true;
            }
        }
    }

    fn saved(&mut self, saved: (Language, Option<DateTime>), number: u64, text: &str, out: &mut Out) {
        self.preamble.language.get_or_insert(saved.0);
        self.preamble.saved_at = saved.1;
        if saved.1.is_none() {
            out.note(number, text, Why::SavedDate);
        }
    }

    /// Another export begins in the same file, under this title.
    fn next_export(&mut self, title: &str, out: &mut Out) {
        self.settle_days(Next::End, out);
        self.close(out);
        *self = Self::new(None, None);
        if let Some(heading) = preamble::heading(title) {
            self.heading(heading);
        }
    }

    fn body(&mut self, text: &str, number: u64, out: &mut Out) {
        if text.trim().is_empty() {
            self.blank();
            return;
        }
        let shape = match self.layout {
            Some(layout) => layout.read(text),
            None => Layout::probe(text),
        };
        match shape {
            Shape::Message { author, .. } if author.chars().count() > out.limits.label_chars => {
                self.text(text, number, out);
            }
            Shape::Message { when, author, text: words } => {
                self.begin(text, when, number, out, (Some(author), words));
            }
            Shape::Notice { when, text: words } => self.begin(text, when, number, out, (None, words)),
            Shape::Day { day, form } => self.day(day, form, text, number, out),
            Shape::Impossible => self.not_understood(text, number, Why::NoSuchTime, out),
            Shape::ImpossibleDay => {
                self.not_understood(text, number, Why::NoSuchTime, out);
                self.day = None;
            }
            Shape::Text => self.text(text, number, out),
        }
    }

    fn blank(&mut self) {
        if let Some(held) = self.day_lines.last_mut() {
            held.blanks += 1;
        } else if let Some(open) = &mut self.open {
            open.blanks += 1;
        }
    }

    fn day(&mut self, day: Date, form: DayForm, text: &str, number: u64, out: &mut Out) {
        if form == DayForm::Dashed {
            self.settle_days(Next::End, out);
            self.close(out);
            if self.layout.is_none() {
                self.lock(Layout::Windows, None, out);
            }
            self.day = Some(day);
            self.skipping = false;
            return;
        }
        if self.layout.is_none() {
            self.preamble.ios |= form != DayForm::Timed;
        }
        if self.day_lines.len() >= days::MOST_HELD {
            let first = self.day_lines.remove(0);
            self.typed_day(first, out);
        }
        let above = self.day_lines.last().map(|held| held.blanks).or(self.open.as_ref().map(|open| open.blanks));
        let apart = above.is_none_or(|blanks| blanks > 0);
        let text = text.to_owned();
        self.day_lines.push(Held { day, form, text, number, blanks: 0, apart, ended: !self.cut });
    }

    /// What follows the lines with only a day shows what they are.
    fn settle_days(&mut self, next: Next, out: &mut Out) {
        if self.day_lines.is_empty() {
            return;
        }
        let unread = self.last.filter(|_| self.skipping);
        let above = self.open.as_ref().map(|open| open.at).or(unread).map(|at| at.date());
        let undated = matches!(self.layout, None | Some(Layout::IosTimeOnly));
        let saved = self.preamble.saved_at.map(|at| at.date());
        let place = Place { above, saved, undated, seen: self.headings };
        let verdict = days::judge(std::mem::take(&mut self.day_lines), next, place);
        let end = matches!(next, Next::End | Next::Unknown);
        for held in verdict.text {
            if !held.ended {
                out.unread(held.number, &held.text, Why::CutShort);
                continue;
            }
            let later = above.is_some_and(|above| held.day > above);
            if self.open.is_some() && (matches!(next, Next::Undated) || end && later) {
                out.note(held.number, &held.text, Why::DayAsText);
            }
            self.typed_day(held, out);
        }
        for held in verdict.empty {
            out.note(held.number, &held.text, Why::TextAsDay);
        }
        if let Some(held) = verdict.heading {
            if verdict.doubtful {
                out.note(held.number, &held.text, Why::TextAsDay);
            }
            self.headings.heading(&held, verdict.doubtful, above.is_some());
            self.day = Some(held.day);
        }
    }

    /// A line with only a day that is no heading.
    fn typed_day(&mut self, held: Held, out: &mut Out) {
        if self.open.is_none() && self.layout.is_none() {
            // Nothing but text stands between it and the first message, which may have only a time.
            self.day = Some(held.day);
        }
        self.append(&held.text, held.number, out);
        if let Some(open) = &mut self.open {
            open.blanks += held.blanks;
        }
    }

    /// A message or notice begins.
    fn begin(&mut self, line: &str, when: When, number: u64, out: &mut Out, (author, text): (Option<&str>, &str)) {
        let layout = self.layout.or_else(|| Layout::of(line, self.preamble.ios));
        let next = match when.date {
            Some(date) => Next::Of(date),
            // Windows writes its days between dashes, and those are never held.
            None if layout == Some(Layout::Windows) => Next::Text,
            None => Next::Undated,
        };
        self.settle_days(next, out);
        self.close(out);
        let day = self.day.filter(|_| layout != Some(Layout::Windows) || self.layout.is_some());
        let Some(date) = when.date.or(day) else {
            self.not_understood(line, number, Why::NoDay, out);
            return;
        };
        if self.layout.is_none()
            && let Some(layout) = layout
        {
            self.lock(layout, when.language, out);
        }
        if self.preamble.saved_at.is_some_and(|saved| date > saved.date()) {
            out.note(number, line, Why::AfterExport);
        }
        self.skipping = false;
        let known = |author: &str| self.authors.contains(author) || self.authors.len() >= MOST_AUTHORS;
        if let Some(author) = author.filter(|author| !known(author)) {
            self.authors.insert(author.to_owned());
        }
        let at = date.to_datetime(when.time);
        let precision = if when.seconds { Precision::Second } else { Precision::Minute };
        self.open(at, precision, author, number, line, out);
        self.append(text, number, out);
    }

    fn open(
        &mut self,
        at: DateTime,
        precision: Precision,
        author: Option<&str>,
        number: u64,
        line: &str,
        out: &mut Out,
    ) {
        if self.last.is_some_and(|last| at.date() < last.date()) {
            out.note(number, line, Why::Backwards);
        }
        self.last = Some(at);
        self.open = Some(Open {
            at,
            precision,
            author: author.map(str::to_owned),
            text: String::new(),
            line: number,
            blanks: 0,
            given: 0,
        });
    }

    /// The first message shows the layout, which the export keeps.
    fn lock(&mut self, layout: Layout, language: Option<Language>, out: &mut Out) {
        self.layout = Some(layout);
        // On Windows days and times follow the system's language, which need not be KakaoTalk's.
        self.language = self.preamble.language.or(language.filter(|_| layout != Layout::Windows));
        out.report.looks_like = None;
        let platform = layout.platform();
        let title = self.preamble.title.as_deref();
        let (title, members) = match title {
            Some(title) if platform == crate::Platform::Android => {
                let (title, members) = preamble::without_members(title);
                (Some(title), members)
            }
            title => (title, None),
        };
        out.export(Export {
            title: title.map(str::to_owned),
            members,
            platform,
            language: self.language,
            saved_at: self.preamble.saved_at,
            part: self.preamble.part.clone(),
        });
    }

    fn not_understood(&mut self, line: &str, number: u64, why: Why, out: &mut Out) {
        self.settle_days(Next::Unknown, out);
        self.close(out);
        self.skipping = true;
        out.unread(number, line, why);
    }

    /// A line that begins nothing.
    fn text(&mut self, line: &str, number: u64, out: &mut Out) {
        if self.cut && self.layout.is_some_and(|layout| layout.may_begin(line)) {
            self.settle_days(Next::Unknown, out);
            out.unread(number, line, Why::CutShort);
            return;
        }
        if self.layout == Some(Layout::Windows) && self.untimed(line, number, out) {
            return;
        }
        self.settle_days(Next::Text, out);
        self.append(line, number, out);
    }

    /// Takes a line of a Windows export that has no time as a notice, if it is one.
    fn untimed(&mut self, line: &str, number: u64, out: &mut Out) -> bool {
        let first = self.open.is_none() && !self.skipping;
        match notice::untimed(line, &self.authors) {
            Untimed::Notice => {}
            Untimed::Perhaps => out.note(number, line, Why::UntimedNotice),
            // Right below a day there is no message that it could continue.
            Untimed::Text if first && self.day.is_some() => out.note(number, line, Why::UntimedNotice),
            Untimed::Text => return false,
        }
        let Some(day) = self.day else { return false };
        self.close(out);
        let last = self.last.filter(|last| last.date() == day).map_or(Time::midnight(), |last| last.time());
        self.open(day.to_datetime(last), Precision::Day, None, number, line, out);
        self.append(line.trim(), number, out);
        true
    }

    /// Adds a line to the message that is being read.
    fn append(&mut self, line: &str, number: u64, out: &mut Out) {
        let Some(open) = &mut self.open else {
            self.orphan(line, number, out);
            return;
        };
        if open.line != number {
            open.text.extend(std::iter::repeat_n('\n', open.blanks.min(out.limits.message_chars) + 1));
        }
        open.blanks = 0;
        open.text.push_str(line);
        if open.text.len() > out.limits.message_chars.saturating_mul(4).saturating_add(1 << 16) {
            self.give(out);
        }
    }

    fn orphan(&mut self, line: &str, number: u64, out: &mut Out) {
        if self.skipping {
            out.unread(number, line, Why::ContinuesUnread);
            return;
        }
        if out.report.looks_like.is_none() && self.layout.is_none() {
            out.report.looks_like = preamble::foreign(line);
        }
        let order = preamble::date_order_unknown(line);
        out.unread(number, line, if order { Why::DateOrder } else { Why::BeforeFirstMessage });
    }

    /// Gives what there is of a message so long that it must become several entries, and keeps its last part.
    fn give(&mut self, out: &mut Out) {
        let Some(open) = &mut self.open else { return };
        if open.given == 0 {
            out.note(open.line, &open.text, Why::Split);
        }
        let mut rest = open.text.as_str();
        loop {
            let (head, tail) = super::split(rest, out.limits.message_chars.max(1));
            if tail.is_empty() {
                break;
            }
            open.given += 1;
            let raw = Raw {
                at: open.at,
                precision: open.precision,
                author: open.author.clone(),
                kind: if open.author.is_some() { Kind::Text } else { Kind::Notice },
                text: head.to_owned(),
                part: Some(open.given),
                line: open.line,
            };
            out.entry(raw);
            rest = tail;
        }
        open.text = rest.to_owned();
    }

    /// The message that is being read is complete.
    fn close(&mut self, out: &mut Out) {
        let Some(open) = self.open.take() else { return };
        let mut text = open.text;
        text.truncate(text.trim_end().len());
        let kind = match (open.given, &open.author) {
            (0, Some(_)) => notice::message(&text, self.language),
            (0, None) => notice::kind(&text),
            (_, Some(_)) => Kind::Text,
            (_, None) => Kind::Notice,
        };
        // A line that was pasted looks just so, and would be nobody's notice.
        let timed = open.precision != Precision::Day && self.layout != Some(Layout::Windows);
        if timed && open.given == 0 && kind == Kind::Notice && !notice::other(&text) {
            out.note(open.line, &text, Why::OtherNotice);
        }
        let part = (open.given > 0).then_some(open.given + 1);
        let Open { at, precision, author, line, .. } = open;
        emit(Raw { at, precision, author, kind, text, part, line }, out);
    }
}
