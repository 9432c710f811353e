//! Sends what an export holds into archive rooms.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ieum_client::Http;
use ieum_import::{Entry, Event, Options};
use ieum_protocol::errors::Code;
use ieum_protocol::frames::{ArchiveEntry, Change, Done};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Settings;
use crate::device::Device;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::text::{label, note, say};
use crate::words::words;

/// Most entries of one command; a cell takes 500.
const ENTRIES: usize = 400;

/// Most bytes of one command's entries but for the last; a server takes 256 KiB.
const BYTES: usize = 100_000;

/// For how long a server may be too busy for one command.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Most characters of a room's name.
const NAME: usize = 50;

/// Most characters of an author's label.
const LABEL: usize = 200;

/// `OLD=NEW`.
pub(crate) fn alias(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.trim().is_empty() && !new.trim().is_empty() => {
            Ok((old.trim().to_owned(), new.trim().to_owned()))
        }
        _ => Err("write it as OLD=NEW".to_owned()),
    }
}

pub(crate) async fn kakaotalk(settings: &Settings, files: &[PathBuf], options: Options) -> Result<(), Error> {
    // The device's file is free again at once: what follows goes over HTTP.
    let http = Device::open(settings).await?.http;
    let mut interrupt = Interrupt::listen()?;
    let mut archive = Archive::new(http);
    let sources = files.iter().map(|path| ieum_import::Source::file(path));
    let sources: Vec<_> = sources.filter_map(|source| archive.skipping(source)).collect();
    if sources.is_empty() {
        return archive.told();
    }
    let mut import = ieum_import::Import::of(sources, options)?;
    let result = interrupt.or(archive.fill(&mut import)).await;
    archive.bar.finish_and_clear();
    let report = import.report();
    say(report.to_string().trim_end())?;
    say(&archive.counts())?;
    if result.is_err() {
        note(&words!(
            "the import is not complete; run it again: what is there already is not added twice",
            "가져오기가 끝나지 않았습니다. 다시 실행하세요: 이미 있는 것은 두 번 추가되지 않습니다"
        ));
    }
    result?;
    archive.told()?;
    if report.files.iter().any(ieum_import::FileReport::understood) { Ok(()) } else { Err(Error::NothingUnderstood) }
}

/// Where the entries go.
struct Archive {
    http: Http,
    room: Option<u64>,
    entries: Vec<ArchiveEntry>,
    bytes: usize,
    added: u64,
    known: u64,
    bar: ProgressBar,
    /// Why files were not imported, or not to their end.
    skipped: Vec<Error>,
}

/// Drawn on a terminal only; elsewhere it is silent.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3}%  {bytes}/{total_bytes}  {eta}  {msg}");
    let bar = ProgressBar::new(0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

impl Archive {
    fn new(http: Http) -> Self {
        let (entries, skipped) = (Vec::new(), Vec::new());
        Self { http, room: None, entries, bytes: 0, added: 0, known: 0, bar: bar(), skipped }
    }

    /// What a file gave, unless it is one that cannot be imported: the others still can.
    fn skipping<T>(&mut self, result: Result<T, ieum_import::Error>) -> Option<T> {
        result.map_err(|error| self.skipped.push(error.into())).ok()
    }

    /// Tells which files were not imported, if any.
    fn told(&mut self) -> Result<(), Error> {
        match self.skipped.len() {
            0 => Ok(()),
            1 => self.skipped.pop().map_or(Ok(()), Err),
            files => {
                for why in &self.skipped {
                    let why = why.told();
                    note(&words!("not imported: {why}", "가져오지 못했습니다: {why}"));
                }
                Err(Error::FilesLeftOut(files))
            }
        }
    }

    async fn fill(&mut self, import: &mut ieum_import::Import) -> Result<(), Error> {
        loop {
            let event = match import.next_event() {
                Ok(None) => break,
                Ok(Some(event)) => event,
                Err(error) => {
                    self.skipped.push(error.into());
                    continue;
                }
            };
            match event {
                Event::Chat(chat) => {
                    self.flush().await?;
                    self.room = None;
                    let (Some(key), Some(title)) = (chat.key, chat.title) else {
                        let file = import.report().files.pop().map(|file| label(&file.name));
                        self.skipped.push(Error::NoTitle { file: file.unwrap_or_default() });
                        continue;
                    };
                    let change = Change::OpenArchive { key: key.to_string(), name: name(&title) };
                    self.room = Some(self.http.change(&change).await?.room.ok_or(Error::NoRoom)?);
                }
                // Of a chat without a title.
                Event::Entry(_) if self.room.is_none() => {}
                Event::Entry(entry) => {
                    let entry = archived(entry);
                    let bytes = serde_json::to_string(&entry).map_or(BYTES, |json| json.len());
                    if self.entries.len() >= ENTRIES || self.bytes + bytes > BYTES {
                        self.flush().await?;
                        self.progress(import.progress());
                    }
                    self.bytes += bytes;
                    self.entries.push(entry);
                }
            }
        }
        self.flush().await?;
        self.progress(import.progress());
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let room = self.room.ok_or(Error::NoRoom)?;
        let entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        let done = self.add(&Change::AddToArchive { room, entries }).await?;
        self.added += done.added.unwrap_or(0);
        self.known += done.known.unwrap_or(0);
        Ok(())
    }

    /// Makes one change, however often the server asks to wait: imports come behind everything else. Each try waits as long as it is
    /// told to. What is there already is not added twice.
    async fn add(&self, change: &Change) -> Result<Done, Error> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.http.change(change).await {
                Err(error) if later(&error) && Instant::now() < give_up => {}
                result => return Ok(result?),
            }
        }
    }

    fn progress(&self, progress: ieum_import::Progress) {
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.read);
        self.bar.set_message(self.counts());
    }

    fn counts(&self) -> String {
        let (added, known) = (self.added, self.known);
        words!("{added} new, {known} known already", "새 항목 {added}개, 이미 있던 항목 {known}개")
    }
}

/// Whether the server takes it later.
fn later(error: &ieum_client::HttpError) -> bool {
    matches!(error.code(), Some(Code::RateLimited | Code::Busy))
}

/// A title as a room's name may be.
fn name(title: &str) -> String {
    let visible: String = title.chars().filter(|c| !c.is_control()).collect();
    let name: String = visible.trim().chars().take(NAME).collect();
    if name.trim().is_empty() { "KakaoTalk".to_owned() } else { name.trim().to_owned() }
}

fn archived(entry: Entry) -> ArchiveEntry {
    ArchiveEntry {
        key: entry.key.to_string(),
        time: u64::try_from(entry.time).unwrap_or(0),
        author: entry.author.map(|author| author.as_str().chars().take(LABEL).collect()).unwrap_or_default(),
        kind: entry.kind.name().to_owned(),
        text: entry.text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_title_becomes_a_name_that_a_room_may_have() {
        assert_eq!(name(&"가".repeat(80)).chars().count(), NAME);
        assert_eq!(name(" 산악회\u{0} "), "산악회");
        assert_eq!(name("\u{1}"), "KakaoTalk");
    }

    #[test]
    fn an_alias_has_two_names() {
        assert_eq!(alias("회원님=민지"), Ok(("회원님".to_owned(), "민지".to_owned())));
        assert!(alias("민지").is_err() && alias("=민지").is_err());
    }
}
