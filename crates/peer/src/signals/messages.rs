//! The messages as they go over the wire.

use ieum_core::ids::{NodeId, RoomId, UserId};
use ieum_core::query::typing;
use tonic::Status;

use crate::messages::{Hello, garbled};

/// How many people a message says to have come or gone, at most.
pub(crate) const PEOPLE: usize = 2_048;
/// How many it says to type, at most.
pub(crate) const TYPING: usize = 512;

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct SignalsAsked {
    #[prost(message, optional, tag = "1")]
    pub(crate) hello: Option<Hello>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Signal {
    /// Who says it.
    #[prost(uint32, tag = "1")]
    pub(crate) node: u32,
    /// Nobody counts as being there who was said to be before.
    #[prost(bool, tag = "2")]
    pub(crate) all: bool,
    /// People who are there now.
    #[prost(uint64, repeated, tag = "3")]
    pub(crate) came: Vec<u64>,
    /// People who are there no longer.
    #[prost(uint64, repeated, tag = "4")]
    pub(crate) went: Vec<u64>,
    /// Who types.
    #[prost(message, repeated, tag = "5")]
    pub(crate) typing: Vec<Typing>,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Typing {
    #[prost(uint64, tag = "1")]
    pub(crate) room: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) user: u64,
}

/// The same as the nodes use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) node: NodeId,
    pub(crate) all: bool,
    pub(crate) came: Vec<UserId>,
    pub(crate) went: Vec<UserId>,
    pub(crate) typing: Vec<typing::Typing>,
}

impl From<Said> for Signal {
    fn from(Said { node, all, came, went, typing }: Said) -> Self {
        let ids = |people: Vec<UserId>| people.into_iter().map(|person| person.0).collect();
        let typing = typing.into_iter().map(|typing| Typing { room: typing.room.0, user: typing.user.0 }).collect();
        Self { node, all, came: ids(came), went: ids(went), typing }
    }
}

impl TryFrom<Signal> for Said {
    type Error = Status;

    fn try_from(Signal { node, all, came, went, typing }: Signal) -> Result<Self, Status> {
        if came.len().saturating_add(went.len()) > PEOPLE || typing.len() > TYPING {
            return Err(garbled("number of people"));
        }
        let people = |ids: Vec<u64>| ids.into_iter().map(UserId).collect();
        let heard = |Typing { room, user }| typing::Typing { room: RoomId(room), user: UserId(user) };
        let typing = typing.into_iter().map(heard).collect();
        Ok(Self { node, all, came: people(came), went: people(went), typing })
    }
}
