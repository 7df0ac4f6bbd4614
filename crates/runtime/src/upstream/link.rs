//! One HTTP/1.1 connection, driven by whoever uses it.
//!
//! Written by hand, because a general client's tasks, channels and buffers cost a small request more than its bytes do.
//! It does what an agent needs and no more: no pipelining, no trailers, and no upgrade unless that is asked for.

use super::fault::Fault;
use super::framing::Framing;
use super::head::{self, Head};
use super::upload::Upload;
use bytes::{Bytes, BytesMut};
use front_door::body::Incoming as RequestBody;
use http::{Method, Request};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

/// Bytes asked for at once: at first, and as they keep coming.
const LEAST_READ: usize = 8 * 1024;
const MOST_READ: usize = 256 * 1024;

/// A connection and what is under way on it.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    upload: Upload,
    /// What has come and is not yet taken.
    input: BytesMut,
    /// How much to ask for.
    read: usize,
    /// Whether the agent will take another request.
    keeps: bool,
    /// When the last exchange ended.
    pub(super) idle_since: Instant,
}

impl Link {
    /// Takes over a fresh connection.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            upload: Upload::default(),
            input: BytesMut::new(),
            read: LEAST_READ,
            keeps: true,
            idle_since: Instant::now(),
        }
    }

    /// Whether the exchange that has ended left it fit for another; makes it small for the wait until then.
    pub(super) fn rest(&mut self) -> bool {
        self.read = LEAST_READ;
        if self.input.is_empty() {
            // Only a buffer that has room to the front shows how large it is.
            self.input.reserve(LEAST_READ);
            if self.input.capacity() > LEAST_READ {
                self.input = BytesMut::new();
            }
        }
        self.idle_since = Instant::now();
        self.keeps && self.upload.is_done() && self.input.is_empty()
    }

    /// Whether the agent has neither closed it meanwhile nor spoken without being asked.
    pub(super) fn is_silent(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and waits for the head of its answer. What is left of the request by then moves while the answer
    /// is read.
    pub(super) async fn send(&mut self, request: Request<RequestBody>) -> Result<Head, Fault> {
        let is_to_head = request.method() == Method::HEAD;
        self.upload.begin(request);
        let mut seen = 0;
        poll_fn(|cx| {
            self.push(cx)?;
            loop {
                let came = ready!(self.poll_fill(cx))?;
                if let Some(head) = head::take(&mut self.input, &mut seen, is_to_head)? {
                    self.keeps &= head.keeps;
                    return Poll::Ready(Ok(head));
                }
                if came == 0 {
                    return Poll::Ready(Err(Fault::Ended));
                }
            }
        })
        .await
    }

    /// The next piece of an answer's body; nothing at its end.
    pub(super) fn poll_piece(
        &mut self,
        framing: &mut Framing,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Fault>> {
        self.push(cx)?;
        loop {
            if let Some(piece) = framing.take(&mut self.input)? {
                return Poll::Ready(Ok(Some(piece)));
            }
            if framing.is_end() {
                return Poll::Ready(Ok(None));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                self.keeps = false;
                framing.closed()?;
            }
        }
    }

    /// Sends what goes of the request now.
    fn push(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        if self.upload.is_done() {
            return Ok(());
        }
        match self.upload.poll(&mut self.stream, cx) {
            // An agent may refuse a request without reading all of it, and its answer may be on its way.
            Poll::Ready(Err(Fault::Io(_))) => {
                self.upload.abandon();
                self.keeps = false;
                Ok(())
            }
            Poll::Ready(Err(fault)) => Err(fault),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Reads what has come; nothing means that no more will.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.read);
        let came = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input))?;
        if came >= self.read {
            self.read = (self.read * 2).min(MOST_READ);
        } else if came < self.read / 4 {
            self.read = (self.read / 2).max(LEAST_READ);
        }
        Poll::Ready(Ok(came))
    }
}
