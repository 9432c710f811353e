//! What goes to the terminal and comes from it.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use tokio::sync::mpsc;

use crate::error::Error;
use crate::words::words;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_wrote_moves_the_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\tc\nd\u{9b}"), "a\u{fffd}[2Jb c\n    d\u{fffd}");
    }
}
