//! What a request holds that its address does not take.

use axum::body::HttpBody as _;
use axum::extract::{FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::{IDEMPOTENCY_HEADER, SEEN_HEADER};

use super::Fail;

/// Headers of which a second one would be passed over.
const ONCE: [&str; 4] = ["authorization", "content-type", IDEMPOTENCY_HEADER, SEEN_HEADER];

/// Refuses what no address takes: a header twice, a body where there is none to have.
pub(crate) async fn refuse(request: Request, next: Next) -> Response {
    let bodiless = matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE);
    let wrong = doubled(request.headers()).or_else(|| {
        (bodiless && !request.body().is_end_stream()).then(|| bad("this address takes no body with this method"))
    });
    match wrong {
        Some(problem) => Fail(problem).into_response(),
        None => next.run(request).await,
    }
}

/// Refuses a query, where an address takes none.
pub(crate) async fn refuse_query(request: Request, next: Next) -> Response {
    match query(request.uri()) {
        Some(problem) => Fail(problem).into_response(),
        None => next.run(request).await,
    }
}

/// What is wrong with an address that takes no query.
pub(crate) fn query(uri: &Uri) -> Option<Problem> {
    uri.query().is_some_and(|query| !query.is_empty()).then(|| bad("this address takes no query"))
}

fn doubled(headers: &HeaderMap) -> Option<Problem> {
    let name = ONCE.into_iter().find(|name| headers.get_all(*name).iter().nth(1).is_some())?;
    Some(bad(format!("{name} is there more than once")))
}

fn bad(detail: impl Into<String>) -> Problem {
    Code::BadRequest.problem().detail(detail)
}

/// The one part of a path that is not fixed.
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Fail;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fail> {
        let Path(segment) =
            Path::from_request_parts(parts, state).await.map_err(|_| Fail(bad("the path is not UTF-8")))?;
        Ok(Self(segment))
    }
}
