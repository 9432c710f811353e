//! Accepts connections: plain or TLS, HTTP or WebSocket.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ieum_protocol::errors::Code;
use ieum_protocol::{SOCKET_PATH, SUBPROTOCOL};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower_service::Service as _;

use crate::cell::Cell;
use crate::http::{Fail, Peer, router, unlisted};
use crate::lanes::{Asker, Who};
use crate::patient::Patient;
use crate::wire::{Line, Wire};
use crate::{Gateway, session};

/// How often sessions are looked at: whether their commands wait too long, whether they are silent.
const ROUND: Duration = Duration::from_millis(100);

/// Serves connections from `listener` until [`Gateway::stop`]; over TLS when `tls` is given.
pub async fn serve<C: Cell>(gateway: Arc<Gateway<C>>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let router = router(Arc::clone(&gateway));
    let mut stopping = gateway.stopping.subscribe();
    let watch = tokio::spawn(watch_sessions(Arc::clone(&gateway)));
    let signals = tokio::spawn(Arc::clone(&gateway).tell_signals());
    loop {
        let (stream, peer) = tokio::select! {
            accepted = accepted(&listener) => accepted,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        accept(&gateway, &router, stream, peer, tls.clone());
    }
    watch.abort();
    signals.abort();
}

fn accept<C: Cell>(
    gateway: &Arc<Gateway<C>>,
    router: &Router,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
) {
    let address = peer.ip();
    if !gateway.limits.enter(address) {
        // Closed without a word: words are what an address with so many connections costs most.
        gateway.metrics.turned_away.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // Small frames must not wait for each other.
    let _ = stream.set_nodelay(true);
    let stream = Wire::new(stream);
    let line = stream.line();
    let presence = Presence { gateway: Arc::clone(gateway), address, line, session: AtomicBool::new(false) };
    let (gateway, router) = (Arc::clone(gateway), router.clone());
    match tls {
        None => drop(tokio::spawn(connection(gateway, router, stream, presence))),
        Some(tls) => drop(tokio::spawn(async move {
            // A client that does not finish shaking hands is nobody's loss.
            if let Ok(Ok(stream)) = tokio::time::timeout(gateway.options.patience, tls.accept(stream)).await {
                // In a box, because a session's task moves it through several hands and has room for it in each.
                connection(gateway, router, Box::new(stream), presence).await;
            }
        })),
    }
}

/// One connection of an address, counted until it is dropped.
struct Presence<C: Cell> {
    gateway: Arc<Gateway<C>>,
    address: IpAddr,
    line: Line,
    session: AtomicBool,
}

impl<C: Cell> Presence<C> {
    /// Its hello was accepted.
    fn is_session(&self) {
        if !self.session.swap(true, Ordering::Relaxed) {
            self.gateway.limits.is_session(self.address);
        }
    }
}

impl<C: Cell> Drop for Presence<C> {
    fn drop(&mut self) {
        self.gateway.limits.leave(self.address, *self.session.get_mut());
    }
}

async fn connection<C: Cell, S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    gateway: Arc<Gateway<C>>,
    router: Router,
    stream: S,
    presence: Presence<C>,
) {
    let address = presence.address;
    let patience = gateway.options.patience;
    let stream = Patient::new(stream, patience);
    let presence = Arc::new(presence);
    let mut stopping = gateway.stopping.subscribe();
    let service = service_fn(move |request: Request<Incoming>| {
        let (gateway, router, presence) = (Arc::clone(&gateway), router.clone(), Arc::clone(&presence));
        async move { Ok::<_, std::convert::Infallible>(answer::<C, S>(gateway, router, presence, address, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(32 * 1024)
        // Who has said all that they have to say is still answered.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        // What went wrong is the client's to know.
        _ = &mut connection => {}
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(patience, connection).await;
        }
    }
}

async fn stopped(stopping: &mut tokio::sync::watch::Receiver<bool>) {
    // The gateway outlives its connections.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn answer<C: Cell, S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    gateway: Arc<Gateway<C>>,
    router: Router,
    presence: Arc<Presence<C>>,
    address: IpAddr,
    mut request: Request<Incoming>,
) -> Response<Body> {
    if request.uri().path() == SOCKET_PATH {
        return upgrade::<C, S>(gateway, presence, address, request);
    }
    let who = Some(Who::Address(crate::limits::subscriber(address)));
    request.extensions_mut().insert(Peer { address, asker: Asker { who, line: presence.line.clone() } });
    let mut router = router;
    router.call(request.map(Body::new)).await.unwrap_or_else(|never| match never {})
}

/// Answers a WebSocket handshake and serves the session behind it.
fn upgrade<C: Cell, S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    gateway: Arc<Gateway<C>>,
    presence: Arc<Presence<C>>,
    address: IpAddr,
    mut request: Request<Incoming>,
) -> Response<Body> {
    if let Some(problem) = unlisted::query(request.uri()) {
        return gateway.finish(Fail(problem).into_response());
    }
    let Some(accept) = handshake(&request) else {
        return gateway.finish(Fail(Code::UpgradeNeeded.problem()).into_response());
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let stream = match upgraded.downcast::<TokioIo<Patient<S>>>() {
            // Nothing may come before the answer, so nothing was read ahead. What hyper read into is given back here: 8 KiB.
            Ok(hyper::upgrade::Parts { io, read_buf, .. }) if read_buf.is_empty() => io.into_inner().into_inner(),
            Ok(_) | Err(_) => return,
        };
        session::serve(gateway, stream, address, presence.line.clone(), || presence.is_session()).await;
        drop(presence);
    });
    let headers = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, accept.as_str()),
        (header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// What a handshake is answered with; none when it is not one for our protocol.
fn handshake<B>(request: &Request<B>) -> Option<String> {
    let headers = request.headers();
    let right = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && names(headers, header::CONNECTION, "upgrade")
        && names(headers, header::UPGRADE, "websocket")
        && names(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|v| v == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| right)?;
    Some(derive_accept_key(key.as_bytes()))
}

/// Whether one of a header's comma-separated values is `word`.
fn names(headers: &HeaderMap, name: header::HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
}

/// The next connection.
pub(crate) async fn accepted(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                // Out of file descriptors, most likely: the ones that are open go on, and some will close.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Ends sessions whose commands wait too long, so that their clients try elsewhere, and those of clients that have gone silently.
async fn watch_sessions<C: Cell>(gateway: Arc<Gateway<C>>) {
    let mut round = tokio::time::interval(ROUND);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        round.tick().await;
        gateway.watch(Instant::now());
    }
}
