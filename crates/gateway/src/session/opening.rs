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

/// A session that is being brought up to the view. It reads the view, so its steps may take a while.
#[derive(Debug)]
pub struct Opening<V> {
    session: Arc<Session>,
    /// The last number that the device has used.
    last: u64,
    start: Start,
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
    /// The session is registered, so the live stream begins behind the look. Holds only while there is no other look than the first: the
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
    /// Signs a device in and welcomes it.
    pub fn begin<C: Cell<View = V>>(
        gateway: &Gateway<C>,
        asked: &Asked,
        now: Instant,
    ) -> Result<(Welcome, Self), Problem> {
        if gateway.stalled() {
            return Err(gateway.problem(Code::Unavailable));
        }
        gateway.still_here()?;
        let view = gateway.cell.view();
        let found = hello::sign_in(&view, asked).map_err(|error| failed(&error))?;
        let Device { user, device, start, last } = found.ok_or_else(|| Code::SecretWrong.problem())?;
        if gateway.hub.sessions() >= gateway.options.limits.sessions && !gateway.hub.has(device) {
            return Err(gateway.problem(Code::TooManySessions));
        }
        let at = ieum_core::apply::applied(&view).map_err(|error| failed(&error))?.position;
        let welcome = Welcome {
            n: last,
            pos: at.to_string(),
            user: user.0,
            resync: start == Start::Resync,
            endpoints: gateway.options.endpoints.clone(),
        };
        let session = Arc::new(Session::new(user, device, &gateway.options, now));
        Ok((welcome, Self { session, last, start, under_way: None }))
    }

    /// The session. Whoever gives it up before it is live takes it out of the hub.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What comes next. An error ends the session.
    pub fn step<C: Cell<View = V>>(&mut self, gateway: &Gateway<C>, now: Instant) -> Result<Step, Problem> {
        if gateway.stalled() {
            return Err(gateway.problem(Code::Unavailable));
        }
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
        let live = Live::new(Arc::clone(&self.session), self.last, at, commands);
        Ok(Step::Live(ServerFrame::CaughtUp { pos }, Box::new(live)))
    }

    /// Whether the session is registered and its live stream follows what is read from the look that it holds.
    #[must_use]
    pub fn is_near(&self) -> bool {
        self.under_way.as_ref().is_some_and(|round| round.near)
    }

    /// Lets go of the look at the view before the client is waited for: a look keeps everything in memory that is written behind it, and
    /// a client may take its time. What is left of the round is read from later looks; the session, if it is registered already, is taken
    /// out of the hub again, and another round follows.
    pub fn pause<C: Cell<View = V>>(&mut self, gateway: &Gateway<C>, now: Instant) -> Result<(), Problem> {
        let Some(round) = &mut self.under_way else { return Ok(()) };
        round.look = None;
        if !std::mem::take(&mut round.near) {
            return Ok(());
        }
        gateway.hub.leave(&self.session);
        match self.session.queue.lock().ended() {
            // What its queue could not hold, the next round tells.
            None | Some(Code::SlowReader) => {}
            Some(code) => return Err(gateway.problem(code)),
        }
        let Session { user, device, .. } = *self.session;
        self.session = Arc::new(Session::new(user, device, &gateway.options, now));
        Ok(())
    }

    /// Begins a round with a look at the view; before that the session is registered if what is left to tell is little, so that nothing
    /// falls between the catch-up and the live stream.
    fn look<C: Cell<View = V>>(&self, gateway: &Gateway<C>) -> Result<(Round<V>, V), Problem> {
        let near = hello::is_near(self.start, gateway.cell.applied());
        if near && !Bug::SessionEntersLate.planted() {
            gateway.hub.enter(&self.session);
            // Behind the registration: whoever stops the node says so first and then ends the sessions that are registered.
            gateway.still_here()?;
        }
        let view = self.look_again(gateway)?;
        let at = ieum_core::apply::applied(&view).map_err(|error| failed(&error))?.position;
        let pages = Pages::new(self.session.user, self.start);
        Ok((Round { pages, at, look: None, near }, view))
    }

    /// Another look, if it may be told.
    fn look_again<C: Cell<View = V>>(&self, gateway: &Gateway<C>) -> Result<V, Problem> {
        let view = gateway.cell.view();
        // The device may have been logged out meanwhile; a session that is not registered is not told otherwise.
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
