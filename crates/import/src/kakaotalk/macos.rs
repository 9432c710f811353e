//! Exports of KakaoTalk for macOS: CSV, the same in every language.
//!
//! ```text
//! Date,User,Message
//! 2024-05-01 15:12:10,"거래처","안녕하세요"
//! 2024-05-01 15:12:40,"나","""내일""까지 가능할까요?
//! 네"
//! ```
//!
//! Quotation marks are trusted while they make sense. A row in which they do not (one behind a closing mark that is
//! neither comma nor end, or no end within [`ROW_BYTES`]) is reported, and reading goes on at the next line that begins
//! like a row. That reads lines again, but never more of them than were read for the first time: what is read again is
//! paid for from a [credit](Reader::credit), and without credit each row must end on its own line.

use std::collections::VecDeque;

use ieum_planted::Bug;
use jiff::civil::DateTime;

use super::date;
use super::notice;
use super::scan::Scan;
use super::{Export, Out, Raw, emit};
use crate::lines::Line;
use crate::report::Why;
use crate::{Kind, Platform, Precision};

/// A row does not grow beyond this: KakaoTalk's messages are far shorter.
const ROW_BYTES: usize = 256 * 1024;

/// Whether this is the line of column names.
pub(crate) fn is_heading(line: &str) -> bool {
    let bare: String = line.chars().filter(|c| !matches!(c, '"' | ' ')).collect();
    bare.eq_ignore_ascii_case("Date,User,Message")
}

/// Whether a line begins like a row: a day and time, then a comma.
pub(crate) fn begins_row(line: &str) -> bool {
    let mut scan = Scan::new(line);
    scan.maybe("\"");
    if date::moment(&mut scan).is_none() {
        return false;
    }
    scan.maybe("\"");
    scan.lit(",").is_some()
}

/// Reads a CSV export.
pub(crate) struct Reader {
    title: Option<String>,
    /// The export was announced to the caller.
    announced: bool,
    /// Lines of a row whose quotation marks are still open.
    row: VecDeque<(u64, String)>,
    parser: Parser,
    row_bytes: usize,
    /// The last line that was read at all: lines up to it are read again.
    newest: u64,
    /// Bytes that may still be read again. Each line adds its own when it is read first.
    credit: usize,
    #[cfg(test)]
    work: usize,
    last: Option<DateTime>,
    cut: bool,
}

/// The columns of one row, as far as its lines were read. Keeps its state from line to line, so that each is read once.
#[derive(Debug, Default)]
struct Parser {
    done: Vec<String>,
    field: String,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A column begins.
    #[default]
    Begin,
    /// In a column without quotation marks.
    Bare,
    /// In a column with quotation marks.
    Quoted,
    /// Behind a quotation mark in such a column: its end, or the first half of a doubled mark.
    Mark,
}

/// Where a line left a row.
enum Step {
    Done(Vec<String>),
    Open,
    Bad,
}

impl Parser {
    fn line(&mut self, line: &str) -> Step {
        for c in line.chars() {
            let next = match (self.state, c) {
                (State::Begin, '"') => State::Quoted,
                (State::Begin | State::Bare | State::Mark, ',') => {
                    self.done.push(std::mem::take(&mut self.field));
                    State::Begin
                }
                (State::Begin, _) => {
                    self.field.push(c);
                    State::Bare
                }
                (State::Quoted, '"') => State::Mark,
                (State::Mark, '"') => {
                    self.field.push('"');
                    State::Quoted
                }
                (State::Mark, c) if c.is_whitespace() => State::Mark,
                (State::Mark, _) => return Step::Bad,
                (State::Bare | State::Quoted, _) => {
                    self.field.push(c);
                    self.state
                }
            };
            self.state = next;
        }
        if self.state == State::Quoted {
            self.field.push('\n');
            return Step::Open;
        }
        let mut fields = std::mem::take(self).finish();
        fields.iter_mut().for_each(|field| field.truncate(field.trim_end().len()));
        Step::Done(fields)
    }

    fn finish(mut self) -> Vec<String> {
        self.done.push(self.field);
        self.done
    }
}

impl Reader {
    /// A reader of a file whose name gives this title.
    pub(crate) fn new(title: Option<&str>) -> Self {
        Self {
            title: title.map(str::to_owned),
            announced: false,
            row: VecDeque::new(),
            parser: Parser::default(),
            row_bytes: 0,
            newest: 0,
            credit: ROW_BYTES,
            #[cfg(test)]
            work: 0,
            last: None,
            cut: false,
        }
    }

    pub(crate) fn line(&mut self, line: Line, out: &mut Out) {
        self.cut = !line.ended;
        let mut lines = VecDeque::from([(line.number, line.text)]);
        while let Some((number, text)) = lines.pop_front() {
            if let Some(again) = self.step(number, text, out) {
                again.into_iter().rev().for_each(|line| lines.push_front(line));
            }
        }
    }

    /// The file is at its end. A row that is still open swallowed the rows below it, or was cut.
    pub(crate) fn end(&mut self, out: &mut Out) {
        while !self.row.is_empty() {
            if self.row.iter().skip(1).any(|(_, text)| begins_row(text)) {
                let mut lines = self.resume(out);
                while let Some((number, text)) = lines.pop_front() {
                    if let Some(again) = self.step(number, text, out) {
                        again.into_iter().rev().for_each(|line| lines.push_front(line));
                    }
                }
                continue;
            }
            let mut fields = std::mem::take(&mut self.parser).finish();
            fields.iter_mut().for_each(|field| field.truncate(field.trim_end().len()));
            let rows: Vec<(u64, String)> = self.row.drain(..).collect();
            if let Some((number, text)) = rows.into_iter().next() {
                if fields.len() == 3 {
                    out.note(number, &text, Why::CutShort);
                    self.give(number, &text, fields, out);
                } else {
                    out.unread(number, &text, Why::CutShort);
                }
            }
        }
    }

    /// Reads one line; gives back lines that must be read again.
    fn step(&mut self, number: u64, text: String, out: &mut Out) -> Option<VecDeque<(u64, String)>> {
        if self.row.is_empty() {
            if text.trim().is_empty() {
                return None;
            }
            if is_heading(&text) {
                self.announced = false;
                self.last = None;
                return None;
            }
            if !begins_row(&text) {
                let why = if self.cut { Why::CutShort } else { Why::BadRow };
                out.unread(number, &text, why);
                return None;
            }
            self.parser = Parser::default();
            self.row_bytes = 0;
        }
        if number > self.newest {
            self.newest = number;
            self.credit = self.credit.saturating_add(text.len());
        }
        let step = self.parser.line(&text);
        #[cfg(test)]
        {
            self.work += text.len();
        }
        self.row_bytes += text.len();
        self.row.push_back((number, text));
        match step {
            Step::Open if self.row_bytes <= ROW_BYTES.min(self.credit) => None,
            Step::Open if self.row_bytes <= ROW_BYTES && Bug::ImportReadsAgain.planted() => None,
            Step::Open | Step::Bad => Some(self.resume(out)),
            Step::Done(fields) => {
                let rows: Vec<(u64, String)> = self.row.drain(..).collect();
                if let Some((number, text)) = rows.into_iter().next() {
                    self.give(number, &text, fields, out);
                }
                None
            }
        }
    }

    /// Reports the row's lines up to the next that begins like a row; the rest must be read again.
    fn resume(&mut self, out: &mut Out) -> VecDeque<(u64, String)> {
        self.parser = Parser::default();
        self.credit = self.credit.saturating_sub(self.row_bytes);
        if let Some((number, text)) = self.row.pop_front() {
            out.unread(number, &text, Why::BadRow);
        }
        while let Some((number, text)) = self.row.pop_front() {
            if begins_row(&text) {
                self.row.push_front((number, text));
                break;
            }
            out.unread(number, &text, Why::ContinuesUnread);
        }
        std::mem::take(&mut self.row)
    }

    fn give(&mut self, number: u64, line: &str, fields: Vec<String>, out: &mut Out) {
        let Ok([date, user, text]) = <[String; 3]>::try_from(fields) else {
            out.unread(number, line, if self.cut { Why::CutShort } else { Why::BadRow });
            return;
        };
        let mut scan = Scan::new(date.trim());
        let found = date::moment(&mut scan).and_then(|(day, clock)| {
            let at = day.civil()?.to_datetime(clock.civil()?);
            // A spreadsheet that saved the file again leaves the seconds out.
            Some((at, if clock.has_seconds() { Precision::Second } else { Precision::Minute }))
        });
        let Some((at, precision)) = found.filter(|_| scan.at_end()) else {
            out.unread(number, line, Why::NoSuchTime);
            return;
        };
        if !self.announced {
            self.announced = true;
            out.export(Export {
                title: self.title.clone(),
                members: None,
                platform: Platform::Macos,
                language: None,
                saved_at: None,
                part: None,
            });
        }
        if self.last.is_some_and(|last| at.date() < last.date()) {
            out.note(number, line, Why::Backwards);
        }
        self.last = Some(at);
        let (author, kind) = author_and_kind(user.trim(), &text);
        emit(Raw { at, precision, author, kind, text, part: None, line: number }, out);
    }
}

/// A row without a user is a notice; so is one that says of its own user what only KakaoTalk says.
fn author_and_kind(user: &str, text: &str) -> (Option<String>, Kind) {
    let notice = notice::kind(text);
    let of_user = match &notice {
        Kind::Joined { who } | Kind::Left { who } => who.as_str() == user,
        Kind::Invited { by, .. } => by.as_str() == user,
        Kind::Removed { by, who } => by.as_ref().is_some_and(|by| by.as_str() == user) || who.as_str() == user,
        _ => false,
    };
    if user.is_empty() || of_user && !text.contains('\n') {
        return (None, notice);
    }
    (Some(user.to_owned()), notice::message(text, None))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]
mod tests {
    use super::*;
    use crate::kakaotalk::Found;
    use crate::report::FileReport;
    use crate::{Encoding, Limits};

    /// Bytes that are read, bytes that are there, and what becomes of them.
    fn read(lines: impl Iterator<Item = String>) -> (usize, usize, Out) {
        let report = FileReport::new("a.csv".into(), Encoding::Utf8, 10);
        let mut out = Out { found: VecDeque::new(), report, limits: Limits::default(), encoding: None };
        let mut reader = Reader::new(None);
        let mut bytes = 0;
        for (number, text) in (1..).zip(lines) {
            bytes += text.len();
            let (encoding, flaws) = (Encoding::Utf8, crate::lines::Flaws::default());
            reader.line(Line { text, number, ended: true, encoding, flaws }, &mut out);
        }
        reader.end(&mut out);
        (reader.work, bytes, out)
    }

    #[test]
    fn marks_that_stay_open_cost_no_more_than_twice_the_file() {
        const OPEN: &str = "2024-05-01 15:12:10,b\",\"\"\"";
        const PLAIN: &str = "2024-05-01 15:12:10,b,hi";
        let files = [[OPEN, OPEN, OPEN], [OPEN, PLAIN, PLAIN], [OPEN, OPEN, PLAIN]];
        for (count, lines) in [2_000, 16_000].into_iter().flat_map(|count| files.map(|lines| (count, lines))) {
            let (work, bytes, out) = read(lines.iter().cycle().take(count).map(|line| (*line).to_owned()));
            assert!(work <= 2 * bytes + ROW_BYTES, "{bytes} bytes cost {work}: {lines:?}");
            let given = out.found.iter().filter(|found| matches!(found, Found::Entry(_))).count() as u64;
            assert_eq!(given + out.report.unread.total, count as u64, "each line is given or reported");
        }
    }

    #[test]
    fn one_mark_that_stays_open_takes_only_its_own_row() {
        let rows = (0..20_000).map(|row| format!("2024-05-01 15:12:10,b,row {row}"));
        let (_, _, out) = read(std::iter::once("2024-05-01 15:12:10,b,\"".to_owned()).chain(rows));
        let given = out.found.iter().filter(|found| matches!(found, Found::Entry(_))).count();
        assert_eq!((given, out.report.unread.total), (20_000, 1));
        let many = "2024-05-01 15:12:10,\"b\",\"first\nsecond\nthird\"";
        let (_, _, out) = read(many.lines().map(str::to_owned));
        assert_eq!((out.found.len(), out.report.unread.total), (2, 0));
    }
}
