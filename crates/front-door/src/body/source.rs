//! A client's body, read with a size limit and with deadlines.
//!
//! Two clocks run: no pause between two pieces may be longer than [`Limits::stall`], and the whole may not take longer
//! than [`Limits::total`]. One timer serves both and is moved only when it fires, so that a body that comes at once
//! costs no timer at all per piece.

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
    /// The longest pause between two pieces.
    pub(crate) stall: Duration,
    /// The longest time for the whole.
    pub(crate) total: Duration,
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
    /// When the last piece came, and when reading began.
    last: Instant,
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
        let now = Instant::now();
        Ok(Self {
            body,
            limits,
            received: 0,
            promised,
            last: now,
            began: now,
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

    /// The moment of the earlier of the two deadlines.
    pub(crate) fn deadline(&self) -> Instant {
        (self.last + self.limits.stall).min(self.began + self.limits.total)
    }

    /// The next piece; `timer` is any timer of this body's, set to [`Source::deadline`] when it was made.
    pub(crate) fn poll_piece(
        &mut self,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Fault>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
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
        self.last = Instant::now();
        if self.received > self.limits.bytes {
            return Err(Fault::TooLarge {
                limit: self.limits.bytes,
                size: None,
            });
        }
        if self.last >= self.began + self.limits.total {
            return Err(self.late());
        }
        Ok(data)
    }

    fn end(&self) -> Option<Result<Bytes, Fault>> {
        match self.promised {
            Some(promised) if promised != self.received => Some(Err(self.broken(&"fewer bytes than announced"))),
            _ => None,
        }
    }

    fn late(&self) -> Fault {
        if self.began + self.limits.total <= Instant::now() {
            Fault::TooSlow(self.limits.total)
        } else {
            Fault::Stalled(self.limits.stall)
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
