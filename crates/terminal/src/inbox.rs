//! What comes in, as lines: each message once, however often the connection breaks.

use std::time::Instant;

use ieum_client::{Delivery, Events, Http, HttpError, Page, State};
use ieum_protocol::frames::{CatchUp, Event, RoomChanges};
use ieum_protocol::objects::{Message, RoomKind};
use tokio::sync::watch;

use crate::error::Error;
use crate::names::{Names, title};
use crate::notices::Notices;
use crate::printed::Printed;
use crate::text::{note, say, say_json};
use crate::typing::Typists;
use crate::words::{self, words};

/// How many messages of a gap are asked for at once.
const PAGE: u32 = 100;

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
    http: Http,
    names: Names,
    watched: Option<Watched>,
    printed: Printed,
    /// Whether what was there before is known.
    started: bool,
    notices: Notices,
    typists: Typists,
    json: bool,
}

impl Inbox {
    pub(crate) fn new(http: Http, json: bool) -> Self {
        Self {
            names: Names::new(http.clone()),
            http,
            watched: None,
            printed: Printed::default(),
            started: false,
            notices: Notices::default(),
            typists: Typists::default(),
            json,
        }
    }

    /// Somebody looks at a room meanwhile.
    pub(crate) fn watching(mut self, watched: Watched) -> Self {
        self.watched = Some(watched);
        self
    }

    /// Until the client is closed; that it stopped for another reason, or without a word, is an error.
    pub(crate) async fn print(mut self, mut events: Events) -> Result<(), Error> {
        let mut stop = Err(Error::Ended);
        while let Some(delivery) = events.next().await {
            match delivery {
                Delivery::State(State::Stopped(why)) => stop = words::closed(why),
                Delivery::State(state) => self.notices.say(&state),
                Delivery::Resync if self.started => self.printed.begin_anew(),
                Delivery::CatchUp(caught) => self.catch_up(*caught).await?,
                Delivery::CaughtUp { .. } => {
                    self.started = true;
                    for room in self.printed.complete() {
                        self.event(Event::Left { room }).await?;
                    }
                }
                Delivery::Events { list, .. } => {
                    for event in list {
                        self.event(event).await?;
                    }
                }
                Delivery::Typing { room, user } => self.typing(room, user),
                Delivery::Outcome { body, result: Err(failure), .. } => note(&words::not_done(&body, &failure)),
                Delivery::Outcome { .. } | Delivery::Refused { .. } | Delivery::Resync => {}
            }
        }
        stop
    }

    async fn catch_up(&mut self, caught: CatchUp) -> Result<(), Error> {
        for room in caught.left {
            if self.printed.knows(room) {
                self.event(Event::Left { room }).await?;
            }
        }
        for changes in caught.rooms {
            if self.started {
                self.changes(changes).await?;
            } else {
                self.printed.was_there(&changes);
            }
        }
        Ok(())
    }

    /// What happened in a room meanwhile.
    async fn changes(&mut self, changes: RoomChanges) -> Result<(), Error> {
        let anew = self.printed.is_anew();
        let room = changes.room.id;
        if !self.printed.knows(room) || (changes.fresh && !anew && !self.printed.is_in(room, changes.room.from)) {
            self.event(Event::Joined { room: changes.room.clone() }).await?;
        }
        let other_before = self.printed.came(&changes);
        if changes.room.kind == RoomKind::Archive {
            return self.archive(room, changes.room.last).await;
        }
        let first = changes.messages.first().map(|message| message.seq);
        let behind = self.printed.last(room) + 1;
        if let Some(first) = first.filter(|first| other_before || (changes.gap && *first > behind)) {
            self.fill(room, first).await?;
        }
        for message in changes.messages {
            // One that was printed may have changed before everything came anew.
            if anew && message.seq <= self.printed.last(room) && self.printed.remembers(room, message.seq) {
                self.changed(room, message).await?;
            } else {
                self.message(room, message).await?;
            }
        }
        for message in changes.changed {
            self.changed(room, message).await?;
        }
        if self.json && !anew {
            for receipt in changes.receipts {
                say_json(&Event::Receipt { room, user: receipt.user, seq: receipt.seq })?;
            }
        }
        Ok(())
    }

    /// Prints the messages between the last one and `first`, which the catch-up left out.
    async fn fill(&mut self, room: u64, first: u64) -> Result<(), Error> {
        loop {
            let after = self.printed.last(room);
            let page = match self.http.messages(room, Page::After(after), PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    missing(room, &error);
                    return Ok(());
                }
            };
            for message in page.into_iter().filter(|message| message.seq < first) {
                self.message(room, message).await?;
            }
            if self.printed.last(room) == after || self.printed.last(room) + 1 >= first {
                return Ok(());
            }
        }
    }

    async fn archive(&mut self, room: u64, last: u64) -> Result<(), Error> {
        if last > self.printed.last(room) {
            self.event(Event::Archived { room, last }).await?;
        }
        Ok(())
    }

    async fn event(&mut self, event: Event) -> Result<(), Error> {
        match &event {
            Event::Joined { room } => self.printed.enter(room.id, room.from),
            Event::Left { room } => self.printed.leave(*room),
            Event::Archived { room, last } => self.printed.set_last(*room, *last),
            _ => {}
        }
        match event {
            Event::Message { room, message } => self.message(room, message).await,
            Event::Changed { room, message } => self.changed(room, message).await,
            event if self.json => say_json(&event),
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
        if self.printed.message(room, &message) {
            return Ok(());
        }
        self.typists.wrote(room, message.from, Instant::now());
        if self.json {
            return say_json(&Event::Message { room, message });
        }
        say(&self.names.line(room, &message).await)?;
        if let Some(watched) = &self.watched {
            watched.printed(room, &message);
        }
        Ok(())
    }

    /// Somebody types: told of the room that is looked at. Nobody is asked for a name: messages wait behind this.
    fn typing(&mut self, room: u64, user: u64) {
        let looks = self.watched.as_ref().is_some_and(|watched| *watched.room.borrow() == Some(room));
        if looks && self.typists.type_now(room, user, Instant::now()) {
            let name = self.names.if_known(user);
            note(&words!("#{room} {name} is typing…", "#{room} {name}님이 입력 중…"));
        }
    }

    async fn changed(&mut self, room: u64, message: Message) -> Result<(), Error> {
        if self.printed.change(room, &message) {
            return Ok(());
        }
        if self.json {
            return say_json(&Event::Changed { room, message });
        }
        let line = self.names.line(room, &message).await;
        say(&words!("{line}  (changed)", "{line}  (수정됨)"))
    }
}

fn missing(room: u64, error: &HttpError) {
    let why = words::http_error(error);
    note(&words!(
        "#{room}: there are more messages before these; see /history ({why})",
        "#{room}: 이 앞에 메시지가 더 있습니다. /history로 볼 수 있습니다 ({why})"
    ));
}
