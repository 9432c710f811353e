//! Bodies of HTTP `/v1`.

use serde::{Deserialize, Serialize};

use crate::frames::Done;
use crate::objects::{Device, Member, Message, Person, Receipt, Room};

/// `POST /v1/accounts`: register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// 3 to 30 of a-z, 0-9, `_`, `.`.
    pub handle: String,
    /// 1 to 50 characters.
    pub name: String,
    /// 8 to 200 characters.
    pub password: String,
    /// Name of this device.
    pub device: String,
    /// Where registering takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<String>,
    /// The device's secret, which the client makes: 32 random bytes as base64url without padding.
    pub secret: String,
}

/// `POST /v1/devices`: sign in on a new device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The account's handle.
    pub handle: String,
    /// Its password.
    pub password: String,
    /// Name of this device.
    pub device: String,
    /// As in [`Register::secret`].
    pub secret: String,
}

/// Signed in: what to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SignedIn {
    /// The account.
    pub user: u64,
    /// The device.
    pub device: u64,
}

/// `POST /v1/tokens`: get an access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The device.
    pub device: u64,
    /// Its secret.
    pub secret: String,
}

/// An access token: `Authorization: Bearer …`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Token {
    /// The token; opaque.
    pub token: String,
    /// For how long it is good, in milliseconds.
    pub expires_in_ms: u64,
}

/// `PUT /v1/me/password`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The password until now.
    pub old: String,
    /// The new one, 8 to 200 characters.
    pub new: String,
}

/// `POST /v1/changes`: what a change gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Changed {
    /// What it gave.
    pub ok: Done,
}

/// `GET /v1/me`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Me {
    /// The account.
    pub person: Person,
    /// The device that asks.
    pub device: u64,
}

/// `GET /v1/devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Devices {
    /// The account's devices.
    pub devices: Vec<Device>,
}

/// `GET /v1/rooms`: a page of rooms by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Rooms {
    /// The rooms.
    pub rooms: Vec<Room>,
    /// Ask again with `after` this; none on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// `GET /v1/rooms/{id}/messages`: a page of messages, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Messages {
    /// The messages.
    pub messages: Vec<Message>,
}

/// `GET /v1/rooms/{id}/members`: a page of members by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Members {
    /// Those in the room.
    pub members: Vec<Member>,
    /// Ask again with `after` this; none on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// `GET /v1/rooms/{id}/receipts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Receipts {
    /// How far each has read.
    pub receipts: Vec<Receipt>,
}

/// `GET /v1/users?handle=`: nobody or one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct People {
    /// Who was found.
    pub people: Vec<Person>,
}
