//! Telling that the person types. Nothing of it is kept: what cannot be told now is not told.

use ieum_protocol::frames::{ClientFrame, Typing, Welcome};
use ieum_protocol::{TYPING, TYPING_EVERY_MS};

use super::{Link, Machine, Moment};

/// What a session's server was told.
#[derive(Debug)]
pub(super) struct Session {
    /// An older server does not know the frame, and would end the session.
    taken: bool,
    /// Where the person types, and since when the server knows.
    told: Option<(u64, u64)>,
}

impl Session {
    pub(super) fn of(welcome: &Welcome) -> Self {
        Self { taken: welcome.takes.iter().any(|frame| frame == TYPING), told: None }
    }
}

impl Machine {
    /// Input: the person types in a room. Say it with every key: the server is told as often as it wants to hear it.
    pub fn typing(&mut self, moment: Moment, room: u64) {
        let Link::Up(session) = &mut self.link else { return };
        if !session.caught_up || !session.typing.taken {
            return;
        }
        let lately = |(of, at)| of == room && moment.now.saturating_sub(at) < TYPING_EVERY_MS;
        if session.typing.told.is_some_and(lately) {
            return;
        }
        session.typing.told = Some((room, moment.now));
        let line = session.line;
        self.send(line, &ClientFrame::Typing(Typing { room }));
    }
}
