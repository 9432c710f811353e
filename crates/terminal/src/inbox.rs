//! What comes in, as lines: each message once, however often the connection breaks.

use std::collections::HashMap;

use ieum_client::{Delivery, Events, Http, State, Stop};
use ieum_protocol::frames::{CatchUp, Event};
use ieum_protocol::objects::{Message, Room, System};

use crate::error::Error;
use crate::text::{note, plain, say};

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
            Err(_) => format!("user {user}"),
        }
    }

    /// A message as a line.
    pub(crate) async fn line(&mut self, room: u64, message: &Message) -> String {
        if let Some(archived) = &message.archived {
            return format!("#{room} {}: {}", plain(&archived.author), plain(&archived.text));
        }
        let name = self.of(message.from).await;
        if let Some(system) = &message.system {
            return format!("#{room} * {name} {}", self.deed(system).await);
        }
        let text = if message.deleted { "(deleted)".to_owned() } else { plain(message.text.as_deref().unwrap_or("")) };
        format!("#{room} {name}: {text}")
    }

    async fn deed(&mut self, system: &System) -> String {
        match system {
            System::Created => "made the room".to_owned(),
            System::Invited { users } => {
                let mut names = Vec::with_capacity(users.len());
                for user in users {
                    names.push(self.of(*user).await);
                }
                format!("invited {}", names.join(", "))
            }
            System::Left => "left".to_owned(),
            System::Removed { user } => format!("removed {}", self.of(*user).await),
            System::Renamed { name } => format!("renamed the room to {}", plain(name)),
            System::RoleGiven { user, role } => {
                format!("made {} {}", self.of(*user).await, format!("{role:?}").to_lowercase())
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

/// Prints what comes in.
pub(crate) struct Inbox {
    names: Names,
    /// The last message of each room that was printed, or was there before.
    last: HashMap<u64, u64>,
    /// Whether what was there before is known.
    started: bool,
    live: bool,
    json: bool,
}

impl Inbox {
    pub(crate) fn new(http: Http, json: bool) -> Self {
        Self { names: Names::new(http), last: HashMap::new(), started: false, live: false, json }
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
                Delivery::Outcome { result: Err(failure), .. } => note(&format!("not sent: {failure}")),
                Delivery::Outcome { .. } | Delivery::Refused { .. } | Delivery::Resync => {}
            }
        }
        if stop == Stop::Closed { Ok(()) } else { Err(stop.into()) }
    }

    fn state(&mut self, state: &State) {
        match state {
            State::Live { endpoint } => {
                note(&format!("connected to {endpoint}"));
                self.live = true;
            }
            State::Waiting { why: Some(_), .. } if self.live => {
                note("the connection is lost; connecting again");
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
                note(&format!("#{room}: there are more messages before these; see /history"));
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
                say(&format!("{line} (changed: message {})", message.seq))
            }
            Event::Joined { room } => say(&format!("#{} * you are in {}", room.id, title(&room))),
            Event::Left { room } => say(&format!("#{room} * you are no longer in it")),
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
        let line = self.names.line(room, &message).await;
        say(&line)
    }
}

fn say_json(event: &Event) -> Result<(), Error> {
    let line = serde_json::to_string(event).map_err(|error| Error::Output(error.into()))?;
    say(&line)
}
