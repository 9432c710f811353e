//! Lines with only a day: the heading of a day, or text that someone typed.
//!
//! KakaoTalk for phones writes a day above its first message, so a heading names another day than the message above it,
//! and the message below it is of that day. Where messages have no day of their own nothing below can confirm it; there
//! the weekday must fit, the day must come after the one above, and it cannot come after the export. One without an empty
//! line above is doubted, and is text in an export that has them above its headings; a heading with one may go back before
//! a doubted day.

use ieum_planted::Bug;
use jiff::civil::Date;

use super::layout::DayForm;

/// More of them one below the other are text: the first goes to its message.
pub(crate) const MOST_HELD: usize = 64;

/// A line with only a day, until what follows shows what it is.
pub(crate) struct Held {
    pub(crate) day: Date,
    pub(crate) form: DayForm,
    pub(crate) text: String,
    pub(crate) number: u64,
    /// Empty lines since.
    pub(crate) blanks: usize,
    /// An empty line is above it.
    pub(crate) apart: bool,
    /// A line break ended it.
    pub(crate) ended: bool,
}

/// What follows lines with only a day.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next {
    /// A message of this day.
    Of(Date),
    /// A message that has only a time.
    Undated,
    /// A message of which the day cannot be read.
    Unknown,
    /// More text.
    Text,
    /// The end of the export.
    End,
}

/// Where the held lines stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The day of the message above, if there is one.
    pub(crate) above: Option<Date>,
    /// The day of the export, if it says it.
    pub(crate) saved: Option<Date>,
    /// Messages have only a time: their day is that of the heading.
    pub(crate) undated: bool,
    /// What the headings above were like.
    pub(crate) seen: Seen,
}

/// What the headings of an export were like.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    /// The last day that was not doubted.
    sure: Option<Date>,
    /// One of them below a message had an empty line above it.
    apart: bool,
}

impl Seen {
    /// A heading was taken.
    pub(crate) fn heading(&mut self, heading: &Held, doubtful: bool, below_message: bool) {
        if !doubtful {
            self.sure = Some(heading.day);
            self.apart |= below_message && heading.apart;
        }
    }
}

/// What the held lines are, from the first to the last: text, then days without messages, then the heading.
pub(crate) struct Verdict {
    pub(crate) text: Vec<Held>,
    pub(crate) empty: Vec<Held>,
    pub(crate) heading: Option<Held>,
    /// The heading may as well be text.
    pub(crate) doubtful: bool,
}

/// Tells headings from text.
pub(crate) fn judge(mut held: Vec<Held>, next: Next, place: Place) -> Verdict {
    let after = |day: Date| place.above.is_none_or(|above| day > above);
    let undated = |held: &Held| {
        let fits = held.form == DayForm::Weekday || place.above.is_none() && held.form == DayForm::Bare;
        let above = if held.apart { place.seen.sure.filter(|_| place.above.is_some()) } else { place.above };
        let spaced = held.apart || !place.seen.apart;
        fits && spaced
            && above.is_none_or(|above| held.day > above)
            && place.saved.is_none_or(|saved| held.day <= saved)
    };
    let is_heading = |held: &Held| match next {
        Next::Of(_) if Bug::ImportTypedDay.planted() => true,
        Next::Of(day) => held.day == day && place.above != Some(day),
        Next::Undated => undated(held),
        Next::Unknown if place.undated => undated(held),
        Next::Unknown => after(held.day),
        Next::Text | Next::End => false,
    };
    let Some(heading) = held.pop_if(|last| is_heading(last)) else {
        return Verdict { text: held, empty: Vec::new(), heading: None, doubtful: false };
    };
    let mut later = heading.day;
    let empty = held.iter().rev().take_while(|held| {
        let earlier = held.day < later && after(held.day) && held.form == heading.form;
        later = held.day;
        earlier
    });
    let empty = held.split_off(held.len() - empty.count());
    let confirmed = matches!(next, Next::Of(_)) || place.above.is_none() || place.undated && heading.apart;
    Verdict { text: held, empty, heading: Some(heading), doubtful: !confirmed }
}
