//! Sending, following and chatting.

use std::time::Duration;

use ieum_client::{Client, Http, Page};
use ieum_protocol::frames::Change;

use crate::Settings;
use crate::device::{self, Device};
use crate::error::Error;
use crate::inbox::{Inbox, Names, title};
use crate::text::{lines, note, say};

/// How long a single message may wait for its outcome until the person hears of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the end of a chat waits for what is not confirmed yet.
const FAREWELL: Duration = Duration::from_secs(10);

const HELP: &str = "/to HANDLE, /room ID, /rooms, /history [N], /group NAME HANDLE…, /quit; anything else is sent";

pub(crate) async fn send(settings: &Settings, to: &str, text: String) -> Result<(), Error> {
    let device = Device::open(settings).await?;
    let room = device::room(&device.http, to).await?;
    let (client, mut events, _) = device.connect(settings)?;
    // Nobody looks at them, and they must not pile up.
    tokio::spawn(async move { while events.next().await.is_some() {} });
    let submitted = client.submit(Change::Send { room, text, reply_to: None });
    let outcome = tokio::time::timeout(PATIENCE, submitted).await;
    client.close().await;
    let done = outcome.map_err(|_| Error::NotYetSent)??;
    say(&format!("sent: room {room}, message {}", done.seq.unwrap_or(0)))
}

pub(crate) async fn tail(settings: &Settings, json: bool) -> Result<(), Error> {
    let (client, events, http) = Device::open(settings).await?.connect(settings)?;
    let result = tokio::select! {
        result = Inbox::new(http, json).print(events) => result,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Error::Input),
    };
    client.close().await;
    result
}

pub(crate) async fn chat(settings: &Settings, to: Option<&str>) -> Result<(), Error> {
    let device = Device::open(settings).await?;
    let room = match to {
        Some(to) => Some(device::room(&device.http, to).await?),
        None => None,
    };
    let (client, events, http) = device.connect(settings)?;
    // In a task of its own: while nobody takes deliveries, the connection is not read.
    let mut printing = tokio::spawn(Inbox::new(http.clone(), false).print(events));
    let mut chat = Chat { client, names: Names::new(http.clone()), http, room };
    chat.say_room().await;
    let mut lines = lines();
    let result = loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            printed = &mut printing => {
                // It stopped: the server said so, or nobody reads the output.
                return printed?;
            }
            interrupted = tokio::signal::ctrl_c() => break interrupted.map_err(Error::Input),
        };
        match line {
            None => break Ok(()),
            Some(Err(error)) => break Err(error),
            Some(Ok(line)) => match chat.take(line.trim_end()).await {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) if error.output_closed() => break Err(error),
                Err(error) => note(&format!("{error}")),
            },
        }
    };
    chat.finish().await;
    result.and(printing.await?)
}

struct Chat {
    client: Client,
    http: Http,
    names: Names,
    room: Option<u64>,
}

impl Chat {
    /// Does what a line says; tells whether to go on.
    async fn take(&mut self, line: &str) -> Result<bool, Error> {
        let mut words = line.split_whitespace();
        let Some(word) = words.next() else { return Ok(true) };
        match (word, words.next()) {
            ("/quit", _) => return Ok(false),
            ("/to", Some(handle)) => {
                let user = device::user(&self.http, handle).await?;
                let done = self.http.change(&Change::OpenDirect { user }).await?;
                self.enter(done.room.ok_or(Error::NoRoom)?).await?;
            }
            ("/room", Some(id)) => match id.trim_start_matches('#').parse() {
                Ok(room) => self.enter(room).await?,
                Err(_) => note("a room has a number: /rooms lists them"),
            },
            ("/rooms", None) => self.rooms().await?,
            ("/history", count) => match count.unwrap_or("20").parse::<u32>() {
                Ok(count) => self.history(count.clamp(1, 100)).await?,
                Err(_) => note("/history takes a number of messages"),
            },
            ("/group", Some(name)) => {
                let mut members = Vec::new();
                for handle in words {
                    members.push(device::user(&self.http, handle).await?);
                }
                let done = self.http.change(&Change::CreateGroup { name: name.to_owned(), members }).await?;
                self.enter(done.room.ok_or(Error::NoRoom)?).await?;
            }
            (word, _) if word.starts_with('/') => note(HELP),
            _ => self.send(line).await?,
        }
        Ok(true)
    }

    async fn send(&self, line: &str) -> Result<(), Error> {
        let Some(room) = self.room else {
            note("nobody to send it to: /to HANDLE or /room ID first");
            return Ok(());
        };
        // From here on it is in the outbox; the inbox tells if it is rejected.
        self.client.post(Change::Send { room, text: line.to_owned(), reply_to: None }).await?;
        Ok(())
    }

    async fn enter(&mut self, room: u64) -> Result<(), Error> {
        let about = self.http.room(room).await?;
        self.room = Some(room);
        note(&format!("in #{room} {}", title(&about)));
        Ok(())
    }

    async fn say_room(&mut self) {
        match self.room {
            // It is the current one even if its name cannot be had just now.
            Some(room) => {
                if let Err(error) = self.enter(room).await {
                    note(&format!("#{room}: {error}"));
                }
            }
            None => note(HELP),
        }
    }

    async fn rooms(&self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.http.rooms(after, None).await?;
            for room in &page.rooms {
                let unread = if room.unread > 0 { format!(", {} unread", room.unread) } else { String::new() };
                say(&format!("#{} {} ({} members{unread})", room.id, title(room), room.members))?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn history(&mut self, count: u32) -> Result<(), Error> {
        let Some(room) = self.room else {
            note("no room: /to HANDLE or /room ID first");
            return Ok(());
        };
        for message in self.http.messages(room, Page::Latest, count).await? {
            let line = self.names.line(room, &message).await;
            say(&line)?;
        }
        Ok(())
    }

    /// Waits a while for what is not confirmed, then says goodbye.
    async fn finish(self) {
        let emptied = async {
            while self.client.waiting().await.is_ok_and(|waiting| !waiting.is_empty()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(FAREWELL, emptied).await.is_err() {
            note("not everything is confirmed yet; it is kept, and goes out with the next send, tail or chat");
        }
        self.client.close().await;
    }
}
