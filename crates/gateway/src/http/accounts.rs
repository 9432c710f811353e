//! Accounts, devices, tokens and people.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use ieum_core::batch::Origin;
use ieum_core::commands::account::{Register as RegisterCommand, SetPassword};
use ieum_core::commands::device::{AddDevice, LogOut};
use ieum_core::ids::{DeviceId, Position, RoomId, UserId};
use ieum_core::kv::{self, Read};
use ieum_core::outcome::{Accepted, Outcome, Reject};
use ieum_core::query;
use ieum_core::tables::accounts::{DEVICES, HANDLES, USER_DEVICES, USERS};
use ieum_core::tables::once::IDEMPOTENCY;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::http::{Devices, Me, PasswordChange, People, Register, SignIn, SignedIn, Token, TokenRequest};
use ieum_protocol::objects::{Device, Person};
use serde::Deserialize;

use super::unlisted::Segment;
use super::{At, Body, Fail, Peer, key, short_hash};
use crate::cell::Cell;
use crate::map::changes::tidy;
use crate::map::{objects, outcomes};
use crate::options::Registration;
use crate::{Gateway, check_secret, hash_secret};

/// What the cell keeps of the secret that a client made for its new device.
fn secret(given: &str) -> Result<[u8; 32], Problem> {
    let bad = || Code::BadRequest.problem().detail("secret is 32 random bytes as base64url without padding");
    hash_secret(given).ok_or_else(bad)
}

fn admit<C: Cell>(gateway: &Gateway<C>, peer: &Peer) -> Result<(), Problem> {
    let allowed = gateway.limits.sign_ins.take(crate::limits::subscriber(peer.address), Instant::now());
    if allowed { Ok(()) } else { Err(Code::RateLimited.problem()) }
}

/// Register: a new account with its first device.
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts",
    params(("idempotency-key" = String, Header, description = "Random for each new registration.")),
    request_body = Register,
    responses(
        (status = 200, body = SignedIn, description = "Registered and signed in."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "Not registered."),
    ),
)]
pub(crate) async fn register<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    peer: Peer,
    headers: HeaderMap,
    Body(asked): Body<Register>,
) -> Result<At<SignedIn>, Fail> {
    let key = key(&headers)?;
    let invitation = match (gateway.options.registration, &asked.invitation) {
        (Registration::Closed, _) => return Err(Code::RegistrationClosed.into()),
        (Registration::Invitation, None) => return Err(Code::InvitationNeeded.into()),
        (Registration::Invitation, Some(code)) => Some(*blake3::hash(code.trim().as_bytes()).as_bytes()),
        (Registration::Open, _) => None,
    };
    let secret = secret(&asked.secret)?;
    admit(&gateway, &peer)?;
    // The secret is random and the key too, so that the salt is this request's own; made of them, it is the same when the request is repeated.
    let salt = short_hash(&[b"salt", &key, &secret]);
    let password = gateway.passwords.hash(&peer.asker, asked.password, salt).await?;
    // With the password's hash, which no more helps to guess it here than where the cell keeps it.
    let request = short_hash(&[
        b"register",
        asked.handle.as_bytes(),
        asked.name.as_bytes(),
        asked.device.as_bytes(),
        &secret,
        password.as_bytes(),
        invitation.as_ref().map_or(&[], |code| &code[..]),
    ]);
    let command = RegisterCommand {
        handle: asked.handle,
        name: tidy(&asked.name),
        password,
        secret_hash: secret,
        device_name: tidy(&asked.device),
        invitation,
    };
    let (accepted, position) = gateway.run(Origin::Anonymous { key, request }, command.into()).await?;
    match accepted {
        Accepted::Registered { user, device } => Ok(At(SignedIn { user: user.0, device: device.0 }, position)),
        _ => Err(Code::Internal.into()),
    }
}

/// Sign in on a new device.
#[utoipa::path(
    post, path = "/v1/devices", tag = "accounts",
    params(("idempotency-key" = String, Header, description = "Random for each new device.")),
    request_body = SignIn,
    responses(
        (status = 200, body = SignedIn, description = "Signed in."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "Not signed in."),
    ),
)]
pub(crate) async fn sign_in<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    peer: Peer,
    headers: HeaderMap,
    Body(asked): Body<SignIn>,
) -> Result<At<SignedIn>, Fail> {
    let key = key(&headers)?;
    let secret = secret(&asked.secret)?;
    admit(&gateway, &peer)?;
    // Without the password: it is looked at only when the device is added, and the secret shows that a repeated request is the same one.
    let request = short_hash(&[b"sign in", asked.handle.as_bytes(), asked.device.as_bytes(), &secret]);
    let handle = asked.handle;
    let ((answered, found), position) = gateway
        .read(&peer.asker, move |view| {
            let user = HANDLES.get(view, &handle)?;
            let row = user.map(|user| USERS.get(view, &user)).transpose()?.flatten();
            Ok((answered(view, DeviceId(0), key, request)?, user.zip(row.map(|row| row.password))))
        })
        .await?;
    if let (Some(answered), Some((user, _))) = (answered, &found) {
        return signed_in(*user, &outcomes::accepted(answered)?, position);
    }
    let hash = found.as_ref().map(|(_, hash)| hash.clone());
    let right = gateway.passwords.verify(&peer.asker, asked.password, hash).await?;
    let Some((user, password)) = found.filter(|_| right) else { return Err(Code::PasswordWrong.into()) };
    let command = AddDevice { user, password, secret_hash: secret, name: tidy(&asked.device) };
    let (accepted, position) = gateway.run(Origin::Anonymous { key, request }, command.into()).await?;
    signed_in(user, &accepted, position)
}

fn signed_in(user: UserId, accepted: &Accepted, position: Position) -> Result<At<SignedIn>, Fail> {
    match accepted {
        Accepted::DeviceAdded { device } => Ok(At(SignedIn { user: user.0, device: device.0 }, position)),
        _ => Err(Code::Internal.into()),
    }
}

/// What a request over HTTP was answered, if it was made before under this key.
fn answered(view: &impl Read, device: DeviceId, key: [u8; 16], request: [u8; 16]) -> kv::Result<Option<Outcome>> {
    Ok(IDEMPOTENCY.get(view, &(device, key))?.map(|answered| {
        if answered.request == request { answered.outcome } else { Outcome::Rejected(Reject::KeyReused) }
    }))
}

/// Get an access token for HTTP with the device's secret. Costs the server no write and no password hash.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "accounts", request_body = TokenRequest,
    responses(
        (status = 200, body = Token, description = "A token."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "No token."),
    ),
)]
pub(crate) async fn token<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    peer: Peer,
    Body(asked): Body<TokenRequest>,
) -> Result<At<Token>, Fail> {
    let device = DeviceId(asked.device);
    let (user, position) = gateway.read(&peer.asker, move |view| check_secret(view, device, &asked.secret)).await?;
    user.ok_or(Code::SecretWrong)?;
    let life = gateway.options.token_life;
    let token = gateway.keys.issue(device, life);
    Ok(At(Token { token, expires_in_ms: u64::try_from(life.as_millis()).unwrap_or(u64::MAX) }, position))
}

/// The account's devices.
#[utoipa::path(
    get, path = "/v1/devices", tag = "accounts",
    responses(
        (status = 200, body = Devices, description = "The devices."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "An error."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn devices<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    peer: Peer,
    headers: HeaderMap,
) -> Result<At<Devices>, Fail> {
    let me = gateway.signed_in(&peer, &headers).await?;
    let (user, this) = (me.user, me.device);
    let (devices, position) = gateway
        .read(&me.asker, move |view| {
            let mut ids = Vec::new();
            USER_DEVICES.within(view, &user, None, |(_, device), _| {
                ids.push(device);
                std::ops::ControlFlow::Continue(())
            })?;
            let mut devices = Vec::new();
            for id in ids {
                let row = DEVICES.get(view, &id)?;
                devices.extend(row.map(|d| Device { id: id.0, name: d.name, added_at: d.added_at, this: id == this }));
            }
            Ok(devices)
        })
        .await?;
    Ok(At(Devices { devices }, position))
}

/// Log a device of one's own out, at once and everywhere.
#[utoipa::path(
    delete, path = "/v1/devices/{id}", tag = "accounts",
    params(("id" = u64, Path, description = "The device."),
           ("idempotency-key" = String, Header, description = "Random for each new change.")),
    responses(
        (status = 204, description = "Logged out."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "An error."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn log_out<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    Segment(id): Segment,
    peer: Peer,
    headers: HeaderMap,
) -> Result<StatusCode, Fail> {
    let device = gateway.signed_in(&peer, &headers).await?.device;
    let key = key(&headers)?;
    gateway.allow(device)?;
    // What is no number is no device of one's own either.
    let other: DeviceId = id.parse().map_err(|_| Code::NotAllowed)?;
    let request = short_hash(&[b"log out", &other.0.to_le_bytes()]);
    gateway.run(Origin::Http { device, key, request }, LogOut { device: other }.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who am I?
#[utoipa::path(
    get, path = "/v1/me", tag = "accounts",
    responses(
        (status = 200, body = Me, description = "You."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "An error."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn me<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    peer: Peer,
    headers: HeaderMap,
) -> Result<At<Me>, Fail> {
    let me = gateway.signed_in(&peer, &headers).await?;
    let (person, position) = gateway.read(&me.asker, move |view| objects::person(view, me.user)).await?;
    Ok(At(Me { person, device: me.device.0 }, position))
}

/// Change one's password.
#[utoipa::path(
    put, path = "/v1/me/password", tag = "accounts", request_body = PasswordChange,
    params(("idempotency-key" = String, Header, description = "Random for each new change.")),
    responses(
        (status = 204, description = "Changed."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "An error."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn set_password<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    peer: Peer,
    headers: HeaderMap,
    Body(asked): Body<PasswordChange>,
) -> Result<StatusCode, Fail> {
    let me = gateway.signed_in(&peer, &headers).await?;
    let (user, device) = (me.user, me.device);
    let key = key(&headers)?;
    admit(&gateway, &peer)?;
    gateway.allow(device)?;
    let new =
        gateway.passwords.hash(&me.asker, asked.new, short_hash(&[b"salt", &key, &device.0.to_le_bytes()])).await?;
    // Not of the old password: once the change took effect there is nothing to compare it with.
    let request = short_hash(&[b"password", new.as_bytes()]);
    let ((answered, row), _) = gateway
        .read(&me.asker, move |view| Ok((answered(view, device, key, request)?, USERS.get(view, &user)?)))
        .await?;
    if let Some(answered) = answered {
        return Ok(outcomes::accepted(answered).map(|_| StatusCode::NO_CONTENT)?);
    }
    let old = row.ok_or(Code::UserUnknown)?.password;
    if !gateway.passwords.verify(&me.asker, asked.old, Some(old.clone())).await? {
        return Err(Code::PasswordWrong.into());
    }
    gateway.run(Origin::Http { device, key, request }, SetPassword { old, new }.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a search for people asks.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct FindQuery {
    /// The whole handle.
    handle: String,
}

/// Find a person by handle.
#[utoipa::path(
    get, path = "/v1/users", tag = "people", params(FindQuery),
    responses(
        (status = 200, body = People, description = "Nobody or one."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "An error."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn find<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    peer: Peer,
    headers: HeaderMap,
    query: Result<Query<FindQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<At<People>, Fail> {
    let me = gateway.signed_in(&peer, &headers).await?;
    let Query(FindQuery { handle }) = query.map_err(bad_query)?;
    let (people, position) = gateway
        .read(&me.asker, move |view| match HANDLES.get(view, &handle)? {
            Some(user) => Ok(vec![objects::person(view, user)?]),
            None => Ok(Vec::new()),
        })
        .await?;
    Ok(At(People { people }, position))
}

pub(super) fn bad_query(rejection: axum::extract::rejection::QueryRejection) -> Fail {
    Fail(Code::BadRequest.problem().detail(rejection.body_text()))
}

/// A message by which one knows a person.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct KnownBy {
    /// The room of a message that one sees and that the person wrote or is named in.
    room: Option<u64>,
    /// Its seq.
    seq: Option<u64>,
}

/// A person with whom one shares a room, or who wrote or is named in a message that one sees.
#[utoipa::path(
    get, path = "/v1/users/{id}", tag = "people", params(("id" = u64, Path, description = "The person."), KnownBy),
    responses(
        (status = 200, body = Person, description = "The person."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "An error."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn user<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    Segment(id): Segment,
    peer: Peer,
    headers: HeaderMap,
    asked: Result<Query<KnownBy>, axum::extract::rejection::QueryRejection>,
) -> Result<At<Person>, Fail> {
    let asking = gateway.signed_in(&peer, &headers).await?;
    let me = asking.user;
    let Query(KnownBy { room, seq }) = asked.map_err(bad_query)?;
    if room.is_some() != seq.is_some() {
        return Err(Code::BadRequest.problem().detail("room and seq, or neither").into());
    }
    let other: UserId = id.parse().map_err(|_| Code::UserUnknown)?;
    let message = room.zip(seq);
    let (person, position) = gateway
        .read(&asking.asker, move |view| {
            let known = match message {
                Some((room, seq)) => query::names(view, me, RoomId(room), seq, other)?,
                None => query::share_a_room(view, me, other)?,
            };
            if known && USERS.has(view, &other)? { objects::person(view, other).map(Some) } else { Ok(None) }
        })
        .await?;
    Ok(At(person.ok_or(Code::UserUnknown)?, position))
}
