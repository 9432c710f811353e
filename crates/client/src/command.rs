//! What the outbox holds.

use std::fmt;
use std::sync::Arc;

use ieum_protocol::frames::Change;

/// A command's random id: the same in every retry, under whatever number it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u128);

impl CommandId {
    /// An id from two random numbers.
    #[must_use]
    pub fn from_random(high: u64, low: u64) -> Self {
        Self(u128::from(high) << 64 | u128::from(low))
    }

    /// Reads 32 lowercase hexadecimal digits.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digits { u128::from_str_radix(text, 16).ok().map(Self) } else { None }
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The largest number that a device's command may have: numbers in JSON are whole below 2^53. One beyond it is nobody's.
pub(crate) const MAX_NUMBER: u64 = (1 << 53) - 1;

/// A command as the outbox and its store keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its place in the order in which commands were given: larger means later. Never changes but for a command whose number
    /// turned out to be another's, which goes to the end.
    pub place: u64,
    /// Its id.
    pub id: CommandId,
    /// Its number; `None` until the device's counter is known.
    pub n: Option<u64>,
    /// The change as JSON, as it stands in the frame.
    pub body: Arc<str>,
}

impl Command {
    /// The change, if this version can read it.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        serde_json::from_str(&self.body).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_lowercase_hexadecimal_digits() {
        let id = CommandId::from_random(1, 0xab);
        assert_eq!(id.to_string(), "000000000000000100000000000000ab");
        assert_eq!(CommandId::read(&id.to_string()), Some(id));
        assert_eq!(CommandId::read("000000000000000100000000000000AB"), None);
        assert_eq!(CommandId::read("+00000000000000100000000000000ab"), None);
    }
}
