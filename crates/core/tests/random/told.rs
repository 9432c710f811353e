//! What was told and whom, in words: the same for the model's and for the cell's.

use std::collections::BTreeSet;

use ieum_core::event::{Audience, Event, News};
use ieum_core::ids::UserId;

/// Whose devices, and what.
pub(crate) type Told = (BTreeSet<UserId>, String);

pub(crate) fn tell(whom: impl IntoIterator<Item = UserId>, what: impl Into<String>) -> Told {
    (whom.into_iter().collect(), what.into())
}

pub(crate) fn told(event: &Event) -> Told {
    let what = match &event.news {
        News::Message { room, seq, message } => format!("message {room} {seq} {} {:?}", message.from, message.body),
        News::Changed { room, seq, message } => format!("changed {room} {seq} {:?}", message.body),
        News::Receipt { room, user, seq } => format!("receipt {room} {user} {seq}"),
        News::Joined { room, about, head, from, role } => {
            format!("joined {room} {:?} {role:?} from {from} of {} after {}", about.name, about.members, head.last)
        }
        News::Left { room } => format!("left {room}"),
        News::Archived { room, last } => format!("archived {room} {last}"),
        News::LoggedOut => match event.audience {
            Audience::Device(device) => format!("logged out {device}"),
            _ => "logged out, but not one device".to_owned(),
        },
        News::Devices => "devices".to_owned(),
        News::Profile { name } => format!("profile {name}"),
    };
    let users: Vec<UserId> = event.audience.users().collect();
    let told = tell(users.iter().copied(), what);
    assert_eq!(told.0.len(), users.len(), "nobody is told twice");
    told
}
