//! One WebSocket to a server.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Sink as _, Stream as _, StreamExt as _};
use ieum_protocol::SUBPROTOCOL;
use ieum_protocol::errors::Problem;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Utf8Bytes;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::Endpoint;
use crate::dial::{Io, Trust, dial};

/// A process may hold ten thousand of these, and most frames are small.
const READ_BUFFER: usize = 4 * 1024;

/// Written to the connection at the latest when so many bytes have come together; a flush comes sooner nearly always.
const WRITE_BUFFER: usize = 16 * 1024;

/// The largest frame that is taken from a server: a catch-up can be long.
const LARGEST: usize = 16 * 1024 * 1024;

/// There is no connection to be had.
pub(crate) struct Failed {
    pub(crate) reason: String,
    /// What the server said, if it said something.
    pub(crate) told: Option<Problem>,
}

/// A WebSocket that is read and flushed in one place, so that neither waits for the other.
pub(crate) struct Socket {
    stream: WebSocketStream<Box<dyn Io>>,
    unflushed: bool,
}

impl Socket {
    /// Connects and shakes hands.
    pub(crate) async fn connect(endpoint: Endpoint, trust: Trust) -> Result<Self, Failed> {
        let failed = |reason: String| Failed { reason, told: None };
        let mut request = endpoint.socket_url().into_client_request().map_err(|error| failed(error.to_string()))?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        let stream = dial(&endpoint, &trust).await.map_err(|error| failed(error.to_string()))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(LARGEST))
            .max_frame_size(Some(LARGEST));
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((stream, _)) => Ok(Self { stream, unflushed: false }),
            Err(SocketError::Http(response)) => {
                let told = response.body().as_deref().and_then(|body| serde_json::from_slice(body).ok());
                Err(Failed { reason: format!("the server answered {}", response.status()), told })
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Takes a frame for sending; [`Socket::poll`] flushes it. At most [`ieum_protocol::MAX_IN_FLIGHT`] frames and a few pings come
    /// together here, so what waits is bounded.
    pub(crate) fn send(&mut self, text: String) -> Result<(), SocketError> {
        self.unflushed = true;
        Pin::new(&mut self.stream).start_send(Message::Text(Utf8Bytes::from(text)))
    }

    /// Flushes what waits and, if `read`, gives the next text frame; `None` when the connection is over.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        read: bool,
    ) -> Poll<Result<Option<Utf8Bytes>, SocketError>> {
        loop {
            if self.unflushed {
                match Pin::new(&mut self.stream).poll_flush(context) {
                    Poll::Ready(flushed) => {
                        flushed?;
                        self.unflushed = false;
                    }
                    Poll::Pending => {}
                }
            }
            if !read {
                return Poll::Pending;
            }
            match Pin::new(&mut self.stream).poll_next(context) {
                Poll::Ready(Some(Ok(Message::Text(text)))) => return Poll::Ready(Ok(Some(text))),
                Poll::Ready(Some(Ok(Message::Close(_))) | None) => return Poll::Ready(Ok(None)),
                // The answer to a WebSocket ping is queued by now.
                Poll::Ready(Some(Ok(_))) => self.unflushed = true,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Says goodbye, flushing what waits, and hears the server out: what it has not taken when this is dropped is lost.
    pub(crate) async fn close(mut self) {
        let _ = self.stream.close(None).await;
        while let Some(Ok(_)) = self.stream.next().await {}
    }
}
