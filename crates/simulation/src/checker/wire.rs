//! What passes between a client and its servers: nobody waits without end, and nobody is served less than they have seen. Read off the frames.

use std::collections::BTreeMap;

use ieum_client::machine::Line;
use ieum_core::ids::Position;

use super::seen::position;
use crate::failure::{Check, holds};

/// A device that is looked at hears something within so long, in milliseconds, or gives the connection up: a ping a second, and 1.5 s.
const SILENCE: u64 = 3_000;
/// Of commands that were sent some is answered within so long, or the connection is given up.
const OUTCOME: u64 = 10_500;
/// A connection comes about and says welcome within so long: 10 s for each.
const WELCOME: u64 = 21_000;
/// So many commands are under way at most.
const IN_FLIGHT: usize = 64;
/// A frame is no longer than this.
const FRAME: usize = 256 * 1024;

/// A connection, or an attempt at one.
#[derive(Debug, Default)]
struct Wire {
    since: u64,
    /// What the client said that it has seen.
    seen: Option<Position>,
    welcome: Option<Position>,
    /// When the live stream began.
    live: Option<u64>,
    /// How far the stream has come.
    at: Option<Position>,
    /// Commands that were sent and not answered, and when.
    due: BTreeMap<u64, u64>,
    answered: u64,
}

/// All connections of a client's process.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    wires: BTreeMap<Line, Wire>,
    heard: u64,
    /// Since when somebody looks at the device, and since when its app takes what comes.
    front: Option<u64>,
    listens: Option<u64>,
    /// The highest position that it has seen.
    highest: Option<Position>,
}

fn between<'a>(text: &'a str, before: &str, behind: char) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split(behind).next()
}

fn number(text: &str, before: &str) -> Option<u64> {
    between(text, before, ',')?.parse().ok()
}

fn pos(text: &str) -> Check<Option<Position>> {
    between(text, r#""pos":""#, '"').map(position).transpose()
}

impl Wires {
    pub(crate) fn new(front: bool, now: u64) -> Self {
        Self { front: front.then_some(now), listens: Some(now), ..Self::default() }
    }

    pub(crate) fn opens(&mut self, line: Line, now: u64) {
        self.wires.insert(line, Wire { since: now, ..Wire::default() });
    }

    pub(crate) fn closes(&mut self, line: Line) {
        self.wires.remove(&line);
    }

    pub(crate) fn looked_at(&mut self, front: bool, now: u64) {
        self.front = front.then(|| self.front.unwrap_or(now));
    }

    pub(crate) fn takes(&mut self, listens: bool, now: u64) {
        self.listens = listens.then(|| self.listens.unwrap_or(now));
    }

    /// The client sends a frame.
    pub(crate) fn sends(&mut self, line: Line, text: &str, now: u64) -> Check {
        let highest = self.highest;
        let Some(wire) = self.wires.get_mut(&line) else { return Ok(()) };
        if text.starts_with(r#"{"hello""#) {
            wire.seen = between(text, r#""seen":""#, '"').map(position).transpose()?;
            let seen = wire.seen;
            return holds(seen >= highest, || format!("a client has seen {highest:?} and says {seen:?}"));
        }
        if let Some(n) = number(text, r#"{"cmd":{"n":"#) {
            wire.due.insert(n, now);
            holds(wire.due.len() <= IN_FLIGHT, || format!("{} commands are under way", wire.due.len()))?;
        }
        Ok(())
    }

    /// Something has come that says no position.
    pub(crate) fn hears(&mut self, now: u64) -> Check {
        self.heard = now;
        Ok(())
    }

    /// A frame of a server's has come.
    pub(crate) fn receives(&mut self, line: Line, text: &str, now: u64) -> Check {
        self.heard = now;
        holds(text.len() <= FRAME, || format!("a frame has {} bytes", text.len()))?;
        let Some(wire) = self.wires.get_mut(&line) else { return Ok(()) };
        let Some((kind, _)) = text.strip_prefix(r#"{""#).and_then(|text| text.split_once('"')) else { return Ok(()) };
        let least = match kind {
            "welcome" => wire.seen,
            "caught_up" => wire.welcome.max(wire.at),
            "events" | "pong" | "ack" => wire.at,
            "refused" => None,
            _ => return Ok(()),
        };
        let at = pos(text)?;
        holds(at >= least, || format!("{kind} at {at:?}, and the client has seen {least:?} there"))?;
        match kind {
            "welcome" => wire.welcome = at,
            "ack" | "refused" => {
                wire.answered = now;
                if let Some(n) = number(text, r#":{"n":"#) {
                    wire.due.remove(&n);
                }
            }
            _ => wire.at = at,
        }
        if kind == "caught_up" {
            wire.live = Some(now);
        }
        self.highest = self.highest.max(at);
        Ok(())
    }

    /// Whether nobody waits for longer than is bearable.
    pub(crate) fn look(&self, now: u64) -> Check {
        let Some(listens) = self.listens else { return Ok(()) };
        for wire in self.wires.values() {
            let waits = now - wire.since.max(listens);
            holds(wire.welcome.is_some() || waits <= WELCOME, || format!("no welcome for {waits} ms"))?;
            let Some(live) = wire.live else { continue };
            let from = live.max(listens);
            if let Some(front) = self.front {
                let silent = now - from.max(front).max(self.heard);
                holds(silent <= SILENCE, || format!("nothing is heard for {silent} ms"))?;
            }
            if let Some(oldest) = wire.due.values().min() {
                let waits = now - from.max(*oldest).max(wire.answered);
                holds(waits <= OUTCOME, || format!("no command is answered for {waits} ms"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_was_seen_is_noticed() {
        let mut wires = Wires::new(true, 0);
        wires.opens(1, 0);
        wires.sends(1, r#"{"hello":{"device":1,"secret":"x","cursor":"1.5","seen":"1.9"}}"#, 0).unwrap();
        assert!(wires.receives(1, r#"{"welcome":{"n":1,"pos":"1.8","user":1,"resync":false}}"#, 1).is_err());
        wires.receives(1, r#"{"welcome":{"n":1,"pos":"1.9","user":1,"resync":false}}"#, 1).unwrap();
        wires.receives(1, r#"{"caught_up":{"pos":"1.10"}}"#, 2).unwrap();
        assert!(wires.receives(1, r#"{"events":{"pos":"1.9","list":[]}}"#, 3).is_err());
    }

    #[test]
    fn who_waits_for_too_long_is_noticed() {
        let mut wires = Wires::new(true, 0);
        wires.opens(1, 0);
        assert!(wires.look(21_000).is_ok() && wires.look(21_001).is_err());
        wires.receives(1, r#"{"welcome":{"n":1,"pos":"1.9","user":1,"resync":false}}"#, 1).unwrap();
        wires.receives(1, r#"{"caught_up":{"pos":"1.10"}}"#, 2).unwrap();
        assert!(wires.look(3_002).is_ok() && wires.look(3_003).is_err());
        wires.looked_at(false, 3_000);
        wires.sends(1, r#"{"cmd":{"n":7,"id":"x","do":{}}}"#, 5_000).unwrap();
        assert!(wires.look(15_500).is_ok() && wires.look(15_501).is_err());
        wires.receives(1, r#"{"ack":{"n":7,"pos":"1.11"}}"#, 15_000).unwrap();
        assert!(wires.look(60_000).is_ok());
    }
}
