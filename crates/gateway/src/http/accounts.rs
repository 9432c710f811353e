//! Accounts, devices, tokens and people.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use ieum_core::batch::Origin;
use ieum_core::commands::account::{Register as RegisterCommand, SetPassword};
use ieum_core::commands::device::{AddDevice, LogOut};
use ieum_core::ids::{DeviceId, UserId};
use ieum_core::outcome::Accepted;
use ieum_core::tables::accounts::{DEVICES, HANDLES, USER_DEVICES, USERS};
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::http::{Devices, Me, PasswordChange, People, Register, SignIn, SignedIn, Token, TokenRequest};
use ieum_protocol::objects::{Device, Person};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;

use super::{At, Body, Fail, Peer, key, short_hash};
use crate::cell::Cell;
use crate::map::changes::tidy;
use crate::map::objects;
use crate::options::Registration;
use crate::{Gateway, check_secret, hash_secret};

/// A device's secret: the client's own, or a new one that it is told.
struct Secret {
    hash: [u8; 32],
    told: Option<String>,
}

fn secret(given: Option<String>) -> Result<Secret, Problem> {
    let bad = || Code::BadRequest.problem().detail("secret is 32 random bytes as base64url without padding");
    match given {
        Some(given) => Ok(Secret { hash: hash_secret(&given).ok_or_else(bad)?, told: None }),
        None => {
            let mut bytes = [0; 32];
            SystemRandom::new().fill(&mut bytes).map_err(|_| Code::Internal.problem())?;
            let hash = *blake3::hash(&bytes).as_bytes();
            Ok(Secret { hash, told: Some(data_encoding::BASE64URL_NOPAD.encode(&bytes)) })
        }
    }
}

fn admit<C: Cell>(gateway: &Gateway<C>, peer: Option<Extension<Peer>>) -> Result<(), Problem> {
    let Some(Extension(Peer(address))) = peer else { return Ok(()) };
    let allowed = gateway.limits.sign_ins.take(crate::limits::subscriber(address), Instant::now());
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
    peer: Option<Extension<Peer>>,
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
    admit(&gateway, peer)?;
    let secret = secret(asked.secret)?;
    // Without the password: what the cell keeps of a request must not help to guess it. Without the secret where the server made it.
    let own = if secret.told.is_none() { &secret.hash[..] } else { &[] };
    let request =
        short_hash(&[b"register", asked.handle.as_bytes(), asked.name.as_bytes(), asked.device.as_bytes(), own]);
    let password = gateway.passwords.hash(asked.password).await?;
    let command = RegisterCommand {
        handle: asked.handle,
        name: tidy(&asked.name),
        password,
        secret_hash: secret.hash,
        device_name: tidy(&asked.device),
        invitation,
    };
    let (accepted, position) = gateway.run(Origin::Anonymous { key, request }, command.into()).await?;
    match accepted {
        Accepted::Registered { user, device } => {
            Ok(At(SignedIn { user: user.0, device: device.0, secret: secret.told }, position))
        }
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
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    Body(asked): Body<SignIn>,
) -> Result<At<SignedIn>, Fail> {
    let key = key(&headers)?;
    admit(&gateway, peer)?;
    let secret = secret(asked.secret)?;
    let handle = asked.handle.clone();
    let (found, _) = gateway
        .read(move |view| match HANDLES.get(view, &handle)? {
            Some(user) => Ok(USERS.get(view, &user)?.map(|row| (user, row.password))),
            None => Ok(None),
        })
        .await?;
    let hash = found.as_ref().map(|(_, hash)| hash.clone());
    let right = gateway.passwords.verify(asked.password, hash).await?;
    let Some((user, password)) = found.filter(|_| right) else { return Err(Code::PasswordWrong.into()) };
    let own = if secret.told.is_none() { &secret.hash[..] } else { &[] };
    let request = short_hash(&[b"sign in", asked.handle.as_bytes(), asked.device.as_bytes(), own]);
    let command = AddDevice { user, password, secret_hash: secret.hash, name: tidy(&asked.device) };
    let (accepted, position) = gateway.run(Origin::Anonymous { key, request }, command.into()).await?;
    match accepted {
        Accepted::DeviceAdded { device } => {
            Ok(At(SignedIn { user: user.0, device: device.0, secret: secret.told }, position))
        }
        _ => Err(Code::Internal.into()),
    }
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
    Body(asked): Body<TokenRequest>,
) -> Result<At<Token>, Fail> {
    let device = DeviceId(asked.device);
    let (user, position) = gateway.read(move |view| check_secret(view, device, &asked.secret)).await?;
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
    headers: HeaderMap,
) -> Result<At<Devices>, Fail> {
    let (user, this) = gateway.signed_in(&headers).await?;
    let (devices, position) = gateway
        .read(move |view| {
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
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Fail> {
    let (_, device) = gateway.signed_in(&headers).await?;
    let key = key(&headers)?;
    let other: DeviceId = id.parse().map_err(|_| Code::DeviceUnknown)?;
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
pub(crate) async fn me<C: Cell>(State(gateway): State<Arc<Gateway<C>>>, headers: HeaderMap) -> Result<At<Me>, Fail> {
    let (user, device) = gateway.signed_in(&headers).await?;
    let (person, position) = gateway.read(move |view| objects::person(view, user)).await?;
    Ok(At(Me { person, device: device.0 }, position))
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
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    Body(asked): Body<PasswordChange>,
) -> Result<StatusCode, Fail> {
    let (user, device) = gateway.signed_in(&headers).await?;
    let key = key(&headers)?;
    admit(&gateway, peer)?;
    let (row, _) = gateway.read(move |view| USERS.get(view, &user)).await?;
    let old = row.ok_or(Code::UserUnknown)?.password;
    if !gateway.passwords.verify(asked.old, Some(old.clone())).await? {
        return Err(Code::PasswordWrong.into());
    }
    let new = gateway.passwords.hash(asked.new).await?;
    let request = short_hash(&[b"password", old.as_bytes()]);
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
    headers: HeaderMap,
    query: Result<Query<FindQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<At<People>, Fail> {
    gateway.signed_in(&headers).await?;
    let Query(FindQuery { handle }) = query.map_err(bad_query)?;
    let (people, position) = gateway
        .read(move |view| match HANDLES.get(view, &handle)? {
            Some(user) => Ok(vec![objects::person(view, user)?]),
            None => Ok(Vec::new()),
        })
        .await?;
    Ok(At(People { people }, position))
}

pub(super) fn bad_query(rejection: axum::extract::rejection::QueryRejection) -> Fail {
    Fail(Code::BadRequest.problem().detail(rejection.body_text()))
}

/// A person with whom one shares a room.
#[utoipa::path(
    get, path = "/v1/users/{id}", tag = "people", params(("id" = u64, Path, description = "The person.")),
    responses(
        (status = 200, body = Person, description = "The person."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "An error."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn user<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<At<Person>, Fail> {
    let (me, _) = gateway.signed_in(&headers).await?;
    let other: UserId = id.parse().map_err(|_| Code::UserUnknown)?;
    let (person, position) = gateway
        .read(move |view| {
            let known = USERS.has(view, &other)? && ieum_core::query::share_a_room(view, me, other)?;
            if known { objects::person(view, other).map(Some) } else { Ok(None) }
        })
        .await?;
    Ok(At(person.ok_or(Code::UserUnknown)?, position))
}
