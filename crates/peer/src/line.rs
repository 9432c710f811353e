//! A connection between two nodes, plain or not, and what is known of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What goes with a connection.
pub(crate) trait Of: Unpin {
    /// It broke.
    fn broke(&self, _: &io::Error) {}
}

/// Bytes both ways, and what goes with them.
pub(crate) struct Line<W> {
    stream: Box<dyn Stream>,
    pub(crate) of: W,
}

impl<W> Line<W> {
    pub(crate) fn new(stream: Box<dyn Stream>, of: W) -> Self {
        Self { stream, of }
    }
}

impl<W: Of> AsyncRead for Line<W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read {
            self.of.broke(error);
        }
        read
    }
}

impl<W: Of> AsyncWrite for Line<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
