//! A session whose live stream has begun, without its socket: frames in, frames out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use ieum_core::batch::{Envelope, Origin};
use ieum_core::ids::{Position, RoomId};
use ieum_core::query;
use ieum_protocol::MAX_IN_FLIGHT;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{ClientFrame, Cmd, ServerFrame, Typing};

use super::queue::Item;
use super::typed::Typed;
use super::{Session, parse};
use crate::Gateway;
use crate::cell::{Cell, Refused, Ticket, Waiter};
use crate::hub::Place;
use crate::limits::{self, Allowance};
use crate::map::{changes, outcomes};

/// A session whose live stream has begun. It is handed time, the client's frames and what waits in the session's queue, and hands
/// back the frames to send.
#[derive(Debug)]
pub struct Live {
    place: Place,
    /// The number that the device's next command must have.
    next: u64,
    /// Up to where the client has everything.
    sent: Position,
    commands: Allowance,
    /// Commands refused since it was asked last.
    refused: u32,
    /// Which change of the endpoints its client was told last.
    endpoints: u64,
    /// Nothing before its person types: most sessions only listen.
    typed: Option<Box<Typed>>,
}

impl Live {
    /// A stream that begins behind `sent`, of a device that has used the numbers up to `last`.
    #[must_use]
    pub fn new(place: Place, last: u64, sent: Position, commands: Allowance) -> Self {
        Self { place, next: last + 1, sent, commands, refused: 0, endpoints: 0, typed: None }
    }

    /// The same, of a client that was told the endpoints as of this change.
    #[must_use]
    pub(crate) fn told(self, endpoints: u64) -> Self {
        Self { endpoints, ..self }
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        self.place.session()
    }

    /// The client's frames are read from here on, so that it can be silent.
    pub fn listen(&self, now: Instant) {
        self.session().listen(now);
    }

    /// They are not read from here on.
    pub fn stop_listening(&self, now: Instant) {
        self.session().stop_listening(now);
    }

    /// Commands that were refused here since this was asked last.
    pub(crate) fn refusals(&mut self) -> u32 {
        std::mem::take(&mut self.refused)
    }

    /// Takes what waits, up to the last complete position, and puts the frames that tell it into `out`. A code is the reason for which the
    /// stream ends behind them.
    pub fn queued(&mut self, complete: Position, out: &mut Vec<Bytes>) -> Option<Code> {
        let mut items = Vec::new();
        let ended = self.session().queue.lock().take(complete, &mut items);
        let mut events = Frame::default();
        for (position, item) in items {
            match item {
                // The catch-up held it already.
                Item::Event(_) if position <= self.sent => {}
                Item::Event(event) => {
                    events.add(&event);
                    out.extend(events.finish_if_long(self.sent));
                }
                Item::Answer(frame) | Item::Signal(frame) => out.push(frame),
                Item::End(code) => {
                    out.extend(events.finish(self.sent.max(position)));
                    return Some(code);
                }
            }
        }
        self.sent = self.sent.max(complete);
        out.extend(events.finish(self.sent));
        ended
    }

    /// Takes a frame of the client's and puts the answers that are known already into `out`. An error ends the session.
    pub fn frame<C: Cell>(
        &mut self,
        gateway: &Gateway<C>,
        text: &str,
        now: Instant,
        out: &mut Vec<Bytes>,
    ) -> Result<(), Problem> {
        self.session().heard(now);
        match parse(text)? {
            ClientFrame::Hello(_) => return Err(Code::BadFrame.problem().detail("hello comes once")),
            ClientFrame::Ping(ping) => {
                if let Some(code) = self.queued(gateway.hub.complete(), out) {
                    return Err(gateway.problem(code));
                }
                out.push(outcomes::text(&ServerFrame::Pong { id: ping.id, pos: self.sent.to_string() }));
                out.extend(gateway.news_of_endpoints(&mut self.endpoints));
            }
            ClientFrame::Typing(Typing { room }) => {
                let (room, every) = (RoomId(room), gateway.options.typing_every);
                if self.typed.get_or_insert_default().admits(room, every, now) {
                    gateway.typed(query::typing::Typing { room, user: self.session().user }, now);
                }
            }
            ClientFrame::Cmd(cmd) => {
                let n = cmd.n;
                if let Some(problem) = self.command(gateway, cmd, now)? {
                    self.refused += 1;
                    let pos = gateway.cell.applied().to_string();
                    out.push(outcomes::text(&ServerFrame::Refused { n, pos, error: gateway.told(problem) }));
                }
            }
        }
        Ok(())
    }

    /// Submits a command whose turn it is, or gives the reason why it was not taken: its number is then unused, and those behind
    /// it are refused too. An error ends the session: the frame is not one of the protocol's.
    fn command<C: Cell>(&mut self, gateway: &Gateway<C>, cmd: Cmd, now: Instant) -> Result<Option<Problem>, Problem> {
        self.next = self.next.min(self.session().first_refused());
        if cmd.n == 0 || cmd.n > self.next {
            return Ok(Some(Code::OutOfOrder.problem()));
        }
        if gateway.stalled() {
            return Ok(Some(Code::Unavailable.problem()));
        }
        if self.session().in_flight() >= MAX_IN_FLIGHT {
            return Ok(Some(Code::Busy.problem()));
        }
        let bad = |bad: changes::NoId| Code::BadFrame.problem().detail(bad.to_string());
        let id = changes::hex16(&cmd.id).map_err(bad)?;
        let origin = Origin::Device { device: self.session().device, number: cmd.n, id };
        let envelope = Envelope { origin, command: changes::command(cmd.change).map_err(bad)? };
        // One row, and only for what is dear in a large room and can be paid at all: not worth another thread.
        if let Err(problem) = self.commands.has_any(now) {
            return Ok(Some(problem));
        }
        let members = limits::room_of(&envelope.command).map(|room| limits::members(&gateway.cell.view(), room));
        let members = members.transpose().map_err(|error| super::failed(&error))?.unwrap_or_default();
        if let Err(problem) = self.commands.take(limits::cost(&envelope.command, members), now) {
            return Ok(Some(problem));
        }
        self.session().in_flight.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket(Waiter::Session(Arc::clone(self.session()), cmd.n));
        if let Err((refused, _)) = gateway.cell.submit(&envelope, ticket) {
            self.session().in_flight.fetch_sub(1, Ordering::Relaxed);
            return match refused {
                Refused::Busy => Ok(Some(Code::Busy.problem())),
                Refused::TooLarge => Err(Code::TooLarge.problem()),
            };
        }
        self.next = self.next.max(cmd.n + 1);
        Ok(None)
    }
}

/// Events beyond this go into another frame, in bytes.
const LONG_FRAME: usize = 64 * 1024;

/// An `events` frame being put together from encoded events.
#[derive(Default)]
struct Frame {
    list: Vec<u8>,
}

impl Frame {
    fn add(&mut self, event: &[u8]) {
        if !self.list.is_empty() {
            self.list.push(b',');
        }
        self.list.extend_from_slice(event);
    }

    /// The frame, if it is long. It does not move the cursor beyond `before`, because more events of its position follow.
    fn finish_if_long(&mut self, before: Position) -> Option<Bytes> {
        if self.list.len() < LONG_FRAME { None } else { std::mem::take(self).finish(before) }
    }

    /// The frame, if it holds anything.
    fn finish(self, position: Position) -> Option<Bytes> {
        if self.list.is_empty() {
            return None;
        }
        let mut frame = Vec::with_capacity(self.list.len() + 48);
        frame.extend_from_slice(br#"{"events":{"pos":""#);
        frame.extend_from_slice(position.to_string().as_bytes());
        frame.extend_from_slice(br#"","list":["#);
        frame.extend_from_slice(&self.list);
        frame.extend_from_slice(b"]}}");
        Some(frame.into())
    }
}
