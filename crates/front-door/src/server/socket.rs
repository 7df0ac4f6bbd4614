//! The byte stream below an HTTP connection: tells [`Watch`] what moves, and has two manners that hyper lacks.
//!
//! - What hyper answers by itself to bytes that are no request (`400`, `414`, `431`, all without a body) is replaced by
//!   an error as every other. It is recognised by being written while no answer of ours is under way.
//! - After an answer to a client that is still sending, closing at once would make the system reset the connection and
//!   throw the answer away. So the write side is closed first and what still comes is read and forgotten, up to a bound.

use super::watch::Watch;
use crate::error::{Edge, Failure, Written};
use crate::join::{MOST, join};
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use uuid::Uuid;

/// How much is read at once while lingering.
const SCRATCH: usize = 16 * 1024;

/// A stream and its watch.
#[derive(Debug)]
pub(crate) struct Socket<S> {
    stream: S,
    watch: Arc<Watch>,
    /// Whether hyper's own answers are to be replaced; off for HTTP/2, whose bytes are frames.
    is_http1: bool,
    /// What is written in place of hyper's own answer.
    instead: Bytes,
    linger_bytes: u64,
    is_closing: bool,
}

impl<S> Socket<S> {
    /// Wraps a stream.
    pub(crate) fn new(stream: S, watch: Arc<Watch>, is_http1: bool, linger_bytes: u64) -> Self {
        Self {
            stream,
            watch,
            is_http1,
            instead: Bytes::new(),
            linger_bytes,
            is_closing: false,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Takes hyper's own answer out of the way; `false` when these bytes are not one.
    fn replace(&mut self, written: &[u8]) -> bool {
        if !self.is_http1 || self.watch.expects_writes() {
            return false;
        }
        let Some(failure) = hypers_own(written) else {
            return false;
        };
        self.watch.linger();
        self.watch.closing();
        self.instead = close_with(&failure);
        true
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.instead.has_remaining() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.instead))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.instead.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; SCRATCH];
        while self.linger_bytes > 0 {
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                break;
            }
            self.watch.received();
            self.linger_bytes = self.linger_bytes.saturating_sub(buffer.filled().len() as u64);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.is_http1 && buffer.filled().len() > before {
            self.watch.received();
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.replace(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch.wrote(polled.is_ready());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = pieces.iter().find(|piece| !piece.is_empty())
            && self.replace(first)
        {
            return Poll::Ready(Ok(first.len()));
        }
        let mut buffer = [0; MOST];
        let polled = match join(pieces, &mut buffer) {
            Some(joined) => Pin::new(&mut self.stream).poll_write(cx, joined),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, pieces),
        };
        self.watch.wrote(polled.is_ready());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if polled.is_ready() {
            self.watch.flushed();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_closing {
            // The clock of a next head must not run while the rest of the last body is read and forgotten.
            self.is_closing = true;
            self.watch.closing();
        }
        ready!(self.poll_instead(cx))?;
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if self.watch.lingers() {
            self.poll_linger(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

/// What hyper means by an answer of its own.
fn hypers_own(written: &[u8]) -> Option<Failure> {
    let status = written
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| written.strip_prefix(b"HTTP/1.0 "))?;
    let (edge, message) = match status.get(..3)? {
        b"400" => (
            Edge::BadRequest,
            "What was received is not an HTTP request. Check that client and server both use TLS, or both do not.",
        ),
        b"414" => (Edge::UriTooLong, "The request line is too long."),
        b"431" => (
            Edge::HeadTooLarge,
            "The request's headers are too large or too many. Send fewer or shorter headers.",
        ),
        _ => return None,
    };
    Some(Failure::Edge(edge, message.to_owned()))
}

/// A failure as the bytes of an HTTP/1.1 answer after which the connection closes.
pub(crate) fn close_with(failure: &Failure) -> Bytes {
    let Written { status, headers, body } = failure.write(None);
    let mut text = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    let rest = format!(
        "x-amzn-requestid: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        Uuid::new_v4(),
        body.len()
    );
    text.extend_from_slice(rest.as_bytes());
    text.extend_from_slice(&body);
    text.into()
}
