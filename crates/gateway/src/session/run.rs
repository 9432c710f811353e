//! A session's task: hello, catch-up, then commands in and the stream out.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use ieum_core::kv::Read;
use ieum_planted::Bug;
use ieum_protocol::MAX_FRAME;
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{ClientFrame, ServerFrame};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::hello::Asked;
use super::intake::Metered;
use super::{Live, Opening, Session, Step, parse};
use crate::Gateway;
use crate::cell::Cell;
use crate::lanes::{Asker, Who};
use crate::map::outcomes;
use crate::wire::Line;

/// Serves one WebSocket connection until it ends. `accepted` is called when its hello was.
pub(crate) async fn serve<C: Cell, S: AsyncRead + AsyncWrite + Unpin>(
    gateway: Arc<Gateway<C>>,
    stream: S,
    address: IpAddr,
    line: Line,
    accepted: impl FnOnce(),
) {
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(2 * gateway.options.queue_bytes + 4 * MAX_FRAME)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME));
    let stream = Metered::new(stream, &gateway.options.limits);
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let mut socket = Socket { socket, patience: gateway.options.patience };
    gateway.metrics.sessions_opened.fetch_add(1, Ordering::Relaxed);
    let reason = match hello(&gateway, &mut socket, Asker { who: None, line }, accepted).await {
        Ok(mut live) => {
            let reason = run(&gateway, &mut socket, &mut live).await;
            // The place is given back before leave is taken, which may take a while.
            drop(live);
            reason
        }
        Err(end) => end,
    };
    tracing::debug!(%address, ?reason, "session ended");
    let problem = match reason {
        End::Gone => None,
        End::Told(problem) => Some(problem),
        End::Over(code) => Some(code.problem()),
    };
    if let Some(problem) = problem {
        // The client may be gone or not reading; it was told if it could be.
        let _ = socket.send(&ServerFrame::Bye(gateway.told(problem))).await;
    }
    socket.leave().await;
}

/// How long a client has to take its leave.
const LEAVE: Duration = Duration::from_secs(1);
/// What it may still send meanwhile, in bytes.
const LEAVE_BYTES: usize = 1024 * 1024;

/// Why a session ended.
#[derive(Debug)]
enum End {
    /// The client closed, or cannot be reached.
    Gone,
    /// The client is told why.
    Told(Problem),
    /// Somebody ended it with this code, which the client is told.
    Over(Code),
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Told(problem)
    }
}

struct Socket<S> {
    socket: WebSocketStream<Metered<S>>,
    patience: Duration,
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
        let patience = self.patience + slowest(frames.iter().map(Bytes::len).sum());
        let drained = frames.drain(..);
        self.bounded(patience, async |socket| {
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
    async fn bounded<F>(&mut self, patience: Duration, write: F) -> Result<(), End>
    where
        F: AsyncFnOnce(&mut WebSocketStream<Metered<S>>) -> tungstenite::Result<()>,
    {
        match tokio::time::timeout(patience, write(&mut self.socket)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    /// Closes in good order: sends a close frame if none was sent, then reads what the client has sent already. Closing over unread bytes
    /// would reset the connection, and the client would never see why it ended.
    async fn leave(&mut self) {
        let orderly = async {
            // An error here is a client that has closed already.
            let _ = self.socket.close(None).await;
            let stream = self.socket.get_mut();
            stream.shutdown().await.ok()?;
            // On the heap, so that a session has no room for it all its life.
            let (mut unread, mut read) = (vec![0; 4096], 0);
            while read < LEAVE_BYTES {
                match stream.read(&mut unread).await {
                    Ok(0) | Err(_) => break,
                    Ok(bytes) => read += bytes,
                }
            }
            Some(())
        };
        // Who does not take its leave is cut off.
        let _ = Box::pin(tokio::time::timeout(LEAVE, orderly)).await;
    }

    /// So many of the client's commands were refused.
    fn refused(&mut self, commands: u32) {
        self.socket.get_mut().refused(commands);
    }

    /// The next frame of text.
    async fn next(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            return match self.socket.next().await {
                Some(Ok(Message::Text(text))) => Ok(text),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Binary(_))) => Err(Code::BadFrame.problem().detail("frames are text").into()),
                Some(Ok(Message::Close(_))) => {
                    // Reading on sends the answer to it.
                    let _ = Box::pin(tokio::time::timeout(LEAVE, self.socket.next())).await;
                    Err(End::Gone)
                }
                Some(Ok(Message::Frame(_))) | None => Err(End::Gone),
                Some(Err(error)) => Err(told(error)),
            };
        }
    }
}

/// How long `bytes` may take beside the client's patience: a slow link that goes on is no client that has stopped reading.
fn slowest(bytes: usize) -> Duration {
    const BYTES_PER_MS: usize = 4;
    Duration::from_millis(u64::try_from(bytes / BYTES_PER_MS).unwrap_or(u64::MAX))
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
    asker: Asker,
    accepted: impl FnOnce(),
) -> Result<Live, End> {
    let first = tokio::time::timeout(gateway.options.patience, socket.next()).await;
    let Ok(text) = first else { return Err(Code::HelloFirst.problem().into()) };
    let ClientFrame::Hello(frame) = parse(&text?)? else { return Err(Code::HelloFirst.problem().into()) };
    let (asked, arrival) = (Asked::of(frame)?, gateway.hub.arrival());
    gateway.catch_up_with(asked.seen).await?;
    let first = blocking(gateway, &asker, move |gateway| {
        let (welcome, opening) = Opening::begin(gateway, &asked, arrival, Instant::now())?;
        part(gateway, opening, vec![outcomes::text(&ServerFrame::Welcome(welcome))])
    });
    let Part { mut frames, mut next } = first.await?;
    accepted();
    let who = (!Bug::CatchUpsAskAsNobody.planted()).then(|| Who::Account(next.session().user));
    let asker = Asker { who, line: asker.line };
    // Part by part until the live stream begins.
    loop {
        let patience = socket.patience;
        Box::pin(unless_over(next.session(), patience, socket.send_all(&mut frames))).await?;
        match next {
            Next::Live(live) => return Ok(*live),
            Next::Open(opening) => {
                let more = blocking(gateway, &asker, move |gateway| part(gateway, opening, Vec::new()));
                Part { frames, next } = more.await?;
            }
        }
    }
}

/// Waits for `sending`, unless the session is over meanwhile: who must go is not held up by a client that takes its time. One that is to end
/// behind what it is told has `patience` for that, however much it is.
async fn unless_over(
    session: &Session,
    patience: Duration,
    sending: impl Future<Output = Result<(), End>>,
) -> Result<(), End> {
    let mut sending = pin!(sending);
    let mut woken = false;
    let sent = loop {
        let last = session.finishing().map(|(code, since)| (code, since + patience));
        tokio::select! {
            biased;
            sent = &mut sending => break sent,
            () = session.woken() => {
                woken = true;
                if let Some(code) = session.over() {
                    break Err(End::Over(code));
                }
            }
            code = passed(last) => break Err(End::Over(code)),
        }
    };
    if woken {
        // What it was woken for is still to be looked at.
        session.wake();
    }
    sent
}

/// Waits until the time has come, if there is one.
async fn passed(last: Option<(Code, tokio::time::Instant)>) -> Code {
    match last {
        Some((code, at)) => {
            tokio::time::sleep_until(at).await;
            code
        }
        None => std::future::pending().await,
    }
}

/// A catch-up is read and sent in parts of about so many bytes: one for almost everybody, which costs one change of threads.
const PART: usize = 32 * 1024;
/// So many bytes where the live stream follows: what does not fit costs another round.
const LAST_PART: usize = 192 * 1024;

/// Frames to send, and how it goes on behind them.
struct Part<V> {
    frames: Vec<Bytes>,
    next: Next<V>,
}

enum Next<V> {
    Open(Opening<V>),
    Live(Box<Live>),
}

impl<V: Read> Next<V> {
    fn session(&self) -> &Arc<Session> {
        match self {
            Self::Open(opening) => opening.session(),
            Self::Live(live) => live.session(),
        }
    }
}

/// The next part of a session's way to its live stream, behind `frames`.
fn part<C: Cell>(
    gateway: &Gateway<C>,
    mut opening: Opening<C::View>,
    mut frames: Vec<Bytes>,
) -> Result<Part<C::View>, Problem> {
    let mut bytes = 0;
    while bytes < if opening.is_near() { LAST_PART } else { PART } {
        match opening.step(gateway, Instant::now())? {
            Step::More(frame) => frames.push(outcomes::text(&frame)),
            Step::Live(frame, live) => {
                frames.push(outcomes::text(&frame));
                return Ok(Part { frames, next: Next::Live(live) });
            }
        }
        bytes += frames.last().map_or(0, Bytes::len);
    }
    opening.pause(gateway)?;
    Ok(Part { frames, next: Next::Open(opening) })
}

/// Reads the view off the threads that serve sockets, when it is the session's turn.
async fn blocking<C: Cell, T: Send + 'static>(
    gateway: &Arc<Gateway<C>>,
    asker: &Asker,
    read: impl FnOnce(&Gateway<C>) -> Result<T, Problem> + Send + 'static,
) -> Result<T, End> {
    let shared = Arc::clone(gateway);
    // On the heap, so that a session has no room for it all its life.
    Ok(Box::pin(gateway.hellos.run(asker, move || read(&shared))).await??)
}

/// Moves frames between the socket and the live session until one of them ends.
async fn run<C: Cell, S: AsyncRead + AsyncWrite + Unpin>(
    gateway: &Arc<Gateway<C>>,
    socket: &mut Socket<S>,
    live: &mut Live,
) -> End {
    let session = Arc::clone(live.session());
    let mut out = Vec::new();
    live.listen(Instant::now());
    loop {
        let ended = tokio::select! {
            () = session.woken() => {
                live.queued(gateway.hub.complete(), &mut out).map(End::Over)
            }
            frame = socket.next(), if !session.is_leaving() => match frame {
                Ok(text) => live.frame(gateway, &text, Instant::now(), &mut out).err().map(End::Told),
                Err(end) => Some(end),
            },
        };
        socket.refused(live.refusals());
        if !out.is_empty() {
            live.stop_listening(Instant::now());
            // On the heap, so that a session that is idle has no room for it.
            let patience = socket.patience;
            if let Err(end) = Box::pin(unless_over(&session, patience, socket.send_all(&mut out))).await {
                return end;
            }
            live.listen(Instant::now());
        }
        if let Some(end) = ended {
            return end;
        }
        if session.is_leaving() && (session.is_answered() || Bug::DrainCutsAnswers.planted()) {
            return End::Over(Code::ShuttingDown);
        }
    }
}

#[cfg(test)]
mod tests {
    use ieum_core::ids::{DeviceId, Position, UserId};

    use super::*;
    use crate::options::{Limits, Rate};
    use crate::{Hub, Options};

    /// The socket of a client that reads nothing, which has that other end, and a frame that is too much for it.
    async fn deaf() -> (Socket<tokio::io::DuplexStream>, tokio::io::DuplexStream, Vec<Bytes>) {
        let (stream, client) = tokio::io::duplex(64);
        let config = WebSocketConfig::default().write_buffer_size(0).max_write_buffer_size(1 << 20);
        let stream = Metered::new(stream, &Options::default().limits);
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        (Socket { socket, patience: Duration::from_secs(10) }, client, vec![Bytes::from(vec![b'x'; 4096]); 4])
    }

    fn session() -> Session {
        Session::new(UserId(1), DeviceId(1), Hub::new().arrival(), &Options::default(), Instant::now())
    }

    /// Where it waits for the client instead, it ends by patience, for which a paused clock needs no time.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_does_not_hold_up_a_session_that_is_over() {
        for (code, ends) in [(Code::Replaced, "Over(Replaced)"), (Code::SlowReader, "Gone")] {
            let (mut socket, _client, mut frames) = deaf().await;
            let session = session();
            session.end(code);
            let patience = socket.patience;
            let end = unless_over(&session, patience, socket.send_all(&mut frames)).await.unwrap_err();
            assert_eq!(format!("{end:?}"), ends);
        }
    }

    /// What it is being sent would have more time than that, being so much.
    #[tokio::test(start_paused = true)]
    async fn who_is_logged_out_does_not_stay_for_what_it_takes_slowly() {
        let (mut socket, _client, mut frames) = deaf().await;
        let (session, patience) = (session(), socket.patience);
        // It is woken before, for something else.
        assert!(session.tell(Position::new(1, 1), &Bytes::from_static(b"{}")));
        session.wake();
        let logged_out = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if session.finish(Position::new(1, 2), Code::LoggedOut) {
                session.wake();
            }
        };
        let (end, ()) = tokio::join!(unless_over(&session, patience, socket.send_all(&mut frames)), logged_out);
        assert_eq!(format!("{:?}", end.unwrap_err()), "Over(LoggedOut)");
        // The time that it had does not begin again with the next frames.
        let never = std::future::pending::<Result<(), End>>();
        let none = tokio::time::timeout(Duration::from_millis(1), unless_over(&session, patience, never)).await;
        assert_eq!(format!("{:?}", none.unwrap().unwrap_err()), "Over(LoggedOut)");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_logged_out_and_takes_what_it_is_sent_is_sent_it() {
        let (mut socket, mut client, mut frames) = deaf().await;
        let (session, patience) = (session(), socket.patience);
        session.finish(Position::new(1, 2), Code::LoggedOut);
        let takes = async {
            let mut all = vec![0; 4 * 4100];
            client.read_exact(&mut all).await.unwrap();
        };
        let (sent, ()) = tokio::join!(unless_over(&session, patience, socket.send_all(&mut frames)), takes);
        sent.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_session_is_woken_for_while_it_sends_is_not_forgotten() {
        let (mut socket, mut client, mut frames) = deaf().await;
        let session = session();
        assert!(session.tell(Position::new(1, 1), &Bytes::from_static(b"{}")));
        session.wake();
        let takes = async {
            let mut all = vec![0; 4 * 4100];
            client.read_exact(&mut all).await.unwrap();
        };
        let patience = socket.patience;
        let (sent, ()) = tokio::join!(unless_over(&session, patience, socket.send_all(&mut frames)), takes);
        sent.unwrap();
        tokio::time::timeout(Duration::from_secs(1), session.woken()).await.unwrap();
    }

    /// A masked frame of 4,096 bytes that begins with this byte.
    fn frame(first: u8) -> Vec<u8> {
        [&[first, 0x80 | 126][..], &4096_u16.to_be_bytes(), &[0; 4], &[b'x'; 4096]].concat()
    }

    /// In tenths of a second by a paused clock, when each of ten messages in frames of 4,096 bytes is read by who is interrupted all the time.
    /// A message comes in frames that begin with these bytes.
    async fn read(limits: Limits, message: &[u8]) -> Vec<u128> {
        let (stream, mut client) = tokio::io::duplex(1 << 20);
        let frames: Vec<u8> = message.iter().flat_map(|first| frame(*first)).collect();
        client.write_all(&frames.repeat(10)).await.unwrap();
        let stream = Metered::new(stream, &limits);
        let config = WebSocketConfig::default().read_buffer_size(1024);
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        let mut socket = Socket { socket, patience: Duration::from_secs(10) };
        let start = tokio::time::Instant::now();
        let mut times = Vec::new();
        while times.len() < 10 {
            if let Ok(text) = tokio::time::timeout(Duration::from_millis(1), socket.next()).await {
                assert_eq!(text.unwrap().len(), 4096 * message.len());
                times.push(start.elapsed().as_millis() / 100);
            }
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_too_many_frames_or_bytes_is_read_when_there_are_tokens_again() {
        let limits = Options::default().limits;
        let (whole, parts) = ([0x81], [0x01, 0x00, 0x80]);
        assert_eq!(read(limits, &whole).await, [0; 10]);
        assert_eq!(read(limits, &parts).await, [0; 10]);
        let frames = Rate { per_second: 2, burst: 4 };
        assert_eq!(read(Limits { frames, ..limits }, &whole).await, [0, 0, 0, 0, 5, 10, 15, 20, 25, 30]);
        assert_eq!(read(Limits { frames, ..limits }, &parts).await, [0, 10, 25, 40, 55, 70, 85, 100, 115, 130]);
        let frame_bytes = Rate { per_second: 8 << 10, burst: 12 << 10 };
        let times = read(Limits { frame_bytes, ..limits }, &whole).await;
        assert!(times.is_sorted() && times[2] == 0 && (34..36).contains(&times[9]), "28 KiB later: {times:?}");
    }
}
