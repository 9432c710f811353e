//! Brings what was applied to the sessions of this node.
//!
//! ```text
//!  deliver(batch) ──► each event, encoded once ──► queue of every session concerned
//!                 ──► then `complete` moves to the batch's position, and the sessions are woken
//! ```
//!
//! A session takes from its queue only what belongs to complete positions, so that the cursor which it tells its client never
//! stands in the middle of a batch. A session enters the stream before it reads the view at S: batches delivered before are in S, and what
//! comes from S's part of the log again is dropped by its position. So there is no gap and no overlap.
//!
//! Long before that, from its hello on, it holds its device's [`Place`]: so sessions that catch up count like any other, and there is one of
//! each device, whose hello came last.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ieum_core::event::{Audience, Event, News};
use ieum_core::ids::{DeviceId, Position, UserId};
use ieum_core::kv::Read;
use ieum_core::outcome::Outcome;
use ieum_planted::Bug;
use ieum_protocol::errors::Code;
use parking_lot::RwLock;

use crate::cell::{Ticket, Waiter};
use crate::map::{objects, outcomes};
use crate::session::Session;

/// The sessions of a node.
#[derive(Debug, Default)]
pub struct Hub {
    sessions: RwLock<Sessions>,
    complete: RwLock<Position>,
    /// Hellos that came so far.
    hellos: AtomicU64,
    /// Events put into queues since the start.
    pub(crate) delivered: AtomicU64,
}

#[derive(Debug, Default)]
struct Sessions {
    /// Who is told what happens: sessions that are live, or will be when what is read now is sent.
    users: HashMap<UserId, Vec<Arc<Session>>>,
    /// Who has a device's place: all sessions, from their hello on.
    devices: HashMap<DeviceId, Arc<Session>>,
}

/// When a hello came: which one it was of all that came to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival(u64);

/// A session's hold on its device's place. Dropping it gives the place back, if no later session has taken it.
#[derive(Debug)]
pub struct Place {
    hub: Arc<Hub>,
    session: Arc<Session>,
}

impl Place {
    /// The session.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.leave(&self.session);
    }
}

impl Hub {
    /// A hub without sessions.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Everything up to here was put into the queues.
    #[must_use]
    pub fn complete(&self) -> Position {
        *self.complete.read()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.read().devices.len()
    }

    /// A hello has come.
    pub fn arrival(&self) -> Arrival {
        Arrival(self.hellos.fetch_add(1, Ordering::Relaxed))
    }

    /// Gives a session the place of its device. An earlier session that has it ends, wherever it stands; a later one keeps it. Devices that
    /// have no session yet find room while there are fewer than `most`.
    pub fn take(self: &Arc<Self>, session: Session, most: usize) -> Result<Place, Code> {
        let mut sessions = self.sessions.write();
        let count = if Bug::CatchUpUncounted.planted() { sessions.users.len() } else { sessions.devices.len() };
        match sessions.devices.get(&session.device) {
            Some(holder) if holder.arrival > session.arrival && !Bug::OldSessionReplacesNew.planted() => {
                return Err(Code::Replaced);
            }
            None if count >= most => return Err(Code::TooManySessions),
            _ => {}
        }
        let session = Arc::new(session);
        if let Some(before) = sessions.devices.insert(session.device, Arc::clone(&session)) {
            before.end(Code::Replaced);
            sessions.forget(&before);
        }
        Ok(Place { hub: Arc::clone(self), session })
    }

    /// From here on the session gets what is delivered, if it still has its device's place.
    pub(crate) fn enter(&self, session: &Arc<Session>) {
        let mut sessions = self.sessions.write();
        if sessions.has_place(session) {
            sessions.users.entry(session.user).or_default().push(Arc::clone(session));
        }
    }

    /// From here on it gets nothing, and keeps its place.
    pub(crate) fn step_out(&self, session: &Arc<Session>) {
        self.sessions.write().forget(session);
    }

    /// Puts a frame that may be lost into the queues of those sessions of `users` that somebody looks at; no more than `most`. Gives how many
    /// took it.
    pub(crate) fn signal(
        &self,
        users: &[UserId],
        frame: &Bytes,
        most: usize,
        in_front: impl Fn(&Session) -> bool,
    ) -> usize {
        let sessions = self.sessions.read();
        let of_users = users.iter().filter_map(|user| sessions.users.get(user)).flatten();
        of_users.filter(|session| in_front(session) && session.signal(frame)).take(most).count()
    }

    /// Who is here, ascending: those with a live session that somebody looks at.
    pub(crate) fn people(&self, in_front: impl Fn(&Session) -> bool) -> Vec<UserId> {
        let sessions = self.sessions.read();
        let here = sessions.users.iter().filter(|(_, of_user)| of_user.iter().any(|session| in_front(session)));
        let mut people: Vec<UserId> = here.map(|(user, _)| *user).collect();
        drop(sessions);
        people.sort_unstable();
        people
    }

    fn leave(&self, session: &Arc<Session>) {
        let mut sessions = self.sessions.write();
        if sessions.has_place(session) {
            sessions.devices.remove(&session.device);
        }
        sessions.forget(session);
    }

    /// Ends every session.
    pub(crate) fn end_all(&self, code: Code) {
        self.each(|session| session.end(code));
    }

    pub(crate) fn each(&self, mut visit: impl FnMut(&Arc<Session>)) {
        self.sessions.read().devices.values().for_each(&mut visit);
    }

    /// Takes in what a batch gave: `replies` to those who asked, `events` to those concerned. Called once per batch, in order,
    /// with a `view` that stands at `position` or beyond.
    pub fn deliver(
        &self,
        position: Position,
        replies: Vec<(Ticket, Outcome)>,
        events: Vec<Event>,
        view: impl FnOnce() -> Box<dyn Read>,
    ) {
        let mut woken: Vec<Arc<Session>> = Vec::new();
        let mut requests = Vec::new();
        for (Ticket(waiter), outcome) in replies {
            match waiter {
                Waiter::Session(session, n) => {
                    let unused = matches!(outcome, Outcome::Rejected(r) if r.leaves_number_unused());
                    if session.answer(n, unused, position, outcomes::frame(n, position, &outcome)) {
                        woken.push(session);
                    }
                }
                Waiter::Request(reply) => requests.push((reply, outcome)),
            }
        }
        let mut lazy = Lazy { view: Some(view), opened: None };
        for event in events {
            // Anew for each, so that sessions come and go in the middle of a large batch. One that comes has its look at the view behind the
            // whole batch and drops what it gets of it.
            self.event(&self.sessions.read(), position, event, &mut lazy, &mut woken);
        }
        *self.complete.write() = position;
        for session in woken {
            session.wake();
        }
        for (reply, outcome) in requests {
            // Whoever asked may have gone.
            let _ = reply.send((position, outcome));
        }
    }

    /// Tells those who wait for what `tickets` stand for that nobody will ever know its outcome: sessions end, so that their clients
    /// ask anew.
    pub fn give_up(&self, tickets: Vec<Ticket>) {
        for Ticket(waiter) in tickets {
            match waiter {
                Waiter::Session(session, _) => session.end(Code::OutcomeUnknown),
                // Whoever waits at the other end is told so when this one is gone.
                Waiter::Request(reply) => drop(reply),
            }
        }
    }

    fn event(
        &self,
        sessions: &Sessions,
        position: Position,
        event: Event,
        view: &mut Lazy<impl FnOnce() -> Box<dyn Read>>,
        woken: &mut Vec<Arc<Session>>,
    ) {
        let Event { audience, news } = event;
        if let Audience::Device(device) = audience {
            if news == News::LoggedOut
                && !Bug::LoggedOutSessionStays.planted()
                && let Some(session) = sessions.devices.get(&device)
                // Behind its answers: a device that logs itself out is told that it worked.
                && session.finish(position, Code::LoggedOut)
            {
                woken.push(Arc::clone(session));
            }
            return;
        }
        let mut concerned = audience.users().filter_map(|user| sessions.users.get(&user)).flatten().peekable();
        if concerned.peek().is_none() {
            return;
        }
        let me = if let Audience::User(user) = audience { Some(user) } else { None };
        let encoded = objects::event(news, me, &view.get());
        let bytes = match encoded {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "an event was not told; its sessions resync");
                return concerned.for_each(|session| session.end(Code::SlowReader));
            }
        };
        let mut count = 0;
        for session in concerned {
            count += 1;
            if session.tell(position, &bytes) {
                woken.push(Arc::clone(session));
            }
        }
        self.delivered.fetch_add(count, Ordering::Relaxed);
    }
}

impl Sessions {
    fn has_place(&self, session: &Arc<Session>) -> bool {
        self.devices.get(&session.device).is_some_and(|holder| Arc::ptr_eq(holder, session))
    }

    fn forget(&mut self, session: &Arc<Session>) {
        if let Some(of_user) = self.users.get_mut(&session.user) {
            of_user.retain(|s| !Arc::ptr_eq(s, session));
            if of_user.is_empty() {
                self.users.remove(&session.user);
            }
        }
    }
}

/// A look at the view, opened when it is first needed.
struct Lazy<F> {
    view: Option<F>,
    opened: Option<Box<dyn Read>>,
}

impl<F: FnOnce() -> Box<dyn Read>> Lazy<F> {
    fn get(&mut self) -> &dyn Read {
        if let Some(view) = self.view.take() {
            self.opened = Some(view());
        }
        self.opened.as_deref().unwrap_or(&Nothing)
    }
}

/// An empty view.
struct Nothing;

impl Read for Nothing {
    fn get(&self, _: &[u8]) -> ieum_core::kv::Result<Option<bytes::Bytes>> {
        Ok(None)
    }

    fn scan(
        &self,
        _: &[u8],
        _: &[u8],
        _: ieum_core::kv::Direction,
        _: &mut ieum_core::kv::Visit<'_>,
    ) -> ieum_core::kv::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Allowance, Limits};
    use crate::options::Options;
    use crate::session::Live;
    use std::time::Instant;

    fn allowance(device: u64) -> Allowance {
        Limits::new(&Options::default().limits).commands.of(DeviceId(device), Instant::now())
    }

    fn take(hub: &Arc<Hub>, user: u64, device: u64, arrival: Arrival) -> Result<Place, Code> {
        let session = Session::new(UserId(user), DeviceId(device), arrival, &Options::default(), Instant::now());
        hub.take(session, 3)
    }

    fn enter(hub: &Arc<Hub>, user: u64, device: u64) -> Live {
        let place = take(hub, user, device, hub.arrival()).unwrap();
        hub.enter(place.session());
        Live::new(place, 0, Position::new(1, 0), allowance(device))
    }

    fn deliver(hub: &Hub, ordinal: u64, audience: Audience, news: News) {
        hub.deliver(Position::new(1, ordinal), Vec::new(), vec![Event { audience, news }], || Box::new(Nothing));
    }

    fn told(hub: &Hub, live: &mut Live) -> (Vec<String>, Option<Code>) {
        let mut out = Vec::new();
        let ended = live.queued(hub.complete(), &mut out);
        (out.into_iter().map(|frame| String::from_utf8(frame.to_vec()).unwrap()).collect(), ended)
    }

    fn name(name: &str) -> News {
        News::Profile { name: name.to_owned() }
    }

    #[test]
    fn an_event_reaches_every_session_of_its_people_and_nobody_else() {
        let hub = Hub::new();
        let (mut phone, mut laptop, mut other) = (enter(&hub, 1, 1), enter(&hub, 1, 2), enter(&hub, 2, 3));
        deliver(&hub, 1, Audience::User(UserId(1)), name("Ann"));
        let frame = r#"{"events":{"pos":"1.1","list":[{"profile":{"name":"Ann"}}]}}"#;
        assert_eq!(told(&hub, &mut phone), (vec![frame.to_owned()], None));
        assert_eq!(told(&hub, &mut laptop), (vec![frame.to_owned()], None));
        assert_eq!(told(&hub, &mut other), (Vec::new(), None));
    }

    #[test]
    fn what_may_be_lost_reaches_those_who_look_and_no_more_than_there_is_room_for() {
        let hub = Hub::new();
        let (mut phone, mut laptop, mut other) = (enter(&hub, 1, 1), enter(&hub, 1, 2), enter(&hub, 2, 3));
        let frame = Bytes::from_static(b"typing");
        let looks = |session: &Session| session.device != DeviceId(2);
        assert_eq!(hub.people(looks), [UserId(1), UserId(2)]);
        assert_eq!(hub.people(|session| session.device == DeviceId(3)), [UserId(2)]);
        assert_eq!(hub.signal(&[UserId(1), UserId(9)], &frame, 9, looks), 1);
        assert_eq!(hub.signal(&[UserId(1), UserId(2)], &frame, 1, looks), 1);
        assert_eq!(told(&hub, &mut phone).0, ["typing", "typing"]);
        assert_eq!((told(&hub, &mut laptop), told(&hub, &mut other)), ((Vec::new(), None), (Vec::new(), None)));
    }

    #[test]
    fn a_device_that_is_logged_out_has_no_session_left() {
        let hub = Hub::new();
        let (mut phone, mut laptop) = (enter(&hub, 1, 1), enter(&hub, 1, 2));
        deliver(&hub, 1, Audience::Device(DeviceId(1)), News::LoggedOut);
        assert_eq!(told(&hub, &mut phone).1, Some(Code::LoggedOut));
        assert_eq!(told(&hub, &mut laptop).1, None);
    }

    #[test]
    fn who_waits_for_an_outcome_that_never_comes_is_told() {
        let hub = Hub::new();
        let (mut waiting, mut other) = (enter(&hub, 1, 1), enter(&hub, 2, 2));
        let (request, mut answer) = Ticket::request();
        hub.give_up(vec![Ticket(Waiter::Session(Arc::clone(waiting.session()), 1)), request]);
        assert_eq!(told(&hub, &mut waiting).1, Some(Code::OutcomeUnknown));
        assert_eq!(told(&hub, &mut other).1, None);
        assert_eq!(answer.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn the_same_device_connecting_again_replaces_its_session() {
        let hub = Hub::new();
        let (mut first, mut second) = (enter(&hub, 1, 1), enter(&hub, 1, 1));
        deliver(&hub, 1, Audience::User(UserId(1)), name("Ann"));
        assert_eq!(told(&hub, &mut first), (Vec::new(), Some(Code::Replaced)));
        drop(first);
        deliver(&hub, 2, Audience::User(UserId(1)), name("Bob"));
        assert_eq!(told(&hub, &mut second).0.len(), 1);
        assert_eq!(hub.sessions(), 1);
        drop(second);
        assert_eq!((hub.sessions(), hub.sessions.read().users.len()), (0, 0));
    }

    #[test]
    fn whose_hello_came_first_does_not_replace_who_came_later() {
        let hub = Hub::new();
        let (early, late) = (hub.arrival(), hub.arrival());
        let second = take(&hub, 1, 1, late).unwrap();
        assert_eq!(take(&hub, 1, 1, early).unwrap_err(), Code::Replaced);
        assert_eq!((second.session().over(), hub.sessions()), (None, 1));
        // Nobody is replaced by whom nobody follows.
        drop(second);
        assert!(take(&hub, 1, 1, early).is_ok());
    }

    #[test]
    fn who_was_replaced_does_not_come_back() {
        let hub = Hub::new();
        let first = take(&hub, 1, 1, hub.arrival()).unwrap();
        let mut second = enter(&hub, 1, 1);
        hub.enter(first.session());
        deliver(&hub, 1, Audience::User(UserId(1)), name("Ann"));
        assert!(first.session().queue_is_empty(), "what nobody takes would fill the memory");
        drop(first);
        assert_eq!((told(&hub, &mut second).0.len(), hub.sessions()), (1, 1));
    }

    #[test]
    fn who_catches_up_has_a_place_and_gets_nothing_of_what_is_delivered() {
        let hub = Hub::new();
        let place = take(&hub, 1, 1, hub.arrival()).unwrap();
        deliver(&hub, 1, Audience::User(UserId(1)), name("Ann"));
        assert!(place.session().queue_is_empty());
        hub.enter(place.session());
        hub.step_out(place.session());
        deliver(&hub, 2, Audience::User(UserId(1)), name("Bob"));
        assert!(place.session().queue_is_empty());
        hub.enter(place.session());
        deliver(&hub, 3, Audience::User(UserId(1)), name("Cho"));
        assert!(!place.session().queue_is_empty());
    }

    #[test]
    fn sessions_count_from_their_hello_on_and_each_gives_one_place_back() {
        let hub = Hub::new();
        let places: Vec<Place> = (1..=3).map(|device| take(&hub, 1, device, hub.arrival()).unwrap()).collect();
        assert_eq!(take(&hub, 1, 4, hub.arrival()).unwrap_err(), Code::TooManySessions);
        let replaced = take(&hub, 1, 3, hub.arrival());
        assert!(replaced.is_ok(), "a device that has a place takes no other");
        drop(places);
        assert_eq!(hub.sessions(), 1, "one was replaced");
        drop(replaced);
        assert_eq!(hub.sessions(), 0);
    }

    #[test]
    fn no_more_than_there_is_room_for_come_in_at_once() {
        for _ in 0..50 {
            let hub = Hub::new();
            let start = std::sync::Barrier::new(8);
            let come = |device| {
                start.wait();
                take(&hub, device, device, hub.arrival())
            };
            let places: Vec<_> = std::thread::scope(|scope| {
                let come = &come;
                let threads: Vec<_> = (1..=8).map(|device| scope.spawn(move || come(device))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!((places.iter().flatten().count(), hub.sessions()), (3, 3));
        }
    }

    #[test]
    fn what_the_catch_up_held_is_not_told_again() {
        let hub = Hub::new();
        let place = take(&hub, 1, 1, hub.arrival()).unwrap();
        hub.enter(place.session());
        deliver(&hub, 1, Audience::User(UserId(1)), name("in the catch-up"));
        deliver(&hub, 2, Audience::User(UserId(1)), name("behind it"));
        let mut live = Live::new(place, 0, Position::new(1, 1), allowance(1));
        let (frames, _) = told(&hub, &mut live);
        assert_eq!(frames, [r#"{"events":{"pos":"1.2","list":[{"profile":{"name":"behind it"}}]}}"#]);
    }
}
