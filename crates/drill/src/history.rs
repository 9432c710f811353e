//! What clients lived through, and whether it fits what the server holds in the end.
//!
//! [`check`] knows nothing but the clients' own histories and what the server shows to a client afterwards. It says, of every message:
//!
//! | violation | broken promise |
//! |---|---|
//! | [`Violation::Lost`], [`Violation::Moved`] | what was acknowledged stays where it was said to be |
//! | [`Violation::Duplicated`], [`Violation::AfterRejection`] | each command takes effect once, a rejected one never |
//! | [`Violation::Gap`] | a room's seqs are 1, 2, 3 … |
//! | [`Violation::Disordered`] | each sender's messages stand in the order in which they were given |
//! | [`Violation::Invented`] | nothing is there that nobody said there |
//! | [`Violation::Skipped`], [`Violation::HeardOther`], [`Violation::NotHeard`] | every member sees every message, and the same one |
//! | [`Violation::Unanswered`] | every command gets its outcome |

use std::collections::{BTreeMap, HashMap};
use std::fmt;

#[cfg(test)]
mod tests;

/// Names a message: the how-manieth of which client, both from 0. Its text says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Which client.
    pub client: u32,
    /// Its how-manieth message.
    pub number: u32,
}

impl Token {
    /// The text of the message: about as long as one that people write.
    pub fn text(self) -> String {
        format!("{} {} 오늘 저녁에 시간 되세요?", self.client, self.number)
    }

    /// The token of a text, if it is one that [`Self::text`] gives.
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let token = Self { client: words.next()?.parse().ok()?, number: words.next()?.parse().ok()? };
        (token.text() == text).then_some(token)
    }
}

/// What a client knows of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Unknown,
    /// It is the room's message with this seq.
    Acknowledged {
        /// Its seq.
        seq: u64,
    },
    /// It has no effect, and why.
    Rejected {
        /// Why.
        why: String,
    },
}

/// A message that a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Into which room.
    pub room: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What came to a client, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message {
        /// In which room.
        room: u64,
        /// Its seq.
        seq: u64,
        /// Which one; none for one that no client sent, such as the room's first.
        token: Option<Token>,
    },
    /// Messages of this room were left out, and the server said so.
    LeftOut {
        /// Which room.
        room: u64,
    },
    /// What it heard before is void.
    Void,
}

/// What a client lived through.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The number of its person.
    pub user: u64,
    /// The rooms that it is in.
    pub rooms: Vec<u64>,
    /// What it sent, in order: the place is the [`Token`]'s number.
    pub sent: Vec<Sent>,
    /// What it heard, in order.
    pub heard: Vec<Heard>,
}

/// A message as the server holds it in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its seq.
    pub seq: u64,
    /// Its author.
    pub from: u64,
    /// What its text says; none for a message of the room itself.
    pub token: Option<Token>,
}

/// Each room's messages as the server gives them in the end.
pub type Rooms = BTreeMap<u64, Vec<Held>>;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the text of each says what its fields are")]
pub enum Violation {
    Lost { token: Token, room: u64, seq: u64 },
    Moved { token: Token, acknowledged: (u64, u64), found: (u64, u64) },
    Duplicated { token: Token, first: (u64, u64), again: (u64, u64) },
    AfterRejection { token: Token, why: String },
    Gap { room: u64, after: u64, next: u64 },
    Disordered { room: u64, client: u32, earlier: u32, later: u32 },
    Invented { room: u64, seq: u64, from: u64 },
    Skipped { client: u32, room: u64, after: u64, next: u64 },
    HeardOther { client: u32, room: u64, seq: u64 },
    NotHeard { client: u32, room: u64, heard: u64, last: u64 },
    Unanswered { token: Token },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { token, room, seq } => {
                write!(f, "lost: {token} was acknowledged as message {seq} of room {room} and is nowhere")
            }
            Self::Moved { token, acknowledged: (room, seq), found } => {
                write!(f, "moved: {token} was acknowledged as message {seq} of room {room} and is at {found:?}")
            }
            Self::Duplicated { token, first, again } => {
                write!(f, "duplicated: {token} is at {first:?} and again at {again:?}")
            }
            Self::AfterRejection { token, why } => write!(f, "{token} was rejected ({why}) and is there"),
            Self::Gap { room, after, next } => write!(f, "gap: in room {room} message {next} follows {after}"),
            Self::Disordered { room, client, earlier, later } => {
                write!(f, "disordered: in room {room} message {earlier} of client {client} stands behind its {later}")
            }
            Self::Invented { room, seq, from } => {
                write!(f, "invented: message {seq} of room {room}, by user {from}, was never said there by them")
            }
            Self::Skipped { client, room, after, next } => {
                write!(f, "skipped: client {client} got message {next} of room {room} behind {after}")
            }
            Self::HeardOther { client, room, seq } => {
                write!(f, "client {client} heard another message {seq} of room {room} than the server holds")
            }
            Self::NotHeard { client, room, heard, last } => {
                write!(f, "not heard: client {client} has room {room} up to {heard} of {last}")
            }
            Self::Unanswered { token } => write!(f, "unanswered: {token} has no outcome"),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} of client {}", self.number, self.client)
    }
}

/// What was checked and found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Messages that clients sent.
    pub sent: u64,
    /// Of those, the acknowledged ones.
    pub acknowledged: u64,
    /// Messages that the server holds.
    pub held: u64,
    /// Messages that came to clients.
    pub heard: u64,
    /// Broken promises; none when all is well.
    pub violations: Vec<Violation>,
}

impl Report {
    /// The first few broken promises, a line each, and how many there are.
    pub fn complaint(&self) -> String {
        let first: Vec<String> = self.violations.iter().take(10).map(ToString::to_string).collect();
        format!("{} violations:\n{}", self.violations.len(), first.join("\n"))
    }
}

/// Compares all clients' histories with what the server holds.
pub fn check(histories: &[History], rooms: &Rooms) -> Report {
    let mut report = Report::default();
    let mut places = HashMap::new();
    for (room, held) in rooms {
        check_room(*room, held, histories, &mut places, &mut report);
    }
    for (client, history) in (0..).zip(histories) {
        check_sent(client, history, &places, &mut report);
        check_heard(client, history, rooms, &mut report);
    }
    report
}

type Places = HashMap<Token, (u64, u64)>;

fn check_room(room: u64, held: &[Held], histories: &[History], places: &mut Places, report: &mut Report) {
    let mut after = 0;
    let mut newest: HashMap<u32, u32> = HashMap::new();
    for Held { seq, from, token } in held.iter().copied() {
        report.held += 1;
        if seq != after + 1 {
            report.violations.push(Violation::Gap { room, after, next: seq });
        }
        after = seq;
        let Some(token) = token else { continue };
        let author = histories.get(token.client as usize);
        let said = author.and_then(|history| history.sent.get(token.number as usize));
        if author.is_none_or(|history| history.user != from) || said.is_none_or(|sent| sent.room != room) {
            report.violations.push(Violation::Invented { room, seq, from });
        }
        if let Some(first) = places.insert(token, (room, seq)) {
            report.violations.push(Violation::Duplicated { token, first, again: (room, seq) });
        }
        let before = newest.insert(token.client, token.number);
        if let Some(later) = before.filter(|before| *before > token.number) {
            let (client, earlier) = (token.client, token.number);
            report.violations.push(Violation::Disordered { room, client, earlier, later });
        }
    }
}

fn check_sent(client: u32, history: &History, places: &Places, report: &mut Report) {
    for (number, sent) in (0..).zip(&history.sent) {
        let token = Token { client, number };
        let found = places.get(&token).copied();
        report.sent += 1;
        match (&sent.outcome, found) {
            (Outcome::Acknowledged { seq }, found) => {
                report.acknowledged += 1;
                let acknowledged = (sent.room, *seq);
                match found {
                    None => report.violations.push(Violation::Lost { token, room: sent.room, seq: *seq }),
                    Some(found) if found != acknowledged => {
                        report.violations.push(Violation::Moved { token, acknowledged, found });
                    }
                    Some(_) => {}
                }
            }
            (Outcome::Rejected { why }, Some(_)) => {
                report.violations.push(Violation::AfterRejection { token, why: why.clone() });
            }
            (Outcome::Rejected { .. }, None) => {}
            (Outcome::Unknown, _) => report.violations.push(Violation::Unanswered { token }),
        }
    }
}

fn check_heard(client: u32, history: &History, rooms: &Rooms, report: &mut Report) {
    // Up to where it has each room; none: from where on does not matter.
    let mut reached: HashMap<u64, Option<u64>> = history.rooms.iter().map(|room| (*room, None)).collect();
    for heard in &history.heard {
        match *heard {
            Heard::Void => reached.values_mut().for_each(|reached| *reached = None),
            Heard::LeftOut { room } => drop(reached.insert(room, None)),
            Heard::Message { room, seq, token } => {
                report.heard += 1;
                let reached = reached.entry(room).or_default();
                if let Some(after) = reached.filter(|after| seq > after + 1) {
                    report.violations.push(Violation::Skipped { client, room, after, next: seq });
                }
                *reached = (*reached).max(Some(seq));
                let held = rooms.get(&room).and_then(|held| held.get(usize::try_from(seq).ok()?.checked_sub(1)?));
                if held.is_none_or(|held| held.seq != seq || held.token != token) {
                    report.violations.push(Violation::HeardOther { client, room, seq });
                }
            }
        }
    }
    for room in &history.rooms {
        let last = rooms.get(room).and_then(|held| held.last()).map_or(0, |held| held.seq);
        let heard = reached.get(room).copied().flatten().unwrap_or(0);
        if heard < last {
            report.violations.push(Violation::NotHeard { client, room: *room, heard, last });
        }
    }
}
