//! A client's body, read with a size limit and with deadlines.
//!
//! Two clocks run: no piece may be waited for longer than [`Limits::stall`], and the whole may not take longer than
//! [`Limits::total`]. The first runs only while somebody waits: a service that pauses between two pieces makes no client
//! late. One timer serves both and is moved only when it fires, so that a piece costs no timer of its own.

use bytes::Bytes;
use http_body::Body as _;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How large and how slow a body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The most bytes.
    pub(crate) bytes: u64,
    /// The longest wait for one piece.
    pub(crate) stall: Duration,
    /// The longest time for the whole; none where the reader sets the pace.
    pub(crate) total: Option<Duration>,
}

/// Why reading a client's body stopped before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client went away, or what it sent is not HTTP.
    Broken {
        /// What the transport said.
        cause: String,
        /// Bytes received until then.
        received: u64,
        /// `Content-Length`, if there was one.
        promised: Option<u64>,
    },
    /// More bytes than allowed; `size` is known when the client announced it.
    TooLarge {
        /// The limit.
        limit: u64,
        /// The announced size.
        size: Option<u64>,
    },
    /// No piece came for this long.
    Stalled(Duration),
    /// The whole took longer than this.
    TooSlow(Duration),
    /// The bytes do not have the declared digest.
    Digest,
}

/// A client's body.
#[derive(Debug)]
pub(crate) struct Source {
    body: hyper::body::Incoming,
    limits: Limits,
    received: u64,
    promised: Option<u64>,
    /// When the wait for the next piece began; `None` while nobody waits.
    waiting: Option<Instant>,
    began: Instant,
}

impl Source {
    /// Begins to read; refuses at once a body that announces to be too large.
    pub(crate) fn new(body: hyper::body::Incoming, limits: Limits) -> Result<Self, Fault> {
        let promised = body.size_hint().exact();
        if let Some(size) = promised
            && size > limits.bytes
        {
            return Err(Fault::TooLarge {
                limit: limits.bytes,
                size: Some(size),
            });
        }
        Ok(Self {
            body,
            limits,
            received: 0,
            promised,
            waiting: None,
            began: Instant::now(),
        })
    }

    /// The size that the client announced.
    pub(crate) fn promised(&self) -> Option<u64> {
        self.promised
    }

    /// Whether nothing more comes.
    pub(crate) fn is_end(&self) -> bool {
        self.body.is_end_stream()
    }

    /// Lifts the limit for the whole; from here on the reader sets the pace.
    pub(crate) fn without_total(mut self) -> Self {
        self.limits.total = None;
        self
    }

    /// The moment of the earlier of the two deadlines, if the wait began now or has begun before.
    pub(crate) fn deadline(&self) -> Instant {
        let stall = self.waiting.unwrap_or_else(Instant::now) + self.limits.stall;
        self.limits.total.map_or(stall, |total| stall.min(self.began + total))
    }

    /// The next piece; `timer` is any timer of this body's, set to [`Source::deadline`] when it was made.
    pub(crate) fn poll_piece(
        &mut self,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Fault>>> {
        loop {
            let polled = Pin::new(&mut self.body).poll_frame(cx);
            if polled.is_ready() {
                self.waiting = None;
            }
            match polled {
                Poll::Ready(None) => return Poll::Ready(self.end()),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(self.broken(&error)))),
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers carry nothing that this API knows.
                    let Ok(data) = frame.into_data() else { continue };
                    if data.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(self.count(data)));
                }
                Poll::Pending => {
                    self.waiting.get_or_insert_with(Instant::now);
                    if timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    let deadline = self.deadline();
                    if deadline <= Instant::now() {
                        return Poll::Ready(Some(Err(self.late())));
                    }
                    timer.as_mut().reset(deadline);
                }
            }
        }
    }

    /// The next piece, or `None` at the end.
    pub(crate) async fn piece(&mut self, mut timer: Pin<&mut Sleep>) -> Option<Result<Bytes, Fault>> {
        std::future::poll_fn(|cx| self.poll_piece(timer.as_mut(), cx)).await
    }

    fn count(&mut self, data: Bytes) -> Result<Bytes, Fault> {
        self.received += data.len() as u64;
        if self.received > self.limits.bytes {
            return Err(Fault::TooLarge {
                limit: self.limits.bytes,
                size: None,
            });
        }
        if self.limits.total.is_some_and(|total| self.began.elapsed() >= total) {
            Err(self.late())
        } else {
            Ok(data)
        }
    }

    fn end(&self) -> Option<Result<Bytes, Fault>> {
        match self.promised {
            Some(promised) if promised != self.received => Some(Err(self.broken(&"fewer bytes than announced"))),
            _ => None,
        }
    }

    fn late(&self) -> Fault {
        match self.limits.total {
            Some(total) if self.began.elapsed() >= total => Fault::TooSlow(total),
            _ => Fault::Stalled(self.limits.stall),
        }
    }

    fn broken(&self, cause: &dyn std::fmt::Display) -> Fault {
        Fault::Broken {
            cause: cause.to_string(),
            received: self.received,
            promised: self.promised,
        }
    }
}
