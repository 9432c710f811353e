//! Changes over HTTP, for those who hold no stream.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use ieum_core::batch::Origin;
use ieum_core::codec::Code as _;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::Change;
use ieum_protocol::http::Changed;

use super::{At, Body, Fail, Peer, key, short_hash};
use crate::Gateway;
use crate::cell::Cell;
use crate::map::{changes, outcomes};

/// Make a change: the same that a session's `cmd` makes.
///
/// Exactly once for each Idempotency-Key within 24 hours.
#[utoipa::path(
    post, path = "/v1/changes", tag = "changes",
    params(("idempotency-key" = String, Header, description = "Random for each new change; the same in every retry.")),
    request_body = Change,
    responses(
        (status = 200, body = Changed, description = "It took effect."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "It did not."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn change<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    peer: Peer,
    headers: HeaderMap,
    Body(change): Body<Change>,
) -> Result<At<Changed>, Fail> {
    let me = gateway.signed_in(&peer, &headers).await?;
    let device = me.device;
    let key = key(&headers)?;
    let command = changes::command(change).map_err(|bad| Code::BadRequest.problem().detail(bad.to_string()))?;
    gateway.allow_command(&me, &command).await?;
    let request = short_hash(&[b"change", &command.to_bytes()]);
    let (accepted, position) = gateway.run(Origin::Http { device, key, request }, command).await?;
    Ok(At(Changed { ok: outcomes::done(&accepted) }, position))
}
