//! A server for tests: real sockets, and a script in the test in place of a cell.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use ieum_client::store::Identity;
use ieum_client::{Delivery, Endpoint, Events, Options};
use ieum_protocol::frames::{Ack, Change, ClientFrame, Cmd, Done, Hello, ServerFrame, Welcome};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Listens on loopback.
pub(crate) struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

type Incoming = Box<dyn Stream<Item = Result<Message, Error>> + Send + Unpin>;
type Outgoing = Box<dyn Sink<Message, Error = Error> + Send + Unpin>;

/// The server's end of a connection.
pub(crate) struct Peer {
    incoming: Incoming,
    pub(crate) outgoing: Outgoing,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), tls: None }
    }

    pub(crate) async fn start_tls(config: tokio_rustls::rustls::ServerConfig) -> Self {
        Self { tls: Some(TlsAcceptor::from(Arc::new(config))), ..Self::start().await }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        let port = self.listener.local_addr().unwrap().port();
        match self.tls {
            Some(_) => format!("wss://localhost:{port}"),
            None => format!("ws://127.0.0.1:{port}"),
        }
        .parse()
        .unwrap()
    }

    pub(crate) async fn accept_tcp(&self) -> TcpStream {
        in_time(self.listener.accept()).await.unwrap().0
    }

    /// Takes the next connection and its handshake.
    pub(crate) async fn accept(&self) -> Peer {
        let stream = self.accept_tcp().await;
        match &self.tls {
            Some(tls) => Peer::over(tls.accept(stream).await.unwrap()).await,
            None => Peer::over(stream).await,
        }
    }

    /// Takes the next connection, and its handshake if its client has not gone.
    pub(crate) async fn accept_if_there(&self) -> Option<Peer> {
        Peer::try_over(self.accept_tcp().await).await.ok()
    }

    /// Takes the next connection, whose client does not like the certificate.
    pub(crate) async fn accept_in_vain(&self) {
        let stream = self.accept_tcp().await;
        let error = self.tls.as_ref().unwrap().accept(stream).await.unwrap_err();
        assert!(error.to_string().contains("UnknownCA"), "{error}");
    }

    /// Takes the next connection and says welcome and caught up.
    pub(crate) async fn welcome(&self, n: u64) -> Peer {
        let mut peer = self.accept().await;
        peer.hello().await;
        peer.welcome(n).await;
        peer
    }
}

impl Peer {
    async fn over<S>(stream: S) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        Self::try_over(stream).await.unwrap()
    }

    async fn try_over<S>(stream: S) -> Result<Self, Error>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let socket = tokio_tungstenite::accept_hdr_async(stream, subprotocol).await?;
        let (outgoing, incoming) = socket.split();
        Ok(Self { incoming: Box::new(incoming), outgoing: Box::new(outgoing) })
    }

    /// The next frame but pings; `None` when the client is gone.
    pub(crate) async fn next(&mut self) -> Option<ClientFrame> {
        in_time(self.next_frame()).await
    }

    async fn next_frame(&mut self) -> Option<ClientFrame> {
        loop {
            match self.incoming.next().await?.ok()? {
                Message::Text(text) => match serde_json::from_str(&text).unwrap() {
                    ClientFrame::Ping(_) => {}
                    frame => return Some(frame),
                },
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    pub(crate) async fn hello(&mut self) -> Hello {
        match self.next().await {
            Some(ClientFrame::Hello(hello)) => hello,
            other => panic!("no hello but {other:?}"),
        }
    }

    pub(crate) async fn cmd(&mut self) -> Cmd {
        match self.next().await {
            Some(ClientFrame::Cmd(cmd)) => cmd,
            other => panic!("no command but {other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, frame: &ServerFrame) {
        let text = serde_json::to_string(frame).unwrap();
        self.outgoing.send(Message::Text(text.into())).await.unwrap();
    }

    pub(crate) async fn welcome(&mut self, n: u64) {
        let welcome =
            Welcome { n, pos: "1.1".into(), user: 1, resync: false, endpoints: Vec::new(), takes: Vec::new() };
        self.send(&ServerFrame::Welcome(welcome)).await;
        self.send(&ServerFrame::CaughtUp { pos: "1.1".into() }).await;
    }

    pub(crate) async fn ack(&mut self, n: u64) {
        let ok = Some(Done { seq: Some(n), ..Done::default() });
        self.send(&ServerFrame::Ack(Ack { n, pos: "1.2".into(), ok, error: None })).await;
    }
}

/// A test that would hang fails instead.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing came from the client")
}

#[allow(clippy::result_large_err, reason = "the library's own type")]
fn subprotocol(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    assert_eq!(request.uri().path(), "/v1/socket");
    let wanted = request.headers().get("sec-websocket-protocol").cloned().unwrap();
    assert_eq!(wanted, "ieum.v1");
    response.headers_mut().insert("sec-websocket-protocol", wanted);
    Ok(response)
}

pub(crate) fn identity() -> Identity {
    Identity { user: 1, device: 7, secret: "secret".into() }
}

pub(crate) fn options(servers: &[&Server]) -> Options {
    Options::new(servers.iter().map(|server| server.endpoint()).collect()).identity(identity())
}

pub(crate) fn say(text: &str) -> Change {
    Change::Send { room: 1, text: text.into(), reply_to: None }
}

/// The next delivery that `pick` takes.
pub(crate) async fn until<T>(events: &mut Events, pick: impl Fn(&Delivery) -> Option<T>) -> T {
    loop {
        let delivery = in_time(events.next()).await.expect("the client has stopped");
        if let Some(picked) = pick(&delivery) {
            return picked;
        }
    }
}
