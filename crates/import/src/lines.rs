//! A file as lines of clean text: encodings, line breaks, control characters, length.
//!
//! Lines are split as bytes, which UTF-8 and CP949 both allow (a CP949 trail byte is never a line break), and decoded one
//! by one. So a broken byte costs one character of one line, and exports of both encodings can be joined into one file.

use std::fmt;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use encoding_rs::EUC_KR;

/// How a file's text is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    Utf8,
    /// CP949 (windows-949, a superset of EUC-KR): older KakaoTalk for Windows.
    Cp949,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf8 => "UTF-8",
            Self::Cp949 => "CP949",
        })
    }
}

/// What a file's first bytes say that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Text,
    Utf16,
    Zip,
}

/// One line, decoded and clean.
#[derive(Debug)]
pub(crate) struct Line {
    /// Without its line break, byte order marks and control characters.
    pub(crate) text: String,
    /// From 1.
    pub(crate) number: u64,
    /// Whether a line break ended it.
    pub(crate) ended: bool,
    pub(crate) encoding: Encoding,
    pub(crate) flaws: Flaws,
}

/// What had to be done to a line.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Flaws {
    pub(crate) bad_bytes: bool,
    pub(crate) controls: bool,
    pub(crate) too_long: bool,
}

/// Reads a file's lines.
pub(crate) struct Lines<R> {
    reader: BufReader<Chain<Cursor<Vec<u8>>, R>>,
    /// Tried first on each line.
    pub(crate) encoding: Encoding,
    pub(crate) content: Content,
    limit: usize,
    buffer: Vec<u8>,
    number: u64,
    bytes: u64,
    /// The last line ended with `\r`: a `\n` that follows belongs to it.
    after_return: bool,
}

const HEAD: u64 = 64 * 1024;

impl<R: Read> Lines<R> {
    /// Looks at the beginning of `reader` to tell the encoding. Lines are cut at `limit` bytes.
    pub(crate) fn new(mut reader: R, limit: usize) -> io::Result<Self> {
        let mut head = Vec::new();
        reader.by_ref().take(HEAD).read_to_end(&mut head)?;
        Ok(Self {
            encoding: guess(&head),
            content: content(&head),
            reader: BufReader::with_capacity(64 * 1024, Cursor::new(head).chain(reader)),
            limit,
            buffer: Vec::new(),
            number: 0,
            bytes: 0,
            after_return: false,
        })
    }

    /// Bytes of the file taken so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next line, or none at the file's end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        self.buffer.clear();
        let mut flaws = Flaws::default();
        let mut any = false;
        let ended = loop {
            let available = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if available.is_empty() {
                break false;
            }
            if std::mem::take(&mut self.after_return) && available.first() == Some(&b'\n') {
                self.bytes += 1;
                self.reader.consume(1);
                continue;
            }
            any = true;
            let end = available.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let taken = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
            let room = self.limit.saturating_sub(self.buffer.len());
            flaws.too_long |= taken.len() > room;
            self.buffer.extend_from_slice(taken.get(..room).unwrap_or(taken));
            self.after_return = end.and_then(|at| available.get(at)) == Some(&b'\r');
            let used = taken.len() + usize::from(end.is_some());
            self.bytes += used as u64;
            self.reader.consume(used);
            if end.is_some() {
                break true;
            }
        };
        if !any {
            return Ok(None);
        }
        self.number += 1;
        let (text, encoding, bad_bytes) = decode(&self.buffer, self.encoding, flaws.too_long || !ended);
        flaws.bad_bytes = bad_bytes;
        let text = clean(text, &mut flaws.controls);
        Ok(Some(Line { text, number: self.number, ended, encoding, flaws }))
    }
}

fn content(head: &[u8]) -> Content {
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        Content::Utf16
    } else if head.starts_with(b"PK\x03\x04") {
        Content::Zip
    } else {
        Content::Text
    }
}

/// UTF-8 unless the beginning is not valid as that and is better as CP949. Korean in one of them is practically never
/// valid in the other beyond a few characters.
fn guess(head: &[u8]) -> Encoding {
    let bad_utf8 = String::from_utf8_lossy(head).matches('\u{fffd}').count();
    if bad_utf8 == 0 || std::str::from_utf8(head).is_err_and(|error| error.error_len().is_none()) {
        return Encoding::Utf8;
    }
    let (text, _) = EUC_KR.decode_without_bom_handling(head);
    if text.matches('\u{fffd}').count() < bad_utf8 { Encoding::Cp949 } else { Encoding::Utf8 }
}

/// The text, the encoding that fitted, and whether bytes had to be replaced. A line that is `cut` may end within a
/// character; those bytes are dropped.
fn decode(mut bytes: &[u8], preferred: Encoding, cut: bool) -> (String, Encoding, bool) {
    let utf8 = match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if cut && error.error_len().is_none() && preferred == Encoding::Utf8 => {
            bytes = bytes.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(bytes).ok()
        }
        Err(_) => None,
    };
    if let Some(text) = utf8
        && (preferred == Encoding::Utf8 || text.is_ascii())
    {
        return (text.to_owned(), preferred, false);
    }
    let (korean, bad) = EUC_KR.decode_without_bom_handling(bytes);
    match (bad, utf8) {
        (false, _) => (korean.into_owned(), Encoding::Cp949, false),
        (true, Some(text)) => (text.to_owned(), Encoding::Utf8, false),
        (true, None) if preferred == Encoding::Cp949 => {
            let dropped = if cut { korean.trim_end_matches('\u{fffd}') } else { &korean };
            (dropped.to_owned(), preferred, dropped.contains('\u{fffd}'))
        }
        (true, None) => (String::from_utf8_lossy(bytes).into_owned(), preferred, true),
    }
}

/// Takes out byte order marks at the beginning and control characters, except tabs.
fn clean(mut text: String, controls: &mut bool) -> String {
    if text.starts_with('\u{feff}') {
        text = text.trim_start_matches('\u{feff}').to_owned();
    }
    let unwanted = |c: char| c.is_control() && c != '\t';
    if text.contains(unwanted) {
        *controls = true;
        text.retain(|c| !unwanted(c));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], limit: usize) -> Vec<Line> {
        let mut lines = Lines::new(bytes, limit).unwrap();
        let all: Vec<Line> = std::iter::from_fn(|| lines.next().unwrap()).collect();
        assert_eq!(lines.bytes(), bytes.len() as u64);
        all
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        read(bytes, 1 << 20).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn every_line_break_counts_once() {
        assert_eq!(texts(b"a\nb\r\nc\rd\n\r\ne"), ["a", "b", "c", "d", "", "e"]);
        assert_eq!(texts(b""), Vec::<String>::new());
        assert!(!read(b"a\nb", 10)[1].ended);
    }

    #[test]
    fn cp949_is_told_from_utf8() {
        let (bytes, _, _) = EUC_KR.encode("가족방 님과 카카오톡 대화\n똠방각하");
        let lines = read(&bytes, 1 << 20);
        assert_eq!(lines[0].text, "가족방 님과 카카오톡 대화");
        assert_eq!(lines[1].text, "똠방각하");
        assert_eq!(lines[1].encoding, Encoding::Cp949);
        assert_eq!(texts("가나\n다".as_bytes()), ["가나", "다"]);
    }

    #[test]
    fn one_line_in_the_other_encoding_is_read_too() {
        let mut bytes = "산악회 님과 카카오톡 대화\n".as_bytes().to_vec();
        bytes.extend_from_slice(&EUC_KR.encode("가족방 님과 카카오톡 대화\n").0);
        let lines = read(&bytes, 1 << 20);
        assert_eq!(lines[1].text, "가족방 님과 카카오톡 대화");
        assert_eq!(lines[1].encoding, Encoding::Cp949);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let lines = read("가나다라\n마".as_bytes(), 7);
        assert_eq!(lines[0].text, "가나");
        assert!(lines[0].flaws.too_long);
        assert_eq!(lines[1].text, "마");
    }

    #[test]
    fn controls_and_marks_go() {
        let lines = read(b"\xef\xbb\xbfa\0b\x07\tc\n", 100);
        assert_eq!(lines[0].text, "ab\tc");
        assert!(lines[0].flaws.controls);
    }
}
