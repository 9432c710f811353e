//! Reads what `drill-load` wrote down: [`crate::load::book`] says what its lines mean.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::error::{Error, Naming as _};
use crate::history::{Heard, Held, History, Outcome, Rooms, Sent, Token};
use crate::load::{book, ending};

/// A run, as its clients saw it.
#[derive(Debug, Default)]
pub(super) struct Lived {
    pub(super) about: BTreeMap<String, String>,
    /// By number.
    pub(super) clients: Vec<Client>,
    pub(super) probes: Vec<Probe>,
    pub(super) marks: Vec<Mark>,
    pub(super) live: u64,
    pub(super) stop: u64,
    pub(super) end: u64,
    /// What was missing when the end waited for it no longer.
    pub(super) unsettled: Option<String>,
    /// Probes that were left out because too many waited.
    pub(super) left_out: u64,
    /// What each survivor holds.
    pub(super) survivors: BTreeMap<String, Survivor>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Client {
    pub(super) dc: String,
    /// Whether its device was there all the time and has to have every message of its rooms.
    pub(super) present: bool,
    /// What [`crate::history::check`] looks at.
    pub(super) history: History,
    /// When each message was written, and when its outcome came first.
    pub(super) times: Vec<(u64, Option<u64>)>,
    /// When each message came: time, room, seq. In order.
    pub(super) got: Vec<(u64, u64, u64, Option<Token>)>,
    /// Where in `got` it lost everything that it held.
    pub(super) void_at: usize,
    pub(super) states: Vec<(u64, String)>,
}

#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) function: &'static str,
    pub(super) dc: String,
    pub(super) client: u32,
    pub(super) begun: u64,
    pub(super) ended: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: u64,
    /// Whether waiting counts from here on; `None`: as before.
    pub(super) counts: Option<bool>,
    pub(super) text: String,
}

impl Mark {
    pub(super) fn is_fault(&self) -> bool {
        self.text.starts_with("fault")
    }
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Survivor {
    pub(super) rooms: Rooms,
    /// Everything, to be compared: lines by room and seq.
    pub(super) contents: BTreeMap<(u64, u64), String>,
    /// Rooms that could not be read, and why.
    pub(super) unreadable: Vec<String>,
}

/// The functions whose probes have a beginning and an end of their own.
const PROBED: [&str; 2] = ["sync", "login"];

impl Lived {
    /// Reads the folder of a run that was completed.
    pub(super) fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(book::FILE);
        let text = std::fs::read_to_string(&path).naming(|| format!("reading {}", path.display()))?;
        let mut lived = Self::parse(&text).map_err(|why| Error::other(format!("reading {}", path.display()), why))?;
        let named: Vec<String> =
            lived.about.keys().filter_map(|key| key.strip_prefix("survivor.").map(str::to_owned)).collect();
        for name in named {
            let path = folder.join(ending::file(&name));
            let text = std::fs::read_to_string(&path).naming(|| format!("reading {}", path.display()))?;
            let read = Survivor::parse(&text);
            let read = read.map_err(|why| Error::other(format!("reading {}", path.display()), why))?;
            lived.survivors.insert(name, read);
        }
        if lived.survivors.is_empty() {
            return Err(Error::other(format!("reading {}", folder.display()), "no survivor was read"));
        }
        Ok(lived)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(book::TITLE) {
            return Err("it is no history".to_owned());
        }
        let mut lived = Self::default();
        let mut probes = HashMap::new();
        for line in lines {
            lived.line(line, &mut probes).ok_or_else(|| format!("this line means nothing: {line:?}"))?;
        }
        if lived.live == 0 || lived.end == 0 {
            return Err("the run was not completed".to_owned());
        }
        lived.marks.sort_by_key(|mark| mark.at);
        Ok(lived)
    }

    fn line(&mut self, line: &str, probes: &mut HashMap<String, usize>) -> Option<()> {
        let (at, line) = line.split_once(' ')?;
        let at: u64 = at.parse().ok()?;
        let (kind, rest) = line.split_once(' ')?;
        let mut words = rest.split(' ');
        match kind {
            "o" => {
                let (key, value) = rest.split_once(' ')?;
                self.about.insert(key.to_owned(), value.to_owned());
            }
            "m" | "mu" | "mc" => {
                let counts = if kind == "m" { None } else { Some(kind == "mc") };
                self.marks.push(Mark { at, counts, text: rest.to_owned() });
            }
            "q" => self.turn(at, rest),
            "n" => self.left_out += 1,
            "p" => {}
            "e" => self.probes.get_mut(*probes.get(rest)?)?.ended = Some(at),
            "b" => {
                probes.insert(words.next()?.to_owned(), self.probes.len());
                let word = words.next()?;
                let function = PROBED.into_iter().find(|function| *function == word)?;
                let (dc, client) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
                self.probes.push(Probe { function, dc, client, begun: at, ended: None });
            }
            _ => {
                let number: usize = words.next()?.parse().ok()?;
                if kind == "u" {
                    self.clients.resize_with(self.clients.len().max(number + 1), Client::default);
                }
                self.clients.get_mut(number)?.line(at, kind, words)?;
            }
        }
        Some(())
    }

    fn turn(&mut self, at: u64, what: &str) {
        match what {
            "live" => self.live = at,
            "stop" => self.stop = at,
            "end" => self.end = at,
            _ => self.unsettled = what.strip_prefix("unsettled ").map(str::to_owned).or(self.unsettled.take()),
        }
    }
}

impl Client {
    fn line<'a>(&mut self, at: u64, kind: &str, mut words: impl Iterator<Item = &'a str>) -> Option<()> {
        let mut number = || words.next()?.parse::<u64>().ok();
        match kind {
            "r" => {
                let room = number()?;
                self.history.rooms.push(room);
            }
            "s" => {
                let (place, room) = (number()?, number()?);
                if place != self.times.len() as u64 {
                    return None;
                }
                self.times.push((at, None));
                self.history.sent.push(Sent { room, outcome: Outcome::Unknown });
            }
            "a" | "x" => {
                let place = usize::try_from(number()?).ok()?;
                let outcome = match kind {
                    "a" => Outcome::Acknowledged { seq: number()? },
                    _ => Outcome::Rejected { why: words.collect::<Vec<_>>().join(" ") },
                };
                self.history.sent.get_mut(place)?.outcome = outcome;
                self.times.get_mut(place)?.1.get_or_insert(at);
            }
            "g" | "h" => {
                let (room, seq) = (number()?, number()?);
                let token = match (words.next()?, words.next()?) {
                    ("-", "-") => None,
                    (client, number) => Some(Token { client: client.parse().ok()?, number: number.parse().ok()? }),
                };
                self.got.push((at, room, seq, token));
                if kind == "g" {
                    self.history.heard.push(Heard::Message { room, seq, token });
                }
            }
            "l" => self.history.heard.push(Heard::LeftOut { room: number()? }),
            "v" => {
                self.history.heard.push(Heard::Void);
                self.void_at = self.got.len();
            }
            "c" => self.states.push((at, words.collect::<Vec<_>>().join(" "))),
            "f" => {}
            "u" => {
                self.dc = words.next()?.to_owned();
                self.history.user = words.next()?.parse().ok()?;
                self.present = matches!(words.next()?, "talker" | "probe");
            }
            _ => return None,
        }
        Some(())
    }
}

impl Survivor {
    fn parse(text: &str) -> Result<Self, String> {
        let mut survivor = Self::default();
        for line in text.lines() {
            survivor.line(line).ok_or_else(|| format!("this line means nothing: {line:?}"))?;
        }
        Ok(survivor)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        if kind == "b" {
            self.unreadable.push(line.to_owned());
            return Some(());
        }
        let mut number = || words.next()?.parse::<u64>().ok();
        let (room, seq, from) = (number()?, number()?, number()?);
        let token = match kind {
            "m" => {
                number()?;
                Some(Token { client: number()?.try_into().ok()?, number: number()?.try_into().ok()? })
            }
            "j" => None,
            _ => return None,
        };
        self.rooms.entry(room).or_default().push(Held { seq, from, token });
        self.contents.insert((room, seq), line.to_owned());
        Some(())
    }
}
