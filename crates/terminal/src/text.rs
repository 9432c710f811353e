//! What goes to the terminal and comes from it.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use tokio::sync::mpsc;

use crate::error::Error;

/// A line of output.
pub(crate) fn say(line: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Error::Output)
}

/// A line for the person only. Where nobody sees it, nothing is lost.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Without what a terminal would obey: others wrote it.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => plain.push_str("\n    "),
            '\t' => plain.push(' '),
            c if c.is_control() => plain.push('\u{fffd}'),
            c => plain.push(c),
        }
    }
    plain
}

/// `IEUM_PASSWORD`, or a line of the standard input.
pub(crate) fn password() -> Result<String, Error> {
    if let Ok(password) = std::env::var("IEUM_PASSWORD") {
        return Some(password).filter(|password| !password.is_empty()).ok_or(Error::NoPassword);
    }
    let mut input = io::stdin().lock();
    if input.is_terminal() {
        note("password (it will be visible):");
    }
    let mut line = String::new();
    input.read_line(&mut line).map_err(Error::Input)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() { Err(Error::NoPassword) } else { Ok(password.to_owned()) }
}

/// The lines of the standard input, read on a thread of their own, which lasts as long as the process.
pub(crate) fn lines() -> mpsc::Receiver<Result<String, Error>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if sender.blocking_send(line.map_err(Error::Input)).is_err() {
                return;
            }
        }
    });
    receiver
}
