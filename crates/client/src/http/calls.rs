//! The calls, one function each.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hyper::Method;
use ieum_protocol::errors::Code;
use ieum_protocol::frames::{Change, Done};
use ieum_protocol::http::{
    Changed, Devices, Me, Members, Messages, PasswordChange, People, Receipts, Register, Rooms, SignIn, SignedIn,
};
use ieum_protocol::objects::{Device, Member, Message, Person, Receipt, Room};

use super::{Call, Error, Http};
use crate::command::CommandId;
use crate::random::random;
use crate::store::Identity;

/// An account to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewAccount {
    /// 3 to 30 of a-z, 0-9, `_`, `.`.
    pub handle: String,
    /// 1 to 50 characters.
    pub name: String,
    /// 8 to 200 characters.
    pub password: String,
    /// Name of this device.
    pub device: String,
    /// Where registering takes one.
    pub invitation: Option<String>,
}

/// Which part of a room's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The last ones.
    Latest,
    /// Those before this seq.
    Before(u64),
    /// Those after this seq.
    After(u64),
}

impl Http {
    /// Makes an account and signs this device in; calls are its own from now on. Keep the identity: in a store, or like a password.
    ///
    /// # Errors
    /// Why there is no account.
    pub async fn register(&self, account: NewAccount) -> Result<Identity, Error> {
        let NewAccount { handle, name, password, device, invitation } = account;
        let secret = secret()?;
        let body = Register { handle, name, password, device, invitation, secret: secret.clone() };
        self.signed_in("/v1/accounts", &body, secret).await
    }

    /// Signs this device in to an account; calls are its own from now on.
    ///
    /// # Errors
    /// Why it is not signed in.
    pub async fn sign_in(&self, handle: &str, password: &str, device: &str) -> Result<Identity, Error> {
        let secret = secret()?;
        let (handle, password, device) = (handle.to_owned(), password.to_owned(), device.to_owned());
        let body = SignIn { handle, password, device, secret: secret.clone() };
        self.signed_in("/v1/devices", &body, secret).await
    }

    async fn signed_in(&self, path: &str, body: &impl serde::Serialize, secret: String) -> Result<Identity, Error> {
        let mut call = Call::change(Method::POST, path, body)?;
        call.signed = false;
        let SignedIn { user, device } = self.call(call).await?;
        let identity = Identity { user, device, secret };
        self.use_identity(identity.clone()).await;
        Ok(identity)
    }

    /// Who one is.
    ///
    /// # Errors
    /// As every call.
    pub async fn me(&self) -> Result<Me, Error> {
        self.call(Call::get("/v1/me".to_owned())).await
    }

    /// Changes one's password.
    ///
    /// # Errors
    /// As every call.
    pub async fn change_password(&self, old: &str, new: &str) -> Result<(), Error> {
        let body = PasswordChange { old: old.to_owned(), new: new.to_owned() };
        let call = Call::change(Method::PUT, "/v1/me/password", &body)?;
        self.perform(&call).await.map(drop)
    }

    /// One's devices.
    ///
    /// # Errors
    /// As every call.
    pub async fn devices(&self) -> Result<Vec<Device>, Error> {
        self.call(Call::get("/v1/devices".to_owned())).await.map(|Devices { devices }| devices)
    }

    /// Logs one of one's devices out.
    ///
    /// # Errors
    /// As every call.
    pub async fn log_out(&self, device: u64) -> Result<(), Error> {
        let path = format!("/v1/devices/{device}");
        let mut call = Call::change(Method::DELETE, &path, &())?;
        call.body = Bytes::new();
        let own = self.identity().await.is_some_and(|identity| identity.device == device);
        match self.perform(&call).await {
            // It logged itself out, and the answer to that was lost.
            Err(error) if own && matches!(error.code(), Some(Code::LoggedOut | Code::SecretWrong)) => Ok(()),
            result => result.map(drop),
        }
    }

    /// The person with this handle.
    ///
    /// # Errors
    /// As every call.
    pub async fn find_user(&self, handle: &str) -> Result<Option<Person>, Error> {
        let path = format!("/v1/users?handle={}", escaped(handle));
        self.call(Call::get(path)).await.map(|People { people }| people.into_iter().next())
    }

    /// A person who wrote or is named in a message that one sees, also one who has left since.
    ///
    /// # Errors
    /// As every call.
    pub async fn user_of_message(&self, user: u64, room: u64, seq: u64) -> Result<Person, Error> {
        self.call(Call::get(format!("/v1/users/{user}?room={room}&seq={seq}"))).await
    }

    /// A person.
    ///
    /// # Errors
    /// As every call.
    pub async fn user(&self, user: u64) -> Result<Person, Error> {
        self.call(Call::get(format!("/v1/users/{user}"))).await
    }

    /// A page of one's rooms, by id.
    ///
    /// # Errors
    /// As every call.
    pub async fn rooms(&self, after: Option<u64>, limit: Option<u32>) -> Result<Rooms, Error> {
        let mut path = "/v1/rooms?".to_owned();
        if let Some(after) = after {
            path.push_str(&format!("after={after}&"));
        }
        if let Some(limit) = limit {
            path.push_str(&format!("limit={limit}&"));
        }
        path.pop();
        self.call(Call::get(path)).await
    }

    /// A room.
    ///
    /// # Errors
    /// As every call.
    pub async fn room(&self, room: u64) -> Result<Room, Error> {
        self.call(Call::get(format!("/v1/rooms/{room}"))).await
    }

    /// A page of a room's messages, ascending.
    ///
    /// # Errors
    /// As every call.
    pub async fn messages(&self, room: u64, page: Page, limit: u32) -> Result<Vec<Message>, Error> {
        let from = match page {
            Page::Latest => String::new(),
            Page::Before(seq) => format!("before={seq}&"),
            Page::After(seq) => format!("after={seq}&"),
        };
        let path = format!("/v1/rooms/{room}/messages?{from}limit={limit}");
        self.call(Call::get(path)).await.map(|Messages { messages }| messages)
    }

    /// Everybody in a room, page by page: who comes or goes meanwhile may be missing or there.
    ///
    /// # Errors
    /// As every call.
    pub async fn members(&self, room: u64) -> Result<Vec<Member>, Error> {
        let mut path = format!("/v1/rooms/{room}/members");
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let Members { members, next } = self.call(Call::get(path)).await?;
            all.extend(members);
            // A page that leads no further would be asked for again and again.
            let Some(next) = next.filter(|next| after.is_none_or(|after| *next > after)) else { return Ok(all) };
            after = Some(next);
            path = format!("/v1/rooms/{room}/members?after={next}");
        }
    }

    /// How far each has read.
    ///
    /// # Errors
    /// As every call.
    pub async fn receipts(&self, room: u64) -> Result<Vec<Receipt>, Error> {
        self.call(Call::get(format!("/v1/rooms/{room}/receipts"))).await.map(|Receipts { receipts }| receipts)
    }

    /// Makes a change, exactly once however often the call has to be repeated. Outboxes use [`crate::Client`] instead.
    ///
    /// # Errors
    /// As every call.
    pub async fn change(&self, change: &Change) -> Result<Done, Error> {
        self.change_once(&CommandId::from_random(random(), random()).to_string(), change).await
    }

    /// Makes a change under an idempotency key: calling again with the same key within 24 hours gives the same outcome.
    ///
    /// # Errors
    /// As every call.
    pub async fn change_once(&self, key: &str, change: &Change) -> Result<Done, Error> {
        let mut call = Call::change(Method::POST, "/v1/changes", change)?;
        call.key = Some(key.to_owned());
        self.call(call).await.map(|Changed { ok }| ok)
    }
}

/// A device's secret, made here so that a request whose answer was lost can be repeated.
fn secret() -> Result<String, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::Unreachable(format!("no randomness: {error}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// As it may stand in a query.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
