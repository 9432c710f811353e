//! The handle of a client.

use ieum_protocol::Pos;
use ieum_protocol::frames::{Change, Done};
use tokio::sync::{mpsc, oneshot, watch};

use crate::command::{Command, CommandId};
use crate::machine::{Failure, Machine, Moment, Settings, State, Stop};
use crate::options::Options;
use crate::outlet::{Events, Observer, Outlet};
use crate::random::{Random, random};
use crate::shell::{Parts, Shell};
use crate::store::{self, Identity, Store, Write};
use crate::{Endpoint, Position};

/// Why a client cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no server to try.
    #[error("no endpoint is given")]
    NoEndpoint,
    /// Neither the options nor the store say who the device is.
    #[error("nobody is signed in on this device: register or sign in first")]
    NobodySignedIn,
    /// The store is another device's.
    #[error("the store is that of device {stored}, not of {given}")]
    AnotherDevice {
        /// Whose it is.
        stored: u64,
        /// Whose it should be.
        given: u64,
    },
    /// The store does not work.
    #[error("the store does not work")]
    Store(#[from] store::Error),
}

/// A request to the task.
pub(crate) enum Request {
    Submit { id: Option<CommandId>, change: Change, reply: Reply },
    Foreground(bool),
    Reconnect,
    Typing(u64),
    Applied(Pos),
    Waiting(oneshot::Sender<Vec<Command>>),
    Seen(oneshot::Sender<Option<Pos>>),
    Stop,
}

/// Who wants to know what of a submitted command.
pub(crate) enum Reply {
    Outcome(oneshot::Sender<Result<Done, Failure>>),
    Stored(oneshot::Sender<Result<(), Failure>>),
    Nothing,
}

/// A client: one device's connection, outbox and cursor. Clones are handles of the same client; it stops when the last of them is
/// dropped.
#[derive(Debug, Clone)]
pub struct Client {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<State>,
}

impl Client {
    /// Opens a client, which connects at once. Call it within a tokio runtime.
    ///
    /// # Errors
    /// What is missing, or what the store says.
    pub fn open(options: Options, store: impl Store) -> Result<(Self, Events), OpenError> {
        let (outlet, events) = Outlet::channel(options.deliveries);
        Ok((Self::start(options, store, outlet)?, events))
    }

    /// The same with an observer in place of a channel.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn observe(options: Options, store: impl Store, observer: impl Observer) -> Result<Self, OpenError> {
        Self::start(options, store, Outlet::Inline(Box::new(observer)))
    }

    fn start<S: Store>(options: Options, mut store: S, outlet: Outlet) -> Result<Self, OpenError> {
        if options.endpoints.is_empty() {
            return Err(OpenError::NoEndpoint);
        }
        let identity = sign_in(options.identity, &mut store)?;
        let saved = store.load()?;
        let settings = Settings {
            device: identity.device,
            secret: identity.secret,
            client: options.client,
            endpoints: options.endpoints,
            home: options.home,
            foreground: options.foreground,
            timing: options.timing,
            limits: options.limits,
        };
        let mut numbers = Random::new();
        let moment = Moment { now: 0, random: numbers.next() };
        let machine = Machine::new(settings, saved, options.seen.as_deref().map(Position::read), moment);
        let (requests, incoming) = mpsc::channel(options.requests.max(1));
        let (report, state) = watch::channel(State::Waiting { why: None, for_ms: 0 });
        let parts = Parts { machine, store, outlet, requests: incoming, state: report, trust: options.trust, numbers };
        tokio::spawn(Shell::new(parts).run());
        Ok(Self { requests, state })
    }

    /// Submits a change and waits for its outcome, through every reconnect. Dropping the future does not take the command back.
    ///
    /// # Errors
    /// Why it gave no result.
    pub async fn submit(&self, change: Change) -> Result<Done, Failure> {
        let (sender, receiver) = oneshot::channel();
        self.request(Request::Submit { id: None, change, reply: Reply::Outcome(sender) }).await?;
        receiver.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// Submits a change and waits only until it is in the outbox, so that nothing loses it any more. Its outcome is delivered.
    ///
    /// # Errors
    /// Why it is not in the outbox.
    pub async fn post(&self, change: Change) -> Result<CommandId, Failure> {
        let id = CommandId::from_random(random(), random());
        let (sender, receiver) = oneshot::channel();
        self.request(Request::Submit { id: Some(id), change, reply: Reply::Stored(sender) }).await?;
        receiver.await.unwrap_or_else(|_| Err(self.stopped()))?;
        Ok(id)
    }

    /// Submits a change under an id of one's own, without waiting; whatever becomes of it is delivered. The id MUST be new for the
    /// device.
    ///
    /// # Errors
    /// [`Failure::Full`] when `Options::requests` wait already, or [`Failure::Stopped`].
    pub fn try_post(&self, id: CommandId, change: Change) -> Result<(), Failure> {
        let request = Request::Submit { id: Some(id), change, reply: Reply::Nothing };
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::Full { limit: self.requests.max_capacity() },
            mpsc::error::TrySendError::Closed(_) => self.stopped(),
        })
    }

    /// The commands that wait for their outcome, in order: also those of an earlier process.
    ///
    /// # Errors
    /// [`Failure::Stopped`].
    pub async fn waiting(&self) -> Result<Vec<Command>, Failure> {
        let (sender, receiver) = oneshot::channel();
        self.request(Request::Waiting(sender)).await?;
        receiver.await.map_err(|_| self.stopped())
    }

    /// The highest position that a server has shown, in the stream or with an acknowledgement. Given to [`crate::Http::note`], it keeps reads
    /// over HTTP from being older, whichever server they come to.
    ///
    /// # Errors
    /// [`Failure::Stopped`].
    pub async fn seen(&self) -> Result<Option<Pos>, Failure> {
        let (sender, receiver) = oneshot::channel();
        self.request(Request::Seen(sender)).await?;
        receiver.await.map_err(|_| self.stopped())
    }

    /// Somebody looks at it, or nobody does any more.
    pub async fn foreground(&self, foreground: bool) {
        let _ = self.requests.send(Request::Foreground(foreground)).await;
    }

    /// The network has changed, so that the connection is worth nothing any more: the client drops it without a word and connects anew.
    pub async fn reconnect(&self) {
        let _ = self.requests.send(Request::Reconnect).await;
    }

    /// The person types in a room. An app may say it with every key: the server is told once in 3 seconds, or when it is another room than the
    /// last, and only when the client is live and the server knows of it. Never waits, and may be lost.
    pub fn typing(&self, room: u64) {
        let _ = self.requests.try_send(Request::Typing(room));
    }

    /// The app has everything up to `pos` in its own durable copy: the next process goes on from there. An app without such a copy
    /// never says this, and gets everything anew at each start.
    pub async fn applied(&self, pos: Pos) {
        let _ = self.requests.send(Request::Applied(pos)).await;
    }

    /// How the connection stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until the client is caught up.
    ///
    /// # Errors
    /// It stopped for good.
    pub async fn live(&self) -> Result<Endpoint, Stop> {
        let mut state = self.state.clone();
        let settled = |state: &State| matches!(state, State::Live { .. } | State::Stopped(_));
        match state.wait_for(settled).await.map(|state| state.clone()) {
            Ok(State::Live { endpoint }) => Ok(endpoint),
            Ok(State::Stopped(stop)) => Err(stop),
            Ok(_) | Err(_) => Err(Stop::Closed),
        }
    }

    /// Says goodbye to the server and returns when the store is closed. What is in the outbox stays in the store.
    pub async fn close(self) {
        let _ = self.requests.send(Request::Stop).await;
        self.requests.closed().await;
    }

    async fn request(&self, request: Request) -> Result<(), Failure> {
        self.requests.send(request).await.map_err(|_| self.stopped())
    }

    fn stopped(&self) -> Failure {
        match &*self.state.borrow() {
            State::Stopped(stop) => Failure::Stopped(stop.clone()),
            _ => Failure::Stopped(Stop::Closed),
        }
    }
}

/// Who the device is; the store learns it if it does not know.
fn sign_in(given: Option<Identity>, store: &mut impl Store) -> Result<Identity, OpenError> {
    let stored = store.identity()?;
    match (given, stored) {
        (None, None) => Err(OpenError::NobodySignedIn),
        (None, Some(stored)) => Ok(stored),
        (Some(given), Some(stored)) if given.device != stored.device => {
            Err(OpenError::AnotherDevice { stored: stored.device, given: given.device })
        }
        (Some(given), Some(stored)) if given == stored => Ok(given),
        (Some(given), _) => {
            store.commit(&[Write::Identity(given.clone())])?;
            Ok(given)
        }
    }
}
