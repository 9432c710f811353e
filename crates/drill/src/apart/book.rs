//! What became of each message of a measurement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ieum_client::{Delivery, State};
use ieum_protocol::frames::Event;
use ieum_protocol::objects::Message;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::spread::Spread;
use crate::error::Error;

/// What one measurement gave.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// How long was measured.
    pub seconds: f64,
    /// Messages acknowledged in that time.
    pub acknowledged: u64,
    /// Microseconds until the writer had the acknowledgement, of what was sent in that time.
    pub acknowledged_us: Spread,
    /// Microseconds until the other person had the message.
    pub delivered_us: Spread,
    /// Connections that were lost, warming up included.
    pub lost_connections: u64,
}

/// A message.
#[derive(Clone, Copy, Debug)]
struct Trip {
    due: Instant,
    acknowledged: Option<Instant>,
    delivered: Option<Instant>,
    twice: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Book {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    /// The number of the first message in `trips`: those of earlier measurements are settled.
    first: usize,
    trips: Vec<Trip>,
    acknowledged: usize,
    delivered: usize,
    begun: Option<Instant>,
    ended: Option<Instant>,
    lost: u64,
    broken: Option<String>,
}

impl Pages {
    fn trip(&mut self, number: Option<usize>) -> Option<&mut Trip> {
        self.trips.get_mut(number?.checked_sub(self.first)?)
    }

    fn acknowledge(&mut self, number: Option<usize>) {
        match self.trip(number) {
            Some(trip) => {
                trip.twice |= trip.acknowledged.replace(Instant::now()).is_some();
                self.acknowledged += 1;
            }
            None => self.complain(format!("an acknowledgement of {number:?}, which was not under way")),
        }
    }

    fn deliver(&mut self, message: &Message) {
        let number = message.text.as_deref().and_then(|text| text.rsplit(' ').next()?.parse().ok());
        match self.trip(number) {
            // After a lost connection it may come again.
            Some(Trip { delivered: Some(_), .. }) => {}
            Some(trip) => {
                trip.delivered = Some(Instant::now());
                self.delivered += 1;
            }
            None => self.complain(format!("a message {:?}, which was not under way", message.text)),
        }
    }

    fn state(&mut self, state: &State, live: &mut bool) {
        match state {
            State::Live { .. } => *live = true,
            State::Waiting { .. } => self.lost += u64::from(std::mem::take(live)),
            State::Stopped(stop) => self.complain(format!("a client stopped: {stop}")),
            _ => {}
        }
    }

    fn complain(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }
}

impl Book {
    /// The id of a message's command.
    pub(super) fn id(number: usize) -> u128 {
        number as u128 + 1
    }

    /// Forgets the messages of the measurement before. Their numbers are not used again.
    pub(super) fn begin_anew(&self) {
        let mut pages = self.pages.lock();
        let first = pages.first + pages.trips.len();
        *pages = Pages { first, broken: pages.broken.take(), ..Pages::default() };
    }

    /// A message goes out that was due then; its number.
    pub(super) fn sent(&self, due: Instant) -> usize {
        let mut pages = self.pages.lock();
        pages.trips.push(Trip { due, acknowledged: None, delivered: None, twice: false });
        pages.first + pages.trips.len() - 1
    }

    /// What counts begins now.
    pub(super) fn mark_begin(&self) {
        self.pages.lock().begun = Some(Instant::now());
    }

    /// And ends.
    pub(super) fn mark_end(&self) {
        self.pages.lock().ended = Some(Instant::now());
    }

    /// Writes down what a writer's client is told; `acknowledged` is called for each acknowledgement.
    pub(super) fn writer(
        self: &Arc<Self>,
        acknowledged: impl Fn() + Send + 'static,
    ) -> impl FnMut(Delivery) + Send + 'static {
        let (book, mut live) = (Arc::clone(self), false);
        move |delivery| match delivery {
            Delivery::Outcome { id, result: Ok(_), .. } => {
                book.pages.lock().acknowledge(usize::try_from(id.0).ok().and_then(|id| id.checked_sub(1)));
                acknowledged();
            }
            Delivery::Outcome { result: Err(failure), .. } => book.pages.lock().complain(failure.to_string()),
            Delivery::State(state) => book.pages.lock().state(&state, &mut live),
            _ => {}
        }
    }

    /// Writes down what a listener's client hears.
    pub(super) fn listener(self: &Arc<Self>) -> impl FnMut(Delivery) + Send + 'static {
        let (book, mut live) = (Arc::clone(self), false);
        move |delivery| {
            let mut pages = book.pages.lock();
            match delivery {
                Delivery::Events { list, .. } => list.iter().for_each(|event| {
                    if let Event::Message { message, .. } = event {
                        pages.deliver(message);
                    }
                }),
                Delivery::CatchUp(caught) => {
                    caught.rooms.iter().flat_map(|room| &room.messages).for_each(|message| pages.deliver(message));
                }
                Delivery::State(state) => pages.state(&state, &mut live),
                _ => {}
            }
        }
    }

    /// Whether all that was sent was acknowledged and delivered, or something is broken.
    pub(super) fn is_settled(&self) -> bool {
        let pages = self.pages.lock();
        let sent = pages.trips.len();
        pages.broken.is_some() || (pages.acknowledged >= sent && pages.delivered >= sent)
    }

    /// What came out; an error unless each message was acknowledged once and delivered, for a fast loss is no speed.
    pub(super) fn figures(&self) -> Result<Figures, Error> {
        let pages = self.pages.lock();
        let wrong = |why: String| Error::other("measuring what people write", why);
        if let Some(broken) = &pages.broken {
            return Err(wrong(broken.clone()));
        }
        let astray =
            pages.trips.iter().filter(|trip| trip.twice || trip.acknowledged.is_none() || trip.delivered.is_none());
        if let astray @ 1.. = astray.count() {
            let sent = pages.trips.len();
            return Err(wrong(format!("{astray} of {sent} messages were not acknowledged once and delivered")));
        }
        let (Some(begun), Some(ended)) = (pages.begun, pages.ended) else {
            return Err(wrong("it did not begin and end".to_owned()));
        };
        let within = |at: Instant| at >= begun && at < ended;
        let counted = || pages.trips.iter().filter(|trip| within(trip.due));
        let micros = |trip: &Trip, answer: Option<Instant>| {
            let took: Duration = answer.unwrap_or(trip.due).saturating_duration_since(trip.due);
            u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
        };
        Ok(Figures {
            seconds: (ended - begun).as_secs_f64(),
            acknowledged: pages.trips.iter().filter(|trip| trip.acknowledged.is_some_and(within)).count() as u64,
            acknowledged_us: Spread::of(counted().map(|trip| micros(trip, trip.acknowledged)).collect()),
            delivered_us: Spread::of(counted().map(|trip| micros(trip, trip.delivered)).collect()),
            lost_connections: pages.lost,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize) -> Message {
        let text = format!("네, 7시에 거기서 봬요. {number}");
        serde_json::from_value(serde_json::json!({"seq": 1, "from": 1, "time": 1, "text": text})).expect("a message")
    }

    /// Two messages sent in the time that counts.
    fn two() -> Book {
        let book = Book::default();
        book.sent(Instant::now());
        book.begin_anew();
        book.mark_begin();
        assert_eq!([book.sent(Instant::now()), book.sent(Instant::now())], [1, 2]);
        book
    }

    #[test]
    fn what_was_answered_once_and_heard_counts() {
        let book = two();
        for number in [1, 2] {
            book.pages.lock().acknowledge(Some(number));
            assert!(!book.is_settled());
        }
        book.mark_end();
        for number in [2, 1, 2] {
            book.pages.lock().deliver(&message(number));
        }
        assert!(book.is_settled());
        let figures = book.figures().expect("figures");
        assert_eq!((figures.acknowledged, figures.acknowledged_us.count, figures.delivered_us.count), (2, 2, 2));
    }

    #[test]
    fn what_is_missing_or_comes_twice_gives_no_figures() {
        let refused = |harm: fn(&mut Pages), why: &str| {
            let book = two();
            let mut pages = book.pages.lock();
            pages.acknowledge(Some(1));
            pages.acknowledge(Some(2));
            pages.deliver(&message(1));
            harm(&mut pages);
            drop(pages);
            book.mark_end();
            let error = book.figures().expect_err("no figures").to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(|_| (), "1 of 2 messages");
        refused(
            |pages| {
                pages.deliver(&message(2));
                pages.acknowledge(Some(2));
            },
            "1 of 2 messages",
        );
        refused(|pages| pages.deliver(&message(0)), "which was not under way");
        refused(|pages| pages.acknowledge(Some(3)), "which was not under way");
    }
}
