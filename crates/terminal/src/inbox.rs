//! What comes in, as lines: each message once, however often the connection breaks.

use std::collections::HashMap;

use ieum_client::{Delivery, Events, Http, State, Stop};
use ieum_protocol::frames::{CatchUp, Event};
use ieum_protocol::objects::{Message, Role, Room, System};
use tokio::sync::watch;

use crate::clock;
use crate::error::Error;
use crate::text::{note, plain, say};
use crate::words::{self, words};

/// What people are called.
pub(crate) struct Names {
    http: Http,
    known: HashMap<u64, String>,
}

impl Names {
    pub(crate) fn new(http: Http) -> Self {
        Self { http, known: HashMap::new() }
    }

    async fn of(&mut self, user: u64) -> String {
        if let Some(name) = self.known.get(&user) {
            return name.clone();
        }
        match self.http.user(user).await {
            Ok(person) => {
                let name = plain(&person.name);
                self.known.insert(user, name.clone());
                name
            }
            Err(_) => words!("user {user}", "사용자 {user}"),
        }
    }

    /// A message as a line: when, which of which room, who, what.
    pub(crate) async fn line(&mut self, room: u64, message: &Message) -> String {
        let head = format!("{} #{room}/{}", clock::time(message.time), message.seq);
        if let Some(archived) = &message.archived {
            return format!("{head} {}: {}", plain(&archived.author), plain(&archived.text));
        }
        let name = self.of(message.from).await;
        if let Some(system) = &message.system {
            return format!("{head} * {}", self.deed(&name, system).await);
        }
        let reply = message.reply_to.map(|seq| format!("(↪ {seq}) ")).unwrap_or_default();
        let text = match &message.text {
            Some(text) => plain(text),
            None if message.deleted => words!("(deleted)", "(삭제된 메시지)"),
            None => words!("(this version cannot show it)", "(이 버전에서는 볼 수 없는 메시지)"),
        };
        format!("{head} {name}: {reply}{text}")
    }

    async fn deed(&mut self, name: &str, system: &System) -> String {
        match system {
            System::Created => words!("{name} made the room", "{name}님이 방을 만들었습니다"),
            System::Invited { users } => {
                let mut names = Vec::with_capacity(users.len());
                for user in users {
                    names.push(self.of(*user).await);
                }
                let names = names.join(", ");
                words!("{name} invited {names}", "{name}님이 {names}님을 초대했습니다")
            }
            System::Left => words!("{name} left", "{name}님이 나갔습니다"),
            System::Removed { user } => {
                let removed = self.of(*user).await;
                words!("{name} removed {removed}", "{name}님이 {removed}님을 내보냈습니다")
            }
            System::Renamed { name: new } => {
                let new = plain(new);
                words!("{name} renamed the room to {new}", "{name}님이 방 이름을 {new}(으)로 바꾸었습니다")
            }
            System::RoleGiven { user, role } => {
                let to = self.of(*user).await;
                let role = match role {
                    Role::Member => words!("a member", "참여자"),
                    Role::Manager => words!("a manager", "관리자"),
                    Role::Owner => words!("the owner", "방장"),
                };
                words!("{name} made {to} {role}", "{name}님이 {to}님을 {role}(으)로 정했습니다")
            }
        }
    }
}

/// A room's name, for people.
pub(crate) fn title(room: &Room) -> String {
    match &room.peer {
        Some(peer) => format!("{} (@{})", plain(&peer.name), peer.handle),
        None => plain(&room.name),
    }
}

/// The room that somebody looks at: what is printed of it counts as read.
pub(crate) struct Watched {
    pub(crate) room: watch::Receiver<Option<u64>>,
    pub(crate) shown: watch::Sender<Option<(u64, u64)>>,
    pub(crate) me: u64,
}

impl Watched {
    fn printed(&self, room: u64, message: &Message) {
        if message.from != self.me && *self.room.borrow() == Some(room) {
            self.shown.send_replace(Some((room, message.seq)));
        }
    }
}

/// Prints what comes in.
pub(crate) struct Inbox {
    names: Names,
    watched: Option<Watched>,
    /// The last message of each room that was printed, or was there before.
    last: HashMap<u64, u64>,
    /// Whether what was there before is known.
    started: bool,
    live: bool,
    json: bool,
}

impl Inbox {
    pub(crate) fn new(http: Http, json: bool) -> Self {
        Self { names: Names::new(http), watched: None, last: HashMap::new(), started: false, live: false, json }
    }

    /// Somebody looks at a room meanwhile.
    pub(crate) fn watching(mut self, watched: Watched) -> Self {
        self.watched = Some(watched);
        self
    }

    /// Until the client stops.
    pub(crate) async fn print(mut self, mut events: Events) -> Result<(), Error> {
        let mut stop = Stop::Closed;
        while let Some(delivery) = events.next().await {
            match delivery {
                Delivery::State(State::Stopped(why)) => stop = why,
                Delivery::State(state) => self.state(&state),
                Delivery::CatchUp(caught) => self.catch_up(*caught).await?,
                Delivery::CaughtUp { .. } => self.started = true,
                Delivery::Events { list, .. } => {
                    for event in list {
                        self.event(event).await?;
                    }
                }
                Delivery::Outcome { result: Err(failure), .. } => {
                    let why = words::failure(&failure);
                    note(&words!("not done: {why}", "처리되지 않았습니다: {why}"));
                }
                Delivery::Outcome { .. } | Delivery::Refused { .. } | Delivery::Resync => {}
            }
        }
        if stop == Stop::Closed { Ok(()) } else { Err(stop.into()) }
    }

    fn state(&mut self, state: &State) {
        match state {
            State::Live { endpoint } => {
                note(&words!("connected to {endpoint}", "{endpoint}에 연결되었습니다"));
                self.live = true;
            }
            State::Waiting { why: Some(_), .. } if self.live => {
                note(&words!("the connection is lost; connecting again", "연결이 끊겼습니다. 다시 연결합니다"));
                self.live = false;
            }
            _ => {}
        }
    }

    async fn catch_up(&mut self, caught: CatchUp) -> Result<(), Error> {
        for changes in caught.rooms {
            let room = changes.room.id;
            if !self.started {
                self.last.insert(room, changes.room.last);
                continue;
            }
            // It is lower than what was printed if the log was restored to before that.
            let known = self.last.get(&room).copied().unwrap_or(0).min(changes.room.last);
            self.last.insert(room, known);
            let first = changes.messages.iter().map(|message| message.seq).find(|seq| *seq > known);
            if changes.gap && first.is_some_and(|first| first > known + 1) {
                note(&words!(
                    "#{room}: there are more messages before these; see /history",
                    "#{room}: 이 앞에 메시지가 더 있습니다. /history로 볼 수 있습니다"
                ));
            }
            for message in changes.messages {
                self.message(room, message).await?;
            }
        }
        Ok(())
    }

    async fn event(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Message { room, message } => self.message(room, message).await,
            event if self.json => say_json(&event),
            Event::Changed { room, message } => {
                let line = self.names.line(room, &message).await;
                say(&words!("{line}  (changed)", "{line}  (수정됨)"))
            }
            Event::Joined { room } => {
                let (id, title) = (room.id, title(&room));
                say(&words!("#{id} * you are in {title}", "#{id} * {title} 방에 들어왔습니다"))
            }
            Event::Left { room } => {
                say(&words!("#{room} * you are no longer in it", "#{room} * 더 이상 이 방에 있지 않습니다"))
            }
            Event::Archived { .. } | Event::Receipt { .. } | Event::Devices {} | Event::Profile { .. } => Ok(()),
        }
    }

    async fn message(&mut self, room: u64, message: Message) -> Result<(), Error> {
        let last = self.last.entry(room).or_default();
        if message.seq <= *last {
            return Ok(());
        }
        *last = message.seq;
        if self.json {
            return say_json(&Event::Message { room, message });
        }
        say(&self.names.line(room, &message).await)?;
        if let Some(watched) = &self.watched {
            watched.printed(room, &message);
        }
        Ok(())
    }
}

fn say_json(event: &Event) -> Result<(), Error> {
    let line = serde_json::to_string(event).map_err(|error| Error::Output(error.into()))?;
    say(&line)
}
