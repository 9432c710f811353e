//! Rooms and what was said in them.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use ieum_core::ids::{RoomId, UserId};
use ieum_core::kv;
use ieum_core::query::{self, Mine, Page};
use ieum_core::tables::messages::Message;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::http::{Members, Messages, Receipts, Rooms};
use ieum_protocol::objects::{Receipt, Room};
use serde::Deserialize;

use super::accounts::bad_query;
use super::unlisted::Segment;
use super::{At, Fail, Peer};
use crate::Gateway;
use crate::cell::Cell;
use crate::map::objects;

const MAX_ROOMS: usize = 100;
/// About 100 KiB.
const MAX_MEMBERS: usize = 500;
const MAX_MESSAGES: usize = 200;
/// What a page of messages may weigh; one that holds a single message may weigh more.
const MESSAGES_WEIGHT: usize = 512 * 1024;

/// Which page of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomsQuery {
    /// Behind this room.
    after: Option<u64>,
    /// At most so many, 1 to 100.
    limit: Option<usize>,
}

/// Which page of a room's members.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct MembersQuery {
    /// Behind this person.
    after: Option<u64>,
    /// At most so many, 1 to 500.
    limit: Option<usize>,
}

/// Which page of messages.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessagesQuery {
    /// Those right before this seq.
    before: Option<u64>,
    /// Those right after this seq.
    after: Option<u64>,
    /// At most so many, 1 to 200.
    limit: Option<usize>,
}

/// One's rooms, by id.
#[utoipa::path(
    get, path = "/v1/rooms", tag = "rooms", params(RoomsQuery),
    responses(
        (status = 200, body = Rooms, description = "A page."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "An error."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn list<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    peer: Peer,
    headers: HeaderMap,
    asked: Result<Query<RoomsQuery>, QueryRejection>,
) -> Result<At<Rooms>, Fail> {
    let asking = gateway.signed_in(&peer, &headers).await?;
    let me = asking.user;
    let Query(RoomsQuery { after, limit }) = asked.map_err(bad_query)?;
    let limit = limit.unwrap_or(MAX_ROOMS).clamp(1, MAX_ROOMS);
    let (rooms, position) = gateway
        .read(&asking.asker, move |view| {
            let mines = query::rooms(view, me, after.map(RoomId), limit)?;
            let next = if mines.len() == limit { mines.last().map(|m| m.id.0) } else { None };
            let rooms = mines.iter().map(|mine| objects::room(view, me, mine)).collect::<kv::Result<_>>()?;
            Ok(Rooms { rooms, next })
        })
        .await?;
    Ok(At(rooms, position))
}

/// Reads something of a room that the asker is in; for anyone else there is no such room.
async fn of_room<C: Cell, T: Send + 'static>(
    gateway: &Arc<Gateway<C>>,
    peer: &Peer,
    headers: &HeaderMap,
    id: &str,
    read: impl FnOnce(&C::View, UserId, &Mine) -> kv::Result<T> + Send + 'static,
) -> Result<At<T>, Fail> {
    let asking = gateway.signed_in(peer, headers).await?;
    let me = asking.user;
    let id: RoomId = id.parse().map_err(|_| Code::RoomUnknown)?;
    let (found, position) = gateway
        .read(&asking.asker, move |view| query::room(view, me, id)?.map(|mine| read(view, me, &mine)).transpose())
        .await?;
    Ok(At(found.ok_or(Code::RoomUnknown)?, position))
}

/// A room of one's own.
#[utoipa::path(
    get, path = "/v1/rooms/{id}", tag = "rooms", params(("id" = u64, Path, description = "The room.")),
    responses(
        (status = 200, body = Room, description = "The room."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "An error."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn one<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    Segment(id): Segment,
    peer: Peer,
    headers: HeaderMap,
) -> Result<At<Room>, Fail> {
    of_room(&gateway, &peer, &headers, &id, objects::room).await
}

/// A page of a room's messages, ascending; the last ones when neither `before` nor `after` is given.
#[utoipa::path(
    get, path = "/v1/rooms/{id}/messages", tag = "rooms", params(("id" = u64, Path, description = "The room."), MessagesQuery),
    responses(
        (status = 200, body = Messages, description = "A page."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "An error."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn messages<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    Segment(id): Segment,
    peer: Peer,
    headers: HeaderMap,
    asked: Result<Query<MessagesQuery>, QueryRejection>,
) -> Result<At<Messages>, Fail> {
    let Query(MessagesQuery { before, after, limit }) = asked.map_err(bad_query)?;
    let limit = limit.unwrap_or(50).clamp(1, MAX_MESSAGES);
    let page = match (before, after) {
        (None, None) => Page::Last,
        (Some(seq), None) => Page::Before(seq),
        (None, Some(seq)) => Page::After(seq),
        (Some(_), Some(_)) => return Err(Code::BadRequest.problem().detail("before or after, not both").into()),
    };
    let read = move |view: &C::View, _, mine: &Mine| {
        let page = lightest(query::messages(view, mine, page, limit)?, matches!(page, Page::After(_)));
        let seqs: Vec<u64> = page.iter().map(|(seq, _)| *seq).collect();
        let unread = query::unread_counts(view, mine, &seqs)?;
        let told = page.into_iter().zip(unread).map(|((seq, message), unread)| {
            let mut told = objects::message(seq, message);
            told.unread = (told.text.is_some()).then_some(unread);
            told
        });
        Ok(Messages { messages: told.collect() })
    };
    of_room(&gateway, &peer, &headers, &id, read).await
}

/// As many of the messages as a page may weigh: the first ones, or else the last.
fn lightest(mut messages: Vec<(u64, Message)>, first: bool) -> Vec<(u64, Message)> {
    let mut weight = 0;
    let mut fits = |(_, message): &&(u64, Message)| {
        let begins = weight == 0;
        weight += objects::weight(message);
        begins || weight <= MESSAGES_WEIGHT
    };
    if first {
        let count = messages.iter().take_while(&mut fits).count();
        messages.truncate(count);
        messages
    } else {
        let count = messages.iter().rev().take_while(&mut fits).count();
        messages.split_off(messages.len() - count)
    }
}

/// Those in a room, by id.
#[utoipa::path(
    get, path = "/v1/rooms/{id}/members", tag = "rooms", params(("id" = u64, Path, description = "The room."), MembersQuery),
    responses(
        (status = 200, body = Members, description = "A page."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "An error."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn members<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    Segment(id): Segment,
    peer: Peer,
    headers: HeaderMap,
    asked: Result<Query<MembersQuery>, QueryRejection>,
) -> Result<At<Members>, Fail> {
    let Query(MembersQuery { after, limit }) = asked.map_err(bad_query)?;
    let limit = limit.unwrap_or(MAX_MEMBERS).clamp(1, MAX_MEMBERS);
    let read = move |view: &C::View, _, mine: &Mine| {
        let members = query::members_behind(view, mine, after.map(UserId), limit)?;
        let next = if members.len() == limit { members.last().map(|(user, _)| user.0) } else { None };
        let members = members.iter().map(|(user, m)| objects::member(view, *user, m)).collect::<kv::Result<_>>()?;
        Ok(Members { members, next })
    };
    of_room(&gateway, &peer, &headers, &id, read).await
}

/// How far everybody in a room has read.
#[utoipa::path(
    get, path = "/v1/rooms/{id}/receipts", tag = "rooms", params(("id" = u64, Path, description = "The room.")),
    responses(
        (status = 200, body = Receipts, description = "The receipts."),
        (status = "default", body = Problem, content_type = "application/problem+json", description = "An error."),
    ),
    security(("token" = [])),
)]
pub(crate) async fn receipts<C: Cell>(
    State(gateway): State<Arc<Gateway<C>>>,
    Segment(id): Segment,
    peer: Peer,
    headers: HeaderMap,
) -> Result<At<Receipts>, Fail> {
    let read = |view: &C::View, _, mine: &Mine| {
        let receipts = query::receipts(view, mine)?;
        Ok(Receipts { receipts: receipts.into_iter().map(|(u, r)| Receipt { user: u.0, seq: r.seq }).collect() })
    };
    of_room(&gateway, &peer, &headers, &id, read).await
}
