//! HTTP `/v1`: everything that is not the stream.

mod accounts;
mod changes;
pub mod openapi;
mod pages;
mod rooms;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use ieum_core::apply::owner_of;
use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::Command;
use ieum_core::ids::{DeviceId, Position, UserId};
use ieum_core::outcome::{Accepted, Outcome};
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::{IDEMPOTENCY_HEADER, MAX_BODY, POSITION_HEADER, SEEN_HEADER};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::cell::{Cell, Refused, Ticket, Waiter};
use crate::map::outcomes;
use crate::{Gateway, tokens};

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// All addresses but the socket's.
pub(crate) fn router<C: Cell>(gateway: Arc<Gateway<C>>) -> Router {
    Router::new()
        .route("/", get(pages::home::<C>))
        .route("/docs", get(pages::docs))
        .route("/openapi.json", get(pages::openapi_json))
        .route("/problems/{code}", get(pages::problem))
        .route("/healthz", get(pages::healthz))
        .route("/readyz", get(pages::readyz::<C>))
        .route("/metrics", get(pages::metrics::<C>))
        .route("/v1/accounts", post(accounts::register::<C>))
        .route("/v1/devices", post(accounts::sign_in::<C>).get(accounts::devices::<C>))
        .route("/v1/devices/{id}", delete(accounts::log_out::<C>))
        .route("/v1/tokens", post(accounts::token::<C>))
        .route("/v1/me", get(accounts::me::<C>))
        .route("/v1/me/password", put(accounts::set_password::<C>))
        .route("/v1/users", get(accounts::find::<C>))
        .route("/v1/users/{id}", get(accounts::user::<C>))
        .route("/v1/rooms", get(rooms::list::<C>))
        .route("/v1/rooms/{id}", get(rooms::one::<C>))
        .route("/v1/rooms/{id}/messages", get(rooms::messages::<C>))
        .route("/v1/rooms/{id}/members", get(rooms::members::<C>))
        .route("/v1/rooms/{id}/receipts", get(rooms::receipts::<C>))
        .route("/v1/changes", post(changes::change::<C>))
        .fallback(async || Fail(Code::NotFound.problem()))
        .method_not_allowed_fallback(async || Fail(Code::MethodNotAllowed.problem()))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway), admit::<C>))
        .with_state(gateway)
}

/// Counts requests, and refuses those of an address that asks too much.
async fn admit<C: Cell>(State(gateway): State<Arc<Gateway<C>>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let probe = matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics");
    let allowed = probe
        || peer.is_none_or(|Peer(address)| {
            gateway.limits.requests.take(crate::limits::subscriber(address), Instant::now())
        });
    let mut response =
        if allowed { next.run(request).await } else { Fail(Code::RateLimited.problem()).into_response() };
    if gateway.stalled() {
        response.headers_mut().insert(HeaderName::from_static("ieum-stale"), HeaderValue::from_static("true"));
    }
    let failed = response.status().as_u16() >= 400;
    let counter = if failed { &gateway.metrics.requests_failed } else { &gateway.metrics.requests_ok };
    counter.fetch_add(1, Ordering::Relaxed);
    response
}

/// An error as it is answered.
#[derive(Debug)]
pub(crate) struct Fail(pub(crate) Problem);

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
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(ms) = self.0.retry_after_ms {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
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

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Fail;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fail> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case("application/json")) {
            return Err(Code::UnsupportedMediaType.into());
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
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
    /// Who asks: the device whose access token this is, once the view is not older than what the client has seen.
    pub(crate) async fn signed_in(self: &Arc<Self>, headers: &HeaderMap) -> Result<(UserId, DeviceId), Problem> {
        let bad = |_| Code::BadRequest.problem().detail("ieum-seen is a position that the server gave");
        let seen = text_of(headers, SEEN_HEADER).map(str::parse).transpose().map_err(bad)?;
        self.catch_up_with(seen).await?;
        let bearer = text_of(headers, header::AUTHORIZATION.as_str()).and_then(|v| v.strip_prefix("Bearer "));
        let token = bearer.ok_or_else(|| Code::Unauthorized.problem())?.to_owned();
        let (found, _) = self
            .read(move |view| {
                Ok(match tokens::verify(view, &token)? {
                    Ok(device) => owner_of(view, device)?.map(|user| (user, device)).ok_or(Code::LoggedOut),
                    Err(code) => Err(code),
                })
            })
            .await?;
        found.map_err(Code::problem)
    }

    /// Has the cell run a command, and waits for its outcome.
    pub(crate) async fn run(&self, origin: Origin, command: Command) -> Result<(Accepted, Position), Problem> {
        if self.stalled() {
            return Err(Code::Unavailable.problem());
        }
        let (reply, answer) = oneshot::channel();
        let envelope = Envelope { origin, command };
        if let Err((refused, _)) = self.cell.submit(&envelope, Ticket(Waiter::Request(reply))) {
            return Err(match refused {
                Refused::Busy => Code::Busy.problem(),
                Refused::TooLarge => Code::TooLarge.problem(),
            });
        }
        match tokio::time::timeout(self.options.outcome_patience, answer).await {
            Ok(Ok((position, Outcome::Accepted(accepted)))) => Ok((accepted, position)),
            Ok(Ok((_, Outcome::Rejected(reject)))) => Err(outcomes::problem(reject)),
            Ok(Err(_)) | Err(_) => Err(Code::OutcomeUnknown.problem()),
        }
    }
}
