//! A body that streams straight through although its digest is checked only at its end.
//!
//! The signature already covers the declared digest, so the caller is proven. The last piece is held back until the
//! bytes are known to match; if they do not, the service sees an error in its place and never a complete body.
//! The first fault is also left in a [`Verdict`], so that the front door answers with it whatever the service makes of
//! its broken body.

use super::BodyError;
use super::source::{Fault, Source};
use super::spool::to_array;
use aws_lc_rs::digest;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::time::Sleep;

/// Where a [`Checked`] body leaves its fault.
pub(crate) type Verdict = Arc<OnceLock<Fault>>;

/// A streamed body with a declared digest.
pub(crate) struct Checked {
    source: Source,
    timer: Pin<Box<Sleep>>,
    hash: Option<digest::Context>,
    expected: [u8; 32],
    held_back: Option<Bytes>,
    verdict: Verdict,
}

impl Checked {
    /// Streams `source`, whose digest was signed as `expected`.
    pub(crate) fn new(source: Source, expected: [u8; 32]) -> (Self, Verdict) {
        let verdict = Verdict::default();
        let timer = Box::pin(tokio::time::sleep_until(source.deadline()));
        let hash = Some(digest::Context::new(&digest::SHA256));
        let body = Self {
            source,
            timer,
            hash,
            expected,
            held_back: None,
            verdict: Arc::clone(&verdict),
        };
        (body, verdict)
    }

    fn fail(&mut self, fault: Fault) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.hash = None;
        self.held_back = None;
        let error = BodyError::from(&fault);
        // Only the first fault counts.
        let _ = self.verdict.set(fault);
        Some(Err(error))
    }
}

impl Body for Checked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let Some(hash) = &mut this.hash else {
                return Poll::Ready(None);
            };
            match ready!(this.source.poll_piece(this.timer.as_mut(), cx)) {
                Some(Err(fault)) => return Poll::Ready(this.fail(fault)),
                Some(Ok(piece)) => {
                    hash.update(&piece);
                    if let Some(earlier) = this.held_back.replace(piece) {
                        return Poll::Ready(Some(Ok(Frame::data(earlier))));
                    }
                }
                None => {
                    let matches = this
                        .hash
                        .take()
                        .is_some_and(|hash| to_array(&hash.finish()) == this.expected);
                    if !matches {
                        return Poll::Ready(this.fail(Fault::Digest));
                    }
                    return Poll::Ready(this.held_back.take().map(|last| Ok(Frame::data(last))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.hash.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.source
            .promised()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl From<&Fault> for BodyError {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Broken { cause, .. } => Self::Client(cause.clone()),
            Fault::TooLarge { limit, .. } => Self::TooLarge(*limit),
            Fault::Stalled(pause) => Self::Client(format!("no bytes for {pause:?}")),
            Fault::TooSlow(total) => Self::Client(format!("not complete after {total:?}")),
            Fault::Digest => Self::Digest,
        }
    }
}
