//! A cursor over one line. Every step either takes something and goes on, or leaves the caller to try another shape.

/// What is left of a line. Copied to try one shape and then another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(line: &'a str) -> Self {
        Self { rest: line }
    }

    pub(crate) fn rest(self) -> &'a str {
        self.rest
    }

    /// Whether nothing but white space is left.
    pub(crate) fn at_end(self) -> bool {
        self.rest.trim().is_empty()
    }

    /// Takes exactly this.
    pub(crate) fn lit(&mut self, expected: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    /// Takes exactly this, whatever its case; ASCII only.
    pub(crate) fn word(&mut self, expected: &str) -> Option<()> {
        let (head, tail) = self.rest.split_at_checked(expected.len())?;
        if !head.eq_ignore_ascii_case(expected) {
            return None;
        }
        self.rest = tail;
        Some(())
    }

    /// Takes this if it is there.
    pub(crate) fn maybe(&mut self, expected: &str) -> bool {
        self.lit(expected).is_some()
    }

    /// Takes any white space, of any width; says whether there was some.
    pub(crate) fn spaces(&mut self) -> bool {
        let before = self.rest.len();
        self.rest = self.rest.trim_start();
        self.rest.len() < before
    }

    /// Takes white space, at least one.
    pub(crate) fn space(&mut self) -> Option<()> {
        self.spaces().then_some(())
    }

    /// Takes a number of `least` to `most` digits that is not followed by another digit.
    pub(crate) fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits < least || digits > most {
            return None;
        }
        let (head, tail) = self.rest.split_at_checked(digits)?;
        self.rest = tail;
        head.parse().ok()
    }

    /// Takes ASCII letters.
    pub(crate) fn letters(&mut self) -> &'a str {
        let length = self.rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (head, tail) = self.rest.split_at_checked(length).unwrap_or(("", self.rest));
        self.rest = tail;
        head
    }
}
