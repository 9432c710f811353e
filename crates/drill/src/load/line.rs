//! What `drill-load` is told on its standard input.

use std::io::BufRead;

use ieum_client::Endpoint;
use tokio::sync::mpsc::UnboundedSender;

use super::clock;

/// A line, and when it was read, or when it says that it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) at: u64,
    pub(super) said: Said,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// Something was done; see [`super::book::Counting`].
    Mark(Counting, String),
    /// A node whose contents are to be read at the end.
    Survivor(String, Endpoint),
    Stop,
    /// The other end is gone.
    End,
    Strange(String),
}

/// What a mark does to the counting of outages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    AsBefore,
    /// From now on who waits does not count: there is no power, or an operator has not spoken yet.
    Stops,
    Begins,
}

impl Line {
    /// Reads a line, which may begin with its time: `@NANOSECONDS `.
    pub(super) fn read(text: &str, read_at: u64) -> Self {
        let text = text.trim();
        let timed = text.strip_prefix('@').and_then(|rest| {
            let (digits, rest) = rest.split_once(' ')?;
            Some((digits.parse().ok()?, rest.trim_start()))
        });
        let (at, text) = timed.unwrap_or((read_at, text));
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        let said = match word {
            "mark" => Said::Mark(Counting::AsBefore, rest.to_owned()),
            "uncounted" => Said::Mark(Counting::Stops, rest.to_owned()),
            "counted" => Said::Mark(Counting::Begins, rest.to_owned()),
            "stop" if rest.is_empty() => Said::Stop,
            "survivor" => survivor(rest).unwrap_or_else(|| Said::Strange(text.to_owned())),
            _ => Said::Strange(text.to_owned()),
        };
        Self { at, said }
    }
}

fn survivor(rest: &str) -> Option<Said> {
    let (name, endpoint) = rest.split_once(' ')?;
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if plain { Some(Said::Survivor(name.to_owned(), endpoint.trim().parse().ok()?)) } else { None }
}

/// Hands on every line of `input` until it ends.
pub(super) fn read(input: impl BufRead, to: &UnboundedSender<Line>) {
    for text in input.lines() {
        let Ok(text) = text else { break };
        if to.send(Line::read(&text, clock::now())).is_err() {
            return;
        }
    }
    let _ = to.send(Line { at: clock::now(), said: Said::End });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_the_time_that_they_say() {
        let said = |text: &str| Line::read(text, 7);
        assert_eq!(said("stop"), Line { at: 7, said: Said::Stop });
        let fault = Said::Mark(Counting::AsBefore, "fault dc a goes dark".to_owned());
        assert_eq!(said("@12 mark fault dc a goes dark\n"), Line { at: 12, said: fault });
        assert_eq!(said("uncounted fault x").said, Said::Mark(Counting::Stops, "fault x".to_owned()));
        assert_eq!(said("counted heal y").said, Said::Mark(Counting::Begins, "heal y".to_owned()));
        let endpoint = "ws://10.77.0.4:8080".parse().unwrap();
        assert_eq!(said("survivor node-4 ws://10.77.0.4:8080").said, Said::Survivor("node-4".to_owned(), endpoint));
        for strange in ["", "stop now", "survivor a", "survivor a/b ws://x", "survivor a nowhere", "@x mark y"] {
            assert!(matches!(said(strange).said, Said::Strange(_)), "{strange}");
        }
    }
}
