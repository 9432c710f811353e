//! Which batch of a node comes next, the same for every engine that keeps the answer itself.

use crate::{BatchId, Error, Position, Result, Skip};

/// The highest batch that a node has appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) incarnation: u64,
    pub(crate) number: u64,
}

/// What an id is, given what its node has appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is the next batch of its node.
    Next,
    /// It is at or before the newest one: a retry, if the log holds it.
    Earlier,
    /// It leaves a number out.
    TooEarly,
}

/// Judges `id`, whose node has appended up to `newest`.
pub(crate) fn turn(newest: Option<Newest>, id: BatchId) -> Turn {
    let expected = match newest {
        Some(newest) if newest.incarnation > id.incarnation => return Turn::Earlier,
        Some(newest) if newest.incarnation == id.incarnation => newest.number.saturating_add(1),
        _ => 1,
    };
    match id.number.cmp(&expected) {
        std::cmp::Ordering::Equal => Turn::Next,
        std::cmp::Ordering::Less => Turn::Earlier,
        std::cmp::Ordering::Greater => Turn::TooEarly,
    }
}

/// Refuses a place where no batch stands to be skipped, in a log that was trimmed up to `trimmed` and ends at `last`: for engines.
///
/// # Errors
/// Those of [`crate::Log::skip`].
pub fn can_be_skipped(asked: Position, last: Position, trimmed: Position) -> Result<()> {
    if asked.generation != last.generation || asked > last || asked.ordinal == 0 {
        Err(Error::NotInLog { asked, last })
    } else if asked <= trimmed {
        let after = Position { ordinal: asked.ordinal - 1, ..asked };
        Err(Error::Trimmed { after, trimmed })
    } else {
        Ok(())
    }
}

/// Refuses to go past the batch at `position`, if this node has agreed to have a command of it skipped and does not know whether it is: for
/// whoever replays a journal without the log that it is a copy of.
///
/// # Errors
/// [`Error::Held`].
pub fn stands_before(agreed: &[Skip], position: Position) -> Result<()> {
    match agreed.iter().find(|(at, _)| *at == position) {
        Some((position, index)) => Err(Error::Held { position: *position, index: *index }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_within_an_incarnation_and_incarnations_only_grow() {
        let id = |incarnation, number| BatchId { node: 1, incarnation, number };
        let newest = Some(Newest { incarnation: 5, number: 3 });
        for (newest, id, expected) in [
            (None, id(5, 1), Turn::Next),
            (None, id(5, 2), Turn::TooEarly),
            (None, id(5, 0), Turn::Earlier),
            (newest, id(5, 4), Turn::Next),
            (newest, id(5, 3), Turn::Earlier),
            (newest, id(5, 5), Turn::TooEarly),
            (newest, id(6, 1), Turn::Next),
            (newest, id(6, 2), Turn::TooEarly),
            (newest, id(4, 9), Turn::Earlier),
        ] {
            assert_eq!(turn(newest, id), expected, "{id:?} after {newest:?}");
        }
    }
}
