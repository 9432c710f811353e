//! What goes to the terminal and comes from it.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use tokio::sync::mpsc;

use crate::error::Error;
use crate::words::words;

/// A line of output.
pub(crate) fn say(line: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", harmless(line)).and_then(|()| out.flush()).map_err(Error::Output)
}

/// A line for the person only. Where nobody sees it, nothing is lost.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", harmless(line));
}

/// An event as a line of JSON.
pub(crate) fn say_json(event: &impl serde::Serialize) -> Result<(), Error> {
    let line = serde_json::to_string(event).map_err(|error| Error::Output(error.into()))?;
    say(&escaped(&line))
}

/// Whether a terminal would obey the character instead of showing it: controls of both sets, and what turns the direction of text.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What is said, without anything that a terminal would obey but line breaks: wherever it came from.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// JSON with everything escaped that a terminal would obey. Such characters can stand in its strings only.
fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            c if is_obeyed(c) => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A name, a handle or a title: as [`plain`], and in one line.
pub(crate) fn label(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_whitespace() {
                ' '
            } else if is_obeyed(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Without what a terminal would obey: others wrote it.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => plain.push_str("\n    "),
            '\t' => plain.push(' '),
            c if is_obeyed(c) => plain.push('\u{fffd}'),
            c => plain.push(c),
        }
    }
    plain
}

/// A password that exists: `IEUM_PASSWORD`, or typed unseen, or a line of the standard input where that is no terminal.
pub(crate) fn password() -> Result<String, Error> {
    asked("IEUM_PASSWORD", || words!("Password: ", "비밀번호: "), false)
}

/// A password that is to be set: typed twice on a terminal.
pub(crate) fn new_password(variable: &str) -> Result<String, Error> {
    asked(variable, || words!("New password: ", "새 비밀번호: "), true)
}

fn asked(variable: &str, prompt: impl Fn() -> String, twice: bool) -> Result<String, Error> {
    let password = if let Ok(password) = std::env::var(variable) {
        password
    } else if io::stdin().is_terminal() {
        let typed = rpassword::prompt_password(prompt()).map_err(Error::Input)?;
        let again = if twice {
            rpassword::prompt_password(words!("The same again: ", "한 번 더: ")).map_err(Error::Input)?
        } else {
            typed.clone()
        };
        if typed != again {
            return Err(Error::PasswordsDiffer);
        }
        typed
    } else {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(Error::Input)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.is_empty() { Err(Error::NoPassword(variable.to_owned())) } else { Ok(password) }
}

/// The lines of the standard input, read on a thread of their own, which lasts as long as the process. One that is no UTF-8 is an
/// [`Error::NotText`], after which others follow.
pub(crate) fn lines() -> mpsc::Receiver<Result<String, Error>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n') {
            let line = line.map_err(Error::Input).and_then(text);
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn text(mut line: Vec<u8>) -> Result<String, Error> {
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| Error::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_wrote_moves_the_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\tc\nd\u{9b}"), "a\u{fffd}[2Jb c\n    d\u{fffd}");
        assert_eq!(plain("a\u{7f}\u{202e}b\u{2066}c\u{2069}"), "a\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}");
        assert_eq!(label("민지\r\n\u{1b}[31m"), "민지  \u{fffd}[31m");
        assert_eq!(harmless("a\u{1b}\n\u{202d}b"), "a\u{fffd}\n\u{fffd}b");
    }

    #[test]
    fn json_stays_the_same_json_and_moves_no_cursor() {
        let text = "a\u{1b}\u{7f}\u{9b}\u{202e}\u{2067}\"\\ 민지";
        let json = escaped(&serde_json::to_string(text).unwrap());
        assert!(!json.chars().any(is_obeyed), "{json:?}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn a_line_that_is_no_text_is_refused() {
        assert_eq!(text("안녕\r".into()).unwrap(), "안녕");
        assert!(matches!(text(vec![b'a', 0xff]), Err(Error::NotText)));
    }
}
