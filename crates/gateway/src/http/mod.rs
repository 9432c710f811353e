//! HTTP `/v1`: everything that is not the stream.

mod accounts;
mod changes;
pub mod openapi;
mod pages;
mod rooms;
pub(crate) mod unlisted;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use ieum_core::apply::owner_of;
use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::Command;
use ieum_core::ids::{DeviceId, Position, UserId};
use ieum_core::outcome::{Accepted, Outcome, Reject};
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::{IDEMPOTENCY_HEADER, MAX_BODY, POSITION_HEADER, SEEN_HEADER, STALE_HEADER};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::cell::{Cell, Refused, Ticket, Waiter};
use crate::lanes::{Asker, Who};
use crate::map::outcomes;
use crate::{Gateway, limits, tokens};

/// Where a request came from.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// Whom work is for until somebody is signed in.
    pub(crate) asker: Asker,
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Fail;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fail> {
        parts.extensions.get().cloned().ok_or_else(|| Code::Internal.into())
    }
}

/// Who is signed in.
#[derive(Debug)]
pub(crate) struct Me {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) asker: Asker,
}

/// All addresses but the socket's.
pub(crate) fn router<C: Cell>(gateway: Arc<Gateway<C>>) -> Router {
    let asked = Router::new()
        .route("/v1/users", get(accounts::find::<C>))
        .route("/v1/users/{id}", get(accounts::user::<C>))
        .route("/v1/rooms", get(rooms::list::<C>))
        .route("/v1/rooms/{id}/messages", get(rooms::messages::<C>))
        .route("/v1/rooms/{id}/members", get(rooms::members::<C>));
    let plain = Router::new()
        .route("/v1/accounts", post(accounts::register::<C>))
        .route("/v1/devices", post(accounts::sign_in::<C>).get(accounts::devices::<C>))
        .route("/v1/devices/{id}", delete(accounts::log_out::<C>))
        .route("/v1/tokens", post(accounts::token::<C>))
        .route("/v1/me", get(accounts::me::<C>))
        .route("/v1/me/password", put(accounts::set_password::<C>))
        .route("/v1/rooms/{id}", get(rooms::one::<C>))
        .route("/v1/rooms/{id}/receipts", get(rooms::receipts::<C>))
        .route("/v1/changes", post(changes::change::<C>))
        .route_layer(middleware::from_fn(unlisted::refuse_query));
    let pages = Router::new()
        .route("/", get(pages::home::<C>))
        .route("/docs", get(pages::docs))
        .route("/openapi.json", get(pages::openapi_json))
        .route("/problems/{code}", get(pages::problem))
        .route("/healthz", get(pages::healthz))
        .route("/readyz", get(pages::readyz::<C>));
    let pages = if gateway.options.metrics_apart { pages } else { pages.route("/metrics", get(pages::metrics::<C>)) };
    asked
        .merge(plain)
        .route_layer(middleware::from_fn(unlisted::refuse))
        .merge(pages)
        .fallback(async || Fail(Code::NotFound.problem()))
        .method_not_allowed_fallback(async || Fail(Code::MethodNotAllowed.problem()))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway), admit::<C>))
        .with_state(gateway)
}

/// What is asked by whoever watches over the node.
pub(crate) fn probes<C: Cell>(gateway: Arc<Gateway<C>>) -> Router {
    Router::new()
        .route("/healthz", get(pages::healthz))
        .route("/readyz", get(pages::readyz::<C>))
        .route("/metrics", get(pages::metrics::<C>))
        .with_state(gateway)
}

/// Counts requests, refuses those of an address that asks too much, and waits until the view is not older than what the client has seen.
async fn admit<C: Cell>(State(gateway): State<Arc<Gateway<C>>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    let path = request.uri().path();
    let probe = matches!(path, "/healthz" | "/readyz" | "/metrics");
    let allowed = probe
        || peer
            .is_none_or(|peer| gateway.limits.requests.take(crate::limits::subscriber(peer.address), Instant::now()));
    let fresh = match allowed {
        false => Err(Code::RateLimited.problem()),
        true if path.starts_with("/v1/") => gateway.reach_seen(request.headers()).await,
        true => Ok(()),
    };
    let mut response = match fresh {
        Ok(()) => next.run(request).await,
        Err(problem) => Fail(problem).into_response(),
    };
    if probe {
        // They are not counted as requests, so they keep no connection.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    gateway.finish(response)
}

/// An error as it is answered, once [`Gateway::finish`] has written it.
#[derive(Debug)]
pub(crate) struct Fail(pub(crate) Problem);

/// A problem on its way through the router.
#[derive(Clone)]
struct Unwritten(Problem);

impl From<Problem> for Fail {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Code> for Fail {
    fn from(code: Code) -> Self {
        Self(code.problem())
    }
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(Unwritten(self.0));
        response
    }
}

/// A body and the position that it was read at.
pub(crate) struct At<T>(pub(crate) T, pub(crate) Position);

impl<T: Serialize> IntoResponse for At<T> {
    fn into_response(self) -> Response {
        let mut response = axum::Json(self.0).into_response();
        if let Ok(position) = HeaderValue::from_str(&self.1.to_string()) {
            response.headers_mut().insert(HeaderName::from_static(POSITION_HEADER), position);
        }
        // What somebody reads is theirs alone.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// A JSON body, with problems that say what is wrong.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, C: Cell> FromRequest<Arc<Gateway<C>>> for Body<T> {
    type Rejection = Fail;

    async fn from_request(request: Request, gateway: &Arc<Gateway<C>>) -> Result<Self, Fail> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case("application/json")) {
            return Err(Code::UnsupportedMediaType.into());
        }
        let length = text_of(request.headers(), header::CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
        if length.is_some_and(|length: u64| length > MAX_BODY as u64) {
            return Err(Code::TooLarge.into());
        }
        let bytes = tokio::time::timeout(gateway.options.patience, Bytes::from_request(request, gateway));
        let bytes = bytes.await.map_err(|_| Code::TooSlow)?.map_err(|rejection| {
            let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
            Fail(if too_large {
                Code::TooLarge.problem()
            } else {
                Code::BadRequest.problem().detail(rejection.body_text())
            })
        })?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Self).map_err(|error| Fail(Code::BadRequest.problem().detail(error.to_string())))
    }
}

/// A header's text.
fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The idempotency key of a change, as the cell keeps it.
pub(crate) fn key(headers: &HeaderMap) -> Result<[u8; 16], Problem> {
    let key = text_of(headers, IDEMPOTENCY_HEADER)
        .filter(|key| (1..=200).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()));
    let missing =
        "a change needs the header Idempotency-Key: 1 to 200 visible ASCII characters, random for each new change";
    key.map(|key| short_hash(&[key.as_bytes()])).ok_or_else(|| Code::BadRequest.problem().detail(missing))
}

/// The first 16 bytes of BLAKE3 over `parts`, each with its length before it.
pub(crate) fn short_hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut short = [0; 16];
    hasher.finalize_xof().fill(&mut short);
    short
}

impl<C: Cell> Gateway<C> {
    /// Waits until the view is not older than what the client has seen.
    async fn reach_seen(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let bad = || Code::BadRequest.problem().detail("ieum-seen is a position that the server gave");
        let Some(seen) = headers.get(SEEN_HEADER) else { return Ok(()) };
        let seen = seen.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
        self.catch_up_with(Some(seen)).await
    }

    /// Counts the answer and gives it what every answer has: errors their body, and all of them where this server stands.
    pub(crate) fn finish(&self, mut response: Response) -> Response {
        let failed = response.status().as_u16() >= 400;
        let counter = if failed { &self.metrics.requests_failed } else { &self.metrics.requests_ok };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(Unwritten(problem)) = response.extensions_mut().remove() {
            let problem = self.told(problem);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
            headers.remove(header::CONTENT_LENGTH);
            if let Some(ms) = problem.retry_after_ms {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
            }
            *response.body_mut() = serde_json::to_vec(&problem).unwrap_or_default().into();
        }
        let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
        let headers = response.headers_mut();
        if unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ieum\""));
        }
        if self.stale() {
            headers.insert(HeaderName::from_static(STALE_HEADER), HeaderValue::from_static("true"));
        }
        if let (false, Ok(here)) =
            (headers.contains_key(POSITION_HEADER), HeaderValue::from_str(&self.cell.applied().to_string()))
        {
            headers.insert(HeaderName::from_static(POSITION_HEADER), here);
        }
        response
    }

    /// Takes one command that costs no more than a message from what a device may give.
    pub(crate) fn allow(&self, device: DeviceId) -> Result<(), Problem> {
        let now = Instant::now();
        self.limits.commands.of(device, now).take(1, now)
    }

    /// Takes what a command costs from what a device may give.
    pub(crate) async fn allow_command(self: &Arc<Self>, me: &Me, command: &Command) -> Result<(), Problem> {
        let members = match limits::room_of(command) {
            Some(room) => self.read(&me.asker, move |view| limits::members(view, room)).await?.0,
            None => 0,
        };
        let now = Instant::now();
        self.limits.commands.of(me.device, now).take(limits::cost(command, members), now)
    }

    /// Who asks: the device whose access token this is.
    pub(crate) async fn signed_in(self: &Arc<Self>, peer: &Peer, headers: &HeaderMap) -> Result<Me, Problem> {
        let bearer = text_of(headers, header::AUTHORIZATION.as_str()).and_then(|value| value.split_once(' '));
        let token = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let token = token.ok_or_else(|| Code::Unauthorized.problem())?.1.trim().to_owned();
        let (found, _) = self
            .read(&peer.asker, move |view| {
                Ok(match tokens::verify(view, &token)? {
                    Ok(device) => owner_of(view, device)?.map(|user| (user, device)).ok_or(Code::LoggedOut),
                    Err(code) => Err(code),
                })
            })
            .await?;
        let (user, device) = found.map_err(Code::problem)?;
        let asker = Asker { who: Some(Who::Account(user)), line: peer.asker.line.clone() };
        Ok(Me { user, device, asker })
    }

    /// Has the cell run a command, and waits for its outcome.
    pub(crate) async fn run(&self, origin: Origin, command: Command) -> Result<(Accepted, Position), Problem> {
        if self.stalled() {
            return Err(Code::Unavailable.problem());
        }
        let (reply, answer) = oneshot::channel();
        let device = matches!(origin, Origin::Http { .. });
        let envelope = Envelope { origin, command };
        if let Err((refused, _)) = self.cell.submit(&envelope, Ticket(Waiter::Request(reply))) {
            return Err(match refused {
                Refused::Busy => Code::Busy.problem(),
                Refused::TooLarge => Code::TooLarge.problem(),
            });
        }
        match tokio::time::timeout(self.options.outcome_patience, answer).await {
            // It was logged out between its token's check and here.
            Ok(Ok((_, Outcome::Rejected(Reject::DeviceUnknown)))) if device => Err(Code::LoggedOut.problem()),
            Ok(Ok((position, outcome))) => Ok((outcomes::accepted(outcome)?, position)),
            Ok(Err(_)) | Err(_) => Err(Code::OutcomeUnknown.problem()),
        }
    }
}
