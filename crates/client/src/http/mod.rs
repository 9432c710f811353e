//! HTTP `/v1`: what is asked for now and then, and everything before a device has a session.

mod calls;
mod connections;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use ieum_protocol::Pos;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::http::{Token, TokenRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::command::CommandId;
use crate::dial::Trust;
use crate::machine::Timing;
use crate::machine::endpoints::Endpoints;
use crate::position::advance;
use crate::random::random;
use crate::store::Identity;
use crate::{Endpoint, Position};
pub use calls::{NewAccount, Page};
use connections::{Answer, Connections, Failed, Request};

/// How long a call is repeated until it gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one server may take: the outcome of a change is late after a few seconds, and a client that waits longer helps nobody.
const ONE_TRY: Duration = Duration::from_secs(5);

/// One that has not answered for so long is asked beside another: what reads may be asked twice, and what changes something has a key.
const HEDGE: Duration = Duration::from_secs(1);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server said so.
    #[error("{} ({})", .0.title, .0.code)]
    Problem(Box<Problem>),
    /// No server could be reached, or none answered.
    #[error("no server answers: {0}")]
    Unreachable(String),
    /// The answer is none that this version can read.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
    /// The call needs a device that is signed in.
    #[error("nobody is signed in: register or sign in first")]
    NobodySignedIn,
}

impl Error {
    /// The code that the server gave, if this version knows it.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Problem(problem) => problem.known(),
            _ => None,
        }
    }
}

/// A client of HTTP `/v1`. Clones share everything. A call goes to another server when one fails, and is repeated for up to ten
/// seconds; a change has the same key each time.
#[derive(Clone)]
pub struct Http {
    shared: Arc<Shared>,
}

struct Shared {
    connections: Connections,
    memory: Mutex<Memory>,
    timing: Timing,
}

/// What is remembered between calls.
struct Memory {
    endpoints: Endpoints,
    identity: Option<Identity>,
    token: Option<(String, Instant)>,
    seen: Option<Position>,
}

/// A call as it is repeated.
struct Call {
    method: Method,
    path: String,
    body: Bytes,
    /// Whether it needs a token.
    signed: bool,
    /// The idempotency key: every call that changes something has one, the same in each repetition.
    key: Option<String>,
}

impl Call {
    fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: Bytes::new(), signed: true, key: None }
    }

    /// A call that changes something.
    fn change(method: Method, path: &str, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(body).map_err(|error| Error::Unreadable(error.to_string()))?;
        let key = Some(CommandId::from_random(random(), random()).to_string());
        Ok(Self { method, body: Bytes::from(body), key, ..Self::get(path.to_owned()) })
    }
}

/// What to do after a try.
enum Next {
    Done(Result<Bytes, Error>),
    /// With the error to give when patience is over, and what the server asked to wait.
    Again(Error, Option<u64>),
}

impl Http {
    /// A client that tries these servers. [`Http::register`], [`Http::sign_in`] or [`Http::use_identity`] make it a device's.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>, trust: Trust) -> Self {
        let endpoints = Endpoints::new(endpoints, None, Vec::new());
        let memory = Mutex::new(Memory { endpoints, identity: None, token: None, seen: None });
        Self { shared: Arc::new(Shared { connections: Connections::new(trust), memory, timing: Timing::default() }) }
    }

    /// Calls are this device's from now on.
    pub async fn use_identity(&self, identity: Identity) {
        let mut memory = self.shared.memory.lock().await;
        memory.identity = Some(identity);
        memory.token = None;
    }

    /// Whose calls these are.
    pub async fn identity(&self) -> Option<Identity> {
        self.shared.memory.lock().await.identity.clone()
    }

    /// The highest position that an answer was read at: what is seen elsewhere goes into [`Http::note`].
    pub async fn seen(&self) -> Option<Pos> {
        self.shared.memory.lock().await.seen.as_ref().map(ToString::to_string)
    }

    /// The app has seen this position elsewhere, for example in its stream: no answer is older.
    pub async fn note(&self, pos: &Pos) {
        advance(&mut self.shared.memory.lock().await.seen, Position::read(pos));
    }

    /// The access token, from the cache until shortly before it expires.
    ///
    /// # Errors
    /// [`Error::NobodySignedIn`], or why there is none to be had.
    pub async fn token(&self) -> Result<String, Error> {
        let identity = {
            let memory = self.shared.memory.lock().await;
            match &memory.token {
                Some((token, until)) if Instant::now() < *until => return Ok(token.clone()),
                _ => memory.identity.clone().ok_or(Error::NobodySignedIn)?,
            }
        };
        let request = TokenRequest { device: identity.device, secret: identity.secret };
        let mut call = Call::change(Method::POST, "/v1/tokens", &request)?;
        (call.signed, call.key) = (false, None);
        let Token { token, expires_in_ms } = read(&self.repeat(&call).await?)?;
        let early = (expires_in_ms / 10).min(30_000);
        let until = Instant::now() + Duration::from_millis(expires_in_ms - early);
        self.shared.memory.lock().await.token = Some((token.clone(), until));
        Ok(token)
    }

    async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        read(&self.perform(&call).await?)
    }

    /// Performs a call; a token that the server takes no more is replaced once.
    async fn perform(&self, call: &Call) -> Result<Bytes, Error> {
        match self.repeat(call).await {
            Err(error) if call.signed && matches!(error.code(), Some(Code::TokenExpired | Code::Unauthorized)) => {
                self.shared.memory.lock().await.token = None;
                self.repeat(call).await
            }
            result => result,
        }
    }

    /// Repeats a call, at one server after the other, until it is answered or patience is over.
    async fn repeat(&self, call: &Call) -> Result<Bytes, Error> {
        let give_up = Instant::now() + PATIENCE;
        let mut round = 0;
        loop {
            let (error, told) = match self.attempt(call).await {
                Next::Done(result) => return result,
                Next::Again(error, told) => (error, told),
            };
            let wait = Duration::from_millis(self.shared.timing.backoff(round, true, told, random()));
            round += 1;
            if Instant::now() + wait >= give_up {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, call: &Call) -> Next {
        let token = match call.signed {
            // The call for a token needs none, so this goes one level deep.
            true => match Box::pin(self.token()).await {
                Ok(token) => Some(token),
                Err(error) => return Next::Done(Err(error)),
            },
            false => None,
        };
        let (endpoint, seen) = {
            let mut memory = self.shared.memory.lock().await;
            let Some(endpoint) = memory.endpoints.pick(random()) else {
                return Next::Done(Err(Error::Unreachable("no endpoint is given".to_owned())));
            };
            (endpoint, memory.seen.as_ref().map(ToString::to_string))
        };
        let (endpoint, tried) = self.ask(endpoint, Request { call, token, seen }).await;
        match tried {
            Ok(answer) => self.answered(&endpoint, answer).await,
            Err(failed) => {
                self.shared.memory.lock().await.endpoints.failed(&endpoint);
                Next::Again(Error::Unreachable(failed.reason), None)
            }
        }
    }

    /// Asks a server, and another beside it when it takes long. Gives what comes first, an answer if there is one, and from where.
    async fn ask(&self, endpoint: Endpoint, request: Request<'_>) -> (Endpoint, Result<Answer, Failed>) {
        let mut first = pin!(self.ask_one(&endpoint, request.clone()));
        if let Ok(tried) = tokio::time::timeout(HEDGE, &mut first).await {
            return (endpoint.clone(), tried);
        }
        let other = self.shared.memory.lock().await.endpoints.pick_but(&[&endpoint], random());
        let Some(other) = other else { return (endpoint.clone(), first.await) };
        let mut second = pin!(self.ask_one(&other, request));
        tokio::select! {
            tried = &mut first => match tried {
                Ok(answer) => (endpoint.clone(), Ok(answer)),
                Err(_) => {
                    self.shared.memory.lock().await.endpoints.failed(&endpoint);
                    (other.clone(), second.await)
                }
            },
            tried = &mut second => match tried {
                Ok(answer) => {
                    // The one that is late goes last from now on.
                    let mut memory = self.shared.memory.lock().await;
                    memory.endpoints.failed(&endpoint);
                    memory.endpoints.uses(&other);
                    (other.clone(), Ok(answer))
                }
                Err(_) => {
                    self.shared.memory.lock().await.endpoints.failed(&other);
                    (endpoint.clone(), first.await)
                }
            },
        }
    }

    async fn ask_one(&self, endpoint: &Endpoint, request: Request<'_>) -> Result<Answer, Failed> {
        let tried = tokio::time::timeout(ONE_TRY, self.shared.connections.send(endpoint, request)).await;
        tried.unwrap_or_else(|_| Err(Failed::late()))
    }

    async fn answered(&self, endpoint: &Endpoint, answer: Answer) -> Next {
        let mut memory = self.shared.memory.lock().await;
        if let Some(position) = &answer.position {
            advance(&mut memory.seen, Position::read(position));
        }
        if answer.status.is_success() {
            memory.endpoints.works(endpoint);
            return Next::Done(Ok(answer.body));
        }
        let Ok(problem) = serde_json::from_slice::<Problem>(&answer.body) else {
            return strange(answer.status);
        };
        let again = matches!(
            problem.known(),
            Some(
                Code::Busy
                    | Code::Unavailable
                    | Code::Behind
                    | Code::ShuttingDown
                    | Code::RateLimited
                    | Code::OutcomeUnknown
            )
        );
        let told = problem.retry_after_ms;
        if again {
            if problem.known() != Some(Code::RateLimited) {
                memory.endpoints.failed(endpoint);
            }
            // How long one wants to be left alone says nothing of the others that it names.
            let elsewhere = memory.endpoints.prefer(&problem.endpoints, endpoint);
            return Next::Again(Error::Problem(Box::new(problem)), told.filter(|_| !elsewhere));
        }
        Next::Done(Err(Error::Problem(Box::new(problem))))
    }
}

/// An answer that is no problem document: some relay's.
fn strange(status: StatusCode) -> Next {
    let text = format!("the server answered {status}");
    let passing =
        matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
    if passing { Next::Again(Error::Unreachable(text), None) } else { Next::Done(Err(Error::Unreadable(text))) }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Unreadable(error.to_string()))
}
