//! What a store holds, and how writes change it.

use super::Write;
use crate::Position;
use crate::command::Command;

/// What a store held when it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// The last number given to a command; `None` if the counter is not known.
    pub last: Option<u64>,
    /// The highest number that was answered; 0 for none.
    pub answered: u64,
    /// Up to where the app has the stream in its own durable copy.
    pub cursor: Option<Position>,
    /// The highest position seen anywhere.
    pub seen: Option<Position>,
    /// The cell's servers, as one of them named them last.
    pub endpoints: Vec<String>,
    /// Commands that are not answered, by place.
    pub outbox: Vec<Command>,
    /// Commands that were acknowledged lately, by place: offered again if the log was restored to before them.
    pub kept: Vec<Command>,
}

impl Saved {
    /// What a write does: the meaning that every store gives it.
    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::Identity(_) => {}
            Write::Add(command) => {
                self.last = command.n.or(self.last);
                self.outbox.push(command.clone());
            }
            Write::Number { place, n } => self.change(*place, |command| command.n = Some(*n)),
            Write::Replace { place, id, body } => self.change(*place, |command| {
                command.id = *id;
                command.body = body.clone();
            }),
            Write::Answered { place, n, keep } => {
                self.answered = self.answered.max(*n);
                if let Some(command) = take(&mut self.outbox, *place).filter(|_| *keep) {
                    put(&mut self.kept, command);
                }
            }
            Write::Reoffer { place } => {
                if let Some(command) = take(&mut self.kept, *place) {
                    put(&mut self.outbox, command);
                }
            }
            Write::Forget { place } => {
                take(&mut self.outbox, *place);
                take(&mut self.kept, *place);
            }
            Write::Counter { last, answered } => (self.last, self.answered) = (Some(*last), *answered),
            Write::Cursor(cursor) => self.cursor.clone_from(cursor),
            Write::Seen(seen) => self.seen = Some(seen.clone()),
            Write::Endpoints(endpoints) => self.endpoints.clone_from(endpoints),
        }
    }

    fn change(&mut self, place: u64, change: impl FnOnce(&mut Command)) {
        if let Some(command) = self.outbox.iter_mut().find(|command| command.place == place) {
            change(command);
        }
    }
}

fn take(list: &mut Vec<Command>, place: u64) -> Option<Command> {
    let at = list.iter().position(|command| command.place == place)?;
    Some(list.remove(at))
}

fn put(list: &mut Vec<Command>, command: Command) {
    let at = list.partition_point(|other| other.place < command.place);
    list.insert(at, command);
}
