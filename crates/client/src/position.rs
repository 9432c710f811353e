//! Where an answer stands in the log, as clients see it.

use std::cmp::Ordering;
use std::fmt;

use ieum_planted::Bug;

/// A position. Its text is `generation.ordinal`; a text of another shape, or with a number that no log reaches, is kept as it is and
/// compares with nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// A text that this version can order.
    Dense {
        /// Which life of the log.
        generation: u64,
        /// Which batch of that life, 1, 2, 3 …
        ordinal: u64,
    },
    /// Any other text. A client never takes one for its cursor or for what it has seen: no server could ever be that far.
    Opaque(Box<str>),
}

impl Position {
    /// Reads the text that a server sent.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let dense = text.split_once('.').and_then(|(generation, ordinal)| {
            let number = |digits: &str| {
                let canonical =
                    digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()));
                // Cells count in 63 bits.
                digits.parse::<u64>().ok().filter(|n| canonical && i64::try_from(*n).is_ok())
            };
            Some(Self::Dense { generation: number(generation)?, ordinal: number(ordinal)? })
        });
        dense.unwrap_or_else(|| Self::Opaque(text.into()))
    }

    /// Whether this can be ordered.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        matches!(self, Self::Dense { .. })
    }

    /// Whether this is another life of the log than `other`. Positions that cannot be ordered are of no known generation.
    #[must_use]
    pub fn other_generation(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dense { generation: a, .. }, Self::Dense { generation: b, .. }) => a != b,
            _ => false,
        }
    }

    /// Whether this is known to lie before `other`.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Less)
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Dense { generation: a, ordinal: b }, Self::Dense { generation: c, ordinal: d }) => {
                Some((a, b).cmp(&(c, d)))
            }
            (Self::Opaque(a), Self::Opaque(b)) if a == b => Some(Ordering::Equal),
            _ => None,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense { generation, ordinal } => write!(f, "{generation}.{ordinal}"),
            Self::Opaque(text) => f.write_str(text),
        }
    }
}

/// Moves `mark` to `to` unless that would be backwards. A position that cannot be ordered is not taken: a server that says such a
/// one would leave the device with a mark that every other server refuses.
pub(crate) fn advance(mark: &mut Option<Position>, to: Position) {
    let taken = to.is_ordered() || Bug::AnyPositionTaken.planted();
    if taken && !mark.as_ref().is_some_and(|mark| to.is_before(mark)) {
        *mark = Some(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_ordered_by_generation_then_ordinal() {
        assert!(Position::read("1.9").is_before(&Position::read("1.10")));
        assert!(Position::read("1.10").is_before(&Position::read("2.1")));
        assert!(!Position::read("2.1").is_before(&Position::read("2.1")));
        assert!(Position::read("2.1").other_generation(&Position::read("1.1")));
    }

    #[test]
    fn a_text_of_another_shape_is_kept_to_the_letter() {
        for text in [
            "",
            "abc",
            "1",
            "1.",
            "01.2",
            "1.+2",
            "1.2.3",
            "99999999999999999999.1",
            "9223372036854775808.1",
            "1.18446744073709551615",
        ] {
            let position = Position::read(text);
            assert!(matches!(position, Position::Opaque(_)), "{text}");
            assert_eq!(position.to_string(), text);
        }
        assert_eq!(Position::read("3.14").to_string(), "3.14");
    }

    #[test]
    fn a_mark_never_moves_backwards_nor_to_where_no_log_is() {
        let mut mark = None;
        for text in ["x", "1.5", "1.4", "1.6", "1.1", "18446744073709551615.5", "later", "02.1"] {
            advance(&mut mark, Position::read(text));
        }
        assert_eq!(mark, Some(Position::read("1.6")));
    }
}
