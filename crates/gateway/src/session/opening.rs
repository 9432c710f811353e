//! A session on its way from hello to its live stream, without its socket: what to send, one frame after the other.

use std::sync::Arc;
use std::time::Instant;

use ieum_core::ids::Position;
use ieum_core::kv::{self, Read};
use ieum_core::query::catch_up::Start;
use ieum_planted::Bug;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{ServerFrame, Welcome};

use super::hello::{self, Asked, Device};
use super::{Live, Pages, Session};
use crate::Gateway;
use crate::cell::Cell;

/// A session that is being brought up to the view. It reads the view, so its steps may take a while.
#[derive(Debug)]
pub struct Opening<V> {
    session: Arc<Session>,
    /// The last number that the device has used.
    last: u64,
    start: Start,
    under_way: Option<CatchUp<V>>,
}

/// A catch-up from one look at the view.
#[derive(Debug)]
struct CatchUp<V> {
    pages: Pages<V>,
    /// Where the look stands.
    at: Position,
    /// The session is registered, so the live stream begins behind it.
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
        let mut catch_up = match self.under_way.take() {
            Some(catch_up) => catch_up,
            None => self.look(gateway)?,
        };
        if let Some(page) = catch_up.pages.next_page().map_err(|error| failed(&error))? {
            self.under_way = Some(catch_up);
            return Ok(Step::More(ServerFrame::CatchUp(page)));
        }
        let (at, pos) = (catch_up.at, catch_up.at.to_string());
        if !catch_up.near {
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

    /// Looks at the view; before that the session is registered if what is left to tell is little, so that nothing falls between the
    /// catch-up and the live stream.
    fn look<C: Cell<View = V>>(&self, gateway: &Gateway<C>) -> Result<CatchUp<V>, Problem> {
        let near = hello::is_near(self.start, gateway.cell.applied());
        if near && !Bug::SessionEntersLate.planted() {
            gateway.hub.enter(&self.session);
        }
        let pages = Pages::new(gateway.cell.view(), self.session.user, self.start);
        // The device may have been logged out before the session was registered.
        if near && !pages.is_signed_in(self.session.device).map_err(|error| failed(&error))? {
            return Err(Code::LoggedOut.problem());
        }
        let at = pages.position().map_err(|error| failed(&error))?;
        Ok(CatchUp { pages, at, near })
    }
}

fn failed(error: &kv::Error) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "reading the view for a session");
    Code::Internal.problem()
}
