//! A session's task: hello, catch-up, then commands in and the stream out.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use ieum_core::query::catch_up::Start;
use ieum_protocol::MAX_FRAME;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{ClientFrame, ServerFrame, Welcome};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::hello::{self, Device};
use super::{Live, Pages, Session, parse};
use crate::Gateway;
use crate::cell::Cell;
use crate::map::outcomes;

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
        Ok(mut live) => {
            let reason = run(&gateway, &mut socket, &mut live).await;
            gateway.hub.leave(live.session());
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
        self.send_all(&mut vec![outcomes::text(frame)]).await
    }

    /// Sends frames, together where the socket takes them together.
    async fn send_all(&mut self, frames: &mut Vec<Bytes>) -> Result<(), End> {
        if frames.is_empty() {
            return Ok(());
        }
        let drained = frames.drain(..);
        self.bounded(async |socket| {
            for frame in drained {
                // What this crate encodes is UTF-8, being JSON.
                let text = Utf8Bytes::try_from(frame).map_err(|error| tungstenite::Error::Utf8(error.to_string()))?;
                socket.feed(Message::Text(text)).await?;
            }
            socket.flush().await
        })
        .await
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

/// Signs the device in, registers its session and brings it up to the view.
async fn hello<C: Cell, S: AsyncRead + AsyncWrite + Unpin>(
    gateway: &Arc<Gateway<C>>,
    socket: &mut Socket<S>,
) -> Result<Live, End> {
    let first = tokio::time::timeout(gateway.options.patience, socket.next()).await;
    let Ok(text) = first else { return Err(Code::HelloFirst.problem().into()) };
    let ClientFrame::Hello(frame) = parse(&text?)? else { return Err(Code::HelloFirst.problem().into()) };
    let asked = hello::Asked::of(frame)?;
    gateway.catch_up_with(asked.seen).await?;
    let (found, at) = gateway.read(move |view| hello::sign_in(view, &asked)).await?;
    let Device { user, device, start, last } = found.ok_or_else(|| Code::SecretWrong.problem())?;
    if gateway.hub.sessions() >= gateway.options.limits.sessions {
        return Err(Code::TooManySessions.problem().into());
    }
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
        Ok(at) => Ok(Live::new(session, last, at, gateway.options.limits.commands, Instant::now())),
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
    mut start: Start,
) -> Result<ieum_core::ids::Position, End> {
    loop {
        let near = hello::is_near(start, gateway.cell.applied());
        if near {
            gateway.hub.enter(session);
        }
        let mut pages = Pages::new(gateway.cell.view(), session.user, start);
        // The device may have been logged out before the session was registered.
        let internal = |_| End::from(Code::Internal.problem());
        if near && !pages.is_signed_in(session.device).map_err(internal)? {
            return Err(Code::LoggedOut.problem().into());
        }
        let at = pages.position().map_err(internal)?;
        loop {
            let (page, rest) = next_page(pages).await?;
            pages = rest;
            let Some(page) = page else { break };
            socket.send(&ServerFrame::CatchUp(page)).await?;
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

type Page = Option<ieum_protocol::frames::CatchUp>;

/// Reads the next page off the threads that serve sockets.
async fn next_page<V>(mut pages: Pages<V>) -> Result<(Page, Pages<V>), End>
where
    V: ieum_core::kv::Read + Send + Sync + 'static,
{
    let done = tokio::task::spawn_blocking(move || pages.next_page().map(|page| (page, pages))).await;
    match done {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "reading a catch-up");
            Err(Code::Internal.problem().into())
        }
        Err(_) => Err(Code::Internal.problem().into()),
    }
}

/// Moves frames between the socket and the live session until one of them ends.
async fn run<C: Cell, S: AsyncRead + AsyncWrite + Unpin>(
    gateway: &Arc<Gateway<C>>,
    socket: &mut Socket<S>,
    live: &mut Live,
) -> End {
    let session = Arc::clone(live.session());
    let mut out = Vec::new();
    loop {
        let ended = tokio::select! {
            () = session.something.notified() => {
                live.queued(gateway.hub.complete(), &mut out).map(|code| End::Told(code.problem()))
            }
            frame = socket.next() => match frame {
                Ok(text) => live.frame(gateway, &text, Instant::now(), &mut out).err().map(End::Told),
                Err(end) => Some(end),
            },
        };
        if let Err(end) = socket.send_all(&mut out).await {
            return end;
        }
        if let Some(end) = ended {
            return end;
        }
    }
}
