//! What was printed of each room, so that each message and each change of one is printed once, whatever a catch-up repeats.

use std::collections::{HashMap, HashSet, VecDeque};

use ieum_protocol::frames::RoomChanges;
use ieum_protocol::objects::Message;

/// Of so many messages of a room it is remembered which they were: a catch-up holds the last 50.
const MARKS: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Printed {
    rooms: HashMap<u64, Room>,
    /// Rooms that came since the copy became void; `None` while it is not.
    anew: Option<HashSet<u64>>,
}

#[derive(Debug, Default)]
struct Room {
    /// The first message that is seen of it: another one after having left and come again.
    from: u64,
    /// The last message that was printed, or was there before.
    last: u64,
    /// The last ones, ascending.
    marks: VecDeque<Mark>,
}

/// Which message it was: after the log was restored another one can have its seq.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    seq: u64,
    time: u64,
    edited_at: Option<u64>,
    deleted: bool,
}

impl Mark {
    fn of(message: &Message) -> Self {
        let Message { seq, time, edited_at, deleted, .. } = *message;
        Self { seq, time, edited_at, deleted }
    }
}

impl Room {
    fn mark(&self, seq: u64) -> Option<&Mark> {
        self.marks.iter().rev().find(|mark| mark.seq == seq)
    }

    fn put(&mut self, message: &Message) {
        let at = self.marks.partition_point(|mark| mark.seq < message.seq);
        match self.marks.get_mut(at).filter(|mark| mark.seq == message.seq) {
            Some(mark) => *mark = Mark::of(message),
            None => self.marks.insert(at, Mark::of(message)),
        }
        if self.marks.len() > MARKS {
            self.marks.pop_front();
        }
    }
}

impl Printed {
    /// What was there before: nobody prints it.
    pub(crate) fn was_there(&mut self, changes: &RoomChanges) {
        self.enter(changes.room.id, changes.room.from);
        if let Some(room) = self.rooms.get_mut(&changes.room.id) {
            room.last = changes.room.last;
            changes.messages.iter().for_each(|message| room.put(message));
        }
    }

    /// Whether it is the room as it was entered; with another first message it was left meanwhile, and entered again.
    pub(crate) fn is_in(&self, room: u64, from: u64) -> bool {
        self.rooms.get(&room).is_some_and(|known| known.from == from)
    }

    pub(crate) fn knows(&self, room: u64) -> bool {
        self.rooms.contains_key(&room)
    }

    /// Somebody is in the room now and sees it from there on.
    pub(crate) fn enter(&mut self, room: u64, from: u64) {
        self.rooms.insert(room, Room { from, last: from.saturating_sub(1), marks: VecDeque::new() });
    }

    pub(crate) fn leave(&mut self, room: u64) {
        self.rooms.remove(&room);
    }

    /// The last message of a room.
    pub(crate) fn last(&self, room: u64) -> u64 {
        self.rooms.get(&room).map_or(0, |room| room.last)
    }

    pub(crate) fn set_last(&mut self, room: u64, last: u64) {
        self.rooms.entry(room).or_default().last = last;
    }

    /// Whether a message was printed, or was there before; from now on it was.
    pub(crate) fn message(&mut self, room: u64, message: &Message) -> bool {
        let room = self.rooms.entry(room).or_default();
        let same = room.mark(message.seq).is_some_and(|mark| mark.time == message.time);
        if message.seq <= room.last {
            return true;
        }
        room.last = message.seq;
        if !same {
            room.put(message);
        }
        same
    }

    /// Whether the message was printed as it is now; from now on it was.
    pub(crate) fn change(&mut self, room: u64, message: &Message) -> bool {
        let room = self.rooms.entry(room).or_default();
        let same = room.mark(message.seq) == Some(&Mark::of(message));
        room.put(message);
        same
    }

    /// Whether it is remembered which message that is.
    pub(crate) fn remembers(&self, room: u64, seq: u64) -> bool {
        self.rooms.get(&room).is_some_and(|room| room.mark(seq).is_some())
    }

    /// What the client held is void, and all of it comes again.
    pub(crate) fn begin_anew(&mut self) {
        self.anew = Some(HashSet::new());
    }

    pub(crate) fn is_anew(&self) -> bool {
        self.anew.is_some()
    }

    /// A room came. Where the log was restored to before what was printed, other messages have taken the seqs: goes back to before the
    /// first of those, and tells whether there may be some before `messages`.
    pub(crate) fn came(&mut self, changes: &RoomChanges) -> bool {
        let Some(room) = self.rooms.get_mut(&changes.room.id) else { return false };
        room.last = room.last.min(changes.room.last);
        let Some(anew) = &mut self.anew else { return false };
        anew.insert(changes.room.id);
        let other = |message: &&Message| room.mark(message.seq).is_some_and(|mark| mark.time != message.time);
        let Some(seq) = changes.messages.iter().find(other).map(|message| message.seq) else { return false };
        room.last = room.last.min(seq.saturating_sub(1));
        if !changes.gap || changes.messages.first().is_none_or(|first| first.seq != seq) {
            return false;
        }
        // Marks that agree keep what is the same from being printed again.
        let oldest = room.marks.front().map_or(seq, |mark| mark.seq);
        room.last = room.last.min(oldest.saturating_sub(1));
        true
    }

    /// Everything came: the rooms that did not are those that one is no longer in.
    pub(crate) fn complete(&mut self) -> Vec<u64> {
        let Some(came) = self.anew.take() else { return Vec::new() };
        let mut gone: Vec<u64> = self.rooms.keys().copied().filter(|room| !came.contains(room)).collect();
        gone.sort_unstable();
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(seq: u64, time: u64) -> Message {
        Message {
            text: Some("x".to_owned()),
            ..serde_json::from_value(json!({"seq":seq,"from":1,"time":time})).unwrap()
        }
    }

    fn changes(seqs: std::ops::RangeInclusive<u64>, life: u64, gap: bool) -> RoomChanges {
        let room = json!({"id":1,"kind":"group","members":2,"role":"member","from":1,"last":seqs.end(),"last_time":1,"read":0,"unread":0});
        let messages = seqs.map(|seq| message(seq, life * 1000 + seq)).collect();
        RoomChanges {
            room: serde_json::from_value(room).unwrap(),
            fresh: true,
            messages,
            gap,
            changed: Vec::new(),
            receipts: Vec::new(),
        }
    }

    fn told(printed: &mut Printed, changes: &RoomChanges) -> Vec<u64> {
        let news = changes.messages.iter().filter(|message| !printed.message(1, message));
        news.map(|message| message.seq).collect()
    }

    #[test]
    fn a_message_is_printed_once_however_often_it_comes() {
        let mut printed = Printed::default();
        printed.was_there(&changes(1..=3, 1, false));
        assert!(told(&mut printed, &changes(2..=5, 1, false)).eq(&[4, 5]));
        printed.begin_anew();
        let all = changes(1..=6, 1, false);
        assert!(!printed.came(&all));
        assert_eq!(told(&mut printed, &all), [6]);
        assert!(printed.complete().is_empty());
    }

    #[test]
    fn what_took_the_seqs_of_lost_messages_is_printed() {
        let mut printed = Printed::default();
        printed.was_there(&changes(1..=10, 1, false));
        printed.begin_anew();
        let mut all = changes(1..=9, 1, false);
        for message in &mut all.messages[6..] {
            message.time += 5_000;
        }
        assert!(!printed.came(&all));
        assert_eq!(told(&mut printed, &all), [7, 8, 9]);
    }

    #[test]
    fn where_all_that_came_is_other_what_is_before_may_be_too() {
        let mut printed = Printed::default();
        printed.was_there(&changes(1..=40, 1, false));
        printed.begin_anew();
        let all = changes(30..=60, 2, true);
        assert!(printed.came(&all));
        assert_eq!(printed.last(1), 0, "the page over HTTP begins at the oldest that is remembered");
        assert!(printed.message(1, &message(1, 1_001)) && !printed.message(1, &message(2, 2_002)));
    }

    #[test]
    fn a_room_that_does_not_come_again_was_left_and_one_with_another_first_message_entered_again() {
        let mut printed = Printed::default();
        printed.was_there(&changes(1..=3, 1, false));
        assert!(printed.is_in(1, 1) && !printed.is_in(1, 7) && !printed.is_in(2, 1));
        printed.begin_anew();
        assert_eq!(printed.complete(), [1]);
        printed.leave(1);
        assert!(!printed.knows(1));
    }

    #[test]
    fn a_change_is_printed_once() {
        let mut printed = Printed::default();
        printed.was_there(&changes(1..=3, 1, false));
        let edited = Message { edited_at: Some(9), ..message(2, 1_002) };
        assert!(!printed.change(1, &edited));
        assert!(printed.change(1, &edited));
        assert!(!printed.change(1, &Message { deleted: true, ..edited }));
    }
}
