//! What came of a log, as lines of text.

use std::fmt::Write;

use ieum_core::Effects;
use ieum_core::apply::{Skips, applied, apply};
use ieum_core::codec::Code;
use ieum_core::event::Alarm;
use ieum_core::ids::Position;
use ieum_core::outcome::Outcome;
use ieum_core::testing::{Logged, Rows};

/// Batches of more commands than this get one line, with a hash of their outcomes.
const MANY: usize = 50;

/// The view that a log leads to, and what each batch gave.
pub(crate) fn replay(log: &[Logged], skips: &Skips) -> (Rows, Vec<Effects>) {
    let mut view = Rows::default();
    let mut effects = Vec::new();
    for (ordinal, logged) in (1..).zip(log) {
        let given = apply(&view, Position::new(1, ordinal), logged.author, &logged.bytes, skips).unwrap();
        view.commit(&given.writes);
        effects.push(given);
    }
    (view, effects)
}

/// The whole text.
pub(crate) fn render(log: &[Logged], skips: &Skips) -> String {
    let (view, effects) = replay(log, skips);
    let mut text = String::new();
    for (position, index) in skips {
        writeln!(text, "skip {position} {index}").unwrap();
    }
    for (ordinal, effects) in (1..).zip(effects) {
        batch(&mut text, Position::new(1, ordinal), &effects);
    }
    writeln!(text, "digest {}", hex(&applied(&view).unwrap().digest)).unwrap();
    writeln!(text, "contents {}", hex(contents(&view).as_bytes())).unwrap();
    text
}

fn batch(text: &mut String, position: Position, effects: &Effects) {
    for alarm in &effects.alarms {
        let what = match alarm {
            Alarm::Panicked { index, .. } => format!("panicked {index}"),
            Alarm::MalformedBatch { .. } => "malformed".to_owned(),
            Alarm::NotAMember { node, .. } => format!("not_a_member {node}"),
        };
        writeln!(text, "{position} alarm {what}").unwrap();
    }
    if effects.outcomes.is_empty() {
        writeln!(text, "{position} nothing").unwrap();
    } else if effects.outcomes.len() > MANY {
        let hash = blake3::hash(&effects.outcomes.to_bytes());
        writeln!(text, "{position} {} outcomes {}", effects.outcomes.len(), hex(hash.as_bytes())).unwrap();
    } else {
        for (index, outcome) in effects.outcomes.iter().enumerate() {
            let word = match outcome {
                Outcome::Accepted(_) => "accepted",
                Outcome::Rejected(reject) => reject.code(),
            };
            writeln!(text, "{position} {index} {word} {}", hex(&outcome.to_bytes())).unwrap();
        }
    }
}

/// The skips that a text begins with.
pub(crate) fn skips(text: &str) -> Skips {
    let skip = |line: &str| {
        let (position, index) = line.strip_prefix("skip ")?.split_once(' ')?;
        Some((position.parse().ok()?, index.parse().ok()?))
    };
    text.lines().map_while(skip).collect()
}

/// BLAKE3 over all rows, each key and value with its length before it.
fn contents(view: &Rows) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for (key, value) in &view.0 {
        for part in [key.as_slice(), value] {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
    }
    hasher.finalize()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
