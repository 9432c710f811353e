//! HTTP/1.1 connections that are used again.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use ieum_protocol::{IDEMPOTENCY_HEADER, POSITION_HEADER, SEEN_HEADER};

use super::Call;
use crate::Endpoint;
use crate::dial::{Trust, dial};

/// Most connections that wait for use.
const MOST_IDLE: usize = 4;

/// How long a server may take to accept a connection.
const CONNECTING: Duration = Duration::from_secs(2);

/// The largest answer that is taken, in bytes.
const LARGEST: usize = 16 * 1024 * 1024;

type Connection = SendRequest<Full<Bytes>>;

pub(super) struct Connections {
    trust: Trust,
    idle: Mutex<Vec<(Endpoint, Connection)>>,
}

/// A call with what is in its headers.
#[derive(Clone)]
pub(super) struct Request<'a> {
    pub(super) call: &'a Call,
    pub(super) token: Option<String>,
    pub(super) seen: Option<String>,
}

/// Whatever the server said.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) position: Option<String>,
    pub(super) body: Bytes,
}

/// There was no answer.
pub(super) struct Failed {
    pub(super) reason: String,
}

impl Failed {
    pub(super) fn late() -> Self {
        Self { reason: "it did not answer in time".to_owned() }
    }

    fn because(error: impl ToString) -> Self {
        Self { reason: error.to_string() }
    }
}

impl Connections {
    pub(super) fn new(trust: Trust) -> Self {
        Self { trust, idle: Mutex::new(Vec::new()) }
    }

    pub(super) async fn send(&self, endpoint: &Endpoint, request: Request<'_>) -> Result<Answer, Failed> {
        // One that waited may have been closed by the server meanwhile, which only sending shows.
        let mut connection = match self.take_idle(endpoint) {
            Some(connection) => connection,
            None => self.connect(endpoint).await?,
        };
        let request = message(endpoint, request)?;
        connection.ready().await.map_err(Failed::because)?;
        let response = connection.send_request(request).await.map_err(Failed::because)?;
        let answer = receive(response).await?;
        self.put_idle(endpoint, connection);
        Ok(answer)
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, Failed> {
        let dialed = tokio::time::timeout(CONNECTING, dial(endpoint, &self.trust)).await;
        let stream = dialed.map_err(Failed::because)?.map_err(Failed::because)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(Failed::because)?;
        tokio::spawn(async move {
            // What breaks it shows in the answer that does not come.
            let _ = driver.await;
        });
        Ok(connection)
    }

    fn take_idle(&self, endpoint: &Endpoint) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        idle.retain(|(_, connection)| !connection.is_closed());
        let at = idle.iter().rposition(|(of, connection)| of == endpoint && connection.is_ready())?;
        Some(idle.swap_remove(at).1)
    }

    fn put_idle(&self, endpoint: &Endpoint, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !connection.is_closed() && idle.len() < MOST_IDLE {
            idle.push((endpoint.clone(), connection));
        }
    }
}

fn message(endpoint: &Endpoint, request: Request<'_>) -> Result<hyper::Request<Full<Bytes>>, Failed> {
    let Request { call, token, seen } = request;
    let mut builder = hyper::Request::builder().method(&call.method).uri(&call.path).header(HOST, endpoint.authority());
    if !call.body.is_empty() {
        builder = builder.header(CONTENT_TYPE, "application/json");
    }
    if let Some(token) = token {
        builder = builder.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    if let Some(seen) = seen {
        builder = builder.header(SEEN_HEADER, seen);
    }
    if let Some(key) = &call.key {
        builder = builder.header(IDEMPOTENCY_HEADER, key);
    }
    builder.body(Full::new(call.body.clone())).map_err(Failed::because)
}

async fn receive(response: hyper::Response<Incoming>) -> Result<Answer, Failed> {
    let status = response.status();
    let position = response.headers().get(POSITION_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = Limited::new(response.into_body(), LARGEST).collect().await.map_err(Failed::because)?.to_bytes();
    Ok(Answer { status, position, body })
}
