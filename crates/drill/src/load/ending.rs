//! The end: everybody rests, then every survivor is read as its users would read it.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ieum_client::store::Identity;
use ieum_client::{Endpoint, Http, Page, Position, Trust};
use ieum_protocol::Pos;
use ieum_protocol::objects::Message;
use tokio::task::JoinSet;

use super::crowd::Crowd;
use super::shared::Shared;
use crate::error::{Error, Naming as _};
use crate::history::Token;

/// How many rooms are read at a time.
const READERS: usize = 4;
/// The most that a server gives at a time.
const PAGE: u32 = 200;

/// The file with what a survivor holds, room by room, in lines:
///
/// - `m ROOM SEQ USER TIME CLIENT NUMBER`: a message of a client, with its author and the cell's time
/// - `j ROOM SEQ USER JSON`: any other message, all of it
/// - `b ROOM WHY`: the room could not be read
pub(crate) fn file(survivor: &str) -> String {
    format!("held-{survivor}.txt")
}

/// Waits until every message has its outcome and everybody has every message. Says what is missing when that does not come in time.
pub(super) async fn settle(crowd: &Crowd, shared: &Arc<Shared>, patience: Duration) -> Result<(), String> {
    shared.going.store(false, Ordering::SeqCst);
    let waiting = || crowd.present().map(|person| person.waiting()).sum::<usize>();
    let behind = || crowd.present().filter(|person| !person.has_all()).count();
    let under_way = || shared.under_way.load(Ordering::SeqCst);
    if shared.wait(patience, || waiting() == 0 && behind() == 0 && under_way() == 0).await {
        return Ok(());
    }
    let (waiting, behind, under_way) = (waiting(), behind(), under_way());
    Err(format!("{waiting} messages have no outcome, {behind} people lack messages, {under_way} probes are under way"))
}

/// The highest position that any client was shown: what is read afterwards is not older.
pub(super) async fn seen(crowd: &Crowd) -> Option<Pos> {
    let mut highest: Option<Position> = None;
    for client in crowd.present().filter_map(|person| person.client()) {
        let Ok(Some(seen)) = client.seen().await else { continue };
        let seen = Position::read(&seen);
        if highest.as_ref().is_none_or(|highest| highest.is_before(&seen)) {
            highest = Some(seen);
        }
    }
    highest.map(|highest| highest.to_string())
}

/// Reads all rooms through one node alone and writes them down.
pub(super) async fn read(
    crowd: &Crowd,
    (name, endpoint): (&str, &Endpoint),
    seen: Option<&Pos>,
    folder: &Path,
) -> Result<(), Error> {
    let mut rooms: Vec<(u64, Identity)> = Vec::new();
    for person in crowd.present() {
        for room in &person.rooms {
            rooms.push((*room, person.identity.clone()));
        }
    }
    rooms.sort_by_key(|(room, _)| *room);
    rooms.dedup_by_key(|(room, _)| *room);
    let path = folder.join(file(name));
    let writing = || format!("writing {}", path.display());
    let mut out = BufWriter::new(File::create(&path).naming(writing)?);
    let mut waiting = rooms.into_iter();
    let mut reading = JoinSet::new();
    loop {
        while reading.len() < READERS
            && let Some((room, identity)) = waiting.next()
        {
            let http = Http::new(vec![endpoint.clone()], Trust::web());
            http.use_identity(identity).await;
            if let Some(seen) = seen {
                http.note(seen).await;
            }
            reading.spawn(async move { read_room(&http, room).await });
        }
        let Some(read) = reading.join_next().await else { break };
        let lines = read.naming(|| "reading rooms".to_owned())?;
        out.write_all(lines.as_bytes()).naming(writing)?;
    }
    out.flush().naming(writing)
}

async fn read_room(http: &Http, room: u64) -> String {
    let mut lines = String::new();
    let mut after = 0;
    loop {
        let page = match http.messages(room, Page::After(after), PAGE).await {
            Ok(page) => page,
            Err(error) => {
                lines.push_str(&format!("b {room} {}\n", super::book::one_line(&error.to_string())));
                return lines;
            }
        };
        page.iter().for_each(|message| lines.push_str(&line(room, message)));
        // A server that does not go on must not keep this going on for ever.
        let Some(last) = page.last().map(|last| last.seq).filter(|last| *last > after) else { return lines };
        after = last;
    }
}

fn line(room: u64, message: &Message) -> String {
    let Message { seq, from, time, .. } = *message;
    // How many have not read it is the reader's, not the message's.
    let message = Message { unread: None, ..message.clone() };
    let token = message.text.as_deref().and_then(Token::read);
    let plain = |text: Option<String>| Message {
        seq,
        from,
        time,
        text,
        reply_to: None,
        edited_at: None,
        deleted: false,
        system: None,
        archived: None,
        unread: None,
    };
    match token {
        Some(Token { client, number }) if message == plain(message.text.clone()) => {
            format!("m {room} {seq} {from} {time} {client} {number}\n")
        }
        _ => {
            let json = serde_json::to_string(&message).unwrap_or_else(|error| error.to_string());
            format!("j {room} {seq} {from} {json}\n")
        }
    }
}
