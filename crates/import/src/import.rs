//! Reads the files of one import, one after the other, into entries with instants, labels and keys.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;

use crate::kakaotalk::{self, Export, Found, Out, Raw, Reader};
use crate::key::{Occurrences, Parts};
use crate::lines::{Content, Lines};
use crate::options::Clarity;
use crate::report::{FileReport, Why};
use crate::{Chat, ChatKey, Entry, Error, Kind, Label, Limits, Options, Part, Report, chat_key};

/// What an import gives, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The entries that follow, up to the next of these, are of this chat.
    Chat(Chat),
    /// The next entry.
    Entry(Entry),
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read of all files.
    pub read: u64,
    /// Bytes of all files; for a source of unknown length, what was read of it.
    pub total: u64,
}

/// Something to read an export from.
pub struct Source {
    name: String,
    bytes: u64,
    from: From,
}

enum From {
    File(PathBuf),
    Reader(Box<dyn Read + Send>),
}

impl Source {
    /// The file at this path; it is opened when its turn comes.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] when there is no such file.
    pub fn file(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, bytes, from: From::File(path.to_owned()) })
    }

    /// Anything that can be read, under a file's name.
    #[must_use]
    pub fn reader(name: &str, bytes: u64, reader: impl Read + Send + 'static) -> Self {
        Self { name: name.to_owned(), bytes, from: From::Reader(Box::new(reader)) }
    }

    /// The time of a file's first entry, if its beginning shows one. A fault is reported when the file's turn comes.
    fn first_time(&self, limits: Limits) -> Option<DateTime> {
        let From::File(path) = &self.from else { return None };
        let head = File::open(path).ok()?.take(HEAD);
        let mut lines = Lines::new(head, limits.line_bytes).ok().filter(|lines| lines.content == Content::Text)?;
        let report = FileReport::new(self.name.clone(), lines.encoding, 0);
        let mut out = Out { found: VecDeque::new(), report, limits, encoding: None };
        let mut reader = Reader::new(&self.name);
        loop {
            let line = lines.next().ok()?;
            let end = line.is_none();
            match line {
                Some(line) => reader.line(line, &mut out),
                None => reader.end(&mut out),
            }
            let first = out.found.drain(..).find_map(|found| match found {
                Found::Entry(raw) => Some(raw.at),
                Found::Export(_) => None,
            });
            if first.is_some() || end {
                return first;
            }
        }
    }
}

/// One import: give it files, take events until there are none, then ask for the report.
///
/// Needs memory for one message and for 24 bytes per entry, to know repeated ones; not for the files.
pub struct Import {
    options: Options,
    sources: VecDeque<Source>,
    current: Option<Current>,
    rooms: HashMap<Room, Occurrences>,
    room: Option<Room>,
    /// The part that was read last and its room: the next part of the same export continues the counting there.
    part: Option<(Part, Room)>,
    files: Vec<FileReport>,
    progress: Progress,
    listener: Option<Box<dyn FnMut(Progress) + Send>>,
}

/// The file that is being read.
struct Current {
    lines: Lines<Box<dyn Read + Send>>,
    reader: Reader,
    out: Out,
    name: String,
    /// Bytes of the files before, and of this one as announced.
    before: u64,
    bytes: u64,
    reported: u64,
    done: bool,
}

/// Where identical entries are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Room {
    Known(ChatKey),
    /// Without a title, nothing says that another file is of the same chat.
    Untitled(usize),
}

/// Bytes of a file that are looked at to know when it begins.
const HEAD: u64 = 64 * 1024;

/// Bytes between two reports of progress.
const STRIDE: u64 = 256 * 1024;

impl Import {
    /// An import of these files. Parts of one export (`Talk_…-1.txt`, `Talk_…-2.txt`, …) are read in their order, and
    /// exports in that of their first entries.
    ///
    /// # Errors
    ///
    /// No file, too many, or one that is not there.
    pub fn open<P: AsRef<Path>>(paths: &[P], options: Options) -> Result<Self, Error> {
        check(paths.len(), &options)?;
        let sources = paths.iter().map(|path| Source::file(path.as_ref())).collect::<Result<Vec<_>, _>>()?;
        Self::of(sources, options)
    }

    /// An import of these sources. Those that are no files are read where they stand: they can be read only once.
    ///
    /// # Errors
    ///
    /// No source, or too many.
    pub fn of(mut sources: Vec<Source>, options: Options) -> Result<Self, Error> {
        check(sources.len(), &options)?;
        order_parts(&mut sources);
        let sources = order_exports(sources, options.limits);
        let total = sources.iter().map(|source| source.bytes).sum();
        Ok(Self {
            options,
            sources,
            current: None,
            rooms: HashMap::new(),
            room: None,
            part: None,
            files: Vec::new(),
            progress: Progress { read: 0, total },
            listener: None,
        })
    }

    /// Calls `listener` as reading goes on, about every 256 KiB, and at each file's end.
    #[must_use]
    pub fn on_progress(mut self, listener: impl FnMut(Progress) + Send + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The next chat or entry, or none at the end. After an error the next file follows.
    ///
    /// # Errors
    ///
    /// A file cannot be opened or read, or is none of text.
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let Some(current) = &mut self.current else {
                let Some(source) = self.sources.pop_front() else { return Ok(None) };
                self.current = Some(self.start(source)?);
                continue;
            };
            match current.out.found.pop_front() {
                Some(Found::Export(export)) => return Ok(Some(Event::Chat(self.chat(*export)))),
                Some(Found::Entry(raw)) => {
                    if let Some(entry) = self.entry(*raw) {
                        return Ok(Some(Event::Entry(entry)));
                    }
                }
                None if current.done => self.finish_file(),
                None => {
                    let step = current.step();
                    if step.is_err() {
                        self.finish_file();
                    }
                    step?;
                    self.tell(false);
                }
            }
        }
    }

    /// What was and was not imported so far; complete when [`Self::next_event`] has given none.
    #[must_use]
    pub fn report(&self) -> Report {
        let current = self.current.as_ref().map(|current| current.out.report.clone());
        Report { files: self.files.iter().cloned().chain(current).collect() }
    }

    fn start(&mut self, source: Source) -> Result<Current, Error> {
        let Source { name, bytes, from } = source;
        let reader: Box<dyn Read + Send> = match from {
            From::File(path) => match File::open(&path) {
                Ok(file) => Box::new(file),
                Err(source) => return Err(Error::Open { path, source }),
            },
            From::Reader(reader) => reader,
        };
        let limits = self.options.limits;
        let lines =
            Lines::new(reader, limits.line_bytes).map_err(|source| Error::Read { name: name.clone(), source })?;
        match lines.content {
            Content::Text => {}
            Content::Utf16 => return Err(Error::Utf16 { name }),
            Content::Zip => return Err(Error::Zip { name }),
        }
        self.room = None;
        let report = FileReport::new(name.clone(), lines.encoding, limits.listed_problems);
        let out = Out { found: VecDeque::new(), report, limits, encoding: None };
        let reader = Reader::new(&name);
        Ok(Current { lines, reader, out, name, before: self.progress.read, bytes, reported: 0, done: false })
    }

    fn finish_file(&mut self) {
        self.tell(true);
        if let Some(current) = self.current.take() {
            self.files.push(current.out.report);
        }
    }

    fn tell(&mut self, end: bool) {
        let Some(current) = &mut self.current else { return };
        let read = current.lines.bytes();
        self.progress.read = current.before + read;
        if end {
            // The file may have grown or shrunk since it was counted.
            self.progress.total = self.progress.total.saturating_sub(current.bytes) + read;
        }
        self.progress.total = self.progress.total.max(self.progress.read);
        if end || read - current.reported >= STRIDE {
            current.reported = read;
            if let Some(listener) = &mut self.listener {
                listener(self.progress);
            }
        }
    }

    fn chat(&mut self, export: Export) -> Chat {
        let title = self.options.room.clone().or(export.title);
        let key = title.as_deref().map(chat_key);
        let continued = match (&self.part, &export.part) {
            (Some((last, room)), Some(next)) if last.stamp == next.stamp && last.number + 1 == next.number => {
                Some(*room)
            }
            _ => None,
        };
        let untitled = || continued.unwrap_or(Room::Untitled(self.files.len()));
        let room = key.map_or_else(untitled, Room::Known);
        let occurrences = self.rooms.entry(room).or_default();
        if continued != Some(room) {
            occurrences.next_export();
        }
        self.room = Some(room);
        self.part = export.part.clone().map(|part| (part, room));
        let chat = Chat {
            title,
            members: export.members,
            key,
            platform: export.platform,
            language: export.language,
            saved_at: export.saved_at.and_then(|at| self.options.zone.instant(at)).map(|(at, _)| at),
            part: export.part,
        };
        if let Some(current) = &mut self.current {
            current.out.report.chats.push(chat.clone());
        }
        chat
    }

    /// None for an entry that an earlier export of this import gave.
    fn entry(&mut self, raw: Raw) -> Option<Entry> {
        let Raw { at, precision, author, kind, text, part, line } = raw;
        let out = &mut self.current.as_mut()?.out;
        let Some((time, clarity)) = self.options.zone.instant(at) else {
            out.report.unread.add(line, &text, Why::NoSuchTime);
            return None;
        };
        match clarity {
            Clarity::Exact => {}
            Clarity::Gap => out.note(line, &at.to_string(), Why::ClockGap),
            Clarity::Overlap => out.note(line, &at.to_string(), Why::ClockOverlap),
        }
        let author = author.map(|author| alias(&self.options, Label::new(&author)));
        let kind = aliased(&self.options, kind);
        let day = || self.options.zone.instant(at.date().to_datetime(jiff::civil::Time::midnight()));
        let key_time = if precision == crate::Precision::Day { day().map_or(time, |(day, _)| day) } else { time };
        let parts = Parts { time: key_time, precision, author: author.as_ref(), kind: &kind, text: &text, line };
        let (key, repeated) = self.rooms.entry(self.room?).or_default().key(&parts);
        if repeated {
            out.report.repeated += 1;
            return None;
        }
        let entry = Entry { key, time, precision, author, kind, text, part, line };
        out.report.count(&entry);
        Some(entry)
    }
}

impl Iterator for Import {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_event().transpose()
    }
}

impl Current {
    /// Reads one line.
    fn step(&mut self) -> Result<(), Error> {
        let line = self.lines.next().map_err(|source| Error::Read { name: self.name.clone(), source });
        let Some(line) = line? else {
            self.out.report.bytes = self.lines.bytes();
            self.reader.end(&mut self.out);
            self.done = true;
            return Ok(());
        };
        self.out.report.bytes = self.lines.bytes();
        self.out.report.lines = line.number;
        let other = line.encoding != self.lines.encoding && !line.text.is_ascii();
        for (flaw, why) in [
            (line.flaws.bad_bytes, Why::BadBytes),
            (line.flaws.controls, Why::ControlCharacters),
            (line.flaws.too_long, Why::LineTooLong),
            (other, Why::OtherEncoding),
            (!line.ended, Why::NoLineBreakAtEnd),
        ] {
            if flaw {
                self.out.note(line.number, &line.text, why);
            }
        }
        self.reader.line(line, &mut self.out);
        if let Some(encoding) = self.out.encoding.take() {
            self.lines.encoding = encoding;
        }
        Ok(())
    }
}

fn check(given: usize, options: &Options) -> Result<(), Error> {
    let limit = options.limits.files;
    match given {
        0 => Err(Error::NoFile),
        given if given > limit => Err(Error::TooManyFiles { given, limit }),
        _ => Ok(()),
    }
}

/// Puts the parts of one export in order where the first of them stands; everything else stays where it is.
fn order_parts(sources: &mut [Source]) {
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut place = 0;
    sources.sort_by_cached_key(|source| {
        place += 1;
        match kakaotalk::part(&source.name) {
            Some(part) => (*first.entry(part.stamp).or_insert(place), part.number),
            None => (place, 0),
        }
    });
}

/// Puts exports in the order of their first entries, so that what is older comes first in the archive too. Parts stay
/// together; what does not show when it begins stays where it is.
fn order_exports(sources: Vec<Source>, limits: Limits) -> VecDeque<Source> {
    let mut exports: Vec<(Option<String>, Vec<Source>)> = Vec::new();
    for source in sources {
        let stamp = kakaotalk::part(&source.name).map(|part| part.stamp);
        match exports.last_mut() {
            Some((last, parts)) if last.is_some() && *last == stamp => parts.push(source),
            _ => exports.push((stamp, vec![source])),
        }
    }
    if exports.len() < 2 {
        return exports.into_iter().flat_map(|(_, parts)| parts).collect();
    }
    let time = |parts: &[Source]| parts.first().and_then(|first| first.first_time(limits));
    let mut dated = Vec::new();
    let places: Vec<Option<Vec<Source>>> = exports
        .into_iter()
        .map(|(_, parts)| match time(&parts) {
            Some(time) => {
                dated.push((time, parts));
                None
            }
            None => Some(parts),
        })
        .collect();
    dated.sort_by_key(|(time, _)| *time);
    let mut dated = dated.into_iter().map(|(_, parts)| parts);
    places.into_iter().filter_map(|parts| parts.or_else(|| dated.next())).flatten().collect()
}

fn alias(options: &Options, label: Label) -> Label {
    options.aliases.get(label.as_str()).map_or(label, |name| Label::new(name))
}

fn aliased(options: &Options, kind: Kind) -> Kind {
    if options.aliases.is_empty() {
        return kind;
    }
    let alias = |label| alias(options, label);
    match kind {
        Kind::Joined { who } => Kind::Joined { who: alias(who) },
        Kind::Left { who } => Kind::Left { who: alias(who) },
        Kind::Removed { by, who } => Kind::Removed { by: by.map(alias), who: alias(who) },
        Kind::Invited { by, whom } => Kind::Invited { by: alias(by), whom: whom.into_iter().map(alias).collect() },
        other => other,
    }
}
