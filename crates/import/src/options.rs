//! What the caller decides: zone, room, who is the same person, limits.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

use crate::Error;

/// What the caller decides about an import.
#[derive(Debug, Clone)]
pub struct Options {
    /// The zone of the times in the files. Exports carry none: the phone or computer that made one wrote its own.
    pub zone: Zone,
    /// All files belong to the room of this name, whatever their titles say.
    pub room: Option<String>,
    /// Labels that are the same person: what a file says → what the archive shall say. Applied before keys are made, so a
    /// person who was renamed between two exports is not imported twice.
    pub aliases: BTreeMap<String, String>,
    /// Bounds on what is read.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self { zone: Zone::seoul(), room: None, aliases: BTreeMap::new(), limits: Limits::default() }
    }
}

/// Bounds on what is read, so that no file makes an import need more memory than it should.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files of one import.
    pub files: usize,
    /// Bytes of one line; the rest of a longer one is left out and reported.
    pub line_bytes: usize,
    /// Characters of one message; a longer one becomes several entries.
    pub message_chars: usize,
    /// Characters of an author's label. A line whose label would be longer is not a message's first line.
    pub label_chars: usize,
    /// Problems that a report lists; more are only counted.
    pub listed_problems: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 1000, line_bytes: 1 << 20, message_chars: 10_000, label_chars: 100, listed_problems: 200 }
    }
}

/// A time zone of the IANA database that is built in, so the answer is the same on every machine.
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

/// Whether a local time names one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clarity {
    /// It does.
    Exact,
    /// The clocks were put forward over it: it never was. Taken as that much later.
    Gap,
    /// The clocks were put back over it: it was twice. Taken as the first.
    Overlap,
}

impl Zone {
    /// The zone of an IANA name, for example `Asia/Seoul`; case does not matter.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownZone`] for any other name.
    pub fn named(name: &str) -> Result<Self, Error> {
        TimeZoneDatabase::bundled().get(name).map(Self).map_err(|_| Error::UnknownZone { name: name.to_owned() })
    }

    /// Korea's zone, where most exports were made.
    #[must_use]
    pub fn seoul() -> Self {
        Self::named("Asia/Seoul").unwrap_or_else(|_| Self(TimeZone::fixed(jiff::tz::offset(9))))
    }

    /// Unix milliseconds of a local time. Always the same answer for the same time: the order of messages is not used to
    /// choose in an overlap, because another export of the chat may begin elsewhere.
    pub(crate) fn instant(&self, local: DateTime) -> Option<(i64, Clarity)> {
        let ambiguous = self.0.to_ambiguous_timestamp(local);
        let clarity = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => Clarity::Exact,
            AmbiguousOffset::Gap { .. } => Clarity::Gap,
            AmbiguousOffset::Fold { .. } => Clarity::Overlap,
        };
        ambiguous.compatible().ok().map(|at| (at.as_millisecond(), clarity))
    }
}
