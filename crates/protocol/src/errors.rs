//! Errors: problem details as RFC 9457 has them, with stable codes.

use serde::{Deserialize, Serialize};

/// What went wrong, over HTTP as `application/problem+json`, in frames as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// A reference to the description of the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the code means, in English; never changes meaning.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: String,
    /// What is wrong with this very request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Trying again helps, after so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Where else to try.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $status:literal $code:literal $title:literal,)*) => {
        /// Every stable code: those of gateways, then those of outcomes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* #[doc = $title] $variant,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word that clients compare.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What it means.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The code written as `word`.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    BadFrame 400 "bad_frame" "The frame is not one of the protocol's.",
    BadRequest 400 "bad_request" "The request is not as this address takes it.",
    TooLarge 413 "too_large" "The frame or body is larger than the server takes.",
    HelloFirst 401 "hello_first" "The first frame of a session is hello.",
    Unauthorized 401 "unauthorized" "No access token, or one that is not valid.",
    TokenExpired 401 "token_expired" "The access token is too old: get a new one with the device's secret.",
    SecretWrong 401 "secret_wrong" "There is no such device, it was logged out, or the secret is not its own.",
    PasswordWrong 401 "password_wrong" "The handle or the password is wrong.",
    RegistrationClosed 403 "registration_closed" "Nobody can register here.",
    InvitationNeeded 403 "invitation_needed" "Registering here takes an invitation code.",
    NotFound 404 "not_found" "There is nothing at this address.",
    MethodNotAllowed 405 "method_not_allowed" "This address does not take this method.",
    UnsupportedMediaType 415 "unsupported_media_type" "The body must be application/json.",
    UpgradeNeeded 426 "upgrade_needed" "This address takes WebSocket connections with the subprotocol ieum.v1 only.",
    RateLimited 429 "rate_limited" "Too much from this device or address.",
    Busy 503 "busy" "The server takes no more work just now; nothing was done.",
    Unavailable 503 "unavailable" "The cell does not make progress just now; nothing was done.",
    OutcomeUnknown 503 "outcome_unknown" "The answer is late; the change may still take effect. Repeat it with the same number and id, or the same key.",
    Behind 503 "behind" "This node has not yet what you have seen; ask another.",
    ShuttingDown 503 "shutting_down" "This node is stopping; connect again.",
    TooManySessions 503 "too_many_sessions" "This server or address has as many sessions as it may.",
    SlowReader 503 "slow_reader" "The session's queue was full; say hello again with your cursor.",
    Silent 408 "silent" "The client said nothing for too long; say hello again with your cursor.",
    TooSlow 408 "too_slow" "The request took too long to come.",
    Replaced 409 "replaced" "The same device connected again; this session is over.",
    LoggedOut 401 "logged_out" "The device was logged out.",
    Unsupported 422 "unsupported" "The cell does not know this command yet.",
    Internal 500 "internal" "A bug; nothing was done.",
    NumberReused 409 "number_reused" "The number was used with another id.",
    TooOld 409 "too_old" "The number is below the last 64; its outcome is no longer kept.",
    OutOfOrder 409 "out_of_order" "The number is not the next one; nothing was done. Send again from the first one refused.",
    DeviceUnknown 404 "device_unknown" "There is no such device.",
    KeyReused 409 "idempotency_key_reused" "The idempotency key was used for another request.",
    RoomUnknown 404 "room_unknown" "There is no such room, or you are not in it.",
    UserUnknown 404 "user_unknown" "There is no such person.",
    MessageUnknown 404 "message_unknown" "There is no such message, or you do not see it.",
    NotAllowed 403 "not_allowed" "You may not do this.",
    HandleTaken 409 "handle_taken" "Somebody has this handle.",
    HandleInvalid 422 "handle_invalid" "A handle is 3 to 30 characters of a-z, 0-9, _ and .",
    NameInvalid 422 "name_invalid" "A name is 1 to 50 characters without control characters.",
    PasswordInvalid 422 "password_invalid" "A password is 8 to 200 characters.",
    TextEmpty 422 "text_empty" "The text is empty.",
    TextTooLong 422 "text_too_long" "The text is over 10,000 characters.",
    RoomFull 409 "room_full" "The room has its 3,000 members.",
    EditTooLate 409 "edit_too_late" "The time to edit is over.",
    DeleteTooLate 409 "delete_too_late" "The time to delete for everyone is over.",
    MessageDeleted 409 "message_deleted" "The message was deleted.",
    WrongRoomKind 409 "wrong_room_kind" "This kind of room does not know this.",
    TooMany 422 "too_many" "More people, entries or bytes at once than a command takes.",
    InvitationInvalid 403 "invitation_invalid" "The invitation code is unknown or used up.",
    PasswordChanged 409 "password_changed" "The password changed while it was being checked; ask again with a new key.",
    TooManyDevices 409 "too_many_devices" "The account has its 20 devices; log one out.",
    TooManyRooms 409 "too_many_rooms" "Somebody is in as many rooms as one may be.",
    NodeUnknown 404 "node_unknown" "There is no such node, or there is one already.",
    LevelTooHigh 409 "level_too_high" "Some node does not know this level.",
    NotYourself 422 "not_yourself" "This cannot be done to oneself.",
    NotAMember 404 "not_a_member" "The person is not in the room.",
    Skipped 500 "skipped" "Skipped by the operator.",
    Invalid 422 "invalid" "A value is out of its range.",
}

impl Code {
    /// The problem with this code and nothing more to say.
    #[must_use]
    pub fn problem(self) -> Problem {
        Problem {
            kind: format!("/problems/{}", self.as_str()),
            title: self.title().to_owned(),
            status: self.status(),
            code: self.as_str().to_owned(),
            detail: None,
            retry_after_ms: self.retry_after_ms(),
            endpoints: Vec::new(),
        }
    }

    /// After how many milliseconds trying again helps; `None` where it does not.
    #[must_use]
    pub fn retry_after_ms(self) -> Option<u64> {
        match self {
            Self::RateLimited | Self::TooManySessions => Some(1_000),
            Self::Busy | Self::Unavailable => Some(500),
            Self::OutcomeUnknown | Self::Behind | Self::ShuttingDown | Self::SlowReader | Self::Silent => Some(100),
            Self::OutOfOrder => Some(0),
            _ => None,
        }
    }
}

impl Code {
    /// Whether another server of the cell may do better, so that a problem with this code names them.
    #[must_use]
    pub fn points_elsewhere(self) -> bool {
        matches!(
            self,
            Self::Behind | Self::Unavailable | Self::OutcomeUnknown | Self::ShuttingDown | Self::TooManySessions
        )
    }
}

impl Problem {
    /// The same, saying what is wrong with this very request.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Its code, if this version knows it.
    #[must_use]
    pub fn known(&self) -> Option<Code> {
        Code::from_word(&self.code)
    }
}
