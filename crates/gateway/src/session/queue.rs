//! What waits to be sent to one session.

use std::collections::VecDeque;

use bytes::Bytes;
use ieum_core::ids::Position;
use ieum_planted::Bug;
use ieum_protocol::errors::Code;
use tokio::time::Instant;

/// What a session is sent, in order.
#[derive(Debug)]
pub(crate) enum Item {
    /// An encoded event of the stream.
    Event(Bytes),
    /// A whole frame: the answer to a command.
    Answer(Bytes),
    /// A whole frame that may be lost.
    Signal(Bytes),
    /// The stream ends here, behind what came before.
    End(Code),
}

/// Where so much waits there is no room for what may be lost.
const FEW: usize = 16;

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Event(bytes) | Self::Answer(bytes) | Self::Signal(bytes) => bytes.len(),
            Self::End(_) => 0,
        }
    }
}

/// A bounded queue. When it is full the session's stream ends, so that nothing is ever skipped inside a stream.
#[derive(Debug)]
pub(crate) struct Queue {
    items: VecDeque<(Position, Item)>,
    bytes: usize,
    /// Whether the session was told that there is something.
    woken: bool,
    ended: Option<Code>,
    /// Why and since when the stream is to end behind what waits.
    finishing: Option<(Code, Instant)>,
    max_items: usize,
    max_bytes: usize,
}

impl Queue {
    pub(crate) fn new(max_items: usize, max_bytes: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, woken: false, ended: None, finishing: None, max_items, max_bytes }
    }

    /// Adds an item; true when the session must be woken once its position is complete. That is so for the first of each position: a session
    /// that was woken before may look in between, when it may not take this one yet.
    pub(crate) fn push(&mut self, position: Position, item: Item) -> bool {
        if self.ended.is_some() {
            return false;
        }
        if self.items.len() >= self.max_items || self.bytes >= self.max_bytes {
            if Bug::SkipEventWhenFull.planted() {
                return false;
            }
            return self.end(Code::SlowReader);
        }
        let first = self.items.back().is_none_or(|(before, _)| *before != position);
        self.bytes += item.bytes();
        self.items.push_back((position, item));
        !std::mem::replace(&mut self.woken, true) || first
    }

    /// Adds what may be lost, where little waits: it never ends a stream. Tells whether it was taken, and whether the session must be woken.
    pub(crate) fn signal(&mut self, frame: Bytes) -> (bool, bool) {
        if self.ended.is_some() || self.finishing.is_some() || self.items.len() >= FEW.min(self.max_items / 2) {
            return (false, false);
        }
        // Of no position of its own: it waits for no batch but those whose events are before it.
        self.bytes += frame.len();
        self.items.push_back((Position::default(), Item::Signal(frame)));
        (true, !std::mem::replace(&mut self.woken, true))
    }

    /// Ends the stream behind what waits; true when the session must be woken: also when it was before, since one that sends looks whether
    /// it is over and at nothing else.
    pub(crate) fn finish(&mut self, position: Position, code: Code, now: Instant) -> bool {
        if self.ended.is_some() {
            return false;
        }
        self.finishing.get_or_insert((code, now));
        self.items.push_back((position, Item::End(code)));
        self.woken = true;
        true
    }

    /// Ends the stream; true when the session must be woken. What waits is dropped: the client asks again from its cursor. The first reason
    /// counts, but for a full queue, which is none to a session that is not live yet and may still begin another round.
    pub(crate) fn end(&mut self, code: Code) -> bool {
        if self.ended.is_none_or(|before| before == Code::SlowReader) {
            self.ended = Some(code);
        }
        self.items = VecDeque::new();
        self.bytes = 0;
        !std::mem::replace(&mut self.woken, true)
    }

    /// How much waits: items and their bytes.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.items.len(), self.bytes)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Why the stream has ended, if it has.
    pub(crate) fn ended(&self) -> Option<Code> {
        self.ended
    }

    /// Why and since when the stream is to end behind what waits, if it is.
    pub(crate) fn finishing(&self) -> Option<(Code, Instant)> {
        self.finishing
    }

    /// Empties the queue of a session that begins another round, which tells what was in it or did not fit.
    pub(crate) fn start_over(&mut self) {
        self.ended = self.ended.filter(|code| *code != Code::SlowReader);
        (self.items, self.bytes, self.woken) = (VecDeque::new(), 0, false);
    }

    /// Takes everything up to `complete` into `into`, and says whether the stream has ended.
    pub(crate) fn take(&mut self, complete: Position, into: &mut Vec<(Position, Item)>) -> Option<Code> {
        self.woken = false;
        while let Some((position, _)) = self.items.front()
            && *position <= complete
            && let Some(item) = self.items.pop_front()
        {
            self.bytes -= item.1.bytes();
            into.push(item);
        }
        if self.items.is_empty() && self.items.capacity() > 64 {
            // An idle session gives back what a burst took.
            self.items = VecDeque::new();
        }
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &'static str) -> Item {
        Item::Event(Bytes::from_static(text.as_bytes()))
    }

    fn at(ordinal: u64) -> Position {
        Position::new(1, ordinal)
    }

    #[test]
    fn only_complete_positions_are_taken() {
        let mut queue = Queue::new(10, 1_000);
        assert!(queue.push(at(1), event("a")));
        assert!(!queue.push(at(1), event("a")), "it is woken once for a position");
        assert!(queue.push(at(2), event("b")), "what it is woken for may be taken before 2 is complete");
        let mut taken = Vec::new();
        assert_eq!(queue.take(at(1), &mut taken), None);
        assert_eq!(taken.len(), 2);
        assert!(queue.push(at(2), event("c")));
        queue.take(at(2), &mut taken);
        assert_eq!(taken.len(), 4);
    }

    #[test]
    fn what_may_be_lost_comes_in_turn_and_never_ends_a_stream() {
        let mut queue = Queue::new(8_192, 1_000_000);
        let typing = || Bytes::from_static(b"typing");
        assert_eq!(queue.signal(typing()), (true, true));
        assert!(queue.push(at(2), event("a")), "it may take the signal before 2 is complete");
        assert_eq!(queue.signal(typing()), (true, false));
        let mut taken = Vec::new();
        assert_eq!(
            (queue.take(at(1), &mut taken), taken.len()),
            (None, 1),
            "the second is behind what is not complete"
        );
        while queue.signal(typing()).0 {}
        assert_eq!(queue.items.len(), FEW);
        assert_eq!((queue.take(at(2), &mut taken), queue.bytes), (None, 0));
        queue.push(at(3), event("b"));
        queue.finish(at(3), Code::LoggedOut, Instant::now());
        assert_eq!(queue.signal(typing()), (false, false));
    }

    #[test]
    fn a_queue_that_starts_over_is_over_for_whatever_else_than_being_full() {
        let mut queue = Queue::new(1, 1_000);
        queue.push(at(1), event("a"));
        queue.push(at(2), event("b"));
        assert_eq!(queue.ended(), Some(Code::SlowReader));
        queue.start_over();
        assert_eq!(queue.ended(), None);
        assert!(queue.push(at(3), event("c")), "it is woken again");
        queue.push(at(4), event("d"));
        queue.end(Code::Replaced);
        queue.end(Code::Silent);
        queue.start_over();
        assert_eq!(queue.ended(), Some(Code::Replaced));
    }

    #[test]
    fn a_full_queue_ends_the_stream_and_skips_nothing() {
        let mut queue = Queue::new(2, 1_000);
        for ordinal in 1..=3 {
            queue.push(at(ordinal), event("x"));
        }
        let mut taken = Vec::new();
        assert_eq!(queue.take(at(9), &mut taken), Some(Code::SlowReader));
        assert!(
            taken.is_empty(),
            "an ended stream has nothing behind its gap, nor anything before it that could hide it"
        );
        let mut queue = Queue::new(10, 3);
        queue.push(at(1), event("long text"));
        queue.push(at(1), event("x"));
        assert_eq!(queue.take(at(9), &mut taken), Some(Code::SlowReader));
    }
}
