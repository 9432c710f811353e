//! A session's task: hello, catch-up, then commands in and the stream out.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use ieum_core::apply;
use ieum_core::batch::{Envelope, Origin};
use ieum_core::ids::{DeviceId, Position};
use ieum_core::query::catch_up::{self as core_catch_up, Start};
use ieum_core::tables::accounts::PROGRESS;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{ClientFrame, Cmd, Hello, ServerFrame, Welcome};
use ieum_protocol::{MAX_FRAME, MAX_IN_FLIGHT};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::Session;
use super::catch_up::Pages;
use super::queue::Item;
use crate::cell::{Cell, Refused, Ticket, Waiter};
use crate::limits::Bucket;
use crate::map::{changes, outcomes};
use crate::{Gateway, check_secret};

/// A catch-up over more positions than this is sent before the session is registered, so that its queue need not hold what happens
/// meanwhile.
const LONG_WAY: u64 = 2_000;

/// Serves one WebSocket connection until it ends.
pub(crate) async fn serve<C: Cell, S: AsyncRead + AsyncWrite + Unpin>(
    gateway: Arc<Gateway<C>>,
    stream: S,
    address: IpAddr,
) {
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(2 * gateway.options.queue_bytes + 4 * MAX_FRAME)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let mut socket = Socket { socket, patience: gateway.options.patience };
    gateway.metrics.sessions_opened.fetch_add(1, Ordering::Relaxed);
    let reason = match hello(&gateway, &mut socket).await {
        Ok((session, live)) => {
            let reason = live.run(&gateway, &mut socket).await;
            gateway.hub.leave(&session);
            reason
        }
        Err(end) => end,
    };
    tracing::debug!(%address, ?reason, "session ended");
    if let End::Told(problem) = reason {
        // The client may be gone or not reading; it was told if it could be.
        let _ = socket.send(&ServerFrame::Bye(problem)).await;
        let _ = tokio::time::timeout(gateway.options.patience, socket.socket.close(None)).await;
    }
}

/// Why a session ended.
#[derive(Debug)]
enum End {
    /// The client closed, or cannot be reached.
    Gone,
    /// The client is told why.
    Told(Problem),
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Told(problem)
    }
}

struct Socket<S> {
    socket: WebSocketStream<S>,
    patience: std::time::Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    async fn send(&mut self, frame: &ServerFrame) -> Result<(), End> {
        self.feed(outcomes::text(frame)).await?;
        self.flush().await
    }

    /// Writes a frame without waiting until it is on its way.
    async fn feed(&mut self, frame: Bytes) -> Result<(), End> {
        // What this crate encodes is UTF-8, being JSON.
        let text = Utf8Bytes::try_from(frame).map_err(|_| End::Gone)?;
        self.bounded(async |socket| socket.feed(Message::Text(text)).await).await
    }

    async fn flush(&mut self) -> Result<(), End> {
        self.bounded(async |socket| socket.flush().await).await
    }

    /// A client that does not take what it is sent is given up.
    async fn bounded<F>(&mut self, write: F) -> Result<(), End>
    where
        F: AsyncFnOnce(&mut WebSocketStream<S>) -> tungstenite::Result<()>,
    {
        match tokio::time::timeout(self.patience, write(&mut self.socket)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    /// The next frame of text.
    async fn next(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            return match self.socket.next().await {
                Some(Ok(Message::Text(text))) => Ok(text),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Binary(_))) => Err(Code::BadFrame.problem().detail("frames are text").into()),
                Some(Ok(Message::Close(_) | Message::Frame(_))) | None => Err(End::Gone),
                Some(Err(error)) => Err(told(error)),
            };
        }
    }
}

fn told(error: tungstenite::Error) -> End {
    match error {
        tungstenite::Error::Capacity(_) => Code::TooLarge.problem().into(),
        tungstenite::Error::Utf8(_) => Code::BadFrame.problem().detail("text must be UTF-8").into(),
        tungstenite::Error::Protocol(error) => Code::BadFrame.problem().detail(error.to_string()).into(),
        _ => End::Gone,
    }
}

fn parse(text: &str) -> Result<ClientFrame, Problem> {
    serde_json::from_str(text).map_err(|error| Code::BadFrame.problem().detail(error.to_string()))
}

fn position(text: Option<&str>) -> Result<Option<Position>, Problem> {
    let bad = |_| Code::BadFrame.problem().detail("a position is one that the server gave");
    text.map(str::parse).transpose().map_err(bad)
}

/// Signs the device in, registers its session and brings it up to the view.
async fn hello<C: Cell, S: AsyncRead + AsyncWrite + Unpin>(
    gateway: &Arc<Gateway<C>>,
    socket: &mut Socket<S>,
) -> Result<(Arc<Session>, Live), End> {
    let first = tokio::time::timeout(gateway.options.patience, socket.next()).await;
    let Ok(text) = first else { return Err(Code::HelloFirst.problem().into()) };
    let ClientFrame::Hello(Hello { device, secret, cursor, seen, client }) = parse(&text?)? else {
        return Err(Code::HelloFirst.problem().into());
    };
    let (cursor, seen) = (position(cursor.as_deref())?, position(seen.as_deref())?);
    let device = DeviceId(device);
    gateway.catch_up_with(seen).await?;
    let ((user, start, last), at) = gateway
        .read(move |view| {
            let user = check_secret(view, device, &secret)?;
            let last = PROGRESS.get(view, &device)?.map_or(0, |p| p.last);
            Ok((user, core_catch_up::start(view, cursor)?, last))
        })
        .await?;
    let user = user.ok_or_else(|| Code::SecretWrong.problem())?;
    if gateway.hub.sessions() >= gateway.options.limits.sessions {
        return Err(Code::TooManySessions.problem().into());
    }
    tracing::debug!(%user, %device, ?client, "session");
    let welcome = Welcome {
        n: last,
        pos: at.to_string(),
        user: user.0,
        resync: start == Start::Resync,
        endpoints: gateway.options.endpoints.clone(),
    };
    socket.send(&ServerFrame::Welcome(welcome)).await?;
    let session = Arc::new(Session::new(user, device, &gateway.options));
    match caught_up(gateway, socket, &session, start).await {
        Ok(at) => Ok((Arc::clone(&session), Live::new(session, last, at, gateway.options.limits.commands))),
        Err(end) => {
            gateway.hub.leave(&session);
            Err(end)
        }
    }
}

/// Sends what changed behind `start`, registers the session on the way, and gives the position where its live stream begins.
async fn caught_up<C: Cell, S: AsyncRead + AsyncWrite + Unpin>(
    gateway: &Arc<Gateway<C>>,
    socket: &mut Socket<S>,
    session: &Arc<Session>,
    start: Start,
) -> Result<Position, End> {
    let mut start = start;
    loop {
        let ahead = gateway.cell.applied();
        let near = match start {
            Start::Since(since) => {
                since.generation == ahead.generation && ahead.ordinal.saturating_sub(since.ordinal) <= LONG_WAY
            }
            Start::Resync => false,
        };
        if near {
            gateway.hub.enter(session);
        }
        let view = gateway.cell.view();
        let internal = |_| End::from(Code::Internal.problem());
        let at = apply::applied(&view).map_err(internal)?.position;
        // The device may have been logged out before the session was registered.
        if near && apply::owner_of(&view, session.device).map_err(internal)?.is_none() {
            return Err(Code::LoggedOut.problem().into());
        }
        let mut pages = Pages::new(view, session.user, start);
        while let Some(page) = pages.next(gateway).await? {
            socket.feed(outcomes::text(&ServerFrame::CatchUp(page))).await?;
            socket.flush().await?;
        }
        if near {
            socket.send(&ServerFrame::CaughtUp { pos: at.to_string() }).await?;
            return Ok(at);
        }
        // The cursor moves already, so that a connection that breaks now need not begin again.
        socket.send(&ServerFrame::Events { pos: at.to_string(), list: Vec::new() }).await?;
        start = Start::Since(at);
    }
}

/// A session whose live stream has begun.
struct Live {
    session: Arc<Session>,
    /// The number that the device's next command must have.
    next: u64,
    /// Up to where the client has everything.
    sent: Position,
    commands: Bucket,
    rate: crate::options::Rate,
}

impl Live {
    fn new(session: Arc<Session>, last: u64, sent: Position, rate: crate::options::Rate) -> Self {
        let now = Instant::now();
        Self { session, next: last + 1, sent, commands: Bucket::full(rate, now), rate }
    }

    async fn run<C: Cell, S: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        gateway: &Arc<Gateway<C>>,
        socket: &mut Socket<S>,
    ) -> End {
        loop {
            let done = tokio::select! {
                () = self.session.something.notified() => self.send_queue(gateway, socket).await,
                frame = socket.next() => match frame {
                    Ok(text) => self.frame(gateway, socket, &text).await,
                    Err(end) => Err(end),
                },
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Sends what waits, up to the last complete position.
    async fn send_queue<C: Cell, S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        gateway: &Arc<Gateway<C>>,
        socket: &mut Socket<S>,
    ) -> Result<(), End> {
        let complete = gateway.hub.complete();
        let mut items = Vec::new();
        let ended = self.session.queue.lock().take(complete, &mut items);
        let mut events = Frame::default();
        for (position, item) in items {
            match item {
                // The catch-up held it already.
                Item::Event(_) if position <= self.sent => {}
                Item::Event(event) => {
                    events.add(&event);
                    if let Some(frame) = events.finish_if_long(self.sent) {
                        socket.feed(frame).await?;
                    }
                }
                Item::Answer(frame) => socket.feed(frame).await?,
            }
        }
        if complete > self.sent {
            self.sent = complete;
        }
        if let Some(frame) = events.finish(self.sent) {
            socket.feed(frame).await?;
        }
        socket.flush().await?;
        ended.map_or(Ok(()), |code| Err(code.problem().into()))
    }

    async fn frame<C: Cell, S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        gateway: &Arc<Gateway<C>>,
        socket: &mut Socket<S>,
        text: &str,
    ) -> Result<(), End> {
        let now = Instant::now();
        self.session.heard(now);
        match parse(text)? {
            ClientFrame::Hello(_) => Err(Code::BadFrame.problem().detail("hello comes once").into()),
            ClientFrame::Ping(ping) => {
                self.send_queue(gateway, socket).await?;
                socket.send(&ServerFrame::Pong { id: ping.id, pos: self.sent.to_string() }).await
            }
            ClientFrame::Cmd(cmd) => {
                let n = cmd.n;
                match self.command(gateway, cmd, now)? {
                    None => Ok(()),
                    Some(code) => socket.send(&ServerFrame::Refused { n, error: code.problem() }).await,
                }
            }
        }
    }

    /// Submits a command whose turn it is, or gives the reason why it was not taken: its number is then unused, and those behind
    /// it are refused too. An error ends the session: the frame is not one of the protocol's.
    fn command<C: Cell>(&mut self, gateway: &Gateway<C>, cmd: Cmd, now: Instant) -> Result<Option<Code>, Problem> {
        self.next = self.next.min(self.session.first_refused());
        if cmd.n == 0 || cmd.n > self.next {
            return Ok(Some(Code::OutOfOrder));
        }
        if gateway.stalled() {
            return Ok(Some(Code::Unavailable));
        }
        if self.session.in_flight() >= MAX_IN_FLIGHT {
            return Ok(Some(Code::Busy));
        }
        if !self.commands.take(self.rate, now) {
            return Ok(Some(Code::RateLimited));
        }
        let origin = Origin::Device { device: self.session.device, number: cmd.n, id: changes::hex16(&cmd.id)? };
        let envelope = Envelope { origin, command: changes::command(cmd.change)? };
        self.session.in_flight.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket(Waiter::Session(Arc::clone(&self.session), cmd.n));
        if let Err((refused, _)) = gateway.cell.submit(&envelope, ticket) {
            self.session.in_flight.fetch_sub(1, Ordering::Relaxed);
            return match refused {
                Refused::Busy => Ok(Some(Code::Busy)),
                Refused::TooLarge => Err(Code::TooLarge.problem()),
            };
        }
        self.next = self.next.max(cmd.n + 1);
        Ok(None)
    }
}

/// Events beyond this go into another frame, in bytes.
const LONG_FRAME: usize = 64 * 1024;

/// An `events` frame being put together from encoded events.
#[derive(Default)]
struct Frame {
    list: Vec<u8>,
}

impl Frame {
    fn add(&mut self, event: &[u8]) {
        if !self.list.is_empty() {
            self.list.push(b',');
        }
        self.list.extend_from_slice(event);
    }

    /// The frame, if it is long. It does not move the cursor beyond `before`, because more events of its position follow.
    fn finish_if_long(&mut self, before: Position) -> Option<Bytes> {
        if self.list.len() < LONG_FRAME { None } else { std::mem::take(self).finish(before) }
    }

    /// The frame, if it holds anything.
    fn finish(self, position: Position) -> Option<Bytes> {
        if self.list.is_empty() {
            return None;
        }
        let mut frame = Vec::with_capacity(self.list.len() + 48);
        frame.extend_from_slice(br#"{"events":{"pos":""#);
        frame.extend_from_slice(position.to_string().as_bytes());
        frame.extend_from_slice(br#"","list":["#);
        frame.extend_from_slice(&self.list);
        frame.extend_from_slice(b"]}}");
        Some(frame.into())
    }
}
