//! Text exports: which lines begin a message, and which go on with the one above.
//!
//! A line that does not begin a message belongs to the message above it: the format has no other rule. What a line with
//! a day is, is known only from the line below it, so it is held back until then.

use std::collections::HashSet;

use jiff::civil::{Date, DateTime, Time};

use super::layout::{Layout, Shape, When};
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
    /// A line that is a day, unless what follows shows that it is text.
    day_line: Option<Held<Date>>,
    /// A line that is a title, if the date of an export follows it.
    title_line: Option<Held<()>>,
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

/// A line of which only the next shows what it is.
struct Held<T> {
    what: T,
    text: String,
    number: u64,
    /// Empty lines since.
    blanks: usize,
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
            day_line: None,
            title_line: None,
            skipping: false,
            cut: false,
            authors: HashSet::new(),
        }
    }

    pub(crate) fn line(&mut self, line: &Line, out: &mut Out) {
        self.cut = !line.ended;
        let text = line.text.as_str();
        if let Some(held) = self.title_line.take() {
            if let Some(saved) = preamble::saved(text) {
                self.next_export(&held.text, out);
                self.saved(saved, line.number, text, out);
                out.encoding = Some(line.encoding);
                return;
            }
            self.body(&held.text, held.number, out);
        }
        if self.layout.is_none() && self.above(line, out) {
            return;
        }
        if self.layout.is_some() && preamble::heading(text).is_some() && !self.cut {
            self.title_line = Some(Held { what: (), text: text.to_owned(), number: line.number, blanks: 0 });
            return;
        }
        self.body(text, line.number, out);
    }

    /// The file is at its end.
    pub(crate) fn end(&mut self, out: &mut Out) {
        if let Some(held) = self.title_line.take() {
            self.body(&held.text, held.number, out);
        }
        self.day_line = None;
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
        self.day_line = None;
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
            Shape::Day { day, sure } => self.day(day, sure, text, number, out),
            Shape::Impossible => self.not_understood(text, number, Why::NoSuchTime, out),
            Shape::ImpossibleDay => {
                self.not_understood(text, number, Why::NoSuchTime, out);
                self.day = None;
            }
            Shape::Text => self.text(text, number, out),
        }
    }

    fn blank(&mut self) {
        if let Some(held) = &mut self.day_line {
            held.blanks += 1;
        } else if let Some(open) = &mut self.open {
            open.blanks += 1;
        }
    }

    fn day(&mut self, day: Date, sure: bool, text: &str, number: u64, out: &mut Out) {
        self.settle_day();
        if self.layout.is_none() {
            self.preamble.ios |= !sure && !text.contains(':');
        }
        if sure {
            self.close(out);
            if self.layout.is_none() {
                self.lock(Layout::Windows, None, out);
            }
            self.day = Some(day);
            self.skipping = false;
        } else {
            self.day_line = Some(Held { what: day, text: text.to_owned(), number, blanks: 0 });
        }
    }

    /// The line that was held back is a day.
    fn settle_day(&mut self) {
        if let Some(held) = self.day_line.take() {
            self.day = Some(held.what);
        }
    }

    /// The line that was held back is text after all, unless there is no message to which it could belong.
    fn unsettle_day(&mut self, out: &mut Out) {
        if self.open.is_none() {
            self.settle_day();
        }
        if let Some(held) = self.day_line.take() {
            self.append(&held.text, held.number, out);
            if let Some(open) = &mut self.open {
                open.blanks += held.blanks;
            }
        }
    }

    /// A message or notice begins.
    fn begin(&mut self, line: &str, when: When, number: u64, out: &mut Out, (author, text): (Option<&str>, &str)) {
        match (&self.day_line, when.date) {
            (Some(held), Some(date)) if held.what != date && self.open.is_some() => self.unsettle_day(out),
            _ => self.settle_day(),
        }
        self.close(out);
        let Some(date) = when.date.or(self.day) else {
            self.not_understood(line, number, Why::NoDay, out);
            return;
        };
        if self.layout.is_none()
            && let Some(layout) = Layout::of(line, self.preamble.ios)
        {
            self.lock(layout, when.language, out);
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
        self.settle_day();
        self.close(out);
        self.skipping = true;
        out.unread(number, line, why);
    }

    /// A line that begins nothing.
    fn text(&mut self, line: &str, number: u64, out: &mut Out) {
        if self.cut && self.layout.is_some_and(|layout| layout.may_begin(line)) {
            out.unread(number, line, Why::CutShort);
            return;
        }
        if self.layout == Some(Layout::Windows) && self.untimed(line, number, out) {
            return;
        }
        self.unsettle_day(out);
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
        self.settle_day();
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
        let part = (open.given > 0).then_some(open.given + 1);
        let Open { at, precision, author, line, .. } = open;
        emit(Raw { at, precision, author, kind, text, part, line }, out);
    }
}
