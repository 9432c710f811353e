//! A session on its way from hello to its live stream, without its socket: what to send, one frame after the other.

use std::sync::Arc;
use std::time::Instant;

use ieum_core::ids::Position;
use ieum_core::kv::Read;
use ieum_core::query::catch_up::{self, Start};
use ieum_planted::Bug;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{ServerFrame, Welcome};

use super::hello::{self, Asked, Device};
use super::{Live, Pages, Session, failed};
use crate::Gateway;
use crate::cell::Cell;
use crate::hub::{Arrival, Place};
use crate::limits;

/// A session that is being brought up to the view. It reads the view, so its steps may take a while.
#[derive(Debug)]
pub struct Opening<V> {
    session: Arc<Session>,
    /// Its device's place, until the live stream has it.
    place: Option<Place>,
    /// The last number that the device has used.
    last: u64,
    start: Start,
    /// Which change of the endpoints the welcome told.
    endpoints: u64,
    under_way: Option<Round<V>>,
}

/// A round of the catch-up, which tells all that changed between its start and its first look.
#[derive(Debug)]
struct Round<V> {
    pages: Pages,
    /// Where the first look stands.
    at: Position,
    /// The look that the next page is read from; none when that is a new one.
    look: Option<V>,
    /// The session gets what is delivered, so the live stream begins behind the look. Holds only while there is no other look than the first: the
    /// stream would tell again, out of order, what a later one has shown.
    near: bool,
}

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// Send this and go on.
    More(ServerFrame),
    /// Send this; then the live stream begins.
    Live(ServerFrame, Box<Live>),
}

impl<V: Read> Opening<V> {
    /// Signs a device in, gives it its place and welcomes it. `arrival` is when its hello came.
    pub fn begin<C: Cell<View = V>>(
        gateway: &Gateway<C>,
        asked: &Asked,
        arrival: Arrival,
        now: Instant,
    ) -> Result<(Welcome, Self), Problem> {
        if gateway.stalled() {
            return Err(gateway.problem(Code::Unavailable));
        }
        let view = gateway.cell.view();
        let found = hello::sign_in(&view, asked).map_err(|error| failed(&error))?;
        let Device { user, device, start, last } = found.ok_or_else(|| Code::SecretWrong.problem())?;
        // Only behind the secret: nobody else uses up a device's hellos.
        gateway.limits.hellos.try_take(device, now).map_err(limits::rate_limited)?;
        let session = Session::new(user, device, arrival, &gateway.options, now);
        let place = gateway.hub.take(session, gateway.options.limits.sessions);
        let place = place.map_err(|code| gateway.problem(code))?;
        // Behind that: whoever stops the node says so first and then ends the sessions that have a place.
        gateway.still_here()?;
        let at = ieum_core::apply::applied(&view).map_err(|error| failed(&error))?.position;
        let endpoints = gateway.endpoints_version();
        let welcome = Welcome {
            n: last,
            pos: at.to_string(),
            user: user.0,
            resync: start == Start::Resync,
            endpoints: gateway.endpoints(),
            takes: vec![ieum_protocol::TYPING.to_owned()],
        };
        let session = Arc::clone(place.session());
        Ok((welcome, Self { session, place: Some(place), last, start, endpoints, under_way: None }))
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What comes next. An error ends the session.
    pub fn step<C: Cell<View = V>>(&mut self, gateway: &Gateway<C>, now: Instant) -> Result<Step, Problem> {
        if gateway.stalled() {
            return Err(gateway.problem(Code::Unavailable));
        }
        self.goes_on(gateway)?;
        let (mut round, view) = match self.under_way.take() {
            Some(mut round) => match round.look.take() {
                Some(view) => (round, view),
                None => (round, self.look_again(gateway)?),
            },
            None => self.look(gateway)?,
        };
        if Bug::RoundEndsAtLastLook.planted() {
            round.at = ieum_core::apply::applied(&view).map_err(|error| failed(&error))?.position;
        }
        if let Some(page) = round.pages.next_page(&view).map_err(|error| failed(&error))? {
            self.under_way = Some(Round { look: Some(view), ..round });
            return Ok(Step::More(ServerFrame::CatchUp(page)));
        }
        let (at, pos) = (round.at, round.at.to_string());
        if !round.near {
            // The cursor moves already, so that a connection that breaks now need not begin again.
            self.start = Start::Since(at);
            return Ok(Step::More(ServerFrame::Events { pos, list: Vec::new() }));
        }
        if Bug::SessionEntersLate.planted() {
            gateway.hub.enter(&self.session);
        }
        let commands = gateway.limits.commands.of(self.session.device, now);
        // There is one end of a catch-up.
        let place = self.place.take().ok_or_else(|| Code::Internal.problem())?;
        let live = Live::new(place, self.last, at, commands).told(self.endpoints);
        Ok(Step::Live(ServerFrame::CaughtUp { pos }, Box::new(live)))
    }

    /// Whether the session gets what is delivered and its live stream follows what is read from the look that it holds.
    #[must_use]
    pub fn is_near(&self) -> bool {
        self.under_way.as_ref().is_some_and(|round| round.near)
    }

    /// Lets go of the look at the view before the client is waited for: a look keeps everything in memory that is written behind it, and
    /// a client may take its time. What is left of the round is read from later looks; the session, if it gets already what is delivered, gets
    /// nothing more, and another round follows.
    pub fn pause<C: Cell<View = V>>(&mut self, gateway: &Gateway<C>) -> Result<(), Problem> {
        let Some(round) = &mut self.under_way else { return Ok(()) };
        round.look = None;
        if !std::mem::take(&mut round.near) {
            return Ok(());
        }
        gateway.hub.step_out(&self.session);
        self.session.queue.lock().start_over();
        self.goes_on(gateway)
    }

    /// Whether nobody has ended the session meanwhile.
    fn goes_on<C: Cell<View = V>>(&self, gateway: &Gateway<C>) -> Result<(), Problem> {
        // It has no answers yet that an end would have to come behind.
        let over = self.session.over().or(self.session.finishing().map(|(code, _)| code));
        over.map_or(Ok(()), |code| Err(gateway.problem(code)))
    }

    /// Begins a round with a look at the view; if what is left to tell is little, the session gets what is delivered from before that on, so
    /// that nothing falls between the catch-up and the live stream.
    fn look<C: Cell<View = V>>(&self, gateway: &Gateway<C>) -> Result<(Round<V>, V), Problem> {
        let near = hello::is_near(self.start, gateway.cell.applied());
        if near && !Bug::SessionEntersLate.planted() {
            gateway.hub.enter(&self.session);
        }
        let view = self.look_again(gateway)?;
        let at = ieum_core::apply::applied(&view).map_err(|error| failed(&error))?.position;
        let pages = Pages::new(self.session.user, self.start);
        Ok((Round { pages, at, look: None, near }, view))
    }

    /// Another look, if it may be told.
    fn look_again<C: Cell<View = V>>(&self, gateway: &Gateway<C>) -> Result<V, Problem> {
        let view = gateway.cell.view();
        // The device may have been logged out meanwhile; a session that gets nothing of what is delivered is not told otherwise.
        let owner = ieum_core::apply::owner_of(&view, self.session.device).map_err(|error| failed(&error))?;
        if owner.is_none() {
            return Err(Code::LoggedOut.problem());
        }
        // Else the device asks again with its cursor, and is brought up from nothing.
        if !catch_up::reaches(&view, self.start).map_err(|error| failed(&error))? {
            return Err(Code::SlowReader.problem());
        }
        Ok(view)
    }
}
