//! What happened, as lines; a hash over all of them tells whether two lives were the same.

use std::fmt::{self, Write as _};
use std::io::{Write as _, stdout};

/// Which part of a life is printed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Show {
    /// From this millisecond on.
    pub from: u64,
    /// Up to this one.
    pub to: u64,
    /// With colours.
    pub colour: bool,
}

/// The trace of a life.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    /// What it has still to take in: much at once is hashed several times faster than bit by bit.
    waits: Vec<u8>,
    lines: u64,
    show: Option<Show>,
    /// Whose device each one is.
    owners: Vec<String>,
    /// What happens is a fault, and what follows from it at once.
    breaking: bool,
    /// Nodes that have applied the same batch one after the other, which is told in one line.
    applied: Option<Applied>,
}

#[derive(Debug)]
struct Applied {
    since: u64,
    nodes: Vec<String>,
    what: String,
}

/// So many bytes are hashed at once.
const MUCH: usize = 16 * 1024;
/// No line that is printed is longer, in characters; the hash takes in all of it.
const WIDEST: usize = 180;

impl Trace {
    /// A trace of which a part is printed as it grows.
    pub(crate) fn new(show: Option<Show>) -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            waits: Vec::new(),
            lines: 0,
            show,
            owners: Vec::new(),
            breaking: false,
            applied: None,
        }
    }

    /// The next device is `owner`'s.
    pub(crate) fn owner(&mut self, owner: &str) {
        self.owners.push(owner.to_owned());
    }

    /// What happens from here on is a fault, or is none.
    pub(crate) fn breaks(&mut self, breaking: bool) {
        self.breaking = breaking;
    }

    pub(crate) fn line(&mut self, now: u64, text: fmt::Arguments<'_>) {
        // Nothing that is told of fails to be formatted.
        let _ = writeln!(self.waits, "{now} {text}");
        self.lines += 1;
        if self.show.is_some_and(|show| (show.from..=show.to).contains(&now)) {
            self.show(now, &text.to_string());
        }
        self.hash_much();
    }

    fn hash_much(&mut self) {
        if self.waits.len() >= MUCH {
            self.hasher.update(&self.waits);
            self.waits.clear();
        }
    }

    fn show(&mut self, now: u64, text: &str) {
        let applied = text.strip_prefix("node ").and_then(|rest| rest.split_once(" applied "));
        if let (Some((node, what)), Some(applied)) = (applied, &mut self.applied)
            && applied.what == what
        {
            applied.nodes.push(node.to_owned());
            return;
        }
        self.end();
        if let Some((node, what)) = applied {
            self.applied = Some(Applied { since: now, nodes: vec![node.to_owned()], what: what.to_owned() });
            return;
        }
        let (mark, colour) = if self.breaking { ("!", "31") } else { (" ", "0") };
        self.print(now, mark, colour, &short(&named(text, &self.owners)));
    }

    /// Prints what waits to be told together.
    pub(crate) fn end(&mut self) {
        if let Some(Applied { since, nodes, what }) = self.applied.take() {
            let who = if nodes.len() > 1 { "nodes" } else { "node" };
            self.print(since, " ", "2", &format!("{who} {} applied {what}", nodes.join(" ")));
        }
    }

    fn print(&self, now: u64, mark: &str, colour: &str, text: &str) {
        let (begin, end) = match self.show {
            Some(Show { colour: true, .. }) => (format!("\x1b[{colour}m"), "\x1b[0m"),
            _ => (String::new(), ""),
        };
        // Whoever has seen enough closes the pipe; the life goes on to its end.
        let _ = writeln!(stdout(), "{} {begin}{mark} {text}{end}", clock(now));
    }

    /// Takes in what is too long to be shown.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.waits.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.waits.extend_from_slice(bytes);
        self.hash_much();
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        *self.hasher.clone().update(&self.waits).finalize().as_bytes()
    }
}

/// Milliseconds as minutes, seconds and milliseconds.
pub(crate) fn clock(ms: u64) -> String {
    format!("{:02}:{:02}.{:03}", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
}

/// The text with the owner of each device that it names by number.
fn named(text: &str, owners: &[String]) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("device ") {
        let (before, after) = rest.split_at(at);
        let digits = after.trim_start_matches("device ");
        let length = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let (number, behind) = digits.split_at(length);
        told.push_str(before);
        match number.parse().ok().and_then(|number: usize| owners.get(number)) {
            Some(owner) => _ = write!(told, "{owner}'s device {number}"),
            None => _ = write!(told, "device {number}"),
        }
        rest = behind;
    }
    told.push_str(rest);
    told
}

fn short(text: &str) -> String {
    match text.char_indices().nth(WIDEST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or(text)),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_with_their_owners() {
        let owners = ["anna".to_owned(), "ben".to_owned()];
        assert_eq!(named("device 1 hears device 0", &owners), "ben's device 1 hears anna's device 0");
        assert_eq!(named("a device is gone, device 7 too", &owners), "a device is gone, device 7 too");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        assert_eq!(short("짧다"), "짧다");
        assert_eq!(short(&"이".repeat(WIDEST + 1)), format!("{}…", "이".repeat(WIDEST)));
    }

    #[test]
    fn what_is_shown_does_not_change_the_hash() {
        let trace = |show| {
            let mut trace = Trace::new(show);
            trace.breaks(true);
            trace.line(61_001, format_args!("node 1 applied 1.1"));
            trace.hash()
        };
        assert_eq!(trace(None), trace(Some(Show { from: 0, to: 0, colour: true })));
        assert_eq!(clock(61_001), "01:01.001");
    }
}
