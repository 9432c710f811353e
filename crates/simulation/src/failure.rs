//! What a life must not show.

/// Something that must not be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub(crate) String);

impl Broken {
    /// What is broken, without what differs from life to life: numbers, names, and whatever stands in brackets or quotes.
    #[must_use]
    pub fn kind(&self) -> String {
        let mut depth = 0_u32;
        let mut quoted = false;
        let outside = self.0.chars().filter(|c| {
            match c {
                '"' => quoted = !quoted,
                '(' | '[' | '{' if !quoted => depth += 1,
                ')' | ']' | '}' if !quoted => {
                    depth = depth.saturating_sub(1);
                    return false;
                }
                _ => {}
            }
            depth == 0 && !quoted && *c != '"'
        });
        let text: String = outside.collect();
        let number = |word: &&str| !word.contains(|c: char| c.is_ascii_digit());
        text.split_whitespace().filter(number).collect::<Vec<_>>().join(" ")
    }
}

/// Result of something that is checked.
pub(crate) type Check<T = ()> = Result<T, Broken>;

/// Says what is broken.
pub(crate) fn broken<T>(what: impl Into<String>) -> Check<T> {
    Err(Broken(what.into()))
}

/// Says what is broken unless it holds.
pub(crate) fn holds(condition: bool, what: impl FnOnce() -> String) -> Check {
    if condition { Ok(()) } else { Err(Broken(what())) }
}

impl From<ieum_core::kv::Error> for Broken {
    fn from(error: ieum_core::kv::Error) -> Self {
        Self(format!("the view failed: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_failures_are_of_a_kind_whatever_numbers_they_tell() {
        let kind = |text: &str| Broken(text.to_owned()).kind();
        assert_eq!(
            kind("command 8bda was answered Ok(Done { seq: Some(21) }) and then Err(\"no\")"),
            kind("command 77fe was answered Ok(Done { seq: None }) and then Err(\"yes) {\")"),
        );
        assert_eq!(kind("room 12 has [1, 2] up to 3"), "room has up to");
        assert_ne!(kind("device 1 is gone"), kind("device 1 is not connected"));
    }
}
